//! A tcp_max_orphans that tcp_mem cannot pay for.

use super::sizing::{MarksFault, OrphanCost, expected_tcp_mem, most_orphans};
use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Severity, bytes,
    not_initial_namespace,
};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB110",
    name: "orphan-limit-beyond-memory",
    scenario: Some("orphans/flood/over-the-limit"),
    cure: None,
    proven_by: ProvenBy::Suites(&["orphan-limit-beyond-memory"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_max_orphans that TCP's memory cannot hold, such as 3276800 from a list. Such \
        a limit never holds anything back: tcp_mem fills first, and healthy connections suffer \
        together with the orphans.",
    evidence: "tcp_max_orphans times the memory of an orphan, against the high mark of tcp_mem, \
        if the limit is above the kernel's default (half of tcp_ehash_entries). If the default \
        is not known: one page per orphan. For files alone: above the largest default of any \
        kernel. If tcp_mem itself is wrong: against the kernel's own marks. The memory of an \
        orphan is what is seen here; else what a report measured on this kernel line; else the \
        documented 64 KiB, or what a full send buffer held on the nearest measured release if \
        that is more.",
    recommendation: "As many orphans as the high mark pays for, or the kernel's default if that \
        is more; always above four times the present count.",
    cost: "None. The proposal is lower than the present value.",
    risk: "The kernel may reset orphans beyond a quarter of the new limit, which it did not do \
        before.",
    undo: "Set the former value.",
    references: &[
        "tcp_max_orphans: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_check_oom: net/ipv4/tcp.c of Linux",
    ],
};

const SETTING: &str = "net.ipv4.tcp_max_orphans";

/// The largest default of any kernel: half of the 524288 entries that its table of
/// established connections has at most.
const GREATEST_DEFAULT: i64 = 262_144;

fn check(facts: &Facts, measured: &Measured) -> Outcome {
    let Some(limit) = facts.settings.tcp_max_orphans else {
        return not_initial_namespace(SETTING);
    };
    // A file may set the limit and leave tcp_mem to the kernel. Wrong marks, often from the
    // same list, pay for nothing.
    let marks = facts.settings.tcp_mem;
    let right = marks.filter(|_| MarksFault::of(facts).is_none());
    let Some(tcp_mem) = right.or_else(|| expected_tcp_mem(facts)) else {
        return without_memory(facts, limit);
    };
    let (orphans, look) = most_orphans(facts).unwrap_or((0, &facts.now));
    let cost = OrphanCost::of(look, facts, measured);
    let default = facts.settings.half_ehash_entries();
    // An orphan with unsent data takes at least a page.
    let (each, pays_for) = match default {
        Some(_) => (cost.bytes, cost.affordable(tcp_mem, facts.page_bytes)),
        None => (facts.page_bytes, tcp_mem[2]),
    };
    let least = orphans.max(0).saturating_mul(4).saturating_add(1);
    let proposed = i64::try_from(pays_for)
        .unwrap_or(i64::MAX)
        .max(default.unwrap_or(0))
        .max(least);
    if limit <= proposed {
        return Outcome::Quiet(format!(
            "tcp_max_orphans is {limit}, and tcp_mem pays for {pays_for} orphans of {}",
            bytes(each)
        ));
    }
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed.to_string());
    finding.evidence.push(Evidence::sysctl(
        "net.ipv4.tcp_mem",
        format!("{} {} {}", tcp_mem[0], tcp_mem[1], tcp_mem[2])
            .as_str()
            .into(),
    ));
    finding.evidence.push(cost.evidence());
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: cost.confidence,
        summary: format!("tcp_max_orphans is {limit}, and memory pays for {pays_for}"),
        why: format!(
            "At {} per orphan ({}), the high mark of tcp_mem, {}, is reached first. A limit \
             beyond that protects nothing.",
            bytes(each),
            if default.is_some() {
                cost.source.as_str()
            } else {
                "a page, the least"
            },
            bytes(tcp_mem[2].saturating_mul(facts.page_bytes))
        ),
        verify: "`orphan` in /proc/net/sockstat stays below a quarter of the limit".to_owned(),
        ..finding
    }])
}

/// The answer if neither tcp_mem nor the RAM is known.
fn without_memory(facts: &Facts, limit: i64) -> Outcome {
    if limit <= GREATEST_DEFAULT {
        return Outcome::Quiet(format!("tcp_max_orphans is {limit}"));
    }
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: Confidence::Low,
        summary: format!("tcp_max_orphans is {limit}, above the kernel's default on any host"),
        why: format!(
            "The kernel's default is at most {GREATEST_DEFAULT}. At the documented 64 KiB per \
             orphan, this limit takes {}.",
            bytes(limit.cast_unsigned().saturating_mul(64 << 10))
        ),
        ..Finding::of_setting(
            facts,
            &DOCUMENTATION,
            SETTING,
            &GREATEST_DEFAULT.to_string(),
        )
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("orphan-limit-beyond-memory")
    }

    #[test]
    fn wrong_marks_of_tcp_mem_pay_for_no_orphans() {
        let mut facts = host("quiet");
        // Both circulate in one list: 256 GiB in pages would pay for it.
        facts.settings.tcp_max_orphans = Some(3_276_800);
        let of_right_marks = fired(&RULE, &facts).remove(0).proposed;
        facts.settings.tcp_mem = Some([4096, 87_380, 67_108_864]);
        let of_wrong_marks = fired(&RULE, &facts).remove(0).proposed;
        let near = |text: &str| text.parse::<i64>().unwrap();
        assert!(
            near(&of_wrong_marks) <= 2 * near(&of_right_marks),
            "{of_wrong_marks}"
        );
    }
}
