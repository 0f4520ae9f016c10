//! A host's facts in a file: `advisor capture` writes it, `--facts` and
//! `--baseline` read it.
//!
//! It is JSON with every value on a line of its own, so that an error names the
//! line. It begins with its version, [`SCHEMA`].

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::facts::Facts;
use crate::given::GivenFileError;
use crate::origin::Origin;

mod other_schema;

/// The version of the format. Any change of [`Facts`] raises it: facts of
/// another version are refused, not guessed at.
pub const SCHEMA: u32 = 2;

/// The largest file that is read, in bytes: some 300,000 sockets.
pub const LIMIT_BYTES: u64 = 512 << 20;
/// In so many bytes from the start the version has to come.
const HEAD_BYTES: u64 = 256;
/// Facts are full of names. So many bytes without a quotation mark are garbage,
/// and not to be held in memory.
const UNQUOTED_BYTES: usize = 64 << 10;
/// A longer message is cut: it may quote the file.
const MESSAGE_CHARACTERS: usize = 200;

/// What stands in the file.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    advisor: &'a str,
    facts: &'a Facts,
}

/// The same when it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(rename = "schema")]
    _schema: Schema,
    #[serde(rename = "advisor")]
    _advisor: String,
    facts: Facts,
}

/// The same of whatever version.
#[derive(Deserialize)]
struct StoredOfAny {
    #[serde(rename = "schema")]
    _schema: u64,
    #[serde(rename = "advisor")]
    _advisor: String,
    facts: Facts,
}

/// The version; no other one is read.
struct Schema;

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            schema if schema == u64::from(SCHEMA) => Ok(Self),
            schema => Err(D::Error::custom(format_args!(
                "schema {schema}: this program reads facts, of schema {SCHEMA}"
            ))),
        }
    }
}

const READ_HINT: &str = "give a file that `advisor capture > host.json` wrote";
const MALFORMED_HINT: &str = "give what `advisor capture > host.json` of this version wrote";
const BASELINE_HINT: &str = "take the baseline earlier and since the host's last start: \
    advisor capture > earlier.json";

/// Reads on until there is too much without a quotation mark.
struct Quoted<R> {
    inner: R,
    /// Bytes since the last quotation mark.
    unquoted: usize,
    /// The line that is read, from 1.
    line: usize,
}

impl<R: Read> Read for Quoted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        for piece in buffer[..length].split_inclusive(|byte| *byte == b'"') {
            self.unquoted += piece.len();
            if self.is_garbage() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.line += piece.split(|byte| *byte == b'\n').count() - 1;
            if piece.ends_with(b"\"") {
                self.unquoted = 0;
            }
        }
        Ok(length)
    }
}

impl<R> Quoted<R> {
    fn is_garbage(&self) -> bool {
        self.unquoted > UNQUOTED_BYTES
    }
}

/// Writes facts.
pub fn write(out: &mut dyn io::Write, facts: &Facts) -> io::Result<()> {
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"");
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, formatter);
    Written {
        schema: SCHEMA,
        advisor: env!("CARGO_PKG_VERSION"),
        facts,
    }
    .serialize(&mut serializer)?;
    writeln!(out)
}

/// Reads facts from the file at `path`.
pub fn read(path: &Path) -> Result<Facts, GivenFileError> {
    let file = File::open(path).map_err(GivenFileError::read(path, READ_HINT))?;
    read_from(file, path)
}

/// Reads facts; `path` is for the errors. What is no facts is refused by its
/// first bytes, so that it is not held in memory.
pub fn read_from(file: impl Read, path: &Path) -> Result<Facts, GivenFileError> {
    deserialize(file, path).map(|stored: Stored| stored.facts)
}

/// The error at a place of a file of facts.
fn malformed(path: &Path, line: usize, column: usize, message: &str) -> GivenFileError {
    GivenFileError::Malformed {
        path: path.to_owned(),
        line,
        column,
        message: message.chars().take(MESSAGE_CHARACTERS).collect(),
        hint: MALFORMED_HINT,
    }
}

