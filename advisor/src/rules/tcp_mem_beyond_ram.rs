//! A tcp_mem above the RAM.

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::sizing::MarksFault;
use super::tcp_mem_in_bytes::{Faulty, tcp_mem_fault};
use super::{Confidence, Documentation, Outcome, ProvenBy, Rule, Scope, Severity};

pub(super) const RULE: Rule = Rule {
    code: "LB412",
    name: "tcp-mem-beyond-ram",
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
    detects: "A high mark of tcp_mem beyond the RAM, such as `94500000 915000000 927000000`. TCP \
        is never limited. Instead the host runs out of memory, and the kernel kills programs.",
    evidence: "The third value of net.ipv4.tcp_mem times the page size, above three quarters of \
        MemTotal: the kernel and programs need the rest.",
    recommendation: "Marks around the kernel's own pressure mark (a sixteenth of the free buffer \
        pages), or around one and a half times the usage if that is more, in the proportion of \
        3/4, 1 and 3/2. The high mark is at most a quarter of the RAM, or a tenth if programs \
        own three quarters of it.",
    cost: "None while TCP holds less than the new pressure mark: there was no limit before.",
    risk: "If TCP holds more than the new marks now, the buffers of connections shrink.",
    undo: "Set the former three values.",
    references: &[
        "tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_init_mem: net/ipv4/tcp.c of Linux",
        "oracle/bpftune: growth up to a quarter",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    tcp_mem_fault(
        facts,
        MarksFault::BeyondRam,
        &DOCUMENTATION,
        "the high mark is below three quarters of the RAM",
        |marks| Faulty {
            severity: Severity::Warning,
            confidence: Confidence::High,
            summary: {
                let allowed = marks[2].saturating_mul(facts.page_bytes);
                let of = if allowed > facts.ram_bytes {
                    ", more than"
                } else {
                    " of"
                };
                let (allowed, ram) = (bytes(allowed), bytes(facts.ram_bytes));
                format!("tcp_mem allows {allowed}{of} the {ram} RAM of this host")
            },
            why: "TCP's memory cannot be swapped. A limit above what is left beside the kernel \
                and the programs has no effect: the kernel kills programs before TCP reaches it."
                .to_owned(),
        },
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, bare_host, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tcp-mem-beyond-ram")
    }

    #[test]
    fn what_is_left_beside_programs_is_less_than_the_ram() {
        let mut facts = bare_host(2 << 30);
        let marks = |facts: &mut Facts, text: &str| {
            set(facts, "net.ipv4.tcp_mem", text);
            facts.sysctl_files.set("net.ipv4.tcp_mem", text);
        };
        marks(&mut facts, "300000 350000 393216");
        assert_quiet(&RULE, &facts);
        marks(&mut facts, "300000 400000 500000");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            finding.summary,
            "tcp_mem allows 1.9 GiB of the 2.0 GiB RAM of this host"
        );
    }

    #[test]
    fn a_child_namespace_has_no_marks() {
        assert_not_evaluated(&RULE, &host("container"), "initial network namespace");
    }
}
