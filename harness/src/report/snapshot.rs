//! Verdicts as snapshots in insta's file format, so that `cargo insta review`
//! works on what differs.
//!
//! A snapshot has verdicts and which expectations held: the same in every good
//! run. It has no times, and no counts that vary, except where runs are repeatable and
//! the user wants them (`--exact`). There is one for each file of
//! a suite. A scenario that was skipped or filtered out is not compared: its
//! part of the snapshot stays.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use advisor_report::{ScenarioResult, Verdict};

use super::describe_held;
use crate::output;

/// A snapshot that differs from the results.
#[derive(Debug)]
pub struct SnapshotDifference {
    /// The committed snapshot.
    pub path: PathBuf,
    /// The file with the new results, beside it; `None` where the snapshot was
    /// updated.
    pub pending: Option<PathBuf>,
    /// Lines removed (`-`) and added (`+`).
    pub lines: Vec<String>,
}

/// Compares results with the snapshots in a directory. `known` are the ids of
/// all scenarios of the suites, run or not. With `update`, the results become
/// the snapshot; otherwise they are written beside it as `.snap.new`. With `exact`
/// they have every value, too.
pub fn compare(
    directory: &Path,
    known: &[&str],
    results: &[ScenarioResult],
    exact: bool,
    update: bool,
) -> io::Result<Vec<SnapshotDifference>> {
    let mut files: Vec<&str> = known.iter().map(|id| file_of(id)).collect();
    files.dedup();
    let mut differences = Vec::new();
    for file in files {
        let path = directory.join(format!("{}.snap", file.replace('/', "__")));
        let pending = path.with_extension("snap.new");
        let committed = read(&path)?;
        let old = sections(committed.as_deref().unwrap_or_default());
        let mut new = BTreeMap::new();
        for id in known.iter().filter(|id| file_of(id) == file) {
            let seen = results
                .iter()
                .find(|result| result.id == **id && result.verdict != Verdict::Skipped)
                .map(|result| section(result, exact));
            if let Some(text) = seen.or_else(|| old.get(*id).cloned()) {
                new.insert((*id).to_owned(), text);
            }
        }
        if new == old {
            remove(&pending)?;
            continue;
        }
        let content: String = new.values().map(String::as_str).collect();
        let text = format!("---\nsource: {file}.yaml\nexpression: verdicts\n---\n{content}");
        let target = if update { &path } else { &pending };
        output::write(target, text.as_bytes())?;
        if update {
            remove(&pending)?;
        }
        differences.push(SnapshotDifference {
            lines: changed_lines(&old, &new),
            pending: (!update).then_some(pending),
            path,
        });
    }
    Ok(differences)
}

fn file_of(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(file, _)| file)
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The part of a snapshot that is one scenario's.
fn section(scenario: &ScenarioResult, exact: bool) -> String {
    let mut text = format!("{}: {}\n", scenario.id, scenario.verdict);
    for expectation in &scenario.expectations {
        let held = describe_held(expectation);
        let _ = writeln!(
            text,
            "  {} {} {}: {held}",
            expectation.observation, expectation.quantifier, expectation.condition
        );
    }
    if exact {
        add_values(scenario, &mut text);
    }
    text
}

/// Every value of every run, after what the values depend on.
fn add_values(scenario: &ScenarioResult, text: &mut String) {
    if let Some(repeatable) = &scenario.repeatable {
        let on = &repeatable.depends_on;
        let _ = writeln!(text, "  seed: {}", on.seed);
        for (name, value) in [
            ("kernel", &on.kernel),
            ("qemu", &on.qemu),
            ("harness", &on.harness),
        ] {
            let _ = writeln!(text, "  {name}: {value}");
        }
    }
    for run in &scenario.runs {
        for (name, value) in &run.observations {
            // In JSON a value is one line.
            let value = serde_json::to_string(value).unwrap_or_default();
            let _ = writeln!(text, "  run {}, {name} = {value}", run.number);
        }
    }
}

/// The sections of a snapshot's file by id; the header between the two `---`
/// is insta's.
fn sections(file: &str) -> BTreeMap<String, String> {
    let content = file
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"))
        .map_or("", |(_, content)| content);
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    let mut current = None;
    for line in content.lines() {
        if !line.starts_with(' ') {
            current = line.rsplit_once(": ").map(|(id, _)| id.to_owned());
        }
        if let Some(id) = &current {
            let section = sections.entry(id.clone()).or_default();
            section.push_str(line);
            section.push('\n');
        }
    }
    sections
}

fn changed_lines(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let ids = old
        .keys()
        .chain(new.keys().filter(|id| !old.contains_key(*id)));
    let lines = |sections: &BTreeMap<String, String>, id: &str| -> Vec<String> {
        let text = sections.get(id).map(String::as_str).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    ids.flat_map(|id| {
        let (before, after) = (lines(old, id), lines(new, id));
        let gone = before
            .iter()
            .filter(|line| !after.contains(line))
            .map(|line| format!("- {line}"));
        let come = after
            .iter()
            .filter(|line| !before.contains(line))
            .map(|line| format!("+ {line}"));
        gone.chain(come).collect::<Vec<_>>()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(results: &[ScenarioResult]) -> Vec<&str> {
        results.iter().map(|result| result.id.as_str()).collect()
    }

    #[test]
    fn a_new_snapshot_is_pending_until_it_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let results = super::super::tests::sample().scenarios;
        let compare =
            |update| compare(directory.path(), &ids(&results), &results, false, update).unwrap();
        let differences = compare(false);
        assert_eq!(differences.len(), 1);
        let pending = differences[0].pending.clone().unwrap();
        assert!(pending.ends_with("close__unread-data.snap.new"));
        assert!(!differences[0].path.exists() && pending.exists());
        compare(true);
        assert!(differences[0].path.exists() && !pending.exists());
        assert!(compare(false).is_empty());
        insta::assert_snapshot!(
            "verdicts.snap",
            fs::read_to_string(&differences[0].path).unwrap()
        );
    }

    #[test]
    fn a_changed_verdict_differs_and_a_skipped_one_is_not_compared() {
        let directory = tempfile::tempdir().unwrap();
        let mut results = super::super::tests::sample().scenarios;
        let known: Vec<String> = ids(&results).into_iter().map(str::to_owned).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        compare(directory.path(), &known, &results, false, true).unwrap();
        results[1].verdict = Verdict::Skipped;
        assert!(
            compare(directory.path(), &known, &results, false, false)
                .unwrap()
                .is_empty()
        );
        assert!(
            compare(directory.path(), &known, &results[..1], false, false)
                .unwrap()
                .is_empty()
        );
        results[0].verdict = Verdict::Failed;
        let differences = compare(directory.path(), &known, &results, false, false).unwrap();
        assert_eq!(
            differences[0].lines,
            [
                "- close/unread-data/good: passed",
                "+ close/unread-data/good: failed"
            ]
        );
    }
}
