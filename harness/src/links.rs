//! Compares the relay with netem: their effect on datagrams, and the results of
//! scenarios over each.
//!
//! Imports runner, kernels, lab and suite.

use std::time::Duration;

use advisor_report::{Clock, ScenarioResult};

use crate::kernels::KernelError;
use crate::kernels::cache::{Cache, Stored};
use crate::kernels::choice::Choice;
use crate::lab::Carrier;
use crate::lab::datagrams::{Pair, Sample};
use crate::runner::plan::Plan;
use crate::runner::{self, OnProgress, Options, guests};
use crate::suite::scenario::Scenario;

/// How many standard errors two shares of the same distribution may be apart.
/// Chance exceeds it once in 20,000 times (Student's distribution with 58
/// degrees of freedom), so one of 30 comparisons does about once in 700 times.
const DEVIATIONS: f64 = 4.4;

/// The bound of the Kolmogorov-Smirnov distance, times the square root of (n +
/// m) / nm. Chance exceeds it once in 3000 times.
const DISTANCE: f64 = 2.1;

/// Blocks of datagrams whose shares are compared: losses in bursts depend on
/// each other, but hardly across blocks.
const BLOCKS: usize = 30;

/// How far the delays of the quickest tenths may be apart: this, plus a
/// twentieth. A busy machine delays some datagrams; it speeds up none.
const LATENESS: Duration = Duration::from_millis(1);

/// The scenarios that can be compared: those with an impairment that both can
/// carry.
pub fn comparable(scenarios: Vec<Scenario>) -> Vec<Scenario> {
    scenarios
        .into_iter()
        .filter(|scenario| scenario.is_impaired() && !scenario.needs_netem)
        .collect()
}

/// The kernel of that name, to compare links on.
pub fn kernel(name: &str) -> Result<Stored, KernelError> {
    let choice = Choice::parse(name)?;
    if choice == Choice::Host {
        return Err(KernelError::usage(
            "host",
            "compare links on it",
            "links are compared in a guest",
            "name a kernel that was fetched, see `harness kernels`",
        ));
    }
    choice.resolve(&Cache::of_user()?, None)?.ok_or_else(|| {
        KernelError::environment(
            name,
            "compare links on it",
            "no kernel was fetched",
            "harness kernels fetch debian-6.12",
        )
    })
}

/// What was compared.
#[derive(Debug)]
pub struct Compared {
    /// The guest's release.
    pub release: String,
    /// By link.
    pub links: Vec<CarrierPair>,
    /// Of the scenarios, over netem and then over the relay.
    pub results: Vec<ScenarioResult>,
}

/// Sends `packets` datagrams over each link and runs the scenarios over each
/// carrier; `compared` is called with each link as it is done.
pub fn run(
    kernel: &Stored,
    packets: u32,
    scenarios: &[Scenario],
    runs: Option<u64>,
    progress: OnProgress,
    mut compared: impl FnMut(&CarrierPair),
) -> Result<Compared, runner::Error> {
    let mut all = Compared {
        release: String::new(),
        links: Vec::new(),
        results: Vec::new(),
    };
    guests::measure_links(kernel, packets, progress, |release, pair| {
        release.clone_into(&mut all.release);
        let comparison = compare(pair);
        compared(&comparison);
        all.links.push(comparison);
    })?;
    for carrier in [Carrier::Netem, Carrier::Relay] {
        let options = Options {
            // The relay is a process: how late it is scheduled is what is compared.
            clock: Some(Clock::Real),
            carrier,
            runs,
            ..Options::default()
        };
        let outcome = runner::run(&Plan::in_guests(scenarios, kernel), &options, progress)?;
        if let Some(error) = outcome.error {
            return Err(error);
        }
        all.results.extend(outcome.results);
    }
    Ok(all)
}

/// How two samples compare.
#[derive(Clone, Debug, PartialEq)]
pub struct CarrierPair {
    /// The link.
    pub link: String,
    /// What was counted, and its share over netem and over the relay, from 0 to
    /// 1.
    pub shares: Vec<(&'static str, f64, f64)>,
    /// The delay that a tenth of the datagrams stays below, in microseconds.
    pub quickest_us: (u32, u32),
    /// The Kolmogorov-Smirnov distance between the delays, medians aligned, and
    /// its bound; only for links with jitter.
    pub distance: Option<(f64, f64)>,
    /// What differs by more than chance; empty where they agree.
    pub differs: Vec<String>,
}

impl CarrierPair {
    /// `agree` or `differ`, in six columns.
    pub fn verdict(&self) -> &'static str {
        if self.differs.is_empty() {
            "agree "
        } else {
            "differ"
        }
    }
}

