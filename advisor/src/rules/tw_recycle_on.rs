//! A tcp_tw_recycle that drops new connections of healthy clients.

use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope, Severity,
    cannot_be_read,
};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB315",
    name: "tw-recycle-on",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "Linux removed the setting in 4.12, and the oldest kernel to try it on is 5.10",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "tcp_tw_recycle set to 1 on a kernel before 4.12. The kernel remembers the last \
        timestamp of each peer address for 60 seconds and silently drops a SYN with an older one. \
        Clients behind one NAT share an address and have clocks of their own: some cannot \
        connect. Since Linux 4.10 each connection has its own timestamp offset, so clients \
        without NAT are dropped too.",
    evidence: "The value of net.ipv4.tcp_tw_recycle, and of net.ipv4.tcp_timestamps: without \
        timestamps it does nothing, and the answer is a notice. Critical if PAWSPassive, which \
        counts the dropped SYNs, grew between two looks.",
    recommendation: "The kernel's default of 0. If ports to one destination run out: \
        net.ipv4.tcp_tw_reuse = 1. If bind() fails after a restart: SO_REUSEADDR.",
    cost: "TIME_WAIT lasts 60 seconds again: about 250 bytes for each closed connection.",
    risk: "None known. Linux removed the setting in 4.12.",
    undo: "Set the former value.",
    references: &[
        "tcp_conn_request: net/ipv4/tcp_input.c, tcp_peer_is_proven: net/ipv4/tcp_metrics.c of \
         Linux 4.9",
        "commit 4396e46187ca of Linux: tcp_tw_recycle is gone since 4.12",
        "commit 95a22caee396 of Linux: a timestamp offset for each connection since 4.10",
        "\"ipv4: Namespaceify tcp_tw_recycle and tcp_max_tw_buckets knob\" of Linux 4.11",
    ],
};

const SETTING: &str = "net.ipv4.tcp_tw_recycle";
const COUNTER: &str = "TcpExt.PAWSPassive";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.kernel_is_at_least(4, 12) {
        return Outcome::Quiet("Linux 4.12 and later have no tcp_tw_recycle".to_owned());
    }
    let Some(current) = facts.settings.tcp_tw_recycle else {
        return cannot_be_read(SETTING);
    };
    if current == 0 {
        return Outcome::Quiet("tcp_tw_recycle is 0".to_owned());
    }
    let drops = facts.window().and_then(|_| facts.grown(COUNTER));
    let acts = facts.settings.tcp_timestamps != Some(0);
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, "0");
    let timestamps = facts.settings.tcp_timestamps;
    finding
        .evidence
        .extend(timestamps.map(|value| Evidence::sysctl("net.ipv4.tcp_timestamps", value.into())));
    finding.evidence.extend(Evidence::counter(COUNTER, facts));
    Outcome::Fired(vec![Finding {
        severity: match drops {
            _ if !acts => Severity::Notice,
            Some(drops) if drops > 0 => Severity::Critical,
            _ => Severity::Warning,
        },
        confidence: Confidence::High,
        summary: if acts {
            format!("tcp_tw_recycle is {current}: new connections of healthy clients are dropped")
        } else {
            format!("tcp_tw_recycle is {current}; with tcp_timestamps on it would drop clients")
        },
        why: "The kernel drops a SYN whose timestamp is older than the last one from that \
            address, and answers nothing. Clients behind one NAT have different clocks, and since \
            Linux 4.10 so has each connection. TIME_WAIT that ends early is not worth that."
            .to_owned(),
        verify: format!(
            "PAWSPassive stops rising ({})",
            facts.command("nstat -az TcpExtPAWSPassive")
        ),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, counters, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        let mut facts = host("quiet");
        "4.9.337".clone_into(&mut facts.kernel);
        set(&mut facts, SETTING, "1");
        facts
    }

    #[test]
    fn it_fires_on_1_before_linux_4_12() {
        let mut facts = firing();
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!((&*finding.current, &*finding.proposed), ("1", "0"));
        assert_eq!(finding.subject, "the whole kernel");
        assert!(
            finding
                .apply
                .starts_with("sysctl -w net.ipv4.tcp_tw_recycle=0")
        );
        "4.11.12".clone_into(&mut facts.kernel);
        assert_eq!(fired(&RULE, &facts)[0].subject, "this network namespace");
        "4.12.0".clone_into(&mut facts.kernel);
        assert_quiet(&RULE, &facts);
        "4.9.337".clone_into(&mut facts.kernel);
        set(&mut facts, SETTING, "0");
        assert_quiet(&RULE, &facts);
        facts.settings.tcp_tw_recycle = None;
        assert_not_evaluated(&RULE, &facts, SETTING);
    }

    #[test]
    fn dropped_clients_are_critical_and_without_timestamps_there_are_none() {
        let mut facts = firing();
        facts.now.counters = counters("TcpExt: PAWSPassive\nTcpExt: 41\n");
        facts.earlier.as_mut().unwrap().counters = counters("TcpExt: PAWSPassive\nTcpExt: 40\n");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.severity, Severity::Critical);
        let mut evidence = finding.evidence.iter();
        assert!(evidence.any(|seen| seen.observation == "host.TcpExt.PAWSPassive"));
        set(&mut facts, "net.ipv4.tcp_timestamps", "0");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.severity, Severity::Notice);
        assert!(finding.summary.contains("with tcp_timestamps on"));
    }
}
