//! Judges the expectations of a scenario by its runs.

use std::collections::{BTreeMap, BTreeSet};

use advisor_report::{Expectation, Quantifier, Run, Seen, Spread, Value};

use crate::condition::Condition;
use crate::errno;
use crate::observation::{Absent, Observation};
use crate::suite::scenario::{Expected, Given, Scenario};

/// Judges every expectation of a scenario over its runs.
pub fn judge(scenario: &Scenario, runs: &[Run]) -> Vec<Expectation> {
    scenario
        .expectations
        .iter()
        .map(|expected| Expectation {
            observation: expected.observation.to_string(),
            quantifier: expected.quantifier,
            condition: expected.condition(),
            held: held(expected, runs),
            seen: seen(expected, runs),
            spread: spread(&expected.observation, runs),
            plain: None,
            because: expected.because.as_ref().map(|why| why.trim().to_owned()),
            line: expected.line as u64,
        })
        .collect()
}

/// Whether more runs could still meet a `sometimes` that none has met.
pub fn wants_more_runs(expectations: &[Expectation]) -> bool {
    expectations.iter().any(|expectation| {
        expectation.quantifier == Quantifier::Sometimes && expectation.held == Some(false)
    })
}

/// The value of an observation in a run; a count that nothing raised is 0.
fn value(run: &Run, observation: &Observation) -> Option<Value> {
    let value = |observation: &Observation| run.observations.get(&observation.to_string());
    value(observation)
        .cloned()
        .or_else(|| match observation.when_absent() {
            Absent::Zero => Some(Value::Integer(0)),
            Absent::ZeroWhere(other) => value(&other).map(|_| Value::Integer(0)),
            Absent::Unknown => None,
        })
}

/// What a run lacks of what must have been seen for it to count, and what was seen.
pub fn missing(scenario: &Scenario, run: &Run) -> Option<String> {
    let lacks = |given: &&Given| {
        let met = holds(
            &given.observation,
            &given.conditions,
            &given.references,
            run,
        );
        met != Some(true)
    };
    let given = scenario.given.iter().find(lacks)?;
    Some(format!(
        "given {given}: saw {}",
        shown(run, &given.observation)
    ))
}

/// Whether a step was ended by its own time limit where the suite compares with the
/// kernel's ETIMEDOUT: the names of the observations.
pub fn mistaken_for_timeouts(scenario: &Scenario, runs: &[Run]) -> Vec<String> {
    let late = Value::Text(errno::LATE.to_owned());
    let expected = scenario.expectations.iter();
    let mistaken = expected.filter(|expected| {
        let mut wanted = expected.conditions.iter().filter_map(Condition::exact);
        wanted.any(|wanted| wanted == "ETIMEDOUT")
            && runs
                .iter()
                .any(|run| value(run, &expected.observation) == Some(late.clone()))
    });
    mistaken
        .map(|expected| expected.observation.to_string())
        .collect()
}

/// Whether one of the conditions holds in a run.
fn holds(
    observation: &Observation,
    conditions: &[Condition],
    references: &[Observation],
    run: &Run,
) -> Option<bool> {
    if run.error.is_some() {
        return None;
    }
    let seen = value(run, observation)?;
    let lookup = |name: &str| {
        let mut references = references.iter();
        value(run, references.find(|known| known.to_string() == name)?)
    };
    let answers: Vec<Option<bool>> = conditions
        .iter()
        .map(|condition| condition.holds(&seen, &lookup))
        .collect();
    if answers.contains(&Some(true)) {
        Some(true)
    } else if answers.contains(&None) {
        None
    } else {
        Some(false)
    }
}

fn held(expected: &Expected, runs: &[Run]) -> Option<bool> {
    let answers: Vec<Option<bool>> = runs
        .iter()
        .map(|run| {
            let Expected {
                observation,
                conditions,
                references,
                ..
            } = expected;
            holds(observation, conditions, references, run)
        })
        .collect();
    // The answer of one run that decides, and the decision.
    let (settling, verdict) = match expected.quantifier {
        Quantifier::Always | Quantifier::May => (Some(false), false),
        Quantifier::Never => (Some(true), false),
        Quantifier::Sometimes => (Some(true), true),
    };
    if answers.contains(&settling) {
        Some(verdict)
    } else if answers.is_empty() || answers.contains(&None) {
        None
    } else {
        Some(!verdict)
    }
}

