//! `pwrite`

use super::prelude::*;

/// pwrite(2): ones over a file that was sent, from its start.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pwrite {
    file: FileName,
    /// How many bytes.
    bytes: Bytes,
}

impl Definition for Pwrite {}

impl RunByActor for Pwrite {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let file = actor.file(&self.file);
        file.and_then(|file| call::fill(&file, 1, self.bytes.0))
            .into()
    }
}
