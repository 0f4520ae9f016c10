//! Observations: their names, as suite, report and rules have them.
//!
//! ```text
//! LIST.STEP.FIELD             a step of an actor or of the lab: sender.close.error
//! HOST.GROUP.COUNTER          a counter of the kernel: client.TcpExt.TCPAbortOnClose
//! HOST.sockets.STATE[.FIELD]  sockets by state; HOST.peers.HOST.STATE by peer as well
//! HOST.sockstat.GAUGE.FIELD   a gauge of the host, or of the kernel
//! ACTOR.usage.FIELD           processes of a command; ACTOR.cgroup.FIELD its memory
//! ACTOR.exit.status           how a command ended; ACTOR.output what it printed
//! HOST.packets.sent.KIND      TCP packets on its link; to.HOST and from.HOST by peer
//! SAMPLE.HOST.sockets.STATE   as above, at the time of a sample
//! HOST.resets.sent.REASON     resets by the kernel's reason; ACTOR.resets.sent.REASON
//! HOST.resets.received        and HOST.drops.REASON: events of the kernel
//! kernel.log                  lines of the kernel's log
//! ```
//!
//! Imports yaml.

use std::collections::BTreeMap;
use std::fmt;

use advisor_facts::events::{DROP_REASONS, RESET_REASONS, drop_reason_since};
use advisor_facts::release::Release;
use advisor_report::Value;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::yaml::error::did_you_mean;

/// The values of a run by the names of the observations.
pub type Observations = BTreeMap<String, Value>;

/// The TCP states by the kernel's names (include/net/tcp_states.h), except CLOSE and
/// NEW_SYN_RECV: sock_diag shows no socket in the first, and the second as SYN_RECV.
pub const STATES: &[&str] = &[
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
];

/// The fields of sockets, `HOST.sockets.STATE.FIELD`: each the highest over the sockets
/// of that state. The queues are inet_diag's; what a socket holds and may hold is
/// INET_DIAG_SKMEMINFO's, by the names of the kernel's struct sock; the rest is
/// tcp_info's.
pub const SOCKET_FIELDS: &[&str] = &[
    "recv_queue_bytes",
    "send_queue_bytes",
    "timer",
    "unacked",
    "retransmits",
    "backoff",
    "probes",
    "last_ack_recv",
    "last_data_sent",
    "snd_cwnd",
    "snd_wnd",
    "total_retrans",
    "bytes_acked",
    "notsent_bytes",
    "lost",
    "retrans",
    "rto",
    "rtt",
    "rttvar",
    "min_rtt",
    "pmtu",
    "snd_mss",
    "snd_ssthresh",
    "delivered",
    "busy_time",
    "rwnd_limited",
    "sndbuf_limited",
    "segs_out",
    "segs_in",
    "bytes_received",
    "bytes_retrans",
    "wmem_queued",
    "sndbuf",
    "rmem_alloc",
    "rcvbuf",
];

/// The fields of a gauge that is sampled over a run.
pub const GAUGE_FIELDS: &[&str] = &["before", "min", "max", "last"];

/// The gauges of /proc/net/sockstat that are the whole kernel's in whichever
/// namespace they are read (Linux 6.18, measured).
pub const KERNEL_GAUGES: &[&str] = &["TCP.orphan", "TCP.alloc", "TCP.mem"];

/// The gauges of /proc/net/sockstat that are each namespace's own.
pub const HOST_GAUGES: &[&str] = &["TCP.inuse", "TCP.tw", "sockets.used"];

/// The fields of the processes of a command, `ACTOR.usage.FIELD`: of all of them
/// together at the time; `max_rss_bytes` is the highest resident set of a single one.
pub const USAGE_FIELDS: &[&str] = &[
    "processes",
    "descriptors",
    "rss_bytes",
    "max_rss_bytes",
    "user_ms",
    "system_ms",
];

/// The fields of an actor's own cgroup, `ACTOR.cgroup.FIELD`: memory.current, `sock` of
/// memory.stat, `oom_kill` and `high` of memory.events.
pub const CGROUP_FIELDS: &[&str] = &["current_bytes", "sock_bytes", "oom_kill", "high"];

/// The status of a command that has not ended.
pub const RUNNING: &str = "running";

