//! What differs between two sides: two kernels, or two builds of a server.
//!
//! A value that is the same in all runs of a side, with at least [`FEWEST_RUNS`] on each,
//! and another on the other side is a difference. What varies is tested: numbers by
//! Mann-Whitney U, texts by Fisher's exact test on how often the most frequent one is
//! seen; all tests together by Holm at 1%.

mod html;
pub mod run;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use advisor_report::{Machine, ScenarioResult, Trace, Value, Verdict};
use serde::Serialize;
use statrs::stats_tests::mannwhitneyu::{MannWhitneyUMethod, mannwhitneyu};
use statrs::stats_tests::{Alternative, fishers_exact};

/// Runs that a side needs at least for a constant value to be told from chance.
pub const FEWEST_RUNS: usize = 5;

/// The chance that all tests together find a difference where there is none.
const ALPHA: f64 = 0.01;

/// One side: its name and what it saw, at most one result for each scenario.
#[derive(Clone, Debug)]
pub struct Side {
    /// As the user names it, with the kernel's release.
    pub name: String,
    /// What it saw.
    pub results: Vec<ScenarioResult>,
}

/// What differs between two sides.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The two sides' names.
    pub sides: [String; 2],
    /// Scenarios that ran on both.
    pub compared: usize,
    /// Those that differ, in the order of the first side.
    pub scenarios: Vec<ScenarioDifference>,
    /// Scenarios that ran on one side only.
    pub only: [Vec<String>; 2],
    /// Scenarios that had fewer than [`FEWEST_RUNS`] runs on a side.
    pub few_runs: usize,
    /// Observations that vary and were tested.
    pub tested: usize,
}

/// What one scenario saw on one side and not on the other.
#[derive(Clone, Debug, Serialize)]
pub struct ScenarioDifference {
    /// The scenario.
    pub id: String,
    /// The verdicts, if they differ.
    pub verdicts: Option<[Verdict; 2]>,
    /// The observations that differ.
    pub observations: Vec<ObservationDifference>,
    /// A run of each side, to be drawn: one that is not as expected, where there is one.
    #[serde(skip)]
    pub traces: [Option<Trace>; 2],
}

/// An observation whose values differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObservationDifference {
    /// Its dotted name.
    pub observation: String,
    /// What each side saw.
    pub seen: [Values; 2],
    /// Why it is no chance.
    pub by: Judgement,
}

/// The values of one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Values {
    /// The same in all runs.
    Constant(String),
    /// Numbers.
    Range {
        /// The smallest.
        least: f64,
        /// The middle one.
        median: f64,
        /// The largest.
        greatest: f64,
    },
    /// Texts, the most frequent first, with their runs.
    Texts(Vec<(String, usize)>),
}

/// Why a difference is no chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// Constant on both sides, in this many runs of each.
    Constant([usize; 2]),
    /// The p-value of a Mann-Whitney U test, before the correction.
    MannWhitneyU(f64),
    /// The p-value of Fisher's exact test, before the correction.
    FishersExact(f64),
}

impl Comparison {
    /// Whether both sides see the same.
    pub fn is_same(&self) -> bool {
        self.scenarios.is_empty()
    }

