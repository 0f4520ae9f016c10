//! `setuid`

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Uid, setuid};

use super::prelude::*;

/// setuid(2): the actor's process becomes another user's.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Setuid {
    /// The user's number.
    uid: u64,
}

impl Definition for Setuid {
    const PREPARES: bool = true;
    const SHORTHAND: Option<&'static str> = Some("uid");
}

impl RunByActor for Setuid {
    fn run(&self, _: &mut ActorContext<'_>) -> Calls {
        // setuid(2) takes back that the process dies with the harness (prctl(2)).
        let result = setuid(self.user()).and_then(|()| set_pdeathsig(Signal::SIGKILL));
        result.map_err(io::Error::from).into()
    }
}

impl Setuid {
    /// The user that the actor becomes. setuid(2) refuses the highest, with EINVAL.
    pub fn user(&self) -> Uid {
        Uid::from_raw(u32::try_from(self.uid).unwrap_or(u32::MAX))
    }
}
