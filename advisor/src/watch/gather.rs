//! Events that are alike within a second as one: a line a kind is enough for people, for
//! the journal and for the record.

use std::collections::HashMap;

use advisor_facts::happened::{Kind, Occurrence};

/// So many kinds are told apart within a second; of the rest the processes are not told.
const KINDS: usize = 200;

/// What makes events alike.
type Key = (Kind, Option<String>, Option<u32>, bool, Option<u32>);

/// Events of the current second.
#[derive(Default)]
pub(super) struct Gather {
    /// Of each kind what came after the first, which was told at once.
    later: HashMap<Key, Option<Occurrence>>,
}

impl Gather {
    /// Takes an event; gives it back where it is the first of its kind in this second.
    pub(super) fn add(&mut self, mut one: Occurrence) -> Option<Occurrence> {
        let is_full = self.later.len() >= KINDS;
        if is_full && !self.later.contains_key(&key(&one)) {
            (one.process, one.namespace, one.by_port) = (None, None, false);
        }
        let key = key(&one);
        let Some(later) = self.later.get_mut(&key) else {
            self.later.insert(key, None);
            return Some(one);
        };
        *later = Some(match later.take() {
            Some(before) => Occurrence {
                count: before.count + one.count,
                unacknowledged_bytes: before.unacknowledged_bytes + one.unacknowledged_bytes,
                ..one
            },
            None => one,
        });
        None
    }

    /// What the second brought beside what was told at once.
    pub(super) fn end_of_second(&mut self) -> Vec<Occurrence> {
        let mut rest: Vec<_> = self.later.drain().filter_map(|(_, later)| later).collect();
        rest.sort_by_key(|one| one.at);
        rest
    }
}

fn key(one: &Occurrence) -> Key {
    (
        one.kind,
        one.reason.clone(),
        one.process.as_ref().map(|process| process.pid),
        one.by_port,
        one.namespace,
    )
}

#[cfg(test)]
mod tests {
    use advisor_facts::happened::At;
    use advisor_facts::processes::Process;

    use super::*;

    fn reset(pid: u32) -> Occurrence {
        Occurrence {
            at: At::default(),
            kind: Kind::ResetSent,
            count: 1,
            reason: None,
            process: Some(Process {
                pid,
                ..Process::default()
            }),
            by_port: false,
            namespace: None,
            ends: None,
            unacknowledged_bytes: 7,
        }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let mut gather = Gather::default();
        assert!(gather.add(reset(1)).is_some());
        assert!(gather.add(reset(1)).is_none());
        assert!(gather.add(reset(2)).is_some());
        assert!(gather.add(reset(1)).is_none());
        let rest = gather.end_of_second();
        assert_eq!(rest.iter().map(|one| one.count).collect::<Vec<_>>(), [2]);
        assert_eq!(rest[0].unacknowledged_bytes, 14);
        assert!(gather.end_of_second().is_empty());
        assert!(gather.add(reset(1)).is_some());
    }

    #[test]
    fn a_flood_of_processes_is_bounded_and_counted() {
        let mut gather = Gather::default();
        let mut count: u64 = (0..10_000)
            .filter_map(|pid| gather.add(reset(pid)))
            .map(|one| one.count)
            .sum();
        let rest = gather.end_of_second();
        assert!(rest.len() <= KINDS + 1);
        count += rest.iter().map(|one| one.count).sum::<u64>();
        assert_eq!(count, 10_000);
    }
}
