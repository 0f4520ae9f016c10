//! Suites to start from: `harness new`.

use std::io;
use std::path::Path;

use crate::report::output;

/// Four questions to a server, with marks for its command and its port.
const SERVER: &str = include_str!("new/server.yaml");

/// What stands for the command while nobody has said it.
const PLACEHOLDER: [&str; 3] = ["./my-server", "--port", "8080"];

/// The suite that puts the questions to a command.
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

/// Writes the suite to a file that is not there yet.
pub fn write_server(path: &Path, command: &[String], port: u16) -> io::Result<()> {
    output::write_new(path, server(command, port).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;

    #[test]
    fn the_suite_to_start_from_is_sound() {
        let odd = ["./a server", "--say", "\"hi\": # {dir} \\"].map(str::to_owned);
        for (command, port) in [(&[][..], 8080), (&odd[..], 65535)] {
            let scenarios = suite::parse(&server(command, port), "t/server").unwrap();
            assert_eq!(scenarios.len(), 5);
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
        let error = write_server(&path, &[], 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .contains("server:8080")
        );
    }
}
