//! The report of a harness run, as its consumer reads it.
//!
//! `harness run --report DIR` writes this format to `DIR/report.json` and
//! `advisor recommend --report` reads it. The format belongs to the reader:
//! keys may be added, never renamed; a change of meaning raises [`SCHEMA`].
//! `docs/report.schema.json` is generated from these types.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{self, DocumentError, FileFormat};
use crate::trace::{KernelEvent, Trace};

/// The version of the report format that this program writes and reads.
pub const SCHEMA: u32 = 1;

/// What one `harness run` saw.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Report {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    /// Version of the harness that wrote the report.
    #[serde(default)]
    pub harness: String,
    /// What was run, where and when.
    #[serde(default)]
    pub origin: Origin,
    /// The sysctls that every scenario starts from, pinned so that a result
    /// does not depend on the host's tuning; values as the kernel prints them.
    #[serde(default)]
    pub pinned_sysctls: BTreeMap<String, String>,
    /// What differs between kernels, or between links, where scenarios ran on
    /// several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// A result for each scenario that was asked for and each kernel, skipped
    /// ones included.
    pub scenarios: Vec<ScenarioResult>,
}

/// What a report is of: the command, the machine, the time.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct Origin {
    /// The command line.
    pub command: Vec<String>,
    /// The name of the machine that ran the harness.
    pub host: String,
    /// The release of that machine's kernel.
    pub kernel: String,
    /// When the run began, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The revision of the suites, where they are in a repository: of git, with
    /// `modified` after it where files differ from it.
    pub revision: String,
    /// Whether the run was interrupted before every scenario had ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
}

/// Something that one scenario saw on some kernels, and not on others.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Difference {
    /// The scenario.
    pub id: String,
    /// The observation; null where it is the verdict.
    pub observation: Option<String>,
    /// At least two groups; within each the values could be of one distribution.
    pub groups: Vec<Group>,
}

/// Kernels, or links, that saw the same.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Group {
    /// `6.12.117`, `6.18.44 host`, or `6.12.117 relay` where links are compared.
    pub columns: Vec<String>,
    /// What they saw.
    pub seen: Vec<Seen>,
}

/// The result of one scenario on one kernel over one kind of link.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ScenarioResult {
    /// `topic/file/name[key=value,...]`.
    pub id: String,
    /// What the scenario shows, in plain sentences, from the suite.
    #[serde(default)]
    pub explains: String,
    /// The document or the standard that states it, from the suite.
    #[serde(default)]
    pub source: String,
    /// Another scenario, such as the cure, from the suite.
    #[serde(default)]
    pub see_also: Option<String>,
    /// The kernel that the scenario ran on.
    pub kernel: Kernel,
    /// What carried the impaired link.
    pub link: Link,
    /// The verdict over all runs.
    pub verdict: Verdict,
    /// Why the verdict is not `passed`.
    #[serde(default)]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// The end of the console of a guest that gave no result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub console: Vec<String>,
    /// The runs, in the order in which they were started.
    pub runs: Vec<Run>,
    /// Runs that saw the same as another and are left out, as they are no samples of
    /// their own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub identical_runs: u64,
    /// Where the same seed gives the same runs: what else has to be the same.
    #[serde(default, skip_serializing_if = "Option::is_none", flatten)]
    pub repeatable: Option<Repeatable>,
    /// Why runs were thrown away and made again: the lab itself lost packets,
    /// so that what they saw was not what the suite asks for.
    #[serde(default)]
    pub discarded_runs: Vec<String>,
    /// Runs that were made again because they lacked what the suite says is given.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub runs_without_given: u64,
    /// Each expectation of the suite with what was seen.
    pub expectations: Vec<Expectation>,
    /// The file of the suite and the line of the scenario in it, as they were named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The scenario as a story: hosts, links, steps.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub story: String,
    /// When its first run began, in milliseconds since 1970; 0 where it is repeatable, and so
    /// the same whenever it is run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub started_ms: u64,
    /// The calls and segments of the first run that was as expected and of the first
    /// that was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Trace>,
    /// Where the failure is known: why, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_failure: Option<KnownFailure>,
}

/// A failure that people know of, and that fails no run until it is mended.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KnownFailure {
    /// Why it is there.
    pub reason: String,
    /// The day after which it counts as a failure again, `2027-03-31`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Where that is written: the suite, or a baseline.
    pub written: String,
    /// Whether the day has passed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_over: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a run depends on that can be had again, to the nanosecond.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Repeatable {
    /// True.
    pub repeatable: bool,
    /// What has to be the same.
    pub depends_on: Dependence,
}

