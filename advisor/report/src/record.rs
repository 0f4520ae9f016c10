//! What `advisor watch` keeps: a directory of lines and of facts.
//!
//! `events-N.jsonl` has a JSON document on each line, the first of them [`Line::Start`];
//! `facts-N.json` is what `advisor capture` writes. The first facts were taken when the
//! watch began, the last ones when it ended or when something last happened. A line that
//! the end of the watch cut off is passed over.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use advisor_facts::given::GivenFileError;
use advisor_facts::happened::{At, Happened, Held, Level, Occurrence, Peak};
use advisor_facts::{Facts, Unseen, file};
use serde::{Deserialize, Serialize};

/// The version of the format.
pub const SCHEMA: u32 = 1;
/// The longest line, in bytes.
const LINE_LIMIT_BYTES: u64 = 1 << 20;
/// So many lines at the most are read of a record.
const LINES: usize = 20_000_000;

/// How the names of files of lines begin and end.
pub const LINES_FILE: (&str, &str) = ("events-", ".jsonl");
/// How the names of files of facts begin and end.
pub const FACTS_FILE: (&str, &str) = ("facts-", ".json");

/// A line: of a record, and of `advisor watch --format json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// The watch began, or a new file did.
    Start {
        /// [`SCHEMA`].
        schema: u32,
        /// When.
        at: At,
        /// The version of the advisor.
        advisor: String,
        /// The host; `None` where it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        /// The release of the kernel.
        kernel: String,
        /// The inode of the watcher's network namespace.
        namespace: Option<u32>,
        /// Whether the kernel gives the reason of a reset that it sends.
        tells_reset_reasons: bool,
        /// What cannot be seen.
        unseen: Vec<Unseen>,
    },
    /// Something happened.
    Event(Occurrence),
    /// A gauge came to another level, or was worse than before.
    Gauge {
        /// When.
        at: At,
        /// Which one: `tcp-memory`.
        gauge: String,
        /// The inode of the network namespace; `None` where the whole kernel has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<u32>,
        /// Its value.
        value: u64,
        /// Its limit.
        limit: u64,
        /// The mark from which the kernel does harm.
        mark: u64,
        /// How near it is.
        level: Level,
    },
    /// Who held what, at a look at the sockets.
    Holders {
        /// When.
        at: At,
        /// The gauge that they hold.
        gauge: String,
        /// What all sockets hold, in bytes.
        held_bytes: u64,
        /// Who holds most, first.
        holders: Vec<Held>,
    },
    /// A rule found something that it had not found before.
    Finding {
        /// When.
        at: At,
        /// The rule's code.
        code: String,
        /// The severity, in a word.
        severity: String,
        /// What was found.
        summary: String,
        /// Who it is, or what.
        subject: String,
    },
    /// Events that are counted nowhere: no room was left for them.
    Lost {
        /// When.
        at: At,
        /// How many.
        events: u64,
    },
    /// Something about the watch itself: it sees less than usual, or all again.
    Note {
        /// When.
        at: At,
        /// What.
        text: String,
    },
    /// The watch ended.
    End {
        /// When.
        at: At,
    },
}

impl Line {
    /// When it was written.
    pub fn at(&self) -> At {
        match self {
            Self::Event(one) => one.at,
            Self::Start { at, .. }
            | Self::Gauge { at, .. }
            | Self::Holders { at, .. }
            | Self::Finding { at, .. }
            | Self::Lost { at, .. }
            | Self::Note { at, .. }
            | Self::End { at } => *at,
        }
    }

