//! All that is known of a host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use crate::cgroups::{self, Cgroup, CgroupV1};
use crate::clock::Moment;
use crate::counters::Counters;
use crate::happened::Happened;
use crate::inspect::inspect;
use crate::kernel_log::KernelLog;
use crate::look::Look;
use crate::memory::Memory;
use crate::namespaces::{Namespace, Place};
use crate::open_files::OpenFiles;
use crate::origin::Origin;
use crate::processes::Processes;
use crate::read::{FactError, OutOfSight, Unseen, check, number, read_json, read_required};
use crate::release::Release;
use crate::root::{Looking, Root};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::sock_diag::{TcpSocket, TcpState};
use crate::sockets::Keep;
use crate::sockstat::Sockstat;
use crate::sysctl;
use crate::sysctl_files::SysctlFiles;

/// What is known of a host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The release of the kernel, as `uname -r` gives it.
    pub kernel: String,
    /// What the kernel calls this run of it (random/boot_id).
    pub boot_id: Option<String>,
    /// The name of the host; `None` where it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// When it was looked at; `None` in older captures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Moment>,
    /// RAM that the kernel manages, in bytes (MemTotal); 0 where there is no
    /// host.
    pub ram_bytes: u64,
    /// Size of a page, in bytes: the unit of tcp_mem and of `TCP.mem`.
    pub page_bytes: u64,
    /// CPUs that are online.
    pub cpus: u64,
    /// The memory of the host.
    pub memory: Memory,
    /// The open files of the whole kernel; `None` in older captures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<OpenFiles>,
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
    /// What happened between the looks, where it was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub happened: Option<Shared<Happened>>,
    /// What could not be seen, each once.
    pub unseen: Vec<Unseen>,
    /// Whose the settings, the sockets and the counters are, where these facts are of
    /// one network namespace other than the reader's ([`Facts::by_namespace`]).
    #[serde(skip)]
    pub place: Option<Place>,
    /// What they were read from.
    #[serde(skip)]
    pub origin: Origin,
}

/// The counters of a network namespace, now and in an earlier look.
#[derive(Clone, Copy, Debug)]
pub struct NamespaceCounters<'a> {
    /// The namespace; `None` is the reader's own.
    pub namespace: Option<&'a Namespace>,
    now: &'a Counters,
    earlier: Option<&'a Counters>,
}

impl NamespaceCounters<'_> {
    /// What a counter has come to since it began to count; `None` where this kernel
    /// does not have it.
    pub fn count(&self, counter: &str) -> Option<i64> {
        self.now.get(counter)
    }

    /// How far a counter has grown in the window; `None` without a window,
    /// where the namespace was not there before, or where this kernel does not
    /// have it.
    pub fn grown(&self, counter: &str) -> Option<i64> {
        let now = self.now.get(counter)?;
        Some(now.wrapping_sub(self.earlier?.get(counter).unwrap_or(0)))
    }
}

impl Facts {
    /// Reads a host once. A recorded host that has an earlier look brings it.
    pub fn read(root: &Root) -> Result<Self, FactError> {
        Self::read_with(root, Looking::default())
    }

    /// Reads a host once, in the way that was asked for.
    pub fn read_with(root: &Root, looking: Looking) -> Result<Self, FactError> {
        Self::read_keeping(root, looking, Keep::all())
    }

    /// Reads this host once and keeps at most so many sockets of each network namespace,
    /// listeners first.
    pub fn read_at_most(looking: Looking, sockets: usize) -> Result<Self, FactError> {
        Self::read_keeping(&Root::Live, looking, Keep::at_most(sockets))
    }

