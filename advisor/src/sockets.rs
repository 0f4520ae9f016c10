//! Who holds the memory of a host's TCP sockets.
//!
//! The sockets are looked at one after the other and not held: one for each kind of
//! those that are alike, or a sum for each process, container, peer or state, is all
//! that is kept.

mod alike;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use clap::ValueEnum;

use advisor_facts::clock::Moment;
use advisor_facts::condition::{Condition, ConditionSums, Sum};
use advisor_facts::facts::hostname;
use advisor_facts::look::{look_elsewhere, recorded_namespaces};
use advisor_facts::namespaces::{Door, doors, hidden_doors};
use advisor_facts::processes::{Inodes, Process, Processes};
use advisor_facts::read::check;
use advisor_facts::sock_diag::{Gather, TcpSocket, TcpState};
use advisor_facts::sockets::{gather_live, gather_recorded};
use advisor_facts::{FactError, Facts, Looking, Root, SocketSource, Unseen};

use alike::Kinds;

/// What sockets are put together by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum By {
    /// Those that are alike together: of one condition, state, server and cgroup
    Memory,
    /// By the process that holds them
    Process,
    /// By the container of the process that holds them
    Container,
    /// By the peer's address
    Peer,
    /// By the state of TCP
    State,
}

impl By {
    /// Its word on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Container => "container",
            Self::Peer => "peer",
            Self::State => "state",
        }
    }
}

/// What sockets are put together under.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Key {
    Process(u32),
    /// The container of this process and of others.
    Container(u32),
    NoContainer,
    Orphans,
    Waiting,
    Records,
    Unknown,
    Peer(IpAddr),
    State(TcpState),
}

/// So many groups are told apart; with more, the smallest are given up.
const GROUPS: usize = 1 << 14;

/// A socket of which only the holder is still to be found.
#[derive(Clone, Copy)]
struct Held {
    inode: u32,
    condition: Condition,
    bytes: u64,
}

/// What is gathered of sockets that pass by.
#[derive(Default)]
struct Gathered {
    total: ConditionSums,
    groups: HashMap<Key, ConditionSums>,
    /// The most that a group of those that were given up held, summed over the
    /// times: by so much a figure may be too low.
    given_up_bytes: u64,
    kinds: Kinds,
    /// Sockets that some process holds, where they are put together by process:
    /// which one is found at the same time, and told at the end.
    held: Vec<Held>,
    /// How many network namespaces were looked at.
    namespaces: usize,
    /// Where the sockets of the first of them were read; `None` where they could
    /// not be seen.
    source: Option<SocketSource>,
}

impl Gathered {
    /// What was gathered in one namespace.
    fn of(gathered: Option<(Self, SocketSource)>) -> Self {
        let (gathered, source) = match gathered {
            Some((gathered, source)) => (gathered, Some(source)),
            None => (Self::default(), None),
        };
        Self {
            namespaces: 1,
            source,
            ..gathered
        }
    }

    /// The inodes of the sockets that are shown.
    fn inodes(&self) -> Inodes {
        Inodes::new(self.kinds.largest().map(|socket| socket.inode))
    }

    /// Counts a socket.
    fn add(&mut self, question: Question, socket: TcpSocket, namespace: Option<u32>) {
        let bytes = socket.held_bytes();
        let condition = Condition::of(&socket);
        self.total.count(condition, bytes);
        let key = match question.by {
            By::Memory => {
                self.kinds.add(socket, namespace, question.top);
                return;
            }
            By::Process | By::Container if socket.inode != 0 => {
                self.held.push(Held {
                    inode: socket.inode,
                    condition,
                    bytes,
                });
                return;
            }
            By::Process | By::Container if socket.is_orphan() => Key::Orphans,
            By::Process | By::Container if socket.waits_for_accept() => Key::Waiting,
            By::Process | By::Container => Key::Records,
            By::Peer => Key::Peer(socket.peer.ip().to_canonical()),
            By::State => Key::State(socket.state),
        };
        self.count(key, condition, bytes);
    }

    fn count(&mut self, key: Key, condition: Condition, bytes: u64) {
        self.groups.entry(key).or_default().count(condition, bytes);
        if self.groups.len() > GROUPS {
            self.give_up_smallest();
        }
    }

