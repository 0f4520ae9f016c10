//! Connection tracking near its limit, beyond which packets are dropped.

use advisor_facts::units::{bytes, seconds};
use advisor_facts::{Facts, NamespaceCounters};
use advisor_report::measured::Measured;

use super::past::Past;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, LogLine, Outcome, ProvenBy, Rule,
    Scope, Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB701",
    name: "conntrack-near-limit",
    scope: Scope::Host,
    scenario: Some("conntrack/table/full[limit=few]"),
    cure: Some("conntrack/table/full[limit=enough]"),
    proven_by: ProvenBy::Nothing("facts have the number of entries, and not whose they are"),
    log_lines: &[LogLine {
        pieces: &["conntrack", "table full", "dropping packet"],
        means: "Connection tracking (nf_conntrack) has no entry left, and drops the first packet \
            of each new connection: its client tries again after a second, then two, then four. \
            Compare net.netfilter.nf_conntrack_count with nf_conntrack_max, in the network \
            namespace that the line names (Linux 6.17 and later; without a number it is the \
            initial one); raise nf_conntrack_max, shorten nf_conntrack_tcp_timeout_established, \
            or leave such traffic untracked.",
    }],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connection tracking near nf_conntrack_max, or beyond it. Beyond it the kernel \
        drops the first packets of new connections: clients see a connect() that takes seconds or \
        ends in ETIMEDOUT, and the servers see nothing.",
    evidence: "nf_conntrack_count of each network namespace against nf_conntrack_max: warning at \
        90%, critical at 95%. The counters drop and early_drop of /proc/net/stat/nf_conntrack: a \
        drop in the window is critical, an early drop a warning. Without a window: drops since \
        boot. What was dropped while there is room for twice as many is over.",
    recommendation: "The power of two above twice the entries, as far as a 64th of the RAM holds \
        them. Else fewer entries: no tracking for what needs none (notrack), shorter timeouts of \
        nf_conntrack_tcp_timeout_time_wait and close_wait.",
    cost: "About 320 bytes per entry that is used.",
    risk: "With many more entries than nf_conntrack_buckets, each look-up takes longer. Raise \
        them together.",
    undo: "Set the former value.",
    references: &[
        "nf_conntrack_max, nf_conntrack_count: Documentation/networking/nf_conntrack-sysctl.rst \
         of Linux",
        "__nf_conntrack_alloc, early_drop: net/netfilter/nf_conntrack_core.c of Linux",
        "alarms at 90% and 95%: netfilter_conntrack_full of netdata",
    ],
};

const SETTING: &str = "net.netfilter.nf_conntrack_max";
const COUNT: &str = "Conntrack.count";
const DROP: &str = "Conntrack.drop";
const EARLY_DROP: &str = "Conntrack.early_drop";
/// Warning from this share of the limit on, in percent (netdata's alarm).
pub(crate) const WARNING_PERCENT: i64 = 90;
/// Critical from this share on, in percent (netdata's alarm).
pub(crate) const CRITICAL_PERCENT: i64 = 95;
/// What an entry takes, in bytes: struct nf_conn with its extensions, as slabinfo shows it
/// on x86-64.
const ENTRY_BYTES: u64 = 320;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(limit) = facts.settings.nf_conntrack_max else {
        return Outcome::NotEvaluated(format!(
            "{SETTING} cannot be read: nf_conntrack is not loaded, or the capture is of an \
             earlier version"
        ));
    };
    let places: Vec<_> = facts.places().collect();
    if places.iter().all(|place| place.count(COUNT).is_none()) {
        return Outcome::NotEvaluated("nf_conntrack_count cannot be read".to_owned());
    }
    let findings: Vec<_> = places
        .iter()
        .filter_map(|place| finding(facts, place, limit))
        .collect();
    if !findings.is_empty() {
        return Outcome::Fired(findings);
    }
    let mut past = Past::counted(facts, DROP);
    // With room for twice as many, what was dropped in the window is over, too.
    for place in facts.window().into_iter().flat_map(|_| &places) {
        past.count = past.count.saturating_add(place.grown(DROP).unwrap_or(0));
    }
    let most = places.iter().filter_map(|place| place.count(COUNT)).max();
    if past.is_nothing() {
        return Outcome::Quiet(format!(
            "at most {} of the host's {limit} connections are tracked in a network namespace, and \
             none was dropped",
            most.unwrap_or(0)
        ));
    }
    let summary = format!(
        "connection tracking dropped {} packets of new connections {}: its table was full",
        past.count,
        past.when(facts)
    );
    let why = format!(
        "{} of {limit} entries are in use now, so it does not show what filled the table.",
        most.unwrap_or(0)
    );
    let verify = format!(
        "the column drop of /proc/net/stat/nf_conntrack stays as it is; its sum is {} now, in \
         decimal",
        past.count
    );
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        verify,
        ..past.finding(summary, SETTING, why)
    }])
}

