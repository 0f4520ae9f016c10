//! `harness reproduce`.

use std::path::{Path, PathBuf};

use advisor_facts::Facts;
use clap::Args;

use super::host::{Format, Host, OnKernel, show};
use super::{ENVIRONMENT, FAILURE, SUCCESS, USAGE, complain, complain_of_run, print, print_json};
use crate::output;
use crate::prove::check::check;
use crate::report::terminal::{self, Lines, Terminal};
use crate::reproduce::Reproduction;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 the suite is written, or the guest is as the host; 1 it is not;
2 bad usage, or facts that can't be read or reproduced; 3 the suite can't be
written, or no guest can be had.")]
pub(super) struct Reproduce {
    #[command(flatten)]
    host: Host,
    /// Write the suite to this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Run it, and say whether the guest is as the host
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    on: OnKernel,
    /// How the answer of --check is printed
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "check")]
    format: Format,
}

impl Reproduce {
    /// Writes the suite, and gives the exit status.
    pub(super) fn run(&self) -> u8 {
        let facts = match self.host.read() {
            Ok(facts) => facts,
            Err(status) => return status,
        };
        let release = &facts.kernel;
        let reproduction = match Reproduction::of(&facts, &facts, release) {
            Ok(reproduction) => reproduction,
            Err(error) => {
                let path = self.host.place().display();
                complain(
                    format!("{path}: {error}"),
                    "as root: advisor capture > host.json",
                );
                return USAGE;
            }
        };
        let text = reproduction.suite();
        let written = match &self.output {
            Some(path) => write(path, &text),
            None if self.check => SUCCESS,
            None => print(&text),
        };
        if self.check && written == SUCCESS {
            return self.check(&facts);
        }
        written
    }

    /// Runs it, and says whether the guest is as the host.
    fn check(&self, facts: &Facts) -> u8 {
        let kernel = match self.on.choose(&facts.kernel) {
            Ok(kernel) => kernel,
            Err(error) => return complain_of_run(&error),
        };
        let terminal = Terminal::new(1, false, Lines::Error);
        let checked = check(facts, &kernel, &|progress| show(&terminal, &progress));
        terminal.finish();
        match checked {
            Ok(checked) => {
                match self.format {
                    Format::Text => output::print(&checked.text(terminal::width())),
                    Format::Json => print_json(&checked),
                }
                if checked.is_alike() { SUCCESS } else { FAILURE }
            }
            Err(error) => self.host.complain_of(&error),
        }
    }
}

/// Writes the suite.
fn write(path: &Path, text: &str) -> u8 {
    if let Err(error) = output::write(path, text.as_bytes()) {
        let message = format!("{}: cannot write the suite: {error}", path.display());
        complain(message, "--output takes a file that can be written to");
        return ENVIRONMENT;
    }
    print(&format!(
        "{path} is written. Read it with `harness show {path}`, run it with\n\
         `harness run --long {path}`.\n",
        path = path.display()
    ))
}
