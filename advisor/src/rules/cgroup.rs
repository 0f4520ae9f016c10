//! The memory limits of a cgroup of version 2, for the rules about them.

use super::{Confidence, Documentation, Evidence, Finding, Kind, Outcome, Severity, bytes};
use advisor_facts::Facts;
use advisor_facts::cgroups::Cgroup;

/// One of the limits.
pub(super) struct Limit {
    /// The file of the limit.
    pub(super) file: &'static str,
    /// The property of a systemd unit.
    pub(super) unit_property: &'static str,
    /// What the kernel does at the limit.
    pub(super) effect: &'static str,
    /// The counters of memory.events that show it, the clearest first.
    pub(super) events: &'static [&'static str],
    /// The limit in bytes; `None` if there is none.
    pub(super) read: fn(&Cgroup) -> Option<u64>,
    /// Whether a cgroup near the limit suffers.
    pub(super) is_felt: fn(&Cgroup) -> bool,
    /// The documentation of the rule.
    pub(super) documentation: &'static Documentation,
}

/// The answer if no cgroup was seen.
pub(super) fn none_seen(facts: &Facts) -> Outcome {
    let why = facts
        .unseen
        .iter()
        .find(|unseen| unseen.what == "the limits of cgroups")
        .map_or("no socket is in a cgroup that was seen", |unseen| {
            &unseen.why
        });
    Outcome::NotEvaluated(why.to_owned())
}

/// Whether at least 95 percent of a limit are in use.
pub(super) fn is_near(used: u64, limit: u64) -> bool {
    used > 0 && u128::from(used) * 100 >= u128::from(limit) * 95
}

impl Limit {
    /// The cgroups at the limit, with at least a sixteenth of it in sockets.
    pub(super) fn findings(&self, facts: &Facts) -> Vec<Finding> {
        let found = |cgroup| {
            let most = (self.read)(cgroup)?;
            let current = cgroup.memory_current_bytes?;
            let sock = cgroup.sock_bytes?;
            (is_near(current, most) && sock >= most / 16 && (self.is_felt)(cgroup))
                .then(|| self.finding(cgroup, [most, current, sock]))
        };
        facts.cgroups.values().filter_map(found).collect()
    }

    fn finding(&self, cgroup: &Cgroup, [most, current, sock]: [u64; 3]) -> Finding {
        let source = format!("/sys/fs/cgroup{}", cgroup.path);
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX).into();
        let mut evidence = vec![
            Evidence::new("memory.current", number(current), &source),
            Evidence::new("memory.stat.sock", number(sock), &source),
        ];
        evidence.extend(self.events.iter().filter_map(|name| {
            let count = *cgroup.events.get(*name)?;
            Some(Evidence::new(
                format!("memory.events.{name}"),
                number(count),
                format!("{source}, since the cgroup was made"),
            ))
        }));
        let proposed = most.saturating_add(sock);
        // memory.high must stay below memory.max.
        let and_max = cgroup
            .memory_max_bytes
            .filter(|max| *max > most && proposed >= *max)
            .map(|max| format!(", and memory.max, which is {}, above it", bytes(max)))
            .unwrap_or_default();
        Finding {
            severity: Severity::Warning,
            confidence: Confidence::Medium,
            summary: format!(
                "the cgroup {} is at its {} of {}, {} of it in sockets",
                cgroup.path,
                self.file,
                bytes(most),
                bytes(sock)
            ),
            why: format!(
                "The kernel charges socket memory to the cgroup. At this limit {}, whatever room \
                 tcp_mem has.",
                self.effect
            ),
            kind: Kind::Both,
            subject: format!("the cgroup {}", cgroup.path),
            setting: self.file.to_owned(),
            current: most.to_string(),
            proposed: format!("{proposed}, or a program that queues less"),
            evidence,
            cost: self.documentation.cost.to_owned(),
            risk: self.documentation.risk.to_owned(),
            apply: format!(
                "raise {} of the container or the unit ({}) to {}{and_max}",
                self.file,
                self.unit_property,
                bytes(proposed)
            ),
            undo: self.documentation.undo.to_owned(),
            verify: format!(
                "{} in memory.events of {source} stops rising, and memory.current stays below \
                 the limit",
                self.events[0]
            ),
        }
    }
}
