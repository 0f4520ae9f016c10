//! The socket table, read from the kernel by NETLINK_SOCK_DIAG
//! (linux/sock_diag.h, linux/inet_diag.h). Only the dump is used: the request
//! that destroys a socket is not made here.

use std::fmt;
use std::io::{self, BufRead};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use serde::{Deserialize, Serialize};

pub use crate::tcp_info::TcpInfo;

/// A TCP socket, request or TIME_WAIT record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "record::SocketRecord", into = "record::SocketRecord")]
pub struct TcpSocket {
    /// The socket's family. An IPv6 socket may carry IPv4: its addresses are
    /// then of the form `::ffff:192.0.2.1`.
    pub family: Family,
    /// The state.
    pub state: TcpState,
    /// Local address and port.
    pub local: SocketAddr,
    /// The peer's address and port; unspecified and 0 where there is none.
    pub peer: SocketAddr,
    /// The timer that is running.
    pub timer: Timer,
    /// Retransmissions or probes in a row that were not answered.
    pub retransmits: u8,
    /// Time until the timer fires, in milliseconds.
    pub timer_ms: u32,
    /// Bytes received and not yet read; of a listener: connections that wait
    /// for accept().
    pub recv_queue_bytes: u32,
    /// Bytes written and not yet acknowledged; of a listener: its backlog.
    pub send_queue_bytes: u32,
    /// The user that made the socket; 0 for one that no process holds.
    pub uid: u32,
    /// The inode of the descriptor; 0 for a socket that no process holds.
    pub inode: u32,
    /// The interface that it is bound to, by index; 0 is none.
    pub interface: u32,
    /// What tells it from all other sockets of this run of the kernel, as it
    /// came.
    pub cookie: [u8; 8],
    /// What the kernel knows of the connection; requests and TIME_WAIT records
    /// have none.
    pub info: Option<TcpInfo>,
    /// The memory it holds; requests and TIME_WAIT records have none.
    pub memory: Option<SocketMemory>,
    /// The cgroup that it was made in, by the kernel's id: the inode of its
    /// directory under /sys/fs/cgroup (5.9 and later).
    pub cgroup: Option<u64>,
    /// What only the descriptor of its process tells; where that was asked for.
    pub options: Option<SocketOptions>,
}

impl TcpSocket {
    /// The kernel's `struct inet_diag_sockid` of it.
    pub fn id(&self) -> [u8; SOCKID_LEN] {
        let mut id = encode_id(self.local, self.peer);
        id[36..40].copy_from_slice(&self.interface.to_ne_bytes());
        id[40..].copy_from_slice(&self.cookie);
        id
    }

    /// The memory that the kernel holds for it, in bytes: received and not yet
    /// read, written and not yet acknowledged, both with the overhead, and what
    /// waits for the program's lock. Where there is no SKMEMINFO, the data
    /// alone.
    pub fn held_bytes(&self) -> u64 {
        match &self.memory {
            Some(memory) => {
                u64::from(memory.recv_alloc_bytes)
                    + u64::from(memory.send_queued_bytes)
                    + u64::from(memory.backlog_bytes)
            }
            // The queues of a listener are counted in connections.
            None if self.state == TcpState::Listen => 0,
            None => u64::from(self.recv_queue_bytes) + u64::from(self.send_queue_bytes),
        }
    }

    /// Whether it is a socket that its process has closed and the kernel goes on
    /// with: an orphan. The small records of FIN_WAIT2 and TIME_WAIT, which run the
    /// timer of the latter, are none.
    pub fn is_orphan(&self) -> bool {
        self.inode == 0
            && self.timer != Timer::TimeWait
            && matches!(
                self.state,
                TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck
            )
    }

    /// Whether it is a connection that waits for its listener's accept(): it has
    /// no inode yet.
    pub fn waits_for_accept(&self) -> bool {
        self.inode == 0 && matches!(self.state, TcpState::Established | TcpState::CloseWait)
    }
}

