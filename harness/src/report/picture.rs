//! The sequence picture of a run: its hosts as lines, the calls of the actors beside them,
//! the segments between them. It is drawn from a [`Trace`] and nothing else.

mod ascii;
mod chart;
mod states;
mod svg;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use advisor_report::Trace;
use advisor_report::trace::{Call, KernelEvent, Segment};

pub use ascii::ascii;
pub use chart::strip;
pub use svg::{DEFINITIONS, STYLE, alone, svg};

/// The longest text beside a line, in characters.
const LONGEST: usize = 300;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum What {
    /// A segment arrives. First, so that what it lets happen comes after it.
    Arrived(usize),
    /// A call ends.
    Ended(usize),
    /// A call begins.
    Began(usize),
    /// The kernel tells of something. Before the segment that comes of it.
    Told(usize),
    /// A segment is sent.
    Sent(usize),
}

/// What is to be drawn, in order.
struct Scene<'a> {
    trace: &'a Trace,
    /// What happens, with its time in microseconds.
    events: Vec<(u64, What)>,
    /// The actors of each host.
    actors: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Scene<'a> {
    fn of(trace: &'a Trace) -> Self {
        let mut events = Vec::new();
        let mut actors: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (place, call) in trace.calls.iter().enumerate() {
            events.push((call.start_us, What::Began(place)));
            if let Some(end) = call.end_us.filter(|end| *end > call.start_us) {
                events.push((end, What::Ended(place)));
            }
            if let Some(host) = &call.host {
                let known = actors.entry(host).or_default();
                if !known.contains(&call.actor.as_str()) {
                    known.push(&call.actor);
                }
            }
        }
        for (place, segment) in trace.segments.iter().enumerate() {
            if let Some(sent) = segment.sent_us {
                events.push((sent, What::Sent(place)));
            }
            if let Some(received) = segment.received_us {
                events.push((received, What::Arrived(place)));
            }
        }
        for (place, event) in trace.events.iter().enumerate() {
            // A reset that came is an arrow already.
            if event.what != "resets.received" {
                events.push((event.at_us, What::Told(place)));
            }
        }
        events.sort_unstable();
        Self {
            trace,
            events,
            actors,
        }
    }

    /// The line of a host, by its name.
    fn lane(&self, host: &str) -> Option<usize> {
        self.trace.hosts.iter().position(|known| known.name == host)
    }

    /// The line that a segment leaves or arrives at: that of a host which isn't among
    /// them is the nearest to the other end's.
    fn lanes(&self, segment: &Segment) -> Option<(usize, usize)> {
        let last = self.trace.hosts.len().checked_sub(1)?;
        let other = |lane: usize| if lane == 0 { last.min(1) } else { lane - 1 };
        let ends = match (self.lane(&segment.from), self.lane(&segment.to)) {
            (Some(from), Some(to)) => (from, to),
            (Some(from), None) => (from, other(from)),
            (None, Some(to)) => (other(to), to),
            (None, None) => return None,
        };
        Some(ends).filter(|(from, to)| from != to)
    }

    /// A call as it is told: with its actor, where its host has several.
    fn told(&self, call: &Call) -> String {
        let host = call.host.as_deref();
        let several = host.is_none_or(|host| self.actors.get(host).is_some_and(|a| a.len() > 1));
        let text = shortened(&call.text, LONGEST);
        if several {
            format!("{}: {text}", call.actor)
        } else {
            text
        }
    }
}

/// What the kernel told of, as it stands beside the line of its host.
fn kernel_says(event: &KernelEvent) -> String {
    format!("kernel {}", event.words())
}

/// What a segment is, in a few words: `SYN`, `data 100000 bytes x69`, `FIN`.
fn label(segment: &Segment) -> String {
    let mut words = Vec::new();
    for (flag, word) in [('S', "SYN"), ('F', "FIN"), ('R', "RST")] {
        if segment.has(flag) {
            words.push(word.to_owned());
        }
    }
    match segment.bytes() {
        0 => {}
        1 => words.push("1 byte".to_owned()),
        bytes => words.push(format!("{} bytes", grouped(bytes))),
    }
    if segment.has('A') && (words.is_empty() || segment.has('S')) {
        words.push("ACK".to_owned());
    }
    if segment.window == 0 && segment.has('A') && !segment.has('R') {
        words.push("window 0".to_owned());
    }
    let mut text = words.join(", ").replace("SYN, ACK", "SYN-ACK");
    if segment.count > 1 {
        let _ = write!(text, " \u{d7}{}", segment.count);
    }
    if segment.again {
        text.push_str(", again");
    }
    if segment.is_lost() {
        text.push_str(", lost");
    } else if segment.on_its_way {
        text.push_str(", on its way");
    }
    text
}

/// A number with its digits in groups of three: `1,000,062`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time of a run: `0.123 ms`, `5.4 ms`, `1.204 s`.
pub fn time(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{:03} ms", us / 1000, us % 1000),
        10_000..1_000_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{}.{:03} s", us / 1_000_000, us % 1_000_000 / 1000),
    }
}

/// A text of at most so many characters.
pub fn shortened(text: &str, most: usize) -> String {
    let mut letters = text.chars();
    let mut short: String = letters.by_ref().take(most).collect();
    if letters.next().is_some() {
        short.push('\u{2026}');
    }
    short
}

#[cfg(test)]
pub(crate) mod tests;
