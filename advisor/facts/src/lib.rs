//! What the kernel says about a host, read and never written.

pub mod cgroups;
pub mod condition;
pub mod counters;
pub mod file;
pub mod inspect;
pub mod kernel_log;
pub mod memory;
pub mod namespaces;
pub mod proc_tcp;
pub mod processes;
pub mod redact;
pub mod release;
pub mod settings;
pub mod shared;
pub mod sock_diag;
pub mod sockstat;
pub mod sysctl;
pub mod sysctl_files;
pub mod tcp_info;
pub mod units;

#[cfg(test)]
#[path = "../../tests/recorded/mod.rs"]
mod recorded;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use cgroups::{Cgroup, CgroupV1};
use counters::Counters;
use kernel_log::KernelLog;
use memory::Memory;
use namespaces::{Closed, Door, Namespace};
use processes::{Inodes, OpenNamespace, Processes};
use release::kernel_line;
pub use settings::Settings;
pub use shared::Shared;
use sock_diag::{Family, Gather, SockDiag, SockDiagError, SocketOptions, TcpSocket, TcpState};
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
    /// (`etc/sysctl.d/...`), what dmesg(1) prints in the file
    /// `kernel-log`, its page size in bytes in the file `page-size`, and its
    /// sockets as `sock_diag.hex` (a netlink message a line) or, without, as
    /// `proc/net/tcp` and `proc/net/tcp6`. The directory `earlier` in it may
    /// hold the same as it was some time before, and `namespaces/INODE` what
    /// was seen in another network namespace. Processes are found where they are
    /// on a host (`proc/PID`). As JSON, in the form that a file of facts has,
    /// there may be `cgroups.json`, by id, and `socket-options.json`, by inode.
    Recorded(PathBuf),
}

/// How a host is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Looking {
    /// Ask for the sockets by sock_diag; without, they are read in
    /// /proc/net/tcp, which can't make the kernel load a module.
    pub sock_diag: bool,
    /// Take a duplicate of some sockets of other processes, for a moment, and
    /// ask for their options.
    pub inspect_options: bool,
}

impl Default for Looking {
    fn default() -> Self {
        Self {
            sock_diag: true,
            inspect_options: false,
        }
    }
}

/// Which sockets of a look are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keep {
    /// All of them.
    All,
    /// Those that the rules compare with a later look, so that two looks don't
    /// take twice the memory: CLOSE_WAIT, LISTEN and orphans.
    Compared,
}

impl Keep {
    fn keeps(self, socket: &TcpSocket) -> bool {
        self == Self::All
            || matches!(socket.state, TcpState::CloseWait | TcpState::Listen)
            || socket.inode == 0 && socket.state != TcpState::TimeWait
    }
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The release of the kernel, as `uname -r` gives it.
    pub kernel: String,
    /// What the kernel calls this run of it (random/boot_id).
    pub boot_id: Option<String>,
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
    pub now: Shared<Look>,
    /// The same some time before, where there were two looks.
    pub earlier: Option<Shared<Look>>,
    /// The processes that hold the sockets.
    pub processes: Shared<Processes>,
    /// The cgroups that the sockets were made in, by id.
    pub cgroups: BTreeMap<u64, Cgroup>,
    /// The cgroups of version 1 that the processes are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cgroups_v1: Vec<CgroupV1>,
    /// What could not be seen, each once.
    pub unseen: Vec<Unseen>,
}

/// The counters of a network namespace, now and in an earlier look.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The namespace; `None` is the reader's own.
    pub namespace: Option<&'a Namespace>,
    now: &'a Counters,
    earlier: Option<&'a Counters>,
}

impl Place<'_> {
    /// How far a counter has grown in the window; `None` without a window,
    /// where the namespace was not there before, or where this kernel does not
    /// have it.
    pub fn grown(&self, counter: &str) -> Option<i64> {
        let now = self.now.get(counter)?;
        Some(now.wrapping_sub(self.earlier?.get(counter).unwrap_or(0)))
    }
}

/// What changes on a host, at one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Time since the kernel was started.
    pub uptime: Duration,
    /// /proc/net/sockstat and sockstat6.
    pub sockstat: Sockstat,
    /// /proc/net/netstat and /proc/net/snmp.
    pub counters: Counters,
    /// The TCP sockets of the network namespace; `None` where they could not
    /// be seen. Of an earlier look that was taken of a live host, only those
    /// that rules compare: CLOSE_WAIT, LISTEN and orphans.
    pub sockets: Option<Sockets>,
    /// The other network namespaces of the host.
    pub elsewhere: Vec<Namespace>,
}