    /// Compares two sides.
    pub fn of(first: &Side, second: &Side) -> Self {
        let mut comparison = Self {
            sides: [first.name.clone(), second.name.clone()],
            compared: 0,
            scenarios: Vec::new(),
            only: [only(first, second), only(second, first)],
            few_runs: 0,
            tested: 0,
        };
        // What varies is judged when the number of tests is known.
        let mut tested = Vec::new();
        for one in first.results.iter().filter(|result| has_run(result)) {
            let Some(other) = find(second, &one.id) else {
                continue;
            };
            comparison.compared += 1;
            let is_few = [one, other].iter().any(|of| of.runs.len() < FEWEST_RUNS);
            comparison.few_runs += usize::from(is_few);
            let verdicts = (one.verdict != other.verdict).then_some([one.verdict, other.verdict]);
            let mut observations = Vec::new();
            for name in observations_of(one, other) {
                let Some(difference) = judge(&name, one, other) else {
                    continue;
                };
                match difference.by {
                    Judgement::Constant(_) => observations.push(difference),
                    Judgement::MannWhitneyU(p) | Judgement::FishersExact(p) => {
                        tested.push((p, comparison.scenarios.len(), difference));
                    }
                }
            }
            comparison.scenarios.push(ScenarioDifference {
                id: one.id.clone(),
                verdicts,
                observations,
                traces: [trace(one), trace(other)],
            });
        }
        comparison.tested = tested.len();
        for (scenario, difference) in holm(tested) {
            comparison.scenarios[scenario].observations.push(difference);
        }
        for scenario in &mut comparison.scenarios {
            let by_name = |difference: &ObservationDifference| difference.observation.clone();
            scenario.observations.sort_by_key(by_name);
        }
        comparison
            .scenarios
            .retain(|scenario| scenario.verdicts.is_some() || !scenario.observations.is_empty());
        comparison
    }
}

/// A run of a side: one that is not as expected, where there is one.
fn trace(result: &ScenarioResult) -> Option<Trace> {
    let traces = result.traces.iter();
    traces.min_by_key(|trace| trace.as_expected).cloned()
}

/// The differences that Holm's procedure keeps: the smallest p-value against ALPHA/n, the
/// next against ALPHA/(n-1), up to the first that is too large.
fn holm<T>(mut tested: Vec<(f64, usize, T)>) -> Vec<(usize, T)> {
    tested.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut left = tested.len();
    tested
        .into_iter()
        .take_while(|(p, _, _)| {
            #[expect(clippy::cast_precision_loss, reason = "tests stay far below 2^53")]
            let limit = ALPHA / left as f64;
            left -= 1;
            *p < limit
        })
        .map(|(_, scenario, difference)| (scenario, difference))
        .collect()
}

fn has_run(result: &ScenarioResult) -> bool {
    result.verdict != Verdict::Skipped && !result.runs.is_empty()
}

fn find<'a>(side: &'a Side, id: &str) -> Option<&'a ScenarioResult> {
    let mut results = side.results.iter().filter(|result| has_run(result));
    results.find(|result| result.id == id)
}

fn only(side: &Side, other: &Side) -> Vec<String> {
    let results = side.results.iter().filter(|result| has_run(result));
    results
        .filter(|result| find(other, &result.id).is_none())
        .map(|result| result.id.clone())
        .collect()
}

/// The names of what is compared. Durations are left out, because they tell of the
/// machine; so is what belongs to the whole kernel where that ran other things, too.
fn observations_of(one: &ScenarioResult, other: &ScenarioResult) -> BTreeSet<String> {
    let is_shared = [one, other]
        .iter()
        .any(|result| result.kernel.machine == Machine::Host);
    let runs = one.runs.iter().chain(&other.runs);
    let is_left_out = |name: &&String| {
        let is_duration = name.rsplit('.').next() == Some("ms");
        is_duration || (is_shared && name.starts_with("kernel."))
    };
    runs.flat_map(|run| run.observations.keys())
        .filter(|name| !is_left_out(name))
        .cloned()
        .collect()
}

/// The values of an observation over the runs of a result that gave a verdict. A counter
/// that did not change is not listed and counts as 0.
fn values(name: &str, result: &ScenarioResult, is_number: bool) -> Vec<Value> {
    let missing = || {
        if is_number {
            Value::Integer(0)
        } else {
            Value::from("none")
        }
    };
    let runs = result.runs.iter().filter(|run| run.error.is_none());
    runs.map(|run| run.observations.get(name).cloned().unwrap_or_else(missing))
        .collect()
}

