//! `poll`

use super::call::Events;
use super::prelude::*;
use crate::yaml::value::OneOrMore;

/// poll(2). `value` is the revents, such as POLLIN|POLLHUP, or none.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    on: Option<SocketName>,
    /// What to wait for, one or several; errors always end it. Default: POLLIN.
    events: Option<OneOrMore<Events>>,
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
        let events = self.events.as_ref();
        let events = events.map_or(&[Events::PollIn][..], |OneOrMore(events)| events);
        actor.read_each(self.on.as_ref(), |socket| {
            call::poll(socket, events, timeout)
        })
    }
}
