//! Scenarios x kernels -> results.
//!
//! A [`Plan`] says which scenario runs on which kernel. An
//! [`executor::Executor`] runs the jobs of a plan: `host` on this machine's
//! kernel, `guests` in QEMU. Both end in `local`, which runs one scenario on
//! the kernel of its own process.
//!
//! Imports suite, actor, lab, host_settings, kernels, guest and the ground
//! (output, privilege); not report, nor any command.

pub mod capture;
pub mod execution;
pub mod executor;
pub mod guests;
mod host;
pub mod judge;
mod keep;
mod local;
pub mod plan;
#[cfg(test)]
pub(crate) mod scripted;
mod seeded;
pub mod trace;
pub mod watch;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use advisor_report::{Clock, ScenarioResult};

use crate::host_settings::{Change, Restored};
use crate::kernels::KernelError;
use crate::lab::Carrier;
use crate::privilege::Privilege;
use crate::suite::scenario::Scenario;
use executor::{Executor, Job};
pub use keep::Keep;
use plan::Plan;

/// How the user wants scenarios to be run; the same on every kernel.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Options {
    /// What carries impaired links.
    pub carrier: Carrier,
    /// What the clock of guests counts. Default: virtual in emulated guests.
    pub clock: Option<Clock>,
    /// Makes the runs in guests repeatable.
    pub seed: Option<u64>,
    /// Runs of each scenario. Default: the scenario's own number.
    pub runs: Option<u64>,
    /// The number of the first run. Runs of other numbers have other random
    /// draws. Default: 0.
    pub first_run: u64,
    /// Whether scenarios that wait for minutes are run.
    pub long: bool,
    /// Whether scenarios may set sysctls of this machine.
    pub touch_host: bool,
    /// Whether results have the traces of runs.
    #[serde(default)]
    pub trace: bool,
    /// Where packets and logs of runs go.
    pub keep: Option<Keep>,
    /// Jobs at the same time. Default: as many as the machine takes.
    pub jobs: Option<usize>,
    /// Whether errored scenarios are run once more. On a busy machine a guest's
    /// clock can run wrong, or a run take too long.
    pub retry_errored: bool,
}

impl Options {
    /// Whether packets and logs of runs that are as expected are kept, too.
    fn keeps_every_run(&self) -> bool {
        self.keep.as_ref().is_some_and(|keep| keep.always)
    }
}

/// How scenarios are run on one machine: this one, or a guest.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Settings {
    /// What the user wants, with the carrier that this machine has.
    pub options: Options,
    /// Whether scenarios may set sysctls of the whole machine.
    pub touching: Touching,
    /// Whether the machine is a guest, which is thrown away afterwards.
    pub in_guest: bool,
}

/// Whether scenarios may set sysctls of the whole machine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Touching {
    /// `--touch-host`, as root.
    Allowed,
    /// No `--touch-host`.
    NotAsked,
    /// `--touch-host`, but not as root.
    NotRoot,
}

impl Settings {
    /// For a machine: this one, with what the process may do here, or a guest
    /// (`None`). The whole guest is the scenario's, and each guest has netem.
    fn new(options: &Options, here: Option<&Privilege>) -> Self {
        let touching = match (here, options.touch_host) {
            (None, _) | (Some(Privilege::Root), true) => Touching::Allowed,
            (Some(_), false) => Touching::NotAsked,
            (Some(_), true) => Touching::NotRoot,
        };
        let mut options = options.clone();
        if here.is_none() && options.carrier == Carrier::Auto {
            options.carrier = Carrier::Netem;
        }
        Self {
            options,
            touching,
            in_guest: here.is_none(),
        }
    }
}

