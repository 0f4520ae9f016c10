//! Proves advice: tries each recommendation on a kernel like the host's, with
//! the host's numbers, before and after the change. Imports runner, report,
//! kernels and suite.

pub mod chance;
pub mod kernel;
pub mod page;
pub mod render;
pub mod templates;

use advisor::rules::RULES;
use advisor_report::advice::{Advised, Claim, Recommended};
use advisor_report::proof::{Load, Proof, SCHEMA, Side as Tried, Trial, TrialVerdict};
use advisor_report::{Clock, Kernel, Link, ScenarioResult, Value};

use crate::kernels::cache::Stored;
use crate::runner::plan::Plan;
use crate::runner::{self, OnProgress, Options, judge};
use crate::suite::parameter;
use crate::suite::scenario::{Scenario, Side};
use chance::Answer;
use templates::Template;

/// Runs of each side in the first round.
pub const FEWEST_RUNS: u64 = 5;
/// Runs of each side after which a trial ends without a clear answer.
pub const MOST_RUNS: u64 = 20;

/// When something counts as proven.
fn rule() -> String {
    format!(
        "Proven is what fails before the change and in no run after it, where chance alone \
         separates the two sides as clearly with a probability of at most {} (Fisher's exact \
         test, one-sided). Each side has {FEWEST_RUNS} runs, and up to {MOST_RUNS} until that is \
         decided.",
        chance::MOST
    )
}

/// A recommendation and its trial.
#[derive(Debug)]
pub struct Prepared {
    claim: Claim,
    /// The two sides to run, or why nothing can be run.
    trial: Result<Sides, String>,
}

/// The two sides of a trial.
#[derive(Debug)]
struct Sides {
    before: Scenario,
    after: Scenario,
    workload: Vec<Load>,
    /// Runs before and after.
    seen: (SideRuns, SideRuns),
    link: Option<Link>,
    kernel: Option<Kernel>,
    /// Why a run gave no answer.
    broken: Option<String>,
}

/// The runs of one side.
#[derive(Debug, Default)]
struct SideRuns {
    runs: Vec<advisor_report::Run>,
    failed: usize,
}

/// Finds the trial of each recommendation and puts the host's numbers into it.
pub fn prepare(advised: &Advised) -> Vec<Prepared> {
    let templates = templates::all();
    advised
        .recommendations
        .iter()
        .map(|recommended| Prepared {
            claim: recommended.claim.clone(),
            trial: sides(recommended, &templates),
        })
        .collect()
}

impl Prepared {
    /// The recommendation.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Whether there is something to run.
    pub fn can_be_tried(&self) -> bool {
        self.trial.is_ok()
    }
}

fn sides(recommended: &Recommended, templates: &[Template]) -> Result<Sides, String> {
    let claim = &recommended.claim;
    if RULES.iter().all(|rule| rule.code != claim.code) {
        return Err(format!("there is no rule {}", claim.code));
    }
    let Some((template, scenario)) = templates::find(templates, claim) else {
        return Err(templates::why_not(claim));
    };
    let lookup = |name: &str| number(recommended, name);
    let assigned =
        parameter::assign(&scenario.parameters, &lookup).map_err(|misfit| misfit.to_string())?;
    let given = assigned
        .iter()
        .map(|known| (known.name.clone(), known.tried))
        .collect();
    let [before, after] = template
        .sides(scenario, &given)
        .map_err(|error| format!("with the host's numbers: {}", error.message))?;
    Ok(Sides {
        before,
        after,
        workload: assigned
            .into_iter()
            .map(|known| Load {
                name: known.name,
                observation: known.from,
                host: known.host,
                tried: known.tried,
            })
            .collect(),
        seen: <(SideRuns, SideRuns)>::default(),
        link: None,
        kernel: None,
        broken: None,
    })
}

/// A number of a recommendation by its name: `current`, `proposed`, or the name
/// of evidence (`*.END`: the first with this end). `NAME[2]` is its third
/// number.
fn number(recommended: &Recommended, name: &str) -> Option<u64> {
    let (name, index) = match name.split_once('[') {
        Some((name, rest)) => (name, rest.strip_suffix(']')?.parse().ok()?),
        None => (name, 0),
    };
    let evidence = || {
        let fits = |known: &str| match name.strip_prefix('*') {
            Some(end) => known.ends_with(end),
            None => known == name,
        };
        let mut evidence = recommended.evidence.iter();
        Some(&evidence.find(|observed| fits(&observed.observation))?.value)
    };
    let text = match name {
        "current" => recommended.claim.current.clone(),
        "proposed" => recommended.claim.proposed.clone(),
        _ => match evidence()? {
            Value::Number(number) => format!("{}", number.round()),
            value => value.to_string(),
        },
    };
    text.split_whitespace().nth(index)?.parse().ok()
}

/// Runs the trials on a kernel and returns the proof.
pub fn run(
    advised: &Advised,
    mut prepared: Vec<Prepared>,
    kernel: &kernel::Chosen,
    progress: OnProgress,
) -> Result<Proof, runner::Error> {
    let mut done = 0;
    for runs in [FEWEST_RUNS, MOST_RUNS - FEWEST_RUNS] {
        let mut open: Vec<&mut Sides> = prepared
            .iter_mut()
            .filter_map(|prepared| prepared.trial.as_mut().ok())
            .filter(|sides| sides.is_open())
            .collect();
        round(&mut open, &kernel.stored, done, runs, progress)?;
        done += runs;
    }
    Ok(assemble(advised, prepared, kernel.why.clone()))
}

