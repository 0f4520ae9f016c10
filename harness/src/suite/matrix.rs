//! One scenario over several axes: `matrix:` names the axes and their values,
//! `$axis` stands for a value in the rest of the scenario, and `cases:` is the
//! truth table, of which the first fitting row holds for a cell.
//!
//! It works on the tree of the file, before anything is brought into its form: a
//! cell is then a scenario like any other, and an error in a value points at the
//! value.

mod covering;

use std::cell::RefCell;
use std::collections::BTreeSet;

use covering::covering;
use serde::{Deserialize, Serialize};

use crate::step::name::is_name;
use crate::yaml::error::{Place, SuiteError};
use crate::yaml::node::{Content, Key, Node};

/// The most cells of a matrix.
const MOST_CELLS: usize = 2000;

/// How deep values may refer to one another.
const MOST_DEPTH: usize = 8;

/// A place in a matrix.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cell {
    /// Each axis with its value, in the order of the suite.
    pub axes: Vec<(String, String)>,
    /// Whether the cell is in the part that runs without `--full`: together its
    /// cells have every pair of values of any two axes, and every case.
    pub covering: bool,
}

impl Cell {
    /// `[key=value,...]`, the end of the scenario's id.
    pub fn suffix(&self) -> String {
        let parts: Vec<String> = self
            .axes
            .iter()
            .map(|(axis, value)| format!("{axis}={value}"))
            .collect();
        format!("[{}]", parts.join(","))
    }

    /// Whether it has this `axis=value`.
    pub fn has(&self, pair: &str) -> bool {
        let pair = pair.split_once('=');
        self.axes
            .iter()
            .any(|(axis, value)| pair == Some((axis, value)))
    }
}

/// An axis of a matrix.
struct Axis {
    key: Key,
    values: Vec<(String, Node)>,
}

impl Axis {
    /// Whether `$axis.part` can stand for something.
    fn has_parts(&self) -> bool {
        let mut values = self.values.iter();
        values.any(|(_, value)| matches!(value.content, Content::Map(_)))
    }
}

/// A row of the truth table.
struct Case {
    place: Place,
    /// By axis: the values of which one has to be there.
    when: Vec<(String, Vec<String>)>,
    entries: Vec<(Key, Node)>,
}

/// The scenarios that a node of the list stands for: itself, or the cells of its
/// matrix.
pub fn expand(node: Node) -> Result<Vec<(Node, Option<Cell>)>, SuiteError> {
    let Content::Map(entries) = node.content else {
        return Ok(vec![(node, None)]);
    };
    let (own, body): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|(key, _)| key.text == "matrix" || key.text == "cases");
    let place = node.place;
    let of = |name: &str| own.iter().find(|(key, _)| key.text == name);
    let Some((key, matrix)) = of("matrix") else {
        if let Some((key, _)) = of("cases") {
            return Err(SuiteError::new(
                key.place,
                "cases without a matrix",
                "expect: holds for a scenario without axes",
            ));
        }
        let content = Content::Map(body);
        return Ok(vec![(Node { content, place }, None)]);
    };
    let axes = read_axes(key, matrix)?;
    let cases = match of("cases") {
        Some((_, cases)) => read_cases(cases, &axes)?,
        None => Vec::new(),
    };
    let product = product(&axes, key.place)?;
    let filling = Filling::new(&axes);
    let mut deciding = Vec::new();
    let mut nodes = Vec::new();
    for values in &product {
        let case = cases.iter().position(|case| case.fits(&axes, values));
        if case.is_none() && !cases.is_empty() {
            let message = format!("no case fits {}", cell(&axes, values).suffix());
            let place = of("cases").map_or(place, |(key, _)| key.place);
            let hint = "the first case that fits a cell decides it; one without `when` fits all";
            return Err(SuiteError::new(place, message, hint));
        }
        deciding.push(case);
        let entries = merged(&body, case.map(|case| &cases[case]));
        let filled = filling.map(&entries, values, 0)?;
        nodes.push(Node {
            content: Content::Map(filled),
            place,
        });
    }
    if let Some(dead) = (0..cases.len()).find(|case| !deciding.contains(&Some(*case))) {
        return Err(SuiteError::new(
            cases[dead].place,
            "this case decides no cell",
            "the cases before it fit all that it fits",
        ));
    }
    let mut used = filling.used.into_inner();
    used.extend(cases.iter().flat_map(|case| {
        let named = case.when.iter();
        named.filter_map(|(name, _)| axes.iter().position(|axis| axis.key.text == *name))
    }));
    if let Some(unused) = (0..axes.len()).find(|axis| !used.contains(axis)) {
        let key = &axes[unused].key;
        return Err(SuiteError::new(
            key.place,
            format!("nothing varies with the axis {:?}", key.text),
            format!("${} stands for its value in the scenario", key.text),
        ));
    }
    let covering = covering(axes.len(), &product, &deciding);
    Ok(nodes
        .into_iter()
        .zip(&product)
        .enumerate()
        .map(|(index, (node, values))| {
            let mut cell = cell(&axes, values);
            cell.covering = covering.contains(&index);
            (node, Some(cell))
        })
        .collect())
}

