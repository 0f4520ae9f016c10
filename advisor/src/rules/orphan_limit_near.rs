//! Orphaned sockets near tcp_max_orphans, where the kernel resets them.

use advisor_facts::condition::Condition;
use advisor_facts::kernel_log;
use advisor_facts::namespaces::Namespace;
use advisor_facts::units::bytes;
use advisor_facts::{Facts, Look};
use advisor_report::measured::Measured;

use super::orphan_cost::{Orphans, are_most};
use super::program::{Program, by_program, command_in};
use super::{
    AppliesTo, Documentation, Evidence, Finding, Harm, LogLine, Outcome, ProvenBy, Rule, Scope,
    Severity, command, not_initial_namespace, there_and_back,
};

pub(super) const RULE: Rule = Rule {
    code: "LB101",
    name: "orphan-limit-near",
    scope: Scope::Host,
    scenario: Some("orphans/flood/over-the-limit"),
    cure: Some("orphans/flood/under-the-limit"),
    proven_by: ProvenBy::Reproduction(&[Harm::DataLost]),
    log_lines: &[LogLine {
        pieces: &[kernel_log::TOO_MANY_ORPHANS],
        means: "The kernel reset an orphan, because there were more than tcp_max_orphans allows: \
            it counts an orphan up to four times. One line may stand for hundreds of resets; \
            TCPAbortOnMemory counts them.",
    }],
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
        mark of tcp_mem pays for. An orphan costs what the orphans in the socket tables of all \
        network namespaces hold on average, and no more than TCP.mem divided by TCP.orphan; the \
        documented 64 KiB only if neither is known. If memory pays for hardly more than the \
        limit: what ends these orphans sooner. Against silent peers that is tcp_orphan_retries of \
        their network namespace. Against peers that answer and do not read it is TCP_USER_TIMEOUT \
        in the program: such an orphan lives about 347 s, whatever tcp_orphan_retries says.",
    cost: "Memory that cannot be swapped: the unsent data of each further orphan.",
    risk: "A limit that memory cannot pay for moves the failure to tcp_mem, where healthy \
        connections suffer too. Many orphans can also mean that a program closes connections to \
        dead peers with much unsent data. No limit mends that.",
    undo: "Set the former value. The kernel resets orphans beyond it at the next close.",
    references: &[
        "tcp_check_oom, tcp_too_many_orphans: net/ipv4/tcp.c, include/net/tcp.h of Linux",
        "tcp_max_orphans, tcp_orphan_retries: Documentation/networking/ip-sysctl.rst of Linux",
        "alarms at a quarter and a half: health/health.d/tcp_orphans.conf of netdata",
        "life of an orphan: tcp_model_timeout in net/ipv4/tcp_timer.c of Linux, and measured",
        "347 s at a closed window with tcp_orphan_retries 0 and with 3: measured on Linux 6.18",
        "a live peer that is cut off: tcp_probe_timer in net/ipv4/tcp_timer.c of Linux; scenario \
         crash/vanished-peer/stalled-reader",
    ],
};

/// An orphan may count four times, and by default it is taken to count twice: so many
/// percent of the limit are near it, and at it.
pub(crate) const PERCENT: [u64; 2] = [25, 50];
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

const RISK_OF_TIMEOUT: &str = "data is lost if the peer does not answer for that long. A live \
    peer that does not read for that long is cut off too, before close() and after it, even if it \
    answers every probe";

const RISK_OF_RETRIES: &str =
    "data written before close() is lost if the peer does not answer for about 4 s";

