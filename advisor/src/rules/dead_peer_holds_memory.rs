//! Peers that have vanished hold memory by data that they will never
//! acknowledge.

use super::close_wait_left::plain;
use super::program::{Program, by_program, without_tcp_info};
use super::{Confidence, Documentation, Evidence, Finding, Kind, Outcome, Rule, Severity, bytes};
use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::sock_diag::TcpSocket;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB401",
    name: "dead-peer-holds-memory",
    scenario: Some("crash/vanished-peer/unacknowledged"),
    cure: Some("crash/vanished-peer/user-timeout"),
    proven_by: super::ProvenBy::Suites(&["dead-peer-holds-memory"]),
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

/// Less memory than this is not worth a change: one send buffer may grow to 4 MiB.
const WORTH_BYTES: u64 = 1 << 20;
/// Peers that are reported.
const PEERS: usize = 5;
/// Programs that are reported.
const PROGRAMS: usize = 5;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let mut dead: Vec<_> = facts
        .now
        .every_socket()
        .map(|(_, socket)| socket)
        .filter(|socket| has_dead_peer(socket))
        .collect();
    dead.sort_by_key(|socket| std::cmp::Reverse(socket.held_bytes()));
    let held: u64 = dead.iter().map(|socket| socket.held_bytes()).sum();
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
    let programs = by_program(facts, has_dead_peer);
    let evidence = evidence(&dead, held, &programs);
    let known = dead
        .iter()
        .filter(|socket| socket.options.is_some())
        .count();
    let without = dead
        .iter()
        .filter(|socket| {
            socket
                .options
                .is_some_and(|options| options.user_timeout_ms == 0)
        })
        .count();
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
        subject: match programs.as_slice() {
            [program] => program.name.clone(),
            _ => "the programs that hold these connections".to_owned(),
        },
        setting: "TCP_USER_TIMEOUT".to_owned(),
        current: match known {
            0 => "unknown (not in the socket table; --inspect-options reads it)".to_owned(),
            known => format!("0 on {without} of {known} that were asked"),
        },
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

/// What was seen: the sum, its share of each program, and the largest.
fn evidence(dead: &[&TcpSocket], held: u64, programs: &[Program<'_>]) -> Vec<Evidence> {
    let mut evidence = vec![
        Evidence::new(
            "host.sockets.dead-peer",
            i64::try_from(dead.len()).unwrap_or(i64::MAX).into(),
            "sock_diag, tcp_info",
        ),
        Evidence::new(
            "host.sockets.dead-peer.bytes",
            i64::try_from(held).unwrap_or(i64::MAX).into(),
            "sock_diag, SKMEMINFO",
        ),
    ];
    if programs.len() > 1 {
        evidence.extend(programs.iter().take(PROGRAMS).map(|program| {
            Evidence::new(
                format!("{}.dead-peer.bytes", program.name),
                i64::try_from(program.bytes).unwrap_or(i64::MAX).into(),
                "sock_diag, SKMEMINFO",
            )
        }));
    }
    evidence.extend(dead.iter().take(PEERS).map(|socket| {
        Evidence::new(
            format!("{} -> {}", plain(socket.local), plain(socket.peer)),
            format!(
                "{} held: {}",
                bytes(socket.held_bytes()),
                Condition::Dead.reason(socket)
            )
            .as_str()
            .into(),
            "sock_diag, tcp_info",
        )
    }));
    evidence
}

/// What no process holds is an orphan, and the limit of those is its matter.
fn has_dead_peer(socket: &TcpSocket) -> bool {
    socket.inode != 0 && Condition::of(socket) == Condition::Dead
}

#[cfg(test)]
pub(super) mod tests {
    use advisor_facts::SocketSource;

    use super::*;
    use crate::rules::testing::{assert_not_evaluated, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("dead-peer-holds-memory")
    }

    #[test]
    fn sockets_as_text_have_no_tcp_info() {
        let mut facts = firing();
        facts.now.sockets.as_mut().unwrap().source = SocketSource::ProcNetTcp;
        assert_not_evaluated(&RULE, &facts, "tcp_info");
        facts.now.sockets = None;
        assert_not_evaluated(&RULE, &facts, "tcp_info");
    }
}
