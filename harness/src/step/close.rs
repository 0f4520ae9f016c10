//! `close`

use super::prelude::*;
use super::transfer::Every;

/// close(2).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    on: Option<SocketName>,
    every: Option<Every>,
}

impl Definition for Close {
    const SHORTHAND: Option<&'static str> = Some("on");
}

impl RunByActor for Close {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let mut calls = Calls::default();
        let sockets = actor.sockets(self.on.as_ref());
        if sockets.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EBADF)).into();
        }
        for socket in sockets {
            Every::pause(self.every);
            actor.forget(socket);
            calls.note(call::close(socket));
        }
        calls
    }
}
