//! A raised tcp_fin_timeout, which keeps closed sockets as orphans.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::fin_timeout_shortened::{DEFAULT, SETTING};
use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope, Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB102",
    name: "fin-timeout-lengthened",
    scope: Scope::Namespace,
    scenario: Some("orphans/life/fin-wait2[fin-timeout=120]"),
    cure: Some("orphans/life/fin-wait2[fin-timeout=60]"),
    proven_by: ProvenBy::Nothing(
        "the harm is many orphans in FIN_WAIT2, and the facts of the host show how many there are",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_fin_timeout above 60. Up to 60 a closed socket in FIN_WAIT2 becomes a small \
        record at once. Above 60 it stays a whole socket, and an orphan, for the seconds beyond \
        60.",
    evidence: "The value of net.ipv4.tcp_fin_timeout.",
    recommendation: "The kernel's default of 60.",
    cost: "None; it frees memory and orphans.",
    risk: "A peer that takes longer than 60 seconds to close its half gets a reset.",
    undo: "Set the former value.",
    references: &[
        "TCP_FIN_WAIT2 in __tcp_close: net/ipv4/tcp.c of Linux",
        "tcp_fin_timeout: Documentation/networking/ip-sysctl.rst of Linux",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(current) = facts.settings.tcp_fin_timeout else {
        return Outcome::NotEvaluated(format!("{SETTING} cannot be read"));
    };
    if current <= DEFAULT {
        return Outcome::Quiet(format!("tcp_fin_timeout is {current}"));
    }
    let proposed = DEFAULT.to_string();
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed);
    finding.evidence.extend(
        facts
            .now
            .sockstat
            .get("TCP.orphan")
            .map(|count| Evidence::sockstat("TCP.orphan", count)),
    );
    Outcome::Fired(vec![Finding {
        confidence: Confidence::High,
        severity: Severity::Notice,
        summary: format!("tcp_fin_timeout is {current}, which keeps closed sockets as orphans"),
        why: format!(
            "A socket that only this side has closed stays a whole socket for {} s and counts \
             against tcp_max_orphans. With {DEFAULT} it becomes a small record at once.",
            current.saturating_sub(DEFAULT)
        ),
        verify: "`orphan` in /proc/net/sockstat falls".to_owned(),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("fin-timeout-lengthened")
    }

    #[test]
    fn it_fires_above_60() {
        let mut facts = host("quiet");
        set(&mut facts, SETTING, "60");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "61");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "60");
    }
}
