//! Records of TIME_WAIT are destroyed because there are too many.

use super::tw_buckets_few::{SETTING, most_records, records_bytes};
use super::{
    Confidence, Documentation, Evidence, Finding, Kind, Outcome, Rule, Severity, a_minute, bytes,
    cannot_be_read, needs_a_window, seconds,
};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB310",
    name: "tw-buckets-overflow",
    scenario: Some("bind/ports/too-many-time-wait"),
    cure: None,
    proven_by: super::ProvenBy::Suites(&["tw-buckets-overflow"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "More connections end within a minute than tcp_max_tw_buckets has records for, so \
        that the kernel destroys TIME_WAIT early and without a word in its log.",
    evidence: "TCPTimeWaitOverflow growing between two looks; the number of records needed is \
        those there are and a minute of those that were refused.",
    recommendation: "The power of two above the records needed, as far as a 64th of the RAM \
        holds them. Where it does not: fewer connections, kept alive and used again.",
    cost: "About 256 bytes for each record.",
    risk: "None that is known beyond the memory.",
    undo: "Set the former value.",
    references: &[
        "tcp_max_tw_buckets: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_time_wait, inet_twsk_alloc: net/ipv4 of Linux",
        "TCP_TIMEWAIT_LEN: include/net/tcp.h of Linux",
    ],
};

const COUNTER: &str = "TcpExt.TCPTimeWaitOverflow";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(current) = facts.settings.tcp_max_tw_buckets else {
        return cannot_be_read(SETTING);
    };
    let Some((window, _)) = facts.window() else {
        return needs_a_window(COUNTER, facts);
    };
    let refused = facts.grown(COUNTER).unwrap_or(0).max(0);
    if refused == 0 {
        return Outcome::Quiet(format!(
            "no TIME_WAIT was refused in {}, the limit is {current}",
            seconds(window)
        ));
    }
    let records = facts.now.sockstat.get("TCP.tw").unwrap_or(0).max(0);
    let needed = records.saturating_add(a_minute(refused, window));
    let wanted = needed
        .saturating_add(1)
        .cast_unsigned()
        .checked_next_power_of_two()
        .and_then(|wanted| i64::try_from(wanted).ok())
        .unwrap_or(i64::MAX);
    let proposed = wanted.min(most_records(facts));
    let summary = format!(
        "{refused} connections went without TIME_WAIT in {}: tcp_max_tw_buckets is {current}",
        seconds(window)
    );
    let mut evidence = Vec::from_iter(Evidence::counter(COUNTER, facts));
    evidence.push(Evidence::new(
        "host.sockstat.TCP.tw",
        records.into(),
        "/proc/net/sockstat",
    ));
    evidence.push(Evidence::new(
        "host.sockstat.TCP.tw.needed",
        needed.into(),
        "those, and what was refused in a minute",
    ));
    if current > needed {
        return Outcome::Quiet(format!(
            "{refused} were refused in {}, and {current} are enough for the {needed} that are \
             needed",
            seconds(window)
        ));
    }
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed.to_string());
    finding.evidence.extend(evidence);
    let finding = Finding {
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        summary,
        why: format!(
            "A record is kept for 60 s. {records} are there and {} a minute are refused, so \
             about {needed} are needed.",
            a_minute(refused, window)
        ),
        cost: format!("at most {} if all are used", bytes(records_bytes(proposed))),
        verify: "TCPTimeWaitOverflow stops rising (nstat -az TcpExtTCPTimeWaitOverflow)".to_owned(),
        ..finding
    };
    if proposed > current {
        return Outcome::Fired(vec![finding]);
    }
    Outcome::Fired(vec![Finding {
        kind: Kind::Program,
        subject: "the programs of this network namespace that close connections first".to_owned(),
        setting: "connections".to_owned(),
        current: format!(
            "{} closes a minute without TIME_WAIT",
            a_minute(refused, window)
        ),
        proposed: "keep connections alive and use them again".to_owned(),
        why: format!("{} A 64th of the RAM does not hold so many.", finding.why),
        cost: "none in memory".to_owned(),
        risk: "connections that are kept may have died meanwhile; a program has to connect again"
            .to_owned(),
        apply: "a pool of connections, HTTP keep-alive, or let the other side close first"
            .to_owned(),
        undo: "take the change of the program out again".to_owned(),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::host;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tw-buckets-overflow")
    }
}
