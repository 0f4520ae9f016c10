//! The names of observations: one vocabulary for suite, report and rules.
//!
//! A name that nothing can produce is an error of the suite, found before
//! anything is started.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use advisor_facts::counters::Counters;

use super::condition::is_quantity;
use super::error::{Place, nearest};
use super::scenario::{Actor, Scenario};
use super::step::{Step, Verb};

/// The TCP states by the kernel's names (include/net/tcp_states.h), but for CLOSE
/// and NEW_SYN_RECV: sock_diag shows no socket in the first, and the second as
/// SYN_RECV.
pub const STATES: &[&str] = &[
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
];

/// The fields of a socket that are observed as `HOST.sockets.STATE.FIELD`,
/// each the highest over the sockets of that state. The queues are inet_diag's;
/// what a socket holds and may hold is of INET_DIAG_SKMEMINFO, by the names of
/// the kernel's struct sock; the rest is tcp_info's.
pub const SOCKET_FIELDS: &[&str] = &[
    "recv_queue_bytes",
    "send_queue_bytes",
    "timer",
    "unacked",
    "retransmits",
    "backoff",
    "probes",
    "last_ack_recv",
    "last_data_sent",
    "snd_cwnd",
    "snd_wnd",
    "total_retrans",
    "bytes_acked",
    "notsent_bytes",
    "wmem_queued",
    "sndbuf",
    "rmem_alloc",
    "rcvbuf",
];

/// What of a sampled gauge is observed.
pub const GAUGE_FIELDS: &[&str] = &["before", "min", "max", "last"];

/// The gauges of /proc/net/sockstat that are the whole kernel's in whichever
/// namespace they are read (Linux 6.18, measured).
pub const KERNEL_GAUGES: &[&str] = &["TCP.orphan", "TCP.alloc", "TCP.mem"];

/// The gauges of /proc/net/sockstat that are each namespace's own.
pub const HOST_GAUGES: &[&str] = &["TCP.inuse", "TCP.tw", "sockets.used"];

/// What is observed of the processes of a command, as `ACTOR.usage.FIELD`: all
/// of them together at the time, but for the highest resident set that one had.
pub const USAGE_FIELDS: &[&str] = &[
    "processes",
    "descriptors",
    "rss_bytes",
    "max_rss_bytes",
    "user_ms",
    "system_ms",
];

/// What is observed of an actor's own cgroup, as `ACTOR.cgroup.FIELD`: memory.current,
/// `sock` of memory.stat, `oom_kill` and `high` of memory.events.
pub const CGROUP_FIELDS: &[&str] = &["current_bytes", "sock_bytes", "oom_kill", "high"];

/// The status of a command that has not ended.
pub const RUNNING: &str = "running";

/// What a name means when a run didn't produce it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Absent {
    /// A count that nothing raised: 0.
    Zero,
    /// A count of a step: 0 once the step has ended, unknown before.
    ZeroOnceEnded,
    /// Something that wasn't observed.
    Unknown,
}

/// The counters that this kernel's proc files name; empty where they can't be
/// read.
fn kernel_counters() -> &'static BTreeSet<String> {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = BTreeSet::new();
        for file in ["/proc/net/netstat", "/proc/net/snmp"] {
            let path = Path::new(file);
            let counters = std::fs::read_to_string(path)
                .ok()
                .and_then(|text| Counters::parse(&text, path).ok());
            names.extend(counters.iter().flat_map(Counters::names).map(str::to_owned));
        }
        names
    })
}

/// Why nothing in a scenario can produce a name, and what can be observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unknown {
    /// What is wrong with the name.
    pub message: String,
    /// What there is.
    pub hint: String,
}

fn unknown(message: impl Into<String>, hint: impl Into<String>) -> Unknown {
    Unknown {
        message: message.into(),
        hint: hint.into(),
    }
}

/// The name that was likely meant, as the end of a message.
fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, names)
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}

