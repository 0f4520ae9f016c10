//! `sample`

use super::prelude::*;
use crate::lab::observe::observe_sockets;
use crate::observation::Observations;

/// Looks at every host's sockets now, SAMPLE.HOST.sockets.STATE, and at what commands
/// use, SAMPLE.ACTOR.usage.FIELD.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {}

impl Definition for Sample {
    const SHORTHAND: Option<&'static str> = Some("as");
    const OBSERVES: &'static [Field] = &[];
}

impl RunByLab for Sample {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let mut observations = Observations::new();
        for namespace in lab.lab.hosts() {
            let owner = format!("{}.{}", lab.step, namespace.host);
            observe_sockets(&owner, &namespace.sockets()?, lab.lab, &mut observations);
        }
        lab.actors
            .observe_resources(Some(lab.step), &mut observations)?;
        lab.sampled = observations;
        Ok(ControlFlow::Continue(()))
    }
}
