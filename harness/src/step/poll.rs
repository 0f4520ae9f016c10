//! `poll`

use super::call::Events;
use super::prelude::*;

/// poll(2). `value` is the revents, such as POLLIN|POLLHUP, or none.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    on: Option<SocketName>,
    /// What to wait for; errors always end it.
    #[serde(default)]
    events: Events,
    /// How long to wait. Default: no limit.
    timeout: Option<Time>,
}

impl Definition for Poll {
    const SHORTHAND: Option<&'static str> = Some("events");
    const OBSERVES: &'static [Field] = READING;

    fn value(&self) -> Values {
        Values::Flags(call::REVENTS)
    }
}

impl RunByActor for Poll {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let timeout = self.timeout.map(|Time(timeout)| timeout);
        actor.read_each(self.on.as_ref(), |socket| {
            call::poll(socket, self.events, timeout)
        })
    }
}
