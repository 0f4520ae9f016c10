//! The files that set sysctls at boot, and which of several wins.
//!
//! Two programs read them, and their orders differ. Both take the files of
//! [`DIRECTORIES`] sorted by name, of two with one name only that of the first
//! directory, and the last assignment of a key. `sysctl --system` of procps
//! reads /etc/sysctl.conf after all of them; systemd-sysctl doesn't read it,
//! unless a link in a directory leads there. A line `-key` without a value
//! keeps a glob off the key, and with systemd-sysctl it also takes an earlier
//! assignment of the key back. (sysctl.d(5) of systemd 252, sysctl(8) of procps
//! 4.0.2, and both tried.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use serde::{Deserialize, Serialize};

use crate::read::{FactError, Unseen};
use crate::release::Release;
use crate::sysctl;
use crate::sysctl::table::{self, Setting};

/// The directories, the one whose file hides those of the same name first.
pub const DIRECTORIES: [&str; 5] = [
    "etc/sysctl.d",
    "run/sysctl.d",
    "usr/local/lib/sysctl.d",
    "usr/lib/sysctl.d",
    "lib/sysctl.d",
];

/// The file that procps reads last.
pub const SYSCTL_CONF: &str = "etc/sysctl.conf";
/// The same, as its host has it.
pub const CONF: &str = "/etc/sysctl.conf";

/// The file of a plan that is tried and never written.
pub const PLANNED_FILE: &str = "/etc/sysctl.d/zz-planned.conf";

/// The largest file that is read, in bytes; procps reads lines of up to 4096.
pub const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// A program that applies the files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loader {
    /// systemd-sysctl, at boot.
    SystemdSysctl,
    /// `sysctl --system` of procps, by hand or at boot without systemd.
    Procps,
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SystemdSysctl => "systemd-sysctl",
            Self::Procps => "sysctl --system",
        })
    }
}

/// The files of a host, in the order in which they apply.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct SysctlFiles {
    /// The files; /etc/sysctl.conf is the last.
    pub files: Vec<SysctlFile>,
    /// Whether systemd runs the host, so that systemd-sysctl applies them.
    pub systemd: bool,
    /// What the host has of the `net.` keys that the files set: `None` where it
    /// has no such setting. One that may not be read is left out.
    pub live: BTreeMap<String, Option<String>>,
}

/// A file of assignments.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SysctlFile {
    /// Its path on its host.
    pub path: PathBuf,
    /// Whether it is a link to /etc/sysctl.conf, as Debian has one for
    /// systemd-sysctl: what is wrong with it is said once.
    #[serde(default)]
    pub links_to_conf: bool,
    /// Its lines that say something.
    pub lines: Vec<Line>,
}

/// A line that says something.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// What it says.
    pub content: Content,
}

/// What a line says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// `key = value`.
    Assignment {
        /// The dotted name, which may be a glob.
        key: String,
        /// The value, with single blanks.
        value: String,
    },
    /// `-key`: globs leave it alone.
    Exclusion {
        /// The dotted name.
        key: String,
    },
    /// Nothing that a program understands.
    Malformed {
        /// What is wrong.
        message: String,
    },
}

/// An assignment and where it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Assignment<'a> {
    /// The file.
    pub path: &'a Path,
    /// The line, from 1.
    pub line: usize,
    /// The dotted name or the glob.
    pub key: &'a str,
    /// The glob that stands in place of the name, where one decides on it.
    pub glob: Option<&'a str>,
    /// The value, with single blanks.
    pub value: &'a str,
}

impl<'a> Assignment<'a> {
    /// The same for one setting, where the line has a glob.
    #[must_use]
    pub fn of(self, name: &'a str) -> Self {
        let glob = is_glob(self.key).then_some(self.key);
        Self {
            key: name,
            glob: self.glob.or(glob),
            ..self
        }
    }

    /// Whether it is the line to change for another value of the setting: one of a glob is
    /// for other settings as well, and a package or the next boot writes its file anew.
    pub fn is_to_be_changed(&self) -> bool {
        let is_rewritten = ["/usr/lib", "/lib", "/run"]
            .iter()
            .any(|directory| self.path.starts_with(directory));
        !is_glob(self.key) && !is_rewritten
    }

