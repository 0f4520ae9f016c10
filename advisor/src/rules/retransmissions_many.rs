//! A share of retransmissions that is no chance.

use advisor_facts::Facts;
use advisor_facts::units::seconds;
use advisor_report::measured::Measured;

use super::past::Past;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB730",
    name: "retransmissions-many",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing("the cause is on the path or at the peers, not on the host"),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A high share of segments that are sent a second time. Packets are lost on the path, \
        at a card or at a peer that does not keep up. Each loss takes a round trip at the least, \
        and 200 ms or more where it ends in a timeout.",
    evidence: "RetransSegs against OutSegs, which counts them too: warning at 5% of at least \
        1,000 segments in the window. Without a window: 5% of at least 10,000 since boot, as a \
        notice.",
    recommendation: "Find where they are lost: ss -ti shows the peers with retrans, ip -s link \
        and ethtool -S the drops of a card, LB710 those of a CPU. Peers that are gone \
        retransmit too: LB401 tells.",
    cost: "None: it only looks.",
    risk: "None.",
    undo: "Nothing is changed.",
    references: &[
        "RetransSegs, OutSegs: RFC 4022; __tcp_retransmit_skb: net/ipv4/tcp_output.c of Linux",
        "Flach et al., Reducing Web Latency: the Virtue of Gentle Aggression, SIGCOMM 2013: 2.5% \
         on average of Google's clients",
    ],
};

const AGAIN: &str = "Tcp.RetransSegs";
const SENT: &str = "Tcp.OutSegs";
/// From this share on, in percent: twice the average of Google's clients (see the
/// references).
const PERCENT: i64 = 5;
/// Fewer segments in a window are no sample (our judgement).
const FEWEST: i64 = 1_000;
/// The same since boot.
const FEWEST_EVER: i64 = 10_000;

fn is_many(again: i64, sent: i64) -> bool {
    again.saturating_mul(100) >= sent.saturating_mul(PERCENT)
}

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let (Some(again), Some(sent)) = (facts.now.counters.get(AGAIN), facts.now.counters.get(SENT))
    else {
        return Outcome::NotEvaluated(format!("needs {AGAIN} and {SENT} of /proc/net/snmp"));
    };
    let verify = format!(
        "RetransSegs grows by less than 5% of OutSegs ({})",
        facts.command("nstat -az TcpRetransSegs TcpOutSegs")
    );
    if let (Some((window, _)), Some(again), Some(sent)) =
        (facts.window(), facts.grown(AGAIN), facts.grown(SENT))
        && sent >= FEWEST
        && is_many(again, sent)
    {
        return Outcome::Fired(vec![Finding {
            severity: Severity::Warning,
            confidence: Confidence::High,
            summary: format!(
                "{}% of the segments were sent again: {again} of {sent} in {}",
                again.saturating_mul(100) / sent,
                seconds(window)
            ),
            why: "Packets are lost on the path, at a card or at a peer. Programs see answers that \
                are late by a round trip, or by 200 ms and more."
                .to_owned(),
            applies_to: AppliesTo::Observe,
            subject: "the path to the peers that lose segments".to_owned(),
            setting: "retransmissions".to_owned(),
            current: format!("{again} of {sent} segments"),
            proposed: "find the peers that they go to".to_owned(),
            evidence: [AGAIN, SENT]
                .into_iter()
                .filter_map(|name| Evidence::counter(name, facts))
                .collect(),
            cost: DOCUMENTATION.cost.to_owned(),
            risk: DOCUMENTATION.risk.to_owned(),
            apply: format!(
                "{} shows retrans of each connection; ip -s link and ethtool -S what a card \
                 dropped",
                facts.command("ss -ti")
            ),
            undo: DOCUMENTATION.undo.to_owned(),
            verify,
        }]);
    }
    let past = Past::counted(facts, AGAIN);
    if sent < FEWEST_EVER || !is_many(past.count, sent) {
        return Outcome::Quiet(format!(
            "{again} of {sent} segments were sent again {}",
            facts.counters_begin()
        ));
    }
    let summary = format!(
        "{}% of the segments were sent again: {again} of {sent}, {}",
        again.saturating_mul(100) / sent,
        past.when(facts)
    );
    let why = "The counters do not say when, or to which peers: a window during the load does."
        .to_owned();
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        verify,
        ..past.finding(summary, "retransmissions", why)
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, counters, fired, host};

    fn sent(before: (i64, i64), now: (i64, i64)) -> Facts {
        let mut facts = host("quiet");
        let counted = |(sent, again): (i64, i64)| {
            counters(&format!("Tcp: OutSegs RetransSegs\nTcp: {sent} {again}\n"))
        };
        facts.now.counters = counted(now);
        facts.earlier.as_mut().unwrap().counters = counted(before);
        facts
    }

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        sent((100_000, 900), (120_000, 2_700))
    }

    #[test]
    fn it_warns_at_5_percent_of_a_sample() {
        assert_eq!(fired(&RULE, &firing())[0].severity, Severity::Warning);
        fired(&RULE, &sent((0, 0), (1_000, 50)));
        assert_quiet(&RULE, &sent((0, 0), (1_000, 49)));
        assert_quiet(&RULE, &sent((0, 0), (999, 500)));
    }

    #[test]
    fn a_share_since_boot_is_told_as_such() {
        let mut facts = sent((0, 0), (10_000, 500));
        facts.earlier = None;
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.severity, Severity::Notice);
        let mut facts = sent((0, 0), (10_000, 499));
        facts.earlier = None;
        assert_quiet(&RULE, &facts);
        facts.now.counters = counters("TcpExt: TW\nTcpExt: 1\n");
        assert_not_evaluated(&RULE, &facts, "RetransSegs");
    }
}
