//! The files that a command needs in a guest: its program with its libraries,
//! and those that the suite names (`needs`), at the same paths.
//!
//! They go over the port and not into the initramfs, so that one saved state
//! serves all scenarios.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::initramfs::libraries;
use crate::kernels::elf;
use crate::suite::command::{Command, DIRECTORY_MARK, program_of_env, script_line};
use crate::suite::scenario::Scenario;

/// Bytes of all files at most: a quarter of the guest's memory, where they are
/// kept.
const MOST_BYTES: u64 = super::qemu::MEMORY_BYTES / 4;

/// User names: a server looks up the number of `nobody`.
const USERS: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// The longest chain of scripts that run one another.
const MOST_INTERPRETERS: usize = 4;

/// The files that the commands of a scenario need, or why one is missing.
pub fn files_of(scenario: &Scenario) -> Result<Vec<PathBuf>, String> {
    let mut files = BTreeSet::new();
    for (_, command) in scenario.commands() {
        add_command(command, &mut files)?;
    }
    if !files.is_empty() {
        let users = USERS.iter().map(PathBuf::from);
        files.extend(users.filter(|path| path.is_file()));
    }
    let length = |path: &PathBuf| path.metadata().map_or(0, |file| file.len());
    let bytes: u64 = files.iter().map(length).sum();
    if bytes > MOST_BYTES {
        return Err(format!(
            "its files are {} MiB, and {} MiB fit into a guest",
            bytes >> 20,
            MOST_BYTES >> 20
        ));
    }
    Ok(files.into_iter().collect())
}

fn add_command(command: &Command, files: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    let program = command
        .find()
        .ok_or_else(|| format!("{} is not installed", command.program()))?;
    add_program(&program, files, MOST_INTERPRETERS)?;
    // `[python3, /srv/server.py]`: what is to be run is an argument.
    let arguments = command.words.iter().skip(1);
    let arguments = arguments.filter(|word| word.starts_with('/') && Path::new(word).is_file());
    for argument in arguments {
        add(Path::new(argument), files).map_err(|error| format!("{argument}: {error}"))?;
    }
    let directory = command.directory.iter();
    let directory = directory.filter(|path| !path.starts_with(DIRECTORY_MARK));
    for needed in command.needs.iter().chain(directory) {
        let path = std::path::absolute(needed).map_err(|error| format!("{needed}: {error}"))?;
        add(&path, files).map_err(|error| format!("it needs {needed}: {error}"))?;
    }
    Ok(())
}

/// What some interpreters can't do without, and how they say where it is.
const MODULES: [(&str, [&str; 2]); 3] = [
    (
        "python",
        ["-c", "import os; print(os.path.dirname(os.__file__))"],
    ),
    ("perl", ["-e", "print \"$_\\n\" for grep { -d } @INC"]),
    ("ruby", ["-e", "puts $LOAD_PATH"]),
];

/// A program with its libraries, or a script with its interpreter; an interpreter with its
/// modules.
fn add_program(
    program: &Path,
    files: &mut BTreeSet<PathBuf>,
    interpreters: usize,
) -> Result<(), String> {
    let content = fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    files.insert(program.to_owned());
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    if let Some((_, question)) = MODULES.iter().find(|(known, _)| name.starts_with(known)) {
        add_modules(program, question, files)?;
    }
    if elf::is_elf(&content) {
        let linked = libraries(program, &content).map_err(|error| error.to_string())?;
        files.extend(linked);
        return Ok(());
    }
    let error = |what: &str| Err(format!("{} {what}", program.display()));
    let line = script_line(&content).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    match (words.first(), interpreters) {
        (None, _) => error("is neither an x86-64 program nor a script"),
        (_, 0) => error("is run by scripts that run one another"),
        (Some(interpreter), _) => {
            add_program(Path::new(interpreter), files, interpreters - 1)?;
            // `#!/usr/bin/env python3` looks for a second one.
            let Some(name) = program_of_env(&words) else {
                return Ok(());
            };
            let found = Command::of_program(name)
                .find()
                .ok_or_else(|| format!("{name} is not installed"))?;
            add_program(&found, files, interpreters - 1)
        }
    }
}

