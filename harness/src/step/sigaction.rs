//! `sigaction`

use nix::sys::signal::{SigHandler, Signal, signal};

use super::prelude::*;

/// sigaction(2): what SIGPIPE does to the actor's process.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sigaction {
    /// default ends the process, as it does a C program that says nothing; ignore is what
    /// actors begin with.
    #[serde(rename = "SIGPIPE")]
    pub sigpipe: Disposition,
}

impl Definition for Sigaction {
    const PREPARES: bool = true;
}

impl RunByActor for Sigaction {
    fn run(&self, _: &mut ActorContext<'_>) -> Calls {
        let handler = match self.sigpipe {
            Disposition::Default => SigHandler::SigDfl,
            Disposition::Ignore => SigHandler::SigIgn,
        };
        // SAFETY: neither runs code of ours.
        let set = unsafe { signal(Signal::SIGPIPE, handler) };
        set.map(|_| ()).map_err(io::Error::from).into()
    }
}

/// What a signal does.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Disposition {
    /// SIG_DFL.
    Default,
    /// SIG_IGN.
    Ignore,
}
