//! Old connections that hold the port of a server, which then cannot bind it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use advisor_facts::Facts;
use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_report::measured::Measured;

use super::program::{Sides, plain};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, LogLine, Outcome, ProvenBy,
    Rule, Scope, Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB301",
    name: "port-held-without-listener",
    scope: Scope::Namespace,
    scenario: Some("bind/time-wait/new-only"),
    cure: Some("bind/time-wait/both"),
    proven_by: ProvenBy::Reproduction(&[Harm::CannotBind]),
    log_lines: &[LogLine {
        pieces: &["address already in use"],
        means: "An error of a program, EADDRINUSE. Another program listens on the port \
            (ss -tlnp), old connections hold it and the program does not set SO_REUSEADDR \
            (LB301), or connect() of some program took it (LB304).",
    }],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Ending connections on a local port that has no listener. A server was stopped or \
        has crashed, and its connections are in FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE_WAIT, \
        LAST_ACK or CLOSING. Without SO_REUSEADDR on the old and the new socket, bind() fails \
        with EADDRINUSE until the last of them is gone: 60 seconds for TIME_WAIT.",
    evidence: "The socket table and net.ipv4.ip_local_port_range. Only ports that connect() does \
        not pick count, and those with at least 8 connections and four times the connections that \
        connect() would have put there, which tells a server's port in a wide range. Connections to a port below 1024 or to 2049 are left out, because \
        clients such as NFS bind a low port themselves; so is local port 20, from which active \
        FTP connects. Warning if the peers have different ports, as clients of a server do. With \
        one connection, or if all go to the same port, this end may be a client with a fixed \
        source port, such as a proxy: a notice that says both.",
    recommendation: "SO_REUSEADDR before bind(), at every start. The kernel requires it of both \
        sockets, and connections inherit it from their listener. So the first start of the \
        mended program still fails while connections of the old one are there.",
    cost: "None.",
    risk: "Late segments of an old connection may meet a new one between the same ports; \
        sequence numbers and timestamps make that very unlikely. The program may set the option \
        already, which the socket table does not show. Then there is nothing to do.",
    undo: "Remove the call.",
    references: &[
        "inet_csk_bind_conflict: net/ipv4/inet_connection_sock.c of Linux",
        "socket(7), SO_REUSEADDR",
        "TCP_TIMEWAIT_LEN: include/net/tcp.h of Linux",
    ],
};

/// The port that active FTP connects from: a file server, but a client here.
const FTP_DATA: u16 = 20;
/// Largest number of ports reported.
const PORTS: usize = 5;
/// Largest number of peer ports shown as evidence.
const PEER_PORTS: usize = 5;

const WHY: &str = "A server that starts now without SO_REUSEADDR gets EADDRINUSE from bind(), \
    until 60 s after the last connection went to TIME_WAIT. The old socket needs the option too, \
    so the first start of the mended program still fails while these connections are there; the \
    second works. The socket table does not show the option: if the program sets it at every \
    start, there is nothing to do.";

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(sockets) = &facts.now.sockets else {
        return Outcome::NotEvaluated("the sockets cannot be seen".to_owned());
    };
    let Some([first, last]) = facts.settings.ip_local_port_range else {
        return Outcome::NotEvaluated("net.ipv4.ip_local_port_range cannot be read".to_owned());
    };
    let sides = Sides::of(facts);
    let mut ports: BTreeMap<u16, Vec<&TcpSocket>> = BTreeMap::new();
    for socket in &sockets.all {
        let port = socket.local.port();
        if is_ending(socket.state)
            && !sides.is_client(facts, socket)
            && !sides.is_listened_on(port)
            && port != FTP_DATA
            && !is_service(socket.peer)
        {
            ports.entry(port).or_default().push(socket);
        }
    }
    if ports.is_empty() {
        return Outcome::Quiet(
            "no port is held by connections of a server that is gone".to_owned(),
        );
    }
    let mut ports: Vec<_> = ports.into_iter().collect();
    ports.sort_by_key(|(_, sockets)| std::cmp::Reverse(sockets.len()));
    let range = format!("{first} {last}");
    let source = sockets.source.as_str();
    Outcome::Fired(
        ports
            .iter()
            .take(PORTS)
            .map(|(port, sockets)| finding(*port, sockets, &range, source))
            .collect(),
    )
}

/// Whether a connection in this state may outlive its listener although no program uses it.
fn is_ending(state: TcpState) -> bool {
    matches!(
        state,
        TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::TimeWait
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::Closing
    )
}

/// Whether the peer is a server, so that this end is a client.
fn is_service(peer: SocketAddr) -> bool {
    const NFS: u16 = 2049;
    peer.port() < 1024 || peer.port() == NFS
}

