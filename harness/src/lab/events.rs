//! Events of the kernel during a run, each with the host and the actor that it is of.
//!
//! All labs use the same addresses, and no tracepoint names a network namespace. So an
//! event is a host's only by its socket, which is known when it ends (tcp_destroy_sock has
//! its cookie, and the namespace's own multicast of sock_diag has the same), or by its
//! process, which is in the namespace. What is known of a connection by one event, or by
//! the sockets at the end of a run, is known of others about it: its ports are drawn, and so
//! no other lab has it. In a guest there is one lab, and addresses do.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use advisor_facts::events::{
    DROPPED, Destroyed, Ends, Event, RESET_RECEIVED, RESET_SENT, Reader, SOCKET_DESTROYED,
    Tracepoint, What,
};
use advisor_facts::namespaces;
use advisor_report::trace::KernelEvent;
use advisor_report::{SocketLine, Value};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::time::{ClockId, clock_gettime};

use super::address::is_of_host;
use super::namespace::Namespace;
use super::{Lab, LabError};
use crate::observation::{EventKind, Observation, Observations};

/// What is read.
const READ: &[Tracepoint] = &[RESET_SENT, RESET_RECEIVED, DROPPED, SOCKET_DESTROYED];
/// So many events of a CPU are taken at once, and of a run at the most.
const AT_ONCE: usize = 4096;
const AT_MOST: usize = 1 << 20;
/// The kernel tells of sockets that ended a little later, at most by so much, ...
const LAST_ONES: Duration = Duration::from_millis(500);
/// ... which is looked at so often; another CPU may be so much later still.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const ANOTHER_CPU: Duration = Duration::from_millis(5);
/// How far the parents of a process are followed.
const ANCESTORS: usize = 8;

/// An event, and whose process it was.
struct Seen {
    event: Event,
    /// The network namespace that the process was in.
    namespace: Option<u32>,
    /// The process and those above it.
    processes: Arc<[u32]>,
}

/// What the kernel tells this process. Its tracepoints are opened once for all labs: to
/// close one takes the kernel tens of milliseconds.
struct Hub {
    reader: Reader,
    /// What some lab has not taken yet, and the number of the first of it.
    seen: VecDeque<Arc<Seen>>,
    first: u64,
    lost: u64,
    /// For each lab the number of the next event that it takes.
    labs: BTreeMap<u64, u64>,
    next_lab: u64,
    buffer: Vec<Event>,
}

