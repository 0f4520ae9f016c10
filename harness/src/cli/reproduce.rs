//! `harness reproduce`.

use std::path::PathBuf;

use clap::Args;

use super::host::Host;
use super::{ENVIRONMENT, USAGE, complain, print};
use crate::output;
use crate::reproduce::Reproduction;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 the suite is written; 2 bad usage, or facts that can't be read or
reproduced; 3 the suite can't be written.")]
pub(super) struct Reproduce {
    #[command(flatten)]
    host: Host,
    /// Write the suite to this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
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
        let Some(path) = &self.output else {
            return print(&text);
        };
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
}
