//! Connections reset for lack of memory, and which of two limits did it.

use std::time::Duration;

use advisor_facts::kernel_log::KernelLog;
use advisor_facts::units::{bytes, seconds};
use advisor_facts::{Facts, Look};
use advisor_report::measured::Measured;

use super::orphan_cost::{Orphans, RESETS as COUNTER, memory_is_near, resets};
use super::past::Past;
use super::sizing::tcp_pages;
use super::witnessed;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, LogLine, Outcome, ProvenBy,
    Rule, Scope, Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB112",
    name: "reset-for-memory",
    scope: Scope::Host,
    scenario: Some("orphans/limit/which-one-fired[limit=tcp_max_orphans]"),
    cure: Some("orphans/flood/under-the-limit"),
    proven_by: ProvenBy::Reproduction(&[Harm::DataLost]),
    log_lines: &[LogLine {
        pieces: &["out of socket memory"],
        means: "Kernels before 3.x say this of either limit: too many orphans (tcp_max_orphans), \
            or too much memory (tcp_mem). Later ones name the limit: LB101 and LB402.",
    }],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections that the kernel resets: too many orphans, or too much memory. One counter and, before Linux 3, one message (Out of socket memory) \
        stand for both limits; this rule says which it was.",
    evidence: "TCPAbortOnMemory growing between two looks, in whatever network namespace. \
        tcp_max_orphans fired where a quarter of it is below the orphans of either look with \
        those that would have been there without the resets: their rate times the life of an \
        orphan; tcp_mem where TCP.mem is above nine tenths of its high mark. \
        Where the kernel's log can be read, its lines of the window decide: `too many orphaned \
        sockets`, or `out of memory -- consider tuning tcp_mem`. Without a window, or with \
        nothing in it, the counter since boot and the log tell of resets that are over.",
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
const TCP_MEM: &str = "net.ipv4.tcp_mem";
const ORPHANS_LOGGED: &str = "too many orphaned sockets";
const MEMORY_LOGGED: &str = "out of memory -- consider tuning tcp_mem";

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
    for (lines, text) in [(logged.0, ORPHANS_LOGGED), (logged.1, MEMORY_LOGGED)] {
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
    // The limits are the kernel's, and each network namespace counts for itself.
    let by = witnessed::resets(facts, &[REASON], false);
    // A network namespace that is gone counted for itself.
    let resets = resets(facts).max(witnessed::count(&by));
    let Some((window, earlier)) = facts.window().filter(|_| resets > 0) else {
        return over(facts);
    };
    let (Some(limit), Some(tcp_mem)) = (facts.settings.tcp_max_orphans, facts.settings.tcp_mem)
    else {
        return Outcome::Fired(vec![without_limits(facts, resets, window)]);
    };
    let orphans = Orphans::of(facts, measured);
    // What a watch saw of the gauges between the looks.
    let seen = |gauge| facts.happened.as_ref()?.peak(gauge);
    let seen_orphans = seen("orphans").map_or(0, |peak| peak.value.cast_signed());
    let peak = orphans.peak.max(seen_orphans);
    let by_orphans = peak.saturating_mul(4) > limit;
    let pages = tcp_pages(facts).unwrap_or(0);
    let by_memory = memory_is_near(facts)
        || seen("tcp-memory").is_some_and(|peak| peak.value / 9 * 10 > peak.limit);
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
    evidence.extend(witnessed::evidence(&by));
    let logged = logged(facts, earlier, &mut evidence);
    // What the log says decides, and the gauges whether the limit is too low still: one
    // that is high enough now was raised since, or met by a burst.
    let still_by_orphans = by_orphans;
    let (by_orphans, by_memory) = match logged {
        (0, 0) => (by_orphans, by_memory),
        (orphans, memory) => (orphans > 0, memory > 0),
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
            let which = "neither limit is near at the end of it";
            return Outcome::Fired(vec![not_near(facts, resets, window, which, evidence)]);
        }
    };
    if by_orphans && !by_memory && !still_by_orphans {
        let which = "tcp_max_orphans fired by the log, and is not near at the end of it";
        return Outcome::Fired(vec![not_near(facts, resets, window, which, evidence)]);
    }
    let summary = format!(
        "{resets} connections were reset for lack of memory in {}: {which}",
        seconds(window)
    );
    let still_by_orphans = by_orphans && still_by_orphans;
    let wanted = orphans.higher_limit(limit).filter(|_| still_by_orphans);
    let mut finding = match wanted {
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
                     pays for {} of {} each ({}). {}",
                    orphans.payable.unwrap_or(0),
                    bytes(orphans.cost.bytes),
                    orphans.cost.source,
                    orphans.is_enough(wanted)
                ),
                evidence,
                cost: orphans.cost_of(wanted),
                verify: "TCPAbortOnMemory stops rising (nstat -az TcpExtTCPAbortOnMemory)"
                    .to_owned(),
                ..setting
            }
        }
        None => unpaid(
            confidence,
            summary,
            (by_orphans, still_by_orphans),
            evidence,
        ),
    };
    if !by.is_empty() {
        finding.why = format!("{} {}", finding.why, witnessed::sentence(&by));
        if finding.applies_to == AppliesTo::Program {
            finding.subject = witnessed::names(&by);
        }
    }
    Outcome::Fired(vec![finding])
}

