//! What happens, from the kernel's events and its log, with the processes named.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use advisor_facts::events::{
    BUFFER_LIMIT, DROPPED_AT_LIMITS, Destroyed, Ends, Event, Log, RESET_RECEIVED,
    RESET_SENT_BY_SOCKET, Reader, Running, Tracepoint, What,
};
use advisor_facts::happened::{At, Kind, Occurrence};
use advisor_facts::namespaces;
use advisor_facts::processes::Process;
use advisor_facts::sock_diag::TcpSocket;
use advisor_facts::{Facts, Unseen};
use nix::time::{ClockId, clock_gettime};

use crate::rules::{LedTo, led_to};

/// The tracepoints that are watched.
const WATCHED: &[Tracepoint] = &[
    RESET_SENT_BY_SOCKET,
    RESET_RECEIVED,
    BUFFER_LIMIT,
    DROPPED_AT_LIMITS,
];

/// So many events of each CPU are taken at once.
const EVENTS: usize = 256;
/// More events of a tracepoint a second than this are too many, and so few let all be taken
/// again, after [`CALM`] ticks. A tick that comes late has more.
const MANY: f64 = 2000.0;
const FEW: f64 = 100.0;
const CALM: u32 = 50;
/// One of so many events is taken at the least.
const THINNEST: u64 = 1 << 14;
/// So many messages about sockets that ended are taken at once, and so many sockets a
/// second are too many.
const ENDINGS: usize = 512;
const MANY_ENDINGS: u32 = 500;
/// Then nobody listens for so long, each time twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Reasons of resets with which a socket keeps its numbers to the end; tcp_disconnect()
/// changes them.
const KEPT: &[&str] = &[
    "TCP_ABORT_ON_CLOSE",
    "TCP_ABORT_ON_MEMORY",
    "TCP_KEEPALIVE_TIMEOUT",
];
/// So many lines of the log are read at once.
const LINES: usize = 200;
/// So many processes are looked up in one tick.
const LOOKUPS: usize = 32;
/// So many processes are remembered, each for so long.
const PROCESSES: usize = 4096;
const REMEMBERED: Duration = Duration::from_secs(20);
/// So many connections are remembered with their process.
const CONNECTIONS: usize = 20_000;

/// Where events come from.
pub(super) struct Sources {
    reader: Option<Reader>,
    log: Option<Log>,
    endings: Option<Endings>,
    events: Vec<Event>,
    known: Known,
    /// For each tracepoint that is thinned, the ticks since it was calm.
    calm: HashMap<&'static str, u32>,
    /// When events were last taken.
    last: Instant,
    unseen: Vec<Unseen>,
}

/// What one tick brought.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) occurrences: Vec<Occurrence>,
    /// Events that the kernel had no room for.
    pub(super) lost: u64,
    /// What is to be said of the watch itself.
    pub(super) notes: Vec<String>,
}

impl Sources {
    /// Opens what can be had; what can't is told by [`Sources::unseen`].
    pub(super) fn open() -> Self {
        let mut unseen = Vec::new();
        let reader = match Reader::open(WATCHED) {
            Ok(reader) => {
                unseen.extend_from_slice(reader.missing());
                if !reader.tells_reset_reasons() {
                    unseen.push(Unseen {
                        what: "why a reset is sent".to_owned(),
                        why: "tcp:tcp_send_reset has no reason before Linux 6.10; the process \
                            that closed is named all the same"
                            .to_owned(),
                    });
                }
                Some(reader)
            }
            Err(error) => {
                unseen.push(Unseen {
                    what: "events of the kernel".to_owned(),
                    why: format!("{error}; {}", error.hint()),
                });
                None
            }
        };
        let log = Log::open().map_err(|error| {
            unseen.push(Unseen {
                what: "new lines of the kernel's log".to_owned(),
                why: format!("/dev/kmsg: {error}"),
            });
        });
        let endings = Endings::open().map_err(|error| {
            unseen.push(Unseen {
                what: "what a socket still held when it ended".to_owned(),
                why: format!("sock_diag: {error}"),
            });
        });
        Self {
            reader,
            log: log.ok(),
            endings: endings.ok(),
            events: Vec::new(),
            known: Known::default(),
            calm: HashMap::new(),
            last: Instant::now(),
            unseen,
        }
    }

