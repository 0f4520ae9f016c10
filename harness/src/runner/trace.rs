//! The trace of a run: its calls, and the segments that its hosts' captures saw.

mod segments;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use advisor_report::trace::{Call, KernelEvent, Points, Series, Trace, TracedHost, gathered};

use super::capture::Captured;
use crate::actor::protocol::Event;
use crate::step::context::Outcome;
use crate::suite::scenario::Scenario;
use crate::suite::story;

/// Lines that a command prints and a trace has, at most.
const MOST_PRINTED: usize = 24;
/// The longest of them, in characters.
const LONGEST_PRINTED: usize = 100;
/// Calls of a trace at most.
const MOST_CALLS: usize = 400;
/// How late the end of a call may be heard of, in microseconds.
const LATE_US: u64 = 1000;
/// Points of a series at most.
const MOST_POINTS: usize = 48;

/// What lists did, as the harness hears of it; times are microseconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    all: Vec<Call>,
    /// The step of each call that has not ended, by the place of the call.
    open: BTreeMap<usize, String>,
    printed: usize,
}

impl Calls {
    /// When the first of them began.
    pub fn first_us(&self) -> Option<u64> {
        self.all.iter().map(|call| call.start_us).min()
    }

    /// Notes what a list said.
    pub fn note(&mut self, scenario: &Scenario, list: &str, at_us: u64, event: &Event) {
        match event {
            Event::Started { step, .. } => {
                if let Some(text) = describe(scenario, list, step) {
                    self.open.insert(self.all.len(), step.clone());
                    self.begin(scenario, list, at_us, text);
                }
            }
            Event::Ended(outcome) => self.end(list, at_us, outcome),
            Event::Printed(line) if self.printed < MOST_PRINTED => {
                self.printed += 1;
                let shown: String = line.chars().take(LONGEST_PRINTED).collect();
                let more = if shown.len() < line.len() { " ..." } else { "" };
                let text = format!("prints {shown:?}{more}");
                self.at_once(scenario, list, at_us, text);
            }
            Event::Exited { status, .. } => {
                self.at_once(scenario, list, at_us, format!("has exited: {status}"));
            }
            Event::Broken(why) => self.at_once(scenario, list, at_us, why.clone()),
            Event::Printed(_) | Event::Finished { .. } | Event::Answer(_) => {}
        }
    }

    fn begin(&mut self, scenario: &Scenario, list: &str, at_us: u64, text: String) {
        let mut actors = scenario.actors.iter();
        let actor = actors.find(|actor| actor.name == list);
        self.all.push(Call {
            actor: list.to_owned(),
            host: actor.map(|actor| actor.host.clone()),
            text,
            start_us: at_us,
            end_us: None,
            result: String::new(),
            failed: false,
        });
    }

    fn at_once(&mut self, scenario: &Scenario, list: &str, at_us: u64, text: String) {
        self.begin(scenario, list, at_us, text);
        if let Some(call) = self.all.last_mut() {
            call.end_us = Some(at_us);
        }
    }

    fn end(&mut self, list: &str, at_us: u64, outcome: &Outcome) {
        let found = self
            .open
            .iter()
            .find(|(place, step)| **step == outcome.step && self.all[**place].actor == list);
        let Some(place) = found.map(|(place, _)| *place) else {
            // Inside a repeat, which is still open: what its steps gave is its result.
            let repeat = self.open.keys().rev().find(|place| {
                let call = &self.all[**place];
                call.actor == list && call.text.starts_with("repeat")
            });
            if let Some(place) = repeat.copied() {
                let call = &mut self.all[place];
                let comma = if call.result.is_empty() { "" } else { "; " };
                let _ = write!(call.result, "{comma}{}: {}", outcome.step, result(outcome));
                call.failed |= outcome.error.is_some();
            }
            return;
        };
        self.open.remove(&place);
        let call = &mut self.all[place];
        call.end_us = Some(at_us);
        if call.result.is_empty() {
            call.result = result(outcome);
            call.failed = outcome.error.is_some();
        }
        // A step may wait for another's end before its call; else it began when it said so,
        // as the end is heard of a little late.
        let took_us = Duration::from_secs_f64((outcome.ms / 1e3).clamp(0.0, 1e9)).as_micros();
        let took_us = u64::try_from(took_us).unwrap_or(u64::MAX);
        let began_us = at_us.saturating_sub(took_us);
        if began_us > call.start_us + LATE_US {
            call.start_us = began_us;
        }
    }
}

/// A step as the suite calls it, with what it was given.
fn describe(scenario: &Scenario, list: &str, step: &str) -> Option<String> {
    if list == "lab" {
        return story::call(&scenario.lab, step);
    }
    let actor = scenario.actors.iter().find(|actor| actor.name == list)?;
    if actor.command.is_some() && step == "ready" {
        return Some("start".to_owned());
    }
    let mut tasks = actor.tasks.iter();
    tasks.find_map(|task| story::call(&task.steps, step))
}

/// What a step gave, in a few words.
fn result(outcome: &Outcome) -> String {
    let mut parts = Vec::new();
    for (errno, times) in &outcome.errors {
        parts.push(match times {
            1 => errno.clone(),
            times => format!("{times} {errno}"),
        });
    }
    if let Some(bytes) = outcome.bytes {
        let after = if parts.is_empty() { "" } else { "after " };
        parts.push(format!("{after}{bytes} bytes"));
    }
    if let Some(value) = &outcome.value {
        parts.push(value.clone());
    }
    if parts.is_empty() {
        parts.push(match outcome.ok {
            0 | 1 => "0".to_owned(),
            times => format!("{times} ok"),
        });
    } else if outcome.ok > 1 && !outcome.errors.is_empty() {
        parts.push(format!("{} ok", outcome.ok));
    }
    parts.join(" ")
}

