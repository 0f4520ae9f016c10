//! `destroy`

use serde::Deserializer;

use super::prelude::*;
use crate::lab::address::is_of_host;
use crate::lab::destroy;
use crate::observation::STATES;
use crate::yaml::value::{from_text, inline_schema};

/// SOCK_DESTROY on a host's sockets, as `ss -K` does; `count` is how many.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Destroy {
    /// The host whose sockets they are.
    host: HostName,
    /// Only sockets in this state. Default: any.
    state: Option<State>,
    /// Only sockets with this local port. Default: any.
    port: Option<u16>,
    /// Only sockets that lead to this host. Default: any.
    peer: Option<HostName>,
}

impl Definition for Destroy {
    const SHORTHAND: Option<&'static str> = Some("host");
    const OBSERVES: &'static [Field] = COUNTED;
}

impl RunByLab for Destroy {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let peer = self
            .peer
            .as_ref()
            .map(|peer| lab.number(peer))
            .transpose()?;
        let namespace = lab.namespace(&self.host)?;
        let mut sockets = namespace.sockets()?;
        sockets.retain(|socket| {
            let state = self.state.as_ref();
            state.is_none_or(|State(state)| socket.state.as_str() == state)
                && self.port.is_none_or(|port| socket.local.port() == port)
                && peer.is_none_or(|peer| is_of_host(socket.peer.ip(), peer))
        });
        let destroyed = namespace
            .run(|| destroy::destroy(&sockets))
            .and_then(|done| done);
        let count = destroyed.map_err(|error| {
            LabError::new(
                &self.host,
                "destroy its sockets",
                error,
                "EOPNOTSUPP: the kernel has no CONFIG_INET_DIAG_DESTROY",
            )
        })?;
        lab.value = Some(count.to_string());
        Ok(ControlFlow::Continue(()))
    }
}

/// A TCP state by the kernel's name.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct State(String);

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a TCP state, such as ESTABLISHED", |text| {
            STATES.contains(&text).then(|| Self(text.to_owned()))
        })
    }
}

inline_schema!(State, {"enum": STATES});
