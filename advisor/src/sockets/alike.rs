//! Sockets that are alike: one of them stands for all.

use std::collections::HashMap;
use std::net::SocketAddr;

use advisor_facts::condition::{Condition, Sum};
use advisor_facts::sock_diag::{TcpSocket, TcpState};

/// So many kinds are told apart at least; with more, the smallest are given up.
const KINDS: usize = 1 << 11;

/// What sockets have in common that are alike.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Kind {
    namespace: Option<u32>,
    cgroup: Option<u64>,
    condition: Condition,
    state: TcpState,
    /// The end with the lower port, which is the server's: connect() takes its ports
    /// from a range of high ones.
    server: SocketAddr,
    server_is_here: bool,
}

impl Kind {
    fn of(socket: &TcpSocket, condition: Condition, namespace: Option<u32>) -> Self {
        let (local, peer) = (socket.local, socket.peer);
        let server_is_here = peer.port() == 0 || local.port() <= peer.port();
        let server = if server_is_here { local } else { peer };
        Self {
            namespace,
            cgroup: socket.cgroup,
            condition,
            state: socket.state,
            server: SocketAddr::new(server.ip().to_canonical(), server.port()),
            server_is_here,
        }
    }
}

/// Sockets of one kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Alike {
    /// How many there are, and what they hold together.
    pub sum: Sum,
    /// The inode of their network namespace, where that is not the reader's.
    pub namespace: Option<u32>,
    /// The one that holds most.
    pub largest: Box<TcpSocket>,
}

impl Alike {
    /// Which comes first: the kind that holds more; among equals the order is that of
    /// the addresses, so that it is the same each time.
    fn order(&self) -> impl Ord + use<> {
        let Self { sum, largest, .. } = self;
        (
            std::cmp::Reverse(sum.bytes),
            largest.local,
            largest.peer,
            self.namespace,
        )
    }

    /// Takes note of a socket that is the largest, if it is.
    fn offer(&mut self, socket: TcpSocket) {
        let order = |socket: &TcpSocket| {
            (
                std::cmp::Reverse(socket.held_bytes()),
                socket.local,
                socket.peer,
            )
        };
        if order(&socket) < order(&self.largest) {
            *self.largest = socket;
        }
    }
}

/// The kinds of sockets that pass by.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    of_kind: HashMap<Kind, Alike>,
    /// So many are wanted.
    top: usize,
    /// The most that a kind of those that were given up held, summed over the times.
    given_up_bytes: u64,
}

impl Kinds {
    /// Counts a socket, of which no more than `top` kinds are wanted.
    pub(super) fn add(&mut self, socket: TcpSocket, namespace: Option<u32>, top: usize) {
        let condition = Condition::of(&socket);
        let one = Sum {
            sockets: 1,
            bytes: socket.held_bytes(),
        };
        self.top = top;
        self.join(
            Kind::of(&socket, condition, namespace),
            one,
            namespace,
            socket,
        );
        self.bound();
    }

    fn join(&mut self, kind: Kind, sum: Sum, namespace: Option<u32>, socket: TcpSocket) {
        if let Some(alike) = self.of_kind.get_mut(&kind) {
            alike.sum.sockets += sum.sockets;
            alike.sum.bytes += sum.bytes;
            alike.offer(socket);
        } else {
            let alike = Alike {
                sum,
                namespace,
                largest: Box::new(socket),
            };
            self.of_kind.insert(kind, alike);
        }
    }

    /// Adds those of another namespace, or of another part of the sockets.
    pub(super) fn absorb(&mut self, other: Self) {
        self.top = self.top.max(other.top);
        self.given_up_bytes += other.given_up_bytes;
        for (kind, alike) in other.of_kind {
            self.join(kind, alike.sum, alike.namespace, *alike.largest);
        }
        self.bound();
    }

    /// Keeps no more than are told apart.
    fn bound(&mut self) {
        let limit = KINDS.max(2 * self.top);
        if self.of_kind.len() > limit {
            self.give_up(limit / 2);
        }
    }

    /// Gives up all but so many that hold most.
    fn give_up(&mut self, kept: usize) {
        let mut held: Vec<_> = self.of_kind.values().map(Alike::order).collect();
        held.sort_unstable();
        let Some(first) = held.into_iter().nth(kept) else {
            return;
        };
        let mut given_up = 0;
        self.of_kind.retain(|_, alike| {
            let keep = alike.order() < first;
            if !keep {
                given_up = given_up.max(alike.sum.bytes);
            }
            keep
        });
        self.given_up_bytes += given_up;
    }

    /// The largest of each kind that is wanted, so that their processes can be found.
    pub(super) fn largest(&self) -> impl Iterator<Item = &TcpSocket> {
        let mut kinds: Vec<_> = self.of_kind.values().collect();
        kinds.sort_by_cached_key(|alike| alike.order());
        kinds.truncate(self.top);
        kinds.into_iter().map(|alike| alike.largest.as_ref())
    }

    /// How many there are; `None` where some were given up.
    pub(super) fn count(&self) -> Option<usize> {
        (self.given_up_bytes == 0).then_some(self.of_kind.len())
    }

    /// By how much the figure of a kind may be too low.
    pub(super) fn given_up_bytes(&self) -> u64 {
        self.given_up_bytes
    }

    /// The wanted ones, those that hold most, in this order.
    pub(super) fn into_sorted(self) -> Vec<Alike> {
        let mut kinds: Vec<_> = self.of_kind.into_values().collect();
        kinds.sort_by_cached_key(Alike::order);
        kinds.truncate(self.top);
        kinds
    }
}
