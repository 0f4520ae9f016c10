//! `harness run`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use advisor_report::{Clock, Report, ScenarioResult, Verdict};

use super::interrupt::Interrupt;
use super::last_run;
use super::selection::{Selection, load};
use super::shard::Sharding;
use super::{ENVIRONMENT, FAILURE, SUCCESS, USAGE, complain, complain_of_kernel, complain_of_run};
use crate::kernels::KernelError;
use crate::lab::{self, Carrier};
use crate::output;
use crate::report::known::{self, Baseline};
use crate::report::origin::Begun;
use crate::report::snapshot::{self, SnapshotDifference};
use crate::report::terminal::{Lines, Terminal, comparison, reasons, summary};
use crate::report::{self, VerdictCounts, github, outcomes};
use crate::runner::plan::Plan;
use crate::runner::{self, Keep, Options, Progress};
use crate::suite::scenario::Scenario;

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(super) struct Run {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    sharding: Sharding,
    #[arg(long, value_name = "DIR", help = report_help())]
    report: Option<PathBuf>,
    /// Compare the verdicts with the snapshots in this directory
    #[arg(long, value_name = "DIR")]
    snapshot: Option<PathBuf>,
    /// Replace the snapshots by the verdicts seen, and the baseline by what fails
    #[arg(long)]
    update: bool,
    /// Failures that are known: they are counted, and the run fails where one is mended
    /// or where another comes
    #[arg(long, value_name = "FILE", conflicts_with = "explore")]
    baseline: Option<PathBuf>,
    /// What is printed beside the results: github adds annotations and the summary of
    /// the step; auto does where it runs on GitHub
    #[arg(long, value_enum, default_value_t = FormatChoice::Auto)]
    format: FormatChoice,
    /// Snapshots also have every value of every run
    #[arg(long, requires = "snapshot", requires = "seed")]
    exact: bool,
    /// Runs of each scenario [default: as many as the suite says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    runs: Option<u64>,
    /// Scenarios at the same time [default: 12 for each CPU and 64 at most, as
    /// most of them wait; one guest for each CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// What carries impaired links; auto is netem where the kernel has it
    #[arg(long, value_enum, default_value_t = LinkChoice::Auto)]
    link: LinkChoice,
    /// What the clock of guests counts: virtual, which jumps to the next timer when
    /// the guest waits; or real time [default: virtual in emulated guests]
    #[arg(long, value_enum)]
    clock: Option<ClockChoice>,
    /// Make the runs in guests repeatable, in virtual time: the same seed, kernel, QEMU
    /// and harness give the same observations, to the nanosecond
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run each scenario once with each of N seeds, from --seed or 0 on, and report each
    /// distinct outcome with the smallest seed that shows it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000),
          conflicts_with_all = ["snapshot", "runs"])]
    explore: Option<u64>,
    /// Run on this kernel: host, a name from `harness kernels`, the path of a
    /// vmlinuz, or auto: the host's where it can run the scenario, else the
    /// nearest fetched one; given several times, on each
    #[arg(long = "kernel", value_name = "KERNEL", default_value = "auto")]
    kernels: Vec<String>,
    /// Modules for a vmlinuz that is given by its path, such as
    /// /lib/modules/RELEASE [default: those beside the vmlinuz]
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Also run scenarios that set sysctls of the whole machine, one at a time;
    /// the values are put back
    #[arg(long)]
    touch_host: bool,
    /// Also run scenarios that wait for minutes
    #[arg(long)]
    long: bool,
    /// Keep packets (pcap) and the actors' logs of runs that are not as expected
    /// in this directory; what an earlier run kept there is removed. always:DIR keeps
    /// those of every run, always alone in ./kept
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new().try_map(keep))]
    keep: Option<Keep>,
    /// Exit with 1 if a scenario was skipped
    #[arg(long)]
    fail_on_skip: bool,
    /// Show what was seen of every expectation, not only of those not held
    #[arg(long, short)]
    verbose: bool,
}