/// The TCP sockets of a network namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sockets {
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

/// Something that could not be seen.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why, in the kernel's words where it had some.
    pub why: String,
}

impl Facts {
    /// Reads a host once. A recorded host that has an earlier look brings it.
    pub fn read(root: &Root) -> Result<Self, FactError> {
        Self::read_with(root, Looking::default())
    }

    /// Reads a host once, in the way that was asked for.
    pub fn read_with(root: &Root, looking: Looking) -> Result<Self, FactError> {
        let path = root.path();
        let release = read_required(&path.join("proc/sys/kernel/osrelease"))?;
        let mut unseen = Vec::new();
        let memory = Memory::read(path, &mut unseen)?;
        let settings = Settings::read(path, &mut unseen)?;
        let sysctl_files = SysctlFiles::read(path, &mut unseen)?;
        let mut now = Look::read_keeping(root, looking, Keep::All, &mut unseen)?;
        let earlier = match root {
            Root::Recorded(path) if path.join("earlier").is_dir() => {
                let earlier = Root::Recorded(path.join("earlier"));
                Some(Look::read_keeping(
                    &earlier,
                    looking,
                    Keep::All,
                    &mut Vec::new(),
                )?)
            }
            _ => None,
        };
        let (mut processes, open) = Processes::find(path, &now.inodes(), &mut unseen);
        if *root == Root::Live && now.add_hidden(path, &open, looking, Keep::All, &mut unseen)? {
            // Now that their sockets are known. What is unseen is so as before.
            (processes, _) = Processes::find(path, &now.inodes(), &mut Vec::new());
        }
        let ids: BTreeSet<u64> = now
            .every_socket()
            .filter_map(|(_, socket)| socket.cgroup)
            .collect();
        let mut facts = Self {
            kernel: release.trim().to_owned(),
            boot_id: sysctl::read(path, "kernel.random.boot_id")?,
            ram_bytes: memory.total_bytes,
            page_bytes: page_bytes(root)?,
            cpus: cpus(&path.join("proc/stat"))?,
            memory,
            settings,
            sysctl_files,
            cgroups_v1: cgroups::read_v1(path, &processes)?,
            processes: processes.into(),
            cgroups: match root {
                Root::Live => cgroups::read(path, &ids, &mut unseen)?,
                // The inodes of copied directories are others.
                Root::Recorded(path) => read_json(&path.join("cgroups.json"))?.unwrap_or_default(),
            },
            kernel_log: KernelLog::read(root, &mut unseen)?,
            now: now.into(),
            earlier: None,
            unseen,
        };
        match root {
            Root::Live if looking.inspect_options => inspect::inspect(&mut facts),
            Root::Live => {}
            Root::Recorded(path) => {
                if let Some(options) = read_json(&path.join("socket-options.json"))? {
                    facts.now.set_options(&options);
                }
            }
        }
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
            boot_id: None,
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
            now: Shared::from(Look {
                uptime: Duration::ZERO,
                sockstat: Sockstat::default(),
                counters: Counters::default(),
                sockets: None,
                elsewhere: Vec::new(),
            }),
            processes: Shared::default(),
            cgroups: BTreeMap::new(),
            cgroups_v1: Vec::new(),
            earlier: None,
            unseen: Vec::new(),
        }
    }

    /// Takes `earlier` for the look before this one. One that is not earlier
    /// is of another boot and says nothing.
    pub fn set_earlier(&mut self, earlier: impl Into<Shared<Look>>) {
        let earlier = earlier.into();
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

    /// How far a counter has grown in the window, in the reader's own network
    /// namespace; `None` without a window, or where this kernel does not have
    /// it.
    pub fn grown(&self, counter: &str) -> Option<i64> {
        self.here().grown(counter)
    }

    /// The reader's own network namespace.
    pub fn here(&self) -> Place<'_> {
        Place {
            namespace: None,
            now: &self.now.counters,
            earlier: self.earlier.as_ref().map(|earlier| &earlier.counters),
        }
    }

    /// Every network namespace that was seen, the reader's own first.
    pub fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let others = self.now.elsewhere.iter().map(|namespace| Place {
            namespace: Some(namespace),
            now: &namespace.counters,
            earlier: self.earlier.as_ref().and_then(|earlier| {
                let mut others = earlier.elsewhere.iter();
                let same = others.find(|other| other.inode == namespace.inode)?;
                Some(&same.counters)
            }),
        });
        std::iter::once(self.here()).chain(others)
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
    /// Reads what changes, to be compared with a later look.
    pub fn read(root: &Root, unseen: &mut Vec<Unseen>) -> Result<Self, FactError> {
        Self::read_with(root, Looking::default(), unseen)
    }

    /// The same, in the way that was asked for.
    pub fn read_with(
        root: &Root,
        looking: Looking,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Self, FactError> {
        let mut look = Self::read_keeping(root, looking, Keep::Compared, unseen)?;
        if *root == Root::Live {
            let (_, open) = Processes::find(root.path(), &Inodes::None, &mut Vec::new());
            look.add_hidden(root.path(), &open, looking, Keep::Compared, unseen)?;
        }
        Ok(look)
    }

    /// Looks into the network namespaces to which only one of these descriptors
    /// leads; true where there are any.
    fn add_hidden(
        &mut self,
        root: &Path,
        open: &[OpenNamespace],
        looking: Looking,
        keep: Keep,
        unseen: &mut Vec<Unseen>,
    ) -> Result<bool, FactError> {
        let doors = namespaces::hidden_doors(root, open);
        let found = elsewhere(root, &doors, looking, keep, unseen)?;
        let any = !found.is_empty();
        self.elsewhere.extend(found);
        self.elsewhere.sort_by_key(|namespace| namespace.inode);
        Ok(any)
    }

    /// The inodes of all sockets.
    fn inodes(&self) -> Inodes {
        Inodes::new(self.every_socket().map(|(_, socket)| socket.inode))
    }

    fn read_keeping(
        root: &Root,
        looking: Looking,
        keep: Keep,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Self, FactError> {
        let path = root.path();
        let net = path.join("proc/net");
        let sockets = match root {
            Root::Live => Sockets::read_live(&net, looking, keep, unseen)?,
            Root::Recorded(path) => Sockets::read_recorded(path, unseen)?,
        };
        Ok(Self {
            uptime: uptime(&path.join("proc/uptime"))?,
            sockstat: read_sockstat(&net)?,
            counters: read_counters(&net)?,
            sockets,
            elsewhere: match root {
                Root::Live => {
                    let doors = namespaces::doors(path, unseen);
                    elsewhere(path, &doors, looking, keep, unseen)?
                }
                Root::Recorded(path) => elsewhere_recorded(path)?,
            },
        })
    }

    /// Every socket of every network namespace that was seen, each with its
    /// namespace; `None` is the reader's own.
    pub fn every_socket(&self) -> impl Iterator<Item = (Option<&Namespace>, &TcpSocket)> {
        let own = self.sockets.iter().flat_map(|sockets| &sockets.all);
        let others = self.elsewhere.iter().flat_map(|namespace| {
            let sockets = namespace.sockets.iter().flat_map(|sockets| &sockets.all);
            sockets.map(move |socket| (Some(namespace), socket))
        });
        own.map(|socket| (None, socket)).chain(others)
    }

    /// How many sockets there are in each state, by the kernel's names, in all
    /// network namespaces that were seen.
    pub fn by_state(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for (_, socket) in self.every_socket() {
            *states.entry(socket.state.as_str()).or_default() += 1;
        }
        states
    }

    /// Gives sockets the options that were read of them, by inode.
    fn set_options(&mut self, options: &BTreeMap<u32, SocketOptions>) {
        for socket in self.every_socket_mut() {
            if socket.inode != 0 {
                socket.options = options.get(&socket.inode).copied();
            }
        }
    }

    /// The sockets, to be changed.
    fn every_socket_mut(&mut self) -> impl Iterator<Item = &mut TcpSocket> {
        let own = self.sockets.iter_mut();
        let others = self
            .elsewhere
            .iter_mut()
            .filter_map(|namespace| namespace.sockets.as_mut());
        own.chain(others).flat_map(|sockets| &mut sockets.all)
    }
}

/// /proc/net/netstat and snmp, below `net`.
fn read_counters(net: &Path) -> Result<Counters, FactError> {
    let mut counters = Counters::default();
    for file in ["netstat", "snmp"] {
        let file = net.join(file);
        counters.merge(Counters::parse(&read_required(&file)?, &file)?);
    }
    Ok(counters)
}

/// /proc/net/sockstat and sockstat6, below `net`.
fn read_sockstat(net: &Path) -> Result<Sockstat, FactError> {
    let file = net.join("sockstat");
    let mut sockstat = Sockstat::parse(&read_required(&file)?, &file)?;
    // A kernel without IPv6 has no sockstat6.
    let file = net.join("sockstat6");
    if let Some(text) = read_text(&file)? {
        sockstat.merge(Sockstat::parse(&text, &file)?);
    }
    Ok(sockstat)
}

/// Other network namespaces of the running host.
fn elsewhere(
    root: &Path,
    doors: &[Door],
    looking: Looking,
    keep: Keep,
    unseen: &mut Vec<Unseen>,
) -> Result<Vec<Namespace>, FactError> {
    look_elsewhere(root, doors, unseen, |door, net| {
        Ok(Namespace {
            inode: door.inode,
            name: door.name.clone(),
            pid: door.pid,
            kept_by: door.kept_by,
            sockstat: read_sockstat(net)?,
            counters: read_counters(net)?,
            sockets: Sockets::read_live(net, looking, keep, &mut Vec::new())?,
            settings: Settings::read(root, &mut Vec::new())?,
        })
    })
}

/// Looks into each of these network namespaces of the running host by `look`, which
/// is given the directory of the namespace's files of /proc/net. One that
/// vanishes meanwhile is left out; those that are closed are noted.
pub fn look_elsewhere<T: Send>(
    root: &Path,
    doors: &[Door],
    unseen: &mut Vec<Unseen>,
    look: impl Fn(&Door, &Path) -> Result<T, FactError> + Sync,
) -> Result<Vec<T>, FactError> {
    // Of the thread that is there: /proc/net is the process's.
    let net = root.join("proc/thread-self/net");
    let visited =
        namespaces::visit(doors, |door| look(door, &net)).map_err(|source| FactError::Read {
            path: root.join("proc/self/ns/net"),
            source,
        })?;
    let mut looks = Vec::new();
    let mut refused = 0_usize;
    let mut why = String::new();
    for seen in visited {
        match seen {
            Ok(Ok(look)) => looks.push(look),
            // What vanishes while it is read is gone and no error.
            Ok(Err(FactError::Read { source, .. })) if processes::has_vanished(&source) => {}
            Ok(Err(error)) => return Err(error),
            Err(Closed::Vanished) => {}
            Err(Closed::Refused(error)) => {
                refused += 1;
                why = error.to_string();
            }
        }
    }
    if refused > 0 {
        unseen.push(Unseen {
            what: match refused {
                1 => "the sockets of another network namespace".to_owned(),
                count => format!("the sockets of {count} other network namespaces"),
            },
            why: format!("{why}; no rule looked at them"),
        });
    }
    Ok(looks)
}

/// The directories of the other network namespaces of a recorded host, by inode.
pub fn recorded_namespaces(root: &Path) -> BTreeMap<u32, PathBuf> {
    let Ok(entries) = fs::read_dir(root.join("namespaces")) else {
        return BTreeMap::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
        })
        .collect()
}