/// What only a process's own descriptor of a socket tells (getsockopt).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SocketOptions {
    /// SO_REUSEADDR.
    pub reuse_addr: bool,
    /// SO_KEEPALIVE.
    pub keepalive: bool,
    /// SO_LINGER where it is on: the time, in seconds.
    pub linger_s: Option<i32>,
    /// TCP_USER_TIMEOUT, in milliseconds; 0 is none.
    pub user_timeout_ms: u32,
    /// SO_SNDBUF as it stands, in bytes: twice what the program asked for, or
    /// what the kernel has let it grow to.
    pub send_buffer_bytes: u32,
}

/// An address family.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// AF_INET.
    Inet,
    /// AF_INET6.
    Inet6,
}

impl Family {
    /// The kernel's number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "AF_INET is 2 and AF_INET6 is 10, and the wire has a byte"
    )]
    const fn number(self) -> u8 {
        match self {
            Self::Inet => AddressFamily::Inet as i32 as u8,
            Self::Inet6 => AddressFamily::Inet6 as i32 as u8,
        }
    }
}

/// A state of TCP, in the kernel's words and by its numbers
/// (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum TcpState {
    /// Connected.
    Established = 1,
    /// connect() waits for the peer's answer.
    SynSent,
    /// A request that waits for the last step of the handshake.
    SynRecv,
    /// Closed here, the FIN not yet acknowledged.
    FinWait1,
    /// Closed here, the peer has not closed.
    FinWait2,
    /// Over, held against late segments.
    TimeWait,
    /// Not connected.
    Close,
    /// Closed by the peer, not by the local program.
    CloseWait,
    /// Closed by the peer and here, the FIN not yet acknowledged.
    LastAck,
    /// Listening.
    Listen,
    /// Closed on both sides at once, the FIN not yet acknowledged.
    Closing,
    /// The kernel's own state of a request; shown as SYN_RECV by most kernels.
    NewSynRecv,
}

impl TcpState {
    /// Every state.
    pub const ALL: [Self; 12] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynRecv,
    ];

    /// The state of a number.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        // The numbers begin at 1 and have no gap.
        let state = *Self::ALL.get(usize::from(number).checked_sub(1)?)?;
        debug_assert_eq!(state as u8, number);
        Some(state)
    }

    /// The state that the kernel calls so.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// The kernel's name, `TIME_WAIT`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::NewSynRecv => "NEW_SYN_RECV",
        }
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The timer of a socket.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Timer {
    /// None is running.
    Off,
    /// Retransmission: data is unacknowledged.
    Retransmit,
    /// Keepalive, or the wait of FIN_WAIT2.
    Keepalive,
    /// The 60 seconds of TIME_WAIT.
    TimeWait,
    /// Probes of a peer whose window is closed.
    Probe,
    /// One that a later kernel has, by number.
    Other(u8),
}

impl Timer {
    /// The timer of a number.
    pub(crate) const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Off,
            1 => Self::Retransmit,
            2 => Self::Keepalive,
            3 => Self::TimeWait,
            4 => Self::Probe,
            other => Self::Other(other),
        }
    }

    /// Its number.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Retransmit => 1,
            Self::Keepalive => 2,
            Self::TimeWait => 3,
            Self::Probe => 4,
            Self::Other(other) => other,
        }
    }
}

/// The memory of a socket (INET_DIAG_SKMEMINFO), in bytes.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SocketMemory {
    /// Held by received data, with the kernel's overhead.
    pub recv_alloc_bytes: u32,
    /// SO_RCVBUF as it stands.
    pub recv_buffer_bytes: u32,
    /// Handed to the network device and not yet given back.
    pub send_alloc_bytes: u32,
    /// SO_SNDBUF as it stands.
    pub send_buffer_bytes: u32,
    /// Reserved and not used.
    pub forward_alloc_bytes: i32,
    /// Held by data that is written and not acknowledged, with the overhead.
    pub send_queued_bytes: u32,
    /// Held by options and filters.
    pub option_bytes: u32,
    /// Held by segments that wait while the program has the socket locked.
    pub backlog_bytes: u32,
    /// Segments dropped (4.7 and later).
    pub drops: Option<u32>,
}

