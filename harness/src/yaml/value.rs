//! Values of a suite, each read from its text and written as such.
//!
//! What is sent to actors and guests is the same text, so that a value has one form.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Serialize, Serializer};

use super::error::Place;
use super::quantity;
use super::reader::{ONE_OR_MORE, PLACED, problem};
use super::schema::AS_IT_IS;
use crate::impairment::Probability;

/// A text that a type is read from.
struct Text<T, F>(&'static str, F, PhantomData<T>);

impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Text<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        let expected = self.0;
        (self.1)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &expected))
    }
}

/// Reads a value from a text; `expected` says what the text can be.
pub fn from_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Text(expected, parse, PhantomData))
}

/// Reads a value from a text that the reader is to keep as a mention of `name`, with its
/// place.
pub fn from_name<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    name: &'static str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct NameVisitor<T, F>(Text<T, F>);

    impl<'de, T, F: FnOnce(&str) -> Option<T>> Visitor<'de> for NameVisitor<T, F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0.0)
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<T, D::Error> {
            deserializer.deserialize_str(self.0)
        }
    }

    let visitor = NameVisitor(Text(expected, parse, PhantomData));
    deserializer.deserialize_newtype_struct(name, visitor)
}

/// A list; the text is what is expected where there is none.
struct List<T>(&'static str, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        Vec::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        std::iter::from_fn(|| items.next_element().transpose()).collect()
    }
}

/// Reads a list; `expected` says what it is a list of.
pub fn from_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(List(expected, PhantomData))
}

/// A value that is read from one text and written as one.
macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident($inner:ty), $expected:literal, $parse:expr, $write:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer, $expected, $parse).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let write: fn($inner) -> String = $write;
                f.write_str(&write(self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        inline_schema!($name, $schema);
    };
}

/// A schema that stands where the type is used; that of a text where none is given.
macro_rules! inline_schema {
    ($name:ident) => {
        $crate::yaml::value::inline_schema!($name, {
            "type": ["string", "number", "boolean"], ($crate::yaml::schema::AS_IT_IS): true
        });
    };
    ($name:ident, $schema:tt) => {
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use inline_schema;

text_value!(
    /// Bytes, such as 100, 64KiB or 1MB.
    Bytes(u64),
    "bytes, such as 100, 64KiB or 1MB",
    quantity::bytes,
    quantity::write_bytes,
    {"type": ["string", "integer"], "pattern": "^[0-9.]+ ?(B|kB|MB|GB|KiB|MiB|GiB)?$"}
);

text_value!(
    /// A time with its unit.
    Time(Duration),
    "a time with its unit: us, ms, s or min",
    quantity::duration,
    quantity::write_duration,
    {"type": ["string", "integer"], "pattern": "^[0-9.]+ ?(us|ms|s|min)?$"}
);

text_value!(
    /// A probability.
    Percent(Probability),
    "a probability in percent, such as 2%",
    quantity::percent,
    quantity::write_percent,
    {"type": "string", "pattern": "^[0-9.]+ ?%$"}
);

text_value!(
    /// Bits a second.
    Rate(u64),
    "bits a second, such as 500kbit, 10mbit or 1gbit",
    quantity::bits_per_second,
    |rate| format!("{rate}bit"),
    {"type": "string", "pattern": "^[0-9.]+ ?[kmg]?bit$"}
);

/// What is written to a socket: zeros, or a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Payload {
    /// So many zeros.
    Zeros(u64),
    /// A text; none that reads as a number of bytes.
    Text(String),
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(
            deserializer,
            "bytes, such as 64KiB or 1MB, or a text",
            |text| match quantity::bytes(text) {
                Some(bytes) => Some(Self::Zeros(bytes)),
                None => (!quantity::is_meant_as_bytes(text)).then(|| Self::Text(text.to_owned())),
            },
        )
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeros(bytes) => Bytes(*bytes).fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

inline_schema!(Payload, {"type": ["string", "integer"], AS_IT_IS: true});

/// A plain text; a number or a flag is one too.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Words(pub String);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a text", |text| Some(Self(text.to_owned())))
    }
}

impl Deref for Words {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

inline_schema!(Words);

/// A value with its place in the file. The place is not written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize> Serialize for Placed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PlacedVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for PlacedVisitor<T> {
            type Value = Placed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Placed<T>, D::Error> {
                let value = T::deserialize(deserializer)?;
                let place = Place::START;
                Ok(Placed { value, place })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Placed<T>, A::Error> {
                let nothing = || de::Error::custom("a value without its place");
                let place = seq.next_element()?.ok_or_else(nothing)?;
                let value = seq.next_element()?.ok_or_else(nothing)?;
                Ok(Placed { value, place })
            }
        }

        deserializer.deserialize_newtype_struct(PLACED, PlacedVisitor(PhantomData))
    }
}

/// The schema of a wrapper is that of what is in it.
macro_rules! schema_of_inner {
    ($wrapper:ident, |$generator:ident| $schema:expr) => {
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                format!("{}_{}", stringify!($wrapper), T::schema_name()).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema_of_inner!(Placed, |generator| T::json_schema(generator));

/// A list, or one value for a list of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OneOrMore<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = List("a value or a list of them", PhantomData);
        let list = deserializer.deserialize_newtype_struct(ONE_OR_MORE, visitor)?;
        if list.is_empty() {
            return Err(de::Error::custom(problem(
                "an empty list",
                "one or several",
            )));
        }
        Ok(Self(list))
    }
}

impl<T: Serialize> Serialize for OneOrMore<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(ONE_OR_MORE, &self.0)
    }
}

schema_of_inner!(OneOrMore, |generator| {
    let one = T::json_schema(generator);
    json_schema!({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]})
});

/// A mapping with names of the writer's own, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries<T>(pub Vec<(Placed<String>, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for Entries<T> {
    type Target = [(Placed<String>, T)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let entries = std::iter::from_fn(|| map.next_entry().transpose());
                entries.collect::<Result<_, _>>().map(Entries)
            }
        }

        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

schema_of_inner!(Entries, |generator| {
    json_schema!({"type": "object", "additionalProperties": T::json_schema(generator)})
});
