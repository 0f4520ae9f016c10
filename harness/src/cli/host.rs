//! The host that a command is about: by its facts, or by the record of a watch.

use std::path::{Path, PathBuf};

use advisor_facts::given::GivenFileError;
use advisor_facts::{Facts, file};
use advisor_report::record::{self, Record};
use clap::{Args, ValueEnum};

use super::{ENVIRONMENT, USAGE, complain, complain_of_run};
use crate::kernels::cache::Cache;
use crate::output;
use crate::prove::attempt::AttemptError;
use crate::prove::kernel::{Chosen, choose};
use crate::report::terminal::Terminal;
use crate::runner::{self, Progress};

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Host {
    /// Facts of a host, as `advisor capture` writes them
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// What `advisor watch --record DIR` kept: the host at its worst moment, with the
    /// rates of the record
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
}

impl Host {
    /// Reads it, or prints why it can't be read.
    pub(super) fn read(&self) -> Result<Facts, u8> {
        let facts = match &self.record {
            Some(directory) => record::read(directory).map(at_worst),
            None => file::read(self.place()),
        };
        facts.map_err(|error: GivenFileError| {
            complain(&error, error.hint());
            USAGE
        })
    }

    /// Says why there is no trial of it, and gives the exit status.
    pub(super) fn complain_of(&self, error: &AttemptError) -> u8 {
        match error {
            AttemptError::Run(error) => complain_of_run(error),
            AttemptError::Setting { why, .. } | AttemptError::Impossible(why) => {
                complain(
                    format!("{}: {why}", self.place().display()),
                    "a capture as root has the sockets, `harness kernels` the kernels",
                );
                USAGE
            }
            AttemptError::Broken(why) => {
                complain(format!("the trial did not run: {why}"), "");
                ENVIRONMENT
            }
        }
    }

    /// Where it was read, for errors about what it says.
    pub(super) fn place(&self) -> &Path {
        let given = self.facts.as_deref().or(self.record.as_deref());
        given.unwrap_or(Path::new(""))
    }
}

/// The kernel that a reproduction runs on.
#[derive(Debug, Args)]
pub(super) struct OnKernel {
    /// Try it on this kernel: a name from `harness kernels`, the path of a vmlinuz,
    /// or auto: the host's own where this machine runs it, else the nearest
    /// fetched one
    #[arg(long, value_name = "KERNEL", default_value = "auto")]
    kernel: String,
    /// Modules for a vmlinuz that is given by its path, such as
    /// /lib/modules/RELEASE [default: those beside the vmlinuz]
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
}

impl OnKernel {
    /// Chooses it for a host with this release.
    pub(super) fn choose(&self, release: &str) -> Result<Chosen, runner::Error> {
        let cache = Cache::of_user()?;
        Ok(choose(
            &self.kernel,
            self.modules.as_deref(),
            release,
            &cache,
        )?)
    }
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Shows what goes on in a trial; its answer comes when all of it is there.
pub(super) fn show(terminal: &Terminal, progress: &Progress) {
    match progress {
        Progress::Ended(_) => terminal.advance(),
        other => terminal.show(other),
    }
}

/// The facts of a record at its worst moment; says on standard error which that is.
pub(super) fn at_worst(record: Record) -> Facts {
    let looks = record.looks.len() + 1;
    let facts = record.at_worst();
    let at = facts.taken_at.map(|at| format!(" at {at}"));
    output::say_error(&format!(
        "the host as it was{}, of {looks} look{} in the record; TCP's memory or its orphans \
         were at {:.0}% of their limit",
        at.unwrap_or_default(),
        if looks == 1 { "" } else { "s" },
        record::share_of_limits(&facts) * 100.0
    ));
    facts
}
