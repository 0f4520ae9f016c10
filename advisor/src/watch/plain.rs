//! A line as text: the time, what happened, and who it was.

use advisor_facts::happened::{Held, Level};
use advisor_facts::units::bytes;
use advisor_report::escape::inert;
use advisor_report::record::Line;

use crate::gauges;

/// A line as text, without what a terminal would obey. The watcher's own network
/// namespace is not named.
pub(crate) fn text(line: &Line, own: Option<u32>) -> String {
    let words = match line {
        Line::Start {
            hostname,
            kernel,
            unseen,
            ..
        } => {
            let host = hostname.as_deref().unwrap_or("this host");
            let unseen = unseen.iter();
            let unseen = unseen.map(|one| format!("; not seen: {}: {}", one.what, one.why));
            format!(
                "watching {host}, Linux {kernel}{}",
                unseen.collect::<String>()
            )
        }
        Line::Event(one) => {
            let times = match (one.count, one.ends) {
                (1, _) => String::new(),
                (count, None) => format!(", {count} times"),
                (count, Some(_)) => format!(", {count} times, last"),
            };
            let ends = one.ends.map_or_else(String::new, |ends| {
                format!(" {} -> {}", ends.local, ends.peer)
            });
            let lost = match one.unacknowledged_bytes {
                0 => String::new(),
                lost => format!(", {} not acknowledged", bytes(lost)),
            };
            format!("{}{times}{ends}{lost}", one.words(own))
        }
        Line::Gauge {
            gauge,
            namespace,
            value,
            limit,
            mark,
            level,
            ..
        } => {
            let known = gauges::find(gauge);
            let amount = |value: u64| known.map_or(value.to_string(), |one| one.unit.amount(value));
            let place = namespace.map_or_else(String::new, |inode| {
                format!(" in network namespace {inode}")
            });
            let words = match level {
                Level::Calm => "is far from its limit again",
                Level::Near => "is near",
                Level::Over => "is over its mark",
            };
            let harm = match (level, known) {
                (Level::Over, Some(known)) => format!(": {} ({})", known.harm, known.code),
                _ => String::new(),
            };
            format!(
                "gauge {gauge}{place} {words}: {} of {}, mark {}{harm}",
                amount(*value),
                amount(*limit),
                amount(*mark)
            )
        }
        Line::Holders {
            gauge,
            held_bytes,
            holders,
            ..
        } => {
            let of: Vec<_> = holders
                .iter()
                .map(|held| share(held, *held_bytes))
                .collect();
            match of.as_slice() {
                [] => format!("holders of {gauge}: no socket holds memory"),
                of => format!("holders of {gauge}: {}", of.join("; ")),
            }
        }
        Line::Finding {
            code,
            severity,
            summary,
            subject,
            ..
        } => format!("finding {code} {severity}: {summary}; on {subject}"),
        Line::Lost { events, .. } => format!("lost {events} events: there was no room for them"),
        Line::Note { text, .. } => format!("note {text}"),
        Line::End { .. } => "end of the watch".to_owned(),
    };
    format!("{} {}", line.at(), inert(&words))
}

/// Who holds which share of what all hold.
pub(crate) fn share(held: &Held, of_bytes: u64) -> String {
    let percent = u128::from(held.bytes) * 100 / u128::from(of_bytes.max(1));
    format!(
        "{} {percent}%, {} in {} sockets, {}",
        held.who(),
        bytes(held.bytes),
        held.sockets,
        held.condition
    )
}
