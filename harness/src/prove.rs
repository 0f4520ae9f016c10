//! Proves advice: tries each recommendation on a reproduction of its host, with the change
//! and without it, and judges by what bystanders see. Imports reproduce, runner, report,
//! kernels and suite.

pub mod attempt;
pub mod check;
mod guests;
pub mod kernel;
pub mod page;
pub mod remedy;
pub mod render;
pub mod verdict;
mod whole;

use std::ops::Range;

use advisor_facts::condition::Condition;
use advisor_facts::{Facts, file};
use advisor_report::advice::{Advised, Claim};
use advisor_report::proof::{
    Compared, Comparison, Harm, Load, Proof, Reading, SCHEMA, Side, Trial, TrialVerdict,
};
use advisor_report::{Kernel, Link, ScenarioResult, Seen, Value};

use crate::reproduce::likeness::{self, Likeness, is_comparable};
use crate::reproduce::population::Population;
use crate::reproduce::queue::AcceptQueue;
use crate::reproduce::readings::readings;
use crate::reproduce::trial::{self, Arm};
use crate::reproduce::{Impossible, Reproduction};
use crate::runner::{self, OnProgress};
use guests::{Failed, Guests};
use remedy::Tried;
use verdict::{Pair, judge};

/// Pairs of runs at first, each of another seed.
pub const FEWEST_PAIRS: u64 = 8;
/// Pairs of runs at most.
pub const MOST_PAIRS: u64 = 16;
/// Pairs of runs of a change that a person has in mind, where the first one differs: what
/// gets better or worse does so in each.
const PAIRS_OF_A_DIFFERENCE: u64 = 5;

/// When something counts as proven.
fn rule() -> String {
    format!(
        "Proven is a change after which a harm is gone that bystanders saw on a reproduction of \
         the host, and that those see nothing of where the sockets that do it are left out. Late, \
         better and worse mean by more than a tenth. Each pair of runs has one seed; {FEWEST_PAIRS} \
         to {MOST_PAIRS} seeds vary order, arrivals and numbers, until chance explains the \
         difference with a probability of at most {} (sign test, one-sided).",
        verdict::MOST_CHANCE
    )
}

/// What a trial is made of.
#[derive(Clone, Debug)]
pub struct Prepared {
    reproduction: Reproduction,
    tried: Tried,
    other_kernel_settings: Vec<(String, String)>,
}

/// What the runs of a trial gave.
#[derive(Debug, Default)]
struct Runs {
    pairs: Vec<Pair>,
    well: Option<Vec<Reading>>,
    likeness: Option<Likeness>,
    table: Vec<Compared>,
    notes: Vec<String>,
    link: Option<Link>,
    kernel: Option<Kernel>,
    broken: Option<String>,
    /// The rules that fire at the end with the change, in the first pair.
    fire_after: Vec<String>,
}

/// A proof, and the suites that it was made with: a name, and the text.
#[derive(Debug)]
pub struct Proved {
    /// The proof.
    pub proof: Proof,
    /// What was run, as one would run it again.
    pub suites: Vec<(String, String)>,
}

/// Tries every recommendation. `facts` are those of the host; advice alone does not say who
/// is connected.
pub fn run(
    advised: &Advised,
    facts: Option<&Facts>,
    kernel: &kernel::Chosen,
    progress: OnProgress,
) -> Result<Proved, runner::Error> {
    let mut trials = Vec::new();
    let mut suites = Vec::new();
    let mut used = None;
    let mut whole = whole::Parts::default();
    let mut guests = Guests::new(&kernel.stored, progress);
    for recommended in &advised.recommendations {
        let claim = &recommended.claim;
        let trial = match prepare(claim, facts, &kernel.stored.release) {
            Ok(prepared) => {
                suites.extend(prepared.suites(&format!("{}-{}", trials.len() + 1, claim.code)));
                let runs = prepared.try_it(&mut guests)?;
                used = used.or(runs.kernel.clone());
                let fire_after = runs.fire_after.clone();
                let trial = prepared.conclude(claim, runs);
                whole.add(prepared, trial.clone(), fire_after);
                trial
            }
            Err(why) => untried(claim, why),
        };
        trials.push(trial);
    }
    let whole = whole.try_it(&mut guests, &mut suites)?;
    let proof = Proof {
        schema: SCHEMA,
        harness: env!("CARGO_PKG_VERSION").to_owned(),
        host: advised.host.clone(),
        kernel: used,
        choice: kernel.why.clone(),
        rule: rule(),
        trials,
        whole,
    };
    Ok(Proved { proof, suites })
}

