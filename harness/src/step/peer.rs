//! `peer`

use super::prelude::*;
use crate::lab::peers::Order;

/// Has peers that are packets send, close, reset, or vanish.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    on: SocketName,
    /// How much each sends. Default: nothing.
    send: Option<Bytes>,
    /// What each does then. Default: nothing.
    does: Option<Does>,
}

/// What a peer does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Does {
    /// It sends a FIN.
    Close,
    /// It sends a RST.
    Reset,
    /// It answers nothing any more.
    Vanish,
}

impl Definition for Peer {
    const SHORTHAND: Option<&'static str> = Some("on");
}

impl RunByActor for Peer {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let change = Order {
            send: self.send.map_or(0, |Bytes(bytes)| bytes),
            close: self.does == Some(Does::Close),
            reset: self.does == Some(Does::Reset),
            vanish: self.does == Some(Does::Vanish),
        };
        actor
            .peers()
            .map(|peers| peers.change(&self.on, change))
            .into()
    }
}
