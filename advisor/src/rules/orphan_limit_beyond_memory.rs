//! A tcp_max_orphans that tcp_mem cannot pay for.

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::orphan_cost::Orphans;
use super::sizing::default_max_orphans;
use super::{
    Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope, Severity,
    not_initial_namespace,
};

pub(super) const RULE: Rule = Rule {
    code: "LB110",
    name: "orphan-limit-beyond-memory",
    scope: Scope::Host,
    scenario: Some("orphans/flood/over-the-limit"),
    cure: None,
    proven_by: ProvenBy::Reproduction(&[Harm::DataLost]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_max_orphans that the memory of TCP cannot hold. A typical one is 3276800, \
        from a list of settings. It never limits anything: tcp_mem fills first, and healthy \
        connections suffer together with the orphans.",
    evidence: "tcp_max_orphans times the memory of an orphan, against the high mark of tcp_mem, \
        if the limit is above the kernel's default (half of tcp_ehash_entries, or what the kernel \
        computes from the RAM). For files alone: above the largest default of any kernel. If \
        tcp_mem itself is wrong: against the marks that are proposed instead. The memory of an \
        orphan is what the orphans that are seen hold, and no more than TCP.mem divided by \
        TCP.orphan; else what a report measured on this kernel line; else the documented 64 KiB, \
        or what a full send buffer held on the nearest measured release if that is more.",
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
    let orphans = Orphans::of(facts, measured);
    let Some(payable) = orphans.payable else {
        return without_memory(facts, limit);
    };
    let each = bytes(orphans.cost.bytes);
    let default = default_max_orphans(facts).unwrap_or(GREATEST_DEFAULT);
    let least = orphans.peak.saturating_mul(4).saturating_add(1);
    let proposed = i64::try_from(payable)
        .unwrap_or(i64::MAX)
        .max(default)
        .max(least);
    if limit <= proposed {
        return Outcome::Quiet(format!(
            "tcp_max_orphans is {limit}, and tcp_mem pays for {payable} orphans of {each}"
        ));
    }
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed.to_string());
    finding
        .evidence
        .push(Evidence::sockstat("TCP.orphan", orphans.count));
    finding.evidence.extend(orphans.evidence());
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: orphans.cost.confidence,
        summary: format!("tcp_max_orphans is {limit}, and memory pays for {payable}"),
        why: format!(
            "With {each} for an orphan ({}) the high mark of tcp_mem is reached first. A limit \
             beyond that protects nothing.{}",
            orphans.cost.source,
            if proposed > i64::try_from(payable).unwrap_or(i64::MAX) && proposed == default {
                " The proposal is the kernel's default, and nothing is gained below it."
            } else {
                ""
            }
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
    use crate::rules::testing::{assert_quiet, bare_host, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("orphan-limit-beyond-memory")
    }

    #[test]
    fn no_kernels_own_limit_is_too_high() {
        // tcp_max_orphans and tcp_mem as Linux makes them of the RAM at boot.
        for page_bytes in [4_u64 << 10, 16 << 10, 64 << 10] {
            for shift in 26..=42 {
                let mut facts = bare_host(1 << 34);
                facts.page_bytes = page_bytes;
                facts.ram_bytes = (1 << shift) / 100 * 97;
                facts.memory.zones = None;
                facts.settings.tcp_ehash_entries = None;
                let pages = (1_u64 << shift) / page_bytes;
                let scale = if pages >= 128 << 10 { 17 } else { 15 };
                let buckets = ((1_u64 << shift) >> scale)
                    .next_power_of_two()
                    .min(512 << 10);
                facts.settings.tcp_max_orphans = Some(i64::try_from(buckets / 2).unwrap());
                let pressure = (pages / 100 * 97 / 16).max(128);
                facts.settings.tcp_mem = Some([pressure / 4 * 3, pressure, pressure / 4 * 3 * 2]);
                assert_quiet(&RULE, &facts);
            }
        }
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
