//! Connections idle for longer than translators and load balancers commonly keep them.

use std::net::IpAddr;

use advisor_facts::Facts;
use advisor_facts::sock_diag::TcpSocket;
use advisor_report::measured::Measured;

use super::keepalive::{DEFAULT_IDLE_MS, MANY, advise, idle_without_keepalive_ms};
use super::program::{by_program, connections, without_tcp_info};
use super::{Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope};

pub(super) const RULE: Rule = Rule {
    code: "LB422",
    name: "idle-past-middlebox",
    scope: Scope::Namespace,
    scenario: Some("crash/half-open/idle[option=none]"),
    cure: Some("crash/half-open/idle[option=keepalive]"),
    proven_by: ProvenBy::Nothing(
        "the translator or load balancer is not in the guest; what keepalive finds out is tried \
         with LB406, and what a forgotten entry does with LB702",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections idle for longer than most translators and balancers keep them. A box \
        between the two that has forgotten a connection drops what is sent on it, or answers with \
        a reset. The first request after the pause hangs or fails.",
    evidence: "The socket table: ESTABLISHED, to a peer that is not this host, no data in either \
        direction for 350 s and less than two hours (then it is LB406), and no timer. It fires at \
        10 connections of one program. Whether there is such a box does not show.",
    recommendation: "SO_KEEPALIVE with a TCP_KEEPIDLE of at most 200 s, below the limits of all \
        boxes that are named below; or close what is idle sooner than they do.",
    cost: "One probe of 40 bytes per idle connection and interval.",
    risk: "A path that is down for longer than the probes last ends the connection, which would \
        have survived idle.",
    undo: "Remove the calls.",
    references: &[
        "350 s: AWS, Network Load Balancer, Update the TCP idle timeout; NAT gateways",
        "4 minutes: Azure, Load Balancer TCP reset and idle timeout; 10 minutes: Google Cloud, \
         firewall connection tracking",
        "RFC 5382, REQ-5: not below 2 hours and 4 minutes, which many do not keep to",
        "tcp(7), SO_KEEPALIVE, TCP_KEEPIDLE",
    ],
};

/// Idle for this long, in milliseconds: what AWS's balancers and translators keep (see the
/// references). Shorter limits exist; at this one several common boxes have forgotten.
const IDLE_MS: u32 = 350_000;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let programs = by_program(facts, is_past);
    let count: usize = programs.iter().map(|program| program.sockets.len()).sum();
    let findings: Vec<_> = programs
        .iter()
        .filter(|program| program.sockets.len() >= MANY)
        .map(|program| {
            let count = program.sockets.len();
            Finding {
                confidence: Confidence::Low,
                summary: format!(
                    "{} of {} are idle for longer than many load balancers keep them",
                    connections(count),
                    program.name
                ),
                why: "If a translator or balancer is between the two, it may have forgotten these \
                    connections: the next request on them hangs or is reset. Without keepalive \
                    nothing is sent that would remind it."
                    .to_owned(),
                ..advise(facts, &DOCUMENTATION, program, 200)
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(format!(
            "{count} connections without keepalive are idle for longer than many load balancers \
             keep them"
        ));
    }
    Outcome::Fired(findings)
}

/// Whether there may be a box between the two.
fn is_remote(socket: &TcpSocket) -> bool {
    let peer = socket.peer.ip().to_canonical();
    let is_near = match peer {
        IpAddr::V4(peer) => peer.is_loopback() || peer.is_link_local(),
        IpAddr::V6(peer) => peer.is_loopback() || peer.is_unicast_link_local(),
    };
    !is_near && peer != socket.local.ip().to_canonical()
}

fn is_past(socket: &TcpSocket) -> bool {
    is_remote(socket)
        && idle_without_keepalive_ms(socket)
            .is_some_and(|idle| (IDLE_MS..DEFAULT_IDLE_MS).contains(&idle))
}

#[cfg(test)]
pub(super) mod tests {
    use advisor_facts::sock_diag::TcpState;

    use super::*;
    use crate::rules::testing::{add_process, add_sockets, assert_quiet, fired, host, socket};

    fn idle(count: u32, ms: u64, peer: &str) -> Facts {
        let mut facts = host("quiet");
        let inodes = 4711..4711 + count;
        let sockets = inodes.clone().zip(50_000..).map(|(inode, port)| {
            socket(TcpState::Established, &format!("192.0.2.1:{port}"), peer)
                .still_for(ms)
                .held_by(inode)
                .done()
        });
        add_sockets(&mut facts, sockets);
        add_process(&mut facts, (31, "pool"), None, inodes);
        facts
    }

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        idle(12, 900_000, "198.51.100.7:5432")
    }

    #[test]
    fn it_fires_at_10_connections_between_350_s_and_2_h_to_another_host() {
        let peer = "198.51.100.7:5432";
        fired(&RULE, &idle(10, 350_000, peer));
        assert_quiet(&RULE, &idle(9, 350_000, peer));
        assert_quiet(&RULE, &idle(10, 349_999, peer));
        assert_quiet(&RULE, &idle(10, 7_200_000, peer));
        assert_quiet(&RULE, &idle(10, 350_000, "127.0.0.1:5432"));
        assert_quiet(&RULE, &idle(10, 350_000, "192.0.2.1:5432"));
    }
}