/// Says what a missing `name` means in a scenario, or why nothing there can
/// produce it.
pub fn check(name: &str, scenario: &Scenario) -> Result<Absent, Unknown> {
    let (first, rest) = name.split_once('.').ok_or_else(|| {
        let hint = "actor.step.FIELD, host.GROUP.COUNTER, host.sockets.STATE";
        unknown(format!("{name:?} is not the name of an observation"), hint)
    })?;
    if first == "kernel" {
        return check_kernel(rest);
    }
    if first == "lab" {
        return check_step(rest, "lab", &scenario.lab);
    }
    if let Some(actor) = scenario.actors.iter().find(|actor| actor.name == first) {
        if let Some(checked) = check_group(rest, actor) {
            return checked;
        }
        if actor.command.is_some() {
            return check_command(rest, actor);
        }
        let steps: Vec<Step> = actor
            .tasks
            .iter()
            .flat_map(|task| task.steps.clone())
            .collect();
        return check_step(rest, first, &steps);
    }
    if scenario.hosts.iter().any(|host| host == first) {
        return check_host(rest, scenario);
    }
    let samples: Vec<&str> = scenario
        .lab
        .iter()
        .filter(|step| step.verb == Verb::Sample)
        .map(|step| step.name.as_str())
        .collect();
    if samples.contains(&first) {
        let (host, sockets) = rest.split_once('.').unwrap_or((rest, ""));
        let actor = scenario.actors.iter().find(|actor| actor.name == host);
        if let Some(checked) = actor.and_then(|actor| check_group(sockets, actor)) {
            return checked;
        }
        if !scenario.hosts.iter().any(|known| known == host) {
            let hint = format!("known: {}", scenario.hosts.join(", "));
            return Err(unknown(format!("sample {first:?}: no host {host:?}"), hint));
        }
        if !sockets.starts_with("sockets.") && !sockets.starts_with("peers.") {
            let hint = format!("{first}.{host}.sockets.STATE, or {first}.COMMAND.usage.FIELD");
            return Err(unknown("a sample holds sockets and usage only", hint));
        }
        return check_host(sockets, scenario);
    }
    let known = scenario
        .actors
        .iter()
        .map(|actor| actor.name.as_str())
        .chain(scenario.hosts.iter().map(String::as_str))
        .chain(samples.iter().copied())
        .chain(["kernel", "lab"]);
    Err(unknown(
        format!(
            "nothing is called {first:?}{}",
            did_you_mean(first, known.clone())
        ),
        format!("known: {}", known.collect::<Vec<_>>().join(", ")),
    ))
}

/// What is observed of an actor that is a command.
fn check_command(rest: &str, actor: &Actor) -> Result<Absent, Unknown> {
    if rest == "output" || rest == "exit.status" {
        return Ok(Absent::Unknown);
    }
    if rest.starts_with("ready.") {
        return check_step(
            rest,
            &actor.name,
            &[Step::of_itself(Verb::Ready, Place::START)],
        );
    }
    Err(unknown(
        format!("of a command there is no {rest:?}"),
        "ready.error, ready.ms, exit.status, output, usage.FIELD",
    ))
}

/// What an actor has besides its steps: its command's use and its own cgroup;
/// nothing where the name is of neither.
fn check_group(rest: &str, actor: &Actor) -> Option<Result<Absent, Unknown>> {
    let (group, field) = rest.split_once('.')?;
    match group {
        "usage" if actor.command.is_some() => {
            Some(check_field("a command's usage", field, USAGE_FIELDS))
        }
        "cgroup" if actor.memory_limits.is_some() => {
            Some(check_field("an actor's cgroup", field, CGROUP_FIELDS))
        }
        _ => None,
    }
}

fn check_field(of: &str, field: &str, fields: &[&str]) -> Result<Absent, Unknown> {
    if fields.contains(&field) {
        return Ok(Absent::Unknown);
    }
    let likely = did_you_mean(field, fields.iter().copied());
    Err(unknown(
        format!("unknown field {field:?} of {of}{likely}"),
        format!("known: {}", fields.join(", ")),
    ))
}

