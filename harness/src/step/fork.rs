//! `fork`

use super::prelude::*;

/// fork(2): a child that holds every descriptor and does nothing.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// How long it lives. Default: to the run's end.
    hold: Option<Time>,
}

impl Definition for Fork {
    const SHORTHAND: Option<&'static str> = Some("hold");
}

impl RunByActor for Fork {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let hold = self.hold.map(|Time(hold)| hold);
        call::fork_holder(actor.lifeline(), hold).into()
    }
}
