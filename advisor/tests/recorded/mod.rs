//! The recorded hosts of `tests/hosts`.
//!
//! `quiet` is whole. Every other directory has only the files in which its host
//! differs from `quiet`. An empty file `.wh.NAME` says that the host has no NAME,
//! neither file nor directory (a whiteout, as in the layers of an OCI image).
#![allow(dead_code, reason = "no test uses all of it")]
#![allow(
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "the tests write a host to read; in the harness, which includes this file too, nothing is disallowed"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The host that the others are recorded against.
const BASE: &str = "quiet";
/// The prefix of a file that stands for what a host does not have.
const WHITEOUT: &str = ".wh.";

/// `advisor/tests/hosts`, whichever package includes this file.
fn hosts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|directory| directory.join("advisor/tests/hosts"))
        .find(|hosts| hosts.is_dir())
        .expect("a package of this repository")
}

/// The names of all recorded hosts, sorted.
pub fn names() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(hosts())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 40, "{names:?}");
    names
}

/// A recorded host as a directory for `--root`.
pub fn directory(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    lay_over(&hosts().join(BASE), directory.path());
    if name != BASE {
        lay_over(&hosts().join(name), directory.path());
    }
    directory
}

/// Copies the files of a directory over those of another one.
fn lay_over(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let target = to.join(&name);
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            let hidden = to.join(hidden);
            if hidden.is_dir() {
                fs::remove_dir_all(hidden).unwrap();
            } else {
                fs::remove_file(hidden).unwrap();
            }
        } else if entry.file_type().unwrap().is_symlink() {
            // A descriptor of a process: `socket:[4711]`.
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else if entry.file_type().unwrap().is_dir() {
            lay_over(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
