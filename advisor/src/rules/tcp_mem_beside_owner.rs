//! tcp_mem allows more than the program that owns the RAM leaves.

use super::sizing::MarksFault;
use super::tcp_mem_in_bytes::{Faulty, tcp_mem_fault};
use super::{Confidence, Documentation, Outcome, Rule, Severity, bytes};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB414",
    name: "tcp-mem-beside-owner",
    scenario: None,
    cure: None,
    proven_by: super::ProvenBy::Suites(&["tcp-mem-in-bytes"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A high mark of tcp_mem above a tenth of the RAM on a host whose programs own \
        three quarters of it, a database for example. What TCP takes up to the mark is missing \
        there, and the kernel kills the greatest program first.",
    evidence: "AnonPages, Shmem and Hugetlb of /proc/meminfo together, against MemTotal; and \
        the third value of net.ipv4.tcp_mem.",
    recommendation: "Marks around the kernel's own pressure mark, a sixteenth of the free \
        buffer pages, or one and a half times the usage where that is more, in the proportion of \
        3/4, 1 and 3/2; the high mark at most a quarter of RAM, or a tenth where programs own \
        three quarters of it. It is lower than now.",
    cost: "None; it frees memory for the programs.",
    risk: "Many connections with much in flight get smaller buffers under load.",
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
        "programs leave TCP what its high mark allows",
        |marks| {
            Faulty {
            severity: Severity::Notice,
            confidence: Confidence::Medium,
            summary: format!(
                "tcp_mem allows {}, and programs own {} of the {} RAM",
                bytes(marks[2].saturating_mul(facts.page_bytes)),
                bytes(facts.memory.owned_bytes.unwrap_or(0)),
                bytes(facts.ram_bytes)
            ),
            why: "Where one program owns the RAM, a tenth of it is the most that TCP should be able to take. Lower is right here."
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
        host("tcp-mem-beside-owner")
    }
}
