//! What the tests of the rules share: recorded hosts, and what a rule makes of one.

use std::path::Path;

use advisor_facts::counters::Counters;
use advisor_facts::memory::{Memory, Zones};
use advisor_facts::namespaces::Namespace;
use advisor_facts::processes::{Holder, Process};
use advisor_facts::release::Release;
use advisor_facts::sock_diag::{Family, SocketMemory, TcpInfo, TcpSocket, TcpState, Timer};
use advisor_facts::sockstat::Sockstat;
use advisor_facts::sysctl::table;
use advisor_facts::sysctl_files::{self, SysctlFile, SysctlFiles};
use advisor_facts::{Facts, Look, Root, Settings, SocketSource, SocketTable};
use advisor_report::measured::Measured;

use super::{Finding, Outcome, Rule, grouped};

/// A recorded host of `tests/hosts`. A test may change one, mostly `quiet`, into the host
/// that it needs.
pub(crate) fn host(name: &str) -> Facts {
    let directory = crate::recorded::directory(name);
    Facts::read(&Root::Recorded(directory.path().to_owned())).unwrap()
}

/// What a rule makes of a host of whose kernel nothing was measured.
pub(super) fn outcome(rule: &Rule, facts: &Facts) -> Outcome {
    outcome_with(rule, facts, &Measured::default())
}

/// What a rule makes of all network namespaces of a host, as the plan tells it.
fn outcome_with(rule: &Rule, facts: &Facts, measured: &Measured) -> Outcome {
    match rule.judge(facts, &facts.by_namespace(), measured) {
        Outcome::Fired(placed) => Outcome::Fired(
            grouped(placed, |placed| placed)
                .into_iter()
                .map(|(placed, others)| placed.named(&others))
                .collect(),
        ),
        Outcome::Quiet(why) => Outcome::Quiet(why),
        Outcome::NotEvaluated(why) => Outcome::NotEvaluated(why),
    }
}

/// What a rule finds on a host where it has to find something.
#[track_caller]
pub(super) fn fired(rule: &Rule, facts: &Facts) -> Vec<Finding> {
    fired_with(rule, facts, &Measured::default())
}

/// The same where something was measured on the kernel of the host.
#[track_caller]
pub(super) fn fired_with(rule: &Rule, facts: &Facts, measured: &Measured) -> Vec<Finding> {
    match outcome_with(rule, facts, measured) {
        Outcome::Fired(findings) => findings,
        other => panic!("{}: {other:?}", rule.name),
    }
}

#[track_caller]
pub(super) fn assert_quiet(rule: &Rule, facts: &Facts) {
    let outcome = outcome(rule, facts);
    assert!(
        matches!(outcome, Outcome::Quiet(_)),
        "{}: {outcome:?}",
        rule.name
    );
}

#[track_caller]
pub(super) fn assert_not_evaluated(rule: &Rule, facts: &Facts, why: &str) {
    match outcome(rule, facts) {
        Outcome::NotEvaluated(reason) => assert!(reason.contains(why), "{}: {reason}", rule.name),
        other => panic!("{}: {other:?}", rule.name),
    }
}

/// The text of /proc/net/sockstat.
pub(super) fn sockstat(text: &str) -> Sockstat {
    Sockstat::parse(text, Path::new("sockstat")).unwrap()
}

/// The text of /proc/net/netstat and /proc/net/snmp.
pub(super) fn counters(text: &str) -> Counters {
    Counters::parse(text, Path::new("counters")).unwrap()
}

/// Sets a setting of a host.
#[track_caller]
pub(super) fn set(facts: &mut Facts, name: &str, value: &str) {
    assert!(facts.settings.set(name, value), "{name} = {value}");
}

/// Adds a file that sets sysctls, and reads the live values of its keys from the settings.
pub(super) fn with_file(facts: &mut Facts, path: &str, text: &str) {
    facts.sysctl_files.files.push(SysctlFile {
        path: path.into(),
        lines: sysctl_files::parse(text.as_bytes()),
        ..SysctlFile::default()
    });
    for key in facts.sysctl_files.keys() {
        let live = facts.settings.get(&key);
        facts.sysctl_files.live.insert(key, live);
    }
}

