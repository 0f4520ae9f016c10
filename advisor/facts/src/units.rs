//! Amounts with their units, for people.

use std::time::Duration;

/// A window: `30.0 s`.
pub fn seconds(window: Duration) -> String {
    format!("{:.1} s", window.as_secs_f64())
}

/// An amount of memory: `64.0 KiB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let Some(unit) = (1..=units.len())
        .rev()
        .find(|unit| bytes >> (10 * unit) > 0)
    else {
        return format!("{bytes} bytes");
    };
    // Tenths in whole numbers: the value may be any of 64 bits.
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, units[unit - 1])
}

/// A time in milliseconds: `230 ms`, `12 s`, `5 min`, `3 h`.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_read_at_a_glance() {
        for (amount, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(amount), text);
        }
    }
}
