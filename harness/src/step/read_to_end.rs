//! `read-to-end`

use super::prelude::*;
use super::transfer::{Chunk, Every, Within, receive};

/// read(2) until it returns 0 or an error; `error` is none at EOF.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReadToEnd {
    on: Option<SocketName>,
    #[serde(default)]
    chunk: Chunk,
    every: Option<Every>,
    within: Option<Within>,
}

impl Definition for ReadToEnd {
    const OBSERVES: &'static [Field] = RECEIPT;

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
}

impl RunByActor for ReadToEnd {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        actor.transfer(self.on.as_ref(), |socket, done| {
            receive(socket, u64::MAX, self.chunk, self.every, self.within, done)
        })
    }
}
