//! `sleep`

use super::prelude::*;

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
