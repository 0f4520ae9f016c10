//! `docs/catalogue.md`: every scenario, and for each matrix its truth table, with what
//! was seen of it in the run that `docs/reference.json` holds, which `ci/catalogue`
//! measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use advisor_report::{Machine, Report, ScenarioResult, Verdict};
use harness::suite;
use harness::suite::scenario::Scenario;
use harness::suite::story::{axes, blocks, values_there};
use serde::{Deserialize, Serialize};

use super::{Error, root};

/// The most different values that are shown of an observation; of more, and of
/// numbers, the lowest and the highest.
const SHOWN: usize = 3;

/// What stands where the reference has no figure.
const NOT_MEASURED: &str = "not measured yet";

/// A run of the whole catalogue.
#[derive(Deserialize, Serialize)]
pub struct Reference {
    /// The day of the run.
    date: String,
    /// What was run.
    command: String,
    /// What was seen, without the single runs.
    pub report: Report,
}

fn path() -> PathBuf {
    root().join("docs/reference.json")
}

/// What `ci/catalogue` measured the last time.
pub fn reference() -> Result<Reference, Error> {
    let text = std::fs::read_to_string(path())?;
    serde_json::from_str(&text).map_err(|error| format!("docs/reference.json: {error}").into())
}

fn write(reference: &Reference) -> Result<(), Error> {
    let text = serde_json::to_string(reference)?;
    // A line for each scenario, so that a change of one is a change of a line.
    let text = text.replace("{\"id\":", "\n{\"id\":") + "\n";
    Ok(std::fs::write(path(), text)?)
}

/// Makes a report the reference.
pub fn take_over(report: &Path, command: String, date: String) -> Result<(), Error> {
    let mut report = advisor_report::read(report)?;
    for scenario in &mut report.scenarios {
        scenario.runs.clear();
        scenario.explains.clear();
        scenario.source.clear();
        // The release, without what a distribution or a machine calls it.
        let release = &mut scenario.kernel.release;
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.');
        release.truncate(end.unwrap_or(release.len()));
    }
    write(&Reference {
        date,
        command,
        report,
    })
}

/// Every scenario there is.
pub fn scenarios() -> Result<Vec<Scenario>, Error> {
    suite::load(&[root().join("suites")]).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        errors.join("\n").into()
    })
}

/// Drops what was measured of scenarios that are gone.
pub fn forget_what_is_gone() -> Result<(), Error> {
    let scenarios = scenarios()?;
    let ids: BTreeSet<&str> = scenarios.iter().map(|known| known.id.as_str()).collect();
    let mut reference = reference()?;
    let results = &mut reference.report.scenarios;
    let before = results.len();
    results.retain(|result| ids.contains(result.id.as_str()));
    let gone = before - results.len();
    if gone > 0 {
        println!("docs/reference.json: dropped {gone} scenarios that are gone.");
        write(&reference)?;
    }
    Ok(())
}

/// The page.
pub fn page() -> Result<String, Error> {
    let mut scenarios = scenarios()?;
    // Those try advice with a host's numbers, and have no figures of their own.
    scenarios.retain(|scenario| !scenario.id.starts_with("changes/"));
    let reference = reference()?;
    let mut results = reference.report.scenarios.iter();
    let on_host = results.find(|result| result.kernel.machine == Machine::Host);
    let release = on_host.map_or("", |result| &result.kernel.release);
    Ok(format!(
        "# The catalogue\n\nEvery scenario except those of suites/changes, with the figures of one run:\n\
         `{}` on Linux {release}, {}.\n\
         A scenario that needs a guest names the guest's kernel. `ci/catalogue` measures all of\n\
         it and writes [reference.json](reference.json), the report without its single runs.\n\
         `ci/documents` makes this page from it.\n\n{}",
        reference.command,
        reference.date,
        render(&scenarios, &reference.report)
    ))
}

/// Whether a result is of the scenario as it is now.
fn is_current(scenario: &Scenario, result: &ScenarioResult) -> bool {
    let expected = scenario.on_release(&result.kernel.release).expectations;
    result.verdict == Verdict::Skipped
        || expected.iter().all(|expected| {
            result.expectations.iter().any(|seen| {
                seen.observation == expected.observation.to_string()
                    && seen.quantifier == expected.quantifier
                    && seen.condition == expected.condition()
            })
        })
}

/// The page, without its title.
fn render(scenarios: &[Scenario], report: &Report) -> String {
    let of_each: BTreeMap<&str, &Scenario> = scenarios
        .iter()
        .map(|scenario| (scenario.id.as_str(), scenario))
        .collect();
    let results: BTreeMap<&str, &ScenarioResult> = report
        .scenarios
        .iter()
        .filter(|result| {
            let scenario = of_each.get(result.id.as_str());
            scenario.is_some_and(|scenario| is_current(scenario, result))
        })
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
        .filter(|result| result.kernel.machine != Machine::Host)
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
            let there = values_there(block, position);
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
        columns.push(describe(
            &seen_cells,
            &expected.observation.to_string(),
            &condition,
        ));
        columns.push(match index {
            0 => verdicts(&seen_cells, block.len()),
            _ => String::new(),
        });
        let escaped: Vec<String> = columns
            .iter()
            .map(|text| text.replace('|', "\\|"))
            .collect();
        let _ = writeln!(page, "| {} |", escaped.join(" | "));
    }
}

/// The verdicts of those of `all` cells that were measured.
fn verdicts(cells: &[&ScenarioResult], all: usize) -> String {
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    for cell in cells {
        *counts.entry(cell.verdict).or_default() += 1;
    }
    let mut parts: Vec<(usize, String)> = counts
        .into_iter()
        .map(|(verdict, count)| (count, verdict.to_string()))
        .collect();
    if cells.len() < all {
        parts.push((all - cells.len(), NOT_MEASURED.to_owned()));
    }
    if let [(_, only)] = &parts[..] {
        return only.clone();
    }
    let parts = parts.iter().map(|(count, what)| format!("{count} {what}"));
    parts.collect::<Vec<_>>().join(", ")
}

/// What was seen of an observation in all of the cells.
fn describe(cells: &[&ScenarioResult], observation: &str, condition: &str) -> String {
    if cells.is_empty() {
        return NOT_MEASURED.to_owned();
    }
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