/// How an observation differs; for what varies with the p-value of its test. `None` where
/// it is the same, or where there are too few runs to tell.
fn judge(
    name: &str,
    one: &ScenarioResult,
    other: &ScenarioResult,
) -> Option<ObservationDifference> {
    let mut all = one.runs.iter().chain(&other.runs);
    let is_number = all.all(|run| {
        let value = run.observations.get(name);
        value.is_none_or(|value| value.as_f64().is_some())
    });
    let sides = [one, other].map(|result| values(name, result, is_number));
    if sides.iter().any(|side| side.len() < FEWEST_RUNS) {
        return None;
    }
    let seen = [Values::of(&sides[0]), Values::of(&sides[1])];
    let by = match &seen {
        [Values::Constant(one), Values::Constant(other)] if one == other => return None,
        [Values::Constant(_), Values::Constant(_)] => {
            Judgement::Constant([sides[0].len(), sides[1].len()])
        }
        _ if is_number => Judgement::MannWhitneyU(mann_whitney_u(&sides)),
        _ => Judgement::FishersExact(fisher(&sides)),
    };
    Some(ObservationDifference {
        observation: name.to_owned(),
        seen,
        by,
    })
}

/// Whether an observation differs between the only results of two sides, judged by
/// itself.
pub fn differs(name: &str, one: &Side, other: &Side) -> bool {
    let (Some(one), Some(other)) = (one.results.first(), other.results.first()) else {
        return false;
    };
    let difference = judge(name, one, other);
    difference.is_some_and(|difference| match difference.by {
        Judgement::Constant(_) => true,
        Judgement::MannWhitneyU(p) | Judgement::FishersExact(p) => p < ALPHA,
    })
}

/// What a result saw of an observation.
pub fn seen(name: &str, result: &ScenarioResult) -> Values {
    let runs = result
        .runs
        .iter()
        .filter_map(|run| run.observations.get(name));
    let is_number = runs.clone().all(|value| value.as_f64().is_some());
    Values::of(&values(name, result, is_number))
}

fn mann_whitney_u(sides: &[Vec<Value>; 2]) -> f64 {
    let [one, other] = sides
        .each_ref()
        .map(|side| side.iter().filter_map(Value::as_f64).collect::<Vec<_>>());
    let method = MannWhitneyUMethod::Automatic;
    // An error is a sample that is empty or not comparable: then nothing is shown.
    let p = mannwhitneyu(&one, &other, method, Alternative::TwoSided).map_or(1.0, |(_, p)| p);
    // With ties the p-value is approximated; no order of the values is rarer than this.
    p.max(2.0 / orders(one.len(), other.len()))
}

/// In how many ways that many values of one side can lie among those of the other.
#[expect(clippy::cast_precision_loss, reason = "runs stay far below 2^53")]
fn orders(one: usize, other: usize) -> f64 {
    (1..=one).fold(1.0, |ways, at| ways * (other + at) as f64 / at as f64)
}

/// How often the text that is the most frequent over both sides was seen on each.
fn fisher(sides: &[Vec<Value>; 2]) -> f64 {
    let all: Vec<Value> = sides.iter().flatten().cloned().collect();
    let Some((most_frequent, _)) = frequencies(&all).into_iter().next() else {
        return 1.0;
    };
    let [one, other] = sides.each_ref().map(|side| {
        let same = side
            .iter()
            .filter(|value| value.to_string() == most_frequent);
        let same = same.count() as u64;
        [same, side.len() as u64 - same]
    });
    let table = [one[0], one[1], other[0], other[1]];
    fishers_exact(&table, Alternative::TwoSided).unwrap_or(1.0)
}

/// Values as they are printed, the most frequent first.
fn frequencies(values: &[Value]) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value.to_string()).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

impl Values {
    fn of(values: &[Value]) -> Self {
        if let Some(first) = values.first()
            && values.iter().all(|value| value == first)
        {
            return Self::Constant(first.to_string());
        }
        let mut numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
        if numbers.len() < values.len() || numbers.is_empty() {
            return Self::Texts(frequencies(values));
        }
        numbers.sort_by(f64::total_cmp);
        Self::Range {
            least: numbers[0],
            median: numbers[numbers.len() / 2],
            greatest: numbers[numbers.len() - 1],
        }
    }
}

#[cfg(test)]
mod tests;
