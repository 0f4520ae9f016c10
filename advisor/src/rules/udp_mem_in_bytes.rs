//! A udp_mem set in bytes, although it counts pages.

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::sizing::{PartOfMemory, are_in_bytes, expected_udp_mem};
use super::{
    AppliesTo, Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity,
    cannot_be_read, not_initial_namespace,
};

pub(super) const RULE: Rule = Rule {
    code: "LB420",
    name: "udp-mem-in-bytes",
    scope: Scope::Host,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing("no suite sends datagrams yet"),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A udp_mem that was meant in bytes. It counts pages, as tcp_mem does. UDP knows no \
        memory pressure: above the first value a socket gets memory only up to udp_rmem_min, and \
        above the third none. A first value of 4096 is 16 MiB for all sockets of UDP together, \
        and beyond that the kernel drops datagrams; a great one is no limit at all.",
    evidence: "Rising values of which one is 16 times the one before or more (the kernel's own are \
        4/3 and 3/2 apart); or a third value of more than eight times the RAM. If the RAM is not \
        known: one that the kernel computes on hosts with more than 2 TiB.",
    recommendation: "The kernel's own: an eighth of the free buffer pages, times 3/4, 1 and 3/2. \
        If the RAM is not known: no value, because the kernel computes a right one at boot.",
    cost: "Memory up to the new values, where the first one rises.",
    risk: "If UDP holds more than the new values now, datagrams are dropped.",
    undo: "Set the former three values.",
    references: &[
        "udp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "udp_init: net/ipv4/udp.c of Linux",
        "__sk_mem_raise_allocated: net/core/sock.c of Linux",
    ],
};

const SETTING: &str = "net.ipv4.udp_mem";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(values) = facts.settings.udp_mem else {
        return match facts.settings.tcp_mem {
            None => not_initial_namespace(SETTING),
            Some(_) => cannot_be_read(SETTING),
        };
    };
    let [first, second, third] = values;
    if !(first < second && second < third && are_in_bytes(facts, values, PartOfMemory::OfUdp)) {
        return Outcome::Quiet("the values are in pages".to_owned());
    }
    let of_pages = |pages: u64| bytes(pages.saturating_mul(facts.page_bytes));
    let sound = expected_udp_mem(facts);
    let text = sound.map(|[first, second, third]| format!("{first} {second} {third}"));
    let finding = Finding::of_setting(
        facts,
        &DOCUMENTATION,
        SETTING,
        text.as_deref().unwrap_or("the kernel's own, from boot"),
    );
    let finding = Finding {
        severity: Severity::Warning,
        confidence: Confidence::High,
        summary: format!(
            "udp_mem is in bytes by mistake: in pages it is {} to {}",
            of_pages(first),
            of_pages(third)
        ),
        why: format!(
            "udp_mem counts pages. All sockets of UDP together have {} before the kernel drops \
             datagrams for those that hold more than udp_rmem_min, and it refuses all at {}.",
            of_pages(first),
            of_pages(third)
        ),
        ..finding
    };
    Outcome::Fired(vec![match sound {
        Some(_) => finding,
        None => Finding {
            applies_to: AppliesTo::Both,
            apply: "take the line out of the file that sets udp_mem, and restart the host"
                .to_owned(),
            risk: "a restart of the host".to_owned(),
            ..finding
        },
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, bare_host, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        let mut facts = host("quiet");
        set(&mut facts, SETTING, "4096 87380 67108864");
        facts
    }

    #[test]
    fn bytes_are_told_by_what_they_would_mean() {
        // 16 GiB: an eighth of its pages is 524288.
        let mut facts = bare_host(16 << 30);
        for (values, is_wrong) in [
            ("392448 523264 784896", false),
            ("4096 87380 67108864", true),
            ("1610612736 2147483648 3221225472", true),
            // Widened fourfold on purpose.
            ("1569792 2093056 3139584", false),
            ("3139584 2093056 1569792", false),
        ] {
            set(&mut facts, SETTING, values);
            if is_wrong {
                let finding = fired(&RULE, &facts).remove(0);
                assert_eq!(finding.proposed, "392007 522676 784014", "{values}");
            } else {
                assert_quiet(&RULE, &facts);
            }
        }
        facts.ram_bytes = 0;
        facts.memory.zones = None;
        set(&mut facts, SETTING, "1610612736 2147483648 3221225472");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.applies_to, AppliesTo::Both);
        facts.settings.udp_mem = None;
        assert_not_evaluated(&RULE, &facts, "cannot be read");
    }
}
