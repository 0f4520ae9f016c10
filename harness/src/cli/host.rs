//! The host that a command is about: by its facts, or by the record of a watch.

use std::path::{Path, PathBuf};

use advisor_facts::given::GivenFileError;
use advisor_facts::{Facts, file};
use advisor_report::record::{self, Record};
use clap::Args;

use super::{USAGE, complain};
use crate::output;

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

    /// Where it was read, for errors about what it says.
    pub(super) fn place(&self) -> &Path {
        let given = self.facts.as_deref().or(self.record.as_deref());
        given.unwrap_or(Path::new(""))
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
