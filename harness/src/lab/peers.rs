//! Peers that are packets: a thread answers for them in user space, from a host's device,
//! so that they charge no memory, no orphans and no TIME_WAIT to the kernel under test.
//!
//! The host gives up its address, so that its kernel drops what comes for the peers. It
//! must not be the host under test.

mod connection;
mod segment;

use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::time::TimeSpec;

use super::relay::{receive_socket, send_socket};
use super::topology::{ETH0, Position};
use crate::errno;
pub use connection::Manner;
use connection::{Connection, End};
use segment::{ACK, Mac, RST, SYN, Segment, answer_arp};

/// The first port that a peer calls from.
const FIRST_PORT: u16 = 1024;
/// Bytes of a frame that are looked at: all headers, with their options.
const HEADERS: usize = 256;
/// Frames on their way at a time, so that the host's queue holds them.
const RETRIES: u32 = 1000;

/// A connection by its two ends: the peer's and the host's.
type Ends = (SocketAddrV4, SocketAddrV4);

/// A running responder.
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    wake: EventFd,
    start: Instant,
    send: OwnedFd,
    /// The first address of the peers.
    first: Ipv4Addr,
    own: Mac,
    gateway: Mac,
}

#[derive(Default)]
struct State {
    connections: HashMap<Ends, (Connection, usize)>,
    groups: Vec<Group>,
    /// What is on its way, by the time of arrival.
    outbox: BinaryHeap<Departure>,
    sent: u64,
    /// No connection has something to do before that; `None` where none has.
    next_due: Option<Duration>,
    /// Calls so far, from which each gets ends of its own.
    calls: u32,
    failed: Option<Errno>,
}

/// Peers under one name.
struct Group {
    name: String,
    /// The port that they answer on; `None` of those that call.
    port: Option<u16>,
    manner: Manner,
    is_gone: bool,
    ended: HashMap<u8, u64>,
    received_by_ended: u64,
}

/// A frame that departs at its time; the earliest is the greatest.
#[derive(Eq, PartialEq)]
struct Departure {
    at: Duration,
    number: u64,
    segment: SegmentToSend,
}

#[derive(Eq, PartialEq)]
struct SegmentToSend(Vec<u8>);

impl Ord for Departure {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Departure {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Calls of peers to the host.
#[derive(Clone, Debug)]
pub struct Calls<'a> {
    /// The name of the peers.
    pub group: &'a str,
    /// Whom they call.
    pub to: SocketAddrV4,
    /// How many.
    pub count: u64,
    /// From how many addresses.
    pub addresses: u16,
    /// The pause between two.
    pub every: Duration,
    /// How they behave.
    pub manner: Manner,
    /// What each sends, in bytes.
    pub sends: u64,
    /// What each waits for, in bytes.
    pub awaits: u64,
    /// How long each waits.
    pub timeout: Duration,
}

/// What peers are to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order {
    /// To send so many bytes.
    pub send: u64,
    /// To close.
    pub close: bool,
    /// To reset.
    pub reset: bool,
    /// To answer nothing any more.
    pub vanish: bool,
}

/// What peers saw.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PeerCounts {
    /// Connections that are open, or were closed by both sides.
    pub well: u64,
    /// Connections that the host reset.
    pub reset: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls, or data, that were not answered.
    pub timed_out: u64,
    /// Bytes that came.
    pub bytes: u64,
}

