//! `send-rights`

use std::io::IoSlice;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::prelude::*;
use super::receive_rights::{RETRY_EVERY, Rights};
use super::transfer::Within;
use crate::errno;

/// sendmsg(2) with SCM_RIGHTS: hands a socket to another actor of the same host, which
/// takes it with `receive-rights`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sendrights {
    on: Option<SocketName>,
    /// The actor.
    pub to: ActorName,
    within: Option<Within>,
}

impl Definition for Sendrights {
    const SHORTHAND: Option<&'static str> = Some("to");

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
}

impl RunByActor for Sendrights {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let rights = match Rights::open() {
            Ok(rights) => rights,
            Err(error) => return Err(error).into(),
        };
        let end = Within::end(self.within);
        let address = Rights::address(&self.to);
        let address = match address {
            Ok(address) => address,
            Err(error) => return Err(error).into(),
        };
        actor.on_each(self.on.as_ref(), |socket| {
            loop {
                let sent = sendmsg(
                    rights.descriptor(),
                    &[IoSlice::new(b"d")],
                    &[ControlMessage::ScmRights(&[socket])],
                    MsgFlags::empty(),
                    Some(&address),
                );
                match sent {
                    Ok(_) => return Ok(()),
                    // Nobody waits for it yet.
                    Err(Errno::ECONNREFUSED) => std::thread::sleep(RETRY_EVERY),
                    Err(errno) => return Err(errno.into()),
                }
                if end.is_some_and(|end| Instant::now() >= end) {
                    return Err(errno::late());
                }
            }
        })
    }
}
