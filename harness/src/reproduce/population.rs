//! Who is on a host: its TCP sockets in classes, by the condition they are in, the way they
//! came about and who holds them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use advisor_facts::Facts;
use advisor_facts::condition::{Condition, still_ms};
use advisor_facts::look::Look;
use advisor_facts::sock_diag::{TcpSocket, TcpState};

/// How the sockets of a class came about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Way {
    /// Peers connected to this port.
    Inbound(u16),
    /// The host connected to a peer's port.
    Outbound(u16),
    /// The host connected to this port of its own.
    Loopback(u16),
}

impl Way {
    /// The port by which the connections are known.
    pub const fn port(self) -> u16 {
        match self {
            Self::Inbound(port) | Self::Outbound(port) | Self::Loopback(port) => port,
        }
    }

    /// In words.
    pub fn describe(self) -> String {
        match self {
            Self::Inbound(port) => format!("from peers to port {port}"),
            Self::Outbound(port) => format!("to port {port} of a peer"),
            Self::Loopback(port) => format!("to port {port} on loopback"),
        }
    }
}

/// Sockets that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Their condition.
    pub condition: Condition,
    /// How they came about.
    pub way: Way,
    /// The program that holds them; `None` where none does.
    pub holder: Option<String>,
    /// What the kernel holds for each, in bytes, the least first.
    pub held: Vec<u64>,
    /// How long each has been so, in milliseconds, the least first.
    pub ages: Vec<u64>,
    /// The remote addresses.
    pub addresses: usize,
}

impl Class {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.held.len() as u64
    }

    /// What the kernel holds for all, in bytes.
    pub fn bytes(&self) -> u64 {
        self.held.iter().sum()
    }

    /// How long half of them have been so.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.ages.get(self.ages.len() / 2).copied().unwrap_or(0))
    }

    /// How many come in a second, by their ages; `None` where the ages are all alike: then
    /// they came at once, or their age is not that of their condition.
    pub fn rate_by_age(&self) -> Option<f64> {
        let count = self.ages.len();
        let (young, middle) = (*self.ages.get(count / 10)?, *self.ages.get(count / 2)?);
        if count < 8 || middle == 0 || young * 3 > middle * 2 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        Some((count / 2) as f64 / (middle as f64 / 1000.0))
    }
}

/// A listener of the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// Its port.
    pub port: u16,
    /// The program that has it.
    pub holder: Option<String>,
    /// The length of its queue as asked for, at most somaxconn.
    pub backlog: u64,
    /// How many wait in it.
    pub queue: u64,
}

/// Everybody on a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Population {
    /// The classes, the longest in their condition first.
    pub classes: Vec<Class>,
    /// The listeners, by port.
    pub listeners: Vec<Listener>,
    /// By program: the descriptors that it may have.
    pub descriptor_limits: BTreeMap<String, u64>,
    /// What is left out, and why.
    pub left_out: Vec<String>,
}

/// More programs than this are not told apart.
const MOST_HOLDERS: usize = 8;
/// The name of those beyond.
const OTHERS: &str = "others";

