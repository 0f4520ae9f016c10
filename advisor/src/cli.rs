//! The words of the command line, and what they do.

mod archive;
mod capture;
mod host;
mod lint;
mod metrics;
mod sockets;
mod watch;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use advisor_facts::FactError;
use advisor_facts::given::GivenFileError;
use advisor_facts::sosreport::SosreportError;
use advisor_report::document::DocumentError;
use advisor_report::proof;
use clap::{Parser, Subcommand, ValueEnum};

use crate::fleet::{Fleet, FleetError};
use crate::lint::LintError;
use crate::lock::{Asked, lock};
use crate::plan::{self, Recommendation};
use crate::render::fleet::{self as many, Length};
use crate::render::{brief, explain, json, markdown, sysctl, text};
use crate::rules::{self, NamedReport, Severity};

use crate::spelling::meant;
use crate::watch::WatchError;
use archive::ArchiveArguments;
use capture::Capture;
use host::{HostArguments, LookArguments};
use lint::Lint;
use metrics::MetricsCommand;
use sockets::Sockets;
use watch::Watch;

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
    Watch(Watch),
    Metrics(MetricsCommand),
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
    1  there are recommendations, of the severity of --fail-on or worse\n  \
    2  wrong usage, or a report, facts, an archive or a configuration that cannot be\n     \
        read; of a directory of captures: one of them cannot be read\n  \
    3  the host cannot be read\n  \
    4  nothing of that severity was found, but orphans, tcp_mem or sockets of other\n     \
        processes could not be seen for lack of rights, or from a container")]
struct Recommend {
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The first screen alone: a line for each finding, to paste into the channel of
    /// an incident
    #[arg(long, conflicts_with_all = ["format", "verbose"])]
    brief: bool,
    /// Say what each rule saw that found nothing, and the command lines of the
    /// processes that findings name: these may carry passwords
    #[arg(long, short)]
    verbose: bool,
    /// The least severity that exit status 1 stands for
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = FailOn::Notice)]
    fail_on: FailOn,
    /// Findings that are accepted; default: /etc/lastbyte/advisor.toml of the host
    /// that is looked at, if it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    #[command(flatten)]
    archive: ArchiveArguments,
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

impl Command {
    /// Whether options are to be read by other processes' descriptors.
    fn inspects_options(&self) -> bool {
        match self {
            Self::Recommend(recommend) => recommend.scope.inspects_options(),
            Self::Capture(capture) => capture.scope().inspects_options(),
            _ => false,
        }
    }

    /// Whether more is to be said than usual.
    const fn is_verbose(&self) -> bool {
        match self {
            Self::Recommend(recommend) => recommend.verbose,
            _ => false,
        }
    }
}

/// What exit status 1 stands for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FailOn {
    /// Any recommendation
    Notice,
    /// A warning or worse
    Warning,
    /// Data or connections are being lost
    Critical,
}

impl FailOn {
    const fn severity(self) -> Severity {
        match self {
            Self::Notice => Severity::Notice,
            Self::Warning => Severity::Warning,
            Self::Critical => Severity::Critical,
        }
    }
}

/// Say all about a rule, or about a line of the kernel's log
///
/// What it looks for and at, what it recommends, what that costs, and where each
/// fact comes from. A line of the kernel's log leads to its rule: advisor explain
/// "TCP: out of memory -- consider tuning tcp_mem"
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status:\n  \
    0  it is said\n  \
    2  there is no such rule, and no such line is known")]
