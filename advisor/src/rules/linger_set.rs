//! Programs that close with SO_LINGER.

use std::collections::BTreeMap;

use advisor_facts::Facts;
use advisor_facts::sock_diag::TcpSocket;
use advisor_report::measured::Measured;

use super::program::by_program;
use super::witnessed::{self, Witnessed};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB203",
    name: "linger-set",
    scope: Scope::Namespace,
    scenario: Some(
        "close/truth-table/endings[ending=linger-zero,link=10mbit,greeting=none,family=ipv4-mapped]",
    ),
    cure: Some("close/unread-data/shutdown-then-read-to-eof"),
    proven_by: ProvenBy::Nothing(
        "the facts don't show what the peers still had to receive when the program closed",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "SO_LINGER on connections. With a time of 0, close() discards unsent data and \
        resets the connection; it is often set against TIME_WAIT. With a time above 0, close() \
        waits that long, and still loses data if received data is unread.",
    evidence: "The option itself, of listeners and of the largest connections of each process; \
        only with --inspect-options.",
    recommendation: "No SO_LINGER: shutdown(SHUT_WR), read to the end of file, close().",
    cost: "Connections that this side closes first end in TIME_WAIT: about 250 bytes each for 60 \
        seconds.",
    risk: "If a reset is on purpose, to get rid of a misbehaving peer, {1,0} is right.",
    undo: "Set the option again.",
    references: &[
        "socket(7), SO_LINGER; tcp_close: net/ipv4/tcp.c of Linux",
        "The ultimate SO_LINGER page",
        "what each way of ending delivers: measured, close/truth-table",
    ],
};

const DISCARDS: &str = "close() with SO_LINGER{1,0} sends a reset. What was written and not yet \
    acknowledged is lost without an error, and the peer gets ECONNRESET.";
const WAITS: &str = "close() with SO_LINGER waits for the acknowledgment and blocks the thread. \
    It still resets the connection if received data is unread, so it does not prevent the loss \
    that it is set against.";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let by = witnessed::resets(facts, &REASONS, false);
    if witnessed::count(&by) >= FEW {
        return Outcome::Fired(vec![witnessed_finding(&by)]);
    }
    let inspected = facts
        .now
        .every_socket()
        .filter(|(_, socket)| socket.options.is_some())
        .count();
    if inspected == 0 {
        return Outcome::NotEvaluated(
            "needs the option itself: --inspect-options, as root".to_owned(),
        );
    }
    let programs = by_program(facts, |socket| linger_s(socket).is_some());
    let findings: Vec<_> = programs
        .iter()
        .map(|program| {
            let mut times: BTreeMap<i32, i64> = BTreeMap::new();
            for seconds in program.sockets.iter().filter_map(|socket| linger_s(socket)) {
                *times.entry(seconds).or_default() += 1;
            }
            let current: Vec<_> = times
                .iter()
                .map(|(seconds, count)| format!("{{1,{seconds}}} on {count}"))
                .collect();
            let current = current.join(", ");
            // A time of 0 is the worst.
            let discards = times.contains_key(&0);
            Finding {
                severity: if discards {
                    Severity::Warning
                } else {
                    Severity::Notice
                },
                confidence: Confidence::Medium,
                summary: format!(
                    "{} has SO_LINGER set: {current} of its sockets",
                    program.name
                ),
                why: if discards { DISCARDS } else { WAITS }.to_owned(),
                applies_to: AppliesTo::Program,
                subject: program.name.clone(),
                setting: "SO_LINGER".to_owned(),
                current,
                proposed: "not set; shutdown(SHUT_WR), read to EOF, close()".to_owned(),
                evidence: evidence(&times, inspected),
                cost: DOCUMENTATION.cost.to_owned(),
                risk: DOCUMENTATION.risk.to_owned(),
                apply: "in the program: remove setsockopt(SO_LINGER); shutdown(fd, SHUT_WR); \
                    read(fd) until it returns 0 or an error, or until 2 s have passed; close(fd)"
                    .to_owned(),
                undo: DOCUMENTATION.undo.to_owned(),
                verify: "`advisor recommend --inspect-options` no longer reports LB203".to_owned(),
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(format!("SO_LINGER is off on {inspected} sockets"));
    }
    Outcome::Fired(findings)
}

/// The reasons of resets that a program asked for, from 6.12 on: tcp_disconnect() in
/// net/ipv4/tcp.c of Linux sends them.
const REASONS: [&str; 2] = ["TCP_STATE", "TCP_DISCONNECT_WITH_DATA"];
/// Fewer of them count as chance (our judgement).
const FEW: i64 = 5;

/// The finding by the kernel's events.
fn witnessed_finding(by: &[Witnessed]) -> Finding {
    Finding {
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        summary: format!(
            "{} connections were ended by a reset that a program asked for, as SO_LINGER {{1,0}} \
             does",
            witnessed::count(by)
        ),
        why: format!(
            "{DISCARDS} {} The kernel gives the same reason for connect() with AF_UNSPEC, for a \
             listener that is closed while connections wait for accept(), and for sockets that \
             are destroyed (ss -K): --inspect-options tells whether SO_LINGER is set.",
            witnessed::sentence(by)
        ),
        applies_to: AppliesTo::Program,
        subject: witnessed::names(by),
        setting: "SO_LINGER".to_owned(),
        current: "{1,0}, or another way to reset a connection".to_owned(),
        proposed: "not set; shutdown(SHUT_WR), read to EOF, close()".to_owned(),
        evidence: witnessed::evidence(by).collect(),
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program: remove setsockopt(SO_LINGER); shutdown(fd, SHUT_WR); read(fd) \
            until it returns 0 or an error, or until 2 s have passed; close(fd)"
            .to_owned(),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: "`advisor watch` shows no reset-sent TCP_STATE by it any more".to_owned(),
    }
}

/// The number of sockets with SO_LINGER, the shortest time, and the number for each time.
fn evidence(times: &BTreeMap<i32, i64>, inspected: usize) -> Vec<Evidence> {
    let source = format!("getsockopt() on {inspected} sockets");
    let all: i64 = times.values().sum();
    let mut evidence = vec![Evidence::new("host.sockets.SO_LINGER", all.into(), &source)];
    evidence.extend(times.first_key_value().map(|(seconds, _)| {
        let name = "host.sockets.SO_LINGER.seconds";
        Evidence::new(name, i64::from(*seconds).into(), &source)
    }));
    evidence.extend(times.iter().map(|(seconds, count)| {
        let name = format!("host.sockets.SO_LINGER{{1,{seconds}}}");
        Evidence::new(name, (*count).into(), &source)
    }));
    evidence
}

fn linger_s(socket: &TcpSocket) -> Option<i32> {
    socket.options?.linger_s
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("linger-set")
    }

    #[test]
    fn a_time_of_0_is_worse_than_a_longer_one() {
        let mut facts = firing();
        let severity = |facts: &Facts| fired(&RULE, facts)[0].severity;
        assert_eq!(severity(&facts), Severity::Warning);
        for socket in &mut facts.now.sockets.as_mut().unwrap().all {
            if let Some(options) = &mut socket.options
                && options.linger_s.is_some()
            {
                options.linger_s = Some(5);
            }
        }
        assert_eq!(severity(&facts), Severity::Notice);
        for socket in &mut facts.now.sockets.as_mut().unwrap().all {
            socket.options = None;
        }
        assert_not_evaluated(&RULE, &facts, "--inspect-options");
    }
}
