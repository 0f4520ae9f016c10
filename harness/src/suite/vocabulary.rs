//! Which observations a scenario has.
//!
//! A name that nothing can produce is an error of the suite, found before anything is
//! started.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use advisor_facts::counters::Counters;

use super::scenario::{Actor, Scenario};
use crate::condition::is_quantity;
use crate::errno;
use crate::observation::{
    CGROUP_FIELDS, EventKind, Field, GAUGE_FIELDS, Gauge, Observation, Passed, RUNNING, Resources,
    SocketSet, USAGE_FIELDS, Unknown, Which,
};
use crate::step::{Kind, LabStep, RESULT, Step, Values, flatten};
use crate::yaml::error::did_you_mean;

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

/// What a name stands for in a scenario, or why nothing there can produce it.
pub fn resolve(name: &str, scenario: &Scenario) -> Result<Observation, Unknown> {
    let (first, rest) = name.split_once('.').ok_or_else(|| {
        let hint = "actor.step.FIELD, host.GROUP.COUNTER, host.sockets.STATE";
        Unknown::new(format!("{name:?} is not the name of an observation"), hint)
    })?;
    if first == "kernel" {
        return of_kernel(rest);
    }
    if first == "lab" {
        return of_step(rest, "lab", &[&scenario.lab]);
    }
    if let Some(actor) = scenario.actors.iter().find(|actor| actor.name == first) {
        if let Some(resources) = resources(rest, None, actor) {
            return resources;
        }
        if let Some(events) = events(rest, first) {
            return events;
        }
        if actor.command.is_some() {
            return of_command(rest, actor);
        }
        if rest == "exit.status" {
            return Ok(Observation::ExitStatus(first.to_owned()));
        }
        let tasks: Vec<_> = actor
            .tasks
            .iter()
            .map(|task| task.steps.as_slice())
            .collect();
        return of_step(rest, first, &tasks);
    }
    if scenario.hosts.iter().any(|host| host == first) {
        return of_host(rest, first, scenario);
    }
    let samples = || {
        let samples = scenario.lab.iter();
        let samples = samples.filter(|step| matches!(step.kind, LabStep::Sample(_)));
        samples.map(|step| step.name.as_str())
    };
    if samples().any(|sample| sample == first) {
        return of_sample(rest, first, scenario);
    }
    let known: Vec<&str> = scenario
        .actors
        .iter()
        .map(|actor| actor.name.as_str())
        .chain(scenario.hosts.iter().map(String::as_str))
        .chain(samples())
        .chain(["kernel", "lab"])
        .collect();
    let message = format!("nothing is called {first:?}");
    Err(Unknown::no_such(&message, first, &known))
}

fn of_sample(rest: &str, sample: &str, scenario: &Scenario) -> Result<Observation, Unknown> {
    let (owner, what) = rest.split_once('.').unwrap_or((rest, ""));
    let actor = scenario.actors.iter().find(|actor| actor.name == owner);
    if let Some(resources) = actor.and_then(|actor| resources(what, Some(sample), actor)) {
        return resources;
    }
    if !scenario.hosts.iter().any(|known| known == owner) {
        let hint = format!("known: {}", scenario.hosts.join(", "));
        let message = format!("sample {sample:?}: no host {owner:?}");
        return Err(Unknown::new(message, hint));
    }
    sockets(what, Some(sample), owner, scenario).unwrap_or_else(|| {
        let hint = format!("{sample}.{owner}.sockets.STATE, or {sample}.COMMAND.usage.FIELD");
        Err(Unknown::new("a sample holds sockets and usage only", hint))
    })
}

/// What is observed of an actor that is a command.
fn of_command(rest: &str, actor: &Actor) -> Result<Observation, Unknown> {
    let name = &actor.name;
    match rest.split_once('.') {
        None if rest == "output" => Ok(Observation::Output(name.clone())),
        Some(("exit", "status")) => Ok(Observation::ExitStatus(name.clone())),
        Some(("ready", field)) => step_field(field, name, "ready", "ready", RESULT, false),
        _ => Err(Unknown::new(
            format!("of a command there is no {rest:?}"),
            "ready.error, ready.ms, exit.status, output, usage.FIELD",
        )),
    }
}

