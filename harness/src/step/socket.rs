//! `socket`

use std::net::{Ipv4Addr, Ipv6Addr};

use super::prelude::*;

/// socket(2): a TCP socket that the following steps use.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// The family of the socket. Default: the scenario's.
    family: Option<SocketFamily>,
}

impl Definition for Socket {
    const PREPARES: bool = true;
    const MAKES: Makes = Makes::Sockets;
}

impl RunByActor for Socket {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let family = self.family.map(|family| match family {
            SocketFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
            SocketFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
        });
        actor.make_socket(family).map(|_| ()).into()
    }
}

/// The family of a socket.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
enum SocketFamily {
    #[serde(rename = "ipv4")]
    V4,
    #[serde(rename = "ipv6")]
    V6,
}