/// An error for a name that isn't among those there are.
fn unknown<'a>(what: &str, key: &Key, names: impl IntoIterator<Item = &'a str>) -> SuiteError {
    SuiteError::no_such(&format!("unknown {what}"), &key.text, key.place, names)
}

fn cell(axes: &[Axis], values: &[usize]) -> Cell {
    Cell {
        axes: axes
            .iter()
            .zip(values)
            .map(|(axis, value)| (axis.key.text.clone(), axis.values[*value].0.clone()))
            .collect(),
        covering: false,
    }
}

fn read_axes(key: &Key, matrix: &Node) -> Result<Vec<Axis>, SuiteError> {
    let hint = "matrix: { family: [ipv4, ipv6], ending: { close: [close], exit: [{ exit: 0 }] } }";
    let Content::Map(entries) = &matrix.content else {
        let message = format!("matrix: {} isn't allowed here", matrix.describe());
        return Err(SuiteError::new(matrix.place, message, hint));
    };
    if entries.is_empty() {
        return Err(SuiteError::new(key.place, "a matrix without an axis", hint));
    }
    entries
        .iter()
        .map(|(key, node)| {
            if !is_name(&key.text) {
                let message = format!("an axis can't be called {:?}", key.text);
                let hint = "lower-case letters, digits and dashes";
                return Err(SuiteError::new(key.place, message, hint));
            }
            let values: Vec<(String, Node, Place)> = match &node.content {
                Content::List(items) => items
                    .iter()
                    .map(|item| {
                        if let Content::Scalar(text) = &item.content {
                            Ok((text.clone(), item.clone(), item.place))
                        } else {
                            let message = format!("{}: {} has no name", key.text, item.describe());
                            let hint = "a list holds plain values; a mapping gives each a name";
                            Err(SuiteError::new(item.place, message, hint))
                        }
                    })
                    .collect::<Result<_, _>>()?,
                Content::Map(entries) => entries
                    .iter()
                    .map(|(name, value)| (name.text.clone(), value.clone(), name.place))
                    .collect(),
                _ => Vec::new(),
            };
            if values.is_empty() {
                let message = format!("{}: an axis without values", key.text);
                return Err(SuiteError::new(node.place, message, hint));
            }
            for (index, (name, _, place)) in values.iter().enumerate() {
                let fits = |c: char| c.is_ascii_alphanumeric() || "-_.%".contains(c);
                if name.is_empty() || !name.chars().all(fits) {
                    let message = format!("{}: {name:?} can't be part of an id", key.text);
                    let hint = "letters, digits, -, _, . and %; a mapping gives a value a name";
                    return Err(SuiteError::new(*place, message, hint));
                }
                if values[..index].iter().any(|(other, ..)| other == name) {
                    let message = format!("{}: a second {name:?}", key.text);
                    return Err(SuiteError::new(*place, message, "each value once"));
                }
            }
            Ok(Axis {
                key: key.clone(),
                values: values
                    .into_iter()
                    .map(|(name, node, _)| (name, node))
                    .collect(),
            })
        })
        .collect()
}

