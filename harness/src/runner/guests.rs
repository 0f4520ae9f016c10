//! Runs scenarios in guests, several guests side by side.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use advisor_report::{Kernel, Place, Verdict};

use super::schedule::Progress;
use super::{Settings, Touching, blank};
use crate::guest::protocol::{News, Order};
use crate::guest::qemu::{self, Accelerator, MEMORY_BYTES};
use crate::guest::state::State;
use crate::guest::{Death, Guest, transfer};
use crate::kernels::KernelError;
use crate::kernels::cache::{Cache, Stored};
use crate::lab::Carrier;
use crate::links;
use crate::output;
use crate::suite::scenario::Scenario;

/// A scenario on a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The kernel.
    pub kernel: &'a Stored,
    /// The scenario.
    pub scenario: &'a Scenario,
}

/// Guests that may run side by side: one a processor, and no more than half of
/// the memory that is free holds.
pub fn most_guests() -> usize {
    most(1)
}

/// The same for scenarios that mostly wait: four a processor.
pub fn most_waiting() -> u16 {
    u16::try_from(most(4)).unwrap_or(u16::MAX)
}

fn most(a_processor: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let fitting = available_memory_bytes() / 2 / MEMORY_BYTES;
    let fitting = usize::try_from(fitting).unwrap_or(1);
    (processors * a_processor).min(fitting).max(1)
}

