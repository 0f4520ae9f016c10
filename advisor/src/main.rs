//! The `advisor` program.

use std::io::Write as _;
use std::process::ExitCode;

use advisor::cli::Cli;
use advisor_report::escape::inert;
use clap::Parser;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(status) => status,
        Err(error) => {
            // Where nobody reads the error either, the exit status tells it.
            let _ = writeln!(
                anstream::stderr(),
                "error: {}\nhint: {}",
                inert(&error.to_string()),
                error.hint()
            );
            ExitCode::from(error.status())
        }
    }
}
