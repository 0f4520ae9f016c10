//! `await`

use super::context::Waited;
use super::prelude::*;
use super::transfer::Within;
use crate::errno;

/// Waits until a step of another list has ended, well or not.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Await {
    /// actor.step, or lab.step.
    pub step: StepReference,
    within: Option<Within>,
}

impl Definition for Await {
    const SHORTHAND: Option<&'static str> = Some("step");
    const OBSERVES: &'static [Field] = &[Field::Error, Field::Ms];

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }

    fn waits_for(&self) -> Option<&StepReference> {
        Some(&self.step)
    }
}

impl RunByActor for Await {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        match actor.wait_for(&self.step, self.within.map(Within::time)) {
            Waited::Late => Err(errno::late()).into(),
            Waited::Ended | Waited::Over => Ok(()).into(),
        }
    }
}

impl RunByLab for Await {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let limit = self.within.map(Within::time);
        match lab.progress.wait_for(&self.step, limit) {
            Waited::Ended => Ok(ControlFlow::Continue(())),
            Waited::Over => Ok(ControlFlow::Break(())),
            Waited::Late => Err(LabError::new(
                "lab",
                &format!("await {}", self.step),
                errno::late(),
                "",
            )),
        }
    }
}
