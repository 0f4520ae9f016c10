//! Parameters: numbers of a scenario that a host's own can take the place of.
//!
//! `{name}` stands for the value in the rest of the scenario, also within a text;
//! a catalogue run takes the examples. As a matrix does, it works on the tree of
//! the file, so the scenario that comes of it is one like any other.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use advisor_report::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GRAMMAR;
use crate::condition::Expression;
use crate::step::name::{Name, is_name};
use crate::yaml::error::{Place, SuiteError};
use crate::yaml::node::{Content, Key, Node};
use crate::yaml::reader;
use crate::yaml::value::{OneOrMore, Placed, Words};

/// A parameter as a suite writes it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterText {
    /// Names of a recommendation's evidence, or current or proposed: the first that it
    /// has; NAME\[2] is the third of several numbers.
    #[serde(default)]
    from: OneOrMore<Words>,
    /// Its value where no host gives one.
    example: Option<u64>,
    /// The most that is tried: a host's larger value is scaled down to it.
    most: Option<NonZeroU64>,
    /// The parameter by whose scale it is scaled.
    with: Option<Placed<Name>>,
    /// In place of the others: arithmetic over parameters, such as {orphans} * 4.
    value: Option<Placed<Words>>,
}

/// A number of a scenario that has a name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// How it comes to its value.
    pub source: Source,
}

/// Where a parameter's value comes from.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Source {
    /// A recommendation's evidence.
    Host {
        /// The names, of which the first that is there counts.
        from: Vec<String>,
        /// The value where there is no host.
        example: u64,
        /// The most that is tried.
        most: Option<u64>,
        /// The parameter that it is scaled with.
        with: Option<String>,
    },
    /// Arithmetic over the parameters before it.
    Derived(Expression),
}

/// What a parameter was on the host, and what is tried in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Assigned {
    /// The parameter's name.
    pub name: String,
    /// The name of the evidence; empty where it is derived.
    pub from: String,
    /// The host's value.
    pub host: u64,
    /// The value that is tried.
    pub tried: u64,
}

/// Why a host's values can't be tried.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// The evidence lacks a value.
    #[error("the advice has no number for {0}")]
    Missing(String),
    /// Scaled down, a value that is not 0 comes to nothing.
    #[error("scaled to what a guest holds, {name} = {host} would be 0")]
    Vanishes {
        /// The parameter.
        name: String,
        /// The host's value.
        host: u64,
    },
    /// The arithmetic gave no whole number from 0.
    #[error("{0} has no value for these numbers")]
    NoValue(String),
}

/// The values for a host, whose evidence `lookup` finds by name; what is larger
/// than `most` is scaled down to it, and what goes `with` it by the same factor.
/// Scaled values are rounded to the nearest whole number.
pub fn assign(
    parameters: &[Parameter],
    lookup: &dyn Fn(&str) -> Option<u64>,
) -> Result<Vec<Assigned>, Misfit> {
    let mut assigned: Vec<Assigned> = Vec::new();
    for parameter in parameters {
        let name = parameter.name.clone();
        match &parameter.source {
            Source::Host {
                from, most, with, ..
            } => {
                let found = from.iter().find_map(|name| Some((name, lookup(name)?)));
                let (from, host) = found.ok_or_else(|| Misfit::Missing(from.join(" or ")))?;
                let scaled = match (most, with) {
                    (Some(most), _) => host.min(*most),
                    (None, Some(with)) => match assigned.iter().find(|known| known.name == *with) {
                        Some(by) => scale(host, by),
                        None => host,
                    },
                    (None, None) => host,
                };
                if host > 0 && scaled == 0 {
                    return Err(Misfit::Vanishes { name, host });
                }
                let from = from.clone();
                assigned.push(Assigned {
                    name,
                    from,
                    host,
                    tried: scaled,
                });
            }
            Source::Derived(expression) => {
                let value = |of: fn(&Assigned) -> u64| {
                    let lookup = |name: &str| {
                        let known = assigned.iter().find(|known| known.name == name)?;
                        Some(Value::Integer(i64::try_from(of(known)).ok()?))
                    };
                    whole(expression.value(&lookup)?)
                };
                let both = (value(|known| known.host), value(|known| known.tried));
                let (Some(host), Some(tried)) = both else {
                    return Err(Misfit::NoValue(name));
                };
                let from = String::new();
                assigned.push(Assigned {
                    name,
                    from,
                    host,
                    tried,
                });
            }
        }
    }
    Ok(assigned)
}

