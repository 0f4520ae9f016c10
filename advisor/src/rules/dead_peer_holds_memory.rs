//! Peers that have vanished keep programs waiting and hold memory, by data that they will
//! never acknowledge.

use std::collections::BTreeMap;
use std::net::IpAddr;

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::sock_diag::{TcpSocket, Timer};
use advisor_facts::units::{bytes, span};
use advisor_report::measured::Measured;

use super::program::{Program, Sides, by_program, connections, plain, without_tcp_info};
use super::retransmission::{left_ms, unanswered_ms};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB401",
    name: "dead-peer-holds-memory",
    scope: Scope::Namespace,
    scenario: Some("crash/vanished-peer/unacknowledged"),
    cure: Some("crash/vanished-peer/user-timeout"),
    proven_by: ProvenBy::Reproduction(&[Harm::ProgramHangs, Harm::TransferStalls]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Connections whose peer vanished while data was unacknowledged. The kernel keeps \
        retransmitting for tcp_retries2, by default about 15 minutes, and holds the data that \
        long. A program that waits for an answer hangs. SO_KEEPALIVE has no effect meanwhile. \
        After close() an orphan holds the data.",
    evidence: "tcp_info and the timer of each socket, orphans too: retransmission running, segments \
        unacknowledged, the timer doubled at least 5 times, no acknowledgment for 10 seconds; or 3 \
        unanswered window probes. A slow peer answers probes and is not counted. It fires if these \
        sockets together hold 1 MiB; a warning if those of one program hold a 64th of the pressure \
        mark of tcp_mem. It also fires by time, as a warning: a connection that a program here \
        made, or 3 to the same address, unanswered for a minute. The time that the kernel will go \
        on is computed from tcp_retries2 and tcp_rto_max_ms of the network namespace.",
    recommendation: "TCP_USER_TIMEOUT, longer than the longest outage that a connection should \
        survive and the longest pause of a slow reader: the kernel ends a connection whose \
        window has been closed for that long, even if the peer is alive. It also holds after \
        close().",
    cost: "None in memory.",
    risk: "A connection whose peer is away for longer (a suspended laptop, a network under \
        repair) ends with ETIMEDOUT, where it would have survived. A live peer that does not \
        read for that long is cut off too, even if it answers every probe, and loses what it had \
        not received yet.",
    undo: "Remove the call.",
    references: &[
        "RFC 5482; tcp(7), TCP_USER_TIMEOUT",
        "tcp_retries2 (924.6 s for 15): Documentation/networking/ip-sysctl.rst of Linux",
        "retransmits_timed_out, tcp_write_timeout, tcp_probe_timer (a live peer that does not \
         read): net/ipv4/tcp_timer.c of Linux",
        "ss -K of an orphan (\"tcp: fix forever orphan socket caused by tcp_abort\"): net/ipv4/tcp.c \
         of Linux 6.11",
        "a live peer that is cut off: scenario crash/vanished-peer/stalled-reader",
        "which peer is dead: measured",
    ],
};

/// Less memory than this is not worth a change: one send buffer may grow to 4 MiB.
const WORTH_BYTES: u64 = 1 << 20;
/// Unanswered for so long, a program hangs, in milliseconds.
const HANGS_MS: u64 = 60_000;
/// So many connections with one peer are no chance on the side of a server, which loses
/// clients every day.
const MANY_OF_ONE_PEER: usize = 3;
/// Peers that are reported.
const PEERS: usize = 5;
/// Largest number of programs shown as evidence.
const PROGRAMS: usize = 5;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let programs = by_program(facts, has_dead_peer);
    let held: u64 = programs.iter().map(|program| program.bytes).sum();
    let count: usize = programs.iter().map(|program| program.sockets.len()).sum();
    let sides = (count > 0).then(|| Sides::of(facts));
    let by_memory = held >= WORTH_BYTES;
    let mut findings: Vec<Finding> = programs
        .iter()
        .filter_map(|program| {
            let hang = sides
                .as_ref()
                .and_then(|sides| Hang::of(facts, sides, program));
            // A program that holds next to nothing of it is not named for the memory.
            let holds = by_memory && program.bytes >= held / 16;
            (holds || hang.is_some()).then(|| finding(facts, program, hang.as_ref()))
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(match count {
            0 => "no peer is silent with data unacknowledged".to_owned(),
            1 => format!("1 peer is silent, with {} held", bytes(held)),
            _ => format!("{count} peers are silent, with {} held", bytes(held)),
        });
    }
    findings.sort_by_key(|finding| finding.severity);
    findings.truncate(PROGRAMS);
    Outcome::Fired(findings)
}

