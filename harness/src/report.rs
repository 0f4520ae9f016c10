//! Reports results: on the terminal, in the files of [`FORMATS`] and as
//! snapshots.
//!
//! Imports runner (for its progress), links, suite and output.

pub mod github;
pub mod html;
mod json;
mod junit;
pub mod known;
mod markdown;
pub mod matrix;
pub mod origin;
pub mod outcomes;
pub mod picture;
mod sentence;
pub mod snapshot;
pub mod terminal;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use advisor_report::{
    Expectation, Origin, Report, Run, SCHEMA, ScenarioResult, Seen, Value, Verdict,
};

use crate::output;
pub use known::{Standing, standing, standing_class};
use matrix::Matrix;
pub use sentence::{describe, sentences};

/// How many scenarios have each verdict.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VerdictCounts {
    /// Every expectation held.
    pub passed: usize,
    /// An expectation did not hold.
    pub failed: usize,
    /// Something could not be observed.
    pub errored: usize,
    /// Not run.
    pub skipped: usize,
    /// Failed, as is known.
    pub known: usize,
    /// Passed, though a failure is known.
    pub mended: usize,
}

impl VerdictCounts {
    /// Counts results.
    pub fn of(scenarios: &[ScenarioResult]) -> Self {
        let count = |wanted| {
            scenarios
                .iter()
                .filter(|one| standing(one) == wanted)
                .count()
        };
        Self {
            passed: count(Standing::Passed),
            failed: count(Standing::Failed),
            errored: count(Standing::Errored),
            skipped: count(Standing::Skipped),
            known: count(Standing::Known),
            mended: count(Standing::Mended),
        }
    }

    /// Those that make a run fail.
    pub fn bad(&self) -> usize {
        self.failed + self.errored + self.mended
    }

    /// Those that ran.
    pub fn ran(&self) -> usize {
        self.passed + self.known + self.bad()
    }

    /// In words; known failures only where there are some.
    pub fn words(&self) -> String {
        let mut words = format!(
            "{} passed, {} failed, {} errored, {} skipped",
            self.passed, self.failed, self.errored, self.skipped
        );
        for (count, what) in [(self.known, "known to fail"), (self.mended, "mended")] {
            if count > 0 {
                let _ = write!(words, ", {count} {what}");
            }
        }
        words
    }
}

/// The report of results.
pub fn assemble(
    scenarios: Vec<ScenarioResult>,
    pinned_sysctls: BTreeMap<String, String>,
    origin: Origin,
) -> Report {
    let differences = Matrix::of(&scenarios)
        .map(|matrix| matrix.differences())
        .unwrap_or_default();
    Report {
        schema: SCHEMA,
        harness: env!("CARGO_PKG_VERSION").to_owned(),
        origin,
        pinned_sysctls,
        differences,
        scenarios,
    }
}

/// A format of the report, written to one file.
pub trait Format: Sync {
    /// The file's name.
    fn file(&self) -> &'static str;

    /// The file's content.
    fn render(&self, report: &Report) -> io::Result<String>;
}

/// All formats.
pub static FORMATS: &[&dyn Format] =
    &[&json::Json, &html::Html, &markdown::Markdown, &junit::Junit];

/// Writes the report in all [`FORMATS`] to a directory, which is made where it
/// isn't there.
pub fn write(report: &Report, directory: &Path) -> io::Result<()> {
    FORMATS.iter().try_for_each(|format| {
        let content = format.render(report)?;
        output::write(&directory.join(format.file()), content.as_bytes())
    })
}

/// Whether an expectation held, in words.
fn describe_held(expectation: &Expectation) -> &'static str {
    match expectation.held {
        Some(true) => "held",
        Some(false) => "not held",
        None => "not observed",
    }
}

/// Values that are shown; more are only counted.
const SHOWN: usize = 3;

/// What was seen of an expectation, and between what its numbers lie where not all of
/// them are shown.
fn describe_expectation(expectation: &Expectation) -> String {
    let seen = describe_seen(&expectation.seen);
    match &expectation.spread {
        Some(spread) if expectation.seen.len() > SHOWN => format!(
            "{seen}; least {}, median {}, greatest {}",
            spread.least, spread.median, spread.greatest
        ),
        _ => seen,
    }
}

/// What was seen: `277000 (3 of 5), 541200 (2 of 5)`.
pub fn describe_seen(seen: &[Seen]) -> String {
    let total: usize = seen.iter().map(|seen| seen.runs).sum();
    let mut parts: Vec<String> = seen
        .iter()
        .take(SHOWN)
        .map(|seen| {
            let value = match &seen.beside {
                Some(beside) => format!("{} with {beside}", seen.value),
                None => seen.value.clone(),
            };
            match total {
                total if total == seen.runs => value,
                _ => format!("{value} ({} of {total})", seen.runs),
            }
        })
        .collect();
    match seen.len().saturating_sub(SHOWN) {
        0 => {}
        1 => parts.push("1 other value".to_owned()),
        others => parts.push(format!("{others} other values")),
    }
    if parts.is_empty() {
        return "nothing".to_owned();
    }
    parts.join(", ")
}

