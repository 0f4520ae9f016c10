//! Writes what `advisor watch --record DIR` keeps: bounded in size and age, and whole
//! after the process is killed at any instant.
//!
//! A line is written by one call and cut off again where that fails. Facts are written
//! beside their name and renamed. The oldest files of lines go first; the first facts
//! stay, because later ones are compared with them, and those of the worst moment.
#![expect(
    clippy::disallowed_methods,
    reason = "the files of the directory that the user named for it"
)]

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use advisor_facts::happened::Kind;
use advisor_facts::redact::Redactor;
use advisor_facts::{Facts, file, redact};
use advisor_report::record::{FACTS_FILE, LINES_FILE, Line, share_of_limits};
use nix::fcntl::{Flock, FlockArg};

use crate::rules::{LedTo, led_to};

/// Facts are kept so often: the first, and the last ones.
const FACTS: usize = 8;
/// The files of lines are so many where the record is as large as it may be.
const FILES: u64 = 8;
/// After a write that failed it is tried again so much later.
const RETRY: Duration = Duration::from_secs(60);

/// What a record may become.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// All files together, in bytes. Facts may exceed it: the first and the last ones
    /// are kept.
    pub bytes: u64,
    /// The age of a file.
    pub age: Duration,
}

/// Why a record can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The directory can't be made or used.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// Another watch uses the directory.
    #[error("{}: another watch records there", .0.display())]
    InUse(PathBuf),
}

impl RecordError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "name a directory that can be made or written to",
            Self::InUse(_) => "end the other one, or name another directory",
        }
    }
}

/// What changed by a write. Each is told once, however long it lasts.
#[derive(Debug, Eq, PartialEq)]
pub enum Change {
    /// It is as before.
    None,
    /// Nothing can be written any more: where, and why in the kernel's words.
    Stopped(String),
    /// It is written again; so many lines are missing.
    Back(u64),
}

impl Change {
    /// What to say of it.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Stopped(why) => Some(format!(
                "the record stops: {why}; the watch goes on, and tries again each minute"
            )),
            Self::Back(missing) => Some(format!("the record goes on; {missing} lines are missing")),
        }
    }
}

/// Writes a record.
pub struct Recorder {
    directory: PathBuf,
    /// Held for as long as the record is written.
    _lock: Flock<File>,
    bounds: Bounds,
    redactor: Option<Redactor>,
    /// With which each file of lines begins.
    start: Line,
    open: Option<Open>,
    next: u64,
    /// The number of the facts at which a limit was nearest, and how near.
    worst: Option<(u64, f64)>,
    /// Until when nothing is tried, after an error.
    paused: Option<Instant>,
    /// The last error, and whether nothing could be written since.
    error: Option<io::Error>,
    is_failing: bool,
    /// Since when it can be written again, while that is not told yet.
    back_since: Option<Instant>,
    /// Lines that were not written, since the last time that one could be, and in all.
    missing: u64,
    missing_in_all: u64,
}

struct Open {
    file: File,
    /// Up to here there are whole lines.
    length: u64,
}

impl Recorder {
    /// Begins a record in a directory, or goes on with the one that is there.
    pub fn begin(
        directory: &Path,
        bounds: Bounds,
        redacts: bool,
        start: Line,
    ) -> Result<Self, RecordError> {
        let wrong = |source| RecordError::Directory {
            path: directory.to_owned(),
            source,
        };
        match fs::create_dir(directory) {
            Ok(()) => {
                let mode = Permissions::from_mode(0o700);
                fs::set_permissions(directory, mode).map_err(wrong)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(wrong(error)),
        }
        let lock = File::open(directory).map_err(wrong)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| RecordError::InUse(directory.to_owned()))?;
        let mut recorder = Self {
            directory: directory.to_owned(),
            _lock: lock,
            bounds,
            redactor: redacts.then(Redactor::default),
            start,
            open: None,
            next: 1,
            worst: None,
            paused: None,
            error: None,
            is_failing: false,
            back_since: None,
            missing: 0,
            missing_in_all: 0,
        };
        let files = recorder.files().map_err(wrong)?;
        recorder.next = files.iter().map(|file| file.number + 1).max().unwrap_or(1);
        for half in fs::read_dir(directory).map_err(wrong)?.flatten() {
            // What a watch that was killed had not finished.
            if half.file_name().to_string_lossy().ends_with(HALF) {
                let _ = fs::remove_file(half.path());
            }
        }
        recorder.open_next().map_err(wrong)?;
        Ok(recorder)
    }

    /// Writes a line.
    pub fn line(&mut self, line: &Line) -> Change {
        let line = self.redacted(line);
        self.guarded(|this| this.write_line(&line))
    }

    /// Writes what a look saw.
    pub fn facts(&mut self, facts: &Facts) -> Change {
        let mut facts = facts.clone();
        // What happened is in the lines.
        facts.happened = None;
        redact::leave_out_commands(&mut facts);
        if let Some(redactor) = &mut self.redactor {
            redactor.facts(&mut facts);
        }
        let share = share_of_limits(&facts);
        self.guarded(|this| {
            let name = this.path(FACTS_FILE, this.next);
            let half = name.with_extension(&HALF[1..]);
            let written = write_facts(&half, &facts);
            if let Err(error) = written.and_then(|()| fs::rename(&half, &name)) {
                let _ = fs::remove_file(&half);
                return Err(error);
            }
            if this.worst.is_none_or(|(_, known)| share >= known) {
                this.worst = Some((this.next, share));
            }
            this.next += 1;
            this.remove_old()
        })
    }

    /// Has the next line be tried, however long ago the last error was.
    pub fn try_again(&mut self) {
        self.paused = None;
    }

