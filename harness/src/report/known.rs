//! Failures that are known: those that a suite expects, and those of a baseline file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use advisor_report::{KnownFailure, ScenarioResult, Verdict};
use chrono::NaiveDate;

use crate::suite::scenario::Scenario;
use crate::yaml::error::SuiteError;
use crate::yaml::node::{self, Content, Node};

/// How a result counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// As expected.
    Passed,
    /// Not as expected, and nobody knew.
    Failed,
    /// No verdict.
    Errored,
    /// Not run.
    Skipped,
    /// It fails, as is known.
    Known,
    /// It passes, though its failure is known: what says so is to be taken out.
    Mended,
}

/// How a result counts.
pub fn standing(result: &ScenarioResult) -> Standing {
    match (result.verdict, &result.known_failure) {
        (Verdict::Failed, Some(known)) if !known.is_over => Standing::Known,
        (Verdict::Passed, Some(_)) => Standing::Mended,
        (Verdict::Passed, None) => Standing::Passed,
        (Verdict::Failed, _) => Standing::Failed,
        (Verdict::Errored, _) => Standing::Errored,
        (Verdict::Skipped, _) => Standing::Skipped,
    }
}

/// The same as a word of its own.
pub fn standing_class(result: &ScenarioResult) -> &'static str {
    match standing(result) {
        Standing::Passed => "passed",
        Standing::Failed => "failed",
        Standing::Errored => "errored",
        Standing::Skipped => "skipped",
        Standing::Known => "known",
        Standing::Mended => "mended",
    }
}

/// A failure of a baseline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    scenario: String,
    reason: String,
    until: Option<String>,
    line: usize,
}

/// The failures of a baseline file, by scenario.
#[derive(Debug)]
pub struct Baseline {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// Why a baseline can't be used, and what to do.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct BaselineError {
    message: String,
    /// What to do about it.
    pub hint: String,
}

const SHAPE: &str = "a list of `- { scenario: topic/file/name, reason: why, until: 2027-03-31 }`; \
                     --baseline FILE --update writes one";

impl Baseline {
    /// Reads a baseline.
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        let refuse = |error: std::io::Error| BaselineError {
            message: format!("{}: {error}", path.display()),
            hint: "--baseline FILE --update writes one of what fails now".to_owned(),
        };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(refuse)?;
        file.take(node::FILE_LIMIT_BYTES)
            .read_to_string(&mut text)
            .map_err(refuse)?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, BaselineError> {
        let entries = if text
            .lines()
            .all(|line| line.trim().is_empty() || line.starts_with('#'))
        {
            Ok(Vec::new())
        } else {
            node::parse(text).and_then(|root| entries(&root))
        };
        let entries = entries.map_err(|error| BaselineError {
            message: format!("{}:{error}", path.display()),
            hint: error.hint,
        })?;
        Ok(Self {
            path: path.to_owned(),
            entries,
        })
    }

    /// The entries that name no scenario of these.
    pub fn unknown<'a>(&'a self, known: &'a BTreeSet<&str>) -> impl Iterator<Item = String> + 'a {
        let entries = self.entries.iter();
        let unknown = entries.filter(|entry| !known.contains(entry.scenario.as_str()));
        unknown.map(|entry| {
            let path = self.path.display();
            format!("{path}:{}: no scenario {:?}", entry.line, entry.scenario)
        })
    }
}

