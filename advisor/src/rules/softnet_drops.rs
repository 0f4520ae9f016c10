//! Packets dropped before any protocol saw them, because a CPU did not keep up.

use advisor_facts::Facts;
use advisor_facts::units::seconds;
use advisor_report::measured::Measured;

use super::past::Past;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity, a_minute,
};

pub(super) const RULE: Rule = Rule {
    code: "LB710",
    name: "softnet-drops",
    scope: Scope::Host,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "whether a CPU keeps up depends on the speed of the machine, which a guest does not show",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Packets that the kernel dropped before TCP saw them. The queue of a CPU between \
        the network card and the protocols was full (netdev_max_backlog). To TCP it looks like \
        loss on the path: retransmissions, and SYNs that are answered after a second.",
    evidence: "The second column of /proc/net/softnet_stat, added up over the CPUs: warning above \
        10 per minute. Without a window: 1,000 drops since boot, if they are at least one in \
        10,000 packets, as a notice. The third column, rounds that were cut off, is shown.",
    recommendation: "netdev_max_backlog of 16,384. If that does not help, or one CPU has nearly all of the load (mpstat -P ALL, %soft), spread it over the CPUs: more \
        queues of the card (ethtool -L), or RPS.",
    cost: "Up to 2 KiB per packet that waits, for each CPU.",
    risk: "Packets that wait for longer are late: a queue is no answer to a CPU that is too slow \
        all the time.",
    undo: "Set the former value.",
    references: &[
        "netdev_max_backlog: Documentation/admin-guide/sysctl/net.rst of Linux",
        "enqueue_to_backlog: net/core/dev.c of Linux; softnet_seq_show: net/core/net-procfs.c",
        "Receive Packet Steering: Documentation/networking/scaling.rst of Linux",
        "alarm on drops in a minute: 1min_netdev_backlog_exceeded of netdata",
    ],
};

const SETTING: &str = "net.core.netdev_max_backlog";
const DROPPED: &str = "Softnet.dropped";
const SQUEEZED: &str = "Softnet.time_squeeze";
const PROCESSED: &str = "Softnet.processed";
/// More per minute are no chance (netdata's alarm had this bound).
const A_MINUTE: i64 = 10;
/// A queue that takes a burst of several milliseconds at 10 Gbit/s (our judgement).
const QUEUE: i64 = 16_384;
/// Fewer since boot are chance (our judgement).
const FEW: i64 = 1_000;
/// One in more packets than this is chance (our judgement).
const PACKETS_A_DROP: i64 = 10_000;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(total) = facts.now.counters.get(DROPPED) else {
        return Outcome::NotEvaluated(
            "needs /proc/net/softnet_stat, which the capture does not have".to_owned(),
        );
    };
    let dropped = facts.grown(DROPPED).unwrap_or(0).max(0);
    let evidence: Vec<_> = [DROPPED, SQUEEZED]
        .into_iter()
        .filter_map(|name| Evidence::counter(name, facts))
        .collect();
    if let Some((window, _)) = facts.window()
        && a_minute(dropped, window) > A_MINUTE
    {
        let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &QUEUE.to_string());
        finding.evidence.extend(evidence);
        let current = facts.settings.netdev_max_backlog.unwrap_or(0);
        if current >= QUEUE {
            finding = Finding {
                applies_to: AppliesTo::Observe,
                setting: "the CPUs that take packets".to_owned(),
                current: format!("a queue of {current} packets does not suffice"),
                proposed: "spread the load over more CPUs".to_owned(),
                apply: "mpstat -P ALL shows the CPU (%soft); more queues of the card (ethtool \
                    -L), or RPS"
                    .to_owned(),
                undo: "Set the former number of queues.".to_owned(),
                ..finding
            };
        }
        return Outcome::Fired(vec![Finding {
            severity: Severity::Warning,
            confidence: Confidence::Medium,
            summary: format!(
                "{dropped} packets were dropped in {} because a CPU did not keep up",
                seconds(window)
            ),
            why: "The queue between the network card and TCP was full. TCP takes it for loss on \
                the path: it sends again, and slower."
                .to_owned(),
            verify: "the second column of /proc/net/softnet_stat stops rising".to_owned(),
            ..finding
        }]);
    }
    let past = Past::counted(facts, DROPPED);
    let processed = facts.now.counters.get(PROCESSED).unwrap_or(0);
    if past.count < FEW || past.count.saturating_mul(PACKETS_A_DROP) < processed {
        return Outcome::Quiet(format!(
            "{total} of the host's {processed} packets found the queue of a CPU full {}",
            facts.counters_begin()
        ));
    }
    let summary = format!(
        "{} packets were dropped because a CPU did not keep up {}",
        past.count,
        past.when(facts)
    );
    let why = "The counter does not say when. A window during the load shows whether it goes on."
        .to_owned();
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        verify: format!(
            "the second column of /proc/net/softnet_stat stays as it is; its sum is {} now, in \
             decimal",
            past.count
        ),
        ..past.finding(summary, SETTING, why)
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, counters, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("softnet-drops")
    }

    #[test]
    fn it_proposes_a_longer_queue_and_then_more_cpus() {
        let mut facts = firing();
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.setting, SETTING);
        set(&mut facts, SETTING, &finding.proposed);
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Observe);
        facts.earlier = None;
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Observe);
    }

    #[test]
    fn a_few_among_many_packets_are_quiet() {
        let mut facts = host("quiet");
        facts.earlier = None;
        let total = |dropped: i64| {
            counters(&format!(
                "Softnet: processed dropped time_squeeze\nSoftnet: 10000000 {dropped} 0\n"
            ))
        };
        facts.now.counters = total(999);
        assert_quiet(&RULE, &facts);
        facts.now.counters = total(1000);
        fired(&RULE, &facts);
        facts.now.counters = counters("Tcp: OutSegs\nTcp: 1\n");
        assert_not_evaluated(&RULE, &facts, "softnet_stat");
    }
}
