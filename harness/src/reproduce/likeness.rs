//! Whether a guest is in the host's condition: its facts are captured, and judged outside
//! by the advisor beside the host's.

use std::collections::BTreeMap;

use advisor::plan;
use advisor::rules::AppliesTo;
use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::memory::Memory;

use super::Reproduction;
use super::population::Population;

/// Bytes that make no difference: a packet's.
const NEAR_BYTES: u64 = 4096;

/// What a guest is like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Likeness {
    /// By class: how many were wanted, and how many there are.
    pub classes: Vec<(Condition, u64, u64)>,
    /// What is not as on the host.
    pub unlike: Vec<String>,
    /// The rules that fire in the guest.
    pub fire: Vec<String>,
}

impl Likeness {
    /// Of the facts of a guest.
    pub fn of(reproduction: &Reproduction, guest: &Facts) -> Self {
        let mut wanted: BTreeMap<Condition, (u64, Vec<u64>)> = BTreeMap::new();
        for class in &reproduction.population.classes {
            let (count, held) = wanted.entry(class.condition).or_default();
            *count += reproduction.count(class);
            held.extend(&class.held);
        }
        let mut had: BTreeMap<Condition, (u64, Vec<u64>)> = BTreeMap::new();
        for class in Population::of(guest).unwrap_or_default().classes {
            let (count, held) = had.entry(class.condition).or_default();
            *count += class.count();
            held.extend(&class.held);
        }
        let mut likeness = Self {
            fire: rules(&beside_the_host(reproduction, guest.clone())),
            ..Self::default()
        };
        for (condition, (count, mut held)) in wanted {
            let (there, mut here) = had.remove(&condition).unwrap_or_default();
            likeness.classes.push((condition, count, there));
            if count.abs_diff(there) > (count / 20).max(1) {
                likeness
                    .unlike
                    .push(format!("{count} {condition} wanted, {there} had"));
                continue;
            }
            held.sort_unstable();
            here.sort_unstable();
            for (name, part) in [("a quarter", 1), ("half", 2), ("three quarters", 3)] {
                let at = |sorted: &[u64]| sorted.get(sorted.len() * part / 4).copied().unwrap_or(0);
                let (host, guest) = (at(&held), at(&here));
                if host.abs_diff(guest) > (host / 10).max(NEAR_BYTES) {
                    likeness.unlike.push(format!(
                        "{name} of the {condition} hold less than {host} bytes on the host, and \
                         {guest} here"
                    ));
                    break;
                }
            }
        }
        for (condition, (there, _)) in had {
            if there > 1 && !is_of_bystanders(condition) {
                likeness
                    .unlike
                    .push(format!("0 {condition} wanted, {there} had"));
                likeness.classes.push((condition, 0, there));
            }
        }
        likeness
    }

    /// Whether the guest is as the host.
    pub fn is_alike(&self) -> bool {
        self.unlike.is_empty()
    }
}

/// Connections that are under way at any moment.
const fn is_of_bystanders(condition: Condition) -> bool {
    matches!(condition, Condition::Healthy | Condition::Idle)
}

/// The codes of the rules that fire now, or fired in the window since an earlier look, and
/// that a guest can answer.
pub fn rules_since(reproduction: &Reproduction, guest: Facts, since: Option<Facts>) -> Vec<String> {
    let mut facts = beside_the_host(reproduction, guest);
    if let Some(since) = since {
        facts.set_earlier(since.now);
    }
    let mut codes = rules(&facts);
    codes.retain(|code| is_comparable(code));
    codes
}

/// A guest's facts with what it can't have of the host: its files, and its RAM by the factor
/// of its limits. Marks that the host pays for are beyond the RAM of a guest, and far from
/// what the kernel computes unless somebody chose them.
fn beside_the_host(reproduction: &Reproduction, mut guest: Facts) -> Facts {
    guest.sysctl_files = reproduction.files.clone();
    if reproduction.ram_bytes > 0 {
        guest.ram_bytes = reproduction.scale.limit(reproduction.ram_bytes);
        guest.memory = Memory {
            total_bytes: guest.ram_bytes,
            ..Memory::default()
        };
    }
    guest
}

/// The codes of the rules that fire. What is over doesn't count.
pub fn rules(facts: &Facts) -> Vec<String> {
    let recommendations = plan::advise(facts, &[]).recommendations;
    let mut codes: Vec<String> = recommendations
        .into_iter()
        .filter(|step| step.finding.applies_to != AppliesTo::Observe)
        .map(|step| step.code.to_owned())
        .collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Whether it is a rule that a guest can answer: not of files, RAM, the log or counters since
/// boot.
pub fn is_comparable(code: &str) -> bool {
    advisor::rules::find(code).is_some()
        && !(code.starts_with("LB6")
            || [
                "LB110", "LB112", "LB311", "LB407", "LB408", "LB412", "LB413", "LB414", "LB506",
                "LB510",
            ]
            .contains(&code))
}
