//! Runs one scenario on the kernel of this process: builds the lab, runs the
//! steps between two readings of counters and sockets, and judges.

use std::sync::atomic::Ordering;
use std::thread::Thread;
use std::time::{Duration, Instant};

use advisor_facts::release::Release;
use advisor_report::trace::KernelEvent;
use advisor_report::{self, Clock, Kernel, Link, Machine, Run, ScenarioResult, Verdict};

use super::capture::{Capture, Write};
use super::keep::{Keeper, Last};
use super::watch::{Signals, Watch, kernel_gauges_before, sample_every};
use super::{Options, Settings, Touching, execution, judge};
use crate::host_settings::HostSettings;
use crate::lab::events::{self, LabEvents};
use crate::lab::namespace::kernel_release;
use crate::lab::relay::WireCounts;
use crate::lab::{Carrier, Lab, LabError, kernel_has_nat, kernel_has_netem};
use crate::observation::Observation;
use crate::pace::pause;
use crate::privilege;
use crate::suite::scenario::{Expected, Scenario};

/// Events are taken so often at the beginning of a run, and whenever a step ends.
const EVENTS_EVERY: Duration = Duration::from_millis(10);
/// The same in virtual time, where each look costs more than waiting does.
const EVENTS_SELDOM: Duration = Duration::from_millis(200);

/// Runs of a scenario discarded at most because the lab disturbed them; one
/// more makes it errored.
const MOST_DISCARDED: usize = 10;

/// Runs a scenario as often as the settings or the suite say, and judges it.
/// `ran` is called after each run with the number of runs so far.
pub(super) fn run_scenario(
    scenario: &Scenario,
    settings: &Settings,
    ran: impl FnMut(u64),
) -> ScenarioResult {
    run_and_keep(scenario, settings, ran, &mut |path, content| {
        let keep = settings.options.keep.as_ref();
        keep.map_or(Ok(()), |keep| keep.write(path, content))
    })
}

/// As [`run_scenario`]; files to keep go to `write`.
pub(super) fn run_and_keep(
    scenario: &Scenario,
    settings: &Settings,
    ran: impl FnMut(u64),
    write: Write,
) -> ScenarioResult {
    let release = kernel_release();
    let mut scenario = scenario.on_release(&release);
    let unseen = without_events(&mut scenario);
    let scenario = &scenario;
    let link = scenario.link(settings.options.carrier);
    let mut result = blank(scenario, link);
    if let Some((reason, hint)) = obstacle(scenario, settings, &release) {
        result.verdict = Verdict::Skipped;
        result.reason = Some(reason);
        result.hint = Some(hint);
        return result;
    }
    if let Some((reason, hint)) = fault(scenario) {
        result.reason = Some(reason);
        result.hint = Some(hint);
        return result;
    }
    result.hint = unseen;
    let mut keeper = Keeper::new(scenario, settings);
    repeat(
        scenario,
        &settings.options,
        &mut result,
        ran,
        |number, result| {
            let start = Instant::now();
            let mut without_given = 0;
            let mut run = loop {
                // A run that lacked what is given would lack it again with the same draws.
                let number = number + without_given * scenario.max_runs;
                let mut run = Run {
                    number,
                    ..Run::default()
                };
                match run_once(scenario, link, number, settings, &mut run, &mut keeper) {
                    Ok(Once::Seen(hint)) => result.hint = result.hint.take().or(hint),
                    Ok(Once::Disturbed(how)) if result.discarded_runs.len() < MOST_DISCARDED => {
                        result.discarded_runs.push(how);
                        continue;
                    }
                    Ok(Once::Disturbed(how)) => run.error = Some(how),
                    Err(error) => {
                        run.error = Some(error.to_string());
                        result.hint = Some(error.hint).filter(|hint| !hint.is_empty());
                    }
                }
                let missing = judge::missing(scenario, &run).filter(|_| run.error.is_none());
                if let Some(missing) = missing {
                    without_given += 1;
                    if without_given < scenario.max_runs {
                        result.runs_without_given += 1;
                        continue;
                    }
                    run.error = Some(format!("none of {without_given} runs counts: {missing}"));
                }
                break run;
            };
            run.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            keeper.tell(scenario, &mut run);
            keeper.keep(scenario, &run, false, write);
            keeper.trace(scenario, &run, &mut result.traces);
            run
        },
    );
    if let Some(run) = result
        .runs
        .last()
        .filter(|_| result.verdict != Verdict::Passed)
    {
        keeper.keep(scenario, run, true, write);
    }
    let mistaken = judge::mistaken_for_timeouts(scenario, &result.runs);
    let mistaken = (!mistaken.is_empty()).then(|| {
        let first = &mistaken[0];
        let more = match mistaken.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "{first}{more}: ETIMEDOUT is an errno of the kernel. Where a time limit of the suite ended \
             the step, expect `late`"
        )
    });
    result.hint = result.hint.or(mistaken).or(keeper.describe());
    result
}