    fn read_keeping(root: &Root, looking: Looking, keep: Keep) -> Result<Self, FactError> {
        check(root)?;
        let path = root.path();
        let release = read_required(&path.join("proc/sys/kernel/osrelease"))?;
        let stat_path = path.join("proc/stat");
        let stat = read_required(&stat_path)?;
        let mut unseen = Vec::new();
        let memory = Memory::read(path, &mut unseen)?;
        let files = OpenFiles::read(path)?;
        let settings = Settings::read(path, &mut unseen)?;
        let sysctl_files = SysctlFiles::read(path, &mut unseen)?;
        let mut now = Look::read_keeping(root, looking, keep, &mut unseen)?;
        let earlier = match root {
            Root::Recorded(path) if path.join("earlier").is_dir() => {
                let earlier = Root::Recorded(path.join("earlier"));
                Some(Look::read_keeping(
                    &earlier,
                    looking,
                    keep,
                    &mut Vec::new(),
                )?)
            }
            _ => None,
        };
        let (mut processes, open) = Processes::find(path, &now.inodes(), &mut unseen);
        if *root == Root::Live && now.add_hidden(path, &open, looking, keep, &mut unseen)? {
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
            hostname: hostname(path)?,
            taken_at: match root {
                Root::Live => Some(Moment::now()),
                Root::Recorded(_) => stat
                    .lines()
                    .find_map(|line| number(line.strip_prefix("btime ")?))
                    .map(|boot_s| Moment::after_boot(boot_s, now.uptime)),
            },
            ram_bytes: memory.total_bytes,
            page_bytes: page_bytes(root)?,
            cpus: cpus(&stat_path, &stat)?,
            memory,
            files,
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
            happened: None,
            unseen,
            place: None,
            origin: Origin::Host,
        };
        match root {
            Root::Live if looking.inspect_options => {
                inspect(&mut facts.now, &facts.processes, &mut facts.unseen);
            }
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
            hostname: None,
            taken_at: None,
            ram_bytes,
            page_bytes,
            cpus: 1,
            memory: Memory {
                total_bytes: ram_bytes,
                ..Memory::default()
            },
            files: None,
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
            happened: None,
            unseen: Vec::new(),
            place: None,
            origin: Origin::Host,
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
        let wanted = Release::new(major, minor);
        Release::of_kernel(&self.kernel).is_none_or(|release| release >= wanted)
    }

    /// The unit of `TCP.mem`, in bytes: a page, but 4 KiB from Linux 4.11 up to 6.0
    /// whatever the page (SK_MEM_QUANTUM in include/net/sock.h). The marks of tcp_mem
    /// are in pages on all of them.
    pub fn gauge_unit_bytes(&self) -> u64 {
        let release = Release::of_kernel(&self.kernel);
        let in_quanta = release
            .is_some_and(|release| (Release::new(4, 11)..Release::new(6, 0)).contains(&release));
        if in_quanta { 4 << 10 } else { self.page_bytes }
    }

    /// Whether some sockets are not counted in `TCP.mem`, in any network namespace
    /// that was seen: by net.core.bypass_prot_mem, or because they hold far more than it
    /// says (`SK_BPF_BYPASS_PROT_MEM` of a BPF program, which no setting shows).
    pub fn gauge_is_bypassed(&self) -> bool {
        let elsewhere = self.now.elsewhere.iter().map(|other| &other.settings);
        std::iter::once(&self.settings)
            .chain(elsewhere)
            .any(|settings| settings.bypass_prot_mem.is_some_and(|on| on != 0))
            || self.sockets_hold_more_than_the_gauge()
    }

    /// Whether the sockets that were seen hold more than twice what `TCP.mem` may mean,
    /// with what the CPUs keep back from it. Only kernels that can leave sockets out are
    /// asked.
    fn sockets_hold_more_than_the_gauge(&self) -> bool {
        /// Less may have come between the two readings.
        const LEAST_BYTES: u64 = 16 << 20;
        let can_bypass =
            Release::of_kernel(&self.kernel).is_some_and(|release| release >= Release::new(6, 19));
        let Some(gauge) = self.now.sockstat.get("TCP.mem").filter(|_| can_bypass) else {
            return false;
        };
        let gauge = u64::try_from(gauge).unwrap_or(0);
        let kept_back = self
            .cpus
            .saturating_mul(self.settings.mem_pcpu_rsv.unwrap_or(0));
        let counted = gauge
            .saturating_add(kept_back)
            .saturating_mul(self.page_bytes);
        let sockets = self.now.every_socket();
        let held: u64 = sockets.map(|(_, socket)| socket.held_bytes()).sum();
        held >= LEAST_BYTES && held / 2 > counted
    }

    /// The settings of a network namespace; `None` is the reader's own.
    pub fn settings_in<'a>(&'a self, namespace: Option<&'a Namespace>) -> &'a Settings {
        namespace.map_or(&self.settings, |other| &other.settings)
    }

    /// The same host as each network namespace that was seen has it, the reader's own
    /// first: with its settings, sockets and counters, and nothing of the others. What
    /// the whole kernel has once is the same in all. Files that set sysctls at boot set
    /// those of the host alone.
    pub fn by_namespace(&self) -> Vec<Self> {
        let own = Self {
            now: self.now.alone().into(),
            earlier: self.earlier.as_ref().map(|earlier| earlier.alone().into()),
            happened: self.happened_in(None),
            ..self.clone()
        };
        let others = self.now.elsewhere.iter().map(|other| {
            let earlier = self.earlier.as_ref().and_then(|earlier| {
                let mut others = earlier.elsewhere.iter();
                let same = others.find(|before| before.inode == other.inode);
                let look = match same {
                    Some(same) => Look::of_namespace(same, earlier.uptime),
                    // It was made while the host was watched, and counts from 0.
                    None if self.happened.is_some() => Look::of_nothing(earlier.uptime),
                    None => return None,
                };
                Some(look.into())
            });
            let mut settings = other.settings.clone();
            settings
                .fill_with_those_of_the_kernel(&self.settings, Release::of_kernel(&self.kernel));
            Self {
                kernel: self.kernel.clone(),
                boot_id: self.boot_id.clone(),
                hostname: self.hostname.clone(),
                taken_at: self.taken_at,
                ram_bytes: self.ram_bytes,
                page_bytes: self.page_bytes,
                cpus: self.cpus,
                memory: self.memory.clone(),
                files: self.files,
                settings,
                sysctl_files: SysctlFiles::default(),
                kernel_log: None,
                now: Look::of_namespace(other, self.now.uptime).into(),
                earlier,
                processes: self.processes.clone(),
                cgroups: BTreeMap::new(),
                cgroups_v1: Vec::new(),
                happened: self.happened_in(Some(other.inode)),
                unseen: Vec::new(),
                place: Some(other.place().named_by(&self.processes)),
                origin: self.origin,
            }
        });
        std::iter::once(own).chain(others).collect()
    }

    fn happened_in(&self, namespace: Option<u32>) -> Option<Shared<Happened>> {
        let happened = self.happened.as_ref()?;
        let others = self.now.elsewhere.iter().map(|other| other.inode);
        let others: Vec<u32> = others.collect();
        Some(happened.in_namespace(namespace, &others).into())
    }

    /// A command, to be run in the network namespace that these facts are of.
    pub fn command(&self, command: &str) -> String {
        match &self.place {
            Some(place) => place.command(command),
            None => command.to_owned(),
        }
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
    pub fn here(&self) -> NamespaceCounters<'_> {
        NamespaceCounters {
            namespace: None,
            now: &self.now.counters,
            earlier: self.earlier.as_ref().map(|earlier| &earlier.counters),
        }
    }

    /// Every network namespace that was seen, the reader's own first.
    pub fn places(&self) -> impl Iterator<Item = NamespaceCounters<'_>> {
        let others = self
            .now
            .elsewhere
            .iter()
            .map(|namespace| NamespaceCounters {
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

    /// What an answer can't do without and could not be seen. What only a window, an
    /// option or a later capture would have is not among it.
    pub fn out_of_sight(&self) -> Vec<OutOfSight> {
        let settings = &self.settings;
        [
            (OutOfSight::Orphans, settings.tcp_max_orphans.is_none()),
            (OutOfSight::TcpMem, settings.tcp_mem.is_none()),
            (
                OutOfSight::OthersSockets,
                self.now.sockets.is_none() || self.hides_sockets(),
            ),
            (
                OutOfSight::ManySockets,
                self.unseen.iter().any(Unseen::is_for_memory),
            ),
        ]
        .into_iter()
        .filter_map(|(what, is_hidden)| is_hidden.then_some(what))
        .collect()
    }

    /// Whether what could not be looked into hides sockets, or whose they are.
    fn hides_sockets(&self) -> bool {
        // The kernel counts neither TIME_WAIT nor requests, nor FIN_WAIT2 records.
        let is_allocated = |socket: &TcpSocket| match socket.state {
            TcpState::TimeWait | TcpState::SynRecv | TcpState::NewSynRecv => false,
            TcpState::FinWait2 => socket.inode != 0,
            _ => true,
        };
        let sockets = || self.now.every_socket().map(|(_, socket)| socket);
        let some_are_nobodys = sockets()
            .any(|socket| socket.inode != 0 && self.processes.holders_of(socket.inode).is_empty());
        let seen = sockets().filter(|socket| is_allocated(socket)).count();
        let more_than_seen = self
            .now
            .sockstat
            .get("TCP.alloc")
            .is_none_or(|allocated| usize::try_from(allocated).is_ok_and(|all| all > seen));
        self.unseen
            .iter()
            .any(|unseen| unseen.hides_sockets(some_are_nobodys, more_than_seen))
    }

    /// Why no more than the settings is known: a rule that looks at anything else can't
    /// tell. `None` where sockets or counters were seen.
    pub fn settings_only(&self) -> Option<String> {
        let blind =
            self.now.counters.names().next().is_none() || self.now.sockstat.iter().next().is_none();
        match self.origin {
            Origin::SysctlDump => {
                Some("a dump of settings has no sockets, no counters and no memory".to_owned())
            }
            Origin::Sosreport if blind => Some(
                "the sosreport has no proc/net/netstat, snmp and sockstat: make it with the \
                 plugin networking"
                    .to_owned(),
            ),
            Origin::OtherSchema(schema) if blind => Some(format!(
                "the capture is of schema {schema}, and its counters are not understood"
            )),
            _ => None,
        }
    }

    /// Since when the counters count, for people: a network namespace has its
    /// own, and only the initial one, by the settings that it alone has, is
    /// surely as old as the kernel's run.
    pub fn counters_begin(&self) -> &'static str {
        if self.place.is_none() && self.settings.tcp_max_orphans.is_some() {
            "since boot"
        } else {
            "since the network namespace was made"
        }
    }
}

/// The name of the host under `root`; `None` where it has none.
pub fn hostname(root: &Path) -> Result<Option<String>, FactError> {
    Ok(sysctl::read(root, "kernel.hostname")?.filter(|name| !name.is_empty()))
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
fn cpus(path: &Path, stat: &str) -> Result<u64, FactError> {
    let cpus = stat
        .lines()
        .filter_map(|line| line.strip_prefix("cpu"))
        .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        .count();
    match cpus {
        0 => Err(FactError::malformed(path, 1, "no line of a CPU")),
        cpus => Ok(cpus as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rights_and_the_namespace_hide_what_matters() {
        const DESCRIPTORS: &str = "the descriptors of 3 processes";
        const NAMESPACES: &str = "the network namespace of 1 process";
        const SOCKETS: &str = "the sockets of 2 other network namespaces";
        let mut facts = Facts::without_host("6.12", 1 << 30, 4096);
        facts.settings.tcp_max_orphans = Some(4096);
        facts.settings.tcp_mem = Some([1, 2, 3]);
        facts.now.sockets = Some(Shared::from(crate::SocketTable {
            all: Vec::new(),
            source: crate::SocketSource::SockDiag,
        }));
        let unseen = |what: &str| Unseen {
            what: what.to_owned(),
            why: "Permission denied".to_owned(),
        };
        facts.unseen = vec![unseen("the kernel's log"), unseen("the limits of cgroups")];
        assert_eq!(facts.out_of_sight(), []);
        // One socket that a process holds and one that nobody does, as far as is known;
        // and as many as the kernel has in all.
        let mut check = |held: bool, allocated: &str, hiding: &[&str]| {
            let proc = "sl local rem st tx:rx tr tm retr uid timeout inode\n0: 0100007F:1F90 \
                00000000:0000 0A 0:0 0:0 0 0 0 77 1 0 0\n";
            let mut listener = None;
            crate::proc_tcp::each(
                proc.as_bytes(),
                Path::new("tcp"),
                crate::sock_diag::Family::Inet,
                &mut |socket| listener = Some(socket),
            )
            .unwrap();
            facts.now.sockets = Some(Shared::from(crate::SocketTable {
                all: vec![listener.unwrap()],
                source: crate::SocketSource::SockDiag,
            }));
            let mut processes = Processes::default();
            if held {
                processes.all.push(crate::processes::Process::default());
                processes.holders.push(crate::processes::Holder {
                    inode: 77,
                    process: 0,
                    descriptor: 3,
                });
            }
            facts.processes = processes.into();
            facts.now.sockstat = {
                let text = format!("TCP: alloc {allocated}\n");
                Sockstat::parse(&text, Path::new("sockstat")).unwrap()
            };
            for what in [DESCRIPTORS, NAMESPACES, SOCKETS] {
                facts.unseen = vec![unseen(what)];
                let is_hidden = facts.out_of_sight() == [OutOfSight::OthersSockets];
                assert_eq!(is_hidden, hiding.contains(&what), "{what}, {allocated}");
            }
        };
        check(true, "1", &[SOCKETS]);
        check(true, "2", &[NAMESPACES, SOCKETS]);
        check(false, "1", &[DESCRIPTORS, SOCKETS]);
        facts.settings.tcp_mem = None;
        facts.unseen.clear();
        assert_eq!(facts.out_of_sight(), [OutOfSight::TcpMem]);
    }
}
