//! `harness calibrate`.

use std::io::{self, Write};
use std::path::PathBuf;

use advisor_report::calibration::Calibration;
use advisor_report::{Scenario as ScenarioResult, Verdict};
use clap::Args;

use super::{
    ENVIRONMENT, FAILURE, LinkChoice, Run, SUCCESS, Selection, USAGE, carry_out, complain,
    complain_of_kernel, load,
};
use crate::calibrate;
use crate::kernels::KernelError;
use crate::kernels::choice::Choice;
use crate::report::terminal::Lines;
use crate::runner::guests;

const OUTPUT_HINT: &str = "--output takes a directory that can be written to";

#[derive(Debug, Args)]
pub struct Calibrate {
    /// Suite files, or directories of them, with the scenarios that measure
    #[arg(default_value = "suites")]
    paths: Vec<PathBuf>,
    /// Measure on this kernel: a name from `harness kernels`, the path of a
    /// vmlinuz, or host, which takes --touch-host; given several times, on each
    #[arg(long = "kernel", value_name = "KERNEL", required = true)]
    kernels: Vec<String>,
    /// The modules of a vmlinuz that is given by its path, where they are not
    /// beside it; a directory such as /lib/modules/RELEASE
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Write linux-LINE.json for each kernel to this directory; without it, the
    /// calibration of one kernel goes to standard output
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Scenarios side by side [default: four for each CPU, as most of them wait]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Set sysctls of this machine where a scenario does, one at a time; the
    /// values are put back
    #[arg(long)]
    touch_host: bool,
}

impl Calibrate {
    /// Measures on each kernel, writes nothing unless all of it was measured, and
    /// gives the exit status.
    pub fn run(&self) -> u8 {
        match self.check() {
            Ok(()) => self.measure(),
            Err(error) => complain_of_kernel(&error),
        }
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

    fn measure(&self) -> u8 {
        let run = Run {
            selection: Selection {
                paths: self.paths.clone(),
                filters: Vec::new(),
                full: true,
            },
            report: None,
            snapshot: None,
            update: false,
            runs: None,
            jobs: Some(self.jobs.unwrap_or_else(guests::most_waiting)),
            link: LinkChoice::Auto,
            kernels: self.kernels.clone(),
            modules: self.modules.clone(),
            touch_host: self.touch_host,
            long: true,
            keep: None,
            fail_on_skip: false,
            verbose: false,
            lines: Lines::Error,
        };
        let all = match load(&self.paths) {
            Ok(all) => all,
            Err(status) => return status,
        };
        if let Some(directory) = &self.output
            && let Err(error) = crate::output::check(directory)
        {
            let path = directory.display();
            complain(
                format!("{path}: cannot write calibrations: {error}"),
                OUTPUT_HINT,
            );
            return ENVIRONMENT;
        }
        let mut chosen = Vec::new();
        for id in calibrate::ids() {
            let Some(scenario) = all.iter().find(|scenario| scenario.id == id) else {
                complain(
                    format!("no scenario {id:?}, which measures"),
                    "name the directory of Lastbyte's own suites",
                );
                return USAGE;
            };
            chosen.push(scenario.clone());
        }
        let mut results = match carry_out(&run, &chosen) {
            Ok((results, SUCCESS)) => results,
            Ok((_, status)) | Err(status) => return status,
        };
        // What could not be observed says nothing of the kernel, but of a busy
        // machine: for its sake the rest need not be measured again.
        let errored = |result: &ScenarioResult| result.verdict == Verdict::Errored;
        chosen.retain(|scenario| {
            let mut of_it = results.iter().filter(|result| result.id == scenario.id);
            of_it.any(errored)
        });
        if !chosen.is_empty() {
            anstream::eprintln!("once more, as they could not be observed: {}", chosen.len());
            let again = match carry_out(&run, &chosen) {
                Ok((again, SUCCESS)) => again,
                Ok((_, status)) | Err(status) => return status,
            };
            for result in results.iter_mut().filter(|result| errored(result)) {
                let same = |other: &&ScenarioResult| {
                    other.id == result.id && other.kernel == result.kernel
                };
                if let Some(other) = again.iter().find(same) {
                    *result = other.clone();
                }
            }
        }
        self.write(results)
    }

    /// Writes a calibration for each kernel that gave results; the exit status.
    fn write(&self, results: Vec<ScenarioResult>) -> u8 {
        let mut kernels: Vec<(String, Vec<ScenarioResult>)> = Vec::new();
        for result in results {
            let release = &result.kernel.release;
            match kernels.iter_mut().find(|(known, _)| known == release) {
                Some((_, results)) => results.push(result),
                None => kernels.push((release.clone(), vec![result])),
            }
        }
        let mut calibrations: Vec<Calibration> = Vec::new();
        let mut status = SUCCESS;
        for (release, results) in kernels {
            match calibrate::calibration(&results, calibrate::page_bytes()) {
                Ok(calibration)
                    if calibrations
                        .iter()
                        .any(|known| known.line == calibration.line) =>
                {
                    complain(
                        format!("Linux {release}: its line has a calibration already"),
                        "one kernel of each line: their file is the same",
                    );
                    return USAGE;
                }
                Ok(calibration) => calibrations.push(calibration),
                Err(unmeasured) => {
                    for one in unmeasured {
                        complain(format!("Linux {release} is not calibrated: {one}"), "");
                    }
                    status = FAILURE;
                }
            }
        }
        if status != SUCCESS {
            return status;
        }
        for calibration in &calibrations {
            let written = calibrate::text(calibration)
                .map_err(io::Error::from)
                .and_then(|text| match &self.output {
                    Some(directory) => {
                        let path = directory.join(format!("linux-{}.json", calibration.line));
                        crate::output::write(&path, text.as_bytes())?;
                        anstream::println!("{} written", path.display());
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
