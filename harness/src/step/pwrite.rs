//! `pwrite`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::context::{ActorContext, Calls};
use super::name::FileName;
use super::{Definition, RESULT, RunByActor, call};
use crate::observation::Field;
use crate::yaml::value::Bytes;

/// pwrite(2): ones over a file that was sent, from its start.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pwrite {
    file: FileName,
    /// How many bytes.
    bytes: Bytes,
}

impl Definition for Pwrite {
    const OBSERVES: &'static [Field] = RESULT;
}

impl RunByActor for Pwrite {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let file = actor.file(&self.file);
        file.and_then(|file| call::fill(&file, 1, self.bytes.0))
            .into()
    }
}
