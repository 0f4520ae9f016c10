//! Conditions on observations: exact, comparison, range, text, and arithmetic
//! over other observations.
//!
//! ```text
//! none   ECONNRESET   1000000   1MB      exactly that value
//! < 1MB   >= {sender.connect.ok} * 2     a comparison; {} names an observation
//! 10..20                                 a range, both ends included
//! ~ too many orphaned sockets            a text that holds this one
//! ```

use std::fmt;

use advisor_report::Value;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::yaml::quantity;
use crate::yaml::reader::problem;
use crate::yaml::value::Words;

/// A condition on one observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// As the suite writes it.
    pub text: String,
    test: Test,
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Words::deserialize(deserializer)?;
        let hint = "a value, < <= > >= == != with a number or {observation}, LOW..HIGH, or ~ text";
        Self::parse(&text)
            .map_err(|why| D::Error::custom(problem(format!("condition: {why}"), hint)))
    }
}

crate::yaml::value::inline_schema!(Condition);

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exact(String),
    Compare(Comparison, Expression),
    Range(f64, f64),
    Contains(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    Equal,
    NotEqual,
}

/// Arithmetic over numbers and observations: `{a.b} * 2 + 64`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Expression {
    first: Operand,
    rest: Vec<(char, Operand)>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Operand {
    Number(f64),
    Observation(String),
}

/// How to find another observation of the same run.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<Value>;

impl Condition {
    /// Parses a condition; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let symbols = [
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::MoreOrEqual),
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<", Comparison::Less),
            (">", Comparison::More),
        ];
        let compared = symbols
            .iter()
            .find_map(|(symbol, comparison)| Some((*comparison, trimmed.strip_prefix(symbol)?)));
        let test = if let Some((comparison, rest)) = compared {
            Test::Compare(comparison, Expression::parse(rest)?)
        } else if let Some(rest) = trimmed.strip_prefix('~') {
            Test::Contains(rest.trim().to_owned())
        } else if let Some((low, high)) = trimmed.split_once("..") {
            let number = |text: &str| {
                quantity(text).ok_or_else(|| format!("{:?} is not a number", text.trim()))
            };
            let (low, high) = (number(low)?, number(high)?);
            if low > high {
                return Err(format!("the range {trimmed} is empty"));
            }
            Test::Range(low, high)
        } else if trimmed.is_empty() {
            return Err("an empty condition".to_owned());
        } else {
            Test::Exact(trimmed.to_owned())
        };
        Ok(Self {
            text: trimmed.to_owned(),
            test,
        })
    }

    /// The observations that the condition refers to.
    pub fn references(&self) -> Vec<&str> {
        match &self.test {
            Test::Compare(_, expression) => expression.references(),
            _ => Vec::new(),
        }
    }

    /// The value that the condition asks for exactly, where it does.
    pub fn exact(&self) -> Option<&str> {
        match &self.test {
            Test::Exact(wanted) => Some(wanted),
            _ => None,
        }
    }

    /// The text that the condition looks for, where it does.
    pub fn part(&self) -> Option<&str> {
        match &self.test {
            Test::Contains(part) => Some(part),
            _ => None,
        }
    }

    /// Whether `value` meets the condition; `None` where that can't be said,
    /// because another observation is missing or a text is compared by size.
    pub fn holds(&self, value: &Value, lookup: Lookup) -> Option<bool> {
        match &self.test {
            Test::Exact(wanted) => Some(match (value.as_f64(), quantity(wanted)) {
                (Some(seen), Some(wanted)) => same(seen, wanted),
                (None, _) => value.to_string() == *wanted,
                (Some(_), None) => false,
            }),
            Test::Compare(comparison, expression) => {
                let seen = value.as_f64()?;
                let wanted = expression.value(lookup)?;
                Some(match comparison {
                    Comparison::Less => seen < wanted,
                    Comparison::LessOrEqual => seen <= wanted,
                    Comparison::More => seen > wanted,
                    Comparison::MoreOrEqual => seen >= wanted,
                    Comparison::Equal => same(seen, wanted),
                    Comparison::NotEqual => !same(seen, wanted),
                })
            }
            Test::Range(low, high) => {
                let seen = value.as_f64()?;
                Some((*low..=*high).contains(&seen))
            }
            Test::Contains(part) => Some(match value {
                Value::Lines(lines) => lines.iter().any(|line| line.contains(part)),
                other => other.to_string().contains(part),
            }),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a text is a number, bytes or a time.
pub fn is_quantity(text: &str) -> bool {
    quantity(text).is_some()
}

#[expect(clippy::float_cmp, reason = "whole numbers below 2^53 are exact")]
fn same(left: f64, right: f64) -> bool {
    left == right
}

/// A number, bytes with a unit, or a time as milliseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "quantity::bytes stays below 2^53"
)]
fn quantity(text: &str) -> Option<f64> {
    let text = text.trim();
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .or_else(|| quantity::bytes(text).map(|bytes| bytes as f64))
        .or_else(|| quantity::duration(text).map(|time| time.as_secs_f64() * 1e3))
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.rest
            .iter()
            .try_for_each(|(operator, operand)| write!(f, " {operator} {operand}"))
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Observation(name) => write!(f, "{{{name}}}"),
        }
    }
}

