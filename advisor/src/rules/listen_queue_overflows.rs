//! Connections dropped by listeners because their queues are full.

use std::time::Duration;

use advisor_facts::Facts;
use advisor_facts::units::seconds;
use advisor_report::measured::Measured;

use super::past::Past;
use super::somaxconn_low::{DEFAULT, SETTING};
use super::witnessed;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, LogLine, Outcome, ProvenBy,
    Rule, Scope, Severity, a_minute,
};

/// What a line about SYN flooding means, whatever its end says.
const FLOODING: &str = "More handshakes were under way for the listener on this port than its backlog \
    allows, and the kernel answered with SYN cookies. It may be a flood; on most hosts the backlog \
    is too short for a burst, or the program does not call accept() in time. The kernel says it \
    once for a listener.";

pub(super) const RULE: Rule = Rule {
    code: "LB510",
    name: "listen-queue-overflows",
    scope: Scope::Namespace,
    scenario: Some("listen/queue/overflow[backlog=1,family=ipv4]"),
    cure: Some("listen/queue/overflow[backlog=4,family=ipv4]"),
    proven_by: ProvenBy::Reproduction(&[Harm::ConnectionLate]),
    log_lines: &[
        LogLine {
            pieces: &["syn flooding on port"],
            means: FLOODING,
        },
        LogLine {
            pieces: &["syn flooding on port", "sending cookies"],
            means: FLOODING,
        },
    ],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A listener that turned clients away because its accept queue was full. Such a \
        client tries again after a second, then two, then four, and each time counts.",
    evidence: "ListenOverflows over two looks: warning above 1 per minute, critical above 5. \
        ListenDrops is shown and not judged, because it also counts a full SYN queue and other \
        drops. Without a window: 10 overflows since boot, if they are at least one in 10,000 \
        accepted connections, as a notice.",
    recommendation: "If somaxconn is below 4096: raise it to that, because it limits every \
        backlog. In the program: a backlog for listen() as large as its bursts, or accept() \
        sooner. ss -tln shows which listener: its Recv-Q is above its Send-Q.",
    cost: "Memory for connections that wait for accept(), about 2 KiB each.",
    risk: "If the program is too slow, a longer queue only makes its clients wait longer.",
    undo: "Set the former value, or revert the change of the program.",
    references: &[
        "tcp_v4_syn_recv_sock, tcp_conn_request: net/ipv4 of Linux",
        "somaxconn: Documentation/admin-guide/sysctl/net.rst of Linux",
        "alarms at 1 and 5 a minute: health/health.d/tcp_listen.conf of netdata",
    ],
};

const OVERFLOWS: &str = "TcpExt.ListenOverflows";
const DROPS: &str = "TcpExt.ListenDrops";
const ACCEPTED: &str = "Tcp.PassiveOpens";
/// Fewer drops than this since boot are chance (our judgement).
const FEW: i64 = 10;
/// One drop since boot in more accepted connections than this is chance (our judgement).
const ACCEPTED_A_DROP: i64 = 10_000;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    // Connections that found the accept queue of a listener full. ListenDrops counts
    // other drops too: a full SYN queue, no route, no memory.
    let drops = facts.grown(OVERFLOWS).unwrap_or(0).max(0);
    let window = facts.window().map(|(window, _)| window);
    if let Some(finding) = window.and_then(|window| finding(facts, drops, window)) {
        return Outcome::Fired(vec![finding]);
    }
    let past = Past::counted(facts, OVERFLOWS);
    let accepted = facts.now.counters.get(ACCEPTED).unwrap_or(0);
    if past.count < FEW || past.count.saturating_mul(ACCEPTED_A_DROP) < accepted {
        return Outcome::Quiet(format!(
            "{} times a full accept queue turned a client away {}, beside {accepted} accepted connections",
            past.count,
            facts.counters_begin()
        ));
    }
    let summary = format!(
        "a full accept queue turned clients away {} times {}",
        past.count,
        past.when(facts)
    );
    let why = "Each of these clients tried again after a second or more. The counter does not say \
        which listener: a window during the load, or ss -tln then, shows the one whose Recv-Q is \
        above its Send-Q."
        .to_owned();
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        ..past.finding(summary, "the backlog of listen()", why)
    }])
}

