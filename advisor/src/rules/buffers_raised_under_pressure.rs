//! Raised buffer sizes although the memory of all sockets is short.

use super::sizing::tcp_pages;
use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Severity, bytes,
    not_initial_namespace,
};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB415",
    name: "buffers-raised-under-pressure",
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "the traffic decides how much of a larger buffer is filled; tcp-mem-near tries what \
         full buffers do to tcp_mem",
    ),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Raised buffer sizes on a host whose TCP memory is beyond the pressure mark. The \
        largest sizes are in tcp_rmem, tcp_wmem, rmem_max and wmem_max. People raise them in \
        answer to the message about memory. Then fewer sockets fill tcp_mem, and it gets worse.",
    evidence: "TCP.mem above the pressure mark, and a largest buffer above a 64th of the high \
        mark and above 6 MiB.",
    recommendation: "The power of two below a 64th of the high mark, at least 6 MiB. It is lower \
        than the present value.",
    cost: "Throughput of single connections over paths whose bandwidth times delay exceeds the \
        buffer.",
    risk: "A fast path with a long delay gets slower. Measure one that matters before and after.",
    undo: "Set the former value.",
    references: &[
        "tcp_rmem, tcp_wmem, tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "__sk_mem_raise_allocated: net/core/sock.c of Linux",
    ],
};

/// The default of the third value of tcp_rmem before Linux 6.18, in bytes.
const LEAST_BYTES: u64 = 6 << 20;
/// The settings, each with the index of its largest size.
const SETTINGS: [(&str, usize); 4] = [
    ("net.ipv4.tcp_rmem", 2),
    ("net.ipv4.tcp_wmem", 2),
    ("net.core.rmem_max", 0),
    ("net.core.wmem_max", 0),
];

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let (Some(marks), Some(pages)) = (facts.settings.tcp_mem, tcp_pages(facts)) else {
        return not_initial_namespace("net.ipv4.tcp_mem");
    };
    let noise = facts
        .cpus
        .saturating_mul(facts.settings.mem_pcpu_rsv.unwrap_or(0));
    if pages <= marks[1] || pages <= noise {
        return Outcome::Quiet("TCP's memory is not under pressure".to_owned());
    }
    let share = marks[2].saturating_mul(facts.page_bytes) / 64;
    let most = match share.checked_ilog2() {
        Some(log) => (1 << log).max(LEAST_BYTES),
        None => LEAST_BYTES,
    };
    let findings: Vec<_> = SETTINGS
        .into_iter()
        .filter_map(|(setting, place)| finding(facts, setting, place, most))
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(format!("no buffer may be larger than {}", bytes(most)));
    }
    Outcome::Fired(findings)
}

fn finding(facts: &Facts, setting: &'static str, place: usize, most: u64) -> Option<Finding> {
    let text = facts.settings.get(setting)?;
    let mut values: Vec<u64> = text
        .split_whitespace()
        .map(|value| value.parse().ok())
        .collect::<Option<_>>()?;
    let current = *values.get(place)?;
    if current <= most {
        return None;
    }
    // The smaller sizes stay below it.
    for value in &mut values {
        *value = (*value).min(most);
    }
    let values: Vec<_> = values.iter().map(u64::to_string).collect();
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, setting, &values.join(" "));
    finding.evidence.extend(
        facts
            .now
            .sockstat
            .get("TCP.mem")
            .map(|pages| Evidence::sockstat("TCP.mem", pages)),
    );
    Some(Finding {
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        summary: format!(
            "one socket may take {} while TCP's memory is under pressure",
            bytes(current)
        ),
        why: "Beyond the pressure mark, single buffers are not too small: all of them together \
            are too large. With a larger maximum, fewer sockets fill tcp_mem."
            .to_owned(),
        verify: "`mem` in /proc/net/sockstat falls below the second value of tcp_mem".to_owned(),
        ..finding
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("buffers-raised-under-pressure")
    }

    #[test]
    fn a_buffer_of_a_64th_of_the_high_mark_or_of_6_mib_is_not_too_large() {
        let mut facts = firing();
        let set_to = |facts: &mut Facts, (name, index): (&str, usize), bytes: u64| {
            let smaller = if index == 0 { "" } else { "4096 4096 " };
            set(facts, name, &format!("{smaller}{bytes}"));
        };
        for (high_bytes, most) in [(64 << 24, 1 << 24), (64 << 20, 6 << 20)] {
            facts.settings.tcp_mem = Some([1, 2, high_bytes / facts.page_bytes]);
            for setting in SETTINGS {
                for other in SETTINGS {
                    set_to(&mut facts, other, most);
                }
                assert_quiet(&RULE, &facts);
                set_to(&mut facts, setting, most + 1);
                assert_eq!(fired(&RULE, &facts)[0].setting, setting.0);
            }
        }
        // Without pressure any size will do.
        facts.settings.tcp_mem = Some([1 << 20, 1 << 21, 1 << 22]);
        assert_quiet(&RULE, &facts);
    }
}
