//! Too many connections to one destination for the range of local ports.

use std::net::{IpAddr, SocketAddr};

use super::program::{name, plain};
use super::{
    Confidence, Documentation, Evidence, Finding, Kind, Outcome, ProvenBy, Rule, Severity,
    there_and_back,
};
use advisor_facts::Facts;
use advisor_facts::namespaces::Namespace;
use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB303",
    name: "ports-run-out",
    scenario: Some("bind/ports/ten-ports[way=bind]"),
    cure: Some("bind/ports/ten-ports[way=bind-no-port]"),
    proven_by: ProvenBy::Suites(&["ports-run-out"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections to one destination that use up ip_local_port_range. Then connect() \
        from that address fails with EADDRNOTAVAIL.",
    evidence: "Distinct local ports in the range for each destination, TIME_WAIT included. \
        Warning from 70 percent of the range, critical from 90.",
    recommendation: "The range 1024 65535 if it is narrower. Else fewer connections: keep them \
        and reuse them. If most are in TIME_WAIT, net.ipv4.tcp_tw_reuse = 1 frees their ports \
        for connect() after a second.",
    cost: "None.",
    risk: "A wider range takes ports that services of the host may want to listen on. Reserve \
        those in ip_local_reserved_ports.",
    undo: "Set the former range.",
    references: &[
        "__inet_hash_connect: net/ipv4/inet_hashtables.c of Linux",
        "ip_local_port_range, tcp_tw_reuse: Documentation/networking/ip-sysctl.rst of Linux",
        "ten ports give ten connections to each destination: measured",
    ],
};

const SETTING: &str = "net.ipv4.ip_local_port_range";
/// The widest range that leaves the ports of system services alone.
const WIDE: [u16; 2] = [1024, 65535];
/// Largest number of destinations reported.
const DESTINATIONS: usize = 5;

/// A local address and a destination.
type Way = (IpAddr, SocketAddr);

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.now.sockets.is_none() {
        return Outcome::NotEvaluated("the sockets cannot be seen".to_owned());
    }
    if facts.settings.ip_local_port_range.is_none() {
        return Outcome::NotEvaluated(format!("{SETTING} cannot be read"));
    }
    let mut sockets: Vec<_> = facts
        .now
        .every_socket()
        .filter_map(|(namespace, socket)| Taker::of(facts, namespace, socket))
        .collect();
    // A sort, not a map: a server may have as many peers as sockets.
    sockets.sort_unstable_by_key(|socket| (socket.place(), socket.port()));
    let mut most = 0;
    let mut used = Vec::new();
    for sockets in sockets.chunk_by(|one, other| one.place() == other.place()) {
        let ports = Ports::of(sockets);
        most = most.max(ports.percent());
        if ports.percent() >= 70 {
            used.push(ports);
        }
    }
    if used.is_empty() {
        return Outcome::Quiet(format!(
            "at most {most} percent of the ports are in use for one destination"
        ));
    }
    used.sort_by_key(|ports| std::cmp::Reverse(ports.percent()));
    used.truncate(DESTINATIONS);
    Outcome::Fired(used.iter().map(|ports| ports.finding(facts)).collect())
}

/// A socket with a local port of the range that connect() picks from.
struct Taker<'a> {
    namespace: Option<&'a Namespace>,
    range: [u16; 2],
    socket: &'a TcpSocket,
}

impl<'a> Taker<'a> {
    fn of(facts: &Facts, namespace: Option<&'a Namespace>, socket: &'a TcpSocket) -> Option<Self> {
        let settings = namespace.map_or(&facts.settings, |other| &other.settings);
        let range @ [first, last] = settings.ip_local_port_range?;
        let takes =
            socket.state != TcpState::Listen && (first..=last).contains(&socket.local.port());
        takes.then_some(Self {
            namespace,
            range,
            socket,
        })
    }

    fn port(&self) -> u16 {
        self.socket.local.port()
    }

    fn way(&self) -> Way {
        (plain(self.socket.local).ip(), plain(self.socket.peer))
    }

    /// The network namespace, the local address and the destination.
    fn place(&self) -> (Option<u32>, Way) {
        (self.namespace.map(|other| other.inode), self.way())
    }
}

/// The local ports in use for one destination.
struct Ports<'a> {
    range: [u16; 2],
    namespace: Option<&'a Namespace>,
    way: Way,
    taken: usize,
    time_wait: usize,
    /// A socket that a process holds: it names the program.
    example: Option<&'a TcpSocket>,
}

