//! Orphaned sockets near tcp_max_orphans, where the kernel resets them.

use super::sizing::{OrphanCost, are_most, is_orphan, most_orphans};
use super::{
    Documentation, Evidence, Finding, Kind, Outcome, ProvenBy, Rule, Severity, bytes, command,
    not_initial_namespace, set, unset,
};
use advisor_facts::{Facts, Look};
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB101",
    name: "orphan-limit-near",
    scenario: Some("orphans/flood/over-the-limit"),
    cure: Some("orphans/flood/under-the-limit"),
    proven_by: ProvenBy::Suites(&["orphan-limit-near", "orphan-retries-misread"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Orphaned sockets near the limit tcp_max_orphans. An orphan is a socket that its \
        program has closed while the peer has not acknowledged all data. Beyond the limit the \
        kernel resets orphans, and their unsent data is lost. An orphan counts up to four times: \
        double if nothing was sent for a long time, and double again if an ICMP error is \
        pending.",
    evidence: "TCP.orphan in /proc/net/sockstat, the larger of two looks. Warning above a \
        quarter of the limit, where the first resets are possible. Critical above half of the \
        limit, or from the count at which a report on this kernel line measured the kill. \
        TCPAbortOnMemory supports it.",
    recommendation: "The power of two above four times the count, or as many orphans as the high \
        mark of tcp_mem can pay for. If that is too few: a shorter life, by tcp_orphan_retries \
        of the network namespace that has the orphans. TCP.orphan counts the whole kernel, so \
        the setting of this namespace is proposed only if at least half of the orphans are in \
        its socket table. If the setting is low already: TCP_USER_TIMEOUT in the program, which \
        also cuts off a live peer that does not read for that long.",
    cost: "Memory that cannot be swapped: the unsent data of each further orphan, at worst 64 \
        KiB.",
    risk: "A limit that memory cannot pay for moves the failure to tcp_mem, where healthy \
        connections suffer too. Many orphans can also mean that a program closes connections to \
        dead peers with much unsent data. No limit mends that.",
    undo: "Set the former value. The kernel resets orphans beyond it at the next close.",
    references: &[
        "tcp_check_oom, tcp_too_many_orphans: net/ipv4/tcp.c, include/net/tcp.h of Linux",
        "tcp_max_orphans, tcp_orphan_retries: Documentation/networking/ip-sysctl.rst of Linux",
        "alarms at a quarter and a half: health/health.d/tcp_orphans.conf of netdata",
        "life of an orphan: tcp_model_timeout in net/ipv4/tcp_timer.c of Linux, and measured",
        "a live peer that is cut off: tcp_probe_timer in net/ipv4/tcp_timer.c of Linux; scenario \
         crash/vanished-peer/stalled-reader",
    ],
};

const LIMIT: &str = "net.ipv4.tcp_max_orphans";
const RETRIES: &str = "net.ipv4.tcp_orphan_retries";

/// Retries that keep an orphan with a silent peer for about 4 seconds.
const FEW_RETRIES: i64 = 3;

/// The life of an orphan: measured, else the `known` one.
fn life(measured: &Measured, retries: i64, known: &str) -> String {
    measured.life_of_orphans(retries).map_or_else(
        || known.to_owned(),
        |life| format!("{} ({})", life.words, life.source),
    )
}

const RISK_OF_RETRIES: &str =
    "data written before close() is lost if the peer does not answer for about 4 s";

fn check(facts: &Facts, measured: &Measured) -> Outcome {
    let (Some(limit), Some(tcp_mem)) = (facts.settings.tcp_max_orphans, facts.settings.tcp_mem)
    else {
        return not_initial_namespace(LIMIT);
    };
    let Some((orphans, look)) = most_orphans(facts) else {
        return Outcome::NotEvaluated("/proc/net/sockstat has no TCP.orphan".to_owned());
    };
    if orphans.saturating_mul(4) <= limit {
        return Outcome::Quiet(format!("{orphans} orphans, limit {limit}"));
    }
    // By default an orphan is taken to count twice. A report on this kernel line says how
    // often one counted when the kernel killed it.
    let counts = &measured.orphan_counts;
    let times = counts
        .as_ref()
        .map_or(2, |counts| i64::try_from(counts.value).unwrap_or(i64::MAX));
    let severity = if orphans.saturating_mul(times) > limit {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let cost_of_one = OrphanCost::of(look, facts, measured);
    let affordable = cost_of_one.affordable(tcp_mem, facts.page_bytes);
    let mut evidence = vec![
        Evidence::sockstat("TCP.orphan", orphans),
        Evidence::sysctl(LIMIT, limit.into()),
        Evidence::sysctl(
            "net.ipv4.tcp_mem",
            format!("{} {} {}", tcp_mem[0], tcp_mem[1], tcp_mem[2])
                .as_str()
                .into(),
        ),
    ];
    evidence.push(cost_of_one.evidence());
    if let Some(counts) = counts {
        evidence.push(Evidence::new("orphan.counts", times.into(), &counts.source));
    }
    // The calibration says how often an orphan can count, not how often these do.
    evidence.extend(measured.calibration().and_then(|calibration| {
        let most = i64::try_from(calibration.orphan_counts_at_most()?).ok()?;
        Some(Evidence::new(
            "orphan.counts.most",
            most.into(),
            calibration.source(),
        ))
    }));
    evidence.extend(Evidence::counter("TcpExt.TCPAbortOnMemory", facts));
    let found = Found {
        severity,
        orphans,
        limit,
        cost_of_one,
        affordable,
        evidence,
    };
    Outcome::Fired(vec![match found.affordable_limit() {
        Some(proposed) => found.raise(proposed),
        None => match orphans_here(look) {
            Some(here) if are_most(here, orphans) => {
                found.shorten(facts.settings.tcp_orphan_retries, measured)
            }
            here => found.elsewhere(here),
        },
    }])
}

/// The orphans in the socket table of this network namespace; `None` if the table cannot
/// be seen.
fn orphans_here(look: &Look) -> Option<u64> {
    let sockets = look.sockets.as_ref()?;
    let here = sockets.all.iter().filter(|socket| is_orphan(socket));
    Some(here.count() as u64)
}

/// Too many orphans, and the memory for them.
struct Found {
    severity: Severity,
    orphans: i64,
    limit: i64,
    cost_of_one: OrphanCost,
    /// How many orphans the high mark of tcp_mem pays for.
    affordable: u64,
    evidence: Vec<Evidence>,
}

impl Found {
    /// A limit above four times the count that memory can pay for.
    fn affordable_limit(&self) -> Option<u64> {
        let needed = self.orphans.cast_unsigned().checked_mul(4)?;
        let wanted = needed.checked_add(1)?.checked_next_power_of_two()?;
        let round = self.affordable / 1024 * 1024;
        let proposed = if wanted <= self.affordable {
            wanted
        } else if round > needed {
            round
        } else {
            self.affordable
        };
        // The kernel's setting is an int.
        (proposed > needed && proposed <= i32::MAX.cast_unsigned().into()).then_some(proposed)
    }

    fn summary(&self) -> String {
        if self.limit <= 0 {
            return format!(
                "{} orphaned sockets, and tcp_max_orphans is {}",
                self.orphans, self.limit
            );
        }
        let percent = i128::from(self.orphans) * 100 / i128::from(self.limit);
        format!("orphaned sockets are at {percent}% of tcp_max_orphans")
    }

    fn raise(self, proposed: u64) -> Finding {
        let current = self.limit.to_string();
        let cost = self.cost_of_one.of_more(self.limit, proposed);
        let proposed = proposed.to_string();
        Finding {
            severity: self.severity,
            confidence: self.cost_of_one.confidence,
            summary: self.summary(),
            why: format!(
                "The kernel compares the limit with up to four times the count, so resets begin \
                 at a quarter of the limit. The proposal is above four times the count. The high \
                 mark of tcp_mem pays for it, at {} per orphan ({}).",
                bytes(self.cost_of_one.bytes),
                self.cost_of_one.source
            ),
            kind: Kind::Host,
            subject: "the whole kernel".to_owned(),
            setting: LIMIT.to_owned(),
            cost,
            risk: DOCUMENTATION.risk.to_owned(),
            apply: set(LIMIT, &proposed),
            undo: unset(LIMIT, &current),
            verify: "TCPAbortOnMemory stops rising (nstat -az TcpExtTCPAbortOnMemory), and \
                `orphan` in /proc/net/sockstat stays below a quarter of the limit"
                .to_owned(),
            evidence: self.evidence,
            current,
            proposed,
        }
    }

    /// Summary, reason and verification where memory cannot pay for more orphans, so that
    /// they have to go sooner.
    fn unpaid(&self) -> [String; 3] {
        [
            format!("{}, and memory cannot pay for more", self.summary()),
            format!(
                "The high mark of tcp_mem pays for {} orphans of {} each, too few for a limit \
                 above four times the count. A higher limit would move the failure to tcp_mem, \
                 so the orphans have to go sooner.",
                self.affordable,
                bytes(self.cost_of_one.bytes)
            ),
            "`orphan` in /proc/net/sockstat falls below a quarter of tcp_max_orphans".to_owned(),
        ]
    }

    /// The orphans are of another network namespace, or it cannot be seen whose they are.
    /// No setting of this one helps.
    fn elsewhere(mut self, here: Option<u64>) -> Finding {
        let [summary, why, verify] = self.unpaid();
        let (subject, whose) = if let Some(here) = here {
            self.evidence.push(Evidence::new(
                "host.sockets.orphan",
                i64::try_from(here).unwrap_or(i64::MAX).into(),
                "the socket table of this network namespace",
            ));
            (
                "another network namespace of this machine",
                format!(
                    "{here} of the {} are in the socket table of this network namespace",
                    self.orphans
                ),
            )
        } else {
            (
                "the network namespace that has the orphans",
                "it cannot be seen which namespace has them".to_owned(),
            )
        };
        Finding {
            severity: self.severity,
            confidence: self.cost_of_one.confidence,
            summary,
            why: format!(
                "{why} TCP.orphan counts the whole kernel, and {whose}. Each namespace has its \
                 own tcp_orphan_retries: set here, it does nothing for orphans of another \
                 namespace."
            ),
            kind: Kind::Host,
            subject: subject.to_owned(),
            setting: "none here".to_owned(),
            current: "unknown".to_owned(),
            proposed: "find the namespace that has them, and shorten their life there".to_owned(),
            cost: "none in memory".to_owned(),
            risk: RISK_OF_RETRIES.to_owned(),
            apply: format!(
                "`lsns -t net` lists the namespaces that have a process, and `nsenter -t PID -n \
                 ss -tan state fin-wait-1 state last-ack state closing` the orphans of one. \
                 Where {RETRIES} is 0 or above {FEW_RETRIES}: nsenter -t PID -n {}. A namespace \
                 whose processes have ended cannot be entered. Its orphans with a silent peer go \
                 by themselves, by default after about 109 s",
                command(RETRIES, &FEW_RETRIES.to_string())
            ),
            undo: format!("the former value of {RETRIES} in that namespace"),
            verify,
            evidence: self.evidence,
        }
    }

    /// The orphans are of this network namespace. They have to go sooner.
    fn shorten(mut self, retries: Option<i64>, measured: &Measured) -> Finding {
        let [summary, why, verify] = self.unpaid();
        self.evidence
            .extend(retries.map(|retries| Evidence::sysctl(RETRIES, retries.into())));
        match retries {
            Some(current) if current == 0 || current > FEW_RETRIES => {
                let proposed = FEW_RETRIES.to_string();
                let current = current.to_string();
                Finding {
                    severity: self.severity,
                    confidence: self.cost_of_one.confidence,
                    summary,
                    why: format!(
                        "{why} With {FEW_RETRIES} retries an orphan with a silent peer lives \
                         {}; 0 means 8 retries and {}.",
                        life(measured, FEW_RETRIES, "about 4 s"),
                        life(measured, 0, "about 109 s")
                    ),
                    kind: Kind::Host,
                    subject: "this network namespace".to_owned(),
                    setting: RETRIES.to_owned(),
                    cost: "none in memory".to_owned(),
                    risk: RISK_OF_RETRIES.to_owned(),
                    apply: set(RETRIES, &proposed),
                    undo: unset(RETRIES, &current),
                    verify,
                    evidence: self.evidence,
                    current,
                    proposed,
                }
            }
            _ => Finding {
                severity: self.severity,
                confidence: self.cost_of_one.confidence,
                summary,
                why: format!("{why} tcp_orphan_retries is low already."),
                kind: Kind::Program,
                subject: "the program that closes these connections".to_owned(),
                setting: "TCP_USER_TIMEOUT".to_owned(),
                current: "unknown".to_owned(),
                proposed: "2000 (ms), set before close()".to_owned(),
                cost: "none in memory".to_owned(),
                risk: "data is lost if the peer does not answer for that long. A live peer that \
                    does not read for that long is cut off too, before close() and after it, \
                    even if it answers every probe"
                    .to_owned(),
                apply: "setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 2000) on each connection; \
                    `ss -tan state fin-wait-1 state last-ack state closing` lists the peers"
                    .to_owned(),
                undo: "remove the call".to_owned(),
                verify,
                evidence: self.evidence,
            },
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use advisor_facts::SocketSource;
    use advisor_facts::sock_diag::TcpState;
    use advisor_facts::sock_diag::Timer;

    use super::*;
    use crate::rules::testing::{
        assert_not_evaluated, assert_quiet, fired, fired_with, host, sockstat,
    };

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("orphan-limit-near")
    }

    /// A host with `orphans` and a limit, whose tcp_mem pays for `affordable`.
    fn orphans(orphans: i64, limit: i64, affordable: u64) -> Facts {
        let mut facts = host("quiet");
        facts.now.sockstat = sockstat(&format!("TCP: orphan {orphans} mem 1\n"));
        facts.settings.tcp_max_orphans = Some(limit);
        let pages = affordable * (64 << 10) / facts.page_bytes;
        facts.settings.tcp_mem = Some([pages, pages, pages]);
        facts
    }

    #[test]
    fn orphans_warn_above_a_quarter_and_are_critical_above_a_half() {
        assert_quiet(&RULE, &orphans(100, 400, 1 << 20));
        assert_eq!(
            fired(&RULE, &orphans(101, 400, 1 << 20))[0].severity,
            Severity::Warning
        );
        assert_eq!(
            fired(&RULE, &orphans(200, 400, 1 << 20))[0].severity,
            Severity::Warning
        );
        assert_eq!(
            fired(&RULE, &orphans(201, 400, 1 << 20))[0].severity,
            Severity::Critical
        );
    }

    #[test]
    fn a_proposed_orphan_limit_is_quiet_and_paid_for() {
        for count in [1, 2, 16, 101, 4096, 5000, 100_000] {
            for affordable in [0, 1, 64, 1000, 20_001, 1 << 20] {
                let facts = orphans(count, count, affordable);
                let finding = &fired(&RULE, &facts)[0];
                if finding.setting != "net.ipv4.tcp_max_orphans" {
                    assert!(affordable <= 4 * count.cast_unsigned(), "{finding:?}");
                    continue;
                }
                let proposed: i64 = finding.proposed.parse().unwrap();
                assert!(proposed.cast_unsigned() <= affordable);
                assert_quiet(&RULE, &orphans(count, proposed, affordable));
            }
        }
    }

    #[test]
    fn orphans_that_memory_cannot_pay_for_are_to_live_shorter() {
        let mut facts = host("orphan-limit-near-unpaid");
        for retries in [0, 8, 4] {
            facts.settings.tcp_orphan_retries = Some(retries);
            let finding = &fired(&RULE, &facts)[0];
            assert_eq!(finding.setting, "net.ipv4.tcp_orphan_retries");
            assert_eq!(
                (finding.current.as_str(), finding.proposed.as_str()),
                (&*retries.to_string(), "3")
            );
        }
        facts.settings.tcp_orphan_retries = Some(2);
        let finding = &fired(&RULE, &facts)[0];
        assert_eq!(finding.kind, Kind::Program);
        assert!(finding.risk.contains("live peer that does not read"));
    }

    #[test]
    fn orphans_of_another_namespace_are_not_mended_by_a_setting_here() {
        let elsewhere = |facts: &Facts| {
            let finding = fired(&RULE, facts).remove(0);
            assert_eq!(finding.setting, "none here");
            finding.subject
        };
        assert_eq!(
            elsewhere(&host("orphan-limit-near-elsewhere")),
            "another network namespace of this machine"
        );

        let mut facts = host("orphan-limit-near-unpaid");
        let is_here = |facts: &Facts| fired(&RULE, facts)[0].subject == "this network namespace";
        assert!(is_here(&facts), "six of ten");
        // As text they are seen as well, though not what they hold.
        facts.now.sockets.as_mut().unwrap().source = SocketSource::ProcNetTcp;
        facts.settings.tcp_mem = Some([1, 2, 3]);
        assert!(is_here(&facts));
        // A record of FIN_WAIT2 is no orphan.
        for socket in &mut facts.now.sockets.as_mut().unwrap().all {
            if socket.state == TcpState::FinWait1 {
                socket.state = TcpState::FinWait2;
                socket.timer = Timer::TimeWait;
            }
        }
        elsewhere(&facts);
        facts.now.sockets = None;
        assert_eq!(
            elsewhere(&facts),
            "the network namespace that has the orphans"
        );
    }

    #[test]
    fn the_orphans_are_looked_for_in_the_look_that_had_the_most() {
        let mut facts = host("orphan-limit-near-unpaid");
        let mut earlier = facts.now.clone();
        earlier.uptime = Duration::ZERO;
        facts.set_earlier(earlier);
        facts.now = host("quiet").now;
        assert_eq!(fired(&RULE, &facts)[0].subject, "this network namespace");
    }

    #[test]
    fn the_memory_of_orphans_is_measured_where_most_of_them_are_seen() {
        let mut facts = orphans(8, 16, 4);
        let mut orphan = host("dead-peer-holds-memory")
            .now
            .sockets
            .as_mut()
            .unwrap()
            .all
            .pop()
            .unwrap();
        orphan.inode = 0;
        orphan.state = TcpState::FinWait1;
        orphan.memory.as_mut().unwrap().send_queued_bytes = 100;
        // A page for each of them: 64 KiB pay for 16, the whole mark for 64.
        facts.now.sockets.as_mut().unwrap().all = vec![orphan; 4];
        let finding = &fired(&RULE, &facts)[0];
        assert_eq!(
            (finding.setting.as_str(), finding.proposed.as_str()),
            ("net.ipv4.tcp_max_orphans", "64")
        );
        facts.now.sockets.as_mut().unwrap().all.pop();
        let finding = &fired(&RULE, &facts)[0];
        assert_eq!(finding.setting, "none here", "three of eight are too few");
    }

    #[test]
    fn what_a_report_measured_replaces_the_formula() {
        use advisor_report::measured::Measurement;

        // 64 KiB each pay for 15, and 16 are needed; two pages each pay for 120.
        let facts = orphans(4, 8, 15);
        assert_eq!(fired(&RULE, &facts)[0].setting, "none here");
        let mut measured = Measured {
            orphan_pages: Some(Measurement {
                value: 2,
                source: "report r.json".to_owned(),
            }),
            ..Measured::default()
        };
        let finding = &fired_with(&RULE, &facts, &measured)[0];
        assert_eq!(finding.proposed, "32");
        assert!(finding.why.contains("(report r.json)"), "{}", finding.why);

        // Above a half it is serious by the formula; a replay saw it from the whole
        // limit on.
        let facts = orphans(300, 400, 1 << 20);
        assert_eq!(fired(&RULE, &facts)[0].severity, Severity::Critical);
        measured.orphan_counts = Some(Measurement {
            value: 1,
            source: "report r.json".to_owned(),
        });
        let finding = &fired_with(&RULE, &facts, &measured)[0];
        assert_eq!(finding.severity, Severity::Warning);
        assert!(
            finding
                .evidence
                .iter()
                .any(|evidence| evidence.observation == "orphan.counts")
        );
    }

    #[test]
    fn a_calibration_says_no_less_than_the_worst_case_and_makes_nothing_more_severe() {
        use advisor_report::calibration::{self, Unsent};
        use advisor_report::measured::Calibrated;

        let mut calibration = calibration::nearest("6.12").unwrap();
        let calibrated = |calibration: &calibration::Calibration| {
            let measured = Measured {
                calibrated: Calibrated::Nearest(Box::new(calibration.clone())),
                ..Measured::default()
            };
            fired_with(&RULE, &orphans(4, 8, 17), &measured)[0].clone()
        };
        // 64 KiB each pay for 17 with and without it.
        let without = &fired(&RULE, &orphans(4, 8, 17))[0];
        let with = calibrated(&calibration);
        assert_eq!(with.proposed, without.proposed);
        assert_eq!(with.severity, without.severity);
        assert_eq!(with.confidence, without.confidence);
        assert!(with.why.contains("measured on Linux 6.12."), "{}", with.why);
        // A kernel that charges more makes orphans dearer.
        let orphan = calibration
            .orphan_memory
            .iter_mut()
            .find(|orphan| orphan.unsent == Unsent::FullBuffer)
            .unwrap();
        orphan.held_bytes = 70_000;
        assert_eq!(calibrated(&calibration).setting, "none here");
    }

    #[test]
    fn an_earlier_look_with_more_orphans_counts() {
        let mut facts = orphans(1, 400, 1 << 20);
        let mut earlier = orphans(300, 400, 1 << 20).now;
        earlier.uptime = Duration::ZERO;
        facts.set_earlier(earlier);
        assert_eq!(fired(&RULE, &facts)[0].severity, Severity::Critical);
    }

    #[test]
    fn a_child_namespace_leaves_the_limits_of_the_kernel_out() {
        let facts = host("container");
        assert_not_evaluated(&RULE, &facts, "initial network namespace");
        let mut unseen = facts.unseen.iter();
        assert!(unseen.any(|unseen| unseen.what.contains("tcp_max_orphans")));
    }
}
