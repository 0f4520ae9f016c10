//! Connections that the peer has closed and the program has not.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::{
    Confidence, Documentation, Evidence, Finding, Kind, Outcome, ProvenBy, Rule, Severity, seconds,
};
use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_facts::{Facts, Look};
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB202",
    name: "close-wait-left",
    scenario: Some("crash/leak/close-wait"),
    cure: None,
    proven_by: ProvenBy::Suites(&["close-wait-left"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Sockets in CLOSE_WAIT: the peer has closed, the local program has not. No timer \
        ends this state and no counter shows it. In the end the program runs out of descriptors.",
    evidence: "Sockets in CLOSE_WAIT with nothing left to send, per endpoint. It fires at 10 old \
        ones: in both looks at least 10 seconds apart, or without an acknowledgment for a minute \
        (tcp_info). Fewer are usual in a pool of idle connections. If no age is known it fires \
        at 100: for so many by chance, a program that closes within 100 ms would have to lose \
        1000 connections a second.",
    recommendation: "close() when read() returns 0.",
    cost: "None.",
    risk: "A program may keep its half open on purpose, to send more after the peer's \
        shutdown(). Sockets with data to send are not counted.",
    undo: "Revert the change of the program.",
    references: &[
        "RFC 9293 section 3.6, CLOSE-WAIT",
        "last_ack_recv of tcp_info: tcp_ack in net/ipv4/tcp_input.c of Linux",
        "idle connections in a pool: 10 a host by default in urllib3",
    ],
};

/// Old sockets at one endpoint: more than a pool of idle connections has.
const MANY_OLD: usize = 10;
/// Sockets of unknown age at one endpoint: more than chance.
const MANY: usize = 100;
/// A socket that is in two looks this far apart is old.
const WINDOW: Duration = Duration::from_secs(10);
/// A socket without an acknowledgment for this long is old, in milliseconds: the FIN that
/// began CLOSE_WAIT carried one.
const OLD_MS: u32 = 60_000;
/// Largest number of endpoints reported.
const ENDPOINTS: usize = 5;

/// The program's end of the connections.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Endpoint {
    /// The program accepted them on this address.
    Server(SocketAddr),
    /// The program connected to this address.
    ClientOf(SocketAddr),
}

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(sockets) = &facts.now.sockets else {
        return Outcome::NotEvaluated("the sockets cannot be seen".to_owned());
    };
    let source = sockets.source.as_str();
    let left = facts
        .now
        .every_socket()
        .filter(|(_, socket)| socket.state == TcpState::CloseWait);
    let before = facts
        .window()
        .filter(|(window, _)| *window >= WINDOW)
        .map(|(window, earlier)| (window, in_close_wait(earlier)));
    let listening = listening_ports(&facts.now);
    let mut endpoints: BTreeMap<(Option<u32>, Endpoint), Vec<&TcpSocket>> = BTreeMap::new();
    let mut count = 0_usize;
    for (namespace, socket) in left {
        count += 1;
        let settings = namespace.map_or(&facts.settings, |other| &other.settings);
        let place = namespace.map(|other| other.inode);
        let port = socket.local.port();
        let listens = listening.contains(&(place, port));
        if socket.send_queue_bytes == 0 {
            let endpoint = endpoint(socket, listens, settings.ip_local_port_range);
            endpoints.entry((place, endpoint)).or_default().push(socket);
        }
    }
    let mut findings: Vec<(usize, Finding)> = endpoints
        .into_iter()
        .filter_map(|((_, endpoint), sockets)| {
            let old = sockets
                .iter()
                .filter(|socket| {
                    let stayed = before
                        .as_ref()
                        .is_some_and(|(_, before)| before.contains(&socket.id()));
                    stayed || idle_ms(socket).is_some_and(|idle| idle >= OLD_MS)
                })
                .count();
            let age_known = before.is_some() || sockets.iter().any(|socket| socket.info.is_some());
            let age = match &before {
                _ if !age_known && sockets.len() >= MANY => "of unknown age".to_owned(),
                _ if old < MANY_OLD => return None,
                _ => {
                    let span = before
                        .as_ref()
                        .map_or_else(|| "a minute".to_owned(), |(window, _)| seconds(*window));
                    let share = if old == sockets.len() {
                        "all".to_owned()
                    } else {
                        format!("{old} of them")
                    };
                    format!("{share} for {span} or longer")
                }
            };
            Some((
                sockets.len(),
                finding(facts, endpoint, &sockets, &age, source),
            ))
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(match count {
            0 => "no socket in CLOSE_WAIT".to_owned(),
            count => format!("{count} in CLOSE_WAIT, too few or too young to be a leak"),
        });
    }
    findings.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    findings.truncate(ENDPOINTS);
    Outcome::Fired(findings.into_iter().map(|(_, finding)| finding).collect())
}

/// The sockets in CLOSE_WAIT, by the kernel's id.
fn in_close_wait(look: &Look) -> HashSet<[u8; 48]> {
    look.every_socket()
        .filter(|(_, socket)| socket.state == TcpState::CloseWait)
        .map(|(_, socket)| socket.id())
        .collect()
}

/// The ports with a listener, each with its network namespace.
fn listening_ports(look: &Look) -> HashSet<(Option<u32>, u16)> {
    look.every_socket()
        .filter(|(_, socket)| socket.state == TcpState::Listen)
        .map(|(namespace, socket)| (namespace.map(|other| other.inode), socket.local.port()))
        .collect()
}

