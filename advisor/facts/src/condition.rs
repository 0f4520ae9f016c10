//! In which condition a socket is: who holds it, whether its peer lives, and
//! what ends it. Every command and every rule uses this one answer.
//!
//! Of the peer it goes by the kernel's timer and by tcp_info; which of them tells
//! what was measured: see the scenarios of crash/vanished-peer.

use std::cmp::Reverse;
use std::fmt;

use serde::Serialize;

use crate::sock_diag::{TcpSocket, TcpState, Timer};
use crate::units::{bytes, span};

/// A timer doubled so often has waited 63 timeouts, at least 12 seconds.
pub const DEAD_BACKOFF: u8 = 5;
/// So many probes without an answer are no chance.
pub const DEAD_PROBES: u8 = 3;
/// No acknowledgment for this long, in milliseconds.
pub const SILENT_MS: u32 = 10_000;
/// Data that has waited for this long for the program, in milliseconds.
const UNREAD_MS: u32 = 1_000;
/// More data than this waits for a program that does not keep up, in bytes.
const UNREAD_BYTES: u32 = 64 << 10;
/// What takes longer than this to be sent is sent slowly, in milliseconds.
const SLOW_MS: u64 = 1_000;
/// Without data for this long a connection is idle, in milliseconds.
const IDLE_MS: u32 = 60_000;

/// The condition of a socket.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The peer answers neither data nor probes.
    Dead,
    /// The peer answers, and takes nothing: its window is closed.
    ZeroWindow,
    /// The peer has sent data that the program here does not read.
    Unread,
    /// The peer has closed (CLOSE_WAIT), the program here has not, and has nothing
    /// to send.
    ClosedByPeer,
    /// The program has shut down its half and keeps the descriptor (FIN_WAIT2).
    HalfClosed,
    /// The peer takes the data slower than it is written.
    Slow,
    /// No data has moved for a minute, and none waits. The peer may as well be
    /// dead: nobody has asked it.
    Idle,
    /// None of these: data moves, or did within the last minute.
    Healthy,
    /// connect() waits for the peer's answer (SYN_SENT).
    Connecting,
    /// The connection waits for accept(): no process has it yet.
    NotAccepted,
    /// An orphan whose peer answers neither data nor probes.
    OrphanDead,
    /// An orphan whose peer answers, with its window closed.
    OrphanZeroWindow,
    /// An orphan in FIN_WAIT2: its FIN is acknowledged, the peer has not closed.
    OrphanHalfClosed,
    /// An orphan whose peer still takes the rest, or has only just been sent it.
    OrphanDraining,
    /// An orphan without tcp_info.
    Orphan,
    /// A record of TIME_WAIT, or the small record of FIN_WAIT2: no socket.
    TimeWait,
    /// A listener.
    Listener,
    /// A request whose handshake is not complete (SYN_RECV).
    Request,
    /// A socket that is bound and not connected.
    Unconnected,
    /// There is no tcp_info to tell it by.
    Unknown,
}

impl Condition {
    /// Every condition, the worst first.
    pub const ALL: [Self; 20] = [
        Self::Dead,
        Self::ZeroWindow,
        Self::Unread,
        Self::ClosedByPeer,
        Self::HalfClosed,
        Self::Slow,
        Self::Idle,
        Self::Healthy,
        Self::Connecting,
        Self::NotAccepted,
        Self::OrphanDead,
        Self::OrphanZeroWindow,
        Self::OrphanHalfClosed,
        Self::OrphanDraining,
        Self::Orphan,
        Self::TimeWait,
        Self::Listener,
        Self::Request,
        Self::Unconnected,
        Self::Unknown,
    ];

