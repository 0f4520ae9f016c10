//! `listen`

use super::prelude::*;

/// listen(2). With a port it makes and binds a socket where needed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub(crate) on: Option<SocketName>,
    /// The port to bind first, as `bind` has it. Default: none.
    pub port: Option<Endpoint>,
    /// The length of the accept queue.
    #[serde(default = "backlog")]
    backlog: u64,
}

impl Definition for Listen {
    const PREPARES: bool = true;
    const SHORTHAND: Option<&'static str> = Some("port");
    const MAKES: Makes = Makes::Sockets;
}

impl RunByActor for Listen {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let listen = |actor: &mut ActorContext<'_>| {
            let socket = actor.unused_socket(self.on.as_ref(), self.port.as_ref())?;
            if let Some(port) = &self.port {
                call::bind(socket, actor.address(port, socket)?)?;
            }
            let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
            call::listen(socket, backlog)?;
            actor.listens(socket);
            Ok(())
        };
        listen(actor).into()
    }
}

fn backlog() -> u64 {
    128
}
