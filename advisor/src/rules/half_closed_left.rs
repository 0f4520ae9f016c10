//! A program shuts down its half and waits for its peers for ever.

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_report::measured::Measured;

use super::left::left;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB204",
    name: "half-closed-left",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Reproduction(&[Harm::NoDescriptors]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Sockets in FIN_WAIT2 that a process holds. It has shut down its half \
        (shutdown(SHUT_WR)) and waits for a peer that does not close. No timer ends this state \
        while a descriptor is open: tcp_fin_timeout begins with close(). In the end the program \
        runs out of descriptors.",
    evidence: "Sockets in FIN_WAIT2 with an inode and nothing unread, per process, in every network \
        namespace. It fires at 10 old ones at one endpoint, or 30 of one process: in both looks at \
        least 10 seconds apart, or with nothing heard for a minute (tcp_info).",
    recommendation: "A time limit for the wait in the program, then close(). From close() on \
        tcp_fin_timeout counts, 60 s by default.",
    cost: "None.",
    risk: "A peer that needs longer than the time limit for its last data loses it: the kernel \
        answers data after close() with a reset.",
    undo: "Revert the change of the program.",
    references: &[
        "RFC 9293 section 3.6, FIN-WAIT-2",
        "TCP_FIN_WAIT2 in __tcp_close: net/ipv4/tcp.c of Linux",
        "no timer while a descriptor is open (tcp_fin_timeout 2, still there after 5 s): measured \
         on Linux 6.18",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(sockets) = &facts.now.sockets else {
        return Outcome::NotEvaluated("the sockets cannot be seen".to_owned());
    };
    let source = sockets.source.as_str();
    let counted = left(facts, |socket| {
        Condition::of(socket) == Condition::HalfClosed
    });
    if counted.left.is_empty() {
        return Outcome::Quiet(match counted.most {
            None => "no process holds a socket in FIN_WAIT2".to_owned(),
            Some(most) => format!(
                "{} half-closed and held, most of {most}: too few or too young to be a leak",
                counted.count
            ),
        });
    }
    let findings = counted.left.iter().map(|left| {
        let count = left.sockets.len();
        let subject = &left.subject;
        let mut evidence = left.evidence("FIN_WAIT2", source);
        evidence.extend(
            facts
                .settings
                .tcp_fin_timeout
                .map(|seconds| Evidence::sysctl("net.ipv4.tcp_fin_timeout", seconds.into())),
        );
        Finding {
            confidence: Confidence::Medium,
            severity: Severity::Warning,
            summary: format!(
                "{subject} holds {count} half-closed sockets (FIN_WAIT2){}, {}",
                left.spread, left.age
            ),
            why: "The program has shut down its half of these connections, the peers have \
                acknowledged that, and do not close theirs. While the descriptor is open no timer \
                runs: tcp_fin_timeout has no say before close()."
                .to_owned(),
            applies_to: AppliesTo::Program,
            subject: subject.clone(),
            setting: "a bounded wait, then close()".to_owned(),
            current: format!("{count} connections wait for their peers without a limit"),
            proposed: "wait for the peer\'s end for a few seconds, then close()".to_owned(),
            evidence,
            cost: DOCUMENTATION.cost.to_owned(),
            risk: DOCUMENTATION.risk.to_owned(),
            apply: format!(
                "find the process: {}; in it, bound the wait after shutdown(SHUT_WR), by poll() \
                 with a timeout or SO_RCVTIMEO, and close() then; until then, restarting it frees \
                 them",
                left.show(facts, "-tanp", "fin-wait-2")
            ),
            undo: DOCUMENTATION.undo.to_owned(),
            verify: format!(
                "{} | wc -l stays small",
                left.show(facts, "-tanp", "fin-wait-2")
            ),
        }
    });
    Outcome::Fired(findings.collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{
        add_process, add_sockets, assert_not_evaluated, assert_quiet, fired, host,
        move_to_namespace, socket,
    };
    use advisor_facts::sock_diag::{TcpState, Timer};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        half_closed(40, 120_000)
    }

    /// A host with a proxy that holds so many half-closed sockets of different peers.
    fn half_closed(count: u32, still_ms: u64) -> Facts {
        let mut facts = host("quiet");
        add_sockets(
            &mut facts,
            (1..=count).map(|number| {
                let peer = format!("198.51.100.{number}:443");
                let local = format!("10.0.0.1:{}", 40_000 + number);
                socket(TcpState::FinWait2, &local, &peer)
                    .held_by(90_000 + number)
                    .still_for(still_ms)
                    .done()
            }),
        );
        let inodes = (1..=count).map(|number| 90_000 + number);
        add_process(&mut facts, (812, "relay"), None, inodes);
        facts
    }

    #[test]
    fn one_process_is_counted_over_all_its_peers() {
        let finding = fired(&RULE, &firing()).remove(0);
        assert!(
            finding
                .summary
                .starts_with("relay (812) holds 40 half-closed sockets"),
            "{}",
            finding.summary
        );
        assert_quiet(&RULE, &half_closed(29, 120_000));
        assert_quiet(&RULE, &half_closed(40, 5_000));
    }

    #[test]
    fn what_no_process_holds_is_none_of_it() {
        let mut facts = firing();
        for socket in &mut facts.now.sockets.as_mut().unwrap().all {
            socket.inode = 0;
        }
        assert_quiet(&RULE, &facts);
        for socket in &mut facts.now.sockets.as_mut().unwrap().all {
            socket.timer = Timer::TimeWait;
        }
        assert_quiet(&RULE, &facts);
        facts.now.sockets = None;
        assert_not_evaluated(&RULE, &facts, "the sockets cannot be seen");
    }

    #[test]
    fn in_another_namespace_the_commands_lead_there() {
        let mut facts = firing();
        move_to_namespace(&mut facts, 4_026_532_901, 812);
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding.apply.contains("nsenter -t 812 -n ss -tanp"),
            "{}",
            finding.apply
        );
    }
}
