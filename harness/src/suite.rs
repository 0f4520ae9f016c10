//! Suites: YAML files of scenarios, read and checked before anything starts.
//!
//! Imports step, lab (topology and addresses), observation, condition, impairment and yaml.

mod build;
mod check;
pub mod command;
pub mod matrix;
pub mod scenario;
pub mod story;
pub mod text;
pub mod vocabulary;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::impairment::Impairment;
use crate::step;
use crate::yaml::error::{Place, SuiteError};
use crate::yaml::node::{self, Content, Node};
use crate::yaml::reader::{Grammar, read};
use crate::yaml::schema as yaml_schema;
use build::{Origin, build};
use scenario::Scenario;
use step::link::LinkText;
use text::{ScenarioText, SuiteText};

/// What the reader has to know of steps, and where it finds what a key is for.
const GRAMMAR: Grammar = Grammar {
    shorthand: step::shorthand,
    schema: marked_schema,
};

/// Something wrong with a suite file, with the file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The content is wrong.
    #[error("{}:{}: {}", path.display(), source.place, source.message)]
    Suite {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: SuiteError,
    },
    /// The file or directory can't be read.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's words, or ours.
        message: String,
        /// What to do.
        hint: &'static str,
    },
}

impl LoadError {
    /// What is allowed there, or what to do.
    pub fn hint(&self) -> &str {
        match self {
            Self::Suite { source, .. } => &source.hint,
            Self::File { hint, .. } => hint,
        }
    }

    fn file(path: &Path, message: impl std::fmt::Display, hint: &'static str) -> Self {
        Self::File {
            path: path.to_owned(),
            message: message.to_string(),
            hint,
        }
    }
}

