//! Memory held by data for live peers that do not take it.

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::sock_diag::TcpSocket;
use advisor_facts::units::{bytes, span};
use advisor_report::measured::Measured;

use super::program::{Program, Sides, by_program, plain, without_tcp_info, worth_bytes};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB403",
    name: "stalled-peer-holds-memory",
    scope: Scope::Namespace,
    scenario: Some("memory/vanished-client/dead-or-slow"),
    cure: None,
    proven_by: ProvenBy::Reproduction(&[Harm::TransferStalls, Harm::DataLost]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections whose peers are alive and do not take what is sent. Their window is \
        closed, or they take the data more slowly than the program writes it. The kernel holds \
        what waits for them, and healthy connections get less memory.",
    evidence: "tcp_info and the timer of each socket, orphans too: a window of 0 that is being \
        probed, or more data than one second at the delivery rate, or a doubled timer. It fires if \
        the sockets of one program hold a sixteenth of the pressure mark of tcp_mem, or 64 MiB if \
        that cannot be read. Orphans count for the program that listens on their port. A client \
        here whose server has taken nothing for five minutes is a notice, however little it holds: \
        it hangs.",
    recommendation: "In the program, limit how long a write may wait and how much is queued for \
        one peer: a time limit for writing, TCP_NOTSENT_LOWAT. TCP_USER_TIMEOUT cuts off a peer \
        that does not read for that long, before close() and after it. tcp_orphan_retries does \
        nothing while the peer answers probes.",
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

/// A program that connected to a server has waited for this long when it hangs (our
/// judgement). A client of a server here may rest as long as it likes.
const HANGS_MS: u32 = 300_000;

/// For how long the longest of a program's own connections to servers has waited at a
/// closed window, in milliseconds; `None` if none has for long.
fn hangs_ms(facts: &Facts, sides: &Sides, program: &Program<'_>) -> Option<u32> {
    program
        .sockets
        .iter()
        .filter(|socket| {
            Condition::of(socket) == Condition::ZeroWindow && sides.is_client(facts, socket)
        })
        .filter_map(|socket| socket.info.as_ref()?.last_data_sent_ms())
        .max()
        .filter(|ms| *ms >= HANGS_MS)
}

/// The finding about peers that take what is sent, each in its time: to cut them off is no
/// cure.
fn served(finding: Finding) -> Finding {
    Finding {
        why: "These peers take their data, more slowly than the program writes it: up to a send \
            buffer waits for each. They are served, so a time limit would cut off whom it should \
            not; less that waits does them no harm."
            .to_owned(),
        setting: "what is queued for one peer".to_owned(),
        proposed: "less: TCP_NOTSENT_LOWAT, or a smaller SO_SNDBUF".to_owned(),
        apply: "in the program, on each connection: unsigned bytes = 131072; setsockopt(fd, \
            IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes), and write when poll() says so; \
            many servers have a setting for it, or for SO_SNDBUF"
            .to_owned(),
        ..finding
    }
}

#[expect(clippy::too_many_lines, reason = "mostly the texts of one finding")]
fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let worth = worth_bytes(facts);
    let programs = by_program(facts, |socket| {
        matches!(
            Condition::of(socket),
            Condition::ZeroWindow | Condition::Slow | Condition::OrphanZeroWindow
        )
    });
    let held: u64 = programs.iter().map(|program| program.bytes).sum();
    let count: usize = programs.iter().map(|program| program.sockets.len()).sum();
    let sides = Sides::of(facts);
    let findings: Vec<_> = programs
        .iter()
        .filter_map(|program| {
            let hangs_ms = hangs_ms(facts, &sides, program);
            (program.bytes >= worth || hangs_ms.is_some()).then_some((program, hangs_ms))
        })
        .map(|(program, hangs_ms)| {
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
            let orphans = program
                .sockets
                .iter()
                .filter(|socket| socket.is_orphan())
                .count();
            let stay = if orphans > 0 {
                "After close() an orphan at a closed window lives about 347 s whatever \
                 tcp_orphan_retries says, as long as the peer answers. "
            } else {
                ""
            };
            let peers = match orphans {
                0 if count == 1 => format!("1 peer of {}", program.name),
                0 => format!("{count} peers of {}", program.name),
                orphans if orphans == count => {
                    format!("the peers of {count} orphans of {}", program.name)
                }
                orphans => format!(
                    "{count} peers of {}, {orphans} of them of orphans,",
                    program.name
                ),
            };
            let since = hangs_ms.map_or_else(String::new, |ms| {
                format!(", the longest for {}", span(u64::from(ms)))
            });
            let is_slow = |socket: &&TcpSocket| Condition::of(socket) == Condition::Slow;
            let are_slow = program.sockets.iter().all(is_slow);
            let take = match (are_slow, count) {
                (false, 1) => "does not take its data",
                (false, _) => "do not take their data",
                (true, 1) => "takes its data slowly",
                (true, _) => "take their data slowly",
            };
            let finding = Finding {
                severity: if program.bytes >= worth {
                    Severity::Warning
                } else {
                    Severity::Notice
                },
                confidence: Confidence::Medium,
                summary: format!("{peers} {take}{since}: {} held", bytes(program.bytes)),
                why: format!(
                    "These peers answer, so neither keepalive nor retransmission ends the \
                     connections, and what is queued for them stays. {stay}Only the program can \
                     tell how long a peer is worth waiting for."
                ),
                applies_to: AppliesTo::Program,
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
                proposed: "close a connection whose write waits for longer than a client is \
                    worth, for example 30 s, and bound the close itself by TCP_USER_TIMEOUT"
                    .to_owned(),
                evidence,
                cost: DOCUMENTATION.cost.to_owned(),
                risk: DOCUMENTATION.risk.to_owned(),
                apply: "in the program: a deadline on write(); and on each connection unsigned ms \
                    = 30000; setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms), which \
                    holds after close() too, and TCP_NOTSENT_LOWAT to queue less"
                    .to_owned(),
                undo: DOCUMENTATION.undo.to_owned(),
                verify: "advisor sockets --by process shows less for zero window and slow peers"
                    .to_owned(),
            };
            if are_slow { served(finding) } else { finding }
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
    use crate::rules::testing::{
        add_process, add_sockets, bare_host, fired, host, outcome, set, socket,
    };
    use advisor_facts::sock_diag::TcpState;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("stalled-peer-holds-memory")
    }

    #[test]
    fn orphans_whose_peers_do_not_read_are_their_listeners_matter() {
        let mut facts = bare_host(7 << 30);
        add_sockets(
            &mut facts,
            (1..=40).map(|number| {
                let peer = format!("198.51.100.{number}:2000");
                socket(TcpState::FinWait1, "10.1.1.1:1935", &peer)
                    .sending(1_700_000, 2_200_000)
                    .at_a_closed_window()
                    .done()
            }),
        );
        let listener = socket(TcpState::Listen, "0.0.0.0:1935", "0.0.0.0:0").held_by(9);
        add_sockets(&mut facts, [listener.done()]);
        add_process(&mut facts, (31, "nginx"), None, [9]);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.subject, "nginx (31)");
        assert!(finding.why.contains("347 s whatever"), "{}", finding.why);
        assert!(!finding.apply.contains("tcp_orphan_retries"));
    }

    #[test]
    fn slow_peers_are_served_and_not_cut_off() {
        let mut facts = bare_host(7 << 30);
        add_sockets(
            &mut facts,
            (1..=200).map(|number| {
                let peer = format!("198.51.100.{number}:2000");
                socket(TcpState::Established, "10.1.1.1:443", &peer)
                    .held_by(9)
                    .sending(200_000, 250_000)
                    .info("delivery_rate", 60_000)
                    .done()
            }),
        );
        add_process(&mut facts, (31, "nginx"), None, [9]);
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding
                .summary
                .starts_with("200 peers of nginx (31) take their data slowly"),
            "{}",
            finding.summary
        );
        assert!(finding.proposed.contains("TCP_NOTSENT_LOWAT"));
        // With one whose window is closed it is as before.
        let closed = socket(TcpState::Established, "10.1.1.1:443", "198.51.100.250:2000")
            .held_by(9)
            .sending(200_000, 250_000)
            .at_a_closed_window();
        add_sockets(&mut facts, [closed.done()]);
        let finding = fired(&RULE, &facts).remove(0);
        assert!(finding.summary.contains("do not take their data"));
    }

    #[test]
    fn a_client_that_hangs_is_told_however_little_it_holds() {
        let host = |local: &str, ms: u32| {
            let mut facts = bare_host(7 << 30);
            set(&mut facts, "net.ipv4.ip_local_port_range", "32768 60999");
            let stalled = socket(TcpState::Established, local, "10.1.0.9:9092")
                .held_by(5)
                .sending(4_000, 5_000)
                .at_a_closed_window();
            let stalled = stalled.info("last_data_sent", u64::from(ms));
            add_sockets(&mut facts, [stalled.done()]);
            add_process(&mut facts, (31, "producer"), None, [5]);
            facts
        };
        let finding = fired(&RULE, &host("10.1.1.1:40000", 600_000)).remove(0);
        assert_eq!(finding.severity, Severity::Notice);
        assert!(
            finding.summary.starts_with(
                "1 peer of producer (31) does not take its data, the longest for 10 min"
            ),
            "{}",
            finding.summary
        );
        // Not yet, and not a client of a server here.
        for (local, ms) in [("10.1.1.1:40000", 200_000), ("10.1.1.1:443", 600_000)] {
            let quiet = outcome(&RULE, &host(local, ms));
            assert!(matches!(quiet, Outcome::Quiet(_)), "{local} {ms}");
        }
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