    /// Lines that were not written, and the last error; `None` where all were.
    pub fn missing(self) -> Option<(u64, io::Error)> {
        let error = self.error?;
        (self.missing_in_all > 0).then_some((self.missing_in_all, error))
    }

    fn guarded(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) -> Change {
        let is_paused = self.paused.is_some_and(|until| Instant::now() < until);
        let result = if is_paused { None } else { Some(write(self)) };
        if let Some(Ok(())) = result {
            self.paused = None;
            // A short line may have room where the next has none.
            let back_since = *self.back_since.get_or_insert_with(Instant::now);
            if self.is_failing && back_since.elapsed() >= RETRY {
                self.is_failing = false;
                return Change::Back(std::mem::take(&mut self.missing));
            }
            return Change::None;
        }
        self.back_since = None;
        self.missing += 1;
        self.missing_in_all += 1;
        let Some(Err(error)) = result else {
            return Change::None;
        };
        self.paused = Some(Instant::now() + RETRY);
        let text = format!("{}: {error}", self.directory.display());
        self.error = Some(error);
        if std::mem::replace(&mut self.is_failing, true) {
            return Change::None;
        }
        Change::Stopped(text)
    }

    fn redacted(&mut self, line: &Line) -> Line {
        let mut line = line.clone();
        let Some(redactor) = &mut self.redactor else {
            return line;
        };
        match &mut line {
            Line::Start { hostname, .. } => *hostname = None,
            Line::Event(one) => {
                // A line of the log may name an address.
                if one.kind == Kind::Log
                    && let Some(LedTo::Rule(rule, _)) = one.reason.as_deref().and_then(led_to)
                {
                    one.reason = Some(rule.name.to_owned());
                }
                redactor.occurrence(one);
            }
            Line::Holders { holders, .. } => {
                for held in holders {
                    redactor.held(held);
                }
            }
            // Its words have names and addresses in them.
            Line::Finding {
                summary, subject, ..
            } => (*summary, *subject) = (String::new(), String::new()),
            Line::Gauge { .. } | Line::Lost { .. } | Line::Note { .. } | Line::End { .. } => {}
        }
        line
    }

    fn write_line(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let is_full = |open: &Open| open.length > (self.bounds.bytes / FILES).max(4096);
        if self.open.as_ref().is_none_or(is_full) {
            self.open_next()?;
            self.remove_old()?;
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        match open.file.write_all(&text) {
            Ok(()) => open.length += text.len() as u64,
            Err(error) => {
                // Half a line would not be read; without this file, the next has room.
                if open.file.set_len(open.length).is_err() {
                    self.open = None;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn open_next(&mut self) -> io::Result<()> {
        let start = self.redacted(&self.start.clone());
        let mut text = serde_json::to_vec(&start)?;
        text.push(b'\n');
        let path = self.path(LINES_FILE, self.next);
        let mut file = File::options().append(true).create_new(true).open(&path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        if let Err(error) = file.write_all(&text) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.next += 1;
        self.open = Some(Open {
            file,
            length: text.len() as u64,
        });
        Ok(())
    }

    fn path(&self, (begin, end): (&str, &str), number: u64) -> PathBuf {
        self.directory.join(format!("{begin}{number:06}{end}"))
    }

    /// Removes what is too old or too much, the oldest first.
    fn remove_old(&mut self) -> io::Result<()> {
        let files = self.files()?;
        let (lines, facts): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.is_lines);
        let now = SystemTime::now();
        let is_old = |file: &Found| {
            let age = now.duration_since(file.changed);
            age.is_ok_and(|age| age > self.bounds.age)
        };
        let mut left: u64 = lines.iter().chain(&facts).map(|file| file.bytes).sum();
        // The file that is being written, and the first, the worst and the last facts, stay.
        let worst = self.worst.map(|(number, _)| number);
        let later = facts.iter().skip(1);
        let later: Vec<_> = later.filter(|file| Some(file.number) != worst).collect();
        let too_many = (later.len() + 1).saturating_sub(FACTS);
        for (place, file) in later.iter().enumerate() {
            if place < too_many || is_old(file) && place + 1 < later.len() {
                left -= file.bytes;
                fs::remove_file(&file.path)?;
            }
        }
        let last = lines.len().saturating_sub(1);
        for file in &lines[..last] {
            if left > self.bounds.bytes || is_old(file) {
                left -= file.bytes;
                fs::remove_file(&file.path)?;
            }
        }
        Ok(())
    }

    /// The files of the record, the oldest first.
    fn files(&self) -> io::Result<Vec<Found>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                continue;
            };
            let number = |(begin, end): (&str, &str)| -> Option<u64> {
                name.strip_prefix(begin)?.strip_suffix(end)?.parse().ok()
            };
            let (number, is_lines) = match (number(LINES_FILE), number(FACTS_FILE)) {
                (Some(number), _) => (number, true),
                (None, Some(number)) => (number, false),
                (None, None) => continue,
            };
            let metadata = entry.metadata()?;
            files.push(Found {
                number,
                is_lines,
                bytes: metadata.len(),
                changed: metadata.modified()?,
                path: entry.path(),
            });
        }
        files.sort_by_key(|file| file.number);
        Ok(files)
    }
}

fn write_facts(path: &Path, facts: &Facts) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let mut out = io::BufWriter::new(file);
    file::write(&mut out, facts)?;
    out.flush()
}

/// The end of the name of a file that is not whole yet.
const HALF: &str = ".half";

/// A file of a record.
struct Found {
    number: u64,
    is_lines: bool,
    bytes: u64,
    changed: SystemTime,
    path: PathBuf,
}

#[cfg(test)]
mod tests;
