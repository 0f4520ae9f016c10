//! In which condition the peer of a connection is, as far as the kernel's
//! timer and tcp_info tell. Which of them tells what was measured: see the
//! scenarios of crash/vanished-peer.

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

/// The condition of the peer of a socket.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It answers neither data nor probes.
    Dead,
    /// It answers, and takes nothing: its window is closed.
    ZeroWindow,
    /// It has sent data that the program here does not read.
    Unread,
    /// It takes the data slower than it is written.
    Slow,
    /// No data has moved for a minute, and none waits. It may as well be dead:
    /// nobody has asked it.
    Idle,
    /// None of these.
    Healthy,
    /// There is no peer to be in any condition: a listener, a request, a
    /// TIME_WAIT record.
    None,
    /// There is no tcp_info to tell it by.
    Unknown,
}

impl Condition {
    /// Every condition, the worst first.
    pub const ALL: [Self; 8] = [
        Self::Dead,
        Self::ZeroWindow,
        Self::Unread,
        Self::Slow,
        Self::Idle,
        Self::Healthy,
        Self::None,
        Self::Unknown,
    ];

    /// Its name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::ZeroWindow => "zero window",
            Self::Unread => "unread",
            Self::Slow => "slow",
            Self::Idle => "idle",
            Self::Healthy => "healthy",
            Self::None => "no peer",
            Self::Unknown => "unknown",
        }
    }

    /// The condition of a socket's peer.
    pub fn of(socket: &TcpSocket) -> Self {
        if matches!(
            socket.state,
            TcpState::Listen
                | TcpState::TimeWait
                | TcpState::SynRecv
                | TcpState::NewSynRecv
                | TcpState::Close
        ) {
            return Self::None;
        }
        let Some(info) = &socket.info else {
            // A record of FIN_WAIT2 has none either, and no memory.
            return if socket.timer == Timer::TimeWait {
                Self::None
            } else {
                Self::Unknown
            };
        };
        let silent = info.last_ack_recv_ms().is_some_and(|ms| ms >= SILENT_MS);
        let backoff = info.backoff().unwrap_or(0);
        let probes = info.probes().unwrap_or(0);
        let unacked = info.unacked().unwrap_or(0);
        match socket.timer {
            Timer::Retransmit if silent && unacked > 0 && backoff >= DEAD_BACKOFF => {
                return Self::Dead;
            }
            Timer::Probe | Timer::Keepalive if silent && probes >= DEAD_PROBES => {
                return Self::Dead;
            }
            Timer::Probe if socket.send_queue_bytes > 0 && info.snd_wnd().unwrap_or(0) == 0 => {
                return Self::ZeroWindow;
            }
            _ => {}
        }
        let unread = unread_bytes(socket);
        let waits = info.last_data_recv_ms().is_some_and(|ms| ms >= UNREAD_MS);
        if unread > 0 && (waits || unread >= UNREAD_BYTES) {
            return Self::Unread;
        }
        if socket.send_queue_bytes > 0 {
            let slow = backoff > 0
                || socket.timer == Timer::Probe
                || drain_ms(socket).is_some_and(|ms| ms >= SLOW_MS);
            return if slow { Self::Slow } else { Self::Healthy };
        }
        let still = [info.last_data_sent_ms(), info.last_data_recv_ms()]
            .into_iter()
            .all(|ms| ms.is_some_and(|ms| ms >= IDLE_MS));
        if still { Self::Idle } else { Self::Healthy }
    }

    /// What it is told by, in a line.
    pub fn reason(self, socket: &TcpSocket) -> String {
        let info = socket.info.clone().unwrap_or_default();
        let to_send = bytes(socket.send_queue_bytes.into());
        let silent = span(info.last_ack_recv_ms().unwrap_or(0).into());
        match self {
            Self::Dead if socket.timer == Timer::Retransmit => format!(
                "no acknowledgment for {silent}, retransmitted with the timer doubled {} times, \
                 {to_send} unacknowledged",
                info.backoff().unwrap_or(0),
            ),
            Self::Dead => format!(
                "no answer to {} probes, no acknowledgment for {silent}, {to_send} to send",
                info.probes().unwrap_or(0),
            ),
            Self::ZeroWindow => format!(
                "it answers probes ({silent} ago) and its window is closed: it does not read; \
                 {to_send} to send",
            ),
            Self::Unread => format!(
                "{} have waited for the program here for {}",
                bytes(unread_bytes(socket).into()),
                span(info.last_data_recv_ms().unwrap_or(0).into()),
            ),
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
            Self::Idle => {
                let still = info
                    .last_data_sent_ms()
                    .unwrap_or(0)
                    .min(info.last_data_recv_ms().unwrap_or(0));
                format!(
                    "no data for {}, none waits; it was not asked whether it lives",
                    span(still.into())
                )
            }
            Self::Healthy if socket.send_queue_bytes > 0 => {
                format!("acknowledged {silent} ago, {to_send} to send")
            }
            Self::Healthy => format!("acknowledged {silent} ago, nothing to send"),
            Self::None => match socket.state {
                TcpState::Listen => format!(
                    "{} wait for accept(), backlog {}",
                    socket.recv_queue_bytes, socket.send_queue_bytes
                ),
                _ => "no connection".to_owned(),
            },
            Self::Unknown => format!(
                "no tcp_info; {to_send} to send, {} unread",
                bytes(socket.recv_queue_bytes.into())
            ),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
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
        for text in [
            include_str!("../../tests/fixtures/sock_diag-5.10-x86-64.hex"),
            include_str!("../../tests/fixtures/sock_diag-6.1-x86-64.hex"),
            include_str!("../../tests/fixtures/sock_diag-6.12-x86-64.hex"),
            include_str!("../../tests/fixtures/sock_diag-7.3-x86-64.hex"),
        ] {
            let seen: Vec<_> = recorded(text).iter().map(Condition::of).collect();
            let expected = [
                Condition::None,
                Condition::None,
                Condition::ZeroWindow,
                Condition::Dead,
            ];
            assert_eq!(seen, expected);
        }
    }

    /// A connection in which nothing is wrong, with fields of tcp_info set.
    fn socket(timer: Timer, send: u32, recv: u32, info: &[(&str, u64)]) -> TcpSocket {
        let text = include_str!("../../tests/fixtures/sock_diag-6.12-x86-64.hex");
        let mut socket = recorded(text).pop().unwrap();
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
        assert_eq!(Condition::of(&socket), Condition::Healthy);
    }
}
