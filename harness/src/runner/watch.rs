//! Looks at every host and the kernel before, during and after a run, and
//! turns what it saw into observations.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use advisor_facts::counters::Counters;
use advisor_facts::sock_diag::{TcpSocket, TcpState, Timer};
use advisor_facts::sockstat::Sockstat;
use advisor_report::{SocketLine, Value};

use crate::actor::protocol::Outcome;
use crate::lab::kernel_log::KernelLog;
use crate::lab::namespace::Namespace;
use crate::lab::{Lab, LabError};
use crate::suite::scenario::{self, Family};
use crate::suite::vocabulary::{HOST_GAUGES, KERNEL_GAUGES, SOCKET_FIELDS};

/// Observations by their dotted names.
pub type Observations = BTreeMap<String, Value>;

/// Time between two looks at the gauges.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

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

/// The lowest, the highest and the last value of each gauge, from the first
/// look on.
#[derive(Default)]
pub struct Gauges(BTreeMap<String, [i64; 4]>);

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

    /// Looks at the gauges again and again until told to stop.
    pub fn sample(mut self, lab: &Lab, stop: &AtomicBool) -> Result<Self, LabError> {
        while !stop.load(Ordering::Relaxed) {
            self.gauges.look(lab)?;
            std::thread::park_timeout(SAMPLE_EVERY);
        }
        self.gauges.look(lab)?;
        Ok(self)
    }

    /// Takes the last look. Also says how many packets a device of the lab
    /// dropped that no impairment asked for.
    pub fn finish(self, lab: &Lab) -> Result<(Observations, Vec<SocketLine>, u64), LabError> {
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
        for (name, [before, min, max, last]) in self.gauges.0 {
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
        Ok((observations, lines, dropped))
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
            self.note(&namespace.host, HOST_GAUGES, &seen);
        }
        self.note("kernel", KERNEL_GAUGES, &lab.router().sockstat()?);
        Ok(())
    }

    fn note(&mut self, owner: &str, gauges: &[&str], seen: &Sockstat) {
        for gauge in gauges {
            let Some(value) = seen.get(gauge) else {
                continue;
            };
            let [_, min, max, last] = self
                .0
                .entry(format!("{owner}.sockstat.{gauge}"))
                .or_insert([value; 4]);
            *min = value.min(*min);
            *max = value.max(*max);
            *last = value;
        }
    }
}

/// A gauge as it is now: `kernel.sockstat.GAUGE`, or of a host.
pub fn gauge(name: &str, lab: &Lab) -> Result<Option<Value>, LabError> {
    let (owner, gauge) = name.split_once(".sockstat.").unwrap_or((name, ""));
    let namespace = lab.namespace(owner).unwrap_or(lab.router());
    Ok(namespace.sockstat()?.get(gauge).map(Value::Integer))
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

/// `HOST.sockets.STATE` and `HOST.sockets.STATE.FIELD`, the highest of each
/// field, and the same of those that lead to one host as `HOST.peers.HOST.STATE`.
pub fn observe_sockets(
    host: &str,
    sockets: &[TcpSocket],
    lab: &Lab,
    observations: &mut Observations,
) {
    let named = |address: IpAddr| {
        let address = address.to_canonical();
        lab.hosts().iter().enumerate().find(|(index, _)| {
            [Family::V4, Family::V6]
                .iter()
                .any(|family| scenario::address(index + 1, 2, *family) == address)
        })
    };
    let mut add = |name: String, raise: &dyn Fn(i64) -> i64| {
        let value = observations.entry(name).or_insert(Value::Integer(0));
        if let Value::Integer(number) = value {
            *number = raise(*number);
        }
    };
    for socket in sockets {
        let mut groups = vec![format!("{host}.sockets.{}", socket.state)];
        if let Some((_, peer)) = named(socket.peer.ip()) {
            groups.push(format!("{host}.peers.{}.{}", peer.host, socket.state));
        }
        for group in groups {
            add(group.clone(), &|count| count + 1);
            for (field, value) in socket_fields(socket) {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                add(format!("{group}.{field}"), &|highest| highest.max(value));
            }
        }
    }
}

/// The fields of a socket that are observed.
fn socket_fields(socket: &TcpSocket) -> impl Iterator<Item = (&'static str, u64)> {
    let timer = match socket.timer {
        Timer::Off => 0,
        Timer::Retransmit => 1,
        Timer::Keepalive => 2,
        Timer::TimeWait => 3,
        Timer::Probe => 4,
        Timer::Other(number) => number,
    };
    [
        ("recv_queue_bytes", u64::from(socket.recv_queue_bytes)),
        ("send_queue_bytes", u64::from(socket.send_queue_bytes)),
        ("timer", u64::from(timer)),
    ]
    .into_iter()
    .chain(socket.memory.iter().flat_map(|memory| {
        [
            ("wmem_queued", memory.send_queued_bytes.into()),
            ("sndbuf", memory.send_buffer_bytes.into()),
            ("rmem_alloc", memory.recv_alloc_bytes.into()),
            ("rcvbuf", memory.recv_buffer_bytes.into()),
        ]
    }))
    .chain(tcp_info_fields(socket))
}

/// A listener's tcp_info says nothing of a connection.
fn tcp_info_fields(socket: &TcpSocket) -> impl Iterator<Item = (&'static str, u64)> {
    socket
        .info
        .iter()
        .filter(|_| socket.state != TcpState::Listen)
        .flat_map(advisor_facts::tcp_info::TcpInfo::fields)
        .filter(|(name, _)| SOCKET_FIELDS.contains(name))
        .collect::<Vec<_>>()
        .into_iter()
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

/// `OWNER.GROUP.FIELD` of what belongs to an actor besides its steps: `usage`, of a
/// command's processes, or `cgroup`.
pub fn observe_fields<const N: usize>(
    owner: &str,
    group: &str,
    fields: [(&str, u64); N],
    to: &mut Observations,
) {
    for (field, value) in fields {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        to.insert(format!("{owner}.{group}.{field}"), value.into());
    }
}

/// `LIST.STEP.FIELD` of a step's outcome.
pub fn observe_outcome(list: &str, outcome: &Outcome, fields: &[&str], to: &mut Observations) {
    let mut add = |field: &str, value: Value| {
        to.insert(format!("{list}.{}.{field}", outcome.step), value);
    };
    let count = |count: u64| Value::Integer(i64::try_from(count).unwrap_or(i64::MAX));
    for field in fields {
        match *field {
            "ok" => add("ok", count(outcome.ok)),
            "error" => add("error", outcome.error.as_deref().unwrap_or("none").into()),
            "errors" => {
                for (errno, times) in &outcome.errors {
                    add(&format!("errors.{errno}"), count(*times));
                }
            }
            "bytes" => add("bytes", count(outcome.bytes.unwrap_or(0))),
            "nonzero_bytes" => {
                if outcome.nonzero_bytes > 0 {
                    add("nonzero_bytes", count(outcome.nonzero_bytes));
                }
            }
            "ms" => add("ms", Value::Number((outcome.ms * 1e3).round() / 1e3)),
            value => {
                if let Some(text) = &outcome.value {
                    let read = text
                        .parse()
                        .map_or_else(|_| text.as_str().into(), Value::Integer);
                    add(value, read);
                }
            }
        }
    }
}
