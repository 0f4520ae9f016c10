//! The story of a scenario: build the lab, look, play, look again, judge.

pub mod capture;
pub mod guests;
pub mod judge;
pub mod schedule;
pub mod stage;
pub mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use advisor_report::{Kernel, Link, Place, Quantifier, Run, Verdict};
use serde::{Deserialize, Serialize};

use crate::lab::namespace::kernel_release;
use crate::lab::relay::WireCounts;
use crate::lab::{Carrier, Lab, LabError, kernel_has_netem};
use crate::output;
use crate::privilege;
use crate::suite::scenario::Scenario;
use crate::touch::Touch;
use advisor_facts::release::Release;
use capture::Capture;
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
    /// The number of the first run; a run of another number meets other draws.
    pub first_run: u64,
    /// Whether scenarios may act on the whole machine.
    pub touching: Touching,
    /// Whether the machine is a guest, which is thrown away afterwards.
    pub in_guest: bool,
    /// Whether scenarios that wait long are run.
    pub long: bool,
    /// Where packets and logs go of runs that are not as expected.
    pub keep: Option<PathBuf>,
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
    ran: impl FnMut(u64),
) -> advisor_report::Scenario {
    run_and_keep(scenario, settings, ran, &mut output::write)
}

/// Writes a file of what is kept.
pub type Write<'a> = &'a mut dyn FnMut(&Path, &[u8]) -> io::Result<()>;

