//! Which process holds a socket, and in which container it runs.
//!
//! A process that ends while it is looked at is no error: it is left out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::num::NonZero;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

mod name;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Deserializer, Serialize};

use crate::read::{DESCRIPTORS, Unseen};

/// The longest command line that is kept, in bytes.
const COMMAND_LIMIT_BYTES: usize = 256;
/// So much of a command line is read for the script that an interpreter runs: a
/// class path comes before it.
const ARGUMENTS_LIMIT_BYTES: u64 = 16 << 10;

/// So many threads at most read the links of descriptors: it takes the longest
/// of all that is read, and a host has more to do than to be looked at.
const THREADS: usize = 4;

/// The processes that hold sockets, and which ones.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Processes {
    /// Each process that holds one of the sockets that were asked for.
    pub all: Vec<Process>,
    /// Who holds which socket, sorted by inode. Several may hold one.
    #[serde(deserialize_with = "sorted")]
    pub holders: Vec<Holder>,
    /// Whether every process could be looked at: only root can.
    pub complete: bool,
}

/// Holders in the order in which they are looked up, whoever wrote the file.
fn sorted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Holder>, D::Error> {
    let mut holders = Vec::<Holder>::deserialize(deserializer)?;
    holders.sort_unstable();
    Ok(holders)
}

/// A process.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number in the namespace of the reader.
    pub pid: u32,
    /// Its name as the kernel keeps it (comm): at most 15 bytes, and whatever
    /// the process made of it.
    pub name: String,
    /// The name of the file that it runs, by its link exe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The script, module or class that the program runs, where that is an
    /// interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Its command line, cut after 256 bytes; `None` where it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its cgroup of version 2 (`/system.slice/sshd.service`), or where there is
    /// none, that of the memory controller of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The container that the cgroup is named after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The descriptors that it has open, of all kinds; `None` where not all could be
    /// seen, and in older captures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_descriptors: Option<u32>,
    /// So many descriptors it may have (RLIMIT_NOFILE, the soft limit); `None` where
    /// there is no limit or it may not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptor_limit: Option<u64>,
}

impl Process {
    /// A process as `ps` printed it: its command line with blanks between the arguments.
    pub(crate) fn of_ps(pid: u32, name: &str, command: Option<&str>, cgroup: Option<&str>) -> Self {
        let arguments: Vec<&str> = command.unwrap_or_default().split_whitespace().collect();
        let kept = |command: &str| command.chars().take(COMMAND_LIMIT_BYTES).collect();
        Self {
            descriptor_limit: None,
            open_descriptors: None,
            pid,
            name: name.to_owned(),
            program: None,
            script: name::script(None, &arguments),
            command: command.map(kept),
            cgroup: cgroup.map(str::to_owned),
            container: cgroup.and_then(container),
        }
    }
}

/// A descriptor of a socket.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The socket's inode.
    pub inode: u32,
    /// The process, by its place in [`Processes::all`].
    pub process: u32,
    /// The number of the descriptor there.
    pub descriptor: u32,
}

/// A descriptor of a network namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpenNamespace {
    /// The namespace's inode.
    pub inode: u32,
    /// The process that has it open.
    pub pid: u32,
    /// The number of the descriptor there.
    pub descriptor: u32,
}

impl Processes {
    /// Each process of which both are known, with its open descriptors and their limit.
    pub fn descriptors(&self) -> impl Iterator<Item = (&Process, u64, u64)> {
        self.all.iter().filter_map(|process| {
            let open = u64::from(process.open_descriptors?);
            Some((process, open, process.descriptor_limit?))
        })
    }

