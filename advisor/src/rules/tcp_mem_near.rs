//! The memory of all TCP sockets nears the marks of tcp_mem: who holds it, and how much of
//! it more memory would be for.

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::happened::Held;
use advisor_facts::kernel_log;
use advisor_facts::units::{bytes, span};
use advisor_report::measured::Measured;

use super::past::Past;
use super::program::{Program, by_program};
use super::reset_for_memory;
use super::sizing::{
    BYPASSED, Load, MarksFault, expected_tcp_mem, gauge_noise_pages, most_tcp_mem_pages,
    ram_is_owned,
};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, LogLine, Outcome, ProvenBy,
    Rule, Scope, Severity, not_initial_namespace, there_and_back,
};

pub(super) const RULE: Rule = Rule {
    code: "LB402",
    name: "tcp-mem-near",
    scope: Scope::Host,
    scenario: Some("memory/pressure/crowd[tcp-mem=small,victim=same-namespace]"),
    cure: Some("memory/pressure/crowd[tcp-mem=raised,victim=same-namespace]"),
    proven_by: ProvenBy::Reproduction(&[Harm::TransferStalls, Harm::DataLost]),
    log_lines: &[LogLine {
        pieces: &[kernel_log::OUT_OF_MEMORY],
        means: "TCP held more than the high mark of tcp_mem when an orphan was closed or timed \
            out, and the kernel reset it. Before you raise tcp_mem, see who holds the memory: \
            `advisor sockets --by process`. LB112 tells of such resets in the past.",
    }],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "The buffers of all TCP sockets together near a mark of tcp_mem. Beyond the \
        pressure mark the kernel shrinks the buffers of healthy connections, until TCP holds less \
        than the low mark. Near the high mark it resets orphans, and sends fail.",
    evidence: "TCP.mem in /proc/net/sockstat, in pages (in 4 KiB from Linux 4.11 to 5.19), of the \
        whole kernel. Warning above the pressure mark, critical above nine tenths of the high \
        mark. Less than mem_pcpu_rsv pages per CPU is noise. Who holds it: the sockets of all \
        network namespaces, by condition and program. TCPMemoryPressures supports it. If the marks \
        themselves are wrong, tcp-mem-in-bytes and its like answer. With net.core.bypass_prot_mem \
        the gauge says nothing.",
    recommendation: "First the holders: sockets whose peer is dead or does not read, data that a \
        program here does not read, sockets that it does not accept or close, orphans. A raise is \
        proposed only for the rest, what healthy sockets hold: a pressure mark of one and a half \
        times that, at least that of boot, and the others in the kernel's proportion of 3/4, 1 \
        and 3/2. The high mark is at most a quarter of the RAM, or a tenth if programs own three quarters of it. If that is \
        too little, or if the rest is below the marks, no value is proposed.",
    cost: "RAM that cannot be swapped, up to the new high mark.",
    risk: "If another program owns the RAM, for example a database, it lacks this memory. Higher \
        rmem_max or wmem_max make a full tcp_mem worse.",
    undo: "Set the former three values.",
    references: &[
        "tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "tcp_init_mem: net/ipv4/tcp.c of Linux",
        "__sk_mem_raise_allocated, __sk_mem_reduce_allocated, sk_memory_allocated_add: \
         net/core/sock.c of Linux",
        "SK_MEM_QUANTUM: include/net/sock.h of Linux 5.10",
        "alarms: health/health.d/tcp_mem.conf of netdata",
        "growth up to a quarter: oracle/bpftune; less where a database owns the RAM: \
         scylladb/seastar issue 2348",
    ],
};

const SETTING: &str = "net.ipv4.tcp_mem";
/// Programs that are named as the holders of the memory.
const HOLDERS: usize = 5;

/// Times that TCP came under pressure, and the milliseconds that it stayed there.
const PRESSURES: &str = "TcpExt.TCPMemoryPressures";
const PRESSURE_MS: &str = "TcpExt.TCPMemoryPressuresChrono";

