//! connect() waits for a peer that does not answer.

use advisor_facts::Facts;
use advisor_facts::settings::Settings;
use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_facts::units::span;
use advisor_report::measured::Measured;

use super::program::{Program, by_program, connections, plain};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB423",
    name: "connect-unanswered",
    scope: Scope::Namespace,
    scenario: Some("crash/connect-unanswered/waits"),
    cure: Some("crash/connect-unanswered/user-timeout"),
    proven_by: ProvenBy::Nothing(
        "the limit is the program's: crash/connect-unanswered shows what it does",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A program whose connect() has waited for many seconds. Nothing answers, neither \
        with a handshake nor with a refusal: the machine is gone, or a firewall drops the SYN.",
    evidence: "Sockets in SYN_SENT and how many SYNs were sent again: 3 or more to one address for \
        10 s (warning), or any for 30 s (notice).",
    recommendation: "A time limit for connect() in the program: poll() with a timeout, TCP_SYNCNT \
        or TCP_USER_TIMEOUT. See whether a firewall drops where it should reject.",
    cost: "None.",
    risk: "A peer that is slow to answer, because its queue is full, is given up.",
    undo: "Take the change of the program out again.",
    references: &[
        "tcp_syn_retries, tcp_syn_linear_timeouts: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_retransmit_timer, tcp_write_timeout: net/ipv4/tcp_timer.c of Linux",
        "TCP_SYNCNT, TCP_USER_TIMEOUT: tcp(7)",
    ],
};

/// So many to one address are an outage and not one wrong address (our judgement).
const MANY: usize = 3;
/// From so long on many count (our judgement): three SYNs were lost, or more.
const LONG_MS: u64 = 10_000;
/// From so long on one counts (our judgement).
const VERY_LONG_MS: u64 = 30_000;
/// The first time until a SYN is sent again (TCP_TIMEOUT_INIT).
const FIRST_MS: u64 = 1_000;
/// The longest (TCP_RTO_MAX).
const LONGEST_MS: u64 = 120_000;
/// The default of tcp_syn_retries.
const RETRIES: u64 = 6;
/// Sockets that are shown.
const SHOWN: usize = 3;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.now.sockets.is_none() {
        return Outcome::NotEvaluated("needs the socket table".to_owned());
    }
    let waits = Waits::of(&facts.settings);
    let programs = by_program(facts, |socket| {
        socket.state == TcpState::SynSent && waits.elapsed_ms(socket) >= LONG_MS
    });
    let findings: Vec<_> = programs
        .iter()
        .filter_map(|program| finding(facts, &waits, program))
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(format!(
            "no connect() has waited for {}",
            span(VERY_LONG_MS)
        ));
    }
    Outcome::Fired(findings)
}

/// How the kernel spaces the SYNs of a connection.
struct Waits {
    /// SYNs that follow after a second each, before the pauses double.
    linear: u64,
    /// SYNs that are sent again, at most.
    most: u64,
}

impl Waits {
    fn of(settings: &Settings) -> Self {
        let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let linear = number(settings.tcp_syn_linear_timeouts).unwrap_or(0);
        let retries = number(settings.tcp_syn_retries).unwrap_or(RETRIES);
        Self {
            linear,
            most: retries + linear,
        }
    }

    /// The pause after so many SYNs were sent again.
    fn pause_ms(&self, sent_again: u64) -> u64 {
        let doubled = sent_again.saturating_sub(self.linear).min(16);
        (FIRST_MS << doubled).min(LONGEST_MS)
    }

    /// Since the first SYN.
    fn elapsed_ms(&self, socket: &TcpSocket) -> u64 {
        let sent_again = u64::from(socket.retransmits);
        let before: u64 = (0..sent_again).map(|count| self.pause_ms(count)).sum();
        let pause = self.pause_ms(sent_again);
        before + pause.saturating_sub(socket.timer_ms.into())
    }

    /// Until the kernel gives up, unless the program has set a limit of its own.
    fn left_ms(&self, socket: &TcpSocket) -> u64 {
        let next = u64::from(socket.retransmits) + 1;
        let later: u64 = (next..=self.most).map(|count| self.pause_ms(count)).sum();
        u64::from(socket.timer_ms) + later
    }

    /// From the first SYN to ETIMEDOUT.
    fn whole_ms(&self) -> u64 {
        (0..=self.most).map(|count| self.pause_ms(count)).sum()
    }
}