/// `DIR`, `always:DIR` or `always`.
fn keep(text: OsString) -> Result<Keep, &'static str> {
    let of_every_run = match text.to_str() {
        Some("always") => Some(PathBuf::from("kept")),
        text => text
            .and_then(|text| text.strip_prefix("always:"))
            .map(PathBuf::from),
    };
    let always = of_every_run.is_some();
    let directory = of_every_run.unwrap_or_else(|| text.into());
    if directory.as_os_str().is_empty() {
        return Err("it names no directory");
    }
    Ok(Keep::new(directory, always))
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LinkChoice {
    Auto,
    Netem,
    Relay,
}

impl From<LinkChoice> for Carrier {
    fn from(choice: LinkChoice) -> Self {
        match choice {
            LinkChoice::Auto => Self::Auto,
            LinkChoice::Netem => Self::Netem,
            LinkChoice::Relay => Self::Relay,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum FormatChoice {
    Auto,
    Text,
    Github,
}

impl FormatChoice {
    fn is_github(self) -> bool {
        match self {
            Self::Auto => github::is_here(),
            Self::Text => false,
            Self::Github => true,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ClockChoice {
    Real,
    Virtual,
}

impl From<ClockChoice> for Clock {
    fn from(choice: ClockChoice) -> Self {
        match choice {
            ClockChoice::Real => Self::Real,
            ClockChoice::Virtual => Self::Virtual,
        }
    }
}

fn report_help() -> String {
    let files: Vec<&str> = report::FORMATS.iter().map(|format| format.file()).collect();
    format!("Write the report to this directory: {}", files.join(", "))
}

impl Run {
    /// Runs scenarios and reports; the exit status.
    pub(super) fn run(&self) -> u8 {
        self.execute().unwrap_or_else(|status| status)
    }

    fn execute(&self) -> Result<u8, u8> {
        if self.update && self.snapshot.is_none() && self.baseline.is_none() {
            complain(
                "--update: there is nothing to update",
                "give --snapshot DIR or --baseline FILE with it",
            );
            return Err(USAGE);
        }
        let begun = Begun::now(&self.selection.paths);
        let all = load(&self.selection.paths)?;
        last_run::note(&self.selection.paths);
        let chosen = self.sharding.choose(self.selection.filter(&all)?)?;
        let is_other = |kernel: &String| *kernel != self.kernels[0];
        if self.snapshot.is_some() && self.kernels.iter().any(is_other) {
            return Err(complain_of_kernel(&KernelError::usage(
                "--snapshot",
                "compare with it",
                "several kernels were asked for",
                "compare one kernel's verdicts at a time",
            )));
        }
        let baseline = self.read_baseline(&all)?;
        let options = Options {
            carrier: self.link.into(),
            clock: self.clock.map(Clock::from),
            seed: self.seed.or(self.explore.map(|_| 0)),
            runs: self.runs.or(self.explore.map(|_| 1)),
            first_run: 0,
            long: self.long,
            touch_host: self.touch_host,
            keep: self.keep.clone(),
            trace: self.report.is_some(),
            jobs: self.jobs.map(usize::from),
            retry_errored: false,
        };
        let mut plan = Plan::make(&chosen, &self.kernels, self.modules.as_deref(), &options)
            .map_err(|error| complain_of_run(&error))?;
        if let Some(seeds) = self.explore {
            plan.explore(seeds);
        }
        self.check_outputs()?;
        let outputs = Arc::new(Outputs {
            begun,
            scenarios: all.clone(),
            baseline,
            directory: self.report.clone(),
        });
        let interrupted = Arc::clone(&outputs);
        let interrupt = Interrupt::watch(plan.jobs.len(), move |mut ended| {
            let place = |id: &str| interrupted.scenarios.iter().position(|one| one.id == id);
            ended.sort_by_key(|result| place(&result.id));
            let report = interrupted.report(ended, true);
            if interrupted.write(&report) == SUCCESS
                && let Some(directory) = &interrupted.directory
            {
                let shown = directory.display();
                output::say_error(&format!("what had ended is reported in {shown}"));
            }
            output::say(&summary(&report.scenarios));
        });
        let terminal = Terminal::new(plan.jobs.len(), self.verbose, Lines::Out);
        let outcome = runner::run(&plan, &options, &|progress: Progress| {
            interrupt.note(&progress);
            match progress {
                // What counts is what all seeds saw.
                Progress::Ended(_) if self.explore.is_some() => terminal.advance(),
                progress => terminal.show(&progress),
            }
        });
        interrupt.over();
        terminal.finish();
        let outcome = outcome.map_err(|error| complain_of_run(&error))?;
        let status = outcome.error.as_ref().map_or(SUCCESS, complain_of_run);
        if outcome.results.is_empty() {
            return Ok(status);
        }
        Ok(status.max(self.conclude(&outputs, outcome.results)))
    }

    /// The failures that are known, where a baseline was given.
    fn read_baseline(&self, all: &[Scenario]) -> Result<Option<Baseline>, u8> {
        let Some(path) = &self.baseline else {
            return Ok(None);
        };
        if self.update && !path.exists() {
            return Ok(None);
        }
        let baseline = Baseline::read(path).map_err(|error| {
            complain(&error, &error.hint);
            USAGE
        })?;
        // Of a part of the suites, others are not known.
        let known = all.iter().map(|scenario| scenario.id.as_str()).collect();
        for entry in baseline.unknown(&known) {
            output::say_error(&format!("warning: {entry} in the suites that were given"));
        }
        Ok(Some(baseline))
    }

    /// Whether the outputs can be written, before the work.
    fn check_outputs(&self) -> Result<(), u8> {
        if let Some(directory) = &self.report {
            output::check(directory).map_err(|error| complain_of_report(directory, &error))?;
        }
        if let Some(directory) = self.snapshot.as_ref().filter(|_| self.update) {
            output::check(directory).map_err(|error| complain_of_snapshots(directory, &error))?;
        }
        if let Some(keep) = &self.keep {
            let directory = &keep.directory;
            let done = output::check(directory).and_then(|()| keep.forget_earlier());
            let removed = done.map_err(|error| {
                let shown = directory.display();
                complain(
                    format!("{shown}: cannot keep packets and logs there: {error}"),
                    "--keep takes a directory that can be written to",
                );
                ENVIRONMENT
            })?;
            if removed > 0 {
                let shown = directory.display();
                let what = "what an earlier run kept there is removed";
                output::say_error(&format!("{shown}: {what} ({removed} runs)"));
            }
        }
        Ok(())
    }

    /// Writes what was asked for, prints the answer and says how it all came out.
    fn conclude(&self, outputs: &Outputs, results: Vec<ScenarioResult>) -> u8 {
        let report = outputs.report(results, false);
        let mut status = outputs.write(&report);
        if let Some(directory) = &self.snapshot {
            status = status.max(self.compare_snapshots(directory, outputs, &report));
        }
        if let Some(path) = self.baseline.as_ref().filter(|_| self.update) {
            let text = known::baseline(&report.scenarios, outputs.baseline.as_ref());
            match output::write(path, text.as_bytes()) {
                Ok(()) => output::say(&format!("{} updated", path.display())),
                Err(error) => {
                    complain(format!("{}: {error}", path.display()), "");
                    status = ENVIRONMENT;
                }
            }
        }
        if self.explore.is_some() {
            output::print(&outcomes::text(&report.scenarios));
            let results = || report.scenarios.iter();
            return if results().all(|result| result.verdict == Verdict::Skipped) {
                ENVIRONMENT
            } else if results().any(outcomes::is_broken) {
                status.max(FAILURE)
            } else {
                status
            };
        }
        if let Some(comparison) = comparison(&report) {
            output::say(&format!("\n{comparison}"));
        }
        if let Some(reasons) = reasons(&report.scenarios).filter(|_| !self.verbose) {
            output::say(&reasons);
        }
        let counts = VerdictCounts::of(&report.scenarios);
        if let Some(advice) = self.advice(&counts) {
            output::say(&advice);
        }
        output::say(&summary(&report.scenarios));
        if self.format.is_github() {
            status = status.max(tell_github(&report));
        }
        if status == ENVIRONMENT || counts.ran() == 0 {
            return ENVIRONMENT;
        }
        let is_updated = self.baseline.is_some() && self.update && counts.errored == 0;
        if counts.bad() > 0 && !is_updated || (self.fail_on_skip && counts.skipped > 0) {
            return FAILURE;
        }
        status
    }

    /// What to do about failures.
    fn advice(&self, counts: &VerdictCounts) -> Option<String> {
        if counts.failed + counts.errored == 0 {
            return None;
        }
        Some(match (&self.keep, &self.report) {
            (_, Some(report)) => {
                let shown = report.display();
                format!(
                    "hint: {shown}/report.html shows how it came about; harness show --run {shown} \
                     ID does in a terminal"
                )
            }
            (None, None) => "hint: --report DIR shows how a failure came about, --keep DIR keeps \
                             its packets and logs"
                .to_owned(),
            (Some(_), None) => return None,
        })
    }

    fn compare_snapshots(&self, directory: &Path, outputs: &Outputs, report: &Report) -> u8 {
        let known: Vec<&str> = outputs
            .scenarios
            .iter()
            .map(|one| one.id.as_str())
            .collect();
        let results = &report.scenarios;
        match snapshot::compare(directory, &known, results, self.exact, self.update) {
            Ok(differences) => {
                differences.iter().for_each(show_difference);
                let mut pending = differences.iter().map(|one| one.pending.is_some());
                if pending.any(|pending| pending) {
                    FAILURE
                } else {
                    SUCCESS
                }
            }
            Err(error) => complain_of_snapshots(directory, &error),
        }
    }
}

/// What a report is made of beside its results, and where it goes.
struct Outputs {
    begun: Begun,
    scenarios: Vec<Scenario>,
    baseline: Option<Baseline>,
    directory: Option<PathBuf>,
}

impl Outputs {
    fn report(&self, mut results: Vec<ScenarioResult>, interrupted: bool) -> Report {
        report::describe(&mut results, &self.scenarios);
        let today = chrono::Utc::now().date_naive();
        known::apply(&mut results, &self.scenarios, self.baseline.as_ref(), today);
        report::assemble(
            results,
            lab::pinned_sysctls(),
            self.begun.ended(interrupted),
        )
    }

    /// Writes the report, where that was asked for; the exit status.
    fn write(&self, report: &Report) -> u8 {
        match &self.directory {
            Some(directory) => match report::write(report, directory) {
                Ok(()) => SUCCESS,
                Err(error) => complain_of_report(directory, &error),
            },
            None => SUCCESS,
        }
    }
}

/// Annotations, and the summary of the step; the exit status.
fn tell_github(report: &Report) -> u8 {
    for line in github::annotations(report, github::workspace().as_deref()) {
        output::say(&line);
    }
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").map(PathBuf::from) else {
        return SUCCESS;
    };
    let append = || {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)?;
        file.write_all(github::summary(report).as_bytes())
    };
    match append() {
        Ok(()) => SUCCESS,
        Err(error) => {
            let shown = path.display();
            complain(
                format!("{shown}: cannot write the step's summary: {error}"),
                "",
            );
            ENVIRONMENT
        }
    }
}

fn complain_of_snapshots(directory: &Path, error: &io::Error) -> u8 {
    complain(
        format!("{}: cannot compare snapshots: {error}", directory.display()),
        "--snapshot takes a directory that can be written to",
    );
    ENVIRONMENT
}

fn complain_of_report(directory: &Path, error: &io::Error) -> u8 {
    complain(
        format!("{}: cannot write the report: {error}", directory.display()),
        "--report takes a directory that can be written to",
    );
    ENVIRONMENT
}

fn show_difference(difference: &SnapshotDifference) {
    match &difference.pending {
        Some(pending) => output::say(&format!(
            "{} {}; what was seen is in {}; --update takes it",
            difference.path.display(),
            if difference.path.exists() {
                "differs"
            } else {
                "is missing"
            },
            pending.display()
        )),
        None => output::say(&format!("{} updated", difference.path.display())),
    }
    for line in &difference.lines {
        output::say(&format!("    {line}"));
    }
}
