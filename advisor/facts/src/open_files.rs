//! The open files of the whole kernel: /proc/sys/fs/file-nr.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::read::{FactError, read_text};

/// The open files of the whole kernel, descriptors of sockets among them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OpenFiles {
    /// Open files (the first number).
    pub open: u64,
    /// The limit of them, fs.file-max (the third number).
    pub limit: u64,
}

impl OpenFiles {
    /// Reads them under `root`; `None` where the file is not there.
    pub(crate) fn read(root: &Path) -> Result<Option<Self>, FactError> {
        let path = root.join("proc/sys/fs/file-nr");
        let Some(text) = read_text(&path)? else {
            return Ok(None);
        };
        let numbers: Vec<u64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        match numbers[..] {
            [open, _, limit] => Ok(Some(Self { open, limit })),
            _ => Err(FactError::malformed(
                &path,
                1,
                format!("{text:?} is not three numbers"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_is_understood() {
        let files = OpenFiles::read(Path::new("/")).unwrap().unwrap();
        assert!(files.open > 0 && files.limit > 0, "{files:?}");
    }
}
