//! netem's queue without a clock and without a network: what happens to each
//! frame, and when it leaves.
//!
//! It follows `sch_netem` of Linux 6.18 draw for draw. A draw is made only
//! where its parameter is not 0, and in this order: duplicate, loss, corrupt;
//! then the limit; then reordering, then jitter. A duplicate goes through all
//! of it ahead of its original, but is not duplicated again. Two things differ:
//! which bit a corruption flips is seeded here (netem takes it from the
//! kernel's own random numbers), and correlations do not exist.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::prng::Prng;
use crate::impairment::{Impairment, Loss, Probability};

/// An Ethernet frame, from its destination address on, without checksum.
pub type Frame = Box<[u8]>;

/// Counts of the frames of one direction.
///
/// `received + duplicated == sent + lost + over_limit + held`, the last being
/// [`Queue::held`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Received.
    pub received: u64,
    /// Drawn to be lost.
    pub lost: u64,
    /// Drawn to be sent twice. One that is drawn to be lost as well counts in
    /// both and is sent once.
    pub duplicated: u64,
    /// Drawn to have a bit flipped; those dropped by the limit too.
    pub corrupted: u64,
    /// Drawn to go first, without delay.
    pub reordered: u64,
    /// Dropped because the link held its limit.
    pub over_limit: u64,
    /// Sent at the other end.
    pub sent: u64,
}

/// One direction of an impaired link. Times are counted from the caller's
/// start and must not run backwards.
#[derive(Debug)]
pub struct Queue {
    impairment: Impairment,
    prng: Prng,
    /// Chooses the bits to flip; apart from `prng`, so that corruption does not
    /// shift the other draws away from netem's.
    flips: Prng,
    bad_state: bool,
    /// Delayed frames since one went first.
    since_reordered: u32,
    /// Frames that go first, the latest foremost, with their arrival in ns.
    first: VecDeque<(i64, Frame, Duration)>,
    /// By departure in ns, then by order of arrival. Departures are signed: a
    /// jitter above the delay reaches before the start.
    delayed: BTreeMap<(i64, u64), Delayed>,
    arrivals: u64,
    /// How long the frame that arrives has waited for the caller.
    waited: Duration,
    counts: Counts,
}

/// A frame on the link.
#[derive(Debug)]
struct Delayed {
    arrival: i64,
    waited: Duration,
    frame: Frame,
}

/// When a frame was on the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Passed {
    /// When it came.
    pub arrival: Duration,
    /// When it was to leave.
    pub departure: Duration,
    /// How long it had waited for the caller before it came.
    pub waited: Duration,
}

impl Queue {
    /// An empty link before its first draw.
    pub fn new(impairment: Impairment) -> Self {
        Self {
            prng: Prng::from_seed(impairment.seed),
            flips: Prng::from_seed(!impairment.seed),
            bad_state: false,
            since_reordered: 0,
            first: VecDeque::new(),
            delayed: BTreeMap::new(),
            arrivals: 0,
            waited: Duration::ZERO,
            counts: Counts::default(),
            impairment,
        }
    }

    /// Impairs the frames that come from now on otherwise; those on the link keep their
    /// departure.
    pub fn change(&mut self, impairment: Impairment) {
        self.prng = Prng::from_seed(impairment.seed);
        self.flips = Prng::from_seed(!impairment.seed);
        self.bad_state = false;
        self.impairment = impairment;
    }

    /// A frame arrives; the caller has let it wait for so long already.
    pub fn enqueue(&mut self, now: Duration, waited: Duration, frame: Frame) {
        self.waited = waited;
        self.counts.received += 1;
        let duplicated = self.happens(self.impairment.duplicate);
        self.counts.duplicated += u64::from(duplicated);
        self.admit(nanoseconds(now), frame, duplicated);
    }

    /// When the next frame leaves; it may be in the past.
    pub fn next_departure(&self) -> Option<Duration> {
        let departure = match self.first.front() {
            Some((arrival, ..)) => *arrival,
            None => self.delayed.first_key_value()?.0.0,
        };
        Some(Duration::from_nanos(departure.try_into().unwrap_or(0)))
    }

