//! The report as one page of HTML, without anything from elsewhere: it opens from an
//! artifact store or a mail. It is whole without JavaScript, which adds search and keys.

mod result;
mod tables;

use std::fmt::Write as _;
use std::io;

use advisor_report::escape::xml;
use advisor_report::{Report, ScenarioResult, Verdict};

use super::matrix::Matrix;
use super::origin::{duration, moment};
use super::picture;
use super::{Format, VerdictCounts, sentences};

/// What the page looks like; a proof's page looks the same.
pub const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// `report.html`.
pub(super) struct Html;

impl Format for Html {
    fn file(&self) -> &'static str {
        "report.html"
    }

    fn render(&self, report: &Report) -> io::Result<String> {
        Ok(render(report))
    }
}

/// The head of a page.
pub fn head(title: &str) -> String {
    // Nothing is loaded, whatever a suite or a kernel has in its texts.
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:,\"><title>{}</title>\
         <style>{STYLE}{}</style></head><body>\
         <svg class=\"seq defs\" width=\"0\" height=\"0\" aria-hidden=\"true\">{}</svg>",
        xml(title),
        picture::STYLE,
        picture::DEFINITIONS
    )
}

fn render(report: &Report) -> String {
    let counts = VerdictCounts::of(&report.scenarios);
    let title = headline(report, &counts);
    let mut page = head(&title);
    let _ = write!(page, "<header><h1>{}</h1>", xml(&title));
    origin(&mut page, report);
    bar(&mut page, &counts);
    page.push_str("</header><main>");
    bad(&mut page, report);
    known(&mut page, report);
    tables::differences(&mut page, report);
    tables::skipped(&mut page, report);
    let matrix = Matrix::of(&report.scenarios);
    if let Some(matrix) = &matrix {
        tables::kernels(&mut page, report, matrix);
    }
    tables::truth(&mut page, report);
    let _ = write!(
        page,
        "<section aria-labelledby=\"all\"><h2 id=\"all\">All scenarios</h2>\
         <div id=\"filter\" hidden><label for=\"search\">Search</label> \
         <input id=\"search\" type=\"search\" placeholder=\"id, text, errno\" \
         aria-describedby=\"keys\"> <span id=\"verdicts\"></span> \
         <span id=\"shown\" role=\"status\"></span> \
         <small id=\"keys\">Keys: / search, j and k next and previous, Enter open, \
         Esc clear</small></div>"
    );
    for (place, scenario) in report.scenarios.iter().enumerate() {
        result::result(&mut page, scenario, place, matrix.is_some());
    }
    let _ = writeln!(
        page,
        "</section></main><footer>Lastbyte harness {}. Times in pictures are those of the \
         run; states are as its packets tell them.</footer><script>{SCRIPT}</script>\
         </body></html>",
        xml(&report.harness)
    );
    page
}

/// The answer in one line.
fn headline(report: &Report, counts: &VerdictCounts) -> String {
    let all = report.scenarios.len();
    let plural = if all == 1 { "" } else { "s" };
    let bad = counts.bad();
    let answer = match (bad, counts.passed) {
        (0, 0) if counts.known == 0 => format!("Nothing ran: {all} scenario{plural} skipped"),
        (0, passed) if passed == all => format!("All {all} scenario{plural} passed"),
        (0, passed) => format!("{passed} of {all} scenario{plural} passed, none failed"),
        (bad, _) => {
            let word = match (counts.failed, counts.errored, counts.mended) {
                (_, 0, 0) => "failed",
                (0, _, 0) => "errored",
                (0, 0, _) => "passed, though a failure is known",
                _ => "failed or errored",
            };
            format!("{bad} of {all} scenario{plural} {word}")
        }
    };
    let mut kernels: Vec<&str> = Vec::new();
    for scenario in &report.scenarios {
        if !kernels.contains(&scenario.kernel.release.as_str()) {
            kernels.push(&scenario.kernel.release);
        }
    }
    match kernels[..] {
        [] => answer,
        [one] => format!("{answer} on Linux {one}"),
        _ => format!("{answer} on {} kernels", kernels.len()),
    }
}

/// What was run, where and when.
fn origin(page: &mut String, report: &Report) {
    let origin = &report.origin;
    let mut facts: Vec<(&str, String)> = Vec::new();
    if !origin.command.is_empty() {
        facts.push((
            "command",
            format!("<code>{}</code>", xml(&command(&origin.command))),
        ));
    }
    let mut add = |name, value: String| {
        if !value.is_empty() {
            facts.push((name, xml(&value)));
        }
    };
    add("host", origin.host.clone());
    add("its kernel", origin.kernel.clone());
    add("began", moment(origin.started_ms));
    if origin.duration_ms > 0 {
        let interrupted = if origin.interrupted {
            ", interrupted"
        } else {
            ""
        };
        add("took", duration(origin.duration_ms) + interrupted);
    }
    add("suites", origin.revision.clone());
    add("harness", report.harness.clone());
    page.push_str("<dl class=\"origin\">");
    for (name, value) in facts {
        let _ = write!(page, "<dt>{name}</dt><dd>{value}</dd>");
    }
    page.push_str("</dl>");
}

