//! Connections idle for hours without keepalive, whose peers may be gone.

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::sock_diag::{TcpSocket, TcpState, Timer};
use advisor_facts::units::span;
use advisor_report::measured::Measured;

use super::program::{by_program, without_tcp_info};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB406",
    name: "idle-without-keepalive",
    scope: Scope::Namespace,
    scenario: Some("crash/half-open/idle[option=none]"),
    cure: Some("crash/half-open/idle[option=keepalive]"),
    proven_by: ProvenBy::Suites(&["idle-without-keepalive"]),
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

/// Idle for this long, in milliseconds: the default of keepalive.
const IDLE_MS: u32 = 7_200_000;
/// Connections of one program: more than chance.
const MANY: usize = 10;

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
            let longest = program
                .sockets
                .iter()
                .filter_map(|socket| idle_ms(socket))
                .max()
                .unwrap_or(0);
            Finding {
                severity: Severity::Notice,
                confidence: Confidence::Medium,
                summary: format!(
                    "{count} connections of {} are idle for hours without keepalive",
                    program.name
                ),
                why: "It is not known whether these peers still exist, because nothing asks \
                    them. If they are gone, each connection holds a descriptor and its memory \
                    for ever."
                    .to_owned(),
                applies_to: AppliesTo::Program,
                subject: program.name.clone(),
                setting: "SO_KEEPALIVE".to_owned(),
                current: "0 (no timer is running)".to_owned(),
                proposed: "1, with TCP_KEEPIDLE 60, TCP_KEEPINTVL 10, TCP_KEEPCNT 6".to_owned(),
                evidence: vec![
                    Evidence::new(
                        "host.sockets.ESTABLISHED.idle",
                        i64::try_from(count).unwrap_or(i64::MAX).into(),
                        "sock_diag: timer, tcp_info.last_data_recv",
                    ),
                    Evidence::new(
                        "host.sockets.ESTABLISHED.longest-idle",
                        span(longest.into()).as_str().into(),
                        "sock_diag: timer, tcp_info.last_data_recv",
                    ),
                ],
                cost: DOCUMENTATION.cost.to_owned(),
                risk: DOCUMENTATION.risk.to_owned(),
                apply: "in the program, on each connection: int on = 1; setsockopt(fd, \
                    SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on); and TCP_KEEPIDLE, TCP_KEEPINTVL, \
                    TCP_KEEPCNT at IPPROTO_TCP"
                    .to_owned(),
                undo: DOCUMENTATION.undo.to_owned(),
                verify: format!(
                    "{} shows timer:(keepalive,...) on them",
                    facts.command("ss -tno")
                ),
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

fn idle_ms(socket: &TcpSocket) -> Option<u32> {
    let info = socket.info.as_ref()?;
    Some(info.last_data_sent_ms()?.min(info.last_data_recv_ms()?))
}

fn is_forgotten(socket: &TcpSocket) -> bool {
    socket.inode != 0
        && socket.state == TcpState::Established
        && socket.timer == Timer::Off
        && !socket.options.is_some_and(|options| options.keepalive)
        && Condition::of(socket) == Condition::Idle
        && idle_ms(socket).is_some_and(|idle| idle >= IDLE_MS)
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