    /// Finds the processes under `root` that hold the sockets of `inodes`, and
    /// the network namespaces that processes have open.
    pub fn find(
        root: &Path,
        inodes: &Inodes,
        unseen: &mut Vec<Unseen>,
    ) -> (Self, Vec<OpenNamespace>) {
        let pids = pids(root);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut seen = Vec::new();
            while let Some(pid) = pids.get(next.fetch_add(1, Relaxed)) {
                seen.push(Seen::of(root, *pid, inodes));
            }
            seen
        };
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let mut seen = thread::scope(|scope| {
            // A thread that cannot be had is done without: this one is there.
            let others: Vec<_> = (1..threads.min(THREADS))
                .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
                .collect();
            let mut seen = work();
            for other in others {
                seen.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            seen
        });
        seen.sort_by_key(|seen| seen.pid);
        let mut found = Self {
            complete: true,
            ..Self::default()
        };
        let mut namespaces = Vec::new();
        let mut denied = 0_usize;
        let mut why = None;
        for seen in seen {
            if let Some(errno) = seen.denied {
                denied += 1;
                why = Some(errno);
            }
            namespaces.extend(seen.namespaces);
            let Some(process) = seen.process else {
                continue;
            };
            let place = u32::try_from(found.all.len()).unwrap_or(u32::MAX);
            found.all.push(process);
            found
                .holders
                .extend(seen.sockets.into_iter().map(|(inode, descriptor)| Holder {
                    inode,
                    process: place,
                    descriptor,
                }));
        }
        found.holders.sort_unstable();
        if let Some(why) = why {
            found.complete = false;
            unseen.push(Unseen {
                what: match denied {
                    1 => format!("{DESCRIPTORS}1 process"),
                    count => format!("{DESCRIPTORS}{count} processes"),
                },
                why: format!(
                    "{}; their sockets are told by ports alone",
                    io::Error::from(why)
                ),
            });
        }
        (found, namespaces)
    }

    /// The processes that hold a socket, by its inode.
    pub fn of(&self, inode: u32) -> impl Iterator<Item = &Process> {
        self.holders_of(inode)
            .iter()
            .filter_map(|holder| self.all.get(holder.process as usize))
    }

    /// The descriptors of a socket, by its inode; none of a socket without one.
    pub fn holders_of(&self, inode: u32) -> &[Holder] {
        if inode == 0 {
            return &[];
        }
        let start = self.holders.partition_point(|holder| holder.inode < inode);
        let rest = &self.holders[start..];
        &rest[..rest.partition_point(|holder| holder.inode == inode)]
    }
}

/// The inodes of the sockets whose processes are wanted.
#[derive(Clone, Debug)]
pub enum Inodes {
    /// These, sorted.
    These(Vec<u32>),
    /// None of them.
    None,
    /// Whatever sockets a process holds, of all kinds.
    All,
}

impl Inodes {
    /// These inodes, without the 0 of sockets that nobody holds.
    pub fn new(inodes: impl Iterator<Item = u32>) -> Self {
        let mut inodes: Vec<u32> = inodes.filter(|inode| *inode != 0).collect();
        inodes.sort_unstable();
        inodes.dedup();
        Self::These(inodes)
    }

    fn contains(&self, inode: u32) -> bool {
        match self {
            Self::These(inodes) => inodes.binary_search(&inode).is_ok(),
            Self::None => false,
            Self::All => true,
        }
    }
}

/// What the descriptors of a process lead to.
struct Seen {
    pid: u32,
    /// The process, where it holds one of the sockets and has not ended.
    process: Option<Process>,
    /// The sockets that were asked for: inode and descriptor.
    sockets: Vec<(u32, u32)>,
    namespaces: Vec<OpenNamespace>,
    /// Why not all could be seen; that it has ended is no reason.
    denied: Option<Errno>,
}

impl Seen {
    fn of(root: &Path, pid: u32, inodes: &Inodes) -> Self {
        let mut sockets = Vec::new();
        let mut namespaces = Vec::new();
        let mut open = 0;
        let result = each_link(root, pid, &mut |target, descriptor| {
            open += 1;
            if let Some(inode) = bracketed(target, b"socket:[") {
                if inodes.contains(inode) {
                    sockets.push((inode, descriptor));
                }
            } else if let Some(inode) = bracketed(target, b"net:[") {
                namespaces.push(OpenNamespace {
                    inode,
                    pid,
                    descriptor,
                });
            }
        });
        let process = if sockets.is_empty() {
            None
        } else {
            Process::read(root, pid).map(|process| Process {
                open_descriptors: result.is_ok().then_some(open),
                ..process
            })
        };
        Self {
            pid,
            process,
            sockets,
            namespaces,
            denied: result
                .err()
                .filter(|errno| !matches!(errno, Errno::ENOENT | Errno::ESRCH)),
        }
    }
}

