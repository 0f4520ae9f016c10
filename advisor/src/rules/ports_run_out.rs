//! Too many connections to one destination for the range of local ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_facts::{Facts, Settings};
use advisor_report::measured::Measured;

use super::apply::command;
use super::listener_in_port_range::{
    RESERVED, reserved_among, unreserved_listeners, with_reserved,
};
use super::program::{Sides, name, names_a_process, plain};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, LogLine, Outcome, ProvenBy,
    Rule, Scope, Severity, there_and_back,
};

pub(super) const RULE: Rule = Rule {
    code: "LB303",
    name: "ports-run-out",
    scope: Scope::Namespace,
    scenario: Some("bind/ports/ten-ports[way=bind]"),
    cure: Some("bind/ports/ten-ports[way=bind-no-port]"),
    proven_by: ProvenBy::Reproduction(&[Harm::ConnectionRefused]),
    log_lines: &[LogLine {
        pieces: &["cannot assign requested address"],
        means: "An error of a program, EADDRNOTAVAIL. From connect(): every port of \
            ip_local_port_range is in use for this destination. From bind(): this host does not \
            have the address.",
    }],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections to one destination that use up ip_local_port_range. Then connect() \
        from that address fails with EADDRNOTAVAIL.",
    evidence: "Distinct local ports in the range for each destination, of connections that this \
        end made, against the ports of the range that are not reserved. TIME_WAIT counts unless \
        connect() may take its port again: with tcp_tw_reuse = 1, or 2 on loopback, and \
        timestamps, after tcp_tw_reuse_delay (1 s before Linux 6.14). Warning from 70 percent of the range, critical from 90.",
    recommendation: "If most are in TIME_WAIT: net.ipv4.tcp_tw_reuse = 1, which frees their \
        ports for connect() after a second, and needs net.ipv4.tcp_timestamps = 1. If most wait \
        for an answer to connect(): a time limit in the program. Else the range 1024 65535 if it \
        is narrower, with the ports of listeners reserved. Better than all: keep connections and \
        reuse them, or use more addresses.",
    cost: "A wider range: the ports that services listen on have to be reserved. tcp_tw_reuse: \
        none.",
    risk: "A wider range takes ports that services of the host want to listen on, unless they \
        are in ip_local_reserved_ports; Kubernetes has NodePorts (30000-32767) that no listener \
        shows. tcp_tw_reuse needs timestamps on both ends.",
    undo: "Set the former range.",
    references: &[
        "__inet_hash_connect: net/ipv4/inet_hashtables.c of Linux",
        "ip_local_port_range, tcp_tw_reuse: Documentation/networking/ip-sysctl.rst of Linux",
        "ten ports give ten connections to each destination: measured",
    ],
};

const SETTING: &str = "net.ipv4.ip_local_port_range";
const REUSE: &str = "net.ipv4.tcp_tw_reuse";
const TIMESTAMPS: &str = "net.ipv4.tcp_timestamps";
/// The widest range that leaves the ports of system services alone.
const WIDE: [u16; 2] = [1024, 65535];
/// Largest number of destinations reported.
const DESTINATIONS: usize = 5;

/// A local address and a destination.
type Way = (IpAddr, SocketAddr);

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(sockets) = &facts.now.sockets else {
        return Outcome::NotEvaluated("the sockets cannot be seen".to_owned());
    };
    let Some(range) = facts.settings.ip_local_port_range else {
        return Outcome::NotEvaluated(format!("{SETTING} cannot be read"));
    };
    let sides = Sides::of(facts);
    let mut sockets: Vec<_> = sockets
        .all
        .iter()
        .filter(|socket| takes_port(facts, &sides, socket))
        .collect();
    let every: BTreeSet<u16> = (range[0]..=range[1]).collect();
    let free = every.len() - reserved_among(&facts.settings, &every).len();
    // A sort, not a map: a server may have as many peers as sockets.
    sockets.sort_unstable_by_key(|socket| (way(socket), socket.local.port()));
    let mut most = 0;
    let mut used = Vec::new();
    for sockets in sockets.chunk_by(|one, other| way(one) == way(other)) {
        let ports = Ports::of(range, free, sockets);
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

/// Whether connect() took a port of its range for a socket, and cannot take it again.
fn takes_port(facts: &Facts, sides: &Sides, socket: &TcpSocket) -> bool {
    socket.state != TcpState::Listen
        && sides.is_client(facts, socket)
        && !is_free_again(&facts.settings, socket)
}

fn way(socket: &TcpSocket) -> Way {
    (plain(socket.local).ip(), plain(socket.peer))
}

/// TIME_WAIT lasts so long (TCP_TIMEWAIT_LEN in include/net/tcp.h of Linux).
const TIME_WAIT_MS: u32 = 60_000;
/// The age from which on connect() takes a port again, before Linux 6.14.
const REUSE_DELAY_MS: i64 = 1_000;

/// Whether connect() may take the port of a TIME_WAIT record again.
fn is_free_again(settings: &Settings, socket: &TcpSocket) -> bool {
    let loopback = [socket.local, socket.peer]
        .iter()
        .all(|address| plain(*address).ip().is_loopback());
    let reuses = match settings.tcp_tw_reuse {
        Some(1) => true,
        Some(2) => loopback,
        _ => false,
    };
    let delay_ms = settings.tcp_tw_reuse_delay.unwrap_or(REUSE_DELAY_MS);
    let age_ms = i64::from(TIME_WAIT_MS.saturating_sub(socket.timer_ms));
    socket.state == TcpState::TimeWait
        && reuses
        && settings.tcp_timestamps != Some(0)
        && age_ms >= delay_ms
}

/// The local ports in use for one destination.
struct Ports<'a> {
    range: [u16; 2],
    /// Ports of the range that are not reserved.
    size: usize,
    way: Way,
    taken: usize,
    time_wait: usize,
    /// Those whose connect() has no answer yet.
    connecting: usize,
    /// A socket that a process holds: it names the program.
    example: Option<&'a TcpSocket>,
}

