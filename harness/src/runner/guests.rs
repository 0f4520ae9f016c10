//! Runs scenarios in guests.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use advisor_report::{self, Clock, Dependence, Kernel, Machine, ScenarioResult, Verdict};
use serde::{Deserialize, Serialize};

use super::executor::{Batch, Executor, Job, Worker};
use super::local::{self, blank, run_and_keep};
use super::{OnProgress, Options, Progress, Settings};
use crate::guest::protocol::{News, Order};
use crate::guest::qemu::{self, Accelerator, MEMORY_BYTES};
use crate::guest::state::State;
use crate::guest::{Beginning, Death, Guest, init, transfer};
use crate::kernels::KernelError;
use crate::kernels::cache::{Cache, Stored};
use crate::lab::datagrams::{self, Pair};
use crate::suite::{self, scenario::Scenario};

/// Guests at the same time: one for each CPU, in at most half of the available
/// memory.
fn most_guests() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let fitting = available_memory_bytes() / 2 / MEMORY_BYTES;
    let fitting = usize::try_from(fitting).unwrap_or(1);
    processors.min(fitting).max(1)
}

/// Memory available without swapping (MemAvailable of /proc/meminfo).
fn available_memory_bytes() -> u64 {
    fs::read_to_string("/proc/meminfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

/// A kernel with the saved state that its guests start from.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) kernel: Arc<Stored>,
    accelerator: Accelerator,
    state: Mutex<State>,
    /// What repeatable runs depend on, once it was asked.
    pub(super) dependence: OnceLock<Dependence>,
}

impl Ready {
    /// Boots the kernel where it has no saved state yet.
    fn prepare(
        kernel: Arc<Stored>,
        accelerator: Accelerator,
        cache: &Cache,
        progress: OnProgress,
    ) -> Result<Self, KernelError> {
        let state = State::find(&kernel, accelerator).map_or_else(
            || {
                progress(Progress::Booting(&kernel.name));
                State::make(&kernel, accelerator, cache)
            },
            Ok,
        )?;
        Ok(Self {
            kernel,
            accelerator,
            state: Mutex::new(state),
            dependence: OnceLock::new(),
        })
    }

    /// The same with the clock that its guests have.
    fn settings(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        settings.options.clock = Some(clock(self.accelerator));
        settings
    }

    /// A guest restored from the state, with a time of day and random numbers of the
    /// host's.
    fn start(&self, cache: &Cache) -> Result<Guest, KernelError> {
        let beginning = Beginning::here().map_err(|error| {
            let action = "give it random numbers";
            KernelError::environment(&self.kernel.name, action, &error.to_string(), "")
        })?;
        self.start_with(cache, &beginning)
    }

    /// A guest restored from the state. A state that does not restore is made
    /// anew once.
    pub(super) fn start_with(
        &self,
        cache: &Cache,
        beginning: &Beginning,
    ) -> Result<Guest, KernelError> {
        let accelerator = self.accelerator;
        let known = lock(&self.state).clone();
        if let Ok(guest) = Guest::restore(&self.kernel, accelerator, &known, beginning) {
            return Ok(guest);
        }
        let mut state = lock(&self.state);
        // Another worker may have made it while this one waited.
        if state.made() == known.made() {
            *state = State::make(&self.kernel, accelerator, cache)?;
        }
        Guest::restore(&self.kernel, accelerator, &state, beginning)
    }
}

/// Kernels that guests can be started with.
pub(super) struct Guests {
    kernels: Vec<Ready>,
    pub(super) settings: Settings,
    speed: Speed,
    pub(super) cache: Cache,
    at_once: usize,
}

/// What runs guests here, and what their clock is to count.
#[derive(Clone, Copy, Debug)]
struct Speed {
    /// What runs guests in real time.
    real: Accelerator,
    /// What was asked for.
    asked: Option<Clock>,
}

impl Speed {
    /// What runs a scenario: in virtual time, unless the processor runs guests
    /// itself, the user wants real time or the scenario needs it.
    fn accelerator(self, scenario: &Scenario) -> Accelerator {
        let default = match self.real {
            Accelerator::Kvm => Clock::Real,
            Accelerator::Tcg | Accelerator::Icount => Clock::Virtual,
        };
        // What was asked for rules: a scenario that can't do with it is skipped.
        match self.asked.or(scenario.clock).unwrap_or(default) {
            Clock::Virtual => Accelerator::Icount,
            Clock::Real => self.real,
        }
    }
}

impl Guests {
    /// Boots each kernel of the jobs that has no saved state. An error where one
    /// does not boot.
    pub(super) fn prepare(
        jobs: &[Job],
        options: &Options,
        progress: OnProgress,
    ) -> Result<Self, KernelError> {
        let cache = Cache::of_user()?;
        let first = jobs.iter().find_map(|job| job.kernel.as_ref());
        let speed = Speed {
            real: first.map_or(Accelerator::Tcg, |kernel| {
                qemu::accelerator(kernel, cache.directory())
            }),
            asked: options.clock,
        };
        let mut needed: Vec<(Arc<Stored>, Accelerator)> = Vec::new();
        for job in jobs {
            let Some(kernel) = &job.kernel else { continue };
            let guest = (Arc::clone(kernel), speed.accelerator(job.scenario));
            if !needed.contains(&guest) {
                needed.push(guest);
            }
        }
        let ready = |(kernel, accelerator)| Ready::prepare(kernel, accelerator, &cache, progress);
        Ok(Self {
            kernels: needed.into_iter().map(ready).collect::<Result<_, _>>()?,
            settings: Settings::new(options, None),
            speed,
            at_once: options.jobs.unwrap_or_else(most_guests),
            cache,
        })
    }

    fn place(&self, job: &Job) -> usize {
        let accelerator = self.speed.accelerator(job.scenario);
        let is_of_job = |ready: &Ready| {
            Some(&ready.kernel) == job.kernel.as_ref() && ready.accelerator == accelerator
        };
        self.kernels.iter().position(is_of_job).unwrap_or_default()
    }
}

/// The order in which jobs start. Long scenarios start first, so that the others
/// run meanwhile; then kernel by kernel, those that share a guest together.
pub(super) fn order(jobs: &[Job], kernel: impl Fn(&Job) -> usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|index| {
        let job = &jobs[*index];
        let fresh = job.scenario.wants_a_fresh_guest();
        (!job.scenario.long, kernel(job), fresh)
    });
    order
}

