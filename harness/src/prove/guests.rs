//! The guests that arms of trials are run in.

use std::collections::BTreeMap;

use advisor_report::{Clock, ScenarioResult, Verdict};

use crate::kernels::cache::Stored;
use crate::reproduce::Reproduction;
use crate::runner::plan::Plan;
use crate::runner::{self, OnProgress, Options};

/// Runs arms in guests of one kernel. What has run under its seed is not run again: the arms
/// without a change are the same for most recommendations of a plan. Another seed is a run
/// of its own, even where it changes nothing in the text.
pub(super) struct Guests<'a> {
    kernel: &'a Stored,
    progress: OnProgress<'a>,
    /// By the text of the suite, and its seed.
    known: BTreeMap<(String, u64), ScenarioResult>,
}

/// Why arms gave no results.
pub(super) enum Failed {
    /// One of them can't be run.
    Broken(String),
    /// None can.
    Run(runner::Error),
}

impl<'a> Guests<'a> {
    pub(super) const fn new(kernel: &'a Stored, progress: OnProgress<'a>) -> Self {
        Self {
            kernel,
            progress,
            known: BTreeMap::new(),
        }
    }

    /// The results of arms, each with its seed, in their order.
    pub(super) fn run(&mut self, arms: &[(String, u64)]) -> Result<Vec<ScenarioResult>, Failed> {
        let mut new = Vec::new();
        let mut scenarios = Vec::new();
        for arm in arms.iter().filter(|arm| !self.known.contains_key(*arm)) {
            let scenario = Reproduction::scenario(&arm.0).map_err(|error| {
                Failed::Broken(format!("the reproduction is no suite: {error}"))
            })?;
            new.push(arm.clone());
            scenarios.push(scenario);
        }
        let plan = Plan::in_guests(&scenarios, self.kernel);
        let outcome = runner::run(&plan, &options(), self.progress).map_err(Failed::Run)?;
        if let Some(error) = outcome.error {
            return Err(Failed::Run(error));
        }
        self.known.extend(new.into_iter().zip(outcome.results));
        let all = arms.iter().filter_map(|arm| self.known.get(arm).cloned());
        let all = all.collect();
        // A run that broke says nothing of the next one.
        self.known
            .retain(|_, result| result.verdict != Verdict::Errored);
        Ok(all)
    }
}

/// How reproductions are run.
fn options() -> Options {
    Options {
        // The host's own timeouts, however long, at the cost of a few seconds.
        clock: Some(Clock::Virtual),
        runs: Some(1),
        long: true,
        // On a busy machine a run can take too long.
        retry_errored: true,
        ..Options::default()
    }
}