/// Memory that can be had without swapping (MemAvailable of /proc/meminfo).
fn available_memory_bytes() -> u64 {
    fs::read_to_string("/proc/meminfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

/// A kernel that is ready to be run on, with the state that its guests start
/// from.
#[derive(Debug)]
struct Ready<'a> {
    kernel: &'a Stored,
    state: Mutex<State>,
}

/// Runs jobs in up to `guests` guests and returns their results in the order of
/// the jobs. A scenario that acts on the whole kernel has a fresh guest to
/// itself; others go on in one. A guest that dies is the result of its scenario,
/// and the next has a new one. An error where a kernel doesn't boot at all.
pub fn run_all(
    jobs: &[Job],
    settings: &Settings,
    guests: usize,
    cache: &Cache,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<advisor_report::Scenario>, KernelError> {
    let Some(first) = jobs.first() else {
        return Ok(Vec::new());
    };
    let accelerator = qemu::accelerator(first.kernel, cache.directory());
    let mut kernels: Vec<Ready> = Vec::new();
    for job in jobs {
        if kernels.iter().all(|ready| ready.kernel != job.kernel) {
            kernels.push(Ready {
                kernel: job.kernel,
                state: Mutex::new(prepare(job.kernel, accelerator, cache, progress)?),
            });
        }
    }
    // The whole machine is the guest's, and no guest is without netem.
    let settings = Settings {
        carrier: match settings.carrier {
            Carrier::Auto => Carrier::Netem,
            chosen => chosen,
        },
        touching: Touching::Allowed,
        in_guest: true,
        ..settings.clone()
    };
    let mut order: Vec<(usize, usize, &Job)> = jobs
        .iter()
        .enumerate()
        .map(|(index, job)| {
            let kernel = kernels.iter().position(|ready| ready.kernel == job.kernel);
            (index, kernel.unwrap_or_default(), job)
        })
        .collect();
    // What waits long begins first, so that the others run meanwhile; those that
    // go on in one guest together, kernel by kernel.
    order.sort_by_key(|(_, kernel, job)| {
        let scenario = job.scenario;
        (!scenario.long, *kernel, scenario.wants_a_fresh_guest())
    });
    let queue = Mutex::new(VecDeque::from(order));
    let results: Mutex<Vec<Option<advisor_report::Scenario>>> = Mutex::new(vec![None; jobs.len()]);
    std::thread::scope(|scope| {
        for _ in 0..guests.clamp(1, jobs.len()) {
            scope.spawn(|| {
                let mut shared: Option<(usize, Guest)> = None;
                loop {
                    let next = lock(&queue).pop_front();
                    let Some((index, kernel, job)) = next else {
                        break;
                    };
                    progress(Progress::Started(job.scenario));
                    let kept = shared
                        .take()
                        .filter(|(known, _)| {
                            *known == kernel && !job.scenario.wants_a_fresh_guest()
                        })
                        .map(|(_, guest)| guest);
                    let (result, guest) = run_one(
                        &kernels[kernel],
                        kept,
                        job.scenario,
                        &settings,
                        accelerator,
                        cache,
                        progress,
                    );
                    if !job.scenario.wants_a_fresh_guest() {
                        shared = guest.map(|guest| (kernel, guest));
                    }
                    progress(Progress::Ended(&result));
                    lock(&results)[index] = Some(result);
                }
                // All its results are there: a guest that can't end well takes
                // nothing away.
                let _ = shared.map(|(_, guest)| guest.power_off());
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(results.into_iter().flatten().collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The saved state of a kernel, made where there is none.
pub fn prepare(
    kernel: &Stored,
    accelerator: Accelerator,
    cache: &Cache,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<State, KernelError> {
    State::find(kernel, accelerator).map_or_else(
        || {
            progress(Progress::Booting(&kernel.name));
            State::make(kernel, accelerator, cache)
        },
        Ok,
    )
}

/// A guest from the state; a state that gives none is made anew once.
fn start(ready: &Ready, accelerator: Accelerator, cache: &Cache) -> Result<Guest, KernelError> {
    let known = lock(&ready.state).clone();
    if let Ok(guest) = Guest::restore(ready.kernel, accelerator, &known) {
        return Ok(guest);
    }
    let mut state = lock(&ready.state);
    // Another one may have done it while this one waited.
    if state.made() == known.made() {
        *state = State::make(ready.kernel, accelerator, cache)?;
    }
    Guest::restore(ready.kernel, accelerator, &state)
}

/// The result of a scenario, and the guest where it can go on.
fn run_one(
    ready: &Ready,
    kept: Option<Guest>,
    scenario: &Scenario,
    settings: &Settings,
    accelerator: Accelerator,
    cache: &Cache,
    progress: &(dyn Fn(Progress) + Sync),
) -> (advisor_report::Scenario, Option<Guest>) {
    if scenario.skips_emulation && accelerator == Accelerator::Tcg {
        let mut result = blank(scenario, settings.carrier.link(scenario));
        result.verdict = Verdict::Skipped;
        result.reason = Some("it is too much for an emulated processor".to_owned());
        result.hint = Some(
            "--kernel host --touch-host runs it here, where the machine may be disturbed"
                .to_owned(),
        );
        result.kernel = kernel(&ready.kernel.release, accelerator);
        return (result, kept);
    }
    let files = match files_of(scenario) {
        Ok(files) => files,
        Err((reason, hint)) => {
            let mut result = blank(scenario, settings.carrier.link(scenario));
            result.verdict = Verdict::Skipped;
            result.reason = Some(reason);
            result.hint = hint;
            result.kernel = kernel(&ready.kernel.release, accelerator);
            return (result, kept);
        }
    };
    let mut release = ready.kernel.release.clone();
    let started = kept.map_or_else(|| start(ready, accelerator, cache), Ok);
    let (mut result, guest) = match started {
        Ok(mut guest) => {
            // In its own words, whatever the packages are called.
            guest.release.clone_into(&mut release);
            match run_in(&mut guest, scenario, &files, settings, progress) {
                Ok(result) => (result, Some(guest)),
                Err(death) => (errored(scenario, settings, &death), None),
            }
        }
        Err(error) => {
            let death = Death {
                what: error.to_string(),
                console: Vec::new(),
            };
            (errored(scenario, settings, &death), None)
        }
    };
    result.kernel = kernel(&release, accelerator);
    (result, guest)
}

fn kernel(release: &str, accelerator: Accelerator) -> Kernel {
    Kernel {
        release: release.to_owned(),
        place: match accelerator {
            Accelerator::Kvm => Place::QemuKvm,
            Accelerator::Tcg => Place::QemuTcg,
        },
    }
}

fn run_in(
    guest: &mut Guest,
    scenario: &Scenario,
    files: &[PathBuf],
    settings: &Settings,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<advisor_report::Scenario, Death> {
    guest.give(files)?;
    let resolved = Box::new(scenario.with_resolved_commands());
    guest.order(&Order::Run(resolved, settings.clone()))?;
    let mut not_kept = None;
    // A run that the lab disturbed is made again without a word.
    let limit = scenario.time_limit * 4 + Duration::from_secs(60);
    loop {
        match guest.listen(limit)? {
            News::Ran(runs) => progress(Progress::Ran(scenario, runs)),
            News::Kept { path, content, .. } => {
                if let Err(error) = keep(&path, &content, settings) {
                    let shown = path.display();
                    not_kept.get_or_insert_with(|| format!("cannot write {shown}: {error}"));
                }
            }
            News::Ended(mut result) => {
                result.hint = not_kept.or(result.hint);
                return Ok(*result);
            }
            News::Refused(words) => {
                return Err(Death {
                    what: words,
                    console: guest.complaints.clone(),
                });
            }
            News::End => {
                return Err(Death {
                    what: "it ended before the scenario did".to_owned(),
                    console: Vec::new(),
                });
            }
            News::Ready { .. } | News::Alive(_) | News::Measured(_) => {}
        }
    }
}

/// The files that the commands of a scenario take along, or why it can't run in a
/// guest and what to do about it.
fn files_of(scenario: &Scenario) -> Result<Vec<PathBuf>, (String, Option<String>)> {
    if let Some((reason, hint)) = scenario
        .commands()
        .find_map(|(_, command)| command.obstacle())
    {
        return Err((reason, Some(hint)));
    }
    transfer::files_of(scenario).map_err(|reason| {
        let hint = "`needs` names what a guest needs; --kernel host runs it here".to_owned();
        (reason, Some(hint))
    })
}

/// Writes what a guest gives to be kept, below the directory for it and nowhere
/// else.
fn keep(path: &Path, content: &[u8], settings: &Settings) -> io::Result<()> {
    let below = settings.keep.as_ref().map(|keep| path.strip_prefix(keep));
    let is_plain = |path: &Path| {
        path.components()
            .all(|part| matches!(part, Component::Normal(_)))
    };
    match below {
        Some(Ok(below)) if is_plain(below) => output::write(path, content),
        _ => Err(io::Error::other("nothing is to be kept there")),
    }
}

/// Compares the relay with netem in a guest, link by link; `said` is called with
/// each pair of samples as it comes.
pub fn measure_links(
    kernel: &Stored,
    packets: u32,
    cache: &Cache,
    progress: &(dyn Fn(Progress) + Sync),
    mut said: impl FnMut(&str, &links::Pair),
) -> Result<(), KernelError> {
    let accelerator = qemu::accelerator(kernel, cache.directory());
    let ready = Ready {
        kernel,
        state: Mutex::new(prepare(kernel, accelerator, cache, progress)?),
    };
    let mut guest = start(&ready, accelerator, cache)?;
    for link in links::LINKS {
        let pair = measure_link(&mut guest, link, packets).map_err(|death| {
            let words = death.to_string();
            KernelError::environment(&kernel.name, &format!("compare {link:?}"), &words, "")
        })?;
        said(&guest.release, &pair);
    }
    Ok(())
}

fn measure_link(guest: &mut Guest, link: &str, packets: u32) -> Result<links::Pair, Death> {
    guest.order(&Order::MeasureLink {
        link: link.to_owned(),
        packets,
    })?;
    // A millisecond for each, and a measurement that is disturbed is made again.
    let limit = Duration::from_millis(u64::from(packets)) * 20 + Duration::from_secs(60);
    loop {
        match guest.listen(limit)? {
            News::Measured(pair) => return Ok(*pair),
            News::Refused(words) => {
                return Err(Death {
                    what: words,
                    console: Vec::new(),
                });
            }
            _ => {}
        }
    }
}

/// The result of a scenario whose guest gave none.
fn errored(scenario: &Scenario, settings: &Settings, death: &Death) -> advisor_report::Scenario {
    let mut result = blank(scenario, settings.carrier.link(scenario));
    result.verdict = Verdict::Errored;
    result.reason = Some(death.to_string());
    result.console.clone_from(&death.console);
    result
}