/// It, or why and with what advice it can't be had.
static HUB: OnceLock<Result<Mutex<Hub>, (String, &'static str)>> = OnceLock::new();

fn hub() -> Result<MutexGuard<'static, Hub>, (String, &'static str)> {
    let opened = HUB.get_or_init(|| match Reader::open(READ) {
        Ok(reader) => Ok(Mutex::new(Hub {
            reader,
            seen: VecDeque::new(),
            first: 0,
            lost: 0,
            labs: BTreeMap::new(),
            next_lab: 0,
            buffer: Vec::new(),
        })),
        Err(error) => Err((error.to_string(), error.hint())),
    });
    match opened {
        // A thread that panicked leaves nothing half done that matters.
        Ok(hub) => Ok(hub.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(why) => Err(why.clone()),
    }
}

impl Hub {
    fn end(&self) -> u64 {
        self.first + self.seen.len() as u64
    }

    /// Takes what the kernel has.
    fn take(&mut self) {
        let is_wanted = !self.labs.is_empty();
        // One process may do much at once.
        let mut known: HashMap<u32, (Option<u32>, Arc<[u32]>)> = HashMap::new();
        loop {
            self.buffer.clear();
            let drained = self.reader.drain(AT_ONCE, &mut self.buffer);
            self.lost += drained.lost;
            for event in self.buffer.drain(..).filter(|_| is_wanted) {
                if self.seen.len() >= AT_MOST {
                    self.lost += 1;
                    continue;
                }
                let pid = event.process.as_ref().map(|process| process.pid);
                let look = |pid| (namespaces::of_process(pid), ancestry(pid).into());
                let (namespace, processes) = match pid {
                    Some(pid) => known.entry(pid).or_insert_with(|| look(pid)).clone(),
                    None => (None, Arc::from([])),
                };
                self.seen.push_back(Arc::new(Seen {
                    event,
                    namespace,
                    processes,
                }));
            }
            if !drained.more {
                break;
            }
        }
    }

    /// Forgets what every lab has taken.
    fn forget(&mut self) {
        let end = self.end();
        let kept = self.labs.values().copied().min().unwrap_or(end);
        while self.first < kept && self.seen.pop_front().is_some() {
            self.first += 1;
        }
    }
}

/// Is told of the sockets of a host that end.
struct Ending {
    destroyed: Destroyed,
    /// Whether the kernel had no room for all.
    lost: bool,
}

/// Events while a run goes on.
pub struct LabEvents {
    /// The lab's number at the hub.
    number: u64,
    /// What was lost before.
    lost_before: u64,
    lost: u64,
    /// For each host, where sockets are followed to their end.
    endings: Vec<Ending>,
    seen: Vec<Arc<Seen>>,
    /// The host of each socket that ended, by its cookie.
    hosts: HashMap<u64, usize>,
}

impl Drop for LabEvents {
    fn drop(&mut self) {
        if let Ok(mut hub) = hub() {
            hub.labs.remove(&self.number);
            hub.forget();
        }
    }
}

/// What the events of a run came to.
pub struct Told {
    /// `HOST.resets.sent.REASON` and the like.
    pub observations: Observations,
    /// Each event of the lab, in order, with its time since 1970.
    pub events: Vec<KernelEvent>,
}

/// The clock that events have.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// Why no events can be had on this kernel by this process; `None` where they can.
pub fn obstacle() -> Option<String> {
    hub().err().map(|(why, _)| why)
}

impl LabEvents {
    /// Begins to read. With `to_their_end` sockets are followed to their end, and more events
    /// are known to be the lab's. That costs the kernel a little for each socket, and keeps
    /// the lab's namespaces for a grace period after it is gone.
    pub fn open(lab: &Lab, to_their_end: bool) -> Result<Self, LabError> {
        let hosts = lab.hosts().iter().filter(|_| to_their_end);
        let endings = hosts.map(|namespace| {
            namespace
                .run(Destroyed::open)
                .and_then(|opened| opened)
                .map(|destroyed| Ending {
                    destroyed,
                    lost: false,
                })
                .map_err(|error| {
                    LabError::new(&namespace.host, "be told of sockets that end", error, "")
                })
        });
        let endings = endings.collect::<Result<_, _>>()?;
        let mut hub = hub().map_err(|(why, hint)| {
            LabError::new("kernel", "read events", std::io::Error::other(why), hint)
        })?;
        // What happened before is of no run, or of another.
        hub.take();
        let (number, end) = (hub.next_lab, hub.end());
        hub.next_lab += 1;
        hub.labs.insert(number, end);
        Ok(Self {
            number,
            lost_before: hub.lost,
            lost: 0,
            endings,
            seen: Vec::new(),
            hosts: HashMap::new(),
        })
    }

    /// Takes what has happened.
    pub fn take(&mut self) {
        if let Ok(mut hub) = hub() {
            hub.take();
            let (first, end) = (hub.first, hub.end());
            let from = hub.labs.insert(self.number, end).unwrap_or(end);
            let skipped = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
            self.seen.extend(hub.seen.iter().skip(skipped).cloned());
            self.lost = hub.lost - self.lost_before;
            hub.forget();
        }
        for (host, ending) in self.endings.iter_mut().enumerate() {
            let hosts = &mut self.hosts;
            // What doesn't decode is of no use here.
            let lost = ending.destroyed.drain(AT_ONCE, &mut |socket| {
                hosts.insert(u64::from_ne_bytes(socket.cookie), host);
            });
            ending.lost |= lost.unwrap_or(true);
        }
    }

    /// Takes until the kernel has told of all sockets that have ended so far: it tells a
    /// little later, and of the one last that is made and closed here.
    fn take_all(&mut self, lab: &Lab) {
        if self.endings.is_empty() {
            self.take();
            return;
        }
        let last: Vec<Option<u64>> = lab
            .hosts()
            .iter()
            .map(|namespace| namespace.run(end_a_socket).and_then(|cookie| cookie).ok())
            .collect();
        let end = Instant::now() + LAST_ONES;
        loop {
            self.take();
            let is_known = |(cookie, ending): (&Option<u64>, &Ending)| {
                ending.lost || cookie.is_none_or(|cookie| self.hosts.contains_key(&cookie))
            };
            let all = last.iter().zip(&self.endings).all(is_known);
            sleep(if all { ANOTHER_CPU } else { LOOK_EVERY });
            if all || Instant::now() >= end {
                break;
            }
        }
        self.take();
    }

    /// The events of the lab from one moment of [`now`] to another, once its sockets are
    /// gone: what became of them when the run was over is no part of it. `sockets` are
    /// those that the run ended with; `is_alone` where the kernel has no other lab.
    pub fn tell(
        mut self,
        lab: &Lab,
        during: RangeInclusive<Duration>,
        sockets: &[SocketLine],
        actors: &[RunningActor],
        is_alone: bool,
    ) -> Told {
        self.take_all(lab);
        self.seen.sort_by_key(|seen| seen.event.at);
        let inodes: Vec<Option<u32>> = lab.hosts().iter().map(inode).collect();
        let mut told = Told {
            observations: Observations::new(),
            events: Vec::new(),
        };
        let real = clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from);
        let ago = now();
        let mut unattributed = 0_i64;
        let mut known = Known::of(lab, sockets);
        let cookies = self.cookies();
        let hosts: Vec<Option<usize>> = self
            .seen
            .iter()
            .zip(&cookies)
            .map(|(seen, cookie)| {
                let by_socket = cookie.and_then(|cookie| self.hosts.get(&cookie).copied());
                let by_process = || {
                    inodes
                        .iter()
                        .position(|inode| inode.is_some() && *inode == seen.namespace)
                };
                // A process that has ended since has no namespace to look at.
                let by_actor = || {
                    let actor = actor_of(actors, &seen.processes)?;
                    let mut hosts = lab.hosts().iter();
                    hosts.position(|namespace| namespace.host == actor.host)
                };
                let host = by_socket.or_else(by_process).or_else(by_actor);
                let host = host.filter(|host| is_plausible(&seen.event.what, *host));
                known.learn(&seen.event.what, *cookie, host);
                host
            })
            .collect();
        for ((seen, cookie), host) in self.seen.iter().zip(cookies).zip(hosts) {
            let kind = kind(&seen.event.what).filter(|_| during.contains(&seen.event.at));
            let Some(kind) = kind else {
                continue;
            };
            let by_address = || known.host_of(seen.event.what.ends()?.local.ip());
            let found = || known.find(&seen.event.what, cookie);
            let host = host
                .or_else(found)
                .filter(|host| is_plausible(&seen.event.what, *host));
            let host = host.or_else(|| is_alone.then(by_address).flatten());
            let Some(host) = host else {
                unattributed += 1;
                continue;
            };
            let name = &lab.hosts()[host].host;
            count(&mut told.observations, name, &kind);
            let actor = actor_of(actors, &seen.processes).map(|actor| &actor.name);
            if let Some(actor) = actor {
                count(&mut told.observations, actor, &kind);
            }
            let at = real.saturating_sub(ago.saturating_sub(seen.event.at));
            let ends = seen.event.what.ends();
            told.events.push(KernelEvent {
                at_us: u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
                host: name.clone(),
                actor: actor.cloned(),
                what: kind.to_string(),
                connection: ends.map(|ends| format!("{} > {}", ends.local, ends.peer)),
                count: 1,
            });
        }
        causes_first(&mut told.events);
        for (name, count) in [
            ("unattributed", unattributed),
            ("lost", self.lost.cast_signed()),
        ] {
            if count > 0 {
                told.observations
                    .insert(format!("kernel.events.{name}"), count.into());
            }
        }
        told
    }

    /// For each event the cookie of its socket: that of the next socket that ended at its
    /// address.
    fn cookies(&self) -> Vec<Option<u64>> {
        let mut next: HashMap<u64, u64> = HashMap::new();
        let mut cookies: Vec<_> = self
            .seen
            .iter()
            .rev()
            .map(|seen| {
                if let What::SocketDestroyed { cookie, socket } = seen.event.what {
                    next.insert(socket, cookie);
                }
                next.get(&seen.event.what.socket()).copied()
            })
            .collect();
        cookies.reverse();
        cookies
    }
}

