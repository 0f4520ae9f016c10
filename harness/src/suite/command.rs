//! An actor that is a command: a program of somebody's own in the lab.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::SuiteError;
use super::form::{Data, Field, Fields, Form, Item, Object, optional};

/// What stands for the private directory of a command in its words, its
/// environment and its files.
pub const DIRECTORY_MARK: &str = "{dir}";

/// Where programs are looked for besides PATH: a user's doesn't have what only
/// root is expected to start.
const MORE_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The key that makes an actor a command.
pub const COMMAND: Field = optional(
    "command",
    Form::List(&Form::Text),
    "a program and its arguments, in place of steps; {dir} is its private directory",
);
/// Variables of its environment.
pub const ENV: Field = optional(
    "env",
    Form::Map(&Form::Text),
    "of a command: variables, beside the harness's own; TMPDIR is its private directory",
);
/// Where it runs.
pub const DIRECTORY: Field = optional(
    "directory",
    Form::Text,
    "of a command: where it runs; its private directory unless told",
);
/// What is written for it.
pub const FILES: Field = optional(
    "files",
    Form::Map(&Form::Text),
    "of a command: files to write in its private directory, by name",
);
/// When it is ready.
pub const READY: Field = optional(
    "ready",
    Form::Object(&READINESS),
    "of a command: when it is ready; once it has started unless told",
);
/// What it takes along into a guest.
pub const NEEDS: Field = optional(
    "needs",
    Form::List(&Form::Text),
    "of a command: files and directories that a guest needs beside program and libraries",
);
/// What installs it.
pub const INSTALL: Field = optional(
    "install",
    Form::Text,
    "of a command: what installs it; named where it is missing",
);

static READINESS: Object = Object {
    short: None,
    fields: &[
        optional("port", Form::Positive, "a process of it listens there"),
        optional("line", Form::Text, "a line that it prints holds this"),
        optional(
            "file",
            Form::Text,
            "there is this file, named from where it runs",
        ),
    ],
};

/// A command, checked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Command {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Variables of its environment.
    pub env: Vec<(String, String)>,
    /// Where it runs, in place of its private directory.
    pub directory: Option<String>,
    /// What is written in its private directory: names and contents.
    pub files: Vec<(String, String)>,
    /// When it is ready.
    pub ready: Ready,
    /// What a guest needs beside the program and its libraries.
    pub needs: Vec<String>,
    /// What installs it.
    pub install: Option<String>,
}

/// When a command is ready.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Ready {
    /// Once it has started.
    Started,
    /// A process of it listens on this TCP port.
    Port(u16),
    /// A line that it prints holds this.
    Line(String),
    /// There is this file.
    File(String),
}

impl Command {
    /// Reads the command of an actor, where it is one.
    pub fn read(actor: &Fields) -> Result<Option<Self>, SuiteError> {
        let keys = [&ENV, &DIRECTORY, &FILES, &READY, &NEEDS, &INSTALL];
        if actor.get(COMMAND.name).is_none() {
            return match keys.iter().find(|key| actor.get(key.name).is_some()) {
                None => Ok(None),
                Some(key) => Err(SuiteError::new(
                    actor.place_of(key.name),
                    format!("{}: there is no command", key.name),
                    "only an actor with `command` has it",
                )),
            };
        }
        let words = texts(actor.list(COMMAND.name))?;
        if words.first().is_none_or(String::is_empty) {
            return Err(SuiteError::new(
                actor.place_of(COMMAND.name),
                "command: no program",
                "such as [nginx, -g, daemon off;]",
            ));
        }
        let command = Self {
            words,
            env: pairs(actor, ENV.name, |name| {
                !name.is_empty() && !name.contains(['=', '\0'])
            })?,
            directory: text(actor, DIRECTORY.name)?,
            files: pairs(actor, FILES.name, is_inside)?,
            ready: ready(actor)?,
            needs: texts(actor.list(NEEDS.name))?,
            install: text(actor, INSTALL.name)?,
        };
        if let Some(item) = actor
            .list(NEEDS.name)
            .iter()
            .find(|item| !matches!(&item.data, Data::Text(path) if Path::new(path).is_absolute()))
        {
            return Err(SuiteError::new(
                item.place,
                "needs: not an absolute path",
                "such as /usr/lib/python3.11",
            ));
        }
        Ok(Some(command))
    }

