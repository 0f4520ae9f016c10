//! The grammar of a suite as data: which keys a mapping has and what each takes.
//!
//! One table serves the reader, its error messages (what is allowed here) and
//! the JSON Schema that editors complete from, so that they can't disagree.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::error::{Place, SuiteError, nearest};
use super::node::{Key, Kind, Node};
use super::step::{Room, Step};
use super::units;
use crate::suite::impairment::Probability;
use advisor_facts::release::Release;

/// A key of a mapping.
#[derive(Debug)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// What it takes.
    pub form: Form,
    /// Whether it has to be there.
    pub required: bool,
    /// What it means; shown by editors.
    pub doc: &'static str,
}

/// A key that may be left out.
pub const fn optional(name: &'static str, form: Form, doc: &'static str) -> Field {
    Field {
        name,
        form,
        required: false,
        doc,
    }
}

/// A key that has to be there.
pub const fn required(name: &'static str, form: Form, doc: &'static str) -> Field {
    Field {
        name,
        form,
        required: true,
        doc,
    }
}

/// A mapping with known keys.
#[derive(Debug)]
pub struct Object {
    /// Its keys.
    pub fields: &'static [Field],
    /// The key that a bare scalar in place of the mapping stands for.
    pub short: Option<&'static str>,
}

impl Object {
    fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// What a value looks like.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Lower-case letters, digits and dashes.
    Name,
    /// Any text.
    Text,
    /// A whole number from 0.
    Count,
    /// A whole number from 1.
    Positive,
    /// Bytes with an optional unit.
    Bytes,
    /// Bytes with an optional unit, or else the text itself.
    Payload,
    /// A time with its unit.
    Duration,
    /// A number with %.
    Percent,
    /// Bits a second.
    Rate,
    /// true or false.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `host:port`; `port` alone where the host is the actor's own.
    Endpoint,
    /// `actor.step`.
    Reference,
    /// The value of a socket option: a number, or two for `SO_LINGER`.
    OptionValue,
    /// A condition, or a list of which one has to hold.
    Condition,
    /// A mapping with known keys.
    Object(&'static Object),
    /// A mapping with names of the writer's own as keys.
    Map(&'static Form),
    /// A list.
    List(&'static Form),
    /// A list of steps of an actor or of the lab.
    Steps(Room),
    /// One, or a list of them; read as a list.
    OneOrMore(&'static Form),
    /// `Linux 6.11`.
    Release,
    /// The axes of a matrix. [`super::matrix`] reads them and puts their values in
    /// place before anything is brought into its form.
    Axes,
}

/// A value that fits its form.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Data {
    /// Text, a name, a choice, an endpoint, a reference, an option's value.
    Text(String),
    /// A number, bytes, bits a second.
    Count(u64),
    /// A time.
    Duration(Duration),
    /// A probability in netem's scale.
    Probability(u32),
    /// true or false.
    Flag(bool),
    /// A list, or the alternatives of a condition.
    List(Vec<Item>),
    /// A mapping with known keys.
    Object(Fields),
    /// A mapping with names of the writer's own.
    Map(Vec<(Key, Item)>),
    /// Steps.
    Steps(Vec<Step>),
}

/// A value with its place.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Item {
    /// The value.
    pub data: Data,
    /// Where it stands; not carried to the actors.
    #[serde(skip)]
    pub place: Place,
}

/// The keys of a mapping that the writer gave, each in its form.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Fields {
    entries: Vec<(String, Item)>,
    /// Where the mapping starts.
    #[serde(skip)]
    pub place: Place,
}

impl Fields {
    /// The item under a key.
    pub fn get(&self, name: &str) -> Option<&Item> {
        self.entries
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, item)| item)
    }

    /// Gives a text to a key that the writer left out.
    pub fn default_text(&mut self, name: &str, text: String) {
        if self.get(name).is_none() {
            let item = Item {
                data: Data::Text(text),
                place: self.place,
            };
            self.entries.push((name.to_owned(), item));
        }
    }

    /// The steps under a key, to be changed.
    pub fn steps_mut(&mut self, name: &str) -> &mut [Step] {
        let entry = self.entries.iter_mut().find(|(key, _)| key == name);
        match entry.map(|(_, item)| &mut item.data) {
            Some(Data::Steps(steps)) => steps,
            _ => &mut [],
        }
    }

    /// The keys that were given, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.entries.iter().map(|(key, item)| (key.as_str(), item))
    }

    /// Where the value of a key stands, or the mapping where it isn't there.
    pub fn place_of(&self, name: &str) -> Place {
        self.get(name).map_or(self.place, |item| item.place)
    }

    /// A text, where it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number or bytes, where given.
    pub fn count(&self, name: &str) -> Option<u64> {
        match self.get(name)?.data {
            Data::Count(count) => Some(count),
            _ => None,
        }
    }

    /// A time, where given.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.get(name)?.data {
            Data::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    /// A probability, where given.
    pub fn probability(&self, name: &str) -> Option<Probability> {
        match self.get(name)?.data {
            Data::Probability(probability) => Some(Probability(probability)),
            _ => None,
        }
    }

    /// A flag, where given.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)?.data {
            Data::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    /// A mapping with known keys, where given.
    pub fn object(&self, name: &str) -> Option<&Fields> {
        match &self.get(name)?.data {
            Data::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The entries of a mapping with the writer's own names; empty where not
    /// given.
    pub fn map(&self, name: &str) -> &[(Key, Item)] {
        match self.get(name).map(|item| &item.data) {
            Some(Data::Map(entries)) => entries,
            _ => &[],
        }
    }

    /// The items of a list; empty where not given.
    pub fn list(&self, name: &str) -> &[Item] {
        match self.get(name).map(|item| &item.data) {
            Some(Data::List(items)) => items,
            _ => &[],
        }
    }

    /// Steps, where given.
    pub fn steps(&self, name: &str) -> Option<&[Step]> {
        match &self.get(name)?.data {
            Data::Steps(steps) => Some(steps),
            _ => None,
        }
    }
}

/// What a form accepts, in the words of an error message.
fn expected(form: Form) -> String {
    match form {
        Form::Name => "a name of lower-case letters, digits and dashes".to_owned(),
        Form::Text => "a text".to_owned(),
        Form::Count => "a whole number".to_owned(),
        Form::Positive => "a whole number from 1".to_owned(),
        Form::Bytes => "bytes, such as 100, 64KiB or 1MB".to_owned(),
        Form::Payload => "bytes, such as 64KiB or 1MB, or a text".to_owned(),
        Form::Duration => "a time with its unit: us, ms, s or min".to_owned(),
        Form::Percent => "a probability in percent, such as 2%".to_owned(),
        Form::Rate => "bits a second, such as 500kbit, 10mbit or 1gbit".to_owned(),
        Form::Flag => "true or false".to_owned(),
        Form::Choice(words) => format!("one of {}", words.join(", ")),
        Form::Endpoint => "host:port, or a port".to_owned(),
        Form::Reference => "actor.step".to_owned(),
        Form::OptionValue => "a number, or [l_onoff, l_linger] for SO_LINGER".to_owned(),
        Form::Condition => "a condition or a list of conditions".to_owned(),
        Form::Object(object) => {
            let mut text = format!("a mapping with {}", allowed_keys(object));
            if let Some(field) = object.short.and_then(|name| object.field(name)) {
                let _ = write!(text, ", or {}", expected(field.form));
            }
            text
        }
        Form::Map(_) => "a mapping".to_owned(),
        Form::List(_) => "a list".to_owned(),
        Form::Steps(_) => "a list of steps".to_owned(),
        Form::OneOrMore(form) => format!("{}, or a list of such", expected(*form)),
        Form::Release => "a release with the word before it, such as Linux 6.11".to_owned(),
        Form::Axes => "a mapping from an axis to its values".to_owned(),
    }
}

fn allowed_keys(object: &Object) -> String {
    let names: Vec<&str> = object.fields.iter().map(|field| field.name).collect();
    names.join(", ")
}

/// An error that says what stands there and what is allowed.
fn wrong(node: &Node, what: &str, form: Form) -> SuiteError {
    SuiteError::new(
        node.place,
        format!("{what}: {} isn't allowed here", node.describe()),
        expected(form),
    )
}

/// An error for a key, a verb or a name that isn't known.
pub fn unknown<'a>(
    kind: &str,
    key: &Key,
    names: impl Iterator<Item = &'a str> + Clone,
) -> SuiteError {
    let likely = nearest(&key.text, names.clone())
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default();
    SuiteError::new(
        key.place,
        format!("unknown {kind} {:?}{likely}", key.text),
        format!("known: {}", names.collect::<Vec<_>>().join(", ")),
    )
}

