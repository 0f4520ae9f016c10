//! An archive of sosreport: a host as it was when the archive was made.
//!
//! What it copies of /proc is read as on a host; the rest is what commands printed:
//! `sysctl -a`, `ss -peaonmi`, `netstat -s`, the last two also in each network namespace
//! that `ip netns` names. It has only the settings of the initial network namespace.

mod netstat;
mod ss;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use times::{clock, date_utc, uptime_of};

use crate::clock::Moment;
use crate::counters::Counters;
use crate::facts::Facts;
use crate::kernel_log::KernelLog;
use crate::look::Look;
use crate::memory::{Memory, Zones};
use crate::named_files::{ArchiveError, NamedFiles};
use crate::namespaces::Namespace;
use crate::origin::Origin;
use crate::processes::{Holder, Process, Processes};
use crate::read::{FactError, SOCKETS, Unseen, number};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::sock_diag::{Family, TcpSocket};
use crate::sockets::{SocketSource, SocketTable};
use crate::sockstat::Sockstat;
use crate::sysctl_dump;
use crate::sysctl_files::{self, SYSCTL_CONF, SysctlFile, SysctlFiles, single_blanks};
use crate::{proc_tcp, sysctl_files::DIRECTORIES};

/// The commands whose output is read, by directory below `sos_commands` and the name of
/// the file; the names of `netstat` have changed with the versions.
const NETWORK: &str = "sos_commands/networking/";
const SS: &str = "ss_-peaonmi";
const NETSTAT: [&str; 3] = ["netstat_-W_-neopa", "netstat_-T_-neopa", "netstat_-neopa"];
const STATISTICS: &str = "netstat_-s";
/// How the name of what was printed in a network namespace begins.
const IN_NAMESPACE: &str = "ip_netns_exec_";
const SYSCTL: &str = "sos_commands/kernel/sysctl_-a";
const UNAME: &str = "sos_commands/kernel/uname_-a";
const DMESG: &str = "sos_commands/kernel/dmesg";
const PS: &str = "sos_commands/process/ps_auxwww";
const CGROUPS: &str =
    "sos_commands/process/ps_axo_pid_ppid_user_group_lwp_nlwp_start_time_comm_cgroup";
const HOSTNAME: &str = "sos_commands/host/hostname";
const UPTIME: &str = "sos_commands/host/uptime";
const DATE: &str = "sos_commands/date/date";
const DATE_UTC: &str = "sos_commands/date/date_--utc";
const FREE: &str = "sos_commands/memory/free";
const VERSION: &str = "version.txt";
/// Whole files that are read.
const FILES: [&str; 19] = [
    VERSION,
    SYSCTL,
    UNAME,
    DMESG,
    PS,
    CGROUPS,
    HOSTNAME,
    UPTIME,
    DATE,
    DATE_UTC,
    FREE,
    SYSCTL_CONF,
    "proc/meminfo",
    "proc/zoneinfo",
    "proc/stat",
    "proc/uptime",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/hostname",
    "proc/sys/kernel/random/boot_id",
];
/// Files below `proc/net`; sosreport's own process has them.
const PROC_NET: [&str; 6] = ["netstat", "snmp", "sockstat", "sockstat6", "tcp", "tcp6"];

/// Why an archive of sosreport could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SosreportError {
    /// The archive could not be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file in it does not have the form that the kernel gives it.
    #[error("{}: {inside}", archive.display())]
    Inside {
        /// The archive.
        archive: PathBuf,
        /// The file in it, the line, and what is wrong.
        inside: FactError,
    },
}

impl SosreportError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Archive(error) => error.hint,
            Self::Inside { .. } => "make the sosreport again, or copy it again",
        }
    }
}

/// A longer journal is not read, in bytes.
const JOURNAL_LIMIT_BYTES: u64 = 64 << 20;

