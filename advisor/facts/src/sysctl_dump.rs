//! What `sysctl -a` printed: settings, and nothing else of a host.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::facts::Facts;
use crate::given::GivenFileError;
use crate::origin::Origin;
use crate::read::Unseen;
use crate::settings::Settings;

/// The largest dump that is read, in bytes; one of 1,000 interfaces has 8 MiB.
const LIMIT_BYTES: u64 = 64 << 20;
/// The path that stands for standard input.
const STDIN: &str = "-";
/// So much of a line is quoted.
const QUOTED_CHARACTERS: usize = 60;

const HINT: &str = "give what `sysctl -a` of the host printed: sysctl -a > host.sysctl";

/// Every setting of a dump by its dotted name; lines that are none are passed over.
pub(crate) fn values(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(assignment).collect()
}

/// `net.ipv4.tcp_mem = 1\t2\t3`.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let is_name = name.contains('.') && !name.contains(char::is_whitespace);
    is_name.then(|| (name, value.trim()))
}

/// Reads a dump; `-` is standard input.
pub fn read(path: &Path) -> Result<Facts, GivenFileError> {
    let cannot = || GivenFileError::read(path, HINT);
    let mut bytes = Vec::new();
    let shown = if path == Path::new(STDIN) {
        let stdin = io::stdin().lock();
        stdin
            .take(LIMIT_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(cannot())?;
        Path::new("<stdin>")
    } else {
        let file = File::open(path).map_err(cannot())?;
        file.take(LIMIT_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(cannot())?;
        path
    };
    if bytes.len() as u64 > LIMIT_BYTES {
        return Err(cannot()(io::Error::other("larger than 64 MiB")));
    }
    parse(&bytes, shown)
}

/// Reads the bytes of a dump; `path` is for the errors.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Facts, GivenFileError> {
    let mut line = 0;
    let malformed = |line, column, message: String, hint| GivenFileError::Malformed {
        path: path.to_owned(),
        line,
        column,
        message,
        hint,
    };
    let mut facts = Facts::without_host("", 0, 4096);
    facts.origin = Origin::SysctlDump;
    let mut known = 0_usize;
    for bytes in bytes.split(|byte| *byte == b'\n') {
        line += 1;
        let text = std::str::from_utf8(bytes).map_err(|error| {
            malformed(
                line,
                error.valid_up_to() + 1,
                "this is no text".to_owned(),
                HINT,
            )
        })?;
        if let Some(at) = text.find('\0') {
            return Err(malformed(line, at + 1, "this is no text".to_owned(), HINT));
        }
        // What sysctl says of what it may not read, where both outputs went to the file;
        // the further lines of a value of several.
        let is_beside = text.trim().is_empty()
            || text.starts_with("sysctl: ")
            || line > 1 && text.starts_with([' ', '\t']);
        let Some((name, value)) = assignment(text) else {
            if is_beside {
                continue;
            }
            let quoted: String = text.chars().take(QUOTED_CHARACTERS).collect();
            let (message, hint) = if text.starts_with(['#', ';']) {
                (
                    "a comment: this is a file of settings, and no dump".to_owned(),
                    "advisor lint FILE judges files of settings",
                )
            } else if text.trim_start().starts_with('{') {
                (
                    "this is JSON, and no dump of settings".to_owned(),
                    "give what `advisor capture` wrote to --facts",
                )
            } else {
                (
                    format!("no `name = value` of `sysctl -a`: {quoted:?}"),
                    HINT,
                )
            };
            return Err(malformed(line, 1, message, hint));
        };
        match name {
            "kernel.osrelease" => value.clone_into(&mut facts.kernel),
            "kernel.hostname" => {
                facts.hostname = Some(value.to_owned()).filter(|name| !name.is_empty());
            }
            "kernel.random.boot_id" => facts.boot_id = Some(value.to_owned()),
            _ if !Settings::NAMES.contains(&name) => {}
            _ if facts.settings.set(name, value) => known += 1,
            _ => {
                let column = text.len()
                    - text
                        .split_once('=')
                        .map_or("", |(_, rest)| rest.trim_start())
                        .len()
                    + 1;
                return Err(malformed(
                    line,
                    column,
                    format!("{value:?} is no value of {name}"),
                    HINT,
                ));
            }
        }
    }
    if known == 0 {
        return Err(malformed(
            line.max(1),
            1,
            "the dump ends, and none of its lines is a setting of TCP (net.ipv4.tcp_mem and others)"
                .to_owned(),
            HINT,
        ));
    }
    facts.unseen.push(Unseen {
        what: "sockets, counters, memory, the files that set sysctls and the kernel's log"
            .to_owned(),
        why: "a dump of settings does not have them".to_owned(),
    });
    if facts.kernel.is_empty() {
        facts.unseen.push(Unseen {
            what: "the release of the kernel".to_owned(),
            why: "the dump has no kernel.osrelease".to_owned(),
        });
    }
    Ok(facts)
}
