//! Which program holds sockets, or held them, for rules that advise programs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use advisor_facts::namespaces::Namespace;
use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_facts::{Facts, Look, SocketSource};

use super::Outcome;

/// Sockets of one program.
pub(super) struct Program<'a> {
    /// The name for people: `nginx (1234)`, else a description by its ports.
    pub(super) name: String,
    /// The network namespace that the sockets are in; `None` is the reader's own.
    pub(super) namespace: Option<&'a Namespace>,
    /// The sockets, the one that holds most first.
    pub(super) sockets: Vec<&'a TcpSocket>,
    /// The memory that the kernel holds for them, in bytes.
    pub(super) bytes: u64,
}

impl Program<'_> {
    /// A command that looks at these sockets, to be run where they are.
    pub(super) fn command(&self, command: &str) -> String {
        command_in(self.namespace, command)
    }
}

/// A command to be run in a network namespace.
pub(super) fn command_in(namespace: Option<&Namespace>, command: &str) -> String {
    match namespace {
        None => command.to_owned(),
        Some(namespace) => namespace.place().command(command),
    }
}

/// By what sockets are put together.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    /// The process that holds them.
    Process(u32),
    /// The network namespace and the port of the listener that made them: no process
    /// holds them.
    Listener(Option<u32>, u16),
    /// The network namespace: it is not known who holds them, or held them.
    Unknown(Option<u32>, bool),
}

/// The programs that hold the sockets for which `wanted` is true, in whatever network
/// namespace; the one for which most is held first. Orphans, and what waits for accept(),
/// go to the program that listens on their port.
pub(super) fn by_program(facts: &Facts, wanted: impl Fn(&TcpSocket) -> bool) -> Vec<Program<'_>> {
    type Sockets<'a> = (Option<&'a Namespace>, Vec<&'a TcpSocket>);
    let mut programs: BTreeMap<Key, Sockets<'_>> = BTreeMap::new();
    let mut listeners: Option<HashMap<Port, u32>> = None;
    for (namespace, socket) in facts.now.every_socket() {
        if !wanted(socket) {
            continue;
        }
        let inode = namespace.map(|other| other.inode);
        let key = if let Some(holder) = facts.processes.holders_of(socket.inode).first() {
            Key::Process(holder.process)
        } else if socket.inode == 0 {
            let port = (inode, socket.local.port());
            let listeners = listeners.get_or_insert_with(|| listeners_of(&facts.now));
            if listeners.contains_key(&port) {
                Key::Listener(port.0, port.1)
            } else {
                Key::Unknown(inode, true)
            }
        } else {
            Key::Unknown(inode, false)
        };
        programs
            .entry(key)
            .or_insert_with(|| (namespace, Vec::new()))
            .1
            .push(socket);
    }
    let mut programs: Vec<_> = programs
        .into_iter()
        .map(|(key, (namespace, mut sockets))| {
            sockets.sort_by_key(|socket| Reverse(socket.held_bytes()));
            let name = match key {
                Key::Process(process) => process_name(facts, process),
                Key::Listener(inode, port) => {
                    listener_name(facts, (inode, port), listeners.as_ref())
                }
                Key::Unknown(_, true) => "a program that has closed them".to_owned(),
                Key::Unknown(_, false) => name(facts, &sockets),
            };
            let name = match namespace {
                Some(other) if !matches!(key, Key::Process(_)) => {
                    format!("{name}, in {}", other.label())
                }
                _ => name,
            };
            Program {
                name,
                namespace,
                bytes: sockets.iter().map(|socket| socket.held_bytes()).sum(),
                sockets,
            }
        })
        .collect();
    programs.sort_by_key(|program| Reverse(program.bytes));
    programs
}

/// A port of a network namespace.
type Port = (Option<u32>, u16);

/// The ports that are listened on, each with the inode of a listener.
fn listeners_of(look: &Look) -> HashMap<Port, u32> {
    look.every_socket()
        .filter(|(_, socket)| socket.state == TcpState::Listen)
        .map(|(namespace, socket)| {
            let inode = namespace.map(|other| other.inode);
            ((inode, socket.local.port()), socket.inode)
        })
        .collect()
}

/// The program that listens on a port.
fn listener_name(facts: &Facts, port: Port, listeners: Option<&HashMap<Port, u32>>) -> String {
    let inode = listeners.and_then(|listeners| listeners.get(&port));
    let holder = inode.and_then(|inode| facts.processes.holders_of(*inode).first());
    match holder {
        Some(holder) => process_name(facts, holder.process),
        None => format!("the program that listens on port {}", port.1),
    }
}

