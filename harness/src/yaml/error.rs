//! An error of a suite file: what is wrong, where, and what is allowed there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Place {
    /// The start of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Something wrong in a suite file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SuiteError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What is allowed there; may be empty.
    pub hint: String,
}

impl SuiteError {
    /// An error at a place.
    pub fn new(place: Place, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for SuiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for SuiteError {}

impl SuiteError {
    /// An error for a name that isn't among those there are: `unknown step "conect"; did
    /// you mean "connect"?`.
    pub fn no_such<'a>(
        what: &str,
        name: &str,
        place: Place,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        let likely = did_you_mean(name, names.iter().copied());
        let known = match names[..] {
            [] => "none".to_owned(),
            _ => names.join(", "),
        };
        Self::new(
            place,
            format!("{what} {name:?}{likely}"),
            format!("known: {known}"),
        )
    }
}

/// The name that was most likely meant, as the end of a message; empty where none is
/// near.
pub fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, names)
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}

/// The name in `names` that the writer most likely meant by `wrong`.
fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = wrong.chars().count();
    names
        .into_iter()
        .filter_map(|name| {
            let letters = name.chars().count();
            let most_edits = letters.div_ceil(3);
            // Each letter more or less is an edit: a page of text is not compared.
            if length.abs_diff(letters) > most_edits {
                return None;
            }
            let edits = strsim::levenshtein(wrong, name);
            (edits <= most_edits).then_some((edits, name))
        })
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_likely_one() {
        assert_eq!(nearest("conect", ["close", "connect"]), Some("connect"));
        assert_eq!(
            nearest("TIMEWAIT", ["TIME_WAIT", "LISTEN"]),
            Some("TIME_WAIT")
        );
        assert_eq!(nearest("banana", ["close", "connect"]), None);
        assert_eq!(nearest(&"close".repeat(1 << 20), ["close"]), None);
    }
}