    /// Adds what the line says to what happened.
    pub fn add_to(&self, happened: &mut Happened) {
        if happened.from == At::default() {
            happened.from = self.at();
        }
        happened.until = happened.until.max(self.at());
        match self {
            Self::Start {
                namespace,
                tells_reset_reasons,
                unseen,
                ..
            } => {
                happened.own_namespace = *namespace;
                happened.tells_reset_reasons = *tells_reset_reasons;
                for one in unseen {
                    if !happened.unseen.contains(one) {
                        happened.unseen.push(one.clone());
                    }
                }
            }
            Self::Event(one) => happened.add(one),
            Self::Gauge {
                at,
                gauge,
                namespace,
                value,
                limit,
                mark,
                level,
            } => happened.measure(
                &Peak {
                    gauge: gauge.clone(),
                    namespace: *namespace,
                    at: *at,
                    value: *value,
                    limit: *limit,
                    mark: *mark,
                    over: Vec::new(),
                    holders: Vec::new(),
                    held_bytes: 0,
                },
                *level,
            ),
            Self::Holders {
                gauge,
                held_bytes,
                holders,
                ..
            } => happened.hold(gauge, *held_bytes, holders),
            Self::Lost { events, .. } => happened.lost += events,
            Self::Finding { .. } | Self::Note { .. } | Self::End { .. } => {}
        }
    }
}

/// A record that was read.
#[derive(Clone, Debug)]
pub struct Record {
    /// The host as it was last seen, compared with the first look of the same boot, with
    /// all that happened between.
    pub facts: Facts,
    /// The looks before the last one, the first of them first.
    pub looks: Vec<Facts>,
}

/// From this share of a limit on a look shows more than usual.
const NEAR: f64 = 0.5;

/// How near TCP's memory and orphans are to their limits: the larger share.
pub fn share_of_limits(facts: &Facts) -> f64 {
    let gauge = |name: &str| facts.now.sockstat.get(name);
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = |used: Option<i64>, limit: Option<f64>| match (used, limit) {
        (Some(used), Some(limit)) if limit > 0.0 => used as f64 / limit,
        _ => 0.0,
    };
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let memory = facts.settings.tcp_mem.map(|[_, _, high]| {
        high as f64 * facts.page_bytes as f64 / facts.gauge_unit_bytes() as f64
    });
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let orphans = facts.settings.tcp_max_orphans.map(|most| most as f64);
    share(gauge("TCP.mem"), memory).max(share(gauge("TCP.orphan"), orphans))
}

impl Record {
    /// The host as a trial needs it: at the look at which a limit was nearest, where one
    /// was near at any, else at the last. It is compared with the earlier look from which
    /// on it came fastest to that: the rates of the record are those of this window.
    pub fn at_worst(self) -> Facts {
        let happened = self.facts.happened.clone();
        let mut looks = self.looks;
        looks.push(self.facts);
        let shares: Vec<f64> = looks.iter().map(share_of_limits).collect();
        let last = looks.len() - 1;
        let worst = (0..looks.len())
            // Of two that are alike the later one.
            .max_by(|one, other| shares[*one].total_cmp(&shares[*other]))
            .filter(|place| shares[*place] >= NEAR)
            .unwrap_or(last);
        let rate = |place: &usize| {
            let since = looks[worst]
                .now
                .uptime
                .saturating_sub(looks[*place].now.uptime);
            (shares[worst] - shares[*place]) / since.as_secs_f64()
        };
        let earlier = (0..worst)
            .filter(|place| {
                let (one, worst) = (&looks[*place], &looks[worst]);
                one.boot_id == worst.boot_id && one.now.uptime < worst.now.uptime
            })
            .max_by(|one, other| rate(one).total_cmp(&rate(other)));
        let earlier = earlier.map(|place| looks[place].now.clone());
        let mut facts = looks.swap_remove(worst);
        if let Some(earlier) = earlier {
            facts.set_earlier(earlier);
        }
        facts.happened = happened;
        facts
    }
}

const HINT: &str = "give the directory that `advisor watch --record DIR` wrote";
const SCHEMA_HINT: &str = "read it with the version of the advisor that its first line names";

