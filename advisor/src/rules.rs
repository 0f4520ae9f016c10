//! The rules: each finds one bad pattern on a host and recommends what to do.
//!
//! A rule is one file, `rules/NAME.rs`, and one line in `rules!` below. Its code and its
//! name never change. The name says the bad pattern. The first digit of the code says
//! the topic: 1 orphaned sockets, 2 closing, 3 ports and TIME_WAIT, 4 memory and dead
//! peers, 5 listeners, 6 files of settings, 7 connection tracking, throughput and the
//! path.

mod apply;
mod cgroup;
pub(crate) mod files;
mod finding;
mod in_namespace;
mod keepalive;
mod left;
mod log_line;
mod near_misses;
mod orphan_cost;
mod past;
mod program;
mod replayed;
#[cfg(test)]
mod reported_hosts;
mod retransmission;
mod sizing;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod witnessed;

use std::fmt;
use std::time::Duration;

use advisor_facts::Facts;
use advisor_report::measured::Measured;
pub use advisor_report::proof::Harm;
use serde::Serialize;

use apply::command;
pub(crate) use apply::{TAKE_OUT, there_and_back};
pub use finding::{AppliesTo, Confidence, Evidence, Finding, Severity};
use in_namespace::in_each_namespace;
pub(crate) use in_namespace::{Placed, grouped};
pub use log_line::{LedTo, LogLine, led_to};
pub use near_misses::NearMiss;
pub(crate) use near_misses::near_misses;
pub use replayed::NamedReport;
pub(crate) use replayed::replayed;
#[cfg(test)]
pub(crate) use testing::{host as recorded_host, moved_to_namespace};

/// The source of a value that a step of the plan gives a setting.
pub(crate) const PLANNED_VALUE: &str = "another step of this plan";

/// Declares the module of each rule and the registry. The lines are sorted by code.
macro_rules! rules {
    ($($name:ident)*) => {
        $(pub(crate) mod $name;)*

        /// Every rule, by code.
        pub const RULES: &[Rule] = &[$($name::RULE),*];

        /// For each of [`RULES`] a host that it fires on.
        #[cfg(test)]
        const FIRING: &[fn() -> Facts] = &[$($name::tests::firing),*];
    };
}

rules! {
    orphan_limit_near
    fin_timeout_lengthened
    orphan_limit_beyond_memory
    orphan_retries_misread
    reset_for_memory
    orphan_limit_lowered
    close_with_unread_data
    close_wait_left
    linger_set
    half_closed_left
    port_held_without_listener
    fin_timeout_shortened
    ports_run_out
    listener_in_port_range
    connected_to_itself
    tw_buckets_overflow
    tw_buckets_few
    tw_reuse_without_timestamps
    time_wait_ignores_resets
    tw_recycle_on
    dead_peer_holds_memory
    tcp_mem_near
    stalled_peer_holds_memory
    unread_data_holds_memory
    send_buffer_oversized
    idle_without_keepalive
    cgroup_limit_near
    cgroup_slowed_down
    tcp_mem_in_bytes
    tcp_mem_out_of_order
    tcp_mem_beyond_ram
    tcp_mem_far_from_default
    tcp_mem_beside_owner
    buffers_raised_under_pressure
    data_retries_few
    request_unanswered
    least_buffers_raised
    buffers_out_of_order
    udp_mem_in_bytes
    receive_queue_pruned
    idle_past_middlebox
    connect_unanswered
    accept_queue_full
    listener_without_reuseaddr
    accept_queue_stuck
    descriptors_near_limit
    file_table_near_limit
    listen_queue_overflows
    somaxconn_low
    abort_on_overflow
    syncookies_off
    syn_queue_full
    setting_unknown_here
    file_line_overruled
    file_differs_from_live
    file_holds_wrong_value
    file_line_not_understood
    value_refused
    conntrack_near_limit
    conntrack_forgets_idle
    softnet_drops
    socket_backlog_drops
    peer_window_limits
    send_buffer_limits
    buffers_lowered
    window_scaling_off
    sack_off
    receive_autotuning_off
    retransmissions_many
    path_mtu_black_hole
    send_queue_refused
}

/// The rules that settings alone answer: all that is asked of a dump of settings, which has
/// nothing else.
const SETTINGS_TELL: &[&str] = &[
    "LB102", "LB302", "LB311", "LB312", "LB314", "LB315", "LB410", "LB411", "LB416", "LB418",
    "LB419", "LB420", "LB511", "LB512", "LB513", "LB723", "LB724", "LB725",
];

/// For each rule a host that it fires on.
#[cfg(test)]
pub(crate) fn hosts_that_fire() -> impl Iterator<Item = Facts> {
    FIRING.iter().map(|firing| firing())
}

/// A rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Code: `LB101`.
    pub code: &'static str,
    /// The bad pattern, in kebab-case.
    pub name: &'static str,
    /// What it judges.
    pub scope: Scope,
    /// The scenario of the catalogue that replays the failure.
    pub scenario: Option<&'static str>,
    /// The scenario of the catalogue that shows the cure.
    pub cure: Option<&'static str>,
    /// What tries the advice on a real kernel.
    pub proven_by: ProvenBy,
    /// The lines of the kernel's log, and the errors of programs, that are about its
    /// failure.
    pub log_lines: &'static [LogLine],
    /// Texts for people.
    pub documentation: Documentation,
    /// Judges a host: a pure function of the facts and of what was measured on its
    /// kernel.
    pub check: fn(&Facts, &Measured) -> Outcome,
}

