//! Suites to start from: `harness new`.

use std::io;
use std::path::Path;

use crate::output;
use crate::suite::schema;

/// The file of the schema, as the suite's first line names it.
const SCHEMA: &str = "suite.schema.json";

/// Seven scenarios for a server, with placeholders for its command and its port.
const SERVER: &str = include_str!("new/server.yaml");

/// One scenario for a client, over what a server can do to it.
const CLIENT: &str = include_str!("new/client.yaml");

/// What a suite to start from is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// A server.
    Server,
    /// A client.
    Client,
}

impl Program {
    const fn template(self) -> &'static str {
        match self {
            Self::Server => SERVER,
            Self::Client => CLIENT,
        }
    }

    /// The command, where none is given.
    fn placeholder(self, port: u16) -> Vec<String> {
        match self {
            Self::Server => PLACEHOLDER.map(str::to_owned).into(),
            Self::Client => vec!["./my-client".to_owned(), format!("{{server}}:{port}")],
        }
    }
}

/// The command of a server, where none is given.
const PLACEHOLDER: [&str; 3] = ["./my-server", "--port", "8080"];

/// The suite with a command filled in.
pub fn suite(program: Program, command: &[String], port: u16) -> String {
    let words: Vec<String> = if command.is_empty() {
        program.placeholder(port)
    } else {
        command.to_vec()
    };
    // JSON is YAML.
    let words = serde_json::Value::from(words).to_string();
    let mark = if command.is_empty() { " # <-" } else { "" };
    program
        .template()
        .replace("@COMMAND@", &(words + mark))
        .replace("@PORT@", &port.to_string())
}

/// Writes the suite to a file that is not there yet, and beside it the schema that editors
/// check it by.
pub fn write(program: Program, path: &Path, command: &[String], port: u16) -> io::Result<()> {
    output::write_new(path, suite(program, command, port).as_bytes())?;
    let schema = serde_json::to_string_pretty(&schema())? + "\n";
    output::write(&path.with_file_name(SCHEMA), schema.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::parse;

    #[test]
    fn the_suite_to_start_from_is_sound() {
        let odd = ["./a server", "--say", "\"hi\": # {dir} \\"].map(str::to_owned);
        for (command, port) in [(&[][..], 8080), (&odd[..], 65535)] {
            let scenarios = parse(&suite(Program::Server, command, port), "t/server").unwrap();
            assert_eq!(scenarios.len(), 7);
            for scenario in &scenarios {
                let own = scenario.command_of("program").unwrap();
                assert_eq!(own.port(), Some(port));
                match command {
                    [] => assert_eq!(own.words, PLACEHOLDER),
                    words => assert_eq!(own.words, words),
                }
            }
        }
    }

    #[test]
    fn the_suite_for_a_client_is_sound() {
        let own = ["curl", "-f", "http://{server}:81/"].map(str::to_owned);
        for (command, port) in [(&[][..], 8080), (&own[..], 81)] {
            let scenarios = parse(&suite(Program::Client, command, port), "t/client").unwrap();
            assert_eq!(scenarios.len(), 7);
            let words = &scenarios[0].command_of("program").unwrap().words;
            assert!(
                words.iter().any(|word| word.contains("{server}")),
                "{words:?}"
            );
        }
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        for (program, end) in [
            (Program::Server, "server:8080"),
            (Program::Client, "{server}"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("topic/own.yaml");
            write(program, &path, &[], 8080).unwrap();
            let schema = directory.path().join("topic").join(SCHEMA);
            let schema = std::fs::read_to_string(schema).unwrap();
            assert!(schema.contains("\"scenarios\""), "{schema}");
            let first = std::fs::read_to_string(&path).unwrap();
            let modeline = first.lines().next().unwrap();
            assert!(
                modeline.ends_with(&format!("$schema=./{SCHEMA}")),
                "{modeline}"
            );
            let error = write(program, &path, &[], 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            let kept = std::fs::read_to_string(&path).unwrap();
            assert!(kept.contains(end), "{kept}");
        }
    }
}
