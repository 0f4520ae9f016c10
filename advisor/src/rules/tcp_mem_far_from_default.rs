//! tcp_mem is far from what the kernel would compute, and no file says so.

use super::sizing::MarksFault;
use super::tcp_mem_in_bytes::{Faulty, tcp_mem_fault};
use super::{Confidence, Documentation, Outcome, Rule, Severity};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB413",
    name: "tcp-mem-far-from-default",
    scenario: None,
    cure: None,
    proven_by: super::ProvenBy::Suites(&["tcp-mem-far-from-default"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A pressure mark of tcp_mem less than a quarter or more than four times what the \
        kernel would compute for this RAM, without a file that sets it. It has a history: memory \
        that was added after boot, a program or a person that set it by hand. A value that a \
        file sets is taken for meant and left.",
    evidence: "The second value of net.ipv4.tcp_mem against a sixteenth of the free buffer \
        pages of /proc/zoneinfo (MemTotal where the two contradict each other), and the files of \
        settings.",
    recommendation: "Marks around the kernel's own pressure mark, a sixteenth of the free \
        buffer pages, or one and a half times the usage where that is more, in the proportion of \
        3/4, 1 and 3/2; the high mark at most a quarter of RAM, or a tenth where programs own \
        three quarters of it.",
    cost: "At most the new high mark, in RAM that cannot be swapped.",
    risk: "Whoever set it may have had a reason: ask first. If there is one, write it into a \
        file of /etc/sysctl.d, and this rule is quiet.",
    undo: "Set the former three values.",
    references: &[
        "tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_init_mem: net/ipv4/tcp.c of Linux",
        "nr_free_buffer_pages: mm/page_alloc.c of Linux",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    tcp_mem_fault(
        facts,
        MarksFault::FarFromDefault,
        &DOCUMENTATION,
        "the marks are near the kernel's own, or a file sets them",
        |marks| {
            Faulty {
            severity: Severity::Notice,
            confidence: Confidence::Low,
            summary: format!("tcp_mem is {} {} {}, far from the kernel's own, and no file says why", marks[0], marks[1], marks[2]),
            why: "The kernel computes tcp_mem at boot from the memory that is there then. A value far from that was set since, or the memory has changed since."
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
        host("tcp-mem-far-from-default")
    }
}