/// The finding where the limits are not seen, as in a container.
fn without_limits(facts: &Facts, resets: i64, window: Duration) -> Finding {
    let places = facts.places();
    let counted = places.filter_map(|place| Evidence::counter_at(&place, COUNTER, window));
    let which = "which limit fired is not seen here";
    Finding {
        why: "It goes on. The limits, tcp_max_orphans and tcp_mem, are the host's: ask there, as \
            root, with --over 30s."
            .to_owned(),
        ..not_near(facts, resets, window, which, counted.collect())
    }
}

/// The reason that the kernel gives for such a reset, from 6.12 on.
const REASON: &str = "TCP_ABORT_ON_MEMORY";

/// What the kernel says of resets before the window.
pub(super) fn past(facts: &Facts) -> Past {
    let past = Past::counted(facts, COUNTER);
    match &facts.kernel_log {
        Some(log) => past
            .logged(facts, &log.too_many_orphans, ORPHANS_LOGGED)
            .logged(facts, &log.out_of_memory, MEMORY_LOGGED),
        None => past,
    }
}

fn of_the_log(lines: usize) -> String {
    match lines {
        1 => "1 line of the log".to_owned(),
        count => format!("{count} lines of the log"),
    }
}

/// The answer where nothing happened in the window, or there is none.
fn over(facts: &Facts) -> Outcome {
    let past = past(facts);
    if past.is_nothing() {
        return Outcome::Quiet(format!(
            "no connection was reset for lack of memory {}",
            facts.counters_begin()
        ));
    }
    let lines = |of: fn(&KernelLog) -> &Vec<Duration>| {
        facts.kernel_log.as_ref().map_or(0, |log| of(log).len())
    };
    let by_orphans = lines(|log| &log.too_many_orphans);
    let by_memory = lines(|log| &log.out_of_memory);
    let (which, setting) = match (by_orphans, by_memory) {
        (0, 0) => (
            "the counter does not say at which limit".to_owned(),
            format!("{TCP_MEM}, {LIMIT}"),
        ),
        (orphans, 0) => (
            format!("tcp_max_orphans, by {}", of_the_log(orphans)),
            LIMIT.to_owned(),
        ),
        (0, memory) => (
            format!("tcp_mem, by {}", of_the_log(memory)),
            TCP_MEM.to_owned(),
        ),
        (orphans, memory) => (
            format!(
                "tcp_max_orphans ({}) and tcp_mem ({memory})",
                of_the_log(orphans)
            ),
            format!("{TCP_MEM}, {LIMIT}"),
        ),
    };
    // The log is the whole kernel's, the counters are those of the namespaces seen.
    let what = match past.count {
        0 => "the kernel logged resets for lack of memory".to_owned(),
        count => format!("{count} connections were reset for lack of memory"),
    };
    let summary = format!("{what} {}: {which}", past.when(facts));
    Outcome::Fired(vec![past.finding(summary, &setting, now(facts))])
}