fn check_kernel(rest: &str) -> Result<Absent, Unknown> {
    if rest == "log" {
        return Ok(Absent::Unknown);
    }
    let known = KERNEL_GAUGES.iter().any(|gauge| {
        rest.strip_prefix("sockstat.")
            .and_then(|rest| rest.strip_prefix(gauge))
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|field| GAUGE_FIELDS.contains(&field))
    });
    if known {
        return Ok(Absent::Unknown);
    }
    Err(unknown(
        format!("the kernel has no {rest:?}"),
        format!(
            "kernel.log, or kernel.sockstat.GAUGE.FIELD with GAUGE one of {} and FIELD one of {}",
            KERNEL_GAUGES.join(", "),
            GAUGE_FIELDS.join(", ")
        ),
    ))
}

fn check_host(rest: &str, scenario: &Scenario) -> Result<Absent, Unknown> {
    let of_peer = match rest.strip_prefix("peers.") {
        Some(of_peer) => {
            let (peer, sockets) = of_peer.split_once('.').unwrap_or((of_peer, ""));
            if !scenario.hosts.iter().any(|host| host == peer) {
                let hint = format!("known: {}", scenario.hosts.join(", "));
                return Err(unknown(format!("no host {peer:?}"), hint));
            }
            Some(sockets)
        }
        None => None,
    };
    if let Some(sockets) = of_peer.or_else(|| rest.strip_prefix("sockets.")) {
        let (state, field) = sockets.split_once('.').unwrap_or((sockets, ""));
        if !STATES.contains(&state) {
            return Err(unknown(
                format!(
                    "unknown TCP state {state:?}{}",
                    did_you_mean(state, STATES.iter().copied())
                ),
                format!("known: {}", STATES.join(", ")),
            ));
        }
        return match field {
            "" => Ok(Absent::Zero),
            field if SOCKET_FIELDS.contains(&field) => Ok(Absent::Unknown),
            field => Err(unknown(
                format!(
                    "unknown field {field:?} of a socket{}",
                    did_you_mean(field, SOCKET_FIELDS.iter().copied())
                ),
                format!("known: {}", SOCKET_FIELDS.join(", ")),
            )),
        };
    }
    if let Some(gauge) = rest.strip_prefix("sockstat.") {
        let (gauge, field) = gauge.rsplit_once('.').unwrap_or((gauge, ""));
        if !GAUGE_FIELDS.contains(&field) {
            return Err(unknown(
                format!("a gauge has no {field:?}"),
                format!(
                    "{}, as in HOST.sockstat.TCP.tw.max",
                    GAUGE_FIELDS.join(", ")
                ),
            ));
        }
        if KERNEL_GAUGES.contains(&gauge) {
            return Err(unknown(
                format!("{gauge} is the whole kernel's, not a host's"),
                format!("kernel.sockstat.{gauge}.{field}"),
            ));
        }
        if HOST_GAUGES.contains(&gauge) {
            return Ok(Absent::Unknown);
        }
        return Err(unknown(
            format!("a host has no gauge {gauge:?}"),
            format!("known: {}", HOST_GAUGES.join(", ")),
        ));
    }
    let counters = kernel_counters();
    if counters.is_empty() || counters.contains(rest) {
        return Ok(Absent::Zero);
    }
    let likely = did_you_mean(rest, counters.iter().map(String::as_str));
    Err(unknown(
        format!("this kernel has no counter {rest:?}{likely}"),
        "a host has the counters of /proc/net/netstat and /proc/net/snmp, sockets.STATE, \
         peers.HOST.STATE and sockstat.GAUGE.FIELD",
    ))
}

/// The names of all errnos of this platform.
fn errno_names() -> impl Iterator<Item = String> {
    (1..134)
        .map(crate::suite::errno::errno_name)
        .filter(|name| name.starts_with('E') && !name.contains(' '))
}

