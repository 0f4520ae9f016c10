//! What the kernel says about a host, read and never written.

pub mod counters;
pub mod kernel_log;
pub mod memory;
pub mod proc_tcp;
pub mod settings;
pub mod sock_diag;
pub mod sockstat;
pub mod sysctl;
pub mod sysctl_files;
pub mod tcp_info;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::evidence::kernel_line;
use crate::evidence::measured::Measured;
use counters::Counters;
use kernel_log::KernelLog;
use memory::Memory;
pub use settings::Settings;
use sock_diag::{Family, SockDiag, SockDiagError, TcpSocket};
use sockstat::Sockstat;
use sysctl_files::SysctlFiles;

/// The largest file that is read, in bytes: /proc/net/tcp takes 150 bytes a
/// socket, so this is over a million of them.
const FILE_LIMIT_BYTES: u64 = 256 << 20;

/// Where a host is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Root {
    /// The running host, in the network namespace of this process.
    Live,
    /// A recorded host: a directory with copies of the host's files of /proc
    /// (`proc/sys/...`, `proc/net/...`, `proc/meminfo`, `proc/zoneinfo`,
    /// `proc/stat`, `proc/uptime`), those of its files of settings that there are
    /// (`etc/sysctl.d/...`), what dmesg(1) prints in the file `kernel-log`, its page size in bytes in the file `page-size`, and its
    /// sockets as `sock_diag.hex` (a netlink message a line) or, without, as
    /// `proc/net/tcp` and `proc/net/tcp6`. The directory `earlier` in it may
    /// hold the same as it was some time before.
    Recorded(PathBuf),
}

impl Root {
    /// The directory that stands for `/`.
    fn path(&self) -> &Path {
        match self {
            Self::Live => Path::new("/"),
            Self::Recorded(path) => path,
        }
    }
}

/// What is known of a host.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The release of the kernel, as `uname -r` gives it.
    pub kernel: String,
    /// RAM that the kernel manages, in bytes (MemTotal); 0 where there is no
    /// host.
    pub ram_bytes: u64,
    /// Size of a page, in bytes: the unit of tcp_mem and of `TCP.mem`.
    pub page_bytes: u64,
    /// CPUs that are online.
    pub cpus: u64,
    /// The memory of the host.
    pub memory: Memory,
    /// The settings that the rules use.
    pub settings: Settings,
    /// The files that set sysctls at boot.
    pub sysctl_files: SysctlFiles,
    /// What the kernel's log says of TCP's limits; `None` where it may not be
    /// read.
    pub kernel_log: Option<KernelLog>,
    /// What changes, as it is now.
    pub now: Look,
    /// The same some time before, where there were two looks.
    pub earlier: Option<Look>,
    /// What could not be seen, each once.
    pub unseen: Vec<Unseen>,
    /// What reports measured on the kernel line of this host.
    pub measured: Measured,
}

/// What changes on a host, at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// Time since the kernel was started.
    pub uptime: Duration,
    /// /proc/net/sockstat and sockstat6.
    pub sockstat: Sockstat,
    /// /proc/net/netstat and /proc/net/snmp.
    pub counters: Counters,
    /// The TCP sockets of the network namespace; `None` where they could not
    /// be seen.
    pub sockets: Option<Sockets>,
}

/// The TCP sockets of a network namespace.
#[derive(Clone, Debug)]
pub struct Sockets {
    /// The sockets.
    pub all: Vec<TcpSocket>,
    /// Where they were read.
    pub source: SocketSource,
}

/// Where sockets were read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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

/// Something that could not be seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why, in the kernel's words where it had some.
    pub why: String,
}