/// Whether a file of an archive is read; `size_bytes` is its size.
fn is_wanted(name: &str, size_bytes: u64) -> bool {
    if is_journal(name) {
        return size_bytes <= JOURNAL_LIMIT_BYTES;
    }
    if FILES.contains(&name) || proc_net(name).is_some() {
        return true;
    }
    if let Some(name) = name.strip_prefix(NETWORK) {
        let name = name.rsplit('/').next().unwrap_or(name);
        let command = in_namespace(name).map_or(name, |(_, command)| command);
        return command == SS || command == STATISTICS || NETSTAT.contains(&command);
    }
    is_file_of_settings(name)
}

/// What journalctl printed of the present boot; its options have changed with the versions.
fn is_journal(name: &str) -> bool {
    let command = name.strip_prefix("sos_commands/logs/");
    command
        .is_some_and(|name| name.starts_with("journalctl_--no-pager") && name.ends_with("_--boot"))
}

/// `etc/sysctl.d/10-tcp.conf`.
fn is_file_of_settings(name: &str) -> bool {
    let in_directory = DIRECTORIES.iter().any(|directory| {
        let inside = name
            .strip_prefix(directory)
            .and_then(|rest| rest.strip_prefix('/'));
        inside.is_some_and(|inside| !inside.contains('/'))
    });
    in_directory
        && Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "conf")
}

/// The file of /proc/net that a name is, whosever: `proc/net/tcp`, `proc/812/net/tcp`.
fn proc_net(name: &str) -> Option<&'static str> {
    let inside = name.strip_prefix("proc/")?;
    let file = match inside.split_once("/net/") {
        Some((pid, file)) if pid == "self" || pid.bytes().all(|byte| byte.is_ascii_digit()) => file,
        _ => inside.strip_prefix("net/")?,
    };
    PROC_NET.into_iter().find(|known| *known == file)
}

/// The network namespace and the command of a name: `ip_netns_exec_NAME_ss_-peaonmi`.
fn in_namespace(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(IN_NAMESPACE)?;
    let commands = [SS, STATISTICS].into_iter().chain(NETSTAT);
    commands.into_iter().find_map(|command| {
        let namespace = rest.strip_suffix(command)?.strip_suffix('_')?;
        (!namespace.is_empty()).then(|| (namespace, &rest[rest.len() - command.len()..]))
    })
}

/// Reads an archive, packed or not.
pub fn read(path: &Path) -> Result<Facts, SosreportError> {
    let files = NamedFiles::read(path, &is_wanted)?;
    of_files(&files, path)
}

/// Reads the bytes of an archive; `path` is for the errors.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Facts, SosreportError> {
    let mut files = NamedFiles::default();
    files
        .unpack(bytes, &is_wanted)
        .map_err(|(what, hint)| ArchiveError {
            path: path.to_owned(),
            what,
            hint,
        })?;
    of_files(&files, path)
}

fn of_files(files: &NamedFiles, path: &Path) -> Result<Facts, SosreportError> {
    let error = |what: String, hint| {
        Err(SosreportError::Archive(ArchiveError {
            path: path.to_owned(),
            what,
            hint,
        }))
    };
    let link = files.links().find(|(name, _)| !is_file_of_settings(name));
    if let Some((name, target)) = link {
        return error(
            format!("{name:?} in it is a link to {target:?}, and links are not followed"),
            "sosreport writes that file itself: make the archive again",
        );
    }
    if files.bytes(VERSION).is_none()
        && files.names().all(|name| !name.starts_with("sos_commands/"))
    {
        return error(
            format!(
                "it is no sosreport: it has neither version.txt nor sos_commands/ (it begins with {})",
                match files.first_names() {
                    [] => "nothing".to_owned(),
                    names => names.join(", "),
                }
            ),
            "give the .tar.xz or .tar.gz that `sosreport` made, or the directory that it unpacks to",
        );
    }
    let inside = |inside| SosreportError::Inside {
        archive: path.to_owned(),
        inside,
    };
    Reader {
        files,
        unseen: Vec::new(),
        holders: BTreeSet::new(),
        names: BTreeMap::new(),
    }
    .facts()
    .map_err(inside)
}

/// What is gathered while an archive is read.
struct Reader<'a> {
    files: &'a NamedFiles,
    unseen: Vec<Unseen>,
    /// Who holds which socket: inode, process, descriptor.
    holders: BTreeSet<(u32, u32, u32)>,
    /// The processes by number, as the commands name them.
    names: BTreeMap<u32, String>,
}