fn finding(port: u16, sockets: &[&TcpSocket], range: &str, source: &str) -> Finding {
    let source = format!("{source}, local port {port}");
    let count = sockets.len();
    let mut states: BTreeMap<&str, i64> = BTreeMap::new();
    let mut addresses = Vec::new();
    let mut peers = BTreeSet::new();
    for socket in sockets {
        peers.insert(socket.peer.port());
        *states.entry(socket.state.as_str()).or_default() += 1;
        let address = plain(socket.local);
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.sort();
    let mut evidence: Vec<_> = states
        .iter()
        .map(|(state, count)| {
            Evidence::new(format!("host.sockets.{state}"), (*count).into(), &source)
        })
        .collect();
    evidence.push(Evidence::new("host.sockets.LISTEN", 0.into(), &source));
    // Clients of a server come from many ports. A client with a fixed source port connects
    // to the port of one service.
    let of_a_server = peers.len() > 1;
    let peers: Vec<_> = peers.iter().take(PEER_PORTS).map(u16::to_string).collect();
    evidence.push(Evidence::new(
        "host.sockets.peer-ports",
        peers.join(" ").as_str().into(),
        &source,
    ));
    evidence.push(Evidence::sysctl(
        "net.ipv4.ip_local_port_range",
        range.into(),
    ));
    let connections = if count == 1 {
        "connection holds"
    } else {
        "connections hold"
    };
    Finding {
        confidence: Confidence::Medium,
        severity: if of_a_server {
            Severity::Warning
        } else {
            Severity::Notice
        },
        summary: if of_a_server {
            format!("{count} old {connections} port {port}, which has no listener")
        } else {
            format!(
                "{count} old {connections} port {port}: of a server that is gone, or of a client \
                 with a fixed source port"
            )
        },
        why: if of_a_server {
            WHY.to_owned()
        } else {
            format!(
                "All these connections go to one port of peers. That fits a server that is gone, \
                 and also a client that binds a source port, such as a proxy, whose next bind() \
                 meets the same error. {WHY}"
            )
        },
        applies_to: AppliesTo::Program,
        subject: {
            let place = match addresses.as_slice() {
                [address] => address.to_string(),
                _ => format!("port {port}"),
            };
            if of_a_server {
                format!("the server that was on {place}")
            } else {
                format!("the server or the client that was on {place}")
            }
        },
        setting: "SO_REUSEADDR".to_owned(),
        current: "unknown (not in the socket table)".to_owned(),
        proposed: "1, before bind(), at every start".to_owned(),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program, before bind(): int on = 1; setsockopt(fd, SOL_SOCKET, \
            SO_REUSEADDR, &on, sizeof on)"
            .to_owned(),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: format!(
            "restart the program twice while connections are there: the second time, bind() to \
             port {port} works at once"
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{
        add_sockets, assert_not_evaluated, assert_quiet, bare_host, fired, host, set, socket,
    };

    #[test]
    fn a_wide_range_does_not_hide_the_port_of_a_server() {
        let mut facts = bare_host(8 << 30);
        set(&mut facts, "net.ipv4.ip_local_port_range", "1024 65535");
        let old: Vec<_> = (1..=40)
            .map(|k| {
                let peer = format!("10.0.7.{k}:{}", 40_000 + 77 * k);
                socket(TcpState::TimeWait, "10.0.0.5:8080", &peer).done()
            })
            .collect();
        add_sockets(&mut facts, old);
        let finding = fired(&RULE, &facts).remove(0);
        assert!(finding.summary.contains("port 8080"), "{}", finding.summary);
        // As many clients on ports of their own are no server.
        let sockets = facts.now.sockets.as_mut().unwrap();
        for (k, socket) in (0..).zip(&mut sockets.all) {
            socket.local.set_port(20_000 + k);
        }
        assert_quiet(&RULE, &facts);
    }

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("port-held-without-listener")
    }

    #[test]
    fn a_listener_or_a_port_of_connect_is_not_held() {
        let facts = firing();
        let mut listening = facts.clone();
        for socket in &mut listening.now.sockets.as_mut().unwrap().all {
            if socket.state.as_str() == "LISTEN" {
                socket.local.set_port(9000);
            }
            if socket.local.port() == 8080 {
                socket.state = TcpState::Established;
            }
        }
        assert_quiet(&RULE, &listening);
        let mut range = facts;
        range.settings.ip_local_port_range = Some([9000, 60999]);
        assert_quiet(&RULE, &range);
    }

    #[test]
    fn a_client_with_a_fixed_source_port_is_no_dead_server_for_sure() {
        // Two connections from port 10500 to port 8443 of two peers, and two of
        // active FTP from port 20.
        let mut facts = host("port-held-by-client");
        let findings = fired(&RULE, &facts);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].severity, Severity::Notice);
        assert!(findings[0].summary.contains("10500"));
        assert!(
            findings[0]
                .summary
                .contains("or of a client with a fixed source port")
        );

        // From two ports of peers: a server's clients.
        let all = &mut facts.now.sockets.as_mut().unwrap().all;
        let first = all
            .iter_mut()
            .find(|socket| socket.local.port() == 10500)
            .unwrap();
        first.peer.set_port(43000);
        let findings = fired(&RULE, &facts);
        assert_eq!(findings[0].severity, Severity::Warning);
        assert_eq!(
            findings[0].subject,
            "the server that was on 192.0.2.10:10500"
        );

        // One alone tells nothing.
        let all = &mut facts.now.sockets.as_mut().unwrap().all;
        all.retain(|socket| socket.peer.port() != 8443);
        assert_eq!(fired(&RULE, &facts)[0].severity, Severity::Notice);
    }

    #[test]
    fn without_sockets_it_is_not_evaluated() {
        let mut facts = firing();
        facts.now.sockets = None;
        assert_not_evaluated(&RULE, &facts, "the sockets cannot be seen");
    }
}
