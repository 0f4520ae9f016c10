//! A socket that is connected to itself.

use std::collections::BTreeSet;

use advisor_facts::Facts;
use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_report::measured::Measured;

use super::apply::there_and_back;
use super::listener_in_port_range::{RESERVED, reserved_among, with_reserved};
use super::program::by_program;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB305",
    name: "connected-to-itself",
    scope: Scope::Namespace,
    scenario: Some("bind/itself/connect[port=free]"),
    cure: Some("bind/itself/connect[port=reserved]"),
    proven_by: ProvenBy::Nothing("a reproduction has no program that connects to its own port yet"),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A socket whose peer is itself: local address and port are the peer's. A client \
        that tries again and again to connect to a local port in ip_local_port_range, where nobody \
        listens, is given that port as its own at last, and the simultaneous open succeeds. It \
        reads what it writes, and the server cannot bind its port.",
    evidence: "The socket table: a connection whose local address and port are those of its peer. \
        One is enough.",
    recommendation: "net.ipv4.ip_local_reserved_ports with the port of the server, which \
        connect() then does not take. The program has to close this connection: it should compare \
        getsockname() and getpeername() after connect() to a local port.",
    cost: "None.",
    risk: "None known: a reserved port can still be bound by its number.",
    undo: "Set the former list.",
    references: &[
        "RFC 9293 section 3.5: simultaneous open",
        "ip_local_reserved_ports: Documentation/networking/ip-sysctl.rst of Linux",
        "connect() to a free port of the range connects to itself: measured",
    ],
};

fn is_its_own_peer(socket: &TcpSocket) -> bool {
    socket.peer.port() != 0
        && socket.local == socket.peer
        && !matches!(socket.state, TcpState::Listen | TcpState::TimeWait)
}

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.now.sockets.is_none() {
        return Outcome::NotEvaluated("the sockets cannot be seen".to_owned());
    }
    let programs = by_program(facts, is_its_own_peer);
    if programs.is_empty() {
        return Outcome::Quiet("no socket is connected to itself".to_owned());
    }
    let settings = &facts.settings;
    let findings = programs.iter().map(|program| {
        let ports: BTreeSet<u16> = program
            .sockets
            .iter()
            .map(|socket| socket.local.port())
            .collect();
        let listed: Vec<String> = ports.iter().map(u16::to_string).collect();
        let listed = listed.join(" ");
        let unreserved = &ports - &reserved_among(settings, &ports);
        let proposed = with_reserved(settings, &unreserved);
        let (apply, undo) = there_and_back(facts, RESERVED, &proposed);
        let finding = Finding {
            severity: Severity::Warning,
            confidence: Confidence::High,
            summary: format!("{} is connected to itself on port {listed}", program.name),
            why: "It reads what it writes and believes that it has a server. As long as it lasts \
                the server cannot bind the port: EADDRINUSE."
                .to_owned(),
            applies_to: AppliesTo::Both,
            subject: program.name.clone(),
            setting: RESERVED.to_owned(),
            current: match &settings.ip_local_reserved_ports {
                Some(list) if list.is_empty() => "none".to_owned(),
                Some(list) => list.clone(),
                None => "not recorded".to_owned(),
            },
            proposed,
            evidence: vec![
                Evidence::new(
                    "host.sockets.connected-to-itself",
                    i64::try_from(program.sockets.len())
                        .unwrap_or(i64::MAX)
                        .into(),
                    "socket table: local address = peer address",
                ),
                Evidence::new(
                    "host.sockets.connected-to-itself.port",
                    ports.first().map_or(0, |port| i64::from(*port)).into(),
                    "socket table: local address = peer address",
                ),
            ],
            cost: DOCUMENTATION.cost.to_owned(),
            risk: DOCUMENTATION.risk.to_owned(),
            apply: format!("{apply}; then restart the program, or let it close the connection"),
            undo,
            verify: format!(
                "{} shows no line with the same address twice",
                facts.command("ss -tn")
            ),
        };
        if !unreserved.is_empty() {
            return finding;
        }
        Finding {
            applies_to: AppliesTo::Program,
            setting: "the connection".to_owned(),
            current: format!("port {listed} on both ends; the port is reserved now"),
            proposed: "close it".to_owned(),
            apply: "restart the program, or let it close the connection".to_owned(),
            undo: "Nothing is changed.".to_owned(),
            ..finding
        }
    });
    Outcome::Fired(findings.collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{add_sockets, assert_quiet, fired, host, set, socket};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("connected-to-itself")
    }

    #[test]
    fn the_same_address_on_both_ends_is_one_socket() {
        let mut facts = host("quiet");
        let here = "127.0.0.1:40000";
        let end = |local, peer| socket(TcpState::Established, local, peer).held_by(7).done();
        add_sockets(&mut facts, [end(here, "127.0.0.1:40001")]);
        add_sockets(&mut facts, [end("127.0.0.1:40001", here)]);
        add_sockets(&mut facts, [end("127.0.0.2:40000", here)]);
        assert_quiet(&RULE, &facts);
        add_sockets(&mut facts, [end(here, here)]);
        set(&mut facts, RESERVED, "9100");
        let proposed = fired(&RULE, &facts).remove(0).proposed;
        assert_eq!(proposed, "9100,40000");
        set(&mut facts, RESERVED, &proposed);
        assert_eq!(fired(&RULE, &facts)[0].applies_to, AppliesTo::Program);
    }
}
