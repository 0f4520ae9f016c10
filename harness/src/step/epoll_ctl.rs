//! `epoll-ctl`

use nix::sys::epoll::EpollFlags;

use super::name::EpollName;
use super::prelude::*;
use crate::yaml::value::OneOrMore;

/// epoll_ctl(2) EPOLL_CTL_ADD; makes the epoll instance where there is none of that name.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Epollctl {
    on: Option<SocketName>,
    /// The epoll instance, which all lists of the actor share.
    pub epoll: EpollName,
    /// What to wait for, one or several. Default: EPOLLIN, by level.
    events: Option<OneOrMore<Event>>,
}

impl Definition for Epollctl {
    const SHORTHAND: Option<&'static str> = Some("epoll");
    const PREPARES: bool = true;
}

impl RunByActor for Epollctl {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let epoll = match actor.epoll(&self.epoll) {
            Ok(epoll) => epoll,
            Err(error) => return Err(error).into(),
        };
        let events = self.events.as_ref();
        let events = events.map_or(&[Event::In][..], |OneOrMore(events)| events);
        let flags: EpollFlags = events.iter().map(|event| event.flag()).collect();
        actor.on_each(self.on.as_ref(), |socket| {
            call::watch(&epoll, socket, flags)
        })
    }
}

/// The events of epoll_ctl(2).
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
enum Event {
    /// There is something to read.
    #[serde(rename = "EPOLLIN")]
    In,
    /// There is room to write.
    #[serde(rename = "EPOLLOUT")]
    Out,
    /// The peer has shut its side down.
    #[serde(rename = "EPOLLRDHUP")]
    RdHup,
    /// Once for each change: edge-triggered.
    #[serde(rename = "EPOLLET")]
    Edge,
    /// Once, until it is set anew.
    #[serde(rename = "EPOLLONESHOT")]
    OneShot,
    /// Of several instances that watch a socket, wakes at least one.
    #[serde(rename = "EPOLLEXCLUSIVE")]
    Exclusive,
}

impl Event {
    const fn flag(self) -> EpollFlags {
        match self {
            Self::In => EpollFlags::EPOLLIN,
            Self::Out => EpollFlags::EPOLLOUT,
            Self::RdHup => EpollFlags::EPOLLRDHUP,
            Self::Edge => EpollFlags::EPOLLET,
            Self::OneShot => EpollFlags::EPOLLONESHOT,
            Self::Exclusive => EpollFlags::EPOLLEXCLUSIVE,
        }
    }
}
