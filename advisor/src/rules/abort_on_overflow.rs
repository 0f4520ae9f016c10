//! A full accept queue that resets clients.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, Harm, Outcome, ProvenBy, Rule, Scope, Severity, Switch,
    judge_switch,
};

pub(super) const RULE: Rule = Rule {
    code: "LB512",
    name: "abort-on-overflow",
    scope: Scope::Namespace,
    scenario: Some("listen/queue/last-ack-finds-it-full[abort-on-overflow=1]"),
    cure: Some("listen/queue/last-ack-finds-it-full[abort-on-overflow=0]"),
    proven_by: ProvenBy::Reproduction(&[Harm::ConnectionRefused]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_abort_on_overflow set to 1: a full accept queue resets clients. It resets a \
        client whose last packet of the handshake finds the queue full. With 0 the kernel drops \
        that packet, the client sends it or its data again, and a burst passes. SYNs that find \
        the queue full are dropped with either value.",
    evidence: "The value of net.ipv4.tcp_abort_on_overflow. ListenOverflows shows whether the \
        queue is ever full.",
    recommendation: "The kernel's default of 0. If the queue is full: a larger backlog, or a \
        program that accepts sooner.",
    cost: "None.",
    risk: "With a listener that never recovers, clients wait instead of failing at once. If that \
        was the purpose, leave the setting.",
    undo: "Set the former value.",
    references: &[
        "tcp_abort_on_overflow: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_check_req: net/ipv4/tcp_minisocks.c of Linux",
    ],
};

const SETTING: &str = "net.ipv4.tcp_abort_on_overflow";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    judge_switch(facts, &DOCUMENTATION, SETTING, Switch::On, |finding| {
        Finding {
            severity: Severity::Notice,
            confidence: Confidence::Medium,
            summary: "tcp_abort_on_overflow is 1: a burst of clients gets resets".to_owned(),
            why: "A queue that is full for a moment costs a client a second with 0, and the \
            connection with 1. These clients believe that they are connected: they see \
            ECONNRESET from a service that is up."
                .to_owned(),
            verify: format!(
                "EmbryonicRsts stops rising ({})",
                facts.command("nstat -az TcpExtEmbryonicRsts")
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
        host("abort-on-overflow")
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
