//! `getsockopt`

use serde::{Deserializer, Serializer};

use super::option;
use super::option::{OPTIONS, SocketOption, Type};
use super::prelude::*;
use crate::yaml::value::{from_text, inline_schema};

/// getsockopt(2): the option's value, SO_ERROR as an errno's name.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Getsockopt {
    on: Option<SocketName>,
    /// The option.
    option: OptionName,
}

impl Definition for Getsockopt {
    const SHORTHAND: Option<&'static str> = Some("option");
    const OBSERVES: &'static [Field] = READING;

    fn value(&self) -> Values {
        match self.option.0.value {
            Type::Errno => Values::Errno,
            Type::Integer => Values::Quantity,
            Type::Linger => Values::Text,
        }
    }
}

impl RunByActor for Getsockopt {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        actor.read_each(self.on.as_ref(), |socket| self.option.0.get(socket))
    }
}

/// An option by its name.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OptionName(&'static SocketOption);

impl Serialize for OptionName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for OptionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let find = |text: &str| option::find(text).map(Self);
        from_text(deserializer, option::names(), find)
    }
}

inline_schema!(OptionName, {"enum": OPTIONS.iter().map(|option| option.name).collect::<Vec<_>>()});
