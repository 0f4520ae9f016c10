//! The catalogue as a page: every scenario with what was seen of it in a
//! reference run, and for each matrix its truth table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use advisor_report::{Place, Report, Scenario as ScenarioResult, Verdict};

use crate::suite::scenario::Scenario;
use crate::suite::story::{axes, blocks};

/// The most different values that are shown of an observation; of more, and of
/// numbers, the lowest and the highest.
const SHOWN: usize = 3;

/// The page, as Markdown, without its title.
pub fn render(scenarios: &[Scenario], report: &Report) -> String {
    let results: BTreeMap<&str, &ScenarioResult> = report
        .scenarios
        .iter()
        .map(|result| (result.id.as_str(), result))
        .collect();
    let mut page = String::new();
    let mut topic = "";
    let mut rest = scenarios;
    while let [first, ..] = rest {
        let name = first.name();
        let count = rest.iter().take_while(|one| one.name() == name).count();
        let (cells, after) = rest.split_at(count);
        rest = after;
        let this = name.split('/').next().unwrap_or_default();
        if this != topic {
            topic = this;
            let _ = write!(page, "## {topic}\n\n");
        }
        let _ = write!(page, "### {name}\n\n");
        render_scenario(cells, &results, &mut page);
    }
    page
}

fn render_scenario(
    cells: &[Scenario],
    results: &BTreeMap<&str, &ScenarioResult>,
    page: &mut String,
) {
    let all: Vec<&Scenario> = cells.iter().collect();
    let [first, ..] = all[..] else { return };
    let axes = axes(&all);
    let mut notes = Vec::new();
    if let Some(since) = first.since {
        notes.push(format!("From {since} on."));
    }
    if first.long {
        notes.push("Runs with `--long`.".to_owned());
    }
    if first.touches_host() {
        notes.push("Acts on the whole machine.".to_owned());
    }
    let guests: BTreeSet<&str> = cells
        .iter()
        .filter_map(|cell| results.get(cell.id.as_str()))
        .filter(|result| result.kernel.place != Place::Host)
        .map(|result| result.kernel.release.as_str())
        .collect();
    for release in guests {
        notes.push(format!("Seen in a guest with Linux {release}."));
    }
    if axes.is_empty() {
        notes.insert(0, first.explains.clone());
    } else {
        let lines = axes
            .iter()
            .map(|(axis, values)| format!("{axis}: {}", values.join(", ")));
        notes.insert(
            0,
            format!("By {}.", lines.collect::<Vec<_>>().join("; by ")),
        );
    }
    let _ = writeln!(page, "{}\n", notes.join(" "));
    let titles: Vec<&str> = axes.iter().map(|(axis, _)| *axis).collect();
    let columns = ["expected", "seen", "verdict"];
    let header: Vec<&str> = titles.iter().copied().chain(columns).collect();
    for (because, row) in rows(&all) {
        if !axes.is_empty() {
            let _ = writeln!(page, "{because}\n");
        }
        let _ = writeln!(page, "| {} |", header.join(" | "));
        let _ = writeln!(page, "|{}", " --- |".repeat(header.len()));
        for block in blocks(row, 0) {
            render_block(&block, &axes, results, page);
        }
        page.push('\n');
    }
}

/// The cells of a matrix, together where the same is expected for the same
/// reason.
fn rows<'a>(cells: &[&'a Scenario]) -> Vec<(&'a str, Vec<&'a Scenario>)> {
    let same = |one: &Scenario, other: &Scenario| {
        let texts = |scenario: &Scenario| -> Vec<String> {
            let expectations = scenario.expectations.iter();
            expectations
                .map(|e| format!("{} {} {}", e.observation, e.quantifier, e.condition()))
                .collect()
        };
        one.explains == other.explains && texts(one) == texts(other)
    };
    let mut rows: Vec<(&str, Vec<&Scenario>)> = Vec::new();
    for cell in cells {
        match rows.iter_mut().find(|(_, row)| same(row[0], cell)) {
            Some((_, row)) => row.push(cell),
            None => rows.push((cell.explains.as_str(), vec![cell])),
        }
    }
    rows
}

/// One line for each expectation; the axes and the verdicts stand in the first.
fn render_block(
    block: &[&Scenario],
    axes: &[(&str, Vec<&str>)],
    results: &BTreeMap<&str, &ScenarioResult>,
    page: &mut String,
) {
    let seen_cells: Vec<&ScenarioResult> = block
        .iter()
        .filter_map(|scenario| results.get(scenario.id.as_str()).copied())
        .collect();
    for (index, expected) in block[0].expectations.iter().enumerate() {
        let mut columns = Vec::new();
        for (position, (_, values)) in axes.iter().enumerate() {
            let there = crate::suite::story::values_there(block, position);
            columns.push(match index {
                0 if there.len() == values.len() => "any".to_owned(),
                0 => there.join(", "),
                _ => String::new(),
            });
        }
        let condition = expected.condition();
        columns.push(format!(
            "`{}` {} {}",
            expected.observation, expected.quantifier, condition
        ));
        columns.push(describe(&seen_cells, &expected.observation, &condition));
        columns.push(match index {
            0 => verdicts(&seen_cells),
            _ => String::new(),
        });
        let escaped: Vec<String> = columns
            .iter()
            .map(|text| text.replace('|', "\\|"))
            .collect();
        let _ = writeln!(page, "| {} |", escaped.join(" | "));
    }
}

fn verdicts(cells: &[&ScenarioResult]) -> String {
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    for cell in cells {
        *counts.entry(cell.verdict).or_default() += 1;
    }
    match counts.len() {
        0 => "not run".to_owned(),
        1 => cells[0].verdict.to_string(),
        _ => {
            let parts = counts
                .iter()
                .map(|(verdict, count)| format!("{count} {verdict}"));
            parts.collect::<Vec<_>>().join(", ")
        }
    }
}

/// What was seen of an observation in all of the cells.
fn describe(cells: &[&ScenarioResult], observation: &str, condition: &str) -> String {
    let mut values: BTreeMap<&str, usize> = BTreeMap::new();
    let seen = cells.iter().flat_map(|cell| &cell.expectations);
    for expectation in seen.filter(|e| e.observation == observation && e.condition == condition) {
        for seen in &expectation.seen {
            *values.entry(&seen.value).or_default() += seen.runs;
        }
    }
    if values.len() <= SHOWN {
        let mut parts: Vec<(&str, usize)> = values.into_iter().collect();
        parts.sort_by_key(|(_, runs)| std::cmp::Reverse(*runs));
        let single = parts.len() == 1;
        let parts = parts.iter().map(|(value, runs)| {
            if single {
                (*value).to_owned()
            } else {
                format!("{value} ({runs}x)")
            }
        });
        return parts.collect::<Vec<_>>().join(", ");
    }
    let mut numbers: Vec<(f64, &str)> = values
        .keys()
        .filter_map(|value| Some((value.parse().ok()?, *value)))
        .collect();
    numbers.sort_by(|one, other| one.0.total_cmp(&other.0));
    match (numbers.first(), numbers.last()) {
        (Some((_, low)), Some((_, high))) if numbers.len() == values.len() => {
            format!("{low} to {high}")
        }
        _ => format!("{} values", values.len()),
    }
}
