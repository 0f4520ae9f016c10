//! What can be wrong with a host, one rule a file, and the registry of them.
//!
//! A rule has a code and a name, both of which stay: the name is the bad
//! pattern. The first digit of the code is the topic: 1 orphaned sockets,
//! 2 closing, 3 ports and TIME_WAIT, 4 memory and dead peers.

mod close_wait_left;
mod close_with_unread_data;
mod dead_peer_holds_memory;
mod fin_timeout_lengthened;
mod fin_timeout_shortened;
mod orphan_limit_near;
mod port_held_without_listener;
mod tcp_mem_near;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::evidence::{Report, Scenario, Value, Verdict};
use crate::facts::Facts;

/// Every rule, by code.
pub const RULES: &[Rule] = &[
    orphan_limit_near::RULE,
    fin_timeout_lengthened::RULE,
    close_with_unread_data::RULE,
    close_wait_left::RULE,
    port_held_without_listener::RULE,
    fin_timeout_shortened::RULE,
    dead_peer_holds_memory::RULE,
    tcp_mem_near::RULE,
];

/// A rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its code, `LB101`.
    pub code: &'static str,
    /// The bad pattern that it finds, in kebab-case.
    pub name: &'static str,
    /// The scenario of the catalogue that replays the failure.
    pub scenario: Option<&'static str>,
    /// The scenario that shows the cure.
    pub cure: Option<&'static str>,
    /// What it is about, for people.
    pub documentation: Documentation,
    /// The check: pure, over what was read.
    pub check: fn(&Facts) -> Outcome,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug)]
pub struct Documentation {
    /// The bad pattern and what it does.
    pub detects: &'static str,
    /// What it looks at, and from where on it fires.
    pub evidence: &'static str,
    /// What it recommends, and how the value comes about.
    pub recommendation: &'static str,
    /// What following it costs.
    pub cost: &'static str,
    /// What may go wrong.
    pub risk: &'static str,
    /// How to take it back.
    pub undo: &'static str,
    /// Where each fact comes from.
    pub references: &'static [&'static str],
}

/// What a rule made of a host.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It found what it looks for.
    Fired(Vec<Finding>),
    /// It did not; what it saw instead.
    Quiet(String),
    /// It could not tell; why.
    NotEvaluated(String),
}

/// How much harm is near.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Connections or data are being lost, or are about to be.
    Critical,
    /// It will come to that if the load grows.
    Warning,
    /// Nothing is lost; a setting does not do what it is thought to do.
    Notice,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Notice => "notice",
        })
    }
}

/// Where a recommendation is to be applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A setting of the host.
    Host,
    /// The code of a program.
    Program,
}

/// What a rule found and what to do about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// How much harm is near.
    #[serde(skip)]
    pub severity: Severity,
    /// What is wrong, in a line.
    #[serde(skip)]
    pub summary: String,
    /// Why the proposal helps, and how sure that is.
    #[serde(skip)]
    pub why: String,
    /// Where it is to be applied.
    pub kind: Kind,
    /// The host, or the program by its sockets.
    pub subject: String,
    /// The setting, the socket option or the call.
    pub setting: String,
    /// What it is now, as far as that can be seen.
    pub current: String,
    /// What it should be.
    pub proposed: String,
    /// What was seen.
    pub evidence: Vec<Evidence>,
    /// What following it costs.
    pub cost: String,
    /// What may go wrong.
    pub risk: String,
    /// How to apply it.
    pub apply: String,
    /// How to take it back.
    pub undo: String,
    /// How to see that it helped.
    pub verify: String,
}

/// An observation, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// Its dotted name.
    pub observation: String,
    /// Its value.
    pub value: Value,
    /// The file of the host, or the report.
    pub source: String,
}

impl Evidence {
    fn new(observation: impl Into<String>, value: Value, source: impl Into<String>) -> Self {
        Self {
            observation: observation.into(),
            value,
            source: source.into(),
        }
    }

