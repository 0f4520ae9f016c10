//! How long to pause between two looks at something that may take milliseconds or
//! hours.

use std::time::Duration;

/// A pause is this part of the time that has passed: what is looked for is found
/// no later than that.
const PART: u32 = 200;

/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(10);

/// The pause after having waited so long; `shortest` at the beginning. Looks cost
/// the host's time, in virtual time too: every 5 ms they cost more than two hours of
/// waiting do.
pub fn pause(waited: Duration, shortest: Duration) -> Duration {
    (waited / PART).clamp(shortest, LONGEST.max(shortest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_wait() {
        let shortest = Duration::from_millis(5);
        let after = |seconds| pause(Duration::from_secs(seconds), shortest);
        assert_eq!(after(0), shortest);
        assert_eq!(after(1), shortest);
        assert_eq!(after(200), Duration::from_secs(1));
        assert_eq!(after(7200), LONGEST);
    }
}