/// For a scenario that is not as expected: the number of the first run that breaks an
/// expectation by itself, and what the kernel told of in it, a line each.
fn kernel_events(scenario: &ScenarioResult) -> Option<(u64, Vec<String>)> {
    if !matches!(scenario.verdict, Verdict::Failed | Verdict::Errored) {
        return None;
    }
    let run = scenario.runs.iter().find(|run| !run.events.is_empty())?;
    let lines = run.events.iter().map(|event| {
        let by = event.actor.iter().map(|actor| format!(", by {actor}"));
        let by: String = by.collect();
        let connection = event.connection.iter().map(|ends| format!(", {ends}"));
        let connection: String = connection.collect();
        let (at, host, words) = (picture::time(event.at_us), &event.host, event.words());
        format!("{at:>9} {host} {words}{by}{connection}")
    });
    Some((run.number, lines.collect()))
}

/// For a scenario that is not as expected, by actor: the last lines that each
/// command printed in the first run in which a command ended before it was
/// ready.
fn printed(scenario: &ScenarioResult) -> Vec<(&str, &[String])> {
    /// Lines of each that are shown.
    const SHOWN: usize = 5;
    if !matches!(scenario.verdict, Verdict::Failed | Verdict::Errored) {
        return Vec::new();
    }
    let ended = Value::Text("ECHILD".to_owned());
    let ended_early = |run: &&Run| run.observations.values().any(|value| *value == ended);
    let Some(run) = scenario.runs.iter().find(ended_early) else {
        return Vec::new();
    };
    let outputs = run.observations.iter().filter_map(|(name, value)| {
        let Value::Lines(lines) = value else {
            return None;
        };
        let actor = name.strip_suffix(".output")?;
        Some((actor, &lines[lines.len().saturating_sub(SHOWN)..]))
    });
    outputs.filter(|(_, lines)| !lines.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use advisor_report::{Clock, Kernel, Link, Machine, Quantifier, Run, Seen, Trace};

    use super::*;

    #[test]
    fn a_program_that_did_not_start_is_quoted() {
        let lines = |lines: &[&str]| Value::Lines(lines.iter().map(ToString::to_string).collect());
        let run = |error: &str, said: &[&str]| Run {
            observations: BTreeMap::from([
                ("nginx.output".to_owned(), lines(said)),
                ("backend.output".to_owned(), lines(&[])),
                ("kernel.log".to_owned(), lines(&["TCP: out of memory"])),
                (
                    "lab.restart.error".to_owned(),
                    Value::Text(error.to_owned()),
                ),
            ]),
            ..Run::default()
        };
        let mut scenario = sample().scenarios.remove(1);
        scenario.runs = vec![
            run("none", &["it runs"]),
            run("ECHILD", &["1", "2", "3", "4", "5", "address in use"]),
        ];
        let last = ["2", "3", "4", "5", "address in use"].map(str::to_owned);
        assert_eq!(printed(&scenario), [("nginx", &last[..])]);
        scenario.verdict = Verdict::Passed;
        assert_eq!(printed(&scenario), []);
        scenario.verdict = Verdict::Failed;
        scenario.runs.pop();
        assert_eq!(printed(&scenario), []);
    }

    fn sample_runs(verdict: Verdict) -> Vec<Run> {
        let first = Run {
            seed_honoured: verdict == Verdict::Passed,
            ..Run::default()
        };
        let second = Run {
            number: 1,
            seed_honoured: true,
            events: match verdict {
                Verdict::Failed => picture::tests::sample_events(),
                _ => vec![],
            },
            ..Run::default()
        };
        match verdict {
            Verdict::Skipped => vec![],
            _ => vec![first, second],
        }
    }

    /// A report with one scenario of each verdict.
    pub(crate) fn sample() -> Report {
        let scenario = |name: &str, verdict, reason: Option<&str>, held| ScenarioResult {
            id: format!("close/unread-data/{name}"),
            explains: "close() with unread data resets the connection.".to_owned(),
            source: "RFC 1122 section 4.2.2.13".to_owned(),
            see_also: (verdict == Verdict::Failed).then(|| "close/unread-data/good".to_owned()),
            kernel: Kernel {
                release: "6.12.1".to_owned(),
                machine: Machine::Host,
                clock: Clock::Real,
            },
            link: Link::Relay,
            verdict,
            reason: reason.map(str::to_owned),
            hint: reason.map(|_| "look at it".to_owned()),
            runs: sample_runs(verdict),
            console: match verdict {
                Verdict::Errored => vec!["Kernel panic - not syncing".to_owned()],
                _ => vec![],
            },
            identical_runs: 0,
            repeatable: None,
            discarded_runs: match verdict {
                Verdict::Errored => vec!["the relay towards server lost 3 packets".to_owned()],
                _ => vec![],
            },
            runs_without_given: 0,
            expectations: match verdict {
                Verdict::Skipped => vec![],
                _ => vec![Expectation {
                    observation: "receiver.read-to-end.bytes".to_owned(),
                    quantifier: Quantifier::Sometimes,
                    condition: "< 1000000".to_owned(),
                    held,
                    seen: vec![Seen::new("1000000", 2), Seen::new("not | observed", 1)],
                    spread: None,
                    plain: (held == Some(false))
                        .then(|| "got 1000000 bytes in 2 of 3 runs, expected < 1000000".to_owned()),
                    because: Some("The greeting is <unread>.".to_owned()),
                    line: 12,
                }],
            },
            place: Some("suites/close/unread-data.yaml:7".to_owned()),
            story: format!("close/unread-data/{name}\n\n| a story & more"),
            started_ms: 1_796_038_708_000,
            traces: match verdict {
                Verdict::Failed => vec![
                    picture::tests::sample_trace(),
                    Trace {
                        as_expected: true,
                        run: 0,
                        ..picture::tests::sample_trace()
                    },
                ],
                _ => vec![],
            },
            known_failure: None,
        };
        assemble(
            vec![
                scenario("good", Verdict::Passed, None, Some(true)),
                scenario(
                    "bad",
                    Verdict::Failed,
                    Some("bytes is not < 1000000"),
                    Some(false),
                ),
                scenario("stuck", Verdict::Errored, Some("time limit of 20s"), None),
                scenario(
                    "whole-machine",
                    Verdict::Skipped,
                    Some("it sets tcp_max_orphans"),
                    None,
                ),
            ],
            [("net.ipv4.tcp_sack".to_owned(), "1".to_owned())].into(),
            Origin {
                command: ["harness", "run", "suites", "--report", "out"]
                    .map(str::to_owned)
                    .into(),
                host: "web1".to_owned(),
                kernel: "6.12.1".to_owned(),
                started_ms: 1_796_038_708_000,
                duration_ms: 61_234,
                revision: "64ea03d86b0a modified".to_owned(),
                interrupted: false,
            },
        )
    }

    #[test]
    fn each_form_of_the_report_is_as_recorded() {
        let report = sample();
        // The page has tests of its own.
        for format in FORMATS
            .iter()
            .filter(|format| format.file() != "report.html")
        {
            insta::assert_snapshot!(format.file(), format.render(&report).unwrap());
        }
        let lines: Vec<String> = report
            .scenarios
            .iter()
            .map(|scenario| terminal::describe(scenario, true))
            .chain([terminal::summary(&report.scenarios)])
            .collect();
        insta::assert_snapshot!("terminal", anstream::adapter::strip_str(&lines.join("\n")));
    }

    #[test]
    fn why_scenarios_were_skipped_is_said_once_for_all_of_them() {
        let mut scenarios = sample().scenarios;
        let skipped = scenarios.pop().unwrap();
        assert_eq!(terminal::reasons(&scenarios), None);
        assert_eq!(
            anstream::adapter::strip_str(&terminal::describe(&skipped, false)).to_string(),
            format!("skipped {}", skipped.id)
        );
        let other = ScenarioResult {
            reason: Some("it sets tcp_mem".to_owned()),
            ..skipped.clone()
        };
        scenarios.extend([skipped.clone(), other, skipped]);
        insta::assert_snapshot!(
            anstream::adapter::strip_str(&terminal::reasons(&scenarios).unwrap()),
            @r"
        skipped because
            it sets tcp_max_orphans (2)
            it sets tcp_mem (1)
            hint: look at it
        "
        );
    }

    #[test]
    fn a_run_on_two_kernels_is_reported_with_its_difference() {
        use crate::runner::scripted::{jobs, run, scenarios, scripted};
        let scenarios = scenarios(&["same", "differs"]);
        let guests = scripted(2, &[("differs", &[Verdict::Failed])]);
        let jobs = jobs(&scenarios, &["6.12.1"]);
        let outcome = run(&jobs, scripted(2, &[]), Ok(guests), false, &|_| {}).unwrap();
        let report = assemble(outcome.results, BTreeMap::new(), Origin::default());
        assert_eq!(report.differences.len(), 1);
        assert_eq!(report.differences[0].id, "t/f/differs");
        let counts = VerdictCounts::of(&report.scenarios);
        assert_eq!((counts.passed, counts.failed), (3, 1));
        for format in FORMATS {
            let text = format.render(&report).unwrap();
            assert!(text.contains("6.12.1"), "{}", format.file());
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let report = sample();
        write(&report, &directory.path().join("made/anew")).unwrap();
        let read = advisor_report::read(&directory.path().join("made/anew")).unwrap();
        assert_eq!(read, report);
        for format in FORMATS {
            assert!(
                directory
                    .path()
                    .join("made/anew")
                    .join(format.file())
                    .exists()
            );
        }
    }
}
