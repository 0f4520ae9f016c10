//! A full accept queue is answered with a reset.

use super::{Confidence, Documentation, Finding, Outcome, Rule, Severity, cannot_be_read};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB512",
    name: "abort-on-overflow",
    scenario: Some("listen/queue/last-ack-finds-it-full[abort-on-overflow=1]"),
    cure: Some("listen/queue/last-ack-finds-it-full[abort-on-overflow=0]"),
    proven_by: super::ProvenBy::Suites(&["abort-on-overflow"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_abort_on_overflow set to 1: a client whose last packet of the handshake \
        finds the accept queue full is reset. With 0 that packet is dropped, the client sends it \
        or its data again, and a burst is got over. The setting has no say over SYNs that find \
        the queue full: those are dropped either way.",
    evidence: "The value of net.ipv4.tcp_abort_on_overflow. ListenOverflows shows whether the \
        queue is full at all.",
    recommendation: "The kernel's default of 0; and a greater backlog, or a program that \
        accepts sooner, where the queue is full.",
    cost: "None.",
    risk: "Clients wait for a listener that never gets better where they were told at once; if \
        that was meant, leave it.",
    undo: "Set the former value.",
    references: &[
        "tcp_abort_on_overflow: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_check_req: net/ipv4/tcp_minisocks.c of Linux",
    ],
};

const SETTING: &str = "net.ipv4.tcp_abort_on_overflow";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(current) = facts.settings.tcp_abort_on_overflow else {
        return cannot_be_read(SETTING);
    };
    if current == 0 {
        return Outcome::Quiet(format!("tcp_abort_on_overflow is {current}"));
    }
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: Confidence::Medium,
        summary: "tcp_abort_on_overflow is 1: a burst of clients gets resets".to_owned(),
        why: "A queue that is full for a moment costs a client a second with 0 and the connection with 1. The clients that are reset see ECONNRESET or ECONNREFUSED from a service that is up."
            .to_owned(),
        verify: "EmbryonicRsts stops rising (nstat -az TcpExtEmbryonicRsts)"
            .to_owned(),
        ..Finding::of_setting(facts, &DOCUMENTATION, SETTING, "0")
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::host;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("abort-on-overflow")
    }
}
