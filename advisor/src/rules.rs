//! What can be wrong with a host, one rule a file, and the registry of them.
//!
//! A rule has a code and a name, both of which stay: the name is the bad
//! pattern. The first digit of the code is the topic: 1 orphaned sockets,
//! 2 closing, 3 ports and TIME_WAIT, 4 memory and dead peers, 5 listeners,
//! 6 the files of settings.

mod abort_on_overflow;
mod accept_queue_full;
mod buffers_raised_under_pressure;
mod cgroup;
mod cgroup_limit_near;
mod cgroup_slowed_down;
mod close_wait_left;
mod close_with_unread_data;
mod data_retries_few;
mod dead_peer_holds_memory;
mod file_differs_from_live;
mod file_holds_wrong_value;
pub(crate) mod file_line_not_understood;
pub(crate) mod file_line_overruled;
mod fin_timeout_lengthened;
mod fin_timeout_shortened;
mod idle_without_keepalive;
mod linger_set;
mod listen_queue_overflows;
mod listener_without_reuseaddr;
mod orphan_limit_beyond_memory;
mod orphan_limit_lowered;
mod orphan_limit_near;
mod orphan_retries_misread;
mod port_held_without_listener;
mod ports_run_out;
mod program;
mod reset_for_memory;
mod send_buffer_oversized;
pub(crate) mod setting_unknown_here;
mod sizing;
mod somaxconn_low;
mod stalled_peer_holds_memory;
mod syncookies_off;
mod tcp_mem_beside_owner;
mod tcp_mem_beyond_ram;
mod tcp_mem_far_from_default;
mod tcp_mem_in_bytes;
mod tcp_mem_near;
mod tcp_mem_out_of_order;
mod time_wait_ignores_resets;
mod tw_buckets_few;
mod tw_buckets_overflow;
mod tw_reuse_without_timestamps;
mod unread_data_holds_memory;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use advisor_facts::release::kernel_line;
use advisor_facts::sysctl_files::Assignment;
use advisor_facts::units::{bytes, seconds};
use advisor_facts::{Facts, Place};
use advisor_report::measured::Measured;
use advisor_report::{Report, Scenario, Value, Verdict};

/// Every rule, by code.
pub const RULES: &[Rule] = &[
    orphan_limit_near::RULE,
    fin_timeout_lengthened::RULE,
    orphan_limit_beyond_memory::RULE,
    orphan_retries_misread::RULE,
    reset_for_memory::RULE,
    orphan_limit_lowered::RULE,
    close_with_unread_data::RULE,
    close_wait_left::RULE,
    linger_set::RULE,
    port_held_without_listener::RULE,
    fin_timeout_shortened::RULE,
    ports_run_out::RULE,
    tw_buckets_overflow::RULE,
    tw_buckets_few::RULE,
    tw_reuse_without_timestamps::RULE,
    time_wait_ignores_resets::RULE,
    dead_peer_holds_memory::RULE,
    tcp_mem_near::RULE,
    stalled_peer_holds_memory::RULE,
    unread_data_holds_memory::RULE,
    send_buffer_oversized::RULE,
    idle_without_keepalive::RULE,
    cgroup_limit_near::RULE,
    cgroup_slowed_down::RULE,
    tcp_mem_in_bytes::RULE,
    tcp_mem_out_of_order::RULE,
    tcp_mem_beyond_ram::RULE,
    tcp_mem_far_from_default::RULE,
    tcp_mem_beside_owner::RULE,
    buffers_raised_under_pressure::RULE,
    data_retries_few::RULE,
    accept_queue_full::RULE,
    listener_without_reuseaddr::RULE,
    listen_queue_overflows::RULE,
    somaxconn_low::RULE,
    abort_on_overflow::RULE,
    syncookies_off::RULE,
    setting_unknown_here::RULE,
    file_line_overruled::RULE,
    file_differs_from_live::RULE,
    file_holds_wrong_value::RULE,
    file_line_not_understood::RULE,
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
    pub check: fn(&Facts, &Measured) -> Outcome,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, Serialize)]
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
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
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

/// How sure a recommendation is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// What was seen leaves no other explanation: a value, a count at a limit.
    High,
    /// It rests on a formula, a worst case or a sample in part.
    Medium,
    /// It may be meant, or have another cause; look before you follow it.
    Low,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
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
    /// A setting of the host, which helps only with a change of a program.
    Both,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "a setting of the host",
            Self::Program => "a change of a program",
            Self::Both => "a host's setting and a program",
        })
    }
}

/// What a rule found and what to do about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// How much harm is near.
    pub severity: Severity,
    /// How sure it is.
    pub confidence: Confidence,
    /// What is wrong, in a line.
    pub summary: String,
    /// Why the proposal helps.
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
        let file = counter_file(name);
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

    /// How a counter of a network namespace has grown in the window.
    fn counter_at(place: &Place<'_>, name: &str, window: Duration) -> Option<Self> {
        let mut source = counter_file(name).to_owned();
        if let Some(namespace) = place.namespace {
            source = format!("{source} of {}", namespace.label());
        }
        Some(Self::new(
            format!("host.{name}"),
            place.grown(name)?.into(),
            format!("{source}, in {}", seconds(window)),
        ))
    }
}

/// The file that a counter stands in.
fn counter_file(name: &str) -> &'static str {
    if name.starts_with("TcpExt.") {
        "/proc/net/netstat"
    } else {
        "/proc/net/snmp"
    }
}