/// Whether a text is a name of the writer's own.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Brings a node into its form; `what` is the key it stands under.
pub fn decode(node: &Node, form: Form, what: &str) -> Result<Item, SuiteError> {
    let data = match (form, &node.kind) {
        (Form::Object(object), _) => Data::Object(decode_object(node, object, what)?),
        (Form::Map(value), Kind::Map(entries)) => Data::Map(
            entries
                .iter()
                .map(|(key, node)| Ok((key.clone(), decode(node, *value, &key.text)?)))
                .collect::<Result<_, SuiteError>>()?,
        ),
        (Form::Steps(room), Kind::List(items)) => Data::Steps(
            items
                .iter()
                .map(|item| Step::decode(item, room))
                .collect::<Result<_, _>>()?,
        ),
        (Form::List(value), Kind::List(items)) => Data::List(
            items
                .iter()
                .map(|item| decode(item, *value, what))
                .collect::<Result<_, _>>()?,
        ),
        (Form::OneOrMore(value), Kind::List(items)) => Data::List(
            items
                .iter()
                .map(|item| decode(item, *value, what))
                .collect::<Result<_, _>>()?,
        ),
        (Form::OneOrMore(value), _) => Data::List(vec![decode(node, *value, what)?]),
        (Form::Condition, Kind::List(items)) => Data::List(
            items
                .iter()
                .map(|item| decode(item, Form::Text, what))
                .collect::<Result<_, _>>()?,
        ),
        (Form::Condition, Kind::Scalar(_)) => Data::List(vec![decode(node, Form::Text, what)?]),
        (Form::OptionValue, Kind::List(items)) if items.len() == 2 => {
            let mut numbers = Vec::new();
            for item in items {
                let Data::Count(number) = decode(item, Form::Count, what)?.data else {
                    return Err(wrong(item, what, form));
                };
                numbers.push(number.to_string());
            }
            Data::Text(numbers.join(","))
        }
        (_, Kind::Scalar(text)) => {
            decode_scalar(text, form).ok_or_else(|| wrong(node, what, form))?
        }
        _ => return Err(wrong(node, what, form)),
    };
    Ok(Item {
        data,
        place: node.place,
    })
}

