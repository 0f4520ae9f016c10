//! A tcp_mem set in bytes, although it counts pages.

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::sizing::{
    BYPASSED, Load, MarksFault, are_far_apart, expected_tcp_mem, ram_of_high_mark, sound_tcp_mem,
    tcp_pages,
};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity, not_initial_namespace,
};

pub(super) const RULE: Rule = Rule {
    code: "LB410",
    name: "tcp-mem-in-bytes",
    scope: Scope::Host,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "the harm is RAM of the host that TCP may take; a guest has other RAM",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_mem that was meant in bytes. Usually it is a triple of tcp_rmem such as \
        `4096 87380 67108864`, which guides of large vendors have. In pages that is a high mark of 256 GiB: the kernel \
        refuses nothing. The other two marks work: above the low one, 16 MiB, the kernel no longer \
        lets send buffers grow; above the middle one, 341 MiB, it shrinks the buffers of healthy \
        connections, until TCP holds less than the low mark.",
    evidence: "Rising values of which one is 16 times the one before or more (the kernel's own are \
        4/3 and 3/2 apart); or a high mark of more than eight times the RAM. If the RAM is not \
        known: one that the kernel computes on hosts with more than 2 TiB.",
    recommendation: "Marks around the kernel's own pressure mark (a sixteenth of the free buffer \
        pages), or around one and a half times the usage if that is more, in the proportion of \
        3/4, 1 and 3/2. The usage counts without what dead peers, leaks and orphans hold. The high \
        mark is at most a quarter of the RAM, or a tenth if programs own three quarters of it. If \
        the RAM is not known: no value, because the kernel computes a right one at boot.",
    cost: "Memory up to the new marks, where the low and the middle one rise.",
    risk: "If TCP holds more than the new marks now, the buffers of connections shrink.",
    undo: "Set the former three values.",
    references: &[
        "tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_init_mem: net/ipv4/tcp.c of Linux",
        "tcp_should_expand_sndbuf (the low mark): net/ipv4/tcp_input.c of Linux; \
         __sk_mem_raise_allocated, __sk_mem_reduce_allocated: net/core/sock.c of Linux",
        "growth up to a quarter: oracle/bpftune; less where a database owns the RAM: \
        scylladb/seastar issue 2348",
    ],
};

const SETTING: &str = "net.ipv4.tcp_mem";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    tcp_mem_fault(
        facts,
        MarksFault::InBytes,
        &DOCUMENTATION,
        "the marks are in pages",
        |marks| Faulty {
            severity: Severity::Warning,
            confidence: Confidence::High,
            summary: format!(
                "tcp_mem is in bytes by mistake: in pages its high mark is {}",
                bytes(marks[2].saturating_mul(facts.page_bytes))
            ),
            why: if facts.ram_bytes == 0 && !are_far_apart(marks) {
                format!(
                    "tcp_mem counts pages, tcp_rmem and tcp_wmem count bytes. The kernel computes \
                     such a high mark on a host with {} RAM. If the file is for one, say so with \
                     --ram.",
                    bytes(ram_of_high_mark(facts, marks[2]))
                )
            } else {
                format!(
                    "tcp_mem counts pages, tcp_rmem and tcp_wmem count bytes. With these values the \
                     kernel refuses TCP nothing before all memory is gone, and yet holds it back \
                     early: send buffers stop growing above {}, and those of healthy connections \
                     shrink above {}.",
                    bytes(marks[0].saturating_mul(facts.page_bytes)),
                    bytes(marks[1].saturating_mul(facts.page_bytes))
                )
            },
        },
    )
}

/// The words of one of the rules about the marks of tcp_mem.
pub(super) struct Faulty {
    pub severity: Severity,
    pub confidence: Confidence,
    pub summary: String,
    pub why: String,
}