/// The values with how many runs gave each: first those that break the expectation, then
/// the most frequent. What another observation was is beside the value that is compared
/// with it.
fn seen(expected: &Expected, runs: &[Run]) -> Vec<Seen> {
    let breaks = match expected.quantifier {
        Quantifier::Always | Quantifier::May => Some(false),
        Quantifier::Never => Some(true),
        // No single run breaks it.
        Quantifier::Sometimes => None,
    };
    let values = runs
        .iter()
        .filter(|run| is_told(run, &expected.observation));
    counted_values(values.map(|run| {
        let Expected {
            observation,
            conditions,
            references,
            ..
        } = expected;
        let held = holds(observation, conditions, references, run);
        let compared: Vec<String> = references
            .iter()
            .map(|reference| format!("{reference} {}", shown(run, reference)))
            .collect();
        let beside = (!compared.is_empty()).then(|| compared.join(", "));
        (
            excerpt(run, observation, conditions),
            beside,
            breaks.is_some() && held == breaks,
        )
    }))
}

/// Whether a run says something of an observation: one without a result does so where it
/// was seen before.
fn is_told(run: &Run, observation: &Observation) -> bool {
    run.error.is_none() || run.observations.contains_key(&observation.to_string())
}

/// The value of an observation in a run, as it is printed.
fn shown(run: &Run, observation: &Observation) -> String {
    value(run, observation).map_or_else(|| "not observed".to_owned(), |value| value.to_string())
}

/// The same of many lines: those that a condition looks for, or else the last.
fn excerpt(run: &Run, observation: &Observation, conditions: &[Condition]) -> String {
    const MOST: usize = 8;
    let Some(Value::Lines(mut lines)) = value(run, observation) else {
        return shown(run, observation);
    };
    let mut known = BTreeSet::new();
    lines.retain(|line| known.insert(line.clone()));
    if lines.len() <= MOST {
        return shown(run, observation);
    }
    let parts: Vec<&str> = conditions.iter().filter_map(Condition::part).collect();
    let named = lines
        .iter()
        .filter(|line| parts.iter().any(|part| line.contains(part)));
    let named: Vec<&str> = named.map(String::as_str).collect();
    let count = lines.len();
    if named.is_empty() {
        let last = lines[count - MOST..].join("; ");
        return format!("{last} (the last {MOST} of {count} lines)");
    }
    let first = &named[..named.len().min(MOST)];
    format!("{} ({} of {count} lines)", first.join("; "), named.len())
}

fn counted_values(values: impl Iterator<Item = (String, Option<String>, bool)>) -> Vec<Seen> {
    let mut counts: BTreeMap<(bool, String, Option<String>), usize> = BTreeMap::new();
    for (value, beside, breaks) in values {
        *counts.entry((!breaks, value, beside)).or_default() += 1;
    }
    let mut seen: Vec<Seen> = counts
        .into_iter()
        .map(|((holds, value, beside), runs)| Seen {
            value,
            runs,
            beside,
            breaks: !holds,
        })
        .collect();
    seen.sort_by_key(|seen| (!seen.breaks, std::cmp::Reverse(seen.runs)));
    seen
}