    /// A program without arguments.
    pub fn of_program(name: &str) -> Self {
        Self {
            words: vec![name.to_owned()],
            env: Vec::new(),
            directory: None,
            files: Vec::new(),
            ready: Ready::Started,
            needs: Vec::new(),
            install: None,
        }
    }

    /// The port that it listens on once it is ready, where that is known.
    pub fn port(&self) -> Option<u16> {
        match self.ready {
            Ready::Port(port) => Some(port),
            _ => None,
        }
    }

    /// What it is called: the program as the suite names it.
    pub fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The program's file: by its path from here where it has a slash in it, as a
    /// shell has it, and by PATH otherwise.
    pub fn find(&self) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let is_program = |file: &PathBuf| {
            let metadata = file.metadata();
            metadata.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        };
        let program = self.program();
        if program.contains('/') {
            return std::path::absolute(program).ok().filter(is_program);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(MORE_DIRECTORIES.map(PathBuf::from))
            .map(|directory| directory.join(program))
            .find(is_program)
    }

    /// The same with the program's file, and where it runs, as they are called from
    /// anywhere. One that isn't there stays as it is.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let mut resolved = self.clone();
        if let (Some(file), Some(program)) = (self.find(), resolved.words.first_mut()) {
            *program = file.to_string_lossy().into_owned();
        }
        if let Some(directory) = &mut resolved.directory
            && !directory.starts_with(DIRECTORY_MARK)
            && let Ok(whole) = std::path::absolute(&*directory)
        {
            *directory = whole.to_string_lossy().into_owned();
        }
        resolved
    }

    /// Why it can't be started here, and what to do about it.
    pub fn obstacle(&self) -> Option<(String, String)> {
        if self.find().is_some() {
            return None;
        }
        let program = self.program();
        let missing = if program.contains('/') {
            format!("there is no program {program}")
        } else {
            format!("{program} is not installed")
        };
        let hint = match &self.install {
            Some(install) => format!("{install} installs it"),
            None => "install it, or name it by its path".to_owned(),
        };
        Some((missing, hint))
    }
}

fn ready(actor: &Fields) -> Result<Ready, SuiteError> {
    let Some(fields) = actor.object(READY.name) else {
        return Ok(Ready::Started);
    };
    let wrong = |message: &str| {
        SuiteError::new(
            fields.place,
            format!("ready: {message}"),
            "one of { port: 8080 }, { line: text } and { file: name }",
        )
    };
    let given: Vec<&str> = fields.iter().map(|(key, _)| key).collect();
    match given[..] {
        ["port"] => fields
            .count("port")
            .and_then(|port| u16::try_from(port).ok())
            .map(Ready::Port)
            .ok_or_else(|| wrong("there is no such port")),
        ["line"] => Ok(Ready::Line(text(fields, "line")?.unwrap_or_default())),
        ["file"] => Ok(Ready::File(text(fields, "file")?.unwrap_or_default())),
        _ => Err(wrong(&format!("{} conditions", given.len()))),
    }
}

/// A name that leads to no place outside.
fn is_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn text(fields: &Fields, key: &str) -> Result<Option<String>, SuiteError> {
    let item = fields
        .get(key)
        .map(std::slice::from_ref)
        .unwrap_or_default();
    Ok(texts(item)?.pop())
}

/// Texts for the kernel, which end at a zero byte there.
fn texts(items: &[Item]) -> Result<Vec<String>, SuiteError> {
    let mut texts = Vec::new();
    for item in items {
        let Data::Text(text) = &item.data else {
            continue;
        };
        if text.contains('\0') {
            return Err(SuiteError::new(item.place, "a zero byte in it", ""));
        }
        texts.push(text.clone());
    }
    Ok(texts)
}

