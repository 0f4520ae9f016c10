//! Idle connections without keepalive, for the rules that advise it.

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::sock_diag::{TcpSocket, TcpState, Timer};
use advisor_facts::units::span;

use super::program::Program;
use super::{AppliesTo, Confidence, Documentation, Evidence, Finding, Severity};

/// Idle for this long, in milliseconds: the default of keepalive.
pub(super) const DEFAULT_IDLE_MS: u32 = 7_200_000;
/// Connections of one program: more than chance.
pub(super) const MANY: usize = 10;

/// What the findings rest on.
const SOURCE: &str = "sock_diag: timer, tcp_info.last_data_recv";

/// How long no data went in either direction; `None` if the connection is not an idle one
/// that a program holds, or a timer or keepalive looks after it.
pub(super) fn idle_without_keepalive_ms(socket: &TcpSocket) -> Option<u32> {
    let unattended = socket.inode != 0
        && socket.state == TcpState::Established
        && socket.timer == Timer::Off
        && !socket.options.is_some_and(|options| options.keepalive)
        && Condition::of(socket) == Condition::Idle;
    let info = socket.info.as_ref().filter(|_| unattended)?;
    Some(info.last_data_sent_ms()?.min(info.last_data_recv_ms()?))
}

/// A finding that advises keepalive after `idle_s` seconds. The rule adds the summary, the
/// reason and how sure it is.
pub(super) fn advise(
    facts: &Facts,
    documentation: &Documentation,
    program: &Program<'_>,
    idle_s: u32,
) -> Finding {
    let idle = program.sockets.iter().copied();
    let longest = idle
        .filter_map(idle_without_keepalive_ms)
        .max()
        .unwrap_or(0);
    let count = i64::try_from(program.sockets.len()).unwrap_or(i64::MAX);
    Finding {
        severity: Severity::Notice,
        confidence: Confidence::Low,
        summary: String::new(),
        why: String::new(),
        applies_to: AppliesTo::Program,
        subject: program.name.clone(),
        setting: "SO_KEEPALIVE".to_owned(),
        current: "0 (no timer is running)".to_owned(),
        proposed: format!("1, with TCP_KEEPIDLE {idle_s}, TCP_KEEPINTVL 10, TCP_KEEPCNT 6"),
        evidence: vec![
            Evidence::new("host.sockets.ESTABLISHED.idle", count.into(), SOURCE),
            Evidence::new(
                "host.sockets.ESTABLISHED.longest-idle",
                span(longest.into()).as_str().into(),
                SOURCE,
            ),
        ],
        cost: documentation.cost.to_owned(),
        risk: documentation.risk.to_owned(),
        apply: "in the program, on each connection: int on = 1; setsockopt(fd, SOL_SOCKET, \
            SO_KEEPALIVE, &on, sizeof on); and TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT at \
            IPPROTO_TCP"
            .to_owned(),
        undo: documentation.undo.to_owned(),
        verify: format!(
            "{} shows timer:(keepalive,...) on them",
            facts.command("ss -tno")
        ),
    }
}