/// What a watch saw of pressure that is over: when, and who held the memory.
fn seen_over(facts: &Facts) -> Option<Finding> {
    let peak = facts.happened.as_ref()?.peak("tcp-memory")?;
    let when = peak.when_over()?;
    let share = |held: &Held| u128::from(held.bytes) * 100 / u128::from(peak.held_bytes.max(1));
    let summary = format!(
        "{when} TCP memory was over the pressure mark, {} of {} at {}",
        bytes(peak.value),
        bytes(peak.limit),
        peak.at.time_of_day()
    );
    let past = Past::counted(facts, PRESSURES);
    let finding = past.finding(summary, SETTING, String::new());
    let holders = peak.holders.iter().take(HOLDERS).map(|held| {
        Evidence::new(
            held.who(),
            format!(
                "{} in {} sockets, {}",
                bytes(held.bytes),
                held.sockets,
                held.condition
            )
            .as_str()
            .into(),
            "the sockets at that time",
        )
    });
    let mut finding = Finding {
        severity: Severity::Warning,
        ..finding
    };
    finding.evidence.extend(holders);
    let Some(held) = peak.holders.first() else {
        let why = "Nobody looked at the sockets at that time, so it is not known who held the \
            memory."
            .to_owned();
        return Some(Finding { why, ..finding });
    };
    let mut conditions = Condition::ALL.into_iter();
    let condition = conditions.find(|condition| condition.as_str() == held.condition);
    let why = format!(
        "{} held {}% of it, {}. A higher limit would give it more to hold.",
        held.who(),
        share(held),
        held.condition
    );
    // What is held by right needs a higher limit, and that is another advice.
    match condition.filter(|condition| condition.is_amiss()) {
        Some(condition) => Some(Finding {
            confidence: Confidence::High,
            applies_to: AppliesTo::Program,
            subject: held.who(),
            setting: "memory of its sockets".to_owned(),
            current: format!("{}, {}", bytes(held.bytes), held.condition),
            proposed: cure(condition).to_owned(),
            why,
            apply: format!("in the program: {}", cure(condition)),
            verify: "`advisor watch` shows the gauge tcp-memory below its mark".to_owned(),
            ..finding
        }),
        None => Some(Finding { why, ..finding }),
    }
}

/// Pressure that is over, unless connections were reset too: then reset-for-memory tells.
fn over(facts: &Facts) -> Option<Finding> {
    let past = Past::counted(facts, PRESSURES);
    if past.count == 0 || !reset_for_memory::past(facts).is_nothing() {
        return None;
    }
    let lasted = Past::counted(facts, PRESSURE_MS)
        .count
        .max(0)
        .cast_unsigned();
    let summary = format!(
        "TCP came under memory pressure {} times {}, for {} in all",
        past.count,
        past.when(facts),
        span(lasted)
    );
    let why = "Beyond the pressure mark of tcp_mem the kernel shrinks the buffers of healthy \
        connections. The gauge is below it now, so it does not show who held the memory."
        .to_owned();
    Some(Finding {
        severity: Severity::Notice,
        ..past.finding(summary, SETTING, why)
    })
}

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(marks) = facts.settings.tcp_mem else {
        return match over(facts) {
            Some(finding) => Outcome::Fired(vec![finding]),
            None => not_initial_namespace(SETTING),
        };
    };
    if facts.gauge_is_bypassed() {
        return Outcome::NotEvaluated(BYPASSED.to_owned());
    }
    let (Some(load), Some(gauge)) = (Load::of(facts), facts.now.sockstat.get("TCP.mem")) else {
        return Outcome::NotEvaluated("/proc/net/sockstat has no TCP.mem".to_owned());
    };
    let usage = load.usage_pages;
    let of_pages = |pages: u64| bytes(pages.saturating_mul(facts.page_bytes));
    let [_, pressure, high] = marks;
    let critical = usage.saturating_mul(10) > high.saturating_mul(9);
    if usage <= gauge_noise_pages(facts) || (usage <= pressure && !critical) {
        if let Some(finding) = seen_over(facts).or_else(|| over(facts)) {
            return Outcome::Fired(vec![finding]);
        }
        return Outcome::Quiet(format!(
            "sockets hold {}, pressure begins at {}",
            of_pages(usage),
            of_pages(pressure)
        ));
    }
    // Another rule proposes other marks, and says what these do.
    if MarksFault::of(facts).is_some() {
        return Outcome::Quiet(format!(
            "sockets hold {}, beyond marks that are wrong by themselves",
            of_pages(usage)
        ));
    }
    let severity = if critical {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let current = triple(marks);
    let mut evidence = vec![
        Evidence::sockstat("TCP.mem", gauge),
        Evidence::sysctl(SETTING, current.as_str().into()),
    ];
    evidence.extend(Evidence::counter(PRESSURES, facts));
    let programs = by_program(facts, |socket| Condition::of(socket).is_amiss());
    evidence.extend(held(&load, &programs));
    let found = Found {
        severity,
        summary: format!(
            "TCP holds {}, {} mark of tcp_mem",
            of_pages(usage),
            if critical {
                "above nine tenths of the high"
            } else {
                "beyond the pressure"
            }
        ),
        evidence,
        load,
    };
    let is_right_near = load.right_pages > pressure / 5 * 4;
    Outcome::Fired(vec![match programs.first() {
        // Without them there is room.
        Some(first) if !is_right_near => found.mend_the_holders(first, &programs),
        _ => {
            if let Some(proposed) = proposal(marks, load.right_pages, facts) {
                found.raise(facts, marks, proposed, &programs)
            } else {
                let every = by_program(facts, |socket| socket.held_bytes() > 0);
                found.unpaid(facts, every.first())
            }
        }
    }])
}

