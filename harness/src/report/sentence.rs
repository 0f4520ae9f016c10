//! What was seen in place of what is expected, in a plain sentence: the values that break
//! an expectation, and what they were compared with.

use std::collections::BTreeMap;

use advisor_report::{Expectation, Quantifier, Run, ScenarioResult, Seen, Value};

use super::describe_seen;
use super::picture::{grouped, shortened};
use crate::condition::Condition;
use crate::step::{LabStep, flatten};
use crate::suite::scenario::Scenario;
use crate::suite::story;

/// The longest value in a sentence, in characters.
const LONGEST: usize = 160;
/// More values are only counted.
const MOST_VALUES: usize = 3;

/// Adds to results what their scenarios know: where they stand, their story, and a plain
/// sentence for each expectation that did not hold.
pub fn describe(results: &mut [ScenarioResult], scenarios: &[Scenario]) {
    let by_id: BTreeMap<&str, &Scenario> = scenarios
        .iter()
        .map(|scenario| (scenario.id.as_str(), scenario))
        .collect();
    for result in results {
        let Some(scenario) = by_id.get(result.id.as_str()) else {
            continue;
        };
        result.place = scenario
            .file
            .as_ref()
            .map(|(file, line)| format!("{}:{line}", file.display()));
        result.story = story::tell(scenario);
        for expectation in &mut result.expectations {
            if expectation.held == Some(false) {
                let plain = of_until(expectation, scenario, &result.runs);
                expectation.plain = plain.or_else(|| Some(sentence(expectation, &result.runs)));
            }
        }
        if result.verdict == advisor_report::Verdict::Failed {
            result.reason = Some(sentences(&result.expectations).join("; "));
        }
    }
}

/// The plain sentences of what did not hold.
pub fn sentences(expectations: &[Expectation]) -> Vec<String> {
    let broken = expectations
        .iter()
        .filter(|expectation| expectation.held == Some(false));
    broken
        .map(|expectation| match &expectation.plain {
            Some(plain) => plain.clone(),
            None => format!(
                "{}: expected {} {}, got {}",
                expectation.observation,
                expectation.quantifier,
                expectation.condition,
                describe_seen(&expectation.seen)
            ),
        })
        .collect()
}

/// Of a step that waited for something in vain: what did not come to be.
fn of_until(expectation: &Expectation, scenario: &Scenario, result_runs: &[Run]) -> Option<String> {
    let step = expectation
        .observation
        .strip_prefix("lab.")?
        .strip_suffix(".error")?;
    let step = flatten(&scenario.lab).find(|known| known.name == step)?;
    let LabStep::Until(until) = &step.kind else {
        return None;
    };
    let is_error = |seen: &&Seen| seen.value != "none" && seen.value != "not observed";
    let runs: usize = expectation
        .seen
        .iter()
        .filter(is_error)
        .map(|seen| seen.runs)
        .sum();
    if runs == 0 || expectation.condition != "none" {
        return None;
    }
    let all: usize = expectation.seen.iter().map(|seen| seen.runs).sum();
    let conditions = until.condition.value.0.iter();
    let conditions: Vec<&str> = conditions.map(|one| one.text.as_str()).collect();
    let last = expectation.observation.replace(".error", ".value");
    let last = result_runs
        .iter()
        .find_map(|run| run.observations.get(&last));
    let after = until
        .timeout
        .map_or_else(String::new, |limit| format!(" after {:?}", limit.0));
    let still = last.map_or_else(|| "not seen".to_owned(), |last| format!("still {last}"));
    Some(format!(
        "{} was {still}{after}, expected {}{}",
        until.observation.value,
        conditions.join(" or "),
        share(runs, all)
    ))
}

fn share(runs: usize, all: usize) -> String {
    if runs == all && all == 1 {
        String::new()
    } else {
        format!(" in {runs} of {all} runs")
    }
}

/// The conditions of an expectation; none where they can't be read back.
fn conditions(text: &str) -> Vec<Condition> {
    let text = match text.rfind(" (") {
        Some(at) if text.ends_with(" on)") || text[at..].contains("before ") => &text[..at],
        _ => text,
    };
    text.split(" | ")
        .filter_map(|one| Condition::parse(one).ok())
        .collect()
}