/// What an actor has beside its steps: its command's use and its own cgroup; `None` where
/// the name is of neither.
fn resources(
    rest: &str,
    sample: Option<&str>,
    actor: &Actor,
) -> Option<Result<Observation, Unknown>> {
    let (group, field) = rest.split_once('.')?;
    let (of, what, known) = match group {
        "usage" if actor.command.is_some() => (Resources::Usage, "a command's usage", USAGE_FIELDS),
        "cgroup" if actor.memory_limits.is_some() => {
            (Resources::Cgroup, "an actor's cgroup", CGROUP_FIELDS)
        }
        _ => return None,
    };
    if !known.contains(&field) {
        let message = format!("unknown field {field:?} of {what}");
        return Some(Err(Unknown::no_such(&message, field, known)));
    }
    Some(Ok(Observation::Resources {
        sample: sample.map(str::to_owned),
        actor: actor.name.clone(),
        of,
        field: field.to_owned(),
    }))
}

fn of_kernel(rest: &str) -> Result<Observation, Unknown> {
    if rest == "log" {
        return Ok(Observation::KernelLog);
    }
    if let Some(gauge) = rest.strip_prefix("sockstat.") {
        return sampled_gauge(None, gauge);
    }
    Err(Unknown::new(
        format!("the kernel has no {rest:?}"),
        "kernel.log, or kernel.sockstat.GAUGE.FIELD",
    ))
}

fn sampled_gauge(host: Option<&str>, rest: &str) -> Result<Observation, Unknown> {
    let (gauge, field) = rest.rsplit_once('.').unwrap_or((rest, ""));
    if !GAUGE_FIELDS.contains(&field) {
        let owner = host.map_or("kernel", |_| "HOST");
        return Err(Unknown::new(
            format!("a gauge has no {field:?}"),
            format!(
                "{}, as in {owner}.sockstat.TCP.tw.max",
                GAUGE_FIELDS.join(", ")
            ),
        ));
    }
    let gauge = Gauge::parse(host, gauge)?;
    Ok(Observation::Gauge(gauge, field.to_owned()))
}

/// Sockets of a host; `None` where the name is of something else.
fn sockets(
    rest: &str,
    sample: Option<&str>,
    host: &str,
    scenario: &Scenario,
) -> Option<Result<Observation, Unknown>> {
    if let Some(peer) = rest.strip_prefix("peers.") {
        let peer = peer.split_once('.').map_or(peer, |(peer, _)| peer);
        if !scenario.hosts.iter().any(|host| host == peer) {
            let hint = format!("known: {}", scenario.hosts.join(", "));
            return Some(Err(Unknown::new(format!("no host {peer:?}"), hint)));
        }
    }
    let sockets = SocketSet::parse(host, rest)?;
    Some(sockets.map(|sockets| Observation::Sockets {
        sample: sample.map(str::to_owned),
        sockets,
    }))
}

fn of_host(rest: &str, host: &str, scenario: &Scenario) -> Result<Observation, Unknown> {
    if let Some(sockets) = sockets(rest, None, host, scenario) {
        return sockets;
    }
    if let Some(gauge) = rest.strip_prefix("sockstat.") {
        return sampled_gauge(Some(host), gauge);
    }
    if let Some(packets) = Passed::parse(host, rest) {
        let (passed, time) = packets?;
        let is_host = |peer: &String| scenario.hosts.contains(peer);
        if let Some(peer) = passed.peer.as_ref().filter(|peer| !is_host(peer)) {
            let hint = format!("known: {}", scenario.hosts.join(", "));
            return Err(Unknown::new(format!("no host {peer:?}"), hint));
        }
        return Ok(Observation::Packets { passed, time });
    }
    if let Some(events) = events(rest, host) {
        return events;
    }
    let counters = kernel_counters();
    if counters.is_empty() || counters.contains(rest) {
        return Ok(Observation::Counter {
            host: host.to_owned(),
            name: rest.to_owned(),
        });
    }
    let likely = did_you_mean(rest, counters.iter().map(String::as_str));
    Err(Unknown::new(
        format!("this kernel has no counter {rest:?}{likely}"),
        "a host has the counters of /proc/net/netstat and /proc/net/snmp, sockets.STATE, \
         peers.HOST.STATE, packets.sent.KIND, sockstat.GAUGE.FIELD, resets.sent.REASON, \
         resets.received and drops.REASON",
    ))
}

/// Events of a host or of an actor's own process; `None` where the name is of something
/// else.
fn events(rest: &str, owner: &str) -> Option<Result<Observation, Unknown>> {
    let kind = EventKind::parse(rest)?;
    Some(kind.map(|kind| Observation::Events {
        owner: owner.to_owned(),
        kind,
    }))
}

