//! Any change that a person has in mind, tried on a reproduction of their host.

use advisor_facts::Facts;
use advisor_report::proof::{Compared, Comparison};
use serde::{Deserialize, Serialize};

use super::Prepared;
use super::guests::Guests;
use super::remedy::Tried;
use crate::kernels::cache::Stored;
use crate::reproduce::Reproduction;
use crate::reproduce::likeness::Likeness;
use crate::reproduce::settings::{self, Set};
use crate::reproduce::trial::{self, Change};
use crate::runner::{self, OnProgress};

/// What a change does to a host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Attempt {
    /// The guest's kernel.
    pub kernel: String,
    /// Who is on the host, and how many of them in the guest.
    pub host: String,
    /// What gets better, worse, or stays.
    pub seen: Vec<Compared>,
    /// What is not as on the host: then nothing is claimed.
    pub unlike: Vec<String>,
    /// What was assumed.
    pub notes: Vec<String>,
}

impl Attempt {
    /// Whether something gets better, and nothing worse.
    pub fn helps(&self) -> bool {
        let any = |wanted| self.seen.iter().any(|row| row.verdict == wanted);
        self.unlike.is_empty() && any(Comparison::Better) && !any(Comparison::Worse)
    }
}

/// Why a change can't be tried.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The facts.
    #[error("{0}")]
    Impossible(String),
    /// A setting of the change.
    #[error("{why}")]
    Setting {
        /// Which one.
        name: String,
        /// Why it can't be tried.
        why: String,
    },
    /// A run that gave no answer.
    #[error("{0}")]
    Broken(String),
    /// No guest.
    #[error(transparent)]
    Run(#[from] runner::Error),
}

/// Settings of the whole kernel in a change that no reproduction sets, with the value that
/// they have on the host.
pub(super) fn other_kernel_settings(
    changes: &[Change],
    place: &Facts,
    reproduction: &Reproduction,
) -> Result<Vec<Set>, String> {
    let mut other = Vec::new();
    for (name, _) in trial::settings_of(changes) {
        if reproduction.sets_of_kernel(&name)
            || !settings::is_of_kernel(&name, &reproduction.release)
        {
            continue;
        }
        let value = place.settings.get(&name).ok_or_else(|| {
            format!("the facts don't say what {name} is on the host, so there is no before")
        })?;
        other.push((name, value));
    }
    Ok(other)
}

/// Tries settings on a host.
pub fn attempt(
    facts: &Facts,
    wanted: &[Set],
    kernel: &Stored,
    progress: OnProgress,
) -> Result<Attempt, AttemptError> {
    let impossible = AttemptError::Impossible;
    let release = &kernel.release;
    let reproduction =
        Reproduction::of(facts, facts, release).map_err(|error| impossible(error.to_string()))?;
    let mut set = Vec::new();
    for (name, value) in wanted {
        let before = facts.settings.get(name);
        let value = settings::written(name, value, before.as_deref(), release).map_err(|why| {
            AttemptError::Setting {
                name: name.clone(),
                why,
            }
        })?;
        set.push((name.clone(), value));
    }
    let tried = Tried {
        changes: vec![Change::Settings(set)],
        ..Tried::default()
    };
    let prepared = Prepared::new(reproduction, tried, facts).map_err(impossible)?;
    let runs = prepared.try_it(&mut Guests::new(kernel, progress))?;
    if let Some(why) = runs.broken {
        return Err(AttemptError::Broken(why));
    }
    let mut notes = prepared.reproduction.notes.clone();
    notes.extend(runs.notes);
    Ok(Attempt {
        kernel: release.clone(),
        host: prepared.describe_population(),
        seen: runs.table,
        unlike: runs
            .likeness
            .map(|Likeness { unlike, .. }| unlike)
            .unwrap_or_default(),
        notes,
    })
}
