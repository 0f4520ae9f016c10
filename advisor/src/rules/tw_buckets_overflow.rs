//! TIME_WAIT ended early because tcp_max_tw_buckets is full.

use super::tw_buckets_few::{SETTING, most_records, records_bytes};
use super::{
    Confidence, Documentation, Evidence, Finding, Kind, Outcome, ProvenBy, Rule, Severity,
    a_minute, bytes, cannot_be_read, needs_a_window, seconds,
};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB310",
    name: "tw-buckets-overflow",
    scenario: Some("bind/ports/too-many-time-wait"),
    cure: None,
    proven_by: ProvenBy::Suites(&["tw-buckets-overflow"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "More connections end per minute than tcp_max_tw_buckets has records for. The \
        kernel then ends TIME_WAIT early and logs nothing.",
    evidence: "Growth of TCPTimeWaitOverflow between two looks. The records needed are the \
        present ones plus a minute of refused ones.",
    recommendation: "The power of two above the records needed, as far as a 64th of the RAM \
        holds them. Else fewer connections: keep them alive and reuse them.",
    cost: "About 256 bytes per record.",
    risk: "None known beyond the memory.",
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
            "no TIME_WAIT was refused in {}; the limit is {current}",
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
        "TCP.tw plus a minute of refused ones",
    ));
    if current > needed {
        return Outcome::Quiet(format!(
            "{refused} were refused in {}; {current} are enough for the {needed} needed",
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
            "A record is kept for 60 s. {records} are there and {} per minute are refused, so \
             about {needed} are needed.",
            a_minute(refused, window)
        ),
        cost: format!(
            "at most {}, if all are used",
            bytes(records_bytes(proposed))
        ),
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
        proposed: "keep connections alive and reuse them".to_owned(),
        why: format!("{} A 64th of the RAM does not hold so many.", finding.why),
        cost: "none in memory".to_owned(),
        risk: "a kept connection may have died meanwhile; a program has to connect again"
            .to_owned(),
        apply: "a pool of connections, HTTP keep-alive, or let the other side close first"
            .to_owned(),
        undo: "revert the change of the program".to_owned(),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tw-buckets-overflow")
    }

    #[test]
    fn a_limit_above_what_is_needed_is_quiet() {
        let mut facts = firing();
        let needed = fired(&RULE, &facts)[0]
            .evidence
            .iter()
            .find(|evidence| evidence.observation.ends_with(".needed"))
            .unwrap()
            .value
            .to_string();
        set(&mut facts, SETTING, &needed);
        fired(&RULE, &facts);
        let above = needed.parse::<i64>().unwrap() + 1;
        set(&mut facts, SETTING, &above.to_string());
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn without_the_ram_for_more_records_the_programs_have_to_change() {
        let mut facts = firing();
        facts.ram_bytes = 64 << 20;
        assert_eq!(fired(&RULE, &facts)[0].kind, Kind::Program);
        facts.earlier = None;
        assert_not_evaluated(&RULE, &facts, "--over 30s");
    }
}