fn entries(root: &Node) -> Result<Vec<Entry>, SuiteError> {
    let wrong = |node: &Node| {
        let message = format!("baseline: {} isn't allowed here", node.describe());
        SuiteError::new(node.place, message, SHAPE)
    };
    let Content::List(items) = &root.content else {
        return Err(wrong(root));
    };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let Content::Map(pairs) = &item.content else {
            return Err(wrong(item));
        };
        let mut values: [Option<String>; 3] = [None, None, None];
        let keys = ["scenario", "reason", "until"];
        for (key, value) in pairs {
            let Some(place) = keys.iter().position(|known| *known == key.text) else {
                return Err(SuiteError::no_such(
                    "unknown key",
                    &key.text,
                    key.place,
                    keys,
                ));
            };
            let Content::Scalar(text) = &value.content else {
                return Err(wrong(value));
            };
            if key.text == "until" && day(text).is_none() {
                let message = format!("until: there is no day {text:?}");
                return Err(SuiteError::new(
                    value.place,
                    message,
                    "a day such as 2027-03-31",
                ));
            }
            values[place] = Some(text.clone());
        }
        let [scenario, reason, until] = values;
        let missing =
            |key: &str| SuiteError::new(item.place, format!("baseline: {key:?} is missing"), SHAPE);
        let entry = Entry {
            scenario: scenario.ok_or_else(|| missing("scenario"))?,
            reason: reason
                .filter(|text| !text.trim().is_empty())
                .ok_or_else(|| missing("reason"))?,
            until,
            line: item.place.line,
        };
        if entries.iter().any(|known| known.scenario == entry.scenario) {
            let message = format!("baseline: {:?} is there twice", entry.scenario);
            return Err(SuiteError::new(
                item.place,
                message,
                "one entry for each scenario",
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn day(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

/// Notes on results which failures are known on a day: by the suite, else by the baseline.
pub fn apply(
    results: &mut [ScenarioResult],
    scenarios: &[Scenario],
    baseline: Option<&Baseline>,
    today: NaiveDate,
) {
    for result in results {
        let scenario = scenarios.iter().find(|scenario| scenario.id == result.id);
        let of_suite = scenario.and_then(|scenario| {
            let known = scenario.expected_failure.as_ref()?;
            let place = scenario
                .file
                .as_ref()
                .map(|(file, line)| (file.clone(), *line));
            let written = place.map(|(file, line)| format!("{}:{line}", file.display()));
            Some((
                known.reason.clone(),
                known.until.clone(),
                written.unwrap_or_default(),
            ))
        });
        let of_baseline = || {
            let baseline = baseline?;
            let entry = baseline
                .entries
                .iter()
                .find(|entry| entry.scenario == result.id)?;
            let written = format!("{}:{}", baseline.path.display(), entry.line);
            Some((entry.reason.clone(), entry.until.clone(), written))
        };
        result.known_failure = of_suite
            .or_else(of_baseline)
            .map(|(reason, until, written)| {
                let is_over = until
                    .as_deref()
                    .and_then(day)
                    .is_some_and(|until| until < today);
                KnownFailure {
                    reason,
                    until,
                    written,
                    is_over,
                }
            });
    }
}

/// A baseline of what fails now. Reasons that were given before stay.
pub fn baseline(results: &[ScenarioResult], before: Option<&Baseline>) -> String {
    let mut text = "# Failures that are known: `harness run --baseline FILE` counts them and \
                    fails on none of them.\n# It fails when one is mended, so that its entry is \
                    taken out, and after `until: 2027-03-31`.\n"
        .to_owned();
    let mut ids: Vec<&str> = results
        .iter()
        .filter(|result| result.verdict == Verdict::Failed)
        .map(|result| result.id.as_str())
        .collect();
    // Those that did not run now stay.
    let entries = before.map_or(&[][..], |before| &before.entries);
    for entry in entries {
        let has_run = results
            .iter()
            .any(|result| result.id == entry.scenario && result.verdict != Verdict::Skipped);
        if !has_run {
            ids.push(&entry.scenario);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let known = entries.iter().find(|entry| entry.scenario == id);
        let reason = known.map_or("it fails today", |entry| &entry.reason);
        // JSON's strings are YAML's.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let (id, reason) = (quoted(id), quoted(reason));
        let _ = writeln!(text, "- scenario: {id}\n  reason: {reason}");
        if let Some(until) = known.and_then(|entry| entry.until.as_ref()) {
            let _ = writeln!(text, "  until: {until}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::VerdictCounts;
    use crate::report::tests::sample;

    fn parse(text: &str) -> Result<Baseline, BaselineError> {
        Baseline::parse(text, Path::new("known.yaml"))
    }

    fn on(day: &str, text: &str) -> Vec<Standing> {
        let mut results = sample().scenarios;
        let baseline = parse(text).unwrap();
        let today = super::day(day).unwrap();
        apply(&mut results, &[], Some(&baseline), today);
        results.iter().map(standing).collect()
    }

    const BAD: &str =
        "- { scenario: close/unread-data/bad, reason: ticket 1, until: 2027-03-31 }\n";

    #[test]
    fn what_is_known_counts_until_its_day_is_over() {
        use Standing::{Errored, Failed, Known, Mended, Passed, Skipped};
        assert_eq!(on("2027-03-31", BAD), [Passed, Known, Errored, Skipped]);
        assert_eq!(on("2027-04-01", BAD), [Passed, Failed, Errored, Skipped]);
        let mended = "- { scenario: close/unread-data/good, reason: r }\n";
        assert_eq!(on("2027-03-31", mended), [Mended, Failed, Errored, Skipped]);
        let errored = "- { scenario: close/unread-data/stuck, reason: r }\n";
        assert_eq!(
            on("2027-03-31", errored),
            [Passed, Failed, Errored, Skipped]
        );
        assert_eq!(
            on("2027-03-31", "# none\n"),
            [Passed, Failed, Errored, Skipped]
        );
    }

    #[test]
    fn known_failures_are_counted_by_themselves() {
        let mut results = sample().scenarios;
        let today = super::day("2027-01-01").unwrap();
        apply(&mut results, &[], Some(&parse(BAD).unwrap()), today);
        let counts = VerdictCounts::of(&results);
        assert_eq!((counts.failed, counts.known, counts.mended), (0, 1, 0));
    }

    #[test]
    fn a_baseline_that_is_written_is_read_back() {
        let results = sample().scenarios;
        let before = parse(
            "- { scenario: close/unread-data/bad, reason: \"a: b\", until: 2027-03-31 }\n\
             - { scenario: close/unread-data/good, reason: gone }\n\
             - { scenario: other/file/name, reason: not run now }\n",
        )
        .unwrap();
        let text = baseline(&results, Some(&before));
        let read = parse(&text).unwrap();
        let told: Vec<_> = read
            .entries
            .iter()
            .map(|e| (&*e.scenario, &*e.reason))
            .collect();
        assert_eq!(
            told,
            [
                ("close/unread-data/bad", "a: b"),
                ("other/file/name", "not run now")
            ]
        );
        assert_eq!(read.entries[0].until.as_deref(), Some("2027-03-31"));
        let ids = BTreeSet::from(["close/unread-data/bad"]);
        assert_eq!(
            read.unknown(&ids).collect::<Vec<_>>(),
            ["known.yaml:6: no scenario \"other/file/name\""]
        );
    }

    #[test]
    fn what_is_wrong_with_a_baseline_is_said_with_its_place() {
        for (text, says) in [
            (
                "a: b",
                "known.yaml:1:1: baseline: a mapping isn't allowed here",
            ),
            ("- a", "known.yaml:1:3: baseline: \"a\" isn't allowed here"),
            (
                "- { scenario: a }",
                "known.yaml:1:3: baseline: \"reason\" is missing",
            ),
            (
                "- { scenaro: a }",
                "known.yaml:1:5: unknown key \"scenaro\"; did you mean",
            ),
            (
                "- { scenario: a, reason: b, until: 2027-02-30 }",
                "known.yaml:1:36: until: there is no day \"2027-02-30\"",
            ),
            (
                "- { scenario: a, reason: b }\n- { scenario: a, reason: b }",
                "known.yaml:2:3: baseline: \"a\" is there twice",
            ),
            ("- [", "known.yaml:"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{text}: {error}");
        }
    }
}