    /// A value of /proc/net/sockstat.
    fn sockstat(name: &str, value: i64) -> Self {
        Self::new(
            format!("kernel.sockstat.{name}"),
            value.into(),
            "/proc/net/sockstat",
        )
    }

    /// A setting, by its dotted name.
    fn sysctl(name: &str, value: Value) -> Self {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        Self::new(name, value, path)
    }

    /// How a counter has grown: in the window, where there is one, else since
    /// it began to count.
    fn counter(name: &str, facts: &Facts) -> Option<Self> {
        let file = if name.starts_with("TcpExt.") {
            "/proc/net/netstat"
        } else {
            "/proc/net/snmp"
        };
        let (grown, span) = match facts.window() {
            Some((window, _)) => (facts.grown(name)?, format!("in {}", seconds(window))),
            None => (
                facts.now.counters.get(name)?,
                facts.counters_begin().to_owned(),
            ),
        };
        let source = format!("{file}, {span}");
        Some(Self::new(format!("host.{name}"), grown.into(), source))
    }
}

/// A recommendation: what a rule found, under the rule's name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    /// The rule's code.
    pub code: &'static str,
    /// The rule's name.
    pub name: &'static str,
    /// What it found.
    #[serde(flatten)]
    pub finding: Finding,
    /// The scenario of the catalogue that replays the failure.
    pub scenario: Option<&'static str>,
}

/// What became of a rule.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RuleOutcome {
    /// Its code.
    pub code: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Whether it fired.
    pub outcome: OutcomeWord,
    /// What it saw, or why it could not tell.
    pub reason: String,
}

/// An [`Outcome`] in a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeWord {
    /// [`Outcome::Fired`]
    Fired,
    /// [`Outcome::Quiet`]
    Quiet,
    /// [`Outcome::NotEvaluated`]
    NotEvaluated,
}

/// The answer: the format of `advisor recommend --format json`. Keys may be
/// added, never renamed; a change of meaning raises [`SCHEMA`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    /// What to do, the greatest harm first.
    pub recommendations: Vec<Recommendation>,
    /// What became of each rule, by code.
    pub rules: Vec<RuleOutcome>,
}

/// The version of the format of [`Advice`].
pub const SCHEMA: u32 = 1;

/// A report of the harness and the file it was read from.
#[derive(Clone, Debug)]
pub struct NamedReport {
    /// The file, as it was given.
    pub path: PathBuf,
    /// The report.
    pub report: Report,
}

/// Applies every rule to a host. What the reports say of a rule's scenarios is
/// added to the evidence of what it found.
pub fn advise(facts: &Facts, reports: &[NamedReport]) -> Advice {
    let mut recommendations = Vec::new();
    let mut rules = Vec::new();
    for rule in RULES {
        let (outcome, reason) = match (rule.check)(facts) {
            Outcome::Fired(findings) => {
                let summaries: Vec<_> = findings
                    .iter()
                    .map(|finding| finding.summary.as_str())
                    .collect();
                let reason = summaries.join("; ");
                recommendations.extend(findings.into_iter().map(|mut finding| {
                    finding.evidence.extend(replayed(rule, facts, reports));
                    Recommendation {
                        code: rule.code,
                        name: rule.name,
                        finding,
                        scenario: rule.scenario,
                    }
                }));
                (OutcomeWord::Fired, reason)
            }
            Outcome::Quiet(reason) => (OutcomeWord::Quiet, reason),
            Outcome::NotEvaluated(reason) => (OutcomeWord::NotEvaluated, reason),
        };
        rules.push(RuleOutcome {
            code: rule.code,
            name: rule.name,
            outcome,
            reason,
        });
    }
    // Stable: within a severity the order is that of the codes.
    recommendations.sort_by_key(|recommendation| recommendation.finding.severity);
    Advice {
        schema: SCHEMA,
        recommendations,
        rules,
    }
}

