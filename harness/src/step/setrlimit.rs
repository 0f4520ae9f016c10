//! `setrlimit`

use std::num::NonZeroU64;

use nix::sys::resource::{Resource, setrlimit};

use super::prelude::*;

/// setrlimit(2) on the actor's process.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Setrlimit {
    /// Descriptors; the actor itself has a handful open.
    #[serde(rename = "RLIMIT_NOFILE")]
    descriptors: NonZeroU64,
}

impl Definition for Setrlimit {
    const PREPARES: bool = true;
}

impl RunByActor for Setrlimit {
    fn run(&self, _: &mut ActorContext<'_>) -> Calls {
        let most = self.descriptors.get();
        let result = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        result.map_err(io::Error::from).into()
    }
}
