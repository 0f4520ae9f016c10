//! `sendfile`

use std::os::fd::AsRawFd;

use super::prelude::*;
use super::transfer::length;

/// sendfile(2) from a file of zeros until all is taken.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sendfile {
    on: Option<SocketName>,
    /// How many bytes.
    bytes: Bytes,
}

impl Definition for Sendfile {
    const SHORTHAND: Option<&'static str> = Some("bytes");
    const OBSERVES: &'static [Field] = TRANSFER;
    const MAKES: Makes = Makes::File;
}

impl RunByActor for Sendfile {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let Bytes(bytes) = self.bytes;
        actor.send_file(self.on.as_ref(), bytes, |file, socket, done| {
            let mut offset = 0;
            let mut sent = 0;
            while sent < bytes {
                let most = length(bytes - sent);
                let count = call::sendfile(socket, file.as_raw_fd(), &mut offset, most)? as u64;
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