/// Memory beyond a mark.
struct Found {
    severity: Severity,
    summary: String,
    evidence: Vec<Evidence>,
    load: Load,
}

const VERIFY: &str = "`mem` in /proc/net/sockstat falls below the first value of tcp_mem, where \
    pressure ends, and TCPMemoryPressures stops rising (nstat -az TcpExtTCPMemoryPressures)";

impl Found {
    /// More is held by what is amiss than there would have to be for pressure.
    fn mend_the_holders(self, first: &Program<'_>, programs: &[Program<'_>]) -> Finding {
        let amiss = self.load.sums.sum(Condition::is_amiss);
        let share = u128::from(amiss.bytes) * 100 / u128::from(self.load.sums.total().bytes.max(1));
        let conditions: Vec<_> = self
            .load
            .sums
            .conditions()
            .into_iter()
            .filter(|(condition, sum)| condition.is_amiss() && sum.bytes > 0)
            .collect();
        let mut cures: Vec<&str> = conditions
            .iter()
            .map(|(condition, _)| cure(*condition))
            .collect();
        cures.dedup();
        cures.truncate(3);
        Finding {
            confidence: Confidence::High,
            severity: self.severity,
            summary: format!("{}: {}", self.summary, holder(first)),
            why: format!(
                "{share}% of what the sockets hold that were seen, {}, is in {} with which \
                 something is amiss. Without it TCP would be below the pressure mark. A higher \
                 tcp_mem would give the memory to those who hoard it: mend the holders, and leave \
                 the setting.",
                bytes(amiss.bytes),
                match amiss.sockets {
                    1 => "1 socket".to_owned(),
                    count => format!("{count} sockets"),
                }
            ),
            applies_to: AppliesTo::Program,
            subject: match programs {
                [_] => first.name.clone(),
                _ => format!("{}, and others", first.name),
            },
            setting: "who holds it".to_owned(),
            current: holder(first),
            proposed: cures.join("; "),
            cost: "none in memory".to_owned(),
            risk: "what is cut off or thrown away was not read and not sent".to_owned(),
            apply: format!(
                "advisor sockets --by process shows who holds it; {}",
                first.command("ss -tanmp")
            ),
            undo: "take the change of the program out again".to_owned(),
            verify: VERIFY.to_owned(),
            evidence: self.evidence,
        }
    }

    fn raise(
        self,
        facts: &Facts,
        marks: [u64; 3],
        proposed: [u64; 3],
        programs: &[Program<'_>],
    ) -> Finding {
        let more = proposed[2]
            .saturating_sub(marks[2])
            .saturating_mul(facts.page_bytes);
        let right = bytes(self.load.right_pages.saturating_mul(facts.page_bytes));
        let whom = match (self.load.is_seen, programs.first()) {
            (false, _) => {
                "Who holds most of it was not seen: look first (as root, advisor sockets \
                --by process). If dead or stuck peers or a leak do, mend that and leave the \
                setting. If the load is meant,"
                    .to_owned()
            }
            (true, Some(first)) => format!(
                "Of it {right} are held by sockets with which nothing is amiss, and only for \
                 those is the proposal; the rest is to be mended where it is held: {}. For the \
                 {right}",
                holder(first)
            ),
            (true, None) => "Sockets with which nothing is amiss hold it: peers take their data, \
                and programs read theirs. So"
                .to_owned(),
        };
        let aim = if expected_tcp_mem(facts).is_some_and(|own| own[1] == proposed[1]) {
            "is about what the kernel computes at boot, above these marks"
        } else {
            "puts the usage at two thirds of the pressure mark"
        };
        let current = triple(marks);
        let proposed = triple(proposed);
        let (apply, undo) = there_and_back(facts, SETTING, &proposed);
        Finding {
            confidence: if self.load.is_seen {
                Confidence::High
            } else {
                Confidence::Low
            },
            severity: self.severity,
            summary: self.summary,
            why: format!(
                "Beyond the pressure mark the kernel shrinks the buffers of healthy connections \
                 too. {whom} the proposal {aim}."
            ),
            applies_to: AppliesTo::Host,
            subject: "the whole kernel".to_owned(),
            setting: SETTING.to_owned(),
            cost: format!(
                "up to {} more of {} RAM, which cannot be swapped",
                bytes(more),
                bytes(facts.ram_bytes)
            ),
            risk: DOCUMENTATION.risk.to_owned(),
            apply,
            undo,
            verify: "`mem` in /proc/net/sockstat stays below the second value of tcp_mem, and \
                TCPMemoryPressures stops rising (nstat -az TcpExtTCPMemoryPressures)"
                .to_owned(),
            evidence: self.evidence,
            current,
            proposed,
        }
    }

    /// The RAM cannot pay for higher marks.
    fn unpaid(self, facts: &Facts, most: Option<&Program<'_>>) -> Finding {
        let most = most.filter(|_| self.load.is_seen);
        let holds = most.map_or_else(String::new, |most| format!(": {}", holder(most)));
        Finding {
            confidence: Confidence::High,
            severity: self.severity,
            summary: format!("{}, and RAM cannot pay for more{holds}", self.summary),
            why: format!(
                "A higher mark that would help is more than {} of the {} RAM of this host. \
                 The memory has to be freed where it is held.",
                if ram_is_owned(facts) {
                    "TCP's tenth (programs own three quarters)"
                } else {
                    "a quarter"
                },
                bytes(facts.ram_bytes)
            ),
            applies_to: AppliesTo::Program,
            subject: most.map_or_else(
                || "the programs whose sockets hold the memory".to_owned(),
                |most| most.name.clone(),
            ),
            setting: "SO_SNDBUF, SO_RCVBUF, TCP_USER_TIMEOUT".to_owned(),
            current: "unknown (not in the socket table)".to_owned(),
            proposed: if self.load.is_seen && self.load.sums.sum(Condition::is_amiss).bytes == 0 {
                "smaller buffers, or fewer connections"
            } else {
                "smaller buffers, and an end to connections with dead peers"
            }
            .to_owned(),
            cost: "less throughput where buffers are smaller than a path's bandwidth times delay"
                .to_owned(),
            risk: "connections end that would have gone on after a long outage".to_owned(),
            apply: "advisor sockets --by process shows who holds it".to_owned(),
            undo: "take the change of the program out again".to_owned(),
            verify: VERIFY.to_owned(),
            evidence: self.evidence,
        }
    }
}

