//! Runs scenarios on this machine's kernel.

use std::cmp::Reverse;

use advisor_report::ScenarioResult;

use super::executor::{Batch, Executor, Job, Worker};
use super::{Error, OnProgress, Options, Progress, Settings, local};
use crate::host_settings;
use crate::lab::{self, Carrier};
use crate::privilege::Privilege;

/// Whether long, and whether each has the kernel to itself: one after the other.
/// Long scenarios come last, so that the other results can be read before.
const PHASES: [(bool, bool); 4] = [(false, true), (false, false), (true, false), (true, true)];

/// Scenarios for each CPU at the same time, as most of them wait.
const PER_CPU: usize = 12;
/// Scenarios at the same time at most.
const MOST_AT_ONCE: usize = 64;

/// This machine's kernel.
pub(super) struct HostKernel {
    settings: Settings,
    at_once: usize,
}

impl HostKernel {
    /// Puts back what an interrupted run left, before anything is measured.
    pub(super) fn prepare(
        privilege: &Privilege,
        options: &Options,
        progress: OnProgress,
    ) -> Result<Self, Error> {
        if let Privilege::None(why) = privilege {
            return Err(Error::Namespaces(why.clone()));
        }
        let settings = Settings::new(options, Some(privilege));
        if settings.options.carrier == Carrier::Netem && !lab::kernel_has_netem() {
            return Err(Error::Netem);
        }
        if *privilege == Privilege::Root {
            let directory = host_settings::STATE_DIRECTORY.as_ref();
            let changes = host_settings::restore_alone(directory).map_err(Error::Restore)?;
            for (change, restored) in changes.into_iter().flatten() {
                progress(Progress::Restored(&change, restored));
            }
        }
        let at_once = options.jobs.unwrap_or_else(|| {
            (PER_CPU * std::thread::available_parallelism().map_or(1, usize::from))
                .min(MOST_AT_ONCE)
        });
        Ok(Self { settings, at_once })
    }
}

/// The jobs by [`PHASES`], each with up to `at_once` at the same time.
pub(super) fn batches(jobs: &[Job], at_once: usize) -> Vec<Batch> {
    let batch = |(long, alone)| {
        let mut batch: Vec<usize> = (0..jobs.len())
            .filter(|place| jobs[*place].scenario.long == long)
            .filter(|place| jobs[*place].scenario.wants_the_kernel_to_itself() == alone)
            .collect();
        // Else the run may end with a wait for one that was started late.
        batch.sort_by_key(|place| Reverse(jobs[*place].scenario.time_limit));
        Batch {
            jobs: batch,
            at_once: if alone { 1 } else { at_once },
        }
    };
    PHASES.map(batch).into()
}

impl Executor for HostKernel {
    fn batches(&self, jobs: &[Job]) -> Vec<Batch> {
        batches(jobs, self.at_once)
    }

    fn worker(&self) -> Box<dyn Worker + '_> {
        Box::new(self)
    }
}

impl Worker for &HostKernel {
    fn run(&mut self, job: &Job, progress: OnProgress) -> ScenarioResult {
        local::run_scenario(job.scenario, &self.settings, |runs| {
            progress(Progress::Ran(job.scenario, runs));
        })
    }
}