/// A field of a step: `LIST.STEP.FIELD`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Field {
    /// The first error's name, or `none`.
    Error,
    /// The time of all calls in milliseconds.
    Ms,
    /// Calls that succeeded.
    Ok,
    /// Calls that failed with an errno: `errors.ERRNO`.
    Errors,
    /// Bytes transferred.
    Bytes,
    /// Bytes received that were not zero.
    NonzeroBytes,
    /// What the last call read.
    Value,
    /// How many the step acted on.
    Count,
}

impl Field {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Ms => "ms",
            Self::Ok => "ok",
            Self::Errors => "errors",
            Self::Bytes => "bytes",
            Self::NonzeroBytes => "nonzero_bytes",
            Self::Value => "value",
            Self::Count => "count",
        }
    }

    /// Its name as documents have it.
    pub const fn documented(self) -> &'static str {
        match self {
            Self::Errors => "errors.ERRNO",
            other => other.as_str(),
        }
    }
}

/// The sockets of a host in a state, or a field of theirs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SocketSet {
    /// The host whose sockets they are.
    pub host: String,
    /// The host that they lead to, of `peers`.
    pub peer: Option<String>,
    /// Their state, one of [`STATES`].
    pub state: String,
    /// A field, one of [`SOCKET_FIELDS`]; without one, how many there are.
    pub field: Option<String>,
}

/// What packets are counted as.
pub const PACKET_KINDS: &[&str] = &[
    "all",
    "SYN",
    "FIN",
    "RST",
    "PSH",
    "data",
    "pure_ACK",
    "retransmissions",
    "zero_windows",
    "probes",
];

/// What is counted of a host's link.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Passed {
    /// The host whose link it is.
    pub host: String,
    /// Whether the host sent them.
    pub is_sent: bool,
    /// Only those to or from this host.
    pub peer: Option<String>,
    /// One of [`PACKET_KINDS`].
    pub kind: String,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            is_sent,
            peer,
            kind,
        } = self;
        match (peer, is_sent) {
            (None, true) => write!(f, "{host}.packets.sent.{kind}"),
            (None, false) => write!(f, "{host}.packets.received.{kind}"),
            (Some(peer), true) => write!(f, "{host}.packets.to.{peer}.{kind}"),
            (Some(peer), false) => write!(f, "{host}.packets.from.{peer}.{kind}"),
        }
    }
}

impl Passed {
    /// The names of the times of packets.
    pub const TIMES: [&str; 2] = ["first_ms", "last_ms"];

    /// Reads what comes after the host, `packets.sent.KIND` or `packets.to.HOST.KIND`, with
    /// the time that may follow it. `None` where it is something else.
    pub fn parse(host: &str, rest: &str) -> Option<Result<(Self, Option<String>), Unknown>> {
        let rest = rest.strip_prefix("packets.")?;
        let (direction, rest) = rest.split_once('.').unwrap_or((rest, ""));
        let (is_sent, peer, rest) = match direction {
            "sent" | "received" => (direction == "sent", None, rest),
            "to" | "from" => {
                let (peer, rest) = rest.split_once('.').unwrap_or((rest, ""));
                (direction == "to", Some(peer.to_owned()), rest)
            }
            _ => {
                let message = format!("packets have no direction {direction:?}");
                let hint = "packets.sent.KIND, packets.received.KIND, packets.to.HOST.KIND, \
                            packets.from.HOST.KIND, each with .first_ms or .last_ms";
                return Some(Err(Unknown::new(message, hint)));
            }
        };
        let (kind, time) = match rest.split_once('.') {
            Some((kind, time)) => (kind, Some(time)),
            None => (rest, None),
        };
        if !PACKET_KINDS.contains(&kind) {
            let message = format!("packets aren't counted as {kind:?}");
            return Some(Err(Unknown::no_such(&message, kind, PACKET_KINDS)));
        }
        if let Some(time) = time.filter(|time| !Self::TIMES.contains(time)) {
            let message = format!("packets have no {time:?}");
            return Some(Err(Unknown::no_such(&message, time, &Self::TIMES)));
        }
        let passed = Self {
            host: host.to_owned(),
            is_sent,
            peer,
            kind: kind.to_owned(),
        };
        Some(Ok((passed, time.map(str::to_owned))))
    }
}

/// A gauge of a host, or of the kernel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Gauge {
    /// The host; `None` for the kernel.
    pub host: Option<String>,
    /// One of [`HOST_GAUGES`] or [`KERNEL_GAUGES`].
    pub name: String,
}

/// What belongs to an actor beside its steps.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Resources {
    /// The processes of its command.
    Usage,
    /// The memory of its cgroup.
    Cgroup,
}

