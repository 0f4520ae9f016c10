//! Programs that the kernel's events name, for rules that otherwise know counters alone.

use std::collections::BTreeMap;

use advisor_facts::Facts;
use advisor_facts::happened::{At, Group, Kind};
use advisor_facts::units::bytes;

use super::Evidence;

/// So many programs are named.
const NAMED: usize = 3;

/// What one program did, by the kernel's word.
pub(super) struct Witnessed {
    name: String,
    count: u64,
    first: At,
    last: At,
    reason: String,
    unacknowledged_bytes: u64,
}

/// The programs that sent resets for one of these reasons, who sent most first. A kernel
/// that gives no reasons names them all if `without_reasons`.
pub(super) fn resets(facts: &Facts, reasons: &[&str], without_reasons: bool) -> Vec<Witnessed> {
    let Some(happened) = &facts.happened else {
        return Vec::new();
    };
    let is_one = |group: &&Group| {
        let matches = match &group.all.reason {
            Some(reason) => reasons.contains(&reason.as_str()),
            None => without_reasons && !happened.tells_reset_reasons,
        };
        group.all.kind == Kind::ResetSent && matches && group.is_certain()
    };
    let mut of_pid: BTreeMap<u32, Witnessed> = BTreeMap::new();
    for group in happened.groups.iter().filter(is_one) {
        let Some(process) = &group.all.process else {
            continue;
        };
        let one = of_pid.entry(process.pid).or_insert_with(|| Witnessed {
            name: process.to_string(),
            count: 0,
            first: group.first,
            last: group.all.at,
            reason: group.all.reason.clone().unwrap_or_default(),
            unacknowledged_bytes: 0,
        });
        one.unacknowledged_bytes += group.all.unacknowledged_bytes;
        one.count += group.all.count;
        one.first = one.first.min(group.first);
        one.last = one.last.max(group.all.at);
    }
    let mut all: Vec<_> = of_pid.into_values().collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.count));
    all
}

/// How many resets these programs sent.
pub(super) fn count(programs: &[Witnessed]) -> i64 {
    let all: u64 = programs.iter().map(|one| one.count).sum();
    i64::try_from(all).unwrap_or(i64::MAX)
}

/// Their names: `upload.py (25612, python3.11) and 2 more`.
pub(super) fn names(programs: &[Witnessed]) -> String {
    let names: Vec<_> = programs
        .iter()
        .take(NAMED)
        .map(|one| one.name.as_str())
        .collect();
    let names = names.join(", ");
    match programs.len().saturating_sub(NAMED) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

/// What the events say: `12 resets by upload.py (25612), 03:12:07 to 03:14:02`.
pub(super) fn sentence(programs: &[Witnessed]) -> String {
    let of = programs.iter().take(NAMED).map(|one| {
        let (first, last) = (one.first.time_of_day(), one.last.time_of_day());
        let when = if first == last {
            format!("at {first}")
        } else {
            format!("{first} to {last}")
        };
        let lost = match one.unacknowledged_bytes {
            0 => String::new(),
            lost => format!(", {} written and not acknowledged", bytes(lost)),
        };
        format!("{} by {}, {when}{lost}", one.count, one.name)
    });
    let of: Vec<_> = of.collect();
    format!(
        "The kernel's event tcp_send_reset names the program: {}.",
        of.join("; ")
    )
}

/// The events as evidence.
pub(super) fn evidence(programs: &[Witnessed]) -> impl Iterator<Item = Evidence> + '_ {
    programs.iter().take(NAMED).map(|one| {
        let reason = match one.reason.as_str() {
            "" => String::new(),
            reason => format!(".{reason}"),
        };
        Evidence::new(
            format!("host.resets.sent{reason}"),
            i64::try_from(one.count).unwrap_or(i64::MAX).into(),
            format!("tcp:tcp_send_reset, by {}", one.name),
        )
    })
}

/// When something happened that a watch has seen: `between 03:12:07 and 03:12:31`.
pub(super) fn when(group: &Group) -> String {
    let (first, last) = (group.first.time_of_day(), group.all.at.time_of_day());
    if first == last {
        format!("at {first}")
    } else {
        format!("between {first} and {last}")
    }
}
