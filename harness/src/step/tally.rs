//! `tally`

use super::prelude::*;

/// What peers that are packets saw so far: `ok` is those that are well.
///
/// `errors` are those that were reset, refused or not answered, `bytes` what came.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    on: SocketName,
}

impl Definition for Tally {
    const SHORTHAND: Option<&'static str> = Some("on");
    const OBSERVES: &'static [Field] = TRANSFER;
}

impl RunByActor for Tally {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let tally = match actor.peers() {
            Ok(peers) => peers.tally(&self.on),
            Err(error) => return Err(error).into(),
        };
        let mut calls = Calls::default();
        let errors = [
            (tally.reset, libc::ECONNRESET),
            (tally.refused, libc::ECONNREFUSED),
            (tally.timed_out, libc::ETIMEDOUT),
        ];
        (0..tally.well).for_each(|_| calls.note(Ok(())));
        for (count, number) in errors {
            (0..count).for_each(|_| calls.note(Err(io::Error::from_raw_os_error(number))));
        }
        calls.with_bytes(tally.bytes)
    }
}
