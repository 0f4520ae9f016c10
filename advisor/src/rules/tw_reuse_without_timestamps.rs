//! A tcp_tw_reuse that does nothing because tcp_timestamps is off.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope, Severity,
    cannot_be_read,
};

pub(super) const RULE: Rule = Rule {
    code: "LB312",
    name: "tw-reuse-without-timestamps",
    scope: Scope::Namespace,
    scenario: Some("bind/ports/tw-reuse[tw-reuse=1,timestamps=0]"),
    cure: Some("bind/ports/tw-reuse[tw-reuse=1,timestamps=1]"),
    proven_by: ProvenBy::Reproduction(&[Harm::ConnectionRefused]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_tw_reuse 1 together with tcp_timestamps 0. connect() takes a port in TIME_WAIT \
        again only if timestamps tell old segments from new ones, so the setting does nothing. \
        With timestamps it acts on connect() only: it never helps bind() or incoming \
        connections.",
    evidence: "The values of net.ipv4.tcp_tw_reuse and net.ipv4.tcp_timestamps.",
    recommendation: "Timestamps on, the kernel's default. They also protect from sequence \
        numbers that wrap, and measure round trips.",
    cost: "12 bytes per segment.",
    risk: "None known. Some lists turn timestamps off because they revealed the uptime; since \
        Linux 4.10 they do not.",
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
        why: "connect() takes a port in TIME_WAIT again only if both ends use timestamps. If \
             ports to one destination run out, timestamps make the setting work. If they do not, \
             tcp_tw_reuse can go too."
            .to_owned(),
        verify: format!(
            "TWRecycled rises during many connections to one destination ({})",
            facts.command("nstat -az TcpExtTWRecycled")
        ),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tw-reuse-without-timestamps")
    }

    #[test]
    fn it_fires_only_where_the_one_is_on_and_the_other_off() {
        let mut facts = host("quiet");
        for (reuse, timestamps, fires) in [("1", "0", true), ("1", "1", false), ("2", "0", false)] {
            set(&mut facts, REUSE, reuse);
            set(&mut facts, SETTING, timestamps);
            if fires {
                fired(&RULE, &facts);
            } else {
                assert_quiet(&RULE, &facts);
            }
        }
    }
}
