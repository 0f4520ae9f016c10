//! Harm that is over: what the kernel has counted and logged since boot.
//!
//! A total says nothing about now. It does say that connections were lost, how many, and
//! at which limit.

use std::time::Duration;

use advisor_facts::Facts;
use advisor_facts::units::span;

use super::{AppliesTo, Confidence, Evidence, Finding, Severity};

/// One kind of harm since boot, in all network namespaces.
#[derive(Debug)]
pub(super) struct Past {
    /// The counter.
    counter: &'static str,
    /// What it has come to, without the window.
    pub count: i64,
    /// Lines of the kernel's log about it.
    pub lines: usize,
    /// Time since the last of these lines; `None` if none has a time.
    last: Option<Duration>,
    /// The command that shows the counter.
    show: String,
    /// The network namespaces that counted, where the reader's own did not.
    counted_in: Vec<String>,
    evidence: Vec<Evidence>,
}

impl Past {
    /// The counter of every network namespace, as it was before the window.
    pub(super) fn counted(facts: &Facts, counter: &'static str) -> Self {
        let since = facts.counters_begin();
        let mut count = 0_i64;
        let mut evidence = Vec::new();
        let mut here = false;
        let mut counted_in = Vec::new();
        for place in facts.places() {
            let total = place.count(counter).unwrap_or(0);
            let before = total.saturating_sub(place.grown(counter).unwrap_or(0));
            if before > 0 {
                count = count.saturating_add(before);
                match place.namespace {
                    Some(other) => {
                        counted_in.push(other.place().named_by(&facts.processes).label());
                    }
                    None => here = true,
                }
                evidence.extend(Evidence::counted(&place, counter, since));
            }
        }
        if here {
            counted_in.clear();
        }
        Self {
            counter,
            count,
            counted_in,
            lines: 0,
            last: None,
            show: facts.command(&format!(
                "nstat -az {}",
                counter.replace("TcpExt.", "TcpExt")
            )),
            evidence,
        }
    }

    /// The same with lines of the kernel's log, by their time since boot.
    pub(super) fn logged(mut self, facts: &Facts, times: &[Duration], text: &str) -> Self {
        if times.is_empty() {
            return self;
        }
        self.lines += times.len();
        // A line without a time has the time zero.
        let newest = times.iter().max().filter(|time| !time.is_zero());
        let ago = newest.map(|time| facts.now.uptime.saturating_sub(*time));
        self.last = [self.last, ago].into_iter().flatten().min();
        self.evidence.push(Evidence::new(
            format!("kernel.log: {text}"),
            i64::try_from(times.len()).unwrap_or(i64::MAX).into(),
            "the kernel's log, lines",
        ));
        self
    }

    /// Whether nothing happened.
    pub(super) fn is_nothing(&self) -> bool {
        self.count == 0 && self.lines == 0
    }

    /// Where, unless it was the reader's own network namespace.
    fn places(&self) -> String {
        match self.counted_in.as_slice() {
            [] => String::new(),
            [one] => format!(", in {one}"),
            [first, others @ ..] => format!(", in {first} and {} more", others.len()),
        }
    }

    /// When: `since boot, last logged 130 s ago`.
    pub(super) fn when(&self, facts: &Facts) -> String {
        let since = match self.count {
            // The log is the whole kernel's.
            0 => "since boot",
            _ => facts.counters_begin(),
        };
        let since = format!("{since}{}", self.places());
        match self.last {
            Some(ago) => {
                let ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                format!("{since}, last logged {} ago", span(ms))
            }
            None => format!("{since}, no time known"),
        }
    }

    /// The finding: what happened, which `setting` was the limit, and how to see the
    /// next time.
    pub(super) fn finding(self, summary: String, setting: &str, why: String) -> Finding {
        let (_, name) = self.counter.split_once('.').unwrap_or(("", self.counter));
        Finding {
            severity: Severity::Warning,
            confidence: Confidence::High,
            summary,
            why,
            applies_to: AppliesTo::Observe,
            subject: "the time before this look".to_owned(),
            setting: setting.to_owned(),
            current: format!("{name} has come to {}", self.count),
            proposed: "record who holds what when it happens again".to_owned(),
            evidence: self.evidence,
            cost: "None: it only reads.".to_owned(),
            risk: "None.".to_owned(),
            apply: "advisor watch --record DIR, until it has happened again; then advisor \
                recommend --record DIR"
                .to_owned(),
            undo: "Nothing is changed.".to_owned(),
            verify: format!("{name} stays at {} ({})", self.count, self.show),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::{add_namespace, bare_host, counters, host};

    #[test]
    fn the_window_is_not_the_past() {
        let mut facts = bare_host(1 << 30);
        facts.now.counters = counters("TcpExt: X\nTcpExt: 10\n");
        let mut earlier = facts.now.clone();
        earlier.counters = counters("TcpExt: X\nTcpExt: 7\n");
        earlier.uptime = facts.now.uptime / 2;
        assert_eq!(Past::counted(&facts, "TcpExt.X").count, 10);
        facts.earlier = Some(earlier);
        assert_eq!(Past::counted(&facts, "TcpExt.X").count, 7);
    }

    #[test]
    fn the_last_line_with_a_time_says_when() {
        let mut facts = bare_host(1 << 30);
        facts.now.uptime = Duration::from_secs(1000);
        let past = Past::counted(&facts, "TcpExt.X");
        assert!(past.is_nothing());
        let untimed = past.logged(&facts, &[Duration::ZERO], "x");
        assert!(untimed.when(&facts).ends_with("no time known"));
        let times = [Duration::from_secs(10), Duration::from_secs(870)];
        let timed = untimed.logged(&facts, &times, "y");
        assert_eq!(timed.lines, 3);
        assert!(timed.when(&facts).ends_with("last logged 2 min ago"));
    }

    #[test]
    fn it_says_which_namespace_counted() {
        let mut facts = host("quiet");
        add_namespace(&mut facts, 7, &[]);
        facts.earlier = None;
        facts.now.elsewhere[0].counters = counters("TcpExt: X\nTcpExt: 10\n");
        let past = Past::counted(&facts, "TcpExt.X");
        assert!(past.when(&facts).contains(", in network namespace pod-7"));
        facts.now.counters = counters("TcpExt: X\nTcpExt: 1\n");
        let past = Past::counted(&facts, "TcpExt.X");
        assert!(!past.when(&facts).contains("pod-7"));
    }

    #[test]
    fn the_log_is_as_old_as_the_kernel_in_a_container_too() {
        let mut facts = bare_host(1 << 30);
        facts.settings.tcp_max_orphans = None;
        facts.now.uptime = Duration::from_secs(1000);
        let past = Past::counted(&facts, "TcpExt.X");
        let past = past.logged(&facts, &[Duration::from_secs(870)], "y");
        assert!(past.when(&facts).starts_with("since boot"));
    }
}
