//! Connections that a program leaves in a state that no timer ends, by program: the same
//! leak goes to many peers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use advisor_facts::sock_diag::TcpSocket;
use advisor_facts::units::seconds;
use advisor_facts::{Facts, Look};

use super::Evidence;
use super::program::{Sides, plain, process_name};

/// So many old ones at one endpoint are no pool of idle connections.
const MANY_AT_ONE: usize = 10;
/// So many old ones of one process are no pools for several peers.
const MANY_OF_ONE: usize = 30;
/// So many of unknown age at one endpoint are no chance.
const MANY_OF_ANY_AGE: usize = 100;
/// Two looks this far apart tell the old ones.
const WINDOW: Duration = Duration::from_secs(10);
/// Nothing heard for this long tells an old one, in milliseconds: the FIN that began the
/// state carried an acknowledgment.
const OLD_MS: u32 = 60_000;
/// Programs that are reported.
const PROGRAMS: usize = 5;
/// Endpoints that are named.
const ENDPOINTS: usize = 3;

/// The program's end of connections, as far as it can be told.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Endpoint {
    /// It accepted them on this address.
    Server(SocketAddr),
    /// It connected to this address.
    ClientOf(SocketAddr),
}

impl Endpoint {
    fn describe(self) -> String {
        match self {
            Self::Server(address) => format!("the server on {address}"),
            Self::ClientOf(address) => format!("the client of {address}"),
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Server(address) | Self::ClientOf(address) => address.port(),
        }
    }

    /// A filter of ss.
    fn filter(self) -> String {
        match self {
            Self::Server(address) => format!("sport = :{}", address.port()),
            Self::ClientOf(address) => format!("dst {address}"),
        }
    }
}

/// Sockets that one program leaves in a state.
pub(super) struct Left<'a> {
    /// The program, with its endpoint where that is one.
    pub subject: String,
    /// All of them.
    pub sockets: Vec<&'a TcpSocket>,
    /// `all for a minute or longer`.
    pub age: String,
    /// `, to 45 endpoints` where there are several.
    pub spread: String,
    endpoints: Vec<(Endpoint, usize)>,
}

impl Left<'_> {
    /// A command of ss over them, where they are.
    pub(super) fn show(&self, facts: &Facts, options: &str, state: &str) -> String {
        let filter = match self.endpoints.as_slice() {
            [(endpoint, _)] => format!(" '{}'", endpoint.filter()),
            _ => String::new(),
        };
        facts.command(&format!("ss {options} state {state}{filter}"))
    }

    /// How many there are, at which endpoints, and since when.
    pub(super) fn evidence(&self, name: &str, source: &str) -> Vec<Evidence> {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX).into();
        let mut evidence = vec![Evidence::new(
            format!("host.sockets.{name}"),
            number(self.sockets.len()),
            format!("{source}, {}", self.subject),
        )];
        if self.endpoints.len() > 1 {
            evidence.push(Evidence::new(
                format!("host.sockets.{name}.endpoints"),
                number(self.endpoints.len()),
                source,
            ));
            evidence.extend(
                self.endpoints
                    .iter()
                    .take(ENDPOINTS)
                    .map(|(endpoint, count)| {
                        Evidence::new(
                            format!("host.sockets.{name}: {}", endpoint.describe()),
                            number(*count),
                            source,
                        )
                    }),
            );
        }
        if let Some(longest) = self
            .sockets
            .iter()
            .filter_map(|socket| silent_ms(socket))
            .max()
        {
            evidence.push(Evidence::new(
                format!("host.sockets.{name}.longest_s"),
                i64::from(longest / 1000).into(),
                "tcp_info.last_ack_recv",
            ));
        }
        evidence
    }
}

/// How many sockets are in the state, who has the most of them, and the programs that
/// leave too many for too long.
pub(super) struct Counted<'a> {
    /// All in the state.
    pub count: usize,
    /// The program that has the most, by name.
    pub most: Option<String>,
    /// Those that are a leak, the one with the most first.
    pub left: Vec<Left<'a>>,
}

