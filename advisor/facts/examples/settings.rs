//! Tries a running kernel's settings of the network and prints what it saw as
//! JSON: which there are, what they are at boot, whose they are, and what the
//! kernel makes of texts that are written to them. `ci/settings` keeps that in
//! tests/settings, where the table of settings is held against it.
//!
//! Everything is tried in a network namespace of its own, which is gone
//! afterwards. What only the initial one has is tried where this is the first
//! process, in a guest, and is put back; on a host it is only read.
#![allow(
    clippy::disallowed_methods,
    reason = "it writes sysctls, in a network namespace of its own or in a guest"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use advisor_facts::sysctl::{self, table};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

/// What is written to each setting: numbers around every bound that the source
/// names, numbers in other notations, with something behind them, too few and too
/// many, and what is no number.
const TEXTS: &[&str] = &[
    "-1",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "17",
    "18",
    "31",
    "32",
    "47",
    "48",
    "127",
    "128",
    "255",
    "256",
    "300",
    "1000",
    "1001",
    "2303",
    "2304",
    "3600",
    "3601",
    "4095",
    "4096",
    "4607",
    "4608",
    "32769",
    "60000",
    "60001",
    "65535",
    "65536",
    "86400",
    "86401",
    "120000",
    "120001",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "-31",
    "-32",
    "-2147483648",
    "-2147483649",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999",
    "0x10",
    "0X1f",
    "010",
    "08",
    "+1",
    "1 # many",
    "1  x",
    "1#many",
    "1;",
    "1,",
    "1.5",
    "1k",
    "yes",
    "\"1\"",
    "'1'",
    "",
    "1 2",
    "2 1",
    "1 2 3",
    "5000 6000",
    "5000 6000 # few",
    "5000 6000 7000",
    "5000 6000 7000 # many",
    "5000 6000 7000 8000",
    "7000 6000 5000",
    "0 65536 16777216",
    "4096 0 16777216",
    "4096 x 16777216",
    "4096 -1 16777216",
    "1024 65535",
    "100 65535",
    "65000 1024",
    "1024,65535",
    "1024-65535",
    "8080,9000-9010",
    "9000-8080",
    "1-70000",
    "5,5,6",
];

/// The directories of the settings.
const DIRECTORIES: [&str; 4] = ["net/ipv4", "net/core", "net/netfilter", "net/mptcp"];

fn main() -> Result<(), Box<dyn Error>> {
    let in_guest = std::process::id() == 1;
    if in_guest {
        fs::create_dir_all("/proc")?;
        let none = None::<&str>;
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    }
    let here = values(&names());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut answers: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    let elsewhere = in_namespace(|| values(&here.keys().cloned().collect()))?;
    for (name, value) in &here {
        let scope = match elsewhere.get(name) {
            None => "absent",
            Some(_) if is_writable(name) && in_namespace(|| is_writable(name))? => "own",
            Some(_) if !is_writable(name) => "read-only everywhere",
            Some(_) => "read-only",
        };
        let boot = if scope == "own" && !in_guest {
            // The host's own may have been set since.
            elsewhere.get(name)
        } else {
            Some(value)
        };
        seen.insert(name.clone(), json!({"boot": boot, "elsewhere": scope}));
        let answered = match scope {
            "own" => in_namespace(|| tried(name))?,
            "absent" | "read-only" if in_guest && is_writable(name) => tried(name),
            _ => continue,
        };
        answers.entry(answered).or_default().push(name.clone());
    }
    let answers: Vec<_> = answers
        .into_iter()
        .map(|(answers, settings)| json!({"settings": settings, "answers": answers}))
        .collect();
    let capture = json!({
        "kernel": release.trim_end(),
        "guest": in_guest,
        "texts": TEXTS,
        "settings": seen,
        "answers": answers,
    });
    println!("{capture}");
    println!("end of the settings");
    io::stdout().flush()?;
    Ok(())
}

/// The settings of the table that there are, and whatever else is in the
/// directories that it covers.
fn names() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = table::settings()
        .map(|setting| setting.name.to_owned())
        .collect();
    for directory in DIRECTORIES {
        let entries = fs::read_dir(Path::new("/proc/sys").join(directory));
        for entry in entries.into_iter().flatten().flatten() {
            let name = format!(
                "{}.{}",
                directory.replace('/', "."),
                entry.file_name().to_string_lossy()
            );
            if table::is_covered(&name) && entry.path().is_file() {
                names.insert(name);
            }
        }
    }
    names
}

/// Those that are there, and what they are, with single blanks.
fn values(names: &BTreeSet<String>) -> BTreeMap<String, Option<String>> {
    names
        .iter()
        .filter(|name| path(name).exists())
        .map(|name| (name.clone(), value(name)))
        .collect()
}

fn value(name: &str) -> Option<String> {
    let text = fs::read_to_string(path(name)).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn path(name: &str) -> std::path::PathBuf {
    let path = sysctl::path(name).unwrap_or_default();
    Path::new("/").join(path)
}

fn is_writable(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path(name)).is_ok_and(|file| file.permissions().mode() & 0o222 != 0)
}

/// Does something in a network namespace of its own.
fn in_namespace<T: Send>(what: impl FnOnce() -> T + Send) -> Result<T, Box<dyn Error>> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok::<T, nix::Error>(what())
        });
        let result = thread.join().map_err(|_| "a thread panicked")?;
        Ok(result?)
    })
}

/// What the kernel answers to each text: `=` and what the setting then is, the
/// error, or both where some of it was set nevertheless.
fn tried(name: &str) -> Vec<String> {
    let before = value(name).unwrap_or_default();
    TEXTS
        .iter()
        .map(|text| {
            let result = write(name, text);
            let after = value(name).unwrap_or_default();
            let _ = write(name, &before);
            match result {
                Ok(()) => format!("={after}"),
                Err(error) => {
                    let error = errno(&error);
                    if after == before {
                        error
                    } else {
                        format!("{error}={after}")
                    }
                }
            }
        })
        .collect()
}

fn write(name: &str, text: &str) -> io::Result<()> {
    let mut file = fs::File::options().write(true).open(path(name))?;
    file.write_all(format!("{text}\n").as_bytes())
}

fn errno(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.kind().to_string(),
        |number| format!("{:?}", nix::Error::from_raw(number)),
    )
}