/// Checks that an observation can have the value it is compared with: a text
/// that it never is would make `never` true of every run.
pub fn check_value(name: &str, wanted: &str, scenario: &Scenario) -> Result<(), Unknown> {
    let parts: Vec<&str> = name.split('.').collect();
    let step = match parts[..] {
        [list, step, _] => scenario.step(list, step),
        _ => None,
    };
    let of_command = match parts[..] {
        [actor, ..] if scenario.command_of(actor).is_some() => &parts[1..],
        _ => &[],
    };
    match (step, parts.last().copied()) {
        _ if name == "kernel.log" || of_command == ["output"] => Ok(()),
        _ if of_command == ["exit", "status"] => check_status(wanted),
        (Some(_), Some("error")) => check_errno(wanted),
        (Some(step), Some("value")) if step.fields.text("option") == Some("SO_ERROR") => {
            check_errno(wanted)
        }
        (Some(step), Some("value")) if step.fields.text("option") == Some("SO_LINGER") => Ok(()),
        (Some(step), Some("value")) if step.verb == Verb::Poll => check_events(wanted),
        _ if is_quantity(wanted) => Ok(()),
        _ => Err(unknown(
            format!("it is a number and never {wanted:?}"),
            "a number, bytes such as 1MB, or a time such as 5ms",
        )),
    }
}

/// Checks what the status of a command is compared with.
fn check_status(wanted: &str) -> Result<(), Unknown> {
    let is_signal = wanted.parse::<nix::sys::signal::Signal>().is_ok();
    if wanted == RUNNING || is_signal || wanted.parse::<u8>().is_ok() {
        return Ok(());
    }
    Err(unknown(
        format!("a command doesn't end with {wanted:?}"),
        "0 to 255, the signal that killed it such as SIGKILL, or running",
    ))
}

/// Checks what poll is compared with: events joined by `|`, in poll(2)'s order.
fn check_events(wanted: &str) -> Result<(), Unknown> {
    const EVENTS: [&str; 7] = [
        "none",
        "POLLIN",
        "POLLOUT",
        "POLLERR",
        "POLLHUP",
        "POLLRDHUP",
        "POLLNVAL",
    ];
    if wanted.split('|').all(|event| EVENTS.contains(&event)) {
        return Ok(());
    }
    Err(unknown(
        format!("there is no event {wanted:?}"),
        format!("{}; \"~ POLLERR\" for any that holds it", EVENTS.join(", ")),
    ))
}

/// Checks a text that an errno's name is compared with.
fn check_errno(name: &str) -> Result<(), Unknown> {
    if name == "none" || errno_names().any(|known| known == name) {
        return Ok(());
    }
    let names: Vec<String> = errno_names().collect();
    let likely = did_you_mean(name, names.iter().map(String::as_str));
    Err(unknown(
        format!("there is no errno {name:?}{likely}"),
        "none, or an errno's name such as ECONNRESET",
    ))
}

fn check_step(rest: &str, actor: &str, steps: &[Step]) -> Result<Absent, Unknown> {
    let (name, field) = rest
        .split_once('.')
        .ok_or_else(|| unknown("the field is missing", format!("{actor}.{rest}.error")))?;
    let mut names = Vec::new();
    let step = find(name, steps, &mut names).ok_or_else(|| {
        unknown(
            format!(
                "{actor} has no step {name:?}{}",
                did_you_mean(name, names.iter().copied())
            ),
            format!("known: {}", names.join(", ")),
        )
    })?;
    let yields = step.verb.spec().yields;
    let (stem, errno) = field.split_once('.').unwrap_or((field, ""));
    let fits = yields.contains(&stem) && (stem == "errors") != errno.is_empty();
    if !fits {
        return Err(unknown(
            format!("{} doesn't observe {field:?}", step.verb),
            format!(
                "it observes: {}",
                yields.join(", ").replace("errors", "errors.ERRNO")
            ),
        ));
    }
    if !errno.is_empty() {
        check_errno(errno)?;
    }
    Ok(match stem {
        "ok" | "errors" | "count" | "nonzero_bytes" => Absent::ZeroOnceEnded,
        _ => Absent::Unknown,
    })
}

/// The step of a name, inside others too; notes the names on the way.
fn find<'a>(name: &str, steps: &'a [Step], names: &mut Vec<&'a str>) -> Option<&'a Step> {
    for step in steps {
        if step.name == name {
            return Some(step);
        }
        names.push(&step.name);
        if let Some(found) = find(name, step.inner(), names) {
            return Some(found);
        }
    }
    None
}

/// Whether a step of that name is in the lists.
pub fn has_step(name: &str, steps: &[Step]) -> bool {
    find(name, steps, &mut Vec::new()).is_some()
}
