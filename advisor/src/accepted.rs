//! Findings that people have accepted: by code and subject, with a reason, up to a day.
//!
//! They stand in a file, `advisor.toml`. What is accepted is still found and counted; it
//! decides no exit status before that day is over.

use std::io;
use std::ops::Range;
use std::path::Path;

use advisor_facts::clock::Date;
use advisor_facts::given::GivenFileError;
use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::rules;
use crate::spelling::meant;

/// Where a host has the file.
pub const DEFAULT_PATH: &str = "etc/lastbyte/advisor.toml";

/// The largest file that is read, in bytes.
const LIMIT_BYTES: u64 = 1 << 20;

/// The one table of the file.
const TABLE: &str = "accepted";
/// The keys of one of its entries.
const KEYS: [&str; 4] = ["code", "subject", "reason", "until"];

/// What a file accepts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Accepted {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    code: &'static str,
    subject: Option<String>,
    reason: String,
    until: Date,
}

/// What makes a finding accepted.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Acceptance {
    /// Why, as the file says.
    pub reason: String,
    /// The last day.
    pub until: String,
    /// Whether that day is over: then the finding counts again.
    pub over: bool,
}

impl Acceptance {
    /// For people.
    pub fn words(&self) -> String {
        let Self {
            reason,
            until,
            over,
        } = self;
        if *over {
            format!("it was accepted until {until}, and that day is over: {reason}")
        } else {
            format!("until {until}: {reason}")
        }
    }
}

const READ_HINT: &str = "give a file of accepted findings that this user may read";
const ENTRY_HINT: &str = "an entry is [[accepted]] with code = \"LB302\", reason = \"why\", until = \
    2027-03-31 and, for one of several, subject = \"what `on` names\"";

impl Accepted {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, GivenFileError> {
        let read = || -> io::Result<String> {
            let mut text = String::new();
            let file = std::fs::File::open(path)?;
            io::Read::read_to_string(&mut io::Read::take(file, LIMIT_BYTES), &mut text)?;
            Ok(text)
        };
        let text = read().map_err(GivenFileError::read(path, READ_HINT))?;
        Self::parse(path, &text)
    }

    /// The entries of a file, which is named `path`.
    fn parse(path: &Path, text: &str) -> Result<Self, GivenFileError> {
        let malformed = |Wrong { at, message }: Wrong| {
            let whole = (0..=at).rev().find(|at| text.is_char_boundary(*at));
            let before = &text[..whole.unwrap_or(0)];
            let line = before.matches('\n').count() + 1;
            let begins = before.rfind('\n').map_or(0, |end| end + 1);
            GivenFileError::Malformed {
                path: path.to_owned(),
                line,
                column: before[begins..].chars().count() + 1,
                message,
                hint: ENTRY_HINT,
            }
        };
        entries(text)
            .map(|entries| Self { entries })
            .map_err(malformed)
    }

    /// The entry for a finding of a rule that is about one of `subjects`; one whose day
    /// is not over before one whose day is.
    pub fn find(&self, code: &str, subjects: &[&str], today: Date) -> Option<Acceptance> {
        self.entries
            .iter()
            .filter(|entry| {
                entry.code == code
                    && entry
                        .subject
                        .as_ref()
                        .is_none_or(|wanted| subjects.iter().any(|subject| names(subject, wanted)))
            })
            .max_by_key(|entry| entry.until)
            .map(|entry| Acceptance {
                reason: entry.reason.clone(),
                until: entry.until.to_string(),
                over: entry.until < today,
            })
    }
}

/// Whether a subject has these words: `shop.service` is in `server.py (812, unit
/// shop.service)`, and `shop` is not.
fn names(subject: &str, wanted: &str) -> bool {
    let is_of_a_word = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    subject.match_indices(wanted).any(|(at, _)| {
        let (before, after) = (&subject[..at], &subject[at + wanted.len()..]);
        !before.ends_with(is_of_a_word) && !after.starts_with(is_of_a_word)
    })
}

/// What is wrong, and where in the text.
struct Wrong {
    at: usize,
    message: String,
}

impl Wrong {
    fn new(at: &Range<usize>, message: impl Into<String>) -> Self {
        Self {
            at: at.start,
            message: message.into(),
        }
    }
}

fn entries(text: &str) -> Result<Vec<Entry>, Wrong> {
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().unwrap_or(text.len()..text.len());
        Wrong::new(&at, error.message().trim_end())
    })?;
    let mut found = Vec::new();
    for (key, value) in table.get_ref() {
        if key.get_ref() != TABLE {
            return Err(unknown(&key.span(), "key", key.get_ref(), [TABLE]));
        }
        let entries = value
            .get_ref()
            .as_array()
            .ok_or_else(|| Wrong::new(&value.span(), "`accepted` is a list: write [[accepted]]"))?;
        for value in entries {
            found.push(entry(value)?);
        }
    }
    Ok(found)
}

