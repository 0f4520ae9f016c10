//! Memory held by data for live peers that do not take it.

use super::close_wait_left::plain;
use super::program::{by_program, without_tcp_info, worth_bytes};
use super::{
    Confidence, Documentation, Evidence, Finding, Kind, Outcome, ProvenBy, Rule, Severity, bytes,
};
use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB403",
    name: "stalled-peer-holds-memory",
    scenario: Some("memory/vanished-client/dead-or-slow"),
    cure: None,
    proven_by: ProvenBy::Suites(&["stalled-peer-holds-memory"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections whose peers are alive and do not take what is sent. Their window is \
        closed, or they take the data more slowly than the program writes it. The kernel holds \
        what waits for them, and healthy connections get less memory.",
    evidence: "tcp_info and the timer of each socket: a window of 0 that is being probed, or \
        more data than one second at the delivery rate, or a doubled timer. It fires if the \
        sockets of one program hold a sixteenth of the pressure mark of tcp_mem, or 64 MiB if \
        that cannot be read.",
    recommendation: "In the program, limit how long a write may wait and how much is queued for \
        one peer: a time limit for writing, TCP_NOTSENT_LOWAT. TCP_USER_TIMEOUT cuts off a peer \
        that does not read for that long.",
    cost: "None in memory.",
    risk: "If the limit is too tight, slow peers that should be served are cut off.",
    undo: "Revert the change of the program.",
    references: &[
        "tcp(7), TCP_USER_TIMEOUT and TCP_NOTSENT_LOWAT",
        "tcp_probe_timer: net/ipv4/tcp_timer.c of Linux",
        "zero window and slow are told from dead: measured, crash/vanished-peer",
    ],
};

/// Largest number of peers shown as evidence.
const PEERS: usize = 5;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let worth = worth_bytes(facts);
    let programs = by_program(facts, |socket| {
        socket.inode != 0
            && matches!(
                Condition::of(socket),
                Condition::ZeroWindow | Condition::Slow
            )
    });
    let held: u64 = programs.iter().map(|program| program.bytes).sum();
    let count: usize = programs.iter().map(|program| program.sockets.len()).sum();
    let findings: Vec<_> = programs
        .iter()
        .filter(|program| program.bytes >= worth)
        .map(|program| {
            let count = program.sockets.len();
            let mut evidence = vec![
                Evidence::new(
                    "host.sockets.stalled-peer",
                    i64::try_from(count).unwrap_or(i64::MAX).into(),
                    "sock_diag, tcp_info",
                ),
                Evidence::new(
                    "host.sockets.stalled-peer.bytes",
                    i64::try_from(program.bytes).unwrap_or(i64::MAX).into(),
                    "sock_diag, SKMEMINFO",
                ),
            ];
            evidence.extend(program.sockets.iter().take(PEERS).map(|socket| {
                let condition = Condition::of(socket);
                Evidence::new(
                    format!("{} -> {}", plain(socket.local), plain(socket.peer)),
                    format!(
                        "{} held, {condition}: {}",
                        bytes(socket.held_bytes()),
                        condition.reason(socket)
                    )
                    .as_str()
                    .into(),
                    "sock_diag, tcp_info",
                )
            }));
            Finding {
                severity: Severity::Warning,
                confidence: Confidence::Medium,
                summary: format!(
                    "{count} peers of {} do not take their data: {} held",
                    program.name,
                    bytes(program.bytes)
                ),
                why: "These peers answer, so neither keepalive nor retransmission ends the \
                    connections, and the data queued for them stays. Only the program can say \
                    how long a peer is worth waiting for."
                    .to_owned(),
                kind: Kind::Program,
                subject: program.name.clone(),
                setting: "a time limit for writing".to_owned(),
                current: format!("{count} connections wait, the largest with {}", {
                    bytes(
                        program
                            .sockets
                            .first()
                            .map_or(0, |socket| socket.held_bytes()),
                    )
                }),
                proposed: "close a connection whose write waits longer than a client is worth, \
                    for example 30 s"
                    .to_owned(),
                evidence,
                cost: DOCUMENTATION.cost.to_owned(),
                risk: DOCUMENTATION.risk.to_owned(),
                apply: "in the program: a deadline on write(); or on each connection unsigned ms \
                    = 30000; setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms), and \
                    TCP_NOTSENT_LOWAT to queue less"
                    .to_owned(),
                undo: DOCUMENTATION.undo.to_owned(),
                verify: "advisor sockets --by process shows less for zero window and slow peers"
                    .to_owned(),
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(match count {
            0 => "no peer leaves data waiting".to_owned(),
            count => format!("{count} peers leave data waiting, {} in all", bytes(held)),
        });
    }
    Outcome::Fired(findings)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{host, outcome};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("stalled-peer-holds-memory")
    }

    #[test]
    fn it_fires_from_a_sixteenth_of_the_pressure_mark() {
        let mut facts = firing();
        let held = by_program(&facts, |socket| {
            let condition = Condition::of(socket);
            socket.inode != 0 && matches!(condition, Condition::ZeroWindow | Condition::Slow)
        })[0]
            .bytes;
        let mut fires_at = |bytes: u64| {
            let pressure = bytes / facts.page_bytes * 16;
            facts.settings.tcp_mem = Some([pressure, pressure, pressure]);
            matches!(outcome(&RULE, &facts), Outcome::Fired(_))
        };
        assert!(fires_at(held));
        assert!(!fires_at(held + 4096));
    }
}
