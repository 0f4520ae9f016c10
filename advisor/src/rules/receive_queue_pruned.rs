//! Received data that the kernel threw away because buffers were full.

use std::time::Duration;

use advisor_facts::Facts;
use advisor_facts::units::seconds;
use advisor_report::measured::Measured;

use super::past::Past;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity, a_minute,
};

pub(super) const RULE: Rule = Rule {
    code: "LB421",
    name: "receive-queue-pruned",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "what is thrown away depends on the order of packets, and a proof must not depend on that",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Data thrown away after it was received, because a buffer was full. The peer has to \
        send it again. The program reads too slowly, its buffer is too small for what arrives in \
        small segments, or TCP as a whole is short of memory.",
    evidence: "RcvPruned and TCPRcvQDrop over two looks: warning above 1 per minute together. \
        PruneCalled above 60 per minute is a notice: nothing is lost yet, and the kernel spends \
        its time on merging segments. Without a window: 10 of the first two since boot, as a \
        notice.",
    recommendation: "A program that reads sooner. If it does: no SO_RCVBUF, or a larger one. \
        Where TCP as a whole is short of memory, LB402 says so.",
    cost: "Memory for what is received and not read.",
    risk: "A larger buffer only delays it if the program is too slow all the time.",
    undo: "Revert the change of the program.",
    references: &[
        "tcp_prune_queue, tcp_try_rmem_schedule: net/ipv4/tcp_input.c of Linux",
        "LINUX_MIB_RCVPRUNED, LINUX_MIB_TCPRCVQDROP: include/uapi/linux/snmp.h of Linux",
        "PruneCalled, RcvPruned: Documentation/networking/snmp_counter.rst of Linux",
    ],
};

const CALLED: &str = "TcpExt.PruneCalled";
const PRUNED: &str = "TcpExt.RcvPruned";
const DROPPED: &str = "TcpExt.TCPRcvQDrop";
/// Merging of segments, a minute, that is more than a slow reader now and then (our
/// judgement).
const CALLED_A_MINUTE: i64 = 60;
/// Fewer since boot are chance (our judgement).
const FEW: i64 = 10;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(finding) = facts
        .window()
        .and_then(|(window, _)| finding(facts, window))
    {
        return Outcome::Fired(vec![finding]);
    }
    let pruned = Past::counted(facts, PRUNED);
    let dropped = Past::counted(facts, DROPPED);
    let count = pruned.count.saturating_add(dropped.count);
    if count < FEW {
        return Outcome::Quiet(format!(
            "{count} times received data was thrown away {}",
            facts.counters_begin()
        ));
    }
    let more = if pruned.count >= dropped.count {
        pruned
    } else {
        dropped
    };
    let summary = format!(
        "received data was thrown away {count} times {}: a buffer was full",
        more.when(facts)
    );
    let why = "The peers had to send it again. The counters do not say whose it was: a window \
        during the load, or ss -tm then, shows the sockets whose r of skmem is near rb."
        .replace("ss -tm", &facts.command("ss -tm"));
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        ..more.finding(summary, "SO_RCVBUF", why)
    }])
}

fn finding(facts: &Facts, window: Duration) -> Option<Finding> {
    let grown = |counter| facts.grown(counter).unwrap_or(0).max(0);
    let lost = grown(PRUNED).saturating_add(grown(DROPPED));
    let called = grown(CALLED);
    let is_lost = lost > 1 && a_minute(lost, window) > 1;
    if !is_lost && a_minute(called, window) <= CALLED_A_MINUTE {
        return None;
    }
    let show = facts.command("ss -tm");
    Some(Finding {
        severity: if is_lost {
            Severity::Warning
        } else {
            Severity::Notice
        },
        confidence: Confidence::Medium,
        summary: if is_lost {
            format!(
                "received data was thrown away {lost} times in {}: a buffer was full",
                seconds(window)
            )
        } else {
            format!(
                "receive queues were full and merged {called} times in {}",
                seconds(window)
            )
        },
        why: format!(
            "More arrives than a program reads. What is thrown away the peer has to send again. \
             {show} shows the sockets whose r of skmem is near rb."
        ),
        applies_to: AppliesTo::Program,
        subject: "the program that reads too slowly".to_owned(),
        setting: "SO_RCVBUF".to_owned(),
        current: format!("unknown ({show}: rb of skmem)"),
        proposed: "not set, and read() as soon as data is there".to_owned(),
        evidence: [PRUNED, DROPPED, CALLED]
            .into_iter()
            .filter_map(|name| Evidence::counter(name, facts))
            .collect(),
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program: remove setsockopt(SO_RCVBUF), and read in a loop until EAGAIN"
            .to_owned(),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: format!(
            "RcvPruned and TCPRcvQDrop stop rising ({})",
            facts.command("nstat -az TcpExtRcvPruned TcpExtTCPRcvQDrop")
        ),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, bare_host, counters, fired, host};

    fn grown([called, pruned, dropped]: [i64; 3]) -> Facts {
        let mut facts = host("quiet");
        let counted = |[called, pruned, dropped]: [i64; 3]| {
            counters(&format!(
                "TcpExt: PruneCalled RcvPruned TCPRcvQDrop\nTcpExt: {called} {pruned} {dropped}\n"
            ))
        };
        facts.now.counters = counted([called, pruned, dropped]);
        facts.earlier.as_mut().unwrap().counters = counted([0; 3]);
        facts
    }

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        grown([300, 12, 4])
    }

    #[test]
    fn what_is_lost_is_harm_and_what_is_merged_a_notice() {
        // Two looks 30 s apart.
        assert_eq!(fired(&RULE, &firing())[0].severity, Severity::Warning);
        assert_eq!(
            fired(&RULE, &grown([31, 0, 0]))[0].severity,
            Severity::Notice
        );
        assert_quiet(&RULE, &grown([30, 1, 0]));
    }

    #[test]
    fn what_is_over_is_told() {
        let mut facts = bare_host(1 << 30);
        facts.now.counters = counters("TcpExt: RcvPruned TCPRcvQDrop\nTcpExt: 4 5\n");
        assert_quiet(&RULE, &facts);
        facts.now.counters = counters("TcpExt: RcvPruned TCPRcvQDrop\nTcpExt: 4 6\n");
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Observe);
    }
}
