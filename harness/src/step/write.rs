//! `write`

use std::os::fd::RawFd;

use super::call::Events;
use super::prelude::*;
use super::transfer::{Chunk, Every, Transferred, Within, in_time, length};
use crate::yaml::value::Payload;

/// write(2) of a text, or of zeros, until all is taken or an error comes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    on: Option<SocketName>,
    /// How many bytes, or a text.
    bytes: Payload,
    #[serde(default)]
    chunk: Chunk,
    every: Option<Every>,
    within: Option<Within>,
}

impl Definition for Write {
    const SHORTHAND: Option<&'static str> = Some("bytes");
    const OBSERVES: &'static [Field] = TRANSFER;

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
}

impl RunByActor for Write {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        actor.transfer(self.on.as_ref(), |socket, done| self.send(socket, done))
    }
}

/// What is written in chunks of the default size: to clear a buffer for each write takes an
/// emulated processor longer than the write.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Write {
    fn send(&self, socket: RawFd, done: &mut Transferred) -> io::Result<()> {
        let (bytes, text) = match &self.bytes {
            Payload::Zeros(bytes) => (*bytes, None),
            Payload::Text(text) => (text.len() as u64, Some(text.as_bytes())),
        };
        let wanted = self.chunk.length().min(length(bytes));
        let longer;
        let zeros = if let Some(zeros) = ZEROS.get(..wanted) {
            zeros
        } else {
            longer = vec![0; wanted];
            &longer[..]
        };
        let end = Within::end(self.within);
        let mut written = 0;
        while written < bytes {
            Every::pause(self.every);
            let buffer = match text {
                Some(text) => &text[length(written)..],
                None => &zeros[..zeros.len().min(length(bytes - written))],
            };
            let count = in_time(end, socket, Events::PollOut, || match end {
                Some(_) => call::send_now(socket, buffer),
                None => call::write(socket, buffer),
            })? as u64;
            written += count;
            done.bytes += count;
        }
        Ok(())
    }
}
