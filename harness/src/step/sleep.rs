//! `sleep`

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::context::{ActorContext, Calls, LabContext, done};
use super::{Definition, RunByActor, RunByLab, TIME};
use crate::lab::LabError;
use crate::observation::Field;
use crate::yaml::value::Time;

/// Waits at least that long.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sleep {
    /// How long.
    time: Time,
}

impl Definition for Sleep {
    const SHORTHAND: Option<&'static str> = Some("time");
    const OBSERVES: &'static [Field] = TIME;
}

impl RunByActor for Sleep {
    fn run(&self, _: &mut ActorContext<'_>) -> Calls {
        std::thread::sleep(self.time.0);
        Ok(()).into()
    }
}

impl RunByLab for Sleep {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        Ok(done(lab.progress.sleep(self.time.0)))
    }
}
