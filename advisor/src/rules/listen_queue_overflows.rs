//! Listeners drop connections because their queues are full.

use super::somaxconn_low::{DEFAULT, SETTING};
use super::{
    Confidence, Documentation, Evidence, Finding, Kind, Outcome, Rule, Severity, a_minute,
    needs_a_window, seconds,
};
use crate::facts::Facts;

pub(super) const RULE: Rule = Rule {
    code: "LB510",
    name: "listen-queue-overflows",
    scenario: None,
    cure: None,
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections dropped by listeners of the network namespace: the accept queue was \
        full, or there was no memory for one more. Such a client tries again after a second, \
        then two, then four.",
    evidence: "The greater of ListenOverflows and ListenDrops over two looks: a warning above \
        1 a minute, critical above 5.",
    recommendation: "Where somaxconn is below 4096, that, because it cuts every backlog; and \
        in the program a backlog for listen() as great as its bursts, or to accept sooner. ss \
        -tln shows which listener: its Recv-Q is above its Send-Q.",
    cost: "Memory for connections that wait to be accepted, about 2 KiB each.",
    risk: "A greater queue in front of a program that is too slow only makes clients wait \
        longer.",
    undo: "Set the former value, or take the change of the program out again.",
    references: &[
        "tcp_v4_syn_recv_sock, tcp_conn_request: net/ipv4 of Linux",
        "somaxconn: Documentation/admin-guide/sysctl/net.rst of Linux",
        "alarms at 1 and 5 a minute: health/health.d/tcp_listen.conf of netdata",
    ],
};

const OVERFLOWS: &str = "TcpExt.ListenOverflows";
const DROPS: &str = "TcpExt.ListenDrops";

fn check(facts: &Facts) -> Outcome {
    let Some((window, _)) = facts.window() else {
        return needs_a_window(OVERFLOWS, facts);
    };
    let grown = |name| facts.grown(name).unwrap_or(0).max(0);
    let drops = grown(OVERFLOWS).max(grown(DROPS));
    let rate = a_minute(drops, window);
    // One in a short window is no rate.
    if rate <= 1 || drops <= 1 {
        return Outcome::Quiet(format!("{drops} drops at listeners in {}", seconds(window)));
    }
    let mut evidence: Vec<_> = [OVERFLOWS, DROPS]
        .into_iter()
        .filter_map(|name| Evidence::counter(name, facts))
        .collect();
    let common = Finding {
        severity: if rate > 5 {
            Severity::Critical
        } else {
            Severity::Warning
        },
        confidence: Confidence::High,
        summary: format!(
            "listeners dropped {drops} connections in {}",
            seconds(window)
        ),
        why: "The accept queue of a listener holds min(backlog, somaxconn) + 1 connections; a SYN \
            that finds it full is dropped, and the client waits for a second or more. The \
            counter does not say which listener: ss -tln shows one whose Recv-Q is above its \
            Send-Q."
            .to_owned(),
        kind: Kind::Program,
        subject: "the listener whose queue is full".to_owned(),
        setting: "the backlog of listen()".to_owned(),
        current: "unknown (ss -tln: Send-Q)".to_owned(),
        proposed: "as many as arrive while the program is busy, and accept() sooner".to_owned(),
        evidence: Vec::new(),
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program: listen(fd, 4096), and accept() in a loop until EAGAIN; most \
            servers have a setting for it (backlog)"
            .to_owned(),
        undo: "take the change of the program out again".to_owned(),
        verify: "ListenOverflows and ListenDrops stop rising (nstat -az TcpExtListenOverflows \
            TcpExtListenDrops)"
            .to_owned(),
    };
    let proposed = DEFAULT.to_string();
    Outcome::Fired(vec![match facts.settings.somaxconn {
        Some(current) if current < DEFAULT => {
            let setting = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed);
            evidence.extend(setting.evidence);
            Finding {
                kind: Kind::Both,
                subject: setting.subject,
                setting: setting.setting,
                current: setting.current,
                proposed: setting.proposed,
                apply: format!(
                    "{}; then in the program a backlog for listen() of as many, and a restart",
                    setting.apply
                ),
                undo: setting.undo,
                evidence,
                ..common
            }
        }
        _ => Finding { evidence, ..common },
    }])
}
