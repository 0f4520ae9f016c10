//! `restart`

use super::prelude::*;

/// Starts an actor's command anew once the process started before is gone, and waits
/// until it is ready; ECHILD where it ends before it is.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    actor: CommandActor,
    /// The error is `late` where it is not ready after that. Default: no limit.
    timeout: Option<Time>,
}

impl Definition for Restart {
    const SHORTHAND: Option<&'static str> = Some("actor");

    fn is_limited(&self) -> bool {
        self.timeout.is_some()
    }
}

impl Restart {
    /// The actor whose command it is.
    pub fn actor(&self) -> &str {
        &self.actor
    }
}

impl RunByLab for Restart {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let timeout = self.timeout.map(|Time(timeout)| timeout);
        let started = lab.actors.restart(&self.actor, timeout);
        let started =
            started.map_err(|error| LabError::new(&self.actor, "restart it", error, ""))?;
        Ok(done(started))
    }
}