    /// Puts the sockets that processes hold together under these, or under their
    /// containers.
    fn hand_to(&mut self, processes: &Processes, by: By) {
        let containers = Containers::of(processes);
        for held in std::mem::take(&mut self.held) {
            let key = match processes.holders_of(held.inode).first() {
                Some(holder) if by == By::Container => containers.key(holder.process),
                Some(holder) => Key::Process(holder.process),
                None => Key::Unknown,
            };
            self.count(key, held.condition, held.bytes);
        }
    }

    /// Gives up the smaller half of the groups.
    fn give_up_smallest(&mut self) {
        let mut held: Vec<u64> = self
            .groups
            .values()
            .map(|sums| sums.total().bytes)
            .collect();
        held.sort_unstable();
        let least = held[held.len() / 2];
        let mut kept = GROUPS / 2;
        let mut given_up = 0;
        self.groups.retain(|_, sums| {
            let bytes = sums.total().bytes;
            // Of those that hold the same, as many as have room.
            let keep = bytes > least || bytes == least && kept > 0;
            if keep {
                kept = kept.saturating_sub(1);
            } else {
                given_up = given_up.max(bytes);
            }
            keep
        });
        self.given_up_bytes += given_up;
    }
}

/// In which container each process is.
struct Containers {
    /// For each process the first one of the same container.
    firsts: Vec<Option<u32>>,
}

impl Containers {
    fn of(processes: &Processes) -> Self {
        let mut of_name: HashMap<&str, u32> = HashMap::new();
        let firsts = (0..).zip(&processes.all).map(|(index, process)| {
            let name = process.container.as_deref()?;
            Some(*of_name.entry(name).or_insert(index))
        });
        Self {
            firsts: firsts.collect(),
        }
    }

    fn key(&self, process: u32) -> Key {
        match self.firsts.get(process as usize) {
            Some(Some(first)) => Key::Container(*first),
            Some(None) => Key::NoContainer,
            None => Key::Unknown,
        }
    }
}

impl Gather for Gathered {
    fn absorb(&mut self, other: Self) {
        self.total.add(&other.total);
        self.given_up_bytes += other.given_up_bytes;
        for (key, sums) in other.groups {
            self.groups.entry(key).or_default().add(&sums);
        }
        while self.groups.len() > GROUPS {
            self.give_up_smallest();
        }
        self.kinds.absorb(other.kinds);
        self.held.absorb(other.held);
        self.namespaces += other.namespaces;
    }
}

/// What the sockets of a host hold.
#[derive(Debug)]
pub struct Survey {
    /// The name of the host; `None` where it is not known.
    pub hostname: Option<String>,
    /// When it was looked at; `None` where that is not known.
    pub taken_at: Option<Moment>,
    /// What they were put together by.
    pub by: By,
    /// All of them, whether they are shown or not.
    pub total: ConditionSums,
    /// The ones that hold most, in this order.
    pub rows: Vec<Row>,
    /// How many rows there would be without a limit; `None` where that is not
    /// known, because some were given up.
    pub row_count: Option<usize>,
    /// By how much the bytes of a row may be too low, because there were more
    /// groups than are told apart.
    pub understated_bytes: u64,
    /// The network namespaces that were looked at.
    pub namespaces: usize,
    /// Where the sockets were read; `None` where they could not be seen.
    pub source: Option<SocketSource>,
    /// What could not be seen.
    pub unseen: Vec<Unseen>,
}

/// A line of the answer.
#[derive(Debug)]
pub enum Row {
    /// A socket by itself.
    Socket(Box<SocketRow>),
    /// Several sockets together.
    Group(Box<GroupRow>),
}

/// A socket, the largest of those that are alike.
#[derive(Debug)]
pub struct SocketRow {
    /// The socket.
    pub socket: TcpSocket,
    /// It and those that are alike: of the same condition, state, server, cgroup and
    /// network namespace.
    pub alike: Sum,
    /// The processes that hold it.
    pub processes: Vec<Process>,
    /// The inode of its network namespace, where that is not the reader's.
    pub namespace: Option<u32>,
}

/// Several sockets.
#[derive(Debug)]
pub struct GroupRow {
    /// What they have in common.
    pub group: Group,
    /// What they hold.
    pub sums: ConditionSums,
}

