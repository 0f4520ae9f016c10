//! `ftruncate`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::context::{ActorContext, Calls};
use super::name::FileName;
use super::{Definition, RESULT, RunByActor};
use crate::observation::Field;

/// ftruncate(2): leaves nothing in a file that was sent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ftruncate {
    file: FileName,
}

impl Definition for Ftruncate {
    const SHORTHAND: Option<&'static str> = Some("file");
    const OBSERVES: &'static [Field] = RESULT;
}

impl RunByActor for Ftruncate {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let file = actor.file(&self.file);
        file.and_then(|file| file.set_len(0)).into()
    }
}
