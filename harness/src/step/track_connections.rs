//! `track-connections`

use super::prelude::*;
use crate::lab::nftables::{self, Hook, Rule};

/// Tracks a host's connections from now on (nf_conntrack), and drops what comes in and
/// belongs to none: `ct state invalid drop` of nf_tables.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrackConnections {
    /// The host.
    host: HostName,
}

impl Definition for TrackConnections {
    const PREPARES: bool = true;
    const SHORTHAND: Option<&'static str> = Some("host");
}

impl RunByLab for TrackConnections {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        lab.namespace(&self.host)?
            .run(|| nftables::install("lab", &[(Hook::Input, Rule::DropInvalid)]))
            .flatten()
            .map_err(|error| {
                let hint = "it needs nf_tables, nft_ct and nf_conntrack";
                LabError::new(&self.host, "track its connections", error, hint)
            })?;
        Ok(ControlFlow::Continue(()))
    }
}
