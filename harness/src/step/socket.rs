//! `socket`

use super::call::Protocol;
use super::prelude::*;
use crate::lab::address::SocketFamily;

/// socket(2): a socket that the following steps use.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// The family of the socket. Default: the scenario's.
    pub family: Option<SocketFamily>,
    /// The protocol; mptcp is Multipath TCP.
    #[serde(default)]
    protocol: Protocol,
}

impl Definition for Socket {
    const PREPARES: bool = true;
    const MAKES: Makes = Makes::Sockets;
}

impl RunByActor for Socket {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let made = actor.make_socket(self.family, self.protocol);
        made.map(|_| ()).into()
    }
}
