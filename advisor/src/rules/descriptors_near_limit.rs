//! A process that is about to have no descriptor left.

use advisor_facts::Facts;
use advisor_facts::processes::Process;
use advisor_report::measured::Measured;

use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, LogLine, Outcome, ProvenBy, Rule,
    Scope, Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB504",
    name: "descriptors-near-limit",
    scope: Scope::Host,
    scenario: Some("crash/leak/out-of-descriptors"),
    cure: None,
    proven_by: ProvenBy::Nothing(
        "the descriptors of a program are of all kinds, and only its sockets are reproduced",
    ),
    log_lines: &[LogLine {
        pieces: &["too many open files"],
        means: "An error of a program, EMFILE: it has as many descriptors as its limit of open \
            files allows. Sockets in CLOSE_WAIT are a leak (LB202).",
    }],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A process that holds nearly all descriptors that it may have. At the limit \
        accept() fails with EMFILE and the connection stays in the queue, so that poll() reports \
        it again at once: the process takes a whole CPU and serves nobody new.",
    evidence: "The descriptors in /proc/PID/fd of processes that hold TCP sockets, against the \
        soft limit of open files in /proc/PID/limits: warning at 90%, critical where none is \
        left.",
    recommendation: "Find out what holds them: CLOSE_WAIT is a leak, and a higher limit only \
        delays it (advisor sockets --by process). Else the power of two above twice as many \
        (LimitNOFILE= of the unit, or prlimit for the running process).",
    cost: "Up to 1 KiB of the kernel's memory for each descriptor that is used, beside what the \
        program itself has for each connection.",
    risk: "A program that uses select() fails with descriptors above 1023; one that closes every \
        possible descriptor when it starts others takes longer.",
    undo: "Set the former limit, and start the program again.",
    references: &[
        "accept(2), EMFILE; getrlimit(2), RLIMIT_NOFILE; prlimit(1)",
        "select(2): FD_SETSIZE is 1024",
        "EMFILE leaves the connection in the queue: measured",
    ],
};

/// Warning from this share of the limit on, in percent (our judgement).
const WARNING_PERCENT: u64 = 90;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let known: Vec<_> = facts.processes.descriptors().collect();
    if known.is_empty() && !facts.processes.all.is_empty() {
        return Outcome::NotEvaluated(
            "needs descriptors and limits of processes, which the capture does not have or which \
             may not be read"
                .to_owned(),
        );
    }
    let findings: Vec<_> = known
        .iter()
        .filter(|(_, open, limit)| {
            open.saturating_mul(100) >= limit.saturating_mul(WARNING_PERCENT)
        })
        .map(|(process, open, limit)| finding(process, *open, *limit))
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(
            "none of the host's processes with sockets holds 90% of its descriptors".to_owned(),
        );
    }
    Outcome::Fired(findings)
}

fn finding(process: &Process, open: u64, limit: u64) -> Finding {
    let name = process.to_string();
    let none_left = open >= limit;
    let wanted = limit
        .saturating_mul(2)
        .checked_next_power_of_two()
        .unwrap_or(limit);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX).into();
    let pid = process.pid;
    Finding {
        severity: if none_left {
            Severity::Critical
        } else {
            Severity::Warning
        },
        confidence: Confidence::High,
        summary: if none_left {
            format!("{name} has no descriptor left: it holds {open} of {limit}")
        } else {
            format!("{name} holds {open} of the {limit} descriptors that it may have")
        },
        why: "At the limit accept() and socket() fail with EMFILE. The connection that accept() \
            did not take stays in the queue, so an event loop is woken for it again and again."
            .to_owned(),
        applies_to: AppliesTo::Program,
        subject: name,
        setting: "RLIMIT_NOFILE".to_owned(),
        current: limit.to_string(),
        proposed: wanted.to_string(),
        evidence: vec![
            Evidence::new(
                "host.process.descriptors",
                number(open),
                format!("/proc/{pid}/fd"),
            ),
            Evidence::new(
                "host.process.descriptors.limit",
                number(limit),
                format!("/proc/{pid}/limits, Max open files, soft"),
            ),
        ],
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: format!(
            "now: prlimit --pid {pid} --nofile={wanted}; to keep it: LimitNOFILE={wanted} in the \
             unit, --ulimit nofile={wanted} of the container, or worker_rlimit_nofile and the \
             like of the program"
        ),
        undo: format!("prlimit --pid {pid} --nofile={limit}, and take the setting out"),
        verify: format!("ls /proc/{pid}/fd | wc -l stays far below the limit"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{add_process, assert_not_evaluated, assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("descriptors-near-limit")
    }

    #[test]
    fn it_warns_at_90_percent_and_is_critical_where_none_is_left() {
        let mut facts = host("quiet");
        add_process(&mut facts, (31, "web"), None, []);
        assert_not_evaluated(&RULE, &facts, "may not be read");
        let mut holding = |open| {
            let process = &mut facts.processes.all[0];
            process.open_descriptors = Some(open);
            process.descriptor_limit = Some(1000);
            facts.clone()
        };
        assert_quiet(&RULE, &holding(899));
        assert_eq!(fired(&RULE, &holding(900))[0].severity, Severity::Warning);
        let finding = fired(&RULE, &holding(1000)).remove(0);
        assert_eq!(
            (finding.severity, finding.proposed.as_str()),
            (Severity::Critical, "2048")
        );
    }
}