/// What has to be the same for two runs to be the same.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Dependence {
    /// `--seed`. Each run's own seed is made of it, the scenario's id and the run's
    /// number.
    pub seed: u64,
    /// The kernel's release and build.
    pub kernel: String,
    /// QEMU, as it says itself.
    pub qemu: String,
    /// The harness's build.
    pub harness: String,
}

/// The kernel that a scenario ran on.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Kernel {
    /// As `uname -r` gives it.
    pub release: String,
    /// The host's own kernel or a guest's.
    #[serde(rename = "where")]
    pub machine: Machine,
    /// What its clock counts. Left out where it is real.
    #[serde(default, skip_serializing_if = "Clock::is_real")]
    pub clock: Clock,
}

/// What the clock of a kernel counts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Time, as everywhere.
    #[default]
    Real,
    /// Instructions: each takes the same time, and when the guest waits, its clock jumps
    /// to the next timer.
    Virtual,
}

impl Clock {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_real(&self) -> bool {
        *self == Self::Real
    }
}

/// The machine that a kernel ran on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// The kernel of the machine that ran the harness.
    Host,
    /// A guest's, on the processor itself.
    QemuKvm,
    /// A guest's, on an emulated processor: times are loose.
    QemuTcg,
}

/// What carried the impaired link of a run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// The kernel's sch_netem.
    Netem,
    /// The harness's relay in the router namespace.
    Relay,
    /// Nothing: the scenario asks for no impairment.
    None,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netem => "netem",
            Self::Relay => "relay",
            Self::None => "none",
        })
    }
}

/// The verdict on a scenario. Only [`Verdict::Passed`] is passed.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every expectation held.
    Passed,
    /// At least one expectation did not hold.
    Failed,
    /// Something could not be observed: a time limit, a lost packet in the
    /// relay's own queue, a namespace that could not be made.
    Errored,
    /// The scenario was not run, for the reason given.
    Skipped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Errored => "errored",
            Self::Skipped => "skipped",
        })
    }
}

/// What one run of a scenario saw.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Run {
    /// Dotted name to value. A counter that did not change is not listed and
    /// counts as 0.
    pub observations: BTreeMap<String, Value>,
    /// Wall-clock time of the run in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// The number of the run, from 0; the draws of its impaired links are spread
    /// from it, so a run of the same number meets the same draws.
    #[serde(default)]
    pub number: u64,
    /// Whether the draws began at the seed: netem takes one from Linux 6.6 on
    /// and ignores it in silence before; the relay always does.
    #[serde(default)]
    pub seed_honoured: bool,
    /// The sockets that were there at the end of the run, in every namespace.
    #[serde(default)]
    pub sockets: Vec<SocketLine>,
    /// Why this run gave no verdict: a time limit with where each actor stood,
    /// a relay that fell behind, a namespace that could not be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Steps that failed though nothing is expected of them, with the first error.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed_steps: BTreeMap<String, String>,
    /// Where the run breaks an expectation by itself: what the kernel told of in it, in
    /// order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<KernelEvent>,
}

/// One socket at the end of a run.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SocketLine {
    /// The host of the suite whose namespace holds the socket.
    pub host: String,
    /// The TCP state as the kernel names it, `TIME_WAIT`.
    pub state: String,
    /// Local address and port.
    pub local: String,
    /// Peer's address and port.
    pub peer: String,
    /// Bytes received and not yet read by the application.
    pub recv_queue_bytes: u64,
    /// Bytes written and not yet acknowledged by the peer.
    pub send_queue_bytes: u64,
    /// Chosen fields of the kernel's tcp_info, by the kernel's names.
    #[serde(default)]
    pub tcp_info: BTreeMap<String, u64>,
}

/// The value of an observation.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A count, bytes, pages.
    Integer(i64),
    /// Milliseconds with their fraction.
    Number(f64),
    /// An errno's name, a state, `none`.
    Text(String),
    /// Lines of the kernel log; printed once each.
    Lines(Vec<String>),
}

impl Value {
    /// The value as a number, where it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
            Self::Integer(count) => Some(*count as f64),
            Self::Number(number) => Some(*number),
            Self::Text(_) | Self::Lines(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(count) => write!(f, "{count}"),
            Self::Number(number) => write!(f, "{number:.1}"),
            Self::Text(text) => f.write_str(text),
            Self::Lines(lines) if lines.is_empty() => f.write_str("none"),
            Self::Lines(lines) => {
                // In the order in which they came, each once.
                let mut known = BTreeSet::new();
                let lines = lines.iter().map(String::as_str);
                let shown: Vec<&str> = lines.filter(|line| known.insert(*line)).collect();
                f.write_str(&shown.join("; "))
            }
        }
    }
}

