//! `ftruncate`

use super::prelude::*;

/// ftruncate(2): leaves nothing in a file that was sent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ftruncate {
    file: FileName,
}

impl Definition for Ftruncate {
    const SHORTHAND: Option<&'static str> = Some("file");
}

impl RunByActor for Ftruncate {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let file = actor.file(&self.file);
        file.and_then(|file| file.set_len(0)).into()
    }
}
