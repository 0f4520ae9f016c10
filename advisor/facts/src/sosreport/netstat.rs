//! What netstat of net-tools printed: `netstat -neopa` the sockets, `netstat -s` the
//! counters in words.

use super::Held;
use super::ss::{endpoint, of_family};
use crate::counters::Counters;
use crate::sock_diag::{Family, TcpSocket, TcpState, Timer};

/// Parses `netstat -neopa` and hands over each TCP socket with its holder; sockets of
/// other kinds are passed over. Gives the numbers of the lines that are not understood.
pub(super) fn each_socket(text: &str, each: &mut impl FnMut(TcpSocket, Vec<Held>)) -> Vec<usize> {
    let mut strange = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let family = match line.split_whitespace().next() {
            Some("tcp") => Family::Inet,
            Some("tcp6") => Family::Inet6,
            _ => continue,
        };
        match socket(line, family) {
            Some((socket, held)) => each(socket, held.into_iter().collect()),
            None => strange.push(number),
        }
    }
    strange
}

/// `tcp RECV-Q SEND-Q LOCAL PEER STATE USER INODE PID/PROGRAM TIMER (TIME/RETRIES/PROBES)`; the
/// name of a program may have blanks.
fn socket(line: &str, family: Family) -> Option<(TcpSocket, Option<Held>)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [
        _,
        recv,
        send,
        local,
        peer,
        state,
        user,
        inode,
        program @ ..,
        timer,
        left,
    ] = &words[..]
    else {
        return None;
    };
    let state = match *state {
        "SYN_RECV" => TcpState::SynRecv,
        state => TcpState::from_name(state)?,
    };
    let inode: u32 = inode.parse().ok()?;
    let mut left = left.trim_matches(['(', ')']).split('/');
    let seconds: f64 = left.next()?.parse().ok()?;
    let retries: u32 = left.next()?.parse().ok()?;
    let time = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    let socket = TcpSocket {
        timer: match *timer {
            "on" => Timer::Retransmit,
            "keepalive" => Timer::Keepalive,
            "timewait" => Timer::TimeWait,
            "probe" => Timer::Probe,
            "off" => Timer::Off,
            _ => Timer::Other(u8::MAX),
        },
        retransmits: u8::try_from(retries).unwrap_or(u8::MAX),
        timer_ms: u32::try_from(time.as_millis()).unwrap_or(u32::MAX),
        recv_queue_bytes: recv.parse().ok()?,
        send_queue_bytes: send.parse().ok()?,
        uid: user.parse().ok()?,
        inode,
        ..TcpSocket::bare(
            family,
            state,
            of_family(endpoint(local)?.0, family),
            of_family(endpoint(peer)?.0, family),
        )
    };
    let program = program.join(" ");
    let held = program.split_once('/').and_then(|(pid, name)| {
        Some(Held {
            inode,
            pid: pid.parse().ok()?,
            // netstat does not tell it.
            descriptor: 0,
            name: name.to_owned(),
        })
    });
    Some((socket, held.filter(|_| inode != 0)))
}

/// The counters that net-tools prints in words, without the number (`statistics.c`). Those of
/// TcpExt that are 0 are left out by it.
const IN_WORDS: &[(&str, &str)] = &[
    ("active connection openings", "Tcp.ActiveOpens"),
    ("passive connection openings", "Tcp.PassiveOpens"),
    ("failed connection attempts", "Tcp.AttemptFails"),
    ("connection resets received", "Tcp.EstabResets"),
    ("connections established", "Tcp.CurrEstab"),
    ("segments received", "Tcp.InSegs"),
    ("segments sent out", "Tcp.OutSegs"),
    ("segments retransmitted", "Tcp.RetransSegs"),
    ("bad segments received", "Tcp.InErrs"),
    ("resets sent", "Tcp.OutRsts"),
    ("SYN cookies sent", "TcpExt.SyncookiesSent"),
    ("SYN cookies received", "TcpExt.SyncookiesRecv"),
    ("invalid SYN cookies received", "TcpExt.SyncookiesFailed"),
    (
        "resets received for embryonic SYN_RECV sockets",
        "TcpExt.EmbryonicRsts",
    ),
    (
        "packets pruned from receive queue because of socket buffer overrun",
        "TcpExt.PruneCalled",
    ),
    ("packets pruned from receive queue", "TcpExt.RcvPruned"),
    (
        "packets dropped from out-of-order queue because of socket buffer overrun",
        "TcpExt.OfoPruned",
    ),
    ("TCP sockets finished time wait in fast timer", "TcpExt.TW"),
    (
        "TCP sockets finished time wait in slow timer",
        "TcpExt.TWKilled",
    ),
    (
        "time wait sockets recycled by time stamp",
        "TcpExt.TWRecycled",
    ),
    (
        "passive connections rejected because of time stamp",
        "TcpExt.PAWSPassive",
    ),
    (
        "active connections rejected because of time stamp",
        "TcpExt.PAWSActive",
    ),
    (
        "packets rejected in established connections because of timestamp",
        "TcpExt.PAWSEstab",
    ),
    ("delayed acks sent", "TcpExt.DelayedACKs"),
    (
        "times the listen queue of a socket overflowed",
        "TcpExt.ListenOverflows",
    ),
    ("SYNs to LISTEN sockets dropped", "TcpExt.ListenDrops"),
    (
        "connections reset due to unexpected data",
        "TcpExt.TCPAbortOnData",
    ),
    (
        "connections reset due to early user close",
        "TcpExt.TCPAbortOnClose",
    ),
    (
        "connections aborted due to memory pressure",
        "TcpExt.TCPAbortOnMemory",
    ),
    (
        "connections aborted due to timeout",
        "TcpExt.TCPAbortOnTimeout",
    ),
    (
        "connections aborted after user close in linger timeout",
        "TcpExt.TCPAbortOnLinger",
    ),
    (
        "times unable to send RST due to no memory",
        "TcpExt.TCPAbortFailed",
    ),
    ("TCP ran low on memory times", "TcpExt.TCPMemoryPressures"),
    (
        "packets collapsed in receive queue due to low socket buffer",
        "TcpExt.TCPRcvCollapsed",
    ),
    ("other TCP timeouts", "TcpExt.TCPTimeouts"),
];

/// The counters of `netstat -s`; lines that are not known are passed over.
pub(super) fn counters(text: &str) -> Counters {
    let mut counters = Counters::default();
    let mut group = "";
    for line in text.lines() {
        if !line.starts_with([' ', '\t']) {
            group = line.trim_end().trim_end_matches(':');
            // net-tools leaves these out where they are 0.
            for (_, name) in IN_WORDS {
                if name.split_once('.').is_some_and(|(of, _)| of == group) {
                    counters.set(name, 0);
                }
            }
            continue;
        }
        let line = line.trim();
        if let Some((name, value)) = line.split_once(": ")
            && !name.contains(' ')
        {
            if let Ok(value) = value.trim().parse() {
                counters.set(&format!("{group}.{name}"), value);
            }
            continue;
        }
        let mut words: Vec<&str> = line.split(' ').collect();
        let Some(at) = words.iter().position(|word| word.parse::<i64>().is_ok()) else {
            continue;
        };
        let value = words.remove(at).parse().unwrap_or_default();
        let words = words.join(" ");
        let known = IN_WORDS
            .iter()
            .find(|(known, name)| *known == words && name.split('.').next() == Some(group));
        if let Some((_, name)) = known {
            counters.set(name, value);
        }
    }
    counters
}
