//! `fcntl`

use super::prelude::*;

/// fcntl(2) F_SETFL.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fcntl {
    on: Option<SocketName>,
    /// The flags to set.
    flags: Flags,
}

impl Definition for Fcntl {
    const PREPARES: bool = true;
    const SHORTHAND: Option<&'static str> = Some("flags");
}

impl RunByActor for Fcntl {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let on = self.flags == Flags::Nonblock;
        actor.on_each(self.on.as_ref(), |socket| call::set_nonblocking(socket, on))
    }
}

/// The flags of F_SETFL.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
enum Flags {
    #[serde(rename = "O_NONBLOCK")]
    Nonblock,
    #[serde(rename = "none")]
    Nothing,
}
