//! Writes packets and logs of runs that are not as expected (`--keep`).

use std::path::PathBuf;

use advisor_report::{Quantifier, Run};

use super::capture::{self, Capture, Write};
use super::{Settings, judge};
use crate::lab::{Lab, LabError};
use crate::suite::scenario::Scenario;

/// Whether a run breaks an expectation by itself.
pub(super) fn is_broken(scenario: &Scenario, run: &Run) -> bool {
    let judged = judge::judge(scenario, std::slice::from_ref(run));
    judged.iter().any(|expectation| {
        expectation.held != Some(true) && expectation.quantifier != Quantifier::Sometimes
    })
}

/// Writes packets and logs of a scenario's runs, if asked to.
pub(super) struct Keeper {
    directory: Option<PathBuf>,
    /// Whether runs that are as expected are written, too.
    always: bool,
    /// Bytes kept of the packets of a host's link at most.
    most_bytes: usize,
    /// Packets and log of the last run.
    pub(super) last: Option<(Capture, Vec<String>)>,
    /// The directories written, or why one could not be written.
    kept: Vec<String>,
}

impl Keeper {
    pub(super) fn new(scenario: &Scenario, settings: &Settings) -> Self {
        Self {
            directory: settings
                .options
                .keep
                .as_ref()
                .map(|keep| keep.join(&scenario.id)),
            always: settings.options.keep_always,
            most_bytes: if settings.in_guest {
                capture::MOST_BYTES_IN_GUEST
            } else {
                capture::MOST_BYTES
            },
            last: None,
            kept: Vec::new(),
        }
    }

    /// Writes the last run if it breaks an expectation by itself. With `anyhow`
    /// it is written unless another run was.
    pub(super) fn keep(&mut self, scenario: &Scenario, run: &Run, anyhow: bool, write: Write) {
        let wanted = if anyhow {
            self.kept.is_empty()
        } else {
            self.always || is_broken(scenario, run)
        };
        let (Some(directory), Some((capture, log)), true) = (&self.directory, &self.last, wanted)
        else {
            return;
        };
        let directory = directory.join(format!("run-{}", run.number));
        let shown = directory.display();
        self.kept.push(match capture.write(&directory, log, write) {
            Ok(()) => shown.to_string(),
            Err(error) => format!("cannot write {shown}: {error}"),
        });
    }

    /// Starts to capture, where packets are kept or the scenario looks at them.
    pub(super) fn capture(
        &self,
        scenario: &Scenario,
        lab: &Lab,
    ) -> Result<Option<Capture>, LabError> {
        let most_bytes = match &self.directory {
            Some(_) => self.most_bytes,
            None => 0,
        };
        (self.directory.is_some() || scenario.looks_at_packets())
            .then(|| Capture::open(lab, most_bytes))
            .transpose()
    }

    /// The hint that names the first directory.
    pub(super) fn describe(&self) -> Option<String> {
        let first = self.kept.first()?;
        Some(format!("packets and logs: {first}"))
    }
}
