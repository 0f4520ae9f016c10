//! `getsockname`

use std::net::SocketAddr;

use nix::sys::socket::{SockaddrStorage, getsockname};

use super::prelude::*;

/// getsockname(2). `value` is the socket's own address, such as client:40000 or any:0.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Getsockname {
    on: Option<SocketName>,
}

impl Definition for Getsockname {
    const SHORTHAND: Option<&'static str> = Some("on");
    const OBSERVES: &'static [Field] = READING;

    fn value(&self) -> Values {
        Values::Text
    }
}

impl RunByActor for Getsockname {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let mut own = None;
        let calls = actor.on_each(self.on.as_ref(), |socket| {
            own = Some(address_in(&getsockname(socket)?)?);
            Ok(())
        });
        calls.with_value(own.map(|own| actor.endpoint(own)))
    }
}

/// An address that the kernel gave.
pub(super) fn address_in(storage: &SockaddrStorage) -> io::Result<SocketAddr> {
    match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(address), _) => Ok(SocketAddr::V4((*address).into())),
        (_, Some(address)) => Ok(SocketAddr::V6((*address).into())),
        _ => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;

    #[test]
    fn a_socket_has_an_address_once_it_is_bound() {
        let outcomes = run(&[
            "socket",
            "getsockname: { as: before }",
            "bind: \"localhost:0\"",
            "getsockname",
        ]);
        assert_eq!(outcomes["before"].value.as_deref(), Some("any:0"));
        let bound = outcomes["getsockname"].value.as_deref().unwrap();
        assert!(
            bound.starts_with("localhost:") && bound != "localhost:0",
            "{bound}"
        );
    }
}
