//! `sendfile`

use std::os::fd::AsRawFd;

use super::limit::limited;
use super::prelude::*;
use super::transfer::{Within, length};

/// sendfile(2) from a file of zeros until all is taken.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sendfile {
    on: Option<SocketName>,
    /// How many bytes.
    bytes: Bytes,
    within: Option<Within>,
}

impl Definition for Sendfile {
    const SHORTHAND: Option<&'static str> = Some("bytes");
    const OBSERVES: &'static [Field] = TRANSFER;
    const MAKES: Makes = Makes::File;

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
}

impl RunByActor for Sendfile {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let Bytes(bytes) = self.bytes;
        actor.send_file(self.on.as_ref(), bytes, |file, socket, done| {
            let end = Within::end(self.within);
            let mut offset = 0;
            let mut sent = 0;
            while sent < bytes {
                let most = length(bytes - sent);
                let count = limited(end, || {
                    call::sendfile(socket, file.as_raw_fd(), &mut offset, most)
                })? as u64;
                if count == 0 {
                    break;
                }
                sent += count;
                done.bytes += count;
            }
            Ok(())
        })
    }
}
