//! Writes files that belong to the owner of their directory.
//!
//! Under sudo the harness is root, but a report, a snapshot or a directory
//! that it makes in a user's checkout must be the user's.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use advisor_report::escape::inert_but_colours;

/// Prints text to standard output, with nothing but colours that a terminal obeys: names of
/// files and kernels may be hostile. Without colours where it is no terminal. A reader that
/// has gone away is no error; where it can't be written otherwise, this process ends with
/// the status of a machine that can't do it.
pub fn print(text: &str) {
    print_as_it_is(&inert_but_colours(text));
}

/// The same of a text that a program reads, such as JSON.
pub fn print_as_it_is(text: &str) {
    let mut out = anstream::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    drop(out);
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say_error(&format!("error: standard output: {error}"));
            say_error("hint: it is a full disk or a closed file; nothing more is printed");
            std::process::exit(3);
        }
        _ => {}
    }
}

/// Prints a line to standard output, as [`print()`] does.
pub fn say(line: &str) {
    print(&format!("{line}\n"));
}

/// Prints a line to standard error. Where that can't be written there is nowhere to say so.
pub fn say_error(line: &str) {
    let line = inert_but_colours(line);
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

/// Writes a file completely or not at all; creates its directory if needed.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    prepare(path, content)?.persist(path)?;
    Ok(())
}

/// Writes a new file; an existing one is an error.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    prepare(path, content)?.persist_noclobber(path)?;
    Ok(())
}

/// Checks that files can be written to a directory, which is created if needed.
/// To be called before the work whose results go there.
pub fn check(directory: &Path) -> io::Result<()> {
    prepare(&directory.join("result"), b"").map(drop)
}

/// A temporary file with the content, in the same directory.
fn prepare(path: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(directory)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)?;
    file.write_all(content)?;
    hand_over(file.path(), directory)?;
    Ok(file)
}

fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    match fs::create_dir(directory) {
        // Another process was quicker.
        Err(_) if directory.is_dir() => return Ok(()),
        made => made?,
    }
    hand_over(directory, parent)
}

/// Gives `path` to the owner of `directory`; only root can, and only root needs
/// to.
fn hand_over(path: &Path, directory: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = directory.metadata()?;
    match chown(path, Some(owner.uid()), Some(owner.gid())) {
        // Root of a user namespace has only its own user to give to.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        done => done,
    }
}
