//! `until`

use std::time::{Duration, Instant};

use advisor_report::Value;

use super::prelude::*;
use crate::condition::Condition;
use crate::errno;
use crate::lab::observe::{gauge, observe_sockets};
use crate::observation::{Observations, Watched};
use crate::pace::pause;
use crate::yaml::value::{OneOrMore, Placed};

/// Waits until HOST.sockets.STATE meets a condition; `ms` is how long that took, to 5 ms
/// or a 200th.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Until {
    /// HOST.sockets.STATE, HOST.peers.HOST.STATE, HOST.sockstat.GAUGE or kernel.sockstat.GAUGE.
    pub observation: Placed<Watched>,
    /// What it has to be: one of these.
    pub condition: Placed<OneOrMore<Condition>>,
    /// The error is `late` after that. Default: no limit.
    pub timeout: Option<Time>,
}

impl Definition for Until {
    const OBSERVES: &'static [Field] = READING;

    fn is_limited(&self) -> bool {
        self.timeout.is_some()
    }
}

impl RunByLab for Until {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let start = Instant::now();
        loop {
            let value = self.look(lab)?;
            lab.value = value.as_ref().map(ToString::to_string);
            let met = |value| {
                let mut conditions = self.condition.value.0.iter();
                conditions.any(|condition| condition.holds(value, &|_| None) == Some(true))
            };
            if value.as_ref().is_some_and(met) {
                return Ok(ControlFlow::Continue(()));
            }
            if self
                .timeout
                .is_some_and(|Time(limit)| start.elapsed() >= limit)
            {
                let action = format!("see {}", self.observation.value);
                return Err(LabError::new(self.owner(), &action, errno::late(), ""));
            }
            if !lab.progress.sleep(pause(start.elapsed(), SHORTEST_PAUSE)) {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

/// Time between the first looks; later ones are further apart.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

impl Until {
    fn owner(&self) -> &str {
        self.observation.hosts().next().unwrap_or("kernel")
    }

    fn look(&self, lab: &LabContext<'_>) -> Result<Option<Value>, LabError> {
        match &self.observation.value {
            Watched::Gauge(watched) => gauge(watched, lab.lab),
            Watched::Sockets(watched) => {
                let mut seen = Observations::new();
                let sockets = lab.namespace(&watched.host)?.sockets()?;
                observe_sockets(&watched.host, &sockets, lab.lab, &mut seen);
                // No socket in a state is 0 of them; a field of none is nothing.
                let none = watched.field.is_none().then(|| 0.into());
                Ok(seen.remove(&watched.to_string()).or(none))
            }
        }
    }
}