/// The proof where nothing can be tried.
pub fn nothing(advised: &Advised, facts: Option<&Facts>) -> Proved {
    let release = &advised.host.kernel;
    let trials = advised.recommendations.iter().map(|recommended| {
        let claim = &recommended.claim;
        match prepare(claim, facts, release) {
            Ok(_) => untried(claim, "it was not run".to_owned()),
            Err(why) => untried(claim, why),
        }
    });
    Proved {
        proof: Proof {
            schema: SCHEMA,
            harness: env!("CARGO_PKG_VERSION").to_owned(),
            host: advised.host.clone(),
            kernel: None,
            choice: String::new(),
            rule: rule(),
            trials: trials.collect(),
            whole: None,
        },
        suites: Vec::new(),
    }
}

/// How many of the recommendations can be tried.
pub fn can_be_tried(advised: &Advised, facts: Option<&Facts>) -> usize {
    let release = &advised.host.kernel;
    let tried = advised
        .recommendations
        .iter()
        .filter(|recommended| prepare(&recommended.claim, facts, release).is_ok());
    tried.count()
}

/// What tries a claim, or why nothing can.
fn prepare(claim: &Claim, facts: Option<&Facts>, release: &str) -> Result<Prepared, String> {
    let Some(facts) = facts else {
        // The reason of the rule comes first, whatever the host.
        remedy::rule_of(claim)?;
        return Err(
            "advice does not say who is connected: give the host's facts, --facts FILE".to_owned(),
        );
    };
    remedy::rule_of(claim)?;
    let places = facts.by_namespace();
    let named = places.iter().find(|place| {
        let inode = place.place.as_ref().map(|place| place.inode.to_string());
        inode.is_some_and(|inode| claim.subject.contains(&inode))
    });
    let whole = named.unwrap_or(facts);
    let place = named
        .or_else(|| {
            places
                .iter()
                .max_by_key(|place| place.now.every_socket().count())
        })
        .unwrap_or(facts);
    let mut settings = place.clone();
    settings.settings.tcp_mem = facts.settings.tcp_mem;
    settings.settings.tcp_max_orphans = facts.settings.tcp_max_orphans;
    let mut reproduction = Reproduction::of(whole, &settings, release)
        .map_err(|error: Impossible| error.to_string())?;
    if let Some(port) = remedy::listener_of(claim) {
        reproduction.queue = AcceptQueue::of(place, &reproduction.population, Some(port));
    }
    let tried = remedy::of(claim, whole, &reproduction)?;
    let missing = missing(&tried, &reproduction.population);
    if let Some(why) = missing {
        return Err(why);
    }
    Prepared::new(reproduction, tried, place)
}

/// Why nobody is there whom a change of a program would be for.
fn missing(tried: &Tried, population: &Population) -> Option<String> {
    let is_of_program = |change: &trial::Change| matches!(change, trial::Change::Program(..));
    if !tried.changes.iter().any(is_of_program) {
        return None;
    }
    let there = population.of_condition(|condition| tried.offending.contains(&condition));
    (there == 0).then(|| {
        "the socket table shows none of the connections that the advice is about".to_owned()
    })
}

fn untried(claim: &Claim, why: String) -> Trial {
    Trial {
        claim: claim.clone(),
        verdict: TrialVerdict::CannotBeTried,
        reason: Some(why),
        scenario: None,
        explains: String::new(),
        link: None,
        workload: Vec::new(),
        failure: String::new(),
        before: None,
        after: None,
        chance: None,
        notes: Vec::new(),
        seen: Vec::new(),
    }
}

impl Prepared {
    /// A trial on a reproduction of the host whose settings `place` has.
    pub fn new(
        mut reproduction: Reproduction,
        tried: Tried,
        place: &Facts,
    ) -> Result<Self, String> {
        if tried.changes.iter().any(trial::Change::is_of_queues) {
            let queue = reproduction.queue.as_ref().map(AcceptQueue::note);
            reproduction.notes.extend(queue);
        }
        let other_kernel_settings =
            attempt::other_kernel_settings(&tried.changes, place, &reproduction)?;
        Ok(Self {
            reproduction,
            tried,
            other_kernel_settings,
        })
    }

    /// Adds what is tried together with it, on the same reproduction.
    fn add(&mut self, other: Self) {
        self.tried.add(&other.tried);
        for set in other.other_kernel_settings {
            if !self.other_kernel_settings.contains(&set) {
                self.other_kernel_settings.push(set);
            }
        }
    }

