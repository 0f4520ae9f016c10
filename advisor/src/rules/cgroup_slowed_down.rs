//! A program slowed down because its sockets fill its cgroup up to memory.high.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::cgroup::{self, Limit};
use super::{Documentation, Outcome, ProvenBy, Rule, Scope};

pub(super) const RULE: Rule = Rule {
    code: "LB408",
    name: "cgroup-slowed-down",
    scope: Scope::Host,
    scenario: Some("limits/cgroup/slowed-down[limit=high]"),
    cure: Some("limits/cgroup/slowed-down[limit=none]"),
    proven_by: ProvenBy::Nothing("a reproduction puts no program into a cgroup of its own yet"),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A cgroup at its memory.high, with a good part of it in sockets. The kernel slows \
        down every process of the cgroup that asks for more memory, even one that serves a \
        healthy client. It kills nothing and logs nothing, and tcp_mem has room.",
    evidence: "memory.current at 95 percent of memory.high or more, at least a sixteenth of it \
        in `sock` of memory.stat, and `high` of memory.events above 0; it counts since the \
        cgroup was made.",
    recommendation: "A memory.high that is higher by what the sockets hold, or a program that \
        queues less.",
    cost: "As much RAM as the limit is raised by.",
    risk: "Others on the host may rely on that RAM. At memory.max, if there is one, the kernel \
        kills.",
    undo: "Set the former limit.",
    references: &[
        "memory.high, memory.stat, memory.events: Documentation/admin-guide/cgroup-v2.rst of Linux",
        "mem_cgroup_handle_over_high: mm/memcontrol.c of Linux",
    ],
};

const LIMIT: Limit = Limit {
    file: "memory.high",
    unit_property: "MemoryHigh",
    effect: "it slows down every process of the cgroup that asks for more",
    events: &["high"],
    read: |cgroup| cgroup.memory_high_bytes,
    documentation: &DOCUMENTATION,
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.cgroups.is_empty() {
        return cgroup::none_seen(facts);
    }
    match LIMIT.findings(facts) {
        findings if findings.is_empty() => {
            Outcome::Quiet("no cgroup with sockets is at its memory.high".to_owned())
        }
        findings => Outcome::Fired(findings),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use advisor_facts::cgroups::Cgroup;

    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("cgroup-slowed-down")
    }

    #[test]
    fn memory_high_of_a_cgroup_is_a_limit_of_its_own() {
        let mut facts = host("quiet");
        let mut cgroup = Cgroup {
            path: "/web".to_owned(),
            memory_max_bytes: Some(10_500_000),
            memory_high_bytes: Some(10_000_000),
            memory_current_bytes: Some(9_500_000),
            sock_bytes: Some(625_000),
            file_bytes: Some(0),
            events: [("high".to_owned(), 7), ("max".to_owned(), 1)].into(),
        };
        facts.cgroups = [(1, cgroup.clone())].into();
        assert_quiet(&crate::rules::cgroup_limit_near::RULE, &facts);
        let findings = fired(&RULE, &facts);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].setting, "memory.high");
        assert!(findings[0].proposed.starts_with("11250000,"));
        assert!(
            findings[0]
                .apply
                .ends_with("and memory.max, which is 10.0 MiB, above it"),
            "{}",
            findings[0].apply
        );
        let events: Vec<&str> = findings[0]
            .evidence
            .iter()
            .map(|evidence| evidence.observation.as_str())
            .filter(|name| name.starts_with("memory.events"))
            .collect();
        assert_eq!(events, ["memory.events.high"]);
        // What fills it is not the sockets, or nothing was slowed down for it.
        for (sock, high) in [(624_999, 7), (625_000, 0)] {
            cgroup.sock_bytes = Some(sock);
            cgroup.events.insert("high".to_owned(), high);
            facts.cgroups = [(1, cgroup.clone())].into();
            assert_quiet(&RULE, &facts);
        }
    }
}
