//! In which condition a socket is: who holds it, whether its peer lives, and
//! what ends it. Every command and every rule uses this one answer.
//!
//! Of the peer it goes by the kernel's timer and by tcp_info; which of them tells
//! what was measured: see the scenarios of crash/vanished-peer.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
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
            Self::NotAccepted => "it ends when the listener's program calls accept()",
            Self::Connecting => "it ends when the peer answers, or tcp_syn_retries is spent",
            Self::OrphanDead => "it ends when tcp_orphan_retries is spent",
            Self::OrphanZeroWindow => {
                "it ends when the peer reads, or after about 347 s of probes whatever \
                 tcp_orphan_retries says"
            }
            Self::OrphanHalfClosed => "it ends when the peer closes, or by tcp_fin_timeout",
            Self::Slow | Self::OrphanDraining | Self::Orphan => {
                "it ends when the peer has taken the rest"
            }
            Self::Idle
            | Self::Healthy
            | Self::TimeWait
            | Self::Listener
            | Self::Request
            | Self::Unconnected
            | Self::Unknown => return None,
        })
    }

    /// The same of a socket: keepalive has an end of its own.
    pub fn ends_of(self, socket: &TcpSocket) -> Option<&'static str> {
        match (self, socket.timer) {
            (Self::Dead, Timer::Keepalive) => Some(
                "it ends when the probes of keepalive are spent (TCP_KEEPCNT), or by \
                 TCP_USER_TIMEOUT in the program",
            ),
            _ => self.ends(),
        }
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
            Self::Dead | Self::OrphanDead if socket.timer == Timer::Keepalive => format!(
                "no answer to {} probes of keepalive, no acknowledgment for {silent}",
                info.probes().unwrap_or(0),
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
mod tests;
