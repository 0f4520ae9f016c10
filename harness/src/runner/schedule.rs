//! Which scenarios run when: side by side where they share nothing global.

use std::cmp::Reverse;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Settings, run_scenario};
use crate::suite::scenario::Scenario;

/// Whether long, and whether each has the kernel to itself: one after the other.
/// What waits long comes last, so that the rest can be read before.
const PHASES: [(bool, bool); 4] = [(false, true), (false, false), (true, false), (true, true)];

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
    Ended(&'a advisor_report::Scenario),
}

/// Runs scenarios on up to `jobs` threads and returns their results in the
/// order of the suite. A scenario that looks at or acts on the whole kernel
/// has the harness to itself.
pub fn run_all(
    scenarios: &[Scenario],
    settings: &Settings,
    jobs: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> Vec<advisor_report::Scenario> {
    let results: Vec<OnceLock<advisor_report::Scenario>> =
        scenarios.iter().map(|_| OnceLock::new()).collect();
    let run = |index: usize| {
        let scenario: &Scenario = &scenarios[index];
        progress(Progress::Started(scenario));
        let result = run_scenario(scenario, settings, |runs| {
            progress(Progress::Ran(scenario, runs));
        });
        progress(Progress::Ended(&result));
        results[index].get_or_init(|| result);
    };
    for (long, alone) in PHASES {
        let mut phase: Vec<usize> = (0..scenarios.len())
            .filter(|index| scenarios[*index].long == long)
            .filter(|index| scenarios[*index].wants_the_kernel_to_itself() == alone)
            .collect();
        // Else the run may end with a wait for one that was started late.
        phase.sort_by_key(|index| Reverse(scenarios[*index].time_limit));
        let width = if alone { 1 } else { jobs };
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..width.clamp(1, phase.len().max(1)) {
                scope.spawn(|| {
                    while let Some(index) = phase.get(next.fetch_add(1, Ordering::Relaxed)) {
                        run(*index);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_is_of_one_phase() {
        for long in [false, true] {
            for alone in [false, true] {
                let phases = PHASES.iter().filter(|phase| **phase == (long, alone));
                assert_eq!(phases.count(), 1);
            }
        }
    }
}
