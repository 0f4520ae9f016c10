//! What the kernel makes of a text that is written to a setting.
//!
//! From `proc_get_long`, `do_proc_dointvec`, `do_proc_douintvec`,
//! `do_proc_doulongvec_minmax` and `proc_do_large_bitmap` in kernel/sysctl.c of
//! Linux, and tried on five kernels (tests/settings).

use std::fmt;

use super::table::{Form, Numbers, Relation, Setting, Width, find};
use crate::release::Release;

/// The longest number, in bytes, that the kernel reads.
const LONGEST_NUMBER: usize = 20;

/// What a text does to a setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// What is set; numbers that the text does not name stay as they are.
    pub value: Value,
    /// The number from which on the text is passed over, as it stands there.
    pub passed_over: Option<String>,
    /// What the kernel answers with EINVAL (or another error), and why. Numbers
    /// before the refused one are set nevertheless.
    pub refused: Option<Refusal>,
}

/// What is set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// The numbers, from the first; none where nothing is set. `None` is one that
    /// stays as it was.
    Numbers(Vec<Option<i128>>),
    /// A text, which the kernel may still not know.
    Text(String),
}

/// Why the kernel refuses a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// There is no number.
    Empty,
    /// This is no number.
    NoNumber(String),
    /// This is no word that the kernel could know: it has blanks or quotes.
    NoWord(String),
    /// A number is not between the bounds.
    OutOfBounds {
        /// The number.
        number: i128,
        /// The least and the greatest that the kernel takes.
        bounds: (i128, i128),
    },
    /// What must hold with another number does not hold.
    Relation(String),
    /// Nothing can be written to it.
    ReadOnly,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no number"),
            Self::NoNumber(text) => write!(f, "{text:?} is not a number"),
            Self::NoWord(text) => write!(
                f,
                "{text:?} is taken as it stands, with its blanks and quotes"
            ),
            Self::OutOfBounds {
                number,
                bounds: (least, greatest),
            } => write!(f, "{number} is not between {least} and {greatest}"),
            Self::Relation(why) => f.write_str(why),
            Self::ReadOnly => f.write_str("it can only be read"),
        }
    }
}

impl Written {
    /// Whether nothing of the text has an effect.
    pub fn sets_nothing(&self) -> bool {
        matches!(&self.value, Value::Numbers(numbers) if numbers.iter().all(Option::is_none))
    }

    /// What the setting is afterwards, as the kernel prints it, with single
    /// blanks: what the text does not name is as in `before`. `None` where that
    /// is not known.
    pub fn result(&self, before: Option<&str>, count: usize) -> Option<String> {
        match &self.value {
            Value::Text(text) => Some(text.clone()),
            Value::Numbers(numbers) => {
                let before: Vec<&str> =
                    before.map_or_else(Vec::new, |before| before.split_whitespace().collect());
                let words: Option<Vec<String>> = (0..count)
                    .map(|at| match numbers.get(at) {
                        Some(Some(number)) => Some(number.to_string()),
                        _ => before.get(at).map(|word| (*word).to_owned()),
                    })
                    .collect();
                Some(words?.join(" "))
            }
        }
    }
}

impl Setting {
    /// How many numbers the setting has; 1 for a text.
    pub fn count(&self, release: Option<Release>) -> usize {
        match self.form(release) {
            Form::Numbers(numbers) => numbers.count,
            Form::Ports | Form::Word | Form::Text | Form::ReadOnly => 1,
        }
    }

    /// What the kernel of a release makes of a text, beside other settings as they
    /// are at boot; the newest kernel, where no release is known.
    pub fn write(&self, text: &str, release: Option<Release>) -> Written {
        self.write_beside(text, release, &|_| None)
    }

    /// The same beside other settings: the text of one by its name, where it is
    /// known.
    pub fn write_beside(
        &self,
        text: &str,
        release: Option<Release>,
        others: &dyn Fn(&str) -> Option<String>,
    ) -> Written {
        let text = text.trim_matches(is_blank);
        let refused = |refusal| Written {
            value: Value::Numbers(Vec::new()),
            passed_over: None,
            refused: Some(refusal),
        };
        match self.form(release) {
            Form::ReadOnly => refused(Refusal::ReadOnly),
            Form::Word if text.contains(|c: char| is_blank(c) || c == '"' || c == '\'') => {
                refused(Refusal::NoWord(text.to_owned()))
            }
            Form::Word | Form::Text => Written {
                value: Value::Text(text.to_owned()),
                passed_over: None,
                refused: None,
            },
            Form::Ports => match ports(text) {
                Ok(ports) => Written {
                    value: Value::Text(ports),
                    passed_over: None,
                    refused: None,
                },
                Err(refusal) => refused(refusal),
            },
            Form::Numbers(numbers) => {
                let own = others(self.name)
                    .or_else(|| Some(self.default_value(release)?.to_owned()))
                    .unwrap_or_default();
                write_numbers(numbers, text, &own, release, others)
            }
        }
    }