    /// The text of an arm.
    fn text(&self, arm: Arm, seed: u64) -> String {
        let trial = trial::Trial {
            arm,
            changes: self.tried.changes.clone(),
            offending: self.tried.offending.clone(),
            other_kernel_settings: self.other_kernel_settings.clone(),
        };
        self.reproduction.with_seed(seed).arm(&trial)
    }

    /// The arms of the first seed, to be read and run by hand.
    fn suites(&self, name: &str) -> Vec<(String, String)> {
        let file = |arm: &Arm| {
            let name = format!("{name}-{}.yaml", arm.as_str());
            (name, self.text(*arm, 0))
        };
        self.arms().iter().map(file).collect()
    }

    fn arms(&self) -> Vec<Arm> {
        let mut arms = vec![Arm::Before, Arm::After];
        arms.extend((!self.tried.offending.is_empty()).then_some(Arm::Without));
        arms
    }

    /// Runs a pair, or with the third arm three, and more pairs where one proves nothing.
    fn try_it(&self, guests: &mut Guests) -> Result<Runs, runner::Error> {
        let mut runs = Runs::default();
        let arms: Vec<(Arm, u64)> = self.arms().into_iter().map(|arm| (arm, 0)).collect();
        self.round(&arms, guests, &mut runs)?;
        let is_alike = runs.likeness.as_ref().is_some_and(Likeness::is_alike);
        if runs.broken.is_some() || !is_alike {
            return Ok(runs);
        }
        let pairs = |seeds: Range<u64>| -> Vec<(Arm, u64)> {
            seeds
                .flat_map(|seed| [(Arm::Before, seed), (Arm::After, seed)])
                .collect()
        };
        if self.tried.harm.is_empty() {
            // What a person has in mind: it is better or worse in each of a few pairs.
            let mut rows = runs.table.iter();
            if rows.any(|row| row.verdict != Comparison::Unchanged) {
                self.round(&pairs(1..PAIRS_OF_A_DIFFERENCE), guests, &mut runs)?;
            }
            if verdict::settle(&mut runs.table, &runs.pairs) {
                runs.notes.push(format!(
                    "what differed in one pair of runs and not in each of {PAIRS_OF_A_DIFFERENCE} \
                     is called unchanged"
                ));
            }
            return Ok(runs);
        }
        let is_open = runs.pairs.first().is_some_and(|pair| {
            let answer = judge(pair, runs.well.as_deref(), &self.tried.harm);
            // Chance can give one pair either of them.
            matches!(answer.verdict, TrialVerdict::Proven | TrialVerdict::Harmful)
        });
        if !is_open || !self.tried.postpones.is_empty() {
            return Ok(runs);
        }
        for (first, last) in [(1, FEWEST_PAIRS), (FEWEST_PAIRS, MOST_PAIRS)] {
            self.round(&pairs(first..last), guests, &mut runs)?;
            let (gone, pairs) = self.gone(&runs);
            let decided = verdict::chance(gone, pairs) <= verdict::MOST_CHANCE
                || verdict::chance(gone + 8, pairs + 8) > verdict::MOST_CHANCE;
            if runs.broken.is_some() || decided {
                break;
            }
        }
        Ok(runs)
    }

    /// In how many pairs the harm was there and gone.
    fn gone(&self, runs: &Runs) -> (usize, usize) {
        let proven = |pair: &&Pair| {
            judge(pair, runs.well.as_deref(), &self.tried.harm).verdict == TrialVerdict::Proven
        };
        (runs.pairs.iter().filter(proven).count(), runs.pairs.len())
    }

    fn round(
        &self,
        arms: &[(Arm, u64)],
        guests: &mut Guests,
        runs: &mut Runs,
    ) -> Result<(), runner::Error> {
        let texts = arms
            .iter()
            .map(|(arm, seed)| (self.text(*arm, *seed), *seed));
        let results = match guests.run(&texts.collect::<Vec<_>>()) {
            Ok(results) => results,
            Err(Failed::Broken(why)) => {
                runs.broken = Some(why);
                return Ok(());
            }
            Err(Failed::Run(error)) => return Err(error),
        };
        let mut open: Option<Vec<Reading>> = None;
        for ((arm, seed), result) in arms.iter().zip(&results) {
            let Some(seen) = self.take(*arm, *seed, result, runs) else {
                return Ok(());
            };
            match arm {
                Arm::Before => open = Some(seen),
                Arm::After => {
                    if let Some(before) = open.take() {
                        runs.pairs.push(Pair {
                            before,
                            after: seen,
                        });
                    }
                }
                Arm::Without => runs.well = Some(seen),
            }
        }
        if let Some(pair) = runs.pairs.first()
            && runs.table.is_empty()
        {
            runs.table = verdict::table(pair, runs.well.as_deref());
            runs.table.extend(held(&results));
        }
        Ok(())
    }