/// What the gauges say now of resets in the past.
fn now(facts: &Facts) -> String {
    let orphans = facts.now.sockstat.get("TCP.orphan").unwrap_or(0);
    let settings = &facts.settings;
    let near = [
        settings
            .tcp_max_orphans
            .is_some_and(|limit| orphans.saturating_mul(4) > limit)
            .then_some("orphans near tcp_max_orphans (LB101)"),
        settings
            .tcp_mem
            .is_some_and(|[_, pressure, _]| tcp_pages(facts).unwrap_or(0) > pressure)
            .then_some("TCP.mem beyond the pressure mark of tcp_mem (LB402)"),
    ];
    let near: Vec<_> = near.into_iter().flatten().collect();
    if !near.is_empty() {
        return format!(
            "It may go on: this look has {}. Two looks, --over 30s, tell whether connections are \
             reset still.",
            near.join(" and ")
        );
    }
    if settings.tcp_mem.is_none() {
        return "The limits cannot be read here, so it is not known whether it goes on: ask on the \
            host, with --over 30s."
            .to_owned();
    }
    "The gauges are below their limits now, so they do not show who held the memory. A limit is \
     raised for what healthy sockets hold, and only a look at the time of the failure tells that."
        .to_owned()
}

/// The finding where connections were reset in the window and the gauges are low again.
fn not_near(
    facts: &Facts,
    resets: i64,
    window: Duration,
    which: &str,
    evidence: Vec<Evidence>,
) -> Finding {
    let summary = format!(
        "{resets} connections were reset for lack of memory in {}; {which}",
        seconds(window)
    );
    let finding = past(facts).finding(
        summary,
        &format!("{TCP_MEM}, {LIMIT}"),
        "The peak lay between the two looks. A shorter window during the load shows which \
         limit it is, and who holds the memory."
            .to_owned(),
    );
    Finding {
        severity: Severity::Critical,
        confidence: Confidence::Medium,
        current: format!("TCPAbortOnMemory has grown by {resets}"),
        verify: "TCPAbortOnMemory stops rising (nstat -az TcpExtTCPAbortOnMemory)".to_owned(),
        evidence,
        ..finding
    }
}

/// The two limits, with the memory that counts against one of them.
fn limits(limit: i64, pages: u64, tcp_mem: [u64; 3]) -> [Evidence; 3] {
    let [low, pressure, high] = tcp_mem;
    let marks = format!("{low} {pressure} {high}");
    [
        Evidence::sysctl(LIMIT, limit.into()),
        Evidence::sockstat("TCP.mem", i64::try_from(pages).unwrap_or(i64::MAX)),
        Evidence::sysctl(TCP_MEM, marks.as_str().into()),
    ]
}

