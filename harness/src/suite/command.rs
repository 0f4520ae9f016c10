//! An actor that is a command: a program of somebody's own in the lab.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::text::{ActorText, Argument, ReadyText};
use crate::yaml::error::SuiteError;
use crate::yaml::value::Placed;

/// What stands for the private directory of a command in its words, its
/// environment and its files.
pub const DIRECTORY_MARK: &str = "{dir}";

/// Where programs are looked for besides PATH: a user's doesn't have what only
/// root is expected to start.
const MORE_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

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
    pub fn read(actor: &ActorText) -> Result<Option<Self>, SuiteError> {
        let Some(words) = &actor.command else {
            let keys = [
                ("env", actor.env.as_ref().map(|key| key.place)),
                ("directory", actor.directory.as_ref().map(|key| key.place)),
                ("files", actor.files.as_ref().map(|key| key.place)),
                ("ready", actor.ready.as_ref().map(|key| key.place)),
                ("needs", actor.needs.as_ref().map(|key| key.place)),
                ("install", actor.install.as_ref().map(|key| key.place)),
            ];
            let given = keys
                .into_iter()
                .find_map(|(key, place)| Some((key, place?)));
            return match given {
                None => Ok(None),
                Some((key, place)) => Err(SuiteError::new(
                    place,
                    format!("{key}: there is no command"),
                    "only an actor with `command` has it",
                )),
            };
        };
        if words.first().is_none_or(|word| word.0.is_empty()) {
            let hint = "such as [nginx, -g, daemon off;]";
            return Err(SuiteError::new(words.place, "command: no program", hint));
        }
        let needs = actor.needs.as_ref().map_or(&[][..], |needs| &needs.value);
        if let Some(path) = needs.iter().find(|path| !Path::new(&path.0).is_absolute()) {
            let hint = "such as /usr/lib/python3.11";
            return Err(SuiteError::new(
                path.place,
                "needs: not an absolute path",
                hint,
            ));
        }
        let optional = |text: &Option<Placed<Argument>>| {
            let text = text.as_ref();
            text.map(|text| text.value.0.clone())
        };
        let env = actor.env.as_ref().map_or(&[][..], |env| &env.value.0);
        for (name, _) in env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(no_name("env", name, "a name without ="));
            }
        }
        let files = actor.files.as_ref().map_or(&[][..], |files| &files.value.0);
        for (name, _) in files {
            if !is_inside(name) || name.contains('\0') {
                let hint = "a name in its private directory, such as nginx.conf";
                return Err(no_name("files", name, hint));
            }
        }
        Ok(Some(Self {
            words: words.iter().map(|word| word.0.clone()).collect(),
            env: env
                .iter()
                .map(|(name, value)| (name.value.clone(), value.0.clone()))
                .collect(),
            directory: optional(&actor.directory),
            files: files
                .iter()
                .map(|(name, content)| (name.value.clone(), content.0.clone()))
                .collect(),
            ready: ready(actor.ready.as_ref())?,
            needs: needs.iter().map(|path| path.value.0.clone()).collect(),
            install: optional(&actor.install),
        }))
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

    /// All that it is started with.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let pairs = self.env.iter().chain(&self.files);
        let values = pairs.map(|(_, value)| value.as_str());
        self.words.iter().map(String::as_str).chain(values)
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

    /// Whether it is named by a path and can't be started: what was to be built isn't, or
    /// lacks its run bit. Why, and what to do.
    pub fn fault(&self) -> Option<(String, String)> {
        let program = self.program();
        if !program.contains('/') {
            return None;
        }
        if let Some(found) = self.find() {
            return without_interpreter(program, &found);
        }
        let file = std::path::absolute(program).ok()?;
        let shown = file.display();
        Some(match file.metadata() {
            Ok(metadata) if metadata.is_dir() => (
                format!("{program} is a directory"),
                "name the program in it".to_owned(),
            ),
            Ok(_) => (
                format!("{program} can't be run: it lacks its run bit"),
                format!("chmod +x {shown}"),
            ),
            Err(error) => (
                format!("there is no program {program}: {error}"),
                match &self.install {
                    Some(install) => format!("{install} installs it"),
                    None => format!("build it first, or name it by another path than {shown}"),
                },
            ),
        })
    }

    /// Why it can't be started here, and what to do about it.
    pub fn obstacle(&self) -> Option<(String, String)> {
        let program = self.program();
        if let Some(found) = self.find() {
            return without_interpreter(program, &found);
        }
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

/// The first line of a script without its `#!`: what runs it, and the argument that it
/// gets. `None` of what is no script.
pub fn script_line(content: &[u8]) -> Option<String> {
    /// The kernel looks at no more (BINPRM_BUF_SIZE).
    const MOST: usize = 256;
    let line = content.strip_prefix(b"#!")?;
    let line = &line[..line.len().min(MOST)];
    let line = line.split(|byte| *byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// Of the first line of a script that env runs: the program that env looks for.
pub fn program_of_env<'a>(words: &[&'a str]) -> Option<&'a str> {
    let (env, rest) = words.split_first()?;
    let is_program = |word: &&&str| !word.starts_with('-') && !word.contains('=');
    (env.rsplit('/').next() == Some("env"))
        .then(|| rest.iter().find(is_program).copied())
        .flatten()
}

