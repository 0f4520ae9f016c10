//! How often work is done: so that it costs no more than its share of a CPU.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// When a kind of work may be done next.
#[derive(Debug)]
pub(super) struct Pace {
    /// How often it is done where it is cheap.
    usual: Duration,
    /// The share of a CPU that it may cost.
    share: f64,
    next: Instant,
    interval: Duration,
}

impl Pace {
    pub(super) fn new(usual: Duration, share: f64, now: Instant) -> Self {
        Self {
            usual,
            share,
            next: now,
            interval: usual,
        }
    }

    /// Whether it may be done.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// It was begun at `began` and cost so much of a CPU. Tells the new interval where
    /// that is another one by a factor of two or more.
    pub(super) fn done(&mut self, began: Instant, cost: Duration) -> Option<Duration> {
        let needed = cost.div_f64(self.share).max(self.usual);
        self.next = began + needed;
        let is_other = needed >= self.interval * 2 || needed * 2 <= self.interval;
        if is_other {
            self.interval = needed;
        }
        is_other.then_some(needed)
    }

    /// Whether it is done less often than usual.
    #[cfg(test)]
    fn is_widened(&self) -> bool {
        self.interval > self.usual
    }
}

/// The time that this process has had of the CPUs.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    time.map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_costs_more_is_done_less_often() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second, 0.01, now);
        assert!(pace.is_due(now));
        assert_eq!(pace.done(now, Duration::from_millis(5)), None);
        assert!(!pace.is_due(now) && pace.is_due(now + second));
        let widened = pace.done(now, Duration::from_millis(100));
        assert_eq!(widened, Some(second * 10));
        assert!(pace.is_widened() && !pace.is_due(now + second * 9));
        assert_eq!(
            pace.done(now, Duration::from_millis(100)),
            None,
            "told once"
        );
        assert_eq!(pace.done(now, Duration::ZERO), Some(second));
        assert!(!pace.is_widened());
    }
}
