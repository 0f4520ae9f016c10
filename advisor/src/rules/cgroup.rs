//! The memory limits of a cgroup of version 2, for the rules about them.

use advisor_facts::Facts;
use advisor_facts::cgroups::Cgroup;
use advisor_facts::condition::Condition;
use advisor_facts::units::bytes;

use super::program::by_program;
use super::{AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, Severity};

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
    /// The rule's.
    pub(super) documentation: &'static Documentation,
}

/// Programs that are named.
const HOLDERS: usize = 3;

/// Why a rule about cgroups can't be evaluated where none was seen.
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
    /// The cgroups that are at the limit, with a sixteenth of it or more in sockets. Cached
    /// files don't count: the kernel takes them back first; where they are not known, as in
    /// an older capture, it can't be told.
    pub(super) fn findings(&self, facts: &Facts) -> Vec<Finding> {
        let found = |cgroup| {
            let most = (self.read)(cgroup)?;
            let current = cgroup.memory_current_bytes?;
            let held = current.saturating_sub(cgroup.file_bytes?);
            let sock = cgroup.sock_bytes?;
            (is_near(held, most) && sock >= most / 16 && self.was_met(cgroup))
                .then(|| self.finding(facts, cgroup, [most, current, sock]))
        };
        facts.cgroups.values().filter_map(found).collect()
    }

    /// Whether the limit was ever met.
    fn was_met(&self, cgroup: &Cgroup) -> bool {
        let mut counts = self
            .events
            .iter()
            .filter_map(|name| cgroup.events.get(*name));
        counts.any(|count| *count > 0)
    }

    #[expect(clippy::too_many_lines, reason = "mostly the texts of one finding")]
    fn finding(&self, facts: &Facts, cgroup: &Cgroup, [most, current, sock]: [u64; 3]) -> Finding {
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
        evidence.extend(cgroup.file_bytes.map(|bytes| {
            Evidence::new(
                "memory.stat.active_file+inactive_file",
                number(bytes),
                &source,
            )
        }));
        // By what the sockets hold, and enough to be seen.
        let proposed = most.saturating_add(sock.max(most / 8));
        // The one must stay below the other.
        let and_max = cgroup
            .memory_max_bytes
            .filter(|max| *max > most && proposed >= *max)
            .map(|max| format!(", and memory.max, which is {}, above it", bytes(max)))
            .unwrap_or_default();
        let holders = by_program(facts, |socket| {
            Condition::of(socket).is_amiss()
                && socket
                    .cgroup
                    .and_then(|id| facts.cgroups.get(&id))
                    .is_some_and(|of| is_below(&of.path, &cgroup.path))
        });
        let amiss: u64 = holders.iter().map(|program| program.bytes).sum();
        evidence.extend(holders.iter().take(HOLDERS).map(|program| {
            Evidence::new(
                &program.name,
                format!(
                    "{} in {} sockets",
                    bytes(program.bytes),
                    program.sockets.len()
                )
                .as_str()
                .into(),
                "sock_diag: dead, unread, not closed or not taken",
            )
        }));
        let holder = holders.first().filter(|_| amiss >= sock / 2);
        let (applies_to, proposal, apply) = match holder {
            Some(program) => (
                AppliesTo::Program,
                "a program that reads, closes and bounds what it queues".to_owned(),
                format!(
                    "mend {} first: {} of what the sockets hold is for peers that are gone or do \
                     not read, or is not read or closed here; advisor sockets --by process shows it",
                    program.name,
                    bytes(amiss)
                ),
            ),
            None => (
                AppliesTo::Both,
                format!("{proposed}, or a program that queues less"),
                format!(
                    "raise {} of the container or the unit ({}) to {proposed} ({}){and_max}",
                    self.file,
                    self.unit_property,
                    bytes(proposed)
                ),
            ),
        };
        Finding {
            severity: Severity::Warning,
            confidence: Confidence::Medium,
            summary: format!(
                "the cgroup {} is at its {} of {}, {} of it in sockets{}",
                cgroup.path,
                self.file,
                bytes(most),
                bytes(sock),
                holder.map_or_else(String::new, |program| format!(": {}", program.name))
            ),
            why: format!(
                "The kernel charges socket memory to the cgroup. At this limit {}, whatever room \
                 tcp_mem has.",
                self.effect
            ),
            applies_to,
            subject: format!("the cgroup {}", cgroup.path),
            setting: self.file.to_owned(),
            current: most.to_string(),
            proposed: proposal,
            evidence,
            cost: self.documentation.cost.to_owned(),
            risk: self.documentation.risk.to_owned(),
            apply,
            undo: self.documentation.undo.to_owned(),
            verify: format!(
                "{} in memory.events of {source} stops rising, and memory.current stays below \
                 the limit",
                self.events[0]
            ),
        }
    }
}

/// Whether a cgroup is another one or below it.
fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
