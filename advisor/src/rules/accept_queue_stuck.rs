//! Connections wait in an accept queue that nobody empties.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::sock_diag::TcpSocket;
use advisor_facts::units::{seconds, span};
use advisor_report::measured::Measured;

use super::program::{by_program, connections};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB503",
    name: "accept-queue-stuck",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Reproduction(&[Harm::ConnectionLate]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections that wait for accept() and do not get on. The program that listens \
        hangs, or has forgotten the listener. Its clients are connected, send their request and \
        get no answer. No counter moves before the queue is full.",
    evidence: "Connections without an inode on the port of a listener, in every network namespace. \
        The same one in both looks, at least 5 seconds apart; or one whose last data, or whose \
        handshake, is 10 seconds old (tcp_info.last_data_recv).",
    recommendation: "accept() in the program: see what its threads wait for.",
    cost: "None.",
    risk: "A program may leave connections in the queue on purpose, while it has as many as it \
        serves at once; then its clients wait as is meant.",
    undo: "Take the change of the program out again.",
    references: &[
        "inet_csk_accept, sock_graft (the inode comes with accept()): net/ipv4, net/core of Linux",
        "last_data_recv begins with the handshake: tcp_init_transfer, tcp_create_openreq_child in \
         net/ipv4 of Linux",
    ],
};

/// Two looks this far apart tell that a queue does not move.
const WINDOW: Duration = Duration::from_secs(5);
/// A connection that has waited for so long, in milliseconds.
const LONG_MS: u32 = 10_000;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.now.sockets.is_none() {
        return Outcome::NotEvaluated("the sockets cannot be seen".to_owned());
    }
    let before = facts
        .window()
        .filter(|(window, _)| *window >= WINDOW)
        .map(|(window, earlier)| {
            let waiting = earlier.every_socket().map(|(_, socket)| socket);
            let ids: HashSet<_> = waiting
                .filter(|one| waits(one))
                .map(TcpSocket::id)
                .collect();
            (window, ids)
        });
    let is_stuck = |socket: &TcpSocket| {
        let stayed = before
            .as_ref()
            .is_some_and(|(_, before)| before.contains(&socket.id()));
        stayed || waited_ms(socket).is_some_and(|waited| waited >= LONG_MS)
    };
    let mut waiting = 0_usize;
    // The port of each queue, with those that are stuck.
    let mut queues: BTreeMap<u16, Vec<&TcpSocket>> = BTreeMap::new();
    for (_, socket) in facts.now.every_socket().filter(|(_, socket)| waits(socket)) {
        waiting += 1;
        if is_stuck(socket) {
            queues.entry(socket.local.port()).or_default().push(socket);
        }
    }
    if queues.is_empty() {
        return Outcome::Quiet(match waiting {
            0 => "no connection waits for accept()".to_owned(),
            count => format!("{} for accept(), none for long", wait(count)),
        });
    }
    let window = before.as_ref().map(|(window, _)| *window);
    let findings = queues
        .into_iter()
        .map(|(port, stuck)| finding(facts, window, port, &stuck));
    Outcome::Fired(findings.collect())
}

fn waits(socket: &TcpSocket) -> bool {
    Condition::of(socket) == Condition::NotAccepted
}

/// For how long a connection has waited at least: since its last data, or its handshake.
fn waited_ms(socket: &TcpSocket) -> Option<u32> {
    socket.info.as_ref()?.last_data_recv_ms()
}

/// `1 connection waits`, `2 connections wait`.
fn wait(count: usize) -> String {
    let waits = if count == 1 { "waits" } else { "wait" };
    format!("{} {waits}", connections(count))
}

