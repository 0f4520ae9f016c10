//! Peers that have vanished hold memory by data that they will never
//! acknowledge.

use super::close_wait_left::plain;
use super::{Confidence, Documentation, Evidence, Finding, Kind, Outcome, Rule, Severity, bytes};
use crate::facts::sock_diag::{TcpSocket, Timer};
use crate::facts::{Facts, SocketSource};

pub(super) const RULE: Rule = Rule {
    code: "LB401",
    name: "dead-peer-holds-memory",
    scenario: Some("crash/vanished-peer/unacknowledged"),
    cure: Some("crash/vanished-peer/user-timeout"),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections of a running program whose peer has vanished while data was \
        unacknowledged. The kernel goes on retransmitting for tcp_retries2, by default about \
        15 minutes, and holds the data that long. SO_KEEPALIVE has no effect meanwhile.",
    evidence: "tcp_info and the timer of each socket: retransmission running, segments \
        unacknowledged, the timer doubled 5 times or more, no acknowledgment for 10 seconds. A \
        slow peer answers probes and is not counted. It fires where these sockets together hold \
        1 MiB, a warning where they hold a sixty-fourth of the pressure mark of tcp_mem.",
    recommendation: "TCP_USER_TIMEOUT, above the longest outage that a connection is to survive \
        and the longest pause of a peer that reads slowly: the kernel ends a connection whose \
        window has been closed for that long, even where the peer lives.",
    cost: "None in memory.",
    risk: "A connection whose peer is away for longer than the timeout, a suspended laptop or a \
        network that is being repaired, ends with ETIMEDOUT where it would have gone on. A \
        peer that is alive and does not read for that long is cut off as well, though it \
        answers every probe, and what it had still to get is lost.",
    undo: "Take the call out again.",
    references: &[
        "RFC 5482; tcp(7), TCP_USER_TIMEOUT",
        "tcp_retries2 (924.6 s for 15): Documentation/networking/ip-sysctl.rst of Linux",
        "retransmits_timed_out, tcp_write_timeout, tcp_probe_timer (a live peer that does not \
         read): net/ipv4/tcp_timer.c of Linux",
        "a live peer that is cut off: scenario crash/vanished-peer/stalled-reader",
        "which peer is dead: measured",
    ],
};

/// A timer doubled so often has waited 63 timeouts, at least 12 seconds.
const BACKOFF: u8 = 5;
/// No acknowledgment for this long, in milliseconds.
const SILENT_MS: u32 = 10_000;
/// Less memory than this is not worth a change: one send buffer may grow to 4 MiB.
const WORTH_BYTES: u64 = 1 << 20;
/// Peers that are reported.
const PEERS: usize = 5;

fn check(facts: &Facts) -> Outcome {
    let sockets = match &facts.now.sockets {
        Some(sockets) if sockets.source == SocketSource::SockDiag => sockets,
        _ => return Outcome::NotEvaluated("needs tcp_info, which only sock_diag gives".to_owned()),
    };
    let mut dead: Vec<_> = sockets
        .all
        .iter()
        .filter(|socket| has_dead_peer(socket))
        .collect();
    dead.sort_by_key(|socket| std::cmp::Reverse(held_bytes(socket)));
    let held: u64 = dead.iter().map(|socket| held_bytes(socket)).sum();
    let count = dead.len();
    if held < WORTH_BYTES {
        return Outcome::Quiet(match count {
            0 => "no peer is silent with data unacknowledged".to_owned(),
            _ => format!("{count} peers are silent, with {} held", bytes(held)),
        });
    }
    let pressure = facts
        .settings
        .tcp_mem
        .map(|[_, pressure, _]| pressure.saturating_mul(facts.page_bytes));
    let severity = if pressure.is_some_and(|pressure| held > pressure / 64) {
        Severity::Warning
    } else {
        Severity::Notice
    };
    let mut evidence = vec![Evidence::new(
        "host.sockets.dead-peer.bytes",
        i64::try_from(held).unwrap_or(i64::MAX).into(),
        "sock_diag, SKMEMINFO",
    )];
    evidence.extend(dead.iter().take(PEERS).map(|socket| {
        let info = socket.info.clone().unwrap_or_default();
        Evidence::new(
            format!("{} -> {}", plain(socket.local), plain(socket.peer)),
            format!(
                "{} held, unacked {}, backoff {}, last_ack_recv {} s ago",
                bytes(held_bytes(socket)),
                info.unacked().unwrap_or(0),
                info.backoff().unwrap_or(0),
                info.last_ack_recv_ms().unwrap_or(0) / 1000,
            )
            .as_str()
            .into(),
            "sock_diag, tcp_info",
        )
    }));
    let sockets = if count == 1 { "socket" } else { "sockets" };
    Outcome::Fired(vec![Finding {
        confidence: Confidence::High,
        severity,
        summary: format!("{count} {sockets} with a dead peer hold {}", bytes(held)),
        why:
            "These peers have acknowledged nothing while the kernel retransmitted and doubled its \
            timer; a slow peer would have answered. Without TCP_USER_TIMEOUT the kernel goes on \
            for about 15 minutes (tcp_retries2). SO_KEEPALIVE does nothing while data is \
            unacknowledged, and close() makes them orphans that hold the data on."
                .to_owned(),
        kind: Kind::Program,
        subject: match dead.first() {
            Some(socket)
                if dead
                    .iter()
                    .all(|other| other.local.port() == socket.local.port()) =>
            {
                format!("the program on local port {}", socket.local.port())
            }
            _ => "the programs that hold these connections".to_owned(),
        },
        setting: "TCP_USER_TIMEOUT".to_owned(),
        current: "unknown (not in the socket table)".to_owned(),
        proposed: "30000 (ms), or the longest outage or pause in reading to be survived".to_owned(),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program, on each connection: unsigned ms = 30000; setsockopt(fd, \
            IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms); the present ones: ss -K with their \
            addresses ends them at once"
            .to_owned(),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: "ss -tano shows no timer:(on,...) with a count above 7 for long, and \
            TcpExtTCPAbortOnTimeout rises in their stead"
            .to_owned(),
    }])
}

fn has_dead_peer(socket: &TcpSocket) -> bool {
    let Some(info) = &socket.info else {
        return false;
    };
    // What no process holds is an orphan, and the limit of those is its matter.
    socket.inode != 0
        && socket.timer == Timer::Retransmit
        && socket.send_queue_bytes > 0
        && info.unacked().is_some_and(|unacked| unacked > 0)
        && info.backoff().is_some_and(|backoff| backoff >= BACKOFF)
        && info
            .last_ack_recv_ms()
            .is_some_and(|silent| silent >= SILENT_MS)
}

/// What the kernel holds for the data of a socket, in bytes.
fn held_bytes(socket: &TcpSocket) -> u64 {
    socket.memory.as_ref().map_or_else(
        || u64::from(socket.send_queue_bytes),
        |memory| u64::from(memory.send_queued_bytes),
    )
}
