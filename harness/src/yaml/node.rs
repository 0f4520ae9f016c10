//! YAML text as a tree in which every node knows its line and column.
//!
//! The rest of the suite reader works on this tree: an error found late (an await on
//! a step that doesn't exist) has its place as exactly as one found early (a wrong
//! indent).

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, Spanned};

use super::error::{Place, SuiteError};

/// The largest suite file that is read. The whole catalogue is far below it.
pub const FILE_LIMIT_BYTES: u64 = 4 << 20;

/// A YAML node with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub content: Content,
    /// Where it starts.
    pub place: Place,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Content {
    /// Nothing: `key:` with no value.
    Null,
    /// A scalar as text; `7000` and `"7000"` are the same here.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    /// The key's text.
    pub text: String,
    /// Where it starts.
    pub place: Place,
}

impl Node {
    /// What the node is, in the words of an error message.
    pub fn describe(&self) -> String {
        match &self.content {
            Content::Null => "nothing".to_owned(),
            Content::Scalar(text) if text.chars().count() > 40 => {
                let start: String = text.chars().take(40).collect();
                format!("{start:?}...")
            }
            Content::Scalar(text) => format!("{text:?}"),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Parses one YAML document.
pub fn parse(text: &str) -> Result<Node, SuiteError> {
    if text.trim().is_empty() {
        return Err(SuiteError::new(
            Place::START,
            "the file is empty",
            "a suite is a mapping with the key `scenarios`",
        ));
    }
    // `yes`, `on` and `y` are words, as in YAML 1.2.
    let options = serde_yaml::options! { strict_booleans: true };
    serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map_or(Place::START, Place::from);
        // The library's own message may quote the source over several lines
        // and repeats the place; its start says what is wrong.
        let message = error.without_snippet().to_string();
        let message = message.lines().next().unwrap_or("not YAML");
        let message = message.split(" at line ").next().unwrap_or(message);
        // What follows is meant for whoever calls the library.
        let message = message.split(", set ").next().unwrap_or(message);
        match message.strip_prefix("budget breached: ") {
            Some(limit) => SuiteError::new(
                place,
                format!("it expands to more than any suite has ({limit})"),
                "aliases of aliases multiply what they stand for",
            ),
            None => SuiteError::new(place, message, "a suite is YAML"),
        }
    })
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self {
            line: usize::try_from(location.line()).unwrap_or(0).max(1),
            column: usize::try_from(location.column()).unwrap_or(0).max(1),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self {
            content: spanned.value,
            place: spanned.referenced.into(),
        })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a list or a mapping")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let key = Key {
                text: key.value,
                place: key.referenced.into(),
            };
            map.push((key, entries.next_value()?));
        }
        Ok(Content::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn every_node_knows_its_place() {
        let node = parse("a: 1\nb:\n  - x\n  - { c: 7000 }\n").unwrap();
        let Content::Map(entries) = node.content else {
            panic!()
        };
        assert_eq!(entries[1].0.place, Place { line: 2, column: 1 });
        let Content::List(items) = &entries[1].1.content else {
            panic!()
        };
        assert_eq!(items[0].place, Place { line: 3, column: 5 });
        let Content::Map(inner) = &items[1].content else {
            panic!()
        };
        assert_eq!(inner[0].0.place, Place { line: 4, column: 7 });
        assert_eq!(
            inner[0].1.place,
            Place {
                line: 4,
                column: 10
            }
        );
        assert!(matches!(&inner[0].1.content, Content::Scalar(text) if text == "7000"));
    }

    #[test]
    fn yes_and_on_are_words() {
        for word in ["yes", "on", "y", "off", "No"] {
            let node = parse(&format!("{word}: {word}")).unwrap();
            let Content::Map(entries) = node.content else {
                panic!()
            };
            assert_eq!(entries[0].0.text, word);
            assert!(matches!(&entries[0].1.content, Content::Scalar(text) if text == word));
        }
    }

    #[test]
    fn a_duplicate_key_is_an_error_with_its_place() {
        let error = parse("a: 1\na: 2\n").unwrap_err();
        assert_eq!(error.place.line, 2, "{error}");
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            let _ = writeln!(bomb, "a{level}: &a{level} [{}]", vec![below; 9].join(","));
        }
        let error = parse(&bomb).unwrap_err();
        assert!(!error.message.is_empty());
    }

    #[test]
    fn garbage_is_an_error_with_a_place() {
        for garbage in ["\u{1}\u{2}\u{3}", "{", "- - : [", "a: 'x", "%%%%"] {
            assert!(parse(garbage).is_err(), "{garbage:?}");
        }
        let error = parse("a: [1, 2\nb: 3\n").unwrap_err();
        assert!(error.place.line >= 1 && error.place.column >= 1);
    }
}