    /// The first number that begins with a zero, which makes it octal, and what it is.
    pub fn octal(&self) -> Option<(&'a str, u64)> {
        self.value.split_whitespace().find_map(|word| {
            let digits = word.strip_prefix('0')?;
            let number = u64::from_str_radix(digits, 8).ok()?;
            (number > 7).then_some((word, number))
        })
    }

    /// The setting that it names; `None` for a glob, and for what the table of
    /// settings does not have.
    pub fn setting(&self) -> Option<&'static Setting> {
        table::find(self.key)
    }

    /// Whether it sets nothing: the kernel of a release refuses all of the value.
    pub fn sets_nothing(&self, release: Option<Release>) -> bool {
        self.setting()
            .is_some_and(|setting| setting.write(self.value, release).sets_nothing())
    }

    /// What its setting is once it was applied, as the kernel prints it, with
    /// single blanks; numbers that it does not name are as in `before`, or as at
    /// boot. The value as it stands for what the table of settings does not have;
    /// `None` where it sets nothing, or not all is known.
    pub fn result(&self, before: Option<&str>, release: Option<Release>) -> Option<String> {
        let Some(setting) = self.setting() else {
            return Some(self.value.to_owned());
        };
        let written = setting.write(self.value, release);
        if written.sets_nothing() {
            return None;
        }
        let before = before.or_else(|| setting.default_value(release));
        written.result(before, setting.count(release))
    }
}

impl fmt::Display for Assignment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