fn read_cases(cases: &Node, axes: &[Axis]) -> Result<Vec<Case>, SuiteError> {
    let hint = "- when: { axis: value, other: [one, two] }, and expect: below it";
    let Content::List(items) = &cases.content else {
        let message = format!("cases: {} isn't allowed here", cases.describe());
        return Err(SuiteError::new(cases.place, message, hint));
    };
    items
        .iter()
        .map(|item| {
            let Content::Map(entries) = &item.content else {
                let message = format!("a case can't be {}", item.describe());
                return Err(SuiteError::new(item.place, message, hint));
            };
            let mut case = Case {
                place: item.place,
                when: Vec::new(),
                entries: Vec::new(),
            };
            for (key, value) in entries {
                match key.text.as_str() {
                    "when" => case.when = read_when(value, axes)?,
                    "explains" | "see-also" | "expect" => {
                        case.entries.push((key.clone(), value.clone()));
                    }
                    _ => {
                        let known = ["when", "explains", "see-also", "expect"];
                        return Err(unknown("key", key, known));
                    }
                }
            }
            Ok(case)
        })
        .collect()
}

fn read_when(node: &Node, axes: &[Axis]) -> Result<Vec<(String, Vec<String>)>, SuiteError> {
    let Content::Map(entries) = &node.content else {
        let message = format!("when: {} isn't allowed here", node.describe());
        let hint = "a mapping from an axis to a value or a list of values";
        return Err(SuiteError::new(node.place, message, hint));
    };
    entries
        .iter()
        .map(|(key, node)| {
            let Some(axis) = axes.iter().find(|axis| axis.key.text == key.text) else {
                let names = axes.iter().map(|axis| axis.key.text.as_str());
                return Err(unknown("axis", key, names));
            };
            let items = match &node.content {
                Content::List(items) => items.as_slice(),
                _ => std::slice::from_ref(node),
            };
            let wanted = items
                .iter()
                .map(|item| {
                    let text = match &item.content {
                        Content::Scalar(text) => text.clone(),
                        _ => item.describe(),
                    };
                    if axis.values.iter().any(|(name, _)| *name == text) {
                        return Ok(text);
                    }
                    let place = item.place;
                    let names = axis.values.iter().map(|(name, _)| name.as_str());
                    Err(unknown(&key.text, &Key { text, place }, names))
                })
                .collect::<Result<_, _>>()?;
            Ok((key.text.clone(), wanted))
        })
        .collect()
}

impl Case {
    fn fits(&self, axes: &[Axis], values: &[usize]) -> bool {
        self.when.iter().all(|(name, wanted)| {
            axes.iter()
                .zip(values)
                .filter(|(axis, _)| axis.key.text == *name)
                .all(|(axis, value)| wanted.contains(&axis.values[*value].0))
        })
    }
}

/// Every combination of values, as their numbers, the last axis fastest.
fn product(axes: &[Axis], place: Place) -> Result<Vec<Vec<usize>>, SuiteError> {
    let mut product: Vec<Vec<usize>> = vec![Vec::new()];
    for axis in axes {
        if product.len() * axis.values.len() > MOST_CELLS {
            let message = format!("a matrix of more than {MOST_CELLS} cells");
            return Err(SuiteError::new(place, message, "make several of it"));
        }
        product = product
            .iter()
            .flat_map(|values| {
                (0..axis.values.len()).map(|value| {
                    let mut longer = values.clone();
                    longer.push(value);
                    longer
                })
            })
            .collect();
    }
    Ok(product)
}

/// The scenario's own keys with those of its case: the case's expectations come
/// on top, and what it explains is added.
fn merged(body: &[(Key, Node)], case: Option<&Case>) -> Vec<(Key, Node)> {
    let mut entries = body.to_vec();
    for (key, value) in case.into_iter().flat_map(|case| &case.entries) {
        let Some((_, own)) = entries.iter_mut().find(|(own, _)| own.text == key.text) else {
            entries.push((key.clone(), value.clone()));
            continue;
        };
        match (key.text.as_str(), &mut own.content, &value.content) {
            ("expect", Content::Map(own), Content::Map(added)) => own.extend(added.iter().cloned()),
            ("explains", Content::Scalar(own), Content::Scalar(added)) => {
                *own = format!("{} {}", own.trim_end(), added);
            }
            _ => *own = value.clone(),
        }
    }
    entries
}

/// Puts values in the place of `$axis` and `$axis.part`.
struct Filling<'a> {
    axes: &'a [Axis],
    /// The axes that were referred to.
    used: RefCell<BTreeSet<usize>>,
}

impl<'a> Filling<'a> {
    fn new(axes: &'a [Axis]) -> Self {
        Self {
            axes,
            used: RefCell::default(),
        }
    }

