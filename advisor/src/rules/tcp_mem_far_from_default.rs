//! A tcp_mem far from what the kernel would compute, which no file sets.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::sizing::MarksFault;
use super::tcp_mem_in_bytes::{Faulty, tcp_mem_fault};
use super::{Confidence, Documentation, Harm, Outcome, ProvenBy, Rule, Scope, Severity};

pub(super) const RULE: Rule = Rule {
    code: "LB413",
    name: "tcp-mem-far-from-default",
    scope: Scope::Host,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Reproduction(&[Harm::TransferStalls, Harm::DataLost]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A pressure mark of tcp_mem far from the kernel's, which no file sets. It is less \
        than a quarter, or more than four times, what the kernel would compute for this RAM. \
        Possible reasons: memory was added after boot, or a program or a person set it by hand. \
        A value that a file sets counts as wanted.",
    evidence: "The second value of net.ipv4.tcp_mem against a sixteenth of the free buffer pages \
        in /proc/zoneinfo (of MemTotal, if the two contradict each other), and the files that \
        set sysctls.",
    recommendation: "Marks around the kernel's own pressure mark (a sixteenth of the free buffer \
        pages), or around one and a half times the usage if that is more, in the proportion of \
        3/4, 1 and 3/2. The high mark is at most a quarter of the RAM, or a tenth if programs \
        own three quarters of it.",
    cost: "RAM that cannot be swapped, at most the new high mark.",
    risk: "Somebody may have had a reason: ask first. If there is one, write the value into a \
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
        "the marks are near the kernel's default, or a file sets them",
        |marks| Faulty {
            severity: Severity::Notice,
            confidence: Confidence::Low,
            summary: format!(
                "tcp_mem is {} {} {}, far from the kernel's default, and no file \
                sets it",
                marks[0], marks[1], marks[2]
            ),
            why: "The kernel computes tcp_mem at boot from the memory of that moment. A value \
                far from that was set later, or the memory has changed."
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
        host("tcp-mem-far-from-default")
    }

    #[test]
    fn a_child_namespace_has_no_marks() {
        assert_not_evaluated(&RULE, &host("container"), "initial network namespace");
    }
}