    /// Numbers as the kernel of a release takes them: one that is beyond a bound
    /// becomes that bound. A text that is no numbers stays as it is.
    pub fn within_bounds(&self, text: &str, release: Option<Release>) -> String {
        let Form::Numbers(form) = self.form(release) else {
            return text.to_owned();
        };
        let numbers: Option<Vec<i128>> = text
            .split_whitespace()
            .map(|word| number(word).ok())
            .collect();
        let Some(numbers) = numbers else {
            return text.to_owned();
        };
        let bounded: Vec<String> = numbers
            .into_iter()
            .map(|number| number.clamp(form.least, form.greatest).to_string())
            .collect();
        bounded.join(" ")
    }
}

/// What the kernel passes over around numbers.
fn is_blank(character: char) -> bool {
    character.is_ascii_whitespace() || character == '\u{b}'
}

fn write_numbers(
    form: Numbers,
    text: &str,
    own: &str,
    release: Option<Release>,
    others: &dyn Fn(&str) -> Option<String>,
) -> Written {
    let mut set = Vec::new();
    let mut refused = None;
    let mut rest = text;
    while set.len() < form.count {
        rest = rest.trim_start_matches(is_blank);
        if rest.is_empty() {
            break;
        }
        let (word, after) = rest.split_at(rest.find(is_blank).unwrap_or(rest.len()));
        match number(word).and_then(|number| judged(form, number, release)) {
            Ok(number) => set.push(number),
            Err(refusal) => {
                refused = Some(refusal);
                break;
            }
        }
        rest = after;
    }
    if set.is_empty() && refused.is_none() && rest.is_empty() {
        refused = Some(Refusal::Empty);
    }
    let rest = rest.trim_start_matches(is_blank);
    let passed_over = (refused.is_none() && !rest.is_empty()).then(|| rest.to_owned());
    if refused.is_none() {
        refused = related(form, &set, own, release, others);
    }
    if refused.is_some() && !matches!(form.relation, Relation::None | Relation::Other) {
        // Both are looked at together, and neither is set.
        set.clear();
    }
    Written {
        value: Value::Numbers(set),
        passed_over,
        refused,
    }
}

/// A number in the base that its beginning says, as `proc_get_long` reads one.
fn number(word: &str) -> Result<i128, Refusal> {
    let no_number = || Refusal::NoNumber(word.to_owned());
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) || word.len() > LONGEST_NUMBER {
        return Err(no_number());
    }
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.strip_prefix("0x") {
        Some(digits) if digits.starts_with(|first: char| first.is_ascii_hexdigit()) => (16, digits),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    match u64::from_str_radix(digits, radix) {
        Ok(number) => Ok(sign * i128::from(number)),
        Err(_) => Err(no_number()),
    }
}

/// A number that the kernel takes for one of the form, or why it does not.
/// `None`: it leaves the setting alone and says nothing.
fn judged(form: Numbers, number: i128, release: Option<Release>) -> Result<Option<i128>, Refusal> {
    /// From this release on a negative number of an unsigned long is refused.
    const NEGATIVE_IS_REFUSED: Release = Release::new(6, 1);
    if form.width == Width::UnsignedLong
        && number < 0
        && release.is_some_and(|release| release < NEGATIVE_IS_REFUSED)
    {
        return Ok(None);
    }
    if (form.least..=form.greatest).contains(&number) {
        Ok(Some(number))
    } else {
        Err(Refusal::OutOfBounds {
            number,
            bounds: (form.least, form.greatest),
        })
    }
}

const UNPRIVILEGED_PORT_START: &str = "net.ipv4.ip_unprivileged_port_start";
const LOCAL_PORT_RANGE: &str = "net.ipv4.ip_local_port_range";
const MAX_REORDERING: &str = "net.ipv4.tcp_max_reordering";