fn pairs(
    actor: &Fields,
    key: &str,
    is_name: impl Fn(&str) -> bool,
) -> Result<Vec<(String, String)>, SuiteError> {
    let mut pairs = Vec::new();
    for (name, item) in actor.map(key) {
        let Data::Text(value) = &item.data else {
            continue;
        };
        if !is_name(&name.text)
            || name.text.contains('\0')
            || key == ENV.name && value.contains('\0')
        {
            return Err(SuiteError::new(
                name.place,
                format!("{key}: {:?} can't be one of them", name.text),
                match key {
                    "files" => "a name in its private directory, such as nginx.conf",
                    _ => "a name without =",
                },
            ));
        }
        pairs.push((name.text.clone(), value.clone()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;

    fn with(actor: &str) -> Result<Command, SuiteError> {
        let text = format!(
            r#"
scenarios:
  - name: own
    explains: A command.
    source: ours
    actors:
      program: {{ on: server, {actor} }}
      user: {{ on: client, steps: [{{ connect: "server:8080" }}, {{ await: program.exit }}] }}
    lab: [{{ restart: program }}, {{ sample: there }}]
    expect:
      user.connect.error: {{ always: none }}
      program.exit.status: {{ may: [0, SIGTERM, running] }}
      program.usage.descriptors: {{ always: "< 10" }}
      there.program.usage.rss_bytes: {{ always: "> 0" }}
      program.output: {{ never: "~ error" }}
"#
        );
        let scenarios = suite::parse(&text, "t/f")?;
        let actor = &scenarios[0].actors[1..];
        assert_eq!(
            scenarios[0].actors[1].tasks[0].steps[0]
                .fields
                .text("after"),
            Some("program.ready")
        );
        assert_eq!(actor.len(), 1);
        Ok(scenarios[0].actors[0].command.clone().unwrap())
    }

    #[test]
    fn a_command_is_read_and_its_clients_wait_for_it() {
        let command = with(
            "command: [nginx, -p, ., 8080], env: { A: 1 }, files: { a/b.conf: x }, \
             ready: { port: 8080 }, needs: [/etc/x]",
        )
        .unwrap();
        assert_eq!(command.words, ["nginx", "-p", ".", "8080"]);
        assert_eq!(command.port(), Some(8080));
        assert_eq!(command.env, [("A".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn what_is_wrong_with_a_command_is_said() {
        for (actor, says) in [
            ("command: []", "no program"),
            ("command: [x], steps: [accept]", "needs one of"),
            (
                "steps: [accept], ready: { port: 1 }",
                "ready: there is no command",
            ),
            ("command: [x], ready: { port: 99999 }", "no such port"),
            ("command: [x], ready: { port: 1, line: y }", "2 conditions"),
            ("command: [x], ready: {}", "0 conditions"),
            ("command: [x], files: { ../y: z }", "\"../y\" can't be"),
            ("command: [x], files: { /y: z }", "\"/y\" can't be"),
            ("command: [x], env: { a=b: z }", "\"a=b\" can't be"),
            ("command: [x], needs: [y]", "not an absolute path"),
            ("command: [\"x\\0\"]", "a zero byte"),
            ("command: [x], red: { port: 1 }", "unknown key \"red\""),
        ] {
            let error = with(actor).unwrap_err().to_string();
            assert!(error.contains(says), "{actor}: {error}");
        }
    }

    #[test]
    fn programs_are_found_by_path_or_named_as_missing() {
        let command = |program: &str, install: Option<&str>| Command {
            install: install.map(str::to_owned),
            ..Command::of_program(program)
        };
        let shell = command("sh", None).find().unwrap();
        assert!(shell.is_absolute() && shell.ends_with("sh"), "{shell:?}");
        assert!(command("/bin/sh", None).obstacle().is_none());
        let (reason, hint) = command("no-such-server", Some("prepare"))
            .obstacle()
            .unwrap();
        assert_eq!(reason, "no-such-server is not installed");
        assert_eq!(hint, "prepare installs it");
        let (reason, _) = command("./no-such-server", None).obstacle().unwrap();
        assert_eq!(reason, "there is no program ./no-such-server");
        // A directory is none.
        assert!(command("/etc", None).find().is_none());
    }
}