/// The other network namespaces of a recorded host.
fn elsewhere_recorded(root: &Path) -> Result<Vec<Namespace>, FactError> {
    recorded_namespaces(root)
        .into_iter()
        .map(|(inode, root)| {
            let net = root.join("proc/net");
            Ok(Namespace {
                inode,
                name: None,
                pid: None,
                kept_by: None,
                sockstat: read_sockstat(&net)?,
                counters: read_counters(&net)?,
                sockets: Sockets::read_recorded(&root, &mut Vec::new())?,
                settings: Settings::read(&root, &mut Vec::new())?,
            })
        })
        .collect()
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
                    what: "the sockets".to_owned(),
                    why: format!("there is no {}", path.display()),
                });
                return Ok(None);
            }
            Err(source) => return Err(FactError::Read { path, source }),
        }
    }
    Ok(Some((gathered, SocketSource::ProcNetTcp)))
}

impl Sockets {
    /// Reads the sockets of the namespace that the calling thread is in.
    fn read_live(
        net: &Path,
        looking: Looking,
        keep: Keep,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Option<Self>, FactError> {
        let gathered = gather_live(net, looking, unseen, |kept: &mut Vec<_>, socket| {
            if keep.keeps(&socket) {
                kept.push(socket);
            }
        })?;
        Ok(gathered.map(|(all, source)| Self { all, source }))
    }

    /// Reads the sockets of a record.
    fn read_recorded(root: &Path, unseen: &mut Vec<Unseen>) -> Result<Option<Self>, FactError> {
        let gathered = gather_recorded(root, unseen, |all: &mut Vec<_>, socket| all.push(socket))?;
        Ok(gathered.map(|(all, source)| Self { all, source }))
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

/// What a file of a record holds as JSON, or `None` where there is no such file.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, FactError> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| FactError::malformed(path, error.line().max(1), error.to_string()))
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
