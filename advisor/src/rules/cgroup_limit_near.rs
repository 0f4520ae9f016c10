//! Sockets short of memory because of the limit of their cgroup, not tcp_mem.

use advisor_facts::Facts;
use advisor_facts::cgroups::CgroupV1;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::cgroup::{self, Limit};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, LogLine, Outcome, ProvenBy, Rule,
    Scope, Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB407",
    name: "cgroup-limit-near",
    scope: Scope::Host,
    scenario: Some("limits/cgroup/crowd[limit=cgroup]"),
    cure: Some("limits/cgroup/crowd[limit=none]"),
    proven_by: ProvenBy::Nothing("a reproduction puts no program into a cgroup of its own yet"),
    log_lines: &[LogLine {
        pieces: &["memory cgroup out of memory"],
        means: "A cgroup, mostly a container, was at its memory.max, and the kernel killed a \
            process of it. What its sockets hold counts into that limit, and not only tcp_mem \
            bounds it.",
    }],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A cgroup at its memory limit, with a good part of it in sockets. The kernel keeps \
        their buffers small and closes their windows, as under TCP memory pressure, while \
        tcp_mem has room. If that does not suffice, it kills a process. A higher tcp_mem does \
        not help.",
    evidence: "memory.current without cached files (active_file and inactive_file of memory.stat) \
        at 95 percent of memory.max or more, at least a sixteenth of the limit in `sock` of \
        memory.stat, and `max` or `sock_throttled` of memory.events above 0; they count since the \
        cgroup was made. In cgroups of version 1, where TCP has its own limit: \
        memory.kmem.tcp.usage_in_bytes at 95 percent of memory.kmem.tcp.limit_in_bytes or more, and \
        a memory.kmem.tcp.failcnt that is not 0: it counts how often the limit was met, also if \
        the kernel then charged by force.",
    recommendation: "If the sockets hold it for peers that are gone or do not read, or unread or not \
        closed here: first that, in the program. Else a memory.max (for a container: its memory \
        limit) that is higher by what the sockets hold and at least by an eighth, or a program \
        that queues less. In version 1: twice what TCP may hold, or holds.",
    cost: "As much RAM as the limit is raised by.",
    risk: "Others on the host may rely on that RAM.",
    undo: "Set the former limit.",
    references: &[
        "memory.max, memory.stat, memory.events: Documentation/admin-guide/cgroup-v2.rst of Linux",
        "memory.kmem.tcp.*: Documentation/admin-guide/cgroup-v1/memory.rst of Linux",
        "tcp_under_memory_pressure: include/net/tcp.h of Linux",
        "mem_cgroup_under_socket_pressure: include/linux/memcontrol.h of Linux",
    ],
};

const LIMIT: Limit = Limit {
    file: "memory.max",
    unit_property: "MemoryMax",
    effect: "it keeps the buffers of these sockets small and closes their windows, or kills a \
        process of the cgroup",
    events: &["max", "sock_throttled"],
    read: |cgroup| cgroup.memory_max_bytes,
    documentation: &DOCUMENTATION,
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.cgroups.is_empty() && facts.cgroups_v1.is_empty() {
        return cgroup::none_seen(facts);
    }
    let mut findings = LIMIT.findings(facts);
    findings.extend(facts.cgroups_v1.iter().filter_map(|cgroup| {
        let (limit, usage) = (cgroup.tcp_limit_bytes?, cgroup.tcp_usage_bytes?);
        let was_met = cgroup.tcp_failures.is_some_and(|failures| failures > 0);
        (cgroup::is_near(usage, limit) && was_met).then(|| finding_v1(cgroup, limit, usage))
    }));
    if findings.is_empty() {
        return Outcome::Quiet("no cgroup with sockets is at its memory limit".to_owned());
    }
    Outcome::Fired(findings)
}