/// On which side of a connection the program here is, in one network namespace.
pub(super) struct Sides {
    listening: HashSet<u16>,
    /// Ports of servers that are gone.
    served: HashSet<u16>,
}

/// A local port with fewer connections than this may be a client's.
const FEWEST_OF_A_SERVER: usize = 8;
/// connect() spreads connections over its range. A port with so many times its share was
/// a server's.
const SHARES_OF_A_SERVER: usize = 4;

impl Sides {
    /// By the listeners of a network namespace, and by ports with far more connections
    /// than connect() would have put there.
    pub(super) fn of(facts: &Facts) -> Self {
        let mut listening = HashSet::new();
        let mut of_port: HashMap<u16, usize> = HashMap::new();
        let mut connections = 0;
        for socket in facts.now.sockets.iter().flat_map(|sockets| &sockets.all) {
            let port = socket.local.port();
            if socket.state == TcpState::Listen {
                listening.insert(port);
            } else {
                connections += 1;
                *of_port.entry(port).or_default() += 1;
            }
        }
        let range = facts.settings.ip_local_port_range;
        let size = range.map_or(1, |[first, last]| {
            usize::from(last.saturating_sub(first)) + 1
        });
        let share = connections / size;
        let served = of_port
            .into_iter()
            .filter(|(_, count)| {
                *count >= FEWEST_OF_A_SERVER && *count > share * SHARES_OF_A_SERVER
            })
            .map(|(port, _)| port)
            .collect();
        Self { listening, served }
    }

    /// Whether the program connected, rather than accepted: nobody listens on the port,
    /// and connect() would have taken it.
    pub(super) fn is_client(&self, facts: &Facts, socket: &TcpSocket) -> bool {
        let port = socket.local.port();
        let range = facts.settings.ip_local_port_range;
        let may_be = range.is_none_or(|[first, last]| (first..=last).contains(&port));
        may_be && !self.listening.contains(&port) && !self.served.contains(&port)
    }

    /// Whether somebody listens on the port.
    pub(super) fn is_listened_on(&self, port: u16) -> bool {
        self.listening.contains(&port)
    }
}

/// The program that holds these sockets.
pub(super) fn name(facts: &Facts, sockets: &[&TcpSocket]) -> String {
    let Some(first) = sockets.first() else {
        return "no program".to_owned();
    };
    if let Some(holder) = facts.processes.holders_of(first.inode).first() {
        return process_name(facts, holder.process);
    }
    let port = first.local.port();
    if sockets.iter().all(|socket| socket.local.port() == port) {
        return format!("the program on local port {port}");
    }
    let peer = first.peer.port();
    if sockets.iter().all(|socket| socket.peer.port() == peer) {
        return format!("the program connected to port {peer}");
    }
    "the programs that hold these connections".to_owned()
}

/// The answer of a rule that needs tcp_info, if there is none: /proc/net/tcp has too
/// little of it.
pub(super) fn without_tcp_info(facts: &Facts) -> Option<Outcome> {
    let mut sockets = facts.now.sockets.iter();
    let has_it = sockets.any(|sockets| sockets.source == SocketSource::SockDiag);
    (!has_it)
        .then(|| Outcome::NotEvaluated("needs tcp_info, which only sock_diag gives".to_owned()))
}

/// The name of a process for people, by its index in `Processes::all`.
pub(super) fn process_name(facts: &Facts, place: u32) -> String {
    let Some(process) = facts.processes.all.get(place as usize) else {
        return "an unknown process".to_owned();
    };
    process.to_string()
}

/// Whether a text has the number of a process, by which one finds it in whatever
/// namespace: `nginx (31)`.
pub(super) fn names_a_process(text: &str) -> bool {
    text.split('(')
        .skip(1)
        .any(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// The memory from which sockets are worth a change, in bytes: a sixteenth of the pressure
/// mark of tcp_mem, or 64 MiB if that cannot be read.
pub(super) fn worth_bytes(facts: &Facts) -> u64 {
    facts.settings.tcp_mem.map_or(64 << 20, |[_, pressure, _]| {
        pressure.saturating_mul(facts.page_bytes) / 16
    })
}

/// An IPv4 address in an IPv6 socket, as people write it.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `1 connection`, `2 connections`.
pub(super) fn connections(count: usize) -> String {
    match count {
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    }
}