/// As [`run_scenario`]; what is kept is handed to `write`.
pub fn run_and_keep(
    scenario: &Scenario,
    settings: &Settings,
    mut ran: impl FnMut(u64),
    write: Write,
) -> advisor_report::Scenario {
    let release = kernel_release();
    let scenario = &scenario.on_release(&release);
    let link = settings.carrier.link(scenario);
    let mut result = blank(scenario, link);
    if let Some((reason, hint)) = obstacle(scenario, settings, &release) {
        result.verdict = Verdict::Skipped;
        result.reason = Some(reason);
        result.hint = Some(hint);
        return result;
    }
    let at_least = settings.runs.unwrap_or(scenario.runs);
    let at_most = settings.runs.unwrap_or(scenario.max_runs);
    let mut keeper = Keeper::new(scenario, settings);
    loop {
        let number = settings.first_run + result.runs.len() as u64;
        let start = Instant::now();
        let mut run = Run::default();
        match run_once(scenario, link, number, &mut run, &mut keeper) {
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
        keeper.keep(scenario, &run, false, write);
        result.runs.push(run);
        result.expectations = judge::judge(scenario, &result.runs);
        let count = result.runs.len() as u64;
        ran(count);
        let enough = count >= at_least && !judge::wants_more_runs(&result.expectations);
        // A run that gave no result makes the scenario errored; more of them
        // can't mend that.
        if broken || enough || count >= at_most {
            break;
        }
    }
    conclude(&mut result);
    if let Some(run) = result
        .runs
        .last()
        .filter(|_| result.verdict != Verdict::Passed)
    {
        keeper.keep(scenario, run, true, write);
    }
    result.hint = result.hint.or(keeper.describe());
    result
}

/// What lets a scenario run that this host must not or can't.
const IN_A_GUEST: &str = "a guest can run it: harness kernels fetch debian-6.12 where there is \
                          none yet, and no --kernel host";

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
        .find_map(|(_, command)| command.obstacle())
    {
        return Some(missing);
    }
    if scenario.needs_guest() && !settings.in_guest {
        // A cgroup has a name and outlives a harness that is killed.
        let reason = "it makes a cgroup, which would outlive it";
        return Some((reason.to_owned(), IN_A_GUEST.to_owned()));
    }
    if let Some(user) = scenario.users().find(|user| !privilege::has_user(*user)) {
        let reason = format!("it becomes user {user}, whom this user namespace doesn't have");
        return Some((reason, format!("{IN_A_GUEST}; here it needs root")));
    }
    if scenario.expectations.is_empty() {
        let hint = "its expectations say which releases they are for".to_owned();
        return Some((format!("nothing is expected of {release}"), hint));
    }
    if scenario.long && !settings.long {
        let limit = scenario.time_limit.as_secs();
        let hint = "run it with --long".to_owned();
        return Some((format!("it waits long, up to {limit} s a run"), hint));
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
    if !scenario.needs_netem {
        return None;
    }
    match settings.carrier {
        Carrier::Relay => Some((
            "it asks for netem".to_owned(),
            "leave --link relay out for it".to_owned(),
        )),
        Carrier::Auto | Carrier::Netem => (!kernel_has_netem()).then(|| {
            (
                "it asks for netem, which this kernel does not have".to_owned(),
                IN_A_GUEST.to_owned(),
            )
        }),
    }
}

/// Keeps packets and logs of runs that are not as expected, where that was asked
/// for.
struct Keeper {
    directory: Option<PathBuf>,
    /// The most that is kept of the packets of a host's link.
    most_bytes: usize,
    /// Of the run that was made last.
    last: Option<(Capture, Vec<String>)>,
    /// The directories that were written, or why one could not be.
    kept: Vec<String>,
}

impl Keeper {
    fn new(scenario: &Scenario, settings: &Settings) -> Self {
        Self {
            directory: settings.keep.as_ref().map(|keep| keep.join(&scenario.id)),
            most_bytes: if settings.in_guest {
                capture::MOST_BYTES_IN_GUEST
            } else {
                capture::MOST_BYTES
            },
            last: None,
            kept: Vec::new(),
        }
    }

    /// Writes what there is of the last run, where it alone breaks an expectation.
    /// With `anyhow` it is written unless another one was.
    fn keep(&mut self, scenario: &Scenario, run: &Run, anyhow: bool, write: Write) {
        let broken = || {
            let judged = judge::judge(scenario, std::slice::from_ref(run));
            judged.iter().any(|expectation| {
                expectation.held != Some(true) && expectation.quantifier != Quantifier::Sometimes
            })
        };
        let wanted = if anyhow {
            self.kept.is_empty()
        } else {
            broken()
        };
        let (Some(directory), Some((capture, log)), true) = (&self.directory, &self.last, wanted)
        else {
            return;
        };
        let directory = directory.join(format!("run-{}", run.number));
        let shown = directory.display();
        self.kept.push(match capture.write(&directory, log, write) {
            Ok(()) => shown.to_string(),
            Err(error) => format!("cannot write {shown}: {error}"),
        });
    }

    fn describe(&self) -> Option<String> {
        let first = self.kept.first()?;
        Some(format!("packets and logs: {first}"))
    }
}

/// One run, from a topology that is made for it to one that is gone. Returns
/// how the lab itself disturbed it, where it did.
fn run_once(
    scenario: &Scenario,
    link: Link,
    number: u64,
    run: &mut Run,
    keeper: &mut Keeper,
) -> Result<Option<String>, LabError> {
    let touch = Touch::begin(scenario)?;
    let mut lab = Lab::build(scenario, link, number)?;
    run.seed_honoured = lab.seed_honoured;
    touch.hold(&lab)?;
    let capture = match keeper.directory {
        Some(_) => Some(Capture::open(&lab, keeper.most_bytes)?),
        None => None,
    };
    let watch = Watch::start(&lab)?;
    let stop = AtomicBool::new(false);
    let (play, seen, captured) = std::thread::scope(|scope| {
        let capture = capture.map(|capture| scope.spawn(|| capture.take(&stop)));
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
        let captured = capture.and_then(|thread| thread.join().ok()?.ok());
        play.map(|(play, seen)| (play, seen, captured))
    })?;
    keeper.last = captured.map(|captured| (captured, play.log));
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

pub(crate) fn blank(scenario: &Scenario, link: Link) -> advisor_report::Scenario {
    advisor_report::Scenario {
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
fn conclude(result: &mut advisor_report::Scenario) {
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
