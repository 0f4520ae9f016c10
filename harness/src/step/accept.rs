//! `accept`

use std::num::NonZeroU64;

use super::prelude::*;

/// accept(2).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The listening socket. Default: the one of the last `listen`.
    on: Option<SocketName>,
    /// How many connections to accept.
    #[serde(default = "one")]
    count: NonZeroU64,
}

impl Definition for Accept {
    const SHORTHAND: Option<&'static str> = Some("count");
    const MAKES: Makes = Makes::Sockets;
}

impl RunByActor for Accept {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let listener = match actor.listener(self.on.as_ref()) {
            Ok(listener) => listener,
            Err(error) => return Err(error).into(),
        };
        let mut calls = Calls::default();
        let mut accepted = Vec::new();
        for _ in 0..self.count.get() {
            calls.note(call::accept(listener).map(|socket| {
                actor.keep(socket);
                accepted.push(socket);
            }));
        }
        actor.act_on(accepted);
        calls
    }
}

fn one() -> NonZeroU64 {
    NonZeroU64::MIN
}
