//! Connections that could send more if their peers' receive windows were larger.

use advisor_facts::Facts;
use advisor_facts::sock_diag::{TcpInfo, TcpSocket, TcpState};
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::program::{by_program, connections, without_tcp_info};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB720",
    name: "peer-window-limits",
    scope: Scope::Namespace,
    scenario: Some("throughput/windows/receive-buffer[largest=small]"),
    cure: Some("throughput/windows/receive-buffer[largest=default]"),
    proven_by: ProvenBy::Nothing(
        "the change is at the peer; LB722 is the same where the peer is the host itself",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections whose peers offer a receive window too small for the path. They have \
        data and congestion control would let it go, but the window is full most of the time. So \
        a distant peer gets one window per round trip, however fast the line is.",
    evidence: "tcp_info of established connections that sent in the last minute: rwnd_limited at \
        least half of busy_time, busy for a second or more, a round trip of 10 ms or more, and a \
        window that is not closed (that is LB403).",
    recommendation: "At the peer: the third value of tcp_rmem at least four times rate times \
        round trip (a window takes half of the buffer at first), tcp_window_scaling and \
        tcp_moderate_rcvbuf at 1, no SO_RCVBUF, and a program that reads as fast as it receives.",
    cost: "Memory at the peer, up to the buffer for each connection.",
    risk: "If the peer's program is what is slow, larger windows only fill its buffers.",
    undo: "Set the peer's former values.",
    references: &[
        "tcp_chrono_start, TCP_CHRONO_RWND_LIMITED: net/ipv4/tcp_output.c of Linux",
        "tcpi_rwnd_limited, tcpi_busy_time: include/uapi/linux/tcp.h of Linux",
        "RFC 7323 section 1.1: the window bounds the throughput",
    ],
};

/// Busy for less, a connection tells nothing, in microseconds (our judgement).
pub(super) const BUSY_US: u64 = 1_000_000;
/// Below this round trip, in microseconds, the programs are slower than the window (our
/// judgement).
pub(super) const DISTANT_US: u32 = 10_000;
/// What was sent longer ago, in milliseconds, is over.
const RECENT_MS: u32 = 60_000;

/// Whether a connection has sent for long enough, to a distant peer and of late, for what
/// limited it to tell something.
pub(super) fn is_telling(socket: &TcpSocket, info: &TcpInfo) -> bool {
    socket.state == TcpState::Established
        && info.busy_time_us().is_some_and(|busy| busy >= BUSY_US)
        && info.rtt_us().is_some_and(|rtt| rtt >= DISTANT_US)
        && info.last_data_sent_ms().is_some_and(|ms| ms <= RECENT_MS)
        && info.backoff() == Some(0)
}

fn is_limited(socket: &TcpSocket) -> bool {
    let Some(info) = &socket.info else {
        return false;
    };
    let (Some(busy), Some(limited)) = (info.busy_time_us(), info.rwnd_limited_us()) else {
        return false;
    };
    is_telling(socket, info)
        && info.snd_wnd().is_some_and(|window| window > 0)
        && limited >= busy / 2
}

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let programs = by_program(facts, is_limited);
    if programs.is_empty() {
        return Outcome::Quiet(
            "no connection to a distant peer waits for its window half of the time".to_owned(),
        );
    }
    let findings = programs.iter().map(|program| {
        let count = program.sockets.len();
        let infos = || {
            program
                .sockets
                .iter()
                .filter_map(|socket| socket.info.as_ref())
        };
        let window = infos().filter_map(TcpInfo::snd_wnd).max().unwrap_or(0);
        let rtt = infos().filter_map(TcpInfo::rtt_us).max().unwrap_or(0);
        let most = u64::from(window) * 1_000_000 / u64::from(rtt.max(1));
        Finding {
            severity: Severity::Notice,
            confidence: Confidence::Low,
            summary: format!(
                "{} of {} wait for the peer's receive window half of the time or more",
                connections(count),
                program.name
            ),
            why: format!(
                "A window of at most {} and a round trip of {} ms allow {} per second, however \
                 fast the line is. Either the peer's buffer is small, or its program reads slowly.",
                bytes(window.into()),
                rtt / 1000,
                bytes(most)
            ),
            applies_to: AppliesTo::Program,
            subject: format!("{}: its peers", program.name),
            setting: "the peer's receive buffer".to_owned(),
            current: format!("a window of {}", bytes(window.into())),
            proposed: "four times rate times round trip".to_owned(),
            evidence: vec![
                Evidence::new(
                    "host.sockets.rwnd-limited",
                    i64::try_from(count).unwrap_or(i64::MAX).into(),
                    "sock_diag, tcp_info: rwnd_limited, busy_time",
                ),
                Evidence::new(
                    "host.sockets.rwnd-limited.window-bytes",
                    i64::from(window).into(),
                    "sock_diag, tcp_info: snd_wnd",
                ),
                Evidence::new(
                    "host.sockets.rwnd-limited.rtt-us",
                    i64::from(rtt).into(),
                    "sock_diag, tcp_info: rtt",
                ),
            ],
            cost: DOCUMENTATION.cost.to_owned(),
            risk: DOCUMENTATION.risk.to_owned(),
            apply: "on the peer's host: a larger third value of net.ipv4.tcp_rmem, or a program \
                that reads sooner"
                .to_owned(),
            undo: DOCUMENTATION.undo.to_owned(),
            verify: format!(
                "{} shows a smaller share of rwnd_limited",
                facts.command("ss -ti")
            ),
        }
    });
    Outcome::Fired(findings.collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{add_process, add_sockets, assert_quiet, fired, host, socket};

    fn limited(busy_us: u64, limited_us: u64, rtt_us: u64) -> Facts {
        let mut facts = host("quiet");
        let sending = socket(TcpState::Established, "192.0.2.1:443", "198.51.100.7:50000")
            .info("busy_time", busy_us)
            .info("rwnd_limited", limited_us)
            .info("rtt", rtt_us)
            .held_by(4711);
        add_sockets(&mut facts, [sending.done()]);
        add_process(&mut facts, (31, "web"), None, [4711]);
        facts
    }

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        limited(20_000_000, 18_000_000, 80_000)
    }

    #[test]
    fn it_needs_half_of_a_busy_second_and_a_distant_peer() {
        fired(&RULE, &limited(1_000_000, 500_000, 10_000));
        assert_quiet(&RULE, &limited(999_999, 999_999, 10_000));
        assert_quiet(&RULE, &limited(1_000_000, 499_999, 10_000));
        assert_quiet(&RULE, &limited(1_000_000, 500_000, 9_999));
    }
}
