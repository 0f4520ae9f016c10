//! Errnos by name, as the kernel's headers have them.

use std::io;

use nix::errno::Errno;

/// What a step observes where its own time limit ended it: a word of the harness, and
/// no errno of the kernel.
pub const LATE: &str = "late";

/// The error of a step that its own time limit ended.
pub fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, LATE)
}

/// Whether a step's own time limit ended it.
pub fn is_late(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.to_string() == LATE
}

/// What a step observes of an error: an errno's name, or [`LATE`]. `None` for an error
/// of the harness's own.
pub fn observed(error: &io::Error) -> Option<String> {
    match error.raw_os_error() {
        Some(number) => Some(name(number)),
        None => is_late(error).then(|| LATE.to_owned()),
    }
}

/// The highest errno of Linux, on every architecture that the harness runs on.
const HIGHEST: i32 = 133;

/// The name of an errno: `ECONNRESET`; `errno 999` where there is none.
pub fn name(number: i32) -> String {
    match Errno::from_raw(number) {
        Errno::UnknownErrno => format!("errno {number}"),
        errno => format!("{errno:?}"),
    }
}

/// The names of all errnos.
pub fn names() -> impl Iterator<Item = String> {
    (1..=HIGHEST).map(name).filter(|name| !name.contains(' '))
}