/// What came of one run.
enum Once {
    /// It was seen, with what to do about an error.
    Seen(Option<String>),
    /// The lab disturbed it.
    Disturbed(String),
}

/// Runs a scenario until its runs decide, and judges it. `one` makes the run of a
/// number. Where results are repeatable, a run that saw the same as an earlier one
/// is no sample of its own.
pub(super) fn repeat(
    scenario: &Scenario,
    options: &Options,
    result: &mut ScenarioResult,
    mut ran: impl FnMut(u64),
    mut one: impl FnMut(u64, &mut ScenarioResult) -> Run,
) {
    let at_least = options.runs.unwrap_or(scenario.runs);
    let at_most = options.runs.unwrap_or(scenario.max_runs);
    for count in 1.. {
        let run = one(options.first_run + count - 1, result);
        let broken = run.error.is_some();
        let is_same = |known: &Run| known.observations == run.observations;
        if result.repeatable.is_some() && !broken && result.runs.iter().any(is_same) {
            result.identical_runs += 1;
        } else {
            result.runs.push(run);
        }
        result.expectations = judge::judge(scenario, &result.runs);
        ran(count);
        let enough = count >= at_least && !judge::wants_more_runs(&result.expectations);
        // A run without a result makes the scenario errored; more runs do not
        // change that.
        if broken || enough || count >= at_most {
            break;
        }
    }
    conclude(result);
}

/// The hint for scenarios that this host must not or cannot run.
const IN_A_GUEST: &str = "a guest can run it: harness kernels fetch debian-6.12 where there is \
                          none yet, and no --kernel host";

/// Why a scenario has no result on any machine: a program that its suite names by its path
/// isn't there. What is only not installed is a reason to skip it.
pub(super) fn fault(scenario: &Scenario) -> Option<(String, String)> {
    let mut commands = scenario.commands();
    commands.find_map(|(_, command)| command.fault())
}

/// Why a scenario can't run on this kernel, and what to do about it.
fn obstacle(scenario: &Scenario, settings: &Settings, release: &str) -> Option<(String, String)> {
    let running = Release::of_kernel(release);
    if let (Some(running), Some(since)) = (running, scenario.since)
        && running < since
    {
        let hint = "run it on a newer kernel: `harness kernels` lists some".to_owned();
        return Some((format!("it needs {since}; this is {running}"), hint));
    }
    if let Some(missing) = scenario
        .commands()
        .filter(|(_, command)| command.fault().is_none())
        .find_map(|(_, command)| command.obstacle())
    {
        return Some(missing);
    }
    if scenario.needs_guest() && !settings.in_guest {
        // A cgroup has a name, so it outlives a harness that is killed.
        let reason = "it makes a cgroup, which would stay if the harness were killed";
        return Some((reason.to_owned(), IN_A_GUEST.to_owned()));
    }
    if let Some(user) = scenario.users().find(|user| !privilege::has_user(*user)) {
        let reason = format!("it becomes user {user}, which this user namespace does not have");
        return Some((reason, format!("{IN_A_GUEST}; here it needs root")));
    }
    if scenario.expectations.is_empty() {
        let hint = "its expectations say which releases they are for".to_owned();
        return Some((format!("nothing is expected of {release}"), hint));
    }
    if scenario.clock == Some(Clock::Virtual) && !settings.in_guest {
        return Some(too_long(scenario));
    }
    if scenario.long && !settings.options.long {
        let limit = scenario.time_limit.as_secs();
        let hint = "run it with --long".to_owned();
        return Some((format!("it takes up to {limit} s a run"), hint));
    }
    if scenario.touches_host() && settings.touching != Touching::Allowed {
        let names: Vec<&str> = scenario
            .kernel_sysctls
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let reason = format!(
            "it sets {}, which acts on the whole machine",
            names.join(", ")
        );
        let hint = match settings.touching {
            Touching::NotRoot => format!("{IN_A_GUEST}; here it needs root"),
            _ => format!(
                "{IN_A_GUEST}; --touch-host runs it here, where the machine may be disturbed"
            ),
        };
        return Some((reason, hint));
    }
    if scenario.middlebox.is_some() && !kernel_has_nat() {
        let reason = "its router changes addresses, for which this kernel lacks nf_tables, \
                      nft_ct, nft_chain_nat, nft_masq or nft_reject_inet";
        let hint = "where they are modules, load them; a guest's kernel that was fetched \
                    before is to be fetched again: harness kernels fetch NAME";
        return Some((reason.to_owned(), hint.to_owned()));
    }
    if !scenario.needs_netem {
        return None;
    }
    match settings.options.carrier {
        Carrier::Relay => Some((
            "it asks for netem".to_owned(),
            "run it without --link relay".to_owned(),
        )),
        Carrier::Auto | Carrier::Netem => (!kernel_has_netem()).then(|| {
            (
                "it asks for netem, which this kernel does not have".to_owned(),
                IN_A_GUEST.to_owned(),
            )
        }),
    }
}

