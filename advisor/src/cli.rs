//! The words of the command line, and what they do.

mod capture;
mod host;
mod sockets;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::evidence::{self, ReportError};
use crate::facts::FactError;
use crate::facts::file::FactsFileError;
use crate::render::{json, text};
use crate::rules::{self, NamedReport};

use capture::Capture;
use host::{Host, Scope};
use sockets::Sockets;

/// Says what is wrong with a host's TCP settings and sockets, and what to do.
/// It only reads.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Recommend(Recommend),
    Sockets(Sockets),
    Capture(Capture),
}

/// Look at this host and recommend settings and changes of programs
///
/// Reads sysctls, counters and the TCP sockets of every network namespace, and
/// writes nothing but its answer. Each recommendation has its evidence, its
/// cost and its risk, how to apply it, how to take it back, and how to see that
/// it helped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status:\n  \
    0  nothing to recommend\n  \
    1  there are recommendations\n  \
    2  wrong usage, or a report or facts that cannot be read\n  \
    3  the host cannot be read")]
struct Recommend {
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// A report of `harness run` as evidence, the file or its directory; may be
    /// given several times
    #[arg(long = "report", value_name = "PATH")]
    reports: Vec<PathBuf>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    host: Host,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people, in 80 columns or as the terminal is wide
    Text,
    /// For programs
    Json,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A report could not be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The host could not be read.
    #[error(transparent)]
    Host(#[from] FactError),
    /// A file of facts could not be read.
    #[error(transparent)]
    Facts(#[from] FactsFileError),
    /// The answer could not be written.
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Report(error) => error.hint(),
            Self::Host(error) => error.hint(),
            Self::Facts(error) => error.hint(),
            Self::Output(_) => "see that there is room where the output goes",
        }
    }

    /// The exit status that it ends the program with.
    pub fn status(&self) -> u8 {
        match self {
            Self::Report(_) | Self::Facts(_) => 2,
            Self::Host(_) | Self::Output(_) => 3,
        }
    }
}

impl Cli {
    /// Does what was asked and gives the exit status.
    pub fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            Command::Recommend(recommend) => recommend.run(),
            Command::Sockets(sockets) => sockets.run(),
            Command::Capture(capture) => capture.run(),
        }
    }
}

impl Recommend {
    fn run(self) -> Result<ExitCode, Error> {
        // Reports first: a mistyped path is not to cost the wait of --over.
        let reports = self
            .reports
            .into_iter()
            .map(|path| {
                let report = evidence::read(&path)?;
                Ok(NamedReport { path, report })
            })
            .collect::<Result<Vec<_>, ReportError>>()?;
        let facts = self.host.facts(&self.scope)?;
        let advice = rules::advise(&facts, &reports);
        print(|out| match self.format {
            Format::Text => text::write(out, &advice, &facts, textwrap::termwidth()),
            Format::Json => json::write(out, &advice),
        })?;
        Ok(if advice.recommendations.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        })
    }
}

/// Writes an answer to standard output.
fn print(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Result<(), Error> {
    let mut out = io::BufWriter::new(anstream::stdout().lock());
    match write(&mut out).and_then(|()| io::Write::flush(&mut out)) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // What is left in the buffer is not to be tried again.
            let _ = out.into_parts();
            Ok(())
        }
        result => result.map_err(Error::Output),
    }
}
