//! Marks of tcp_mem that do not rise.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::sizing::MarksFault;
use super::tcp_mem_in_bytes::{Faulty, tcp_mem_fault};
use super::{Confidence, Documentation, Harm, Outcome, ProvenBy, Rule, Scope, Severity};

pub(super) const RULE: Rule = Rule {
    code: "LB411",
    name: "tcp-mem-out-of-order",
    scope: Scope::Host,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Reproduction(&[Harm::TransferStalls, Harm::DataLost]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Marks of tcp_mem that do not rise. The low mark is above the pressure mark, or the \
        pressure mark is at or above the high one. With three equal values no pressure slows \
        connections down before the high mark refuses memory. With a pressure mark above the \
        high one, pressure never begins.",
    evidence: "The three values of net.ipv4.tcp_mem.",
    recommendation: "Marks around the kernel's own pressure mark (a sixteenth of the free buffer \
        pages), or around one and a half times the usage if that is more, in the proportion of \
        3/4, 1 and 3/2. The high mark is at most a quarter of the RAM, or a tenth if programs \
        own three quarters of it.",
    cost: "RAM that cannot be swapped, at most the new high mark.",
    risk: "If TCP holds more than the new marks now, the buffers of connections shrink.",
    undo: "Set the former three values.",
    references: &[
        "tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "__sk_mem_raise_allocated: net/core/sock.c of Linux",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    tcp_mem_fault(
        facts,
        MarksFault::OutOfOrder,
        &DOCUMENTATION,
        "the marks rise",
        |marks| Faulty {
            severity: Severity::Warning,
            confidence: Confidence::High,
            summary: format!(
                "tcp_mem is out of order: {} {} {}",
                marks[0], marks[1], marks[2]
            ),
            why: "Below the first value there is no pressure, above the second the kernel \
                shrinks buffers, above the third it refuses memory. Each value has to be above \
                the one before."
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
        host("tcp-mem-out-of-order")
    }

    #[test]
    fn a_child_namespace_has_no_marks() {
        assert_not_evaluated(&RULE, &host("container"), "initial network namespace");
    }
}
