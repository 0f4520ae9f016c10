//! Which scenarios run when: side by side where they share nothing global.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, RwLock};

use advisor::evidence;

use super::{Settings, run_scenario};
use crate::suite::scenario::Scenario;

/// What happens while scenarios run. The order of `Ended` is that in which
/// they end, not that of the suite.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A kernel boots, by its name, before anything runs on it.
    Booting(&'a str),
    /// A scenario starts.
    Started(&'a Scenario),
    /// A scenario has had that many runs.
    Ran(&'a Scenario, u64),
    /// A scenario has ended.
    Ended(&'a evidence::Scenario),
}

/// Runs scenarios on up to `jobs` threads and returns their results in the
/// order of the suite. A scenario that looks at or acts on the whole kernel
/// has the harness to itself.
pub fn run_all(
    scenarios: &[Scenario],
    settings: &Settings,
    jobs: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> Vec<evidence::Scenario> {
    // Those that want the kernel to themselves come one after the other: each one
    // between others would have to wait until all of these have ended. Those that
    // wait long come last, and wait side by side.
    let mut order: Vec<usize> = (0..scenarios.len()).collect();
    order.sort_by_key(|index| {
        let scenario = &scenarios[*index];
        let alone = scenario.wants_the_kernel_to_itself();
        (scenario.long, alone == scenario.long)
    });
    let queue = Mutex::new(VecDeque::from(order));
    let alone = RwLock::new(());
    let results: Mutex<Vec<Option<evidence::Scenario>>> = Mutex::new(vec![None; scenarios.len()]);
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, scenarios.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(index) = next else { return };
                    let scenario = &scenarios[index];
                    let (_one, _many);
                    if scenario.wants_the_kernel_to_itself() {
                        _one = alone.write().unwrap_or_else(PoisonError::into_inner);
                    } else {
                        _many = alone.read().unwrap_or_else(PoisonError::into_inner);
                    }
                    progress(Progress::Started(scenario));
                    let result = run_scenario(scenario, settings, |runs| {
                        progress(Progress::Ran(scenario, runs));
                    });
                    progress(Progress::Ended(&result));
                    results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
                }
            });
        }
    });
    results
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter()
        .flatten()
        .collect()
}