    /// What can't be had, and why.
    pub(super) fn unseen(&self) -> &[Unseen] {
        &self.unseen
    }

    /// Whether the kernel gives the reason of a reset that it sends.
    pub(super) fn tells_reset_reasons(&self) -> bool {
        self.reader
            .as_ref()
            .is_some_and(Reader::tells_reset_reasons)
    }

    /// What to poll.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let events = self.reader.iter().flat_map(Reader::descriptors);
        events.chain(self.log.iter().map(|log| log.as_fd()))
    }

    /// Learns who has which port, from a look.
    pub(super) fn learn(&mut self, facts: &Facts) {
        self.known.learn(facts);
    }

    /// Takes what has happened.
    pub(super) fn take(&mut self, now: Instant) -> Taken {
        let mut taken = Taken::default();
        self.known.lookups = 0;
        if let Some(reader) = &mut self.reader {
            self.events.clear();
            let drained = reader.drain(EVENTS, &mut self.events);
            taken.lost = drained.lost;
            let clock = Clock::now();
            for event in &self.events {
                taken
                    .occurrences
                    .push(self.known.occurrence(event, clock, now));
            }
            let since = now.saturating_duration_since(self.last).as_secs_f64();
            self.last = now;
            if let Some(endings) = &mut self.endings {
                endings.take(now, &mut taken);
            }
            thin(reader, since.max(0.05), &mut self.calm, &mut taken.notes);
        }
        if let Some(log) = &mut self.log {
            let at = At::now();
            let mut each = |line: advisor_facts::events::LogLine| {
                if matches!(led_to(&line.text), Some(LedTo::Rule(..))) {
                    taken.occurrences.push(Occurrence {
                        at,
                        kind: Kind::Log,
                        count: 1,
                        reason: Some(line.text),
                        process: None,
                        by_port: false,
                        namespace: None,
                        ends: None,
                        unacknowledged_bytes: 0,
                    });
                }
            };
            match log.drain(LINES, &mut each) {
                Ok(false) => {}
                Ok(true) => taken
                    .notes
                    .push("lines of the kernel's log were overwritten unread".to_owned()),
                Err(error) => {
                    taken.notes.push(format!(
                        "the kernel's log is not followed any more: /dev/kmsg: {error}"
                    ));
                    self.log = None;
                }
            }
        }
        taken
    }
}

/// Sockets that end: how much each had written that the peer had not acknowledged.
struct Endings {
    destroyed: Destroyed,
    /// Until when nobody listens, and how long that is.
    resumes: Option<Instant>,
    pause: Duration,
    /// So many have ended since then.
    count: (u32, Instant),
    /// What sockets that ended a moment ago had not acknowledged.
    left: HashMap<Ends, u64>,
}

impl Endings {
    fn open() -> std::io::Result<Self> {
        let destroyed = Destroyed::open()?;
        // Where that is refused, it is this namespace's alone.
        let _ = destroyed.listen_everywhere();
        Ok(Self {
            destroyed,
            resumes: None,
            pause: SHORTEST_PAUSE,
            count: (0, Instant::now()),
            left: HashMap::new(),
        })
    }