fn check(facts: &Facts, measured: &Measured) -> Outcome {
    let Some(limit) = facts.settings.tcp_max_orphans else {
        return not_initial_namespace(LIMIT);
    };
    if facts.now.sockstat.get("TCP.orphan").is_none() {
        return Outcome::NotEvaluated("/proc/net/sockstat has no TCP.orphan".to_owned());
    }
    let orphans = Orphans::of(facts, measured);
    let count = orphans.count;
    if count.saturating_mul(100) <= limit.saturating_mul(PERCENT[0].cast_signed()) {
        return Outcome::Quiet(format!("{count} orphans, limit {limit}"));
    }
    // By default an orphan is taken to count twice. A report on this kernel line says how
    // often one counted when the kernel killed it.
    let counts = &measured.orphan_counts;
    let times = counts
        .as_ref()
        .map_or(2, |counts| i64::try_from(counts.value).unwrap_or(i64::MAX));
    let severity = if count.saturating_mul(times) > limit {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let mut evidence = vec![
        Evidence::sockstat("TCP.orphan", count),
        Evidence::sysctl(LIMIT, limit.into()),
    ];
    evidence.extend(orphans.evidence());
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
    let kinds = orphans.kinds();
    evidence.extend(kinds.iter().map(|(condition, count)| {
        Evidence::new(
            format!("host.sockets.{}", condition.as_str().replace(' ', "-")),
            i64::try_from(*count).unwrap_or(i64::MAX).into(),
            "the socket tables that were seen",
        )
    }));
    let found = NearLimit {
        severity,
        limit,
        evidence,
        orphans,
    };
    let higher = found.orphans.higher_limit(limit);
    let is_enough = higher.is_some_and(|higher| higher > found.orphans.needed());
    let seen: u64 = kinds.iter().map(|(_, count)| count).sum();
    let are = |wanted: Condition| {
        let mut kinds = kinds.iter().filter(|(condition, _)| *condition == wanted);
        let count_of = kinds.next().map_or(0, |(_, count)| *count);
        are_most(seen, count) && count_of * 2 >= seen
    };
    let places = places_of(found.orphans.look);
    let place = places.first().filter(|(_, there)| are_most(*there, count));
    Outcome::Fired(vec![match (higher, place) {
        (Some(proposed), _) if is_enough => found.raise(facts, proposed),
        _ if are(Condition::OrphanZeroWindow) => {
            let programs = by_program(facts, |socket| {
                Condition::of(socket) == Condition::OrphanZeroWindow
            });
            found.bound_the_close(programs.first())
        }
        // As many as memory pays for is little; an end to them is more.
        (Some(proposed), _) if !are(Condition::OrphanDead) => found.raise(facts, proposed),
        _ if are(Condition::OrphanDraining) => {
            let programs = by_program(facts, |socket| {
                Condition::of(socket) == Condition::OrphanDraining
            });
            found.close_later(programs.first())
        }
        (_, Some((None, _))) => found.shorten(facts, measured),
        (_, Some((Some(namespace), there))) => found.elsewhere(facts, Some((namespace, *there))),
        (Some(proposed), None) => found.raise(facts, proposed),
        (None, None) => found.elsewhere(facts, None),
    }])
}

/// The network namespaces that orphans were seen in, the one with the most first.
fn places_of(look: &Look) -> Vec<(Option<&Namespace>, u64)> {
    let mut places: Vec<(Option<&Namespace>, u64)> = Vec::new();
    for (namespace, socket) in look.every_socket() {
        if !socket.is_orphan() {
            continue;
        }
        let inode = |namespace: Option<&Namespace>| namespace.map(|other| other.inode);
        match places.last_mut() {
            // The sockets of a namespace stand together.
            Some((place, count)) if inode(*place) == inode(namespace) => *count += 1,
            _ => places.push((namespace, 1)),
        }
    }
    places.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    places
}

/// Too many orphans, and what there is to pay for them.
struct NearLimit<'a> {
    severity: Severity,
    limit: i64,
    evidence: Vec<Evidence>,
    orphans: Orphans<'a>,
}

