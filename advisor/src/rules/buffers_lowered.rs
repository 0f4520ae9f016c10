//! Greatest TCP buffers below what the kernel gives them by itself.

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, Harm, Outcome, ProvenBy, Rule, Scope, Severity,
    cannot_be_read,
};

pub(super) const RULE: Rule = Rule {
    code: "LB722",
    name: "buffers-lowered",
    scope: Scope::Namespace,
    scenario: Some("throughput/windows/receive-buffer[largest=small]"),
    cure: Some("throughput/windows/receive-buffer[largest=default]"),
    proven_by: ProvenBy::Reproduction(&[Harm::TransferStalls]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A greatest TCP buffer far below what the kernel sets by itself. A connection gets \
        at most half of its receive buffer, or its send buffer, per round trip: with 100 ms and \
        256 KiB that is about 10 Mbit/s, however fast the line is.",
    evidence: "The third value of net.ipv4.tcp_rmem or tcp_wmem below half of the kernel's own: a \
        128th of the memory, at most 6 MiB (tcp_rmem) or 4 MiB (tcp_wmem).",
    recommendation: "The kernel's own value. What is lowered to save memory is better saved by \
        tcp_mem, which limits all connections together.",
    cost: "Memory for connections that use it: only those with much on its way grow so far.",
    risk: "Stalled peers hold more memory each.",
    undo: "Set the former values.",
    references: &[
        "tcp_init: net/ipv4/tcp.c of Linux",
        "tcp_rmem, tcp_wmem: Documentation/networking/ip-sysctl.rst of Linux",
        "RFC 7323 section 1.1: the window bounds the throughput",
    ],
};

/// Each setting with the most that every kernel since 2.6.39 gives its third value, in
/// bytes; 6.18 and later give tcp_rmem more.
const SETTINGS: [(&str, u64); 2] = [
    ("net.ipv4.tcp_rmem", 6 << 20),
    ("net.ipv4.tcp_wmem", 4 << 20),
];
/// Below one in so many of the kernel's own value it is lowered on purpose (our judgement).
const FAR: u64 = 2;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    // nr_free_buffer_pages() << (PAGE_SHIFT - 7), as tcp_init() has it.
    let memory = match &facts.memory.zones {
        Some(zones) => zones.free_buffer_pages.saturating_mul(facts.page_bytes),
        None => facts.ram_bytes,
    };
    if memory == 0 {
        return Outcome::NotEvaluated("needs the host's memory, which is not known".to_owned());
    }
    let settings = &facts.settings;
    let (Some(rmem), Some(wmem)) = (settings.tcp_rmem, settings.tcp_wmem) else {
        return cannot_be_read("net.ipv4.tcp_rmem or tcp_wmem");
    };
    let findings: Vec<_> = SETTINGS
        .into_iter()
        .zip([rmem, wmem])
        .filter_map(|((name, most), triple)| finding(facts, name, most.min(memory / 128), triple))
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(format!(
            "buffers may grow to {} for receiving and {} for sending",
            bytes(rmem[2]),
            bytes(wmem[2])
        ));
    }
    Outcome::Fired(findings)
}

fn finding(
    facts: &Facts,
    name: &'static str,
    own: u64,
    [least, first, greatest]: [u64; 3],
) -> Option<Finding> {
    // A default above the greatest is another rule's.
    if greatest >= own / FAR || first > greatest || least > first {
        return None;
    }
    let word = name.strip_prefix("net.ipv4.").unwrap_or(name);
    // A window is half of a receive buffer at first.
    let per_round_trip = if word == "tcp_rmem" {
        greatest / 2
    } else {
        greatest
    };
    Some(Finding {
        severity: Severity::Notice,
        confidence: Confidence::Medium,
        summary: format!(
            "{word} ends at {}, the kernel's own value is {}",
            bytes(greatest),
            bytes(own)
        ),
        why: format!(
            "A connection moves at most about {} per round trip: with 100 ms that is {} per \
             second, however fast the line is.",
            bytes(per_round_trip),
            bytes(per_round_trip.saturating_mul(10))
        ),
        ..Finding::of_setting(
            facts,
            &DOCUMENTATION,
            name,
            &format!("{least} {first} {own}"),
        )
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, bare_host, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("buffers-lowered")
    }

    #[test]
    fn half_of_the_kernels_own_value_is_quiet() {
        let mut facts = host("quiet");
        set(&mut facts, "net.ipv4.tcp_rmem", "4096 87380 3145728");
        assert_quiet(&RULE, &facts);
        set(&mut facts, "net.ipv4.tcp_rmem", "4096 87380 3145727");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "4096 87380 6291456");
        set(&mut facts, "net.ipv4.tcp_wmem", "4096 16384 131072");
        assert_eq!(fired(&RULE, &facts).len(), 2);
    }

    #[test]
    fn a_small_host_has_small_buffers_of_the_kernels_own() {
        let mut facts = bare_host(128 << 20);
        set(&mut facts, "net.ipv4.tcp_rmem", "4096 131072 1048576");
        set(&mut facts, "net.ipv4.tcp_wmem", "4096 16384 1048576");
        assert_quiet(&RULE, &facts);
    }
}