/// The advice if no limit can be raised.
fn unpaid(
    confidence: Confidence,
    summary: String,
    (by_orphans, still_by_orphans): (bool, bool),
    evidence: Vec<Evidence>,
) -> Finding {
    Finding {
        severity: Severity::Critical,
        confidence,
        summary,
        why: format!(
            "{}: what these sockets hold has to be freed. Mostly a few peers that do not read, or \
             are gone, hold it.",
            match (by_orphans, still_by_orphans) {
                (true, true) => "No higher limit helps here that memory pays for",
                (true, false) =>
                    "Memory was refused, and there were too many orphans at a moment that no look \
                     saw",
                (false, _) => "Memory was refused, and the limit of orphans has no part in that",
            }
        ),
        applies_to: AppliesTo::Program,
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
    use crate::rules::testing::{
        add_namespace, assert_quiet, bare_host, counters, fired, host, sockstat,
    };

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
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Program);
    }

    #[test]
    fn from_a_container_resets_are_told_without_their_limit() {
        let mut facts = firing();
        facts.settings.tcp_max_orphans = None;
        facts.settings.tcp_mem = None;
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            (finding.severity, finding.applies_to),
            (Severity::Critical, AppliesTo::Observe)
        );
        assert!(finding.why.contains("ask there"), "{}", finding.why);
    }

    #[test]
    fn a_burst_of_orphans_that_the_log_names_is_not_said_to_be_none() {
        let mut facts = firing();
        facts.settings.tcp_max_orphans = Some(1 << 20);
        let summary = |facts: &Facts| fired(&RULE, facts)[0].summary.clone();
        assert!(
            summary(&facts).contains("tcp_max_orphans fired by the log"),
            "{}",
            summary(&facts)
        );
        let log = facts.kernel_log.as_mut().unwrap();
        log.out_of_memory = vec![facts.now.uptime];
        assert!(
            summary(&facts).ends_with("both tcp_max_orphans and tcp_mem fired"),
            "{}",
            summary(&facts)
        );
        let why = &fired(&RULE, &facts)[0].why;
        assert!(why.contains("at a moment that no look saw"), "{why}");
    }

    #[test]
    fn what_is_near_its_limit_now_is_not_said_to_be_over() {
        let mut facts = bare_host(16 << 30);
        facts.now.counters = counters("TcpExt: TCPAbortOnMemory\nTcpExt: 911\n");
        let why = |facts: &Facts| fired(&RULE, facts)[0].why.clone();
        assert!(why(&facts).contains("below their limits now"));
        let pressure = facts.settings.tcp_mem.unwrap()[1];
        let gauges = format!("TCP: inuse 9 orphan 0 tw 0 alloc 9 mem {}\n", pressure + 1);
        facts.now.sockstat = sockstat(&gauges);
        assert!(why(&facts).contains("LB402") && !why(&facts).contains("LB101"));
        facts.settings.tcp_max_orphans = Some(100);
        facts.now.sockstat = sockstat("TCP: inuse 9 orphan 30 tw 0 alloc 9 mem 10\n");
        assert!(why(&facts).contains("LB101"), "{}", why(&facts));
        facts.settings.tcp_mem = None;
        facts.settings.tcp_max_orphans = None;
        assert!(why(&facts).contains("on the host"), "{}", why(&facts));
    }

    #[test]
    fn resets_that_are_over_are_told() {
        let mut facts = bare_host(16 << 30);
        assert_quiet(&RULE, &facts);
        facts.now.counters = counters("TcpExt: TCPAbortOnMemory\nTcpExt: 911\n");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.applies_to, AppliesTo::Observe);
        assert!(
            finding.summary.starts_with("911 connections"),
            "{}",
            finding.summary
        );
        assert!(
            finding.summary.contains("no time known"),
            "{}",
            finding.summary
        );
        facts.kernel_log = Some(KernelLog {
            out_of_memory: vec![
                facts
                    .now
                    .uptime
                    .checked_sub(Duration::from_secs(100))
                    .unwrap();
                30
            ],
            too_many_orphans: Vec::new(),
        });
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding
                .summary
                .ends_with("since boot, last logged 100 s ago: tcp_mem, by 30 lines of the log"),
            "{}",
            finding.summary
        );
        assert_eq!(finding.setting, TCP_MEM);
        // A container does not see the limits, but its own counter.
        facts.settings.tcp_mem = None;
        facts.settings.tcp_max_orphans = None;
        fired(&RULE, &facts);
        // Nothing in the window: the past still counts.
        let mut earlier = facts.now.clone();
        earlier.uptime -= Duration::from_secs(30);
        facts.earlier = Some(earlier);
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Observe);
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
