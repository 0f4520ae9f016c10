//! `connect`

use super::limit::limited;
use super::prelude::*;
use super::transfer::Within;

/// connect(2). Makes a socket where neither `socket`, `bind` nor `on` gives one.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    pub(crate) on: Option<SocketName>,
    /// host:port; `localhost` is the actor's own, server6:7000 names the family.
    pub to: Destination,
    /// The step that has to end first. Default: the first listen on that port.
    pub after: Option<StepReference>,
    /// The error is `late` where the call has not returned by then; the kernel goes on
    /// with the handshake. Default: no limit.
    within: Option<Within>,
}

impl Definition for Connect {
    const SHORTHAND: Option<&'static str> = Some("to");
    const MAKES: Makes = Makes::Sockets;

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }

    fn waits_for(&self) -> Option<&StepReference> {
        self.after.as_ref()
    }
}

impl RunByActor for Connect {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let connect = |actor: &mut ActorContext<'_>| {
            let socket = actor.unused_socket(self.on.as_ref(), Some(&self.to.0))?;
            let address = actor.address(&self.to.0, socket)?;
            actor.use_up();
            limited(Within::end(self.within), || call::connect(socket, address))
        };
        connect(actor).into()
    }
}