    /// Says of resets what their sockets had not acknowledged. Each socket that ends costs
    /// the kernel some microseconds while somebody listens: where there are many, nobody
    /// does for a while.
    fn take(&mut self, now: Instant, taken: &mut Taken) {
        if self.resumes.is_some_and(|resumes| now < resumes) {
            return;
        }
        if self.resumes.take().is_some() {
            // What is still there is old.
            let _ = self.destroyed.drain(ENDINGS, &mut |_| {});
            if self.destroyed.listen(true).is_err() {
                self.resumes = Some(now + self.pause);
                return;
            }
            self.count = (0, now);
        }
        let mut count = 0;
        let left = &mut self.left;
        left.clear();
        let drained = self.destroyed.drain(ENDINGS, &mut |socket| {
            count += 1;
            if socket.send_queue_bytes > 0 {
                left.insert(plain_ends(&socket), socket.send_queue_bytes.into());
            }
        });
        for one in &mut taken.occurrences {
            let keeps = one
                .reason
                .as_deref()
                .is_some_and(|reason| KEPT.contains(&reason));
            if one.kind == Kind::ResetSent
                && keeps
                && let Some(bytes) = one.ends.and_then(|ends| self.left.get(&ends))
            {
                one.unacknowledged_bytes = *bytes;
            }
        }
        if now.duration_since(self.count.1) > Duration::from_secs(1) {
            self.count = (0, now);
        }
        self.count.0 += count;
        if self.count.0 <= MANY_ENDINGS && drained.is_ok_and(|lost| !lost) {
            return;
        }
        if self.destroyed.listen(false).is_ok() {
            self.resumes = Some(now + self.pause);
            if self.pause == SHORTEST_PAUSE {
                let text = "so many sockets end that what each still held is told only from time \
                            to time";
                taken.notes.push(text.to_owned());
            }
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Takes fewer events of a tracepoint that has too many, and all of one that is calm
/// again.
fn thin(
    reader: &mut Reader,
    since_s: f64,
    calm: &mut HashMap<&'static str, u32>,
    notes: &mut Vec<String>,
) {
    let mut changes = Vec::new();
    for (tracepoint, taken, period) in reader.load() {
        let ticks = calm.entry(tracepoint.name).or_default();
        let taken = f64::from(u32::try_from(taken).unwrap_or(u32::MAX)) / since_s;
        if taken > MANY && period < THINNEST {
            *ticks = 0;
            changes.push((*tracepoint, period * 4));
        } else if period > 1 && taken < FEW {
            *ticks += 1;
            if *ticks > CALM {
                *ticks = 0;
                changes.push((*tracepoint, period / 4));
            }
        } else {
            *ticks = 0;
        }
    }
    for (tracepoint, period) in changes {
        let result = reader.thin(&tracepoint, period);
        notes.push(match (result, period) {
            (Err(error), _) => format!("{} cannot be thinned: {error}", tracepoint.name),
            (Ok(()), 1) => format!("every event of {} is taken again", tracepoint.name),
            (Ok(()), period) => format!(
                "so many events of {} that one of {period} is taken and stands for all",
                tracepoint.name
            ),
        });
    }
}

/// The wall clock beside the one of events.
#[derive(Clone, Copy)]
struct Clock {
    wall: At,
    monotonic: Duration,
}

impl Clock {
    fn now() -> Self {
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC);
        Self {
            wall: At::now(),
            monotonic: monotonic.map_or(Duration::ZERO, Duration::from),
        }
    }

    fn at(self, event: &Event) -> At {
        self.wall.before(self.monotonic.saturating_sub(event.at))
    }
}

/// A process, and the network namespace that it is in.
#[derive(Clone)]
struct Identity {
    process: Process,
    namespace: Option<u32>,
    until: Instant,
}

/// The processes that are known.
#[derive(Default)]
struct Known {
    of_pid: HashMap<u32, Identity>,
    /// By the last look: who listens on a port of which network namespace, ...
    listeners: HashMap<u16, Option<Holder>>,
    /// ... and who has a connection.
    connections: HashMap<Ends, Holder>,
    lookups: usize,
}

/// Who has a port: a process and the inode of its network namespace.
type Holder = (Process, Option<u32>);

impl Known {
    fn learn(&mut self, facts: &Facts) {
        self.listeners.clear();
        self.connections.clear();
        let own = namespaces::own(Path::new("/"));
        for (namespace, socket) in facts.now.every_socket() {
            let Some(process) = facts.processes.of(socket.inode).next() else {
                continue;
            };
            let inode = namespace.map(|namespace| namespace.inode).or(own);
            if socket.state == advisor_facts::sock_diag::TcpState::Listen {
                // With two listeners of one port in two namespaces it is nobody's.
                self.listeners
                    .entry(socket.local.port())
                    .and_modify(|known| {
                        if known.as_ref().is_some_and(|(_, of)| *of != inode) {
                            *known = None;
                        }
                    })
                    .or_insert_with(|| Some((plain(process), inode)));
            } else if self.connections.len() < CONNECTIONS {
                let ends = plain_ends(socket);
                self.connections.insert(ends, (plain(process), inode));
            }
        }
    }

    fn occurrence(&mut self, event: &Event, clock: Clock, now: Instant) -> Occurrence {
        let ends = event.what.ends();
        let mut by_port = false;
        let (process, namespace) = if let Some(running) = &event.process {
            match self.identify(running, now) {
                Some(identity) => (Some(identity.process), identity.namespace),
                None => (None, None),
            }
        } else {
            let holder = ends.and_then(|ends| {
                let connection = self.connections.get(&ends);
                let of_port = || self.listeners.get(&ends.local.port())?.as_ref();
                connection.or_else(of_port).cloned()
            });
            by_port = holder.is_some();
            match holder {
                Some((process, namespace)) => (Some(process), namespace),
                None => (None, None),
            }
        };
        let (kind, reason) = match &event.what {
            What::ResetReceived { .. } => (Kind::ResetReceived, None),
            What::BufferLimit {
                protocol, receives, ..
            } => {
                let direction = if *receives { "received" } else { "sent" };
                (
                    Kind::BufferLimit,
                    Some(format!("{protocol}, data that is {direction}")),
                )
            }
            What::Dropped { reason, .. } => (Kind::Drop, Some(reason.to_string())),
            What::ReceiveQueueFull => (Kind::Drop, Some("SOCKET_RCVBUFF".to_owned())),
            What::ResetSent { reason, .. } => {
                (Kind::ResetSent, reason.as_ref().map(ToString::to_string))
            }
            // These are not watched.
            What::Retransmitted { .. }
            | What::StateChanged { .. }
            | What::SocketDestroyed { .. } => (Kind::ResetSent, None),
        };
        Occurrence {
            at: clock.at(event),
            kind,
            count: event.count,
            reason,
            process,
            by_port,
            namespace,
            ends,
            unacknowledged_bytes: 0,
        }
    }

    /// A process by its number; where it has ended, by the name that it had.
    fn identify(&mut self, running: &Running, now: Instant) -> Option<Identity> {
        if let Some(known) = self.of_pid.get(&running.pid)
            && known.until > now
        {
            return Some(known.clone());
        }
        let read = (self.lookups < LOOKUPS)
            .then(|| {
                self.lookups += 1;
                Process::read(Path::new("/"), running.pid)
            })
            .flatten();
        let is_alive = read.is_some();
        let process = match read {
            Some(process) => plain(&process),
            // It ended before it could be looked at.
            None => match self.of_pid.get(&running.pid) {
                Some(known) => return Some(known.clone()),
                None => Process {
                    pid: running.pid,
                    name: running.name.as_deref()?.to_owned(),
                    ..Process::default()
                },
            },
        };
        let identity = Identity {
            process,
            namespace: is_alive
                .then(|| namespaces::of_process(running.pid))
                .flatten(),
            until: now + REMEMBERED,
        };
        if self.of_pid.len() >= PROCESSES {
            self.of_pid.retain(|_, known| known.until > now);
            if self.of_pid.len() >= PROCESSES {
                self.of_pid.clear();
            }
        }
        self.of_pid.insert(running.pid, identity.clone());
        Some(identity)
    }
}

/// The ends of a socket as events have them.
fn plain_ends(socket: &TcpSocket) -> Ends {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Ends {
        local: plain(socket.local),
        peer: plain(socket.peer),
    }
}

/// A process without its command line, which may carry passwords, and without what
/// changes from moment to moment.
fn plain(process: &Process) -> Process {
    Process {
        command: None,
        open_descriptors: None,
        descriptor_limit: None,
        ..process.clone()
    }
}
