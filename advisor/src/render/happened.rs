//! What a watch has seen, in sentences: over which mark a gauge was and who held it, and
//! who reset connections and why.

use std::cmp::Reverse;

use advisor_facts::Facts;
use advisor_facts::happened::{Group, Happened, Kind, Peak};

use crate::gauges;
use crate::watch::plain;

/// So many holders of a gauge are named.
const HOLDERS: usize = 2;

/// What happened, the gauges first and then what happened most.
pub(super) fn sentences(facts: &Facts) -> Vec<String> {
    let Some(happened) = &facts.happened else {
        return Vec::new();
    };
    let mut sentences: Vec<_> = happened.peaks.iter().filter_map(peak).collect();
    let mut groups: Vec<_> = happened
        .groups
        .iter()
        .filter(|group| group.all.kind != Kind::ResetReceived || group.all.process.is_some())
        .collect();
    groups.sort_by_key(|group| (group.all.kind == Kind::Counter, Reverse(group.all.count)));
    sentences.extend(groups.into_iter().map(|group| self::group(group, happened)));
    if happened.lost > 0 {
        sentences.push(format!(
            "{} events are counted nowhere: there was no room for them",
            happened.lost
        ));
    }
    sentences
}

/// The time that was watched, in words.
pub(super) fn time(happened: &Happened) -> String {
    let minutes = happened.until.since(happened.from).as_secs();
    let lasted = advisor_facts::units::span(minutes.saturating_mul(1000));
    format!("Watched from {} for {lasted}", happened.from.moment())
}

/// `between 03:12:07 and 03:12:31 tcp-memory was over its mark, ...`; `None` of a gauge
/// that never was.
fn peak(peak: &Peak) -> Option<String> {
    let when = peak.when_over()?;
    let amount = |value: u64| {
        gauges::find(&peak.gauge).map_or(value.to_string(), |gauge| gauge.unit.amount(value))
    };
    let place = peak.namespace.map_or_else(String::new, |inode| {
        format!(" of network namespace {inode}")
    });
    let holders = peak.holders.iter().take(HOLDERS);
    let holders: Vec<_> = holders
        .map(|held| plain::share(held, peak.held_bytes))
        .collect();
    let holders = match holders.as_slice() {
        [] => String::new(),
        holders => format!("; held by {}", holders.join(" and ")),
    };
    Some(format!(
        "{when} {}{place} was over its mark, {} of {} at {}{holders}",
        peak.gauge,
        amount(peak.value),
        amount(peak.limit),
        peak.at.time_of_day()
    ))
}

/// `39 reset-sent TCP_ABORT_ON_CLOSE by upload.py (25612), 03:12:07 to 03:14:02`
fn group(group: &Group, happened: &Happened) -> String {
    let one = &group.all;
    let mut words = format!("{} {}", one.count, one.words(happened.own_namespace));
    if one.unacknowledged_bytes > 0 {
        let lost = advisor_facts::units::bytes(one.unacknowledged_bytes);
        words = format!("{words} ({lost} not acknowledged)");
    }
    let (first, last) = (group.first.time_of_day(), one.at.time_of_day());
    if first == last {
        format!("{words}, at {first}")
    } else {
        format!("{words}, {first} to {last}")
    }
}