impl Process {
    /// Reads what is known of a process; `None` where it has ended.
    pub fn read(root: &Path, pid: u32) -> Option<Self> {
        let directory = root.join(format!("proc/{pid}"));
        let name = fs::read(directory.join("comm")).ok()?;
        let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
        let mut arguments = Vec::new();
        if let Ok(file) = File::open(directory.join("cmdline")) {
            let _ = file.take(ARGUMENTS_LIMIT_BYTES).read_to_end(&mut arguments);
        }
        let kept = &arguments[..arguments.len().min(COMMAND_LIMIT_BYTES)];
        let command = String::from_utf8_lossy(kept)
            .trim_end_matches('\0')
            .replace('\0', " ");
        let arguments: Vec<_> = arguments
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let link = fs::read_link(directory.join("exe")).ok();
        let program = link.and_then(|link| name::of_file(&link.to_string_lossy()));
        let cgroup = fs::read_to_string(directory.join("cgroup"))
            .ok()
            .and_then(|text| cgroup(&text));
        Some(Self {
            pid,
            script: name::script(program.as_deref(), &arguments),
            name,
            program,
            command: (!command.is_empty()).then_some(command),
            container: cgroup.as_deref().and_then(container),
            cgroup,
            open_descriptors: None,
            descriptor_limit: fs::read_to_string(directory.join("limits"))
                .ok()
                .and_then(|text| descriptor_limit(&text)),
        })
    }
}

