//! `recv`

use super::limit::limited;
use super::prelude::*;
use super::transfer::{Within, length};
use crate::yaml::value::OneOrMore;

/// recv(2): one call, with flags; `bytes` is what it gave.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recv {
    on: Option<SocketName>,
    /// The size of the buffer.
    bytes: Bytes,
    /// One or several. Default: none.
    flags: Option<OneOrMore<Flag>>,
    within: Option<Within>,
}

impl Definition for Recv {
    const SHORTHAND: Option<&'static str> = Some("bytes");
    const OBSERVES: &'static [Field] = RECEIPT;

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
}

impl RunByActor for Recv {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let flags = self.flags.iter().flat_map(|OneOrMore(flags)| flags);
        let flags = flags.fold(0, |all, flag| all | flag.number());
        let mut buffer = vec![0; length(self.bytes.0)];
        actor.transfer(self.on.as_ref(), |socket, done| {
            let end = Within::end(self.within);
            let count = limited(end, || call::receive(socket, &mut buffer, flags))?;
            // With MSG_TRUNC it is more than the buffer holds.
            done.receive(&buffer[..count.min(buffer.len())]);
            done.bytes += count.saturating_sub(buffer.len()) as u64;
            Ok(())
        })
    }
}

/// The flags of recv(2).
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
enum Flag {
    #[serde(rename = "MSG_PEEK")]
    Peek,
    #[serde(rename = "MSG_DONTWAIT")]
    DontWait,
    #[serde(rename = "MSG_WAITALL")]
    WaitAll,
    #[serde(rename = "MSG_OOB")]
    OutOfBand,
    #[serde(rename = "MSG_ERRQUEUE")]
    ErrorQueue,
}

impl Flag {
    const fn number(self) -> i32 {
        match self {
            Self::Peek => libc::MSG_PEEK,
            Self::DontWait => libc::MSG_DONTWAIT,
            Self::WaitAll => libc::MSG_WAITALL,
            Self::OutOfBand => libc::MSG_OOB,
            Self::ErrorQueue => libc::MSG_ERRQUEUE,
        }
    }
}