impl Peers {
    /// Starts them in the network namespace of the calling thread, which is that of the
    /// host with this address. Needs CAP_NET_RAW and CAP_NET_ADMIN.
    pub fn start(address: Ipv4Addr) -> io::Result<Self> {
        let receive = receive_socket(ETH0)?;
        let send = send_socket(ETH0)?;
        give_up_address()?;
        let [_, _, number, _] = address.octets();
        let position = Position::new(usize::from(number).saturating_sub(1));
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            start: Instant::now(),
            send,
            first: address,
            own: position.host_mac(),
            gateway: position.router_mac(),
        });
        let carried = Arc::clone(&shared);
        thread::Builder::new()
            .name("peers".to_owned())
            .spawn(move || {
                if let Err(errno) = carried.carry(&receive) {
                    carried.lock().failed = Some(errno);
                    carried.changed.notify_all();
                }
            })?;
        Ok(Self { shared })
    }

    /// Answers connections to a port from now on.
    pub fn answer(&self, name: &str, port: u16, manner: Manner) {
        self.shared
            .lock()
            .groups
            .push(Group::new(name, Some(port), manner));
    }

    /// Calls the host, and waits until each call has what it waits for.
    pub fn call(&self, calls: &Calls<'_>) -> Vec<io::Result<()>> {
        let shared = &*self.shared;
        let mut ends = Vec::new();
        for _ in 0..calls.count {
            let mut state = shared.lock();
            let group = state.group(calls.group, calls.manner);
            let peer = shared.next_caller(&mut state, calls.addresses);
            let mut out = Vec::new();
            let now = shared.start.elapsed();
            let connection =
                Connection::call(peer, calls.to, calls.manner, calls.sends, now, &mut out);
            state.post(shared, &out, calls.manner.rtt, now);
            state.expect(connection.next_event());
            state
                .connections
                .insert((peer, calls.to), (connection, group));
            drop(state);
            self.wake();
            ends.push(((peer, calls.to), Instant::now() + calls.timeout));
            if !calls.every.is_zero() {
                thread::sleep(calls.every);
            }
        }
        ends.into_iter()
            .map(|(ends, until)| shared.wait_for(ends, calls.awaits, until))
            .collect()
    }

    /// Has peers do something.
    pub fn change(&self, name: &str, change: Order) {
        let shared = &*self.shared;
        let mut state = shared.lock();
        let now = shared.start.elapsed();
        let mut out = Vec::new();
        let State {
            connections,
            groups,
            next_due,
            ..
        } = &mut *state;
        for group in groups.iter_mut().filter(|group| group.name == name) {
            group.is_gone |= change.vanish;
        }
        for (connection, group) in connections.values_mut() {
            if groups[*group].name != name {
                continue;
            }
            if change.send > 0 || change.close {
                connection.send(change.send, change.close, now, &mut out);
            }
            if change.reset {
                connection.reset(&mut out);
            }
            connection.vanished |= change.vanish;
            *next_due = earlier(*next_due, connection.next_event());
        }
        state.post(shared, &out, Duration::ZERO, now);
        drop(state);
        self.wake();
    }

    /// What peers have seen so far.
    pub fn tally(&self, name: &str) -> PeerCounts {
        let state = self.shared.lock();
        let mut tally = PeerCounts::default();
        for (index, group) in state.groups.iter().enumerate() {
            if group.name != name {
                continue;
            }
            tally.bytes += group.received_by_ended;
            for (end, count) in &group.ended {
                tally.count(end_of(*end), *count);
            }
            for (connection, of) in state.connections.values() {
                if *of == index {
                    tally.bytes += connection.received;
                    tally.count(connection.end, 1);
                }
            }
        }
        tally
    }

    fn wake(&self) {
        // A full counter has woken the thread already.
        let _ = self.shared.wake.write(1);
    }
}

impl PeerCounts {
    fn count(&mut self, end: Option<End>, count: u64) {
        *match end {
            None | Some(End::Closed) => &mut self.well,
            Some(End::Reset) => &mut self.reset,
            Some(End::Refused) => &mut self.refused,
            Some(End::TimedOut) => &mut self.timed_out,
        } += count;
    }
}

const ENDS: [End; 4] = [End::Closed, End::Reset, End::Refused, End::TimedOut];

fn end_of(number: u8) -> Option<End> {
    ENDS.get(usize::from(number)).copied()
}

impl Group {
    fn new(name: &str, port: Option<u16>, manner: Manner) -> Self {
        Self {
            name: name.to_owned(),
            port,
            manner,
            is_gone: false,
            ended: HashMap::new(),
            received_by_ended: 0,
        }
    }
}

