//! Writes packets and logs of runs that are not as expected (`--keep`).

use std::path::PathBuf;

use advisor_report::{Quantifier, Run, Trace};

use super::capture::{self, Capture, Write};
use super::trace::{self, Calls, Seen};
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

/// What a run leaves beside what it observed.
pub(super) struct Last {
    pub(super) capture: Capture,
    pub(super) log: Vec<String>,
    pub(super) calls: Calls,
    pub(super) gauges: Vec<(String, Vec<(u64, i64)>)>,
}

/// Keeps traces of runs: the first that was as expected, and the first that was not.
pub(super) fn keep_traces(known: &mut Vec<Trace>, more: Vec<Trace>) {
    for trace in more {
        if known
            .iter()
            .all(|other| other.as_expected != trace.as_expected)
        {
            known.push(trace);
        }
    }
}

/// Writes packets and logs of a scenario's runs, if asked to.
pub(super) struct Keeper {
    directory: Option<PathBuf>,
    /// Bytes kept of the packets of a host's link at most.
    most_bytes: usize,
    traces: bool,
    /// What the last run left.
    pub(super) last: Option<Last>,
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
            traces: settings.options.trace,
            most_bytes: if settings.options.keep.is_none() {
                capture::MOST_BYTES_DRAWN
            } else if settings.in_guest {
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
            is_broken(scenario, run)
        };
        let (Some(directory), Some(last), true) = (&self.directory, &self.last, wanted) else {
            return;
        };
        let directory = directory.join(format!("run-{}", run.number));
        let shown = directory.display();
        self.kept
            .push(match last.capture.write(&directory, &last.log, write) {
                Ok(()) => shown.to_string(),
                Err(error) => format!("cannot write {shown}: {error}"),
            });
    }

    /// Adds the trace of the last run to those of its scenario, if they have none like it.
    pub(super) fn trace(&self, scenario: &Scenario, run: &Run, traces: &mut Vec<Trace>) {
        let as_expected = !is_broken(scenario, run);
        let is_like = |known: &Trace| known.as_expected == as_expected;
        let Some(last) = self.last.as_ref().filter(|_| self.traces) else {
            return;
        };
        if !traces.iter().any(is_like) {
            let seen = Seen {
                calls: last.calls.clone(),
                packets: last.capture.packets().collect(),
                gauges: &last.gauges,
            };
            traces.push(trace::trace(scenario, run.number, as_expected, seen));
        }
    }

    /// Starts to capture, where packets are kept or drawn.
    pub(super) fn capture(&self, lab: &Lab) -> Result<Option<Capture>, LabError> {
        let wanted = self.directory.is_some() || self.traces;
        wanted
            .then(|| Capture::open(lab, self.most_bytes))
            .transpose()
    }

    /// The hint that names the first directory.
    pub(super) fn describe(&self) -> Option<String> {
        let first = self.kept.first()?;
        Some(format!("packets and logs: {first}"))
    }
}