impl<'a> Ports<'a> {
    /// Of sockets to one destination, sorted by port.
    fn of(sockets: &[Taker<'a>]) -> Self {
        let first = &sockets[0];
        Self {
            range: first.range,
            namespace: first.namespace,
            way: first.way(),
            taken: sockets
                .chunk_by(|one, other| one.port() == other.port())
                .count(),
            time_wait: sockets
                .iter()
                .filter(|socket| socket.socket.state == TcpState::TimeWait)
                .count(),
            example: sockets
                .iter()
                .map(|socket| socket.socket)
                .find(|socket| socket.inode != 0),
        }
    }

    /// Ports in the range.
    fn size(&self) -> usize {
        usize::from(self.range[1] - self.range[0]) + 1
    }

    fn percent(&self) -> usize {
        self.taken * 100 / self.size()
    }

    fn finding(&self, facts: &Facts) -> Finding {
        let (local, peer) = self.way;
        let taken = self.taken;
        let program = name(facts, self.example.as_slice());
        let [first, last] = self.range;
        let mostly_time_wait = self.time_wait * 2 > taken;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX).into();
        let source = format!("socket table, {local} to {peer}");
        let wider = last - first < 60_000;
        let host_here = self.namespace.is_none();
        let why = if mostly_time_wait {
            "Most of these ports are in TIME_WAIT: the program opens a connection, closes it \
             first, and opens the next. Keeping connections helps most. tcp_fin_timeout does not \
             affect TIME_WAIT."
        } else {
            "Each connection to one destination needs its own local port, and connect() has no \
             others."
        };
        let common = Finding {
            severity: if self.percent() >= 90 {
                Severity::Critical
            } else {
                Severity::Warning
            },
            confidence: Confidence::High,
            summary: format!("{taken} of {} ports are in use for {peer}", self.size()),
            why: why.to_owned(),
            kind: Kind::Program,
            subject: match self.namespace {
                Some(namespace) => format!("{program} in {}", namespace.label()),
                None => program,
            },
            setting: "connections".to_owned(),
            current: format!("{taken} to {peer}, {} in TIME_WAIT", self.time_wait),
            proposed: "keep connections and reuse them".to_owned(),
            evidence: vec![
                Evidence::new("host.ports.taken", count(taken), &source),
                Evidence::new("host.ports.TIME_WAIT", count(self.time_wait), &source),
                Evidence::new("host.ports.range", count(self.size()), SETTING),
                Evidence::sysctl(SETTING, format!("{first} {last}").as_str().into()),
            ],
            cost: DOCUMENTATION.cost.to_owned(),
            risk: DOCUMENTATION.risk.to_owned(),
            apply: "in the program: a pool of connections, or keep-alive of its protocol; more \
                addresses of the destination or of this host; IP_BIND_ADDRESS_NO_PORT if it \
                binds a source address before connect()"
                .to_owned(),
            undo: "revert the change of the program".to_owned(),
            verify: format!(
                "ss -tan dst {} | wc -l stays well below the range",
                peer.ip()
            ),
        };
        if !(wider && host_here) {
            return common;
        }
        let proposed = format!("{} {}", WIDE[0], WIDE[1]);
        let (apply, undo) = there_and_back(facts, SETTING, &proposed);
        Finding {
            kind: Kind::Both,
            subject: "this network namespace".to_owned(),
            setting: SETTING.to_owned(),
            current: format!("{first} {last}"),
            apply: format!("{apply}; better: have the program keep its connections"),
            undo,
            proposed,
            ..common
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("ports-run-out")
    }

    #[test]
    fn it_warns_from_70_percent_and_is_critical_from_90() {
        let mut facts = host("quiet");
        let sockets = &mut facts.now.sockets.as_mut().unwrap().all;
        let mut socket = sockets
            .iter()
            .find(|socket| socket.state == TcpState::Established)
            .unwrap()
            .clone();
        sockets.clear();
        for (port, severity) in (30_001..=30_010).zip([
            None,
            None,
            None,
            None,
            None,
            None,
            Some(Severity::Warning),
            Some(Severity::Warning),
            Some(Severity::Critical),
            Some(Severity::Critical),
        ]) {
            socket.local.set_port(port);
            let sockets = &mut facts.now.sockets.as_mut().unwrap().all;
            sockets.push(socket.clone());
            facts.settings.ip_local_port_range = Some([30_001, 30_010]);
            match severity {
                Some(severity) => assert_eq!(fired(&RULE, &facts)[0].severity, severity),
                None => assert_quiet(&RULE, &facts),
            }
        }
        // Nothing is wider than this range.
        facts.settings.ip_local_port_range = Some([1024, 65535]);
        assert_quiet(&RULE, &facts);
    }
}
