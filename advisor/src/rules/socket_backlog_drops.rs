//! Segments dropped because their socket was locked and its backlog full.

use advisor_facts::Facts;
use advisor_facts::units::seconds;
use advisor_report::measured::Measured;

use super::past::Past;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity, a_minute,
};

pub(super) const RULE: Rule = Rule {
    code: "LB711",
    name: "socket-backlog-drops",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "it takes two CPUs that race for one socket, and a guest does not show their speed",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Segments dropped at a socket whose program is in a system call. Meanwhile they \
        wait in the socket's backlog, which holds about as much as both of its buffers. Small \
        buffers, or a program that moves much at once, make it overflow.",
    evidence: "TCPBacklogDrop over two looks: warning above 1 per minute. Without a window: 10 \
        since boot, as a notice.",
    recommendation: "Leave SO_RCVBUF and SO_SNDBUF unset, or set them larger: the backlog grows \
        with them. Read and write less than 1 MiB per call.",
    cost: "Memory for what waits, up to the size of the buffers.",
    risk: "None known.",
    undo: "Revert the change of the program.",
    references: &[
        "tcp_add_backlog: net/ipv4/tcp_ipv4.c of Linux",
        "LINUX_MIB_TCPBACKLOGDROP: include/uapi/linux/snmp.h of Linux",
    ],
};

const DROPS: &str = "TcpExt.TCPBacklogDrop";
/// Fewer since boot are chance (our judgement).
const FEW: i64 = 10;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let drops = facts.grown(DROPS).unwrap_or(0).max(0);
    let past = Past::counted(facts, DROPS);
    if let Some((window, _)) = facts.window()
        && drops > 1
        && a_minute(drops, window) > 1
    {
        return Outcome::Fired(vec![Finding {
            severity: Severity::Warning,
            confidence: Confidence::Medium,
            summary: format!(
                "{drops} segments were dropped in {} because their socket's backlog was full",
                seconds(window)
            ),
            why: "While a program is in a system call on a socket, segments for it wait in the \
                backlog. What finds it full is lost, and the peer sends it again. The counter does \
                not say which socket: d of skmem in ss -tm counts its drops."
                .replace("ss -tm", &facts.command("ss -tm")),
            applies_to: AppliesTo::Program,
            subject: "the program whose sockets drop".to_owned(),
            setting: "SO_RCVBUF".to_owned(),
            current: format!("unknown ({}: d of skmem)", facts.command("ss -tm")),
            proposed: "not set, and less than 1 MiB per call".to_owned(),
            evidence: Vec::from_iter(Evidence::counter(DROPS, facts)),
            cost: DOCUMENTATION.cost.to_owned(),
            risk: DOCUMENTATION.risk.to_owned(),
            apply: "in the program: remove setsockopt(SO_RCVBUF) and setsockopt(SO_SNDBUF), and \
                read and write in smaller pieces"
                .to_owned(),
            undo: DOCUMENTATION.undo.to_owned(),
            verify: format!(
                "TCPBacklogDrop stops rising ({})",
                facts.command("nstat -az TcpExtTCPBacklogDrop")
            ),
        }]);
    }
    if past.count < FEW {
        return Outcome::Quiet(format!(
            "{} segments found the backlog of a socket full {}",
            past.count,
            facts.counters_begin()
        ));
    }
    let summary = format!(
        "{} segments were dropped because their socket's backlog was full {}",
        past.count,
        past.when(facts)
    );
    let why =
        "The peers sent them again. A window during the load shows whether it goes on.".to_owned();
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        ..past.finding(summary, "SO_RCVBUF", why)
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, bare_host, counters, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        let mut facts = host("quiet");
        let counted = |drops: i64| counters(&format!("TcpExt: TCPBacklogDrop\nTcpExt: {drops}\n"));
        facts.now.counters = counted(34);
        facts.earlier.as_mut().unwrap().counters = counted(4);
        facts
    }

    #[test]
    fn drops_are_told_while_they_last_and_after() {
        assert_eq!(fired(&RULE, &firing())[0].severity, Severity::Warning);
        let mut facts = bare_host(1 << 30);
        facts.now.counters = counters("TcpExt: TCPBacklogDrop\nTcpExt: 9\n");
        assert_quiet(&RULE, &facts);
        facts.now.counters = counters("TcpExt: TCPBacklogDrop\nTcpExt: 10\n");
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Observe);
    }
}