/// A value by the scale of another one, to the nearest whole number.
fn scale(host: u64, by: &Assigned) -> u64 {
    let divisor = u128::from(by.host.max(1));
    let product = u128::from(host) * u128::from(by.tried);
    u64::try_from((product + divisor / 2) / divisor).unwrap_or(u64::MAX)
}

/// A result of arithmetic to the nearest whole number from 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is between 0 and 2^53"
)]
fn whole(value: f64) -> Option<u64> {
    (0.0..9e15).contains(&value).then_some(value.round() as u64)
}

/// The parameters of a scenario's node; nothing else is read of it.
fn read(node: &Node) -> Result<Vec<Parameter>, SuiteError> {
    let mut parameters: Vec<Parameter> = Vec::new();
    for (key, value) in entries(node) {
        let wrong = |message: String, hint: &str| SuiteError::new(key.place, message, hint);
        if !is_name(&key.text) {
            return Err(wrong(
                format!("a parameter can't be called {:?}", key.text),
                "lower-case letters, digits and dashes",
            ));
        }
        let (text, _) = reader::read::<ParameterText>(value, &key.text, &GRAMMAR)?;
        let known = |name: &str| parameters.iter().any(|known| known.name == name);
        let source = match (text.value, text.example) {
            (Some(value), None) => {
                let place = value.place;
                let expression = Expression::parse(&value)
                    .map_err(|why| SuiteError::new(place, why, "such as {orphans} * 4"))?;
                if let Some(unknown) = expression.references().iter().find(|name| !known(name)) {
                    let message = format!("no parameter {unknown:?} before this one");
                    return Err(SuiteError::new(place, message, ""));
                }
                Source::Derived(expression)
            }
            (None, Some(example)) => {
                if text.from.0.is_empty() {
                    return Err(wrong(
                        format!("{}: from where?", key.text),
                        "from: net.ipv4.tcp_max_orphans, a name of the evidence, or proposed",
                    ));
                }
                if let Some(unknown) = text.with.as_ref().filter(|name| !known(name)) {
                    let message = format!("no parameter {:?} before this one", &*unknown.value);
                    return Err(SuiteError::new(unknown.place, message, ""));
                }
                Source::Host {
                    from: text.from.0.into_iter().map(|name| name.0).collect(),
                    example,
                    most: text.most.map(NonZeroU64::get),
                    with: text.with.map(|name| name.value.to_string()),
                }
            }
            _ => {
                return Err(wrong(
                    format!("{}: either `from` with an `example`, or `value`", key.text),
                    "{ from: kernel.sockstat.TCP.orphan, example: 60 }",
                ));
            }
        };
        parameters.push(Parameter {
            name: key.text.clone(),
            source,
        });
    }
    Ok(parameters)
}

fn entries(node: &Node) -> &[(Key, Node)] {
    let Content::Map(entries) = &node.content else {
        return &[];
    };
    match entries.iter().find(|(key, _)| key.text == "parameters") {
        Some((_, node)) => match &node.content {
            Content::Map(entries) => entries,
            _ => &[],
        },
        None => &[],
    }
}