    /// The next frame that has reached the other end by `now`.
    pub fn dequeue(&mut self, now: Duration) -> Option<(Frame, Passed)> {
        let (departure, delayed) = if let Some((arrival, frame, waited)) = self.first.pop_front() {
            let delayed = Delayed {
                arrival,
                waited,
                frame,
            };
            (arrival, delayed)
        } else {
            let next = self.delayed.first_entry()?;
            if next.key().0 > nanoseconds(now) {
                return None;
            }
            (next.key().0, next.remove())
        };
        self.counts.sent += 1;
        let time = |nanoseconds: i64| Duration::from_nanos(nanoseconds.try_into().unwrap_or(0));
        let passed = Passed {
            arrival: time(delayed.arrival),
            departure: time(departure),
            waited: delayed.waited,
        };
        Some((delayed.frame, passed))
    }

    /// The frames on the link.
    pub fn held(&self) -> usize {
        self.first.len() + self.delayed.len()
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn admit(&mut self, now: i64, mut frame: Frame, duplicated: bool) {
        let lost = self.is_lost();
        self.counts.lost += u64::from(lost);
        if lost && !duplicated {
            return;
        }
        // Of a frame that is both lost and duplicated one is left.
        let copy = (duplicated && !lost).then(|| frame.clone());
        if self.happens(self.impairment.corrupt) {
            self.counts.corrupted += 1;
            self.flip_a_bit(&mut frame);
        }
        let limit = usize::try_from(self.impairment.limit_packets).unwrap_or(usize::MAX);
        if self.held() >= limit {
            self.counts.over_limit += 1 + u64::from(copy.is_some());
            return;
        }
        // The limit was tried once for both: the original may come above it.
        if let Some(copy) = copy {
            self.admit(now, copy, false);
        }
        self.schedule(now, frame);
    }

    fn schedule(&mut self, now: i64, frame: Frame) {
        let gap = self.impairment.gap;
        if gap != 0
            && self.since_reordered >= gap - 1
            && self.impairment.reorder.0 >= self.prng.draw()
        {
            self.since_reordered = 0;
            self.counts.reordered += 1;
            self.first.push_front((now, frame, self.waited));
            return;
        }
        self.since_reordered = self.since_reordered.saturating_add(1);
        let mut start = now;
        let mut delay = self.delay();
        if let Some(rate) = self.impairment.rate_bytes_per_second() {
            // A frame follows the last one onto the wire, and the time it
            // waits for that counts towards its delay.
            if let Some(last) = self.last_departure() {
                delay = delay.saturating_sub(last - now).max(0);
                start = last;
            }
            delay = delay.saturating_add(time_on_wire(frame.len(), rate));
        }
        self.arrivals += 1;
        let key = (start.saturating_add(delay), self.arrivals);
        let delayed = Delayed {
            arrival: now,
            waited: self.waited,
            frame,
        };
        self.delayed.insert(key, delayed);
    }

    fn last_departure(&self) -> Option<i64> {
        let first = self.first.back().map(|(arrival, ..)| *arrival);
        let delayed = self.delayed.last_key_value().map(|(key, _)| key.0);
        first.max(delayed)
    }

    /// In ns; negative where jitter takes more than the delay gives.
    fn delay(&mut self) -> i64 {
        let mean = nanoseconds(self.impairment.delay);
        let sigma = nanoseconds(self.impairment.jitter.min(Impairment::MAX_JITTER));
        if sigma == 0 {
            return mean;
        }
        mean.saturating_add(i64::from(self.prng.draw()) % (2 * sigma) - sigma)
    }

    fn is_lost(&mut self) -> bool {
        match self.impairment.loss {
            Loss::None => false,
            Loss::Random(probability) => self.happens(probability),
            // Its comparisons leave out their bound, unlike those of the other
            // draws: here even "always" has an exception, one in 2^32.
            Loss::GilbertElliott {
                p,
                r,
                bad_loss,
                good_loss,
            } => {
                if self.bad_state {
                    self.bad_state = self.prng.draw() >= r.0;
                    self.prng.draw() > u32::MAX - bad_loss.0
                } else {
                    self.bad_state = self.prng.draw() < p.0;
                    self.prng.draw() < good_loss.0
                }
            }
        }
    }

    fn happens(&mut self, probability: Probability) -> bool {
        probability != Probability::NEVER && probability.0 >= self.prng.draw()
    }

    fn flip_a_bit(&mut self, frame: &mut Frame) {
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        if bytes == 0 {
            return;
        }
        let byte = self.flips.draw() % bytes;
        let bit = self.flips.draw() % 8;
        if let Some(byte) = frame.get_mut(byte as usize) {
            *byte ^= 1 << bit;
        }
    }
}

/// Up to 292 years, which is where netem's times end as well.
fn nanoseconds(time: Duration) -> i64 {
    time.as_nanos().try_into().unwrap_or(i64::MAX)
}

/// In ns, rounded down.
fn time_on_wire(bytes: usize, bytes_per_second: u64) -> i64 {
    let nanoseconds = bytes as u128 * 1_000_000_000 / u128::from(bytes_per_second);
    nanoseconds.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impairment::spread_seed;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const FAR: Duration = Duration::from_secs(1_000_000);

    fn percent(percent: f64) -> Probability {
        Probability::from_fraction(percent / 100.0)
    }

    fn frame(number: u32) -> Frame {
        let mut bytes = vec![0; 1514];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes.into()
    }

    fn number(frame: &Frame) -> u32 {
        u32::from_be_bytes(*frame.first_chunk().unwrap())
    }

    /// All frames at once, then all departures: (when, which).
    fn flood(queue: &mut Queue, frames: u32) -> Vec<(Duration, u32)> {
        for one in 0..frames {
            queue.enqueue(Duration::ZERO, Duration::ZERO, frame(one));
        }
        drain(queue)
    }

    fn drain(queue: &mut Queue) -> Vec<(Duration, u32)> {
        let mut departures = Vec::new();
        while let Some(time) = queue.next_departure() {
            if let Some(early) = time.checked_sub(Duration::from_nanos(1)) {
                assert!(queue.dequeue(early).is_none(), "left before {time:?}");
            }
            departures.push((time, number(&queue.dequeue(time).unwrap().0)));
        }
        departures
    }

    fn assert_nothing_invented(queue: &Queue) {
        let counts = queue.counts();
        assert_eq!(
            counts.received + counts.duplicated,
            counts.sent + counts.lost + counts.over_limit + queue.held() as u64,
            "{counts:?}"
        );
    }

    #[test]
    fn a_link_without_impairment_passes_all_in_order_at_once() {
        let mut queue = Queue::new(Impairment::none());
        let expected: Vec<_> = (0..500).map(|one| (Duration::ZERO, one)).collect();
        assert_eq!(flood(&mut queue, 500), expected);
        assert_eq!(
            queue.counts(),
            Counts {
                received: 500,
                sent: 500,
                ..Counts::default()
            }
        );
    }

    #[test]
    fn a_seed_decides_which_frames_are_lost() {
        // The example published with netem's seed: the 5th, 12th and 24th of 25.
        let mut queue = Queue::new(Impairment {
            loss: Loss::Random(percent(10.0)),
            seed: 42_424_242,
            ..Impairment::none()
        });
        let arrived: Vec<_> = flood(&mut queue, 25).into_iter().map(|one| one.1).collect();
        let expected: Vec<_> = (0..25).filter(|one| ![4, 11, 23].contains(one)).collect();
        assert_eq!(arrived, expected);
        assert_eq!(queue.counts().lost, 3);
    }

    #[test]
    fn spread_seeds_favour_no_packet() {
        let mut lost = [0; 20];
        for run in 0..1000 {
            let mut queue = Queue::new(Impairment {
                loss: Loss::Random(percent(1.0)),
                seed: spread_seed(0, run, 1),
                ..Impairment::none()
            });
            for lost in &mut lost {
                queue.enqueue(Duration::ZERO, Duration::ZERO, frame(0));
                *lost += u32::from(queue.dequeue(Duration::ZERO).is_none());
            }
        }
        // About 10 times each; unspread, the second one every time.
        assert!(lost.iter().all(|times| (1..30).contains(times)), "{lost:?}");
    }

    #[test]
    fn never_and_always_are_exact() {
        let lost = |probability| {
            let mut queue = Queue::new(Impairment {
                loss: Loss::Random(probability),
                limit_packets: u32::MAX,
                ..Impairment::none()
            });
            flood(&mut queue, 100_000);
            queue.counts().lost
        };
        assert_eq!(lost(Probability::NEVER), 0);
        assert_eq!(lost(Probability::ALWAYS), 100_000);
    }

    #[test]
    fn draws_are_made_in_netems_order_and_only_where_needed() {
        let all = Impairment {
            delay: 10 * MILLISECOND,
            jitter: MILLISECOND,
            loss: Loss::Random(percent(20.0)),
            duplicate: percent(20.0),
            corrupt: percent(20.0),
            reorder: percent(20.0),
            gap: 3,
            seed: 7,
            ..Impairment::none()
        };
        for impairment in [
            all.clone(),
            Impairment {
                duplicate: Probability::NEVER,
                ..all.clone()
            },
            Impairment {
                jitter: Duration::ZERO,
                corrupt: Probability::NEVER,
                ..all.clone()
            },
            Impairment { gap: 0, ..all },
        ] {
            let mut queue = Queue::new(impairment.clone());
            let mut model = Model {
                prng: Prng::from_seed(impairment.seed),
                since: 0,
                fates: Vec::new(),
                impairment,
            };
            for one in 0..300 {
                queue.enqueue(Duration::ZERO, Duration::ZERO, frame(one));
                model.arrives(one, true);
            }
            // Those that go first leave in reverse, the others by time.
            let (mut first, mut delayed): (Vec<_>, Vec<_>) =
                model.fates.into_iter().partition(|one| one.0 == 0);
            first.reverse();
            delayed.sort_by_key(|one| one.0);
            let expected: Vec<_> = first.into_iter().chain(delayed).collect();
            let mut actual = Vec::new();
            while let Some(time) = queue.next_departure() {
                let mut left = queue.dequeue(time).unwrap().0;
                // A flip may have hit the number.
                let flipped = left[4..].iter().any(|byte| *byte != 0);
                left[4..].fill(0);
                let known = if flipped { u32::MAX } else { number(&left) };
                actual.push((time.as_nanos(), known));
            }
            assert_eq!(actual.len(), expected.len());
            for (actual, expected) in actual.into_iter().zip(expected) {
                assert_eq!(actual.0, expected.0);
                if actual.1 != u32::MAX && actual.1 < 300 {
                    assert_eq!(actual.1, expected.1);
                }
            }
            assert_nothing_invented(&queue);
        }
    }

    /// The order of draws once more, as netem's documentation tells it and in
    /// another shape: (departure in ns, which frame).
    struct Model {
        impairment: Impairment,
        prng: Prng,
        since: u32,
        fates: Vec<(u128, u32)>,
    }

    impl Model {
        fn hit(&mut self, probability: Probability) -> bool {
            probability.0 > 0 && self.prng.draw() <= probability.0
        }

        fn arrives(&mut self, which: u32, original: bool) {
            let Loss::Random(probability) = self.impairment.loss else {
                unreachable!()
            };
            let twice = original && self.hit(self.impairment.duplicate);
            let lost = self.hit(probability);
            match (twice, lost) {
                (false, true) => return,
                (true, false) => {
                    self.hit(self.impairment.corrupt);
                    self.arrives(which, false);
                }
                _ => {
                    self.hit(self.impairment.corrupt);
                }
            }
            let gap = self.impairment.gap;
            let may = gap > 0 && self.since + 1 >= gap;
            if may && self.prng.draw() <= self.impairment.reorder.0 {
                self.since = 0;
                self.fates.push((0, which));
                return;
            }
            self.since += 1;
            let jitter = self.impairment.jitter.as_nanos();
            let mut time = self.impairment.delay.as_nanos();
            if jitter > 0 {
                time += u128::from(self.prng.draw()) % (2 * jitter);
                time -= jitter;
            }
            self.fates.push((time, which));
        }
    }

    #[test]
    fn the_limit_holds_exactly_so_many_delayed_ones_included() {
        let mut queue = Queue::new(Impairment {
            delay: 10 * MILLISECOND,
            limit_packets: 50,
            ..Impairment::none()
        });
        for one in 0..80 {
            queue.enqueue(Duration::ZERO, Duration::ZERO, frame(one));
        }
        assert_eq!((queue.held(), queue.counts().over_limit), (50, 30));
        assert!(queue.dequeue(9 * MILLISECOND).is_none());
        assert!(queue.dequeue(10 * MILLISECOND).is_some());
        queue.enqueue(10 * MILLISECOND, Duration::ZERO, frame(80));
        queue.enqueue(10 * MILLISECOND, Duration::ZERO, frame(81));
        assert_eq!((queue.held(), queue.counts().over_limit), (50, 31));
        assert_nothing_invented(&queue);

        let mut nothing = Queue::new(Impairment {
            limit_packets: 0,
            ..Impairment::none()
        });
        assert!(flood(&mut nothing, 3).is_empty());
        assert_eq!(nothing.counts().over_limit, 3);
    }

    #[test]
    fn the_limit_drops_a_frame_with_its_duplicate() {
        let twice = |limit_packets| {
            let mut queue = Queue::new(Impairment {
                delay: MILLISECOND,
                duplicate: Probability::ALWAYS,
                limit_packets,
                ..Impairment::none()
            });
            queue.enqueue(Duration::ZERO, Duration::ZERO, frame(0));
            queue.enqueue(Duration::ZERO, Duration::ZERO, frame(1));
            assert_nothing_invented(&queue);
            (queue.held(), queue.counts().over_limit)
        };
        assert_eq!(twice(4), (4, 0));
        // Room for one: the duplicate takes it, and the original came with it.
        assert_eq!(twice(3), (4, 0));
        assert_eq!(twice(2), (2, 2));
    }

    #[test]
    fn a_duplicate_is_not_duplicated_again() {
        let mut queue = Queue::new(Impairment {
            duplicate: Probability::ALWAYS,
            ..Impairment::none()
        });
        let arrived: Vec<_> = flood(&mut queue, 3).into_iter().map(|one| one.1).collect();
        assert_eq!(arrived, [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn gilbert_elliott_is_decided_by_the_state_before_the_transition() {
        // One state after the other, in turn: bad ones lose, good ones don't.
        let mut turns = Queue::new(Impairment {
            loss: Loss::GilbertElliott {
                p: Probability::ALWAYS,
                r: Probability::ALWAYS,
                bad_loss: Probability::ALWAYS,
                good_loss: Probability::NEVER,
            },
            ..Impairment::none()
        });
        let arrived: Vec<_> = flood(&mut turns, 6).into_iter().map(|one| one.1).collect();
        assert_eq!(arrived, [0, 2, 4]);
    }

    #[test]
    fn gilbert_elliott_draws_twice_a_frame() {
        let (p, r) = (percent(1.0), percent(10.0));
        let (bad_loss, good_loss) = (percent(70.0), percent(0.1));
        let frames = 200_000;
        let mut queue = Queue::new(Impairment {
            loss: Loss::GilbertElliott {
                p,
                r,
                bad_loss,
                good_loss,
            },
            seed: 99,
            limit_packets: u32::MAX,
            ..Impairment::none()
        });
        let arrived: Vec<_> = flood(&mut queue, frames)
            .into_iter()
            .map(|one| one.1)
            .collect();

        let mut prng = Prng::from_seed(99);
        let mut bad = false;
        let expected: Vec<_> = (0..frames)
            .filter(|_| {
                let (transition, fate) = (prng.draw(), prng.draw());
                let passes = if bad {
                    fate <= u32::MAX - bad_loss.0
                } else {
                    fate >= good_loss.0
                };
                bad ^= transition < if bad { r.0 } else { p.0 };
                passes
            })
            .collect();
        assert_eq!(arrived, expected);

        // In the long run p/(p+r) of the frames meet the bad state: 6.45%.
        let lost = frames - u32::try_from(arrived.len()).unwrap();
        let lost = 100.0 * f64::from(lost) / f64::from(frames);
        assert!((lost - 6.45).abs() < 0.5, "{lost}%");
    }

    #[test]
    fn delay_is_never_less_and_jitter_stays_in_its_range() {
        let mut queue = Queue::new(Impairment {
            delay: 10 * MILLISECOND,
            jitter: 2 * MILLISECOND,
            limit_packets: u32::MAX,
            ..Impairment::none()
        });
        let departures = flood(&mut queue, 20_000);
        let (first, last) = (departures[0].0, departures[19_999].0);
        assert!(first >= 8 * MILLISECOND, "{first:?}");
        assert!(last < 12 * MILLISECOND, "{last:?}");
        // All of the range is used.
        assert!(
            last > first + 399 * MILLISECOND / 100,
            "{first:?}, {last:?}"
        );
        // Jitter reorders.
        assert!(!departures.is_sorted_by_key(|one| one.1));
    }

    #[test]
    fn jitter_above_the_delay_and_above_netems_most_is_taken() {
        let mut queue = Queue::new(Impairment {
            jitter: FAR,
            ..Impairment::none()
        });
        let departures = flood(&mut queue, 100);
        assert_eq!(departures.len(), 100);
        assert!(departures[99].0 < Impairment::MAX_JITTER);
        // The early half leaves at once, ordered by times before the start.
        assert!(departures.iter().filter(|one| one.0.is_zero()).count() > 25);
    }

    #[test]
    fn every_third_frame_goes_first() {
        let mut queue = Queue::new(Impairment {
            delay: 10 * MILLISECOND,
            reorder: Probability::ALWAYS,
            gap: 3,
            ..Impairment::none()
        });
        let departures = flood(&mut queue, 7);
        assert_eq!(departures[..2], [(Duration::ZERO, 5), (Duration::ZERO, 2)]);
        let rest: Vec<_> = departures[2..].iter().map(|one| one.1).collect();
        assert_eq!(rest, [0, 1, 3, 4, 6]);
        assert_eq!(queue.counts().reordered, 2);
    }

    #[test]
    fn a_rate_spaces_frames_by_their_time_on_the_wire() {
        let mut queue = Queue::new(Impairment {
            delay: 5 * MILLISECOND,
            rate_bits_per_second: Some(8 * 1514 * 1000),
            ..Impairment::none()
        });
        let times: Vec<_> = flood(&mut queue, 10).into_iter().map(|one| one.0).collect();
        // One millisecond a frame. Waiting counts towards the delay: it is
        // spent by the time that the sixth follows the fifth.
        let expected: Vec<_> = (6..16).map(|time| time * MILLISECOND).collect();
        assert_eq!(times, expected);

        // After a pause the delay counts from the arrival.
        queue.enqueue(100 * MILLISECOND, Duration::ZERO, frame(10));
        assert_eq!(queue.next_departure(), Some(106 * MILLISECOND));
    }

    #[test]
    fn corruption_flips_one_bit_and_shifts_no_other_draw() {
        let lossy = Impairment {
            loss: Loss::Random(percent(10.0)),
            corrupt: Probability::ALWAYS,
            seed: 3,
            ..Impairment::none()
        };
        let mut queue = Queue::new(lossy);
        for _ in 0..100 {
            queue.enqueue(Duration::ZERO, Duration::ZERO, vec![0; 64].into());
            let Some((frame, _)) = queue.dequeue(Duration::ZERO) else {
                continue;
            };
            let flipped: u32 = frame.iter().map(|byte| byte.count_ones()).sum();
            assert_eq!(flipped, 1);
        }
        let mut prng = Prng::from_seed(3);
        let mut lost = 0;
        for _ in 0..100 {
            if prng.draw() <= percent(10.0).0 {
                lost += 1;
            } else {
                prng.draw();
            }
        }
        assert_eq!(queue.counts().lost, lost);
        assert_eq!(queue.counts().corrupted, 100 - lost);

        queue.enqueue(Duration::ZERO, Duration::ZERO, Frame::default());
    }

    #[test]
    fn nothing_is_invented_and_nothing_vanishes() {
        for seed in 0..50 {
            let impairment = Impairment {
                delay: 3 * MILLISECOND,
                jitter: MILLISECOND,
                loss: Loss::Random(percent(15.0)),
                duplicate: percent(25.0),
                corrupt: percent(10.0),
                reorder: percent(30.0),
                gap: 2,
                rate_bits_per_second: Some(50_000_000),
                limit_packets: 12,
                seed,
                ..Impairment::none()
            };
            let run = || {
                let mut queue = Queue::new(impairment.clone());
                let mut left = Vec::new();
                for one in 0..400 {
                    let now = MILLISECOND / 5 * one;
                    queue.enqueue(now, Duration::ZERO, frame(one));
                    assert_nothing_invented(&queue);
                    left.extend(std::iter::from_fn(|| Some(queue.dequeue(now)?.0)));
                }
                left.extend(std::iter::from_fn(|| Some(queue.dequeue(FAR)?.0)));
                assert_eq!(queue.held(), 0);
                assert_nothing_invented(&queue);
                (left, queue.counts())
            };
            let (left, counts) = run();
            assert_eq!(run(), (left, counts), "the same seed, another outcome");
            assert!(counts.over_limit > 0 && counts.reordered > 0);
        }
    }
}
