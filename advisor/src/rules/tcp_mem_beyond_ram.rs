//! tcp_mem allows more than the RAM.

use super::sizing::MarksFault;
use super::tcp_mem_in_bytes::{Faulty, tcp_mem_fault};
use super::{Confidence, Documentation, Outcome, Rule, Severity, bytes};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB412",
    name: "tcp-mem-beyond-ram",
    scenario: None,
    cure: None,
    proven_by: super::ProvenBy::Suites(&["tcp-mem-in-bytes"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A high mark of tcp_mem above the RAM of the host, such as `94500000 915000000 \
        927000000`: TCP is never held back, and the host runs out of memory instead, which ends \
        programs.",
    evidence: "The third value of net.ipv4.tcp_mem times the page size, and MemTotal.",
    recommendation: "Marks around the kernel's own pressure mark, a sixteenth of the free \
        buffer pages, or one and a half times the usage where that is more, in the proportion of \
        3/4, 1 and 3/2; the high mark at most a quarter of RAM, or a tenth where programs own \
        three quarters of it.",
    cost: "None: there was no limit before.",
    risk: "Where TCP holds more than the new marks now, the buffers of connections shrink.",
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
        "the high mark is below the RAM",
        |marks| {
            Faulty {
            severity: Severity::Warning,
            confidence: Confidence::High,
            summary: format!(
                "tcp_mem allows {}, more than the {} RAM of this host",
                bytes(marks[2].saturating_mul(facts.page_bytes)),
                bytes(facts.ram_bytes)
            ),
            why: "The memory of TCP cannot be swapped. A limit above the RAM is none: before it is reached the kernel kills programs."
                .to_owned(),
        }
        },
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::host;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tcp-mem-beyond-ram")
    }
}
