//! A serde deserializer over a [`Node`]: values are read by their types, and whatever
//! is wrong has its place, the words of the file and what is allowed there.
//!
//! Three things are asked of it by the name of a type, since serde has no other way:
//!
//! - [`PLACED`]: the value with its place;
//! - [`ONE_OR_MORE`]: a list, or one value for a list of one;
//! - [`STEP`]: a step, which is a word or a mapping with one key.
//!
//! Of every other newtype around a scalar it keeps a [`Mention`]: the names of hosts,
//! actors and steps are looked up once the whole scenario is read.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value as Json;

use super::error::{Place, SuiteError};
use super::node::{Content, Key, Node};

/// The newtype that is read with its place.
pub const PLACED: &str = "$Placed";
/// The newtype of a list that may be one value.
pub const ONE_OR_MORE: &str = "$OneOrMore";
/// The struct of a step.
pub const STEP: &str = "$Step";

/// What every step takes beside its own keys.
const OF_EVERY_STEP: [&str; 2] = ["as", "may-fail"];

/// What separates an error's message from its hint, for [`problem`].
const HINT: &str = "\nhint: ";

/// An error of a value, for `serde::de::Error::custom`, with a hint of its own.
pub fn problem(message: impl fmt::Display, hint: &str) -> String {
    format!("{message}{HINT}{hint}")
}

/// What the reader has to know of the types that it reads.
pub struct Grammar {
    /// The key that a bare value of a step stands for, by the step.
    pub shorthand: fn(&str) -> Option<&'static str>,
    /// The JSON Schema in which the keys are described.
    pub schema: fn() -> Json,
}

/// A name in a scenario, to be looked up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mention {
    /// The type of the name, such as `HostName`.
    pub of: &'static str,
    /// The name.
    pub text: String,
    /// Where it stands.
    pub place: Place,
    /// The keys that lead to it from the top.
    pub path: Vec<String>,
}

struct Context<'a> {
    grammar: &'a Grammar,
    path: RefCell<Vec<String>>,
    mentions: RefCell<Vec<Mention>>,
}

/// Reads a value; `what` is the key it stands under. Also returns the names in it.
pub fn read<T: DeserializeOwned>(
    node: &Node,
    what: &str,
    grammar: &Grammar,
) -> Result<(T, Vec<Mention>), SuiteError> {
    let context = Context {
        grammar,
        path: RefCell::default(),
        mentions: RefCell::default(),
    };
    let reader = Reader {
        node,
        what,
        context: &context,
        takes_as: false,
    };
    match T::deserialize(reader) {
        Ok(value) => Ok((value, context.mentions.into_inner())),
        Err(error) => Err(reader.located(error)),
    }
}

/// An error on its way from the value to the node that knows the place.
#[derive(Debug)]
pub enum ReadError {
    /// Something else is expected here.
    Expected(String),
    /// A key is missing.
    Missing(&'static str),
    /// A key is not known.
    Unknown(&'static [&'static str]),
    /// A word is none of those of an enum.
    UnknownWord(&'static [&'static str]),
    /// A message of the value's own, see [`problem`].
    Other(String),
    /// With its place.
    Located(Box<SuiteError>),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for ReadError {}

