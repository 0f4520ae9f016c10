//! Looks at every host and the kernel before, during and after a run, and
//! turns what it saw into observations.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use advisor_facts::counters::Counters;
use advisor_facts::sock_diag::TcpSocket;
use advisor_facts::sockstat::Sockstat;
use advisor_report::{SocketLine, Value};

use crate::actor::protocol::now_us;
use crate::lab::kernel_log::KernelLog;
use crate::lab::namespace::Namespace;
use crate::lab::observe::{observe_sockets, tcp_info_fields};
use crate::lab::{Lab, LabError};
use crate::observation::{
    Field, Gauge, HOST_GAUGES, KERNEL_GAUGES, Observation, Observations, Resources,
};
use crate::pace::pause;
use crate::step::context::Outcome;
use crate::suite::scenario::Scenario;

/// Time between two looks at the gauges at the beginning of a run and after each
/// event; while nothing happens, they become further apart.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// The same where nothing is expected of a gauge and the clock is virtual: then looks cost
/// more than all else. Each event has a look all the same.
const SAMPLE_SELDOM: Duration = Duration::from_secs(2);

/// The time between two looks at the gauges that a scenario needs.
pub fn sample_every(scenario: &Scenario, is_in_virtual_time: bool) -> Duration {
    let is_gauge = |observation: &Observation| matches!(observation, Observation::Gauge(..));
    let mut expected = scenario.expectations.iter();
    let needs = expected.any(|expected| {
        let mut all = expected.references.iter().chain([&expected.observation]);
        all.any(is_gauge)
    });
    if needs || !is_in_virtual_time {
        SAMPLE_EVERY
    } else {
        SAMPLE_SELDOM
    }
}

/// The most sockets that a report lists for a run; their number by state is
/// always there in full.
const LISTED_SOCKETS: usize = 100;

/// What was there before the run.
pub struct Watch {
    counters: Vec<Counters>,
    dropped_on_sending: u64,
    log: Option<KernelLog>,
    gauges: Gauges,
}

/// What a sampler is told.
#[derive(Debug, Default)]
pub struct Signals {
    /// Whether it is to stop.
    pub stop: AtomicBool,
    events: AtomicU64,
}

impl Signals {
    /// Says that something has happened: what is sampled may change quickly.
    pub fn happened(&self, sampler: &Thread) {
        self.events.fetch_add(1, Ordering::Relaxed);
        sampler.unpark();
    }
}

/// The lowest, the highest and the last value of each gauge, from the first
/// look on.
#[derive(Default)]
pub struct Gauges {
    seen: BTreeMap<String, [i64; 4]>,
    /// By name: each value with the time at which it was first seen.
    points: BTreeMap<String, Vec<(u64, i64)>>,
}

/// What the looks at a run saw.
pub struct Seen {
    /// By name.
    pub observations: Observations,
    /// The sockets at its end.
    pub sockets: Vec<SocketLine>,
    /// Packets that a device of the lab dropped and that no impairment asked for.
    pub dropped: u64,
    /// Each gauge over the time of the run, in microseconds since 1970.
    pub gauges: Vec<(String, Vec<(u64, i64)>)>,
}

/// Points of a gauge at most.
const MOST_POINTS: usize = 1000;

impl Watch {
    /// Takes the first look.
    pub fn start(lab: &Lab) -> Result<Self, LabError> {
        let mut gauges = Gauges::default();
        gauges.look(lab)?;
        Ok(Self {
            counters: lab
                .hosts()
                .iter()
                .map(Namespace::counters)
                .collect::<Result<_, _>>()?,
            dropped_on_sending: dropped_on_sending(lab)?,
            log: KernelLog::open_at_end().ok(),
            gauges,
        })
    }

    /// Looks at the gauges again and again until told to stop; `every` is the time between
    /// two looks where something happens.
    pub fn sample(
        mut self,
        lab: &Lab,
        signals: &Signals,
        every: Duration,
    ) -> Result<Self, LabError> {
        let mut known = signals.events.load(Ordering::Relaxed);
        let mut since = Instant::now();
        while !signals.stop.load(Ordering::Relaxed) {
            self.gauges.look(lab)?;
            std::thread::park_timeout(pause(since.elapsed(), every));
            let events = signals.events.load(Ordering::Relaxed);
            if events != known {
                (known, since) = (events, Instant::now());
                // Events may come faster than looks.
                std::thread::park_timeout(SAMPLE_EVERY);
            }
        }
        self.gauges.look(lab)?;
        Ok(self)
    }

