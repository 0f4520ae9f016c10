//! Suites to start from: `harness new`.

use std::io;
use std::path::Path;

use crate::output;
use crate::suite;

/// The file of the schema, as the suite's first line names it.
const SCHEMA: &str = "suite.schema.json";

/// Seven scenarios for a server, with placeholders for its command and its port.
const SERVER: &str = include_str!("new/server.yaml");

/// The command, where none is given.
const PLACEHOLDER: [&str; 3] = ["./my-server", "--port", "8080"];

/// The suite with a command filled in.
pub fn server(command: &[String], port: u16) -> String {
    let words: Vec<String> = if command.is_empty() {
        PLACEHOLDER.map(str::to_owned).into()
    } else {
        command.to_vec()
    };
    // JSON is YAML.
    let words = serde_json::Value::from(words).to_string();
    let mark = if command.is_empty() { " # <-" } else { "" };
    SERVER
        .replace("@COMMAND@", &(words + mark))
        .replace("@PORT@", &port.to_string())
}

/// Writes the suite to a file that is not there yet, and beside it the schema that editors
/// check it by.
pub fn write_server(path: &Path, command: &[String], port: u16) -> io::Result<()> {
    output::write_new(path, server(command, port).as_bytes())?;
    let schema = serde_json::to_string_pretty(&suite::schema())? + "\n";
    output::write(&path.with_file_name(SCHEMA), schema.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_to_start_from_is_sound() {
        let odd = ["./a server", "--say", "\"hi\": # {dir} \\"].map(str::to_owned);
        for (command, port) in [(&[][..], 8080), (&odd[..], 65535)] {
            let scenarios = suite::parse(&server(command, port), "t/server").unwrap();
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
    fn what_is_there_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("topic/server.yaml");
        write_server(&path, &[], 8080).unwrap();
        let schema = directory.path().join("topic").join(SCHEMA);
        let schema = std::fs::read_to_string(schema).unwrap();
        assert!(schema.contains("\"scenarios\""), "{schema}");
        let first = std::fs::read_to_string(&path).unwrap();
        let modeline = first.lines().next().unwrap();
        assert!(
            modeline.ends_with(&format!("$schema=./{SCHEMA}")),
            "{modeline}"
        );
        let error = write_server(&path, &[], 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .contains("server:8080")
        );
    }
}
