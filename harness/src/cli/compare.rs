//! `harness compare`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use advisor_report::report;

use super::selection::{Selection, load};
use super::{FAILURE, SUCCESS, USAGE, complain, complain_of_run, print_json};
use crate::compare::{Comparison, FEWEST_RUNS, Side, run};
use crate::output;
use crate::report::terminal::{Lines, Terminal};
use crate::runner::{Options, Progress};

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// Two reports of `harness run --report DIR`; with --kernel, suite files or
    /// directories of them
    #[command(flatten)]
    selection: Selection,
    /// Run on this kernel now; given twice
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Modules for a vmlinuz that is given by its path
    #[arg(long, value_name = "DIR", requires = "kernels")]
    modules: Option<PathBuf>,
    /// Runs of each scenario on each kernel
    #[arg(long, value_name = "N", default_value_t = 10, requires = "kernels",
          value_parser = clap::value_parser!(u64).range(5..=10_000))]
    runs: u64,
    /// Also run scenarios that wait for minutes
    #[arg(long, requires = "kernels")]
    long: bool,
    /// How to write the comparison
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For a ticket or a wiki
    Markdown,
    /// A page with a run of each side of what differs, beside each other
    Html,
    /// For programs
    Json,
}

impl Compare {
    /// Compares two reports, or two kernels; the exit status.
    pub(super) fn run(&self) -> Result<u8, u8> {
        let comparison = match self.kernels.as_slice() {
            [] => self.compare_reports()?,
            [_, _] => self.compare_kernels()?,
            _ => {
                complain(
                    "--kernel is given twice: two kernels are compared",
                    "harness compare --kernel debian-6.1 --kernel debian-6.12; auto can be \
                     either",
                );
                return Err(USAGE);
            }
        };
        match self.format {
            Format::Text => output::print(&comparison.text()),
            Format::Markdown => output::print(&comparison.markdown()),
            Format::Html => output::print_as_it_is(&comparison.html()),
            Format::Json => print_json(&comparison),
        }
        Ok(if comparison.is_same() && comparison.compared > 0 {
            SUCCESS
        } else {
            FAILURE
        })
    }

    fn compare_kernels(&self) -> Result<Comparison, u8> {
        let scenarios = self.selection.filter(&load(&self.selection.paths)?)?;
        let options = Options {
            runs: Some(self.runs),
            long: self.long,
            ..Options::default()
        };
        let terminal = Terminal::new(scenarios.len() * 2, false, Lines::Error);
        let compared = run::compare(
            &scenarios,
            &self.kernels,
            self.modules.as_deref(),
            &options,
            &|progress: Progress| terminal.show(&progress),
        );
        terminal.finish();
        compared.map_err(|error| complain_of_run(&error))
    }

    fn compare_reports(&self) -> Result<Comparison, u8> {
        let [first, second] = self.selection.paths.as_slice() else {
            complain(
                "two reports are compared, or two kernels",
                "harness compare BEFORE AFTER, each a directory of `harness run --report`; or \
                 harness compare --kernel A --kernel B [SUITE ...]",
            );
            return Err(USAGE);
        };
        let [first, second] = [read(first)?, read(second)?];
        Ok(Comparison::of(&first, &second))
    }
}

/// The side of a report.
fn read(path: &Path) -> Result<Side, u8> {
    let refuse = |message: String, hint: &str| {
        complain(message, hint);
        USAGE
    };
    let report = report::read(path).map_err(|error| refuse(error.to_string(), error.hint()))?;
    let results = report.scenarios;
    let twice = results.iter().enumerate().find(|(index, result)| {
        let others = &results[..*index];
        others.iter().any(|other| other.id == result.id)
    });
    if let Some((_, result)) = twice {
        return Err(refuse(
            format!(
                "{}: cannot compare it: {} has several results",
                path.display(),
                result.id
            ),
            "a side is one kernel over one kind of link: run each with --report of its own",
        ));
    }
    if results.iter().all(|result| result.runs.is_empty()) {
        return Err(refuse(
            format!("{}: cannot compare it: it has no runs", path.display()),
            &format!("harness run --runs {FEWEST_RUNS} --report DIR writes a report with runs"),
        ));
    }
    let mut releases: Vec<&str> = results
        .iter()
        .map(|one| one.kernel.release.as_str())
        .collect();
    releases.sort_unstable();
    releases.dedup();
    let name = format!("{} ({})", path.display(), releases.join(", "));
    Ok(Side { name, results })
}
