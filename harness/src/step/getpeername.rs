//! `getpeername`

use nix::sys::socket::getpeername;

use super::getsockname::address_in;
use super::prelude::*;

/// getpeername(2). `value` is the peer's address, such as server:7000.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Getpeername {
    on: Option<SocketName>,
}

impl Definition for Getpeername {
    const SHORTHAND: Option<&'static str> = Some("on");
    const OBSERVES: &'static [Field] = READING;

    fn value(&self) -> Values {
        Values::Text
    }
}

impl RunByActor for Getpeername {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let mut peer = None;
        let calls = actor.on_each(self.on.as_ref(), |socket| {
            peer = Some(address_in(&getpeername(socket)?)?);
            Ok(())
        });
        calls.with_value(peer.map(|peer| actor.endpoint(peer)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;

    #[test]
    fn a_socket_has_a_peer_once_it_is_connected() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = format!("connect: \"localhost:{port}\"");
        let outcomes = run(&[
            "socket",
            "getpeername: { as: before }",
            &connect,
            "getpeername",
        ]);
        assert_eq!(outcomes["before"].error.as_deref(), Some("ENOTCONN"));
        let peer = outcomes["getpeername"].value.as_deref();
        assert_eq!(peer, Some(format!("localhost:{port}").as_str()));
    }
}