/// Connections that have kept a program waiting for long.
struct Hang {
    /// How many.
    connections: usize,
    /// For how long the longest of them, in milliseconds.
    longest_ms: u64,
    /// How long the kernel will go on with the one that it gives up last, in
    /// milliseconds; `None` where that cannot be told.
    left_ms: Option<u64>,
}

impl Hang {
    fn of(facts: &Facts, sides: &Sides, program: &Program<'_>) -> Option<Self> {
        let waits = |socket: &&&TcpSocket| {
            !socket.is_orphan() && unanswered_ms(facts, socket).is_some_and(|ms| ms >= HANGS_MS)
        };
        let mut peers: BTreeMap<IpAddr, usize> = BTreeMap::new();
        let waiting: Vec<_> = program.sockets.iter().filter(waits).collect();
        for socket in &waiting {
            *peers.entry(socket.peer.ip().to_canonical()).or_default() += 1;
        }
        let counted: Vec<_> = waiting
            .into_iter()
            .filter(|socket| {
                peers[&socket.peer.ip().to_canonical()] >= MANY_OF_ONE_PEER
                    || sides.is_client(facts, socket)
            })
            .collect();
        let unanswered = counted
            .iter()
            .filter_map(|socket| unanswered_ms(facts, socket));
        let left = counted.iter().filter_map(|socket| left_ms(facts, socket));
        Some(Self {
            connections: counted.len(),
            longest_ms: unanswered.max()?,
            left_ms: left.max(),
        })
    }

    fn goes_on(&self, facts: &Facts) -> String {
        let retries = facts.settings.tcp_retries2;
        match (self.left_ms, retries) {
            (Some(left), Some(retries)) => format!(
                "the kernel will go on for about {} more (tcp_retries2 is {retries})",
                span(left)
            ),
            (Some(left), None) => format!("the kernel will go on for about {} more", span(left)),
            (None, _) => "keepalive will end them".to_owned(),
        }
    }
}

fn finding(facts: &Facts, program: &Program<'_>, hang: Option<&Hang>) -> Finding {
    let count = program.sockets.len();
    let orphans = program
        .sockets
        .iter()
        .filter(|socket| socket.is_orphan())
        .count();
    let pressure = facts
        .settings
        .tcp_mem
        .map(|[_, pressure, _]| pressure.saturating_mul(facts.page_bytes));
    let much = pressure.is_some_and(|pressure| program.bytes > pressure / 64);
    let options: Vec<_> = program
        .sockets
        .iter()
        .filter_map(|socket| socket.options)
        .collect();
    let without = options
        .iter()
        .filter(|options| options.user_timeout_ms == 0)
        .count();
    let sockets = if count == 1 { "socket" } else { "sockets" };
    let peer = if orphans == count {
        "orphan with"
    } else {
        "connection to"
    };
    let summary = match hang {
        Some(hang) => format!(
            "{} of {} to a peer that is gone, unanswered for {}: {}",
            connections(hang.connections),
            program.name,
            span(hang.longest_ms),
            hang.goes_on(facts)
        ),
        None => format!(
            "{count} {sockets} of {} with a dead peer hold {}",
            program.name,
            bytes(program.bytes)
        ),
    };
    let given_up = match hang {
        Some(hang) => hang.goes_on(facts),
        None if orphans == count => {
            "the kernel goes on until tcp_orphan_retries is spent".to_owned()
        }
        None => goes_on(facts, program),
    };
    Finding {
        confidence: Confidence::High,
        severity: if hang.is_some() || much {
            Severity::Warning
        } else {
            Severity::Notice
        },
        summary,
        why: why(program, orphans == count, &given_up),
        applies_to: AppliesTo::Program,
        subject: program.name.clone(),
        setting: "TCP_USER_TIMEOUT".to_owned(),
        current: match options.len() {
            0 => "unknown (not in the socket table; --inspect-options reads it)".to_owned(),
            known => format!("0 on {without} of {known} sockets inspected"),
        },
        proposed: "30000 (ms), or the longest outage or pause in reading to be survived".to_owned(),
        evidence: evidence(facts, program, orphans, hang.map(|hang| hang.longest_ms)),
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: format!(
            "in the program, on each {peer} a peer: unsigned ms = 30000; setsockopt(fd, \
             IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms){}",
            if orphans == count {
                ", before close()".to_owned()
            } else {
                format!(
                    "; the present ones, while the program holds them: {} ends them at once. Not \
                     on orphans: before Linux 6.11, unless the fix was backported, that command leaves one \
                     for ever",
                    facts.command("ss -K with their addresses")
                )
            }
        ),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: format!(
            "{} shows no timer:(on,...) with a count above 7 for long, and \
             TcpExtTCPAbortOnTimeout rises in their stead",
            facts.command("ss -tano")
        ),
    }
}