fn decode_scalar(text: &str, form: Form) -> Option<Data> {
    let kept = || Data::Text(text.to_owned());
    match form {
        Form::Name => is_name(text).then(kept),
        Form::Text => Some(kept()),
        Form::Count => text.parse().ok().map(Data::Count),
        Form::Positive => text.parse().ok().filter(|n| *n > 0).map(Data::Count),
        Form::Bytes => units::bytes(text).map(Data::Count),
        Form::Payload => match units::bytes(text) {
            Some(bytes) => Some(Data::Count(bytes)),
            None => (!units::is_meant_as_bytes(text)).then(kept),
        },
        Form::Duration => units::duration(text).map(Data::Duration),
        Form::Percent => units::percent(text).map(|p| Data::Probability(p.0)),
        Form::Rate => units::bits_per_second(text).map(Data::Count),
        Form::Flag => text.parse().ok().map(Data::Flag),
        Form::Choice(words) => words.contains(&text).then(kept),
        Form::Endpoint => {
            let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
            ((host.is_empty() || is_name(host)) && port.parse::<u16>().is_ok()).then(kept)
        }
        Form::Reference => text
            .split_once('.')
            .is_some_and(|(actor, step)| is_name(actor) && !step.is_empty())
            .then(kept),
        Form::OptionValue => text.parse::<i64>().ok().map(|_| kept()),
        Form::Release => Release::parse(text).map(|_| kept()),
        Form::Condition
        | Form::Object(_)
        | Form::Map(_)
        | Form::List(_)
        | Form::OneOrMore(_)
        | Form::Steps(_)
        | Form::Axes => None,
    }
}

/// Brings a mapping, or the scalar that stands for it, into its form.
pub fn decode_object(node: &Node, object: &Object, what: &str) -> Result<Fields, SuiteError> {
    let empty = Vec::new();
    let entries = match (&node.kind, object.short.and_then(|name| object.field(name))) {
        (Kind::Map(entries), _) => entries,
        (Kind::Null, _) => &empty,
        (Kind::Scalar(_), Some(field)) => {
            let item = decode(node, field.form, what)?;
            return Ok(Fields {
                entries: vec![(field.name.to_owned(), item)],
                place: node.place,
            });
        }
        (Kind::List(_), Some(field)) if matches!(field.form, Form::List(_) | Form::Steps(_)) => {
            let item = decode(node, field.form, what)?;
            return Ok(Fields {
                entries: vec![(field.name.to_owned(), item)],
                place: node.place,
            });
        }
        _ => {
            return Err(SuiteError::new(
                node.place,
                format!("{what}: {} isn't allowed here", node.describe()),
                format!("a mapping with {}", allowed_keys(object)),
            ));
        }
    };
    let mut fields = Fields {
        entries: Vec::new(),
        place: node.place,
    };
    for (key, value) in entries {
        let field = object
            .field(&key.text)
            .ok_or_else(|| unknown("key", key, object.fields.iter().map(|field| field.name)))?;
        let item = decode(value, field.form, field.name)?;
        fields.entries.push((key.text.clone(), item));
    }
    for field in object.fields {
        if field.required && fields.get(field.name).is_none() {
            return Err(SuiteError::new(
                node.place,
                format!("{what}: {:?} is missing", field.name),
                format!("{}: {}", field.name, expected(field.form)),
            ));
        }
    }
    Ok(fields)
}

