//! A somaxconn that limits the backlog of every listener.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity, cannot_be_read,
};

pub(super) const RULE: Rule = Rule {
    code: "LB511",
    name: "somaxconn-low",
    scope: Scope::Namespace,
    scenario: Some("listen/queue/overflow[backlog=1,family=ipv4]"),
    cure: Some("listen/queue/overflow[backlog=4,family=ipv4]"),
    proven_by: ProvenBy::Nothing(
        "nobody was turned away yet; where clients are, listen-queue-overflows tries the change",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A somaxconn below 4096, the kernel's default since Linux 5.4. The accept queue of \
        a listener holds min(backlog, somaxconn) + 1 connections, whatever its program asks for. \
        Old lists of settings raise it from 128 to 1024; on later kernels that lowers it.",
    evidence: "The value of net.core.somaxconn, if the kernel is 5.4 or later.",
    recommendation: "The kernel's default of 4096. Programs that ask for less keep what they ask \
        for.",
    cost: "Memory for connections that wait for accept(), about 2 KiB each, in programs that ask \
        for so many.",
    risk: "A program that is too slow makes more clients wait instead of turning them away.",
    undo: "Set the former value. A listener keeps its queue until its next listen().",
    references: &[
        "somaxconn: Documentation/admin-guide/sysctl/net.rst of Linux",
        "__sys_listen: net/socket.c of Linux",
        "commit 19f92a030ca6 of Linux: 4096 since 5.4",
    ],
};

pub(super) const SETTING: &str = "net.core.somaxconn";
/// The kernel's default since 5.4.
pub(super) const DEFAULT: i64 = 4096;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(current) = facts.settings.somaxconn else {
        return cannot_be_read(SETTING);
    };
    if current >= DEFAULT {
        return Outcome::Quiet(format!("somaxconn is {current}"));
    }
    if !facts.kernel_is_at_least(5, 4) {
        return Outcome::Quiet(format!(
            "somaxconn is {current}; before Linux 5.4 the default was 128"
        ));
    }
    let finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, "4096");
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: Confidence::High,
        summary: format!("somaxconn is {current}, below the kernel's default of {DEFAULT}"),
        why: "It limits the backlog that programs ask for: a burst of clients is dropped that \
            the program was ready to queue."
            .to_owned(),
        apply: format!(
            "{}; then restart the listeners, or let them call listen() again",
            finding.apply
        ),
        verify: format!(
            "{}: the Send-Q of a listener is the backlog that its program asks for",
            facts.command("ss -tln")
        ),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("somaxconn-low")
    }

    #[test]
    fn it_fires_below_4096() {
        let mut facts = host("quiet");
        set(&mut facts, SETTING, "4096");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "4095");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "4096");
    }

    #[test]
    fn before_linux_5_4_the_default_was_128() {
        let mut facts = firing();
        "5.3.18".clone_into(&mut facts.kernel);
        assert_quiet(&RULE, &facts);
    }
}