impl Facts {
    /// Reads a host once. A recorded host that has an earlier look brings it.
    pub fn read(root: &Root) -> Result<Self, FactError> {
        let path = root.path();
        let release = read_required(&path.join("proc/sys/kernel/osrelease"))?;
        let mut unseen = Vec::new();
        let memory = Memory::read(path, &mut unseen)?;
        let settings = Settings::read(path, &mut unseen)?;
        let sysctl_files = SysctlFiles::read(path, &mut unseen)?;
        let now = Look::read(root, &mut unseen)?;
        let earlier = match root {
            Root::Recorded(path) if path.join("earlier").is_dir() => {
                let earlier = Root::Recorded(path.join("earlier"));
                Some(Look::read(&earlier, &mut Vec::new())?)
            }
            _ => None,
        };
        let mut facts = Self {
            kernel: release.trim().to_owned(),
            ram_bytes: memory.total_bytes,
            page_bytes: page_bytes(root)?,
            cpus: cpus(&path.join("proc/stat"))?,
            memory,
            settings,
            sysctl_files,
            kernel_log: KernelLog::read(root, &mut unseen)?,
            now,
            earlier: None,
            unseen,
            measured: Measured::default(),
        };
        if let Some(earlier) = earlier {
            facts.set_earlier(earlier);
        }
        Ok(facts)
    }

    /// No host, but what is known of those that files of settings are for;
    /// `ram_bytes` is 0 where that is not known.
    pub fn without_host(kernel: &str, ram_bytes: u64, page_bytes: u64) -> Self {
        Self {
            kernel: kernel.to_owned(),
            ram_bytes,
            page_bytes,
            cpus: 1,
            memory: Memory {
                total_bytes: ram_bytes,
                ..Memory::default()
            },
            settings: Settings::default(),
            sysctl_files: SysctlFiles::default(),
            kernel_log: None,
            now: Look {
                uptime: Duration::ZERO,
                sockstat: Sockstat::default(),
                counters: Counters::default(),
                sockets: None,
            },
            earlier: None,
            unseen: Vec::new(),
            measured: Measured::default(),
        }
    }

    /// Takes `earlier` for the look before this one. One that is not earlier
    /// is of another boot and says nothing.
    pub fn set_earlier(&mut self, earlier: Look) {
        if earlier.uptime < self.now.uptime {
            self.earlier = Some(earlier);
        }
    }

    /// Whether the kernel is of this release or later; true where it is not
    /// known, as that of files alone.
    pub fn kernel_is_at_least(&self, major: u32, minor: u32) -> bool {
        release(&self.kernel).is_none_or(|release| release >= (major, minor))
    }

    /// The time between two looks and the first of them.
    pub fn window(&self) -> Option<(Duration, &Look)> {
        let earlier = self.earlier.as_ref()?;
        Some((self.now.uptime.saturating_sub(earlier.uptime), earlier))
    }

    /// How far a counter has grown in the window; `None` without a window, or
    /// where this kernel does not have it.
    pub fn grown(&self, counter: &str) -> Option<i64> {
        let (_, earlier) = self.window()?;
        let now = self.now.counters.get(counter)?;
        Some(now.wrapping_sub(earlier.counters.get(counter).unwrap_or(0)))
    }

    /// Since when the counters count, for people: a network namespace has its
    /// own, and only the initial one, by the settings that it alone has, is
    /// surely as old as the kernel's run.
    pub fn counters_begin(&self) -> &'static str {
        if self.settings.tcp_max_orphans.is_some() {
            "since boot"
        } else {
            "since the network namespace was made"
        }
    }
}

fn number<T: FromStr>(value: &str) -> Option<T> {
    value.trim().parse().ok()
}