fn why(program: &Program<'_>, are_orphans: bool, given_up: &str) -> String {
    let is_asked = |socket: &&TcpSocket| socket.timer == Timer::Keepalive;
    let by_keepalive = program.sockets.iter().all(is_asked);
    let silent = if by_keepalive {
        "These peers have answered none of the probes of keepalive; a peer that lives answers \
         them."
    } else {
        "These peers have acknowledged nothing while the kernel retransmitted and doubled its \
         timer; a slow peer would have answered."
    };
    if are_orphans {
        return format!(
            "{silent} No process holds these sockets any more: {given_up}. TCP_USER_TIMEOUT holds \
             after close() too, for this program alone; fewer net.ipv4.tcp_orphan_retries end \
             every orphan of the network namespace sooner."
        );
    }
    let asked = if by_keepalive {
        ""
    } else {
        " SO_KEEPALIVE does nothing while data is unacknowledged, and close() makes orphans of \
         them that hold the data on."
    };
    format!(
        "{silent} Without TCP_USER_TIMEOUT {given_up}, and a program that waits for an answer \
         waits as long.{asked}"
    )
}

/// How long the kernel goes on with the connections that nobody is known to wait for.
fn goes_on(facts: &Facts, program: &Program<'_>) -> String {
    let left = program
        .sockets
        .iter()
        .filter(|socket| !socket.is_orphan())
        .filter_map(|socket| left_ms(facts, socket))
        .max();
    match (left, facts.settings.tcp_retries2) {
        (Some(left), Some(retries)) => format!(
            "the kernel goes on for up to {} more (tcp_retries2 is {retries})",
            span(left)
        ),
        _ => "the kernel goes on until tcp_retries2 is spent".to_owned(),
    }
}

/// What was seen: the sum, and the largest.
fn evidence(
    facts: &Facts,
    program: &Program<'_>,
    orphans: usize,
    longest_ms: Option<u64>,
) -> Vec<Evidence> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX).into();
    let mut evidence = vec![
        Evidence::new(
            "host.sockets.dead-peer",
            number(program.sockets.len() as u64),
            "sock_diag, tcp_info",
        ),
        Evidence::new(
            "host.sockets.dead-peer.bytes",
            number(program.bytes),
            "sock_diag, SKMEMINFO",
        ),
    ];
    evidence.extend(longest_ms.map(|ms| {
        Evidence::new(
            "host.sockets.dead-peer.longest",
            span(ms).as_str().into(),
            "tcp_info.last_ack_recv",
        )
    }));
    if orphans > 0 {
        evidence.push(Evidence::new(
            "host.sockets.dead-peer.orphans",
            number(orphans as u64),
            "sock_diag",
        ));
    }
    let settings = &facts.settings;
    let (name, retries) = if orphans == program.sockets.len() {
        ("net.ipv4.tcp_orphan_retries", settings.tcp_orphan_retries)
    } else {
        ("net.ipv4.tcp_retries2", settings.tcp_retries2)
    };
    evidence.extend(retries.map(|retries| Evidence::sysctl(name, retries.into())));
    evidence.extend(program.sockets.iter().take(PEERS).map(|socket| {
        let condition = Condition::of(socket);
        Evidence::new(
            format!("{} -> {}", plain(socket.local), plain(socket.peer)),
            format!(
                "{} held, {condition}: {}",
                bytes(socket.held_bytes()),
                condition.reason(socket)
            )
            .as_str()
            .into(),
            "sock_diag, tcp_info",
        )
    }));
    evidence
}

fn has_dead_peer(socket: &TcpSocket) -> bool {
    matches!(
        Condition::of(socket),
        Condition::Dead | Condition::OrphanDead
    )
}

#[cfg(test)]
pub(super) mod tests {
    use advisor_facts::SocketSource;