/// The soft limit of open descriptors in the text of /proc/PID/limits.
fn descriptor_limit(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The processes that are there, in the order of their numbers.
pub fn pids(root: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(root.join("proc")) else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids
}

/// Goes through the descriptors of a process: what each leads to, and its
/// number.
fn each_link(root: &Path, pid: u32, each: &mut impl FnMut(&OsStr, u32)) -> Result<(), Errno> {
    let directory = root.join(format!("proc/{pid}/fd"));
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = Dir::open(&directory, flags, Mode::empty())?;
    // Links are read relative to the directory: the path from the root on would
    // be walked again for each.
    let descriptor = directory
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    for entry in directory.iter() {
        let entry = entry?;
        let name = entry.file_name();
        let Some(number) = str::from_utf8(name.to_bytes())
            .ok()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        match readlinkat(&descriptor, name) {
            Ok(target) => each(&target, number),
            // Closed since the directory was read.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The number of a link such as `net:[4026531840]` or `socket:[4711]`.
pub(crate) fn bracketed(target: &OsStr, kind: &[u8]) -> Option<u32> {
    let digits = target.as_bytes().strip_prefix(kind)?.strip_suffix(b"]")?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The path of a process's cgroup in /proc/PID/cgroup: that of version 2 unless
/// it is the root and the memory controller is of version 1.
fn cgroup(text: &str) -> Option<String> {
    let mut paths = BTreeMap::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (parts.next(), parts.next()) {
            for controller in controllers.split(',') {
                paths.insert(controller, path);
            }
        }
    }
    let unified = paths.get("").copied();
    let memory = paths.get("memory").copied();
    unified
        .filter(|path| *path != "/")
        .or(memory)
        .or(unified)
        .map(str::to_owned)
}

/// The container that a cgroup is named after: an id of 64 hexadecimal digits,
/// of which people write 12, with the runtime's prefix where there is one
/// (`docker-ID.scope`, `cri-containerd-ID.scope`, `/docker/ID`, `crio-ID`,
/// `libpod-ID.scope`), or the name behind LXC's and systemd-nspawn's prefixes.
fn container(cgroup: &str) -> Option<String> {
    for component in cgroup.rsplit('/') {
        let name = component.strip_suffix(".scope").unwrap_or(component);
        for prefix in ["lxc.payload.", "lxc.payload/", "machine-"] {
            if let Some(name) = name.strip_prefix(prefix) {
                return Some(name.to_owned());
            }
        }
        let (runtime, id) = name.rsplit_once(['-', ':']).unwrap_or(("", name));
        if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let id = &id[..12];
            // kubepods of cgroupfs: `.../podUID/ID`, with no runtime in it.
            return Some(match runtime.rsplit(':').next() {
                None | Some("") => id.to_owned(),
                Some(runtime) => format!("{runtime}:{id}"),
            });
        }
    }
    None
}

/// Whether an error only says that a file or a process is not there any more.
pub(crate) fn has_vanished(error: &io::Error) -> bool {
    matches!(
        Errno::from_raw(error.raw_os_error().unwrap_or_default()),
        Errno::ENOENT | Errno::ESRCH | Errno::ENODEV
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "a socket of the test's own")]

    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_holder_of_a_socket_of_ours_is_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let link = format!("/proc/self/fd/{}", listener.as_raw_fd());
        let inode = u32::try_from(fs::metadata(link).unwrap().ino()).unwrap();
        let inodes = Inodes::new([0, inode].into_iter());
        let (processes, _) = Processes::find(Path::new("/"), &inodes, &mut Vec::new());
        let [holder] = processes.holders_of(inode) else {
            panic!("{processes:?}");
        };
        assert_eq!(holder.descriptor, listener.as_raw_fd().cast_unsigned());
        let process = processes.of(inode).next().unwrap();
        assert_eq!(process.pid, std::process::id());
        assert!(process.command.is_some());
        assert!(processes.holders_of(0).is_empty());
    }

    #[test]
    fn holders_are_found_in_whatever_order_they_are_written() {
        let text = r#"{"all": [{"pid": 1, "name": "a"}, {"pid": 2, "name": "b"}],
            "holders": [{"inode": 71, "process": 0, "descriptor": 3},
                        {"inode": 70, "process": 1, "descriptor": 3}], "complete": true}"#;
        let processes: Processes = serde_json::from_str(text).unwrap();
        let names = |inode| processes.of(inode).next().unwrap().name.as_str();
        assert_eq!((names(70), names(71)), ("b", "a"));
    }

    #[test]
    fn a_cgroup_is_that_of_version_2_unless_only_version_1_says_more() {
        assert_eq!(
            cgroup("0::/system.slice/sshd.service\n").as_deref(),
            Some("/system.slice/sshd.service")
        );
        assert_eq!(
            cgroup("4:memory:/docker/1\n1:cpu,cpuacct:/x\n0::/\n").as_deref(),
            Some("/docker/1")
        );
        assert_eq!(cgroup("0::/\n").as_deref(), Some("/"));
        assert_eq!(cgroup("nonsense\n"), None);
    }

    #[test]
    fn a_container_is_known_by_the_names_that_runtimes_give() {
        let id = "0123456789abcdef".repeat(4);
        for (cgroup, name) in [
            (
                format!("/system.slice/docker-{id}.scope"),
                Some("docker:0123456789ab"),
            ),
            (format!("/docker/{id}"), Some("0123456789ab")),
            (
                format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
                Some("cri-containerd:0123456789ab"),
            ),
            (
                format!("/kubepods/burstable/pod1/{id}"),
                Some("0123456789ab"),
            ),
            (
                format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}"),
                Some("cri-containerd:0123456789ab"),
            ),
            (
                format!("/machine.slice/libpod-{id}.scope/container"),
                Some("libpod:0123456789ab"),
            ),
            ("/lxc.payload.web/system.slice".to_owned(), Some("web")),
            ("/system.slice/sshd.service".to_owned(), None),
            (format!("/docker/{}", &id[1..]), None),
        ] {
            assert_eq!(container(&cgroup).as_deref(), name, "{cgroup}");
        }
    }

    #[test]
    fn the_limit_of_descriptors_is_the_soft_one() {
        let head = "Limit                     Soft Limit           Hard Limit           Units\n";
        for (line, limit) in [
            (
                "Max open files            1024                 524288               files",
                Some(1024),
            ),
            (
                "Max open files            unlimited            unlimited            files",
                None,
            ),
            (
                "Max processes             7853                 7853                 processes",
                None,
            ),
        ] {
            assert_eq!(
                descriptor_limit(&format!("{head}{line}\n")),
                limit,
                "{line}"
            );
        }
        let own = fs::read_to_string("/proc/self/limits").unwrap();
        assert!(own.contains("\nMax open files "), "{own}");
    }

    #[test]
    fn what_is_no_socket_has_no_inode() {
        for (target, inode) in [
            ("socket:[23]", Some(23)),
            ("socket:[]", None),
            ("socket:[-1]", None),
            ("pipe:[23]", None),
            ("/tmp/socket:[23]", None),
        ] {
            assert_eq!(
                bracketed(OsStr::new(target), b"socket:["),
                inode,
                "{target}"
            );
        }
    }
}
