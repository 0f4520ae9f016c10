//! Segments that could not be split, because the send buffer is too small for its queue.

use advisor_facts::Facts;
use advisor_facts::units::seconds;
use advisor_report::measured::Measured;

use super::past::Past;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity, a_minute,
};

pub(super) const RULE: Rule = Rule {
    code: "LB740",
    name: "send-queue-refused",
    scope: Scope::Namespace,
    scenario: Some("throughput/send-queue/too-big[buffer=lowered]"),
    cure: Some("throughput/send-queue/too-big[buffer=unset]"),
    proven_by: ProvenBy::Nothing(
        "the refused writes are a program's own, which the facts don't show",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Segments not split because the send queue is far beyond SO_SNDBUF. Since the mend \
        for CVE-2019-11478 the kernel refuses to split a segment then, so that it cannot send what \
        the peer lacks. Such a connection is slow after a loss, or stalls.",
    evidence: "TCPWqueueTooBig over two looks: warning above 1 per minute. Without a window: 10 \
        since boot, as a notice.",
    recommendation: "Leave SO_SNDBUF unset, or set it before connect() or listen() and never \
        lower it while data waits.",
    cost: "Memory for what is on its way.",
    risk: "None known.",
    undo: "Set the former SO_SNDBUF.",
    references: &[
        "tcp_fragment: net/ipv4/tcp_output.c of Linux 5.2 and later",
        "CVE-2019-11478; tcp: be more careful in tcp_fragment(), commit b617158dc096",
    ],
};

const REFUSED: &str = "TcpExt.TCPWqueueTooBig";
/// Fewer since boot are chance (our judgement).
const FEW: i64 = 10;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let refused = facts.grown(REFUSED).unwrap_or(0).max(0);
    if let Some((window, _)) = facts.window()
        && refused > 1
        && a_minute(refused, window) > 1
    {
        let show = facts.command("ss -tm");
        return Outcome::Fired(vec![Finding {
            severity: Severity::Warning,
            confidence: Confidence::High,
            summary: format!(
                "{refused} segments could not be split in {}: the send queue is far beyond \
                 SO_SNDBUF",
                seconds(window)
            ),
            why: format!(
                "The kernel limits the memory of a queue to twice the send buffer and a little, \
                 and cannot send again a part of a segment beyond it. {show} shows the sockets: w \
                 of skmem far above tb."
            ),
            applies_to: AppliesTo::Program,
            subject: "the program that sets a small SO_SNDBUF".to_owned(),
            setting: "SO_SNDBUF".to_owned(),
            current: format!("unknown ({show}: tb of skmem)"),
            proposed: "not set".to_owned(),
            evidence: Vec::from_iter(Evidence::counter(REFUSED, facts)),
            cost: DOCUMENTATION.cost.to_owned(),
            risk: DOCUMENTATION.risk.to_owned(),
            apply: "in the program: remove setsockopt(SO_SNDBUF), or call it before connect() or \
                listen()"
                .to_owned(),
            undo: DOCUMENTATION.undo.to_owned(),
            verify: format!(
                "TCPWqueueTooBig stops rising ({})",
                facts.command("nstat -az TcpExtTCPWqueueTooBig")
            ),
        }]);
    }
    let past = Past::counted(facts, REFUSED);
    if past.count < FEW {
        return Outcome::Quiet(format!(
            "{} segments could not be split {}",
            past.count,
            facts.counters_begin()
        ));
    }
    let summary = format!(
        "{} segments could not be split {}: a send queue was far beyond SO_SNDBUF",
        past.count,
        past.when(facts)
    );
    let why = "Such connections are slow after a loss, or stall. The counter does not say which: \
        a window during the load shows whether it goes on."
        .to_owned();
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        ..past.finding(summary, "SO_SNDBUF", why)
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, bare_host, counters, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("send-queue-refused")
    }

    #[test]
    fn refusals_are_told_while_they_last_and_after() {
        assert_eq!(fired(&RULE, &firing())[0].severity, Severity::Warning);
        let mut facts = bare_host(1 << 30);
        facts.now.counters = counters("TcpExt: TCPWqueueTooBig\nTcpExt: 9\n");
        assert_quiet(&RULE, &facts);
        facts.now.counters = counters("TcpExt: TCPWqueueTooBig\nTcpExt: 10\n");
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Observe);
    }
}
