//! tcp_max_orphans was lowered, mostly against TIME_WAIT, over which it has no say.

use super::sizing::{OrphanCost, most_orphans};
use super::{Confidence, Documentation, Finding, Outcome, Rule, Severity, not_initial_namespace};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB113",
    name: "orphan-limit-lowered",
    scenario: Some("orphans/flood/over-the-limit"),
    cure: Some("orphans/flood/under-the-limit"),
    proven_by: super::ProvenBy::Suites(&["orphan-limit-lowered"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_max_orphans below 4096 and below a quarter of the kernel's default. \
        Orphans are taken for sockets in TIME_WAIT, and the limit lowered to be rid of those. \
        TIME_WAIT does not count as an orphan; what a low limit resets are connections whose \
        last data is on its way.",
    evidence: "The value of net.ipv4.tcp_max_orphans; the kernel's default is half of \
        tcp_ehash_entries, and taken for 8192 where that cannot be read.",
    recommendation: "The kernel's default, as far as the high mark of tcp_mem pays for so many \
        orphans.",
    cost: "Memory that cannot be swapped, only if the orphans come.",
    risk: "None that is known; the limit is not reached on a healthy host.",
    undo: "Set the former value.",
    references: &[
        "tcp_max_orphans: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_init: net/ipv4/tcp.c of Linux",
    ],
};

const SETTING: &str = "net.ipv4.tcp_max_orphans";
/// A limit below this is no kernel's default on a host of more than 64 MiB.
const LOW: i64 = 4096;
/// What is taken for the default where it cannot be read.
const USUAL: i64 = 8192;

fn check(facts: &Facts, measured: &Measured) -> Outcome {
    let Some(limit) = facts.settings.tcp_max_orphans else {
        return not_initial_namespace(SETTING);
    };
    let default = facts.settings.half_ehash_entries();
    let usual = default.unwrap_or(USUAL);
    let cost = OrphanCost::of(&facts.now, facts, measured);
    let proposed = facts.settings.tcp_mem.map_or(usual, |tcp_mem| {
        let affordable = cost.affordable(tcp_mem, facts.page_bytes);
        usual.min(i64::try_from(affordable).unwrap_or(i64::MAX))
    });
    // Where there are more, it is no matter of a limit that is too low.
    let orphans = most_orphans(facts).map_or(0, |(orphans, _)| orphans);
    let helps = proposed > limit && orphans.saturating_mul(4) < proposed;
    if limit >= LOW || limit >= usual / 4 || !helps {
        return Outcome::Quiet(format!("tcp_max_orphans is {limit}"));
    }
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: if default.is_some() {
            Confidence::High
        } else {
            Confidence::Medium
        },
        summary: format!("tcp_max_orphans is {limit}: few closes to slow peers are resets"),
        why: "From a quarter of the limit on the kernel resets connections that a program has \
            closed and whose data the peer has not acknowledged yet. The limit has no say over \
            TIME_WAIT, which is counted apart (tcp_max_tw_buckets)."
            .to_owned(),
        cost: cost.of_more(limit, proposed.unsigned_abs()),
        verify: "TCPAbortOnMemory stops rising (nstat -az TcpExtTCPAbortOnMemory)".to_owned(),
        ..Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed.to_string())
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::host;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("orphan-limit-lowered")
    }
}