impl From<SuiteError> for ReadError {
    fn from(error: SuiteError) -> Self {
        Self::Located(Box::new(error))
    }
}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn invalid_type(_: Unexpected, expected: &dyn Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn invalid_value(_: Unexpected, expected: &dyn Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownWord(expected)
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Unknown(expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

/// What serde's and the standard library's own types say they expect, in our words.
fn in_our_words(expected: String) -> String {
    match expected.as_str() {
        "u32" | "u64" => "a whole number",
        "i64" => "a whole number, which may be negative",
        "u16" => "a whole number up to 65535",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" | "a nonzero u64" => "a whole number from 1",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        "a map" => "a mapping",
        _ => return expected,
    }
    .to_owned()
}

fn expected_by<'de, V: Visitor<'de>>(visitor: &V) -> ReadError {
    ReadError::Expected((visitor as &dyn Expected).to_string())
}

/// Reads one node.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    /// The key that the node stands under.
    what: &'a str,
    context: &'a Context<'a>,
    /// Whether it is what a step takes, where the key `as` has been read already.
    takes_as: bool,
}

impl<'a> Reader<'a> {
    fn at(self, node: &'a Node, what: &'a str) -> Self {
        Self {
            node,
            what,
            takes_as: false,
            ..self
        }
    }

    /// An error with this node's place, where it has none yet.
    fn located(self, error: ReadError) -> SuiteError {
        let what = self.what;
        let (message, hint) = match error {
            ReadError::Located(error) => return *error,
            ReadError::Expected(expected) => {
                let found = self.node.describe();
                let message = format!("{what}: {found} isn't allowed here");
                (message, in_our_words(expected))
            }
            ReadError::UnknownWord(words) => {
                let found = self.node.describe();
                let message = format!("{what}: {found} isn't allowed here");
                (message, format!("one of {}", words.join(", ")))
            }
            ReadError::Other(text) => match text.split_once(HINT) {
                Some((message, hint)) => (message.to_owned(), hint.to_owned()),
                None => (text, String::new()),
            },
            ReadError::Missing(key) => (format!("{what}: {key:?} is missing"), String::new()),
            ReadError::Unknown(known) => {
                let place = self.node.place;
                return SuiteError::no_such("unknown key", what, place, self.keys(known));
            }
        };
        SuiteError::new(self.node.place, message, hint)
    }

    fn number<'de, N, V>(
        self,
        visitor: V,
        visit: impl FnOnce(V, N) -> Visited<'de, V>,
    ) -> Visited<'de, V>
    where
        N: std::str::FromStr,
        V: Visitor<'de>,
    {
        let number = match &self.node.content {
            Content::Scalar(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => visit(visitor, number),
            None => Err(expected_by(&visitor)),
        }
        .map_err(|error| self.located(error).into())
    }

    fn keys<'k>(&self, keys: &'k [&'k str]) -> Vec<&'k str> {
        let own: &[&str] = if self.takes_as { &OF_EVERY_STEP } else { &[] };
        own.iter().copied().chain(keys.iter().copied()).collect()
    }

    /// What a missing key is described as: in the schema it is with the same others.
    fn hint(&self, keys: &[&str], missing: &str) -> String {
        let schema = (self.context.grammar.schema)();
        let description = describe(&schema, keys, missing).unwrap_or_default();
        format!("{missing}: {description}")
    }

    fn map<'de, V: Visitor<'de>>(self, visitor: V) -> Visited<'de, V> {
        let entries = match &self.node.content {
            Content::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        visitor.visit_map(MapReader {
            reader: self,
            entries: entries.iter(),
            value: None,
            of_step: false,
        })
    }
}

type Visited<'de, V> = Result<<V as Visitor<'de>>::Value, ReadError>;

/// The description of a key, of the object in a schema that has just these keys.
fn describe(schema: &Json, keys: &[&str], key: &str) -> Option<String> {
    match schema {
        Json::Object(object) => {
            let own = object.get("properties").and_then(Json::as_object);
            if let Some(own) = own
                && keys.iter().all(|key| own.contains_key(*key))
                && own.keys().all(|own| {
                    OF_EVERY_STEP.contains(&own.as_str()) || keys.contains(&own.as_str())
                })
            {
                let text = own.get(key)?.get("description")?.as_str()?;
                return Some(text.to_owned());
            }
            object.values().find_map(|value| describe(value, keys, key))
        }
        Json::Array(items) => items.iter().find_map(|item| describe(item, keys, key)),
        _ => None,
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.number::<$type, V>(visitor, V::$visit)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Visited<'de, V> {
        match &self.node.content {
            Content::Null => visitor.visit_unit(),
            Content::Scalar(text) => visitor.visit_str(text),
            Content::List(items) => visitor.visit_seq(ListReader {
                reader: self,
                items: items.iter(),
            }),
            Content::Map(_) => self.map(visitor),
        }
        .map_err(|error| self.located(error).into())
    }

    numbers! {
        deserialize_bool visit_bool bool;
        deserialize_i64 visit_i64 i64;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Visited<'de, V> {
        match &self.node.content {
            Content::Scalar(_) => self.deserialize_any(visitor),
            _ => Err(self.located(expected_by(&visitor)).into()),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Visited<'de, V> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Visited<'de, V> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Visited<'de, V> {
        if name == PLACED {
            return visitor.visit_seq(PlacedReader {
                reader: self,
                next: 0,
            });
        }
        if name == ONE_OR_MORE {
            let items = match &self.node.content {
                Content::List(items) => items.as_slice(),
                _ => std::slice::from_ref(self.node),
            };
            let items = items.iter();
            return visitor.visit_seq(ListReader {
                reader: self,
                items,
            });
        }
        let value = visitor
            .visit_newtype_struct(self)
            .map_err(|error| self.located(error))?;
        if let Content::Scalar(text) = &self.node.content {
            self.context.mentions.borrow_mut().push(Mention {
                of: name,
                text: text.clone(),
                place: self.node.place,
                path: self.context.path.borrow().clone(),
            });
        }
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Visited<'de, V> {
        match &self.node.content {
            Content::List(_) => self.deserialize_any(visitor),
            _ => Err(self.located(expected_by(&visitor)).into()),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Visited<'de, V> {
        match &self.node.content {
            Content::Map(_) => self.deserialize_any(visitor),
            _ => Err(self.located(expected_by(&visitor)).into()),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Visited<'de, V> {
        if name == STEP {
            return visitor.visit_map(StepReader::new(self)?);
        }
        let result = match &self.node.content {
            Content::Map(_) | Content::Null => self.map(visitor),
            _ => {
                let keys = self.keys(keys).join(", ");
                Err(ReadError::Expected(format!("a mapping with {keys}")))
            }
        };
        result.map_err(|error| {
            let missing = match error {
                ReadError::Missing(key) => Some(key),
                _ => None,
            };
            let mut error = self.located(error);
            if let Some(key) = missing {
                error.hint = self.hint(keys, key);
            }
            error.into()
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Visited<'de, V> {
        match &self.node.content {
            Content::Scalar(text) if words.contains(&text.as_str()) => {
                let word: StrDeserializer<ReadError> = text.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            _ => Err(ReadError::unknown_variant("", words)),
        }
        .map_err(|error| self.located(error).into())
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

struct ListReader<'a> {
    reader: Reader<'a>,
    items: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for ListReader<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let item = self.items.next();
        item.map(|item| {
            let reader = self.reader.at(item, self.reader.what);
            seed.deserialize(reader)
                .map_err(|error| reader.located(error).into())
        })
        .transpose()
    }
}

/// Gives a value as a list of its place and itself.
struct PlacedReader<'a> {
    reader: Reader<'a>,
    next: u8,
}

fn place_reader<'de>(place: Place) -> impl Deserializer<'de, Error = ReadError> {
    let fields = [("line", place.line), ("column", place.column)];
    MapDeserializer::new(fields.into_iter())
}

impl<'de> SeqAccess<'de> for PlacedReader<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        self.next += 1;
        match self.next {
            1 => seed
                .deserialize(place_reader(self.reader.node.place))
                .map(Some),
            _ => seed.deserialize(self.reader).map(Some),
        }
    }
}

struct MapReader<'a> {
    reader: Reader<'a>,
    entries: std::slice::Iter<'a, (Key, Node)>,
    value: Option<&'a (Key, Node)>,
    /// Whether it is a step with what it takes.
    of_step: bool,
}

impl<'de> MapAccess<'de> for MapReader<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        if self.of_step {
            // A synthetic step, with a $, can't be written.
            let word = Some(key.text.as_str()).filter(|word| !word.starts_with('$'));
            return seed
                .deserialize(word.unwrap_or_default().into_deserializer())
                .map(Some);
        }
        let node = Node {
            content: Content::Scalar(key.text.clone()),
            place: key.place,
        };
        let reader = Reader {
            node: &node,
            what: &key.text,
            ..self.reader
        };
        seed.deserialize(reader)
            .map(Some)
            .map_err(|error| reader.located(error).into())
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some((key, node)) = self.value else {
            return Err(ReadError::custom("a value without a key"));
        };
        // A bare value of a step stands where the mapping with it would, and is named
        // after the step.
        let is_bare = key.place == node.place && !self.of_step;
        let what = if is_bare { self.reader.what } else { &key.text };
        let reader = Reader {
            takes_as: self.of_step,
            ..self.reader.at(node, what)
        };
        let path = &self.reader.context.path;
        path.borrow_mut().push(key.text.clone());
        let value = seed
            .deserialize(reader)
            .map_err(|error| reader.located(error).into());
        path.borrow_mut().pop();
        value
    }
}

/// Gives a step as a mapping with its name, its place and what it does. It is a bare
/// word, or a mapping with the word as its one key.
struct StepReader<'a> {
    reader: Reader<'a>,
    word: Key,
    name: Option<Node>,
    may_fail: Option<Node>,
    takes: Node,
    next: u8,
}

impl<'a> StepReader<'a> {
    fn new(reader: Reader<'a>) -> Result<Self, SuiteError> {
        let node = reader.node;
        let (word, value) = match &node.content {
            Content::Scalar(text) => {
                let word = Key {
                    text: text.clone(),
                    place: node.place,
                };
                let content = Content::Null;
                (word, Node { content, ..*node })
            }
            Content::Map(entries) if entries.len() == 1 => entries[0].clone(),
            Content::Map(entries) if entries.len() > 1 => {
                let second = &entries[1].0;
                let message = format!(
                    "a step has one key, here is a second one: {:?}",
                    second.text
                );
                let hint = "what a step takes goes in a mapping below it: { write: { bytes: 1MB, on: conn } }";
                return Err(SuiteError::new(second.place, message, hint));
            }
            _ => {
                let message = format!("a step can't be {}", node.describe());
                let hint =
                    "a step such as accept, or a mapping such as { connect: \"server:7000\" }";
                return Err(SuiteError::new(node.place, message, hint));
            }
        };
        let place = value.place;
        let shorthand = (reader.context.grammar.shorthand)(&word.text);
        let mut content = value.content;
        if let (Content::Scalar(_) | Content::List(_), Some(key)) = (&content, shorthand) {
            let text = key.to_owned();
            content = Content::Map(vec![(Key { text, place }, Node { content, place })]);
        }
        let mut take = |key: &str| match &mut content {
            Content::Map(entries) => {
                let position = entries.iter().position(|(known, _)| known.text == key);
                position.map(|position| entries.remove(position).1)
            }
            _ => None,
        };
        let [name, may_fail] = OF_EVERY_STEP.map(&mut take);
        if name.is_none() && shorthand == Some("as") {
            let message = format!("{}: \"as\" is missing", word.text);
            return Err(SuiteError::new(place, message, "as: the name of the step"));
        }
        let takes = Node { content, place };
        Ok(Self {
            reader,
            word,
            name,
            may_fail,
            takes,
            next: 0,
        })
    }
}

impl<'de> MapAccess<'de> for StepReader<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        self.next += 1;
        if self.next == 3 && self.may_fail.is_none() {
            self.next += 1;
        }
        let keys = ["kind", "name", "may-fail", "place"];
        let key = keys.get(usize::from(self.next) - 1);
        let key = key.map(|key| IntoDeserializer::<ReadError>::into_deserializer(*key));
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        match self.next {
            1 => {
                // An enum is read from a mapping with one key.
                let kind = [(self.word.clone(), self.takes.clone())];
                let map = MapReader {
                    reader: self.reader,
                    entries: kind.iter(),
                    value: None,
                    of_step: true,
                };
                let kind = seed.deserialize(MapAccessDeserializer::new(map));
                kind.map_err(|error| match error {
                    ReadError::UnknownWord(known) => {
                        let Key { text, place } = &self.word;
                        let known = known.iter().copied().filter(|word| !word.starts_with('$'));
                        SuiteError::no_such("unknown step", text, *place, known).into()
                    }
                    error => error,
                })
            }
            2 => match &self.name {
                Some(name) => seed.deserialize(self.reader.at(name, "as")),
                None => seed.deserialize(self.word.text.as_str().into_deserializer()),
            },
            3 => match &self.may_fail {
                Some(may_fail) => {
                    let reader = self.reader.at(may_fail, "may-fail");
                    let value = seed.deserialize(reader);
                    value.map_err(|error| reader.located(error).into())
                }
                None => Err(ReadError::custom("may-fail without a value")),
            },
            _ => seed.deserialize(place_reader(self.word.place)),
        }
    }
}
