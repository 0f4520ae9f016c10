//! A part of the scenarios, so that several machines run them together.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use advisor_report::report;
use clap::Args;

use super::{USAGE, complain};
use crate::suite::scenario::Scenario;

#[derive(Debug, Args)]
pub(super) struct Sharding {
    /// Only the I-th of N parts of the scenarios; each scenario is in one of them
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Balance the parts by how long scenarios took in this report [default: by what
    /// the suites allow]; each part has to be given the same
    #[arg(long, value_name = "REPORT", requires = "shard")]
    durations: Option<PathBuf>,
}

/// One of several parts, from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Shard {
    part: usize,
    parts: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a part and how many there are, such as 2/5".to_owned();
        let (part, parts) = text.split_once('/').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
        let (part, parts) = (number(part)?, number(parts)?);
        match part {
            0 => Err("parts are counted from 1".to_owned()),
            _ if part > parts => Err(format!("there are only {parts} parts")),
            _ => Ok(Self { part, parts }),
        }
    }
}

impl Sharding {
    /// The scenarios of the part that was asked for, in their order; or the exit status.
    pub(super) fn choose(&self, scenarios: Vec<Scenario>) -> Result<Vec<Scenario>, u8> {
        let Some(shard) = self.shard else {
            return Ok(scenarios);
        };
        let mut took: BTreeMap<String, u64> = BTreeMap::new();
        if let Some(path) = &self.durations {
            let report = report::read(path).map_err(|error| {
                complain(&error, error.hint());
                USAGE
            })?;
            for result in report.scenarios {
                let ms: u64 = result.runs.iter().map(|run| run.duration_ms).sum();
                *took.entry(result.id).or_default() += ms;
            }
        }
        let weights: Vec<u64> = scenarios.iter().map(|one| weight(one, &took)).collect();
        let names: Vec<&str> = scenarios.iter().map(|one| one.id.as_str()).collect();
        let parts = divide(&names, &weights, shard.parts);
        let mut part = parts.into_iter();
        let chosen: Vec<Scenario> = scenarios
            .iter()
            .filter(|_| part.next() == Some(shard.part - 1))
            .cloned()
            .collect();
        if chosen.is_empty() {
            complain(
                format!("part {} of {} has no scenario", shard.part, shard.parts),
                &format!(
                    "there are {} scenarios: ask for fewer parts",
                    scenarios.len()
                ),
            );
            return Err(USAGE);
        }
        Ok(chosen)
    }
}

/// How long a scenario takes, in milliseconds: as recorded, else a share of what its
/// suite allows.
fn weight(scenario: &Scenario, took: &BTreeMap<String, u64>) -> u64 {
    let limit = u64::try_from(scenario.time_limit.as_millis()).unwrap_or(u64::MAX);
    let guess = limit.saturating_mul(scenario.runs) / 20;
    took.get(&scenario.id).copied().unwrap_or(guess).max(1)
}

/// The part of each, from 0: the heaviest first, each to the lightest part.
fn divide(names: &[&str], weights: &[u64], parts: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|place| (Reverse(weights[*place]), names[*place]));
    let mut part = vec![0; names.len()];
    // More parts than scenarios: the others stay empty.
    let mut loads = vec![0_u64; parts.min(names.len()).max(1)];
    for place in order {
        let lightest = (0..loads.len()).min_by_key(|one| loads[*one]).unwrap_or(0);
        part[place] = lightest;
        loads[lightest] = loads[lightest].saturating_add(weights[place]);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_a_part_of_parts() {
        assert_eq!("2/5".parse(), Ok(Shard { part: 2, parts: 5 }));
        for (text, says) in [
            ("0/5", "parts are counted from 1"),
            ("6/5", "there are only 5 parts"),
            ("1/0", "there are only 0 parts"),
            ("2", "such as 2/5"),
            ("a/b", "such as 2/5"),
            ("-1/5", "such as 2/5"),
            ("1/99999999999999999999", "such as 2/5"),
        ] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn parts_are_whole_disjoint_balanced_and_the_same_each_time() {
        let names: Vec<String> = (0..97).map(|n| format!("t/f/s{n:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let weights: Vec<u64> = (0..97).map(|n| 1 + (n * 7919) % 500).collect();
        for parts in [1, 2, 5, 97, 200, usize::MAX] {
            let part = divide(&names, &weights, parts);
            assert_eq!(part, divide(&names, &weights, parts));
            assert_eq!(part.len(), names.len());
            let used = parts.min(names.len());
            let mut loads = vec![0; used];
            for (place, part) in part.iter().enumerate() {
                loads[*part] += weights[place];
            }
            let heaviest = loads.iter().max().unwrap();
            let lightest = loads.iter().min().unwrap();
            // The next to be placed is never heavier than the heaviest of all.
            assert!(
                heaviest - lightest <= *weights.iter().max().unwrap(),
                "{loads:?}"
            );
        }
        // The order in which they come does not matter.
        let mut turned = names.clone();
        turned.reverse();
        let turned_weights: Vec<u64> = weights.iter().rev().copied().collect();
        let mut turned_part = divide(&turned, &turned_weights, 5);
        turned_part.reverse();
        assert_eq!(turned_part, divide(&names, &weights, 5));
    }
}