impl Rule {
    /// What it says of a host; `namespaces` is [`Facts::by_namespace`] of the same.
    pub(crate) fn judge(
        &self,
        facts: &Facts,
        namespaces: &[Facts],
        measured: &Measured,
    ) -> Outcome<Placed> {
        if !SETTINGS_TELL.contains(&self.code)
            && let Some(why) = facts.settings_only()
        {
            return Outcome::NotEvaluated(why);
        }
        let mut outcome = match self.scope {
            Scope::Host | Scope::Files => (self.check)(facts, measured).at(None),
            Scope::Namespace => in_each_namespace(self, namespaces, measured),
        };
        if let Outcome::Fired(placed) = &mut outcome
            && facts.gauge_is_bypassed()
        {
            for one in placed {
                one.finding.say_that_tcp_mem_is_blind();
            }
        }
        match (outcome, facts.origin.name()) {
            (Outcome::NotEvaluated(why), Some(origin)) => Outcome::NotEvaluated(format!(
                "{why}; {origin} does not tell, ask the host itself"
            )),
            (outcome, _) => outcome,
        }
    }
}

/// The rule of a code or a name, whatever its case.
pub fn find(wanted: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| {
        rule.code.eq_ignore_ascii_case(wanted) || rule.name.eq_ignore_ascii_case(wanted)
    })
}

/// What a rule judges.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The state of a host, or the settings that files would give it. Its check gets
    /// all network namespaces at once.
    Host,
    /// The state or the settings of each network namespace. Its check gets one at a
    /// time, and need not know which.
    Namespace,
    /// The lines of the files that set sysctls at boot.
    Files,
}

/// What tries the advice of a rule: `harness prove`, on a reproduction of the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProvenBy {
    /// The harm that bystanders see before the change, and not after it.
    Reproduction(&'static [Harm]),
    /// No trial, for this reason.
    Nothing(&'static str),
}

impl fmt::Display for ProvenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reproduction(harm) => {
                let harm: Vec<&str> = harm.iter().map(|harm| harm.as_str()).collect();
                write!(
                    f,
                    "harness prove, on a reproduction of the host; the harm: {}",
                    harm.join(", or ")
                )
            }
            Self::Nothing(why) => write!(f, "the kernel's source and documents; no trial: {why}"),
        }
    }
}

impl ProvenBy {
    /// For a rule about lines of files.
    const FILES_ONLY: Self =
        Self::Nothing("the advice changes a line of a file, which no kernel reads before boot");
}

/// Texts of a rule for people.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Documentation {
    /// The bad pattern, and the harm it does.
    pub detects: &'static str,
    /// The facts that the rule reads, and the bounds at which it fires.
    pub evidence: &'static str,
    /// The advice, and how a proposed value is computed.
    pub recommendation: &'static str,
    /// The cost of following the advice.
    pub cost: &'static str,
    /// What may go wrong.
    pub risk: &'static str,
    /// How to undo the change.
    pub undo: &'static str,
    /// The source of each fact.
    pub references: &'static [&'static str],
}

/// The answer of a rule for a host.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<F = Finding> {
    /// The bad pattern is there.
    Fired(Vec<F>),
    /// The bad pattern is not there; the text says what was seen.
    Quiet(String),
    /// The host does not show enough; the text says what is missing.
    NotEvaluated(String),
}

/// The answer where a limit of the whole kernel cannot be read.
fn not_initial_namespace(name: &str) -> Outcome {
    Outcome::NotEvaluated(format!(
        "{name} cannot be read here: only the initial network namespace has it"
    ))
}

/// The answer where a setting cannot be read.
fn cannot_be_read(name: &str) -> Outcome {
    Outcome::NotEvaluated(format!("{name} cannot be read"))
}

/// The answer about a switch, a setting of which 0 means off: it fires if the switch is
/// `bad`. `finding` completes what every finding about a setting says.
fn judge_switch(
    facts: &Facts,
    documentation: &Documentation,
    name: &'static str,
    bad: Switch,
    finding: impl FnOnce(Finding) -> Finding,
) -> Outcome {
    let value = facts.settings.get(name);
    let Some(current) = value.and_then(|value| value.parse::<i64>().ok()) else {
        return cannot_be_read(name);
    };
    let proposed = match (bad, current) {
        (Switch::Off, 0) => "1",
        (Switch::On, current) if current != 0 => "0",
        _ => {
            let short = name.rsplit('.').next().unwrap_or(name);
            return Outcome::Quiet(format!("{short} is {current}"));
        }
    };
    let of_setting = Finding::of_setting(facts, documentation, name, proposed);
    Outcome::Fired(vec![finding(of_setting)])
}

/// Which way a switch is.
#[derive(Clone, Copy, Debug)]
enum Switch {
    /// Its value is 0.
    Off,
    /// Any other value.
    On,
}

/// `count` in a window as a rate per minute, rounded up.
fn a_minute(count: i64, window: Duration) -> i64 {
    let milliseconds = i128::try_from(window.as_millis())
        .unwrap_or(i128::MAX)
        .max(1);
    let rate = (i128::from(count) * 60_000 + milliseconds - 1) / milliseconds;
    i64::try_from(rate).unwrap_or(i64::MAX)
}