impl SysctlFiles {
    /// Reads the files of a host under `root`. A file that can't be read is
    /// added to `unseen`; one that is no text is a [`Content::Malformed`].
    pub(crate) fn read(root: &Path, unseen: &mut Vec<Unseen>) -> Result<Self, FactError> {
        let mut files = Self::read_tree(root, unseen);
        files.systemd = root.join("run/systemd/system").is_dir();
        for key in files.keys() {
            if !key.starts_with("net.") {
                continue;
            }
            match sysctl::read(root, &key) {
                Ok(value) => {
                    files
                        .live
                        .insert(key, value.map(|value| single_blanks(&value)));
                }
                // It may be write-only, or no name at all: nothing to compare.
                Err(FactError::Read { .. } | FactError::SysctlName { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    /// Reads the files under a directory that stands for `/`, without looking
    /// at what is set.
    pub fn read_tree(root: &Path, unseen: &mut Vec<Unseen>) -> Self {
        let mut by_name: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
        for directory in DIRECTORIES {
            match names(&root.join(directory)) {
                Ok(names) => {
                    for name in names {
                        let path = Path::new(directory).join(&name);
                        by_name.entry(name).or_insert(path);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => unseen.push(Unseen {
                    what: format!("/{directory}"),
                    why: error.to_string(),
                }),
            }
        }
        let mut files = Self::default();
        for path in by_name.into_values().chain([PathBuf::from(SYSCTL_CONF)]) {
            let shown = Path::new("/").join(&path);
            match read_bytes(root, &path) {
                Ok(Some(bytes)) => files.files.push(SysctlFile {
                    links_to_conf: links_to_conf(root, &path),
                    lines: parse(&bytes),
                    path: shown,
                }),
                Ok(None) => {}
                Err(error) => unseen.push(Unseen {
                    what: shown.display().to_string(),
                    why: error.to_string(),
                }),
            }
        }
        files
    }

    /// The program that applies the files of this host at boot.
    pub fn loader(&self) -> Loader {
        if self.systemd {
            Loader::SystemdSysctl
        } else {
            Loader::Procps
        }
    }

    /// Every key that a file sets by its name, sorted.
    pub fn keys(&self) -> BTreeSet<String> {
        self.assignments()
            .filter(|assignment| !is_glob(assignment.key))
            .map(|assignment| assignment.key.to_owned())
            .collect()
    }

    /// Every file once.
    pub fn distinct(&self) -> impl Iterator<Item = &SysctlFile> {
        self.files.iter().filter(|file| !file.links_to_conf)
    }

    /// Every assignment once, in the order in which they apply.
    pub fn assignments(&self) -> impl Iterator<Item = Assignment<'_>> {
        self.distinct().flat_map(SysctlFile::assignments)
    }

    /// Every assignment once, by the name of its setting: that of a glob once for each
    /// setting of the table that it fits, and that no line names.
    pub fn spelled_out(&self) -> Vec<Assignment<'_>> {
        let lines = self.files.iter().flat_map(|file| &file.lines);
        let named: BTreeSet<&str> = lines.filter_map(Line::key).collect();
        let mut out = Vec::new();
        for line in self.assignments() {
            if !is_glob(line.key) {
                out.push(line);
                continue;
            }
            let Ok(pattern) = Glob::new(line.key) else {
                continue;
            };
            let fitting = table::settings()
                .filter(|setting| pattern.fits(setting.name) && !named.contains(setting.name));
            out.extend(fitting.map(|setting| line.of(setting.name)));
        }
        out
    }

    /// The files that a program reads.
    fn of(&self, loader: Loader) -> impl Iterator<Item = &SysctlFile> {
        self.files
            .iter()
            .filter(move |file| loader == Loader::Procps || file.path != Path::new(CONF))
    }

    /// What sets a key by name, the last of which wins.
    pub fn explicit(&self, loader: Loader, key: &str) -> Vec<Assignment<'_>> {
        let mut found = Vec::new();
        for file in self.of(loader) {
            for line in &file.lines {
                match &line.content {
                    Content::Assignment { key: set, .. } if set == key => {
                        found.extend(line.assignment(file));
                    }
                    Content::Exclusion { key: excluded }
                        if excluded == key && loader == Loader::SystemdSysctl =>
                    {
                        found.clear();
                    }
                    _ => {}
                }
            }
        }
        found
    }

    /// The assignment that decides on a key: the last by its name, else the
    /// last glob that fits it. One whose value the kernel refuses decides nothing.
    pub fn winner(&self, loader: Loader, key: &str) -> Option<Assignment<'_>> {
        let explicit = self.explicit(loader, key).into_iter();
        if let Some(last) = explicit.rev().find(|line| !line.sets_nothing(None)) {
            return Some(last);
        }
        let excluded = self.of(loader).any(|file| {
            file.lines.iter().any(
                |line| matches!(&line.content, Content::Exclusion { key: excluded } if excluded == key),
            )
        });
        if excluded {
            return None;
        }
        self.of(loader)
            .flat_map(SysctlFile::assignments)
            .filter(|assignment| is_glob(assignment.key))
            .filter(|assignment| Glob::new(assignment.key).is_ok_and(|glob| glob.fits(key)))
            .last()
    }

    /// Gives a line, `FILE:LINE`, another content, or none.
    pub fn replace(&mut self, place: &str, content: Option<&Content>) {
        for file in &mut self.files {
            let path = file.shown_path().display().to_string();
            let number = place
                .strip_prefix(&path)
                .and_then(|rest| rest.strip_prefix(':'))
                .and_then(|number| number.parse::<usize>().ok());
            if let Some(at) = file
                .lines
                .iter()
                .position(|line| Some(line.number) == number)
            {
                match content {
                    Some(content) => file.lines[at].content = content.clone(),
                    None => {
                        file.lines.remove(at);
                    }
                }
            }
        }
    }

    /// Lets a file that both programs apply set a key, and no other line.
    pub fn set(&mut self, key: &str, value: &str) {
        let line = Line {
            number: 1,
            content: Content::Assignment {
                key: key.to_owned(),
                value: single_blanks(value),
            },
        };
        for file in &mut self.files {
            file.lines.retain(|line| match &line.content {
                Content::Assignment { key: set, .. } | Content::Exclusion { key: set } => {
                    set != key
                }
                Content::Malformed { .. } => true,
            });
        }
        self.files.insert(
            0,
            SysctlFile {
                path: PathBuf::from(PLANNED_FILE),
                links_to_conf: false,
                lines: vec![line],
            },
        );
        self.live.insert(key.to_owned(), Some(single_blanks(value)));
    }
}

impl SysctlFile {
    /// The path of the file itself, where it is a link.
    pub fn shown_path(&self) -> &Path {
        if self.links_to_conf {
            Path::new(CONF)
        } else {
            &self.path
        }
    }

    /// The assignments of the file.
    pub fn assignments(&self) -> impl Iterator<Item = Assignment<'_>> {
        self.lines.iter().filter_map(|line| line.assignment(self))
    }
}

impl Line {
    /// The name that it sets, or that it keeps globs off.
    fn key(&self) -> Option<&str> {
        match &self.content {
            Content::Assignment { key, .. } | Content::Exclusion { key } => Some(key),
            Content::Malformed { .. } => None,
        }
    }

    fn assignment<'a>(&'a self, file: &'a SysctlFile) -> Option<Assignment<'a>> {
        match &self.content {
            Content::Assignment { key, value } => Some(Assignment {
                path: file.shown_path(),
                line: self.number,
                key,
                glob: None,
                value,
            }),
            Content::Exclusion { .. } | Content::Malformed { .. } => None,
        }
    }
}

/// Whether a name stands for several.
pub fn is_glob(key: &str) -> bool {
    key.contains(['*', '?', '['])
}

/// A dotted glob, in which a star stands for anything but a dot.
struct Glob(Pattern);

impl Glob {
    fn new(glob: &str) -> Result<Self, glob::PatternError> {
        Pattern::new(&glob.replace('.', "/")).map(Self)
    }

    fn fits(&self, key: &str) -> bool {
        let options = MatchOptions {
            require_literal_separator: true,
            ..MatchOptions::default()
        };
        self.0.matches_with(&key.replace('.', "/"), options)
    }
}

/// The names of the files of a directory that apply: those that end in .conf.
fn names(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// The bytes of a file under `root`, or `None` where there is none. Whatever is
/// no file (a link to /dev/null hides the files of its name) is empty: a pipe
/// would wait for ever.
fn read_bytes(root: &Path, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut path = root.join(path);
    // A link in a recorded host must not lead into this one.
    if root != Path::new("/")
        && let Ok(target) = fs::read_link(&path)
        && let Ok(target) = target.strip_prefix("/")
    {
        path = root.join(target);
        if target == Path::new("dev/null") {
            return Ok(Some(Vec::new()));
        }
    }
    match read_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Whether a file of a directory is a link to /etc/sysctl.conf of its host.
fn links_to_conf(root: &Path, path: &Path) -> bool {
    fs::read_link(root.join(path)).is_ok_and(|target| {
        path.starts_with("etc/sysctl.d")
            && (target == Path::new("../sysctl.conf") || target == Path::new(CONF))
    })
}

/// The bytes of one file; of what is no regular file, none.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        return Err(io::Error::other(format!(
            "larger than {FILE_LIMIT_BYTES} bytes, which no file of settings is"
        )));
    }
    Ok(bytes)
}

