//! A buffer begins with more than it may grow to.

use super::{Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity};
use advisor_facts::release::Release;
use advisor_facts::units::bytes;
use advisor_facts::{Facts, Settings};
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB419",
    name: "buffers-out-of-order",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "it says what a setting does; whether a program needs a greater buffer, its traffic decides",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A default buffer size above its maximum. It is a second value of tcp_rmem or \
        tcp_wmem above the third, or rmem_default above rmem_max (and the same for wmem). The \
        kernel takes it. A TCP socket then begins with the greater buffer and autotuning never \
        changes it; a program that asks for a buffer gets a smaller one than a program that asks \
        for none.",
    evidence: "The three values of net.ipv4.tcp_rmem and tcp_wmem; net.core.rmem_default against \
        rmem_max, wmem_default against wmem_max.",
    recommendation: "The kernel's own default, at most the maximum. The maximum stays.",
    cost: "None for programs that set their buffers; the others begin with less.",
    risk: "Where the greater default was meant, the maximum is to be raised instead.",
    undo: "Set the former value.",
    references: &[
        "tcp_rmem, tcp_wmem: Documentation/networking/ip-sysctl.rst of Linux",
        "rmem_default, rmem_max: Documentation/admin-guide/sysctl/net.rst of Linux",
        "tcp_rcv_space_adjust: net/ipv4/tcp_input.c of Linux",
    ],
};

/// The defaults of net.core with their maxima.
const DEFAULTS: [(&str, &str); 2] = [
    ("net.core.rmem_default", "net.core.rmem_max"),
    ("net.core.wmem_default", "net.core.wmem_max"),
];
const TRIPLES: [&str; 2] = ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"];

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let mut boot = Settings::default();
    boot.fill_with_defaults(Release::of_kernel(&facts.kernel));
    let single = DEFAULTS.into_iter().filter_map(|(name, most)| {
        let [default] = values(&facts.settings, name)?;
        let [most_bytes] = values(&facts.settings, most)?;
        let [boot] = values(&boot, name)?;
        (default > most_bytes).then(|| {
            let proposed = boot.min(most_bytes).to_string();
            finding(facts, name, default, (most, most_bytes), &proposed)
        })
    });
    let triples = TRIPLES.into_iter().filter_map(|name| {
        let [least, default, most] = values(&facts.settings, name)?;
        let [_, boot, _] = values(&boot, name)?;
        (default > most).then(|| {
            let begins = boot.min(most);
            let proposed = format!("{} {begins} {most}", least.min(begins));
            finding(facts, name, default, ("its third value", most), &proposed)
        })
    });
    let findings: Vec<_> = single.chain(triples).collect();
    if findings.is_empty() {
        return Outcome::Quiet("no default of a buffer is above its maximum".to_owned());
    }
    Outcome::Fired(findings)
}

fn values<const N: usize>(settings: &Settings, name: &str) -> Option<[u64; N]> {
    let text = settings.get(name)?;
    let values: Option<Vec<u64>> = text
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    values?.try_into().ok()
}

fn finding(
    facts: &Facts,
    name: &'static str,
    default: u64,
    (most, most_bytes): (&str, u64),
    proposed: &str,
) -> Finding {
    Finding {
        severity: Severity::Warning,
        confidence: Confidence::High,
        summary: format!(
            "{name}: the default, {}, is above {most}, {}",
            bytes(default),
            bytes(most_bytes)
        ),
        why: if name.starts_with("net.core.") {
            "A socket that is not TCP's begins with the default, whatever the maximum is: a \
             program that sets its buffer gets less than one that sets none."
        } else {
            "A TCP socket begins with the default, whatever the maximum is, and autotuning never \
             makes its buffer greater: that stops at the maximum."
        }
        .to_owned(),
        ..Finding::of_setting(facts, &DOCUMENTATION, name, proposed)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        let mut facts = host("quiet");
        facts
            .settings
            .set("net.ipv4.tcp_rmem", "4096 8388608 4194304");
        facts
    }

    #[test]
    fn the_default_goes_down_to_the_maximum() {
        for (name, value, proposed) in [
            (
                "net.ipv4.tcp_rmem",
                "4096 8388608 4194304",
                "4096 131072 4194304",
            ),
            ("net.ipv4.tcp_wmem", "8192 16385 16384", "8192 16384 16384"),
            (
                "net.ipv4.tcp_wmem",
                "20000 16385 10000",
                "10000 10000 10000",
            ),
            ("net.core.rmem_default", "16777216", "212992"),
            ("net.core.wmem_default", "212993", "212992"),
        ] {
            let mut facts = host("quiet");
            facts.settings.set("net.core.rmem_max", "212992");
            facts.settings.set("net.core.wmem_max", "212992");
            assert!(facts.settings.set(name, value));
            let findings = fired(&RULE, &facts);
            assert_eq!(findings.len(), 1);
            assert_eq!(
                (findings[0].setting.as_str(), findings[0].proposed.as_str()),
                (name, proposed)
            );
            facts.settings.set(name, proposed);
            assert_quiet(&RULE, &facts);
        }
    }
}
