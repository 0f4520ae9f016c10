//! `accept`

use std::num::NonZeroU64;

use crate::errno;

use super::limit::limited;
use super::prelude::*;
use super::transfer::Within;

/// accept(2).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The listening socket. Default: the one of the last `listen`.
    on: Option<SocketName>,
    /// How many connections to accept.
    #[serde(default = "one")]
    count: NonZeroU64,
    within: Option<Within>,
}

impl Definition for Accept {
    const SHORTHAND: Option<&'static str> = Some("count");
    const MAKES: Makes = Makes::Sockets;

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
}

impl RunByActor for Accept {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let listener = match actor.listener(self.on.as_ref()) {
            Ok(listener) => listener,
            Err(error) => return Err(error).into(),
        };
        let mut calls = Calls::default();
        let mut accepted = Vec::new();
        let end = Within::end(self.within);
        for _ in 0..self.count.get() {
            let socket = limited(end, || call::accept(listener));
            let is_late = socket.as_ref().is_err_and(errno::is_late);
            calls.note(socket.map(|socket| {
                actor.keep(socket);
                accepted.push(socket);
            }));
            if is_late {
                break;
            }
        }
        actor.act_on(accepted);
        calls
    }
}

fn one() -> NonZeroU64 {
    NonZeroU64::MIN
}