/// A server accepted the connection if it listens on the port, or if connect() would not
/// have picked that port.
fn endpoint(socket: &TcpSocket, listens: bool, range: Option<[u16; 2]>) -> Endpoint {
    let port = socket.local.port();
    let taken_by_connect = range.is_none_or(|[first, last]| (first..=last).contains(&port));
    if listens || !taken_by_connect {
        Endpoint::Server(plain(socket.local))
    } else {
        Endpoint::ClientOf(plain(socket.peer))
    }
}

/// The address without the IPv6 mapping of an IPv4 one.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn idle_ms(socket: &TcpSocket) -> Option<u32> {
    socket.info.as_ref()?.last_ack_recv_ms()
}

fn finding(
    facts: &Facts,
    endpoint: Endpoint,
    sockets: &[&TcpSocket],
    age: &str,
    source: &str,
) -> Finding {
    let count = sockets.len();
    let (subject, of) = match endpoint {
        Endpoint::Server(address) => (
            format!("the server on {address}"),
            format!("local address {address}"),
        ),
        Endpoint::ClientOf(address) => (
            format!("the client of {address}"),
            format!("peer {address}"),
        ),
    };
    // Usually all are of one process.
    let process = sockets
        .iter()
        .find_map(|socket| facts.processes.of(socket.inode).next());
    let subject = match process {
        Some(process) => format!("{} ({}), {subject}", process.name, process.pid),
        None => subject,
    };
    let mut evidence = vec![Evidence::new(
        "host.sockets.CLOSE_WAIT",
        i64::try_from(count).unwrap_or(i64::MAX).into(),
        format!("{source}, {of}"),
    )];
    // The FIN itself counts as a byte of the receive queue.
    let unread = sockets
        .iter()
        .filter(|socket| socket.recv_queue_bytes > 1)
        .count();
    if unread > 0 {
        evidence.push(Evidence::new(
            "host.sockets.CLOSE_WAIT.unread",
            i64::try_from(unread).unwrap_or(i64::MAX).into(),
            source,
        ));
    }
    if let Some(idle) = sockets.iter().filter_map(|socket| idle_ms(socket)).max() {
        evidence.push(Evidence::new(
            "host.sockets.CLOSE_WAIT.longest_s",
            i64::from(idle / 1000).into(),
            "tcp_info.last_ack_recv",
        ));
    }
    let peek = match endpoint {
        Endpoint::Server(address) => format!("sport = :{}", address.port()),
        Endpoint::ClientOf(address) => format!("dst {address}"),
    };
    Finding {
        confidence: Confidence::Medium,
        severity: Severity::Warning,
        summary: format!("{subject} leaves {count} sockets in CLOSE_WAIT, {age}"),
        why: "The peer has closed these connections and the program has not: it does not read \
            the end of file, or it forgets the descriptor. No timer and no setting of the kernel \
            frees them. In the end the process runs out of descriptors."
            .to_owned(),
        kind: Kind::Program,
        subject,
        setting: "close()".to_owned(),
        current: format!("not called on {count} connections that the peer has closed"),
        proposed: "close() when read() returns 0".to_owned(),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: format!(
            "find the process: ss -tanp state close-wait '{peek}'; in it, close each connection \
             whose read() returns 0, and remove idle connections from pools; until then, a \
             restart of it frees them"
        ),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: format!("ss -tan state close-wait '{peek}' | wc -l stays small"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("close-wait-left")
    }

    #[test]
    fn close_wait_needs_many_or_old_sockets() {
        let facts = firing();
        assert_eq!(fired(&RULE, &facts).len(), 1, "four to one peer are a pool");

        // Of unknown age: only very many are told from chance.
        let mut unknown = facts.clone();
        let all = &mut unknown.now.sockets.as_mut().unwrap().all;
        for socket in all.iter_mut() {
            socket.info = None;
        }
        assert_quiet(&RULE, &unknown);
        let all = &mut unknown.now.sockets.as_mut().unwrap().all;
        let one = all
            .iter()
            .find(|socket| socket.state.as_str() == "CLOSE_WAIT")
            .unwrap();
        let many = vec![one.clone(); 100];
        all.extend(many);
        assert!(fired(&RULE, &unknown)[0].summary.contains("of unknown age"));

        // Young by tcp_info, but there in both looks.
        let mut young = facts.clone();
        for socket in &mut young.now.sockets.as_mut().unwrap().all {
            if let Some(info) = &mut socket.info {
                assert!(info.set("last_ack_recv", 5));
            }
        }
        assert_quiet(&RULE, &young);
        let mut earlier = young.now.clone();
        earlier.uptime = young
            .now
            .uptime
            .checked_sub(Duration::from_secs(30))
            .unwrap();
        young.set_earlier(earlier);
        assert!(
            fired(&RULE, &young)[0]
                .summary
                .ends_with("all for 30.0 s or longer")
        );

        // What is still sending is not left.
        let mut sending = facts;
        for socket in &mut sending.now.sockets.as_mut().unwrap().all {
            socket.send_queue_bytes = 1;
        }
        assert_quiet(&RULE, &sending);
    }

    #[test]
    fn without_sockets_it_is_not_evaluated() {
        let mut facts = firing();
        facts.now.sockets = None;
        assert_not_evaluated(&RULE, &facts, "the sockets cannot be seen");
    }
}
