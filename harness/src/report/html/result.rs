//! One scenario of the page: closed a line, open its story, its expectations, its runs and
//! its pictures.

use std::fmt::Write as _;

use advisor_report::escape::xml;
use advisor_report::{Expectation, Link, Machine, Quantifier, ScenarioResult, Trace, Verdict};

use crate::report::origin::duration;
use crate::report::picture::{self, shortened};
use crate::report::{Standing, describe_held, describe_seen, kernel_events, printed, standing};

/// The longest text of a log, an output or a value, in characters.
const LONGEST: usize = 2000;

/// A scenario; `place` is its number in the report.
pub(super) fn result(page: &mut String, scenario: &ScenarioResult, place: usize, several: bool) {
    let word = match standing(scenario) {
        Standing::Mended => "mended",
        Standing::Known => "known",
        _ => match scenario.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Errored => "errored",
            Verdict::Skipped => "skipped",
        },
    };
    let held = scenario
        .expectations
        .iter()
        .filter(|one| one.held == Some(true))
        .count();
    let mut note = match scenario.verdict {
        Verdict::Skipped => scenario.reason.clone().unwrap_or_default(),
        _ => format!(
            "{held}/{} held in {} run{}",
            scenario.expectations.len(),
            scenario.runs.len(),
            if scenario.runs.len() == 1 { "" } else { "s" }
        ),
    };
    if several {
        note = format!("Linux {}, {note}", scenario.kernel.release);
    }
    let _ = write!(
        page,
        "<details class=\"one {word}\" id=\"s{place}\"><summary><span class=\"v {word}\">{word}\
         </span> <span class=\"id\">{}</span> <span class=\"note\">{}</span></summary>\
         <div class=\"in\">",
        xml(&scenario.id),
        xml(&shortened(&note, 200))
    );
    about(page, scenario);
    expectations(page, scenario);
    logs(page, scenario);
    pictures(page, &scenario.traces);
    if !scenario.story.is_empty() {
        let _ = write!(
            page,
            "<details class=\"more\"><summary>The scenario step by step</summary><pre>{}</pre>\
             </details>",
            lines(&scenario.story)
        );
    }
    runs(page, scenario);
    page.push_str("</div></details>");
}

/// A text of several lines, in which nothing is markup.
fn lines(text: &str) -> String {
    text.lines().map(xml).collect::<Vec<_>>().join("\n")
}

fn about(page: &mut String, scenario: &ScenarioResult) {
    let _ = write!(page, "<p>{}</p><dl>", xml(&scenario.explains));
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", xml(value));
        }
    };
    if scenario.verdict != Verdict::Failed {
        add("reason", scenario.reason.as_deref().unwrap_or_default());
    }
    add("hint", scenario.hint.as_deref().unwrap_or_default());
    if let Some(known) = &scenario.known_failure {
        add("known failure", &known.reason);
        let over = if known.is_over { ", which is over" } else { "" };
        add(
            "until",
            &known
                .until
                .as_ref()
                .map(|day| format!("{day}{over}"))
                .unwrap_or_default(),
        );
    }
    add("source", &scenario.source);
    add("see also", scenario.see_also.as_deref().unwrap_or_default());
    add("file", scenario.place.as_deref().unwrap_or_default());
    let machine = match scenario.kernel.machine {
        Machine::Host => "this host",
        Machine::QemuKvm => "a guest, KVM",
        Machine::QemuTcg => "a guest, emulated",
    };
    add(
        "kernel",
        &format!("Linux {}, {machine}", scenario.kernel.release),
    );
    if scenario.link != Link::None {
        add("link", &scenario.link.to_string());
    }
    page.push_str("</dl>");
}

