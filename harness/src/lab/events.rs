//! Events of the kernel during a run, each with the host and the actor that it is of.
//!
//! All labs use the same addresses, and no tracepoint names a network namespace. So an
//! event is a host's only by its socket, which is known when it ends (tcp_destroy_sock has
//! its cookie, and the namespace's own multicast of sock_diag has the same), or by its
//! process, which is in the namespace. In a guest there is one lab, and addresses do.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use advisor_facts::events::{
    DROPPED, Destroyed, Event, RESET_RECEIVED, RESET_SENT, Reader, SOCKET_DESTROYED, Tracepoint,
    What,
};
use advisor_facts::namespaces;
use advisor_report::Value;

use super::address::is_of_host;
use super::namespace::Namespace;
use super::{Lab, LabError};
use crate::observation::{EventKind, Observation, Observations};

/// What is read.
const READ: &[Tracepoint] = &[RESET_SENT, RESET_RECEIVED, DROPPED, SOCKET_DESTROYED];
/// So many events of a CPU are taken at once, and of a run at the most.
const AT_ONCE: usize = 4096;
const AT_MOST: usize = 1 << 20;
/// The kernel tells of sockets that ended a little later.
const LAST_ONES: Duration = Duration::from_millis(500);
/// How far the parents of a process are followed.
const ANCESTORS: usize = 8;

/// An event, and whose process it was.
struct Seen {
    event: Event,
    /// The network namespace that the process was in.
    namespace: Option<u32>,
    /// The process and those above it.
    processes: Vec<u32>,
}

/// Events while a run goes on.
pub struct LabEvents {
    reader: Reader,
    /// For each host.
    destroyed: Vec<Destroyed>,
    seen: Vec<Seen>,
    /// The host of each socket that ended, by its cookie.
    hosts: HashMap<u64, usize>,
    buffer: Vec<Event>,
    lost: u64,
}

/// What the events of a run came to.
pub struct Told {
    /// `HOST.resets.sent.REASON` and the like.
    pub observations: Observations,
    /// Each event of the lab in a line, in order, with the time of CLOCK_MONOTONIC.
    pub lines: Vec<(Duration, String)>,
}

/// Why no events can be had on this kernel by this process; `None` where they can.
pub fn obstacle() -> Option<String> {
    Reader::open(READ).err().map(|error| error.to_string())
}

impl LabEvents {
    /// Begins to read.
    pub fn open(lab: &Lab) -> Result<Self, LabError> {
        let reader = Reader::open(READ).map_err(|error| {
            let hint = error.hint();
            LabError::new("kernel", "read events", std::io::Error::other(error), hint)
        })?;
        let destroyed = lab.hosts().iter().map(|namespace| {
            namespace
                .run(Destroyed::open)
                .and_then(|opened| opened)
                .map_err(|error| {
                    LabError::new(&namespace.host, "be told of sockets that end", error, "")
                })
        });
        Ok(Self {
            reader,
            destroyed: destroyed.collect::<Result<_, _>>()?,
            seen: Vec::new(),
            hosts: HashMap::new(),
            buffer: Vec::new(),
            lost: 0,
        })
    }

    /// Takes what has happened.
    pub fn take(&mut self) {
        loop {
            self.buffer.clear();
            let drained = self.reader.drain(AT_ONCE, &mut self.buffer);
            self.lost += drained.lost;
            for event in self.buffer.drain(..) {
                if self.seen.len() >= AT_MOST {
                    self.lost += 1;
                    continue;
                }
                let pid = event.process.as_ref().map(|process| process.pid);
                self.seen.push(Seen {
                    namespace: pid.and_then(namespaces::of_process),
                    processes: pid.map_or_else(Vec::new, ancestry),
                    event,
                });
            }
            if !drained.more {
                break;
            }
        }
        for (host, destroyed) in self.destroyed.iter_mut().enumerate() {
            let hosts = &mut self.hosts;
            // What doesn't decode is of no use here.
            let _ = destroyed.drain(AT_ONCE, &mut |socket| {
                hosts.insert(u64::from_ne_bytes(socket.cookie), host);
            });
        }
    }

    /// The events of the lab, once its sockets are gone. `actors` are the processes of the
    /// actors by name; `is_alone` where the kernel has no other lab.
    pub fn tell(mut self, lab: &Lab, actors: &[(String, u32)], is_alone: bool) -> Told {
        let end = Instant::now() + LAST_ONES;
        loop {
            self.take();
            let ended = self.ended();
            let waits = |seen: &Seen| {
                let cookie = ended.get(&seen.event.what.socket());
                cookie.is_some_and(|cookie| !self.hosts.contains_key(cookie))
            };
            if Instant::now() >= end || !self.seen.iter().any(waits) {
                break;
            }
            sleep(Duration::from_millis(10));
        }
        self.seen.sort_by_key(|seen| seen.event.at);
        let inodes: Vec<Option<u32>> = lab.hosts().iter().map(inode).collect();
        let mut told = Told {
            observations: Observations::new(),
            lines: Vec::new(),
        };
        let mut unattributed = 0_i64;
        let cookies = self.cookies();
        for (seen, cookie) in self.seen.iter().zip(cookies) {
            let Some(kind) = kind(&seen.event.what) else {
                continue;
            };
            let by_socket = cookie.and_then(|cookie| self.hosts.get(&cookie).copied());
            let by_process = || {
                inodes
                    .iter()
                    .position(|inode| inode.is_some() && *inode == seen.namespace)
            };
            let by_address = || {
                let local = seen.event.what.ends()?.local.ip();
                (1..=inodes.len())
                    .find(|number| is_of_host(local, *number))
                    .map(|number| number - 1)
            };
            let host = by_socket.or_else(by_process);
            let host = host.or_else(|| is_alone.then(by_address).flatten());
            let Some(host) = host else {
                unattributed += 1;
                continue;
            };
            let name = &lab.hosts()[host].host;
            count(&mut told.observations, name, &kind);
            let actor = actors.iter().find(|(_, pid)| seen.processes.contains(pid));
            let mut line = format!("{name}: {kind}");
            if let Some((actor, _)) = actor {
                count(&mut told.observations, actor, &kind);
                line = format!("{line} by {actor}");
            }
            if let Some(ends) = seen.event.what.ends() {
                line = format!("{line} {} -> {}", ends.local, ends.peer);
            }
            told.lines.push((seen.event.at, line));
        }
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

    /// The cookies of sockets that ended, by address; of several at one address the last.
    fn ended(&self) -> HashMap<u64, u64> {
        let ended = self.seen.iter().filter_map(|seen| match seen.event.what {
            What::SocketDestroyed { cookie, socket } => Some((socket, cookie)),
            _ => None,
        });
        ended.collect()
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
