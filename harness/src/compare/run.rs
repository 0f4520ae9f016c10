//! Runs scenarios on kernels, to compare what each saw.

use std::path::Path;

use advisor_report::{ScenarioResult, Verdict};

use super::{Comparison, Side};
use crate::kernels::KernelError;
use crate::runner::plan::Plan;
use crate::runner::{self, Error, OnProgress, Options};
use crate::suite::scenario::Scenario;

/// What each of the kernels saw, in their order. `modules` are those of a kernel given by
/// its path.
pub fn sides(
    scenarios: &[Scenario],
    kernels: &[String],
    modules: Option<&Path>,
    options: &Options,
    progress: OnProgress,
) -> Result<Vec<Side>, Error> {
    let plan = Plan::make(scenarios, kernels, modules, options)?;
    if plan.jobs.len() != scenarios.len() * kernels.len() {
        return Err(Error::from(KernelError::usage(
            &kernels.join(", "),
            "compare them",
            "they are one kernel",
            "name two kernels, see `harness kernels`; auto can be any",
        )));
    }
    let outcome = runner::run(&plan, options, progress)?;
    if let Some(error) = outcome.error {
        return Err(error);
    }
    let mut sides: Vec<Side> = kernels
        .iter()
        .map(|name| Side {
            name: name.clone(),
            results: Vec::new(),
        })
        .collect();
    // A plan has the kernels of one scenario beside each other.
    for (index, result) in outcome.results.into_iter().enumerate() {
        sides[index % kernels.len()].results.push(result);
    }
    for side in &mut sides {
        if let Some(result) = side.results.first() {
            side.name = format!("{} ({})", side.name, result.kernel.release);
        }
    }
    Ok(sides)
}

/// Compares two kernels. Scenarios that differ are run once more, with other draws, and
/// judged by all runs together.
pub fn compare(
    scenarios: &[Scenario],
    kernels: &[String],
    modules: Option<&Path>,
    options: &Options,
    progress: OnProgress,
) -> Result<Comparison, Error> {
    let mut seen = sides(scenarios, kernels, modules, options, progress)?;
    let first = Comparison::of(&seen[0], &seen[1]);
    let differs = |scenario: &&Scenario| first.scenarios.iter().any(|one| one.id == scenario.id);
    let again: Vec<Scenario> = scenarios.iter().filter(differs).cloned().collect();
    if again.is_empty() {
        return Ok(first);
    }
    let options = Options {
        first_run: options.first_run + options.runs.unwrap_or_default(),
        ..options.clone()
    };
    for (side, more) in seen
        .iter_mut()
        .zip(sides(&again, kernels, modules, &options, progress)?)
    {
        for result in more.results {
            let known = side.results.iter_mut().find(|known| known.id == result.id);
            if let Some(known) = known {
                add(known, result);
            }
        }
    }
    Ok(Comparison::of(&seen[0], &seen[1]))
}

/// Adds the runs of a result to those of an earlier one. Passed is what passed both times.
fn add(known: &mut ScenarioResult, more: ScenarioResult) {
    known.runs.extend(more.runs);
    if known.verdict == Verdict::Passed {
        known.verdict = more.verdict;
    }
}