/// The sentence of an expectation that did not hold.
fn sentence(expectation: &Expectation, runs: &[Run]) -> String {
    let conditions = conditions(&expectation.condition);
    let name = expectation.observation.as_str();
    // A count that nothing raised is 0, and the judge has seen it as such.
    let value = |run: &Run| {
        run.observations
            .get(name)
            .cloned()
            .unwrap_or(Value::Integer(0))
    };
    let lookup = |run: &Run, other: &str| run.observations.get(other).cloned();
    let counted: Vec<&Run> = runs.iter().filter(|run| run.error.is_none()).collect();
    let holds = |run: &Run| {
        let seen = value(run);
        conditions
            .iter()
            .any(|one| one.holds(&seen, &|other| lookup(run, other)) == Some(true))
    };
    let expected = |run: Option<&Run>| {
        let words: Vec<String> = conditions
            .iter()
            .map(|one| in_words(one, &|other| lookup(run?, other), name))
            .collect();
        if words.is_empty() {
            expectation.condition.clone()
        } else {
            words.join(" or ")
        }
    };
    let all = counted.len();
    let (wanted, offenders) = match expectation.quantifier {
        Quantifier::Always | Quantifier::May => {
            let offenders: Vec<&Run> = counted.iter().copied().filter(|run| !holds(run)).collect();
            (expected(offenders.first().copied()), offenders)
        }
        Quantifier::Never => {
            let offenders: Vec<&Run> = counted.iter().copied().filter(|run| holds(run)).collect();
            (
                format!("never {}", expected(offenders.first().copied())),
                offenders,
            )
        }
        Quantifier::Sometimes => {
            let wanted = format!("{} in at least one run", expected(counted.first().copied()));
            (wanted, counted.clone())
        }
    };
    let mut values: Vec<Seen> = Vec::new();
    for run in &offenders {
        let value = shortened(&of_unit(&value(run).to_string(), name), LONGEST);
        match values.iter_mut().find(|known| known.value == value) {
            Some(known) => known.runs += 1,
            None => values.push(Seen::new(value, 1)),
        }
    }
    values.sort_by_key(|seen| std::cmp::Reverse(seen.runs));
    let got = match &values[..] {
        [] => describe_seen(&expectation.seen),
        [one] => one.value.clone() + &share(one.runs, all),
        _ => {
            let told = values.iter().take(MOST_VALUES);
            let mut told: Vec<String> = told
                .map(|one| format!("{} ({} of {all})", one.value, one.runs))
                .collect();
            match values.len() - told.len() {
                0 => {}
                1 => told.push("1 other value".to_owned()),
                others => told.push(format!("{others} other values")),
            }
            told.join(", ")
        }
    };
    format!("{name}: expected {wanted}, got {got}")
}

/// A value with its unit, as its observation has one.
fn of_unit(value: &str, observation: &str) -> String {
    let unit = match observation.rsplit('.').next().unwrap_or_default() {
        "bytes" => "bytes",
        "ms" => "ms",
        field if field.ends_with("_bytes") => "bytes",
        _ => return value.to_owned(),
    };
    match value.parse::<u64>() {
        Ok(number) => format!("{} {unit}", grouped(number)),
        Err(_) if value.parse::<f64>().is_ok() => format!("{value} {unit}"),
        Err(_) => value.to_owned(),
    }
}

