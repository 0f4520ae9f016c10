//! More handshakes under way than a listener's backlog allows.

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
    code: "LB514",
    name: "syn-queue-full",
    scope: Scope::Namespace,
    scenario: Some("listen/syn-queue/full[backlog=8,cookies=on]"),
    cure: Some("listen/syn-queue/full[backlog=128,cookies=on]"),
    proven_by: ProvenBy::Nothing(
        "a reproduction has no handshakes that stay open, so nobody is turned away",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Handshakes under way beyond what a listener's backlog allows. It is another limit \
        than that of the accept queue: these clients have not completed the handshake. With SYN \
        cookies they connect without some options (window scaling and SACK, if they have no \
        timestamps); without them their SYN is dropped.",
    evidence: "TCPReqQFullDoCookies and TCPReqQFullDrop over two looks: notice above 1 cookie per \
        minute, warning above 1 drop, critical above 5. tcp_syncookies of 2 sends cookies always \
        and is not judged. Without a window: 10 since boot, if they are at least one in 10,000 \
        accepted connections, as a notice.",
    recommendation: "A backlog for listen() as large as the handshakes that are under way at \
        once: new connections per second times the round trip. somaxconn limits it; \
        tcp_max_syn_backlog only counts where tcp_syncookies is 0. In a flood no backlog \
        suffices, and cookies are the answer.",
    cost: "About 256 bytes for each handshake that is under way.",
    risk: "None known beyond the memory.",
    undo: "Revert the change of the program.",
    references: &[
        "tcp_conn_request, tcp_syn_flood_action: net/ipv4/tcp_input.c of Linux",
        "inet_csk_reqsk_queue_is_full: include/net/inet_connection_sock.h of Linux",
        "tcp_max_syn_backlog, tcp_syncookies: Documentation/networking/ip-sysctl.rst of Linux",
        "alarms at 1 and 5 a minute: health/health.d/tcp_listen.conf of netdata",
    ],
};

const COOKIES: &str = "TcpExt.TCPReqQFullDoCookies";
const DROPS: &str = "TcpExt.TCPReqQFullDrop";
const ACCEPTED: &str = "Tcp.PassiveOpens";
/// Fewer since boot are chance (our judgement, as for the accept queue).
const FEW: i64 = 10;
/// One since boot in more accepted connections than this is chance (our judgement).
const ACCEPTED_A_FULL_QUEUE: i64 = 10_000;
/// A backlog that few programs outgrow, and the default of somaxconn since Linux 5.4.
const BACKLOG: i64 = 4096;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    // With 2 each SYN gets a cookie, and counts.
    let judges_cookies = facts.settings.tcp_syncookies != Some(2);
    let grown = |counter| facts.grown(counter).unwrap_or(0).max(0);
    let cookies = if judges_cookies { grown(COOKIES) } else { 0 };
    let window = facts.window().map(|(window, _)| window);
    if let Some(finding) = window.and_then(|window| finding(facts, cookies, grown(DROPS), window)) {
        return Outcome::Fired(vec![finding]);
    }
    let drops = Past::counted(facts, DROPS);
    let cookies = Past::counted(facts, COOKIES);
    let accepted = facts.now.counters.get(ACCEPTED).unwrap_or(0);
    let matters = |past: &Past| {
        past.count >= FEW && past.count.saturating_mul(ACCEPTED_A_FULL_QUEUE) >= accepted
    };
    let why = "The counter does not say which listener; the kernel's log names its port once \
        (\"possible SYN flooding on port\")."
        .to_owned();
    let (past, summary) = if matters(&drops) {
        let summary = format!(
            "{} SYNs were dropped because a queue of handshakes was full {}",
            drops.count,
            drops.when(facts)
        );
        (drops, summary)
    } else if judges_cookies && matters(&cookies) {
        let summary = format!(
            "a full queue of handshakes was answered with SYN cookies {} times {}",
            cookies.count,
            cookies.when(facts)
        );
        (cookies, summary)
    } else {
        return Outcome::Quiet(format!(
            "a full queue of handshakes dropped {} SYNs and sent {} cookies {}",
            drops.count,
            cookies.count,
            facts.counters_begin()
        ));
    };
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        ..past.finding(summary, "the backlog of listen()", why)
    }])
}

