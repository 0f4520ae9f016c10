//! The JSON Schema of a suite, from schemars' of the types: with what stands for the
//! value of an axis.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value as Json, json};

/// Marks a schema beside which no axis value is offered: any text is allowed anyway.
pub const AS_IT_IS: &str = "x-as-it-is";

/// Where the schema keeps what stands for the value of an axis.
const AXIS_VALUE: &str = "#/$defs/axis-value";

/// The schema of a type, with everything inline but what `T` itself refers to.
pub fn of<T: JsonSchema>() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = SchemaGenerator::new(settings)
        .into_root_schema_for::<T>()
        .to_value();
    tidy(&mut schema);
    schema
}

/// The definition that [`of`] refers to.
pub fn definition() -> (&'static str, Json) {
    (
        "axis-value",
        json!({"type": "string", "pattern": "\\$[a-z0-9-]+",
               "description": "the value that a cell of the matrix has on this axis, or a text with it"}),
    )
}

/// A reference to an axis value, for a list of which one is an item.
pub fn axis_value() -> Json {
    json!({"$ref": AXIS_VALUE})
}

/// Takes out what the reader doesn't allow (null) or an editor can't use, and lets an
/// axis stand wherever a key has a value.
fn tidy(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(tidy),
        Json::Object(object) => {
            object.remove("title");
            object.remove("format");
            if object.get("default") == Some(&Json::Null) {
                object.remove("default");
            }
            for key in ["anyOf", "enum", "type"] {
                if let Some(Json::Array(items)) = object.get_mut(key) {
                    items.retain(|item| {
                        *item != Json::Null
                            && *item != json!("null")
                            && *item != json!({"type": "null"})
                    });
                }
            }
            if let Some(Json::Array(types)) = object.get("type")
                && let [one] = &types[..]
            {
                let one = one.clone();
                object.insert("type".to_owned(), one);
            }
            // A list of one alternative is that.
            if let Some(Json::Array(items)) = object.get("anyOf")
                && let [Json::Object(one)] = &items[..]
            {
                let one = one.clone();
                object.remove("anyOf");
                for (key, value) in one {
                    object.entry(key).or_insert(value);
                }
            }
            if let Some(Json::String(text)) = object.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            for (key, value) in object.iter_mut() {
                tidy(value);
                match (key.as_str(), value) {
                    ("properties", Json::Object(keys)) => keys.values_mut().for_each(offer_axis),
                    ("additionalProperties", value @ Json::Object(_)) => offer_axis(value),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// Offers an axis value beside a value.
fn offer_axis(schema: &mut Json) {
    let Json::Object(object) = schema else { return };
    if object.contains_key(AS_IT_IS) {
        return;
    }
    let mut outer = serde_json::Map::new();
    for key in ["description", "default"] {
        if let Some(value) = object.remove(key) {
            outer.insert(key.to_owned(), value);
        }
    }
    let any = [schema.take(), json!({"$ref": AXIS_VALUE})];
    outer.insert("anyOf".to_owned(), json!(any));
    *schema = Json::Object(outer);
}

/// Removes the marks that only this program needs.
pub fn remove_marks(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(remove_marks),
        Json::Object(object) => {
            object.remove(AS_IT_IS);
            object.values_mut().for_each(remove_marks);
        }
        _ => {}
    }
}