/// The answer of a rule about one fault of the marks of tcp_mem.
#[expect(clippy::too_many_lines, reason = "mostly the texts of one finding")]
pub(super) fn tcp_mem_fault(
    facts: &Facts,
    fault: MarksFault,
    documentation: &Documentation,
    quiet: &str,
    faulty: impl FnOnce([u64; 3]) -> Faulty,
) -> Outcome {
    let Some(marks) = facts.settings.tcp_mem else {
        return not_initial_namespace(SETTING);
    };
    if MarksFault::of(facts) != Some(fault) {
        return Outcome::Quiet(quiet.to_owned());
    }
    let Faulty {
        severity,
        confidence,
        summary,
        why,
    } = faulty(marks);
    let sound = sound_tcp_mem(facts);
    let text = sound.map(|[low, pressure, high]| format!("{low} {pressure} {high}"));
    let mut finding = Finding::of_setting(
        facts,
        documentation,
        SETTING,
        text.as_deref().unwrap_or("the kernel's own, from boot"),
    );
    finding.evidence.extend(
        facts
            .now
            .sockstat
            .get("TCP.mem")
            .map(|pages| Evidence::sockstat("TCP.mem", pages)),
    );
    let expected = expected_tcp_mem(facts);
    if let Some([low, pressure, high]) = expected {
        finding.evidence.push(Evidence::new(
            "expected.tcp_mem",
            format!("{low} {pressure} {high}").as_str().into(),
            "a sixteenth of the free buffer pages of /proc/zoneinfo, as tcp_init_mem computes it",
        ));
    }
    if let Some(more) = sound.and_then(|[_, _, high]| high.checked_sub(marks[2])) {
        finding.cost = format!(
            "up to {} more of {} RAM, which cannot be swapped",
            bytes(more.saturating_mul(facts.page_bytes)),
            bytes(facts.ram_bytes)
        );
    }
    let usage = tcp_pages(facts).unwrap_or(0);
    let of_pages = |pages: u64| bytes(pages.saturating_mul(facts.page_bytes));
    let mut why = why;
    if usage > marks[1] {
        why = format!(
            "{why} TCP holds {}: the kernel is shrinking buffers now.",
            of_pages(usage)
        );
    }
    if facts.gauge_is_bypassed() {
        why = format!("{why} But {BYPASSED}.");
    }
    // What is amiss goes by itself once it is mended, and no marks are made for it.
    if let Some([_, pressure, _]) = sound
        .or(expected)
        .filter(|[_, pressure, _]| usage > *pressure)
    {
        let right = Load::of(facts).map_or(usage, |load| load.right_pages);
        finding.cost = format!(
            "TCP holds {} now, above the new pressure mark: see the risk",
            of_pages(usage)
        );
        finding.risk = format!(
            "TCP holds {} now, {} of it by right, and the new pressure mark is {}: until it holds \
             less than the new low mark, the buffers of all connections shrink. `advisor sockets \
             --by process` shows who holds it",
            of_pages(usage),
            of_pages(right),
            of_pages(pressure)
        );
    }
    let finding = Finding {
        severity,
        confidence,
        summary,
        why,
        verify: "`mem` in /proc/net/sockstat stays below the second value of tcp_mem".to_owned(),
        ..finding
    };
    Outcome::Fired(vec![match (sound, expected) {
        (Some(_), _) => finding,
        // TCP holds more by right than the RAM can pay for.
        (None, Some([_, pressure, _])) => Finding {
            applies_to: AppliesTo::Both,
            proposed: "the kernel's own, from boot, once TCP holds less".to_owned(),
            apply: format!(
                "first free memory where it is held (`advisor sockets --by process`): below {}, \
                 the pressure mark of boot; then take the line out of the file that sets tcp_mem \
                 and restart the host",
                of_pages(pressure)
            ),
            cost: format!(
                "at once it would shrink the buffers of every connection: TCP holds {}, and boot \
                 sets a pressure mark of {}",
                of_pages(usage),
                of_pages(pressure)
            ),
            ..finding
        },
        // The RAM is not known.
        (None, None) => Finding {
            applies_to: AppliesTo::Both,
            apply: "check with `ss -tanm` that it is not a few connections that hold the memory; \
                then remove the line from the file that sets tcp_mem, and restart the host"
                .to_owned(),
            risk: "a restart of the host".to_owned(),
            ..finding
        },
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, bare_host, fired, host, set, sockstat};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tcp-mem-in-bytes")
    }

    #[test]
    fn the_marks_that_work_are_told_from_the_one_that_does_not() {
        let mut facts = bare_host(16 << 30);
        facts.settings.tcp_mem = Some([4096, 87_380, 67_108_864]);
        let finding = fired(&RULE, &facts).remove(0);
        for mark in ["16.0 MiB", "341.3 MiB"] {
            assert!(finding.why.contains(mark), "{}", finding.why);
        }
        assert!(!finding.why.contains("shrinking buffers now"));
        facts.now.sockstat = sockstat("TCP: orphan 0 mem 90000\n");
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding.why.contains("shrinking buffers now"),
            "{}",
            finding.why
        );
        facts.settings.bypass_prot_mem = Some(1);
        let finding = fired(&RULE, &facts).remove(0);
        assert!(finding.why.contains("bypass_prot_mem"), "{}", finding.why);
    }

    #[test]
    fn usage_above_what_boot_would_set_is_said() {
        // More than a tenth of the RAM, beside programs that own the rest.
        let mut facts = bare_host(8 << 30);
        facts.memory.owned_bytes = Some(7 << 30);
        facts.settings.tcp_mem = Some([4096, 87_380, 67_108_864]);
        facts.now.sockstat = sockstat("TCP: orphan 0 mem 300000\n");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            finding.proposed,
            "the kernel's own, from boot, once TCP holds less"
        );
        assert!(
            finding.cost.contains("TCP holds 1.1 GiB"),
            "{}",
            finding.cost
        );
        // Where there is a value, the risk says it.
        facts.memory.owned_bytes = None;
        facts.settings.tcp_mem = Some([4096, 87_380, 67_108_864]);
        facts.now.sockstat = sockstat("TCP: orphan 0 mem 200000\n");
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            advisor_facts::sysctl::triple(&finding.proposed).is_some(),
            "{finding:?}"
        );
    }

    #[test]
    fn without_a_known_ram_no_value_is_proposed() {
        let mut facts = firing();
        facts.ram_bytes = 0;
        facts.memory.zones = None;
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.applies_to, AppliesTo::Both);
        assert_eq!(finding.proposed, "the kernel's own, from boot");
        set(&mut facts, SETTING, "191328 255104 382656");
        assert_quiet(&RULE, &facts);
    }
}