    /// Its name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::ZeroWindow => "zero window",
            Self::Unread => "unread here",
            Self::ClosedByPeer => "closed by the peer (CLOSE_WAIT)",
            Self::HalfClosed => "half-closed, waits for the peer",
            Self::Slow => "slow",
            Self::Idle => "idle",
            Self::Healthy => "healthy",
            Self::Connecting => "connecting",
            Self::NotAccepted => "waiting for accept()",
            Self::OrphanDead => "orphan with a dead peer",
            Self::OrphanZeroWindow => "orphan at a zero window",
            Self::OrphanHalfClosed => "orphan in FIN_WAIT2",
            Self::OrphanDraining => "orphan still sending",
            Self::Orphan => "orphan",
            Self::TimeWait => "TIME_WAIT record",
            Self::Listener => "listener",
            Self::Request => "request",
            Self::Unconnected => "unconnected",
            Self::Unknown => "unknown",
        }
    }

    /// The condition of a socket.
    pub fn of(socket: &TcpSocket) -> Self {
        if socket.timer == Timer::TimeWait {
            return Self::TimeWait;
        }
        let orphan = socket.is_orphan();
        match socket.state {
            TcpState::Listen => return Self::Listener,
            TcpState::TimeWait => return Self::TimeWait,
            TcpState::SynRecv | TcpState::NewSynRecv => return Self::Request,
            TcpState::Close => return Self::Unconnected,
            TcpState::SynSent => return Self::Connecting,
            TcpState::FinWait2 if orphan => return Self::OrphanHalfClosed,
            _ => {}
        }
        match Answer::of(socket) {
            Some(Answer::None) if orphan => return Self::OrphanDead,
            Some(Answer::None) => return Self::Dead,
            Some(Answer::ClosedWindow) if orphan => return Self::OrphanZeroWindow,
            Some(Answer::ClosedWindow) => return Self::ZeroWindow,
            Some(Answer::Other) if orphan => return Self::OrphanDraining,
            None if orphan => return Self::Orphan,
            Some(Answer::Other) | None => {}
        }
        if socket.waits_for_accept() {
            return Self::NotAccepted;
        }
        if socket.state == TcpState::CloseWait && socket.send_queue_bytes == 0 {
            return Self::ClosedByPeer;
        }
        let Some(info) = &socket.info else {
            return if socket.state == TcpState::FinWait2 {
                Self::HalfClosed
            } else {
                Self::Unknown
            };
        };
        let unread = unread_bytes(socket);
        let waits = info.last_data_recv_ms().is_some_and(|ms| ms >= UNREAD_MS);
        if unread > 0 && (waits || unread >= UNREAD_BYTES) {
            return Self::Unread;
        }
        if socket.state == TcpState::FinWait2 {
            return Self::HalfClosed;
        }
        if socket.send_queue_bytes > 0 {
            let slow = info.backoff().unwrap_or(0) > 0
                || socket.timer == Timer::Probe
                || drain_ms(socket).is_some_and(|ms| ms >= SLOW_MS);
            return if slow { Self::Slow } else { Self::Healthy };
        }
        let still = [info.last_data_sent_ms(), info.last_data_recv_ms()]
            .into_iter()
            .all(|ms| ms.is_some_and(|ms| ms >= IDLE_MS));
        if still { Self::Idle } else { Self::Healthy }
    }

    /// Whether the socket is an orphan, of whatever kind.
    pub const fn is_orphan(self) -> bool {
        matches!(
            self,
            Self::OrphanDead
                | Self::OrphanZeroWindow
                | Self::OrphanHalfClosed
                | Self::OrphanDraining
                | Self::Orphan
        )
    }

    /// Whether it is a connection of which a program here is a part, or was: not
    /// a record, a listener, a request or what is not connected.
    pub const fn is_connection(self) -> bool {
        !matches!(
            self,
            Self::TimeWait | Self::Listener | Self::Request | Self::Unconnected
        )
    }

    /// Whether such a socket holds memory because something is amiss: a program
    /// that does not read, accept or close, a peer that is gone or takes little or
    /// nothing, an orphan. More memory for all sockets is no cure for it.
    pub const fn is_amiss(self) -> bool {
        matches!(
            self,
            Self::Dead
                | Self::ZeroWindow
                | Self::Unread
                | Self::ClosedByPeer
                | Self::HalfClosed
                | Self::Slow
                | Self::NotAccepted
        ) || self.is_orphan()
    }

    /// What ends it, and what does not; `None` where nothing is amiss.
    pub const fn ends(self) -> Option<&'static str> {
        Some(match self {
            Self::Dead => {
                "it ends when tcp_retries2 is spent, or by TCP_USER_TIMEOUT in the program"
            }
            Self::ZeroWindow => {
                "it ends when the peer reads or the program gives up: the kernel waits as long as \
                 probes are answered"
            }
            Self::Unread => "it ends when the program here reads or closes",
            Self::ClosedByPeer => "it ends only when the program here calls close(): no timer runs",
            Self::HalfClosed => {
                "it ends when the peer closes or the program here calls close(): tcp_fin_timeout \
                 begins with close()"
            }
            Self::Slow => "it ends when the peer has taken the rest",
            Self::NotAccepted => "it ends when the listener's program calls accept()",
            Self::Connecting => "it ends when the peer answers, or tcp_syn_retries is spent",
            Self::OrphanDead => "it ends when tcp_orphan_retries is spent",
            Self::OrphanZeroWindow => {
                "it ends when the peer reads, or after about 347 s of probes whatever \
                 tcp_orphan_retries says"
            }
            Self::OrphanHalfClosed => "it ends when the peer closes, or by tcp_fin_timeout",
            Self::OrphanDraining | Self::Orphan => "it ends when the peer has taken the rest",
            Self::Idle
            | Self::Healthy
            | Self::TimeWait
            | Self::Listener
            | Self::Request
            | Self::Unconnected
            | Self::Unknown => return None,
        })
    }

    /// What it is told by, in a line.
    pub fn reason(self, socket: &TcpSocket) -> String {
        let info = socket.info.clone().unwrap_or_default();
        let to_send = bytes(socket.send_queue_bytes.into());
        let silent = span(info.last_ack_recv_ms().unwrap_or(0).into());
        let unread = bytes(unread_bytes(socket).into());
        match self {
            Self::Dead | Self::OrphanDead if socket.timer == Timer::Retransmit => format!(
                "no acknowledgment for {silent}, retransmitted with the timer doubled {} times, \
                 {to_send} unacknowledged",
                info.backoff().unwrap_or(0),
            ),
            Self::Dead | Self::OrphanDead => format!(
                "no answer to {} probes, no acknowledgment for {silent}, {to_send} to send",
                info.probes().unwrap_or(0),
            ),
            Self::ZeroWindow | Self::OrphanZeroWindow => format!(
                "it answers probes ({silent} ago) and its window is closed: it does not read; \
                 {to_send} to send",
            ),
            Self::Unread => format!(
                "{unread} have waited for the program here for {}",
                span(info.last_data_recv_ms().unwrap_or(0).into()),
            ),
            Self::ClosedByPeer => {
                let since = match &socket.info {
                    Some(_) => format!(" {silent} ago"),
                    None => String::new(),
                };
                match unread_bytes(socket) {
                    0 => format!("the peer closed{since}, the program here did not"),
                    _ => {
                        format!("the peer closed{since}, the program here did not; {unread} unread")
                    }
                }
            }
            Self::HalfClosed | Self::OrphanHalfClosed => match &socket.info {
                Some(_) => format!("the peer acknowledged the FIN {silent} ago and has not closed"),
                None => "the peer acknowledged the FIN and has not closed".to_owned(),
            },
            Self::Slow => match drain_ms(socket).filter(|ms| *ms >= SLOW_MS) {
                Some(ms) => format!(
                    "{to_send} to send at {} a second: {}",
                    bytes(info.delivery_rate().unwrap_or(0)),
                    span(ms),
                ),
                None if socket.timer == Timer::Probe => {
                    format!("its window is too small for what is next of {to_send} to send")
                }
                None => format!(
                    "retransmitting, the timer doubled {} times, {to_send} to send",
                    info.backoff().unwrap_or(0),
                ),
            },
            Self::Idle => format!(
                "no data for {}, none waits; it was not asked whether it lives",
                span(still_ms(socket).unwrap_or(0).into())
            ),
            Self::Healthy | Self::OrphanDraining if socket.send_queue_bytes > 0 => {
                format!("acknowledged {silent} ago, {to_send} to send")
            }
            Self::Healthy | Self::OrphanDraining => {
                format!("acknowledged {silent} ago, nothing to send")
            }
            Self::Connecting => format!("{} SYN not answered yet", socket.retransmits + 1),
            Self::NotAccepted => match &socket.info {
                Some(info) => format!(
                    "it has waited for {} or longer, {unread} unread",
                    span(info.last_data_recv_ms().unwrap_or(0).into())
                ),
                None => format!("{unread} unread"),
            },
            Self::Listener => format!(
                "{} wait for accept(), backlog {}",
                socket.recv_queue_bytes, socket.send_queue_bytes
            ),
            Self::TimeWait | Self::Request | Self::Unconnected => "no connection".to_owned(),
            Self::Orphan | Self::Unknown => {
                format!("no tcp_info; {to_send} to send, {unread} unread")
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the peer answers what it is sent.
enum Answer {
    /// Not at all.
    None,
    /// With a closed window.
    ClosedWindow,
    /// It takes data, or nothing has been sent for long enough to tell.
    Other,
}

impl Answer {
    /// `None` where there is no tcp_info.
    fn of(socket: &TcpSocket) -> Option<Self> {
        let info = socket.info.as_ref()?;
        let silent = info.last_ack_recv_ms().is_some_and(|ms| ms >= SILENT_MS);
        let backoff = info.backoff().unwrap_or(0);
        let probes = info.probes().unwrap_or(0);
        let unacked = info.unacked().unwrap_or(0);
        Some(match socket.timer {
            Timer::Retransmit if silent && unacked > 0 && backoff >= DEAD_BACKOFF => Self::None,
            Timer::Probe | Timer::Keepalive if silent && probes >= DEAD_PROBES => Self::None,
            Timer::Probe if socket.send_queue_bytes > 0 && info.snd_wnd().unwrap_or(0) == 0 => {
                Self::ClosedWindow
            }
            _ => Self::Other,
        })
    }
}

/// Data that the program has not read, in bytes. A FIN counts as one in the
/// receive queue.
pub fn unread_bytes(socket: &TcpSocket) -> u32 {
    let fin = matches!(
        socket.state,
        TcpState::CloseWait | TcpState::LastAck | TcpState::Closing
    );
    socket.recv_queue_bytes.saturating_sub(fin.into())
}

/// For how long no data has moved in either way, in milliseconds; `None` where
/// there is no tcp_info.
pub fn still_ms(socket: &TcpSocket) -> Option<u32> {
    let info = socket.info.as_ref()?;
    Some(info.last_data_sent_ms()?.min(info.last_data_recv_ms()?))
}

/// How long what is to be sent takes at the rate that was seen last, in
/// milliseconds; `None` where no rate was.
fn drain_ms(socket: &TcpSocket) -> Option<u64> {
    let rate = socket
        .info
        .as_ref()?
        .delivery_rate()
        .filter(|rate| *rate > 0)?;
    Some(u64::from(socket.send_queue_bytes) * 1000 / rate)
}

/// What a number of sockets holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sum {
    /// How many there are.
    pub sockets: u64,
    /// What the kernel holds for them, in bytes.
    pub bytes: u64,
}

impl Sum {
    /// Adds another sum to this one.
    pub const fn add(&mut self, other: Self) {
        self.sockets += other.sockets;
        self.bytes += other.bytes;
    }
}

/// What a number of sockets holds, by their conditions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConditionSums([Sum; Condition::ALL.len()]);

impl ConditionSums {
    /// Counts a socket that holds so much.
    pub const fn count(&mut self, condition: Condition, bytes: u64) {
        self.0[condition as usize].add(Sum { sockets: 1, bytes });
    }

    /// Adds the sums of other sockets.
    pub fn add(&mut self, other: &Self) {
        for (sum, other) in self.0.iter_mut().zip(other.0) {
            sum.add(other);
        }
    }

    /// The sum of the sockets in one condition.
    pub const fn of(&self, condition: Condition) -> Sum {
        self.0[condition as usize]
    }

    /// The sum over the conditions for which `wanted` is true.
    pub fn sum(&self, wanted: impl Fn(Condition) -> bool) -> Sum {
        let mut total = Sum::default();
        for condition in Condition::ALL {
            if wanted(condition) {
                total.add(self.of(condition));
            }
        }
        total
    }

    /// The sum over all conditions.
    pub fn total(&self) -> Sum {
        self.sum(|_| true)
    }

    /// The conditions that there are, the one that holds most first.
    pub fn conditions(&self) -> Vec<(Condition, Sum)> {
        let mut sums: Vec<_> = Condition::ALL
            .into_iter()
            .zip(self.0)
            .filter(|(_, sum)| sum.sockets > 0)
            .collect();
        sums.sort_by_key(|(condition, sum)| (Reverse(sum.bytes), *condition));
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sock_diag::decode_recorded;

    /// The sockets that a kernel answered with.
    fn recorded(text: &str) -> Vec<TcpSocket> {
        let mut sockets = Vec::new();
        decode_recorded(text.as_bytes(), &mut |socket| sockets.push(socket)).unwrap();
        sockets.sort_by_key(|socket| socket.peer);
        sockets
    }

    #[test]
    fn dead_is_told_from_a_closed_window_on_every_kernel() {
        for (kernel, text) in crate::sock_diag::tests::kernels() {
            let seen: Vec<_> = recorded(&text).iter().map(Condition::of).collect();
            let expected = [
                Condition::Listener,
                Condition::Listener,
                Condition::ZeroWindow,
                Condition::Dead,
            ];
            assert_eq!(seen, expected, "{kernel}");
        }
    }

    /// A connection in which nothing is wrong, with fields of tcp_info set.
    fn socket(timer: Timer, send: u32, recv: u32, info: &[(&str, u64)]) -> TcpSocket {
        let text = include_str!("../../kernels/6.12/sock_diag-x86-64.hex");
        let mut socket = recorded(text).pop().unwrap();
        socket.inode = 7;
        socket.timer = timer;
        socket.send_queue_bytes = send;
        socket.recv_queue_bytes = recv;
        let fields = socket.info.as_mut().unwrap();
        for name in [
            "backoff",
            "probes",
            "unacked",
            "last_ack_recv",
            "last_data_sent",
            "last_data_recv",
            "delivery_rate",
        ] {
            assert!(fields.set(name, 0));
        }
        for (name, value) in info {
            assert!(fields.set(name, *value), "{name}");
        }
        socket
    }

    #[test]
    fn each_condition_has_its_reason() {
        let waits = [("last_data_recv", 5_000), ("last_ack_recv", 5_000)];
        for (socket, condition, reason) in [
            (
                socket(
                    Timer::Retransmit,
                    2048,
                    0,
                    &[("backoff", 5), ("unacked", 2), ("last_ack_recv", 10_000)],
                ),
                Condition::Dead,
                "no acknowledgment for 10 s, retransmitted with the timer doubled 5 times, 2.0 KiB \
                 unacknowledged",
            ),
            (
                socket(
                    Timer::Probe,
                    2048,
                    0,
                    &[("probes", 3), ("last_ack_recv", 130_000)],
                ),
                Condition::Dead,
                "no answer to 3 probes, no acknowledgment for 2 min, 2.0 KiB to send",
            ),
            (
                socket(
                    Timer::Probe,
                    2048,
                    0,
                    &[("snd_wnd", 0), ("last_ack_recv", 130_000)],
                ),
                Condition::ZeroWindow,
                "it answers probes (2 min ago) and its window is closed: it does not read; 2.0 KiB \
                 to send",
            ),
            (
                socket(Timer::Off, 0, 100, &waits),
                Condition::Unread,
                "100 bytes have waited for the program here for 5 s",
            ),
            (
                socket(Timer::Retransmit, 40_960, 0, &[("delivery_rate", 10_240)]),
                Condition::Slow,
                "40.0 KiB to send at 10.0 KiB a second: 4 s",
            ),
            (
                socket(Timer::Retransmit, 2048, 0, &[("backoff", 2)]),
                Condition::Slow,
                "retransmitting, the timer doubled 2 times, 2.0 KiB to send",
            ),
            (
                socket(
                    Timer::Off,
                    0,
                    0,
                    &[("last_data_sent", 60_000), ("last_data_recv", 8_000_000)],
                ),
                Condition::Idle,
                "no data for 60 s, none waits; it was not asked whether it lives",
            ),
            (
                socket(Timer::Retransmit, 2048, 0, &[("last_ack_recv", 7)]),
                Condition::Healthy,
                "acknowledged 7 ms ago, 2.0 KiB to send",
            ),
            (
                socket(Timer::Off, 0, 100, &[]),
                Condition::Healthy,
                "acknowledged 0 ms ago, nothing to send",
            ),
        ] {
            assert_eq!(Condition::of(&socket), condition, "{reason}");
            assert_eq!(condition.reason(&socket), reason);
        }
    }

    #[test]
    fn a_fin_is_no_unread_data() {
        let mut socket = socket(Timer::Off, 0, 1, &[("last_data_recv", 9_000)]);
        assert_eq!(Condition::of(&socket), Condition::Unread);
        socket.state = TcpState::CloseWait;
        assert_eq!(Condition::of(&socket), Condition::ClosedByPeer);
        assert_eq!(unread_bytes(&socket), 0);
    }

    /// The same socket in another state, held by a process or by none.
    fn turned(mut socket: TcpSocket, state: TcpState, inode: u32) -> TcpSocket {
        socket.state = state;
        socket.inode = inode;
        socket
    }

    #[test]
    fn an_orphan_is_told_by_its_peer_as_well() {
        let dead = [("backoff", 7), ("unacked", 2), ("last_ack_recv", 40_000)];
        let closed = [("snd_wnd", 0), ("last_ack_recv", 3_000)];
        for (state, inode, timer, send, info, condition) in [
            (
                TcpState::FinWait1,
                0,
                Timer::Retransmit,
                9,
                &dead[..],
                Condition::OrphanDead,
            ),
            (
                TcpState::FinWait1,
                7,
                Timer::Retransmit,
                9,
                &dead,
                Condition::Dead,
            ),
            (
                TcpState::LastAck,
                0,
                Timer::Probe,
                9,
                &closed,
                Condition::OrphanZeroWindow,
            ),
            (
                TcpState::FinWait1,
                7,
                Timer::Probe,
                9,
                &closed,
                Condition::ZeroWindow,
            ),
            (
                TcpState::Closing,
                0,
                Timer::Retransmit,
                9,
                &[],
                Condition::OrphanDraining,
            ),
            (
                TcpState::FinWait2,
                0,
                Timer::Keepalive,
                0,
                &[],
                Condition::OrphanHalfClosed,
            ),
            (
                TcpState::FinWait2,
                7,
                Timer::Off,
                0,
                &[],
                Condition::HalfClosed,
            ),
            (
                TcpState::FinWait2,
                0,
                Timer::TimeWait,
                0,
                &[],
                Condition::TimeWait,
            ),
            (
                TcpState::CloseWait,
                7,
                Timer::Retransmit,
                9,
                &dead,
                Condition::Dead,
            ),
            (
                TcpState::CloseWait,
                7,
                Timer::Retransmit,
                9,
                &[],
                Condition::Healthy,
            ),
            (
                TcpState::CloseWait,
                7,
                Timer::Off,
                0,
                &[],
                Condition::ClosedByPeer,
            ),
            (
                TcpState::CloseWait,
                0,
                Timer::Off,
                0,
                &[],
                Condition::NotAccepted,
            ),
            (
                TcpState::Established,
                0,
                Timer::Off,
                0,
                &[],
                Condition::NotAccepted,
            ),
            (
                TcpState::SynSent,
                7,
                Timer::Retransmit,
                1,
                &dead,
                Condition::Connecting,
            ),
            (TcpState::SynRecv, 0, Timer::Off, 0, &[], Condition::Request),
            (
                TcpState::Close,
                7,
                Timer::Off,
                0,
                &[],
                Condition::Unconnected,
            ),
        ] {
            let socket = turned(socket(timer, send, 0, info), state, inode);
            assert_eq!(Condition::of(&socket), condition, "{state} {inode}");
            assert_eq!(condition.is_orphan(), socket.is_orphan(), "{state} {inode}");
        }
    }

    #[test]
    fn without_tcp_info_the_state_tells_what_it_can() {
        for (state, inode, condition) in [
            (TcpState::FinWait1, 0, Condition::Orphan),
            (TcpState::FinWait2, 0, Condition::OrphanHalfClosed),
            (TcpState::FinWait2, 7, Condition::HalfClosed),
            (TcpState::CloseWait, 7, Condition::ClosedByPeer),
            (TcpState::Established, 7, Condition::Unknown),
            (TcpState::Established, 0, Condition::NotAccepted),
        ] {
            let mut socket = turned(socket(Timer::Off, 0, 0, &[]), state, inode);
            (socket.info, socket.memory) = (None, None);
            assert_eq!(Condition::of(&socket), condition, "{state} {inode}");
            assert!(!condition.reason(&socket).contains(" ago"), "{state}");
        }
    }

    #[test]
    fn what_is_amiss_says_what_ends_it() {
        for (place, condition) in Condition::ALL.into_iter().enumerate() {
            assert_eq!(condition as usize, place);
            if condition.is_amiss() {
                assert!(condition.ends().is_some(), "{condition}");
                assert!(condition.is_connection(), "{condition}");
            }
        }
        assert!(!Condition::Healthy.is_amiss() && !Condition::Idle.is_amiss());
    }

    #[test]
    fn sums_are_kept_by_condition() {
        let mut sums = ConditionSums::default();
        sums.count(Condition::Dead, 100);
        sums.count(Condition::OrphanDead, 50);
        sums.count(Condition::Healthy, 400);
        let mut both = sums;
        both.add(&sums);
        assert_eq!(
            both.of(Condition::Dead),
            Sum {
                sockets: 2,
                bytes: 200
            }
        );
        assert_eq!(
            both.sum(Condition::is_amiss),
            Sum {
                sockets: 4,
                bytes: 300
            }
        );
        assert_eq!(
            both.total(),
            Sum {
                sockets: 6,
                bytes: 1100
            }
        );
        assert_eq!(both.conditions()[0].0, Condition::Healthy);
    }
}