/// Reads a record.
pub fn read(directory: &Path) -> Result<Record, GivenFileError> {
    let error = GivenFileError::read(directory, HINT);
    let mut names: Vec<String> = fs::read_dir(directory)
        .map_err(&error)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()
        .map_err(&error)?;
    // Numbers have leading zeros: the order of names is that of time.
    names.sort();
    let mut looks = Vec::new();
    for path in of_kind(directory, &names, FACTS_FILE) {
        looks.push(file::read(&path).map_err(of_record)?);
    }
    let Some(mut facts) = looks.pop() else {
        return Err(GivenFileError::Unfit {
            path: directory.to_owned(),
            message: "there is no facts-N.json in it",
            hint: HINT,
        });
    };
    let mut happened = Happened::default();
    let mut left = LINES;
    for path in of_kind(directory, &names, LINES_FILE) {
        read_lines(&path, &mut left, &mut happened)?;
    }
    let first = looks.iter().find(|look| look.boot_id == facts.boot_id);
    if let Some(first) = first {
        facts.set_earlier(first.now.clone());
    }
    facts.unseen.extend(happened.unseen.iter().cloned());
    facts.happened = Some(happened.into());
    Ok(Record { facts, looks })
}

/// What to do about facts of a record that can't be read: the others can be.
fn of_record(error: GivenFileError) -> GivenFileError {
    match error {
        GivenFileError::Malformed {
            path,
            line,
            column,
            message,
            ..
        } => GivenFileError::Malformed {
            path,
            line,
            column,
            message,
            hint: "take this file out of the directory: the rest of the record is read without it",
        },
        other => other,
    }
}

/// The files whose names begin and end so.
fn of_kind<'a>(
    directory: &'a Path,
    names: &'a [String],
    (begin, end): (&'a str, &'a str),
) -> impl Iterator<Item = PathBuf> + 'a {
    let is_one = move |name: &&String| {
        let number = name.strip_prefix(begin);
        let number = number.and_then(|rest| rest.strip_suffix(end));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    names.iter().filter(is_one).map(|name| directory.join(name))
}

fn read_lines(
    path: &Path,
    left: &mut usize,
    happened: &mut Happened,
) -> Result<(), GivenFileError> {
    let error = GivenFileError::read(path, HINT);
    let mut file = BufReader::new(File::open(path).map_err(&error)?);
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let length = file
            .by_ref()
            .take(LINE_LIMIT_BYTES)
            .read_until(b'\n', &mut text)
            .map_err(&error)?;
        if length == 0 || *left == 0 {
            break;
        }
        *left -= 1;
        let malformed = |column: usize, message: String, hint| GivenFileError::Malformed {
            path: path.to_owned(),
            line: number,
            column: column.max(1),
            message,
            hint,
        };
        if text.last() != Some(&b'\n') {
            if length as u64 == LINE_LIMIT_BYTES {
                let message = "longer than any line of a record".to_owned();
                return Err(malformed(1, message, HINT));
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            happened.unseen.push(Unseen {
                what: format!("the last line of {name}"),
                why: format!("it was cut off after {length} bytes"),
            });
            break;
        }
        if number == 1 {
            check_schema(&text).map_err(|message| malformed(1, message, SCHEMA_HINT))?;
        }
        match serde_json::from_slice::<Line>(&text) {
            Ok(line) => line.add_to(happened),
            Err(error) => {
                let message = error.to_string();
                let words = message.split(" at line ").next().unwrap_or_default();
                return Err(malformed(error.column(), words.to_owned(), HINT));
            }
        }
    }
    Ok(())
}

/// Whether the first line of a file is of this version.
fn check_schema(text: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Start {
        schema: u64,
    }
    match serde_json::from_slice::<Start>(text) {
        Ok(start) if start.schema == u64::from(SCHEMA) => Ok(()),
        Ok(start) => Err(format!(
            "schema {}: this program reads records of schema {SCHEMA}",
            start.schema
        )),
        Err(_) => Err(format!(
            "the first line of a record has {{\"schema\": {SCHEMA}}}"
        )),
    }
}