    fn map(
        &self,
        entries: &[(Key, Node)],
        values: &[usize],
        depth: usize,
    ) -> Result<Vec<(Key, Node)>, SuiteError> {
        let mut filled = Vec::new();
        for (key, node) in entries {
            let value = self.node(node, values, depth)?;
            // A value that says nothing leaves the key out.
            if matches!(value.content, Content::Null) && !matches!(node.content, Content::Null) {
                continue;
            }
            let filled_key = self.key(key, values, depth)?;
            let is_key = |(known, _): &(Key, Node)| known.text == filled_key.text;
            if filled_key.text != key.text && filled.iter().any(is_key) {
                let message = format!("a second key {:?}", filled_key.text);
                return Err(SuiteError::new(key.place, message, "each key once"));
            }
            filled.push((filled_key, value));
        }
        Ok(filled)
    }

    /// A key with what stands for `$axis` in it.
    fn key(&self, key: &Key, values: &[usize], depth: usize) -> Result<Key, SuiteError> {
        let place = key.place;
        let content = Content::Scalar(key.text.clone());
        let whole = Node { content, place };
        let filled = self.within_text(&whole, &key.text, values, depth)?;
        let Content::Scalar(text) = filled.content else {
            return Ok(key.clone());
        };
        Ok(Key { text, place })
    }

    fn node(&self, node: &Node, values: &[usize], depth: usize) -> Result<Node, SuiteError> {
        let content = match &node.content {
            Content::Null => Content::Null,
            Content::Scalar(text) => return self.scalar(node, text, values, depth),
            Content::Map(entries) => Content::Map(self.map(entries, values, depth)?),
            Content::List(items) => {
                let mut list = Vec::new();
                for item in items {
                    let is_reference =
                        matches!(&item.content, Content::Scalar(text) if reference(text).is_some());
                    let value = self.node(item, values, depth)?;
                    match value.content {
                        // Several items, or none, in the place of one.
                        Content::List(inner) if is_reference => list.extend(inner),
                        Content::Null if is_reference => {}
                        _ => list.push(value),
                    }
                }
                Content::List(list)
            }
        };
        let place = node.place;
        Ok(Node { content, place })
    }

    fn scalar(
        &self,
        node: &Node,
        text: &str,
        values: &[usize],
        depth: usize,
    ) -> Result<Node, SuiteError> {
        let Some((name, part)) = reference(text).filter(|(name, part)| {
            // A plain value has no parts: what follows it is text.
            let axis = self.axes.iter().find(|axis| axis.key.text == *name);
            part.is_none() || axis.is_none_or(Axis::has_parts)
        }) else {
            return self.within_text(node, text, values, depth);
        };
        let Some(index) = self.axes.iter().position(|axis| axis.key.text == name) else {
            // `$axis-more` is the value and more text.
            if self.longest_reference(&text[1..]).is_some() {
                return self.within_text(node, text, values, depth);
            }
            let key = Key {
                text: name.to_owned(),
                place: node.place,
            };
            let names = self.axes.iter().map(|axis| axis.key.text.as_str());
            return Err(unknown("axis", &key, names));
        };
        if depth == MOST_DEPTH {
            let message = format!("{text} refers to itself");
            return Err(SuiteError::new(node.place, message, ""));
        }
        self.used.borrow_mut().insert(index);
        let value = &self.axes[index].values[values[index]].1;
        let Some(part) = part else {
            return self.node(value, values, depth + 1);
        };
        match part_of(value, part) {
            Some(value) => self.node(value, values, depth + 1),
            // Another value of the axis has it, this one leaves it out.
            None if self.has_part(index, part) => Ok(Node {
                content: Content::Null,
                place: node.place,
            }),
            None => {
                let parts: BTreeSet<&str> = self.axes[index]
                    .values
                    .iter()
                    .filter_map(|(_, value)| match &value.content {
                        Content::Map(entries) => Some(entries),
                        _ => None,
                    })
                    .flatten()
                    .map(|(key, _)| key.text.as_str())
                    .collect();
                let key = Key {
                    text: part.to_owned(),
                    place: node.place,
                };
                Err(unknown(
                    &format!("part of {name}"),
                    &key,
                    parts.iter().copied(),
                ))
            }
        }
    }