impl Executor for Guests {
    fn batches(&self, jobs: &[Job]) -> Vec<Batch> {
        vec![Batch {
            jobs: order(jobs, |job| self.place(job)),
            at_once: self.at_once,
        }]
    }

    fn worker(&self) -> Box<dyn Worker + '_> {
        Box::new(InGuest {
            guests: self,
            kept: None,
        })
    }
}

/// Runs scenarios in one guest as long as it lasts. A scenario that acts on the
/// whole kernel has a fresh guest to itself.
struct InGuest<'a> {
    guests: &'a Guests,
    /// The guest, with the index of its kernel.
    kept: Option<(usize, Guest)>,
}

impl Worker for InGuest<'_> {
    fn run(&mut self, job: &Job, progress: OnProgress) -> ScenarioResult {
        let place = self.guests.place(job);
        let fresh = job.scenario.wants_a_fresh_guest();
        let kept = self.kept.take();
        let kept = kept.filter(|(known, _)| *known == place && !fresh);
        let ready = &self.guests.kernels[place];
        if let Some(seed) = job.seed {
            return self.guests.run_seeded(ready, job.scenario, seed, progress);
        }
        let (result, guest) =
            self.guests
                .run_one(ready, kept.map(|(_, guest)| guest), job.scenario, progress);
        self.kept = guest.filter(|_| !fresh).map(|guest| (place, guest));
        result
    }
}

