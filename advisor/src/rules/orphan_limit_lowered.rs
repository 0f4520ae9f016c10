//! A lowered tcp_max_orphans, mostly against TIME_WAIT, which it does not affect.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::orphan_cost::Orphans;
use super::sizing::default_max_orphans;
use super::{
    Confidence, Documentation, Finding, Harm, Outcome, ProvenBy, Rule, Scope, Severity,
    not_initial_namespace,
};

pub(super) const RULE: Rule = Rule {
    code: "LB113",
    name: "orphan-limit-lowered",
    scope: Scope::Host,
    scenario: Some("orphans/flood/over-the-limit"),
    cure: Some("orphans/flood/under-the-limit"),
    proven_by: ProvenBy::Reproduction(&[Harm::DataLost]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_max_orphans below 4096 and below a quarter of the kernel's default. People \
        lower it to get rid of TIME_WAIT, which they take for orphans. But sockets in TIME_WAIT \
        do not count as orphans. A low limit resets connections whose last data is on its way.",
    evidence: "The value of net.ipv4.tcp_max_orphans. The kernel's default is half of \
        tcp_ehash_entries, or what the kernel computes from the RAM if that cannot be read.",
    recommendation: "The kernel's default, or as many orphans as the high mark of tcp_mem pays \
        for if that is less.",
    cost: "Memory that cannot be swapped, only if so many orphans come.",
    risk: "None known. A healthy host does not reach the limit.",
    undo: "Set the former value.",
    references: &[
        "tcp_max_orphans: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_init: net/ipv4/tcp.c of Linux",
    ],
};

const SETTING: &str = "net.ipv4.tcp_max_orphans";
/// No kernel's default is below this on a host of more than 64 MiB.
const LOW: i64 = 4096;
/// The default if it cannot be computed.
const USUAL: i64 = 8192;

fn check(facts: &Facts, measured: &Measured) -> Outcome {
    let Some(limit) = facts.settings.tcp_max_orphans else {
        return not_initial_namespace(SETTING);
    };
    let default = default_max_orphans(facts);
    let usual = default.unwrap_or(USUAL);
    let orphans = Orphans::of(facts, measured);
    let payable = orphans
        .payable
        .map(|payable| i64::try_from(payable).unwrap_or(i64::MAX));
    let proposed = payable.map_or(usual, |payable| usual.min(payable));
    // Where there are more, it is no matter of a limit that is too low.
    let helps = proposed > limit && orphans.peak.saturating_mul(4) < proposed;
    if limit >= LOW || limit >= usual / 4 || !helps {
        return Outcome::Quiet(format!("tcp_max_orphans is {limit}"));
    }
    Outcome::Fired(vec![Finding {
        severity: if limit > 0 {
            Severity::Notice
        } else {
            Severity::Warning
        },
        confidence: if default.is_some() {
            Confidence::High
        } else {
            Confidence::Medium
        },
        summary: if limit > 0 {
            format!("tcp_max_orphans is {limit}: a few closes to slow peers cause resets")
        } else {
            format!("tcp_max_orphans is {limit}: while one orphan is there, each close() resets")
        },
        why: "From a quarter of the limit on, the kernel resets connections that a program has \
            closed and whose data the peer has not acknowledged yet. The limit does not affect \
            TIME_WAIT, which has its own (tcp_max_tw_buckets)."
            .to_owned(),
        cost: orphans.cost_of(proposed.unsigned_abs()),
        verify: "TCPAbortOnMemory stops rising (nstat -az TcpExtTCPAbortOnMemory)".to_owned(),
        ..Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed.to_string())
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("orphan-limit-lowered")
    }

    #[test]
    fn it_fires_below_4096_and_a_quarter_of_the_default() {
        let mut facts = host("quiet");
        // A default of 65536, of which tcp_mem pays for 23916.
        set(&mut facts, SETTING, "4096");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "4095");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "23916");
        assert_eq!(fired(&RULE, &facts)[0].severity, Severity::Notice);
        // Any orphan is above a limit of 0.
        set(&mut facts, SETTING, "0");
        assert_eq!(fired(&RULE, &facts)[0].severity, Severity::Warning);
        // A default of 1024 on a small host.
        facts.settings.tcp_ehash_entries = Some(2048);
        set(&mut facts, SETTING, "256");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "255");
        fired(&RULE, &facts);
    }
}
