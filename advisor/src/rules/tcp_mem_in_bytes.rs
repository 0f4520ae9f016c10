//! A tcp_mem set in bytes, although it counts pages.

use super::sizing::{
    MarksFault, are_far_apart, expected_tcp_mem, ram_of_high_mark, sound_tcp_mem,
};
use super::{
    Confidence, Documentation, Evidence, Finding, Kind, Outcome, ProvenBy, Rule, Severity, bytes,
    not_initial_namespace,
};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB410",
    name: "tcp-mem-in-bytes",
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Suites(&["tcp-mem-in-bytes"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_mem that was meant as bytes, mostly a triple of tcp_rmem such as `4096 \
        87380 67108864`, which guides of large vendors have. In pages that is a high mark of 256 \
        GiB, which is never reached: the kernel stops the growth of buffers beyond the first \
        value and shrinks them beyond the second, but refuses no memory.",
    evidence: "Rising values of which one is 16 times the one before or more (the kernel's own \
        are 4/3 and 3/2 apart); or a high mark of more than eight times the RAM. If the RAM is not \
        known, one that the kernel computes on hosts with more than 2 TiB.",
    recommendation: "Marks around the kernel's own pressure mark (a sixteenth of the free buffer \
        pages), or around one and a half times the usage if that is more, in the proportion of \
        3/4, 1 and 3/2. The high mark is at most a quarter of the RAM, or a tenth if programs \
        own three quarters of it. If the RAM is not known: no value, because the kernel computes \
        a right one at boot.",
    cost: "None: nothing was refused before.",
    risk: "If TCP holds more than the new marks now, the buffers of connections shrink.",
    undo: "Set the former three values.",
    references: &[
        "tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_init_mem: net/ipv4/tcp.c of Linux",
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
            why: match facts.ram_bytes {
                _ if are_far_apart(marks) => format!(
                    "tcp_mem counts pages, tcp_rmem and tcp_wmem count bytes. In pages these are \
                     {}, {} and {}; the kernel's own marks are 4/3 and 3/2 apart.",
                    bytes(marks[0].saturating_mul(facts.page_bytes)),
                    bytes(marks[1].saturating_mul(facts.page_bytes)),
                    bytes(marks[2].saturating_mul(facts.page_bytes))
                ),
                0 => format!(
                    "tcp_mem counts pages, tcp_rmem and tcp_wmem count bytes. A kernel computes \
                     such a high mark on a host with {} RAM; if it is for one, say so with --ram.",
                    bytes(ram_of_high_mark(facts, marks[2]))
                ),
                _ => "tcp_mem counts pages, tcp_rmem and tcp_wmem count bytes. With these values \
                      TCP may take all memory before the kernel refuses it any."
                    .to_owned(),
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
    if let Some([low, pressure, high]) = expected_tcp_mem(facts) {
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
    let finding = Finding {
        severity,
        confidence,
        summary,
        why,
        verify: "`mem` in /proc/net/sockstat stays below the second value of tcp_mem".to_owned(),
        ..finding
    };
    Outcome::Fired(vec![match sound {
        Some(_) => finding,
        // The RAM is not known, or TCP holds too much of it already.
        None => Finding {
            kind: Kind::Both,
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
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tcp-mem-in-bytes")
    }

    #[test]
    fn without_a_known_ram_no_value_is_proposed() {
        let mut facts = firing();
        facts.ram_bytes = 0;
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.kind, Kind::Both);
        assert_eq!(finding.proposed, "the kernel's own, from boot");
        set(&mut facts, SETTING, "191328 255104 382656");
        assert_quiet(&RULE, &facts);
    }
}
