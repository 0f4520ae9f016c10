//! Listeners without SO_REUSEADDR, which may not be able to start again.

use advisor_facts::Facts;
use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_report::calibration::BindOption;
use advisor_report::measured::Measured;

use super::program::{by_program, plain};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB502",
    name: "listener-without-reuseaddr",
    scope: Scope::Namespace,
    scenario: Some("bind/time-wait/neither"),
    cure: Some("bind/time-wait/both"),
    proven_by: ProvenBy::Reproduction(&[Harm::CannotBind]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Listeners without SO_REUSEADDR. After a restart, bind() fails with EADDRINUSE \
        while connections of the old process are there: in TIME_WAIT for 60 seconds.",
    evidence: "The option itself, of every listener; only with --inspect-options.",
    recommendation: "SO_REUSEADDR before bind(), at every start. The first start with it still \
        fails while connections made without it are there.",
    cost: "None.",
    risk: "Between bind() and listen() a program of any user that sets it too can bind the same \
        port and listen first; then this listen() fails with EADDRINUSE. Once a program listens, \
        Linux refuses a second one on the same address.",
    undo: "Remove the call.",
    references: &[
        "socket(7), SO_REUSEADDR",
        "inet_csk_bind_conflict: net/ipv4/inet_connection_sock.c of Linux",
        "needed on the old and the new socket: measured, bind/time-wait",
        "another user's program between bind() and listen(): measured, \
         bind/second-program/another-user",
    ],
};

/// Largest number of listeners shown as evidence.
const LISTENERS: usize = 5;

/// The measured error of bind() if the old program had not set the option and the new one
/// has.
fn bind_fails(measured: &Measured) -> Option<Evidence> {
    let calibration = measured.calibration()?;
    let bind = calibration.bind("TIME_WAIT", BindOption::None, BindOption::ReuseAddr)?;
    Some(Evidence::new(
        "bind.TIME_WAIT.error",
        bind.error.as_str().into(),
        calibration.source(),
    ))
}

fn check(facts: &Facts, measured: &Measured) -> Outcome {
    let inspected = facts
        .now
        .every_socket()
        .filter(|(_, socket)| socket.state == TcpState::Listen && socket.options.is_some())
        .count();
    if inspected == 0 {
        return Outcome::NotEvaluated(
            "needs the option itself: --inspect-options, as root".to_owned(),
        );
    }
    let programs = by_program(facts, |socket| {
        socket.state == TcpState::Listen
            && socket.options.is_some_and(|options| !options.reuse_addr)
    });
    let findings: Vec<_> = programs
        .iter()
        .map(|program| {
            let listeners = || program.sockets.iter().take(LISTENERS);
            let addresses: Vec<_> = listeners()
                .map(|socket| plain(socket.local).to_string())
                .collect();
            Finding {
                severity: Severity::Notice,
                confidence: Confidence::High,
                summary: format!(
                    "{} listens on {} without SO_REUSEADDR",
                    program.name,
                    addresses.join(", ")
                ),
                why: "It runs now. When it starts again, bind() fails until a minute after its \
                    last connection went to TIME_WAIT."
                    .to_owned(),
                applies_to: AppliesTo::Program,
                subject: program.name.clone(),
                setting: "SO_REUSEADDR".to_owned(),
                current: "0".to_owned(),
                proposed: "1, before bind(), at every start".to_owned(),
                evidence: listeners()
                    .flat_map(|listener| evidence(facts, listener))
                    .chain(bind_fails(measured))
                    .collect(),
                cost: DOCUMENTATION.cost.to_owned(),
                risk: DOCUMENTATION.risk.to_owned(),
                apply: "in the program, before bind(): int on = 1; setsockopt(fd, SOL_SOCKET, \
                    SO_REUSEADDR, &on, sizeof on)"
                    .to_owned(),
                undo: DOCUMENTATION.undo.to_owned(),
                verify: "`advisor recommend --inspect-options` no longer reports LB502".to_owned(),
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(format!("all of {inspected} listeners have SO_REUSEADDR"));
    }
    Outcome::Fired(findings)
}

/// The option of a listener, and the connections on its port that its next start would
/// meet.
fn evidence(facts: &Facts, listener: &TcpSocket) -> [Evidence; 2] {
    let address = plain(listener.local);
    let connections = facts
        .now
        .every_socket()
        .filter(|(_, socket)| {
            socket.state != TcpState::Listen && socket.local.port() == address.port()
        })
        .count();
    [
        Evidence::new(
            format!("{address}.SO_REUSEADDR"),
            0.into(),
            "getsockopt() on the listener",
        ),
        Evidence::new(
            format!("{address}.connections"),
            i64::try_from(connections).unwrap_or(i64::MAX).into(),
            "socket table, by the local port",
        ),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("listener-without-reuseaddr")
    }

    #[test]
    fn only_a_listener_without_the_option_counts() {
        let mut facts = firing();
        for socket in &mut facts.now.sockets.as_mut().unwrap().all {
            if let (TcpState::Listen, Some(options)) = (socket.state, &mut socket.options) {
                options.reuse_addr = true;
            }
        }
        assert_quiet(&RULE, &facts);
        for socket in &mut facts.now.sockets.as_mut().unwrap().all {
            socket.options = None;
        }
        assert_not_evaluated(&RULE, &facts, "--inspect-options");
    }
}