/// Puts values in the place of `{name}` in all of a scenario but its parameters:
/// those of `given`, and the examples of the others. Returns the parameters.
pub(super) fn fill(
    node: &mut Node,
    given: &BTreeMap<String, u64>,
) -> Result<Vec<Parameter>, SuiteError> {
    let parameters = read(node)?;
    if parameters.is_empty() {
        return Ok(parameters);
    }
    let place = node.place;
    let examples = assign_examples(&parameters)
        .map_err(|misfit| SuiteError::new(place, misfit.to_string(), ""))?;
    let mut values: Vec<(String, String, bool)> = examples
        .into_iter()
        .map(|known| {
            let value = given.get(&known.name).copied().unwrap_or(known.tried);
            (format!("{{{}}}", known.name), value.to_string(), false)
        })
        .collect();
    let Content::Map(entries) = &mut node.content else {
        return Ok(parameters);
    };
    for (key, node) in entries {
        if key.text != "parameters" {
            replace(node, &mut values);
        }
    }
    let unused = values
        .iter()
        .find(|(name, _, used)| !used && !is_needed_by_another(name, &parameters));
    match unused {
        Some((name, ..)) => {
            let place = parameter_place(name, node).unwrap_or(place);
            let message = format!("nothing depends on the parameter {name}");
            let hint = format!("{name} stands for its value in the scenario");
            Err(SuiteError::new(place, message, hint))
        }
        None => Ok(parameters),
    }
}

/// Whether another parameter is made from one, or scaled with it.
fn is_needed_by_another(braced: &str, parameters: &[Parameter]) -> bool {
    let name = braced.trim_matches(['{', '}']);
    parameters.iter().any(|parameter| match &parameter.source {
        Source::Host { with, .. } => with.as_deref() == Some(name),
        Source::Derived(expression) => expression.references().contains(&name),
    })
}

fn parameter_place(braced: &str, node: &Node) -> Option<Place> {
    let name = braced.trim_matches(['{', '}']);
    let mut keys = entries(node).iter().map(|(key, _)| key);
    Some(keys.find(|key| key.text == name)?.place)
}

/// The values that a catalogue run has.
fn assign_examples(parameters: &[Parameter]) -> Result<Vec<Assigned>, Misfit> {
    // An example is asked for by its parameter's name.
    let as_examples: Vec<Parameter> = parameters
        .iter()
        .map(|parameter| Parameter {
            name: parameter.name.clone(),
            source: match &parameter.source {
                Source::Host { example, .. } => Source::Host {
                    from: vec![parameter.name.clone()],
                    example: *example,
                    most: None,
                    with: None,
                },
                derived @ Source::Derived(_) => derived.clone(),
            },
        })
        .collect();
    assign(&as_examples, &|name| {
        parameters
            .iter()
            .find_map(|parameter| match parameter.source {
                Source::Host { example, .. } if parameter.name == name => Some(example),
                _ => None,
            })
    })
}

