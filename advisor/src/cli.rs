//! The words of the command line, and what they do.

mod capture;
mod host;
mod sockets;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use advisor_facts::file::FactsFileError;
use advisor_facts::release::Release;
use advisor_facts::{FactError, Facts};
use advisor_report::document::DocumentError;
use advisor_report::proof;
use clap::{Parser, Subcommand, ValueEnum};

use crate::lint::{self, LintError};
use crate::plan;
use crate::render::{self, explain, json, markdown, sysctl, text};
use crate::rules::NamedReport;

use capture::Capture;
use host::{HostArguments, LookArguments};
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
    Lint(Lint),
    Explain(Explain),
    Rules(Rules),
}

/// Look at this host and recommend settings and changes of programs
///
/// Reads sysctls, the files that set them, counters and the TCP sockets of every
/// network namespace, and writes nothing but its answer. The answer is one plan:
/// one value for a setting, and whoever applies all of it and asks again gets no
/// further one. Each recommendation has its evidence, how sure it is, its cost
/// and its risk, how to apply it, how to take it back, and how to see that it
/// helped.
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
    /// Say what each rule saw that found nothing
    #[arg(long, short)]
    verbose: bool,
    /// A report of `harness run` as evidence, the file or its directory; may be
    /// given several times
    #[arg(long = "report", value_name = "PATH")]
    reports: Vec<PathBuf>,
    /// A proof.json of `harness prove`: says beside each recommendation whether it
    /// was tried, on which kernel, and with which numbers
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    #[command(flatten)]
    scope: LookArguments,
    #[command(flatten)]
    host: HostArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people, in 80 columns or as the terminal is wide
    Text,
    /// For programs
    Json,
    /// For a ticket or a wiki
    Markdown,
    /// A file for /etc/sysctl.d, the reason above each setting
    Sysctl,
}

/// Judge files of settings without the live state of a host
///
/// Says of each line that is wrong which rule it breaks, as FILE:LINE, for the
/// checks of a repository of configurations: values that are wrong on any host,
/// settings that the kernel does not have, lines that another one overrules with
/// systemd-sysctl, with `sysctl --system` or with both, and lines that neither
/// understands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status:\n  \
    0  nothing is wrong\n  \
    1  something is\n  \
    2  wrong usage, or a file that cannot be read")]
struct Lint {
    /// Files, directories of .conf files (a sysctl.d), or directories that stand
    /// for the `/` of a host; those of this host where none is given
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// The kernel that they are for, 6.12: settings that it does not have are named
    #[arg(long, value_name = "RELEASE", value_parser = kernel)]
    kernel: Option<String>,
    /// The RAM of the hosts that they are for, 16GiB: what is larger is named
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "0", hide_default_value = true)]
    ram: u64,
    /// The page size of the hosts that they are for
    #[arg(long, value_name = "SIZE", value_parser = page_size, default_value = "4KiB")]
    page_size: u64,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
}

/// Say all about a rule
///
/// What it looks for and at, what it recommends, what that costs, and where each
/// fact comes from.
#[derive(Debug, clap::Args)]
struct Explain {
    /// The code or the name of a rule: LB101, orphan-limit-near
    #[arg(value_name = "CODE")]
    rule: String,
}

/// List the rules, each with the scenario that replays its failure
#[derive(Debug, clap::Args)]
struct Rules {
    /// How to write the list; json has the documentation as well
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ListFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A report or a proof could not be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The proof is of another host.
    #[error(transparent)]
    Proof(#[from] proof::OtherHost),
    /// A file of settings could not be read.
    #[error(transparent)]
    Lint(#[from] LintError),
    /// There is no such rule.
    #[error("there is no rule {0:?}")]
    NoRule(String),
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
            Self::Document(error) => error.hint(),
            Self::Proof(_) => proof::OtherHost::HINT,
            Self::Lint(_) => "it takes files, directories of .conf files, or the / of a host",
            Self::NoRule(_) => "`advisor rules` lists their codes and names",
            Self::Host(error) => error.hint(),
            Self::Facts(error) => error.hint(),
            Self::Output(_) => "see that there is room where the output goes",
        }
    }

