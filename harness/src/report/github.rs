//! What GitHub Actions shows of a run: annotations at the lines of the suite, and the
//! summary of a step.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use advisor_report::escape::{escaped, inert};
use advisor_report::{Report, ScenarioResult, Verdict};

use super::picture::shortened;
use super::{Standing, VerdictCounts, sentences, standing};

/// GitHub shows ten annotations of a kind for a step.
const MOST_ANNOTATIONS: usize = 10;
/// The longest message of one, in characters.
const LONGEST: usize = 1000;
/// Bytes of a step's summary at most; GitHub refuses more than a mebibyte.
const MOST_SUMMARY_BYTES: usize = 900 << 10;

/// Whether this process runs in a step of GitHub Actions.
pub fn is_here() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

/// Where GitHub takes paths from.
pub fn workspace() -> Option<PathBuf> {
    std::env::var_os("GITHUB_WORKSPACE").map(PathBuf::from)
}

/// The annotations: a line for each expectation that did not hold. Paths are those from
/// the workspace.
pub fn annotations(report: &Report, workspace: Option<&Path>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = 0;
    for result in &report.scenarios {
        let (level, messages): (&str, Vec<(u64, String)>) = match standing(result) {
            Standing::Failed => ("error", broken(result)),
            Standing::Errored => ("error", vec![(0, reason(result))]),
            Standing::Mended => {
                let message = "it passes, though its failure is known: take expected-failure or \
                               its entry of the baseline out";
                ("error", vec![(0, message.to_owned())])
            }
            Standing::Known => ("notice", vec![(0, known(result))]),
            Standing::Passed | Standing::Skipped => continue,
        };
        for (line, message) in messages {
            if lines.len() == MOST_ANNOTATIONS {
                left += 1;
                continue;
            }
            let (file, own) = place(result, workspace);
            let line = if line == 0 { own } else { line };
            let title = format!("{} (Linux {})", result.id, result.kernel.release);
            let mut text = format!("::{level} ");
            if let Some(file) = file {
                let _ = write!(text, "file={},line={line},", property(&file));
            }
            let message = shortened(&message, LONGEST);
            let _ = write!(text, "title={}::{}", property(&title), data(&message));
            lines.push(text);
        }
    }
    if left > 0 {
        lines.push(format!(
            "::notice title=More::{left} more are in the report"
        ));
    }
    lines
}

fn broken(result: &ScenarioResult) -> Vec<(u64, String)> {
    let sentences = sentences(&result.expectations);
    let broken = result
        .expectations
        .iter()
        .filter(|one| one.held == Some(false));
    sentences
        .into_iter()
        .zip(broken)
        .map(|(mut sentence, expectation)| {
            if let Some(because) = &expectation.because {
                let _ = write!(sentence, ". {because}");
            }
            (expectation.line, sentence)
        })
        .collect()
}

fn reason(result: &ScenarioResult) -> String {
    let mut text = result.reason.clone().unwrap_or_default();
    if let Some(hint) = &result.hint {
        let _ = write!(text, "; hint: {hint}");
    }
    text
}

fn known(result: &ScenarioResult) -> String {
    let known = result.known_failure.as_ref();
    let reason = known.map_or("", |known| known.reason.as_str());
    format!("it fails, as is known: {reason}")
}

/// The file of a scenario from the workspace, and its line.
fn place(result: &ScenarioResult, workspace: Option<&Path>) -> (Option<String>, u64) {
    let Some((file, line)) = result
        .place
        .as_ref()
        .and_then(|place| place.rsplit_once(':'))
    else {
        return (None, 1);
    };
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.into());
    let below = workspace.and_then(|workspace| whole.strip_prefix(workspace).ok());
    let file = below.unwrap_or(Path::new(file)).display().to_string();
    (Some(file), line.parse().unwrap_or(1))
}

/// A message as a workflow command takes it.
fn data(text: &str) -> String {
    inert(text).replace('%', "%25")
}