fn deserialize<T: DeserializeOwned>(mut file: impl Read, path: &Path) -> Result<T, GivenFileError> {
    let malformed = |line, column, message: &str| malformed(path, line, column, message);
    let mut head = Vec::new();
    file.by_ref()
        .take(HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(GivenFileError::read(path, READ_HINT))?;
    let begins = head
        .trim_ascii_start()
        .strip_prefix(b"{")
        .is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\"schema\""));
    if !begins {
        let packed = [&b"\xfd7zXZ\0"[..], b"\x1f\x8b"];
        let words = if packed.iter().any(|magic| head.starts_with(magic)) {
            "this is an archive, and no facts: --sosreport reads one of sosreport"
        } else if head
            .split(|byte| *byte == b'\n')
            .next()
            .is_some_and(is_setting)
        {
            "this is a dump of settings, and no facts: --sysctl-dump reads it"
        } else {
            "these are no facts: they begin with {\"schema\": N"
        };
        return Err(malformed(1, 1, words));
    }
    let mut rest = Quoted {
        inner: Cursor::new(head).chain(file).take(LIMIT_BYTES),
        unquoted: 0,
        line: 1,
    };
    let mut deserializer = serde_json::Deserializer::from_reader(BufReader::new(&mut rest));
    let stored =
        T::deserialize(&mut deserializer).and_then(|stored| deserializer.end().map(|()| stored));
    drop(deserializer);
    match stored {
        Ok(stored) => Ok(stored),
        Err(_) if rest.is_garbage() => Err(malformed(
            rest.line,
            1,
            "64 KiB without a quotation mark: no facts are so",
        )),
        Err(error) if rest.inner.limit() == 0 => Err(malformed(
            error.line(),
            error.column(),
            "it is larger than 512 MiB",
        )),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let message = error.to_string();
            let place = format!(" at line {line} column {column}");
            let message = message.strip_suffix(&place).unwrap_or(&message);
            Err(malformed(line, column, message))
        }
    }
}