impl<'a> Ports<'a> {
    /// Of sockets to one destination, sorted by port.
    fn of(range: [u16; 2], size: usize, sockets: &[&'a TcpSocket]) -> Self {
        let in_state = |state| {
            sockets
                .iter()
                .filter(|socket| socket.state == state)
                .count()
        };
        Self {
            range,
            size: size.max(1),
            way: way(sockets[0]),
            taken: sockets
                .chunk_by(|one, other| one.local.port() == other.local.port())
                .count(),
            time_wait: in_state(TcpState::TimeWait),
            connecting: in_state(TcpState::SynSent),
            example: sockets.iter().copied().find(|socket| socket.inode != 0),
        }
    }

    fn percent(&self) -> usize {
        self.taken * 100 / self.size
    }

    const fn mostly_time_wait(&self) -> bool {
        self.time_wait * 2 > self.taken
    }

    const fn mostly_connecting(&self) -> bool {
        self.connecting * 2 > self.taken
    }

    /// Why they run out, and for a program what to do, and how.
    const fn words(&self, without_timestamps: bool) -> [&'static str; 3] {
        let why = if self.mostly_time_wait() && without_timestamps {
            "Most of these ports are in TIME_WAIT, and without timestamps connect() takes none of \
             them again, whatever tcp_tw_reuse says. Both ends need timestamps, and connections \
             that began without them wait out their TIME_WAIT. Keeping connections helps most."
        } else if self.mostly_time_wait() {
            "Most of these ports are in TIME_WAIT: the program opens a connection, closes it \
             first, and opens the next. Keeping connections helps most. tcp_fin_timeout does not \
             affect TIME_WAIT."
        } else if self.mostly_connecting() {
            "Most of these ports wait for an answer to connect(), which does not come (LB423). \
             With more ports, only more would wait."
        } else {
            "Each connection to one destination needs its own local port, and connect() has no \
             others."
        };
        let (proposed, apply) = if self.mostly_time_wait() {
            (
                "keep connections and reuse them",
                "in the program: a pool of connections, or keep-alive of its protocol; more \
                 addresses of the destination or of this host; IP_BIND_ADDRESS_NO_PORT if it \
                 binds a source address before connect()",
            )
        } else if self.mostly_connecting() {
            (
                "a time limit for connect(), and fewer tries at once",
                "see why the destination does not answer; in the program: a non-blocking \
                 connect() and poll() with a timeout, and a pause before the next try",
            )
        } else {
            (
                "fewer connections to one destination at a time",
                "more addresses of the destination, or of this host (with \
                 IP_BIND_ADDRESS_NO_PORT if the program binds one); in the program: close what is \
                 idle, and share connections where the protocol can",
            )
        };
        [why, proposed, apply]
    }

    fn finding(&self, facts: &Facts) -> Finding {
        let (local, peer) = self.way;
        let taken = self.taken;
        let program = name(facts, self.example.as_slice());
        let [first, last] = self.range;
        let mostly_time_wait = self.mostly_time_wait();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX).into();
        let source = format!("socket table, {local} to {peer}");
        let mostly_connecting = self.mostly_connecting();
        let without_timestamps = facts.settings.tcp_timestamps == Some(0);
        let [why, proposed, apply] = self.words(without_timestamps);
        let common = Finding {
            severity: if self.percent() >= 90 {
                Severity::Critical
            } else {
                Severity::Warning
            },
            confidence: Confidence::High,
            summary: format!("{taken} of {} ports are in use for {peer}", self.size),
            why: why.to_owned(),
            applies_to: AppliesTo::Program,
            subject: program,
            setting: "connections".to_owned(),
            current: format!("{taken} to {peer}, {} in TIME_WAIT", self.time_wait),
            proposed: proposed.to_owned(),
            evidence: vec![
                Evidence::new("host.ports.taken", count(taken), &source),
                Evidence::new("host.ports.TIME_WAIT", count(self.time_wait), &source),
                Evidence::new("host.ports.range", count(self.size), SETTING),
                Evidence::sysctl(SETTING, format!("{first} {last}").as_str().into()),
            ],
            cost: "none in memory".to_owned(),
            risk: "a connection that was kept may be dead when it is used: try again on a new one"
                .to_owned(),
            apply: apply.to_owned(),
            undo: "revert the change of the program".to_owned(),
            verify: format!(
                "{} | wc -l stays well below the range",
                facts.command(&format!("ss -tan dst {}", peer.ip()))
            ),
        };
        let settings = &facts.settings;
        // With 1 already, these records are younger than the delay.
        let can_reuse = mostly_time_wait && settings.tcp_tw_reuse.is_some_and(|reuse| reuse != 1);
        let change = if mostly_connecting {
            None
        } else if mostly_time_wait && without_timestamps {
            // No port in TIME_WAIT is taken again without.
            Some((TIMESTAMPS, "1".to_owned()))
        } else if can_reuse {
            // 2, the default, is enough on loopback (since Linux 4.19).
            let is_loopback = local.is_loopback() && peer.ip().is_loopback();
            let knows_2 = facts.kernel_is_at_least(4, 19);
            let reuse = if is_loopback && knows_2 { "2" } else { "1" };
            Some((REUSE, reuse.to_owned()))
        } else {
            let wider = last - first < 60_000;
            wider.then(|| (SETTING, format!("{} {}", WIDE[0], WIDE[1])))
        };
        let Some((setting, proposed)) = change else {
            return common;
        };
        let is_named = names_a_process(&common.subject);
        let summary = if is_named {
            format!("{} by {}", common.summary, common.subject)
        } else {
            common.summary.clone()
        };
        let better = match (mostly_time_wait, is_named) {
            (true, true) => format!("have {} keep its connections", common.subject),
            (true, false) => "have the program keep its connections".to_owned(),
            (false, _) => common.proposed.clone(),
        };
        let reserve = match setting {
            SETTING => reserve_first(facts),
            _ => String::new(),
        };
        let (apply, undo) = there_and_back(facts, setting, &proposed);
        Finding {
            applies_to: AppliesTo::Both,
            summary,
            subject: "this network namespace".to_owned(),
            setting: setting.to_owned(),
            current: settings.get(setting).unwrap_or_default(),
            cost: match (setting, reserve.is_empty()) {
                (SETTING, false) => "the ports of the listeners have to be reserved".to_owned(),
                (SETTING, true) => {
                    "none seen: nobody listens on a port of the wider range".to_owned()
                }
                (TIMESTAMPS, _) => "12 bytes per segment".to_owned(),
                _ => "none for ports; TIME_WAIT ends for connect() after a second".to_owned(),
            },
            risk: DOCUMENTATION.risk.to_owned(),
            apply: format!("{reserve}{apply}; better: {better}"),
            undo,
            proposed,
            ..common
        }
    }
}

