//! What became of a trial, by what bystanders saw.

use advisor_report::proof::{Compared, Comparison, Harm, Reading, TrialVerdict};

/// Late, better and worse mean more than so much, in hundredths.
const TOLERANCE_PERCENT: f64 = 10.0;
/// A difference of less is none, in milliseconds.
const NEAR_MS: f64 = 20.0;

/// The highest probability of chance with which a trial is proven.
pub const MOST_CHANCE: f64 = 0.01;

/// What bystanders saw in one pair of runs, which differ in the change alone.
#[derive(Clone, Debug)]
pub struct Pair {
    /// As the host is.
    pub before: Vec<Reading>,
    /// With the change.
    pub after: Vec<Reading>,
}

/// How a reading compares with another one of the same.
pub fn compare(one: &Reading, other: &Reading) -> Comparison {
    let margin = 1.0 + TOLERANCE_PERCENT / 100.0;
    let worse = |one: f64, other: f64, near: f64| other > one * margin && other - one > near;
    let (was, is) = (rate(one), rate(other));
    if worse(was, is, 0.0) {
        return Comparison::Worse;
    }
    if worse(is, was, 0.0) {
        return Comparison::Better;
    }
    match (one.ms, other.ms) {
        (Some(was), Some(is)) if worse(was, is, NEAR_MS) => Comparison::Worse,
        (Some(was), Some(is)) if worse(is, was, NEAR_MS) => Comparison::Better,
        _ => Comparison::Unchanged,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn rate(reading: &Reading) -> f64 {
    reading.failures as f64 / reading.tries.max(1) as f64
}

fn same<'a>(readings: &'a [Reading], reading: &Reading) -> Option<&'a Reading> {
    readings.iter().find(|known| known.what == reading.what)
}

/// The verdict of one pair, and why it is that one.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The verdict, without a word on chance.
    pub verdict: TrialVerdict,
    /// Why.
    pub why: Option<String>,
    /// The harm that there was.
    pub failure: Option<String>,
    /// Whether it was seen before, and after.
    pub failed: (bool, bool),
}

/// Judges a pair. `well` is what bystanders see where nothing is amiss: there is harm where
/// it is worse than that. Without it there is harm where the change betters it.
pub fn judge(pair: &Pair, well: Option<&[Reading]>, harms: &[Harm]) -> Answer {
    let has_well = well.is_some();
    let mut harmed = Vec::new();
    for before in pair
        .before
        .iter()
        .filter(|reading| harms.contains(&reading.harm))
    {
        let Some(after) = same(&pair.after, before) else {
            continue;
        };
        let well = match well {
            Some(well) => same(well, before),
            None => Some(after),
        };
        let is_worse =
            |reading| well.is_some_and(|well| compare(well, reading) == Comparison::Worse);
        // Where nothing says what well is, failing is not.
        let fails = |reading: &Reading| !has_well && reading.failures > 0;
        if is_worse(before) || fails(before) {
            harmed.push((before, after, is_worse(after) || fails(after)));
        }
    }
    let failure = harmed.first().map(|(before, ..)| before.what.clone());
    let failed = (!harmed.is_empty(), harmed.iter().any(|(.., still)| *still));
    let answer = |verdict, why| Answer {
        verdict,
        why,
        failure: failure.clone(),
        failed,
    };
    if harmed.is_empty() {
        let names: Vec<&str> = harms.iter().map(|harm| harm.as_str()).collect();
        return answer(
            TrialVerdict::NotReproduced,
            Some(format!("no harm was seen ({})", names.join(", or "))),
        );
    }
    // What was well before and no longer is.
    for before in &pair.before {
        let Some(after) = same(&pair.after, before) else {
            continue;
        };
        let was_well = well
            .and_then(|well| same(well, before))
            .is_none_or(|well| compare(well, before) != Comparison::Worse);
        if was_well && compare(before, after) == Comparison::Worse {
            return answer(
                TrialVerdict::Harmful,
                Some(format!(
                    "{} was well before: {}, and is not after: {}",
                    before.what,
                    describe(before),
                    describe(after)
                )),
            );
        }
    }
    if let Some((before, after, _)) = harmed.iter().find(|(.., still)| *still) {
        let word = match compare(before, after) {
            Comparison::Better => "better, and not well",
            _ => "as it was",
        };
        return answer(
            TrialVerdict::NoDifference,
            Some(format!(
                "{} is {word}: {} before, {} after",
                before.what,
                describe(before),
                describe(after)
            )),
        );
    }
    answer(TrialVerdict::Proven, None)
}

/// A reading in words.
pub fn describe(reading: &Reading) -> String {
    let mut text = match reading.failures {
        0 => format!("{} well", reading.tries),
        failures => {
            let errors: Vec<&str> = reading.errors.keys().map(String::as_str).collect();
            format!(
                "{failures} of {} fail ({})",
                reading.tries,
                errors.join(", ")
            )
        }
    };
    if let Some(ms) = reading.ms {
        text = format!("{text}, {ms:.0} ms each");
    }
    text
}

