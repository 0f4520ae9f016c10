//! One factor for populations, their limits and rates; never for bytes of a socket or for
//! times.

use advisor_facts::condition::Condition;

use super::population::{Class, Population};

/// So many connections and orphans are made at most: an emulated processor makes one or two
/// hundred in a second.
const MOST_SOCKETS: u64 = 120;
/// So many records of TIME_WAIT.
const MOST_RECORDS: u64 = 200;
/// So many bytes lie in queues at most: a tenth of a guest's memory, and fifty times what
/// bystanders have in theirs.
const MOST_BYTES: u64 = 48 << 20;
/// So many bytes are on their way to peers that take them at most: an emulated processor
/// carries them in a fraction of a round trip.
const MOST_MOVING: u64 = 16 << 20;
/// A class has at least so many, where it has them on the host.
const FEWEST: u64 = 8;
/// A ratio that is off by more is stated, in hundredths.
pub const TOLERANCE_PERCENT: u64 = 5;

/// The factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    factor: f64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a host, and no bits of them matter"
)]
impl Scale {
    /// The factor with which a population can be made, and so many connections that come at
    /// once.
    pub fn of(population: &Population, at_once: u64) -> Self {
        let bytes: u64 = population.classes.iter().map(Class::bytes).sum();
        let healthy = population.classes.iter();
        let healthy = healthy.filter(|class| class.condition == Condition::Healthy);
        let moving: u64 = healthy.map(Class::bytes).sum();
        let fits = |most: u64, is: u64| {
            if is > most {
                most as f64 / is as f64
            } else {
                1.0
            }
        };
        Self {
            factor: fits(MOST_SOCKETS, population.sockets() + at_once)
                .min(fits(MOST_RECORDS, population.records()))
                .min(fits(MOST_BYTES, bytes))
                .min(fits(MOST_MOVING, moving)),
        }
    }

    /// The factor itself.
    pub const fn factor(self) -> f64 {
        self.factor
    }

    /// The same, changed by so many percent.
    #[must_use]
    pub fn by_percent(self, percent: i64) -> Self {
        Self {
            factor: self.factor * (100 + percent) as f64 / 100.0,
        }
    }

    /// Whether numbers are as on the host.
    pub fn is_whole(self) -> bool {
        (self.factor - 1.0).abs() < 1e-9
    }

    /// A limit, or what a limit counts; at least 1.
    pub fn limit(self, of_host: u64) -> u64 {
        ((of_host as f64 * self.factor).round() as u64).max(1)
    }

    /// How many of a class are made.
    pub fn count(self, of_host: u64) -> u64 {
        let scaled = (of_host as f64 * self.factor).round() as u64;
        scaled.max(of_host.min(FEWEST))
    }

    /// A rate, a second.
    pub fn rate(self, of_host: f64) -> f64 {
        of_host * self.factor
    }

    /// Whether a class is larger or smaller than its share, by more than the tolerance.
    pub fn is_off(self, of_host: u64) -> bool {
        let share = of_host as f64 * self.factor;
        (self.count(of_host) as f64 - share).abs() * 100.0 > share * TOLERANCE_PERCENT as f64
    }
}

/// What a class is made of: sockets that hold the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Batch {
    /// How many.
    pub count: u64,
    /// What each holds, in bytes.
    pub held: u64,
}

/// The class in so many sockets, in at most four batches that keep its quartiles.
pub fn batches(class: &Class, count: u64) -> Vec<Batch> {
    let held = &class.held;
    if held.is_empty() || count == 0 {
        return Vec::new();
    }
    let at = |eighth: usize| held[(held.len() * eighth / 8).min(held.len() - 1)];
    // The ends are as important as the middle where a sum is.
    let quarters = [at(1), at(3), at(5), at(7)];
    let alike = quarters[3] <= quarters[0] + quarters[0] / 10;
    if alike || count < 4 || class.condition == Condition::TimeWait {
        let mean = held.iter().sum::<u64>() / held.len() as u64;
        return vec![Batch { count, held: mean }];
    }
    let mut batches: Vec<Batch> = Vec::new();
    for (number, held) in (0..).zip(quarters) {
        let part = count * (number + 1) / 4 - count * number / 4;
        match batches.last_mut() {
            Some(last) if last.held == held => last.count += part,
            _ => batches.push(Batch { count: part, held }),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::super::population::Way;
    use super::*;

    fn class(held: Vec<u64>) -> Class {
        Class {
            condition: Condition::ZeroWindow,
            way: Way::Inbound(80),
            holder: None,
            ages: Vec::new(),
            addresses: 1,
            held,
        }
    }

    fn of(count: usize, held: u64) -> Population {
        Population {
            classes: vec![class(vec![held; count])],
            ..Population::default()
        }
    }

    #[test]
    fn one_factor_keeps_the_ratio_of_sockets_and_limits() {
        assert!(Scale::of(&of(100, 1000), 0).is_whole());
        let scale = Scale::of(&of(2400, 1000), 0);
        assert_eq!((scale.count(2400), scale.limit(24_000)), (120, 1200));
        assert!(!scale.is_off(2400));
        // 23 sockets of 2.2 MB are what memory there is for.
        let scale = Scale::of(&of(400, 2_200_000), 0);
        assert_eq!(scale.count(400), 23);
    }

    #[test]
    fn a_small_class_keeps_eight_and_is_said_to_be_off() {
        let scale = Scale::of(&of(24_000, 0), 0);
        assert_eq!((scale.count(40), scale.count(3)), (8, 3));
        assert!(scale.is_off(40));
    }

    #[test]
    fn batches_keep_the_quartiles() {
        let many = class((1..=1000).collect());
        let batches = batches(&many, 40);
        let held: Vec<u64> = batches.iter().map(|batch| batch.held).collect();
        assert_eq!(held, [126, 376, 626, 876]);
        assert_eq!(batches.iter().map(|batch| batch.count).sum::<u64>(), 40);
        assert_eq!(
            super::batches(&class(vec![100; 9]), 9),
            [Batch {
                count: 9,
                held: 100
            }]
        );
    }
}