    /// Fills in each `$axis` and `$axis.part` of a longer text. `$$` stands for a dollar
    /// sign; one before anything else is one.
    fn within_text(
        &self,
        node: &Node,
        text: &str,
        values: &[usize],
        depth: usize,
    ) -> Result<Node, SuiteError> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            filled.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if after.starts_with('$') && self.longest_reference(&after[1..]).is_some() {
                filled.push('$');
                let (name, _) = self.longest_reference(&after[1..]).unwrap_or_default();
                filled.push_str(name);
                rest = &after[1 + name.len()..];
                continue;
            }
            let Some((reference, left)) = self.longest_reference(after) else {
                filled.push('$');
                rest = after;
                continue;
            };
            let whole = Node {
                content: Content::Scalar(format!("${reference}")),
                place: node.place,
            };
            match self.node(&whole, values, depth + 1)?.content {
                Content::Scalar(value) => filled.push_str(&value),
                Content::Null => {}
                other => {
                    let value = Node {
                        content: other,
                        place: node.place,
                    };
                    let message = format!(
                        "${reference} is {} here, and stands in a text",
                        value.describe()
                    );
                    let hint = "only a plain value can be part of a text";
                    return Err(SuiteError::new(node.place, message, hint));
                }
            }
            rest = left;
        }
        filled.push_str(rest);
        let content = Content::Scalar(filled);
        Ok(Node { content, ..*node })
    }

    /// The longest `axis` or `axis.part` that a text begins with, and what follows it.
    fn longest_reference<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str)> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let end = text.find(|c| !fits(c)).unwrap_or(text.len());
        let names = self.axes.iter().filter(|axis| {
            let name = axis.key.text.as_str();
            // What follows is not part of a longer word.
            text[..end]
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        });
        let axis = names.max_by_key(|axis| axis.key.text.len())?;
        let mut length = axis.key.text.len();
        if axis.has_parts()
            && let Some(part) = text[length..].strip_prefix('.')
        {
            let end = part.find(|c| !fits(c)).unwrap_or(part.len());
            length += usize::from(end > 0) * (1 + end);
        }
        Some(text.split_at(length))
    }

    fn has_part(&self, axis: usize, part: &str) -> bool {
        let mut values = self.axes[axis].values.iter();
        values.any(|(_, value)| part_of(value, part).is_some())
    }
}

fn part_of<'a>(value: &'a Node, part: &str) -> Option<&'a Node> {
    let Content::Map(entries) = &value.content else {
        return None;
    };
    entries
        .iter()
        .find(|(key, _)| key.text == part)
        .map(|(_, value)| value)
}