    /// Takes the last look.
    pub fn finish(self, lab: &Lab) -> Result<Seen, LabError> {
        let mut observations = Observations::new();
        let mut lines = Vec::new();
        for (namespace, before) in lab.hosts().iter().zip(&self.counters) {
            let host = &namespace.host;
            for (name, change) in namespace.counters()?.since(before) {
                observations.insert(format!("{host}.{name}"), change.into());
            }
            let sockets = namespace.sockets()?;
            observe_sockets(host, &sockets, lab, &mut observations);
            let room = LISTED_SOCKETS.saturating_sub(lines.len());
            lines.extend(sockets.iter().take(room).map(|socket| line(host, socket)));
        }
        for (name, [before, min, max, last]) in self.gauges.seen {
            for (field, value) in [
                ("before", before),
                ("min", min),
                ("max", max),
                ("last", last),
            ] {
                observations.insert(format!("{name}.{field}"), value.into());
            }
        }
        if let Some(log) = self.log {
            observations.insert("kernel.log".to_owned(), Value::Lines(log.lines()));
        }
        let dropped = dropped_on_sending(lab)?.saturating_sub(self.dropped_on_sending);
        Ok(Seen {
            observations,
            sockets: lines,
            dropped,
            gauges: self.gauges.points.into_iter().collect(),
        })
    }
}

fn dropped_on_sending(lab: &Lab) -> Result<u64, LabError> {
    lab.namespaces()
        .iter()
        .map(Namespace::dropped_on_sending)
        .sum()
}

impl Gauges {
    fn look(&mut self, lab: &Lab) -> Result<(), LabError> {
        for namespace in lab.hosts() {
            let seen = namespace.sockstat()?;
            self.note(Some(&namespace.host), HOST_GAUGES, &seen);
        }
        self.note(None, KERNEL_GAUGES, &lab.router().sockstat()?);
        Ok(())
    }

    fn note(&mut self, host: Option<&str>, gauges: &[&str], seen: &Sockstat) {
        let now_us = now_us();
        for name in gauges {
            let Some(value) = seen.get(name) else {
                continue;
            };
            let gauge = Gauge {
                host: host.map(str::to_owned),
                name: (*name).to_owned(),
            };
            let name = gauge.to_string();
            let points = self.points.entry(name.clone()).or_default();
            if points.len() < MOST_POINTS && points.last().is_none_or(|(_, last)| *last != value) {
                points.push((now_us, value));
            }
            let [_, min, max, last] = self.seen.entry(name).or_insert([value; 4]);
            *min = value.min(*min);
            *max = value.max(*max);
            *last = value;
        }
    }
}

/// The gauges of the kernel before a run, for values that refer to them.
pub fn kernel_gauges_before() -> Option<Observations> {
    let path = std::path::Path::new("/proc/net/sockstat");
    let seen = Sockstat::parse(&std::fs::read_to_string(path).ok()?, path).ok()?;
    Some(
        KERNEL_GAUGES
            .iter()
            .filter_map(|gauge| {
                let name = format!("kernel.sockstat.{gauge}.before");
                Some((name, Value::Integer(seen.get(gauge)?)))
            })
            .collect(),
    )
}

fn line(host: &str, socket: &TcpSocket) -> SocketLine {
    SocketLine {
        host: host.to_owned(),
        state: socket.state.to_string(),
        local: socket.local.to_string(),
        peer: socket.peer.to_string(),
        recv_queue_bytes: socket.recv_queue_bytes.into(),
        send_queue_bytes: socket.send_queue_bytes.into(),
        tcp_info: tcp_info_fields(socket)
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

/// The fields of a step's outcome, as `LIST.STEP.FIELD`.
pub fn observe_outcome(list: &str, outcome: &Outcome, fields: &[Field], to: &mut Observations) {
    let mut add = |field: Field, errno: Option<&String>, value: Value| {
        let observation = Observation::Step {
            list: list.to_owned(),
            step: outcome.step.clone(),
            field,
            errno: errno.cloned(),
        };
        to.insert(observation.to_string(), value);
    };
    let count = |count: u64| Value::Integer(i64::try_from(count).unwrap_or(i64::MAX));
    for field in fields {
        match *field {
            Field::Ok => add(Field::Ok, None, count(outcome.ok)),
            Field::Error => {
                let error = outcome.error.as_deref().unwrap_or("none");
                add(Field::Error, None, error.into());
            }
            Field::Errors => {
                for (errno, times) in &outcome.errors {
                    add(Field::Errors, Some(errno), count(*times));
                }
            }
            Field::Bytes => add(Field::Bytes, None, count(outcome.bytes.unwrap_or(0))),
            Field::NonzeroBytes => {
                if outcome.nonzero_bytes > 0 {
                    add(Field::NonzeroBytes, None, count(outcome.nonzero_bytes));
                }
            }
            Field::Ms => {
                let ms = (outcome.ms * 1e3).round() / 1e3;
                add(Field::Ms, None, Value::Number(ms));
            }
            Field::Value | Field::Count => {
                if let Some(text) = &outcome.value {
                    let number = text.parse().map(Value::Integer);
                    add(
                        *field,
                        None,
                        number.unwrap_or_else(|_| text.as_str().into()),
                    );
                }
            }
        }
    }
}

/// What belongs to an actor beside its steps, at the end of a run or of a sample.
pub fn observe_resources<const N: usize>(
    sample: Option<&str>,
    actor: &str,
    of: Resources,
    fields: [(&str, u64); N],
    to: &mut Observations,
) {
    for (field, value) in fields {
        let observation = Observation::Resources {
            sample: sample.map(str::to_owned),
            actor: actor.to_owned(),
            of,
            field: field.to_owned(),
        };
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        to.insert(observation.to_string(), value.into());
    }
}