/// Why a scenario can't run in real time.
pub(super) fn too_long(scenario: &Scenario) -> (String, String) {
    let limit = scenario.time_limit.as_secs();
    let reason = format!("it waits for up to {limit} s, and only virtual time is that fast");
    let hint = "run it in a guest, with --clock virtual: --kernel debian-6.12".to_owned();
    (reason, hint)
}

/// One run in a topology of its own.
fn run_once(
    scenario: &Scenario,
    link: Link,
    number: u64,
    settings: &Settings,
    run: &mut Run,
    keeper: &mut Keeper,
) -> Result<Once, LabError> {
    let host_settings = HostSettings::begin(scenario, &kernel_gauges_before().unwrap_or_default())?;
    let mut lab = Lab::build(&scenario.topology(), link, number)?;
    run.seed_honoured = lab.seed_honoured;
    host_settings.hold(&lab)?;
    let capture = keeper.capture(scenario, &lab)?;
    let mut events = events_of(scenario, &lab)?;
    let is_virtual = settings.in_guest && settings.options.clock == Some(Clock::Virtual);
    let every = sample_every(scenario, is_virtual);
    let take_every = if is_virtual {
        EVENTS_SELDOM
    } else {
        EVENTS_EVERY
    };
    let watch = Watch::start(&lab)?;
    let signals = Signals::default();
    let (running, runs) =
        std::io::pipe().map_err(|error| LabError::new("kernel", "make a pipe", error, ""))?;
    let mut runs = Some(runs);
    let begun = events::now();
    let mut over = Duration::MAX;
    let (executed, seen, captured) = std::thread::scope(|scope| {
        let capture = capture.map(|capture| scope.spawn(|| capture.take(&running)));
        let sampler = scope.spawn(|| watch.sample(&lab, &signals, every));
        let thread = sampler.thread().clone();
        // The kernel's buffers have room for so much.
        let follower = events.take().map(|mut events| {
            let stop = &signals.stop;
            scope.spawn(move || {
                let start = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    events.take();
                    std::thread::park_timeout(pause(start.elapsed(), take_every));
                }
                events
            })
        });
        let waiting = follower.as_ref().map(|follower| follower.thread().clone());
        let happened = || {
            signals.happened(&thread);
            waiting.iter().for_each(Thread::unpark);
        };
        let executed = execution::execute(scenario, &lab, &happened, || {
            over = events::now();
            signals.stop.store(true, Ordering::Relaxed);
            happened();
            runs.take();
            let watch = sampler.join().unwrap_or_else(|_| {
                let panic = std::io::Error::other("the sampler panicked");
                Err(LabError::new("kernel", "sample the gauges", panic, ""))
            })?;
            watch.finish(&lab)
        });
        // However the run ended, the sampler and the capture have to.
        signals.stop.store(true, Ordering::Relaxed);
        happened();
        runs.take();
        let captured = capture.and_then(|thread| thread.join().ok()?.ok());
        events = follower.and_then(|follower| follower.join().ok());
        executed.map(|(executed, seen)| (executed, seen, captured))
    })?;
    let missed = captured.as_ref().and_then(Capture::lost);
    let mut log = executed.log;
    let seen = seen?;
    run.observations = seen.observations;
    run.observations.extend(executed.observations);
    if scenario.looks_at_packets() {
        lab.ledger.observe(&mut run.observations);
    }
    run.sockets = seen.sockets;
    run.error = executed.error;
    run.failed_steps = executed.failed_steps;
    lab.clear_sockets()?;
    keeper.events = (0, Vec::new());
    if let Some(events) = events {
        let told = events.tell(
            &lab,
            begun..=over,
            &run.sockets,
            &executed.processes,
            settings.in_guest,
        );
        if scenario.wants_events() {
            run.observations.extend(told.observations);
        }
        let zero_us = executed.calls.first_us().unwrap_or(0);
        log.extend(told.events.iter().map(|event| logged(event, zero_us)));
        keeper.events = (zero_us, told.events);
    }
    keeper.last = captured.map(|capture| Last {
        capture,
        log,
        calls: executed.calls,
        gauges: seen.gauges,
    });
    let counts = lab.stop_relay()?;
    host_settings.end()?;
    let missed = missed.filter(|_| scenario.looks_at_packets());
    let disturbed = disturbance(scenario, &counts, seen.dropped).or(missed);
    Ok(disturbed.map_or(Once::Seen(executed.hint), Once::Disturbed))
}

