//! A listener whose accept queue is full now.

use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_facts::{Facts, SocketSource};
use advisor_report::measured::Measured;

use super::program::{name, plain};
use super::somaxconn_low::SETTING;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB501",
    name: "accept-queue-full",
    scope: Scope::Namespace,
    scenario: Some("listen/queue/overflow[backlog=1,family=ipv4]"),
    cure: Some("listen/queue/room-again"),
    proven_by: ProvenBy::Reproduction(&[Harm::ConnectionLate]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A listener whose accept queue is full now. A client that connects gets no answer \
        and tries again after a second.",
    evidence: "The queue and the backlog of each listener: a backlog of N holds N+1 connections. \
        This shows one moment; LB510 shows by counters what was dropped.",
    recommendation: "accept() sooner: in a thread of its own, or in a loop until EAGAIN. A \
        longer backlog if the program is only late at times; somaxconn limits it.",
    cost: "Memory for waiting connections, about 2 KiB each.",
    risk: "If the program is too slow, a longer queue makes its clients wait longer.",
    undo: "Set the former backlog.",
    references: &[
        "sk_acceptq_is_full: include/net/sock.h of Linux",
        "listen(2), backlog; somaxconn: Documentation/admin-guide/sysctl/net.rst of Linux",
        "a backlog of N admits N+1: measured",
    ],
};

/// Largest number of listeners reported.
const LISTENERS: usize = 5;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let sockets = facts.now.sockets.as_ref();
    let Some(sockets) = sockets.filter(|sockets| sockets.source == SocketSource::SockDiag) else {
        return Outcome::NotEvaluated("needs the backlogs, which only sock_diag gives".to_owned());
    };
    let listeners = sockets
        .all
        .iter()
        .filter(|socket| socket.state == TcpState::Listen);
    let mut full: Vec<_> = listeners
        .clone()
        .filter(|socket| socket.recv_queue_bytes > socket.send_queue_bytes)
        .collect();
    if full.is_empty() {
        let listeners = listeners.count();
        return Outcome::Quiet(format!("none of {listeners} listeners has a full queue"));
    }
    full.sort_by_key(|socket| std::cmp::Reverse(socket.recv_queue_bytes));
    full.truncate(LISTENERS);
    Outcome::Fired(
        full.into_iter()
            .map(|socket| finding(facts, socket))
            .collect(),
    )
}

fn finding(facts: &Facts, socket: &TcpSocket) -> Finding {
    let somaxconn = facts.settings.somaxconn;
    let address = plain(socket.local);
    let program = name(facts, &[socket]);
    let (waiting, backlog) = (socket.recv_queue_bytes, socket.send_queue_bytes);
    let cut = somaxconn.is_some_and(|most| i64::from(backlog) >= most);
    let mut evidence = vec![
        Evidence::new(
            format!("{address}.queue"),
            i64::from(waiting).into(),
            "sock_diag, LISTEN",
        ),
        Evidence::new(
            format!("{address}.backlog"),
            i64::from(backlog).into(),
            "sock_diag, LISTEN",
        ),
    ];
    if let Some(most) = somaxconn {
        evidence.push(Evidence::sysctl(SETTING, most.into()));
    }
    Finding {
        severity: Severity::Critical,
        confidence: Confidence::High,
        summary: format!(
            "the accept queue of {program} on {address} is full: {waiting} wait for accept()"
        ),
        why: if cut {
            "The program does not accept as fast as connections come. Its backlog is as long as \
             somaxconn allows: to lengthen it, raise both."
                .to_owned()
        } else {
            "The program does not accept as fast as connections come. somaxconn allows a longer \
             backlog than the one it asks for."
                .to_owned()
        },
        applies_to: AppliesTo::Program,
        subject: format!("{program}, the listener on {address}"),
        setting: "accept() and the backlog of listen()".to_owned(),
        current: format!("{waiting} wait, backlog {backlog}"),
        proposed: "accept() in a loop until EAGAIN; a backlog of as many as come while it is \
            busy"
            .to_owned(),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program: see what it does instead of accept(); listen(fd, 4096); most \
            servers have a setting for it (backlog)"
            .to_owned(),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: format!(
            "{}: Recv-Q stays below Send-Q",
            facts.command(&format!("ss -tln 'sport = :{}'", address.port()))
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("accept-queue-full")
    }

    #[test]
    fn a_backlog_of_n_holds_one_more() {
        let mut facts = firing();
        let queue = |facts: &mut Facts, waiting: u32, backlog: u32| {
            for socket in &mut facts.now.sockets.as_mut().unwrap().all {
                if socket.state == TcpState::Listen {
                    socket.recv_queue_bytes = waiting;
                    socket.send_queue_bytes = backlog;
                }
            }
        };
        queue(&mut facts, 5, 5);
        assert_quiet(&RULE, &facts);
        queue(&mut facts, 6, 5);
        fired(&RULE, &facts);
        facts.now.sockets.as_mut().unwrap().source = SocketSource::ProcNetTcp;
        assert_not_evaluated(&RULE, &facts, "sock_diag");
    }
}
