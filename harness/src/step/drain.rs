//! `drain`

use super::prelude::*;
use super::transfer::Chunk;

/// recv(2) with MSG_DONTWAIT until nothing is left; `error` is none then and at EOF.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    on: Option<SocketName>,
}

impl Definition for Drain {
    const OBSERVES: &'static [Field] = RECEIPT;
}

impl RunByActor for Drain {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let mut buffer = vec![0; Chunk::default().length()];
        actor.transfer(self.on.as_ref(), |socket, done| {
            loop {
                match call::receive_now(socket, &mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) => done.receive(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        })
    }
}
