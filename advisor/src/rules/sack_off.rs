//! Selective acknowledgments are off.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity, Switch,
    judge_switch,
};

pub(super) const RULE: Rule = Rule {
    code: "LB724",
    name: "sack-off",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "how much it costs depends on which packets are lost, and a proof must not depend on that",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_sack set to 0: a sender learns of one loss per round trip. With two losses in a \
        window it waits for a timeout or sends again what the receiver has. Most who set it \
        followed advice against CVE-2019-11477, which kernels since June 2019 have mended.",
    evidence: "The value of net.ipv4.tcp_sack.",
    recommendation: "The kernel's default of 1. Connections that are there keep what they agreed on.",
    cost: "None.",
    risk: "A kernel older than June 2019 without the fix for CVE-2019-11477 can be crashed by a \
        peer with a small MSS.",
    undo: "Set the former value.",
    references: &[
        "tcp_sack: Documentation/networking/ip-sysctl.rst of Linux",
        "RFC 2018; RFC 6675",
        "CVE-2019-11477: tcp_fragment, tcp_shifted_skb of net/ipv4 of Linux 5.2",
    ],
};

const SETTING: &str = "net.ipv4.tcp_sack";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    judge_switch(facts, &DOCUMENTATION, SETTING, Switch::Off, |finding| {
        Finding {
            severity: Severity::Notice,
            confidence: Confidence::High,
            summary:
                "tcp_sack is 0: several losses in a window take a round trip or a timeout each"
                    .to_owned(),
            why: "Without SACK the sender does not know what arrived beyond the first gap. Both \
            sides have to offer the option, so this host's value binds its peers as well."
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
        host("sack-off")
    }

    #[test]
    fn it_fires_on_0() {
        let mut facts = host("quiet");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "0");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "1");
        facts.settings.tcp_sack = None;
        assert_not_evaluated(&RULE, &facts, SETTING);
    }
}
