//! `advisor capture`: a host's facts, to be looked at elsewhere and later.

use std::process::ExitCode;

use advisor_facts::{file, redact};

use super::host::{HostArguments, LookArguments};
use super::{Error, print};

/// Write what this host says, for `--facts` and `--baseline`
///
/// `advisor capture > host.json` writes all that the rules look at, as JSON.
/// `advisor recommend --facts host.json` then gives the same answer on another
/// machine, and later; `--baseline host.json` compares a later look with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status:\n  \
    0  it is written\n  \
    2  wrong usage, or a baseline that cannot be read\n  \
    3  the host cannot be read")]
pub(super) struct Capture {
    /// Leave out the host's name, addresses, and the names of scripts, units,
    /// containers, cgroups and namespaces: each address becomes another one,
    /// everywhere the same. Names of programs and ports stay
    #[arg(long)]
    redact: bool,
    /// Write the command lines of processes as well: these may carry passwords
    #[arg(long, short, conflicts_with = "redact")]
    verbose: bool,
    #[command(flatten)]
    scope: LookArguments,
    #[command(flatten)]
    host: HostArguments,
}

impl Capture {
    /// What is looked at.
    pub(super) const fn scope(&self) -> &LookArguments {
        &self.scope
    }

    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let mut facts = self.host.facts(&self.scope)?;
        if !self.verbose {
            redact::leave_out_commands(&mut facts);
        }
        if self.redact {
            redact::redact(&mut facts);
        }
        print(|out| file::write(out, &facts))?;
        Ok(ExitCode::SUCCESS)
    }
}
