//! tcp_rfc1337 set, mostly from a list of settings.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity, Switch,
    judge_switch,
};

pub(super) const RULE: Rule = Rule {
    code: "LB314",
    name: "time-wait-ignores-resets",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "tcp_rfc1337 only keeps sockets in TIME_WAIT when a reset arrives, so there is no \
         failure to mend",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_rfc1337 set to 1: a reset does not end TIME_WAIT. Lists of settings call it \
        protection against an attack. In fact it keeps ports in TIME_WAIT although the peer has \
        said that the connection is gone.",
    evidence: "The value of net.ipv4.tcp_rfc1337.",
    recommendation: "The kernel's default of 0, unless somebody knows why it was set.",
    cost: "None.",
    risk: "An old duplicate may end a TIME_WAIT early (RFC 1337 calls it an assassination). With \
        timestamps it is very unlikely to do harm.",
    undo: "Set the former value.",
    references: &[
        "tcp_rfc1337: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_timewait_state_process: net/ipv4/tcp_minisocks.c of Linux",
        "RFC 1337 section 3",
    ],
};

const SETTING: &str = "net.ipv4.tcp_rfc1337";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    judge_switch(facts, &DOCUMENTATION, SETTING, Switch::On, |finding| {
        Finding {
            severity: Severity::Notice,
            confidence: Confidence::Low,
            summary: "tcp_rfc1337 is 1: a reset no longer frees a port in TIME_WAIT".to_owned(),
            why: "The setting neither speeds anything up nor defends against floods. A peer that \
            answers with a reset no longer knows the old connection; with 0 its port is free at \
            once."
                .to_owned(),
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
        host("time-wait-ignores-resets")
    }

    #[test]
    fn it_fires_on_1() {
        let mut facts = host("quiet");
        set(&mut facts, SETTING, "0");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "1");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "0");
    }
}
