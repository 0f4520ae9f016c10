//! TIME_WAIT ended early because tcp_max_tw_buckets is full.

use advisor_facts::Facts;
use advisor_facts::units::{bytes, seconds};
use advisor_report::measured::Measured;

use super::past::Past;
use super::tw_buckets_few::{SETTING, default_records, most_records, records_bytes};
use super::witnessed;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, LogLine, Outcome, ProvenBy, Rule,
    Scope, Severity, a_minute, cannot_be_read,
};

pub(super) const RULE: Rule = Rule {
    code: "LB310",
    name: "tw-buckets-overflow",
    scope: Scope::Namespace,
    scenario: Some("bind/ports/too-many-time-wait"),
    cure: None,
    proven_by: ProvenBy::Nothing(
        "the harm is an old segment taken for a new connection's; no trial is long enough to see one",
    ),
    log_lines: &[LogLine {
        pieces: &["time wait bucket table overflow"],
        means: "There were as many TIME_WAIT records as tcp_max_tw_buckets allows, and a \
            connection was closed without one. Kernels since 3.x log nothing and count \
            TCPTimeWaitOverflow.",
    }],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "More connections end per minute than tcp_max_tw_buckets has records for. The \
        kernel then ends TIME_WAIT early and logs nothing.",
    evidence: "Growth of TCPTimeWaitOverflow between two looks. The records needed are the \
        present ones plus a minute of refused ones. With one look: TCP.tw of /proc/net/sockstat \
        at the limit now, or the counter since boot.",
    recommendation: "The power of two above the records needed, and at least the kernel's \
        default, as far as a 64th of the RAM holds them. Else fewer connections: keep them alive and reuse them.",
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
    let refused = facts.grown(COUNTER).unwrap_or(0).max(0);
    let Some((window, _)) = facts.window().filter(|_| refused > 0) else {
        return without_a_window(facts, current);
    };
    // A watch knows the busiest minute and the most records; a long window has them
    // evened out.
    let happened = facts.happened.as_ref();
    let watched = happened.and_then(|happened| happened.counter(COUNTER));
    let peak = happened.and_then(|happened| happened.peak("time-wait"));
    let records = facts.now.sockstat.get("TCP.tw").unwrap_or(0).max(0);
    let records = records.max(peak.map_or(0, |peak| peak.value.cast_signed()));
    let refused_a_minute =
        a_minute(refused, window).max(watched.map_or(0, |group| group.most_a_minute.cast_signed()));
    let needed = records.saturating_add(refused_a_minute);
    let wanted = needed
        .saturating_add(1)
        .cast_unsigned()
        .checked_next_power_of_two()
        .and_then(|wanted| i64::try_from(wanted).ok())
        .unwrap_or(i64::MAX);
    let proposed = wanted.max(default_records(facts)).min(most_records(facts));
    let when = watched.map_or_else(String::new, |group| format!(", {}", witnessed::when(group)));
    let summary = format!(
        "{refused} connections went without TIME_WAIT in {}{when}: tcp_max_tw_buckets is {current}",
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
            "A record is kept for 60 s. {records} are there and {refused_a_minute} per minute are \
             refused, so about {needed} are needed."
        ),
        cost: format!(
            "at most {}, if all are used",
            bytes(records_bytes(proposed))
        ),
        verify: format!(
            "TCPTimeWaitOverflow stops rising ({})",
            facts.command("nstat -az TcpExtTCPTimeWaitOverflow")
        ),
        ..finding
    };
    if proposed > current {
        return Outcome::Fired(vec![finding]);
    }
    Outcome::Fired(vec![Finding {
        applies_to: AppliesTo::Program,
        subject: "the programs of this network namespace that close connections first".to_owned(),
        setting: "connections".to_owned(),
        current: format!("{refused_a_minute} closes a minute without TIME_WAIT"),
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

/// The answer where nothing was refused in the window, or there is none: the limit may
/// be reached all the same, or have been.
fn without_a_window(facts: &Facts, current: i64) -> Outcome {
    let records = facts.now.sockstat.get("TCP.tw").unwrap_or(0);
    let past = Past::counted(facts, COUNTER);
    let is_full = current > 0 && records >= current;
    if past.is_nothing() && !is_full {
        return Outcome::Quiet(format!(
            "no TIME_WAIT was refused {}; {records} of {current} records are in use",
            facts.counters_begin()
        ));
    }
    let refused = past.count;
    let when = past.when(facts);
    if !is_full {
        let summary = format!(
            "{refused} connections went without TIME_WAIT {when}: tcp_max_tw_buckets is {current}"
        );
        let why = format!(
            "{records} records are in use now, below the limit. A window during the load tells \
             how many it needs."
        );
        return Outcome::Fired(vec![Finding {
            severity: Severity::Notice,
            ..past.finding(summary, SETTING, why)
        }]);
    }
    let summary = format!(
        "TIME_WAIT is at its limit, {records} of {current} records, and {refused} connections \
         went without one {when}"
    );
    // The rate of refused ones is not known, so the need is only known to be more.
    let more = records.max(current).saturating_mul(2).cast_unsigned();
    let wanted = more
        .checked_next_power_of_two()
        .and_then(|wanted| i64::try_from(wanted).ok())
        .unwrap_or(i64::MAX)
        .max(default_records(facts))
        .min(most_records(facts));
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &wanted.to_string());
    finding.evidence.push(Evidence::sockstat("TCP.tw", records));
    finding.evidence.extend(Evidence::counted(
        &facts.here(),
        COUNTER,
        facts.counters_begin(),
    ));
    if wanted <= current {
        let why = "A 64th of the RAM does not hold more records. Keep connections alive and \
            reuse them."
            .to_owned();
        return Outcome::Fired(vec![past.finding(summary, SETTING, why)]);
    }
    Outcome::Fired(vec![Finding {
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        summary,
        why: "At the limit the kernel ends TIME_WAIT early, and its protection against late \
            segments is gone. How many records are needed shows only in a window: ask again with \
            --over 30s."
            .to_owned(),
        cost: format!("at most {}, if all are used", bytes(records_bytes(wanted))),
        verify: format!(
            "TCPTimeWaitOverflow stops rising ({})",
            facts.command("nstat -az TcpExtTCPTimeWaitOverflow")
        ),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, counters, fired, host, set, sockstat};

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
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Program);
    }

    #[test]
    fn one_look_tells_the_limit_and_the_past() {
        let mut facts = firing();
        facts.earlier = None;
        facts.now.counters = counters("TcpExt: TCPTimeWaitOverflow\nTcpExt: 27360\n");
        facts.now.sockstat = sockstat("TCP: inuse 800 orphan 0 tw 65536 alloc 810 mem 10\n");
        facts.ram_bytes = 15 << 30;
        set(&mut facts, SETTING, "65536");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.proposed, "131072");
        assert!(finding.summary.contains("27360"), "{}", finding.summary);
        // A limit that was lowered goes back to the kernel's default at least.
        facts.settings.tcp_ehash_entries = Some(131_072);
        set(&mut facts, SETTING, "5000");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "131072");
        facts.now.sockstat = sockstat("TCP: inuse 800 orphan 0 tw 5000 alloc 810 mem 10\n");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "65536");
        // Below the limit only the past is left.
        facts.now.sockstat = sockstat("TCP: inuse 800 orphan 0 tw 65536 alloc 810 mem 10\n");
        set(&mut facts, SETTING, "65537");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            (finding.applies_to, finding.severity),
            (AppliesTo::Observe, Severity::Notice)
        );
        facts.now.counters = counters("TcpExt: TCPTimeWaitOverflow\nTcpExt: 0\n");
        assert_quiet(&RULE, &facts);
    }
}
