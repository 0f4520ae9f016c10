//! A program leaves connections in CLOSE_WAIT.

use advisor_facts::Facts;
use advisor_facts::condition::{Condition, unread_bytes};
use advisor_facts::sock_diag::TcpSocket;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::left::{Left, left};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB202",
    name: "close-wait-left",
    scope: Scope::Namespace,
    scenario: Some("crash/leak/close-wait"),
    cure: None,
    proven_by: ProvenBy::Reproduction(&[Harm::NoDescriptors]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Sockets in CLOSE_WAIT: the peer has closed, the local program has not. No timer \
        ends this state and no counter shows it. In the end the program runs out of descriptors.",
    evidence: "Sockets in CLOSE_WAIT with nothing left to send, per process, in every network \
        namespace. It fires at 10 old ones at one endpoint, or 30 of one process: in both looks at \
        least 10 seconds apart, or without an acknowledgment for a minute (tcp_info). Fewer are \
        usual in pools of idle connections. If no age is known it fires at 100 at one endpoint: \
        for so many by chance, a program that closes within 100 ms would have to lose 1000 \
        connections a second.",
    recommendation: "close() when read() returns 0.",
    cost: "None.",
    risk: "A program may keep its half open on purpose, to send more after the peer's \
        shutdown(). Sockets with data to send are not counted.",
    undo: "Revert the change of the program.",
    references: &[
        "RFC 9293 section 3.6, CLOSE-WAIT",
        "last_ack_recv of tcp_info: tcp_ack in net/ipv4/tcp_input.c of Linux",
        "idle connections in a pool: 10 a host by default in urllib3",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(sockets) = &facts.now.sockets else {
        return Outcome::NotEvaluated("the sockets cannot be seen".to_owned());
    };
    let source = sockets.source.as_str();
    let counted = left(facts, |socket| {
        Condition::of(socket) == Condition::ClosedByPeer
    });
    if counted.left.is_empty() {
        return Outcome::Quiet(match counted.most {
            None => "no socket in CLOSE_WAIT".to_owned(),
            Some(most) => format!(
                "{} in CLOSE_WAIT, most of {most}: too few or too young to be a leak",
                counted.count
            ),
        });
    }
    let findings = counted.left.iter().map(|left| finding(facts, left, source));
    Outcome::Fired(findings.collect())
}

fn finding(facts: &Facts, left: &Left<'_>, source: &str) -> Finding {
    let count = left.sockets.len();
    let subject = &left.subject;
    let mut evidence = left.evidence("CLOSE_WAIT", source);
    let unread: Vec<_> = left
        .sockets
        .iter()
        .filter(|socket| unread_bytes(socket) > 0)
        .collect();
    if !unread.is_empty() {
        evidence.push(Evidence::new(
            "host.sockets.CLOSE_WAIT.unread",
            i64::try_from(unread.len()).unwrap_or(i64::MAX).into(),
            source,
        ));
    }
    let held: u64 = left.sockets.iter().map(|socket| socket.held_bytes()).sum();
    let holds = if held >= HELD_BYTES {
        format!(", with {} unread in the kernel", bytes(held))
    } else {
        String::new()
    };
    Finding {
        confidence: Confidence::Medium,
        severity: Severity::Warning,
        summary: format!(
            "{subject} leaves {count} sockets in CLOSE_WAIT{}, {}{holds}",
            left.spread, left.age
        ),
        why: format!(
            "The peer has closed these connections and the program has not: it does not read the \
             end of file, or it forgets the descriptor. No timer and no setting of the kernel \
             frees them. In the end the process runs out of descriptors.{}",
            if forwards_the_end(facts, left) {
                FORWARDS
            } else {
                ""
            }
        ),
        applies_to: AppliesTo::Program,
        subject: subject.clone(),
        setting: "close()".to_owned(),
        current: format!("not called on {count} connections that the peer has closed"),
        proposed: "close() when read() returns 0".to_owned(),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: format!(
            "find the process: {}; in it, close each connection whose read() returns 0 and drop \
             idle ones from pools; until then, restarting it frees them",
            left.show(facts, "-tanp", "close-wait")
        ),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: format!(
            "{} | wc -l stays small",
            left.show(facts, "-tan", "close-wait")
        ),
    }
}

const FORWARDS: &str = " It holds about as many half-closed connections (LB204): a proxy that \
    forwards the end of one side waits for the end of the other. Then it is the servers behind it \
    that do not close, and the proxy lacks a time limit for them.";

/// Whether the program half-closed about as many connections, as a proxy does.
fn forwards_the_end(facts: &Facts, left: &Left<'_>) -> bool {
    let processes = &facts.processes;
    let holder = |socket: &TcpSocket| {
        let holder = processes.holders_of(socket.inode).first();
        holder.map(|holder| holder.process)
    };
    let Some(process) = left.sockets.first().and_then(|socket| holder(socket)) else {
        return false;
    };
    let half_closed = facts.now.every_socket().filter(|(_, socket)| {
        Condition::of(socket) == Condition::HalfClosed && holder(socket) == Some(process)
    });
    half_closed.count() * 2 >= left.sockets.len()
}

/// From so much on what they hold is named, in bytes.
const HELD_BYTES: u64 = 1 << 20;

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rules::testing::{
        add_process, add_sockets, assert_not_evaluated, assert_quiet, bare_host, fired, host,
        socket,
    };
    use advisor_facts::sock_diag::TcpState;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("close-wait-left")
    }

    #[test]
    fn close_wait_needs_many_or_old_sockets() {
        let facts = firing();
        assert_eq!(fired(&RULE, &facts).len(), 1, "four to one peer are a pool");

        // Of unknown age: only very many are told from chance.
        let mut unknown = facts.clone();
        let all = &mut unknown.now.sockets.as_mut().unwrap().all;
        for socket in all.iter_mut() {
            socket.info = None;
        }
        assert_quiet(&RULE, &unknown);
        let all = &mut unknown.now.sockets.as_mut().unwrap().all;
        let one = all
            .iter()
            .find(|socket| socket.state.as_str() == "CLOSE_WAIT")
            .unwrap();
        let many = vec![one.clone(); 100];
        all.extend(many);
        assert!(fired(&RULE, &unknown)[0].summary.contains("of unknown age"));

        // Young by tcp_info, but there in both looks.
        let mut young = facts.clone();
        for socket in &mut young.now.sockets.as_mut().unwrap().all {
            if let Some(info) = &mut socket.info {
                assert!(info.set("last_ack_recv", 5));
            }
        }
        assert_quiet(&RULE, &young);
        let mut earlier = young.now.clone();
        earlier.uptime = young
            .now
            .uptime
            .checked_sub(Duration::from_secs(30))
            .unwrap();
        young.set_earlier(earlier);
        assert!(
            fired(&RULE, &young)[0]
                .summary
                .ends_with("all for 30.0 s or longer")
        );

        // What is still sending is not left.
        let mut sending = facts;
        for socket in &mut sending.now.sockets.as_mut().unwrap().all {
            socket.send_queue_bytes = 1;
        }
        assert_quiet(&RULE, &sending);
    }

    /// A process that holds 40 of these, to as many peers.
    fn held(sides: &[(TcpState, u32)]) -> Facts {
        let mut facts = bare_host(4 << 30);
        for (state, first) in sides {
            add_sockets(
                &mut facts,
                (0..40).map(|number| {
                    let local = format!("10.0.0.5:{}", 40_000 + first + number);
                    let peer = format!("198.51.100.{}:9443", number + 1);
                    socket(*state, &local, &peer)
                        .held_by(first + number)
                        .still_for(4_000_000)
                        .done()
                }),
            );
        }
        facts
    }

    #[test]
    fn a_proxy_that_forwards_the_end_is_told_from_a_leak() {
        let sides = [(TcpState::CloseWait, 1000), (TcpState::FinWait2, 2000)];
        let why = |sides: &[_]| {
            let mut facts = held(sides);
            add_process(&mut facts, (77, "docker-proxy"), None, 1000..3000);
            fired(&RULE, &facts)[0].why.clone()
        };
        assert!(why(&sides).contains("a proxy that forwards"));
        assert!(!why(&sides[..1]).contains("a proxy that forwards"));
    }

    #[test]
    fn a_leak_to_many_peers_is_seen_without_its_process() {
        let finding = fired(&RULE, &held(&[(TcpState::CloseWait, 1000)])).remove(0);
        assert!(
            finding
                .summary
                .starts_with("the client of port 9443 leaves 40 sockets in CLOSE_WAIT at 40"),
            "{}",
            finding.summary
        );
    }

    #[test]
    fn without_sockets_it_is_not_evaluated() {
        let mut facts = firing();
        facts.now.sockets = None;
        assert_not_evaluated(&RULE, &facts, "the sockets cannot be seen");
    }
}