/// Who leaves sockets in a state for which `wanted` is true.
pub(super) fn left(facts: &Facts, wanted: impl Fn(&TcpSocket) -> bool) -> Counted<'_> {
    type Key = (Option<u32>, Option<Endpoint>);
    type Sockets<'a> = Vec<(Endpoint, &'a TcpSocket)>;
    let before = facts
        .window()
        .filter(|(window, _)| *window >= WINDOW)
        .map(|(window, earlier)| (window, ids(earlier, &wanted)));
    let mut sides = None;
    let mut groups: BTreeMap<Key, Sockets<'_>> = BTreeMap::new();
    let mut count = 0;
    for (_, socket) in facts.now.every_socket() {
        if !wanted(socket) {
            continue;
        }
        count += 1;
        let sides = sides.get_or_insert_with(|| Sides::of(facts));
        let endpoint = if sides.is_client(facts, socket) {
            Endpoint::ClientOf(plain(socket.peer))
        } else {
            Endpoint::Server(plain(socket.local))
        };
        let holder = facts.processes.holders_of(socket.inode).first();
        let process = holder.map(|holder| holder.process);
        // Without its process, the endpoint is all that is known of the program: of a
        // client the port of its servers.
        let apart = process.is_none().then_some(match endpoint {
            Endpoint::ClientOf(peer) => Endpoint::ClientOf(anywhere(peer)),
            Endpoint::Server(_) => endpoint,
        });
        let sockets = groups.entry((process, apart)).or_default();
        sockets.push((endpoint, socket));
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, sockets)| Reverse(sockets.len()));
    let most = groups.first().map(|((process, _), sockets)| match process {
        Some(process) => process_name(facts, *process),
        None => sockets[0].0.describe(),
    });
    let left = groups
        .into_iter()
        .filter_map(|((process, _), sockets)| {
            let is_old = |socket: &TcpSocket| {
                let stayed = before
                    .as_ref()
                    .is_some_and(|(_, before)| before.contains(&socket.id()));
                stayed || silent_ms(socket).is_some_and(|silent| silent >= OLD_MS)
            };
            let mut endpoints: BTreeMap<Endpoint, (usize, usize)> = BTreeMap::new();
            for (endpoint, socket) in &sockets {
                let (all, old) = endpoints.entry(*endpoint).or_default();
                *all += 1;
                *old += usize::from(is_old(socket));
            }
            let old: usize = endpoints.values().map(|(_, old)| old).sum();
            let most_old = endpoints.values().map(|(_, old)| *old).max().unwrap_or(0);
            let most = endpoints.values().map(|(all, _)| *all).max().unwrap_or(0);
            let age_known =
                before.is_some() || sockets.iter().any(|(_, socket)| socket.info.is_some());
            let age = if most_old >= MANY_AT_ONE || old >= MANY_OF_ONE {
                let span = before
                    .as_ref()
                    .map_or_else(|| "a minute".to_owned(), |(window, _)| seconds(*window));
                let share = if old == sockets.len() {
                    "all".to_owned()
                } else {
                    format!("{old} of them")
                };
                format!("{share} for {span} or longer")
            } else if !age_known && most >= MANY_OF_ANY_AGE {
                "of unknown age".to_owned()
            } else {
                return None;
            };
            let mut endpoints: Vec<_> = endpoints
                .into_iter()
                .map(|(endpoint, (all, _))| (endpoint, all))
                .collect();
            endpoints.sort_by_key(|(_, count)| Reverse(*count));
            let endpoint = endpoints[0].0.describe();
            let subject = match (process, endpoints.len()) {
                (Some(process), 1) => format!("{}, {endpoint}", process_name(facts, process)),
                (Some(process), _) => process_name(facts, process),
                (None, 1) => endpoint,
                (None, _) => format!("the client of port {}", endpoints[0].0.port()),
            };
            Some(Left {
                subject,
                spread: match endpoints.len() {
                    1 => String::new(),
                    count => format!(" at {count} endpoints"),
                },
                sockets: sockets.into_iter().map(|(_, socket)| socket).collect(),
                age,
                endpoints,
            })
        })
        .take(PROGRAMS)
        .collect();
    Counted { count, most, left }
}

/// The port of an address, wherever it is.
fn anywhere(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port())
}

/// The sockets of a look that are wanted, by the kernel's id.
fn ids(look: &Look, wanted: impl Fn(&TcpSocket) -> bool) -> HashSet<[u8; 48]> {
    look.every_socket()
        .filter(|(_, socket)| wanted(socket))
        .map(|(_, socket)| socket.id())
        .collect()
}

/// For how long nothing was heard of the peer, in milliseconds.
fn silent_ms(socket: &TcpSocket) -> Option<u32> {
    socket.info.as_ref()?.last_ack_recv_ms()
}