impl From<i64> for Value {
    fn from(count: i64) -> Self {
        Self::Integer(count)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// An expectation of the suite with what was seen.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Expectation {
    /// The dotted name of the observation.
    pub observation: String,
    /// Over which runs the condition is to hold.
    pub quantifier: Quantifier,
    /// The condition as the suite writes it.
    pub condition: String,
    /// Whether it held; null where it could not be decided.
    pub held: Option<bool>,
    /// The values seen with the number of runs: first those that break the expectation,
    /// then the most frequent.
    #[serde(default)]
    pub seen: Vec<Seen>,
    /// Of numbers that differ: between what they lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// What was seen instead, in a plain sentence, where it did not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<String>,
    /// Why it is expected, in the suite's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The line of the suite's file that it stands on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub line: u64,
}

/// Between what the numbers of several runs lie, as they are printed.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub least: String,
    /// The lower median.
    pub median: String,
    /// The greatest.
    pub greatest: String,
}

/// A value and how many runs gave it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Seen {
    /// The value as it is printed.
    pub value: String,
    /// The number of runs that gave it.
    pub runs: usize,
    /// What it is compared with in these runs: an observation and its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
    /// Whether it breaks the expectation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub breaks: bool,
}

impl Seen {
    /// A value that so many runs gave.
    pub fn new(value: impl Into<String>, runs: usize) -> Self {
        Self {
            value: value.into(),
            runs,
            beside: None,
            breaks: false,
        }
    }
}

/// Over which runs a condition is to hold.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Quantifier {
    /// In every run.
    Always,
    /// In no run.
    Never,
    /// Every run gives one of the conditions; none of them has to appear.
    May,
    /// In at least one run; runs are added until then, up to `max_runs`.
    Sometimes,
}

impl fmt::Display for Quantifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Never => "never",
            Self::May => "may",
            Self::Sometimes => "sometimes",
        })
    }
}

/// A report, as a file.
const REPORT: FileFormat = FileFormat {
    name: "report",
    what: "a report of the harness",
    schema: SCHEMA,
    // A run of the whole catalogue writes a few megabytes.
    limit_bytes: 256 << 20,
    given: "give report.json or the directory that holds it",
    anew: "write it anew with a harness of this release: harness run --report DIR",
};

/// Reads a report: `path` is `report.json` or the directory that holds it.
pub fn read(path: &Path) -> Result<Report, DocumentError> {
    if path.is_dir() {
        document::read(&path.join("report.json"), &REPORT)
    } else {
        document::read(path, &REPORT)
    }
}

/// Parses the text of a report; `path` is for the errors.
pub fn parse(text: &str, path: &Path) -> Result<Report, DocumentError> {
    document::parse(text, path, &REPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"schema": 1, "scenarios": [{
        "id": "close/unread-data/plain-close",
        "kernel": {"release": "6.12.1", "where": "host"},
        "link": "relay", "verdict": "passed", "reason": null,
        "runs": [{"observations": {"receiver.read-to-end.bytes": 277000,
                                   "sender.close.ms": 0.5,
                                   "sender.close.error": "none"}}],
        "expectations": [{"observation": "sender.close.error",
            "quantifier": "always", "condition": "none", "held": true}]}]}"#;

    #[test]
    fn the_documented_minimum_is_a_report() {
        let report = parse(SMALL, Path::new("report.json")).unwrap();
        let run = &report.scenarios[0].runs[0];
        assert_eq!(
            run.observations["receiver.read-to-end.bytes"],
            277_000.into()
        );
        assert_eq!(run.observations["sender.close.ms"], Value::Number(0.5));
        assert_eq!(run.observations["sender.close.error"], "none".into());
    }

    #[test]
    fn another_schema_is_named_even_if_nothing_else_fits() {
        let error = parse(r#"{"schema": 2, "cases": []}"#, Path::new("r.json")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "r.json: schema 2: this program reads a report of the harness, of schema 1"
        );
    }

    #[test]
    fn a_truncated_report_says_where() {
        let error = parse(&SMALL[..SMALL.len() / 2], Path::new("r.json")).unwrap_err();
        assert!(
            matches!(error, DocumentError::Malformed { line: 5, .. }),
            "{error}"
        );
    }
}
