//! A tcp_retries2 lower than the standard allows.

use advisor_facts::Facts;
use advisor_facts::units::span;
use advisor_report::measured::Measured;

use super::retransmission::{rto_max_ms, spent_ms};
use super::{
    Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity, cannot_be_read,
};

pub(super) const RULE: Rule = Rule {
    code: "LB416",
    name: "data-retries-few",
    scope: Scope::Namespace,
    scenario: Some("crash/vanished-peer/user-timeout"),
    cure: None,
    proven_by: ProvenBy::Nothing(
        "the harm comes with an outage, and the facts of a host have none",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_retries2 below 8. It limits how long data may stay unacknowledged before the \
        kernel ends the connection: 15, the default, means 924.6 s; 8 about 100 s; 5 about 13 s; \
        3 about 3 s. RFC 1122 asks for at least 100 s. People lower it for the quick failover of \
        one program, and it cuts off every connection of the network namespace.",
    evidence: "The value of net.ipv4.tcp_retries2. TCPAbortOnTimeout counts the connections that \
        the kernel ended.",
    recommendation: "8, the lowest value that the standard allows; if a file sets it, the line may \
        as well go, and the kernel's 15 holds. And TCP_USER_TIMEOUT in the program that needs to \
        know sooner.",
    cost: "The kernel keeps data to a dead peer for about 100 s.",
    risk: "A program that relies on the short time waits longer for its failover. It needs \
        TCP_USER_TIMEOUT.",
    undo: "Set the former value.",
    references: &[
        "tcp_retries2: Documentation/networking/ip-sysctl.rst of Linux",
        "RFC 1122 section 4.2.3.5",
        "tcp_write_timeout, tcp_model_timeout: net/ipv4/tcp_timer.c of Linux",
    ],
};

const SETTING: &str = "net.ipv4.tcp_retries2";

/// RFC 1122 asks for 100 s: 8 retransmissions.
const LEAST: i64 = 8;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(current) = facts.settings.tcp_retries2 else {
        return cannot_be_read(SETTING);
    };
    if current >= LEAST {
        return Outcome::Quiet(format!("tcp_retries2 is {current}"));
    }
    let lasts = span(spent_ms(current, rto_max_ms(&facts.settings)));
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: Confidence::Medium,
        summary: format!(
            "tcp_retries2 is {current}: an outage of about {lasts} ends every connection with data \
             on its way"
        ),
        why: format!(
            "The kernel gives such a connection up after {lasts} (tcp_model_timeout); RFC 1122 \
             asks for 100 s at least. A route that changes, or a virtual machine that migrates, can \
             take longer. For one program TCP_USER_TIMEOUT does the same without touching the \
             others."
        ),
        verify: format!(
            "TCPAbortOnTimeout rises more slowly ({})",
            facts.command("nstat -az TcpExtTCPAbortOnTimeout")
        ),
        ..Finding::of_setting(facts, &DOCUMENTATION, SETTING, &LEAST.to_string())
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("data-retries-few")
    }

    #[test]
    fn it_fires_below_8() {
        let mut facts = host("quiet");
        set(&mut facts, SETTING, "8");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "7");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.proposed, "8");
        assert!(
            finding.summary.contains("an outage of about 51 s"),
            "{}",
            finding.summary
        );
    }
}
