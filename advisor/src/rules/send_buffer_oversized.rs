//! Send buffers that could take more memory than all of TCP may have.

use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_facts::units::bytes;
use advisor_facts::{Facts, SocketSource};
use advisor_report::measured::Measured;

use super::program::by_program;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity, not_initial_namespace,
};

pub(super) const RULE: Rule = Rule {
    code: "LB405",
    name: "send-buffer-oversized",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "the harm is RAM of the host that TCP may take; a guest has other RAM",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Send buffers of a program that together exceed the high mark of tcp_mem. Each is \
        far larger than its connection can use. If the peers stall, the buffers fill, and TCP on \
        the whole host is out of memory.",
    evidence: "The limit of each send buffer (SKMEMINFO), and what the connection needs: \
        delivery rate times round trip. Only buffers of more than 16 times that and more than 4 \
        MiB count; 4 MiB is the most to which the kernel lets a buffer grow by default.",
    recommendation: "Leave SO_SNDBUF unset, so that the kernel sizes the buffer for the \
        connection. If it has to be set: twice rate times round trip.",
    cost: "None; it saves memory.",
    risk: "A connection that needs more now and then is slower at that time.",
    undo: "Set the former SO_SNDBUF.",
    references: &[
        "tcp_sndbuf_expand: net/ipv4/tcp_input.c of Linux",
        "socket(7), SO_SNDBUF: the kernel doubles it and stops sizing the buffer",
        "tcp_wmem: Documentation/networking/ip-sysctl.rst of Linux",
    ],
};

/// The third value of tcp_wmem by default, in bytes: a buffer grows no further.
const GROWN_BYTES: u32 = 4 << 20;
/// A buffer this many times the need is too large.
const FAR: u64 = 16;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if !matches!(&facts.now.sockets, Some(sockets) if sockets.source == SocketSource::SockDiag) {
        return Outcome::NotEvaluated(
            "needs the sizes of buffers, which only sock_diag gives".to_owned(),
        );
    }
    let Some([_, _, high]) = facts.settings.tcp_mem else {
        return not_initial_namespace("net.ipv4.tcp_mem");
    };
    let high = high.saturating_mul(facts.page_bytes);
    let programs = by_program(facts, is_oversized);
    let findings: Vec<_> = programs
        .iter()
        .map(|program| {
            let buffers = program.sockets.iter().map(|socket| buffer(socket)).sum();
            (program, buffers)
        })
        .filter(|(_, buffers): &(_, u64)| *buffers > high)
        .map(|(program, buffers)| {
            let count = program.sockets.len();
            let need: u64 = program
                .sockets
                .iter()
                .filter_map(|socket| need_bytes(socket))
                .fold(0, u64::saturating_add);
            let largest = program.sockets.iter().map(|socket| buffer(socket)).max();
            let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX).into();
            Finding {
                severity: Severity::Notice,
                confidence: Confidence::Medium,
                summary: format!(
                    "{count} send buffers of {} may take {}, more than TCP may have",
                    program.name,
                    bytes(buffers)
                ),
                why: format!(
                    "At the rates and round trips seen, these connections use {} together. The \
                     rest fills only if peers stall, and then all connections of the host are \
                     short of memory.",
                    bytes(need)
                ),
                applies_to: AppliesTo::Program,
                subject: program.name.clone(),
                setting: "SO_SNDBUF".to_owned(),
                current: format!("up to {}", bytes(largest.unwrap_or(0))),
                proposed: "not set, or twice rate times round trip".to_owned(),
                evidence: vec![
                    Evidence::new(
                        "host.sockets.send-buffers",
                        i64::try_from(count).unwrap_or(i64::MAX).into(),
                        "sock_diag, SKMEMINFO",
                    ),
                    Evidence::new(
                        "host.sockets.send-buffers.bytes",
                        number(buffers),
                        "sock_diag, SKMEMINFO",
                    ),
                    Evidence::new(
                        "host.sockets.send-buffers.needed-bytes",
                        number(need),
                        "sock_diag, tcp_info: delivery_rate, rtt",
                    ),
                    Evidence::new(
                        "net.ipv4.tcp_mem.high-bytes",
                        number(high),
                        "/proc/sys/net/ipv4/tcp_mem",
                    ),
                ],
                cost: DOCUMENTATION.cost.to_owned(),
                risk: DOCUMENTATION.risk.to_owned(),
                apply: "in the program: remove setsockopt(SO_SNDBUF). If the kernel grew the \
                    buffers, the third value of net.ipv4.tcp_wmem is too large for so many \
                    connections"
                    .to_owned(),
                undo: DOCUMENTATION.undo.to_owned(),
                verify: format!(
                    "{}: tb of skmem is smaller on new connections",
                    facts.command("ss -tm")
                ),
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(format!(
            "no program's send buffers could take more than {}",
            bytes(high)
        ));
    }
    Outcome::Fired(findings)
}

fn buffer(socket: &TcpSocket) -> u64 {
    socket
        .memory
        .as_ref()
        .map_or(0, |memory| u64::from(memory.send_buffer_bytes))
}

/// The buffer that a connection can use, in bytes: rate times round trip.
fn need_bytes(socket: &TcpSocket) -> Option<u64> {
    let info = socket.info.as_ref()?;
    let rate = info.delivery_rate().filter(|rate| *rate > 0)?;
    let need = u128::from(rate) * u128::from(info.rtt_us()?) / 1_000_000;
    u64::try_from(need).ok()
}

fn is_oversized(socket: &TcpSocket) -> bool {
    socket.state == TcpState::Established
        && buffer(socket) > u64::from(GROWN_BYTES)
        && need_bytes(socket).is_some_and(|need| buffer(socket) / FAR > need)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("send-buffer-oversized")
    }

    #[test]
    fn it_fires_above_the_high_mark() {
        let mut facts = firing();
        let buffers: u64 = by_program(&facts, is_oversized)[0]
            .sockets
            .iter()
            .map(|socket| buffer(socket))
            .sum();
        let pages = buffers / facts.page_bytes;
        facts.settings.tcp_mem = Some([1, 2, pages - 1]);
        fired(&RULE, &facts);
        facts.settings.tcp_mem = Some([1, 2, pages + 1]);
        assert_quiet(&RULE, &facts);
        facts.now.sockets = None;
        assert_not_evaluated(&RULE, &facts, "sock_diag");
    }
}
