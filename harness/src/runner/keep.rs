//! Writes packets and logs of runs that are not as expected (`--keep`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use advisor_report::trace::{KernelEvent, gathered};
use advisor_report::{Quantifier, Run, Trace};

use super::capture::{self, Capture, Write};
use super::trace::{self, Calls, Seen};
use super::{Error, Settings, judge};
use crate::lab::{Lab, LabError};
use crate::output;
use crate::suite::scenario::Scenario;

/// Where packets and logs of runs go, and of which runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Keep {
    /// The directory; a run's files are in `ID/run-N` below it.
    pub directory: PathBuf,
    /// Whether those of runs that are as expected are kept, too.
    pub always: bool,
    /// The first file that could not be written, and why.
    #[serde(skip)]
    failed: Arc<OnceLock<(PathBuf, String)>>,
}

impl Keep {
    /// Nothing is written yet.
    pub fn new(directory: PathBuf, always: bool) -> Self {
        Self {
            directory,
            always,
            failed: Arc::default(),
        }
    }

    /// Removes what an earlier run kept there; how many runs that were. Only what `--keep`
    /// writes is removed.
    pub fn forget_earlier(&self) -> io::Result<usize> {
        forget(&self.directory)
    }

    /// Writes a file of a run, which is below the directory.
    pub(super) fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        output::write(path, content).inspect_err(|error| {
            self.failed
                .get_or_init(|| (path.to_owned(), error.to_string()));
        })
    }

    /// That a file could not be written.
    pub(super) fn failure(&self) -> Option<Error> {
        let (path, error) = self.failed.get()?.clone();
        Some(Error::Keep { path, error })
    }
}

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
    /// Whether runs that are as expected are written, too.
    always: bool,
    /// Bytes kept of the packets of a host's link at most.
    most_bytes: usize,
    traces: bool,
    /// What the last run left.
    pub(super) last: Option<Last>,
    /// When its first call began, and what the kernel told of in it, since 1970.
    pub(super) events: (u64, Vec<KernelEvent>),
    /// The directories written, or why one could not be written.
    kept: Vec<String>,
}

impl Keeper {
    pub(super) fn new(scenario: &Scenario, settings: &Settings) -> Self {
        let keep = settings.options.keep.as_ref();
        Self {
            directory: keep.map(|keep| keep.directory.join(&scenario.id)),
            always: settings.options.keeps_every_run(),
            traces: settings.options.trace,
            most_bytes: if keep.is_none() {
                capture::MOST_BYTES_DRAWN
            } else if settings.in_guest {
                capture::MOST_BYTES_IN_GUEST
            } else {
                capture::MOST_BYTES
            },
            last: None,
            events: (0, Vec::new()),
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

    /// Gives the last run what the kernel told of in it, if it breaks an expectation by
    /// itself.
    pub(super) fn tell(&self, scenario: &Scenario, run: &mut Run) {
        let (zero_us, events) = &self.events;
        if !events.is_empty() && is_broken(scenario, run) {
            run.events = gathered(events, *zero_us);
        }
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
                events: &self.events.1,
            };
            traces.push(trace::trace(scenario, run.number, as_expected, seen));
        }
    }

    /// Starts to capture, where packets are kept or drawn, or the scenario looks at them.
    pub(super) fn capture(
        &self,
        scenario: &Scenario,
        lab: &Lab,
    ) -> Result<Option<Capture>, LabError> {
        let is_stored = self.directory.is_some() || self.traces;
        let most_bytes = if is_stored { self.most_bytes } else { 0 };
        let at_once = scenario.looks_at_packets();
        (is_stored || at_once)
            .then(|| Capture::open(lab, most_bytes, at_once))
            .transpose()
    }

    /// The hint that names the first directory.
    pub(super) fn describe(&self) -> Option<String> {
        let first = self.kept.first()?;
        Some(format!("packets and logs: {first}"))
    }
}

/// Removes the directories of runs below one, `run-N` with nothing but packets and a log in
/// it; how many there were.
fn forget(directory: &Path) -> io::Result<usize> {
    /// `topic/file/name/run-N` is no deeper.
    const DEEPEST: usize = 8;
    fn below(directory: &Path, depth: usize, removed: &mut usize) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // A link may lead elsewhere.
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let path = entry.path();
            if is_of_run(&path)? {
                fs::remove_dir_all(&path)?;
                *removed += 1;
            } else if depth < DEEPEST {
                below(&path, depth + 1, removed)?;
            }
            // The scenario's own, where nothing else is in it.
            let _ = fs::remove_dir(&path);
        }
        Ok(())
    }
    let mut removed = 0;
    below(directory, 0, &mut removed)?;
    Ok(removed)
}

/// Whether a directory is what `--keep` writes of a run.
fn is_of_run(path: &Path) -> io::Result<bool> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = name.strip_prefix("run-");
    if number.is_none_or(|number| number.parse::<u64>().is_err()) {
        return Ok(false);
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name != "actors.log" && !name.ends_with(".pcap") {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_before_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        let kept = [
            "a/b/c/run-0/client.pcap",
            "a/b/c/run-0/actors.log",
            "a/b/d/run-12/actors.log",
        ];
        let own = [
            "a/b/c/notes",
            "a/b/e/run-1/mine",
            "a/b/run-x/actors.log",
            "run-2",
        ];
        kept.iter().chain(&own).for_each(|name| write(name));
        assert_eq!(forget(directory.path()).unwrap(), 2);
        for name in kept {
            assert!(!directory.path().join(name).exists(), "{name}");
        }
        for name in own {
            assert!(directory.path().join(name).exists(), "{name}");
        }
        assert!(!directory.path().join("a/b/d").exists());
        assert_eq!(forget(directory.path()).unwrap(), 0);
    }
}
