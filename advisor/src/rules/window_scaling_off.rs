//! Windows of at most 64 KiB, because window scaling is off.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, Harm, Outcome, ProvenBy, Rule, Scope, Severity, Switch,
    judge_switch,
};

pub(super) const RULE: Rule = Rule {
    code: "LB723",
    name: "window-scaling-off",
    scope: Scope::Namespace,
    scenario: Some("throughput/windows/scaling[scaling=off]"),
    cure: Some("throughput/windows/scaling[scaling=on]"),
    proven_by: ProvenBy::Reproduction(&[Harm::TransferStalls]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_window_scaling set to 0: no window exceeds 64 KiB, in either direction. A \
        connection moves at most 64 KiB per round trip: with 100 ms that is 5 Mbit/s, \
        however fast the line is.",
    evidence: "The value of net.ipv4.tcp_window_scaling.",
    recommendation: "The kernel's default of 1. Connections that are there keep what they agreed on.",
    cost: "Memory for connections that use larger windows, within tcp_rmem.",
    risk: "A broken firewall that changes the option can make connections stall. Such ones were \
        common in 2004; if one is the reason, mend it there.",
    undo: "Set the former value.",
    references: &[
        "tcp_window_scaling: Documentation/networking/ip-sysctl.rst of Linux",
        "RFC 7323 section 2",
        "tcp_select_initial_window: net/ipv4/tcp_output.c of Linux",
    ],
};

const SETTING: &str = "net.ipv4.tcp_window_scaling";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    judge_switch(facts, &DOCUMENTATION, SETTING, Switch::Off, |finding| {
        Finding {
            severity: Severity::Notice,
            confidence: Confidence::High,
            summary: "tcp_window_scaling is 0: no connection has a window above 64 KiB".to_owned(),
            why: "With a round trip of 100 ms a window of 64 KiB allows 5 Mbit/s. Both sides have \
            to offer the option, so this host's value binds its peers as well."
                .to_owned(),
            ..finding
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("window-scaling-off")
    }

    #[test]
    fn it_fires_on_0() {
        let mut facts = host("quiet");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "0");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "1");
        facts.settings.tcp_window_scaling = None;
        assert_not_evaluated(&RULE, &facts, SETTING);
    }
}