    /// The exit status that it ends the program with.
    pub fn status(&self) -> u8 {
        match self {
            Self::Document(_)
            | Self::Proof(_)
            | Self::Facts(_)
            | Self::Lint(_)
            | Self::NoRule(_) => 2,
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
            Command::Lint(lint) => lint.run(),
            Command::Explain(explain) => explain.run(),
            Command::Rules(rules) => rules.run(),
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
                let report = advisor_report::read(&path)?;
                Ok(NamedReport { path, report })
            })
            .collect::<Result<Vec<_>, DocumentError>>()?;
        let proof = self.proof.as_deref().map(proof::read).transpose()?;
        let facts = self.host.facts(&self.scope)?;
        let mut advice = plan::advise(&facts, &reports);
        if let Some(proof) = proof {
            advice.prove(&proof)?;
        }
        print(|out| match self.format {
            Format::Text => text::write(out, &advice, &facts, textwrap::termwidth(), self.verbose),
            Format::Json => json::write(out, &advice),
            Format::Markdown => markdown::write(out, &advice, &facts),
            Format::Sysctl => sysctl::write(out, &advice, &facts),
        })?;
        Ok(if advice.recommendations.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        })
    }
}

impl Lint {
    fn run(self) -> Result<ExitCode, Error> {
        let base = Facts::without_host(
            self.kernel.as_deref().unwrap_or_default(),
            self.ram,
            self.page_size,
        );
        let paths = if self.paths.is_empty() {
            vec![PathBuf::from("/")]
        } else {
            self.paths
        };
        let sets = lint::read(&paths)?;
        let problems: Vec<_> = sets.iter().flat_map(|set| set.lint(&base)).collect();
        let files = sets.iter().map(lint::FileSet::len).sum();
        print(|out| match self.format {
            ListFormat::Text => render::lint::write(out, &problems, files, textwrap::termwidth()),
            ListFormat::Json => json::write(out, &problems),
        })?;
        Ok(if problems.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        })
    }
}

impl Explain {
    fn run(self) -> Result<ExitCode, Error> {
        let rule = explain::find(&self.rule).ok_or(Error::NoRule(self.rule))?;
        print(|out| explain::write(out, rule, textwrap::termwidth()))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Rules {
    fn run(self) -> Result<ExitCode, Error> {
        print(|out| match self.format {
            ListFormat::Text => explain::write_all(out),
            ListFormat::Json => json::write(out, &explain::all()),
        })?;
        Ok(ExitCode::SUCCESS)
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

/// A kernel release: two numbers at least.
fn kernel(text: &str) -> Result<String, String> {
    match Release::of_kernel(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("two numbers at least: 6.12".to_owned()),
    }
}

/// An amount of memory with its unit, in bytes.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" if text == "0" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("a whole number with its unit: 512MiB, 16GiB".to_owned()),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "a whole number with its unit: 512MiB, 16GiB".to_owned())
}

/// The size of a page, in bytes.
fn page_size(text: &str) -> Result<u64, String> {
    match size(text) {
        Ok(bytes @ (4096 | 16384 | 65536)) => Ok(bytes),
        _ => Err("one of 4KiB, 16KiB, 64KiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_and_a_page_is_one_of_three() {
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("0"), Ok(0));
        for text in [
            "",
            "16",
            "GiB",
            "-1GiB",
            "1.5GiB",
            "16 GiB",
            "99999999TiB",
            "1é",
        ] {
            assert!(size(text).is_err(), "{text:?}");
        }
        assert_eq!(page_size("64KiB"), Ok(65_536));
        assert!(page_size("8KiB").is_err());
        assert!(kernel("6.12.3").is_ok() && kernel("six").is_err());
    }
}
