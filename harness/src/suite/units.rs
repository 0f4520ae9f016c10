//! Quantities as a suite writes them: `64KiB`, `5ms`, `2%`, `10mbit`.

use std::time::Duration;

use crate::suite::impairment::Probability;

/// Splits `10mbit` into its number and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "checked against the range just before"
)]
fn whole(number: f64, factor: u64) -> Option<u64> {
    let product = number * factor as f64;
    (product <= 9e15 && product.fract() == 0.0).then_some(product as u64)
}

/// Bytes: a number, or one with B, kB, MB, GB (thousands) or KiB, MiB, GiB.
pub fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    whole(number, factor)
}

/// Whether a text that isn't a number of bytes was likely meant as one: `1Mb`.
pub fn is_meant_as_bytes(text: &str) -> bool {
    let letters = |unit: &str| unit.chars().all(|c| "bikmgtBIKMGT".contains(c));
    let is_line = text.contains(char::is_control);
    !is_line && split(text).is_some_and(|(_, unit)| !unit.is_empty() && letters(unit))
}

/// A time: a number with us, ms, s or min; 0 needs no unit.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let nanoseconds = match unit {
        "" if number == 0.0 => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "min" => 60_000_000_000,
        _ => return None,
    };
    whole(number, nanoseconds).map(Duration::from_nanos)
}

/// A probability: a number with %.
pub fn percent(text: &str) -> Option<Probability> {
    let (number, unit) = split(text)?;
    (unit == "%" && number <= 100.0).then(|| Probability::from_fraction(number / 100.0))
}

/// Bits a second: a number with bit, kbit, mbit or gbit, as tc has them.
pub fn bits_per_second(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "bit" => 1,
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return None,
    };
    whole(number, factor).filter(|rate| *rate > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_written() {
        assert_eq!(bytes("1MB"), Some(1_000_000));
        assert_eq!(bytes("64KiB"), Some(65_536));
        assert_eq!(bytes("7"), Some(7));
        assert_eq!(bytes("1.5MB"), Some(1_500_000));
        assert_eq!(duration("5ms"), Some(Duration::from_millis(5)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        assert_eq!(bits_per_second("10mbit"), Some(10_000_000));
        assert_eq!(percent("100%"), Some(Probability::ALWAYS));
    }

    #[test]
    fn a_number_with_a_wrong_unit_is_no_text() {
        for wrong in ["1Mb", "1MBB", "64 kib", "2k"] {
            assert!(is_meant_as_bytes(wrong), "{wrong}");
        }
        for text in ["220 Welcome\r\n", "7\r\n", "1k\r\n", "GET /", "1", ""] {
            assert!(!is_meant_as_bytes(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_none() {
        for wrong in [
            "",
            "MB",
            "1mb",
            "1.5",
            "-1",
            "1 2",
            "1e400MB",
            "99999999999GB",
            "NaN",
            "1..2",
        ] {
            assert!(bytes(wrong).is_none(), "{wrong}");
        }
        for wrong in ["5", "5m", "-5ms", "ms"] {
            assert!(duration(wrong).is_none(), "{wrong}");
        }
        assert!(percent("101%").is_none());
        assert!(percent("2").is_none());
        assert!(bits_per_second("0mbit").is_none());
        assert!(bits_per_second("10").is_none());
    }
}