/// Adds a network namespace whose counters of TcpExt have grown from 0 by
/// these between the two looks, and which has the sockets of this one.
pub(super) fn add_namespace(facts: &mut Facts, inode: u32, grown: &[(&str, i64)]) {
    let all = |factor: i64| {
        let (names, values): (Vec<_>, Vec<_>) = grown
            .iter()
            .map(|(name, grown)| (*name, (factor * grown).to_string()))
            .unzip();
        counters(&format!(
            "TcpExt: {}\nTcpExt: {}\n",
            names.join(" "),
            values.join(" ")
        ))
    };
    let namespace = |factor, look: &Look| Namespace {
        inode,
        name: Some(format!("pod-{inode}")),
        pid: None,
        kept_by: None,
        sockstat: look.sockstat.clone(),
        counters: all(factor),
        sockets: look.sockets.clone(),
        settings: facts.settings.clone(),
    };
    let now = namespace(1, &facts.now);
    let earlier = facts.earlier.as_mut().unwrap();
    let before = Namespace {
        counters: all(0),
        ..now.clone()
    };
    earlier.elsewhere.push(before);
    facts.now.elsewhere.push(now);
}

/// A host with so much RAM and the kernel's own marks of tcp_mem, without sockets, files
/// of settings and an earlier look.
pub(super) fn bare_host(ram_bytes: u64) -> Facts {
    let mut facts = host("quiet");
    let pages = ram_bytes / facts.page_bytes;
    let free_buffer_pages = pages / 1000 * 997;
    facts.ram_bytes = ram_bytes;
    facts.memory = Memory {
        total_bytes: ram_bytes,
        available_bytes: Some(ram_bytes / 10 * 8),
        owned_bytes: None,
        zones: Some(Zones {
            managed_pages: pages,
            free_buffer_pages,
        }),
    };
    let pressure = (free_buffer_pages / 16).max(128);
    let low = pressure / 4 * 3;
    facts.settings.tcp_mem = Some([low, pressure, low * 2]);
    facts.sysctl_files = SysctlFiles::default();
    facts.cgroups.clear();
    facts.earlier = None;
    facts.processes.all.clear();
    facts.processes.holders.clear();
    facts.now.sockets = Some(no_sockets().into());
    facts
}

/// A table of sockets that has none.
fn no_sockets() -> SocketTable {
    SocketTable {
        all: Vec::new(),
        source: SocketSource::SockDiag,
    }
}

/// Adds sockets to the reader's own network namespace.
pub(super) fn add_sockets(facts: &mut Facts, sockets: impl IntoIterator<Item = TcpSocket>) {
    facts.now.sockets.as_mut().unwrap().all.extend(sockets);
}

/// Puts the sockets of the reader's own network namespace into another one, of process
/// `pid`.
pub(super) fn move_to_namespace(facts: &mut Facts, inode: u32, pid: u32) {
    let sockets = facts.now.sockets.replace(no_sockets().into());
    let moved = Namespace {
        inode,
        name: None,
        pid: Some(pid),
        kept_by: None,
        sockstat: Sockstat::default(),
        counters: facts.now.counters.clone(),
        sockets,
        settings: facts.settings.clone(),
    };
    facts.now.elsewhere.push(moved);
}

/// The same host where all that a network namespace has is in one of process 4242: the
/// settings, the sockets and the counters. The reader's own is as `quiet` has it.
pub(crate) fn moved_to_namespace(facts: &Facts) -> Facts {
    const INODE: u32 = 4_026_532_177;
    let quiet = host("quiet");
    let namespace = |look: &Look| Namespace {
        inode: INODE,
        name: None,
        pid: Some(4242),
        kept_by: None,
        sockstat: look.sockstat.clone(),
        counters: look.counters.clone(),
        sockets: look.sockets.clone(),
        settings: facts.settings.clone(),
    };
    let mut moved = facts.clone();
    let release = Release::of_kernel(&facts.kernel);
    for name in Settings::NAMES {
        let is_of_the_kernel =
            table::find(name).is_some_and(|setting| setting.is_of_the_kernel(release));
        if !is_of_the_kernel && let Some(value) = quiet.settings.get(name) {
            moved.settings.set(name, &value);
        }
    }
    let quiet_counters = |look: &mut Look, there: &Look| {
        look.elsewhere = vec![namespace(there)];
        look.counters = quiet.now.counters.clone();
        if look.sockets.is_some() {
            look.sockets = Some(no_sockets().into());
        }
    };
    quiet_counters(&mut moved.now, &facts.now);
    if let (Some(look), Some(there)) = (&mut moved.earlier, &facts.earlier) {
        quiet_counters(look, there);
    }
    moved
}