impl Expression {
    /// Parses numbers and `{observations}` joined by `+ - * /`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        let mut operands = Vec::new();
        let mut operators = Vec::new();
        loop {
            let (operand, after) = Operand::parse(rest)?;
            operands.push(operand);
            rest = after.trim_start();
            let Some(operator) = rest.chars().next() else {
                break;
            };
            if !"+-*/".contains(operator) {
                return Err(format!("{rest:?}: one of + - * / is wanted here"));
            }
            operators.push(operator);
            rest = rest[1..].trim_start();
        }
        let mut operands = operands.into_iter();
        let first = operands.next().ok_or("nothing to compare with")?;
        Ok(Self {
            first,
            rest: operators.into_iter().zip(operands).collect(),
        })
    }

    /// The observations that the expression refers to.
    pub fn references(&self) -> Vec<&str> {
        std::iter::once(&self.first)
            .chain(self.rest.iter().map(|(_, operand)| operand))
            .filter_map(|operand| match operand {
                Operand::Observation(name) => Some(name.as_str()),
                Operand::Number(_) => None,
            })
            .collect()
    }

    /// The value; `None` where an observation is missing, is not a number, or
    /// the result is not finite.
    pub fn value(&self, lookup: Lookup) -> Option<f64> {
        let value = |operand: &Operand| match operand {
            Operand::Number(number) => Some(*number),
            Operand::Observation(name) => lookup(name)?.as_f64(),
        };
        let mut sum = 0.0;
        let mut term = value(&self.first)?;
        for (operator, operand) in &self.rest {
            let operand = value(operand)?;
            match operator {
                '*' => term *= operand,
                '/' => term /= operand,
                '-' => {
                    sum += term;
                    term = -operand;
                }
                _ => {
                    sum += term;
                    term = operand;
                }
            }
        }
        Some(sum + term).filter(|result| result.is_finite())
    }
}

impl Operand {
    fn parse(text: &str) -> Result<(Self, &str), String> {
        if let Some(inner) = text.strip_prefix('{') {
            let (name, rest) = inner
                .split_once('}')
                .ok_or_else(|| format!("{text:?}: the closing }} is missing"))?;
            return Ok((Self::Observation(name.trim().to_owned()), rest));
        }
        let end = text
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
            .unwrap_or(text.len());
        let number = quantity(&text[..end])
            .ok_or_else(|| format!("{text:?}: a number or {{observation}} is wanted here"))?;
        Ok((Self::Number(number), &text[end..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &str, value: impl Into<Value>) -> Option<bool> {
        let lookup = |name: &str| match name {
            "a.b" => Some(Value::Integer(10)),
            "text" => Some("none".into()),
            _ => None,
        };
        Condition::parse(condition)
            .unwrap()
            .holds(&value.into(), &lookup)
    }

    #[test]
    fn exact_values() {
        assert_eq!(holds("none", "none"), Some(true));
        assert_eq!(holds("none", "ECONNRESET"), Some(false));
        assert_eq!(holds("1MB", 1_000_000), Some(true));
        assert_eq!(holds("none", 0), Some(false));
    }

    #[test]
    fn comparisons_and_ranges_include_their_ends() {
        assert_eq!(holds("< 1000000", 999_999), Some(true));
        assert_eq!(holds("< 1000000", 1_000_000), Some(false));
        assert_eq!(holds(">= 1", 1), Some(true));
        assert_eq!(holds("1..3", 3), Some(true));
        assert_eq!(holds("1..3", 4), Some(false));
        assert_eq!(holds("!= 3", 3), Some(false));
    }

    #[test]
    fn another_observation_can_be_compared_with() {
        assert_eq!(holds("< {a.b} * 2 + 1", 20), Some(true));
        assert_eq!(holds("< {a.b} * 2 + 1", 21), Some(false));
        assert_eq!(holds("== 1 + 2 * {a.b} - 3", 18), Some(true));
        assert_eq!(holds("< {missing}", 1), None);
        assert_eq!(holds("< {text}", 1), None);
        assert_eq!(holds("< {a.b} / 0", 1), None);
        assert_eq!(holds("< 3", "none"), None);
    }

    #[test]
    fn lines_are_searched() {
        let lines = Value::Lines(vec!["TCP: too many orphaned sockets".into()]);
        assert_eq!(holds("~ too many orphaned", lines.clone()), Some(true));
        assert_eq!(holds("none", lines), Some(false));
        assert_eq!(holds("none", Value::Lines(vec![])), Some(true));
    }

    #[test]
    fn what_is_no_condition_says_why() {
        for wrong in ["", "< ", "< {a", "< 1 2", "< 1 +", "3..1", "a..b", "< +"] {
            assert!(!Condition::parse(wrong).unwrap_err().is_empty(), "{wrong}");
        }
    }
}