/// The lines of a file that say something. Binary junk ends it: what comes
/// after means nothing.
pub fn parse(bytes: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (bytes, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.trim(),
            Err(error) => {
                lines.push(junk(number, error.valid_up_to(), bytes));
                break;
            }
        };
        if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
            lines.push(junk(number, at, bytes));
            break;
        }
        if !text.is_empty() && !text.starts_with(['#', ';']) {
            lines.push(Line {
                number,
                content: Content::parse(text),
            });
        }
    }
    lines
}

fn junk(number: usize, at: usize, bytes: &[u8]) -> Line {
    Line {
        number,
        content: Content::Malformed {
            message: format!(
                "column {}: the byte 0x{:02x} is no text; the rest of the file is not read",
                at + 1,
                bytes[at]
            ),
        },
    }
}

impl Content {
    /// A line without the blanks around it that is no comment.
    pub fn parse(text: &str) -> Self {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value)),
            None => (text, None),
        };
        let (excluded, key) = match key.strip_prefix('-') {
            Some(key) => (true, key.trim()),
            None => (false, key),
        };
        if value.is_none() && !excluded {
            return Self::Malformed {
                message: format!("no `key = value`, so it sets nothing: {text:?}"),
            };
        }
        let key = dotted(key);
        let plain = key.replace(['*', '?', '[', ']'], "x");
        if key.contains(char::is_whitespace) || sysctl::path(&plain).is_err() {
            return Self::Malformed {
                message: format!("{key:?} is not the name of a sysctl"),
            };
        }
        match value {
            Some(value) => Self::Assignment {
                key,
                value: single_blanks(value),
            },
            None => Self::Exclusion { key },
        }
    }
}

/// The dotted form of a name: one whose first separator is a slash is a path,
/// in which a dot is a dot of a directory's name.
fn dotted(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key[at..].starts_with('/') => key
            .chars()
            .map(|character| match character {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// A value with single blanks, so that two that mean the same are the same.
pub fn single_blanks(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
