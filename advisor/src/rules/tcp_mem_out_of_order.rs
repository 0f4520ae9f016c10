//! The marks of tcp_mem do not rise.

use super::sizing::MarksFault;
use super::tcp_mem_in_bytes::{Faulty, tcp_mem_fault};
use super::{Confidence, Documentation, Outcome, Rule, Severity};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB411",
    name: "tcp-mem-out-of-order",
    scenario: None,
    cure: None,
    proven_by: super::ProvenBy::Suites(&["tcp-mem-out-of-order"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Marks of tcp_mem that do not rise: a low mark above the pressure mark, or a \
        pressure mark at or above the high one. With three equal values there is no pressure \
        that slows connections down before the high mark refuses memory; with a pressure mark \
        above the high one it never begins.",
    evidence: "The three values of net.ipv4.tcp_mem.",
    recommendation: "Marks around the kernel's own pressure mark, a sixteenth of the free \
        buffer pages, or one and a half times the usage where that is more, in the proportion of \
        3/4, 1 and 3/2; the high mark at most a quarter of RAM, or a tenth where programs own \
        three quarters of it.",
    cost: "At most the new high mark, in RAM that cannot be swapped.",
    risk: "Where TCP holds more than the new marks now, the buffers of connections shrink.",
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
        |marks| {
            Faulty {
            severity: Severity::Warning,
            confidence: Confidence::High,
            summary: format!("tcp_mem is out of order: {} {} {}", marks[0], marks[1], marks[2]),
            why: "Below the first value there is no pressure, from the second on buffers shrink, and at the third memory is refused; each has to be above the one before."
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
        host("tcp-mem-out-of-order")
    }
}
