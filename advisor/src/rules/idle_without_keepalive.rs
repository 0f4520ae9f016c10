//! Connections idle for hours without keepalive, whose peers may be gone.

use advisor_facts::Facts;
use advisor_facts::sock_diag::TcpSocket;
use advisor_report::measured::Measured;

use super::keepalive::{DEFAULT_IDLE_MS, MANY, advise, idle_without_keepalive_ms};
use super::program::{by_program, without_tcp_info};
use super::{Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope};

pub(super) const RULE: Rule = Rule {
    code: "LB406",
    name: "idle-without-keepalive",
    scope: Scope::Namespace,
    scenario: Some("crash/half-open/idle[option=none]"),
    cure: Some("crash/half-open/idle[option=keepalive]"),
    proven_by: ProvenBy::Nothing(
        "nobody has asked the idle peers whether they live, so the facts don't tell",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections that have been idle for two hours without keepalive. If a peer has \
        vanished meanwhile, nobody notices, and the descriptor is held for ever. \
        TCP_USER_TIMEOUT alone does nothing while no data waits.",
    evidence: "The socket table: ESTABLISHED, no data in either direction for two hours, and no \
        timer (SO_KEEPALIVE would have set one). It fires at 10 connections of one program.",
    recommendation: "SO_KEEPALIVE with TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT on the \
        connection; and TCP_USER_TIMEOUT for the time when data waits.",
    cost: "One probe of 40 bytes per idle connection and interval.",
    risk: "A path that is down for longer than the probes last ends the connection, which would \
        have survived idle.",
    undo: "Remove the calls.",
    references: &[
        "tcp(7), SO_KEEPALIVE, TCP_KEEPIDLE; RFC 9293 section 3.8.4",
        "tcp_set_keepalive sets the timer: net/ipv4/tcp_timer.c of Linux",
        "a peer that vanished stays ESTABLISHED: measured",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let programs = by_program(facts, is_forgotten);
    let count: usize = programs.iter().map(|program| program.sockets.len()).sum();
    let findings: Vec<_> = programs
        .iter()
        .filter(|program| program.sockets.len() >= MANY)
        .map(|program| {
            let count = program.sockets.len();
            Finding {
                confidence: Confidence::Medium,
                summary: format!(
                    "{count} connections of {} are idle for hours without keepalive",
                    program.name
                ),
                why: "It is not known whether these peers still exist, because nothing asks \
                    them. If they are gone, each connection holds a descriptor and its memory \
                    for ever."
                    .to_owned(),
                ..advise(facts, &DOCUMENTATION, program, 60)
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(format!(
            "{count} connections are idle for two hours without keepalive"
        ));
    }
    Outcome::Fired(findings)
}

fn is_forgotten(socket: &TcpSocket) -> bool {
    idle_without_keepalive_ms(socket).is_some_and(|idle| idle >= DEFAULT_IDLE_MS)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("idle-without-keepalive")
    }

    #[test]
    fn it_fires_at_10_connections_of_a_program() {
        let mut facts = firing();
        let count = |facts: &Facts| {
            let all = facts.now.every_socket();
            all.filter(|(_, socket)| is_forgotten(socket)).count()
        };
        while count(&facts) > MANY {
            let all = &mut facts.now.sockets.as_mut().unwrap().all;
            all.remove(all.iter().position(is_forgotten).unwrap());
        }
        fired(&RULE, &facts);
        let all = &mut facts.now.sockets.as_mut().unwrap().all;
        all.remove(all.iter().position(is_forgotten).unwrap());
        assert_quiet(&RULE, &facts);
    }
}
