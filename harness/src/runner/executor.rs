//! Runs jobs side by side, whatever runs one of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use advisor_report::{ScenarioResult, Verdict};

use super::{OnProgress, Progress};
use crate::kernels::cache::Stored;
use crate::suite::scenario::Scenario;

/// A scenario on a kernel.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The kernel of a guest; `None` is this machine's own.
    pub kernel: Option<Arc<Stored>>,
    /// What makes its runs repeatable, in virtual time.
    pub seed: Option<u64>,
}

/// Jobs that may run at the same time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Batch {
    /// The indices of the jobs, in the order in which they start.
    pub jobs: Vec<usize>,
    /// How many of them run at the same time, at most.
    pub at_once: usize,
}

/// Runs jobs on one kind of machine.
pub trait Executor: Sync {
    /// The jobs in batches, which run one after the other.
    fn batches(&self, jobs: &[Job]) -> Vec<Batch>;

    /// A worker, which runs one job after the other on a thread of its own.
    fn worker(&self) -> Box<dyn Worker + '_>;
}

/// Runs one job after the other.
pub trait Worker {
    /// Runs a job and says how far it is.
    fn run(&mut self, job: &Job, progress: OnProgress) -> ScenarioResult;
}

/// Runs all jobs and returns their results in the order of the jobs. With
/// `retry_errored` those that errored are run once more.
pub fn run_all(
    executor: &dyn Executor,
    jobs: &[Job],
    retry_errored: bool,
    progress: OnProgress,
) -> Vec<ScenarioResult> {
    let mut results = run_once(executor, jobs, progress);
    if !retry_errored {
        return results;
    }
    let (places, errored): (Vec<usize>, Vec<Job>) = (0..jobs.len())
        .filter(|place| results[*place].verdict == Verdict::Errored)
        .map(|place| (place, jobs[place].clone()))
        .unzip();
    if !errored.is_empty() {
        progress(Progress::Retrying(errored.len()));
        for (place, result) in places
            .into_iter()
            .zip(run_once(executor, &errored, progress))
        {
            results[place] = result;
        }
    }
    results
}

/// Milliseconds since 1970; a guest's own clock may count something else.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn run_once(executor: &dyn Executor, jobs: &[Job], progress: OnProgress) -> Vec<ScenarioResult> {
    let results: Vec<OnceLock<ScenarioResult>> = jobs.iter().map(|_| OnceLock::new()).collect();
    for batch in executor.batches(jobs) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..batch.at_once.min(batch.jobs.len()) {
                scope.spawn(|| {
                    let mut worker = executor.worker();
                    while let Some(place) = batch.jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let job = &jobs[*place];
                        progress(Progress::Started(job.scenario));
                        let started_ms = now_ms();
                        let mut result = worker.run(job, progress);
                        // What a seed repeats is the same on another day.
                        if result.repeatable.is_none() {
                            result.started_ms = started_ms;
                        }
                        progress(Progress::Ended(&result));
                        results[*place].get_or_init(|| result);
                    }
                });
            }
        });
    }
    results
        .into_iter()
        .filter_map(OnceLock::into_inner)
        .collect()
}
