//! `dial`

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use super::peers::{AtEnd, manner};
use super::prelude::*;
use crate::lab::address::SocketFamily;
use crate::lab::peers;

/// How long a caller waits where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(4);

/// Peers that are packets connect from the actor's host, each with an end of its own.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    /// host:port; `localhost` is the actor's own.
    pub to: Destination,
    /// How many.
    #[serde(default = "one")]
    count: NonZeroU64,
    /// From how many addresses. Default: 1.
    addresses: Option<u16>,
    /// A pause after each. Default: none.
    every: Option<Time>,
    /// What each sends first. Default: nothing.
    send: Option<Bytes>,
    /// How many bytes each waits for. Default: 0, to be connected is enough.
    expect: Option<Bytes>,
    /// The error is `late` for those that have not got it by then. Default: 4 s.
    timeout: Option<Time>,
    /// The size of the receive buffer of each. Default: 64 KiB.
    window: Option<Bytes>,
    /// What each reads in a second; 0 is nothing. Default: all at once.
    reads: Option<Bytes>,
    /// The time until the other side has an answer. Default: none.
    rtt: Option<Time>,
    /// What they do when the other side closes.
    #[serde(default)]
    at_end: AtEnd,
    /// The step that has to end first. Default: the first listen on that port.
    pub after: Option<StepReference>,
}

impl Definition for Dial {
    const SHORTHAND: Option<&'static str> = Some("to");
    const MAKES: Makes = Makes::Sockets;

    fn is_limited(&self) -> bool {
        true
    }

    fn waits_for(&self) -> Option<&StepReference> {
        self.after.as_ref()
    }
}

impl RunByActor for Dial {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let dial = |actor: &ActorContext<'_>| {
            let SocketAddr::V4(to) = actor.address_in(&self.to.0, SocketFamily::V4)? else {
                return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
            };
            Ok(actor.peers()?.call(&peers::Calls {
                group: actor.step(),
                to,
                count: self.count.get(),
                addresses: self.addresses.unwrap_or(1).min(250),
                every: self.every.map_or(Duration::ZERO, |Time(time)| time),
                manner: manner(self.window, self.reads, self.rtt, self.at_end),
                sends: self.send.map_or(0, |Bytes(bytes)| bytes),
                awaits: self.expect.map_or(0, |Bytes(bytes)| bytes),
                timeout: self.timeout.map_or(PATIENCE, |Time(time)| time),
            }))
        };
        match dial(actor) {
            Ok(results) => {
                let mut calls = Calls::default();
                for result in results {
                    calls.note(result);
                }
                calls
            }
            Err(error) => Err(error).into(),
        }
    }
}

fn one() -> NonZeroU64 {
    NonZeroU64::MIN
}