/// What is amiss in a network namespace: the limit is the whole kernel's, the count is its
/// own.
fn finding(facts: &Facts, place: &NamespaceCounters<'_>, limit: i64) -> Option<Finding> {
    let count = place.count(COUNT)?;
    let grown = |counter| match facts.window() {
        Some(_) => place.grown(counter).unwrap_or(0).max(0),
        None => 0,
    };
    // Room for twice as many is enough, whatever happened before.
    let is_short = limit < count.saturating_mul(2);
    let (dropped, early) = if is_short {
        (grown(DROP), grown(EARLY_DROP))
    } else {
        (0, 0)
    };
    // 0 is no limit.
    let reaches = |percent| limit > 0 && count.saturating_mul(100) >= limit.saturating_mul(percent);
    let severity = if dropped > 0 || reaches(CRITICAL_PERCENT) {
        Severity::Critical
    } else if early > 0 || reaches(WARNING_PERCENT) {
        Severity::Warning
    } else {
        return None;
    };
    let whose = place
        .namespace
        .map_or_else(String::new, |other| format!(", in {}", other.label()));
    let lost = match facts.window() {
        Some((window, _)) if dropped + early > 0 => format!(
            "; {dropped} packets of new connections were dropped and {early} connections \
             forgotten in {}",
            seconds(window)
        ),
        None if place.count(DROP).unwrap_or(0) > 0 => format!(
            "; {} packets of new connections were dropped {}, no time known",
            place.count(DROP).unwrap_or(0),
            facts.counters_begin()
        ),
        _ => String::new(),
    };
    let mut evidence = Vec::from_iter(Evidence::counted(place, COUNT, "now"));
    if let Some((window, _)) = facts.window() {
        let counters = [DROP, EARLY_DROP].into_iter();
        evidence
            .extend(counters.filter_map(|counter| Evidence::counter_at(place, counter, window)));
    }
    let wanted = count
        .max(limit)
        .saturating_mul(2)
        .cast_unsigned()
        .checked_next_power_of_two()
        .unwrap_or(u64::MAX);
    let held = facts.ram_bytes / 64 / ENTRY_BYTES;
    let proposed = wanted.min(held);
    let common = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed.to_string());
    evidence.extend(common.evidence.iter().cloned());
    let common = Finding {
        severity,
        confidence: Confidence::High,
        summary: format!("{count} connections are tracked, of at most {limit}{whose}{lost}"),
        why: "At the limit the kernel forgets a connection whose other side has not answered yet, \
            and where there is none drops the first packet of a new one. The client tries again \
            after a second, then two, then four."
            .to_owned(),
        verify: "nf_conntrack_count stays below 90% of nf_conntrack_max, and the columns drop and \
            early_drop of /proc/net/stat/nf_conntrack stay as they are"
            .to_owned(),
        cost: format!(
            "at most {}, if all are used",
            bytes(proposed.saturating_mul(ENTRY_BYTES))
        ),
        evidence,
        ..common
    };
    if i64::try_from(proposed).is_ok_and(|proposed| proposed <= limit) {
        return Some(Finding {
            applies_to: AppliesTo::Program,
            subject: format!("whoever makes the connections (see conntrack -L){whose}"),
            setting: "tracked connections".to_owned(),
            current: format!("{count} of {limit}"),
            proposed: "fewer: a 64th of the RAM does not hold more".to_owned(),
            apply: "no tracking for what needs none (a rule with notrack), or connections that \
                are kept and reused"
                .to_owned(),
            undo: "take the rule out".to_owned(),
            cost: "none in memory".to_owned(),
            risk: "what is not tracked can be neither translated nor matched by its state"
                .to_owned(),
            ..common
        });
    }
    Some(common)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("conntrack-near-limit")
    }

    #[test]
    fn it_warns_at_90_percent_and_is_critical_at_95() {
        let mut facts = host("quiet");
        let count = facts.now.counters.get(COUNT).unwrap();
        let mut severity = |percent: i64| {
            set(&mut facts, SETTING, &(count * 100 / percent).to_string());
            fired(&RULE, &facts)[0].severity
        };
        assert_eq!(severity(91), Severity::Warning);
        assert_eq!(severity(96), Severity::Critical);
        set(&mut facts, SETTING, &(count * 100 / 80).to_string());
        assert_quiet(&RULE, &facts);
        facts.settings.nf_conntrack_max = None;
        assert_not_evaluated(&RULE, &facts, "not loaded");
    }

    #[test]
    fn drops_are_told_while_they_last_and_after() {
        let mut facts = firing();
        assert_eq!(fired(&RULE, &facts)[0].severity, Severity::Critical);
        set(&mut facts, SETTING, "1000000");
        facts.earlier = None;
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.applies_to, AppliesTo::Observe);
    }

    #[test]
    fn twice_the_entries_are_enough() {
        let mut facts = firing();
        let proposed = fired(&RULE, &facts).remove(0).proposed;
        assert_eq!(proposed, "131072");
        set(&mut facts, SETTING, &proposed);
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Observe);
    }

    #[test]
    fn what_the_ram_does_not_hold_is_not_proposed() {
        let mut facts = firing();
        facts.ram_bytes = 64 << 20;
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Program);
    }
}
