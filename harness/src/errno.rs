//! Errnos by name, as the kernel's headers have them.

use nix::errno::Errno;

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