/// What a program holds: `java (7100) holds 3.0 GiB in 520 sockets, unread here`.
fn holder(program: &Program<'_>) -> String {
    let condition = program
        .sockets
        .first()
        .map_or(Condition::Unknown, |socket| Condition::of(socket));
    format!(
        "{} holds {} in {}, {condition}",
        program.name,
        bytes(program.bytes),
        match program.sockets.len() {
            1 => "1 socket".to_owned(),
            count => format!("{count} sockets"),
        }
    )
}

/// What a program does about sockets in a condition.
const fn cure(condition: Condition) -> &'static str {
    match condition {
        Condition::Dead => "TCP_USER_TIMEOUT for connections whose peer is gone",
        Condition::ZeroWindow => {
            "a time limit for writing, and less queued for one peer (TCP_NOTSENT_LOWAT)"
        }
        Condition::Slow => "less queued for one peer (TCP_NOTSENT_LOWAT, a smaller SO_SNDBUF)",
        Condition::Unread => "read, or close what is not to be read",
        Condition::ClosedByPeer => "close() when read() returns 0",
        Condition::HalfClosed => "a bounded wait for the peer's end, then close()",
        Condition::NotAccepted => "accept() sooner",
        _ => "a bound on the close: TCP_USER_TIMEOUT before close(), which holds for orphans too",
    }
}

