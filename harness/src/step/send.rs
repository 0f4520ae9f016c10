//! `send`

use super::limit::limited;
use super::prelude::*;
use super::transfer::{Within, length};
use crate::yaml::value::{OneOrMore, Payload};

/// send(2): one call, with flags; `bytes` is what it took.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    on: Option<SocketName>,
    /// How many bytes, or a text.
    bytes: Payload,
    /// One or several. Default: none.
    flags: Option<OneOrMore<Flag>>,
    within: Option<Within>,
}

impl Definition for Send {
    const SHORTHAND: Option<&'static str> = Some("bytes");
    const OBSERVES: &'static [Field] = TRANSFER;

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
}

impl RunByActor for Send {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let payload = match &self.bytes {
            Payload::Zeros(bytes) => vec![0; length(*bytes)],
            Payload::Text(text) => text.clone().into_bytes(),
        };
        let flags = self.flags.iter().flat_map(|OneOrMore(flags)| flags);
        let flags = flags.fold(0, |all, flag| all | flag.number());
        actor.transfer(self.on.as_ref(), |socket, done| {
            let end = Within::end(self.within);
            done.bytes += limited(end, || call::send(socket, &payload, flags))? as u64;
            Ok(())
        })
    }
}

/// The flags of send(2).
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
enum Flag {
    #[serde(rename = "MSG_NOSIGNAL")]
    NoSignal,
    #[serde(rename = "MSG_DONTWAIT")]
    DontWait,
    #[serde(rename = "MSG_MORE")]
    More,
    #[serde(rename = "MSG_OOB")]
    OutOfBand,
    #[serde(rename = "MSG_ZEROCOPY")]
    ZeroCopy,
}

impl Flag {
    const fn number(self) -> i32 {
        match self {
            Self::NoSignal => libc::MSG_NOSIGNAL,
            Self::DontWait => libc::MSG_DONTWAIT,
            Self::More => libc::MSG_MORE,
            Self::OutOfBand => libc::MSG_OOB,
            Self::ZeroCopy => libc::MSG_ZEROCOPY,
        }
    }
}