/// Adds a process that holds these sockets.
pub(super) fn add_process(
    facts: &mut Facts,
    (pid, name): (u32, &str),
    container: Option<&str>,
    inodes: impl IntoIterator<Item = u32>,
) {
    let process = u32::try_from(facts.processes.all.len()).unwrap();
    facts.processes.all.push(Process {
        pid,
        name: name.to_owned(),
        container: container.map(str::to_owned),
        ..Process::default()
    });
    facts.processes.holders.extend(
        inodes
            .into_iter()
            .zip(3..)
            .map(|(inode, descriptor)| Holder {
                inode,
                process,
                descriptor,
            }),
    );
    facts.processes.holders.sort();
}

/// A socket that a test describes.
pub(super) struct Described(TcpSocket);

/// A connection in which nothing is wrong: data moved 100 ms ago, none waits, and no
/// process holds it.
pub(super) fn socket(state: TcpState, local: &str, peer: &str) -> Described {
    let mut info = TcpInfo::decode(&[0; 248]);
    for (name, value) in [
        ("rto", 204_000),
        ("rtt", 20_000),
        ("snd_mss", 1448),
        ("snd_wnd", 65_535),
        ("delivery_rate", 12_500_000),
        ("last_data_sent", 100),
        ("last_data_recv", 100),
        ("last_ack_recv", 100),
        ("bytes_acked", 1000),
        ("bytes_received", 1000),
    ] {
        assert!(info.set(name, value), "{name}");
    }
    let (local, peer): (std::net::SocketAddr, std::net::SocketAddr) =
        (local.parse().unwrap(), peer.parse().unwrap());
    let mut cookie = [0; 8];
    cookie[..2].copy_from_slice(&local.port().to_ne_bytes());
    cookie[2..4].copy_from_slice(&peer.port().to_ne_bytes());
    Described(TcpSocket {
        family: if local.is_ipv4() {
            Family::Inet
        } else {
            Family::Inet6
        },
        state,
        local,
        peer,
        timer: Timer::Off,
        retransmits: 0,
        timer_ms: 0,
        recv_queue_bytes: 0,
        send_queue_bytes: 0,
        uid: 0,
        inode: 0,
        interface: 0,
        cookie,
        info: Some(info),
        memory: Some(SocketMemory::default()),
        cgroup: None,
        options: None,
    })
}

impl Described {
    /// A process holds it by this inode.
    pub(super) fn held_by(mut self, inode: u32) -> Self {
        self.0.inode = inode;
        self
    }

    /// A value of tcp_info.
    #[track_caller]
    pub(super) fn info(mut self, name: &str, value: u64) -> Self {
        assert!(self.0.info.as_mut().unwrap().set(name, value), "{name}");
        self
    }

    /// The timer that runs.
    pub(super) fn timer(mut self, timer: Timer, ms: u32) -> Self {
        (self.0.timer, self.0.timer_ms) = (timer, ms);
        self
    }

    /// So much data is to be sent, in so much memory.
    pub(super) fn sending(mut self, queue_bytes: u32, held_bytes: u32) -> Self {
        self.0.send_queue_bytes = queue_bytes;
        self.0.memory.as_mut().unwrap().send_queued_bytes = held_bytes;
        self
    }

    /// So much data is unread, in so much memory.
    pub(super) fn unread(mut self, queue_bytes: u32, held_bytes: u32) -> Self {
        self.0.recv_queue_bytes = queue_bytes;
        self.0.memory.as_mut().unwrap().recv_alloc_bytes = held_bytes;
        self
    }

    /// No data has moved, and nothing was heard, for so long.
    pub(super) fn still_for(self, ms: u64) -> Self {
        self.info("last_data_sent", ms)
            .info("last_data_recv", ms)
            .info("last_ack_recv", ms)
    }

    /// The peer is silent for so long, with data unacknowledged.
    pub(super) fn dead_for(self, ms: u64) -> Self {
        self.still_for(ms)
            .info("backoff", 10)
            .info("unacked", 1)
            .timer(Timer::Retransmit, 90_000)
    }

    /// The peer answers probes and does not read.
    pub(super) fn at_a_closed_window(self) -> Self {
        self.info("snd_wnd", 0)
            .info("backoff", 7)
            .info("last_ack_recv", 4_000)
            .info("last_data_sent", 400_000)
            .info("last_data_recv", 400_000)
            .timer(Timer::Probe, 50_000)
    }

    /// The socket.
    pub(super) fn done(self) -> TcpSocket {
        self.0
    }
}
