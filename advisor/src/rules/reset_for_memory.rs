//! Connections reset for lack of memory, and which of two limits did it.

use std::time::Duration;

use super::orphan_cost::{Orphans, RESETS as COUNTER, memory_is_near, resets};
use super::sizing::tcp_pages;
use super::{
    Confidence, Documentation, Evidence, Finding, Kind, Outcome, ProvenBy, Rule, Severity, bytes,
    needs_a_window, not_initial_namespace, seconds,
};
use advisor_facts::{Facts, Look};
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB112",
    name: "reset-for-memory",
    scenario: Some("orphans/limit/which-one-fired[limit=tcp_max_orphans]"),
    cure: Some("orphans/flood/under-the-limit"),
    proven_by: ProvenBy::Suites(&["orphan-limit-near", "reset-for-memory"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections that the kernel resets because there are too many orphans or too \
        much memory in use. One counter and, before Linux 3, one message (Out of socket memory) \
        stand for both limits; this rule says which it was.",
    evidence: "TCPAbortOnMemory growing between two looks, in whatever network namespace. \
        tcp_max_orphans fired where a quarter of it is below the orphans of either look with \
        those that would have been there without the resets: their rate times the life of an \
        orphan; tcp_mem where TCP.mem is above nine tenths of its high mark. \
        Where the kernel's log can be read, its lines of the window decide: `too many orphaned sockets`, or `out of memory -- consider tuning tcp_mem`.",
    recommendation: "For orphans, a limit above four times those that there were, if tcp_mem \
        pays for it; else that the program holds back less for peers that do not read. For \
        tcp_mem see tcp-mem-near.",
    cost: "Memory that cannot be swapped, for each further orphan what its unsent data takes.",
    risk: "A higher limit moves the failure to tcp_mem where memory does not pay for it.",
    undo: "Set the former value.",
    references: &[
        "tcp_check_oom, tcp_out_of_resources: net/ipv4/tcp.c, net/ipv4/tcp_timer.c of Linux",
        "Out of socket memory: \"there are too many orphan sockets (most common)\"",
    ],
};

const LIMIT: &str = "net.ipv4.tcp_max_orphans";

/// The lines of the window in the kernel's log that name each limit.
fn logged(facts: &Facts, earlier: &Look, evidence: &mut Vec<Evidence>) -> (i64, i64) {
    let Some(log) = &facts.kernel_log else {
        return (0, 0);
    };
    let lines = |times: &[Duration]| {
        let new = times.iter().filter(|time| **time + SLACK >= earlier.uptime);
        i64::try_from(new.count()).unwrap_or(i64::MAX)
    };
    let logged = (lines(&log.too_many_orphans), lines(&log.out_of_memory));
    for (lines, text) in [
        (logged.0, "too many orphaned sockets"),
        (logged.1, "out of memory -- consider tuning tcp_mem"),
    ] {
        if lines > 0 {
            let name = format!("kernel.log: {text}");
            evidence.push(Evidence::new(name, lines.into(), "the kernel's log, lines"));
        }
    }
    logged
}

/// The log's clock and that of /proc/uptime differ a little.
const SLACK: Duration = Duration::from_secs(1);

fn check(facts: &Facts, measured: &Measured) -> Outcome {
    let Some((window, earlier)) = facts.window() else {
        return needs_a_window(COUNTER, facts);
    };
    // The limits are the kernel's, and each network namespace counts for itself.
    let resets = resets(facts);
    if resets == 0 {
        return Outcome::Quiet(format!(
            "no connection was reset for lack of memory in {}",
            seconds(window)
        ));
    }
    let (Some(limit), Some(tcp_mem)) = (facts.settings.tcp_max_orphans, facts.settings.tcp_mem)
    else {
        return not_initial_namespace(LIMIT);
    };
    let orphans = Orphans::of(facts, measured);
    let peak = orphans.peak;
    let by_orphans = peak.saturating_mul(4) > limit;
    let pages = tcp_pages(facts).unwrap_or(0);
    let by_memory = memory_is_near(facts);
    let mut evidence: Vec<_> = facts
        .places()
        .filter(|place| place.namespace.is_none() || place.grown(COUNTER).unwrap_or(0) > 0)
        .filter_map(|place| Evidence::counter_at(&place, COUNTER, window))
        .collect();
    evidence.push(Evidence::sockstat("TCP.orphan", orphans.count));
    evidence.push(Evidence::new(
        "orphan.peak",
        peak.into(),
        "TCP.orphan, and the rate of resets times the life of an orphan",
    ));
    evidence.extend(limits(limit, pages, tcp_mem));
    let logged = logged(facts, earlier, &mut evidence);
    let (by_orphans, by_memory) = match logged {
        (0, 0) => (by_orphans, by_memory),
        // A limit that is high enough now was raised since.
        (orphans, memory) => (by_orphans && orphans > 0, memory > 0),
    };
    let confidence = match logged {
        (0, 0) => Confidence::Medium,
        _ => Confidence::High,
    };
    let which = match (by_orphans, by_memory) {
        (true, false) => "tcp_max_orphans fired, not tcp_mem",
        (false, true) => "tcp_mem fired, not tcp_max_orphans",
        (true, true) if logged != (0, 0) => "both tcp_max_orphans and tcp_mem fired",
        (true, true) => "tcp_max_orphans and tcp_mem are both near enough to have fired",
        (false, false) => {
            return Outcome::Quiet(format!(
                "{resets} connections were reset for lack of memory in {}, and neither limit is \
                 near now",
                seconds(window)
            ));
        }
    };
    let summary = format!(
        "{resets} connections were reset for lack of memory in {}: {which}",
        seconds(window)
    );
    let wanted = orphans.higher_limit(limit).filter(|_| by_orphans);
    Outcome::Fired(vec![match wanted {
        Some(wanted) => {
            let setting = Finding::of_setting(facts, &DOCUMENTATION, LIMIT, &wanted.to_string());
            evidence.extend(orphans.evidence());
            Finding {
                severity: Severity::Critical,
                confidence,
                summary,
                why: format!(
                    "At most {peak} orphans would have been there at once, and the kernel \
                     compares the limit with up to four times as many. The high mark of tcp_mem \
                     pays for {} of {} each ({}).",
                    orphans.payable.unwrap_or(0),
                    bytes(orphans.cost.bytes),
                    orphans.cost.source
                ),
                evidence,
                cost: orphans.cost_of(wanted),
                verify: "TCPAbortOnMemory stops rising (nstat -az TcpExtTCPAbortOnMemory)"
                    .to_owned(),
                ..setting
            }
        }
        None => unpaid(confidence, summary, evidence),
    }])
}

/// The two limits, with the memory that counts against one of them.
fn limits(limit: i64, pages: u64, tcp_mem: [u64; 3]) -> [Evidence; 3] {
    let [low, pressure, high] = tcp_mem;
    let marks = format!("{low} {pressure} {high}");
    [
        Evidence::sysctl(LIMIT, limit.into()),
        Evidence::sockstat("TCP.mem", i64::try_from(pages).unwrap_or(i64::MAX)),
        Evidence::sysctl("net.ipv4.tcp_mem", marks.as_str().into()),
    ]
}

/// The advice if no limit can be raised.
fn unpaid(confidence: Confidence, summary: String, evidence: Vec<Evidence>) -> Finding {
    Finding {
        severity: Severity::Critical,
        confidence,
        summary,
        why: "No higher limit helps here that memory pays for: what these sockets hold has to be \
            freed. Mostly a few peers that do not read, or are gone, hold it."
            .to_owned(),
        kind: Kind::Program,
        subject: "the programs whose sockets hold the memory".to_owned(),
        setting: "TCP_USER_TIMEOUT, SO_SNDBUF".to_owned(),
        current: "unknown".to_owned(),
        proposed: "an end to connections with dead peers, and less unsent data at close()"
            .to_owned(),
        evidence,
        cost: "none in memory".to_owned(),
        risk: "connections end that would have survived a long outage".to_owned(),
        apply: "ss -tanmo shows the memory of each socket and its timer".to_owned(),
        undo: "revert the change of the program".to_owned(),
        verify: "TCPAbortOnMemory stops rising (nstat -az TcpExtTCPAbortOnMemory)".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{add_namespace, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("reset-for-memory")
    }

    #[test]
    fn the_kernels_log_says_which_limit_fired() {
        let mut facts = firing();
        let summary = |facts: &Facts| fired(&RULE, facts)[0].summary.clone();
        assert!(summary(&facts).ends_with("tcp_max_orphans fired, not tcp_mem"));
        assert_eq!(fired(&RULE, &facts)[0].confidence, Confidence::High);
        assert_eq!(fired(&RULE, &facts)[0].proposed, "16384");

        // Without a line in the window the gauges have to do.
        let log = facts.kernel_log.as_mut().unwrap();
        log.too_many_orphans = vec![Duration::from_secs(100)];
        assert_eq!(fired(&RULE, &facts)[0].confidence, Confidence::Medium);
        assert!(summary(&facts).ends_with("tcp_max_orphans fired, not tcp_mem"));

        // By its log it was the other one, however near the orphans are.
        let log = facts.kernel_log.as_mut().unwrap();
        log.out_of_memory = vec![facts.now.uptime];
        assert!(summary(&facts).ends_with("tcp_mem fired, not tcp_max_orphans"));
        assert_eq!(fired(&RULE, &facts)[0].kind, Kind::Program);
    }

    #[test]
    fn resets_of_another_namespace_are_seen() {
        let mut facts = host("quiet");
        add_namespace(&mut facts, 8, &[("TCPAbortOnMemory", 12)]);
        facts.settings.tcp_max_orphans = Some(16);
        let finding = fired(&RULE, &facts).remove(0);
        assert!(finding.summary.starts_with("12 connections were reset"));
        let mut evidence = finding.evidence.iter();
        assert!(evidence.any(|seen| seen.source.contains("network namespace pod-8")));
    }
}