/// All readings of a pair beside one another.
pub fn table(pair: &Pair, well: Option<&[Reading]>) -> Vec<Compared> {
    let row = |before: &Reading| {
        let after = same(&pair.after, before)?;
        let well = well.and_then(|well| same(well, before));
        Some(Compared {
            what: before.what.clone(),
            before: describe(before),
            after: describe(after),
            well: well.map(describe),
            verdict: compare(before, after),
        })
    };
    pair.before.iter().filter_map(row).collect()
}

/// Calls unchanged what differs in the first pair and not in each of them: of one pair,
/// chance gives some. Whether there was any such row.
pub fn settle(rows: &mut [Compared], pairs: &[Pair]) -> bool {
    let tables: Vec<Vec<Compared>> = pairs.iter().map(|pair| table(pair, None)).collect();
    let mut any = false;
    for row in rows {
        // What is held at the end is no bystander's, and in no pair.
        let mut twins = tables
            .iter()
            .filter_map(|table| table.iter().find(|twin| twin.what == row.what));
        if row.verdict != Comparison::Unchanged && twins.any(|twin| twin.verdict != row.verdict) {
            row.verdict = Comparison::Unchanged;
            any = true;
        }
    }
    any
}

/// The sign test over pairs: how likely chance alone gives at least so many pairs of all in
/// which the failure was gone.
#[expect(clippy::cast_precision_loss, reason = "pairs are few")]
pub fn chance(gone: usize, pairs: usize) -> f64 {
    let ways = |k: usize| {
        (1..=k)
            .map(|i| (pairs - k + i) as f64 / i as f64)
            .product::<f64>()
    };
    let as_clear: f64 = (gone..=pairs).map(ways).sum();
    as_clear / (pairs as f64).exp2()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_one_pair_alone_shows_is_chance() {
        let pair = |before, after| Pair {
            before: vec![reading(Harm::TransferStalls, 0, before)],
            after: vec![reading(Harm::TransferStalls, 0, after)],
        };
        let steady = [pair(900.0, 700.0), pair(950.0, 720.0)];
        let mut rows = table(&steady[0], None);
        assert!(!settle(&mut rows, &steady));
        assert_eq!(rows[0].verdict, Comparison::Better);
        let random = [pair(900.0, 700.0), pair(800.0, 790.0)];
        let mut rows = table(&random[0], None);
        assert!(settle(&mut rows, &random));
        assert_eq!(rows[0].verdict, Comparison::Unchanged);
    }

    fn reading(harm: Harm, failures: u64, ms: f64) -> Reading {
        Reading {
            what: harm.to_string(),
            harm,
            tries: 10,
            failures,
            errors: BTreeMap::from([("ETIMEDOUT".to_owned(), failures)]),
            ms: Some(ms),
            bytes: None,
        }
    }

    const STALLS: &[Harm] = &[Harm::TransferStalls];

    fn verdict(before: f64, after: f64, well: f64) -> TrialVerdict {
        let one = |ms| vec![reading(Harm::TransferStalls, 0, ms)];
        let pair = Pair {
            before: one(before),
            after: one(after),
        };
        judge(&pair, Some(&one(well)), STALLS).verdict
    }

    #[test]
    fn late_is_more_than_a_tenth_from_well() {
        assert_eq!(verdict(5000.0, 1000.0, 1000.0), TrialVerdict::Proven);
        assert_eq!(verdict(5000.0, 1090.0, 1000.0), TrialVerdict::Proven);
        assert_eq!(verdict(5000.0, 2000.0, 1000.0), TrialVerdict::NoDifference);
        assert_eq!(verdict(5000.0, 5000.0, 1000.0), TrialVerdict::NoDifference);
        assert_eq!(verdict(1050.0, 900.0, 1000.0), TrialVerdict::NotReproduced);
    }

    #[test]
    fn what_was_well_and_no_longer_is_comes_before_what_is_gone() {
        let readings = |stall, cut| {
            vec![
                reading(Harm::TransferStalls, 0, stall),
                reading(Harm::ConnectionCut, cut, 0.0),
            ]
        };
        let pair = Pair {
            before: readings(5000.0, 0),
            after: readings(1000.0, 4),
        };
        let answer = judge(&pair, Some(&readings(1000.0, 0)), STALLS);
        assert_eq!(answer.verdict, TrialVerdict::Harmful);
        assert!(answer.why.unwrap().contains("4 of 10 fail (ETIMEDOUT)"));
    }

    #[test]
    fn without_a_third_arm_the_change_has_to_better_it() {
        let one = |failures| vec![reading(Harm::CannotBind, failures, 0.0)];
        let pair = |before, after| Pair {
            before: one(before),
            after: one(after),
        };
        let harms = &[Harm::CannotBind];
        let verdict = |pair| judge(&pair, None, harms).verdict;
        assert_eq!(verdict(pair(10, 0)), TrialVerdict::Proven);
        assert_eq!(verdict(pair(10, 10)), TrialVerdict::NoDifference);
        assert_eq!(verdict(pair(0, 0)), TrialVerdict::NotReproduced);
    }

    #[test]
    fn eight_of_eight_pairs_decide_and_six_do_not() {
        assert!((chance(8, 8) - 1.0 / 256.0).abs() < 1e-12);
        assert!(chance(8, 8) <= MOST_CHANCE);
        assert!(chance(6, 6) > MOST_CHANCE);
        assert!(chance(7, 8) > MOST_CHANCE);
    }
}
