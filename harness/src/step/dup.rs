//! `dup`

use super::prelude::*;

/// dup(2): a second descriptor, named by `as`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Dup {
    on: Option<SocketName>,
}

impl Definition for Dup {
    const MAKES: Makes = Makes::Sockets;
}

impl RunByActor for Dup {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let socket = actor.socket(self.on.as_ref()).and_then(call::dup);
        socket.map(|socket| actor.keep(socket)).into()
    }
}