impl Drop for InGuest<'_> {
    fn drop(&mut self) {
        // All its results are there: a guest that does not power off loses nothing.
        let _ = self.kept.take().map(|(_, guest)| guest.power_off());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guests {
    /// The result of a scenario, and the guest if it can be used again. A guest
    /// that dies is the result of its scenario, and the next scenario has a new
    /// one.
    fn run_one(
        &self,
        ready: &Ready,
        kept: Option<Guest>,
        scenario: &Scenario,
        progress: OnProgress,
    ) -> (ScenarioResult, Option<Guest>) {
        let files = match self.files_of(ready, scenario) {
            Ok(files) => files,
            Err(skipped) => return (*skipped, kept),
        };
        let mut release = ready.kernel.release.clone();
        let started = kept.map_or_else(|| ready.start(&self.cache), Ok);
        let (mut result, guest) = match started {
            Ok(mut guest) => {
                // As the running kernel gives it, whatever the packages are
                // called.
                guest.release.clone_into(&mut release);
                let settings = &ready.settings(&self.settings);
                let mut not_kept = None;
                let ran = |runs| progress(Progress::Ran(scenario, runs));
                let result = run_in(
                    &mut guest,
                    scenario,
                    &files,
                    settings,
                    ran,
                    |path, content| {
                        if let Err(error) = keep(&path, &content, settings) {
                            let shown = path.display();
                            not_kept
                                .get_or_insert_with(|| format!("cannot write {shown}: {error}"));
                        }
                    },
                );
                let result = result.map(|mut result| {
                    result.hint = not_kept.or(result.hint);
                    result
                });
                match result {
                    Ok(result) => (result, Some(guest)),
                    Err(death) => (errored(scenario, &self.settings, &death), None),
                }
            }
            Err(error) => {
                let death = died(error.to_string(), Vec::new());
                (errored(scenario, &self.settings, &death), None)
            }
        };
        result.kernel = kernel(&release, ready.accelerator);
        (result, guest)
    }

    /// The files that a scenario's commands need, or the result of one that can't run.
    pub(super) fn files_of(
        &self,
        ready: &Ready,
        scenario: &Scenario,
    ) -> Result<Vec<PathBuf>, Box<ScenarioResult>> {
        if let Some((reason, hint)) = local::fault(scenario) {
            let mut result = self.blank(ready, scenario);
            result.reason = Some(reason);
            result.hint = Some(hint);
            return Err(Box::new(result));
        }
        obstacle(scenario, ready.accelerator)
            .map_or_else(|| files_of(scenario), Err)
            .map_err(|(reason, hint)| {
                let mut result = self.blank(ready, scenario);
                result.verdict = Verdict::Skipped;
                result.reason = Some(reason);
                result.hint = Some(hint);
                Box::new(result)
            })
    }

    /// A result without runs.
    pub(super) fn blank(&self, ready: &Ready, scenario: &Scenario) -> ScenarioResult {
        let mut result = blank(scenario, scenario.link(self.settings.options.carrier));
        result.kernel = kernel(&ready.kernel.release, ready.accelerator);
        result
    }
}

/// Why a scenario can't run in these guests, and what to do about it.
fn obstacle(scenario: &Scenario, accelerator: Accelerator) -> Option<(String, String)> {
    if scenario.clock == Some(Clock::Real) && accelerator.is_virtual() {
        return Some((
            "it measures the machine's own speed, which a virtual clock does not show".to_owned(),
            "run it with --clock real".to_owned(),
        ));
    }
    if scenario.clock == Some(Clock::Virtual) && !accelerator.is_virtual() {
        return Some(local::too_long(scenario));
    }
    if scenario.skips_emulation && accelerator != Accelerator::Kvm {
        return Some((
            "it is too much for an emulated processor".to_owned(),
            "--kernel host --touch-host runs it here, where the machine may be disturbed"
                .to_owned(),
        ));
    }
    let mut commands = scenario.commands();
    commands.find_map(|(_, command)| command.obstacle())
}

fn died(what: String, console: Vec<String>) -> Death {
    Death { what, console }
}

fn kernel(release: &str, accelerator: Accelerator) -> Kernel {
    Kernel {
        release: release.to_owned(),
        machine: match accelerator {
            Accelerator::Kvm => Machine::QemuKvm,
            Accelerator::Tcg | Accelerator::Icount => Machine::QemuTcg,
        },
        clock: clock(accelerator),
    }
}

fn clock(accelerator: Accelerator) -> Clock {
    if accelerator.is_virtual() {
        Clock::Virtual
    } else {
        Clock::Real
    }
}

/// Runs a scenario in a guest; `kept` gets each file that is to be kept.
pub(super) fn run_in(
    guest: &mut Guest,
    scenario: &Scenario,
    files: &[PathBuf],
    settings: &Settings,
    ran: impl Fn(u64),
    mut kept: impl FnMut(PathBuf, Vec<u8>),
) -> Result<ScenarioResult, Death> {
    guest.give(files)?;
    let resolved = Box::new(scenario.with_resolved_commands());
    // Disturbed runs are repeated.
    let limit = scenario.time_limit * 4 + Duration::from_secs(60);
    work(
        guest,
        &Work::Run(resolved, settings.clone()),
        limit,
        |said| match said {
            Said::Ran(runs) => {
                ran(runs);
                None
            }
            Said::Kept(path, content) => {
                kept(path, content);
                None
            }
            Said::Ended(result) => Some(*result),
            Said::Measured(_) => None,
        },
    )
}

/// A job for a guest.
#[derive(Debug, Deserialize, Serialize)]
enum Work {
    /// Run a scenario.
    Run(Box<Scenario>, Settings),
    /// Compare the relay with netem over one of [`datagrams::LINKS`].
    MeasureLink {
        /// The link, as a suite writes it.
        link: String,
        /// Datagrams over each.
        packets: u32,
    },
}

/// A message of a guest about its job.
#[derive(Debug, Deserialize, Serialize)]
enum Said {
    /// The scenario has had that many runs.
    Ran(u64),
    /// A file to keep of a run. It is sent as [`News::Kept`].
    #[serde(skip)]
    Kept(PathBuf, Vec<u8>),
    /// The scenario's result.
    Ended(Box<ScenarioResult>),
    /// The samples of a link.
    Measured(Box<Pair>),
}

/// `harness guest`: runs jobs in a guest until the host ends it.
pub fn serve() -> io::Result<()> {
    init::serve(|work, host| {
        // If the host is gone, the next read ends.
        let say = |said: &Said| host.result(said).map_err(|error| error.to_string());
        match serde_json::from_value(work) {
            Ok(Work::Run(scenario, settings)) => {
                let ran = |runs| drop(say(&Said::Ran(runs)));
                let result = run_and_keep(&scenario, &settings, ran, &mut |path, content| {
                    host.keep(path, content)
                });
                say(&Said::Ended(Box::new(result)))
            }
            Ok(Work::MeasureLink { link, packets }) => {
                let known = datagrams::LINKS.iter().find(|known| **known == link);
                let link = known.ok_or_else(|| format!("no link is compared as {link:?}"))?;
                let impairment = suite::impairment(link).map_err(|error| error.to_string())?;
                let pair = datagrams::measure(link, &impairment, packets);
                let pair = pair.map_err(|error| error.to_string())?;
                say(&Said::Measured(Box::new(pair)))
            }
            Err(error) => Err(format!("it isn't understood: {error}")),
        }
    })
}

/// Sends a job to a guest and passes its messages to `take`, until that returns
/// something.
fn work<T>(
    guest: &mut Guest,
    work: &Work,
    limit: Duration,
    mut take: impl FnMut(Said) -> Option<T>,
) -> Result<T, Death> {
    let work = serde_json::to_value(work).map_err(|error| {
        died(
            format!("its work can't be written down: {error}"),
            Vec::new(),
        )
    })?;
    guest.order(&Order::Work(work))?;
    loop {
        let said = match guest.listen(limit)? {
            News::Result(said) => serde_json::from_value(said).map_err(|error| {
                died(format!("its result isn't understood: {error}"), Vec::new())
            })?,
            News::Kept { path, content, .. } => Said::Kept(path, content),
            News::Refused(words) => return Err(died(words, guest.complaints.clone())),
            News::End => {
                return Err(died("it ended before its work did".to_owned(), Vec::new()));
            }
            News::Ready { .. } | News::Alive(_) => continue,
        };
        if let Some(taken) = take(said) {
            return Ok(taken);
        }
    }
}

/// The files that a scenario's commands need, or why it cannot run in a guest
/// and what to do about it.
fn files_of(scenario: &Scenario) -> Result<Vec<PathBuf>, (String, String)> {
    transfer::files_of(scenario).map_err(|reason| {
        let hint = "`needs` names what a guest needs; --kernel host runs it here".to_owned();
        (reason, hint)
    })
}

/// Writes a file that a guest sent to keep; only below `--keep`.
fn keep(path: &Path, content: &[u8], settings: &Settings) -> io::Result<()> {
    let keep = settings.options.keep.as_ref();
    let below = keep.and_then(|keep| Some((keep, path.strip_prefix(&keep.directory).ok()?)));
    match below {
        Some((keep, below)) if is_plain(below) => keep.write(path, content),
        _ => Err(io::Error::other("nothing is to be kept there")),
    }
}

/// Whether a path stays below where it is joined.
pub(super) fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Measures the relay and netem in a guest, link by link; `measured` is called
/// with the guest's release and each pair of samples as it comes.
pub fn measure_links(
    kernel: &Stored,
    packets: u32,
    progress: OnProgress,
    mut measured: impl FnMut(&str, &Pair),
) -> Result<(), KernelError> {
    let cache = Cache::of_user()?;
    let accelerator = qemu::accelerator(kernel, cache.directory());
    let ready = Ready::prepare(Arc::new(kernel.clone()), accelerator, &cache, progress)?;
    let mut guest = ready.start(&cache)?;
    // A millisecond for each; disturbed measurements are repeated.
    let limit = Duration::from_millis(u64::from(packets)) * 20 + Duration::from_secs(60);
    for link in datagrams::LINKS {
        let job = Work::MeasureLink {
            link: (*link).to_owned(),
            packets,
        };
        let pair = work(&mut guest, &job, limit, |said| match said {
            Said::Measured(pair) => Some(pair),
            _ => None,
        })
        .map_err(|death| {
            let words = death.to_string();
            KernelError::environment(&kernel.name, &format!("compare {link:?}"), &words, "")
        })?;
        measured(&guest.release, &pair);
    }
    Ok(())
}

/// The result of a scenario whose guest gave none.
fn errored(scenario: &Scenario, settings: &Settings, death: &Death) -> ScenarioResult {
    let mut result = blank(scenario, scenario.link(settings.options.carrier));
    result.verdict = Verdict::Errored;
    result.reason = Some(death.to_string());
    result.console.clone_from(&death.console);
    result
}