/// The modules of an interpreter, where it says that they are.
fn add_modules(
    program: &Path,
    question: &[&str],
    files: &mut BTreeSet<PathBuf>,
) -> Result<(), String> {
    let shown = program.display();
    let output = std::process::Command::new(program)
        .args(question)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("{shown} can't be asked for its modules: {error}"))?;
    let told = String::from_utf8_lossy(&output.stdout);
    // A short one, such as that of `python-config`, has none.
    for directory in told
        .lines()
        .map(Path::new)
        .filter(|path| path.is_absolute())
    {
        if directory.is_dir() {
            add(directory, files)
                .map_err(|error| format!("{shown} needs {}: {error}", directory.display()))?;
        }
    }
    Ok(())
}

/// A file, or all files below a directory; an ELF file with its libraries,
/// where they are found.
fn add(path: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if path.metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // A link to a directory could be a circle.
            let is_link = entry.file_type()?.is_symlink();
            let Ok(metadata) = entry.path().metadata() else {
                continue;
            };
            if metadata.is_file() || (metadata.is_dir() && !is_link) {
                add(&entry.path(), files)?;
            }
        }
        return Ok(());
    }
    if !files.insert(path.to_owned()) {
        return Ok(());
    }
    let mut start = [0; 4];
    let is_elf = io::Read::read_exact(&mut fs::File::open(path)?, &mut start).is_ok()
        && start == *b"\x7fELF";
    if is_elf && let Ok(linked) = libraries(path, &fs::read(path)?) {
        files.extend(linked);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(directory: &Path, name: &str, first: &str) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, format!("{first}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_program_comes_with_what_runs_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = script(directory.path(), "run", "#!/bin/sh -e");
        let mut files = BTreeSet::new();
        add_program(&path, &mut files, MOST_INTERPRETERS).unwrap();
        assert!(
            files.contains(Path::new("/bin/sh")) && files.contains(&path),
            "{files:?}"
        );

        let path = script(directory.path(), "env", "#!/usr/bin/env no-such-program");
        let error = add_program(&path, &mut files, MOST_INTERPRETERS).unwrap_err();
        assert_eq!(error, "no-such-program is not installed");

        // An interpreter comes with its modules, wherever it says that they are.
        let modules = directory.path().join("modules");
        fs::create_dir(&modules).unwrap();
        fs::write(modules.join("os.py"), "").unwrap();
        let answer = format!("#!/bin/sh\necho {}", modules.display());
        let python = script(directory.path(), "python9", &answer);
        let line = format!("#!{} -u", python.display());
        let path = script(directory.path(), "server.py", &line);
        let mut files = BTreeSet::new();
        add_program(&path, &mut files, MOST_INTERPRETERS).unwrap();
        for needed in [&python, &path, &modules.join("os.py")] {
            assert!(files.contains(needed), "{needed:?} in {files:?}");
        }

        let own = directory.path().join("own").display().to_string();
        let path = script(directory.path(), "own", &format!("#!{own}"));
        let error = add_program(&path, &mut files, MOST_INTERPRETERS).unwrap_err();
        assert!(error.contains("run one another"), "{error}");

        let path = script(directory.path(), "text", "hello");
        let error = add_program(&path, &mut files, MOST_INTERPRETERS).unwrap_err();
        assert!(error.contains("neither"), "{error}");
    }

    #[test]
    fn a_directory_comes_with_all_that_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("c"), "c").unwrap();
        std::os::unix::fs::symlink(directory.path(), below.join("round")).unwrap();
        let mut files = BTreeSet::new();
        add(directory.path(), &mut files).unwrap();
        assert_eq!(files.into_iter().collect::<Vec<_>>(), [below.join("c")]);
        assert!(add(Path::new("/no/such"), &mut BTreeSet::new()).is_err());
    }
}