    /// Takes the one run of an arm.
    fn take(
        &self,
        arm: Arm,
        seed: u64,
        result: &ScenarioResult,
        runs: &mut Runs,
    ) -> Option<Vec<Reading>> {
        runs.link = Some(result.link);
        runs.kernel = Some(result.kernel.clone());
        let Some(run) = result.runs.first().filter(|run| run.error.is_none()) else {
            let error = result.runs.first().and_then(|run| run.error.clone());
            let why = error.or_else(|| result.reason.clone());
            let why = why.unwrap_or_else(|| "it did not run".to_owned());
            runs.broken = Some(format!("{} (seed {seed}): {why}", arm.as_str()));
            return None;
        };
        if arm == Arm::Before && seed == 0 {
            match facts_of(result, "facts") {
                Some(facts) => {
                    runs.likeness = Some(Likeness::of(&self.reproduction, &facts));
                }
                None => runs.broken = Some("the guest gave no facts".to_owned()),
            }
        }
        let mut seen = readings(&run.observations);
        if let Some(end) = facts_of(result, "end") {
            seen.extend(hanging(&self.reproduction, &self.tried.offending, &end));
            if arm == Arm::After && seed == 0 {
                let since = facts_of(result, "since");
                runs.fire_after = likeness::rules_since(&self.reproduction, end, since);
            }
        }
        Some(seen)
    }

    fn conclude(&self, claim: &Claim, runs: Runs) -> Trial {
        let mut trial = untried(claim, String::new());
        trial.reason = None;
        trial.scenario = Some("reproduction/host".to_owned());
        trial.explains = format!(
            "A reproduction of the host: {}.",
            self.describe_population()
        );
        trial.workload = self.workload();
        trial.notes.clone_from(&self.reproduction.notes);
        trial.notes.extend(runs.notes.iter().cloned());
        trial.link = runs.link;
        trial.seen = runs.table;
        let well = runs.well.as_deref();
        if let Some(likeness) = &runs.likeness {
            let fires = likeness.fire.contains(&claim.code);
            if is_comparable(&claim.code) && !fires {
                trial
                    .notes
                    .push(format!("{} does not fire in the guest", claim.code));
            }
        }
        if let Some(why) = runs.broken {
            trial.reason = Some(why);
            return trial;
        }
        let unlike = runs.likeness.iter().flat_map(|likeness| &likeness.unlike);
        let unlike: Vec<String> = unlike.cloned().collect();
        let Some(first) = runs.pairs.first() else {
            trial.reason = Some("no pair of runs was had".to_owned());
            return trial;
        };
        let answers: Vec<_> = runs
            .pairs
            .iter()
            .map(|pair| judge(pair, well, &self.tried.harm))
            .collect();
        let answer = judge(first, well, &self.tried.harm);
        trial.failure = answer.failure.clone().unwrap_or_else(|| {
            let names: Vec<&str> = self.tried.harm.iter().map(|harm| harm.as_str()).collect();
            names.join(", or ")
        });
        let side =
            |failed: &dyn Fn(&verdict::Answer) -> bool, of: &dyn Fn(&Pair) -> &[Reading]| Side {
                runs: answers.len(),
                failed: answers.iter().filter(|answer| failed(answer)).count(),
                seen: seen_of(&trial.failure, &self.tried.harm, runs.pairs.iter().map(of)),
            };
        trial.before = Some(side(&|answer| answer.failed.0, &|pair| &pair.before));
        trial.after = Some(side(&|answer| answer.failed.1, &|pair| &pair.after));
        if !unlike.is_empty() {
            (trial.verdict, trial.reason) = (
                TrialVerdict::NotReproduced,
                Some(format!(
                    "the guest is not as the host: {}",
                    unlike.join("; ")
                )),
            );
            return trial;
        }
        (trial.verdict, trial.reason) = (answer.verdict, answer.why);
        let of = |verdict| {
            let answers = answers.iter();
            answers
                .filter(|answer| answer.verdict == verdict)
                .collect::<Vec<_>>()
        };
        let (proven, harmful) = (of(TrialVerdict::Proven), of(TrialVerdict::Harmful));
        if proven.is_empty() && harmful.is_empty() {
            return trial;
        }
        // In a pair or two what is well can be late by chance.
        if harmful.len() * 2 > answers.len() {
            (trial.verdict, trial.reason) = (TrialVerdict::Harmful, harmful[0].why.clone());
            return trial;
        }
        if let Some(postponed) = self.tried.postpones.first() {
            let why = postponed.why.clone();
            (trial.verdict, trial.reason) = (TrialVerdict::Postponed, Some(why));
            return trial;
        }
        let gone = proven.len();
        let chance = verdict::chance(gone, answers.len());
        trial.chance = Some(chance);
        (trial.verdict, trial.reason) = (TrialVerdict::Proven, None);
        if chance > verdict::MOST_CHANCE {
            (trial.verdict, trial.reason) = (
                TrialVerdict::NoDifference,
                Some(format!(
                    "the harm was there and gone in {gone} of {} pairs: chance alone gives as many",
                    answers.len()
                )),
            );
        }
        trial
    }