/// Reads the suites under the given paths: files, or directories whose `.yaml`
/// files are read in order of name. Every error found is returned, one for
/// each file.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Scenario>, Vec<LoadError>> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut errors = Vec::new();
    let mut files = Vec::new();
    for path in paths {
        if let Err(error) = discover(path, &mut files) {
            errors.push(error);
        }
    }
    for path in files {
        match load_file(&path) {
            Ok(found) => {
                for scenario in found {
                    if scenarios.iter().any(|known| known.id == scenario.id) {
                        errors.push(LoadError::file(
                            &path,
                            format!("a second scenario {:?}", scenario.id),
                            "an id is topic/file/name; give one of them another name",
                        ));
                        break;
                    }
                    scenarios.push(scenario);
                }
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(scenarios)
    } else {
        Err(errors)
    }
}

fn discover(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    let hint = "a path is a suite's file or a directory of suites";
    let metadata = path
        .metadata()
        .map_err(|error| LoadError::file(path, error, hint))?;
    if metadata.is_file() {
        if !files.contains(&path.to_owned()) {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    if !metadata.is_dir() {
        return Err(LoadError::file(
            path,
            "neither a file nor a directory",
            hint,
        ));
    }
    let before = files.len();
    let mut pending = vec![path.to_owned()];
    while let Some(directory) = pending.pop() {
        let entries = directory
            .read_dir()
            .map_err(|error| LoadError::file(&directory, error, hint))?;
        for entry in entries {
            let entry = entry.map_err(|error| LoadError::file(&directory, error, hint))?;
            let path = entry.path();
            // A link to a directory could lead round in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                files.push(path);
            }
        }
    }
    if files.len() == before {
        return Err(LoadError::file(path, "no .yaml file in it", hint));
    }
    files[before..].sort();
    Ok(())
}

fn load_file(path: &Path) -> Result<Vec<Scenario>, LoadError> {
    let read = |error: std::io::Error| LoadError::file(path, error, "a suite is a readable file");
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(read)?
        .take(node::FILE_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(read)?;
    let suite_error = |source| LoadError::Suite {
        path: path.to_owned(),
        source,
    };
    if bytes.len() as u64 > node::FILE_LIMIT_BYTES {
        return Err(suite_error(SuiteError::new(
            Place::START,
            format!("larger than {} bytes", node::FILE_LIMIT_BYTES),
            "no suite is that large",
        )));
    }
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            let line_start = good
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            let place = Place {
                line: good.split(|byte| *byte == b'\n').count(),
                column: String::from_utf8_lossy(&good[line_start..]).chars().count() + 1,
            };
            return Err(suite_error(SuiteError::new(
                place,
                "not UTF-8",
                "a suite is UTF-8 text",
            )));
        }
    };
    let prefix = prefix(path)?;
    let mut scenarios = parse(text, &prefix).map_err(suite_error)?;
    for scenario in &mut scenarios {
        if let Some((file, _)) = &mut scenario.file {
            path.clone_into(file);
        }
    }
    Ok(scenarios)
}

/// `topic/file`, whatever path the suite was given by.
fn prefix(path: &Path) -> Result<String, LoadError> {
    let whole = path
        .canonicalize()
        .map_err(|error| LoadError::file(path, error, "a suite is a readable file"))?;
    let topic = whole
        .parent()
        .and_then(Path::file_name)
        .map_or_else(|| "suite".into(), |name| name.to_string_lossy());
    let file = whole.file_stem().unwrap_or_default().to_string_lossy();
    Ok(format!("{topic}/{file}"))
}

/// Reads the text of a suite; `prefix` is `topic/file`.
pub fn parse(text: &str, prefix: &str) -> Result<Vec<Scenario>, SuiteError> {
    let root = node::parse(text)?;
    let (place, items) = scenarios_of(&root)?;
    let mut read_scenarios = Vec::new();
    for item in items {
        for (node, cell) in matrix::expand(item.clone())? {
            let origin = Origin {
                cell,
                place: node.place,
            };
            let (text, mentions) = read::<ScenarioText>(&node, "scenarios", &GRAMMAR)
                .map_err(|error| origin.name_cell(error))?;
            read_scenarios.push((text, mentions, origin));
        }
    }
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let mut scenarios = Vec::new();
    for (text, mentions, origin) in read_scenarios {
        let name = &text.name;
        // The cells of a matrix have the name, and the place, of their scenario.
        if let Some(first) = names
            .insert(name.to_string(), origin.place)
            .filter(|first| *first != origin.place)
        {
            return Err(SuiteError::new(
                name.place,
                format!(
                    "a second scenario called {:?}; the first is at {first}",
                    &*name.value
                ),
                "a name is used once in a file",
            ));
        }
        let scenario = build(&text, &mentions, prefix, &origin);
        scenarios.push(scenario.map_err(|error| origin.name_cell(error))?);
    }
    if scenarios.is_empty() {
        return Err(SuiteError::new(
            place,
            "no scenario in the list",
            "at least one",
        ));
    }
    Ok(scenarios)
}

/// Reads the impairment of a link as a suite writes it: `delay: 20ms, loss: 1%`.
pub fn impairment(link: &str) -> Result<Impairment, SuiteError> {
    let node = node::parse(&format!("{{ {link} }}"))?;
    let (link, _) = read::<LinkText>(&node, "link", &GRAMMAR)?;
    link.impairment()
}

/// The nodes of the scenarios of a suite, and the place of the list.
fn scenarios_of(root: &Node) -> Result<(Place, &[Node]), SuiteError> {
    let entries = match &root.content {
        Content::Map(entries) => entries.as_slice(),
        Content::Null => &[],
        _ => {
            let message = format!("suite: {} isn't allowed here", root.describe());
            return Err(SuiteError::new(
                root.place,
                message,
                "a mapping with scenarios",
            ));
        }
    };
    for (key, _) in entries {
        if key.text != "scenarios" {
            let known = ["scenarios"];
            return Err(SuiteError::no_such(
                "unknown key",
                &key.text,
                key.place,
                known,
            ));
        }
    }
    let Some((_, node)) = entries.first() else {
        let message = "suite: \"scenarios\" is missing";
        return Err(SuiteError::new(root.place, message, "scenarios: a list"));
    };
    if let Content::List(items) = &node.content {
        return Ok((node.place, items));
    }
    let message = format!("scenarios: {} isn't allowed here", node.describe());
    Err(SuiteError::new(node.place, message, "a list"))
}

/// The JSON Schema of a suite, for editors; `docs/suite.schema.json` is this.
pub fn schema() -> Json {
    let mut schema = marked_schema();
    yaml_schema::remove_marks(&mut schema);
    schema
}

/// The schema with the marks of `yaml::schema`.
fn marked_schema() -> Json {
    let mut schema = yaml_schema::of::<SuiteText>();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("A suite of the lastbyte harness");
    for (name, definition) in step::schemas()
        .into_iter()
        .chain([yaml_schema::definition()])
    {
        schema["$defs"][name] = definition;
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
scenarios:
  - name: close-with-unread-data
    explains: close() with unread data resets the connection.
    source: "The ultimate SO_LINGER page; RFC 1122 section 4.2.2.13"
    runs: 10
    link: { rate: 10mbit, delay: 5ms }
    actors:
      receiver:
        on: server
        steps: [ { listen: 7000 }, accept, { write: "220 Welcome\r\n" }, read-to-end ]
      sender:
        on: client
        steps: [ { connect: "server:7000" }, { await: "receiver.write" }, { write: 1MB }, close ]
    expect:
      sender.close.error: { always: none }
      receiver.read-to-end.bytes: { sometimes: "< 1000000" }
      receiver.read-to-end.error: { sometimes: ECONNRESET }
      client.TcpExt.TCPAbortOnClose: { always: ">= 1" }
"#;

    fn error_of(text: &str) -> SuiteError {
        parse(text, "topic/file").map(|_| ()).unwrap_err()
    }

    #[test]
    fn the_documented_example_reads() {
        let scenarios = parse(GOOD, "close/unread-data").unwrap();
        let scenario = &scenarios[0];
        assert_eq!(scenario.id, "close/unread-data/close-with-unread-data");
        assert_eq!(
            scenario.links["server"].rate_bits_per_second,
            Some(10_000_000)
        );
        assert_eq!(scenario.links.len(), 2);
        assert_eq!(scenario.expectations.len(), 4);
        assert_eq!(scenario.address_of("server").to_string(), "10.0.2.2");
    }

    /// Each pair: what to change in the good suite, and what the error says.
    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases = [
            (
                "runs: 10",
                "run: 10",
                "6:5: unknown key \"run\"; did you mean \"runs\"?",
            ),
            (
                "runs: 10",
                "runs: ten",
                "6:11: runs: \"ten\" isn't allowed here",
            ),
            (
                "runs: 10",
                "runs: 0",
                "6:11: runs: \"0\" isn't allowed here",
            ),
            (
                "delay: 5ms",
                "delay: 5",
                "7:34: delay: \"5\" isn't allowed here",
            ),
            (
                "on: server",
                "on: serve",
                "10:13: no host \"serve\"; did you mean \"server\"?",
            ),
            ("server:7000", "srv:7000", "14:29: no host \"srv\""),
            (
                "receiver.write",
                "receiver.writ",
                "14:55: no step of receiver \"writ\"; did you mean \"write\"?",
            ),
            (
                "receiver.write",
                "receive.write",
                "14:55: no actor \"receive\"; did you mean \"receiver\"?",
            ),
            (
                "sender.close.error",
                "sender.close.bytes",
                "16:7: sender.close.bytes: close doesn't observe \"bytes\"",
            ),
            (
                "TCPAbortOnClose",
                "TCPAbortOnClos",
                "did you mean \"TcpExt.TCPAbortOnClose\"?",
            ),
            (
                "always: none",
                "allways: none",
                "unknown key \"allways\"; did you mean \"always\"?",
            ),
            ("always: none", "always: \"< \"", "condition:"),
            (
                "{ write: 1MB }, close",
                "close, { write: 1MB, as: close }",
                "a step has one key",
            ),
            (
                "{ write: 1MB }, close",
                "close, { write: { bytes: 1MB, as: close } }",
                "a second step called \"close\"",
            ),
            (
                "{ write: 1MB }, close",
                "{ sendfile: 1MB }, { ftruncate: sendfil }, close",
                "no file that is sent \"sendfil\"; did you mean \"sendfile\"?",
            ),
            (
                "{ write: 1MB }, close",
                "{ write: 1MB }, { pwrite: { file: write, bytes: 1MB } }, close",
                "no file that is sent \"write\"",
            ),
            (
                "sometimes: ECONNRESET",
                "sometimes: ECONRESET",
                "there is no errno \"ECONRESET\"; did you mean \"ECONNRESET\"?",
            ),
            (
                "accept, ",
                "accept, accept, ",
                "a second step called \"accept\"",
            ),
        ];
        for (from, to, message) in cases {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from}");
            let error = error_of(&text).to_string();
            assert!(error.contains(message), "{to}: {error}");
        }
    }

    #[test]
    fn the_links_that_are_compared_can_be_read() {
        for link in crate::lab::datagrams::LINKS {
            assert_ne!(impairment(link).unwrap(), Impairment::none(), "{link}");
        }
        assert!(impairment("dely: 1ms").is_err());
    }

    #[test]
    fn steps_that_wait_for_one_another_are_found() {
        let text = GOOD.replace("accept, ", "accept, { await: sender.close }, ");
        let error = error_of(&text);
        assert!(error.message.starts_with("circular await: "), "{error}");
        assert_eq!(error.place.line, 11);
        let text = GOOD.replace("{ write: 1MB }, close", "{ await: sender.close }, close");
        assert!(error_of(&text).message.starts_with("circular await"));
    }

    #[test]
    fn nothing_at_all_is_an_error() {
        for text in [
            "",
            "\n# only a comment\n",
            "scenarios:",
            "scenarios: []",
            "[]",
            "7",
        ] {
            assert!(parse(text, "a/b").is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_prefix_of_a_suite_panics() {
        for end in 0..GOOD.len() {
            if GOOD.is_char_boundary(end) {
                let _ = parse(&GOOD[..end], "a/b");
            }
        }
    }
}