/// Where the JSON Schema keeps what stands for the value of an axis.
const AXIS_VALUE: &str = "#/$defs/axis-value";

/// And what stands for the value of a parameter.
const PARAMETER_VALUE: &str = "#/$defs/parameter-value";

/// The JSON Schema of a form, or of the value of an axis in its place.
fn schema_or_axis(form: Form) -> Json {
    match form {
        // The first ones take any text as it is; for a whole scenario or case
        // nothing can stand.
        Form::Text | Form::Payload | Form::Condition | Form::Axes | Form::List(Form::Object(_)) => {
            schema(form)
        }
        Form::Count | Form::Positive | Form::Bytes | Form::Duration | Form::OptionValue => {
            json!({"anyOf": [schema(form), {"$ref": AXIS_VALUE}, {"$ref": PARAMETER_VALUE}]})
        }
        _ => json!({"anyOf": [schema(form), {"$ref": AXIS_VALUE}]}),
    }
}

/// The JSON Schema of a form.
pub fn schema(form: Form) -> Json {
    match form {
        Form::Name => json!({"type": "string", "pattern": "^[a-z0-9-]+$"}),
        Form::Text => json!({"type": ["string", "number", "boolean"]}),
        Form::Count => json!({"type": "integer", "minimum": 0}),
        Form::Positive => json!({"type": "integer", "minimum": 1}),
        Form::Bytes => {
            json!({"type": ["string", "integer"], "pattern": "^[0-9.]+ ?(B|kB|MB|GB|KiB|MiB|GiB)?$"})
        }
        Form::Payload => json!({"type": ["string", "integer"]}),
        Form::Duration => {
            json!({"type": ["string", "integer"], "pattern": "^[0-9.]+ ?(us|ms|s|min)?$"})
        }
        Form::Percent => json!({"type": "string", "pattern": "^[0-9.]+ ?%$"}),
        Form::Rate => json!({"type": "string", "pattern": "^[0-9.]+ ?[kmg]?bit$"}),
        Form::Flag => json!({"type": "boolean"}),
        Form::Choice(words) => json!({"enum": words}),
        Form::Endpoint => {
            json!({"type": ["string", "integer"], "pattern": "^([a-z0-9-]*:)?[0-9]+$"})
        }
        Form::Reference => json!({"type": "string", "pattern": "^[a-z0-9-]+\\..+$"}),
        Form::OptionValue => json!({"anyOf": [
            {"type": "integer"},
            {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        ]}),
        Form::Condition => json!({"anyOf": [
            {"type": ["string", "number", "boolean"]},
            {"type": "array", "items": {"type": ["string", "number", "boolean"]}, "minItems": 1},
        ]}),
        Form::Object(object) => object_schema(object),
        Form::Map(value) => {
            json!({"type": "object", "additionalProperties": schema_or_axis(*value)})
        }
        Form::List(value) => json!({"type": "array", "items": schema(*value)}),
        Form::Steps(room) => json!({"type": "array", "items": {"anyOf": [
            {"$ref": room.schema_reference()}, {"$ref": AXIS_VALUE},
        ]}}),
        Form::OneOrMore(form) => json!({"anyOf": [
            schema(*form), {"type": "array", "items": schema(*form), "minItems": 1},
        ]}),
        Form::Release => json!({"type": "string", "pattern": "^Linux [0-9]+\\.[0-9]+$"}),
        Form::Axes => json!({"type": "object", "minProperties": 1, "additionalProperties": {
            "anyOf": [
                {"type": "array", "minItems": 1,
                 "items": {"type": ["string", "number", "boolean"]}},
                {"type": "object", "minProperties": 1},
            ],
        }}),
    }
}

/// The JSON Schema of a mapping with known keys.
pub fn object_schema(object: &Object) -> Json {
    let properties: serde_json::Map<String, Json> = object
        .fields
        .iter()
        .map(|field| {
            let mut value = schema_or_axis(field.form);
            value["description"] = json!(field.doc);
            (field.name.to_owned(), value)
        })
        .collect();
    let required: Vec<&str> = object
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    let mapping = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    match object.short.and_then(|name| object.field(name)) {
        Some(field) => json!({"anyOf": [schema_or_axis(field.form), mapping]}),
        None => mapping,
    }
}