/// What happens while scenarios run. `Ended` comes in the order in which
/// scenarios end, not in that of the suite.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A sysctl that an interrupted run left changed was looked at.
    Restored(&'a Change, Restored),
    /// The kernel of this name boots, before anything runs on it.
    Booting(&'a str),
    /// A scenario starts.
    Started(&'a Scenario),
    /// A scenario has had that many runs.
    Ran(&'a Scenario, u64),
    /// A scenario has ended.
    Ended(&'a ScenarioResult),
    /// That many scenarios errored and are run once more.
    Retrying(usize),
}

/// Receives what happens, from any thread.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Sync);

/// Why nothing ran.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process has no rights to make network namespaces.
    #[error("cannot make network namespaces: {0}")]
    Namespaces(String),
    /// `--link netem` on a kernel without it.
    #[error("router: cannot add netem: ENOENT")]
    Netem,
    /// Sysctls that an interrupted run left changed could not be put back.
    #[error("cannot put back what an earlier run left: {0}")]
    Restore(io::Error),
    /// A kernel could not be found or booted.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Packets or logs of a run could not be written; the runs are as they are.
    #[error("{}: cannot keep packets and logs: {error}", path.display())]
    Keep {
        /// The first file that could not be written.
        path: PathBuf,
        /// Why, in the kernel's words.
        error: String,
    },
}

impl Error {
    /// What to do about it; may be empty.
    pub fn hint(&self) -> &str {
        match self {
            Self::Namespaces(_) => {
                "run it as root (sudo harness run ...), or in a guest, which needs no rights \
                 (harness kernels fetch debian-6.12); `harness doctor` says more"
            }
            Self::Netem => {
                "this kernel has no sch_netem; run with --link relay or in a guest (--kernel \
                 debian-6.12)"
            }
            Self::Restore(_) => "harness restore",
            Self::Keep { .. } => "the verdicts are right; --keep takes a directory with room",
            Self::Kernel(error) => error.hint(),
        }
    }

    /// Whether what the user asked for is wrong, and not the machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Kernel(error) if error.is_usage)
    }
}

/// What a plan came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In the order of the plan's jobs.
    pub results: Vec<ScenarioResult>,
    /// Why guests gave no results, or what could not be kept; the results that there are
    /// stand all the same.
    pub error: Option<Error>,
}

/// Runs what is planned: the jobs of this machine first, then those of guests.
pub fn run(plan: &Plan, options: &Options, progress: OnProgress) -> Result<Outcome, Error> {
    let on_host = |_: &[Job]| -> Result<Box<dyn Executor>, Error> {
        Ok(Box::new(host::HostKernel::prepare(
            &plan.privilege,
            options,
            progress,
        )?))
    };
    let in_guests = |jobs: &[Job]| -> Result<Box<dyn Executor>, Error> {
        Ok(Box::new(guests::Guests::prepare(jobs, options, progress)?))
    };
    carry_out(&plan.jobs, &on_host, &in_guests, options, progress)
}

/// Makes the executor for jobs.
type Prepare<'a> = &'a dyn Fn(&[Job]) -> Result<Box<dyn Executor>, Error>;

fn carry_out(
    jobs: &[Job],
    on_host: Prepare,
    in_guests: Prepare,
    options: &Options,
    progress: OnProgress,
) -> Result<Outcome, Error> {
    let mut results: Vec<(usize, ScenarioResult)> = Vec::new();
    let mut failed = None;
    for (prepare, is_guest) in [(on_host, false), (in_guests, true)] {
        let (places, chosen): (Vec<usize>, Vec<Job>) = jobs
            .iter()
            .cloned()
            .enumerate()
            .filter(|(_, job)| job.kernel.is_some() == is_guest)
            .unzip();
        if chosen.is_empty() {
            continue;
        }
        match prepare(&chosen) {
            Ok(executor) => {
                let seen = executor::run_all(&*executor, &chosen, options.retry_errored, progress);
                results.extend(places.into_iter().zip(seen));
            }
            // What the host has shown is reported all the same.
            Err(error) if is_guest => failed = Some(error),
            Err(error) => return Err(error),
        }
    }
    results.sort_by_key(|(place, _)| *place);
    Ok(Outcome {
        results: results.into_iter().map(|(_, result)| result).collect(),
        error: failed.or_else(|| options.keep.as_ref()?.failure()),
    })
}