/// What a run leaves for its trace.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The calls.
    pub calls: Calls,
    /// The packets of each host.
    pub packets: Vec<Captured<'a>>,
    /// Gauges that were sampled: name, and points since 1970.
    pub gauges: &'a [(String, Vec<(u64, i64)>)],
    /// What the kernel told of, with times since 1970.
    pub events: &'a [KernelEvent],
}

/// Makes the trace of a run.
pub fn trace(scenario: &Scenario, run: u64, as_expected: bool, seen: Seen) -> Trace {
    let Seen {
        calls: Calls { all: mut calls, .. },
        packets,
        gauges,
        events,
    } = seen;
    let hosts: Vec<TracedHost> = scenario
        .hosts
        .iter()
        .map(|host| TracedHost {
            name: host.clone(),
            address: scenario.address_of(host).to_canonical().to_string(),
        })
        .collect();
    calls.sort_by_key(|call| call.start_us);
    calls.truncate(MOST_CALLS);
    let frames = segments::read(&packets, &hosts);
    let first_call = calls.first().map(|call| call.start_us);
    let zero_us = first_call.into_iter().chain(frames.first_us()).min();
    let zero_us = zero_us.unwrap_or(0);
    let since = |at_us: u64| at_us.saturating_sub(zero_us);
    for call in &mut calls {
        call.start_us = since(call.start_us);
        call.end_us = call.end_us.map(since);
    }
    let (segments, mut series, left_out_packets) = frames.condense(zero_us, &calls);
    let of_kernel = scenario.wants_the_kernel_to_itself();
    for (name, points) in gauges {
        let has_changed = points.iter().any(|(_, number)| *number != points[0].1);
        // Other scenarios run beside it, and the kernel's gauges are theirs as well.
        if has_changed && (of_kernel || !name.starts_with("kernel.")) {
            let unit = if name.ends_with("TCP.mem") {
                "pages"
            } else {
                ""
            };
            let points = points.iter().map(|(at, number)| (since(*at), *number));
            series.push(Series {
                name: name.clone(),
                unit: unit.to_owned(),
                points: Points(thinned(points.collect())),
            });
        }
    }
    Trace {
        run,
        as_expected,
        hosts,
        calls,
        segments,
        left_out_packets,
        series,
        events: gathered(events, zero_us),
    }
}

/// As many points as a picture can show: of each stretch the highest, and the last.
fn thinned(points: Vec<(u64, i64)>) -> Vec<(u64, i64)> {
    let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) else {
        return points;
    };
    if points.len() <= MOST_POINTS {
        return points;
    }
    let stretch = (last.0 - first.0) / (MOST_POINTS as u64 - 1) + 1;
    let mut thin: Vec<(u64, i64)> = Vec::new();
    for point in points {
        let place = |at: u64| (at - first.0) / stretch;
        match thin
            .last_mut()
            .filter(|known| place(known.0) == place(point.0))
        {
            Some(known) if known.1 >= point.1 => {}
            Some(known) => *known = point,
            None => thin.push(point),
        }
    }
    if thin.last() != Some(&last) {
        thin.push(last);
    }
    thin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_keeps_its_peaks_and_its_end() {
        let points: Vec<(u64, i64)> = (0..10_000).map(|n| (n, i64::from(n == 5000))).collect();
        let thin = thinned(points);
        assert!(thin.len() <= MOST_POINTS + 1);
        assert!(thin.contains(&(5000, 1)));
        assert_eq!(thin.last(), Some(&(9999, 0)));
        assert_eq!(thinned(vec![]), []);
    }

    #[test]
    fn a_call_that_waited_begins_when_it_was_made() {
        let text = "scenarios:\n  - name: s\n    explains: e\n    source: s\n    actors:\n      \
                    a: { on: client, steps: [ { connect: \"server:1\" }, { repeat: { times: 2, \
                    steps: [{ read: 10 }] } } ] }\n    expect: { a.connect.error: { always: none } }\n";
        let scenario = crate::suite::parse(text, "t/f").unwrap().remove(0);
        let mut calls = Calls::default();
        let started = |step: &str| Event::Started {
            task: 0,
            step: step.to_owned(),
        };
        let ended = |step: &str, ms| {
            let mut outcome = Outcome::of(step);
            outcome.ms = ms;
            outcome.ok = 1;
            outcome
        };
        calls.note(&scenario, "a", 1000, &started("connect"));
        calls.note(&scenario, "a", 9000, &Event::Ended(ended("connect", 2.0)));
        calls.note(&scenario, "a", 9100, &started("repeat"));
        let mut read = ended("read", 1.0);
        read.bytes = Some(3);
        read.fail("ECONNRESET".to_owned());
        calls.note(&scenario, "a", 9900, &Event::Ended(read));
        calls.note(&scenario, "a", 9900, &Event::Ended(ended("repeat", 0.8)));
        let trace = trace(
            &scenario,
            3,
            true,
            Seen {
                calls,
                packets: Vec::new(),
                gauges: &[],
                events: &[],
            },
        );
        let told: Vec<String> = trace
            .calls
            .iter()
            .map(|call| {
                let (start, end) = (call.start_us, call.end_us.unwrap());
                format!("{start}-{end} {} = {}", call.text, call.result)
            })
            .collect();
        assert_eq!(
            told,
            [
                "0-2000 connect server:1 = 0",
                "2100-2900 repeat, times 2: read 10 = read: ECONNRESET after 3 bytes"
            ]
        );
        assert!(trace.calls[1].failed);
    }
}