/// The command that reserves the ports of listeners which a wide range would take;
/// empty if there is none.
fn reserve_first(facts: &Facts) -> String {
    let ports = unreserved_listeners(facts, WIDE);
    if ports.is_empty() {
        return String::new();
    }
    let list = with_reserved(&facts.settings, &ports);
    let command = command(facts, RESERVED, &list);
    format!("first {command}; then ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use advisor_facts::sock_diag::Timer;

    use crate::rules::testing::{add_sockets, assert_quiet, bare_host, fired, host, set, socket};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("ports-run-out")
    }

    /// So many TIME_WAIT records of connections to one destination.
    fn time_wait(facts: &mut Facts, local: &str, peer: &str, count: u16) {
        let records = (0..count).map(|k| {
            let local = format!("{local}:{}", 32_768 + k);
            let record = socket(TcpState::TimeWait, &local, peer);
            record.timer(Timer::TimeWait, 20_000).done()
        });
        add_sockets(facts, records.collect::<Vec<_>>());
    }

    #[test]
    fn ports_that_are_taken_again_are_not_in_use() {
        let mut facts = bare_host(8 << 30);
        set(&mut facts, REUSE, "2");
        time_wait(&mut facts, "127.0.0.1", "127.0.0.1:6086", 26_800);
        assert_quiet(&RULE, &facts);
        // Without timestamps nothing is reused.
        set(&mut facts, TIMESTAMPS, "0");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            (finding.setting.as_str(), finding.proposed.as_str()),
            (TIMESTAMPS, "1")
        );

        let mut facts = bare_host(8 << 30);
        set(&mut facts, REUSE, "2");
        time_wait(&mut facts, "10.0.0.9", "10.0.0.1:5432", 26_800);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            (finding.setting.as_str(), finding.proposed.as_str()),
            (REUSE, "1")
        );
        set(&mut facts, REUSE, "1");
        assert_quiet(&RULE, &facts);

        let mut facts = bare_host(8 << 30);
        set(&mut facts, REUSE, "0");
        time_wait(&mut facts, "127.0.0.1", "127.0.0.1:6086", 26_800);
        assert_eq!(fired(&RULE, &facts)[0].proposed, "2");
    }

    #[test]
    fn reserved_ports_are_none_that_connect_has() {
        let mut facts = bare_host(8 << 30);
        set(&mut facts, REUSE, "0");
        time_wait(&mut facts, "10.0.0.9", "10.0.0.1:5432", 8_000);
        assert_quiet(&RULE, &facts);
        set(&mut facts, RESERVED, "42768-60999");
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding.summary.starts_with("8000 of 10000"),
            "{}",
            finding.summary
        );
    }

    #[test]
    fn more_ports_are_no_cure_where_nobody_answers_or_all_are_wanted() {
        let program = |state, range: &str| {
            let mut facts = bare_host(8 << 30);
            set(&mut facts, SETTING, range);
            let connections = (0..950).map(|k| {
                let local = format!("10.0.0.9:{}", 60_000 + k);
                socket(state, &local, "10.0.0.1:5432").held_by(9).done()
            });
            add_sockets(&mut facts, connections.collect::<Vec<_>>());
            fired(&RULE, &facts).remove(0)
        };
        let connecting = program(TcpState::SynSent, "60000 60999");
        assert_eq!(connecting.applies_to, AppliesTo::Program);
        assert!(
            connecting.proposed.contains("time limit"),
            "{}",
            connecting.proposed
        );
        let wanted = program(TcpState::Established, "60000 60999");
        assert_eq!(wanted.setting, SETTING);
        assert!(
            wanted
                .apply
                .ends_with("better: fewer connections to one destination at a time"),
            "{}",
            wanted.apply
        );
    }

    #[test]
    fn connections_of_clients_take_no_port() {
        let mut facts = bare_host(8 << 30);
        let peers = (0..26_800).map(|k| {
            let peer = format!("198.51.{}.{}:{}", k / 250, k % 250 + 1, 20_000 + k);
            socket(TcpState::TimeWait, "10.0.0.5:40000", &peer).done()
        });
        add_sockets(&mut facts, peers.collect::<Vec<_>>());
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn a_wider_range_comes_after_the_ports_of_listeners() {
        let mut facts = bare_host(8 << 30);
        let connections = (0..20_000).map(|k| {
            let local = format!("10.0.0.9:{}", 32_768 + k);
            socket(TcpState::Established, &local, "10.0.0.1:5432")
                .held_by(9)
                .done()
        });
        add_sockets(&mut facts, connections.collect::<Vec<_>>());
        add_sockets(
            &mut facts,
            [socket(TcpState::Listen, "0.0.0.0:8080", "0.0.0.0:0").done()],
        );
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.setting, SETTING);
        assert!(
            finding
                .apply
                .starts_with("first sysctl -w net.ipv4.ip_local_reserved_ports=8080; then "),
            "{}",
            finding.apply
        );
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

    #[test]
    fn the_program_is_named_beside_a_setting_of_its_namespace() {
        use crate::rules::testing::add_process;
        let mut facts = bare_host(8 << 30);
        set(&mut facts, REUSE, "2");
        time_wait(&mut facts, "10.0.0.9", "10.0.0.1:5432", 26_800);
        let open = socket(TcpState::Established, "10.0.0.9:60500", "10.0.0.1:5432");
        add_sockets(&mut facts, [open.held_by(5).done()]);
        add_process(&mut facts, (31, "php-fpm"), None, [5]);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.setting, REUSE);
        assert!(
            finding.summary.ends_with("by php-fpm (31)"),
            "{}",
            finding.summary
        );
    }
}
