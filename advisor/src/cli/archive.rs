//! Hosts that only an archive is left of.

use std::path::PathBuf;

use advisor_facts::{Facts, sosreport, sysctl_dump};

use super::Error;

/// What stands for a host that is not at hand.
#[derive(Debug, clap::Args)]
pub(super) struct ArchiveArguments {
    /// Read an archive of sosreport, packed or the directory that it unpacks to, in
    /// place of this host. Nothing is unpacked to disk, and no link in it is followed
    #[arg(long, value_name = "FILE|DIR", conflicts_with_all = ["root", "facts", "record", "over",
        "inspect_options", "no_sock_diag"])]
    sosreport: Option<PathBuf>,
    /// Read what `sysctl -a` printed, - for standard input, in place of this host: its
    /// settings are judged, and nothing else
    #[arg(long, value_name = "FILE", conflicts_with_all = ["root", "facts", "record", "over",
        "inspect_options", "no_sock_diag", "sosreport", "baseline"])]
    sysctl_dump: Option<PathBuf>,
}

impl ArchiveArguments {
    /// Whether one was given.
    pub(super) fn is_given(&self) -> bool {
        self.sosreport.is_some() || self.sysctl_dump.is_some()
    }

    /// The facts of the one that was given.
    pub(super) fn facts(&self) -> Result<Option<Facts>, Error> {
        if let Some(path) = &self.sosreport {
            return Ok(Some(sosreport::read(path)?));
        }
        let Some(path) = &self.sysctl_dump else {
            return Ok(None);
        };
        Ok(Some(sysctl_dump::read(path)?))
    }
}
