//! Idle connections that connection tracking forgets before a probe of keepalive.

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::sock_diag::{TcpSocket, TcpState, Timer};
use advisor_facts::units::span;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope, Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB702",
    name: "conntrack-forgets-idle",
    scope: Scope::Namespace,
    scenario: Some("conntrack/table/idle[timeout=short]"),
    cure: Some("conntrack/table/idle[timeout=long]"),
    proven_by: ProvenBy::Nothing("facts do not say what drops packets of no connection"),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections that stay idle for longer than connection tracking keeps them. Then \
        what is sent next is a packet of no known connection: a rule that drops invalid packets \
        drops it, and address translation sends it to nobody. Both programs believe that they are \
        connected.",
    evidence: "nf_conntrack_tcp_timeout_established below 7,440 s, connections that are tracked, \
        and at least 10 connections that have been idle for a minute and whose next probe of \
        keepalive, if there is any, comes too late.",
    recommendation: "The greater of 7,440 s (RFC 5382) and what keepalive takes. Or keepalive in \
        the programs with a TCP_KEEPIDLE below the timeout.",
    cost: "About 320 bytes for each entry that is kept for longer.",
    risk: "Entries of peers that vanished stay for longer: watch nf_conntrack_count.",
    undo: "Set the former value.",
    references: &[
        "nf_conntrack_tcp_timeout_established: \
         Documentation/networking/nf_conntrack-sysctl.rst of Linux",
        "RFC 5382, REQ-5: not below 2 hours and 4 minutes",
        "tcp_keepalive_time: Documentation/networking/ip-sysctl.rst of Linux",
    ],
};

const SETTING: &str = "net.netfilter.nf_conntrack_tcp_timeout_established";
/// The least that a translator may forget after, in seconds: RFC 5382, REQ-5.
const LEAST_S: i64 = 7_440;
/// What a probe may come late by, in seconds: RFC 5382 adds four minutes to the two hours.
const LATE_S: i64 = 240;
/// Connections: more than chance (our judgement).
const MANY: usize = 10;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let settings = &facts.settings;
    let Some(timeout_s) = settings.nf_conntrack_tcp_timeout_established else {
        return Outcome::NotEvaluated(format!(
            "{SETTING} cannot be read: nf_conntrack is not loaded, or the capture is of an \
             earlier version"
        ));
    };
    if timeout_s >= LEAST_S {
        return Outcome::Quiet(format!("an idle connection is tracked for {timeout_s} s"));
    }
    if facts.now.counters.get("Conntrack.count").unwrap_or(0) == 0 {
        return Outcome::Quiet("no connection is tracked".to_owned());
    }
    let timeout_ms = u64::try_from(timeout_s).unwrap_or(0).saturating_mul(1000);
    let sockets = facts.now.sockets.iter().flat_map(|sockets| &sockets.all);
    let idle = sockets.filter(|socket| is_forgotten(socket, timeout_ms));
    let count = idle.clone().count();
    if count < MANY {
        return Outcome::Quiet(format!(
            "{count} idle connections are silent for longer than the {timeout_s} s for which they \
             are tracked"
        ));
    }
    let longest = idle.filter_map(idle_ms).max().unwrap_or(0);
    let proposed = settings
        .tcp_keepalive_time
        .map_or(LEAST_S, |idle_s| idle_s.saturating_add(LATE_S))
        .max(LEAST_S);
    let finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed.to_string());
    let mut evidence = finding.evidence;
    evidence.push(Evidence::new(
        "host.sockets.ESTABLISHED.idle",
        i64::try_from(count).unwrap_or(i64::MAX).into(),
        "sock_diag: timer, tcp_info.last_data_recv",
    ));
    evidence.push(Evidence::new(
        "host.sockets.ESTABLISHED.longest-idle",
        span(longest).as_str().into(),
        "sock_diag: timer, tcp_info.last_data_recv",
    ));
    if let Some(idle_s) = settings.tcp_keepalive_time {
        let name = "net.ipv4.tcp_keepalive_time";
        evidence.push(Evidence::sysctl(name, idle_s.into()));
    }
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: Confidence::Medium,
        summary: format!(
            "connection tracking forgets idle connections after {timeout_s} s, and {count} stay \
             silent for longer"
        ),
        why: "What is sent on a forgotten connection belongs to none: where a rule drops invalid \
            packets, or addresses are translated, it is lost, and both programs wait."
            .to_owned(),
        evidence,
        ..finding
    }])
}

fn idle_ms(socket: &TcpSocket) -> Option<u64> {
    let info = socket.info.as_ref()?;
    Some(
        info.last_data_sent_ms()?
            .min(info.last_data_recv_ms()?)
            .into(),
    )
}

/// Whether nothing is sent on an idle connection before its entry is gone.
fn is_forgotten(socket: &TcpSocket, timeout_ms: u64) -> bool {
    if socket.state != TcpState::Established || Condition::of(socket) != Condition::Idle {
        return false;
    }
    match (socket.timer, idle_ms(socket)) {
        (Timer::Off, Some(_)) => true,
        (Timer::Keepalive, Some(idle)) => idle + u64::from(socket.timer_ms) > timeout_ms,
        _ => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("conntrack-forgets-idle")
    }

    #[test]
    fn keepalive_in_time_and_a_long_timeout_are_quiet() {
        let mut facts = firing();
        assert_eq!(fired(&RULE, &facts)[0].proposed, "7440");
        set(&mut facts, "net.ipv4.tcp_keepalive_time", "10800");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "11040");
        let mut kept = facts.clone();
        for socket in kept.now.every_socket_mut() {
            (socket.timer, socket.timer_ms) = (Timer::Keepalive, 30_000);
        }
        assert_quiet(&RULE, &kept);
        for socket in kept.now.every_socket_mut() {
            socket.timer_ms = 7_000_000;
        }
        fired(&RULE, &kept);
        set(&mut facts, SETTING, "7440");
        assert_quiet(&RULE, &facts);
    }
}
