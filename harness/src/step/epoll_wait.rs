//! `epoll-wait`

use super::name::EpollName;
use super::prelude::*;

/// epoll_wait(2). `value` is the events of all sockets together, such as EPOLLIN|EPOLLHUP,
/// or none.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Epollwait {
    /// The epoll instance.
    pub epoll: EpollName,
    /// How long to wait. Default: no limit.
    timeout: Option<Time>,
}

impl Definition for Epollwait {
    const SHORTHAND: Option<&'static str> = Some("epoll");
    const OBSERVES: &'static [Field] = READING;

    fn value(&self) -> Values {
        Values::Flags(call::EPOLL_EVENTS)
    }
}

impl RunByActor for Epollwait {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let timeout = self.timeout.map(|Time(timeout)| timeout);
        let seen = actor.epoll(&self.epoll);
        let seen = seen.and_then(|epoll| call::epoll_wait(&epoll, timeout));
        match seen {
            Ok(events) => Calls::from(Ok(())).with_value(Some(events)),
            Err(error) => Err(error).into(),
        }
    }
}
