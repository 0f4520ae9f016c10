//! The report as Markdown, for people: the answer first, then a table for each
//! scenario.

use std::fmt::Write as _;
use std::io;

use advisor_report::escape::{escaped, inert};
use advisor_report::{Report, ScenarioResult, Verdict};

use super::matrix::Matrix;
use super::{
    Format, VerdictCounts, describe_expectation, describe_held, describe_seen, kernel_events,
    printed,
};

/// `report.md`.
pub(super) struct Markdown;

impl Format for Markdown {
    fn file(&self) -> &'static str {
        "report.md"
    }

    fn render(&self, report: &Report) -> io::Result<String> {
        Ok(render(report))
    }
}

fn render(report: &Report) -> String {
    let mut text = String::new();
    let counts = VerdictCounts::of(&report.scenarios);
    let _ = writeln!(
        text,
        "# {} passed, {} failed, {} errored, {} skipped\n",
        counts.passed, counts.failed, counts.errored, counts.skipped
    );
    let mut kernels: Vec<&str> = Vec::new();
    for scenario in &report.scenarios {
        if !kernels.contains(&scenario.kernel.release.as_str()) {
            kernels.push(&scenario.kernel.release);
        }
    }
    let _ = writeln!(
        text,
        "lastbyte harness {}, kernel {}\n",
        report.harness,
        kernels.join(", ")
    );
    if let Some(matrix) = Matrix::of(&report.scenarios) {
        differences(report, &mut text);
        verdicts(&matrix, &mut text);
    }
    text.push_str(
        "| verdict | scenario | kernel | link | runs |\n| --- | --- | --- | --- | --- |\n",
    );
    for scenario in &report.scenarios {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            scenario.verdict,
            inert(&scenario.id),
            scenario.kernel.release,
            scenario.link,
            scenario.runs.len()
        );
    }
    // Failures come first.
    let order = [
        Verdict::Failed,
        Verdict::Errored,
        Verdict::Passed,
        Verdict::Skipped,
    ];
    for verdict in order {
        for scenario in report.scenarios.iter().filter(|s| s.verdict == verdict) {
            describe(scenario, kernels.len() > 1, &mut text);
        }
    }
    text.push_str("\n## Pinned sysctls\n\nEvery scenario starts from these.\n\n");
    for (name, value) in &report.pinned_sysctls {
        let _ = writeln!(text, "- `{name} = {value}`");
    }
    text
}

/// The differences, before the rest.
fn differences(report: &Report, text: &mut String) {
    text.push_str("## Differences\n\n");
    if report.differences.is_empty() {
        text.push_str("None beyond what chance gives.\n\n");
        return;
    }
    text.push_str("| scenario | observation | where | seen |\n| --- | --- | --- | --- |\n");
    for difference in &report.differences {
        let observation = difference
            .observation
            .as_ref()
            .map_or_else(|| "verdict".to_owned(), |name| format!("`{name}`"));
        for group in &difference.groups {
            let _ = writeln!(
                text,
                "| {} | {observation} | {} | {} |",
                inert(&difference.id),
                group.columns.join(", "),
                cell(&describe_seen(&group.seen))
            );
        }
    }
    text.push('\n');
}

/// The verdict on each scenario in each column.
fn verdicts(matrix: &Matrix, text: &mut String) {
    text.push_str("## Verdicts\n\n| scenario");
    for column in &matrix.columns {
        let _ = write!(text, " | {column}");
    }
    text.push_str(" |\n| ---");
    text.push_str(&" | ---".repeat(matrix.columns.len()));
    text.push_str(" |\n");
    for row in &matrix.rows {
        let _ = write!(text, "| {}", inert(row.id));
        for result in &row.cells {
            let verdict = result.map_or_else(String::new, |result| result.verdict.to_string());
            let _ = write!(text, " | {verdict}");
        }
        text.push_str(" |\n");
    }
    text.push_str("\n## Results\n\n");
}

fn describe(scenario: &ScenarioResult, names_kernel: bool, text: &mut String) {
    let kernel = if names_kernel {
        format!(" on {}", scenario.kernel.release)
    } else {
        String::new()
    };
    let _ = writeln!(
        text,
        "\n## {}{kernel}: {}\n",
        inert(&scenario.id),
        scenario.verdict
    );
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
            cell(&describe_expectation(expectation))
        );
    }
    if let Some((run, lines)) = kernel_events(scenario) {
        let lines = lines.join("\n    ");
        let _ = writeln!(text, "\nThe kernel in run {run}:\n\n    {lines}");
    }
    for (actor, lines) in printed(scenario) {
        let _ = writeln!(text, "\n{actor} printed:\n\n    {}", lines.join("\n    "));
    }
}

/// Text on one line, escaped: kernel log lines and conditions have bars and
/// angle brackets.
fn cell(text: &str) -> String {
    escaped(&text.replace(['\n', '\r'], " "))
}