/// Why numbers that are each within their bounds are refused together, or beside
/// another setting.
fn related(
    form: Numbers,
    numbers: &[Option<i128>],
    own: &str,
    release: Option<Release>,
    others: &dyn Fn(&str) -> Option<String>,
) -> Option<Refusal> {
    let first_of = |name: &str| -> Option<i128> {
        let text = others(name).or_else(|| Some(find(name)?.default_value(release)?.to_owned()))?;
        number(text.split(is_blank).next()?).ok()
    };
    let first = (*numbers.first()?)?;
    let (holds, what, other) = match form.relation {
        Relation::None | Relation::Other => return None,
        Relation::PortRange => {
            let last = match numbers.get(1) {
                Some(last) => *last,
                None => own
                    .split(is_blank)
                    .nth(1)
                    .and_then(|last| number(last).ok()),
            };
            if let Some(last) = last.filter(|last| *last < first) {
                return Some(last_below_first(first, last));
            }
            let start = first_of(UNPRIVILEGED_PORT_START)?;
            (first >= start, "below", (UNPRIVILEGED_PORT_START, start))
        }
        Relation::BelowPortRange => {
            let range = first_of(LOCAL_PORT_RANGE)?;
            (
                first <= range,
                "above the first of",
                (LOCAL_PORT_RANGE, range),
            )
        }
        Relation::BelowMaxReordering => {
            let most = first_of(MAX_REORDERING)?;
            (first <= most, "above", (MAX_REORDERING, most))
        }
    };
    let (name, value) = other;
    (!holds).then(|| Refusal::Relation(format!("{first} is {what} {name}, {value}")))
}

fn last_below_first(first: impl fmt::Display, last: impl fmt::Display) -> Refusal {
    Refusal::Relation(format!(
        "the last port, {last}, is below the first, {first}"
    ))
}

/// Ports and ranges, as the kernel prints them.
fn ports(text: &str) -> Result<String, Refusal> {
    let port = |text: &str| -> Result<u32, Refusal> {
        let number = number(text)?;
        u32::try_from(number)
            .ok()
            .filter(|port| *port <= 65_535)
            .ok_or(Refusal::OutOfBounds {
                number,
                bounds: (0, 65_535),
            })
    };
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (port(first)?, port(last)?);
        if last < first {
            return Err(last_below_first(first, last));
        }
        ranges.push((first, last));
    }
    ranges.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    let words: Vec<String> = joined
        .into_iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    Ok(words.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::table;
    use super::*;

    #[test]
    fn a_number_beyond_a_bound_becomes_the_bound() {
        for (name, text, expected) in [
            ("net.ipv4.tcp_rmem", "1 2 8388608", "4096 4096 8388608"),
            ("net.ipv4.tcp_retries2", "300", "255"),
            ("net.ipv4.tcp_retries2", "-1", "0"),
            ("net.ipv4.tcp_mem", "1 2 3", "1 2 3"),
            ("net.ipv4.tcp_mem", "the kernel's own", "the kernel's own"),
        ] {
            let setting = table::find(name).unwrap();
            assert_eq!(setting.within_bounds(text, None), expected);
        }
    }

    #[test]
    fn the_table_is_well_formed() {
        let mut names: Vec<_> = table::settings().map(|setting| setting.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "each name stands once");
        for setting in table::settings() {
            let name = setting.name;
            assert!(
                setting.until.is_none_or(|until| until > setting.since),
                "{name}"
            );
            // Each default is a value that the kernel takes.
            for (major, minor) in [(3, 10), (4, 19), (5, 10), (6, 1), (6, 12), (6, 18), (7, 3)] {
                let release = Release::new(major, minor);
                if let Some(default) = setting.default_value(Some(release))
                    && setting.exists(release)
                {
                    let written = setting.write(default, Some(release));
                    assert_eq!(written.refused, None, "{name} = {default}");
                    let count = setting.count(Some(release));
                    assert_eq!(
                        written.result(None, count).as_deref(),
                        Some(default),
                        "{name}"
                    );
                }
            }
        }
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            prop::collection::vec(
                prop::sample::select(vec![
                    "0",
                    "1",
                    "08",
                    "0x",
                    "0xf",
                    "-",
                    "+",
                    " ",
                    "\t",
                    "\n",
                    "#",
                    ",",
                    "\"",
                    "65535",
                    "2147483648",
                    "18446744073709551616",
                    "é",
                    "\u{0}",
                ]),
                0..12,
            )
            .prop_map(|pieces| pieces.concat()),
        ]
    }

    proptest! {
        #[test]
        fn any_text_is_judged(
            text in any_text(),
            numbers in prop::option::of((0_u32..9, 0_u32..21)),
        ) {
            let release = numbers.map(|(major, minor)| Release::new(major, minor));
            for setting in table::settings() {
                let written = setting.write(&text, release);
                // Numbers that are set are within the bounds.
                if let (Value::Numbers(numbers), Form::Numbers(form)) =
                    (&written.value, setting.form(release))
                {
                    prop_assert!(numbers.len() <= form.count);
                    for number in numbers.iter().flatten() {
                        prop_assert!((form.least..=form.greatest).contains(number));
                    }
                }
                let _ = setting.within_bounds(&text, release);
                let _ = written.result(Some("1 2 3"), setting.count(release));
            }
        }
    }
}