fn finding(facts: &Facts, drops: i64, window: Duration) -> Option<Finding> {
    let watched = facts.happened.as_ref();
    let watched = watched.and_then(|happened| happened.counter(OVERFLOWS));
    // A watch knows the busiest minute; a long window has it evened out.
    let rate =
        a_minute(drops, window).max(watched.map_or(0, |group| group.most_a_minute.cast_signed()));
    // One drop in a short window is no rate.
    if rate <= 1 || drops <= 1 {
        return None;
    }
    let mut evidence: Vec<_> = [OVERFLOWS, DROPS]
        .into_iter()
        .filter_map(|name| Evidence::counter(name, facts))
        .collect();
    let show = facts.command("ss -tln");
    let common = Finding {
        severity: if rate > 5 {
            Severity::Critical
        } else {
            Severity::Warning
        },
        confidence: Confidence::High,
        summary: format!(
            "a full accept queue turned clients away {drops} times in {}{}",
            seconds(window),
            watched.map_or_else(String::new, |group| format!(", {}", witnessed::when(group)))
        ),
        why: format!(
            "The accept queue of a listener holds min(backlog, somaxconn) + 1 connections. The \
             kernel drops a SYN that finds it full, and the client waits for a second or more. \
             The counter does not say which listener: {show} shows one whose Recv-Q is above its \
             Send-Q."
        ),
        applies_to: AppliesTo::Program,
        subject: "the listener whose queue is full".to_owned(),
        setting: "the backlog of listen()".to_owned(),
        current: format!("unknown ({show}: Send-Q)"),
        proposed: "as many as arrive while the program is busy, and accept() sooner".to_owned(),
        evidence: Vec::new(),
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program: listen(fd, 4096), and accept() in a loop until EAGAIN; most \
            servers have a setting for it (backlog)"
            .to_owned(),
        undo: "revert the change of the program".to_owned(),
        verify: format!(
            "ListenOverflows and ListenDrops stop rising ({})",
            facts.command("nstat -az TcpExtListenOverflows TcpExtListenDrops")
        ),
    };
    if facts
        .settings
        .somaxconn
        .is_none_or(|current| current >= DEFAULT)
    {
        return Some(Finding { evidence, ..common });
    }
    let setting = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &DEFAULT.to_string());
    evidence.extend(setting.evidence);
    Some(Finding {
        applies_to: AppliesTo::Both,
        subject: setting.subject,
        setting: setting.setting,
        current: setting.current,
        proposed: setting.proposed,
        apply: format!(
            "{}; then in the program a backlog of as many for listen(), and a restart",
            setting.apply
        ),
        undo: setting.undo,
        evidence,
        ..common
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{
        add_namespace, assert_quiet, bare_host, counters, fired, host, outcome,
    };

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("listen-queue-overflows")
    }

    #[test]
    fn drops_of_another_namespace_are_seen() {
        let mut facts = host("quiet");
        add_namespace(&mut facts, 7, &[("ListenOverflows", 30)]);
        facts.now.elsewhere[0].settings.somaxconn = Some(128);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.subject, "network namespace pod-7");
        assert_eq!(
            (finding.applies_to, finding.current.as_str()),
            (AppliesTo::Both, "128")
        );
        assert!(
            finding
                .apply
                .starts_with("ip netns exec pod-7 sysctl -w net.core.somaxconn=4096"),
            "{}",
            finding.apply
        );
    }

    #[test]
    fn other_drops_are_no_full_accept_queue() {
        let mut facts = host("quiet");
        let grown = [
            ("ListenOverflows", 0),
            ("ListenDrops", 600),
            ("TCPReqQFullDrop", 600),
        ];
        add_namespace(&mut facts, 7, &grown);
        facts.now.elsewhere[0].counters =
            counters("TcpExt: ListenOverflows ListenDrops\nTcpExt: 0 600\n");
        facts.earlier.as_mut().unwrap().elsewhere[0].counters =
            counters("TcpExt: ListenOverflows ListenDrops\nTcpExt: 0 0\n");
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn overflows_since_boot_are_told() {
        let mut facts = bare_host(1 << 30);
        let total = |overflows: i64| {
            counters(&format!(
                "TcpExt: ListenOverflows\nTcpExt: {overflows}\nTcp: PassiveOpens\nTcp: 100000\n"
            ))
        };
        facts.now.counters = total(9);
        assert_quiet(&RULE, &facts);
        facts.now.counters = total(10);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            (finding.applies_to, finding.severity),
            (AppliesTo::Observe, Severity::Notice)
        );
    }

    #[test]
    fn it_warns_above_1_a_minute_and_is_critical_above_5() {
        let severity = |drops: i64| {
            let mut facts = host("quiet");
            // Two looks 30 s apart.
            add_namespace(&mut facts, 7, &[("ListenOverflows", drops)]);
            match outcome(&RULE, &facts) {
                Outcome::Fired(findings) => Some(findings[0].severity),
                _ => None,
            }
        };
        assert_eq!(severity(1), None, "one drop is no rate");
        assert_eq!(severity(2), Some(Severity::Warning));
        assert_eq!(severity(3), Some(Severity::Critical));
    }
}
