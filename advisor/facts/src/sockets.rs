//! The TCP sockets of one network namespace, by sock_diag or as text.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use nix::libc::RLIM_INFINITY;
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::cgroups;
use crate::proc_tcp;
use crate::read::{FactError, MANY_SOCKETS, SOCKETS, Unseen};
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
pub(crate) struct Keep {
    /// Whether only those that the rules compare with a later look, so that two looks
    /// don't take twice the memory: CLOSE_WAIT, FIN_WAIT2, LISTEN, orphans and what waits
    /// for accept().
    only_compared: bool,
    /// So many of a network namespace: listeners, which come first, and the next ones.
    most: usize,
}

impl Keep {
    /// As many as the memory of this process allows.
    pub(crate) fn all() -> Self {
        Self::at_most(allowed())
    }

    /// The same, of those that the rules compare.
    pub(crate) fn compared() -> Self {
        Self {
            only_compared: true,
            ..Self::all()
        }
    }

    /// At most so many.
    pub(crate) const fn at_most(most: usize) -> Self {
        Self {
            only_compared: false,
            most,
        }
    }

    /// Whether the rules look at one; whether there is room is another question.
    fn wants(self, socket: &TcpSocket) -> bool {
        !self.only_compared
            || matches!(
                socket.state,
                TcpState::CloseWait | TcpState::FinWait2 | TcpState::Listen
            )
            || socket.inode == 0 && socket.state != TcpState::TimeWait
    }
}

/// How many sockets fit into an eighth of the memory that this process may have, by
/// RLIMIT_AS and by its cgroup: a list of them takes up to three times its size while it
/// grows, and what is said of them takes some as well.
fn allowed() -> usize {
    let by_process = getrlimit(Resource::RLIMIT_AS).map_or(RLIM_INFINITY, |(soft, _)| soft);
    let limit = cgroups::memory_limit().map_or(by_process, |limit| limit.min(by_process));
    if limit == RLIM_INFINITY {
        return usize::MAX;
    }
    usize::try_from(limit).unwrap_or(usize::MAX) / (8 * size_of::<TcpSocket>())
}

/// A table that has room for no more than is to be kept.
#[derive(Default)]
struct Kept {
    all: Vec<TcpSocket>,
    left_out: usize,
}

impl Gather for Kept {
    fn absorb(&mut self, other: Self) {
        self.all.absorb(other.all);
        self.left_out += other.left_out;
    }
}

impl Kept {
    fn add(&mut self, keep: Keep, socket: TcpSocket) {
        if !keep.wants(&socket) {
            return;
        }
        if self.all.len() < keep.most {
            self.all.push(socket);
        } else {
            self.left_out += 1;
        }
    }

    fn table(self, source: SocketSource, unseen: &mut Vec<Unseen>) -> SocketTable {
        if self.left_out > 0 {
            unseen.push(Unseen {
                what: format!("{MANY_SOCKETS} {} of a network namespace", self.all.len()),
                why: format!("{} more would take too much memory", self.left_out),
            });
        }
        SocketTable {
            all: self.all,
            source,
        }
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
        let gathered = gather_live(net, looking, unseen, |kept: &mut Kept, socket| {
            kept.add(keep, socket);
        })?;
        Ok(gathered.map(|(kept, source)| kept.table(source, unseen)))
    }

    /// Reads the sockets of a record.
    pub(crate) fn read_recorded(
        root: &Path,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Option<Self>, FactError> {
        let keep = Keep::all();
        let gathered = gather_recorded(root, unseen, |kept: &mut Kept, socket| {
            kept.add(keep, socket);
        })?;
        Ok(gathered.map(|(kept, source)| kept.table(source, unseen)))
    }
}