impl Population {
    /// Of the sockets in a host's network namespaces; `None` where none were seen.
    pub fn of(facts: &Facts) -> Option<Self> {
        facts.now.sockets.as_ref()?;
        let sockets: Vec<&TcpSocket> = facts.now.every_socket().map(|(_, one)| one).collect();
        let names = holders(facts, &sockets);
        let holder = |socket: &TcpSocket| {
            let process = facts.processes.of(socket.inode).next()?;
            Some(
                names
                    .get(&process.name)
                    .cloned()
                    .unwrap_or(OTHERS.to_owned()),
            )
        };
        let mut population = Self::default();
        for process in &facts.processes.all {
            if let (Some(name), Some(limit)) = (names.get(&process.name), process.descriptor_limit)
            {
                let known = population.descriptor_limits.entry(name.clone());
                let known = known.or_insert(limit);
                *known = (*known).min(limit);
            }
        }
        let ways = Ways::of(&sockets);
        let mut classes: BTreeMap<(Condition, Way, Option<String>), Class> = BTreeMap::new();
        let mut remotes: BTreeMap<(Condition, Way, Option<String>), BTreeSet<IpAddr>> =
            BTreeMap::new();
        let mut left_out: BTreeMap<Condition, u64> = BTreeMap::new();
        for socket in &sockets {
            let condition = Condition::of(socket);
            if condition == Condition::Listener {
                let port = socket.local.port();
                let listener = Listener {
                    port,
                    holder: holder(socket),
                    backlog: u64::from(socket.send_queue_bytes),
                    queue: u64::from(socket.recv_queue_bytes),
                };
                // Of several on a port (SO_REUSEPORT) the fullest one tells.
                let mut known = population.listeners.iter_mut();
                match known.find(|known| known.port == port) {
                    Some(known) if known.queue < listener.queue => *known = listener,
                    Some(_) => {}
                    None => population.listeners.push(listener),
                }
                continue;
            }
            if !can_be_made(condition) || is_small_record(socket) {
                *left_out.entry(condition).or_default() += 1;
                continue;
            }
            let way = ways.of_socket(socket);
            // The other end of a loopback connection is made with it.
            if matches!(way, Way::Loopback(port) if socket.local.port() == port) {
                continue;
            }
            let key = (condition, way, holder(socket));
            let addresses = remotes.entry(key.clone()).or_default();
            addresses.insert(socket.peer.ip());
            let class = classes.entry(key.clone()).or_insert_with(|| Class {
                condition,
                way,
                holder: key.2,
                held: Vec::new(),
                ages: Vec::new(),
                addresses: 0,
            });
            class.addresses = addresses.len();
            class.held.push(socket.held_bytes());
            class.ages.push(age_ms(condition, socket));
        }
        population.listeners.sort_by_key(|listener| listener.port);
        population.left_out = left_out
            .into_iter()
            .map(|(condition, count)| format!("{count} {condition}"))
            .collect();
        population.classes = classes.into_values().collect();
        for class in &mut population.classes {
            class.held.sort_unstable();
            class.ages.sort_unstable();
        }
        let age = |class: &Class| std::cmp::Reverse((class.age(), class.count()));
        population.classes.sort_by_key(age);
        Some(population)
    }

    /// Connections, and orphans.
    pub fn sockets(&self) -> u64 {
        let is_socket = |class: &&Class| class.condition != Condition::TimeWait;
        self.classes
            .iter()
            .filter(is_socket)
            .map(Class::count)
            .sum()
    }

    /// Records of `TIME_WAIT`.
    pub fn records(&self) -> u64 {
        self.of_condition(|condition| condition == Condition::TimeWait)
    }

    /// How many are in such a condition.
    pub fn of_condition(&self, wanted: impl Fn(Condition) -> bool) -> u64 {
        let classes = self.classes.iter().filter(|class| wanted(class.condition));
        classes.map(Class::count).sum()
    }
}

/// How long an orphan lives by default, in seconds: one whose peer is silent, and one at a
/// closed window (measured; docs/calibration.md).
pub fn life_s(condition: Condition) -> Option<f64> {
    match condition {
        Condition::OrphanDead => Some(109.0),
        Condition::OrphanZeroWindow => Some(347.0),
        _ => None,
    }
}

/// How fast sockets in a condition grew in number in the window of two looks, a second.
pub fn growth(facts: &Facts, wanted: impl Fn(Condition) -> bool) -> Option<f64> {
    let (window, earlier) = facts.window()?;
    let count = |look: &Look| {
        let sockets = look.every_socket();
        sockets
            .filter(|(_, socket)| wanted(Condition::of(socket)))
            .count()
    };
    // An earlier look keeps some kinds only.
    let before = count(earlier);
    if before == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let grown = count(&facts.now) as f64 - before as f64;
    Some(grown / window.as_secs_f64())
}