/// Whether an event can be of a host: its local end has an address of the host. A socket of
/// this lab may have the place in memory of one of another lab, and a process may be
/// interrupted by packets of another.
fn is_plausible(what: &What, host: usize) -> bool {
    what.ends().is_none_or(|ends| {
        let local = ends.local.ip().to_canonical();
        local.is_loopback() || local.is_unspecified() || is_of_host(local, host + 1)
    })
}

/// Puts a reset that was sent before the one that came of it: the kernel tells of it when it
/// has sent it, and on a link without delay the peer has it by then.
fn causes_first(events: &mut [KernelEvent]) {
    const AT_ONCE_US: u64 = 1000;
    for place in 1..events.len() {
        let sent = &events[place];
        let Some(connection) = &sent.connection else {
            continue;
        };
        let Some((local, peer)) = connection.split_once(" > ") else {
            continue;
        };
        if !sent.what.starts_with("resets.sent.") {
            continue;
        }
        let back = format!("{peer} > {local}");
        let came = events[..place].iter().rposition(|event| {
            event.what == "resets.received"
                && event.connection.as_ref() == Some(&back)
                && sent.at_us.saturating_sub(event.at_us) < AT_ONCE_US
        });
        if let Some(came) = came {
            events[place].at_us = events[came].at_us;
            events[came..=place].rotate_right(1);
        }
    }
}

