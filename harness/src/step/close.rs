//! `close`

use std::time::Instant;

use super::limit::limited;
use super::prelude::*;
use super::transfer::{Every, Within};
use crate::errno;

/// close(2).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    on: Option<SocketName>,
    every: Option<Every>,
    /// The error is `late` where the call waits for longer, as with SO_LINGER. Default: no
    /// limit.
    within: Option<Within>,
}

impl Definition for Close {
    const SHORTHAND: Option<&'static str> = Some("on");

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
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
            let end = Within::end(self.within);
            let closed = limited(end, || call::close(socket));
            // A close() that waits for SO_LINGER returns 0 where a signal ends it.
            let is_late = end.is_some_and(|end| Instant::now() >= end);
            calls.note(closed.and_then(|()| if is_late { Err(errno::late()) } else { Ok(()) }));
        }
        calls
    }
}
