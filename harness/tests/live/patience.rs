//! Waiting without a bound that a slow machine could miss.

use std::time::{Duration, Instant};

/// After that long without an answer, something hangs.
pub const HANG: Duration = Duration::from_secs(60);

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Looks again and again until there is an answer.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(HANG, what, look)
}

/// As [`until`], for what takes long by itself.
pub fn until_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(
            start.elapsed() < limit,
            "hang: {limit:?} of waiting until {what}"
        );
        std::thread::sleep(LOOK_EVERY);
    }
}
