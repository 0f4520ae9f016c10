//! A tcp_mem above what the programs that own the RAM leave.

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::sizing::MarksFault;
use super::tcp_mem_in_bytes::{Faulty, tcp_mem_fault};
use super::{Confidence, Documentation, Outcome, ProvenBy, Rule, Scope, Severity};

pub(super) const RULE: Rule = Rule {
    code: "LB414",
    name: "tcp-mem-beside-owner",
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
    detects: "A high mark of tcp_mem above a tenth of the RAM beside a large owner. Programs own \
        three quarters of the RAM, for example a database. They lack what TCP takes up to the \
        mark, and the kernel kills the largest program first.",
    evidence: "The sum of AnonPages, Shmem and Hugetlb in /proc/meminfo against MemTotal, and \
        the third value of net.ipv4.tcp_mem.",
    recommendation: "Marks around the kernel's own pressure mark (a sixteenth of the free buffer \
        pages), or around one and a half times the usage if that is more, in the proportion of \
        3/4, 1 and 3/2. The high mark is at most a quarter of the RAM, or a tenth if programs \
        own three quarters of it. The proposal is lower than the present value.",
    cost: "None while TCP holds less than the new pressure mark. It frees memory for the programs.",
    risk: "Many connections with much data in flight get smaller buffers under load.",
    undo: "Set the former three values.",
    references: &[
        "tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "3 to 10 % of RAM: scylladb/seastar issue 2348; couchbase/docs-server issue 4072",
        "__sk_mem_raise_allocated: net/core/sock.c of Linux",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    tcp_mem_fault(
        facts,
        MarksFault::BesideOwner,
        &DOCUMENTATION,
        "programs leave TCP as much as its high mark allows",
        |marks| Faulty {
            severity: Severity::Notice,
            confidence: Confidence::Medium,
            summary: format!(
                "tcp_mem allows {}, and programs own {} of the {} RAM",
                bytes(marks[2].saturating_mul(facts.page_bytes)),
                bytes(facts.memory.owned_bytes.unwrap_or(0)),
                bytes(facts.ram_bytes)
            ),
            why: "If programs own the RAM, TCP should be able to take a tenth of it at most. \
                Here lower is right."
                .to_owned(),
        },
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tcp-mem-beside-owner")
    }

    #[test]
    fn a_child_namespace_has_no_marks() {
        assert_not_evaluated(&RULE, &host("container"), "initial network namespace");
    }
}