/// What is observed in a run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Observation {
    /// The lines of the kernel's log.
    KernelLog,
    /// A gauge over the run, with one of [`GAUGE_FIELDS`].
    Gauge(Gauge, String),
    /// How much a counter of a host rose: its name with the group.
    Counter {
        /// The host.
        host: String,
        /// `TcpExt.TCPAbortOnClose`.
        name: String,
    },
    /// Sockets at the end of the run, or at the time of a sample.
    Sockets {
        /// The sample.
        sample: Option<String>,
        /// Which, and what of them.
        sockets: SocketSet,
    },
    /// What an actor uses at the end of the run, or at the time of a sample.
    Resources {
        /// The sample.
        sample: Option<String>,
        /// The actor.
        actor: String,
        /// Of what.
        of: Resources,
        /// One of [`USAGE_FIELDS`] or [`CGROUP_FIELDS`].
        field: String,
    },
    /// What a step observed.
    Step {
        /// The actor, or `lab`.
        list: String,
        /// The step.
        step: String,
        /// The field.
        field: Field,
        /// Of [`Field::Errors`], which.
        errno: Option<String>,
    },
    /// The time of one execution of a step: `LIST.STEP.ms.WHICH`.
    StepTime {
        /// The actor, or `lab`.
        list: String,
        /// The step.
        step: String,
        /// Which execution.
        which: Which,
    },
    /// Packets on the link of a host, or when the first or the last of them passed.
    Packets {
        /// Which.
        passed: Passed,
        /// `first_ms` or `last_ms`; without one, how many.
        time: Option<String>,
    },
    /// How often the kernel told of an event: of a host, or of an actor's own process.
    Events {
        /// The host or the actor.
        owner: String,
        /// Of which kind.
        kind: EventKind,
    },
    /// How an actor ended.
    ExitStatus(String),
    /// What a command printed.
    Output(String),
}

/// One of the executions of a step.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Which {
    /// The shortest.
    Min,
    /// The longest.
    Max,
    /// The last.
    Last,
    /// By its number, from 1.
    Number(usize),
}

impl Which {
    /// What names the executions of a step of which the times are kept.
    pub const NAMES: &str = "min, max, last, or a number from 1 to 100";