fn triple([low, pressure, high]: [u64; 3]) -> String {
    format!("{low} {pressure} {high}")
}

/// Marks that leave what is held by right well below, never lower than now or than at boot,
/// in order, and with the high one at most a quarter of RAM.
fn proposal(marks: [u64; 3], right_pages: u64, facts: &Facts) -> Option<[u64; 3]> {
    let most = most_tcp_mem_pages(facts)?;
    let pressure = right_pages.checked_mul(3)? / 2;
    // Lowered marks go back to those of boot at least.
    let of_boot = expected_tcp_mem(facts).map_or(0, |[_, pressure, _]| pressure);
    let pressure = pressure.max(of_boot).min(most / 3 * 2);
    let high = (pressure / 2 * 3).max(marks[2]);
    let pressure = pressure.max(marks[1]);
    let low = (pressure / 4 * 3).max(marks[0]).min(pressure);
    let helps = right_pages < pressure / 5 * 4;
    (helps && high <= most && pressure <= high).then_some([low, pressure, high])
}

/// The conditions that hold the most, and the programs that hold what is amiss.
fn held(load: &Load, programs: &[Program<'_>]) -> Vec<Evidence> {
    let conditions = load.sums.conditions().into_iter();
    let mut evidence: Vec<_> = conditions
        .filter(|(_, sum)| sum.bytes > 0)
        .take(HOLDERS)
        .map(|(condition, sum)| {
            Evidence::new(
                format!("host.sockets: {condition}"),
                format!("{} in {} sockets", bytes(sum.bytes), sum.sockets)
                    .as_str()
                    .into(),
                "sock_diag, SKMEMINFO",
            )
        })
        .collect();
    evidence.extend(programs.iter().take(HOLDERS).map(|program| {
        Evidence::new(
            &program.name,
            holder(program).as_str().into(),
            "sock_diag, SKMEMINFO and tcp_info",
        )
    }));
    evidence
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{
        add_process, add_sockets, assert_not_evaluated, assert_quiet, bare_host, fired, host,
        outcome, socket, sockstat,
    };
    use advisor_facts::sock_diag::TcpState;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tcp-mem-near")
    }

    /// A host whose sockets hold `usage` pages.
    fn memory(usage: u64, marks: [u64; 3], ram_pages: u64) -> Facts {
        let mut facts = host("quiet");
        facts.now.sockstat = sockstat(&format!("TCP: orphan 0 mem {usage}\n"));
        facts.settings.tcp_mem = Some(marks);
        // The marks are meant.
        facts.sysctl_files.set("net.ipv4.tcp_mem", &triple(marks));
        facts.ram_bytes = ram_pages * facts.page_bytes;
        facts.memory.owned_bytes = None;
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
                        if findings[0].applies_to == AppliesTo::Program {
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
    fn marks_that_were_lowered_go_back_to_those_of_boot() {
        let mut facts = bare_host(64 << 30);
        let own = facts.settings.tcp_mem.unwrap();
        facts.settings.tcp_mem = Some([8192, 12_288, 16_384]);
        facts
            .sysctl_files
            .set("net.ipv4.tcp_mem", "8192 12288 16384");
        facts.now.sockstat = sockstat("TCP: orphan 0 mem 16000\n");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.proposed, triple(own));
        assert!(finding.why.contains("at boot"), "{}", finding.why);
    }

    #[test]
    fn a_program_that_leaves_sockets_out_of_the_gauge_is_seen_by_what_they_hold() {
        let mut facts = bare_host(16 << 30);
        facts.now.sockstat = sockstat("TCP: orphan 0 mem 2\n");
        add_sockets(
            &mut facts,
            (0..300_u32).map(|number| {
                let local = format!("10.0.0.5:{}", 40_000 + number);
                socket(TcpState::Established, &local, "10.0.0.9:9092")
                    .held_by(500 + number)
                    .unread(3_000_000, 4_000_000)
                    .done()
            }),
        );
        for (kernel, is_blind) in [("6.12.48", false), ("7.3.4", true)] {
            facts.kernel = kernel.to_owned();
            let outcome = outcome(&RULE, &facts);
            assert_eq!(
                matches!(outcome, Outcome::NotEvaluated(_)),
                is_blind,
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn a_child_namespace_has_no_tcp_mem() {
        assert_not_evaluated(&RULE, &host("container"), "initial network namespace");
    }

    /// A host of 8 GiB with sockets of one program: so many MiB by right, and so many for
    /// peers that are dead.
    fn shared(right: u32, dead: u32) -> Facts {
        let mut facts = bare_host(8 << 30);
        let of = |state, inode: u32| {
            let peer = format!("10.0.0.2:{}", 20_000 + inode);
            socket(state, "10.0.0.1:443", &peer).held_by(inode)
        };
        add_sockets(
            &mut facts,
            (1..=right).map(|inode| {
                of(TcpState::Established, inode)
                    .sending(700_000, 1 << 20)
                    .done()
            }),
        );
        add_sockets(
            &mut facts,
            (right + 1..=right + dead).map(|inode| {
                of(TcpState::Established, inode)
                    .sending(700_000, 1 << 20)
                    .dead_for(60_000)
                    .done()
            }),
        );
        add_process(&mut facts, (5, "streamer"), None, 1..=right + dead);
        facts.now.sockstat = sockstat(&format!("TCP: orphan 0 mem {}\n", (right + dead) * 256));
        facts
    }

    #[test]
    fn a_raise_is_only_for_what_healthy_sockets_hold() {
        // The pressure mark is 510 MiB.
        let all_right = fired(&RULE, &shared(600, 0)).remove(0);
        assert_eq!(all_right.confidence, Confidence::High);
        let pressure = |finding: &Finding| {
            assert_eq!(finding.setting, SETTING, "{finding:?}");
            advisor_facts::sysctl::triple(&finding.proposed).unwrap()[1]
        };
        assert_eq!(pressure(&all_right), 600 * 256 * 3 / 2);
        // Half of it is right, and needs no raise.
        let half = fired(&RULE, &shared(300, 300)).remove(0);
        assert_eq!(
            (half.applies_to, half.setting.as_str()),
            (AppliesTo::Program, "who holds it")
        );
        assert!(
            half.summary
                .contains("streamer (5) holds 300.0 MiB in 300 sockets, dead"),
            "{}",
            half.summary
        );
        // Much more is right than there is room for.
        let both = fired(&RULE, &shared(600, 300)).remove(0);
        assert!((600 * 256 * 3 / 2 - 2..=600 * 256 * 3 / 2).contains(&pressure(&both)));
        assert!(both.why.contains("streamer (5)"), "{}", both.why);
    }

    #[test]
    fn a_gauge_that_leaves_sockets_out_says_nothing() {
        let mut facts = shared(600, 0);
        facts.settings.bypass_prot_mem = Some(1);
        assert_not_evaluated(&RULE, &facts, "bypass_prot_mem is 1");
    }

    #[test]
    fn on_large_pages_an_older_kernel_counts_4_kib() {
        let mut facts = bare_host(8 << 30);
        facts.page_bytes = 64 << 10;
        facts.settings.tcp_mem = Some([6_000, 8_000, 12_000]);
        facts.now.sockstat = sockstat("TCP: orphan 0 mem 20000\n");
        facts.kernel = "5.14.0-503.el9.aarch64".to_owned();
        assert_quiet(&RULE, &facts);
        facts.kernel = "6.12.0".to_owned();
        fired(&RULE, &facts);
    }

    #[test]
    fn wrong_marks_are_another_rules() {
        let mut facts = shared(600, 0);
        facts.settings.tcp_mem = Some([4096, 87_380, 67_108_864]);
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn where_ram_cannot_pay_the_holder_is_named() {
        let mut facts = shared(600, 0);
        facts.ram_bytes = 2 << 30;
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.subject, "streamer (5)");
        assert!(
            finding.summary.ends_with(
                "RAM cannot pay for more: streamer (5) holds 600.0 MiB in 600 sockets, healthy"
            ),
            "{}",
            finding.summary
        );
        assert!(!finding.proposed.contains("dead"), "{}", finding.proposed);
    }
}
