//! `docs/steps.md`: every step with its fields.

use std::fmt::Write as _;

use serde_json::Value as Json;

use harness::step::{ActorStep, Documentation, LabStep};

const LEAD: &str = "\
# Steps

Made by `ci/documents` from `harness/src/step`. A step is a bare word, or a mapping with
the step as its one key. A bare value stands for the field in **bold**: `write: 1MB`
means `write: { bytes: 1MB }`.
";

/// Of how many choices all are named beside a key.
const MOST_CHOICES: usize = 9;

/// The whole page.
pub fn page() -> String {
    let mut page = LEAD.to_owned();
    for (title, lead, steps) in [
        (
            "Steps of an actor",
            "Each makes the system call that it is named after.",
            ActorStep::documentation(),
        ),
        (
            "Steps of the lab",
            "They stand under `lab:` and act on all hosts.",
            LabStep::documentation(),
        ),
    ] {
        let _ = write!(page, "\n## {title}\n\n{lead}\n");
        for step in &steps {
            section(&mut page, step);
        }
    }
    page
}

fn section(page: &mut String, step: &Documentation) {
    let text = step.takes["description"].as_str().unwrap_or_default();
    let _ = write!(page, "\n### {}\n\n{text}\n\n", step.name);
    let keys = step.takes["properties"].as_object();
    let mut keys: Vec<_> = keys.into_iter().flatten().collect();
    // First what a bare value stands for, then what is needed, then the rest by name.
    keys.sort_by_key(|(key, _)| {
        let is_shorthand = step.shorthand == Some(key.as_str());
        let is_common = matches!(key.as_str(), "as" | "on");
        (!is_shorthand, is_common, !step.requires(key))
    });
    for (key, value) in keys {
        let mark = if step.shorthand == Some(key) {
            "**"
        } else {
            ""
        };
        let needed = if step.requires(key) { " (needed)" } else { "" };
        let description = value["description"].as_str().unwrap_or_default();
        let _ = write!(page, "- {mark}`{key}`{mark}{needed}: {description}");
        if let Some(words) = choices(value).filter(|words| words.len() <= MOST_CHOICES) {
            let _ = write!(page, " One of {}.", words.join(", "));
        }
        if let Some(default) = value.get("default") {
            let text = default.as_str().map_or_else(|| default.to_string(), spaced);
            let _ = write!(page, " Default: {text}.");
        }
        page.push('\n');
    }
    if !step.observes.is_empty() {
        let fields = step.observes.iter().map(|field| field.documented());
        let fields: Vec<String> = fields.map(|field| format!("`{field}`")).collect();
        let _ = writeln!(page, "\nObserves: {}.", fields.join(", "));
    }
}

/// The words of which a value is one.
fn choices(value: &Json) -> Option<Vec<&str>> {
    let own = value.get("enum").or_else(|| value.get("oneOf"));
    if let Some(Json::Array(words)) = own {
        return words
            .iter()
            .map(|word| word.get("const").unwrap_or(word).as_str())
            .collect();
    }
    let any = value.get("anyOf")?.as_array()?;
    any.iter().find_map(choices)
}

/// A quantity with a space before its unit: 64 KiB.
fn spaced(text: &str) -> String {
    match text.find(|c: char| !c.is_ascii_digit() && c != '.') {
        Some(at @ 1..) => format!("{} {}", &text[..at], &text[at..]),
        _ => text.to_owned(),
    }
}