/// Why the socket table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SockDiagError {
    /// The kernel gives no such socket.
    #[error("cannot open a sock_diag socket: {0}")]
    Open(#[source] io::Error),
    /// The request could not be sent.
    #[error("cannot ask by sock_diag: {0}")]
    Send(#[source] io::Error),
    /// The answer could not be received.
    #[error("cannot receive the answer of sock_diag: {0}")]
    Receive(#[source] io::Error),
    /// The kernel refused: `ENOENT` where it has no tcp_diag.
    #[error("sock_diag refused: {0}")]
    Refused(#[source] io::Error),
    /// The answer does not have the kernel's form.
    #[error("sock_diag answered what is no socket table: {0}")]
    Malformed(String),
    /// The table changed under each dump.
    #[error("the socket table changed during each of {DUMP_TRIES} dumps")]
    Interrupted,
}

/// How often an interrupted dump is read again. The kernel flags a dump only
/// where its table was replaced under it, so one more is nearly always enough.
const DUMP_TRIES: u32 = 8;

/// Length of `struct inet_diag_sockid`.
pub const SOCKID_LEN: usize = 48;
/// Length of `struct inet_diag_msg`.
const DIAG_MSG_LEN: usize = 24 + SOCKID_LEN;
/// Length of `struct nlmsghdr`.
const HEADER_LEN: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The type of the request and of each answer to it.
const TCPDIAG_GETSOCK: u16 = 18;
/// The type of answers to the request for one family; records have them.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Attribute: `struct tcp_info`.
const INET_DIAG_INFO: u16 = 2;
/// Attribute: the memory.
const INET_DIAG_SKMEMINFO: u16 = 7;
/// Attribute: the cgroup, which comes without being asked for.
const INET_DIAG_CGROUP_ID: u16 = 21;
/// "Any socket" in place of a socket's cookie, INET_DIAG_NOCOOKIE.
pub(crate) const NO_COOKIE: [u8; 8] = [0xff; 8];

/// A way to ask for the sockets of one network namespace.
#[derive(Debug)]
pub struct SockDiag {
    fd: OwnedFd,
    sequence: u32,
}

impl SockDiag {
    /// Opens the way for the network namespace that the calling thread is in;
    /// it stays with that one, whichever thread uses it later.
    pub fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Every TCP socket of the namespace, of IPv4 and of IPv6, in all states.
    pub fn tcp_sockets(&mut self) -> Result<Vec<TcpSocket>, SockDiagError> {
        self.gather(|sockets: &mut Vec<TcpSocket>, socket| sockets.push(socket))
    }

    /// Every TCP socket of the namespace, one after the other, without holding
    /// them: `add` adds one to what is gathered. A dump that was interrupted is
    /// begun anew, and what it had gathered is forgotten.
    pub fn gather<T: Gather>(
        &mut self,
        mut add: impl FnMut(&mut T, TcpSocket),
    ) -> Result<T, SockDiagError> {
        let fd = self.fd.as_raw_fd();
        dump_whole(
            &mut self.sequence,
            |sequence| {
                let request = request(sequence);
                retry(|| send(fd, &request, MsgFlags::empty()))
                    .map(drop)
                    .map_err(SockDiagError::Send)
            },
            |buffer| {
                // MSG_TRUNC gives the whole length, so that a cut is seen.
                retry(|| recv(fd, buffer, MsgFlags::MSG_TRUNC)).map_err(SockDiagError::Receive)
            },
            &mut add,
        )
    }
}

/// A dump that was not interrupted: one that the kernel flags as such is asked
/// for again, and what it had gathered is forgotten.
fn dump_whole<T: Gather>(
    sequence: &mut u32,
    mut ask: impl FnMut(u32) -> Result<(), SockDiagError>,
    mut receive: impl FnMut(&mut [u8]) -> Result<usize, SockDiagError>,
    add: &mut impl FnMut(&mut T, TcpSocket),
) -> Result<T, SockDiagError> {
    for _ in 0..DUMP_TRIES {
        *sequence = sequence.wrapping_add(1);
        ask(*sequence)?;
        let mut gathered = T::default();
        let interrupted = receive_dump(*sequence, &mut receive, &mut |socket| {
            add(&mut gathered, socket);
        })?;
        if !interrupted {
            return Ok(gathered);
        }
    }
    Err(SockDiagError::Interrupted)
}

/// What sockets are gathered into.
pub trait Gather: Default {
    /// Adds what was gathered elsewhere.
    fn absorb(&mut self, other: Self);
}

impl<T> Gather for Vec<T> {
    fn absorb(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else {
            self.extend(other);
        }
    }
}

/// Receives one dump to its end; true where it was interrupted. `receive` gives
/// the length of the next datagram, of which it puts into the buffer what has
/// room there.
fn receive_dump(
    sequence: u32,
    mut receive: impl FnMut(&mut [u8]) -> Result<usize, SockDiagError>,
    each: &mut impl FnMut(TcpSocket),
) -> Result<bool, SockDiagError> {
    // A dump comes in pieces of at most 32 KiB (netlink_dump).
    let mut buffer = vec![0; 64 << 10];
    let mut interrupted = false;
    loop {
        let length = receive(&mut buffer)?;
        let datagram = buffer
            .get(..length)
            .ok_or_else(|| SockDiagError::Malformed(format!("a datagram of {length} bytes")))?;
        let progress = decode_each(datagram, Some(sequence), each)?;
        interrupted |= progress.interrupted;
        if progress.done {
            return Ok(interrupted);
        }
    }
}

/// Repeats a system call that a signal interrupted.
fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// The request for a dump: `struct nlmsghdr`, `struct inet_diag_req`. It is the
/// older of two and the one that is for both families: for each dump the kernel
/// walks the table of all network namespaces.
fn request(sequence: u32) -> Vec<u8> {
    let states: u32 = TcpState::ALL
        .into_iter()
        .map(|state| 1 << state as u32)
        .sum();
    let extensions = 1 << (INET_DIAG_INFO - 1) | 1 << (INET_DIAG_SKMEMINFO - 1);
    let mut request = Vec::new();
    let length = 76_u32;
    request.extend(length.to_ne_bytes());
    request.extend(TCPDIAG_GETSOCK.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend(sequence.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    // The family and the lengths of prefixes, which the kernel does not read.
    request.extend([0, 0, 0, extensions]);
    request.extend([0; SOCKID_LEN]);
    request.extend(states.to_ne_bytes());
    // Tables, which it does not read either.
    request.extend(0_u32.to_ne_bytes());
    debug_assert_eq!(request.len(), 76);
    request
}

/// What a datagram said of the dump that it is part of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Progress {
    /// It was the last.
    pub(crate) done: bool,
    /// The table changed under the dump.
    pub(crate) interrupted: bool,
}

/// Decodes the netlink messages of one datagram and hands over each socket.
/// Messages of another `sequence` belong to a dump that was given up.
pub(crate) fn decode_each(
    datagram: &[u8],
    sequence: Option<u32>,
    each: &mut impl FnMut(TcpSocket),
) -> Result<Progress, SockDiagError> {
    let mut progress = Progress::default();
    let mut rest = Bytes(datagram);
    while !rest.0.is_empty() {
        let length = rest.clone().u32("the length of a message")? as usize;
        let mut message = rest.record(length, HEADER_LEN, "a message")?;
        message.take(4, "the length of a message")?;
        let kind = message.u16("the type of a message")?;
        let flags = message.u16("the flags of a message")?;
        let message_sequence = message.u32("the sequence number of a message")?;
        message.take(4, "the port of a message")?;
        if sequence.is_some_and(|sequence| sequence != message_sequence) {
            continue;
        }
        progress.interrupted |= flags & NLM_F_DUMP_INTR != 0;
        match kind {
            // Both carry an errno, negative, or 0.
            NLMSG_ERROR | NLMSG_DONE => {
                let errno = message.u32("an errno")?.cast_signed();
                if errno != 0 {
                    let error = io::Error::from_raw_os_error(errno.saturating_neg());
                    return Err(SockDiagError::Refused(error));
                }
                progress.done = true;
            }
            TCPDIAG_GETSOCK | SOCK_DIAG_BY_FAMILY => each(decode_socket(message)?),
            // Later kernels may add kinds; none of them is a socket.
            _ => {}
        }
    }
    Ok(progress)
}

/// Decodes `struct inet_diag_msg` and the attributes behind it.
fn decode_socket(mut message: Bytes<'_>) -> Result<TcpSocket, SockDiagError> {
    if message.0.len() < DIAG_MSG_LEN {
        return Err(SockDiagError::Malformed(format!(
            "a socket of {} bytes, where struct inet_diag_msg has {DIAG_MSG_LEN}",
            message.0.len()
        )));
    }
    let family = match message.u8("the family")? {
        number if number == Family::Inet.number() => Family::Inet,
        number if number == Family::Inet6.number() => Family::Inet6,
        number => {
            return Err(SockDiagError::Malformed(format!(
                "a socket of address family {number}"
            )));
        }
    };
    let state = message.u8("the state")?;
    let state = TcpState::from_number(state)
        .ok_or_else(|| SockDiagError::Malformed(format!("a socket in state {state}")))?;
    let timer = Timer::from_number(message.u8("the timer")?);
    let retransmits = message.u8("the retransmissions")?;
    let id = message.array::<SOCKID_LEN>("the socket's id")?;
    let (local, peer, interface, cookie) = decode_id(family, id)?;
    let mut socket = TcpSocket {
        family,
        state,
        local,
        peer,
        timer,
        retransmits,
        timer_ms: message.u32("the timer's time")?,
        recv_queue_bytes: message.u32("the receive queue")?,
        send_queue_bytes: message.u32("the send queue")?,
        uid: message.u32("the user")?,
        inode: message.u32("the inode")?,
        interface,
        cookie,
        info: None,
        memory: None,
        cgroup: None,
        options: None,
    };
    while !message.0.is_empty() {
        let length = usize::from(message.clone().u16("the length of an attribute")?);
        let mut attribute = message.record(length, 4, "an attribute")?;
        attribute.take(2, "the length of an attribute")?;
        match attribute.u16("the type of an attribute")? {
            INET_DIAG_INFO => socket.info = Some(TcpInfo::decode(attribute.0)),
            INET_DIAG_SKMEMINFO => socket.memory = Some(decode_memory(attribute)?),
            INET_DIAG_CGROUP_ID => {
                socket.cgroup = Some(attribute.array("a cgroup's id").map(u64::from_ne_bytes)?);
            }
            _ => {}
        }
    }
    Ok(socket)
}

/// The addresses of a `struct inet_diag_sockid`: ports and addresses in network
/// order, the interface, a cookie.
fn decode_id(
    family: Family,
    id: [u8; SOCKID_LEN],
) -> Result<(SocketAddr, SocketAddr, u32, [u8; 8]), SockDiagError> {
    let mut id = Bytes(&id);
    let ports = [
        u16::from_be_bytes(id.array("the local port")?),
        u16::from_be_bytes(id.array("the peer's port")?),
    ];
    let addresses: [[u8; 16]; 2] = [
        id.array("the local address")?,
        id.array("the peer's address")?,
    ];
    let interface = id.u32("the interface")?;
    let endpoint = |address: [u8; 16], port| match family {
        Family::Inet => {
            let [a, b, c, d, ..] = address;
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
        }
        Family::Inet6 => {
            let address = Ipv6Addr::from(address);
            // Only a link-local address means nothing without its interface.
            let scope = if address.is_unicast_link_local() {
                interface
            } else {
                0
            };
            SocketAddrV6::new(address, port, 0, scope).into()
        }
    };
    Ok((
        endpoint(addresses[0], ports[0]),
        endpoint(addresses[1], ports[1]),
        interface,
        id.array("the cookie")?,
    ))
}

/// The `struct inet_diag_sockid` of two endpoints, with no cookie: it means any
/// socket between them.
fn encode_id(local: SocketAddr, peer: SocketAddr) -> [u8; SOCKID_LEN] {
    let mut id = [0; SOCKID_LEN];
    id[0..2].copy_from_slice(&local.port().to_be_bytes());
    id[2..4].copy_from_slice(&peer.port().to_be_bytes());
    for (address, at) in [(local.ip(), 4), (peer.ip(), 20)] {
        match address {
            IpAddr::V4(address) => id[at..at + 4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => id[at..at + 16].copy_from_slice(&address.octets()),
        }
    }
    id[40..].copy_from_slice(&NO_COOKIE);
    id
}

/// Decodes the array of INET_DIAG_SKMEMINFO (`SK_MEMINFO_*` of
/// linux/sock_diag.h), whose last entries not every kernel gives.
fn decode_memory(mut words: Bytes<'_>) -> Result<SocketMemory, SockDiagError> {
    let what = "the memory of a socket";
    Ok(SocketMemory {
        recv_alloc_bytes: words.u32(what)?,
        recv_buffer_bytes: words.u32(what)?,
        send_alloc_bytes: words.u32(what)?,
        send_buffer_bytes: words.u32(what)?,
        forward_alloc_bytes: words.u32(what)?.cast_signed(),
        send_queued_bytes: words.u32(what)?,
        option_bytes: words.u32(what)?,
        backlog_bytes: words.u32(what)?,
        drops: words.u32(what).ok(),
    })
}

/// Decodes a recorded dump and hands over each socket: a netlink message a line
/// in hexadecimal digits, lines with a `#` in front for people. Only a line at a
/// time is held. The error says which line.
pub fn decode_recorded(
    text: impl BufRead,
    each: &mut impl FnMut(TcpSocket),
) -> Result<(), (usize, String)> {
    let mut text = text.take(0);
    let mut content = Vec::new();
    for line in 1.. {
        content.clear();
        text.set_limit(LINE_LIMIT_BYTES);
        let length = text
            .read_until(b'\n', &mut content)
            .map_err(|error| (line, error.to_string()))?;
        if length == 0 {
            break;
        }
        if length as u64 == LINE_LIMIT_BYTES {
            return Err((line, "longer than any netlink message".to_owned()));
        }
        let content = content.trim_ascii_end();
        if content.starts_with(b"#") {
            continue;
        }
        let message = decode_hex(content).ok_or_else(|| (line, "not hexadecimal".to_owned()))?;
        decode_each(&message, None, each).map_err(|error| (line, error.to_string()))?;
    }
    Ok(())
}

/// The longest line of a recorded dump, in bytes: two digits for each byte of
/// the largest datagram.
const LINE_LIMIT_BYTES: u64 = 128 << 10;

/// The bytes of hexadecimal digits.
fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

/// Bytes that are taken from the front, in the host's byte order.
#[derive(Clone)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], SockDiagError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| {
            SockDiagError::Malformed(format!(
                "{what} is cut off: {} bytes of {length}",
                self.0.len()
            ))
        })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], SockDiagError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u8(&mut self, what: &str) -> Result<u8, SockDiagError> {
        self.array(what).map(u8::from_ne_bytes)
    }

    fn u16(&mut self, what: &str) -> Result<u16, SockDiagError> {
        self.array(what).map(u16::from_ne_bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, SockDiagError> {
        self.array(what).map(u32::from_ne_bytes)
    }

    /// Takes a record that states its own length, and the padding to 4 bytes
    /// behind it, which the last record may lack.
    fn record(&mut self, length: usize, least: usize, what: &str) -> Result<Self, SockDiagError> {
        if length < least {
            return Err(SockDiagError::Malformed(format!(
                "{what} of {length} bytes, where its header has {least}"
            )));
        }
        let record = Self(self.take(length, what)?);
        let padding = length.next_multiple_of(4) - length;
        self.0 = self.0.get(padding..).unwrap_or_default();
        Ok(record)
    }
}

mod record;
#[cfg(test)]
pub(crate) mod tests;
