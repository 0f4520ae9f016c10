//! `track-connections`

use super::prelude::*;
use crate::lab::nftables::{self, Hook, Rule};

/// Tracks a host's connections from now on (nf_conntrack).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrackConnections {
    /// The host.
    host: HostName,
    /// What happens to a packet that comes in and belongs to no connection.
    #[serde(default)]
    invalid: Invalid,
}

/// What happens to a packet of no connection.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Invalid {
    /// It is dropped: `ct state invalid drop` of nf_tables.
    #[default]
    Drop,
    /// It goes to its socket.
    Accept,
}

impl Definition for TrackConnections {
    const PREPARES: bool = true;
    const SHORTHAND: Option<&'static str> = Some("host");
}

impl RunByLab for TrackConnections {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let rule = match self.invalid {
            Invalid::Drop => Rule::DropInvalid,
            Invalid::Accept => Rule::Track,
        };
        lab.namespace(&self.host)?
            .run(|| nftables::install("lab", &[(Hook::Input, rule)]))
            .flatten()
            .map_err(|error| {
                let hint = "it needs nf_tables, nft_ct and nf_conntrack";
                LabError::new(&self.host, "track its connections", error, hint)
            })?;
        Ok(ControlFlow::Continue(()))
    }
}