    /// Reads one of [`Which::NAMES`].
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "min" => Some(Self::Min),
            "max" => Some(Self::Max),
            "last" => Some(Self::Last),
            number => {
                let number = number.parse().ok()?;
                (1..=100).contains(&number).then_some(Self::Number(number))
            }
        }
    }

    /// Of the times of all executions, that of this one.
    pub fn of(self, times: &[f64]) -> Option<f64> {
        let times_in_order = times.iter().copied();
        match self {
            Self::Min => times_in_order.reduce(f64::min),
            Self::Max => times_in_order.reduce(f64::max),
            Self::Last => times.last().copied(),
            Self::Number(number) => times.get(number - 1).copied(),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Min => f.write_str("min"),
            Self::Max => f.write_str("max"),
            Self::Last => f.write_str("last"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A kind of event of the kernel.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum EventKind {
    /// `resets.sent.REASON`
    ResetSent(String),
    /// `resets.received`
    ResetReceived,
    /// `drops.REASON`
    Drop(String),
}

impl EventKind {
    /// Reads what comes after the host or the actor; `None` where it is something else.
    pub fn parse(rest: &str) -> Option<Result<Self, Unknown>> {
        if rest == "resets.received" {
            return Some(Ok(Self::ResetReceived));
        }
        if let Some(reason) = rest.strip_prefix("resets.sent.") {
            let known: Vec<&str> = RESET_REASONS.iter().map(|(name, _)| *name).collect();
            return Some(Self::of_reason(reason, &known, "reset").map(Self::ResetSent));
        }
        if let Some(reason) = rest.strip_prefix("drops.") {
            return Some(Self::of_reason(reason, DROP_REASONS, "drop").map(Self::Drop));
        }
        rest.starts_with("resets.").then(|| {
            Err(Unknown::new(
                format!("there is no {rest:?}"),
                "resets.sent.REASON, resets.received, drops.REASON",
            ))
        })
    }

    fn of_reason(reason: &str, known: &[&str], what: &str) -> Result<String, Unknown> {
        if known.contains(&reason) {
            return Ok(reason.to_owned());
        }
        let message = format!("unknown reason {reason:?} of a {what}");
        Err(Unknown::no_such(&message, reason, known))
    }

    /// From which release on the kernel tells of it.
    pub fn since(&self) -> Release {
        match self {
            Self::ResetReceived => Release::new(4, 15),
            Self::ResetSent(reason) => RESET_REASONS
                .iter()
                .find(|(name, _)| name == reason)
                .map_or(Release::new(6, 12), |(_, since)| *since),
            Self::Drop(reason) => drop_reason_since(reason),
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResetSent(reason) => write!(f, "resets.sent.{reason}"),
            Self::ResetReceived => f.write_str("resets.received"),
            Self::Drop(reason) => write!(f, "drops.{reason}"),
        }
    }
}

/// What a name means when a run didn't produce it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Absent {
    /// A count that nothing raised: 0.
    Zero,
    /// 0 where this other observation is there, unknown else.
    ZeroWhere(Observation),
    /// It wasn't observed.
    Unknown,
}

/// Why nothing can produce an observation, and what can be observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unknown {
    /// What is wrong with the name.
    pub message: String,
    /// What there is.
    pub hint: String,
}

impl Unknown {
    /// An error with a hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// An error for a name that isn't one of those there are.
    pub fn no_such(message: &str, name: &str, known: &[&str]) -> Self {
        let likely = did_you_mean(name, known.iter().copied());
        Self::new(
            format!("{message}{likely}"),
            format!("known: {}", known.join(", ")),
        )
    }
}

impl Observation {
    /// What it means that a run has no such value.
    pub fn when_absent(&self) -> Absent {
        match self {
            Self::Counter { .. } | Self::Events { .. } | Self::Packets { time: None, .. } => {
                Absent::Zero
            }
            Self::Sockets { sockets, .. } if sockets.field.is_none() => Absent::Zero,
            Self::Step {
                list,
                step,
                field: Field::Ok | Field::Errors | Field::Count | Field::NonzeroBytes,
                ..
            } => Absent::ZeroWhere(Self::Step {
                list: list.clone(),
                step: step.clone(),
                field: Field::Ms,
                errno: None,
            }),
            _ => Absent::Unknown,
        }
    }

    /// Whether it is of the whole kernel, where others of the machine show.
    pub fn is_of_kernel(&self) -> bool {
        match self {
            Self::KernelLog => true,
            Self::Gauge(gauge, _) => gauge.host.is_none(),
            _ => false,
        }
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sampled = |f: &mut fmt::Formatter<'_>, sample: &Option<String>| match sample {
            Some(sample) => write!(f, "{sample}."),
            None => Ok(()),
        };
        match self {
            Self::KernelLog => f.write_str("kernel.log"),
            Self::Gauge(gauge, field) => write!(f, "{gauge}.{field}"),
            Self::Counter { host, name } => write!(f, "{host}.{name}"),
            Self::Sockets { sample, sockets } => {
                sampled(f, sample)?;
                sockets.fmt(f)
            }
            Self::Resources {
                sample,
                actor,
                of,
                field,
            } => {
                sampled(f, sample)?;
                let of = match of {
                    Resources::Usage => "usage",
                    Resources::Cgroup => "cgroup",
                };
                write!(f, "{actor}.{of}.{field}")
            }
            Self::Step {
                list,
                step,
                field,
                errno,
            } => {
                write!(f, "{list}.{step}.{}", field.as_str())?;
                errno.iter().try_for_each(|errno| write!(f, ".{errno}"))
            }
            Self::Packets { passed, time } => {
                write!(f, "{passed}")?;
                time.iter().try_for_each(|time| write!(f, ".{time}"))
            }
            Self::StepTime { list, step, which } => write!(f, "{list}.{step}.ms.{which}"),
            Self::Events { owner, kind } => write!(f, "{owner}.{kind}"),
            Self::ExitStatus(actor) => write!(f, "{actor}.exit.status"),
            Self::Output(actor) => write!(f, "{actor}.output"),
        }
    }
}

impl fmt::Display for SocketSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) => write!(f, "{}.peers.{peer}.{}", self.host, self.state)?,
            None => write!(f, "{}.sockets.{}", self.host, self.state)?,
        }
        self.field
            .iter()
            .try_for_each(|field| write!(f, ".{field}"))
    }
}

impl fmt::Display for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.host.as_deref().unwrap_or("kernel");
        write!(f, "{owner}.sockstat.{}", self.name)
    }
}