struct Explain {
    /// The code or the name of a rule, LB101 or orphan-limit-near, or a line of the
    /// kernel's log in quotes
    #[arg(value_name = "CODE|LINE")]
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
    #[error("there is no rule {0:?}{near}", near = near(.0))]
    NoRule(String),
    /// There is no rule for a line of the kernel's log.
    #[error("no rule is about the line {0:?}")]
    NoLine(String),
    /// The host could not be read.
    #[error(transparent)]
    Host(#[from] FactError),
    /// Facts, a dump of settings or accepted findings could not be read.
    #[error(transparent)]
    Given(#[from] GivenFileError),
    /// A directory of captures could not be read.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// An option that is about one host was given with a directory of captures.
    #[error("{0} is about one host, and --facts names a directory of captures")]
    OneHost(&'static str),
    /// An archive of sosreport could not be read.
    #[error(transparent)]
    Sosreport(#[from] SosreportError),
    /// The host can't be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
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
            Self::Lint(error) => error.hint(),
            Self::NoRule(_) => "`advisor rules` lists their codes and names",
            Self::NoLine(_) => {
                "give a line of the kernel's log about TCP as dmesg prints it; `advisor rules` \
                 lists what there is"
            }
            Self::Host(error) => error.hint(),
            Self::Given(error) => error.hint(),
            Self::Fleet(error) => error.hint(),
            Self::OneHost(_) => "give one of the captures in it",
            Self::Sosreport(error) => error.hint(),
            Self::Watch(error) => error.hint(),
            Self::Output(_) => "see that there is room where the output goes",
        }
    }

    /// The exit status that it ends the program with.
    pub fn status(&self) -> u8 {
        match self {
            Self::Document(_)
            | Self::Proof(_)
            | Self::Given(_)
            | Self::Fleet(_)
            | Self::OneHost(_)
            | Self::Sosreport(_)
            | Self::Lint(_)
            | Self::NoRule(_)
            | Self::NoLine(_) => 2,
            Self::Host(_) | Self::Watch(_) | Self::Output(_) => 3,
        }
    }
}

impl Cli {
    /// Does what was asked and gives the exit status.
    pub fn run(self) -> Result<ExitCode, Error> {
        // A watch is locked once all is open that it needs.
        if !matches!(self.command, Command::Watch(_)) {
            let asked = Asked {
                inspect_options: self.command.inspects_options(),
                ..Asked::default()
            };
            if let Err(error) = lock(asked)
                && self.command.is_verbose()
            {
                let _ = io::Write::write_all(
                    &mut anstream::stderr(),
                    format!("note: the kernel does not hold this program to reading: {error}\n")
                        .as_bytes(),
                );
            }
        }
        match self.command {
            Command::Recommend(recommend) => recommend.run(),
            Command::Sockets(sockets) => sockets.run(),
            Command::Watch(watch) => watch.run(),
            Command::Metrics(metrics) => metrics.run(),
            Command::Capture(capture) => capture.run(),
            Command::Lint(lint) => lint.run(),
            Command::Explain(explain) => explain.run(),
            Command::Rules(rules) => rules.run(),
        }
    }
}

impl Recommend {
    fn run(self) -> Result<ExitCode, Error> {
        self.refuse_what_is_about_one_host()?;
        // Reports first: a mistyped path is not to cost the wait of --over.
        let reports = self
            .reports
            .iter()
            .map(|path| {
                let report = advisor_report::read(path)?;
                let path = path.clone();
                Ok(NamedReport { path, report })
            })
            .collect::<Result<Vec<_>, DocumentError>>()?;
        let proof = self.proof.as_deref().map(proof::read).transpose()?;
        let brings_none = self.archive.is_given();
        let accepted = self.host.accepted(self.config.as_deref(), brings_none)?;
        if let Some(directory) = self.host.directory() {
            let fleet = Fleet::read(directory, &reports, &accepted)?;
            return self.answer_for_many(&fleet);
        }
        let mut looks = Vec::new();
        let facts = match (self.archive.facts()?, self.host.record()) {
            (Some(facts), _) => self.scope.compared(facts)?,
            (None, Some(record)) => {
                let record = record?;
                looks = record.looks;
                record.facts
            }
            (None, None) => self.host.facts(&self.scope)?,
        };
        let mut advice = plan::advise(&facts, &reports);
        advice.add_past(&looks, facts.happened.as_ref());
        advice.accept(&accepted);
        if let Some(proof) = proof {
            advice.prove(&proof)?;
        }
        print(|out| match self.format {
            Format::Text if self.brief => brief::write(out, &advice, &facts, textwrap::termwidth()),
            Format::Text => text::write(out, &advice, &facts, textwrap::termwidth(), self.verbose),
            Format::Json => json::write(out, &advice),
            Format::Markdown => markdown::write(out, &advice, &facts),
            Format::Sysctl => sysctl::write(out, &advice, &facts),
        })?;
        // The worst comes first among severities.
        let fails = |step: &Recommendation| step.finding.severity <= self.fail_on.severity();
        Ok(if advice.recommendations.iter().any(fails) {
            ExitCode::from(1)
        } else if advice.not_seen.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(4)
        })
    }
}

impl Recommend {
    /// Says so where a directory of captures meets an option that is about one host.
    fn refuse_what_is_about_one_host(&self) -> Result<(), Error> {
        if self.host.directory().is_none() {
            return Ok(());
        }
        let given = [
            (self.scope.has_baseline(), "--baseline"),
            (self.proof.is_some(), "--proof"),
            (matches!(self.format, Format::Sysctl), "--format sysctl"),
        ];
        match given.into_iter().find(|(is_given, _)| *is_given) {
            Some((_, option)) => Err(Error::OneHost(option)),
            None => Ok(()),
        }
    }

    fn answer_for_many(&self, fleet: &Fleet) -> Result<ExitCode, Error> {
        let length = match (self.brief, self.verbose) {
            (true, _) => Length::Brief,
            (_, true) => Length::Verbose,
            _ => Length::Usual,
        };
        print(|out| match self.format {
            Format::Json => json::write(out, fleet),
            Format::Markdown => many::markdown(out, fleet, length),
            Format::Text | Format::Sysctl => many::write(out, fleet, textwrap::termwidth(), length),
        })?;
        if !fleet.unread.is_empty() {
            // Where nobody reads the errors, the exit status tells them.
            let _ = io::Write::write_all(&mut anstream::stderr(), many::errors(fleet).as_bytes());
            return Ok(ExitCode::from(2));
        }
        let fails = |severity: Severity| severity <= self.fail_on.severity();
        Ok(
            if fleet.findings.iter().any(|finding| fails(finding.severity)) {
                ExitCode::from(1)
            } else if fleet.not_seen.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(4)
            },
        )
    }
}

impl Explain {
    fn run(self) -> Result<ExitCode, Error> {
        let width = textwrap::termwidth();
        if let Some(rule) = rules::find(&self.rule) {
            print(|out| explain::write(out, rule, width))?;
        } else if let Some(led_to) = rules::led_to(&self.rule) {
            print(|out| explain::write_line(out, led_to, width))?;
        } else if self.rule.contains(char::is_whitespace) {
            return Err(Error::NoLine(self.rule));
        } else {
            return Err(Error::NoRule(self.rule));
        }
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

/// The rule that a misspelled one may be.
fn near(word: &str) -> String {
    let names = rules::RULES.iter().flat_map(|rule| [rule.code, rule.name]);
    meant(word, names)
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