/// The least, the median and the greatest of the numbers that runs gave, where they
/// differ.
fn spread(observation: &Observation, runs: &[Run]) -> Option<Spread> {
    let told = runs.iter().filter(|run| is_told(run, observation));
    let values: Vec<Value> = told.filter_map(|run| value(run, observation)).collect();
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let mut numbers: Vec<&Value> = values
        .iter()
        .filter(|value| value.as_f64().is_some())
        .collect();
    numbers.sort_by(|one, other| number(one).total_cmp(&number(other)));
    let (least, greatest) = (numbers.first()?, numbers.last()?);
    let median = numbers.get((numbers.len() - 1) / 2)?;
    (least.to_string() != greatest.to_string()).then(|| Spread {
        least: least.to_string(),
        median: median.to_string(),
        greatest: greatest.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: &str = r#"
scenarios:
  - name: s
    explains: e
    source: s
    actors:
      a: { on: client, steps: [ { connect: "server:1" }, { read: 10 } ] }
    expect:
      a.read.bytes: EXPECTATION
"#;

    /// Whether an expectation holds over runs with these bytes; `None` is a run
    /// in which the step did not end.
    fn outcome(expectation: &str, seen: &[Option<i64>]) -> Option<bool> {
        let text = SUITE.replace("EXPECTATION", expectation);
        let scenario = crate::suite::parse(&text, "t/f").unwrap().remove(0);
        let runs: Vec<Run> = seen
            .iter()
            .map(|bytes| Run {
                observations: bytes
                    .map(|bytes| ("a.read.bytes".to_owned(), Value::Integer(bytes)))
                    .into_iter()
                    .collect(),
                ..Run::default()
            })
            .collect();
        judge(&scenario, &runs)[0].held
    }

    #[test]
    fn quantifiers_range_over_runs() {
        let all = [Some(1), Some(1)];
        let mixed = [Some(1), Some(2)];
        let gap = [Some(1), None];
        assert_eq!(outcome("{ always: 1 }", &all), Some(true));
        assert_eq!(outcome("{ always: 1 }", &mixed), Some(false));
        assert_eq!(outcome("{ always: 1 }", &gap), None);
        assert_eq!(outcome("{ never: 2 }", &all), Some(true));
        assert_eq!(outcome("{ never: 2 }", &mixed), Some(false));
        assert_eq!(outcome("{ never: 2 }", &gap), None);
        assert_eq!(outcome("{ may: [1, 2, 3] }", &mixed), Some(true));
        assert_eq!(outcome("{ may: [1, 3] }", &mixed), Some(false));
        assert_eq!(outcome("{ sometimes: 2 }", &mixed), Some(true));
        assert_eq!(outcome("{ sometimes: 2 }", &all), Some(false));
        assert_eq!(outcome("{ sometimes: 1 }", &gap), Some(true));
        assert_eq!(outcome("{ sometimes: 2 }", &gap), None);
        assert_eq!(outcome("{ always: 1 }", &[]), None);
    }

    #[test]
    fn of_many_lines_those_are_shown_that_are_looked_for() {
        let text = SUITE.replace("a.read.bytes", "kernel.log");
        let lines = |last: &str| {
            let lines = (1..=500).map(|number| format!("line {number}"));
            let lines: Vec<String> = lines.chain([last.to_owned()]).collect();
            Run {
                observations: [("kernel.log".to_owned(), Value::Lines(lines))].into(),
                ..Run::default()
            }
        };
        let seen = |expectation: &str, last| {
            let text = text.replace("EXPECTATION", expectation);
            let scenario = crate::suite::parse(&text, "t/f").unwrap().remove(0);
            judge(&scenario, &[lines(last)])[0].seen[0].value.clone()
        };
        let shown = seen("{ never: \"~ out of\" }", "out of memory");
        assert_eq!(shown, "out of memory (1 of 501 lines)");
        let shown = seen("{ always: \"~ out of\" }", "the end");
        assert!(shown.ends_with("line 500; the end (the last 8 of 501 lines)"));
    }

    #[test]
    fn a_count_that_nothing_raised_is_zero() {
        let text = SUITE.replace("a.read.bytes", "client.TcpExt.TCPAbortOnClose");
        let text = text.replace("EXPECTATION", "{ always: 0 }");
        let scenario = crate::suite::parse(&text, "t/f").unwrap().remove(0);
        assert_eq!(judge(&scenario, &[Run::default()])[0].held, Some(true));
    }

    #[test]
    fn an_errored_run_decides_nothing() {
        let text = SUITE.replace("EXPECTATION", "{ sometimes: 1 }");
        let scenario = crate::suite::parse(&text, "t/f").unwrap().remove(0);
        let run = Run {
            observations: [("a.read.bytes".to_owned(), Value::Integer(1))].into(),
            error: Some("time limit".to_owned()),
            ..Run::default()
        };
        assert_eq!(judge(&scenario, &[run])[0].held, None);
    }
}
