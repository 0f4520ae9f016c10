//! `advisor sockets`: who holds the memory.

use std::process::ExitCode;

use super::host::HostArguments;
use super::{Error, ListFormat, print};
use crate::render;
use crate::sockets::{By, Question};

/// Say who holds the memory of TCP sockets, and how their peers are
///
/// Looks at the sockets of every network namespace. For each it says in which
/// condition the peer is and by what that is told: dead (it answers neither data
/// nor probes), zero window (it answers and does not read), unread (it has sent
/// data that the program here does not read), closed by the peer (CLOSE_WAIT),
/// half-closed, slow, idle, healthy. Sockets that are alike stand together.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status:\n  \
    0  it is said\n  \
    2  wrong usage, or facts that cannot be read\n  \
    3  the host cannot be read")]
pub(super) struct Sockets {
    /// What to put together
    #[arg(long, value_enum, default_value_t = By::Memory)]
    by: By,
    /// So many rows, of those that hold most
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    top: u16,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
    /// Also write the command lines of processes: these may carry passwords
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    host: HostArguments,
}

impl Sockets {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let question = Question {
            by: self.by,
            top: self.top.into(),
        };
        let mut survey = match self.host.given() {
            Some(facts) => question.ask_facts(&facts?),
            None => question.ask(&self.host.place(), self.host.looking())?,
        };
        if !self.verbose {
            survey.leave_out_commands();
        }
        print(|out| match self.format {
            ListFormat::Text => render::sockets::write(out, &survey, textwrap::termwidth()),
            ListFormat::Json => render::sockets::write_json(out, &survey),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
