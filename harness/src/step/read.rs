//! `read`

use super::prelude::*;
use super::transfer::{Chunk, Every, Within, receive};

/// read(2) until that many bytes are there, the stream ends or an error comes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    on: Option<SocketName>,
    /// How many bytes.
    bytes: Bytes,
    #[serde(default)]
    chunk: Chunk,
    every: Option<Every>,
    within: Option<Within>,
}

impl Definition for Read {
    const SHORTHAND: Option<&'static str> = Some("bytes");
    const OBSERVES: &'static [Field] = RECEIPT;

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
}

impl RunByActor for Read {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        actor.transfer(self.on.as_ref(), |socket, done| {
            receive(
                socket,
                self.bytes.0,
                self.chunk,
                self.every,
                self.within,
                done,
            )
        })
    }
}