fn finding(facts: &Facts, waits: &Waits, program: &Program<'_>) -> Option<Finding> {
    let many_to = |socket: &TcpSocket| {
        let to_it = |other: &&&TcpSocket| plain(other.peer) == plain(socket.peer);
        program.sockets.iter().filter(to_it).count() >= MANY
    };
    let stuck: Vec<&TcpSocket> = program
        .sockets
        .iter()
        .copied()
        .filter(|socket| many_to(socket) || waits.elapsed_ms(socket) >= VERY_LONG_MS)
        .collect();
    let oldest = stuck
        .iter()
        .copied()
        .max_by_key(|socket| waits.elapsed_ms(socket))?;
    let is_outage = stuck.iter().any(|socket| many_to(socket));
    let elapsed = span(waits.elapsed_ms(oldest));
    let left = span(waits.left_ms(oldest));
    let whole = span(waits.whole_ms());
    let mut evidence = vec![Evidence::new(
        "host.sockets.SYN_SENT.unanswered",
        i64::try_from(stuck.len()).unwrap_or(i64::MAX).into(),
        "sock_diag",
    )];
    evidence.extend(stuck.iter().take(SHOWN).map(|socket| {
        let waited = span(waits.elapsed_ms(socket));
        Evidence::new(
            format!("{} -> {}", plain(socket.local), plain(socket.peer)),
            format!("{waited}, {} SYNs sent again", socket.retransmits)
                .as_str()
                .into(),
            "sock_diag",
        )
    }));
    let settings = &facts.settings;
    let named = [
        ("net.ipv4.tcp_syn_retries", settings.tcp_syn_retries),
        (
            "net.ipv4.tcp_syn_linear_timeouts",
            settings.tcp_syn_linear_timeouts,
        ),
    ];
    evidence.extend(
        named
            .into_iter()
            .filter_map(|(name, value)| Some(Evidence::sysctl(name, value?.into()))),
    );
    let peer = plain(oldest.peer);
    let command = facts.command(&format!("ss -tno state syn-sent dst {}", peer.ip()));
    Some(Finding {
        severity: if is_outage {
            Severity::Warning
        } else {
            Severity::Notice
        },
        confidence: Confidence::High,
        summary: format!(
            "{} of {} wait for an answer to connect(), to {peer} for {elapsed}",
            connections(stuck.len()),
            program.name
        ),
        why: format!(
            "Nothing answers: no handshake, no refusal and no ICMP error. The machine is gone, or \
             a firewall drops the SYN. The kernel goes on for {left} and then says ETIMEDOUT; it \
             takes {whole} in all, unless the program sets less."
        ),
        applies_to: AppliesTo::Program,
        subject: program.name.clone(),
        setting: "a time limit for connect()".to_owned(),
        current: format!("{elapsed} so far, {left} more"),
        proposed: "as long as a user of the program would wait: seconds".to_owned(),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program, before connect(): unsigned ms = 5000; setsockopt(fd, IPPROTO_TCP, \
            TCP_USER_TIMEOUT, &ms, sizeof ms), or a non-blocking connect() and poll() with a \
            timeout; then see why that address does not answer"
            .to_owned(),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: format!("{command} shows none with a count above 2"),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use advisor_facts::sock_diag::Timer;

    use crate::rules::testing::{add_process, add_sockets, assert_quiet, fired, host, set, socket};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        connecting(&[(4, 500); 3])
    }

    /// A host whose program connects to one address: for each socket the SYNs that were
    /// sent again and the time until the next.
    fn connecting(sockets: &[(u8, u32)]) -> Facts {
        let mut facts = host("quiet");
        set(&mut facts, "net.ipv4.tcp_syn_retries", "6");
        let inodes = 90_001..90_001 + u32::try_from(sockets.len()).unwrap();
        add_sockets(
            &mut facts,
            inodes.clone().zip(sockets).map(|(inode, (again, timer))| {
                let local = format!("10.0.0.1:{}", inode - 40_000);
                let mut syn = socket(TcpState::SynSent, &local, "10.0.0.9:5432")
                    .held_by(inode)
                    .timer(Timer::Retransmit, *timer)
                    .done();
                syn.retransmits = *again;
                syn
            }),
        );
        add_process(&mut facts, (77, "web"), None, inodes);
        facts
    }

    #[test]
    fn many_that_wait_are_an_outage_and_one_has_to_wait_long() {
        // 1 + 2 + 4 + 8 s, and 15.5 of 16 s.
        let finding = fired(&RULE, &firing()).remove(0);
        assert_eq!(
            finding.summary,
            "3 connections of web (77) wait for an answer to connect(), to 10.0.0.9:5432 for 30 s"
        );
        assert_eq!(finding.severity, Severity::Warning);
        assert!(
            finding.why.contains("for 96 s and then says ETIMEDOUT"),
            "{}",
            finding.why
        );
        assert_quiet(&RULE, &connecting(&[(2, 100); 3]));
        assert_quiet(&RULE, &connecting(&[(4, 5_000)]));
        let one = fired(&RULE, &connecting(&[(5, 20_000)])).remove(0);
        assert_eq!(one.severity, Severity::Notice);
    }

    #[test]
    fn syns_at_equal_distances_are_counted() {
        let mut facts = connecting(&[(4, 500); 3]);
        set(&mut facts, "net.ipv4.tcp_syn_linear_timeouts", "4");
        // Four seconds and a half.
        assert_quiet(&RULE, &facts);
        let waits = Waits::of(&facts.settings);
        // "67 seconds until the last retransmission, 131 s in all" (ip-sysctl.rst).
        assert_eq!(waits.whole_ms(), 131_000);
        assert_eq!(
            (0..waits.most).map(|k| waits.pause_ms(k)).sum::<u64>(),
            67_000
        );
    }
}
