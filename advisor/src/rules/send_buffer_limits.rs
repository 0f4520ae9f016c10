//! Connections that could send more if their send buffers were larger.

use advisor_facts::Facts;
use advisor_facts::sock_diag::TcpSocket;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::peer_window_limits::is_telling;
use super::program::{by_program, connections, without_tcp_info};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB721",
    name: "send-buffer-limits",
    scope: Scope::Namespace,
    scenario: Some("throughput/windows/send-buffer[buffer=small]"),
    cure: Some("throughput/windows/send-buffer[buffer=unset]"),
    proven_by: ProvenBy::Nothing(
        "no recorded host has such sockets; throughput/windows/send-buffer tries the change",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections whose send buffers are too small for the path. What is sent stays in \
        the buffer until it is acknowledged. A buffer smaller than rate times round trip leaves \
        the line idle until the acknowledgments come.",
    evidence: "tcp_info of established connections that sent in the last minute: sndbuf_limited \
        at least a fifth of busy_time, busy for a second or more, and a round trip of 10 ms or \
        more.",
    recommendation: "Remove setsockopt(SO_SNDBUF) from the program: the kernel then sizes the \
        buffer for the path. Where the buffers are as large as tcp_wmem allows already: a larger \
        third value of it.",
    cost: "Memory for what is on its way, up to the buffer for each connection.",
    risk: "A buffer that fills at a stalled peer holds more memory.",
    undo: "Set the former SO_SNDBUF.",
    references: &[
        "tcp_chrono_start, TCP_CHRONO_SNDBUF_LIMITED: net/ipv4/tcp.c of Linux",
        "tcp_sndbuf_expand: net/ipv4/tcp_input.c of Linux",
        "socket(7), SO_SNDBUF: the kernel doubles it and stops sizing the buffer",
    ],
};

/// The share of the busy time from which the buffer matters: one in so many (our judgement).
const ONE_IN: u64 = 5;

fn is_limited(socket: &TcpSocket) -> bool {
    let Some(info) = &socket.info else {
        return false;
    };
    let (Some(busy), Some(limited)) = (info.busy_time_us(), info.sndbuf_limited_us()) else {
        return false;
    };
    is_telling(socket, info) && limited >= busy / ONE_IN
}

fn buffer(socket: &TcpSocket) -> u64 {
    let memory = socket.memory.as_ref();
    memory.map_or(0, |memory| u64::from(memory.send_buffer_bytes))
}

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let programs = by_program(facts, is_limited);
    if programs.is_empty() {
        return Outcome::Quiet(
            "no connection to a distant peer waits for its send buffer".to_owned(),
        );
    }
    let most = facts
        .settings
        .tcp_wmem
        .map_or(u64::MAX, |[_, _, most]| most);
    let findings = programs.iter().map(|program| {
        let count = program.sockets.len();
        let sockets = || program.sockets.iter().copied();
        let largest = sockets().map(buffer).max().unwrap_or(0);
        let rtt = sockets()
            .filter_map(|socket| socket.info.as_ref()?.rtt_us())
            .max()
            .unwrap_or(0);
        let grown = largest >= most;
        Finding {
            severity: Severity::Notice,
            confidence: Confidence::Medium,
            summary: format!(
                "{} of {} wait for room in their send buffers, of at most {}",
                connections(count),
                program.name,
                bytes(largest)
            ),
            why: format!(
                "With a round trip of {} ms a buffer of {} allows at most {} per second.",
                rtt / 1000,
                bytes(largest),
                bytes(largest.saturating_mul(1_000_000) / u64::from(rtt.max(1)))
            ),
            applies_to: AppliesTo::Program,
            subject: program.name.clone(),
            setting: if grown {
                "the third value of tcp_wmem"
            } else {
                "SO_SNDBUF"
            }
            .to_owned(),
            current: bytes(largest),
            proposed: if grown {
                format!("{} bytes", most.saturating_mul(2))
            } else {
                "not set".to_owned()
            },
            evidence: vec![
                Evidence::new(
                    "host.sockets.sndbuf-limited",
                    i64::try_from(count).unwrap_or(i64::MAX).into(),
                    "sock_diag, tcp_info: sndbuf_limited, busy_time",
                ),
                Evidence::new(
                    "host.sockets.sndbuf-limited.buffer-bytes",
                    i64::try_from(largest).unwrap_or(i64::MAX).into(),
                    "sock_diag, SKMEMINFO",
                ),
                Evidence::new(
                    "host.sockets.sndbuf-limited.rtt-us",
                    i64::from(rtt).into(),
                    "sock_diag, tcp_info: rtt",
                ),
            ],
            cost: DOCUMENTATION.cost.to_owned(),
            risk: DOCUMENTATION.risk.to_owned(),
            apply: if grown {
                "the kernel grew these buffers as far as the third value of net.ipv4.tcp_wmem \
                 lets it: raise it where the program runs"
            } else {
                "in the program: remove setsockopt(SO_SNDBUF); most servers have a setting for it \
                 (sndbuf)"
            }
            .to_owned(),
            undo: DOCUMENTATION.undo.to_owned(),
            verify: format!(
                "{} shows a smaller share of sndbuf_limited",
                facts.command("ss -ti")
            ),
        }
    });
    Outcome::Fired(findings.collect())
}

#[cfg(test)]
pub(super) mod tests {
    use advisor_facts::sock_diag::TcpState;

    use super::*;
    use crate::rules::testing::{add_process, add_sockets, assert_quiet, fired, host, socket};

    fn limited(busy_us: u64, limited_us: u64, buffer_bytes: u32) -> Facts {
        let mut facts = host("quiet");
        let mut sending = socket(TcpState::Established, "192.0.2.1:443", "198.51.100.7:50000")
            .info("busy_time", busy_us)
            .info("sndbuf_limited", limited_us)
            .info("rtt", 80_000)
            .held_by(4711)
            .done();
        sending.memory.as_mut().unwrap().send_buffer_bytes = buffer_bytes;
        add_sockets(&mut facts, [sending]);
        add_process(&mut facts, (31, "web"), None, [4711]);
        facts
    }

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        limited(20_000_000, 8_000_000, 32_768)
    }

    #[test]
    fn a_fifth_of_the_time_tells_and_the_buffer_says_who_made_it_small() {
        assert_eq!(fired(&RULE, &firing())[0].setting, "SO_SNDBUF");
        let finding = fired(&RULE, &limited(1_000_000, 200_000, 4_194_304)).remove(0);
        assert_eq!(finding.setting, "the third value of tcp_wmem");
        assert_quiet(&RULE, &limited(1_000_000, 199_999, 4_194_304));
        assert_quiet(&RULE, &limited(999_999, 999_999, 4_194_304));
    }
}