/// The first two numbers of a kernel release; `None` where there are none.
pub fn release(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel_line(kernel).split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

impl Look {
    /// Reads what changes.
    pub fn read(root: &Root, unseen: &mut Vec<Unseen>) -> Result<Self, FactError> {
        let path = root.path();
        let file = path.join("proc/net/sockstat");
        let mut sockstat = Sockstat::parse(&read_required(&file)?, &file)?;
        // A kernel without IPv6 has no sockstat6.
        let file = path.join("proc/net/sockstat6");
        if let Some(text) = read_text(&file)? {
            sockstat.merge(Sockstat::parse(&text, &file)?);
        }
        let mut counters = Counters::default();
        for file in ["proc/net/netstat", "proc/net/snmp"] {
            let file = path.join(file);
            counters.merge(Counters::parse(&read_required(&file)?, &file)?);
        }
        Ok(Self {
            uptime: uptime(&path.join("proc/uptime"))?,
            sockstat,
            counters,
            sockets: Sockets::read(root, unseen)?,
        })
    }
}

impl Sockets {
    /// Reads the sockets by sock_diag, or as text where the kernel has none.
    fn read(root: &Root, unseen: &mut Vec<Unseen>) -> Result<Option<Self>, FactError> {
        let why = match root {
            Root::Live => {
                let sockets = SockDiag::open()
                    .map_err(SockDiagError::Open)
                    .and_then(|mut sock_diag| sock_diag.tcp_sockets());
                match sockets {
                    Ok(all) => return Ok(Some(Self::by_sock_diag(all))),
                    // What it says is wrong is not to be papered over.
                    Err(error @ SockDiagError::Malformed(_)) => return Err(error.into()),
                    Err(error) => error.to_string(),
                }
            }
            Root::Recorded(path) => {
                let path = path.join("sock_diag.hex");
                if let Some(text) = read_text(&path)? {
                    let all = sock_diag::decode_recorded(&text)
                        .map_err(|(line, message)| FactError::malformed(&path, line, message))?;
                    return Ok(Some(Self::by_sock_diag(all)));
                }
                "not recorded".to_owned()
            }
        };
        unseen.push(Unseen {
            what: "memory and tcp_info of the sockets".to_owned(),
            why,
        });
        let mut all = Vec::new();
        for (file, family) in [
            ("proc/net/tcp", Family::Inet),
            ("proc/net/tcp6", Family::Inet6),
        ] {
            let path = root.path().join(file);
            match read_text(&path)? {
                Some(text) => all.extend(proc_tcp::parse(&text, &path, family)?),
                // A kernel without IPv6 has no tcp6.
                None if family == Family::Inet6 => {}
                None => {
                    unseen.push(Unseen {
                        what: "the sockets".to_owned(),
                        why: format!("there is no {}", path.display()),
                    });
                    return Ok(None);
                }
            }
        }
        Ok(Some(Self {
            all,
            source: SocketSource::ProcNetTcp,
        }))
    }

    fn by_sock_diag(all: Vec<TcpSocket>) -> Self {
        Self {
            all,
            source: SocketSource::SockDiag,
        }
    }

    /// How many sockets there are in each state, by the kernel's names.
    pub fn by_state(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for socket in &self.all {
            *states.entry(socket.state.as_str()).or_default() += 1;
        }
        states
    }
}

/// The size of a page: the kernel's own word, or the record's.
fn page_bytes(root: &Root) -> Result<u64, FactError> {
    let Root::Recorded(root) = root else {
        let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        return bytes
            .and_then(|bytes| u64::try_from(bytes).ok())
            .ok_or(FactError::PageSize);
    };
    let path = root.join("page-size");
    let text = read_required(&path)?;
    number(&text)
        .filter(|bytes: &u64| bytes.is_power_of_two() && (1 << 12..=1 << 20).contains(bytes))
        .ok_or_else(|| FactError::malformed(&path, 1, "not a page size in bytes"))
}

/// CPUs that are online: the lines `cpuN` of /proc/stat.
fn cpus(path: &Path) -> Result<u64, FactError> {
    let text = read_required(path)?;
    let cpus = text
        .lines()
        .filter_map(|line| line.strip_prefix("cpu"))
        .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        .count();
    match cpus {
        0 => Err(FactError::malformed(path, 1, "no line of a CPU")),
        cpus => Ok(cpus as u64),
    }
}

/// The first number of /proc/uptime, in seconds.
fn uptime(path: &Path) -> Result<Duration, FactError> {
    let text = read_required(path)?;
    text.split_whitespace()
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| FactError::malformed(path, 1, "not an uptime in seconds"))
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
    Sockets(#[from] sock_diag::SockDiagError),
}

impl FactError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run it as root, or as a user that may read the file"
            }
            Self::Read { .. } => {
                "it needs /proc mounted, or with --root a directory that holds a copy of the file"
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
    fn malformed(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

/// The text of a file that has to be there.
fn read_required(path: &Path) -> Result<String, FactError> {
    read_text(path)?.ok_or_else(|| FactError::Read {
        path: path.to_owned(),
        source: nix::errno::Errno::ENOENT.into(),
    })
}

/// The text of a file, or `None` where there is no such file.
fn read_text(path: &Path) -> Result<Option<String>, FactError> {
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
