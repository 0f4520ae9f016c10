//! Files that one of the programs writes and the other reads: JSON with a
//! version.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A kind of such files.
#[derive(Debug, Eq, PartialEq)]
pub struct FileFormat {
    /// Its name: `report`.
    pub name: &'static str,
    /// What it is, with what writes it: `a report of the harness`.
    pub what: &'static str,
    /// The version that is read.
    pub schema: u32,
    /// More bytes than any has.
    pub limit_bytes: u64,
    /// What can be given.
    pub given: &'static str,
    /// How to write one anew.
    pub anew: &'static str,
}

/// Why such a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file could not be opened or read.
    #[error("{}: cannot read the {}: {source}", path.display(), format.name)]
    Read {
        /// What it should be.
        format: &'static FileFormat,
        /// The file.
        path: PathBuf,
        /// The kernel's words.
        source: std::io::Error,
    },
    /// The file is larger than any of its kind.
    #[error("{}: larger than {} bytes, which no {} is", path.display(), format.limit_bytes, format.name)]
    TooLarge {
        /// What it should be.
        format: &'static FileFormat,
        /// The file.
        path: PathBuf,
    },
    /// The file is none of its kind, or not all of it.
    #[error("{}:{line}:{column}: not {}: {message}", path.display(), format.what)]
    Malformed {
        /// What it should be.
        format: &'static FileFormat,
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// The file is of another version of the format.
    #[error(
        "{}: schema {found}: this program reads {}, of schema {}",
        path.display(), format.what, format.schema
    )]
    OtherSchema {
        /// What it should be.
        format: &'static FileFormat,
        /// The file.
        path: PathBuf,
        /// The version that the file names.
        found: u64,
    },
}

impl DocumentError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { format, .. } => format.given,
            Self::TooLarge { format, .. }
            | Self::Malformed { format, .. }
            | Self::OtherSchema { format, .. } => format.anew,
        }
    }
}

/// Reads a file of a kind.
pub fn read<T: DeserializeOwned>(
    path: &Path,
    format: &'static FileFormat,
) -> Result<T, DocumentError> {
    let read_error = |source| DocumentError::Read {
        format,
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    File::open(path)
        .map_err(read_error)?
        .take(format.limit_bytes + 1)
        .read_to_string(&mut text)
        .map_err(read_error)?;
    if text.len() as u64 > format.limit_bytes {
        return Err(DocumentError::TooLarge {
            format,
            path: path.to_owned(),
        });
    }
    parse(&text, path, format)
}

/// Parses the text of a file of a kind; `path` is for the errors.
pub fn parse<T: DeserializeOwned>(
    text: &str,
    path: &Path,
    format: &'static FileFormat,
) -> Result<T, DocumentError> {
    /// Only the version, so that a file of another one is named as such whatever
    /// else has changed in it.
    #[derive(Deserialize)]
    struct Version {
        schema: u64,
    }
    let malformed = |error: serde_json::Error| DocumentError::Malformed {
        format,
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        message: error.to_string(),
    };
    let version: Version = serde_json::from_str(text).map_err(malformed)?;
    if version.schema != u64::from(format.schema) {
        return Err(DocumentError::OtherSchema {
            format,
            path: path.to_owned(),
            found: version.schema,
        });
    }
    serde_json::from_str(text).map_err(malformed)
}
