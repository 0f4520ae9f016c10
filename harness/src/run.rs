//! The story of a scenario: build the lab, look, play, look again, judge.

pub mod judge;
pub mod schedule;
pub mod stage;
pub mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use advisor::evidence::{self, Kernel, Link, Place, Run, Verdict};
use serde::{Deserialize, Serialize};

use crate::lab::namespace::kernel_release;
use crate::lab::relay::WireCounts;
use crate::lab::{Carrier, Lab, LabError, kernel_has_netem};
use crate::suite::scenario::Scenario;
use crate::touch::Touch;
use watch::Watch;

/// How many runs of a scenario may be thrown away because the lab disturbed
/// them; one more makes it errored.
const MOST_DISCARDED: usize = 3;

/// How scenarios are to be run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Settings {
    /// What carries impaired links.
    pub carrier: Carrier,
    /// In place of a scenario's own number of runs.
    pub runs: Option<u64>,
    /// Whether scenarios may act on the whole machine.
    pub touching: Touching,
}

/// Whether scenarios may act on the whole machine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Touching {
    /// `--touch-host`, as root.
    Allowed,
    /// No `--touch-host`.
    NotAsked,
    /// `--touch-host`, but not as root.
    NotRoot,
}

/// Runs a scenario as often as it asks, and judges it. `ran` is called after
/// each run with the number of runs so far.
pub fn run_scenario(
    scenario: &Scenario,
    settings: &Settings,
    mut ran: impl FnMut(u64),
) -> evidence::Scenario {
    let link = settings.carrier.link(scenario);
    let mut result = blank(scenario, link);
    if let Some((reason, hint)) = obstacle(scenario, settings) {
        result.verdict = Verdict::Skipped;
        result.reason = Some(reason);
        result.hint = Some(hint.to_owned());
        return result;
    }
    let at_least = settings.runs.unwrap_or(scenario.runs);
    let at_most = settings.runs.unwrap_or(scenario.max_runs);
    loop {
        let number = result.runs.len() as u64;
        let start = Instant::now();
        let mut run = Run::default();
        match run_once(scenario, link, number, &mut run) {
            Ok(None) => {}
            Ok(Some(disturbance)) if result.discarded_runs.len() < MOST_DISCARDED => {
                result.discarded_runs.push(disturbance);
                continue;
            }
            Ok(Some(disturbance)) => run.error = Some(disturbance),
            Err(error) => {
                run.error = Some(error.to_string());
                result.hint = Some(error.hint).filter(|hint| !hint.is_empty());
            }
        }
        run.number = number;
        run.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let broken = run.error.is_some();
        result.runs.push(run);
        result.expectations = judge::judge(scenario, &result.runs);
        let count = number + 1;
        ran(count);
        let enough = count >= at_least && !judge::wants_more_runs(&result.expectations);
        // A run that gave no result makes the scenario errored; more of them
        // can't mend that.
        if broken || enough || count >= at_most {
            break;
        }
    }
    conclude(&mut result);
    result
}

/// Why a scenario can't run on this kernel, and what to do about it.
fn obstacle(scenario: &Scenario, settings: &Settings) -> Option<(String, &'static str)> {
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
            Touching::NotRoot => "run it as root, or in a guest: harness kernels fetch debian-6.12",
            _ => {
                "harness kernels fetch debian-6.12 lets it run in a guest; --touch-host runs it \
                 here, where the machine may be disturbed"
            }
        };
        return Some((reason, hint));
    }
    if !scenario.needs_netem {
        return None;
    }
    match settings.carrier {
        Carrier::Relay => Some((
            "it asks for netem".to_owned(),
            "leave --link relay out for it",
        )),
        Carrier::Auto | Carrier::Netem => (!kernel_has_netem()).then(|| {
            (
                "it asks for netem, which this kernel does not have".to_owned(),
                "harness kernels fetch debian-6.12 lets it run in a guest",
            )
        }),
    }
}

/// One run, from a topology that is made for it to one that is gone. Returns
/// how the lab itself disturbed it, where it did.
fn run_once(
    scenario: &Scenario,
    link: Link,
    number: u64,
    run: &mut Run,
) -> Result<Option<String>, LabError> {
    let touch = Touch::begin(scenario)?;
    let mut lab = Lab::build(scenario, link, number)?;
    run.seed_honoured = lab.seed_honoured;
    touch.hold(&lab)?;
    let watch = Watch::start(&lab)?;
    let stop = AtomicBool::new(false);
    let (play, seen) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| watch.sample(&lab, &stop));
        let play = stage::play(scenario, &lab, || {
            stop.store(true, Ordering::Relaxed);
            sampler.thread().unpark();
            let watch = sampler.join().unwrap_or_else(|_| {
                let panic = std::io::Error::other("the sampler panicked");
                Err(LabError::new("kernel", "sample the gauges", panic, ""))
            })?;
            watch.finish(&lab)
        });
        // However the play ended, the sampler has to.
        stop.store(true, Ordering::Relaxed);
        play
    })?;
    let (observations, sockets, dropped) = seen?;
    run.observations = observations;
    run.observations.extend(play.observations);
    run.sockets = sockets;
    run.error = play.error;
    lab.clear_sockets()?;
    let counts = lab.stop_relay()?;
    touch.end()?;
    Ok(disturbance(scenario, &counts, dropped))
}

/// Packets that no impairment was asked to lose, but that were lost: a machine
/// that is busy with other things overflows queues that all namespaces share.
fn disturbance(scenario: &Scenario, wires: &[WireCounts], dropped: u64) -> Option<String> {
    if let Some(wire) = wires.iter().find(|wire| wire.overrun > 0) {
        return Some(format!(
            "the relay towards {} lost {} packets: {}",
            wire.towards,
            wire.overrun,
            wire.refused.as_deref().unwrap_or("it fell behind")
        ));
    }
    // With a link taken away, what a device drops would be lost all the same.
    (dropped > 0 && !scenario.takes_a_link_down())
        .then(|| format!("the lab's devices dropped {dropped} packets that nobody asked to lose"))
}

pub(crate) fn blank(scenario: &Scenario, link: Link) -> evidence::Scenario {
    evidence::Scenario {
        id: scenario.id.clone(),
        explains: scenario.explains.clone(),
        source: scenario.source.clone(),
        see_also: scenario.see_also.clone(),
        kernel: Kernel {
            release: kernel_release(),
            place: Place::Host,
        },
        link,
        verdict: Verdict::Errored,
        reason: None,
        hint: None,
        console: Vec::new(),
        runs: Vec::new(),
        discarded_runs: Vec::new(),
        expectations: Vec::new(),
    }
}

/// The verdict from the runs and the expectations.
fn conclude(result: &mut evidence::Scenario) {
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
