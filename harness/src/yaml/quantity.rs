//! Quantities as a suite writes them: `64KiB`, `5ms`, `2%`, `10mbit`.

use std::time::Duration;

use crate::impairment::Probability;

/// Splits `10mbit` into its number and its unit.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    // `1`, `1.5`, `.5` and `1.`, but no other dots.
    (number.parse::<f64>().is_ok()).then(|| (number, unit.trim()))
}

/// A decimal number times a factor, where that is a whole number; nothing is rounded.
fn whole(number: &str, factor: u64) -> Option<u64> {
    /// Far above every quantity here, and exact as a double.
    const MOST: u128 = 9_000_000_000_000_000;
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{integer}{fraction}");
    let digits: u128 = digits.parse().ok().filter(|digits| *digits <= MOST)?;
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let product = digits * u128::from(factor);
    (product % divisor == 0 && product / divisor <= MOST)
        .then(|| u64::try_from(product / divisor).ok())
        .flatten()
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
        "" if whole(number, 1) == Some(0) => 1,
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
    let number: f64 = number.parse().ok()?;
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

/// The largest unit in which a number is whole, with that number.
fn in_units(number: u64, units: &[(u64, &str)]) -> String {
    let fits = |(factor, _): &&(u64, &str)| number > 0 && number % factor == 0;
    match units.iter().find(fits) {
        Some((factor, unit)) => format!("{}{unit}", number / factor),
        None => number.to_string(),
    }
}

/// Bytes as [`bytes`] reads them.
pub fn write_bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1_000, "kB"),
    ];
    in_units(bytes, &UNITS)
}

/// A time as [`duration`] reads it.
pub fn write_duration(time: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    if nanoseconds % 1_000 == 0 {
        return in_units(nanoseconds, &UNITS);
    }
    format!("{}.{:03}us", nanoseconds / 1_000, nanoseconds % 1_000)
}

/// A probability in percent, to two decimals.
pub fn write_percent(chance: Probability) -> String {
    let fraction = f64::from(chance.0) / f64::from(u32::MAX);
    format!("{}%", (fraction * 1e4).round() / 100.0)
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
    fn what_is_written_is_read_again() {
        for number in [0, 1, 999, 1_000, 65_536, 1_000_000, 1_536, 3 << 30, 1_001] {
            assert_eq!(bytes(&write_bytes(number)), Some(number));
            let time = Duration::from_nanos(number);
            assert_eq!(duration(&write_duration(time)), Some(time));
        }
        assert_eq!(write_bytes(65_536), "64KiB");
        assert_eq!(write_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(write_percent(Probability::ALWAYS), "100%");
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
