//! The report as Markdown, for people: the answer first, then a table for each
//! scenario.

use std::fmt::Write as _;

use advisor::evidence::{Report, Scenario, Verdict};

use super::{Tally, describe_held, describe_seen};

pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    let tally = Tally::of(&report.scenarios);
    let _ = writeln!(
        text,
        "# {} passed, {} failed, {} errored, {} skipped\n",
        tally.passed, tally.failed, tally.errored, tally.skipped
    );
    if let Some(first) = report.scenarios.first() {
        let _ = writeln!(
            text,
            "lastbyte harness {}, kernel {}\n",
            report.harness, first.kernel.release
        );
    }
    text.push_str("| verdict | scenario | link | runs |\n| --- | --- | --- | --- |\n");
    for scenario in &report.scenarios {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            scenario.verdict,
            scenario.id,
            scenario.link,
            scenario.runs.len()
        );
    }
    // What went wrong comes before what went well.
    let order = [
        Verdict::Failed,
        Verdict::Errored,
        Verdict::Passed,
        Verdict::Skipped,
    ];
    for verdict in order {
        for scenario in report.scenarios.iter().filter(|s| s.verdict == verdict) {
            describe(scenario, &mut text);
        }
    }
    text.push_str("\n## Pinned sysctls\n\nEvery scenario starts from these.\n\n");
    for (name, value) in &report.pinned_sysctls {
        let _ = writeln!(text, "- `{name} = {value}`");
    }
    text
}

fn describe(scenario: &Scenario, text: &mut String) {
    let _ = writeln!(text, "\n## {}: {}\n", scenario.id, scenario.verdict);
    let _ = writeln!(
        text,
        "{}\n\nSource: {}",
        cell(&scenario.explains),
        cell(&scenario.source)
    );
    if let Some(id) = &scenario.see_also {
        let _ = writeln!(text, "\nSee also: {id}");
    }
    if let Some(reason) = &scenario.reason {
        let _ = writeln!(text, "\n**{}**", cell(reason));
    }
    if let Some(hint) = &scenario.hint {
        let _ = writeln!(text, "\nHint: {}", cell(hint));
    }
    if !scenario.console.is_empty() {
        let _ = writeln!(
            text,
            "\nThe end of its console:\n\n    {}",
            scenario.console.join("\n    ")
        );
    }
    for disturbance in &scenario.discarded_runs {
        let _ = writeln!(text, "\nA run was made again: {}", cell(disturbance));
    }
    if scenario.expectations.is_empty() {
        return;
    }
    text.push_str("\n| | observation | expected | seen |\n| --- | --- | --- | --- |\n");
    for expectation in &scenario.expectations {
        let mark = if expectation.held == Some(true) {
            ""
        } else {
            "**"
        };
        let held = describe_held(expectation);
        let _ = writeln!(
            text,
            "| {mark}{held}{mark} | `{}` | {} {} | {} |",
            expectation.observation,
            expectation.quantifier,
            cell(&expectation.condition),
            cell(&describe_seen(expectation))
        );
    }
}

/// Text that can stand in a table: kernel log lines and conditions hold bars
/// and angle brackets.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('<', "\\<")
        .replace(['\n', '\r'], " ")
}
