//! Runs scenarios in guests so that each run can be had again: a run is all that
//! happens in its guest, and nothing of it comes from the host but its seed.

use std::path::{Path, PathBuf};
use std::process::Command;

use advisor_report::{Clock, Dependence, Repeatable, Run, ScenarioResult, Verdict};

use super::guests::{Guests, Ready, is_plain, run_in};
use super::keep::{Keep, is_broken, keep_traces};
use super::local::repeat;
use super::{OnProgress, Options, Progress, Settings};
use crate::guest::{Beginning, qemu};
use crate::impairment::spread_seed;
use crate::kernels::cache::{Stored, content_identity};
use crate::suite::scenario::Scenario;

/// Where a guest says that files are to be kept: what the user calls it must not
/// show in the run.
const KEPT: &str = "/kept";

/// The seed of a run.
fn seed_of_run(seed: u64, scenario: &str, number: u64) -> u64 {
    let id = scenario
        .bytes()
        .fold(seed, |state, byte| spread_seed(state, u64::from(byte), 0));
    spread_seed(id, number, 0)
}

/// The scenario with seeds for the links that have none of their own.
fn with_link_seeds(scenario: &Scenario, seed: u64) -> Scenario {
    let mut scenario = scenario.clone();
    for link in scenario.links.values_mut().filter(|link| link.seed == 0) {
        link.seed = seed;
    }
    scenario
}

impl Guests {
    /// Runs a scenario, each run in a guest of its own.
    pub(super) fn run_seeded(
        &self,
        ready: &Ready,
        scenario: &Scenario,
        seed: u64,
        progress: OnProgress,
    ) -> ScenarioResult {
        let mut result = self.blank(ready, scenario);
        let files = match self.files_of(ready, scenario) {
            Ok(files) => files,
            Err(skipped) => return *skipped,
        };
        let options = &self.settings.options;
        // Of a scenario that can't run there is nothing to repeat.
        let mut skipped = None;
        let mut kept = Kept::new(options);
        result.repeatable = Some(repeatable(ready, seed));
        let judged = scenario.on_release(&ready.kernel.release);
        let ran = |runs| progress(Progress::Ran(scenario, runs));
        repeat(&judged, options, &mut result, ran, |number, result| {
            let seed = seed_of_run(seed, &scenario.id, number);
            kept.last.clear();
            let one = ready
                .start_with(&self.cache, &Beginning::of_seed(seed))
                .map_err(|error| (error.to_string(), Vec::new()))
                .and_then(|mut guest| {
                    run_in(
                        &mut guest,
                        &with_link_seeds(scenario, seed),
                        &files,
                        &settings(&self.settings, scenario, number),
                        |_| {},
                        |path, content| kept.last.push((path, content)),
                    )
                    .map_err(|death| (death.to_string(), death.console))
                });
            let run = match one {
                Ok(one) if one.verdict == Verdict::Skipped => {
                    skipped = Some(one);
                    return broken("it was skipped".to_owned(), number);
                }
                Ok(mut one) => {
                    result.kernel.release = one.kernel.release;
                    result.link = one.link;
                    result.discarded_runs.append(&mut one.discarded_runs);
                    if options.trace {
                        keep_traces(&mut result.traces, one.traces);
                    }
                    let run = one.runs.pop();
                    run.unwrap_or_else(|| broken("it made no run".to_owned(), number))
                }
                Err((error, console)) => {
                    result.console = console;
                    broken(error, number)
                }
            };
            if options.keeps_every_run() || is_broken(&judged, &run) {
                kept.write();
            }
            run
        });
        if let Some(skipped) = skipped {
            let kernel = result.kernel;
            return ScenarioResult { kernel, ..skipped };
        }
        if result.verdict != Verdict::Passed && kept.written.is_empty() {
            kept.write();
        }
        result.hint = result.hint.or(kept.describe());
        result
    }
}

fn broken(error: String, number: u64) -> Run {
    Run {
        error: Some(error),
        number,
        ..Run::default()
    }
}

/// What a guest is told of how to run: nothing that depends on what else is run, or
/// how. Packets are always captured, so that a run is the same with and without
/// `--keep` and `--report`.
fn settings(settings: &Settings, scenario: &Scenario, number: u64) -> Settings {
    Settings {
        options: Options {
            carrier: settings.options.carrier,
            clock: Some(Clock::Virtual),
            runs: Some(1),
            first_run: number,
            long: scenario.long && settings.options.long,
            keep: Some(Keep::new(KEPT.into(), settings.options.keeps_every_run())),
            trace: true,
            ..Options::default()
        },
        ..settings.clone()
    }
}

/// Files of runs, as the last run's guest sent them.
struct Kept<'a> {
    keep: Option<&'a Keep>,
    last: Vec<(PathBuf, Vec<u8>)>,
    /// The directories written, or why one could not be written.
    written: Vec<String>,
}

impl<'a> Kept<'a> {
    fn new(options: &'a Options) -> Self {
        Self {
            keep: options.keep.as_ref(),
            last: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Writes the files of the last run, where files are kept.
    fn write(&mut self) {
        let Some(keep) = self.keep else {
            return;
        };
        for (path, content) in self.last.drain(..) {
            let Ok(below) = path.strip_prefix(KEPT) else {
                continue;
            };
            if !is_plain(below) {
                continue;
            }
            let path = keep.directory.join(below);
            let shown = path.parent().unwrap_or(&path).display().to_string();
            let written = match keep.write(&path, &content) {
                Ok(()) => shown,
                Err(error) => format!("cannot write {shown}: {error}"),
            };
            if !self.written.contains(&written) {
                self.written.push(written);
            }
        }
    }

    fn describe(&self) -> Option<String> {
        let first = self.written.first()?;
        Some(format!("packets and logs: {first}"))
    }
}

/// What runs with a seed depend on beside the scenario.
fn repeatable(ready: &Ready, seed: u64) -> Repeatable {
    let mut depends_on = ready
        .dependence
        .get_or_init(|| dependence(&ready.kernel))
        .clone();
    depends_on.seed = seed;
    Repeatable {
        repeatable: true,
        depends_on,
    }
}

/// The same for a kernel, whatever the seed.
fn dependence(kernel: &Stored) -> Dependence {
    let version = Command::new(qemu::PROGRAM).arg("--version").output();
    let version = version.map_or_else(
        |error| error.to_string(),
        |output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().next().unwrap_or_default().to_owned()
        },
    );
    let program = content_identity(Path::new("/proc/self/exe"));
    Dependence {
        seed: 0,
        kernel: format!(
            "{} ({})",
            kernel.release,
            content_identity(&kernel.kernel())
        ),
        qemu: version,
        harness: format!("{} ({program})", env!("CARGO_PKG_VERSION")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_a_seed_of_its_own() {
        let seed = seed_of_run(7, "a/b/c", 0);
        assert_eq!(seed, seed_of_run(7, "a/b/c", 0));
        for other in [
            seed_of_run(8, "a/b/c", 0),
            seed_of_run(7, "a/b/d", 0),
            seed_of_run(7, "a/b/c", 1),
        ] {
            assert_ne!(seed, other);
        }
    }
}