fn entry(value: &Spanned<DeValue<'_>>) -> Result<Entry, Wrong> {
    let table = value
        .get_ref()
        .as_table()
        .ok_or_else(|| Wrong::new(&value.span(), "an entry is a table: write [[accepted]]"))?;
    for (key, _) in table {
        if !KEYS.contains(&key.get_ref().as_ref()) {
            return Err(unknown(&key.span(), "key", key.get_ref(), KEYS));
        }
    }
    let text = |key: &str| -> Result<Option<(&str, Range<usize>)>, Wrong> {
        let Some(value) = table.get(key) else {
            return Ok(None);
        };
        match value.get_ref().as_str() {
            Some(text) if !text.trim().is_empty() => Ok(Some((text, value.span()))),
            Some(_) => Err(Wrong::new(&value.span(), format!("`{key}` says nothing"))),
            None => Err(Wrong::new(
                &value.span(),
                format!("`{key}` is a text in quotes"),
            )),
        }
    };
    let missing = |key| Wrong::new(&value.span(), format!("this entry has no `{key}`"));
    let (code, at) = text("code")?.ok_or_else(|| missing("code"))?;
    let rule = rules::find(code).ok_or_else(|| {
        let names = rules::RULES.iter().flat_map(|rule| [rule.code, rule.name]);
        unknown(&at, "rule", code, names)
    })?;
    let (reason, _) = text("reason")?.ok_or_else(|| missing("reason"))?;
    let until = table.get("until").ok_or_else(|| missing("until"))?;
    Ok(Entry {
        code: rule.code,
        subject: text("subject")?.map(|(subject, _)| subject.to_owned()),
        reason: reason.to_owned(),
        until: day(until)?,
    })
}

/// A day, as a date of TOML or as the same in quotes.
fn day(value: &Spanned<DeValue<'_>>) -> Result<Date, Wrong> {
    let wrong = |why: &str| Wrong::new(&value.span(), format!("`until`: {why}"));
    match value.get_ref() {
        DeValue::Datetime(moment) => moment
            .date
            .and_then(|date| Date::new(date.year, date.month, date.day))
            .ok_or_else(|| wrong("a date is written 2026-11-30")),
        DeValue::String(text) => text.parse().map_err(wrong),
        _ => Err(wrong("a date is written 2026-11-30")),
    }
}

/// A word that nothing has, with the one that may be meant.
fn unknown(
    at: &Range<usize>,
    what: &str,
    word: &str,
    known: impl IntoIterator<Item = &'static str>,
) -> Wrong {
    let meant = meant(word, known);
    Wrong::new(at, format!("there is no {what} {word:?}{meant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "# of the platform team\n[[accepted]]\ncode = \"fin-timeout-shortened\"\n\
        reason = \"a customer's audit wants it\"\nuntil = 2027-03-31\n\n[[accepted]]\n\
        code = \"LB202\"\nsubject = \"shop.service\"\nreason = \"TICKET-7\"\n\
        until = \"2026-12-01\"\n";

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn error(text: &str) -> String {
        Accepted::parse(Path::new("advisor.toml"), text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_finding_is_accepted_by_code_and_subject_up_to_a_day() {
        let accepted = Accepted::parse(Path::new("advisor.toml"), WHOLE).unwrap();
        let over = |code, subject, today| {
            let found = accepted.find(code, &[subject], date(today));
            found.map(|acceptance| acceptance.over)
        };
        let server = "server.py (812, python3, unit shop.service)";
        for (code, subject, today, expected) in [
            ("LB302", "this network namespace", "2027-03-31", Some(false)),
            ("LB302", "this network namespace", "2027-04-01", Some(true)),
            ("LB202", server, "2026-12-01", Some(false)),
            ("LB202", server, "2026-12-02", Some(true)),
            ("LB202", "x (1, unit web-shop.service)", "2026-12-01", None),
            ("LB202", "x (1, unit shop.service.old)", "2026-12-01", None),
            ("LB204", server, "2026-12-01", None),
        ] {
            assert_eq!(
                over(code, subject, today),
                expected,
                "{code} {subject} {today}"
            );
        }
        // Of two entries for one finding, the one that lasts longer.
        let twice = WHOLE.replace("LB202", "LB302").replace("subject", "#");
        let accepted = Accepted::parse(Path::new("advisor.toml"), &twice).unwrap();
        let found = accepted.find("LB302", &[], date("2027-01-01")).unwrap();
        assert!(!found.over, "{found:?}");
    }

    #[test]
    fn an_error_names_the_place_and_what_may_be_meant() {
        for (from, to, message) in [
            (
                "reason = \"a",
                "reson = \"a",
                "advisor.toml:4:1: there is no key \"reson\"; did you mean \"reason\"?",
            ),
            (
                "\"LB202\"",
                "\"LB999\"",
                "advisor.toml:8:8: there is no rule \"LB999\"",
            ),
            (
                "fin-timeout-shortened",
                "fin-timeout-shortend",
                "advisor.toml:3:8: there is no rule \"fin-timeout-shortend\"; did you mean \
                 \"fin-timeout-shortened\"?",
            ),
            (
                "\"2026-12-01\"",
                "\"2026-02-29\"",
                "advisor.toml:11:9: `until`: there is no such day",
            ),
            (
                "until = 2027-03-31",
                "until = 2027",
                "advisor.toml:5:9: `until`: a date is written 2026-11-30",
            ),
            (
                "until = 2027-03-31",
                "",
                "advisor.toml:2:1: this entry has no `until`",
            ),
            (
                "\"TICKET-7\"",
                "\" \"",
                "advisor.toml:10:10: `reason` says nothing",
            ),
            (
                "[[accepted]]\ncode = \"LB202\"",
                "[[acepted]]\ncode = \"LB202\"",
                "advisor.toml:7:3: there is no key \"acepted\"; did you mean \"accepted\"?",
            ),
        ] {
            let text = WHOLE.replacen(from, to, 1);
            let error = error(&text);
            assert!(error.starts_with(message), "{error}");
        }
        for text in [
            "accepted = 1",
            "accepted = [1]",
            "[[accepted",
            "a.b = \u{1}",
            "é = [[",
        ] {
            assert!(
                error(text).starts_with("advisor.toml:1:"),
                "{}",
                error(text)
            );
        }
        let empty = Accepted::parse(Path::new("advisor.toml"), "").unwrap();
        assert_eq!(empty, Accepted::default());
    }
}