impl NearLimit<'_> {
    fn summary(&self) -> String {
        let count = self.orphans.count;
        if self.limit <= 0 {
            return format!(
                "{count} orphaned sockets, and tcp_max_orphans is {}",
                self.limit
            );
        }
        let percent = i128::from(count) * 100 / i128::from(self.limit);
        format!("orphaned sockets are at {percent}% of tcp_max_orphans")
    }

    /// What memory pays for.
    fn paid(&self) -> String {
        let [each, source] = [
            bytes(self.orphans.cost.bytes),
            self.orphans.cost.source.clone(),
        ];
        let Some(payable) = self.orphans.payable else {
            return format!(
                "Neither tcp_mem nor the RAM is known, and an orphan takes {each} ({source})."
            );
        };
        format!("The high mark of tcp_mem pays for {payable} orphans of {each} each ({source}).")
    }

    fn raise(self, facts: &Facts, proposed: u64) -> Finding {
        let current = self.limit.to_string();
        let enough = self.orphans.is_enough(proposed);
        let why = format!(
            "The kernel compares the limit with up to four times the count, so that resets begin \
             at a quarter of it. {} {enough}",
            self.paid()
        );
        let cost = self.orphans.cost_of(proposed);
        let proposed = proposed.to_string();
        let (apply, undo) = there_and_back(facts, LIMIT, &proposed);
        Finding {
            severity: self.severity,
            confidence: self.orphans.cost.confidence,
            summary: self.summary(),
            why,
            applies_to: AppliesTo::Host,
            subject: "the whole kernel".to_owned(),
            setting: LIMIT.to_owned(),
            cost,
            risk: DOCUMENTATION.risk.to_owned(),
            apply,
            undo,
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
                "{} Raising the limit would move the failure to tcp_mem, so the orphans have to \
                 go sooner.",
                self.paid()
            ),
            "`orphan` in /proc/net/sockstat falls below a quarter of tcp_max_orphans".to_owned(),
        ]
    }

    /// Most orphans are in another network namespace, or it is not seen where: no
    /// setting of this one mends anything.
    fn elsewhere(mut self, facts: &Facts, place: Option<(&Namespace, u64)>) -> Finding {
        let [summary, why, verify] = self.unpaid();
        let retries = command(facts, RETRIES, &FEW_RETRIES.to_string());
        let show = "ss -tano state fin-wait-1 state last-ack state closing";
        let (subject, whose, apply) = if let Some((namespace, there)) = place {
            self.evidence.push(Evidence::new(
                "host.sockets.orphan",
                i64::try_from(there).unwrap_or(i64::MAX).into(),
                format!("the socket table of {}", namespace.label()),
            ));
            (
                namespace.label(),
                format!("{there} of the {} are in that one", self.orphans.count),
                format!(
                    "{} shows the orphans; where {RETRIES} is 0 or above {FEW_RETRIES} there: {}",
                    command_in(Some(namespace), show),
                    command_in(Some(namespace), &retries)
                ),
            )
        } else {
            (
                "the network namespace that has the orphans".to_owned(),
                "whose these are cannot be seen".to_owned(),
                format!(
                    "`lsns -t net` lists the namespaces that have a process, and `nsenter -t PID \
                     -n {show}` the orphans of one; where {RETRIES} is 0 or above {FEW_RETRIES}: \
                     `nsenter -t PID -n {retries}`. A namespace whose processes have ended cannot \
                     be entered: its orphans with a silent peer go by themselves, by default \
                     after about 109 s"
                ),
            )
        };
        Finding {
            severity: self.severity,
            confidence: self.orphans.cost.confidence,
            summary,
            why: format!(
                "{why} TCP.orphan counts the whole kernel, and {whose}. Each namespace has its own \
                 tcp_orphan_retries, and it shortens only the life of those whose peers are \
                 silent: where a peer answers and does not read (timer:(persist) in ss), the \
                 program has to bound its close by TCP_USER_TIMEOUT."
            ),
            applies_to: AppliesTo::Host,
            subject,
            setting: "none here".to_owned(),
            current: "unknown".to_owned(),
            proposed: "find the namespace that has them, and shorten their life there".to_owned(),
            cost: "none in memory".to_owned(),
            risk: RISK_OF_RETRIES.to_owned(),
            apply,
            undo: format!("the former value of {RETRIES} in that namespace"),
            verify,
            evidence: self.evidence,
        }
    }

    /// The peers live and do not read: only the program can say how long they are worth
    /// waiting for.
    fn bound_the_close(self, program: Option<&Program<'_>>) -> Finding {
        let [summary, why, verify] = self.unpaid();
        let name = program.map_or("the program that closes these connections", |program| {
            program.name.as_str()
        });
        let show = "ss -tano state fin-wait-1 state last-ack state closing";
        let show = program.map_or_else(|| show.to_owned(), |program| program.command(show));
        Finding {
            severity: self.severity,
            confidence: self.orphans.cost.confidence,
            summary,
            why: format!(
                "{why} Most of these peers live and do not read: their window is closed. \
                 tcp_orphan_retries does nothing there: such an orphan lives about 347 s with 0 \
                 and with 3."
            ),
            applies_to: AppliesTo::Program,
            subject: name.to_owned(),
            setting: "TCP_USER_TIMEOUT".to_owned(),
            current: "unknown".to_owned(),
            proposed: "10000 (ms), set before close()".to_owned(),
            cost: "none in memory".to_owned(),
            risk: RISK_OF_TIMEOUT.to_owned(),
            apply: format!(
                "setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 10000) on each connection before \
                 it is closed; or shutdown(SHUT_WR), read to the end of file with a time limit, \
                 and then close; {show} shows to whom"
            ),
            undo: "take the call out again".to_owned(),
            verify,
            evidence: self.evidence,
        }
    }

    /// The peers take what is left: the orphans go by themselves, and no retries are spent.
    fn close_later(self, program: Option<&Program<'_>>) -> Finding {
        let [summary, why, verify] = self.unpaid();
        let name = program.map_or("the program that closes these connections", |program| {
            program.name.as_str()
        });
        Finding {
            severity: self.severity,
            confidence: self.orphans.cost.confidence,
            summary,
            why: format!(
                "{why} Most of these peers take what is left, as fast as their path allows, and \
                 tcp_orphan_retries does nothing for them. Such an orphan counts once, so that \
                 resets begin at the limit itself."
            ),
            applies_to: AppliesTo::Program,
            subject: name.to_owned(),
            setting: "close()".to_owned(),
            current: "called with much unsent".to_owned(),
            proposed: "close() once the peer has taken it: shutdown(SHUT_WR), read to the end of \
                file with a time limit, then close(); or less unsent (SO_SNDBUF)"
                .to_owned(),
            cost: "a descriptor for each connection until then".to_owned(),
            risk: "a peer that never closes holds the descriptor until the time limit".to_owned(),
            apply: "in the program, or by its setting for a lingering close (nginx: \
                lingering_close always)"
                .to_owned(),
            undo: "take the change of the program out again".to_owned(),
            verify,
            evidence: self.evidence,
        }
    }

    /// The orphans are of this network namespace. They have to go sooner.
    fn shorten(mut self, facts: &Facts, measured: &Measured) -> Finding {
        let retries = facts.settings.tcp_orphan_retries;
        let [summary, why, verify] = self.unpaid();
        self.evidence
            .extend(retries.map(|retries| Evidence::sysctl(RETRIES, retries.into())));
        match retries {
            Some(current) if current == 0 || current > FEW_RETRIES => {
                let proposed = FEW_RETRIES.to_string();
                let current = current.to_string();
                let (apply, undo) = there_and_back(facts, RETRIES, &proposed);
                Finding {
                    severity: self.severity,
                    confidence: self.orphans.cost.confidence,
                    summary,
                    why: format!(
                        "{why} With {FEW_RETRIES} retries an orphan with a silent peer lives \
                         {}; 0 means 8 retries and {}.",
                        life(measured, FEW_RETRIES, "about 4 s"),
                        life(measured, 0, "about 109 s")
                    ),
                    applies_to: AppliesTo::Host,
                    subject: "this network namespace".to_owned(),
                    setting: RETRIES.to_owned(),
                    cost: "none in memory".to_owned(),
                    risk: RISK_OF_RETRIES.to_owned(),
                    apply,
                    undo,
                    verify,
                    evidence: self.evidence,
                    current,
                    proposed,
                }
            }
            _ => Finding {
                severity: self.severity,
                confidence: self.orphans.cost.confidence,
                summary,
                why: format!("{why} tcp_orphan_retries is low already."),
                applies_to: AppliesTo::Program,
                subject: "the program that closes these connections".to_owned(),
                setting: "TCP_USER_TIMEOUT".to_owned(),
                current: "unknown".to_owned(),
                proposed: "2000 (ms), set before close()".to_owned(),
                cost: "none in memory".to_owned(),
                risk: RISK_OF_TIMEOUT.to_owned(),
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
    use advisor_facts::counters::Counters;
    use advisor_facts::sock_diag::TcpState;
    use advisor_facts::sock_diag::Timer;

    use super::*;
    use crate::rules::testing::{
        add_sockets, assert_not_evaluated, assert_quiet, fired, fired_with, host, set, socket,
        sockstat,
    };

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        let mut facts = host("orphan-limit-near");
        // Its resets are what reset-for-memory is about.
        facts.now.counters = Counters::default();
        facts
    }

    /// A host with `orphans` and a limit, whose tcp_mem pays for `affordable`.
    fn orphans(orphans: i64, limit: i64, affordable: u64) -> Facts {
        let mut facts = host("quiet");
        // So much that the gauge bounds no orphan.
        facts.now.sockstat = sockstat(&format!("TCP: orphan {orphans} mem {}\n", orphans * 64));
        facts.settings.tcp_max_orphans = Some(limit);
        let pages = affordable * (64 << 10) / facts.page_bytes;
        (facts.ram_bytes, facts.memory.zones) = (1 << 42, None);
        let marks = format!("{} {} {pages}", pages / 2, pages / 4 * 3);
        set(&mut facts, "net.ipv4.tcp_mem", &marks);
        // They are meant.
        facts.sysctl_files.set("net.ipv4.tcp_mem", &marks);
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
            for affordable in [1, 64, 1000, 20_001, 1 << 20] {
                let facts = orphans(count, count, affordable);
                let finding = &fired(&RULE, &facts)[0];
                if finding.setting != "net.ipv4.tcp_max_orphans" {
                    // Hardly more than there is, or too few for those that are there.
                    assert!(
                        affordable / 5 * 4 <= count.cast_unsigned() + 1024,
                        "{affordable}: {finding:?}"
                    );
                    continue;
                }
                let proposed: i64 = finding.proposed.parse().unwrap();
                assert!(proposed.cast_unsigned() <= affordable && proposed > count);
                let after = orphans(count, proposed, affordable);
                if proposed >= count * 4 {
                    assert_quiet(&RULE, &after);
                } else {
                    assert_ne!(fired(&RULE, &after)[0].setting, LIMIT);
                    assert!(
                        finding.why.contains("the memory is missing"),
                        "{}",
                        finding.why
                    );
                }
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
        assert_eq!(finding.applies_to, AppliesTo::Program);
        assert!(finding.risk.contains("peer that does not read"));
    }

    #[test]
    fn orphans_whose_peers_take_the_rest_are_not_cut_off_by_retries() {
        let mut facts = orphans(1000, 2000, 1000);
        let draining = (0..1000).map(|number| {
            let peer = format!("198.51.{}.{}:2000", number / 250, number % 250 + 1);
            socket(TcpState::FinWait1, "10.1.1.1:443", &peer)
                .sending(50_000, 64 << 10)
                .done()
        });
        add_sockets(&mut facts, draining.collect::<Vec<_>>());
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            (finding.setting.as_str(), finding.applies_to),
            ("close()", AppliesTo::Program)
        );
        assert!(
            finding.why.contains("does nothing for them"),
            "{}",
            finding.why
        );
    }

    #[test]
    fn orphans_of_another_namespace_are_not_mended_by_a_setting_here() {
        let elsewhere = |facts: &Facts| {
            let finding = fired(&RULE, facts).remove(0);
            assert_eq!(finding.setting, "none here");
            finding.subject
        };
        let mut facts = host("orphan-limit-near-elsewhere");
        facts.sysctl_files.set("net.ipv4.tcp_mem", "1000 2000 3000");
        facts.settings.tcp_mem = Some([1000, 2000, 3000]);
        assert_eq!(
            elsewhere(&facts),
            "the network namespace that has the orphans"
        );

        let mut facts = host("orphan-limit-near-unpaid");
        let is_here = |facts: &Facts| fired(&RULE, facts)[0].subject == "this network namespace";
        assert!(is_here(&facts), "six of ten");
        // As text they are seen as well, though not what they hold.
        facts.now.sockets.as_mut().unwrap().source = SocketSource::ProcNetTcp;
        facts.settings.tcp_mem = Some([1, 2, 3]);
        facts.sysctl_files.set("net.ipv4.tcp_mem", "1 2 3");
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
        // A page for each of them: 64 KiB pay for 4, the whole mark for 64.
        orphan.memory.as_mut().unwrap().forward_alloc_bytes = 0;
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

        // 64 KiB each pay for 9, hardly more than the limit; two pages each for 72.
        let facts = orphans(4, 8, 9);
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
            fired_with(&RULE, &orphans(4, 8, 11), &measured)[0].clone()
        };
        // 64 KiB each pay for 11 with and without it.
        let without = &fired(&RULE, &orphans(4, 8, 11))[0];
        let with = calibrated(&calibration);
        assert_eq!(with.proposed, without.proposed);
        assert_eq!(with.severity, without.severity);
        assert_eq!(with.confidence, without.confidence);
        assert!(with.why.contains("measured on Linux 6.12."), "{}", with.why);
        // A kernel that charges more makes orphans dearer: they pay for 10.
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
