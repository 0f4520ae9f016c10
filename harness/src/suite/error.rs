//! What is wrong with a suite file, where, and what is allowed there.

use std::fmt;

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
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

/// The name in `names` that the writer most likely meant by `wrong`.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
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