fn finding(facts: &Facts, cookies: i64, drops: i64, window: Duration) -> Option<Finding> {
    let rate = |count| {
        if count > 1 {
            a_minute(count, window)
        } else {
            0
        }
    };
    let severity = match (rate(drops), rate(cookies)) {
        (6.., _) => Severity::Critical,
        (2.., _) => Severity::Warning,
        (_, 2..) => Severity::Notice,
        _ => return None,
    };
    let mut evidence: Vec<_> = [DROPS, COOKIES]
        .into_iter()
        .filter_map(|name| Evidence::counter(name, facts))
        .collect();
    let settings = [
        ("net.core.somaxconn", facts.settings.somaxconn),
        (
            "net.ipv4.tcp_max_syn_backlog",
            facts.settings.tcp_max_syn_backlog,
        ),
    ];
    evidence.extend(
        settings
            .into_iter()
            .filter_map(|(name, value)| Some(Evidence::sysctl(name, value?.into()))),
    );
    let show = facts.command("ss -tln");
    Some(Finding {
        severity,
        confidence: Confidence::Medium,
        summary: if severity == Severity::Notice {
            format!(
                "a full queue of handshakes was answered with SYN cookies {cookies} times in {}",
                seconds(window)
            )
        } else {
            format!(
                "{drops} SYNs were dropped in {} because a queue of handshakes was full",
                seconds(window)
            )
        },
        why: "At most min(backlog, somaxconn) handshakes may be under way for a listener. It may \
            be a flood, or a burst of clients with a long round trip. The accept queue is another \
            one, with counters of its own."
            .to_owned(),
        applies_to: AppliesTo::Program,
        subject: "the listener whose queue of handshakes is full".to_owned(),
        setting: "the backlog of listen()".to_owned(),
        current: format!("unknown ({show}: Send-Q)"),
        proposed: format!("{BACKLOG}, or new connections a second times the round trip"),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: format!(
            "in the program: listen(fd, {BACKLOG}); most servers have a setting for it (backlog). \
             net.core.somaxconn must not be below"
        ),
        undo: "revert the change of the program".to_owned(),
        verify: format!(
            "TCPReqQFullDoCookies and TCPReqQFullDrop stop rising ({})",
            facts.command("nstat -az TcpExtTCPReqQFullDoCookies TcpExtTCPReqQFullDrop")
        ),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{
        add_namespace, assert_quiet, bare_host, counters, fired, host, set,
    };

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("syn-queue-full")
    }

    #[test]
    fn a_cookie_is_a_notice_and_a_drop_is_harm() {
        // Two looks 30 s apart.
        let severity = |counter: &str, count| {
            let mut facts = host("quiet");
            add_namespace(&mut facts, 7, &[(counter, count)]);
            fired(&RULE, &facts)[0].severity
        };
        assert_eq!(severity("TCPReqQFullDoCookies", 100), Severity::Notice);
        assert_eq!(severity("TCPReqQFullDrop", 2), Severity::Warning);
        assert_eq!(severity("TCPReqQFullDrop", 3), Severity::Critical);
    }

    #[test]
    fn cookies_for_all_and_the_accept_queue_are_something_else() {
        let mut facts = host("quiet");
        add_namespace(&mut facts, 7, &[("ListenOverflows", 100)]);
        assert_quiet(&RULE, &facts);
        let mut facts = firing();
        set(&mut facts, "net.ipv4.tcp_syncookies", "2");
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn what_is_over_is_told_where_it_was_more_than_chance() {
        let mut facts = bare_host(1 << 30);
        let total = |count: i64| {
            counters(&format!(
                "TcpExt: TCPReqQFullDoCookies\nTcpExt: {count}\nTcp: PassiveOpens\nTcp: 100000\n"
            ))
        };
        facts.now.counters = total(9);
        assert_quiet(&RULE, &facts);
        facts.now.counters = total(10);
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Observe);
    }
}