    fn describe_population(&self) -> String {
        let classes = self.reproduction.population.classes.iter();
        let parts: Vec<String> = classes
            .map(|class| {
                let (count, made) = (class.count(), self.reproduction.count(class));
                let made = if made == count {
                    String::new()
                } else {
                    format!(" as {made}")
                };
                format!("{count}{made} {} {}", class.condition, class.way.describe())
            })
            .collect();
        if parts.is_empty() {
            return "no connections".to_owned();
        }
        parts.join(", ")
    }

    /// The numbers of the host, and those that were tried.
    fn workload(&self) -> Vec<Load> {
        let reproduction = &self.reproduction;
        let mut load: Vec<Load> = reproduction
            .population
            .classes
            .iter()
            .map(|class| Load {
                name: format!("{} {}", class.condition, class.way.describe()),
                observation: "host.sockets".to_owned(),
                host: class.count(),
                tried: reproduction.count(class),
            })
            .collect();
        load.truncate(12);
        load
    }
}

/// The connections that hang on a peer that is gone, at the end of a run.
fn hanging(reproduction: &Reproduction, offending: &[Condition], end: &Facts) -> Option<Reading> {
    if !offending.contains(&Condition::Dead) {
        return None;
    }
    let classes = reproduction.population.classes.iter();
    let made: u64 = classes
        .filter(|class| class.condition == Condition::Dead)
        .map(|class| reproduction.count(class))
        .sum();
    let there = Population::of(end)?.of_condition(|condition| condition == Condition::Dead);
    (made > 0).then(|| Reading {
        what: "a program that waits for a peer that is gone".to_owned(),
        harm: Harm::ProgramHangs,
        tries: made,
        failures: there.min(made),
        errors: std::collections::BTreeMap::from([("still there".to_owned(), there)]),
        ms: None,
        bytes: None,
    })
}

/// What TCP held at the end of both arms.
fn held(results: &[ScenarioResult]) -> Vec<Compared> {
    let gauge = |index: usize, name: &str| {
        let facts = facts_of(results.get(index)?, "end")?;
        facts.now.sockstat.get(name)
    };
    let row = |what: &str, name: &str| {
        let (before, after) = (gauge(0, name)?, gauge(1, name)?);
        Some(Compared {
            what: what.to_owned(),
            before: before.to_string(),
            after: after.to_string(),
            well: gauge(2, name).map(|well| well.to_string()),
            verdict: Comparison::Unchanged,
        })
    };
    [
        ("memory of TCP, in pages", "TCP.mem"),
        ("orphans", "TCP.orphan"),
    ]
    .into_iter()
    .filter_map(|(what, name)| row(what, name))
    .collect()
}

/// The facts that a step of the lab captured.
pub fn facts_of(result: &ScenarioResult, step: &str) -> Option<Facts> {
    let run = result.runs.first()?;
    match run.observations.get(&format!("lab.{step}.value"))? {
        Value::Text(text) => file::read_from(text.as_bytes(), std::path::Path::new("guest")).ok(),
        _ => None,
    }
}

/// What was seen of a failure, the most frequent first.
fn seen_of<'a>(
    failure: &str,
    harm: &[Harm],
    runs: impl Iterator<Item = &'a [Reading]>,
) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    for readings in runs {
        let named = readings.iter().find(|reading| reading.what == failure);
        let of_harm = || readings.iter().find(|reading| harm.contains(&reading.harm));
        let Some(reading) = named.or_else(of_harm) else {
            continue;
        };
        let value = verdict::describe(reading);
        match seen.iter_mut().find(|known| known.value == value) {
            Some(known) => known.runs += 1,
            None => seen.push(Seen::new(value, 1)),
        }
    }
    seen.sort_by_key(|one| std::cmp::Reverse(one.runs));
    seen
}
