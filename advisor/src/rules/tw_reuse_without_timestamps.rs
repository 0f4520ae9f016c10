//! tcp_tw_reuse is on and timestamps, which it needs, are off.

use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, Rule, Severity, cannot_be_read,
};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB312",
    name: "tw-reuse-without-timestamps",
    scenario: Some("bind/ports/tw-reuse[tw-reuse=1,timestamps=0]"),
    cure: Some("bind/ports/tw-reuse[tw-reuse=1,timestamps=1]"),
    proven_by: super::ProvenBy::Suites(&["tw-reuse-without-timestamps"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_tw_reuse set to 1 with tcp_timestamps 0. A port in TIME_WAIT is only taken \
        again where timestamps tell old segments from new ones, so the setting does nothing. \
        With timestamps it acts on connect() alone: it never helps bind() or incoming \
        connections.",
    evidence: "The values of net.ipv4.tcp_tw_reuse and net.ipv4.tcp_timestamps.",
    recommendation: "Timestamps on, the kernel's default; they also protect from sequence \
        numbers that wrap and measure round trips.",
    cost: "12 bytes a segment.",
    risk: "None that is known; some lists turn timestamps off because they once told the \
        uptime, which they do not since Linux 4.10.",
    undo: "Set the former value.",
    references: &[
        "tcp_tw_reuse, tcp_timestamps: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_twsk_unique: net/ipv4/tcp_ipv4.c of Linux",
        "RFC 7323 section 5",
    ],
};

const SETTING: &str = "net.ipv4.tcp_timestamps";
const REUSE: &str = "net.ipv4.tcp_tw_reuse";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let (Some(timestamps), Some(reuse)) =
        (facts.settings.tcp_timestamps, facts.settings.tcp_tw_reuse)
    else {
        return cannot_be_read(REUSE);
    };
    if reuse != 1 || timestamps != 0 {
        return Outcome::Quiet(format!(
            "tcp_tw_reuse is {reuse}, tcp_timestamps is {timestamps}"
        ));
    }
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, "1");
    finding.evidence.push(Evidence::sysctl(REUSE, reuse.into()));
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: Confidence::High,
        summary: "tcp_tw_reuse is 1 and does nothing: tcp_timestamps is 0".to_owned(),
        why:
            "connect() takes a port in TIME_WAIT again only if both ends use timestamps. If ports \
            to one destination run out, timestamps make the setting work; if nothing runs out, \
            tcp_tw_reuse can go as well."
                .to_owned(),
        verify: "TWRecycled rises while one destination is connected to often (nstat -az \
            TcpExtTWRecycled)"
            .to_owned(),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::host;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tw-reuse-without-timestamps")
    }
}
