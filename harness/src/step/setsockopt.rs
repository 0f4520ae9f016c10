//! `setsockopt`

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserializer, Serializer};
use serde_json::Value as Json;

use super::option;
use super::option::{OPTIONS, OptionValue, SocketOption};
use super::prelude::*;
use crate::yaml::reader::problem;

/// setsockopt(2): one or more options by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Setsockopt {
    on: Option<SocketName>,
    options: Vec<(&'static SocketOption, OptionValue)>,
}

impl Definition for Setsockopt {
    const PREPARES: bool = true;
}

impl RunByActor for Setsockopt {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        actor.on_each(self.on.as_ref(), |socket| {
            let mut options = self.options.iter();
            options.try_for_each(|(option, value)| option.set(socket, *value))
        })
    }
}

fn settable() -> impl Iterator<Item = &'static SocketOption> {
    OPTIONS.iter().filter(|option| option.value.is_settable())
}

/// `on` and the options.
static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    ["on"]
        .into_iter()
        .chain(settable().map(|option| option.name))
        .collect()
});

/// A key of the step.
enum Key {
    On,
    Option(&'static SocketOption),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        match option::find(&key) {
            _ if key == "on" => Ok(Self::On),
            Some(option) if option.value.is_settable() => Ok(Self::Option(option)),
            _ => Err(D::Error::unknown_field(&key, KEYS.as_slice())),
        }
    }
}

impl<'de> Deserialize<'de> for Setsockopt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StepVisitor;

        impl<'de> Visitor<'de> for StepVisitor {
            type Value = Setsockopt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from options to values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Setsockopt, A::Error> {
                let mut step = Setsockopt {
                    on: None,
                    options: Vec::new(),
                };
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::On => step.on = map.next_value()?,
                        Key::Option(option) => {
                            let value = map.next_value_seed(option.value)?;
                            step.options.push((option, value));
                        }
                    }
                }
                if step.options.is_empty() {
                    let hint = "such as { setsockopt: { SO_REUSEADDR: 1 } }";
                    return Err(A::Error::custom(problem("setsockopt: no option", hint)));
                }
                Ok(step)
            }
        }

        deserializer.deserialize_struct("Setsockopt", KEYS.as_slice(), StepVisitor)
    }
}

impl Serialize for Setsockopt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(on) = &self.on {
            map.serialize_entry("on", on)?;
        }
        for (option, value) in &self.options {
            map.serialize_entry(option.name, value)?;
        }
        map.end()
    }
}

impl JsonSchema for Setsockopt {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Setsockopt".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut properties = serde_json::Map::new();
        properties.insert(
            "on".to_owned(),
            generator.subschema_for::<SocketName>().to_value(),
        );
        for option in settable() {
            let mut value = option.value.schema();
            value["description"] = Json::from(option.doc);
            properties.insert(option.name.to_owned(), value);
        }
        json_schema!({
            "description": "setsockopt(2): one or more options by name.",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}
