//! `harness run`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use advisor_report::{Clock, ScenarioResult, Verdict};

use super::selection::{Selection, load};
use super::{ENVIRONMENT, FAILURE, SUCCESS, complain, complain_of_kernel, complain_of_run};
use crate::kernels::KernelError;
use crate::lab::{self, Carrier};
use crate::output;
use crate::report::outcomes;
use crate::report::snapshot::{self, SnapshotDifference};
use crate::report::terminal::{Lines, Terminal, comparison, reasons, summary};
use crate::report::{self, VerdictCounts};
use crate::runner::plan::Plan;
use crate::runner::{self, Options, Progress};
use crate::suite::scenario::Scenario;

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(super) struct Run {
    #[command(flatten)]
    selection: Selection,
    #[arg(long, value_name = "DIR", help = report_help())]
    report: Option<PathBuf>,
    /// Compare the verdicts with the snapshots in this directory
    #[arg(long, value_name = "DIR")]
    snapshot: Option<PathBuf>,
    /// Replace the snapshots by the verdicts seen
    #[arg(long, requires = "snapshot")]
    update: bool,
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
    /// in this directory; always:DIR keeps those of every run, always alone in ./kept
    #[arg(long, value_name = "DIR")]
    keep: Option<Keep>,
    /// Exit with 1 if a scenario was skipped
    #[arg(long)]
    fail_on_skip: bool,
    /// Show what was seen of every expectation, not only of those not held
    #[arg(long, short)]
    verbose: bool,
}

/// What `--keep` names.
#[derive(Clone, Debug)]
struct Keep {
    directory: PathBuf,
    /// Whether runs that are as expected are kept, too.
    always: bool,
}

/// `DIR`, `always:DIR` or `always`.
impl From<OsString> for Keep {
    fn from(text: OsString) -> Self {
        let always = text.to_str().and_then(|text| match text {
            "always" => Some("kept"),
            text => text.strip_prefix("always:").filter(|rest| !rest.is_empty()),
        });
        Self {
            directory: always.map_or_else(|| PathBuf::from(&text), PathBuf::from),
            always: always.is_some(),
        }
    }
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
        let all = load(&self.selection.paths)?;
        let chosen = self.selection.filter(&all)?;
        let is_other = |kernel: &String| *kernel != self.kernels[0];
        if self.snapshot.is_some() && self.kernels.iter().any(is_other) {
            return Err(complain_of_kernel(&KernelError::usage(
                "--snapshot",
                "compare with it",
                "several kernels were asked for",
                "compare one kernel's verdicts at a time",
            )));
        }
        let options = Options {
            carrier: self.link.into(),
            clock: self.clock.map(Clock::from),
            seed: self.seed.or(self.explore.map(|_| 0)),
            runs: self.runs.or(self.explore.map(|_| 1)),
            first_run: 0,
            long: self.long,
            touch_host: self.touch_host,
            keep: self.keep.as_ref().map(|keep| keep.directory.clone()),
            keep_always: self.keep.as_ref().is_some_and(|keep| keep.always),
            jobs: self.jobs.map(usize::from),
            retry_errored: false,
        };
        let mut plan = Plan::make(&chosen, &self.kernels, self.modules.as_deref(), &options)
            .map_err(|error| complain_of_run(&error))?;
        if let Some(seeds) = self.explore {
            plan.explore(seeds);
        }
        self.check_outputs()?;
        let terminal = Terminal::new(plan.jobs.len(), self.verbose, Lines::Out);
        let outcome = runner::run(&plan, &options, &|progress: Progress| match progress {
            // What counts is what all seeds saw.
            Progress::Ended(_) if self.explore.is_some() => terminal.advance(),
            progress => terminal.show(&progress),
        });
        terminal.finish();
        let outcome = outcome.map_err(|error| complain_of_run(&error))?;
        let status = outcome.error.as_ref().map_or(SUCCESS, complain_of_run);
        if outcome.results.is_empty() {
            return Ok(status);
        }
        Ok(status.max(self.conclude(&all, outcome.results)))
    }

    /// Whether the outputs can be written, before the work.
    fn check_outputs(&self) -> Result<(), u8> {
        if let Some(directory) = &self.report {
            output::check(directory).map_err(|error| complain_of_report(directory, &error))?;
        }
        if let Some(directory) = self.snapshot.as_ref().filter(|_| self.update) {
            output::check(directory).map_err(|error| complain_of_snapshots(directory, &error))?;
        }
        Ok(())
    }

    /// Writes what was asked for, prints the answer and says how it all came out.
    fn conclude(&self, all: &[Scenario], results: Vec<ScenarioResult>) -> u8 {
        let report = report::assemble(results, lab::pinned_sysctls());
        let mut status = SUCCESS;
        if let Some(directory) = &self.report
            && let Err(error) = report::write(&report, directory)
        {
            status = complain_of_report(directory, &error);
        }
        if let Some(directory) = &self.snapshot {
            let known: Vec<&str> = all.iter().map(|scenario| scenario.id.as_str()).collect();
            match snapshot::compare(
                directory,
                &known,
                &report.scenarios,
                self.exact,
                self.update,
            ) {
                Ok(differences) => {
                    if differences
                        .iter()
                        .any(|difference| difference.pending.is_some())
                    {
                        status = status.max(FAILURE);
                    }
                    differences.iter().for_each(show_difference);
                }
                Err(error) => status = complain_of_snapshots(directory, &error),
            }
        }
        if self.explore.is_some() {
            anstream::print!("{}", outcomes::text(&report.scenarios));
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
            anstream::println!("\n{comparison}");
        }
        if let Some(reasons) = reasons(&report.scenarios).filter(|_| !self.verbose) {
            anstream::println!("{reasons}");
        }
        anstream::println!("{}", summary(&report.scenarios));
        let counts = VerdictCounts::of(&report.scenarios);
        if status == ENVIRONMENT || counts.passed + counts.failed + counts.errored == 0 {
            return ENVIRONMENT;
        }
        if counts.failed + counts.errored > 0 || (self.fail_on_skip && counts.skipped > 0) {
            return FAILURE;
        }
        status
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
        Some(pending) => anstream::println!(
            "{} differs; what was seen is in {} (cargo insta review, or --update)",
            difference.path.display(),
            pending.display()
        ),
        None => anstream::println!("{} updated", difference.path.display()),
    }
    for line in &difference.lines {
        anstream::println!("    {line}");
    }
}