/// Who holds a socket.
struct Held {
    inode: u32,
    pid: u32,
    descriptor: u32,
    name: String,
}

impl Reader<'_> {
    fn facts(mut self) -> Result<Facts, FactError> {
        let dump = self.files.text(SYSCTL).unwrap_or_default();
        let values = sysctl_dump::values(&dump);
        let uname = self.files.text(UNAME).unwrap_or_default();
        let mut words = uname.split_whitespace();
        let (_, host, release) = (words.next(), words.next(), words.next());
        let one_line = |name: &str| {
            let text = self.files.text(name)?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty() && !text.contains('\n'))
        };
        let kernel = one_line("proc/sys/kernel/osrelease")
            .or_else(|| {
                values
                    .get("kernel.osrelease")
                    .map(|value| (*value).to_owned())
            })
            .or_else(|| release.map(str::to_owned));
        let hostname = one_line(HOSTNAME)
            .or_else(|| {
                values
                    .get("kernel.hostname")
                    .map(|value| (*value).to_owned())
            })
            .or_else(|| host.map(str::to_owned));
        let boot_id = one_line("proc/sys/kernel/random/boot_id").or_else(|| {
            values
                .get("kernel.random.boot_id")
                .map(|value| (*value).to_owned())
        });
        let mut facts = Facts::without_host(kernel.as_deref().unwrap_or_default(), 0, 4096);
        facts.origin = Origin::Sosreport;
        facts.hostname = hostname;
        facts.boot_id = boot_id;
        self.settings(&values, &mut facts);
        self.memory(&mut facts)?;
        let stat = self.files.text("proc/stat").unwrap_or_default();
        let cpus = stat
            .lines()
            .filter_map(|line| line.strip_prefix("cpu"))
            .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
            .count();
        facts.cpus = (cpus as u64).max(1);
        let (taken_at, uptime) = self.time(&stat);
        facts.taken_at = taken_at;
        facts.kernel_log = self
            .files
            .text(DMESG)
            .or_else(|| self.journal(uptime))
            .map(|text| KernelLog::parse(&text));
        facts.now = Shared::from(self.look(uptime)?);
        facts.processes = Shared::from(self.processes());
        self.note(facts.kernel_log.is_none(), "the kernel's log", DMESG);
        self.note(kernel.is_none(), "the release of the kernel", UNAME);
        self.note(
            facts.settings == Settings::default(),
            "the settings",
            SYSCTL,
        );
        self.note(
            facts.ram_bytes == 0,
            "the memory of the host",
            "proc/meminfo",
        );
        self.note(taken_at.is_none(), "when it was made", DATE_UTC);
        if !facts.now.elsewhere.is_empty() {
            self.unseen.push(Unseen {
                what: "the settings of other network namespaces".to_owned(),
                why: "sosreport runs `sysctl -a` in the initial one only".to_owned(),
            });
        }
        self.unseen.push(Unseen {
            what: "containers that `ip netns` does not name, and the cgroups of sockets".to_owned(),
            why: "sosreport does not look at them".to_owned(),
        });
        facts.unseen = self.unseen;
        Ok(facts)
    }

    /// Takes note of what an archive does not have.
    fn note(&mut self, is_missing: bool, what: &str, file: &str) {
        if is_missing {
            self.unseen.push(Unseen {
                what: what.to_owned(),
                why: format!("the sosreport has no {file}"),
            });
        }
    }

    /// The settings, and the files that set them at boot.
    fn settings(&mut self, values: &BTreeMap<&str, &str>, facts: &mut Facts) {
        for name in Settings::NAMES {
            if let Some(value) = values.get(name)
                && !facts.settings.set(name, value)
            {
                self.unseen.push(Unseen {
                    what: (*name).to_owned(),
                    why: format!("{value:?} in {SYSCTL} is no value of it"),
                });
            }
        }
        let mut files = SysctlFiles {
            systemd: self.is_run_by_systemd(),
            ..SysctlFiles::default()
        };
        let mut by_name: BTreeMap<&str, SysctlFile> = BTreeMap::new();
        for directory in DIRECTORIES {
            for (name, target) in self.files.links() {
                let Some(file) = file_of(directory, name) else {
                    continue;
                };
                let is_conf = directory == DIRECTORIES[0]
                    && matches!(target, "../sysctl.conf" | sysctl_files::CONF);
                let content = if is_conf {
                    self.files.bytes(SYSCTL_CONF)
                } else {
                    Some(&b""[..])
                };
                if !is_conf && target != "/dev/null" {
                    self.unseen.push(Unseen {
                        what: format!("/{name}"),
                        why: format!("it is a link to {target}, and links are not followed"),
                    });
                }
                by_name.entry(file).or_insert_with(|| SysctlFile {
                    path: Path::new("/").join(name),
                    links_to_conf: is_conf,
                    lines: sysctl_files::parse(content.unwrap_or_default()),
                });
            }
            for name in self.files.names() {
                if let Some(file) = file_of(directory, name) {
                    by_name
                        .entry(file)
                        .or_insert_with(|| self.file_of_settings(name));
                }
            }
        }
        files.files.extend(by_name.into_values());
        if self.files.bytes(SYSCTL_CONF).is_some() {
            files.files.push(self.file_of_settings(SYSCTL_CONF));
        }
        for key in files.keys() {
            if key.starts_with("net.") && !values.is_empty() {
                let live = values.get(key.as_str()).map(|value| single_blanks(value));
                files.live.insert(key, live);
            }
        }
        facts.sysctl_files = files;
    }

    fn file_of_settings(&self, name: &str) -> SysctlFile {
        SysctlFile {
            path: Path::new("/").join(name),
            links_to_conf: false,
            lines: sysctl_files::parse(self.files.bytes(name).unwrap_or_default()),
        }
    }

    /// Whether the first process is systemd; so it is where that is not known.
    fn is_run_by_systemd(&self) -> bool {
        let ps = self.files.text(PS).unwrap_or_default();
        let first = ps_lines(&ps).find(|(pid, _)| *pid == 1);
        first.is_none_or(|(_, command)| {
            command.contains("systemd") || command.contains("/sbin/init")
        })
    }

    fn memory(&self, facts: &mut Facts) -> Result<(), FactError> {
        if let Some(text) = self.files.text("proc/meminfo") {
            facts.memory = Memory::parse_meminfo(&text, Path::new("proc/meminfo"))?;
        } else if let Some(bytes) = self.files.text(FREE).as_deref().and_then(free_bytes) {
            facts.memory.total_bytes = bytes;
        }
        facts.ram_bytes = facts.memory.total_bytes;
        if let Some(text) = self.files.text("proc/zoneinfo") {
            let zones = Zones::parse(&text, Path::new("proc/zoneinfo"))?;
            // Both count the managed memory, one in bytes and one in pages.
            let page_bytes = facts.ram_bytes / zones.managed_pages.max(1);
            if let Some(page_bytes) = [4 << 10, 16 << 10, 64 << 10]
                .into_iter()
                .find(|size: &u64| page_bytes.abs_diff(*size) < size / 4)
            {
                facts.page_bytes = page_bytes;
            }
            facts.memory.zones = Some(zones);
        }
        Ok(())
    }

    /// When the archive was made, and how long the kernel had run then.
    fn time(&self, stat: &str) -> (Option<Moment>, Duration) {
        let booted_s: Option<u64> = stat
            .lines()
            .find_map(|line| number(line.strip_prefix("btime ")?));
        let utc = self.files.text(DATE_UTC).or_else(|| self.files.text(DATE));
        let taken_s = utc.as_deref().and_then(date_utc);
        let uptime = self
            .files
            .text("proc/uptime")
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .or_else(|| Some(Duration::from_secs(taken_s?.checked_sub(booted_s?)?)))
            .or_else(|| self.files.text(UPTIME).as_deref().and_then(uptime_of));
        let taken_s = taken_s.or_else(|| Some(booted_s?.saturating_add(uptime?.as_secs())));
        (
            taken_s.map(|taken_s| Moment::after_boot(taken_s, Duration::ZERO)),
            uptime.unwrap_or_default(),
        )
    }

    /// The lines of the kernel in the journal as dmesg has them, by the time since boot. The
    /// journal has the clock of the host, as `date` has.
    fn journal(&self, uptime: Duration) -> Option<String> {
        let name = self.files.names().find(|name| is_journal(name))?;
        let journal = self.files.text(name)?;
        let date = self.files.text(DATE)?;
        let (year, now_s) = clock(&date)?;
        let booted_s = now_s.checked_sub(uptime.as_secs())?;
        let mut log = String::new();
        for line in journal.lines() {
            let Some((time, text)) = line.split_once(" kernel: ") else {
                continue;
            };
            let at = |year: u16| clock(&format!("{time} {year}")).map(|(_, time_s)| time_s);
            // A line has no year; one that is later than now is of the last year.
            let time_s = at(year)
                .filter(|time_s| *time_s <= now_s)
                .or_else(|| at(year.checked_sub(1)?));
            let since_boot_s = time_s.and_then(|time_s| time_s.checked_sub(booted_s));
            let _ = writeln!(log, "[{}.0] {text}", since_boot_s.unwrap_or_default());
        }
        Some(log)
    }

    fn look(&mut self, uptime: Duration) -> Result<Look, FactError> {
        let mut net = BTreeMap::new();
        for name in self.files.names() {
            if let Some(file) = proc_net(name) {
                net.entry(file).or_insert(name);
            }
        }
        let text = |file: &str| {
            let name = net.get(file)?;
            Some((self.files.text(name)?, Path::new(*name)))
        };
        let mut counters = Counters::default();
        for file in ["netstat", "snmp"] {
            if let Some((text, path)) = text(file) {
                counters.merge(Counters::parse(&text, path)?);
            }
        }
        if counters.names().next().is_none() {
            let statistics = self.files.text(&format!("{NETWORK}{STATISTICS}"));
            counters = netstat::counters(&statistics.unwrap_or_default());
        }
        let mut sockstat = Sockstat::default();
        for file in ["sockstat", "sockstat6"] {
            if let Some((text, path)) = text(file) {
                sockstat.merge(Sockstat::parse(&text, path)?);
            }
        }
        let mut sockets = self.sockets(NETWORK, None);
        if sockets.is_none() && net.contains_key("tcp") {
            let mut all = Vec::new();
            for (file, family) in [("tcp", Family::Inet), ("tcp6", Family::Inet6)] {
                if let Some(name) = net.get(file) {
                    let bytes = self.files.bytes(name).unwrap_or_default();
                    proc_tcp::each(bytes, Path::new(name), family, &mut |socket| {
                        all.push(socket);
                    })?;
                }
            }
            sockets = Some(SocketTable {
                all,
                source: SocketSource::ProcNetTcp,
            });
        }
        match &sockets {
            None => self.note(true, SOCKETS, &format!("{NETWORK}{SS}")),
            Some(table) => self.note(
                table.source == SocketSource::ProcNetTcp,
                "memory and tcp_info of the sockets",
                &format!("{NETWORK}{SS}"),
            ),
        }
        Ok(Look {
            uptime,
            sockstat,
            counters,
            sockets: sockets.map(Shared::from),
            elsewhere: self.namespaces(),
        })
    }

    /// The sockets that a command printed; `None` where it was not run.
    fn sockets(&mut self, directory: &str, namespace: Option<&str>) -> Option<SocketTable> {
        let prefix = namespace.map_or_else(
            || directory.to_owned(),
            |name| format!("{directory}{IN_NAMESPACE}{name}_"),
        );
        let (name, command) = [SS].into_iter().chain(NETSTAT).find_map(|command| {
            let name = format!("{prefix}{command}");
            self.files.bytes(&name).map(|_| (name, command))
        })?;
        let text = self.files.text(&name)?;
        let mut all = Vec::new();
        let mut add = |socket: TcpSocket, held| {
            self.hold(held);
            all.push(socket);
        };
        let (strange, source) = if command == SS {
            (ss::each(&text, &mut add), SocketSource::SockDiag)
        } else {
            (
                netstat::each_socket(&text, &mut add),
                SocketSource::ProcNetTcp,
            )
        };
        if let Some(first) = strange.first() {
            self.unseen.push(Unseen {
                what: format!("{SOCKETS} of {} lines of {name}", strange.len()),
                why: format!("line {first} is not the line of a socket"),
            });
        }
        Some(SocketTable { all, source })
    }

    fn hold(&mut self, held: Vec<Held>) {
        for one in held {
            self.holders.insert((one.inode, one.pid, one.descriptor));
            self.names.insert(one.pid, one.name);
        }
    }

    /// The network namespaces that `ip netns` names. Their inodes are not in the archive:
    /// they get numbers from 1.
    fn namespaces(&mut self) -> Vec<Namespace> {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for name in self.files.names() {
            let Some((directory, file)) = name.rsplit_once('/') else {
                continue;
            };
            if name.starts_with(NETWORK)
                && let Some((namespace, _)) = in_namespace(file)
            {
                found.insert(namespace.to_owned(), format!("{directory}/"));
            }
        }
        let mut namespaces = Vec::new();
        for (inode, (name, directory)) in (1..).zip(found) {
            let statistics = format!("{directory}{IN_NAMESPACE}{name}_{STATISTICS}");
            let statistics = self.files.text(&statistics).unwrap_or_default();
            namespaces.push(Namespace {
                inode,
                pid: None,
                kept_by: None,
                sockstat: Sockstat::default(),
                counters: netstat::counters(&statistics),
                sockets: self.sockets(&directory, Some(&name)).map(Shared::from),
                settings: Settings::default(),
                name: Some(name),
            });
        }
        namespaces
    }

    /// The processes that hold sockets.
    fn processes(&self) -> Processes {
        let ps = self.files.text(PS).unwrap_or_default();
        let commands: BTreeMap<u32, &str> = ps_lines(&ps).collect();
        let cgroups = self.files.text(CGROUPS).unwrap_or_default();
        let cgroups: BTreeMap<u32, &str> = cgroups
            .lines()
            .filter_map(|line| {
                let pid = line.split_whitespace().next()?.parse().ok()?;
                let cgroup = line.split_whitespace().next_back()?;
                // `0::/system.slice/shop.service`, or several of version 1.
                let cgroup = cgroup.split(',').find_map(|one| one.strip_prefix("0::"))?;
                Some((pid, cgroup))
            })
            .collect();
        let all: Vec<Process> = self
            .names
            .iter()
            .map(|(pid, name)| {
                Process::of_ps(
                    *pid,
                    name,
                    commands.get(pid).copied(),
                    cgroups.get(pid).copied(),
                )
            })
            .collect();
        let places: BTreeMap<u32, u32> = self.names.keys().copied().zip(0..).collect();
        let holders = self.holders.iter().filter_map(|(inode, pid, descriptor)| {
            Some(Holder {
                inode: *inode,
                process: *places.get(pid)?,
                descriptor: *descriptor,
            })
        });
        let mut holders: Vec<Holder> = holders.collect();
        holders.sort_unstable();
        Processes {
            all,
            holders,
            complete: true,
        }
    }
}

/// The name of a file of settings in a directory.
fn file_of<'a>(directory: &str, name: &'a str) -> Option<&'a str> {
    let file = name.strip_prefix(directory)?.strip_prefix('/')?;
    is_file_of_settings(name).then_some(file)
}

/// The lines of `ps auxwww`: the number and the command line.
fn ps_lines(text: &str) -> impl Iterator<Item = (u32, &str)> {
    text.lines().filter_map(|line| {
        let pid = line.split_whitespace().nth(1)?.parse().ok()?;
        // Ten columns stand before the command.
        let mut rest = line.trim_start();
        for _ in 0..10 {
            rest = rest
                .trim_start_matches(|c: char| !c.is_whitespace())
                .trim_start();
        }
        Some((pid, rest))
    })
}

/// The memory that `free` names, in bytes: `Mem: 8057104 ...`, in KiB.
fn free_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Mem:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests;