/// An actor of a run and its process.
#[derive(Clone, Debug)]
pub struct RunningActor {
    /// Its name in the suite.
    pub name: String,
    /// The host that it is on.
    pub host: String,
    /// The number of its process.
    pub pid: u32,
}

/// The actor whose process did something, or one above it.
fn actor_of<'a>(actors: &'a [RunningActor], processes: &[u32]) -> Option<&'a RunningActor> {
    actors.iter().find(|actor| processes.contains(&actor.pid))
}

/// Connections and sockets that are known to be the lab's.
struct Known {
    /// How many hosts it has.
    count: usize,
    /// The host of each connection's local end.
    connections: HashMap<Ends, usize>,
    /// By their address in the kernel and the cookie that they ended with: another lab's
    /// socket may have had the address before.
    sockets: HashMap<(u64, Option<u64>), usize>,
}

impl Known {
    /// The sockets that a run ended with.
    fn of(lab: &Lab, sockets: &[SocketLine]) -> Self {
        let mut known = Self {
            count: lab.hosts().len(),
            connections: HashMap::new(),
            sockets: HashMap::new(),
        };
        for socket in sockets {
            let mut hosts = lab.hosts().iter();
            let host = hosts.position(|namespace| namespace.host == socket.host);
            if let (Some(host), Ok(local), Ok(peer)) =
                (host, socket.local.parse(), socket.peer.parse())
            {
                known.add(Ends { local, peer }, host);
            }
        }
        known
    }

    /// The host that has an address.
    fn host_of(&self, address: IpAddr) -> Option<usize> {
        let mut numbers = 1..=self.count;
        let number = numbers.find(|number| is_of_host(address, *number))?;
        Some(number - 1)
    }

    /// What is known of one end is known of the other.
    fn add(&mut self, ends: Ends, host: usize) {
        self.connections.insert(ends, host);
        if let Some(other) = self.host_of(ends.peer.ip()) {
            let back = Ends {
                local: ends.peer,
                peer: ends.local,
            };
            self.connections.insert(back, other);
        }
    }

    /// Learns from an event of a host.
    fn learn(&mut self, what: &What, cookie: Option<u64>, host: Option<usize>) {
        let Some(host) = host else {
            return;
        };
        if what.socket() != 0 {
            self.sockets.insert((what.socket(), cookie), host);
        }
        if let Some(ends) = what.ends() {
            self.add(ends, host);
        }
    }

