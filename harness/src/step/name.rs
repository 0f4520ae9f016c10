//! Names in a step. Each has a type of its own, by which it is looked up once the whole
//! scenario is read: see `suite::check`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::lab::address::split_family;
use crate::yaml::reader::problem;
use crate::yaml::value::{Words, from_name, from_text};

/// Addresses that an endpoint may name beside hosts: every address of the actor's own
/// host, and its loopback.
pub const OWN_ADDRESSES: [&str; 2] = ["any", "localhost"];

/// Whether a text is a name of the writer's own.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// What is expected where a text is no name.
const EXPECTED: &str = "a name of lower-case letters, digits and dashes";

/// Reads a name as its text.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    from_text(deserializer, EXPECTED, |text| {
        is_name(text).then(|| text.to_owned())
    })
}

/// Texts of which the type says what they name.
macro_rules! names {
    ($($(#[doc = $doc:literal])+ $name:ident)*) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, Eq, PartialEq, Serialize)]
            pub struct $name(String);

            impl Deref for $name {
                type Target = str;

                fn deref(&self) -> &str {
                    &self.0
                }
            }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    from_name(deserializer, stringify!($name), EXPECTED, |text| {
                        is_name(text).then(|| Self(text.to_owned()))
                    })
                }
            }

            impl JsonSchema for $name {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({
                        "type": "string",
                        "pattern": "^[a-z0-9-]+$",
                        "description": concat!($($doc),+).trim(),
                    })
                }
            }
        )*
    };
}

names! {
    /// A name of lower-case letters, digits and dashes.
    Name
    /// The host.
    HostName
    /// The host whose link it is.
    LinkHost
    /// The actor.
    ActorName
    /// The actor, which is a command.
    CommandActor
    /// The socket or set of sockets that the step acts on. Default: the one used last.
    SocketName
    /// A name for an epoll instance.
    EpollName
    /// The sendfile or splice of the same actor that sent the file.
    FileName
}

/// `host:port`, or a port alone for the actor's own host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The host, or one of [`OWN_ADDRESSES`].
    pub host: Option<String>,
    /// The port; 0 is any.
    pub port: u16,
}

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        (host.is_empty() || is_name(host)).then_some(())?;
        Some(Self {
            host: Some(host.to_owned()).filter(|host| !host.is_empty()),
            port: port.parse().ok()?,
        })
    }

    /// The host that has to be there: none for the actor's own addresses.
    pub fn host_in(text: &str) -> Option<&str> {
        let (host, _) = text.rsplit_once(':')?;
        let is_own = |host: &str| OWN_ADDRESSES.contains(&host);
        let names_own = is_own(host) || split_family(host).is_some_and(|(host, _)| is_own(host));
        (!host.is_empty() && !names_own).then_some(host)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// What is no endpoint: an address in the place of a name.
        fn is_address(text: &str) -> bool {
            let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok() || text.parse::<std::net::IpAddr>().is_ok()
        }

        let mut address = None;
        let read = from_name(deserializer, "Endpoint", "host:port, or a port", |text| {
            address = is_address(text).then(|| text.to_owned());
            Self::parse(text)
        });
        match address {
            Some(address) => Err(D::Error::custom(problem(
                format!("{address:?}: an address stands where a host's name does"),
                "any:7000 or any6:7000 for every address of the host, localhost:7000, or a host \
                 as in server:7000",
            ))),
            None => read,
        }
    }
}

crate::yaml::value::inline_schema!(
    Endpoint,
    {"type": ["string", "integer"], "pattern": "^([a-z0-9-]*:)?[0-9]+$"}
);

/// `host:port` of somebody to connect to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Destination(pub Endpoint);

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let endpoint = Endpoint::deserialize(deserializer)?;
        if endpoint.host.is_none() {
            let hint = "host:port, such as server:7000";
            return Err(D::Error::custom(problem("connect needs a host", hint)));
        }
        Ok(Self(endpoint))
    }
}

crate::yaml::value::inline_schema!(
    Destination,
    {"type": ["string", "integer"], "pattern": "^([a-z0-9-]*:)?[0-9]+$"}
);

/// A step of another list: `actor.step`, or `lab.step`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct StepReference {
    /// The actor, or `lab`.
    pub list: String,
    /// The step.
    pub step: String,
}

impl StepReference {
    /// Reads `actor.step`.
    pub fn parse(text: &str) -> Option<Self> {
        let (list, step) = text.split_once('.')?;
        (is_name(list) && !step.is_empty()).then(|| Self {
            list: list.to_owned(),
            step: step.to_owned(),
        })
    }
}

impl fmt::Display for StepReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.list, self.step)
    }
}

impl Serialize for StepReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StepReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_name(deserializer, "StepReference", "actor.step", Self::parse)
    }
}

crate::yaml::value::inline_schema!(
    StepReference,
    {"type": "string", "pattern": "^[a-z0-9-]+\\..+$"}
);

/// The name of a sysctl of the network, dotted.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct SysctlName(String);

impl Deref for SysctlName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl SysctlName {
    /// Checks a name; the error has a hint.
    pub fn check(name: &str) -> Result<(), (String, &'static str)> {
        let fits = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        if name.starts_with("net.") && name.split('.').all(fits) {
            return Ok(());
        }
        let message = format!("{name:?} is not a network sysctl");
        Err((message, "dotted, as in net.ipv4.tcp_fin_timeout"))
    }
}

impl<'de> Deserialize<'de> for SysctlName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Words::deserialize(deserializer)?.0;
        match Self::check(&name) {
            Ok(()) => Ok(Self(name)),
            Err((message, hint)) => Err(D::Error::custom(problem(message, hint))),
        }
    }
}

crate::yaml::value::inline_schema!(SysctlName);