    use super::*;
    use crate::rules::testing::{
        add_process, add_sockets, assert_not_evaluated, assert_quiet, bare_host, fired, host,
        socket,
    };
    use advisor_facts::sock_diag::TcpState;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("dead-peer-holds-memory")
    }

    #[test]
    fn sockets_as_text_have_no_tcp_info() {
        let mut facts = firing();
        facts.now.sockets.as_mut().unwrap().source = SocketSource::ProcNetTcp;
        assert_not_evaluated(&RULE, &facts, "tcp_info");
        facts.now.sockets = None;
        assert_not_evaluated(&RULE, &facts, "tcp_info");
    }

    /// A host with connections of one program that have been unanswered for so long.
    fn unanswered(count: u32, ms: u64, local_port: Option<u32>) -> Facts {
        let mut facts = bare_host(32 << 30);
        add_sockets(
            &mut facts,
            (1..=count).map(|number| {
                let local = format!("10.1.0.4:{}", local_port.unwrap_or(41_000 + number));
                let peer = format!("10.1.{number}.9:{}", 9_300 + number);
                socket(TcpState::Established, &local, &peer)
                    .held_by(730_000 + number)
                    .sending(340, 1280)
                    .dead_for(ms)
                    .done()
            }),
        );
        let inodes = (1..=count).map(|number| 730_000 + number);
        add_process(&mut facts, (900, "java"), None, inodes);
        facts
    }

    #[test]
    fn a_program_that_hangs_is_told_with_the_time_that_is_left() {
        let mut facts = unanswered(1, 480_000, None);
        facts.settings.tcp_retries2 = Some(15);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.severity, Severity::Warning);
        assert!(
            finding
                .summary
                .contains("of java (900) to a peer that is gone, unanswered for 8 min")
                && finding
                    .summary
                    .contains("for about 7 min more (tcp_retries2 is 15)"),
            "{}",
            finding.summary
        );
        assert!(!finding.why.contains("15 min"), "{}", finding.why);
        facts.settings.tcp_retries2 = Some(8);
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding.summary.contains("about 90 s more"),
            "{}",
            finding.summary
        );
        assert_quiet(&RULE, &unanswered(13, 50_000, None));
    }

    #[test]
    fn probes_of_keepalive_are_no_retransmissions() {
        let mut facts = unanswered(3, 70_000, None);
        for socket in &mut facts.now.sockets.as_mut().unwrap().all {
            (socket.timer, socket.send_queue_bytes) = (Timer::Keepalive, 0);
            let info = socket.info.as_mut().unwrap();
            assert!(info.set("probes", 3) && info.set("unacked", 0) && info.set("backoff", 0));
        }
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding.why.contains("probes of keepalive") && !finding.why.contains("retransmitted"),
            "{}",
            finding.why
        );
    }

    #[test]
    fn a_server_loses_clients_every_day() {
        let mut facts = unanswered(40, 480_000, Some(443));
        assert_quiet(&RULE, &facts);
        // All behind one address: that one is gone.
        for socket in &mut facts.now.sockets.as_mut().unwrap().all {
            socket.peer.set_ip("10.1.0.9".parse().unwrap());
        }
        fired(&RULE, &facts);
    }

    #[test]
    fn orphans_of_a_listener_are_its_programs() {
        let mut facts = unanswered(3, 480_000, Some(443));
        for socket in &mut facts.now.sockets.as_mut().unwrap().all {
            (socket.state, socket.inode) = (TcpState::FinWait1, 0);
            socket.memory.as_mut().unwrap().send_queued_bytes = 1 << 20;
        }
        let listener = socket(TcpState::Listen, "0.0.0.0:443", "0.0.0.0:0").held_by(730_001);
        add_sockets(&mut facts, [listener.done()]);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.subject, "java (900)");
        assert!(
            finding.apply.ends_with("before close()"),
            "{}",
            finding.apply
        );
        // The retries of connections that a program holds have no part in it.
        let seen = |name: &str| {
            let mut evidence = finding.evidence.iter();
            evidence.any(|evidence| evidence.observation == name)
        };
        assert!(seen("net.ipv4.tcp_orphan_retries") && !seen("net.ipv4.tcp_retries2"));
        assert!(finding.why.contains("No process holds"), "{}", finding.why);
    }

    #[test]
    fn it_fires_from_a_mebibyte_and_warns_by_the_pressure_mark() {
        let mut facts = unanswered(1, 50_000, None);
        let hold = |facts: &mut Facts, bytes: u64| {
            let all = &mut facts.now.sockets.as_mut().unwrap().all;
            all[0].memory.as_mut().unwrap().send_queued_bytes = u32::try_from(bytes).unwrap();
        };
        hold(&mut facts, WORTH_BYTES - 1);
        assert_quiet(&RULE, &facts);
        hold(&mut facts, WORTH_BYTES);
        // A 64th of the pressure mark is what they hold.
        let pressure = WORTH_BYTES / facts.page_bytes * 64;
        facts.settings.tcp_mem = Some([pressure, pressure, pressure]);
        assert_eq!(fired(&RULE, &facts)[0].severity, Severity::Notice);
        facts.settings.tcp_mem = Some([1, pressure - 1, pressure]);
        assert_eq!(fired(&RULE, &facts)[0].severity, Severity::Warning);
    }
}
