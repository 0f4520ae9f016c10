//! A lowered tcp_fin_timeout, which does not shorten TIME_WAIT.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope, Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB302",
    name: "fin-timeout-shortened",
    scope: Scope::Namespace,
    scenario: Some("bind/time-wait/fin-timeout"),
    cure: None,
    proven_by: ProvenBy::Nothing(
        "tcp_fin_timeout does not change TIME_WAIT, so there is no failure to mend \
         (bind/time-wait/fin-timeout shows the same before and after)",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_fin_timeout below 60. It is widely set to shorten TIME_WAIT, which it does \
        not affect: TIME_WAIT always lasts 60 seconds. The setting limits FIN_WAIT2 only, the \
        wait for a peer that does not close.",
    evidence: "The value of net.ipv4.tcp_fin_timeout.",
    recommendation: "The kernel's default of 60, unless a short FIN_WAIT2 is wanted.",
    cost: "None: a record in FIN_WAIT2 takes less than a kilobyte.",
    risk: "If peers never close their half, ports and records stay in FIN_WAIT2 for 60 seconds \
        again.",
    undo: "Set the former value.",
    references: &[
        "TCP_TIMEWAIT_LEN: include/net/tcp.h of Linux",
        "tcp_fin_timeout: Documentation/networking/ip-sysctl.rst of Linux",
        "RFC 9293 section 3.6, TIME-WAIT",
    ],
};

pub(super) const SETTING: &str = "net.ipv4.tcp_fin_timeout";

/// The kernel's default, in seconds, and the length of TIME_WAIT.
pub(super) const DEFAULT: i64 = 60;

fn check(facts: &Facts, measured: &Measured) -> Outcome {
    let Some(current) = facts.settings.tcp_fin_timeout else {
        return Outcome::NotEvaluated(format!("{SETTING} cannot be read"));
    };
    if current >= DEFAULT {
        return Outcome::Quiet(format!("tcp_fin_timeout is {current}"));
    }
    let proposed = DEFAULT.to_string();
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed);
    finding.evidence.extend(
        facts
            .now
            .sockstat
            .get("TCP.tw")
            .map(|count| Evidence::new("host.sockstat.TCP.tw", count.into(), "/proc/net/sockstat")),
    );
    finding
        .evidence
        .extend(measured.calibration().map(|calibration| {
            let seconds = i64::try_from(calibration.time_wait.seconds).unwrap_or(i64::MAX);
            Evidence::new("TIME_WAIT.s", seconds.into(), calibration.source())
        }));
    Outcome::Fired(vec![Finding {
        // It may be meant for FIN_WAIT2, and no failure is mended.
        confidence: Confidence::Low,
        severity: Severity::Notice,
        summary: format!("tcp_fin_timeout is {current}, which does not shorten TIME_WAIT"),
        why: "TIME_WAIT lasts 60 s whatever this setting says. If bind() fails after a restart, \
            set SO_REUSEADDR on the old and the new socket. If ports run out, use more \
            destinations or addresses, or net.ipv4.tcp_tw_reuse. If a short FIN_WAIT2 is wanted, \
            leave the setting."
            .to_owned(),
        verify: "`tw` in /proc/net/sockstat does not grow because of it (it counts records in \
            FIN_WAIT2 too)"
            .to_owned(),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("fin-timeout-shortened")
    }

    #[test]
    fn it_fires_below_60() {
        let mut facts = host("quiet");
        set(&mut facts, SETTING, "60");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "59");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "60");
    }
}
