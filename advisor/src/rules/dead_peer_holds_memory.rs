//! Memory held by unacknowledged data to peers that have vanished.

use super::close_wait_left::plain;
use super::program::{Program, by_program, without_tcp_info};
use super::{
    Confidence, Documentation, Evidence, Finding, Kind, Outcome, ProvenBy, Rule, Severity, bytes,
};
use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::sock_diag::TcpSocket;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB401",
    name: "dead-peer-holds-memory",
    scenario: Some("crash/vanished-peer/unacknowledged"),
    cure: Some("crash/vanished-peer/user-timeout"),
    proven_by: ProvenBy::Suites(&["dead-peer-holds-memory"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections whose peer vanished while data was unacknowledged. A running program \
        still holds them. The kernel keeps retransmitting for tcp_retries2, by default about 15 \
        minutes, and holds the data that long. SO_KEEPALIVE has no effect meanwhile.",
    evidence: "tcp_info and the timer of each socket: retransmission running, segments \
        unacknowledged, the timer doubled at least 5 times, no acknowledgment for 10 seconds. A \
        slow peer answers probes and is not counted. It fires if these sockets together hold 1 \
        MiB; a warning if they hold a 64th of the pressure mark of tcp_mem.",
    recommendation: "TCP_USER_TIMEOUT, longer than the longest outage that a connection should \
        survive and the longest pause of a slow reader: the kernel ends a connection whose \
        window has been closed for that long, even if the peer is alive.",
    cost: "None in memory.",
    risk: "A connection whose peer is away for longer (a suspended laptop, a network under \
        repair) ends with ETIMEDOUT, where it would have survived. A live peer that does not \
        read for that long is cut off too, even if it answers every probe, and loses what it had \
        not received yet.",
    undo: "Remove the call.",
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
/// Largest number of peers shown as evidence.
const PEERS: usize = 5;
/// Largest number of programs shown as evidence.
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
            0 => "no peer is silent while data is unacknowledged".to_owned(),
            _ => format!(
                "{count} peers are silent; their sockets hold {}",
                bytes(held)
            ),
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
        why: "These peers have acknowledged nothing while the kernel retransmitted and doubled \
             its timer. A slow peer would have answered. Without TCP_USER_TIMEOUT the kernel \
             continues for about 15 minutes (tcp_retries2). SO_KEEPALIVE does nothing while data \
             is unacknowledged, and close() turns them into orphans that still hold the data."
            .to_owned(),
        kind: Kind::Program,
        subject: match programs.as_slice() {
            [program] => program.name.clone(),
            _ => "the programs that hold these connections".to_owned(),
        },
        setting: "TCP_USER_TIMEOUT".to_owned(),
        current: match known {
            0 => "unknown (not in the socket table; --inspect-options reads it)".to_owned(),
            known => format!("0 on {without} of {known} sockets inspected"),
        },
        proposed: "30000 (ms), or the longest outage or pause in reading that a connection \
            should survive"
            .to_owned(),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program, on each connection: unsigned ms = 30000; setsockopt(fd, \
            IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms). To end the present connections now: \
            ss -K with their addresses"
            .to_owned(),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: "ss -tano shows no timer:(on,...) with a count above 7 for long; \
            TcpExtTCPAbortOnTimeout rises instead"
            .to_owned(),
    }])
}

/// The sum, the share of each program, and the largest sockets.
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

/// A socket that no process holds is an orphan, which other rules judge.
fn has_dead_peer(socket: &TcpSocket) -> bool {
    socket.inode != 0 && Condition::of(socket) == Condition::Dead
}

#[cfg(test)]
pub(super) mod tests {
    use advisor_facts::SocketSource;

    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, fired, host};

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

    #[test]
    fn it_fires_from_a_mebibyte_and_warns_by_the_pressure_mark() {
        let mut facts = firing();
        let held = |facts: &Facts| -> u64 {
            let dead = facts
                .now
                .every_socket()
                .filter(|(_, socket)| has_dead_peer(socket));
            dead.map(|(_, socket)| socket.held_bytes()).sum()
        };
        let bytes = held(&facts);
        assert!(bytes >= WORTH_BYTES, "{bytes}");
        // A 64th of the pressure mark is what they hold.
        let pressure = bytes.div_ceil(facts.page_bytes) * 64;
        facts.settings.tcp_mem = Some([pressure, pressure, pressure]);
        assert_eq!(fired(&RULE, &facts)[0].severity, Severity::Notice);
        facts.settings.tcp_mem = Some([1, 64, 128]);
        assert_eq!(fired(&RULE, &facts)[0].severity, Severity::Warning);
        let all = &mut facts.now.sockets.as_mut().unwrap().all;
        let mut number = 0;
        all.retain(|socket| {
            number += usize::from(has_dead_peer(socket));
            !has_dead_peer(socket) || number == 1
        });
        assert!(held(&facts) < WORTH_BYTES);
        assert_quiet(&RULE, &facts);
    }
}
