//! Reading one file of a host, and why it could not be read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::root::Root;
use crate::sock_diag::SockDiagError;

/// The largest file that is read, in bytes: /proc/net/tcp takes 150 bytes a
/// socket, so this is over a million of them.
const FILE_LIMIT_BYTES: u64 = 256 << 20;

/// Something that could not be seen.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why, in the kernel's words where it had some.
    pub why: String,
}

/// How the name of descriptors begins that could not be seen.
pub(crate) const DESCRIPTORS: &str = "the descriptors of ";
/// How the name of network namespaces begins that could not be seen.
pub(crate) const NAMESPACES: &str = "the network namespace";
/// How the name of sockets begins that could not be seen.
pub(crate) const SOCKETS: &str = "the sockets";
/// How the name of sockets begins that there was no memory for.
pub(crate) const MANY_SOCKETS: &str = "sockets beyond the first";

/// What an answer about a host can't do without, where it is out of sight for want of
/// rights or in another network namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutOfSight {
    /// The limit of orphaned sockets.
    Orphans,
    /// The limit of the memory of TCP.
    TcpMem,
    /// Sockets of other processes, or whose they are.
    OthersSockets,
    /// Sockets that there was no memory for.
    ManySockets,
}

impl OutOfSight {
    /// Its name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orphans => "orphans",
            Self::TcpMem => "tcp_mem",
            Self::OthersSockets => "sockets of other processes",
            Self::ManySockets => "some of the sockets",
        }
    }

    /// Why it is out of sight.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Orphans | Self::TcpMem => "not in the initial network namespace",
            Self::OthersSockets => "not permitted",
            Self::ManySockets => "too many for the memory that it may take",
        }
    }
}

impl Unseen {
    /// Whether it is about sockets that there was no memory for.
    pub(crate) fn is_for_memory(&self) -> bool {
        self.what.starts_with(MANY_SOCKETS)
    }

    /// Whether it is about sockets of other processes, or whose they are.
    ///
    /// Descriptors count only where a socket that was seen is nobody's, and network
    /// namespaces only where the kernel has more sockets than were seen: one process
    /// that may not be looked into hides nothing by itself.
    pub(crate) fn hides_sockets(&self, some_are_nobodys: bool, more_than_seen: bool) -> bool {
        self.what.starts_with(SOCKETS)
            || self.what.starts_with(DESCRIPTORS) && some_are_nobodys
            || self.what.starts_with(NAMESPACES) && more_than_seen
    }
}

/// Why a fact could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FactError {
    /// The file could not be opened or read.
    #[error("{}: cannot read it: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// This host has no /proc, and nothing of it can be read.
    #[error("/proc is not mounted: this host cannot be looked at")]
    NoProc,
    /// The file does not have the form that the kernel gives it.
    #[error("{}:{line}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// Something that is no dotted sysctl name.
    #[error("{name:?} is not the name of a sysctl")]
    SysctlName {
        /// What was given.
        name: String,
    },
    /// The kernel does not say how large a page is.
    #[error("sysconf(_SC_PAGESIZE): the kernel does not say how large a page is")]
    PageSize,
    /// The socket table could not be read.
    #[error("the socket table: {0}")]
    Sockets(#[from] SockDiagError),
}

impl FactError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run it as root, or as a user that may read the file"
            }
            Self::Read { .. } => {
                "this host lacks it; --root takes a directory that holds a copy of the file"
            }
            Self::NoProc => {
                "mount -t proc proc /proc; without it lint, explain and rules work, and what was \
                 taken elsewhere is read: --facts, --record, --sosreport, --sysctl-dump, --root"
            }
            Self::Malformed { .. } | Self::Sockets(_) => {
                "the kernel does not write this: if the file is a copy, copy it again; \
                 if it is the kernel's own, report it with `uname -r`"
            }
            Self::SysctlName { .. } => "names look like net.ipv4.tcp_mem",
            Self::PageSize => "report it with `uname -a`",
        }
    }

    /// A [`FactError::Malformed`].
    pub(crate) fn malformed(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

/// What a file of a record holds as JSON, or `None` where there is no such file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
) -> Result<Option<T>, FactError> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| FactError::malformed(path, error.line().max(1), error.to_string()))
}

/// The text of a file that has to be there.
pub(crate) fn read_required(path: &Path) -> Result<String, FactError> {
    read_text(path)?.ok_or_else(|| FactError::Read {
        path: path.to_owned(),
        source: nix::errno::Errno::ENOENT.into(),
    })
}

/// An error unless there is something to look at; `root` is `/` for this host.
pub fn check(root: &Root) -> Result<(), FactError> {
    if *root == Root::Live && !Path::new("/proc/self").exists() {
        return Err(FactError::NoProc);
    }
    Ok(())
}

/// The text of a file, or `None` where there is no such file.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, FactError> {
    let read_error = |source| FactError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read_error(error)),
    };
    let mut text = String::new();
    file.take(FILE_LIMIT_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(read_error)?;
    if text.len() as u64 > FILE_LIMIT_BYTES {
        return Err(read_error(io::Error::other(format!(
            "larger than {FILE_LIMIT_BYTES} bytes"
        ))));
    }
    Ok(Some(text))
}

/// A number as text, with space around it.
pub(crate) fn number<T: FromStr>(value: &str) -> Option<T> {
    value.trim().parse().ok()
}