/// An event as a line of the actors' log, whose zero is given.
fn logged(event: &KernelEvent, zero_us: u64) -> String {
    let at_us = event.at_us.saturating_sub(zero_us);
    let seconds = Duration::from_micros(at_us).as_secs_f64();
    let KernelEvent { host, what, .. } = event;
    let by = event.actor.iter().map(|actor| format!(" by {actor}"));
    let by: String = by.collect();
    let connection = event.connection.as_deref().unwrap_or_default();
    format!("{seconds:10.6} {host}: kernel: {what}{by} {connection}")
}

/// What tells of the kernel's events in a run, where it can be had and is wanted.
fn events_of(scenario: &Scenario, lab: &Lab) -> Result<Option<LabEvents>, LabError> {
    if scenario.wants_events() {
        return LabEvents::open(lab, true).map(Some);
    }
    if scenario.clock == Some(Clock::Virtual) {
        // They take instructions of a guest, which are its time: hours of it.
        return Ok(None);
    }
    Ok(LabEvents::open(lab, false).ok())
}

/// Takes out what is expected of events where none can be had; says so.
fn without_events(scenario: &mut Scenario) -> Option<String> {
    if !scenario.wants_events() {
        return None;
    }
    let why = crate::lab::events::obstacle()?;
    let is_event = |expected: &Expected| matches!(expected.observation, Observation::Events { .. });
    let names: Vec<_> = scenario
        .expectations
        .extract_if(.., |expected| is_event(expected))
        .map(|expected| expected.observation.to_string())
        .collect();
    Some(format!("not looked at here: {}: {why}", names.join(", ")))
}

/// Packets lost, though no impairment lost them: on a busy machine, queues that
/// all namespaces share overflow.
fn disturbance(scenario: &Scenario, wires: &[WireCounts], dropped: u64) -> Option<String> {
    if let Some(wire) = wires.iter().find(|wire| wire.overrun > 0) {
        return Some(format!(
            "the relay towards {} lost {} packets: {}",
            wire.towards,
            wire.overrun,
            wire.refused.as_deref().unwrap_or("it fell behind")
        ));
    }
    if let Some((wire, late)) = wires.iter().find_map(|wire| Some((wire, wire.late?))) {
        return Some(format!(
            "the relay towards {} was late: a packet left {:.0} ms after its time, {:.0} ms after \
             it had come",
            wire.towards,
            late.by.as_secs_f64() * 1e3,
            (late.by + late.asked).as_secs_f64() * 1e3
        ));
    }
    // While a link is down, packets are lost anyway.
    (dropped > 0 && !scenario.takes_a_link_down()).then(|| {
        format!("the lab's devices dropped {dropped} packets, and no impairment asked for it")
    })
}

pub(super) fn blank(scenario: &Scenario, link: Link) -> ScenarioResult {
    ScenarioResult {
        id: scenario.id.clone(),
        explains: scenario.explains.clone(),
        source: scenario.source.clone(),
        see_also: scenario.see_also.clone(),
        kernel: Kernel {
            release: kernel_release(),
            machine: Machine::Host,
            clock: Clock::Real,
        },
        link,
        verdict: Verdict::Errored,
        reason: None,
        hint: None,
        console: Vec::new(),
        runs: Vec::new(),
        identical_runs: 0,
        repeatable: None,
        discarded_runs: Vec::new(),
        runs_without_given: 0,
        expectations: Vec::new(),
        place: None,
        story: String::new(),
        started_ms: 0,
        traces: Vec::new(),
        known_failure: None,
    }
}

/// The verdict from the runs and the expectations.
fn conclude(result: &mut ScenarioResult) {
    let failed: Vec<String> = result
        .expectations
        .iter()
        .filter(|expectation| expectation.held == Some(false))
        .map(|expectation| {
            format!(
                "{} is not {} {}",
                expectation.observation, expectation.quantifier, expectation.condition
            )
        })
        .collect();
    let unobserved: Vec<&str> = result
        .expectations
        .iter()
        .filter(|expectation| expectation.held.is_none())
        .map(|expectation| expectation.observation.as_str())
        .collect();
    let broken = result.runs.iter().find_map(|run| run.error.clone());
    (result.verdict, result.reason) = if let Some(error) = broken {
        (Verdict::Errored, Some(error))
    } else if !failed.is_empty() {
        (Verdict::Failed, Some(failed.join("; ")))
    } else if !unobserved.is_empty() {
        (
            Verdict::Errored,
            Some(format!("not observed: {}", unobserved.join(", "))),
        )
    } else {
        (Verdict::Passed, None)
    };
}