/// What the reports say of the failure that a rule is about, and of its cure.
fn replayed(rule: &Rule, facts: &Facts, reports: &[NamedReport]) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    for (what, scenario) in [("failure", rule.scenario), ("cure", rule.cure)] {
        let Some(wanted) = scenario else { continue };
        for NamedReport { path, report } in reports {
            for scenario in report.scenarios.iter().filter(|scenario| {
                // One of a matrix has its values behind the name.
                scenario
                    .id
                    .strip_prefix(wanted)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
            }) {
                let source = format!(
                    "report {}: {} on kernel {} ({})",
                    path.display(),
                    scenario.id,
                    scenario.kernel.release,
                    scenario.link
                );
                evidence.push(Evidence::new(
                    format!("{what}.verdict"),
                    Value::Text(replay_verdict(scenario, &facts.kernel)),
                    &source,
                ));
                if scenario.verdict == Verdict::Passed {
                    evidence.extend(scenario.expectations.iter().map(|expectation| {
                        let seen: Vec<_> = expectation
                            .seen
                            .iter()
                            .map(|seen| match seen.runs {
                                1 => format!("{} (1 run)", seen.value),
                                runs => format!("{} ({runs} runs)", seen.value),
                            })
                            .collect();
                        let value = if seen.is_empty() {
                            format!("{} {}", expectation.quantifier, expectation.condition)
                        } else {
                            seen.join(", ")
                        };
                        Evidence::new(&expectation.observation, Value::Text(value), &source)
                    }));
                }
            }
        }
    }
    evidence
}

/// What a replay is worth on a host with kernel `release`.
fn replay_verdict(scenario: &Scenario, release: &str) -> String {
    let verdict = scenario.verdict;
    if verdict != Verdict::Passed {
        let reason = scenario
            .reason
            .as_deref()
            .map_or_else(String::new, |reason| format!(" ({reason})"));
        return format!("{verdict}{reason}: no evidence");
    }
    let runs = match scenario.runs.len() {
        1 => "1 run".to_owned(),
        runs => format!("{runs} runs"),
    };
    let line = kernel_line(release);
    let other = kernel_line(&scenario.kernel.release);
    if line == other {
        format!("{verdict} in {runs}, on the kernel line of this host ({line})")
    } else {
        format!("{verdict} in {runs}, on kernel line {other} and not this host's {line}")
    }
}

/// The line of a kernel release: `6.18` of `6.18.44-cloud`.
fn kernel_line(release: &str) -> &str {
    let end = release
        .match_indices(|c: char| !c.is_ascii_digit())
        .map(|(at, _)| at)
        .nth(1);
    &release[..end.unwrap_or(release.len())]
}

/// A window for people: `30.0 s`.
pub(crate) fn seconds(window: Duration) -> String {
    format!("{:.1} s", window.as_secs_f64())
}

/// An amount of memory for people: `64.0 KiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let Some(unit) = (1..=units.len())
        .rev()
        .find(|unit| bytes >> (10 * unit) > 0)
    else {
        return format!("{bytes} bytes");
    };
    // Tenths in whole numbers: the value may be any of 64 bits.
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, units[unit - 1])
}

/// How to set a sysctl now and for good.
fn set(name: &str, value: &str) -> String {
    format!(
        "{}; to keep it, `{name} = {value}` in a file of /etc/sysctl.d that sorts after the \
         others",
        command(name, value)
    )
}

/// How to put a sysctl back.
fn unset(name: &str, value: &str) -> String {
    format!(
        "{}; take the line out of /etc/sysctl.d",
        command(name, value)
    )
}

/// The command that sets a sysctl now.
fn command(name: &str, value: &str) -> String {
    if value.contains(' ') {
        format!("sysctl -w {name}='{value}'")
    } else {
        format!("sysctl -w {name}={value}")
    }
}

/// Why a rule about a limit of the whole kernel cannot tell.
fn not_initial_namespace(name: &str) -> Outcome {
    Outcome::NotEvaluated(format!(
        "{name} cannot be read here: only the initial network namespace has it"
    ))
}

#[cfg(test)]
mod tests;
