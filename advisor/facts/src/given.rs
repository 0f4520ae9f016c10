//! Why a file that the user gave could not be used.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file that the user gave could not be used, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum GivenFileError {
    /// It could not be opened or read.
    #[error("{}: cannot read it: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// It is something else, or not all of it.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// It is whole, and can't be used here.
    #[error("{}: {message}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why not.
        message: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
}

impl GivenFileError {
    /// Makes the error of a file that cannot be read.
    pub fn read(path: &Path, hint: &'static str) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read {
            path: path.clone(),
            source,
            hint,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { hint, .. } | Self::Malformed { hint, .. } | Self::Unfit { hint, .. } => {
                hint
            }
        }
    }

    /// Whether there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