/// A property of a workflow command, which also ends at `:` and `,`.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// The summary of a step, as Markdown.
pub fn summary(report: &Report) -> String {
    let counts = VerdictCounts::of(&report.scenarios);
    let mut text = format!("### {}\n\n", counts.words());
    let bad = report.scenarios.iter().filter(|result| {
        let standing = standing(result);
        matches!(
            standing,
            Standing::Failed | Standing::Errored | Standing::Mended
        )
    });
    for result in bad {
        if text.len() > MOST_SUMMARY_BYTES {
            text.push_str("\nMore are in the report.\n");
            break;
        }
        let _ = writeln!(
            text,
            "**{}** on Linux {}: {}\n",
            escaped(&result.id),
            escaped(&result.kernel.release),
            super::standing_class(result)
        );
        for (_, message) in match result.verdict {
            Verdict::Failed => broken(result),
            _ => vec![(0, reason(result))],
        } {
            let _ = writeln!(text, "- {}", escaped(&shortened(&message, LONGEST)));
        }
        text.push('\n');
    }
    let known: Vec<&ScenarioResult> = report
        .scenarios
        .iter()
        .filter(|one| standing(one) == Standing::Known)
        .collect();
    if !known.is_empty() {
        text.push_str("Known failures:\n\n");
        for result in known {
            let reason = known_reason(result);
            let _ = writeln!(text, "- {}: {}", escaped(&result.id), escaped(&reason));
        }
        text.push('\n');
    }
    let skipped = report
        .scenarios
        .iter()
        .filter(|one| one.verdict == Verdict::Skipped);
    let mut reasons: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for result in skipped {
        *reasons
            .entry(result.reason.as_deref().unwrap_or_default())
            .or_default() += 1;
    }
    if !reasons.is_empty() {
        text.push_str("Skipped:\n\n");
        for (reason, count) in reasons {
            let _ = writeln!(text, "- {count}: {}", escaped(reason));
        }
        text.push('\n');
    }
    text
}

fn known_reason(result: &ScenarioResult) -> String {
    let known = result.known_failure.as_ref();
    known.map_or_else(String::new, |known| match &known.until {
        Some(until) => format!("{} (until {until})", known.reason),
        None => known.reason.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn each_failure_is_an_annotation_at_its_line() {
        let here = std::env::current_dir().unwrap();
        let lines = annotations(&sample(), Some(&here));
        assert_eq!(
            lines,
            [
                "::error file=suites/close/unread-data.yaml,line=12,title=close/unread-data/bad \
                 (Linux 6.12.1)::got 1000000 bytes in 2 of 3 runs, expected < 1000000. The \
                 greeting is <unread>.",
                "::error file=suites/close/unread-data.yaml,line=7,title=close/unread-data/stuck \
                 (Linux 6.12.1)::time limit of 20s; hint: look at it",
            ]
        );
    }

    #[test]
    fn nothing_from_elsewhere_is_a_workflow_command() {
        let mut report = sample();
        let evil = "x\n::set-env name=A::b\r%0A,:\u{1b}";
        report.scenarios[1].id = evil.to_owned();
        report.scenarios[1].expectations[0].plain = Some(evil.to_owned());
        report.scenarios[1].place = Some(format!("{evil}:3"));
        report.scenarios[2].reason = Some(evil.to_owned());
        let lines = annotations(&report, None);
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(!line.contains(['\n', '\r', '\u{1b}']), "{line}");
            assert!(!line.contains("%0A"), "{line}");
            let properties = line
                .strip_prefix("::error ")
                .unwrap()
                .split("::")
                .next()
                .unwrap();
            assert!(!properties.contains("::"), "{line}");
        }
        assert!(!summary(&report).contains("\n::"));
    }

    #[test]
    fn annotations_and_the_summary_have_an_end() {
        let mut report = sample();
        let bad = report.scenarios[1].clone();
        report.scenarios = vec![bad; 20_000];
        assert_eq!(annotations(&report, None).len(), MOST_ANNOTATIONS + 1);
        assert!(summary(&report).len() < 1 << 20);
    }

    #[test]
    fn the_summary_says_what_failed_and_what_was_skipped() {
        let text = summary(&sample());
        assert!(
            text.starts_with("### 1 passed, 1 failed, 1 errored, 1 skipped\n"),
            "{text}"
        );
        assert!(text.contains("The greeting is \\<unread\\>."), "{text}");
        assert!(text.contains("- 1: it sets tcp\\_max\\_orphans"), "{text}");
    }
}