impl SocketSet {
    /// Reads what comes after the host: `sockets.STATE`, `peers.HOST.STATE`, either with
    /// a field. `None` where it is something else.
    pub fn parse(host: &str, rest: &str) -> Option<Result<Self, Unknown>> {
        let (peer, sockets) = match rest.strip_prefix("peers.") {
            Some(rest) => {
                let (peer, sockets) = rest.split_once('.').unwrap_or((rest, ""));
                (Some(peer.to_owned()), sockets)
            }
            None => (None, rest.strip_prefix("sockets.")?),
        };
        let (state, field) = match sockets.split_once('.') {
            Some((state, field)) => (state, Some(field)),
            None => (sockets, None),
        };
        if !STATES.contains(&state) {
            let message = format!("unknown TCP state {state:?}");
            return Some(Err(Unknown::no_such(&message, state, STATES)));
        }
        if let Some(field) = field.filter(|field| !SOCKET_FIELDS.contains(field)) {
            let message = format!("unknown field {field:?} of a socket");
            return Some(Err(Unknown::no_such(&message, field, SOCKET_FIELDS)));
        }
        Some(Ok(Self {
            host: host.to_owned(),
            peer,
            state: state.to_owned(),
            field: field.map(str::to_owned),
        }))
    }
}

impl Gauge {
    /// Reads the name of a gauge; `host` is `None` for the kernel.
    pub fn parse(host: Option<&str>, name: &str) -> Result<Self, Unknown> {
        let known = match host {
            Some(_) => HOST_GAUGES,
            None => KERNEL_GAUGES,
        };
        if known.contains(&name) {
            return Ok(Self {
                host: host.map(str::to_owned),
                name: name.to_owned(),
            });
        }
        if KERNEL_GAUGES.contains(&name) {
            return Err(Unknown::new(
                format!("{name} is the whole kernel's, not a host's"),
                format!("kernel.sockstat.{name}"),
            ));
        }
        let owner = host.map_or("the kernel", |_| "a host");
        Err(Unknown::no_such(
            &format!("{owner} has no gauge {name:?}"),
            name,
            known,
        ))
    }
}

/// What a step can watch while the run goes on: sockets, or a gauge as it is now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Watched {
    /// Sockets of a host.
    Sockets(SocketSet),
    /// A gauge.
    Gauge(Gauge),
}

impl Watched {
    /// Reads `HOST.sockets.STATE`, `HOST.peers.HOST.STATE`, `HOST.sockstat.GAUGE` or
    /// `kernel.sockstat.GAUGE`.
    pub fn parse(text: &str) -> Result<Self, Unknown> {
        let named =
            |unknown: Unknown| Unknown::new(format!("{text}: {}", unknown.message), unknown.hint);
        let (owner, rest) = text.split_once('.').unwrap_or((text, ""));
        if let Some(gauge) = rest.strip_prefix("sockstat.") {
            let host = Some(owner).filter(|owner| *owner != "kernel");
            return Gauge::parse(host, gauge).map(Self::Gauge).map_err(named);
        }
        match SocketSet::parse(owner, rest) {
            Some(sockets) => sockets.map(Self::Sockets).map_err(named),
            None => Err(Unknown::new(
                format!("until can't watch {text:?}"),
                "HOST.sockets.STATE, HOST.peers.HOST.STATE, either with .FIELD, \
                 HOST.sockstat.GAUGE or kernel.sockstat.GAUGE",
            )),
        }
    }

    /// The hosts in it.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let (host, peer) = match self {
            Self::Sockets(sockets) => (Some(&sockets.host), sockets.peer.as_ref()),
            Self::Gauge(gauge) => (gauge.host.as_ref(), None),
        };
        host.into_iter().chain(peer).map(String::as_str)
    }

    /// Whether it is of the whole kernel, where others of the machine show.
    pub fn is_of_kernel(&self) -> bool {
        matches!(self, Self::Gauge(gauge) if gauge.host.is_none())
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sockets(sockets) => sockets.fmt(f),
            Self::Gauge(gauge) => gauge.fmt(f),
        }
    }
}

impl Serialize for Watched {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Watched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = crate::yaml::value::Words::deserialize(deserializer)?;
        Self::parse(&text).map_err(|unknown| {
            serde::de::Error::custom(crate::yaml::reader::problem(unknown.message, &unknown.hint))
        })
    }
}

crate::yaml::value::inline_schema!(Watched);
