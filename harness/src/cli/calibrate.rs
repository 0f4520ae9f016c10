//! `harness calibrate`.

use std::io::{self, Write};
use std::path::PathBuf;

use advisor_report::Clock;
use advisor_report::calibration::Calibration;
use clap::Args;

use super::selection::{load, suites};
use super::{ENVIRONMENT, FAILURE, SUCCESS, USAGE, complain, complain_of_kernel, complain_of_run};
use crate::calibrate::{self, Uncalibrated};
use crate::kernels::KernelError;
use crate::kernels::choice::Choice;
use crate::output;
use crate::report::terminal::{Lines, Terminal};
use crate::runner::plan::Plan;
use crate::runner::{self, Options, Progress};

const OUTPUT_HINT: &str = "--output takes a directory that can be written to";

#[derive(Debug, Args)]
pub(super) struct Calibrate {
    /// Suite files, or directories of them, that have the scenarios that measure
    /// [default: ./suites, else the installed ones]
    #[arg(default_values_os_t = [suites()], hide_default_value = true)]
    paths: Vec<PathBuf>,
    /// Measure on this kernel: a name from `harness kernels`, the path of a
    /// vmlinuz, or host, which takes --touch-host; given several times, on each
    #[arg(long = "kernel", value_name = "KERNEL", required = true)]
    kernels: Vec<String>,
    /// Modules for a vmlinuz that is given by its path, such as
    /// /lib/modules/RELEASE [default: those beside the vmlinuz]
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Write linux-LINE.json for each kernel to this directory [default: the
    /// calibration of one kernel goes to standard output]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Scenarios at the same time [default: one guest for each CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Let scenarios set sysctls of the whole machine, one at a time; the values
    /// are put back
    #[arg(long)]
    touch_host: bool,
}

impl Calibrate {
    /// Measures on each kernel and writes nothing unless all of it was measured;
    /// the exit status.
    pub(super) fn run(&self) -> Result<u8, u8> {
        self.check().map_err(|error| complain_of_kernel(&error))?;
        let all = load(&self.paths)?;
        if let Some(directory) = &self.output {
            output::check(directory).map_err(|error| {
                let path = directory.display();
                complain(
                    format!("{path}: cannot write calibrations: {error}"),
                    OUTPUT_HINT,
                );
                ENVIRONMENT
            })?;
        }
        let chosen = calibrate::choose(&all).map_err(|id| {
            complain(
                format!("no scenario {id:?}, which measures"),
                "name the directory of Lastbyte's own suites",
            );
            USAGE
        })?;
        let on_host = self.kernels.iter().any(|kernel| kernel == "host");
        let options = Options {
            jobs: self.jobs.map(usize::from),
            clock: (!on_host).then_some(Clock::Virtual),
            touch_host: self.touch_host,
            long: true,
            // An errored scenario says nothing of the kernel.
            retry_errored: true,
            ..Options::default()
        };
        let plan = Plan::make(&chosen, &self.kernels, self.modules.as_deref(), &options)
            .map_err(|error| complain_of_run(&error))?;
        let terminal = Terminal::new(plan.jobs.len(), false, Lines::Error);
        let outcome = runner::run(&plan, &options, &|progress: Progress| {
            terminal.show(&progress);
        });
        terminal.finish();
        let outcome = outcome.map_err(|error| complain_of_run(&error))?;
        if let Some(error) = &outcome.error {
            return Err(complain_of_run(error));
        }
        let calibrations = calibrate::calibrations(outcome.results).map_err(|why| match why {
            Uncalibrated::SameLine(release) => {
                complain(
                    format!("Linux {release}: its line has a calibration already"),
                    "one kernel of each line: their file is the same",
                );
                USAGE
            }
            Uncalibrated::Unmeasured(all) => {
                for (release, one) in all {
                    complain(format!("Linux {release} is not calibrated: {one}"), "");
                }
                FAILURE
            }
        })?;
        Ok(self.write(&calibrations))
    }

    /// Whether what is asked for can be done.
    fn check(&self) -> Result<(), KernelError> {
        for name in &self.kernels {
            let refuse =
                |words: &str, hint: &str| Err(KernelError::usage(name, "calibrate", words, hint));
            match Choice::parse(name)? {
                Choice::Auto => {
                    return refuse(
                        "scenarios would be spread over two kernels",
                        "name the kernel, see `harness kernels`",
                    );
                }
                Choice::Host if !self.touch_host => {
                    return refuse(
                        "scenarios that measure set sysctls of the whole machine",
                        "--touch-host, which puts them back, or a guest: --kernel debian-6.12",
                    );
                }
                _ => {}
            }
        }
        if self.output.is_none() && self.kernels.len() > 1 {
            return Err(KernelError::usage(
                "standard output",
                "write several calibrations to it",
                "each is a file of its own",
                "--output DIR",
            ));
        }
        Ok(())
    }

    /// Writes the calibrations; the exit status.
    fn write(&self, calibrations: &[Calibration]) -> u8 {
        for calibration in calibrations {
            let written = calibrate::text(calibration)
                .map_err(io::Error::from)
                .and_then(|text| match &self.output {
                    Some(directory) => {
                        let path = directory.join(format!("linux-{}.json", calibration.line));
                        output::write(&path, text.as_bytes())?;
                        output::say(&format!("{} written", path.display()));
                        Ok(())
                    }
                    None => io::stdout().write_all(text.as_bytes()),
                });
            if let Err(error) = written {
                complain(
                    format!(
                        "Linux {}: cannot write its calibration: {error}",
                        calibration.line
                    ),
                    OUTPUT_HINT,
                );
                return ENVIRONMENT;
            }
        }
        SUCCESS
    }
}