/// The axis, and the part of its value, that `$axis` or `$axis.part` names.
fn reference(text: &str) -> Option<(&str, Option<&str>)> {
    let name = text.strip_prefix('$')?;
    let (name, part) = match name.split_once('.') {
        Some((name, part)) => (name, Some(part)),
        None => (name, None),
    };
    (is_name(name) && part.is_none_or(is_name)).then_some((name, part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;
    use crate::yaml::node;

    const MATRIX: &str = r#"
scenarios:
  - name: ends
    explains: How it ends.
    source: RFC 9293
    matrix:
      ending:
        close: { steps: [close] }
        exit: { steps: [{ exit: 0 }] }
        linger:
          before: [{ setsockopt: { SO_LINGER: [1, 0] } }]
          steps: [close]
      greeting: { none: [], unread: [{ write: "hello" }] }
      family: [ipv4, ipv6]
    family: $family
    actors:
      receiver: { on: server, steps: [{ listen: 7000 }, accept, $greeting, read-to-end] }
      sender:
        on: client
        steps: [{ connect: "server:7000" }, $ending.before, { write: { bytes: 10, as: body } }, $ending.steps]
    expect:
      sender.body.error: { always: none }
    cases:
      - when: { ending: linger }
        expect: { receiver.read-to-end.error: { may: [ECONNRESET, none] } }
      - when: { greeting: unread, ending: [close, exit] }
        explains: It is reset.
        expect: { receiver.read-to-end.error: { always: ECONNRESET } }
      - expect: { receiver.read-to-end.error: { always: none } }
"#;

    #[test]
    fn cells_are_scenarios_with_their_values_in_them() {
        let scenarios = suite::parse(MATRIX, "t/f").unwrap();
        assert_eq!(scenarios.len(), 12);
        let id = "t/f/ends[ending=linger,greeting=unread,family=ipv6]";
        let cell = scenarios.iter().find(|known| known.id == id).unwrap();
        let names = |actor: usize| -> Vec<&str> {
            let steps = cell.actors[actor].tasks[0].steps.iter();
            steps.map(|step| step.name.as_str()).collect()
        };
        assert_eq!(names(0), ["listen", "accept", "write", "read-to-end"]);
        assert_eq!(names(1), ["connect", "setsockopt", "body", "close"]);
        assert!(cell.address_of("server").is_ipv6());
        assert_eq!(cell.expectations.len(), 2);
        let reset = scenarios
            .iter()
            .find(|known| known.id.contains("close,greeting=unread"));
        assert!(reset.unwrap().explains.ends_with("ends. It is reset."));
    }

    #[test]
    fn an_axis_stands_in_a_key() {
        let with = |hosts: &str| {
            let family = "family: $family\n";
            let links = format!("{family}    links: {{ {hosts} }}\n");
            MATRIX
                .replace(
                    "family: [ipv4, ipv6]",
                    "family: [ipv4, ipv6]\n      host: [client]",
                )
                .replace(family, &links)
        };
        let scenarios = suite::parse(&with("$host: { delay: 5ms }"), "t/f").unwrap();
        assert!(scenarios.iter().all(|one| one.links.contains_key("client")));
        let twice = with("client: { delay: 1ms }, $host: { delay: 5ms }");
        let error = suite::parse(&twice, "t/f").unwrap_err().to_string();
        assert!(error.contains("a second key \"client\""), "{error}");
    }

    #[test]
    fn the_covering_part_has_every_pair() {
        let scenarios = suite::parse(MATRIX, "t/f").unwrap();
        let part: Vec<&Cell> = scenarios
            .iter()
            .filter_map(|scenario| scenario.cell.as_ref())
            .filter(|cell| cell.covering)
            .collect();
        assert!(part.len() < scenarios.len(), "{}", part.len());
        let all = scenarios
            .iter()
            .filter_map(|scenario| scenario.cell.as_ref());
        for cell in all {
            for (index, first) in cell.axes.iter().enumerate() {
                for second in &cell.axes[index + 1..] {
                    let has =
                        |cell: &&&Cell| cell.axes.contains(first) && cell.axes.contains(second);
                    assert!(part.iter().any(|cell| has(&cell)), "{first:?} {second:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let mut wrong: Vec<String> = Vec::new();
        for (from, to, message) in [
            (
                "$ending.steps",
                "$endig.steps",
                "20:97: unknown axis \"endig\"; did you mean \"ending\"?",
            ),
            (
                "$ending.steps",
                "$ending.step",
                "unknown part of ending \"step\"; did you mean \"steps\"?",
            ),
            (
                "ending: linger }",
                "ending: liger }",
                "24:25: unknown ending \"liger\"; did you mean \"linger\"?",
            ),
            (
                "family: $family",
                "family: ipv4",
                "14:7: nothing varies with the axis \"family\"",
            ),
            (
                "- expect:",
                "- when: { family: ipv4 }\n        expect:",
                "23:5: no case fits [ending=close,greeting=none,family=ipv6]",
            ),
            (
                "when: { ending: linger }",
                "when: {}",
                "26:9: this case decides no cell",
            ),
            (
                "steps: [close]",
                "steps: [clos]",
                "8:26: unknown step \"clos\"; did you mean \"close\"?",
            ),
            (
                "sender.body.error",
                "sender.close.error",
                "sender has no step \"close\" (in [ending=exit,",
            ),
            ("[ipv4, ipv6]", "[ipv4, ipv4]", "a second \"ipv4\""),
            (
                "[ipv4, ipv6]",
                "[ipv4, ipv5]",
                "\"ipv5\" isn't allowed here",
            ),
            ("matrix:", "matrx:", "cases without a matrix"),
        ] {
            let text = MATRIX.replacen(from, to, 1);
            assert_ne!(text, MATRIX, "{from}");
            let error = suite::parse(&text, "t/f").map(|_| ()).unwrap_err();
            let error = error.to_string();
            if !error.contains(message) {
                wrong.push(format!("{to}: {error}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn an_axis_that_refers_to_itself_is_an_error() {
        let text = "name: a\nmatrix: { x: { a: $x } }\nsteps: $x\n";
        let error = expand(node::parse(text).unwrap()).map(|_| ()).unwrap_err();
        assert!(error.message.contains("refers to itself"), "{error}");
    }
}