/// Compares the two samples of a pair.
pub fn compare(pair: &Pair) -> CarrierPair {
    let lost =
        |sample: &Sample| -> Vec<bool> { sample.delays_us.iter().map(Option::is_none).collect() };
    let among = |numbers: &[u32], sample: &Sample| -> Vec<bool> {
        let mut marks = vec![false; sample.delays_us.len()];
        for number in numbers {
            if let Some(mark) = marks.get_mut(*number as usize) {
                *mark = true;
            }
        }
        marks
    };
    let (netem, relay) = (&pair.netem, &pair.relay);
    let marks = [
        ("lost", lost(netem), lost(relay)),
        (
            "doubled",
            among(&netem.duplicated, netem),
            among(&relay.duplicated, relay),
        ),
        (
            "overtaken",
            among(&netem.overtaken, netem),
            among(&relay.overtaken, relay),
        ),
    ];
    let mut differs = Vec::new();
    let mut shares = Vec::new();
    for (what, one, other) in &marks {
        let (one_share, other_share) = (share(one), share(other));
        let error = standard_error(one).hypot(standard_error(other));
        if (one_share - other_share).abs() > DEVIATIONS * error {
            differs.push(format!(
                "{what}: {:.2}% and {:.2}%, more than {DEVIATIONS} standard errors apart",
                one_share * 100.0,
                other_share * 100.0
            ));
        }
        shares.push((*what, one_share, other_share));
    }
    let delays = |sample: &Sample| -> Vec<u32> {
        let mut delays: Vec<u32> = sample.delays_us.iter().copied().flatten().collect();
        delays.sort_unstable();
        delays
    };
    let (one, other) = (delays(netem), delays(relay));
    if one.len().min(other.len()) * 2 < pair.netem.delays_us.len() {
        differs.push(format!(
            "{} and {} of {} arrived: no link here loses half",
            one.len(),
            other.len(),
            pair.netem.delays_us.len()
        ));
    }
    let quickest_us = (quantile(&one, 10), quantile(&other, 10));
    let allowed = LATENESS + Duration::from_micros(u64::from(quickest_us.0 / 20));
    let apart = Duration::from_micros(u64::from(quickest_us.0.abs_diff(quickest_us.1)));
    if apart > allowed {
        differs.push(format!(
            "delay of the quickest tenth: {} and {} us, more than {allowed:?} apart",
            quickest_us.0, quickest_us.1
        ));
    }
    // Without jitter, only the machine varies the delays.
    let distance = pair.link.contains("jitter").then(|| {
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let (n, m) = (one.len() as f64, other.len() as f64);
        let bound = DISTANCE * ((n + m) / (n * m)).sqrt();
        (distance(&one, &other), bound)
    });
    if let Some((distance, bound)) = distance
        && distance > bound
    {
        differs.push(format!(
            "distribution of the delays: distance {distance:.3}, above {bound:.3}"
        ));
    }
    CarrierPair {
        link: pair.link.clone(),
        shares,
        quickest_us,
        distance,
        differs,
    }
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn share(marks: &[bool]) -> f64 {
    let count = marks.iter().filter(|mark| **mark).count();
    count as f64 / marks.len().max(1) as f64
}

/// The share's standard error, from its variation across blocks.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn standard_error(marks: &[bool]) -> f64 {
    let length = (marks.len() / BLOCKS).max(1);
    let blocks: Vec<f64> = marks.chunks_exact(length).map(share).collect();
    let count = blocks.len().max(2) as f64;
    let mean = blocks.iter().sum::<f64>() / count;
    let squares: f64 = blocks.iter().map(|block| (block - mean).powi(2)).sum();
    // A share of 0 varies, too: by one packet.
    let least = 1.0 / marks.len().max(1) as f64;
    (squares / (count - 1.0) / count).sqrt().max(least)
}

/// A percentile of sorted numbers.
fn quantile(sorted: &[u32], percent: usize) -> u32 {
    let place = sorted.len() * percent / 100;
    sorted.get(place).copied().unwrap_or(0)
}

/// The largest difference between the two empirical distributions around their
/// medians.
fn distance(one: &[u32], other: &[u32]) -> f64 {
    let medians = (quantile(one, 50), quantile(other, 50));
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let below = |sorted: &[u32], limit: i64, median: u32| {
        let count = sorted.partition_point(|value| i64::from(*value) - i64::from(median) <= limit);
        count as f64 / sorted.len().max(1) as f64
    };
    let from_median = |sorted: &[u32], median: u32| -> Vec<i64> {
        let differences = sorted.iter().map(|value| i64::from(*value));
        differences.map(|value| value - i64::from(median)).collect()
    };
    from_median(one, medians.0)
        .into_iter()
        .chain(from_median(other, medians.1))
        .map(|limit| (below(one, limit, medians.0) - below(other, limit, medians.1)).abs())
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(delays_us: Vec<Option<u32>>) -> Sample {
        Sample {
            delays_us,
            ..Sample::default()
        }
    }

    /// Delays that are spread evenly, with every n-th datagram lost.
    fn spread(start: u32, step: u32, lost: usize) -> Sample {
        let delay = |number: usize| {
            let place = u32::try_from(number * 7919 % 3000).unwrap();
            (!number.is_multiple_of(lost)).then_some(start + place * step)
        };
        sample((0..3000).map(delay).collect())
    }

    fn compared(link: &str, netem: Sample, relay: Sample) -> CarrierPair {
        compare(&Pair {
            link: link.to_owned(),
            netem,
            relay,
        })
    }

    #[test]
    fn samples_of_one_distribution_agree() {
        let seen = compared(
            "delay: 50ms, jitter: 10ms",
            spread(40_000, 6, 100),
            spread(40_400, 6, 101),
        );
        assert_eq!(seen.differs, [] as [&str; 0]);
    }

    #[test]
    fn a_loss_that_differs_is_found() {
        let seen = compared("loss: 1%", spread(100, 1, 100), spread(100, 1, 20));
        assert!(
            seen.differs[0].starts_with("lost: 1.00% and 5.00%"),
            "{seen:?}"
        );
    }

    #[test]
    fn a_delay_that_differs_is_found_by_its_median_and_by_its_shape() {
        let seen = compared("delay: 40ms", spread(40_000, 1, 99), spread(45_000, 1, 99));
        assert!(
            seen.differs[0].starts_with("delay of the quickest"),
            "{seen:?}"
        );
        assert_eq!(seen.distance, None);
        let narrow = compared(
            "delay: 40ms, jitter: 1ms",
            spread(40_000, 2, 99),
            spread(41_000, 1, 99),
        );
        assert_eq!(narrow.differs.len(), 1, "{narrow:?}");
        assert!(narrow.differs[0].starts_with("distribution"), "{narrow:?}");
    }
}
