//! `shutdown`

use super::prelude::*;

/// shutdown(2).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    on: Option<SocketName>,
    /// Which direction to shut down.
    how: How,
}

impl Definition for Shutdown {
    const SHORTHAND: Option<&'static str> = Some("how");
}

impl RunByActor for Shutdown {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let how = match self.how {
            How::Read => libc::SHUT_RD,
            How::Write => libc::SHUT_WR,
            How::Both => libc::SHUT_RDWR,
        };
        actor.on_each(self.on.as_ref(), |socket| call::shutdown(socket, how))
    }
}

/// The direction of a shutdown.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
enum How {
    #[serde(rename = "SHUT_RD")]
    Read,
    #[serde(rename = "SHUT_WR")]
    Write,
    #[serde(rename = "SHUT_RDWR")]
    Both,
}
