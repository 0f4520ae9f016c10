//! `splice`

use std::os::fd::AsRawFd;

use super::limit::limited;
use super::prelude::*;
use super::transfer::{Within, length};

/// splice(2) from a file of zeros through a pipe until all is taken.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Splice {
    on: Option<SocketName>,
    /// How many bytes.
    bytes: Bytes,
    within: Option<Within>,
}

impl Definition for Splice {
    const SHORTHAND: Option<&'static str> = Some("bytes");
    const OBSERVES: &'static [Field] = TRANSFER;
    const MAKES: Makes = Makes::File;

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
}

impl RunByActor for Splice {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let Bytes(bytes) = self.bytes;
        actor.send_file(self.on.as_ref(), bytes, |file, socket, done| {
            let end = Within::end(self.within);
            let (reader, writer) = call::pipe()?;
            let (file, writer) = (file.as_raw_fd(), writer.as_raw_fd());
            let mut offset = 0;
            let mut spliced = 0;
            while spliced < bytes {
                let most = length(bytes - spliced).min(PIPE_BYTES);
                let mut piped = call::splice(file, Some(&mut offset), writer, most)?;
                if piped == 0 {
                    break;
                }
                while piped > 0 {
                    let count = limited(end, || {
                        call::splice(reader.as_raw_fd(), None, socket, piped)
                    })?;
                    piped -= count;
                    spliced += count as u64;
                    done.bytes += count as u64;
                }
            }
            Ok(())
        })
    }
}

/// What a pipe holds by default (pipe(7)).
const PIPE_BYTES: usize = 64 << 10;
