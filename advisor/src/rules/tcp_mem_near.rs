//! Memory of all TCP sockets near the marks of tcp_mem.

use super::sizing::{most_tcp_mem_pages, ram_is_owned};
use super::{
    Confidence, Documentation, Evidence, Finding, Kind, Outcome, ProvenBy, Rule, Severity, bytes,
    not_initial_namespace, set, unset,
};
use crate::rules::close_wait_left::plain;
use advisor_facts::sock_diag::TcpSocket;
use advisor_facts::{Facts, SocketSource};
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB402",
    name: "tcp-mem-near",
    scenario: Some("memory/pressure/crowd[tcp-mem=small,victim=same-namespace]"),
    cure: Some("memory/pressure/crowd[tcp-mem=raised,victim=same-namespace]"),
    proven_by: ProvenBy::Suites(&["tcp-mem-near"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "The buffers of all TCP sockets together near a mark of tcp_mem. Beyond the \
        pressure mark the kernel shrinks the buffers of healthy connections. Near the high mark \
        it resets orphans, and sends fail.",
    evidence: "TCP.mem in /proc/net/sockstat, in pages, of the whole kernel. Warning above the \
        pressure mark, critical above nine tenths of the high mark. Less than mem_pcpu_rsv pages \
        per CPU is noise. TCPMemoryPressures supports it.",
    recommendation: "First find who holds the memory. If the load is wanted: a pressure mark of \
        one and a half times the usage, and the others in the kernel's proportion of 3/4, 1 and \
        3/2. The high mark is at most a quarter of the RAM, or a tenth if programs own three \
        quarters of it. If that is too little, no value is proposed.",
    cost: "RAM that cannot be swapped, up to the new high mark.",
    risk: "If another program owns the RAM, for example a database, it lacks this memory. Higher \
        rmem_max or wmem_max make a full tcp_mem worse.",
    undo: "Set the former three values.",
    references: &[
        "tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_init_mem: net/ipv4/tcp.c of Linux",
        "__sk_mem_raise_allocated, sk_memory_allocated_add: net/core/sock.c of Linux",
        "alarms: health/health.d/tcp_mem.conf of netdata",
        "growth up to a quarter: oracle/bpftune; less where a database owns the RAM: \
         scylladb/seastar issue 2348",
    ],
};

const SETTING: &str = "net.ipv4.tcp_mem";
/// Largest number of sockets shown as evidence.
const HOLDERS: usize = 3;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(marks) = facts.settings.tcp_mem else {
        return not_initial_namespace(SETTING);
    };
    let Some(pages) = facts.now.sockstat.get("TCP.mem") else {
        return Outcome::NotEvaluated("/proc/net/sockstat has no TCP.mem".to_owned());
    };
    let usage = u64::try_from(pages).unwrap_or(0);
    let [_, pressure, high] = marks;
    let noise = facts
        .cpus
        .saturating_mul(facts.settings.mem_pcpu_rsv.unwrap_or(0));
    let critical = usage.saturating_mul(10) > high.saturating_mul(9);
    if usage <= noise || (usage <= pressure && !critical) {
        return Outcome::Quiet(format!(
            "sockets hold {}, pressure begins at {}",
            bytes(usage.saturating_mul(facts.page_bytes)),
            bytes(pressure.saturating_mul(facts.page_bytes))
        ));
    }
    let severity = if critical {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let current = triple(marks);
    let mut evidence = vec![
        Evidence::sockstat("TCP.mem", pages),
        Evidence::sysctl(SETTING, current.as_str().into()),
    ];
    evidence.extend(Evidence::counter("TcpExt.TCPMemoryPressures", facts));
    evidence.extend(holders(facts));
    let summary = format!(
        "TCP holds {}, {} mark of tcp_mem",
        bytes(usage.saturating_mul(facts.page_bytes)),
        if critical {
            "above nine tenths of the high"
        } else {
            "beyond the pressure"
        }
    );
    let verify = "`mem` in /proc/net/sockstat stays below the second value of tcp_mem, and \
        TCPMemoryPressures stops rising (nstat -az TcpExtTCPMemoryPressures)"
        .to_owned();
    let finding = match proposal(marks, usage, facts) {
        Some(proposed) => {
            let more = proposed[2]
                .saturating_sub(high)
                .saturating_mul(facts.page_bytes);
            let proposed = triple(proposed);
            Finding {
                confidence: Confidence::High,
                severity,
                summary,
                why: "Beyond the pressure mark the kernel shrinks the buffers of healthy \
                    connections too. First see who holds the memory: if dead or stuck peers do, \
                    mend that and leave the setting. If the load is wanted, the proposal puts \
                    the usage at two thirds of the pressure mark."
                    .to_owned(),
                kind: Kind::Host,
                subject: "the whole kernel".to_owned(),
                setting: SETTING.to_owned(),
                cost: format!(
                    "up to {} more of {} RAM, which cannot be swapped",
                    bytes(more),
                    bytes(facts.ram_bytes)
                ),
                risk: DOCUMENTATION.risk.to_owned(),
                apply: set(SETTING, &proposed),
                undo: unset(SETTING, &current),
                verify,
                evidence,
                current,
                proposed,
            }
        }
        None => unpaid(facts, severity, &summary, verify, evidence),
    };
    Outcome::Fired(vec![finding])
}

/// The advice if the RAM cannot pay for higher marks.
fn unpaid(
    facts: &Facts,
    severity: Severity,
    summary: &str,
    verify: String,
    evidence: Vec<Evidence>,
) -> Finding {
    Finding {
        confidence: Confidence::High,
        severity,
        summary: format!("{summary}, and RAM cannot pay for more"),
        why: format!(
            "A higher mark that helps would be more than {} of the {} RAM of this host. Free the \
             memory where it is held.",
            if ram_is_owned(facts) {
                "a tenth (programs own three quarters)"
            } else {
                "a quarter"
            },
            bytes(facts.ram_bytes)
        ),
        kind: Kind::Program,
        subject: "the programs whose sockets hold the memory".to_owned(),
        setting: "SO_SNDBUF, SO_RCVBUF, TCP_USER_TIMEOUT".to_owned(),
        current: "unknown (not in the socket table)".to_owned(),
        proposed: "smaller buffers, and an end to connections with dead peers".to_owned(),
        cost: "less throughput if a buffer is smaller than bandwidth times delay of its path"
            .to_owned(),
        risk: "connections end that would have survived a long outage".to_owned(),
        apply: "ss -tanmp shows the memory of each socket and its process".to_owned(),
        undo: "revert the change of the program".to_owned(),
        verify,
        evidence,
    }
}

fn triple([low, pressure, high]: [u64; 3]) -> String {
    format!("{low} {pressure} {high}")
}

/// Marks well above the usage, never lower than now, in order, and within what the RAM
/// can pay for.
fn proposal(marks: [u64; 3], usage: u64, facts: &Facts) -> Option<[u64; 3]> {
    let most = most_tcp_mem_pages(facts)?;
    let pressure = usage.checked_mul(3)? / 2;
    let pressure = pressure.min(most / 3 * 2);
    let high = (pressure / 2 * 3).max(marks[2]);
    let pressure = pressure.max(marks[1]);
    let low = (pressure / 4 * 3).max(marks[0]).min(pressure);
    let helps = usage < pressure / 5 * 4;
    (helps && high <= most && pressure <= high).then_some([low, pressure, high])
}

/// The sockets that hold most.
fn holders(facts: &Facts) -> Vec<Evidence> {
    let Some(sockets) = &facts.now.sockets else {
        return Vec::new();
    };
    if sockets.source != SocketSource::SockDiag {
        return Vec::new();
    }
    let mut holders: Vec<(u64, &TcpSocket)> = sockets
        .all
        .iter()
        .map(|socket| (held_bytes(socket), socket))
        .filter(|(held, _)| *held > 0)
        .collect();
    holders.sort_by_key(|(held, _)| std::cmp::Reverse(*held));
    holders
        .into_iter()
        .take(HOLDERS)
        .map(|(held, socket)| {
            Evidence::new(
                format!(
                    "{} {} -> {}",
                    socket.state,
                    plain(socket.local),
                    plain(socket.peer)
                ),
                bytes(held).as_str().into(),
                "sock_diag, SKMEMINFO",
            )
        })
        .collect()
}

fn held_bytes(socket: &TcpSocket) -> u64 {
    socket.memory.as_ref().map_or(0, |memory| {
        u64::from(memory.send_queued_bytes) + u64::from(memory.recv_alloc_bytes)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{
        assert_not_evaluated, assert_quiet, fired, host, outcome, sockstat,
    };

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tcp-mem-near")
    }

    /// A host whose sockets hold `usage` pages.
    fn memory(usage: u64, marks: [u64; 3], ram_pages: u64) -> Facts {
        let mut facts = host("quiet");
        facts.now.sockstat = sockstat(&format!("TCP: orphan 0 mem {usage}\n"));
        facts.settings.tcp_mem = Some(marks);
        facts.ram_bytes = ram_pages * facts.page_bytes;
        facts
    }

    #[test]
    fn memory_warns_above_pressure_and_is_critical_near_the_high_mark() {
        let marks = [30_000, 40_000, 60_000];
        assert_quiet(&RULE, &memory(40_000, marks, 1 << 22));
        assert_eq!(
            fired(&RULE, &memory(40_001, marks, 1 << 22))[0].severity,
            Severity::Warning
        );
        assert_eq!(
            fired(&RULE, &memory(54_000, marks, 1 << 22))[0].severity,
            Severity::Warning
        );
        assert_eq!(
            fired(&RULE, &memory(54_001, marks, 1 << 22))[0].severity,
            Severity::Critical
        );
    }

    #[test]
    fn memory_within_the_noise_of_the_cpus_is_quiet() {
        let mut facts = memory(900, [10, 20, 30], 1 << 22);
        assert_quiet(&RULE, &facts);
        facts.settings.mem_pcpu_rsv = None;
        fired(&RULE, &facts);
    }

    #[test]
    fn proposed_memory_marks_are_in_order_within_ram_and_quiet() {
        for marks in [
            [30_000, 40_000, 60_000],
            [1, 2, 3],
            [50_000, 40_000, 30_000],
            [9_000; 3],
        ] {
            for usage in [5_000, 9_999, 40_001, 60_000, 1_000_000] {
                for ram_pages in [1 << 16, 1 << 18, 1 << 22, 1 << 26] {
                    for page_bytes in [4 << 10, 16 << 10, 64 << 10] {
                        let mut facts = memory(usage, marks, ram_pages);
                        facts.ram_bytes = ram_pages * page_bytes;
                        facts.page_bytes = page_bytes;
                        let Outcome::Fired(findings) = outcome(&RULE, &facts) else {
                            continue;
                        };
                        if findings[0].kind == Kind::Program {
                            continue;
                        }
                        let proposed =
                            advisor_facts::sysctl::triple(&findings[0].proposed).unwrap();
                        assert!(proposed.is_sorted(), "{proposed:?}");
                        assert!(proposed[2] <= ram_pages / 4, "{proposed:?} of {ram_pages}");
                        facts.settings.tcp_mem = Some(proposed);
                        assert_quiet(&RULE, &facts);
                    }
                }
            }
        }
    }

    #[test]
    fn a_child_namespace_has_no_tcp_mem() {
        assert_not_evaluated(&RULE, &host("container"), "initial network namespace");
    }
}
