//! The command line. Each command is one file: its arguments, what it prints and
//! what its exit status means. What it does is done by the other rooms.

mod attempt;
mod bisect;
mod calibrate;
mod compare;
mod doctor;
mod host;
mod interrupt;
mod kernels;
mod last_run;
mod links;
mod list;
mod new;
mod prove;
mod reproduce;
mod restore;
mod run;
mod schema;
mod selection;
mod shard;
mod show;

use std::io;
use std::process::ExitCode;

use advisor_report::escape::inert;
use clap::{CommandFactory, Parser, Subcommand};
use serde::Serialize;

use crate::actor;
use crate::host_settings;
use crate::kernels::KernelError;
use crate::output;
use crate::privilege;
use crate::runner;

/// All that ran is as expected, and something ran.
const SUCCESS: u8 = 0;
/// An expectation failed, a scenario errored, a snapshot differs, or one was
/// skipped under `--fail-on-skip`.
const FAILURE: u8 = 1;
/// Bad usage, or a bad suite.
const USAGE: u8 = 2;
/// This machine can't do it.
const ENVIRONMENT: u8 = 3;

/// Replays documented TCP failures on a real kernel.
#[derive(Debug, Parser)]
#[command(name = "harness", version, max_term_width = 80, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0 all that ran passed and something ran; 1 an expectation failed, a
scenario errored, a snapshot differs, or one was skipped under --fail-on-skip;
2 bad usage or a bad suite; 3 this machine can't run it; 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios and report what was seen and what was expected
    Run(run::Run),
    /// Check suites and list their scenarios; runs nothing
    List(list::List),
    /// Describe a scenario: hosts, links, steps, what is expected and why
    Show(show::Show),
    /// Report what this machine can and cannot run, and what to do about it
    Doctor,
    /// Put back sysctls that an interrupted --touch-host run left changed
    Restore,
    /// Compare the relay with netem in a guest: datagrams and scenarios over each
    Links(links::Links),
    /// Write a suite that puts a guest into a host's condition, by its facts
    Reproduce(reproduce::Reproduce),
    /// Try the advice for a host on a reproduction of it: what bystanders see before
    /// and after each change
    Prove(prove::Prove),
    /// Try settings on a reproduction of a host: what gets better, and what worse
    Try(attempt::Try),
    /// Say what differs between two reports, or between two kernels run now
    Compare(compare::Compare),
    /// Find the release of a kernel from which on a scenario sees something else
    Bisect(bisect::Bisect),
    /// List, fetch, import or remove the kernels that suites can run on
    Kernels(kernels::Kernels),
    /// Write a suite to start from
    New {
        #[command(subcommand)]
        what: new::New,
    },
    /// Measure on a kernel the values that the advisor's formulas need, and write a
    /// calibration; takes minutes
    Calibrate(calibrate::Calibrate),
    /// Print a JSON Schema, for editors and other programs
    Schema {
        /// The format that it describes
        format: schema::Document,
    },
    /// An actor's process; started by `run`
    #[command(hide = true)]
    Actor {
        /// Its name in the suite, for lists of processes
        name: Option<String>,
    },
    /// Runs the host's jobs in a guest; started by its init
    #[command(hide = true)]
    Guest,
    /// Puts the machine's sysctls back; started by `run --touch-host`
    #[command(hide = true)]
    Watcher,
}

impl Command {
    /// Whether it starts this program again, here or in a guest.
    const fn needs_proc(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Links(_)
                | Self::Prove(_)
                | Self::Try(_)
                | Self::Bisect(_)
                | Self::Kernels(_)
                | Self::Calibrate(_)
                | Self::Restore
        )
    }
}

/// The command line, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // Clap prints usage errors itself, with exit status 2.
    let cli = Cli::parse();
    if cli.command.needs_proc() && !privilege::has_proc() {
        let hint = format!(
            "{}; without it harness list, show, schema, new and compare work",
            privilege::PROC_HINT
        );
        let what = "/proc is not mounted: no scenario can be run, neither here nor in a guest";
        complain(what, &hint);
        return ExitCode::from(ENVIRONMENT);
    }
    let status = match cli.command {
        Command::Run(run) => run.run(),
        Command::List(list) => list.run(),
        Command::Show(show) => show.run(),
        Command::Doctor => doctor::run(),
        Command::Restore => restore::run(),
        Command::New { what } => what.run(),
        Command::Schema { format } => schema::run(format),
        Command::Links(links) => links.run().unwrap_or_else(|status| status),
        Command::Compare(compare) => compare.run().unwrap_or_else(|status| status),
        Command::Bisect(bisect) => bisect.run().unwrap_or_else(|status| status),
        Command::Reproduce(reproduce) => reproduce.run(),
        Command::Prove(prove) => prove.run(),
        Command::Try(attempt) => attempt.run(),
        Command::Kernels(kernels) => kernels.run(),
        Command::Calibrate(calibrate) => calibrate.run().unwrap_or_else(|status| status),
        Command::Guest => serve("guest", runner::guests::serve()),
        Command::Actor { .. } => serve("actor", actor::interpreter::run()),
        Command::Watcher => serve("watcher", host_settings::watch()),
    };
    ExitCode::from(status)
}

/// Prints an error and what to do about it.
fn complain(message: impl std::fmt::Display, hint: &str) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    // No colour in it is ours.
    let inert = |text: &str| text.split('\n').map(inert).collect::<Vec<_>>().join("\n");
    output::say_error(&format!(
        "{style}error{style:#}: {}",
        inert(&message.to_string())
    ));
    if !hint.is_empty() {
        output::say_error(&format!("hint: {}", inert(hint)));
    }
}

/// Prints why a kernel can't be used; the exit status.
fn complain_of_kernel(error: &KernelError) -> u8 {
    complain(error, error.hint());
    if error.is_usage { USAGE } else { ENVIRONMENT }
}

/// Prints why nothing ran; the exit status.
fn complain_of_run(error: &runner::Error) -> u8 {
    complain(error, error.hint());
    if error.is_usage() { USAGE } else { ENVIRONMENT }
}

fn serve(name: &str, result: io::Result<()>) -> u8 {
    match result {
        Ok(()) => SUCCESS,
        Err(error) => {
            complain(format!("{name}: {error}"), "");
            FAILURE
        }
    }
}

/// Prints an answer for programs.
fn print_json(answer: &impl Serialize) {
    let json = serde_json::to_string_pretty(answer).unwrap_or_default();
    output::print_as_it_is(&(json + "\n"));
}

/// Prints to standard output.
fn print(text: &str) -> u8 {
    output::print(text);
    SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
