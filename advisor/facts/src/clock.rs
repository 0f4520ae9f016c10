//! The wall clock, in UTC: when a host was looked at.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Seconds of a day.
const DAY_S: u64 = 24 * 60 * 60;

/// A moment, to the second, in UTC.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment {
    unix_s: u64,
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Date {
    /// The year.
    pub year: u16,
    /// The month, from 1.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self::after_boot(0, since.unwrap_or_default())
    }

    /// So long after a boot at `boot_s` seconds of the epoch (btime of /proc/stat).
    pub fn after_boot(boot_s: u64, uptime: Duration) -> Self {
        Self {
            unix_s: boot_s.saturating_add(uptime.as_secs()),
        }
    }

    /// Seconds since 1970.
    pub const fn unix_s(self) -> u64 {
        self.unix_s
    }

    /// Its day.
    pub fn date(self) -> Date {
        // Years that begin in March end with the day that not every year has: the
        // calendar then repeats itself every 400 years, which have 146097 days.
        let days = self.unix_s / DAY_S + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 {
            (month + 3, 0)
        } else {
            (month - 9, 1)
        };
        Date {
            year: u16::try_from(era * 400 + year + carry).unwrap_or(u16::MAX),
            month: u8::try_from(month).unwrap_or(12),
            day: u8::try_from(day).unwrap_or(31),
        }
    }
}

/// `2026-11-30 08:00:26 UTC`.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.unix_s % DAY_S;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{} {hour:02}:{minute:02}:{second:02} UTC", self.date())
    }
}

impl From<Moment> for String {
    /// As RFC 3339 has it: `2026-11-30T08:00:26Z`.
    fn from(moment: Moment) -> Self {
        moment
            .to_string()
            .replacen(' ', "T", 1)
            .replace(" UTC", "Z")
    }
}

impl TryFrom<String> for Moment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "a time is written 2026-11-30T08:00:26Z";
        let (date, time) = text.split_once('T').ok_or(WRONG)?;
        let date: Date = date.parse().map_err(|_| WRONG)?;
        let mut parts = time.strip_suffix('Z').ok_or(WRONG)?.split(':');
        let mut next = |below: u64| {
            let number = parts.next().and_then(two_digits)?;
            (number < below).then_some(number)
        };
        let (Some(hour), Some(minute), Some(second), true) =
            (next(24), next(60), next(60), parts.next().is_none())
        else {
            return Err(WRONG);
        };
        let days = date.days_since_epoch().ok_or(WRONG)?;
        Ok(Self {
            unix_s: days * DAY_S + hour * 3600 + minute * 60 + second,
        })
    }
}

fn two_digits(text: &str) -> Option<u64> {
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl Date {
    /// A day that the calendar has.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        (1..=days)
            .contains(&day)
            .then_some(Self { year, month, day })
    }

    /// Days since 1970-01-01; `None` of an earlier day.
    pub(crate) fn days_since_epoch(self) -> Option<u64> {
        let year = u64::from(self.year).checked_sub((self.month <= 2).into())?;
        let month = (u64::from(self.month) + 9) % 12;
        let day = (153 * month + 2) / 5 + u64::from(self.day) - 1;
        (year * 365 + year / 4 - year / 100 + year / 400 + day).checked_sub(719_468)
    }
}

/// `2026-11-30`.
impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Date {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-');
        let year = parts.next().filter(|year| year.len() == 4);
        let year = year.and_then(|year| year.parse().ok());
        let mut next = || {
            parts
                .next()
                .and_then(two_digits)
                .and_then(|n| u8::try_from(n).ok())
        };
        let (Some(year), Some(month), Some(day), None) = (year, next(), next(), parts.next())
        else {
            return Err("a date is written 2026-11-30");
        };
        Self::new(year, month, day).ok_or("there is no such day")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_it_was_written() {
        for (unix_s, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_760_000_000, "2025-10-09T08:53:20Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let moment = Moment { unix_s };
            assert_eq!(String::from(moment), written);
            assert_eq!(Moment::try_from(written.to_owned()), Ok(moment));
        }
        // Every day of 200 years.
        for day in 0..73_049 {
            let moment = Moment {
                unix_s: day * DAY_S,
            };
            assert_eq!(moment.date().days_since_epoch(), Some(day));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-11-30",
            "2026-11-30T08:00Z",
            "2026-11-30T08:00:60Z",
            "2026-11-31T08:00:00Z",
            "1969-12-31T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "2026-11-30T08:00:00",
            "2026-11-30T+8:00:00Z",
        ] {
            assert!(Moment::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!("2026-02-29".parse::<Date>(), Err("there is no such day"));
        assert!("2026-2-9".parse::<Date>().is_err());
    }
}
