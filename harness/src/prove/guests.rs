//! The guests that arms of trials are run in.

use std::collections::BTreeMap;

use advisor_report::{Clock, ScenarioResult, Verdict};

use crate::kernels::cache::Stored;
use crate::reproduce::Reproduction;
use crate::runner::plan::Plan;
use crate::runner::{self, OnProgress, Options};

/// Runs arms in guests of one kernel. What has run is not run again: the arms without a
/// change are the same for most recommendations of a plan.
pub(super) struct Guests<'a> {
    kernel: &'a Stored,
    progress: OnProgress<'a>,
    /// By the text of the suite.
    known: BTreeMap<String, ScenarioResult>,
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

    /// The results of arms, in their order.
    pub(super) fn run(&mut self, texts: &[String]) -> Result<Vec<ScenarioResult>, Failed> {
        let mut new = Vec::new();
        let mut scenarios = Vec::new();
        for text in texts {
            if self.known.contains_key(text) || new.contains(&text) {
                continue;
            }
            let scenario = Reproduction::scenario(text).map_err(|error| {
                Failed::Broken(format!("the reproduction is no suite: {error}"))
            })?;
            new.push(text);
            scenarios.push(scenario);
        }
        let plan = Plan::in_guests(&scenarios, self.kernel);
        let outcome = runner::run(&plan, &options(), self.progress).map_err(Failed::Run)?;
        if let Some(error) = outcome.error {
            return Err(Failed::Run(error));
        }
        let results: BTreeMap<&String, ScenarioResult> =
            new.into_iter().zip(outcome.results).collect();
        let result = |text| results.get(text).or_else(|| self.known.get(text)).cloned();
        let all = texts.iter().filter_map(result).collect();
        // A run that broke says nothing of the next one.
        let whole = results
            .into_iter()
            .filter(|(_, result)| result.verdict != Verdict::Errored)
            .map(|(text, result)| (text.clone(), result));
        self.known.extend(whole);
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
