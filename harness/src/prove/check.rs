//! Whether a reproduction is as its host: it is run once, and the guest's facts are judged
//! beside the host's.

use std::fmt::Write as _;

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use serde::{Deserialize, Serialize};

use super::attempt::AttemptError;
use super::facts_of;
use super::guests::{Failed, Guests};
use super::kernel::Chosen;
use crate::reproduce::Reproduction;
use crate::reproduce::likeness::{Likeness, is_comparable, rules};
use crate::runner::OnProgress;

/// What a guest is like beside its host.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Checked {
    /// The host's kernel.
    pub host: String,
    /// The guest's kernel.
    pub kernel: String,
    /// One factor for populations, limits and rates.
    pub factor: f64,
    /// The sockets by condition.
    pub conditions: Vec<Counted>,
    /// What is not as on the host.
    pub unlike: Vec<String>,
    /// The rules that fire on both.
    pub fire_on_both: Vec<String>,
    /// Those that fire on the host alone.
    pub fire_on_host: Vec<String>,
    /// Those that fire in the guest alone.
    pub fire_in_guest: Vec<String>,
    /// Those that fire on the host and that no guest can answer: files, RAM, the log, and
    /// counters since boot.
    pub not_comparable: Vec<String>,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// How many sockets are in a condition.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Counted {
    /// The condition.
    pub condition: Condition,
    /// On the host.
    pub host: u64,
    /// Wanted in the guest.
    pub wanted: u64,
    /// There in the guest.
    pub there: u64,
}

/// Runs the reproduction of a host once.
pub fn check(
    facts: &Facts,
    kernel: &Chosen,
    progress: OnProgress,
) -> Result<Checked, AttemptError> {
    let broken = AttemptError::Broken;
    let reproduction = Reproduction::of(facts, facts, &kernel.stored.release)
        .map_err(|error| AttemptError::Impossible(error.to_string()))?;
    let mut guests = Guests::new(&kernel.stored, progress);
    let results = match guests.run(&[(reproduction.suite(), 0)]) {
        Ok(results) => results,
        Err(Failed::Broken(why)) => return Err(broken(why)),
        Err(Failed::Run(error)) => return Err(error.into()),
    };
    let result = results.first();
    let guest = result.and_then(|result| facts_of(result, "facts"));
    let (Some(result), Some(guest)) = (result, guest) else {
        let why = result.and_then(|result| result.reason.clone());
        return Err(broken(
            why.unwrap_or_else(|| "the guest gave no facts".to_owned()),
        ));
    };
    let likeness = Likeness::of(&reproduction, &guest);
    let counted = |(condition, wanted, there): &(Condition, u64, u64)| Counted {
        condition: *condition,
        host: reproduction
            .population
            .of_condition(|known| known == *condition),
        wanted: *wanted,
        there: *there,
    };
    let (on_host, not_comparable): (Vec<_>, Vec<_>) = rules(facts)
        .into_iter()
        .partition(|code| is_comparable(code));
    let in_guest = &likeness.fire;
    let (fire_on_both, fire_on_host): (Vec<_>, Vec<_>) = on_host
        .iter()
        .cloned()
        .partition(|code| in_guest.contains(code));
    let fire_in_guest = in_guest
        .iter()
        .filter(|code| is_comparable(code) && !on_host.contains(code));
    Ok(Checked {
        host: facts.kernel.clone(),
        kernel: result.kernel.release.clone(),
        factor: reproduction.scale.factor(),
        conditions: likeness.classes.iter().map(counted).collect(),
        fire_in_guest: fire_in_guest.cloned().collect(),
        unlike: likeness.unlike,
        fire_on_both,
        fire_on_host,
        not_comparable,
        notes: reproduction.notes,
    })
}

impl Checked {
    /// Whether the sockets are as on the host, and the same rules fire.
    pub fn is_alike(&self) -> bool {
        self.unlike.is_empty() && self.has_same_rules()
    }

    /// Whether the same rules fire.
    pub fn has_same_rules(&self) -> bool {
        self.fire_on_host.is_empty() && self.fire_in_guest.is_empty()
    }

    /// For people, in lines of `width` columns.
    pub fn text(&self, width: usize) -> String {
        let answer = match (self.is_alike(), self.unlike.is_empty()) {
            (true, _) => "The guest is as the host",
            (_, true) => "The sockets are as on the host, and other rules fire",
            _ => "The guest is not as the host",
        };
        let mut text = format!("{answer}, on Linux {}.\n\n", self.kernel);
        let _ = writeln!(
            text,
            "{:<34}{:>9}{:>9}{:>9}",
            "sockets", "host", "wanted", "there"
        );
        for row in &self.conditions {
            let name = row.condition.to_string();
            let _ = writeln!(
                text,
                "{name:<34}{:>9}{:>9}{:>9}",
                row.host, row.wanted, row.there
            );
        }
        let mut lines: Vec<String> = self
            .unlike
            .iter()
            .map(|one| format!("Not alike: {one}."))
            .collect();
        for (what, codes) in [
            ("Rules that fire on both", &self.fire_on_both),
            ("Rules that fire on the host alone", &self.fire_on_host),
            ("Rules that fire in the guest alone", &self.fire_in_guest),
            ("Rules that no guest can answer", &self.not_comparable),
        ] {
            if !codes.is_empty() {
                lines.push(format!("{what}: {}.", codes.join(", ")));
            }
        }
        lines.extend(self.notes.iter().map(|note| format!("Note: {note}.")));
        for line in lines {
            let _ = write!(text, "\n{}", textwrap::fill(&line, width));
        }
        text.push('\n');
        text
    }
}
