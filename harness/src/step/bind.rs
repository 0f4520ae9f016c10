//! `bind`

use super::prelude::*;

/// bind(2). Makes a socket where neither `socket` nor `on` gives one.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    pub(crate) on: Option<SocketName>,
    /// A port of the actor's host, or host:port, where `any` and `localhost` are hosts too;
    /// any6:7000 names the family; port 0 is any.
    pub to: Endpoint,
}

impl Definition for Bind {
    const PREPARES: bool = true;
    const SHORTHAND: Option<&'static str> = Some("to");
    const MAKES: Makes = Makes::Sockets;
}

impl RunByActor for Bind {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let bind = |actor: &mut ActorContext<'_>| {
            let socket = actor.unused_socket(self.on.as_ref(), Some(&self.to))?;
            call::bind(socket, actor.address(&self.to, socket)?)
        };
        bind(actor).into()
    }
}
