//! `await`

use super::prelude::*;

/// Waits until a step of another list has ended, well or not.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Await {
    /// actor.step, or lab.step.
    pub step: StepReference,
}

impl Definition for Await {
    const SHORTHAND: Option<&'static str> = Some("step");
    const OBSERVES: &'static [Field] = TIME;
}

impl RunByActor for Await {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        actor.wait_for(&self.step);
        Ok(()).into()
    }
}

impl RunByLab for Await {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        Ok(done(lab.progress.wait_for(&self.step)))
    }
}