fn finding_v1(cgroup: &CgroupV1, limit: u64, usage: u64) -> Finding {
    let source = format!("/sys/fs/cgroup/memory{}", cgroup.path);
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX).into();
    let mut evidence = vec![
        Evidence::new("memory.kmem.tcp.limit_in_bytes", number(limit), &source),
        Evidence::new("memory.kmem.tcp.usage_in_bytes", number(usage), &source),
    ];
    evidence.extend(cgroup.tcp_failures.map(|failures| {
        Evidence::new(
            "memory.kmem.tcp.failcnt",
            number(failures),
            format!("{source}, since the cgroup was made"),
        )
    }));
    // The usage may exceed the limit: the kernel charges by force what it must have.
    let proposed = limit.max(usage).saturating_mul(2);
    Finding {
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        summary: format!(
            "the sockets of the cgroup {} hold {} of the {} allowed for TCP",
            cgroup.path,
            bytes(usage),
            bytes(limit)
        ),
        why: "The memory controller of version 1 has a limit for TCP alone. At that limit the \
            kernel keeps the buffers of these sockets small and closes their windows, whatever \
            room tcp_mem and memory.limit_in_bytes have."
            .to_owned(),
        applies_to: AppliesTo::Both,
        subject: format!("the cgroup {}", cgroup.path),
        setting: "memory.kmem.tcp.limit_in_bytes".to_owned(),
        current: limit.to_string(),
        proposed: format!("{proposed}, or a program that queues less"),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: format!(
            "raise the limit where it was set: for the cgroup {} or one above it, echo \
             {proposed} > memory.kmem.tcp.limit_in_bytes",
            cgroup.path
        ),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: format!("memory.kmem.tcp.usage_in_bytes of {source} stays below the limit"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("cgroup-limit-near")
    }

    #[test]
    fn the_limit_of_tcp_in_a_cgroup_of_version_1_is_told_apart() {
        let mut facts = host("quiet");
        let mut cgroup = CgroupV1 {
            path: "/docker/web".to_owned(),
            tcp_limit_bytes: Some(10_000_000),
            tcp_usage_bytes: Some(9_499_999),
            tcp_failures: Some(3),
            ..CgroupV1::default()
        };
        facts.cgroups_v1 = vec![cgroup.clone()];
        assert_quiet(&RULE, &facts);
        cgroup.tcp_usage_bytes = Some(9_500_000);
        facts.cgroups_v1 = vec![cgroup.clone()];
        facts.cgroups.clear();
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.setting, "memory.kmem.tcp.limit_in_bytes");
        assert!(
            finding.proposed.starts_with("20000000,"),
            "{}",
            finding.proposed
        );
        // Without a limit there is nothing to be near to, and nothing is held of 0.
        for (limit, usage) in [(None, Some(1)), (Some(0), Some(0))] {
            cgroup.tcp_limit_bytes = limit;
            cgroup.tcp_usage_bytes = usage;
            facts.cgroups_v1 = vec![cgroup.clone()];
            assert_quiet(&RULE, &facts);
        }
    }

    #[test]
    fn cached_files_and_a_limit_never_met_are_no_harm() {
        let mut facts = firing();
        let cgroup = |facts: &mut Facts, change: fn(&mut advisor_facts::cgroups::Cgroup)| {
            facts.cgroups.values_mut().for_each(change);
        };
        cgroup(&mut facts, |cgroup| cgroup.file_bytes = Some(100 << 20));
        assert_quiet(&RULE, &facts);
        cgroup(&mut facts, |cgroup| cgroup.file_bytes = Some(1 << 20));
        fired(&RULE, &facts);
        cgroup(&mut facts, |cgroup| cgroup.events.clear());
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn the_proposed_limit_is_told_from_the_present_one() {
        let mut facts = firing();
        for cgroup in facts.cgroups.values_mut() {
            cgroup.memory_max_bytes = Some(1 << 30);
            cgroup.memory_current_bytes = Some(1 << 30);
            cgroup.sock_bytes = Some(68 << 20);
        }
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding.apply.contains("to 1207959552 (1.1 GiB)"),
            "{}",
            finding.apply
        );
    }

    #[test]
    fn a_program_that_does_not_read_comes_before_the_limit() {
        use crate::rules::testing::{add_process, socket};
        use advisor_facts::sock_diag::TcpState;

        let mut facts = firing();
        let mut unread = socket(TcpState::Established, "10.0.0.1:80", "10.0.0.2:4000")
            .held_by(7)
            .unread(50 << 20, 60 << 20)
            .done();
        unread.cgroup = facts.cgroups.keys().next().copied();
        facts.now.sockets.as_mut().unwrap().all.push(unread);
        add_process(&mut facts, (70, "consumer"), None, [7]);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.applies_to, AppliesTo::Program);
        assert!(
            finding.summary.contains("consumer (70)"),
            "{}",
            finding.summary
        );
    }
}
