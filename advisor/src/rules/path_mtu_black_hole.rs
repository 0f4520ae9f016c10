//! Full segments that never arrive, while small ones do.

use std::collections::BTreeSet;

use advisor_facts::Facts;
use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_report::measured::Measured;

use super::program::without_tcp_info;
use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope, Severity,
    cannot_be_read,
};

pub(super) const RULE: Rule = Rule {
    code: "LB731",
    name: "path-mtu-black-hole",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "it takes a router that drops large packets and says nothing, which no suite has yet",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections whose small segments arrive and whose full ones never do. A tunnel or \
        a router on the path takes smaller packets only, and its ICMP message about that is \
        filtered. The handshake and a short request work, and the first long message hangs.",
    evidence: "The socket table: ESTABLISHED, less than a full segment ever acknowledged though \
        something was, more than one full segment waiting, and three retransmission timeouts or \
        more in a row; to 3 peers or more, with tcp_mtu_probing of 0.",
    recommendation: "tcp_mtu_probing of 1: after some timeouts the kernel tries smaller segments. \
        Better: let ICMP type 3 code 4 (ICMPv6 type 2) pass, or clamp the MSS where the tunnel \
        begins.",
    cost: "None where no black hole is suspected.",
    risk: "A path that only loses much gets smaller segments for a while.",
    undo: "Set the former value.",
    references: &[
        "tcp_mtu_probing: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_mtu_probing of net/ipv4/tcp_timer.c of Linux",
        "RFC 2923 section 2.1: black holes; RFC 4821",
    ],
};

const SETTING: &str = "net.ipv4.tcp_mtu_probing";
/// Timeouts in a row: with fewer it may be loss (the kernel begins to probe at tcp_retries1,
/// which is 3).
const TIMEOUTS: u8 = 3;
/// Peers: one or two may be gone (our judgement).
const PEERS: usize = 3;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(probing) = facts.settings.tcp_mtu_probing else {
        return cannot_be_read(SETTING);
    };
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let sockets = facts.now.sockets.iter().flat_map(|sockets| &sockets.all);
    let stuck: Vec<_> = sockets.filter(|socket| is_stuck(socket)).collect();
    let peers: BTreeSet<_> = stuck.iter().map(|socket| socket.peer.ip()).collect();
    if probing != 0 || peers.len() < PEERS {
        return Outcome::Quiet(format!(
            "{} peers got the small segments and none of the full ones; tcp_mtu_probing is \
             {probing}",
            peers.len()
        ));
    }
    let finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, "1");
    let mut evidence = finding.evidence;
    evidence.push(Evidence::new(
        "host.sockets.full-segments-lost",
        i64::try_from(stuck.len()).unwrap_or(i64::MAX).into(),
        "sock_diag, tcp_info: retransmits, bytes_acked, snd_mss",
    ));
    Outcome::Fired(vec![Finding {
        severity: Severity::Warning,
        confidence: Confidence::Low,
        summary: format!(
            "{} connections to {} peers hang at their first full segment",
            stuck.len(),
            peers.len()
        ),
        why: "Their small segments were acknowledged, and the first full one is sent again and \
            again. Peers that died just then look the same; if they answer ping -M do -s 1400 \
            only with a smaller size, it is the path."
            .to_owned(),
        evidence,
        ..finding
    }])
}

fn is_stuck(socket: &TcpSocket) -> bool {
    let Some(info) = &socket.info else {
        return false;
    };
    let (Some(acked), Some(mss)) = (info.bytes_acked(), info.snd_mss()) else {
        return false;
    };
    socket.state == TcpState::Established
        && socket.inode != 0
        // The SYN counts as a byte.
        && (2..u64::from(mss)).contains(&acked)
        && socket.send_queue_bytes > mss
        && info.retransmits().is_some_and(|count| count >= TIMEOUTS)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{
        add_process, add_sockets, assert_not_evaluated, assert_quiet, fired, host, set, socket,
    };

    fn stuck(peers: u32, acked: u64, queue_bytes: u32) -> Facts {
        let mut facts = host("quiet");
        let inodes = 4711..4711 + peers;
        let sockets = inodes.clone().map(|inode| {
            let peer = format!("198.51.100.{}:40000", inode - 4700);
            socket(TcpState::Established, "192.0.2.1:443", &peer)
                .still_for(3_000)
                .info("retransmits", 3)
                .info("backoff", 3)
                .info("unacked", 2)
                .info("bytes_acked", acked)
                .sending(queue_bytes, queue_bytes)
                .held_by(inode)
                .done()
        });
        add_sockets(&mut facts, sockets);
        add_process(&mut facts, (31, "web"), None, inodes);
        facts
    }

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        stuck(4, 300, 5_000)
    }

    #[test]
    fn small_segments_arrived_and_full_ones_did_not() {
        let mut facts = firing();
        fired(&RULE, &facts);
        assert_quiet(&RULE, &stuck(2, 300, 5_000));
        assert_quiet(&RULE, &stuck(4, 1_448, 5_000));
        assert_quiet(&RULE, &stuck(4, 1, 5_000));
        assert_quiet(&RULE, &stuck(4, 300, 1_448));
        set(&mut facts, SETTING, "1");
        assert_quiet(&RULE, &facts);
        facts.settings.tcp_mtu_probing = None;
        assert_not_evaluated(&RULE, &facts, SETTING);
    }
}
