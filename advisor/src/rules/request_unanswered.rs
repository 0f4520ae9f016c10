//! A program waits for an answer that does not come, though the peer's kernel is well.

use advisor_facts::Facts;
use advisor_facts::condition::{Condition, unread_bytes};
use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_facts::units::span;
use advisor_report::measured::Measured;

use super::program::{Program, Sides, by_program, connections, plain, without_tcp_info};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB417",
    name: "request-unanswered",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing("no suite has a peer that reads and never answers yet"),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections on which a request has had no answer for minutes. The peer has \
        acknowledged the request: its kernel is well and its program hangs. \
        Neither retransmission nor keepalive nor TCP_USER_TIMEOUT ends that.",
    evidence: "tcp_info of connections that a program here has made, ESTABLISHED, with nothing to \
        send and nothing unread: data was sent 5 minutes ago or more and at least a second after \
        the last that was received. Where nothing was ever received, 3 such connections to one \
        address: a single one may be a protocol that has no answers, as syslog.",
    recommendation: "A time limit for the answer in the program. See first what the peer waits for.",
    cost: "None.",
    risk: "An answer that takes long by design, a report or a long poll, is given up.",
    undo: "Take the change of the program out again.",
    references: &[
        "last_data_sent, last_data_recv of tcp_info: tcp_get_info in net/ipv4/tcp.c of Linux",
        "socket(7), SO_RCVTIMEO",
    ],
};

/// So long without an answer, in milliseconds.
const LONG_MS: u32 = 300_000;
/// What was sent so long after the last that was received is no part of the same
/// exchange, in milliseconds.
const APART_MS: u32 = 1_000;
/// So many connections on which nothing ever came.
const MANY_SILENT: usize = 3;
/// Connections that are shown.
const SHOWN: usize = 3;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let programs = by_program(facts, |socket| waits_ms(socket).is_some());
    if programs.is_empty() {
        return Outcome::Quiet("no request is unanswered for 5 minutes".to_owned());
    }
    let sides = Sides::of(facts);
    let findings: Vec<_> = programs
        .iter()
        .filter_map(|program| {
            let waiting = waiting(facts, &sides, program);
            (!waiting.is_empty()).then(|| finding(facts, program, &waiting))
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(
            "no request of a client here is unanswered for 5 minutes".to_owned(),
        );
    }
    Outcome::Fired(findings)
}

/// For how long a connection has waited for an answer, in milliseconds, if it may be one
/// that does.
fn waits_ms(socket: &TcpSocket) -> Option<u32> {
    let condition = Condition::of(socket);
    let is_still = matches!(condition, Condition::Idle | Condition::Healthy);
    if socket.state != TcpState::Established
        || !is_still
        || socket.inode == 0
        || socket.send_queue_bytes > 0
        || unread_bytes(socket) > 0
    {
        return None;
    }
    let info = socket.info.as_ref()?;
    let (sent, received) = (info.last_data_sent_ms()?, info.last_data_recv_ms()?);
    let asked = info.bytes_acked()? > 1;
    let never = info.bytes_received()? == 0;
    let after = received.saturating_sub(sent) >= APART_MS;
    (asked && sent >= LONG_MS && (never || after)).then_some(sent)
}

fn waiting<'a>(facts: &Facts, sides: &Sides, program: &Program<'a>) -> Vec<&'a TcpSocket> {
    let of_clients: Vec<&TcpSocket> = program
        .sockets
        .iter()
        .copied()
        .filter(|socket| sides.is_client(facts, socket))
        .collect();
    let is_silent = |socket: &TcpSocket| {
        let info = socket.info.as_ref();
        info.and_then(advisor_facts::sock_diag::TcpInfo::bytes_received) == Some(0)
    };
    let silent_with = |socket: &TcpSocket| {
        let same = of_clients.iter().filter(|other| {
            is_silent(other) && other.peer.ip().to_canonical() == socket.peer.ip().to_canonical()
        });
        same.count()
    };
    of_clients
        .iter()
        .copied()
        .filter(|socket| !is_silent(socket) || silent_with(socket) >= MANY_SILENT)
        .collect()
}