impl State {
    /// The group of callers under a name.
    fn group(&mut self, name: &str, manner: Manner) -> usize {
        let mut groups = self.groups.iter();
        groups
            .position(|group| group.name == name && group.port.is_none())
            .unwrap_or_else(|| {
                self.groups.push(Group::new(name, None, manner));
                self.groups.len() - 1
            })
    }

    /// Sends segments so much later.
    fn post(&mut self, shared: &Shared, segments: &[Segment], delay: Duration, now: Duration) {
        for segment in segments {
            let frame = segment.encode(shared.own, shared.gateway);
            self.sent += 1;
            self.outbox.push(Departure {
                at: now + delay,
                number: self.sent,
                segment: SegmentToSend(frame),
            });
        }
    }

    /// Something is to be done at that time.
    fn expect(&mut self, event: Option<Duration>) {
        self.next_due = earlier(self.next_due, event);
    }

    /// Forgets a connection that has ended and nobody waits for: only how it ended.
    fn bury(&mut self, ends: Ends) {
        if let Some((connection, group)) = self.connections.remove(&ends) {
            let group = &mut self.groups[group];
            group.received_by_ended += connection.received;
            if let Some(end) = connection.end {
                let number = ENDS.iter().position(|known| *known == end);
                let number = number.and_then(|number| u8::try_from(number).ok());
                *group.ended.entry(number.unwrap_or(0)).or_default() += 1;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next address and port that a peer calls from.
    fn next_caller(&self, state: &mut State, addresses: u16) -> SocketAddrV4 {
        let [a, b, c, first] = self.first.octets();
        let number = state.calls;
        state.calls += 1;
        let addresses = u32::from(addresses.max(1));
        let last = u32::from(first) + number % addresses;
        // Each has a port of its own, whatever the number of addresses.
        let port = u32::from(FIRST_PORT) + number % u32::from(u16::MAX - FIRST_PORT);
        let last = u8::try_from(last).unwrap_or(u8::MAX - 1);
        let port = u16::try_from(port).unwrap_or(FIRST_PORT);
        SocketAddrV4::new(Ipv4Addr::new(a, b, c, last), port)
    }

    fn wait_for(&self, ends: Ends, bytes: u64, until: Instant) -> io::Result<()> {
        let failed = |number| Err(io::Error::from_raw_os_error(number));
        let mut state = self.lock();
        loop {
            if let Some(errno) = state.failed {
                return Err(errno.into());
            }
            let Some((connection, _)) = state.connections.get(&ends) else {
                return failed(libc::ECONNRESET);
            };
            if connection.is_open() && connection.received >= bytes {
                return Ok(());
            }
            match connection.end {
                Some(End::Refused) => return failed(libc::ECONNREFUSED),
                Some(End::Reset) => return failed(libc::ECONNRESET),
                Some(End::TimedOut) => return failed(libc::ETIMEDOUT),
                // It closed before all had come.
                Some(End::Closed) => return failed(libc::ENODATA),
                None => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(errno::late());
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Answers until the process ends.
    fn carry(&self, receive: &OwnedFd) -> nix::Result<()> {
        let mut buffer = [0; HEADERS];
        loop {
            let next = self.send_due()?;
            let wait = next.map(|at| at.saturating_sub(self.start.elapsed()));
            let mut polled = [
                PollFd::new(receive.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            ];
            match ppoll(&mut polled, wait.map(TimeSpec::from_duration), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            let _ = self.wake.read();
            loop {
                match recv(receive.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    Ok(length) => self.take(&buffer[..length]),
                    Err(Errno::EAGAIN) => break,
                    Err(Errno::EINTR | Errno::ENETDOWN) => {}
                    Err(errno) => return Err(errno),
                }
            }
            self.changed.notify_all();
        }
    }

    /// Takes a frame.
    fn take(&self, frame: &[u8]) {
        let mut state = self.lock();
        let now = self.start.elapsed();
        let [a, b, c, _] = self.first.octets();
        if let Some(answer) = answer_arp(frame, [a, b, c], self.own) {
            state.sent += 1;
            let number = state.sent;
            state.outbox.push(Departure {
                at: now,
                number,
                segment: SegmentToSend(answer),
            });
            return;
        }
        let Some(segment) = Segment::decode(frame) else {
            return;
        };
        let ends = (segment.to, segment.from);
        let mut out = Vec::new();
        let mut delay = Duration::ZERO;
        let is_over = |(connection, _): &(Connection, usize)| connection.end.is_some();
        // Ports are used again.
        if segment.has(SYN)
            && !segment.has(ACK)
            && state.connections.get(&ends).is_some_and(is_over)
        {
            state.bury(ends);
        }
        if let Some((connection, _)) = state.connections.get_mut(&ends) {
            connection.take(&segment, now, &mut out);
            delay = connection.rtt();
            let event = connection.next_event();
            state.expect(event);
        } else if segment.has(SYN) && !segment.has(ACK) {
            let port = segment.to.port();
            let mut groups = state.groups.iter();
            match groups.position(|group| group.port == Some(port)) {
                Some(index) if state.groups[index].is_gone => {}
                Some(index) => {
                    let manner = state.groups[index].manner;
                    let connection = Connection::answer(&segment, manner, now, &mut out);
                    delay = manner.rtt;
                    state.expect(connection.next_event());
                    state.connections.insert(ends, (connection, index));
                }
                None => out.push(refusal(&segment)),
            }
        } else if !segment.has(RST) {
            out.push(refusal(&segment));
        }
        state.post(self, &out, delay, now);
    }

    /// Sends what is due, and says when something is next.
    fn send_due(&self) -> nix::Result<Option<Duration>> {
        let mut state = self.lock();
        let now = self.start.elapsed();
        if state.next_due.is_some_and(|at| at <= now) {
            let mut late = Vec::new();
            let mut next = None;
            for (connection, _) in state.connections.values_mut() {
                if connection.next_event().is_some_and(|at| at <= now) {
                    let mut out = Vec::new();
                    connection.tick(now, &mut out);
                    late.push((out, connection.rtt()));
                }
                next = earlier(next, connection.next_event());
            }
            state.next_due = next;
            for (out, delay) in late {
                state.post(self, &out, delay, now);
            }
        }
        while state.outbox.peek().is_some_and(|first| first.at <= now) {
            if let Some(Departure {
                segment: SegmentToSend(frame),
                ..
            }) = state.outbox.pop()
            {
                send_patiently(&self.send, &frame)?;
            }
        }
        let departure = state.outbox.peek().map(|first| first.at);
        Ok(earlier(state.next_due, departure))
    }
}

/// The earlier of two times, of which there may be none.
fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// The reset that answers what belongs to no connection.
fn refusal(segment: &Segment) -> Segment {
    let length = segment.length + u32::from(segment.has(SYN));
    Segment {
        from: segment.to,
        to: segment.from,
        sequence: if segment.has(ACK) {
            segment.acknowledges
        } else {
            0
        },
        acknowledges: segment.sequence.wrapping_add(length),
        flags: RST | ACK,
        window: 0,
        mss: None,
        scale: None,
        timestamps: None,
        length: 0,
    }
}

fn send_patiently(socket: &OwnedFd, frame: &[u8]) -> nix::Result<()> {
    let mut retries = 0;
    loop {
        match send(socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT) {
            // Where the link is down, the packet is lost as any other.
            Ok(_) | Err(Errno::ENETDOWN | Errno::ENXIO) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::ENOBUFS) if retries < RETRIES => {
                retries += 1;
                thread::yield_now();
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// Takes the IPv4 address off eth0 of the calling thread's namespace.
fn give_up_address() -> io::Result<()> {
    // SAFETY: takes no pointers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    Errno::result(socket)?;
    // SAFETY: the descriptor is fresh from socket and nobody else's.
    let socket = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket) };
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"eth0") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_addr.sa_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or(0);
    // SAFETY: the request is an ifreq that outlives the call.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFADDR as libc::Ioctl,
            &raw const request,
        )
    };
    Errno::result(result)?;
    Ok(())
}