/// Checks that an observation can have the value it is compared with: a text that it
/// never is would make `never` true of every run.
pub fn check_value(
    observation: &Observation,
    wanted: &str,
    scenario: &Scenario,
) -> Result<(), Unknown> {
    let values = match observation {
        Observation::KernelLog | Observation::Output(_) => Values::Text,
        Observation::ExitStatus(_) => return check_status(wanted),
        Observation::Step {
            list,
            step,
            field: Field::Error,
            ..
        } => {
            let (kind, is_limited) = scenario.limit_of(list, step).unwrap_or(("it", false));
            return check_error(wanted, is_limited, kind);
        }
        Observation::Step {
            list,
            step,
            field: Field::Value,
            ..
        } => scenario.values_of(list, step).unwrap_or(Values::Quantity),
        _ => Values::Quantity,
    };
    match values {
        Values::Text => Ok(()),
        Values::Errno => check_errno(wanted),
        Values::Flags(flags) => check_flags(wanted, flags),
        Values::Quantity if is_quantity(wanted) => Ok(()),
        Values::Quantity => Err(Unknown::new(
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
    Err(Unknown::new(
        format!("a command doesn't end with {wanted:?}"),
        "0 to 255, the signal that killed it such as SIGKILL, or running",
    ))
}

/// Checks what flags are compared with: some of them, joined by `|`.
fn check_flags(wanted: &str, flags: &[&str]) -> Result<(), Unknown> {
    if wanted.split('|').all(|flag| flags.contains(&flag)) {
        return Ok(());
    }
    let example = flags.last().copied().unwrap_or_default();
    Err(Unknown::new(
        format!("there is no event {wanted:?}"),
        format!(
            "{}; \"~ {example}\" for any that holds it",
            flags.join(", ")
        ),
    ))
}

/// Checks what the error of a step is compared with: an errno's name, or `late` of one
/// that has a time limit of its own.
fn check_error(wanted: &str, is_limited: bool, kind: &str) -> Result<(), Unknown> {
    if wanted != errno::LATE {
        return check_errno(wanted);
    }
    if is_limited {
        return Ok(());
    }
    Err(Unknown::new(
        format!("{kind} has no time limit here, so it is never late"),
        "add `within`, or the `timeout` that dial, until, restart and wait-outq-empty have",
    ))
}

/// Checks a text that an errno's name is compared with.
fn check_errno(name: &str) -> Result<(), Unknown> {
    if name == "none" || errno::names().any(|known| known == name) {
        return Ok(());
    }
    let names: Vec<String> = errno::names().collect();
    let likely = did_you_mean(name, names.iter().map(String::as_str));
    Err(Unknown::new(
        format!("there is no errno {name:?}{likely}"),
        "none, or an errno's name such as ECONNRESET",
    ))
}

fn of_step<K: Kind>(rest: &str, list: &str, lists: &[&[Step<K>]]) -> Result<Observation, Unknown> {
    let (name, field) = rest
        .split_once('.')
        .ok_or_else(|| Unknown::new("the field is missing", format!("{list}.{rest}.error")))?;
    let steps = || lists.iter().flat_map(|steps| flatten(steps));
    let step = steps().find(|step| step.name == name).ok_or_else(|| {
        let names: Vec<&str> = steps().map(|step| step.name.as_str()).collect();
        Unknown::no_such(&format!("{list} has no step {name:?}"), name, &names)
    })?;
    let kind = &step.kind;
    let (what, observes) = (kind.name(), kind.observes());
    step_field(field, list, name, what, observes, kind.is_limited())
}

fn step_field(
    field: &str,
    list: &str,
    step: &str,
    kind: &str,
    observes: &[Field],
    is_limited: bool,
) -> Result<Observation, Unknown> {
    let (stem, errno) = match field.split_once('.') {
        Some((stem, errno)) => (stem, Some(errno)),
        None => (field, None),
    };
    let observed = observes.iter().find(|observed| observed.as_str() == stem);
    let fits = |observed: &&Field| (**observed == Field::Errors) == errno.is_some();
    if let (Some(Field::Ms), Some(which)) = (observed, errno) {
        let which = Which::parse(which).ok_or_else(|| {
            Unknown::new(
                format!("there is no execution {which:?} of {kind}"),
                format!("ms for all together, or ms.WHICH: {}", Which::NAMES),
            )
        })?;
        return Ok(Observation::StepTime {
            list: list.to_owned(),
            step: step.to_owned(),
            which,
        });
    }
    let Some(observed) = observed.filter(fits) else {
        let known: Vec<&str> = observes.iter().map(|field| field.documented()).collect();
        return Err(Unknown::new(
            format!("{kind} doesn't observe {field:?}"),
            format!("it observes: {}", known.join(", ")),
        ));
    };
    if let Some(errno) = errno {
        check_error(errno, is_limited, kind)?;
    }
    Ok(Observation::Step {
        list: list.to_owned(),
        step: step.to_owned(),
        field: *observed,
        errno: errno.map(str::to_owned),
    })
}