/// A report of the harness and the file it was read from.
#[derive(Clone, Debug)]
pub struct NamedReport {
    /// The file, as it was given.
    pub path: PathBuf,
    /// The report.
    pub report: Report,
}

/// What the reports say of the failure that a rule is about, and of its cure.
pub(crate) fn replayed(rule: &Rule, facts: &Facts, reports: &[NamedReport]) -> Vec<Evidence> {
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

/// The proposal to do away with a line of a file.
pub(crate) const TAKE_OUT: &str = "take the line out";

/// How to set a sysctl now and for good.
fn set(name: &str, value: &str) -> String {
    format!(
        "{}; to keep it, `{name} = {value}` in a file of /etc/sysctl.d that sorts after the \
         others",
        command(name, value)
    )
}

/// How to set a sysctl now and for good, and how to put it back, where a file
/// may set it already.
pub(crate) fn there_and_back(facts: &Facts, name: &str, proposed: &str) -> (String, String) {
    let current = facts.settings.get(name).unwrap_or_default();
    let files = &facts.sysctl_files;
    match files.winner(files.loader(), name) {
        Some(line) => (
            format!("{}; to keep it, change {line}", command(name, proposed)),
            format!("{}; put {line} back", command(name, &current)),
        ),
        None => (set(name, proposed), unset(name, &current)),
    }
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

impl Finding {
    /// What is the same in all that is found about the value of a setting; the
    /// rule adds what is wrong, why, and how to see that it helped.
    fn of_setting(
        facts: &Facts,
        documentation: &Documentation,
        name: &'static str,
        proposed: &str,
    ) -> Self {
        let current = facts.settings.get(name).unwrap_or_default();
        let mut evidence = vec![Evidence::sysctl(name, current.as_str().into())];
        let files = &facts.sysctl_files;
        if let Some(line) = files.winner(files.loader(), name) {
            evidence.push(Evidence::new(
                line.to_string(),
                line.value.into(),
                "the files that set sysctls at boot",
            ));
        }
        let (apply, undo) = there_and_back(facts, name, proposed);
        Self {
            severity: Severity::Notice,
            confidence: Confidence::High,
            summary: String::new(),
            why: String::new(),
            kind: Kind::Host,
            subject: scope(name).to_owned(),
            setting: name.to_owned(),
            proposed: proposed.to_owned(),
            evidence,
            cost: documentation.cost.to_owned(),
            risk: documentation.risk.to_owned(),
            apply,
            undo,
            verify: format!("sysctl {name} says {proposed}"),
            current,
        }
    }
}

impl Finding {
    /// What is the same in all that is found about a line of a file.
    fn of_line(
        facts: &Facts,
        documentation: &Documentation,
        line: &Assignment<'_>,
        proposed: String,
    ) -> Self {
        let mut evidence = vec![Evidence::new(
            line.to_string(),
            format!("{} = {}", line.key, line.value).as_str().into(),
            "the files that set sysctls at boot",
        )];
        let live = facts.sysctl_files.live.get(line.key);
        evidence.extend(
            live.and_then(Option::as_deref)
                .map(|live| Evidence::sysctl(line.key, live.into())),
        );
        let file = line.path.display();
        Self {
            severity: Severity::Notice,
            confidence: Confidence::High,
            summary: String::new(),
            why: String::new(),
            kind: Kind::Host,
            subject: "the files that set sysctls at boot".to_owned(),
            setting: line.to_string(),
            current: format!("{} = {}", line.key, line.value),
            evidence,
            cost: documentation.cost.to_owned(),
            risk: documentation.risk.to_owned(),
            apply: if proposed == TAKE_OUT {
                format!("take line {} out of {file}", line.line)
            } else {
                format!("write `{proposed}` in line {} of {file}", line.line)
            },
            undo: documentation.undo.to_owned(),
            verify: String::new(),
            proposed,
        }
    }
}

/// Why a rule about what a counter does cannot tell from one look.
fn needs_a_window(counter: &str, facts: &Facts) -> Outcome {
    let name = counter.split_once('.').map_or(counter, |(_, name)| name);
    let so_far = facts.now.counters.get(counter).map_or_else(
        || format!("{name} is not counted by this kernel"),
        |count| format!("{name} {}: {count}", facts.counters_begin()),
    );
    Outcome::NotEvaluated(format!("needs a window: --over 30s ({so_far})"))
}

/// How many a minute `count` in a window come to, rounded up.
fn a_minute(count: i64, window: Duration) -> i64 {
    let milliseconds = i128::try_from(window.as_millis())
        .unwrap_or(i128::MAX)
        .max(1);
    let rate = (i128::from(count) * 60_000 + milliseconds - 1) / milliseconds;
    i64::try_from(rate).unwrap_or(i64::MAX)
}

/// Whose setting it is: a few exist once for all network namespaces.
fn scope(name: &str) -> &'static str {
    match name {
        "net.ipv4.tcp_mem"
        | "net.ipv4.tcp_max_orphans"
        | "net.core.rmem_max"
        | "net.core.wmem_max"
        | "net.core.mem_pcpu_rsv" => "the whole kernel",
        _ => "this network namespace",
    }
}

/// Why a rule about a setting cannot tell.
fn cannot_be_read(name: &str) -> Outcome {
    Outcome::NotEvaluated(format!("{name} cannot be read"))
}

#[cfg(test)]
mod tests;
