//! The distinct outcomes of one scenario over many seeds (`harness run --explore`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use advisor_report::{Quantifier, ScenarioResult, Value, Verdict};

use super::describe_held;

/// What several seeds of a scenario saw alike.
#[derive(Debug)]
struct Outcome {
    /// The smallest.
    seed: u64,
    seeds: usize,
    facts: BTreeMap<String, String>,
}

/// What tells outcomes apart: which expectations held and every observation that is
/// a word, such as an errno or a state. Numbers differ from seed to seed.
fn facts(result: &ScenarioResult) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for expectation in &result.expectations {
        let name = format!("{} {}", expectation.observation, expectation.condition);
        facts.insert(name, describe_held(expectation).to_owned());
    }
    for run in &result.runs {
        if let Some(error) = &run.error {
            facts.insert("error".to_owned(), error.clone());
        }
        for (name, value) in &run.observations {
            if let Value::Text(text) = value {
                facts.insert(name.clone(), text.clone());
            }
        }
    }
    if result.verdict == Verdict::Skipped {
        let reason = result.reason.clone().unwrap_or_default();
        facts.insert("skipped".to_owned(), reason);
    }
    facts
}

fn seed(result: &ScenarioResult) -> u64 {
    let repeatable = result.repeatable.as_ref();
    repeatable.map_or(0, |known| known.depends_on.seed)
}

/// The outcomes of one scenario, the most frequent first.
fn outcomes(results: &[&ScenarioResult]) -> Vec<Outcome> {
    let mut found: BTreeMap<BTreeMap<String, String>, (u64, usize)> = BTreeMap::new();
    for result in results {
        let seed = seed(result);
        let (smallest, seeds) = found.entry(facts(result)).or_insert((seed, 0));
        *smallest = (*smallest).min(seed);
        *seeds += 1;
    }
    let mut outcomes: Vec<Outcome> = found
        .into_iter()
        .map(|(facts, (seed, seeds))| Outcome { seed, seeds, facts })
        .collect();
    outcomes.sort_by_key(|outcome| (std::cmp::Reverse(outcome.seeds), outcome.seed));
    outcomes
}

/// Whether a single run breaks what is expected of every run, or gave no result.
pub fn is_broken(result: &ScenarioResult) -> bool {
    result.verdict == Verdict::Errored
        || result.expectations.iter().any(|expectation| {
            expectation.held == Some(false) && expectation.quantifier != Quantifier::Sometimes
        })
}

/// The outcomes of each scenario as text: each with the smallest seed that shows it,
/// and how it differs from the most frequent one.
pub fn text(results: &[ScenarioResult]) -> String {
    let mut by_scenario: BTreeMap<(&str, &str), Vec<&ScenarioResult>> = BTreeMap::new();
    for result in results {
        let key = (result.id.as_str(), result.kernel.release.as_str());
        by_scenario.entry(key).or_default().push(result);
    }
    let mut text = String::new();
    for ((id, release), results) in by_scenario {
        let outcomes = outcomes(&results);
        let plural = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let _ = writeln!(
            text,
            "{id}: {} in {}, Linux {release}",
            plural(outcomes.len(), "outcome"),
            plural(results.len(), "seed")
        );
        let usual = outcomes.first().map(|first| first.facts.clone());
        for (place, outcome) in outcomes.iter().enumerate() {
            let _ = writeln!(
                text,
                "  --seed {}: {}",
                outcome.seed,
                plural(outcome.seeds, "seed")
            );
            let is_shown = |name: &String, fact: &String| match (&usual, place) {
                (_, 0) => fact == "not held" || name == "error" || name == "skipped",
                (Some(usual), _) => usual.get(name) != Some(fact),
                _ => true,
            };
            for (name, fact) in &outcome.facts {
                if is_shown(name, fact) {
                    let _ = writeln!(text, "    {name}: {fact}");
                }
            }
            let missing = usual.iter().flatten().filter(|_| place > 0);
            for (name, _) in missing.filter(|(name, _)| !outcome.facts.contains_key(*name)) {
                let _ = writeln!(text, "    {name}: not observed");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use advisor_report::{Dependence, Repeatable};

    use super::*;
    use crate::report::tests::sample;

    fn seen(seed: u64, error: &str, bytes: i64) -> ScenarioResult {
        let mut result = sample().scenarios.remove(0);
        result.id = "a/b/c".to_owned();
        result.repeatable = Some(Repeatable {
            repeatable: true,
            depends_on: Dependence {
                seed,
                kernel: String::new(),
                qemu: String::new(),
                harness: String::new(),
            },
        });
        result.runs.truncate(1);
        result.runs[0].observations = BTreeMap::from([
            ("one.read.error".to_owned(), error.into()),
            ("one.read.bytes".to_owned(), Value::Integer(bytes)),
        ]);
        result
    }

    #[test]
    fn each_outcome_has_its_smallest_seed() {
        let results = [
            seen(3, "ECONNRESET", 1),
            seen(1, "ECONNRESET", 2),
            seen(2, "none", 3),
            seen(4, "ECONNRESET", 4),
        ];
        let text = text(&results);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("a/b/c: 2 outcomes in 4 seeds, Linux "));
        assert_eq!(lines[1], "  --seed 1: 3 seeds");
        assert!(
            text.ends_with("  --seed 2: 1 seed\n    one.read.error: none\n"),
            "{text}"
        );
    }
}