/// What sockets have in common.
#[derive(Debug)]
pub enum Group {
    /// The process; the first of several that share a socket.
    Process(Process),
    /// The container of the processes.
    Container(String),
    /// They are in no container.
    NoContainer,
    /// No process holds them any more.
    Orphans,
    /// They wait for accept(): no process holds them yet.
    Waiting,
    /// Requests and TIME_WAIT records, which no process ever holds.
    Records,
    /// Their process could not be seen.
    UnknownProcess,
    /// The peer's address.
    Peer(IpAddr),
    /// The state.
    State(TcpState),
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// What sockets are put together by.
    pub by: By,
    /// So many rows.
    pub top: usize,
}

impl Question {
    /// Looks at the sockets of a host, one after the other.
    pub fn ask(self, root: &Root, looking: Looking) -> Result<Survey, FactError> {
        check(root)?;
        let path = match root {
            Root::Live => Path::new("/"),
            Root::Recorded(path) => path,
        };
        let mut unseen = Vec::new();
        let (mut gathered, open, mut processes);
        match self.by {
            // No process is named, so no descriptor is looked at.
            By::State | By::Peer => {
                gathered = self.gather(root, looking, &mut unseen)?;
                (processes, open) = (Processes::default(), Vec::new());
            }
            By::Memory => {
                gathered = self.gather(root, looking, &mut unseen)?;
                (processes, open) = Processes::find(path, &gathered.inodes(), &mut unseen);
            }
            By::Process | By::Container => {
                // Both take long, and neither waits for the other.
                let (found, result) = thread::scope(|scope| {
                    let look = || {
                        let mut unseen = Vec::new();
                        let gathered = self.gather(root, looking, &mut unseen);
                        (gathered, unseen)
                    };
                    let looker = thread::Builder::new().spawn_scoped(scope, look);
                    let found = Processes::find(path, &Inodes::All, &mut unseen);
                    let looked = match looker {
                        Ok(looker) => looker.join().unwrap_or_else(|panic| resume_unwind(panic)),
                        // No thread is to be had: one after the other.
                        Err(_) => look(),
                    };
                    (found, looked)
                });
                (processes, open) = found;
                let (result, blind) = result;
                gathered = result?;
                unseen.extend(blind);
            }
        }
        if *root == Root::Live {
            let hidden = hidden_doors(path, &open);
            if !hidden.is_empty() {
                gathered.absorb(self.gather_behind(&hidden, looking, &mut unseen)?);
                if self.by == By::Memory {
                    // Now that their sockets are known.
                    (processes, _) = Processes::find(path, &gathered.inodes(), &mut Vec::new());
                }
            }
        }
        Ok(Survey {
            hostname: hostname(path)?,
            taken_at: (*root == Root::Live).then(Moment::now),
            ..self.survey(gathered, &processes, unseen)
        })
    }

