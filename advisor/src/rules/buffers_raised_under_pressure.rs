//! Sockets may take more while the memory of all of them is short.

use super::sizing::tcp_pages;
use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, Rule, Severity, bytes,
    not_initial_namespace,
};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB415",
    name: "buffers-raised-under-pressure",
    scenario: None,
    cure: None,
    proven_by: super::ProvenBy::Nothing(
        "the traffic decides how much of a larger buffer is filled; tcp-mem-near tries what \
         full buffers do to tcp_mem",
    ),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Greatest buffer sizes (tcp_rmem, tcp_wmem, rmem_max, wmem_max) that were raised \
        on a host whose TCP memory is beyond the pressure mark. The message about memory is \
        answered with greater buffers; then fewer sockets fill tcp_mem, and it gets worse.",
    evidence: "TCP.mem above the pressure mark, and a greatest buffer above a 64th of the high \
        mark and above 6 MiB.",
    recommendation: "The power of two below a 64th of the high mark, at least 6 MiB. It is \
        lower than now.",
    cost: "Throughput of single connections over paths whose bandwidth times delay is greater \
        than the buffer.",
    risk: "A long fat path gets slower; measure one that matters before and after.",
    undo: "Set the former value.",
    references: &[
        "tcp_rmem, tcp_wmem, tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "__sk_mem_raise_allocated: net/core/sock.c of Linux",
    ],
};

/// The default of the third value of tcp_rmem before Linux 6.18, in bytes.
const LEAST_BYTES: u64 = 6 << 20;
/// The settings, each with the place of the value that is too great.
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
        return Outcome::Quiet("the memory of TCP is not under pressure".to_owned());
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
        return Outcome::Quiet(format!("no buffer may be greater than {}", bytes(most)));
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
    // The others stay below it.
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
            "one socket may take {} while the memory of TCP is under pressure",
            bytes(current)
        ),
        why: "Beyond the pressure mark it is not single buffers that are too small: all of them \
            together are too great. With a greater maximum fewer sockets fill tcp_mem."
            .to_owned(),
        verify: "`mem` in /proc/net/sockstat falls below the second value of tcp_mem".to_owned(),
        ..finding
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::host;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("buffers-raised-under-pressure")
    }
}