/// The proof where nothing can be tried.
pub fn nothing(advised: &Advised, prepared: Vec<Prepared>) -> Proof {
    assemble(advised, prepared, String::new())
}

/// The proof from the runs so far; `choice` says how the kernel was chosen.
fn assemble(advised: &Advised, prepared: Vec<Prepared>, choice: String) -> Proof {
    let mut sides = prepared
        .iter()
        .filter_map(|known| known.trial.as_ref().ok());
    Proof {
        schema: SCHEMA,
        harness: env!("CARGO_PKG_VERSION").to_owned(),
        host: advised.host.clone(),
        kernel: sides.find_map(|sides| sides.kernel.clone()),
        choice,
        rule: rule(),
        trials: prepared.into_iter().map(Prepared::conclude).collect(),
    }
}

/// Runs both sides of trials `runs` times; the runs are numbered from `first`.
fn round(
    open: &mut [&mut Sides],
    kernel: &Stored,
    first: u64,
    runs: u64,
    progress: OnProgress,
) -> Result<(), runner::Error> {
    let options = Options {
        // The host's own timeouts, however long, at the cost of a few seconds.
        clock: Some(Clock::Virtual),
        runs: Some(runs),
        first_run: first,
        long: true,
        // On a busy machine a run can take too long.
        retry_errored: true,
        ..Options::default()
    };
    let both = open.iter().flat_map(|sides| [&sides.before, &sides.after]);
    let outcome = runner::run(&Plan::in_guests(both, kernel), &options, progress)?;
    if let Some(error) = outcome.error {
        return Err(error);
    }
    let results = outcome.results;
    for (sides, results) in open.iter_mut().zip(results.chunks(2)) {
        for (result, side) in results.iter().zip([Side::Before, Side::After]) {
            sides.take(side, result);
        }
    }
    Ok(())
}

impl Sides {
    /// Takes the runs of a side.
    fn take(&mut self, side: Side, result: &ScenarioResult) {
        let (scenario, seen) = match side {
            Side::Before => (&self.before, &mut self.seen.0),
            Side::After => (&self.after, &mut self.seen.1),
        };
        for run in &result.runs {
            if let Some(failed) = judge::has_failed(scenario, run) {
                seen.failed += usize::from(failed);
                seen.runs.push(run.clone());
            } else {
                let why = run
                    .error
                    .as_deref()
                    .unwrap_or("the failure's observation is missing");
                self.broken = Some(format!("{}: {why}", result.id));
            }
        }
        if result.runs.is_empty() {
            let why = result.reason.as_deref().unwrap_or("it did not run");
            self.broken = Some(format!("{}: {why}", result.id));
        }
        self.link = Some(result.link);
        self.kernel = Some(result.kernel.clone());
    }

    fn answer(&self) -> Answer {
        let side = |seen: &SideRuns| (seen.failed, seen.runs.len());
        chance::answer(side(&self.seen.0), side(&self.seen.1))
    }

    /// Whether more runs can still decide.
    fn is_open(&self) -> bool {
        self.broken.is_none() && !matches!(self.answer(), Answer::Proven | Answer::StillFails)
    }
}

impl Prepared {
    fn conclude(self) -> Trial {
        let mut trial = Trial {
            claim: self.claim,
            verdict: TrialVerdict::CannotBeTried,
            reason: None,
            scenario: None,
            explains: String::new(),
            link: None,
            workload: Vec::new(),
            failure: String::new(),
            before: None,
            after: None,
            chance: None,
        };
        let sides = match self.trial {
            Ok(sides) => sides,
            Err(why) => {
                trial.reason = Some(why);
                return trial;
            }
        };
        let tried = |scenario: &Scenario, seen: &SideRuns| Tried {
            runs: seen.runs.len(),
            failed: seen.failed,
            seen: judge::seen_of_failure(scenario, &seen.runs),
        };
        trial.scenario = Some(sides.before.name().to_owned());
        trial.explains.clone_from(&sides.before.explains);
        trial.failure = sides
            .before
            .failure
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        trial.link = sides.link;
        if sides.seen.0.runs.len() + sides.seen.1.runs.len() > 0 {
            let before = tried(&sides.before, &sides.seen.0);
            let after = tried(&sides.after, &sides.seen.1);
            trial.chance = Some(chance::of(
                (before.failed, before.runs),
                (after.failed, after.runs),
            ));
            (trial.verdict, trial.reason) = match sides.answer() {
                Answer::Proven => (TrialVerdict::Proven, None),
                Answer::StillFails => (
                    TrialVerdict::NoDifference,
                    Some("it still fails after the change".to_owned()),
                ),
                Answer::NeverFailed => (TrialVerdict::NotReproduced, None),
                Answer::MayBeChance => (
                    TrialVerdict::NoDifference,
                    Some("chance alone gives as clear a difference".to_owned()),
                ),
            };
            (trial.before, trial.after) = (Some(before), Some(after));
        }
        if let Some(why) = sides.broken {
            (trial.verdict, trial.reason) = (TrialVerdict::CannotBeTried, Some(why));
        }
        trial.workload = sides.workload;
        trial
    }
}