fn finding(facts: &Facts, program: &Program<'_>, waiting: &[&TcpSocket]) -> Finding {
    let count = waiting.len();
    let longest = waiting.iter().filter_map(|socket| waits_ms(socket)).max();
    let longest = span(longest.unwrap_or(0).into());
    let mut evidence = vec![Evidence::new(
        "host.sockets.unanswered",
        i64::try_from(count).unwrap_or(i64::MAX).into(),
        "sock_diag, tcp_info",
    )];
    evidence.push(Evidence::new(
        "host.sockets.unanswered.longest",
        longest.as_str().into(),
        "tcp_info.last_data_sent",
    ));
    evidence.extend(waiting.iter().take(SHOWN).map(|socket| {
        Evidence::new(
            format!("{} -> {}", plain(socket.local), plain(socket.peer)),
            format!(
                "asked {} ago, nothing received since",
                span(waits_ms(socket).unwrap_or(0).into())
            )
            .as_str()
            .into(),
            "tcp_info.last_data_sent, last_data_recv",
        )
    }));
    Finding {
        severity: Severity::Notice,
        confidence: Confidence::Low,
        summary: format!(
            "{} of {} wait for an answer, the longest for {longest}",
            connections(count),
            program.name
        ),
        why: "The peer's kernel has acknowledged what was sent, and its program has not answered. \
            The kernel here has nothing to do any more: no timer of its own ends the wait, and \
            keepalive finds the peer alive."
            .to_owned(),
        applies_to: AppliesTo::Program,
        subject: program.name.clone(),
        setting: "a time limit for the answer".to_owned(),
        current: format!(
            "{} without an answer for up to {longest}",
            connections(count)
        ),
        proposed: "SO_RCVTIMEO, or a deadline in the event loop, above the longest answer that is \
            worth waiting for"
            .to_owned(),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program: give up a request whose answer does not come in time, and close \
            its connection; at the peer: see what the program waits for"
            .to_owned(),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: format!(
            "{} shows lastsnd below the time limit on connections with lastrcv above it",
            facts.command("ss -tni")
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{add_process, add_sockets, assert_quiet, fired, host, socket};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        asked(1, 600_000, 700_000, 5_000)
    }

    /// A host whose client has asked so long ago on so many connections.
    fn asked(count: u32, sent_ms: u64, received_ms: u64, received: u64) -> Facts {
        let mut facts = host("quiet");
        add_sockets(
            &mut facts,
            (1..=count).map(|number| {
                let local = format!("10.0.0.1:{}", 50_000 + number);
                socket(TcpState::Established, &local, "10.0.0.9:5432")
                    .held_by(90_000 + number)
                    .info("last_data_sent", sent_ms)
                    .info("last_data_recv", received_ms)
                    .info("last_ack_recv", sent_ms)
                    .info("bytes_received", received)
                    .done()
            }),
        );
        add_process(
            &mut facts,
            (77, "web"),
            None,
            (1..=count).map(|number| 90_000 + number),
        );
        facts
    }

    #[test]
    fn the_last_word_has_to_be_ours() {
        let finding = fired(&RULE, &firing()).remove(0);
        assert_eq!(
            finding.summary,
            "1 connection of web (77) wait for an answer, the longest for 10 min"
        );
        // A pool: the answer came.
        assert_quiet(&RULE, &asked(20, 600_100, 600_000, 5_000));
        // What was sent along with the last answer.
        assert_quiet(&RULE, &asked(20, 600_000, 600_200, 5_000));
        // A young one.
        assert_quiet(&RULE, &asked(1, 100_000, 700_000, 5_000));
    }

    #[test]
    fn a_protocol_without_answers_is_told_by_its_single_connection() {
        assert_quiet(&RULE, &asked(2, 600_000, 600_000, 0));
        assert_eq!(fired(&RULE, &asked(3, 600_000, 600_000, 0)).len(), 1);
    }

    #[test]
    fn a_server_waits_for_its_clients_by_right() {
        let mut facts = firing();
        let listener = socket(TcpState::Listen, "0.0.0.0:50001", "0.0.0.0:0").held_by(90_001);
        add_sockets(&mut facts, [listener.done()]);
        assert_quiet(&RULE, &facts);
    }
}