/// A command line as a shell takes it: the program without its directory.
fn command(words: &[String]) -> String {
    let is_plain = |word: &&String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
        !word.is_empty() && word.chars().all(plain)
    };
    let words = words
        .iter()
        .enumerate()
        .map(|(place, word)| match (place, word) {
            (0, word) => word.rsplit('/').next().unwrap_or(word).to_owned(),
            (_, word) if is_plain(&word) => word.clone(),
            (_, word) => format!("'{}'", word.replace('\'', "'\\''")),
        });
    words.collect::<Vec<_>>().join(" ")
}

/// The verdicts at a glance.
fn bar(page: &mut String, counts: &VerdictCounts) {
    let verdicts = [
        ("failed", counts.failed),
        ("errored", counts.errored),
        ("mended", counts.mended),
        ("known", counts.known),
        ("passed", counts.passed),
        ("skipped", counts.skipped),
    ];
    page.push_str("<ul class=\"counts\">");
    for (name, count) in verdicts {
        if count > 0 || name == "passed" {
            let label = if name == "known" {
                "known failures"
            } else {
                name
            };
            let _ = write!(page, "<li class=\"{name}\"><b>{count}</b> {label}</li>");
        }
    }
    page.push_str("</ul><div class=\"bar\" aria-hidden=\"true\">");
    for (name, count) in verdicts {
        if count > 0 {
            let _ = write!(page, "<i class=\"{name}\" style=\"flex:{count}\"></i>");
        }
    }
    page.push_str("</div>");
}

/// What failed, in one plain sentence each, with its reason.
fn bad(page: &mut String, report: &Report) {
    let is_bad = |one: &&(usize, &ScenarioResult)| {
        use super::Standing::{Errored, Failed, Mended};
        matches!(super::standing(one.1), Failed | Errored | Mended)
    };
    let all: Vec<(usize, &ScenarioResult)> = report.scenarios.iter().enumerate().collect();
    let bad: Vec<_> = all.iter().filter(is_bad).collect();
    if bad.is_empty() {
        return;
    }
    page.push_str(
        "<section aria-labelledby=\"bad\"><h2 id=\"bad\">What failed</h2><ul class=\"bad\">",
    );
    for (place, scenario) in bad {
        let _ = write!(
            page,
            "<li><a href=\"#s{place}\">{}</a> <span class=\"kernel\">{}</span>",
            xml(&scenario.id),
            xml(&scenario.kernel.release)
        );
        match scenario.verdict {
            Verdict::Passed => {
                page.push_str("<p>It passed, although its failure is expected: it is mended.</p>");
            }
            Verdict::Failed => {
                let broken = scenario
                    .expectations
                    .iter()
                    .filter(|one| one.held == Some(false));
                for (sentence, expectation) in sentences(&scenario.expectations).iter().zip(broken)
                {
                    let _ = write!(page, "<p>{}</p>", xml(sentence));
                    if let Some(because) = &expectation.because {
                        let _ = write!(page, "<p class=\"because\">{}</p>", xml(because));
                    }
                }
            }
            _ => {
                let reason = scenario.reason.as_deref().unwrap_or_default();
                let _ = write!(page, "<p>{}</p>", xml(reason));
            }
        }
        page.push_str("</li>");
    }
    page.push_str("</ul></section>");
}

/// Failures that are known: why, and until when.
fn known(page: &mut String, report: &Report) {
    let known: Vec<(usize, &ScenarioResult)> = report
        .scenarios
        .iter()
        .enumerate()
        .filter(|(_, one)| super::standing(one) == super::Standing::Known)
        .collect();
    if known.is_empty() {
        return;
    }
    page.push_str(
        "<section aria-labelledby=\"known\"><h2 id=\"known\">Known failures</h2><ul class=\"bad\">",
    );
    for (place, scenario) in known {
        let _ = write!(page, "<li><a href=\"#s{place}\">{}</a>", xml(&scenario.id));
        if let Some(known) = &scenario.known_failure {
            let until = known
                .until
                .as_ref()
                .map(|day| format!(", until {day}"))
                .unwrap_or_default();
            let _ = write!(
                page,
                "<p>{} ({}{})</p>",
                xml(&known.reason),
                xml(&known.written),
                xml(&until)
            );
        }
        page.push_str("</li>");
    }
    page.push_str("</ul></section>");
}

#[cfg(test)]
mod tests;