    /// The host that an event is of, by its connection or its socket.
    fn find(&self, what: &What, cookie: Option<u64>) -> Option<usize> {
        let by_connection = what.ends().and_then(|ends| self.connections.get(&ends));
        by_connection
            .or_else(|| self.sockets.get(&(what.socket(), cookie)))
            .copied()
    }
}

/// The kind of an event that is observed.
fn kind(what: &What) -> Option<EventKind> {
    match what {
        What::ResetSent { reason, .. } => Some(EventKind::ResetSent(
            reason.as_deref().unwrap_or("UNKNOWN").to_owned(),
        )),
        What::ResetReceived { .. } => Some(EventKind::ResetReceived),
        What::Dropped { reason, .. } => Some(EventKind::Drop(reason.to_string())),
        _ => None,
    }
}

fn count(observations: &mut Observations, owner: &str, kind: &EventKind) {
    let observation = Observation::Events {
        owner: owner.to_owned(),
        kind: kind.clone(),
    };
    let value = observations
        .entry(observation.to_string())
        .or_insert(Value::Integer(0));
    if let Value::Integer(number) = value {
        *number += 1;
    }
}

/// Makes a socket in the namespace of the calling thread and ends it; its cookie.
fn end_a_socket() -> std::io::Result<u64> {
    let (family, kind) = (AddressFamily::Inet, SockType::Stream);
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(8);
    // SAFETY: the kernel writes a number of 8 bytes, and its length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(cookie),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The inode of a host's namespace.
fn inode(namespace: &Namespace) -> Option<u32> {
    let stat = nix::sys::stat::fstat(namespace.as_fd()).ok()?;
    u32::try_from(stat.st_ino).ok()
}

/// A process and those above it.
fn ancestry(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    for _ in 0..ANCESTORS {
        let last = all[all.len() - 1];
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{last}/stat")) else {
            break;
        };
        // Behind the name, which may hold anything: state, parent.
        let parent = stat.rsplit(')').next().and_then(|rest| {
            let mut words = rest.split_whitespace();
            words.nth(1)?.parse().ok()
        });
        match parent {
            Some(parent) if parent > 1 => all.push(parent),
            _ => break,
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_socket_of_another_lab_at_the_same_address_is_told_by_its_cookie() {
        let sent = |port: u16| What::ResetSent {
            reason: None,
            state: None,
            ends: Some(Ends {
                local: SocketAddr::from(([10, 0, 1, 2], port)),
                peer: SocketAddr::from(([10, 0, 2, 2], 7000)),
            }),
            socket: 0xf00d,
        };
        let mut known = Known {
            count: 2,
            connections: HashMap::new(),
            sockets: HashMap::new(),
        };
        known.learn(&sent(40_000), Some(7), Some(0));
        assert_eq!(known.find(&sent(41_000), Some(7)), Some(0));
        // Another socket ended there before.
        assert_eq!(known.find(&sent(41_000), Some(6)), None);
        assert_eq!(known.find(&sent(40_000), Some(6)), Some(0));
    }

    #[test]
    fn a_reset_comes_after_it_was_sent() {
        let event = |at_us, what: &str, connection: &str| KernelEvent {
            at_us,
            host: "h".to_owned(),
            actor: None,
            what: what.to_owned(),
            connection: Some(connection.to_owned()),
            count: 1,
        };
        let mut events = [
            event(10, "resets.received", "b:2 > a:1"),
            event(11, "resets.received", "b:2 > a:9"),
            event(17, "resets.sent.X", "a:1 > b:2"),
            event(5000, "resets.sent.X", "a:9 > b:2"),
        ];
        causes_first(&mut events);
        let told: Vec<_> = events
            .iter()
            .map(|one| (one.at_us, &one.what[..]))
            .collect();
        let (sent, came) = ("resets.sent.X", "resets.received");
        assert_eq!(told, [(10, sent), (10, came), (11, came), (5000, sent)]);
    }
}
