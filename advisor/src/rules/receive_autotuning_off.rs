//! Receive buffers that do not grow with their connections.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity, Switch,
    judge_switch,
};

pub(super) const RULE: Rule = Rule {
    code: "LB725",
    name: "receive-autotuning-off",
    scope: Scope::Namespace,
    scenario: Some("throughput/windows/autotuning[autotuning=off]"),
    cure: Some("throughput/windows/autotuning[autotuning=on]"),
    proven_by: ProvenBy::Nothing("the bystanders of a reproduction send, and receive little"),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_moderate_rcvbuf set to 0: a receive buffer stays as it was at first. That is the \
        second value of tcp_rmem, and a window is half of it: with the default of 128 KiB \
        and 100 ms that is about 5 Mbit/s, however fast the line is.",
    evidence: "The value of net.ipv4.tcp_moderate_rcvbuf.",
    recommendation: "The kernel's default of 1. The third value of tcp_rmem is the limit of what a buffer \
        grows to.",
    cost: "Memory for connections that receive much, within tcp_rmem.",
    risk: "None known: tcp_mem limits all connections together.",
    undo: "Set the former value.",
    references: &[
        "tcp_moderate_rcvbuf: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_rcv_space_adjust: net/ipv4/tcp_input.c of Linux",
    ],
};

const SETTING: &str = "net.ipv4.tcp_moderate_rcvbuf";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    judge_switch(facts, &DOCUMENTATION, SETTING, Switch::Off, |finding| {
        Finding {
            severity: Severity::Notice,
            confidence: Confidence::High,
            summary:
                "tcp_moderate_rcvbuf is 0: receive buffers stay at the second value of tcp_rmem"
                    .to_owned(),
            why: "The kernel sizes a buffer by what the program reads in a round trip, up to the \
            third value of tcp_rmem. With 0 it does not, and a distant sender is held back."
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
        host("receive-autotuning-off")
    }

    #[test]
    fn it_fires_on_0() {
        let mut facts = host("quiet");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "0");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "1");
        facts.settings.tcp_moderate_rcvbuf = None;
        assert_not_evaluated(&RULE, &facts, SETTING);
    }
}