fn finding(facts: &Facts, window: Option<Duration>, port: u16, stuck: &[&TcpSocket]) -> Finding {
    let of_port = |socket: &TcpSocket| waits(socket) && socket.local.port() == port;
    let programs = by_program(facts, of_port);
    let name = programs.first().map_or_else(
        || format!("the program that listens on port {port}"),
        |program| program.name.clone(),
    );
    let longest = stuck.iter().filter_map(|socket| waited_ms(socket)).max();
    let since = match (longest, window) {
        (Some(longest), _) if longest >= LONG_MS => format!("{} or longer", span(longest.into())),
        (_, Some(window)) => format!("{} or longer", seconds(window)),
        _ => "long".to_owned(),
    };
    let count = stuck.len();
    Finding {
        severity: Severity::Warning,
        confidence: Confidence::High,
        summary: format!(
            "{} on port {port} for accept() by {name}, for {since}",
            wait(count)
        ),
        why: "The kernel has completed these connections, and the program does not take them: its \
            clients believe that they are connected, and wait. A longer backlog only lets more of \
            them wait."
            .to_owned(),
        applies_to: AppliesTo::Program,
        subject: name,
        setting: "accept()".to_owned(),
        current: format!("not called for {since}, {}", wait(count)),
        proposed: "accept() in time".to_owned(),
        evidence: vec![
            Evidence::new(
                "host.sockets.not-accepted",
                i64::try_from(count).unwrap_or(i64::MAX).into(),
                format!("the socket table, local port {port}"),
            ),
            Evidence::new(
                "host.sockets.not-accepted.longest",
                since.as_str().into(),
                "both looks, tcp_info.last_data_recv",
            ),
        ],
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "see what the program's threads wait for (a lock, a disk, a full pool of workers); \
            restart it if it hangs; a listener that is no longer wanted is to be closed"
            .to_owned(),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: format!(
            "{} shows a Recv-Q that falls to 0",
            facts.command(&format!("ss -ltn 'sport = :{port}'"))
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{
        add_process, add_sockets, assert_not_evaluated, assert_quiet, bare_host, fired, host,
        move_to_namespace, socket,
    };
    use advisor_facts::sock_diag::TcpState;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        let mut facts = host("quiet");
        queue(&mut facts, 12_000);
        facts
    }

    /// Two connections that wait for accept(), since their handshake so long ago.
    fn queue(facts: &mut Facts, ms: u64) {
        add_sockets(
            facts,
            [socket(TcpState::Listen, "0.0.0.0:9000", "0.0.0.0:0")
                .held_by(9)
                .done()],
        );
        add_sockets(
            facts,
            (1..=2).map(|number| {
                let peer = format!("10.0.0.{number}:4000");
                socket(TcpState::Established, "10.0.0.9:9000", &peer)
                    .unread(100, 1000)
                    .still_for(ms)
                    .done()
            }),
        );
        add_process(facts, (88, "worker"), None, [9]);
    }

    #[test]
    fn a_queue_that_does_not_move_is_named_by_its_program() {
        let finding = fired(&RULE, &firing()).remove(0);
        assert_eq!(
            finding.summary,
            "2 connections wait on port 9000 for accept() by worker (88), for 12 s or longer"
        );
        let mut facts = bare_host(1 << 30);
        queue(&mut facts, 3_000);
        assert_quiet(&RULE, &facts);
        // The same ones as some time before.
        let mut earlier = facts.now.clone();
        earlier.uptime = facts
            .now
            .uptime
            .checked_sub(Duration::from_secs(30))
            .unwrap();
        facts.set_earlier(earlier);
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding.summary.ends_with("for 30.0 s or longer"),
            "{}",
            finding.summary
        );
        // Others in their place: it moves.
        for (number, socket) in (1_u8..).zip(&mut facts.now.sockets.as_mut().unwrap().all) {
            socket.cookie[7] = number;
        }
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn a_queue_of_another_namespace_is_seen() {
        let mut facts = firing();
        move_to_namespace(&mut facts, 4_026_532_777, 88);
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding.subject.starts_with("worker (88)"),
            "{}",
            finding.subject
        );
        assert!(
            finding.verify.starts_with("nsenter -t 88 -n ss -ltn"),
            "{}",
            finding.verify
        );
        facts.now.elsewhere.clear();
        facts.now.sockets = None;
        assert_not_evaluated(&RULE, &facts, "the sockets cannot be seen");
    }
}
