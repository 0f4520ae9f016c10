//! Suites to start from: `harness new`.

use std::io;
use std::path::Path;

use crate::output;

/// Five scenarios for a server, with placeholders for its command and its port.
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

/// The suite with a command filled in. Words of the command that name an
/// existing file become absolute paths.
pub fn suite(program: Program, command: &[String], port: u16) -> String {
    // A command runs in a directory of its own, where relative paths do not
    // work. Links are not resolved: a program may depend on the name that it is
    // called by.
    let whole = |word: &String| match std::path::absolute(word) {
        Ok(path) if path.is_file() => path.to_string_lossy().into_owned(),
        _ => word.clone(),
    };
    let words: Vec<String> = if command.is_empty() {
        program.placeholder(port)
    } else {
        // A program without a slash is looked up in PATH.
        let is_of_path = |index, word: &String| index == 0 && !word.contains('/');
        let words = command.iter().enumerate();
        words
            .map(|(index, word)| {
                if is_of_path(index, word) {
                    word.clone()
                } else {
                    whole(word)
                }
            })
            .collect()
    };
    // JSON is YAML.
    let words = serde_json::Value::from(words).to_string();
    let mark = if command.is_empty() { " # <-" } else { "" };
    program
        .template()
        .replace("@COMMAND@", &(words + mark))
        .replace("@PORT@", &port.to_string())
}

/// Writes the suite to a file that is not there yet.
pub fn write(program: Program, path: &Path, command: &[String], port: u16) -> io::Result<()> {
    output::write_new(path, suite(program, command, port).as_bytes())
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
            assert_eq!(scenarios.len(), 6);
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
    fn files_of_the_command_are_found_from_anywhere() {
        let command = ["Cargo.toml", "Cargo.toml", "no-such-file"].map(str::to_owned);
        let scenarios = parse(&suite(Program::Server, &command, 1), "t/server").unwrap();
        let words = &scenarios[0].command_of("program").unwrap().words;
        let there = std::path::absolute("Cargo.toml").unwrap();
        assert_eq!(words[0], "Cargo.toml");
        assert_eq!(Path::new(&words[1]), there);
        assert_eq!(words[2], "no-such-file");
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("topic/server.yaml");
        write(Program::Server, &path, &[], 8080).unwrap();
        let error = write(Program::Server, &path, &[], 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .contains("server:8080")
        );
    }
}
