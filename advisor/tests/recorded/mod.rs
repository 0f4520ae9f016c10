//! Hosts that were recorded.

use std::path::Path;

/// Lays a recorded host, or an overlay of one, over what is in a directory.
#[allow(
    clippy::disallowed_methods,
    reason = "the tests make a host to read; the harness's, for which nothing is disallowed, have it as well"
)]
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