/// The programs, by the name of the process, as actors are called.
fn holders(facts: &Facts, sockets: &[&TcpSocket]) -> BTreeMap<String, String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for socket in sockets {
        if let Some(process) = facts.processes.of(socket.inode).next() {
            *counts.entry(&process.name).or_default() += 1;
        }
    }
    let mut by_count: Vec<(&str, usize)> = counts.into_iter().collect();
    by_count.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let mut names = BTreeMap::new();
    for (name, _) in by_count.into_iter().take(MOST_HOLDERS) {
        let plain = actor_name(name);
        let taken = names
            .values()
            .filter(|known: &&String| known.starts_with(&plain));
        let number = taken.count();
        let own = if number == 0 {
            plain
        } else {
            format!("{plain}-{number}")
        };
        names.insert(name.to_owned(), own);
    }
    names
}

/// A name that an actor can have.
fn actor_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let plain: String = lower.chars().map(fits).collect();
    let plain = plain.trim_matches('-');
    match plain {
        "" => "program".to_owned(),
        // Names that the reproduction or the language has already.
        "host" | "remote" | "internet" | "bystander" | "kernel" | "lab" | "router" | "others"
        | "nobody" | "caller" | "successor" | "service" | "leaver" | "patience" | "backend" => {
            format!("{plain}-program")
        }
        _ => plain.to_owned(),
    }
}

/// Which ways the connections of a host came about.
struct Ways {
    listening: BTreeSet<u16>,
    own: BTreeSet<IpAddr>,
    /// Ports of the host that several peers lead to: a server's.
    shared: BTreeSet<u16>,
}

impl Ways {
    fn of(sockets: &[&TcpSocket]) -> Self {
        let mut by_port: BTreeMap<u16, BTreeSet<SocketAddr>> = BTreeMap::new();
        let mut ways = Self {
            listening: BTreeSet::new(),
            own: BTreeSet::new(),
            shared: BTreeSet::new(),
        };
        for socket in sockets {
            ways.own.insert(socket.local.ip().to_canonical());
            let port = socket.local.port();
            if socket.state == TcpState::Listen {
                ways.listening.insert(port);
            } else {
                by_port.entry(port).or_default().insert(socket.peer);
            }
        }
        let several = by_port.into_iter().filter(|(_, peers)| peers.len() > 1);
        ways.shared = several.map(|(port, _)| port).collect();
        ways
    }

    fn of_socket(&self, socket: &TcpSocket) -> Way {
        let peer = socket.peer.ip().to_canonical();
        let (local, remote) = (socket.local.port(), socket.peer.port());
        let is_server = |port| self.listening.contains(&port) || self.shared.contains(&port);
        if peer.is_loopback() || self.own.contains(&peer) {
            return Way::Loopback(if is_server(local) { local } else { remote });
        }
        if is_server(local) {
            Way::Inbound(local)
        } else {
            Way::Outbound(remote)
        }
    }
}

/// Whether a reproduction makes sockets in such a condition.
const fn can_be_made(condition: Condition) -> bool {
    !matches!(
        condition,
        Condition::Listener
            | Condition::Request
            | Condition::Connecting
            | Condition::Unconnected
            | Condition::Unknown
            | Condition::Orphan
    )
}

/// The small record of FIN_WAIT2.
fn is_small_record(socket: &TcpSocket) -> bool {
    Condition::of(socket) == Condition::TimeWait && socket.state != TcpState::TimeWait
}

/// How long a socket has been in its condition, in milliseconds.
fn age_ms(condition: Condition, socket: &TcpSocket) -> u64 {
    let Some(info) = &socket.info else { return 0 };
    let ms = match condition {
        Condition::Unread | Condition::NotAccepted => info.last_data_recv_ms(),
        Condition::ZeroWindow | Condition::OrphanZeroWindow | Condition::Slow => {
            info.last_data_sent_ms()
        }
        Condition::Idle => still_ms(socket),
        Condition::Healthy | Condition::TimeWait => None,
        _ => info.last_ack_recv_ms(),
    };
    u64::from(ms.unwrap_or(0))
}