fn expectations(page: &mut String, scenario: &ScenarioResult) {
    if scenario.expectations.is_empty() {
        return;
    }
    page.push_str(
        "<div class=\"wide\"><table><thead><tr><th scope=\"col\"></th><th scope=\"col\">expected\
         </th><th scope=\"col\">seen</th></tr></thead><tbody>",
    );
    for expectation in &scenario.expectations {
        let class = match expectation.held {
            Some(true) => "passed",
            Some(false) => "failed",
            None => "errored",
        };
        let _ = write!(
            page,
            "<tr><td><span class=\"v {class}\">{}</span></td><td><code>{} {} {}</code>",
            describe_held(expectation),
            xml(&expectation.observation),
            expectation.quantifier,
            xml(&expectation.condition)
        );
        if let Some(because) = &expectation.because {
            let _ = write!(page, "<p class=\"because\">{}</p>", xml(because));
        }
        page.push_str("</td><td>");
        if let Some(plain) = &expectation.plain {
            let _ = write!(page, "{}", xml(plain));
        } else {
            let seen = shortened(&describe_seen(&expectation.seen), LONGEST);
            let _ = write!(page, "<code>{}</code>", xml(&seen));
        }
        page.push_str(&distribution(expectation, scenario));
        page.push_str("</td></tr>");
    }
    page.push_str("</tbody></table></div>");
}

/// The numbers of an expectation over the runs, those that break it marked.
fn distribution(expectation: &Expectation, scenario: &ScenarioResult) -> String {
    let values: Vec<(f64, bool)> = scenario
        .runs
        .iter()
        .filter_map(|run| {
            let value = run.observations.get(&expectation.observation)?;
            let breaks = expectation.held == Some(false)
                && expectation.quantifier != Quantifier::Sometimes
                && expectation
                    .plain
                    .as_ref()
                    .is_some_and(|plain| names(plain, &value.to_string()));
            Some((value.as_f64()?, !breaks))
        })
        .collect();
    picture::strip(&values)
}

/// Whether a sentence has a number among what was got.
fn names(plain: &str, value: &str) -> bool {
    let got = plain.rsplit("got ").next().unwrap_or_default();
    let plain_digits = got.replace(',', "");
    plain_digits
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .any(|word| word == value)
}

fn logs(page: &mut String, scenario: &ScenarioResult) {
    for disturbance in &scenario.discarded_runs {
        let _ = write!(page, "<p>A run was made again: {}</p>", xml(disturbance));
    }
    if !scenario.console.is_empty() {
        let console: Vec<String> = scenario
            .console
            .iter()
            .map(|line| xml(&shortened(line, LONGEST)))
            .collect();
        let _ = write!(
            page,
            "<p>The guest's console:</p><pre>{}</pre>",
            console.join("\n")
        );
    }
    if let Some((run, told)) = kernel_events(scenario) {
        let told: Vec<String> = told.iter().map(|line| xml(line)).collect();
        let _ = write!(
            page,
            "<p>The kernel in run {run}:</p><pre>{}</pre>",
            told.join("\n")
        );
    }
    for (actor, lines) in printed(scenario) {
        let lines: Vec<String> = lines
            .iter()
            .map(|line| xml(&shortened(line, LONGEST)))
            .collect();
        let _ = write!(
            page,
            "<p>{} printed:</p><pre>{}</pre>",
            xml(actor),
            lines.join("\n")
        );
    }
}

/// A run that was not as expected beside one that was.
fn pictures(page: &mut String, traces: &[Trace]) {
    if traces.is_empty() {
        return;
    }
    let mut traces: Vec<&Trace> = traces.iter().collect();
    traces.sort_by_key(|trace| trace.as_expected);
    page.push_str("<div class=\"pictures\">");
    for trace in traces {
        let what = if trace.as_expected {
            "as expected"
        } else {
            "not as expected"
        };
        let _ = write!(
            page,
            "<figure><figcaption>Run {}, {what}</figcaption><div class=\"wide\" tabindex=\"0\" \
             role=\"group\" aria-label=\"sequence of run {}\">{}</div></figure>",
            trace.run,
            trace.run,
            picture::svg(trace)
        );
    }
    page.push_str("</div>");
}

/// The runs: how long each took, and why one gave no verdict.
fn runs(page: &mut String, scenario: &ScenarioResult) {
    let took: Vec<String> = scenario
        .runs
        .iter()
        .map(|run| duration(run.duration_ms))
        .collect();
    if took.is_empty() {
        return;
    }
    let _ = write!(page, "<p class=\"note\">Runs took {}.", took.join(", "));
    if scenario.identical_runs > 0 {
        let _ = write!(page, " {} more saw the same.", scenario.identical_runs);
    }
    page.push_str("</p>");
    for run in &scenario.runs {
        if let Some(error) = &run.error {
            let _ = write!(
                page,
                "<p>Run {}: {}</p>",
                run.number,
                xml(&shortened(error, LONGEST))
            );
        }
    }
}
