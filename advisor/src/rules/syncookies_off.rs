//! SYN cookies off, so that a flood of SYNs blocks a listener.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, LogLine, Outcome, ProvenBy, Rule, Scope, Severity, Switch,
    judge_switch,
};

pub(super) const RULE: Rule = Rule {
    code: "LB513",
    name: "syncookies-off",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "a reproduction has no handshakes that stay open, so nobody is turned away",
    ),
    log_lines: &[
        LogLine {
            pieces: &["syn flooding on port", "dropping request"],
            means: "More handshakes were under way for the listener on this port than its backlog \
                allows, and tcp_syncookies is 0: SYNs were dropped, also those of real clients. \
                The kernel says it once for a listener.",
        },
        LogLine {
            pieces: &["drop open request from"],
            means: "Kernels up to 4.x say this when tcp_syncookies is 0 and a queue of handshakes \
                is three quarters full: they drop clients that they do not know.",
        },
    ],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_syncookies set to 0. Lists of settings for speed do so. The kernel sends \
        cookies only while the queue of half-open connections is full, so they cost nothing \
        before that. Without them it drops a flood of SYNs, or a burst of clients.",
    evidence: "The value of net.ipv4.tcp_syncookies.",
    recommendation: "The kernel's default of 1.",
    cost: "None until the queue is full. Then the TCP options that a cookie cannot hold.",
    risk: "None known. Cookies can hide that a listener is overloaded all the time; \
        TCPReqQFullDoCookies counts them.",
    undo: "Set the former value.",
    references: &[
        "tcp_syncookies: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_conn_request: net/ipv4/tcp_input.c of Linux",
        "RFC 4987 section 3.6",
    ],
};

const SETTING: &str = "net.ipv4.tcp_syncookies";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    judge_switch(facts, &DOCUMENTATION, SETTING, Switch::Off, |finding| {
        Finding {
            severity: Severity::Warning,
            confidence: Confidence::High,
            summary: "tcp_syncookies is 0: a flood of SYNs blocks the listeners".to_owned(),
            why:
                "With 1, while the queue of half-open connections is full, the kernel answers with \
            a cookie instead of dropping the SYN. Nothing changes before that."
                    .to_owned(),
            verify: format!(
                "under load TCPReqQFullDrop no longer rises, TCPReqQFullDoCookies may ({})",
                facts.command("nstat -az")
            ),
            ..finding
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("syncookies-off")
    }

    #[test]
    fn it_fires_on_0() {
        let mut facts = host("quiet");
        for on in ["1", "2"] {
            set(&mut facts, SETTING, on);
            assert_quiet(&RULE, &facts);
        }
        set(&mut facts, SETTING, "0");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "1");
    }
}