    /// What there is in each namespace.
    fn gather(
        self,
        root: &Root,
        looking: Looking,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Gathered, FactError> {
        let add = self.adder(None);
        let mut gathered;
        match root {
            Root::Live => {
                gathered = Gathered::of(gather_live(Path::new("/proc/net"), looking, unseen, add)?);
                let doors = doors(Path::new("/"), unseen);
                gathered.absorb(self.gather_behind(&doors, looking, unseen)?);
            }
            Root::Recorded(path) => {
                gathered = Gathered::of(gather_recorded(path, unseen, add)?);
                for (inode, directory) in recorded_namespaces(path) {
                    let add = self.adder(Some(inode));
                    let other = gather_recorded(&directory, &mut Vec::new(), add)?;
                    gathered.absorb(Gathered::of(other));
                }
            }
        }
        Ok(gathered)
    }

    /// What there is in other namespaces of the running host.
    fn gather_behind(
        self,
        doors: &[Door],
        looking: Looking,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Gathered, FactError> {
        let others = look_elsewhere(Path::new("/"), doors, unseen, |door, net| {
            gather_live(net, looking, &mut Vec::new(), self.adder(Some(door.inode)))
        })?;
        let mut gathered = Gathered::default();
        for other in others {
            gathered.absorb(Gathered::of(other));
        }
        Ok(gathered)
    }

    /// What counts a socket of a namespace.
    fn adder(self, namespace: Option<u32>) -> impl Fn(&mut Gathered, TcpSocket) {
        move |gathered, socket| gathered.add(self, socket, namespace)
    }

    /// The same of facts that were read before.
    pub fn ask_facts(self, facts: &Facts) -> Survey {
        let mut gathered = Gathered {
            namespaces: 1 + facts.now.elsewhere.len(),
            source: facts.now.sockets.as_ref().map(|sockets| sockets.source),
            ..Gathered::default()
        };
        for (namespace, socket) in facts.now.every_socket() {
            let namespace = namespace.map(|namespace| namespace.inode);
            gathered.add(self, socket.clone(), namespace);
        }
        Survey {
            hostname: facts.hostname.clone(),
            taken_at: facts.taken_at,
            ..self.survey(gathered, &facts.processes, facts.unseen.clone())
        }
    }

    fn survey(self, mut gathered: Gathered, processes: &Processes, unseen: Vec<Unseen>) -> Survey {
        gathered.hand_to(processes, self.by);
        let row_count = if self.by == By::Memory {
            gathered.kinds.count()
        } else {
            (gathered.given_up_bytes == 0).then_some(gathered.groups.len())
        };
        let mut rows = Vec::new();
        if self.by == By::Memory {
            let kinds = std::mem::take(&mut gathered.kinds);
            gathered.given_up_bytes += kinds.given_up_bytes();
            rows.extend(kinds.into_sorted().into_iter().map(|alike| {
                Row::Socket(Box::new(SocketRow {
                    processes: processes.of(alike.largest.inode).cloned().collect(),
                    namespace: alike.namespace,
                    alike: alike.sum,
                    socket: *alike.largest,
                }))
            }));
        } else {
            let mut groups: Vec<_> = gathered.groups.into_iter().collect();
            groups.sort_by_key(|(key, sums)| {
                let total = sums.total();
                (Reverse(total.bytes), Reverse(total.sockets), *key)
            });
            rows.extend(groups.into_iter().take(self.top).map(|(key, sums)| {
                Row::Group(Box::new(GroupRow {
                    group: match key {
                        Key::Process(index) => match processes.all.get(index as usize) {
                            Some(process) => Group::Process(process.clone()),
                            None => Group::UnknownProcess,
                        },
                        Key::Container(index) => {
                            let first = processes.all.get(index as usize);
                            match first.and_then(|process| process.container.clone()) {
                                Some(name) => Group::Container(name),
                                None => Group::NoContainer,
                            }
                        }
                        Key::NoContainer => Group::NoContainer,
                        Key::Orphans => Group::Orphans,
                        Key::Waiting => Group::Waiting,
                        Key::Records => Group::Records,
                        Key::Unknown => Group::UnknownProcess,
                        Key::Peer(address) => Group::Peer(address),
                        Key::State(state) => Group::State(state),
                    },
                    sums,
                }))
            }));
        }
        Survey {
            hostname: None,
            taken_at: None,
            by: self.by,
            total: gathered.total,
            rows,
            row_count,
            understated_bytes: gathered.given_up_bytes,
            namespaces: gathered.namespaces,
            source: gathered.source,
            unseen,
        }
    }
}

impl Survey {
    /// Leaves out command lines: they may carry passwords.
    pub fn leave_out_commands(&mut self) {
        for row in &mut self.rows {
            match row {
                Row::Socket(row) => {
                    for process in &mut row.processes {
                        process.command = None;
                    }
                }
                Row::Group(row) => {
                    if let Group::Process(process) = &mut row.group {
                        process.command = None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use advisor_facts::sock_diag::SocketMemory;

    /// A socket of the recorded host that holds so many bytes for a peer.
    fn socket(bytes: u32, peer: u32) -> TcpSocket {
        let host = crate::recorded::directory("dead-peer-holds-memory");
        let facts = Facts::read(&Root::Recorded(host.path().to_owned())).unwrap();
        let (_, socket) = facts.now.every_socket().next().unwrap();
        let mut socket = socket.clone();
        socket.peer.set_ip(Ipv4Addr::from_bits(peer).into());
        socket.memory = Some(SocketMemory {
            recv_alloc_bytes: bytes,
            ..SocketMemory::default()
        });
        socket
    }

    #[test]
    fn the_largest_are_found_whatever_their_order() {
        let sizes = [5, 90, 7, 90, 1, 300, 6];
        let question = Question {
            by: By::Memory,
            top: 3,
        };
        let mut gathered = Gathered::default();
        let one = socket(0, 1);
        for (size, peer) in sizes.into_iter().zip(1..) {
            let mut socket = one.clone();
            // Each is a client of a server of its own.
            socket.local.set_port(40_000);
            socket.peer.set_port(443);
            socket.peer.set_ip(Ipv4Addr::from_bits(peer).into());
            socket.memory.as_mut().unwrap().recv_alloc_bytes = size;
            gathered.add(question, socket, None);
        }
        let survey = question.survey(gathered, &Processes::default(), Vec::new());
        let rows: Vec<_> = survey
            .rows
            .iter()
            .map(|row| match row {
                Row::Socket(row) => (row.socket.held_bytes(), row.socket.peer.ip().to_string()),
                Row::Group(row) => panic!("{row:?}"),
            })
            .collect();
        let expected = [(300, "0.0.0.6"), (90, "0.0.0.2"), (90, "0.0.0.4")];
        assert_eq!(rows, expected.map(|(bytes, peer)| (bytes, peer.to_owned())));
        assert_eq!(
            survey.total.total(),
            Sum {
                sockets: 7,
                bytes: 499
            }
        );
        assert_eq!(survey.row_count, Some(7));
    }

    #[test]
    fn those_that_are_alike_stand_together_under_the_largest() {
        let question = Question {
            by: By::Memory,
            top: 3,
        };
        let mut gathered = Gathered::default();
        let one = socket(0, 1);
        for (bytes, port) in [(10, 50_000), (30, 50_001), (20, 50_002)] {
            let mut socket = one.clone();
            socket.local.set_port(80);
            socket.peer.set_port(port);
            socket.memory.as_mut().unwrap().recv_alloc_bytes = bytes;
            gathered.add(question, socket, None);
        }
        let mut other = Gathered::default();
        let mut alone = one.clone();
        alone.local.set_port(81);
        alone.memory.as_mut().unwrap().recv_alloc_bytes = 40;
        other.add(question, alone, None);
        gathered.absorb(other);
        let survey = question.survey(gathered, &Processes::default(), Vec::new());
        let rows: Vec<_> = survey
            .rows
            .iter()
            .map(|row| match row {
                Row::Socket(row) => (row.socket.held_bytes(), row.alike.sockets, row.alike.bytes),
                Row::Group(row) => panic!("{row:?}"),
            })
            .collect();
        assert_eq!(rows, [(30, 3, 60), (40, 1, 40)]);
        assert_eq!(survey.row_count, Some(2));
    }

    #[test]
    fn more_groups_than_are_told_apart_leave_the_large_ones_right() {
        let question = Question {
            by: By::Peer,
            top: 2,
        };
        let mut gathered = Gathered::default();
        let one = socket(1, 0);
        let groups = u32::try_from(GROUPS).unwrap() * 3;
        for peer in 0..groups {
            let mut socket = one.clone();
            // One in the middle and one at the end hold much.
            let bytes = match peer {
                20_000 => 5_000,
                peer if peer == groups - 1 => 7_000,
                _ => 10,
            };
            socket.peer.set_ip(Ipv4Addr::from_bits(peer).into());
            socket.memory.as_mut().unwrap().recv_alloc_bytes = bytes;
            gathered.add(question, socket, None);
            assert!(gathered.groups.len() <= GROUPS);
        }
        let survey = question.survey(gathered, &Processes::default(), Vec::new());
        let held: Vec<_> = survey
            .rows
            .iter()
            .map(|row| match row {
                Row::Group(row) => row.sums.total().bytes,
                Row::Socket(row) => panic!("{row:?}"),
            })
            .collect();
        assert_eq!(held, [7_000, 5_000]);
        assert_eq!(survey.total.total().sockets, u64::from(groups));
        assert_eq!(survey.row_count, None);
        assert!(survey.understated_bytes > 0 && survey.understated_bytes < 100);
    }

    #[test]
    fn facts_and_the_host_that_they_are_of_answer_alike() {
        for by in [By::Memory, By::Process, By::Container, By::Peer, By::State] {
            let question = Question { by, top: 5 };
            let host = crate::recorded::directory("dead-peer-holds-memory");
            let root = Root::Recorded(host.path().to_owned());
            let survey = question.ask(&root, Looking::default()).unwrap();
            let mut facts = Facts::read(&root).unwrap();
            // A survey asks for no options.
            for socket in facts.now.every_socket_mut() {
                socket.options = None;
            }
            let of_facts = question.ask_facts(&facts);
            assert_eq!(format!("{:?}", survey.rows), format!("{:?}", of_facts.rows));
            assert_eq!(survey.total, of_facts.total);
            assert!(!survey.rows.is_empty());
        }
    }
}
