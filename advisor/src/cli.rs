//! The words of the command line, and what they do.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::evidence::{self, ReportError};
use crate::facts::{FactError, Facts, Look, Looking, Root};
use crate::render::{json, text};
use crate::rules::{self, NamedReport};

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
    2  wrong usage, or a report that cannot be read\n  \
    3  the host cannot be read")]
struct Recommend {
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// A report of `harness run` as evidence, the file or its directory; may be
    /// given several times
    #[arg(long = "report", value_name = "PATH")]
    reports: Vec<PathBuf>,
    /// Look twice, this far apart (30s, 5m, 500ms): rules about what counters do
    /// need it
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "root")]
    over: Option<Duration>,
    /// Read a recorded host, a directory with copies of its files of /proc, in
    /// place of this one
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(flatten)]
    looking: LookingArgs,
}

/// How the host is looked at.
#[derive(Clone, Copy, Debug, clap::Args)]
struct LookingArgs {
    /// Read the sockets in /proc/net/tcp: asking by sock_diag can make the
    /// kernel load its tcp_diag module. Memory and tcp_info are not seen then
    #[arg(long, conflicts_with = "root")]
    no_sock_diag: bool,
    /// Also read socket options that only a process's own descriptor tells
    /// (SO_REUSEADDR, SO_LINGER, SO_KEEPALIVE, TCP_USER_TIMEOUT, SO_SNDBUF), of
    /// listeners and of each process's largest connections. It takes a
    /// duplicate of the descriptor (pidfd_getfd) and closes it at once; for that
    /// moment a socket stays alive even if its process ends. Needs root
    #[arg(long, conflicts_with = "root")]
    inspect_options: bool,
}

impl From<LookingArgs> for Looking {
    fn from(args: LookingArgs) -> Self {
        Self {
            sock_diag: !args.no_sock_diag,
            inspect_options: args.inspect_options,
        }
    }
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
            Self::Output(_) => "see that there is room where the output goes",
        }
    }

    /// The exit status that it ends the program with.
    pub fn status(&self) -> u8 {
        match self {
            Self::Report(_) => 2,
            Self::Host(_) | Self::Output(_) => 3,
        }
    }
}

impl Cli {
    /// Does what was asked and gives the exit status.
    pub fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            Command::Recommend(recommend) => recommend.run(),
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
        let root = self.root.map_or(Root::Live, Root::Recorded);
        let looking = self.looking.into();
        let earlier = match self.over {
            Some(window) => {
                let earlier = Look::read_with(&root, looking, &mut Vec::new())?;
                thread::sleep(window);
                Some(earlier)
            }
            None => None,
        };
        let mut facts = Facts::read_with(&root, looking)?;
        if let Some(earlier) = earlier {
            facts.set_earlier(earlier);
        }
        let advice = rules::advise(&facts, &reports);
        let mut out = anstream::stdout().lock();
        let written = match self.format {
            Format::Text => text::write(&mut out, &advice, &facts, textwrap::termwidth()),
            Format::Json => json::write(&mut out, &advice),
        }
        .and_then(|()| io::Write::flush(&mut out));
        match written {
            // Whoever reads has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result.map_err(Error::Output)?,
        }
        Ok(if advice.recommendations.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        })
    }
}

/// A length of time with its unit. A look every few milliseconds tells
/// nothing, and a window of more than a day is a mistake.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("a number with its unit: 500ms, 30s, 5m".to_owned()),
    };
    let window = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .ok_or_else(|| "a whole number with its unit: 500ms, 30s, 5m".to_owned())?;
    if (SHORTEST..=LONGEST).contains(&window) {
        Ok(window)
    } else {
        Err("from 100ms to 1440m".to_owned())
    }
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_a_unit_and_bounds() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "0s",
            "30 s",
            "2000m",
            "99999999999999999999s",
            "1é",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
