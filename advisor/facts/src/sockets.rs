//! The TCP sockets of one network namespace, by sock_diag or as text.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::proc_tcp;
use crate::read::{FactError, SOCKETS, Unseen};
use crate::root::Looking;
use crate::sock_diag::{self, Family, Gather, SockDiag, SockDiagError, TcpSocket, TcpState};

/// The TCP sockets of a network namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SocketTable {
    /// The sockets.
    pub all: Vec<TcpSocket>,
    /// Where they were read.
    pub source: SocketSource,
}

/// Where sockets were read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketSource {
    /// From sock_diag: with tcp_info and memory.
    SockDiag,
    /// From /proc/net/tcp and tcp6: without.
    ProcNetTcp,
}

impl SocketSource {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SockDiag => "sock_diag",
            Self::ProcNetTcp => "/proc/net/tcp",
        }
    }
}

/// Which sockets of a look are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keep {
    /// All of them.
    All,
    /// Those that the rules compare with a later look, so that two looks don't
    /// take twice the memory: CLOSE_WAIT, FIN_WAIT2, LISTEN, orphans and what
    /// waits for accept().
    Compared,
    /// At most so many: listeners, which come first, and the next ones.
    AtMost(usize),
}

impl Keep {
    /// Whether one more is kept beside so many.
    fn keeps(self, socket: &TcpSocket, kept: usize) -> bool {
        if let Self::AtMost(most) = self {
            return kept < most;
        }
        self == Self::All
            || matches!(
                socket.state,
                TcpState::CloseWait | TcpState::FinWait2 | TcpState::Listen
            )
            || socket.inode == 0 && socket.state != TcpState::TimeWait
    }
}

/// Gathers the sockets of the namespace that the calling thread is in, by
/// sock_diag, or as text where that is not to be used or the kernel has none.
/// `net` is the directory with the namespace's `tcp` and `tcp6`. `None` where
/// the sockets cannot be seen.
pub fn gather_live<T: Gather>(
    net: &Path,
    looking: Looking,
    unseen: &mut Vec<Unseen>,
    mut add: impl FnMut(&mut T, TcpSocket),
) -> Result<Option<(T, SocketSource)>, FactError> {
    let why = if looking.sock_diag {
        let gathered = SockDiag::open()
            .map_err(SockDiagError::Open)
            .and_then(|mut sock_diag| sock_diag.gather(&mut add));
        match gathered {
            Ok(gathered) => return Ok(Some((gathered, SocketSource::SockDiag))),
            // What it says is wrong is not to be papered over.
            Err(error @ SockDiagError::Malformed(_)) => return Err(error.into()),
            Err(error) => error.to_string(),
        }
    } else {
        "--no-sock-diag".to_owned()
    };
    gather_text(net, &why, unseen, add)
}

/// Gathers the sockets of a record.
pub fn gather_recorded<T: Gather>(
    root: &Path,
    unseen: &mut Vec<Unseen>,
    mut add: impl FnMut(&mut T, TcpSocket),
) -> Result<Option<(T, SocketSource)>, FactError> {
    let path = root.join("sock_diag.hex");
    match File::open(&path) {
        Ok(file) => {
            let mut gathered = T::default();
            sock_diag::decode_recorded(BufReader::new(file), &mut |socket| {
                add(&mut gathered, socket);
            })
            .map_err(|(line, message)| FactError::malformed(&path, line, message))?;
            Ok(Some((gathered, SocketSource::SockDiag)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            gather_text(&root.join("proc/net"), "not recorded", unseen, add)
        }
        Err(source) => Err(FactError::Read { path, source }),
    }
}

/// Gathers the sockets from text; `why` there is nothing better.
fn gather_text<T: Gather>(
    net: &Path,
    why: &str,
    unseen: &mut Vec<Unseen>,
    mut add: impl FnMut(&mut T, TcpSocket),
) -> Result<Option<(T, SocketSource)>, FactError> {
    unseen.push(Unseen {
        what: "memory and tcp_info of the sockets".to_owned(),
        why: why.to_owned(),
    });
    let mut gathered = T::default();
    for (file, family) in [("tcp", Family::Inet), ("tcp6", Family::Inet6)] {
        let path = net.join(file);
        match File::open(&path) {
            Ok(file) => proc_tcp::each(BufReader::new(file), &path, family, &mut |socket| {
                add(&mut gathered, socket);
            })?,
            // A kernel without IPv6 has no tcp6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && family == Family::Inet6 => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                unseen.push(Unseen {
                    what: SOCKETS.to_owned(),
                    why: format!("there is no {}", path.display()),
                });
                return Ok(None);
            }
            Err(source) => return Err(FactError::Read { path, source }),
        }
    }
    Ok(Some((gathered, SocketSource::ProcNetTcp)))
}

impl SocketTable {
    /// Reads the sockets of the namespace that the calling thread is in.
    pub(crate) fn read_live(
        net: &Path,
        looking: Looking,
        keep: Keep,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Option<Self>, FactError> {
        let mut left_out = 0;
        let gathered = gather_live(net, looking, unseen, |kept: &mut Vec<_>, socket| {
            if keep.keeps(&socket, kept.len()) {
                kept.push(socket);
            } else {
                left_out += 1;
            }
        })?;
        if let Keep::AtMost(most) = keep
            && left_out > 0
        {
            unseen.push(Unseen {
                what: format!("{SOCKETS} beyond the first {most} of a network namespace"),
                why: format!("{left_out} more would cost the watch too much memory"),
            });
        }
        Ok(gathered.map(|(all, source)| Self { all, source }))
    }

    /// Reads the sockets of a record.
    pub(crate) fn read_recorded(
        root: &Path,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Option<Self>, FactError> {
        let gathered = gather_recorded(root, unseen, |all: &mut Vec<_>, socket| all.push(socket))?;
        Ok(gathered.map(|(all, source)| Self { all, source }))
    }
}