/// A condition in words, with the values of the observations that it names.
fn in_words(
    condition: &Condition,
    lookup: &dyn Fn(&str) -> Option<Value>,
    observation: &str,
) -> String {
    let text = condition.text.as_str();
    let words = [
        ("<=", "at most "),
        (">=", "at least "),
        ("==", ""),
        ("!=", "anything but "),
        ("<", "less than "),
        (">", "more than "),
        ("~", "a text with "),
    ];
    let compared = words
        .iter()
        .find_map(|(symbol, words)| Some((*words, text.strip_prefix(symbol)?.trim())));
    let Some((words, rest)) = compared else {
        return of_unit(text, observation);
    };
    let names = condition.references();
    let whole = names.first().filter(|name| rest == format!("{{{name}}}"));
    if let Some(name) = whole {
        return match lookup(name) {
            Some(value) => format!("{words}{} ({name})", of_unit(&value.to_string(), name)),
            None => format!("{words}{name}, which was not observed"),
        };
    }
    let values: Vec<String> = names
        .iter()
        .filter_map(|name| Some(format!("{name} is {}", lookup(name)?)))
        .collect();
    let rest = of_unit(rest, observation);
    if values.is_empty() {
        format!("{words}{rest}")
    } else {
        format!("{words}{rest} ({})", values.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(observation: &str, quantifier: Quantifier, condition: &str, runs: &[i64]) -> String {
        let runs: Vec<Run> = runs
            .iter()
            .map(|bytes| Run {
                observations: BTreeMap::from([
                    ("slow.read.bytes".to_owned(), Value::Integer(*bytes)),
                    ("quick.read.bytes".to_owned(), Value::Integer(1_000_062)),
                    (
                        "slow.read.error".to_owned(),
                        Value::Text("ECONNRESET".to_owned()),
                    ),
                ]),
                ..Run::default()
            })
            .collect();
        let expectation = Expectation {
            observation: observation.to_owned(),
            quantifier,
            condition: condition.to_owned(),
            held: Some(false),
            seen: vec![],
            spread: None,
            plain: None,
            because: None,
            line: 1,
        };
        sentence(&expectation, &runs)
    }

    #[test]
    fn values_stand_beside_what_they_were_compared_with() {
        use Quantifier::{Always, May, Never, Sometimes};
        let bytes = "slow.read.bytes";
        for (quantifier, condition, runs, says) in [
            (
                Always,
                "== {quick.read.bytes}",
                &[53_635][..],
                "slow.read.bytes: expected 1,000,062 bytes (quick.read.bytes), got 53,635 bytes",
            ),
            (
                Always,
                "== {quick.read.bytes}",
                &[53_635, 1_000_062, 53_635, 7],
                "slow.read.bytes: expected 1,000,062 bytes (quick.read.bytes), got 53,635 bytes \
                 (2 of 4), 7 bytes (1 of 4)",
            ),
            (
                Always,
                ">= {quick.read.bytes} * 2 (Linux 6.1 on)",
                &[5],
                "slow.read.bytes: expected at least {quick.read.bytes} * 2 (quick.read.bytes is \
                 1000062), got 5 bytes",
            ),
            (
                Never,
                "< 10",
                &[5, 20],
                "slow.read.bytes: expected never less than 10 bytes, got 5 bytes in 1 of 2 runs",
            ),
            (
                May,
                "1 | 2",
                &[3],
                "slow.read.bytes: expected 1 bytes or 2 bytes, got 3 bytes",
            ),
            (
                Sometimes,
                "< 1MB",
                &[1_000_000, 1_000_000],
                "slow.read.bytes: expected less than 1MB in at least one run, got 1,000,000 \
                 bytes in 2 of 2 runs",
            ),
        ] {
            assert_eq!(told(bytes, quantifier, condition, runs), says);
        }
        assert_eq!(
            told("slow.read.error", Always, "none", &[1]),
            "slow.read.error: expected none, got ECONNRESET"
        );
    }

    #[test]
    fn a_wait_in_vain_says_what_did_not_come() {
        let text = "scenarios:\n  - name: s\n    explains: e\n    source: s\n    actors:\n      \
                    a: { on: client, steps: [ { connect: \"server:1\" } ] }\n    lab:\n      - \
                    until: { observation: server.sockets.ESTABLISHED, condition: 0, timeout: 15s, \
                    as: gone }\n    expect: { lab.gone.error: { always: none } }\n";
        let scenario = crate::suite::parse(text, "t/f").unwrap().remove(0);
        let run = Run {
            observations: BTreeMap::from([("lab.gone.value".to_owned(), Value::Integer(1))]),
            ..Run::default()
        };
        let expectation = Expectation {
            observation: "lab.gone.error".to_owned(),
            quantifier: Quantifier::Always,
            condition: "none".to_owned(),
            held: Some(false),
            seen: vec![Seen::new("late", 1)],
            spread: None,
            plain: None,
            because: None,
            line: 1,
        };
        assert_eq!(
            of_until(&expectation, &scenario, &[run]).unwrap(),
            "server.sockets.ESTABLISHED was still 1 after 15s, expected 0"
        );
    }
}
