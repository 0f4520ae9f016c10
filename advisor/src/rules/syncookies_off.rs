//! SYN cookies are off, so that a flood of SYNs fills the queue of a listener.

use super::{Confidence, Documentation, Finding, Outcome, Rule, Severity, cannot_be_read};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB513",
    name: "syncookies-off",
    scenario: None,
    cure: None,
    proven_by: super::ProvenBy::Suites(&["syncookies-off"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_syncookies set to 0. Lists of settings for speed do so. Cookies are only \
        sent once the queue of half-open connections is full, so they cost nothing until then; \
        without them a flood of SYNs, or a burst of clients, is dropped.",
    evidence: "The value of net.ipv4.tcp_syncookies.",
    recommendation: "The kernel's default of 1.",
    cost: "None until the queue is full; then the TCP options that a cookie cannot hold.",
    risk: "None that is known; a listener that is overloaded all the time hides behind \
        cookies, which TCPReqQFullDoCookies counts.",
    undo: "Set the former value.",
    references: &[
        "tcp_syncookies: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_conn_request: net/ipv4/tcp_input.c of Linux",
        "RFC 4987 section 3.6",
    ],
};

const SETTING: &str = "net.ipv4.tcp_syncookies";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(current) = facts.settings.tcp_syncookies else {
        return cannot_be_read(SETTING);
    };
    if current != 0 {
        return Outcome::Quiet(format!("tcp_syncookies is {current}"));
    }
    Outcome::Fired(vec![Finding {
        severity: Severity::Warning,
        confidence: Confidence::High,
        summary: "tcp_syncookies is 0: a flood of SYNs shuts the listeners".to_owned(),
        why: "With 1 the kernel answers with a cookie where the queue of half-open connections is full, instead of dropping the SYN. Nothing changes before that."
            .to_owned(),
        verify: "under load TCPReqQFullDrop no longer rises, TCPReqQFullDoCookies may (nstat -az)"
            .to_owned(),
        ..Finding::of_setting(facts, &DOCUMENTATION, SETTING, "1")
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::host;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("syncookies-off")
    }
}