/// Reads facts of this schema, and of another one as far as they are understood; gives the
/// schema as well.
pub fn read_any(path: &Path) -> Result<(Facts, u32), GivenFileError> {
    let cannot = || GivenFileError::read(path, READ_HINT);
    let mut file = File::open(path).map_err(cannot())?;
    let mut head = Vec::new();
    file.by_ref()
        .take(HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(cannot())?;
    let schema = schema_of(&head).filter(|schema| *schema != SCHEMA);
    let whole = Cursor::new(head).chain(file);
    match schema {
        None => Ok((read_from(whole, path)?, SCHEMA)),
        Some(schema) => {
            // Most of what changes is added.
            let facts = if let Ok(StoredOfAny { facts, .. }) = deserialize(whole, path) {
                Facts {
                    origin: Origin::OtherSchema(schema),
                    ..facts
                }
            } else {
                let again = File::open(path).map_err(cannot())?;
                other_schema::read(again, path, schema)?
            };
            Ok((facts, schema))
        }
    }
}

/// Whether a line is one of `sysctl -a`.
fn is_setting(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    line[name.len()..].starts_with(b" = ") && name.contains(&b'.')
}

/// The schema that a file of facts begins with.
fn schema_of(head: &[u8]) -> Option<u32> {
    let rest = head.trim_ascii_start().strip_prefix(b"{")?;
    let rest = rest.trim_ascii_start().strip_prefix(b"\"schema\"")?;
    let rest = rest
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

impl Facts {
    /// Takes facts of an earlier moment for the look before this one; they were
    /// read from `path`.
    pub fn set_baseline(&mut self, baseline: Self, path: &Path) -> Result<(), GivenFileError> {
        let refused = |message| {
            Err(GivenFileError::Unfit {
                path: path.to_owned(),
                message,
                hint: BASELINE_HINT,
            })
        };
        if baseline.boot_id != self.boot_id {
            return refused("no baseline: it is of another host, or of another start of this one");
        }
        if baseline.now.uptime >= self.now.uptime {
            return refused("no baseline: it is not earlier than what it is compared with");
        }
        self.set_earlier(baseline.now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Root;

    fn text(facts: &Facts) -> Vec<u8> {
        let mut text = Vec::new();
        write(&mut text, facts).unwrap();
        text
    }

    fn error(text: &[u8]) -> String {
        read_from(text, Path::new("host.json"))
            .unwrap_err()
            .to_string()
    }

    fn recorded(name: &str) -> Facts {
        let host = crate::recorded::directory(name);
        Facts::read(&Root::Recorded(host.path().to_owned())).unwrap()
    }

    #[test]
    fn facts_are_read_as_they_were_written() {
        for facts in [
            Facts::read(&Root::Live).unwrap(),
            recorded("close-wait-left"),
        ] {
            let read = read_from(&*text(&facts), Path::new("host.json")).unwrap();
            assert_eq!(read, facts);
        }
    }

    #[test]
    fn another_version_is_named_as_such() {
        let facts = String::from_utf8(text(&recorded("quiet"))).unwrap();
        let other = facts.replacen("\"schema\": 2", "\"schema\": 1", 1);
        assert_eq!(
            error(other.as_bytes()),
            "host.json:2:12: schema 1: this program reads facts, of schema 2"
        );
    }

    #[test]
    fn wherever_it_is_cut_off_the_place_is_named() {
        let facts = text(&recorded("quiet"));
        for length in (20..facts.len() - 2).step_by(97) {
            let error = error(&facts[..length]);
            assert!(error.starts_with("host.json:"), "{length}: {error}");
            assert!(error.contains("EOF while parsing"), "{length}: {error}");
        }
    }

    #[test]
    fn garbage_is_refused_by_its_first_bytes() {
        struct Garbage<'a>(&'a mut u64);
        impl Read for Garbage<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(b'"');
                *self.0 += buffer.len() as u64;
                Ok(buffer.len())
            }
        }
        let mut taken = 0;
        let error = read_from(Garbage(&mut taken), Path::new("host.json")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "host.json:1:1: these are no facts: they begin with {\"schema\": N"
        );
        assert_eq!(taken, HEAD_BYTES);
        for text in [&b""[..], b"{}", b"[1]", b"{\"schema\"", b"\xff\xfe"] {
            error_is_placed(text);
        }
    }

    fn error_is_placed(text: &[u8]) {
        let error = error(text);
        assert!(error.starts_with("host.json:1:"), "{error}");
    }

    #[test]
    fn garbage_behind_a_right_beginning_is_not_held() {
        for (garbage, head) in [("a", "\""), ("1", ""), (" ", ""), ("[", "")] {
            let beginning = format!("{{\"schema\": 2,\n\"advisor\": \"0\",\n\"facts\": {head}");
            let mut taken = 0;
            let endless = io::repeat(garbage.as_bytes()[0]).take(1 << 40);
            let mut counted = Counted(beginning.as_bytes().chain(endless), &mut taken);
            let error = read_from(&mut counted, Path::new("host.json")).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with("host.json:3:"), "{error}");
            assert!(taken < 1 << 20, "{taken} bytes of {garbage:?}");
        }
    }

    /// Counts what is taken.
    struct Counted<'a, R>(R, &'a mut usize);

    impl<R: Read> Read for Counted<'_, R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.read(buffer)?;
            *self.1 += length;
            Ok(length)
        }
    }

    #[test]
    fn what_is_behind_the_facts_is_no_part_of_them() {
        let mut facts = text(&recorded("quiet"));
        facts.extend(b"{}");
        assert!(error(&facts).ends_with("trailing characters"));
    }

    #[test]
    fn what_another_option_reads_is_told() {
        for (text, option) in [
            (&b"\x1f\x8b\x08"[..], "--sosreport"),
            (b"abi.vsyscall32 = 1\nnet", "--sysctl-dump"),
        ] {
            assert!(error(text).contains(option), "{}", error(text));
        }
    }

    #[test]
    fn a_long_message_is_cut() {
        let text = format!(
            "{{\"schema\": 2, \"advisor\": \"\", \"facts\": \"{}\"}}",
            "x".repeat(10_000)
        );
        assert!(error(text.as_bytes()).len() < 300);
    }

    #[test]
    fn a_baseline_is_earlier_and_of_the_same_start() {
        let mut facts = recorded("quiet");
        let path = Path::new("earlier.json");
        let mut baseline = facts.clone();
        let refused = facts.set_baseline(baseline.clone(), path).unwrap_err();
        assert!(refused.to_string().contains("not earlier"), "{refused}");
        baseline.now.uptime /= 2;
        baseline.boot_id = Some("another".to_owned());
        let refused = facts.set_baseline(baseline.clone(), path).unwrap_err();
        assert!(refused.to_string().contains("another start"), "{refused}");
        baseline.boot_id = None;
        facts.set_baseline(baseline.clone(), path).unwrap();
        assert_eq!(facts.earlier, Some(baseline.now));
    }
}