fn replace(node: &mut Node, values: &mut [(String, String, bool)]) {
    match &mut node.content {
        Content::Null => {}
        Content::Scalar(text) => {
            for (name, value, used) in values {
                if text.contains(name.as_str()) {
                    *text = text.replace(name.as_str(), value);
                    *used = true;
                }
            }
        }
        Content::List(items) => items.iter_mut().for_each(|item| replace(item, values)),
        Content::Map(entries) => entries
            .iter_mut()
            .for_each(|(_, node)| replace(node, values)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;

    const SUITE: &str = r#"
scenarios:
  - name: s
    explains: e
    source: s
    parameters:
      seen: { from: [kernel.sockstat.TCP.orphan, other], example: 60, most: 60 }
      limit: { from: current, example: 200, with: seen }
      orphans: { value: "{seen} * 4 + 2" }
    sysctls: { kernel: { net.ipv4.tcp_max_orphans: "{kernel.sockstat.TCP.orphan.before} + {limit}" } }
    actors:
      a: { on: server, steps: [{ listen: 7000 }, { accept: { count: "{orphans}" } }] }
    expect:
      a.accept.ok: { always: "{orphans}" }
"#;

    fn parameters() -> Vec<Parameter> {
        suite::parse(SUITE, "t/f").unwrap().remove(0).parameters
    }

    fn host(numbers: &[(&str, u64)]) -> Result<Vec<(u64, u64)>, Misfit> {
        let lookup = |name: &str| {
            let mut numbers = numbers.iter();
            Some(numbers.find(|(known, _)| *known == name)?.1)
        };
        let assigned = assign(&parameters(), &lookup)?;
        Ok(assigned.iter().map(|a| (a.host, a.tried)).collect())
    }

    #[test]
    fn examples_stand_where_no_host_gives_numbers() {
        let scenario = suite::parse(SUITE, "t/f").unwrap().remove(0);
        assert_eq!(scenario.expectations[0].condition(), "242");
        assert_eq!(
            scenario.kernel_sysctls[0].1[0].to_string(),
            "{kernel.sockstat.TCP.orphan.before} + 200"
        );
        let given = [("seen".to_owned(), 7), ("orphans".to_owned(), 30)].into();
        let scenario = suite::parse_with(SUITE, "t/f", &given).unwrap().remove(0);
        assert_eq!(scenario.expectations[0].condition(), "30");
    }

    #[test]
    fn what_is_too_large_is_scaled_with_all_that_goes_with_it() {
        let fits = host(&[("kernel.sockstat.TCP.orphan", 50), ("current", 120)]);
        assert_eq!(fits.unwrap(), [(50, 50), (120, 120), (202, 202)]);
        let large = host(&[("kernel.sockstat.TCP.orphan", 4410), ("current", 16_384)]);
        assert_eq!(large.unwrap(), [(4410, 60), (16_384, 223), (17_642, 242)]);
        // The second name counts where the first is not there.
        assert!(host(&[("other", 50), ("current", 120)]).is_ok());
        let huge = host(&[
            ("kernel.sockstat.TCP.orphan", u64::MAX),
            ("current", u64::MAX),
        ]);
        assert_eq!(huge, Err(Misfit::NoValue("orphans".to_owned())));
        let none = host(&[("kernel.sockstat.TCP.orphan", 0), ("current", 0)]);
        assert_eq!(none.unwrap(), [(0, 0), (0, 0), (2, 2)]);
    }

    #[test]
    fn what_can_not_be_tried_is_said() {
        let missing = host(&[("current", 120)]).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "the advice has no number for kernel.sockstat.TCP.orphan or other"
        );
        let vanishes = host(&[("kernel.sockstat.TCP.orphan", 6000), ("current", 3)]).unwrap_err();
        assert_eq!(
            vanishes.to_string(),
            "scaled to what a guest holds, limit = 3 would be 0"
        );
    }

    /// Each pair: what to change in the suite, and what the error says.
    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (from, to, message) in [
            (
                "with: seen",
                "with: sen",
                "8:51: no parameter \"sen\" before this one",
            ),
            (
                "{seen} * 4",
                "{see} * 4",
                "9:25: no parameter \"see\" before this one",
            ),
            ("{seen} * 4 + 2", "{seen} 4", "9:25: \"4\""),
            (
                "example: 60, ",
                "",
                "7:7: seen: either `from` with an `example`, or `value`",
            ),
            ("from: current, ", "", "8:7: limit: from where?"),
            (
                "limit: {",
                "Limit: {",
                "8:7: a parameter can't be called \"Limit\"",
            ),
            (
                "{orphans}",
                "5",
                "9:7: nothing depends on the parameter {orphans}",
            ),
            (
                "most: 60",
                "most: 0",
                "7:77: most: \"0\" isn't allowed here",
            ),
            ("seen: {", "seen: { a: 1,", "unknown key \"a\""),
        ] {
            let text = SUITE.replace(from, to);
            assert_ne!(text, SUITE, "{from}");
            let error = suite::parse(&text, "t/f")
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(error.contains(message), "{to}: {error}");
        }
    }
}