/// Why a script can't be run: what is to run it isn't there. The kernel says only that
/// there is no such file.
fn without_interpreter(program: &str, file: &Path) -> Option<(String, String)> {
    let mut start = Vec::new();
    let read = std::fs::File::open(file)
        .ok()?
        .take(512)
        .read_to_end(&mut start);
    let line = read.ok().and_then(|_| script_line(&start))?;
    let words: Vec<&str> = line
        .split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .collect();
    let interpreter = words.first()?;
    let told = |missing: &str| {
        let name = missing.rsplit('/').next().unwrap_or(missing);
        let mut hint =
            format!("install {name}, or name another one in the first line of {program}");
        if line.ends_with('\r') {
            hint = format!(
                "its first line ends with a carriage return, as on Windows: sed -i 's/\\r$//' {}",
                file.display()
            );
        }
        let missing = missing.trim_end_matches('\r');
        Some((
            format!("{program} is a script for {missing}, which isn't there"),
            hint,
        ))
    };
    let is_file = |path: &str| std::fs::metadata(path).is_ok_and(|file| file.is_file());
    if interpreter.starts_with('/') && !is_file(interpreter) {
        return told(interpreter);
    }
    let named = program_of_env(&words)?;
    if Command::of_program(named).find().is_none() {
        return told(named);
    }
    None
}

fn no_name(key: &str, name: &Placed<String>, hint: &str) -> SuiteError {
    let message = format!("{key}: {:?} can't be one of them", name.value);
    SuiteError::new(name.place, message, hint)
}

fn ready(text: Option<&Placed<ReadyText>>) -> Result<Ready, SuiteError> {
    let Some(text) = text else {
        return Ok(Ready::Started);
    };
    match (&text.port, &text.line, &text.file) {
        (Some(port), None, None) => Ok(Ready::Port(port.get())),
        (None, Some(line), None) => Ok(Ready::Line(line.0.clone())),
        (None, None, Some(file)) => Ok(Ready::File(file.0.clone())),
        (port, line, file) => {
            let given = [port.is_some(), line.is_some(), file.is_some()];
            let count = given.into_iter().filter(|given| *given).count();
            let hint = "one of { port: 8080 }, { line: text } and { file: name }";
            let message = format!("ready: {count} conditions");
            Err(SuiteError::new(text.place, message, hint))
        }
    }
}

/// Whether a file's name stays inside the private directory.
fn is_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
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
        let connect = &scenarios[0].actors[1].tasks[0].steps[0];
        assert_eq!(connect.waits_for().unwrap().to_string(), "program.ready");
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
    fn a_client_that_two_commands_may_serve_says_which_it_waits_for() {
        let parse = |port: u16, after: &str| {
            suite::parse(
                &format!(
                    r#"
scenarios:
  - name: own
    explains: Two commands.
    source: ours
    actors:
      one: {{ on: server, command: [x, --port, 8080], ready: {{ line: up }} }}
      two: {{ on: server, command: [y], ready: {{ file: up }} }}
      user: {{ on: client, steps: [{{ connect: {{ to: "server:{port}"{after} }} }}] }}
    expect: {{ user.connect.error: {{ always: none }} }}
"#
                ),
                "t/f",
            )
        };
        for (port, after, awaited) in [
            (8080, "", "one.ready"),
            (8081, ", after: two.ready", "two.ready"),
        ] {
            let scenarios = parse(port, after).unwrap();
            let connect = &scenarios[0].actors[2].tasks[0].steps[0];
            assert_eq!(connect.waits_for().unwrap().to_string(), awaited);
        }
        let error = parse(8081, "").unwrap_err().to_string();
        let says = "which command serves server:8081 is open: one.ready, two.ready";
        assert!(error.contains(says), "{error}");
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
            (
                "command: [x], ready: { port: 99999 }",
                "\"99999\" isn't allowed",
            ),
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
        assert_eq!(command("no-such-server", None).fault(), None);
        let (reason, _) = command("./no-such-server", None).fault().unwrap();
        assert_eq!(
            reason,
            "there is no program ./no-such-server: No such file or directory (os error 2)"
        );
        let (reason, hint) = command("./Cargo.toml", None).fault().unwrap();
        assert_eq!(reason, "./Cargo.toml can't be run: it lacks its run bit");
        assert!(hint.starts_with("chmod +x /"), "{hint}");
        // A script needs what runs it.
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("server");
        let script = script.to_str().unwrap();
        for (line, missing, hint) in [
            (
                "#!/usr/bin/no-such-shell -e",
                "/usr/bin/no-such-shell",
                "install no-such-shell",
            ),
            (
                "#! /usr/bin/env -S A=1 no-such-python -u",
                "no-such-python",
                "install no-such",
            ),
            ("#!/bin/sh\r", "/bin/sh", "a carriage return"),
            ("#!/usr/bin/env sh\r", "sh", "a carriage return"),
            ("#!/bin/sh -e", "", ""),
            ("#!/usr/bin/env sh", "", ""),
            ("hello", "", ""),
        ] {
            std::fs::write(script, format!("{line}\nexit 0\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(script, mode).unwrap();
            let fault = command(script, None).fault();
            assert_eq!(fault, command(script, None).obstacle(), "{line}");
            match fault {
                None => assert_eq!(missing, "", "{line}"),
                Some((reason, advice)) => {
                    let expected = format!("{script} is a script for {missing}, which isn't there");
                    assert_eq!(reason, expected);
                    assert!(!missing.is_empty() && advice.contains(hint), "{advice}");
                }
            }
        }
        // A directory is none.
        assert!(command("/etc", None).find().is_none());
    }
}
