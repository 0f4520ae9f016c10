//! `peers`

use std::time::Duration;

use super::prelude::*;
use crate::lab::peers::Manner;

/// Peers that are packets answer on a port of the actor's host, which gives up its address.
///
/// They are no sockets: they charge no memory, no orphans and no `TIME_WAIT` to the kernel.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// The port.
    pub port: u16,
    /// The size of the receive buffer of each. Default: 64 KiB.
    window: Option<Bytes>,
    /// What each reads in a second; 0 is nothing. Default: all at once.
    reads: Option<Bytes>,
    /// The time until the other side has an answer. Default: none.
    rtt: Option<Time>,
    /// What they do when the other side closes.
    #[serde(default)]
    at_end: AtEnd,
}

impl Definition for Peers {
    const SHORTHAND: Option<&'static str> = Some("port");
    const MAKES: Makes = Makes::Sockets;
    const PREPARES: bool = true;
}

impl RunByActor for Peers {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let manner = manner(self.window, self.reads, self.rtt, self.at_end);
        actor
            .peers()
            .map(|peers| peers.answer(actor.step(), self.port, manner))
            .into()
    }
}

/// What a peer does when the other side closes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum AtEnd {
    /// It closes too.
    #[default]
    Close,
    /// It acknowledges, and stays.
    Stay,
}

/// How peers with these keys behave.
pub fn manner(
    window: Option<Bytes>,
    reads: Option<Bytes>,
    rtt: Option<Time>,
    at_end: AtEnd,
) -> Manner {
    Manner {
        window: window.map_or(64 << 10, |Bytes(bytes)| {
            u32::try_from(bytes).unwrap_or(u32::MAX >> 2)
        }),
        reads: reads.map(|Bytes(bytes)| bytes),
        rtt: rtt.map_or(Duration::ZERO, |Time(time)| time),
        closes: at_end == AtEnd::Close,
    }
}
