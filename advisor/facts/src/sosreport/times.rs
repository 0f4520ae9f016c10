//! Times as date, uptime and the journal print them.

use std::time::Duration;

use crate::clock::Date;

/// What `date --utc` printed, in seconds since 1970: `Mon Nov 30 09:23:24 UTC 2026`, and in
/// other languages `Mon 30 Nov 2026 09:23:24 AM UTC`. `None` of another zone.
pub(super) fn date_utc(text: &str) -> Option<u64> {
    let is_utc = text
        .split_whitespace()
        .any(|word| matches!(word, "UTC" | "GMT" | "+0000"));
    clock(text).filter(|_| is_utc).map(|(_, time_s)| time_s)
}

/// The year, and the seconds from 1970 to a time by the clock of a host, in whatever zone.
pub(super) fn clock(text: &str) -> Option<(u16, u64)> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let month = words.iter().find_map(|word| {
        let place = MONTHS.iter().position(|month| word.starts_with(month))?;
        u8::try_from(place + 1).ok()
    })?;
    let numbers = || {
        words
            .iter()
            .filter_map(|word| word.trim_end_matches(',').parse::<u16>().ok())
    };
    let year = numbers().find(|number| *number >= 1970)?;
    let day = u8::try_from(numbers().find(|number| (1..=31).contains(number))?).ok()?;
    let time = words.iter().find(|word| word.matches(':').count() == 2)?;
    let mut parts = time.split(':').map(str::parse::<u8>);
    let (mut hour, minute, second) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    if words.contains(&"PM") && hour < 12 {
        hour += 12;
    } else if words.contains(&"AM") && hour == 12 {
        hour = 0;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = Date::new(year, month, day)?.days_since_epoch()?;
    let time_s = u64::from(hour) * 3_600 + u64::from(minute) * 60 + u64::from(second);
    Some((year, days * 86_400 + time_s))
}

/// What `uptime` printed: ` 09:23:25 up 12 days,  1:38,  0 users, ...`.
pub(super) fn uptime_of(text: &str) -> Option<Duration> {
    let (_, rest) = text.split_once(" up ")?;
    let mut minutes = 0_u64;
    for part in rest.split(',').map(str::trim) {
        let first = part.split_whitespace().next()?;
        if part.contains("day") {
            minutes = minutes.checked_add(first.parse::<u64>().ok()?.checked_mul(1440)?)?;
        } else if part.contains("min") {
            return Some(Duration::from_secs(
                minutes.checked_add(first.parse().ok()?)?.checked_mul(60)?,
            ));
        } else {
            let (hours, rest) = first.split_once(':')?;
            let hours = hours.parse::<u64>().ok()?.checked_mul(60)?;
            minutes = minutes
                .checked_add(hours)?
                .checked_add(rest.parse().ok()?)?;
            return Some(Duration::from_secs(minutes.checked_mul(60)?));
        }
    }
    None
}
