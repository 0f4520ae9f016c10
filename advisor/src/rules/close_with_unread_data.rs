//! A program that closes connections with unread data, which resets them.

use std::collections::BTreeMap;
use std::time::Duration;

use advisor_facts::Facts;
use advisor_facts::condition::unread_bytes;
use advisor_facts::sock_diag::{TcpSocket, TcpState};
use advisor_facts::units::seconds;
use advisor_report::measured::Measured;

use super::past::Past;
use super::program::process_name;
use super::witnessed::{self, Witnessed};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB201",
    name: "close-with-unread-data",
    scope: Scope::Namespace,
    scenario: Some("close/unread-data/plain-close"),
    cure: Some("close/unread-data/shutdown-then-read-to-eof"),
    proven_by: ProvenBy::Nothing(
        "the facts don't show what the peers still had to receive when the program closed",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A program that calls close() while received data is unread. The kernel then sends \
        a reset instead of a FIN and discards what was written and not yet acknowledged. The \
        peer's transfer is cut short, and close() returns 0. Data that arrives after close() has \
        the same effect.",
    evidence: "Growth of TCPAbortOnClose of a network namespace between two looks (--over): at \
        least 5, and at least one per 100 active and passive opens in that time. ActiveOpens \
        (which includes failed attempts) and PassiveOpens stand in for a counter of closes; a \
        connection within the namespace counts in both. Both bounds are a judgement of this \
        project: any server closes on a misbehaving peer now and then, and a program that \
        forgets to read does it to many of its peers. Without a window the totals since boot, \
        with the same bounds, give a notice. TCPAbortOnData alone, with the same bounds, gives a notice: it counts data \
        that arrived after close(), and SO_LINGER {1,0}, and either may be on purpose. The \
        kernel counts per namespace, not per program. A record of `advisor watch` has the \
        kernel's events, which name the program. Without it the programs named hold connections \
        with unread data there at the second look; if none does, they have TCP sockets there.",
    recommendation: "shutdown(SHUT_WR), read to the end, then close(). Not SO_LINGER: it does \
        not prevent the reset.",
    cost: "The connection stays open until the peer has closed its half. Limit the wait, for \
        example to 2 seconds or 64 KiB.",
    risk: "A peer that never closes holds the socket until that limit.",
    undo: "Revert the change of the program.",
    references: &[
        "RFC 1122 section 4.2.2.13; RFC 2525 section 2.17",
        "data_was_unread in __tcp_close: net/ipv4/tcp.c of Linux",
        "The ultimate SO_LINGER page, or: why is my tcp not reliable",
        "bounded lingering close: gunicorn pull request 3590",
    ],
};

/// The reason that the kernel gives, from 6.12 on.
const REASON: &str = "TCP_ABORT_ON_CLOSE";
const COUNTER: &str = "TcpExt.TCPAbortOnClose";
/// Data that arrived after close(), and close() with SO_LINGER {1,0}.
const LATE: &str = "TcpExt.TCPAbortOnData";
/// Opens. Over a window they are about as many as closes. Each end of a connection counts,
/// because each calls close().
const OPENS: [&str; 2] = ["Tcp.ActiveOpens", "Tcp.PassiveOpens"];

/// Fewer closes than this count as chance (our judgement).
const FEW: i64 = 5;
/// One close in so many connections counts as a misbehaving peer (our judgement).
const OPENS_A_CLOSE: i64 = 100;
/// Largest number of programs named.
const SUSPECTS: usize = 3;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.now.counters.get(COUNTER).is_none() {
        return Outcome::NotEvaluated(format!("this kernel has no counter {COUNTER}"));
    }
    let Some((window, _)) = facts.window() else {
        return over(facts, facts.counters_begin());
    };
    let seen = Resets::of(facts);
    match seen.finding(facts, window) {
        Some(finding) => Outcome::Fired(vec![finding]),
        None => match over(facts, "") {
            Outcome::Quiet(_) => Outcome::Quiet(seen.quiet(window)),
            fired => fired,
        },
    }
}

/// The answer by the counters since boot, with the bounds of a window.
fn over(facts: &Facts, since: &str) -> Outcome {
    let past = Past::counted(facts, COUNTER);
    let opens: i64 = OPENS
        .iter()
        .filter_map(|name| facts.now.counters.get(name))
        .sum();
    if past.count < FEW || past.count.saturating_mul(OPENS_A_CLOSE) < opens {
        return Outcome::Quiet(format!(
            "{} close() with unread data {since} and {opens} active and passive opens: fewer than \
             one in {OPENS_A_CLOSE}; whether they go on shows with --over 30s",
            past.count
        ));
    }
    let summary = format!(
        "{} close() with unread data {}, each a reset, and {opens} active and passive opens",
        past.count,
        past.when(facts)
    );
    let why = "close() with unread data resets the connection, and data that was written and not \
        yet acknowledged is lost without an error. The counter does not say which program, and a \
        total does not say whether it goes on."
        .to_owned();
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        ..past.finding(summary, "close()", why)
    }])
}

/// The resets by close() in a network namespace.
struct Resets {
    /// By data that was unread at close().
    unread: i64,
    /// The programs that events name for these.
    by: Vec<Witnessed>,
    /// By data that arrived after close(), or by SO_LINGER {1,0}.
    late: i64,
    opens: i64,
}

impl Resets {
    fn of(facts: &Facts) -> Self {
        let grown = |name| facts.grown(name).unwrap_or(0).max(0);
        let late = grown(LATE);
        // Without a reason they are these only if nothing else made resets.
        let by = witnessed::resets(facts, &[REASON], late == 0);
        Self {
            // A network namespace that is gone counted for itself.
            unread: grown(COUNTER).max(witnessed::count(&by)),
            by,
            late,
            opens: OPENS.into_iter().map(grown).sum(),
        }
    }

    /// Whether so many are more than chance.
    fn is_many(&self, resets: i64) -> bool {
        resets >= FEW && resets.saturating_mul(OPENS_A_CLOSE) >= self.opens
    }

    fn quiet(&self, window: Duration) -> String {
        let window = seconds(window);
        let seen = format!("{} active and passive opens in {window}", self.opens);
        let (closes, what) = if self.unread > 0 {
            (self.unread, "close() with unread data")
        } else {
            (self.late, "close() before the last data came")
        };
        match closes {
            0 => format!("no close() with unread data in {window}"),
            closes if closes < FEW => {
                format!("{closes} {what} and {seen}: fewer than {FEW} count as chance")
            }
            closes => format!(
                "{closes} {what} and {seen}: fewer than one in {OPENS_A_CLOSE} count as \
                 misbehaving peers"
            ),
        }
    }

    fn finding(&self, facts: &Facts, window: Duration) -> Option<Finding> {
        let by_unread = self.is_many(self.unread);
        if !by_unread && !self.is_many(self.late) {
            return None;
        }
        let counters = [COUNTER, LATE].into_iter().chain(OPENS);
        let mut evidence: Vec<_> = counters
            .filter_map(|name| Evidence::counter(name, facts))
            .collect();
        let suspects = Suspects::of(facts);
        // Who did it is known, or it may be one of these.
        let is_known = by_unread && !self.by.is_empty();
        let (subject, sentence) = if is_known {
            evidence.extend(witnessed::evidence(&self.by));
            (witnessed::names(&self.by), witnessed::sentence(&self.by))
        } else {
            evidence.extend(suspects.evidence());
            (suspects.subject(), suspects.sentence().to_owned())
        };
        let opens = format!(
            "{} active and passive opens in {}",
            self.opens,
            seconds(window)
        );
        let common = Finding {
            severity: Severity::Warning,
            confidence: if is_known {
                Confidence::High
            } else {
                Confidence::Medium
            },
            summary: format!(
                "{} close() with unread data and {opens}; each such close is a reset",
                self.unread
            ),
            why: format!(
                "close() with unread data resets the connection. Data that was written and not \
                 yet acknowledged is lost without an error. After shutdown(SHUT_WR) and a read \
                 to the end of file, nothing is unread and the peer has everything. SO_LINGER \
                 does not help. {sentence} If such closes are on purpose, against misbehaving \
                 clients, there is nothing to mend."
            ),
            applies_to: AppliesTo::Program,
            subject,
            setting: "close()".to_owned(),
            current: "close() with received data unread".to_owned(),
            proposed: "shutdown(SHUT_WR), read to EOF, then close()".to_owned(),
            evidence,
            cost: DOCUMENTATION.cost.to_owned(),
            risk: DOCUMENTATION.risk.to_owned(),
            apply: "in the program: shutdown(fd, SHUT_WR); read(fd) until it returns 0 or an \
                error, or until 2 s or 64 KiB have passed; close(fd). Better: have the peer \
                acknowledge the length it received"
                .to_owned(),
            undo: DOCUMENTATION.undo.to_owned(),
            verify: format!(
                "TCPAbortOnClose stops rising: `advisor recommend --over 30s` no longer reports \
                 LB201, or {}",
                facts.command("nstat -az TcpExtTCPAbortOnClose")
            ),
        };
        if by_unread {
            return Some(common);
        }
        // One counter has two causes, and both may be on purpose.
        Some(Finding {
            severity: Severity::Notice,
            confidence: Confidence::Low,
            summary: format!(
                "{} resets by data after close() or by SO_LINGER {{1,0}}, and {opens}",
                self.late
            ),
            why: format!(
                "The kernel answers data that arrives after close() with a reset, and it resets \
                 at close() with SO_LINGER {{1,0}}. What was written and not yet acknowledged is \
                 lost without an error. One counter stands for both causes; LB203 names the \
                 programs that use SO_LINGER. {} If a transfer is abandoned on purpose, there is \
                 nothing to mend.",
                suspects.sentence()
            ),
            current: "close() while the peer sends, or SO_LINGER {1,0}".to_owned(),
            verify: format!(
                "TCPAbortOnData stops rising: {}",
                facts.command("nstat -az TcpExtTCPAbortOnData")
            ),
            ..common
        })
    }
}

/// The programs of a network namespace that may cause the resets. The kernel does not
/// count per program, so their sockets are judged by what they hold now.
struct Suspects {
    /// The most suspicious first.
    programs: Vec<Suspect>,
    /// Some sockets belong to programs that could not be seen.
    others: bool,
}

/// A program and its sockets.
struct Suspect {
    name: String,
    connections: usize,
    /// Connections with data that it has not read.
    unread: usize,
}

impl Suspects {
    fn of(facts: &Facts) -> Self {
        let sockets = || facts.now.sockets.iter().flat_map(|sockets| &sockets.all);
        let holder = |socket: &TcpSocket| {
            let holder = facts.processes.holders_of(socket.inode).first();
            holder.map(|holder| holder.process)
        };
        // A connection may be closed before its descriptor is looked up. The program that
        // listens on its port accepted it.
        let listeners: BTreeMap<u16, u32> = sockets()
            .filter(|socket| socket.state == TcpState::Listen)
            .filter_map(|socket| Some((socket.local.port(), holder(socket)?)))
            .collect();
        let mut suspects: BTreeMap<u32, Suspect> = BTreeMap::new();
        let mut others = false;
        for socket in sockets().filter(|socket| socket.inode != 0) {
            let of_port = || listeners.get(&socket.local.port()).copied();
            let Some(process) = holder(socket).or_else(of_port) else {
                others = true;
                continue;
            };
            let suspect = suspects.entry(process).or_insert_with(|| Suspect {
                name: process_name(facts, process),
                connections: 0,
                unread: 0,
            });
            if socket.state != TcpState::Listen {
                suspect.connections += 1;
                suspect.unread += usize::from(unread_bytes(socket) > 0);
            }
        }
        let mut suspects: Vec<_> = suspects.into_values().collect();
        suspects.sort_by_key(|suspect| std::cmp::Reverse((suspect.unread, suspect.connections)));
        if suspects.iter().any(|suspect| suspect.unread > 0) {
            suspects.retain(|suspect| suspect.unread > 0);
        }
        Self {
            programs: suspects,
            others,
        }
    }

    /// The names of the first few.
    fn names(&self) -> String {
        let mut names: Vec<_> = self
            .programs
            .iter()
            .take(SUSPECTS)
            .map(|suspect| suspect.name.clone())
            .collect();
        match self.programs.len() - names.len() {
            0 => {}
            1 => names.push("another one".to_owned()),
            more => names.push(format!("{more} more")),
        }
        names.join(", ")
    }

    fn leave_unread(&self) -> bool {
        self.programs.first().is_some_and(|first| first.unread > 0)
    }

    fn subject(&self) -> String {
        let place = "this network namespace";
        match &self.programs[..] {
            [] => format!("the program in {place} that closes these connections"),
            [one] if self.leave_unread() || !self.others => {
                format!("{} in {place}, the likely one", one.name)
            }
            [one] => format!("perhaps {} in {place}", one.name),
            _ if self.leave_unread() => format!("likely one of these in {place}: {}", self.names()),
            _ => format!("one of these in {place}: {}", self.names()),
        }
    }

    fn sentence(&self) -> &'static str {
        match &self.programs[..] {
            [] => {
                "The counter does not say which program. Look for one whose peers report \
                 ECONNRESET or short transfers."
            }
            _ if self.leave_unread() => {
                "The counter does not say which program. The one named holds connections with \
                 unread data now."
            }
            [_] if !self.others => {
                "The counter does not say which program. No other program has TCP sockets in \
                 that network namespace."
            }
            _ => {
                "The counter does not say which program, and none holds a connection with unread \
                 data now. Look for one whose peers report ECONNRESET or short transfers."
            }
        }
    }

    fn evidence(&self) -> impl Iterator<Item = Evidence> {
        self.programs.iter().take(SUSPECTS).map(|suspect| {
            Evidence::new(
                suspect.name.clone(),
                format!(
                    "{} of {} connections hold unread data now",
                    suspect.unread, suspect.connections
                )
                .as_str()
                .into(),
                "socket table",
            )
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use advisor_facts::processes::Holder;
    use advisor_facts::processes::Process;

    use super::*;
    use crate::rules::testing::{
        add_namespace, assert_quiet, bare_host, counters, fired, host, outcome,
    };

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("close-with-unread-data")
    }

    #[test]
    fn closes_since_boot_count_by_their_share() {
        let mut facts = bare_host(1 << 30);
        let totals = |closes: i64, opens: i64| {
            counters(&format!(
                "TcpExt: TCPAbortOnClose\nTcpExt: {closes}\nTcp: PassiveOpens\nTcp: {opens}\n"
            ))
        };
        facts.now.counters = totals(64, 6401);
        assert_quiet(&RULE, &facts);
        facts.now.counters = totals(64, 6400);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            (finding.applies_to, finding.severity),
            (AppliesTo::Observe, Severity::Notice)
        );
        // The counter of a child namespace is as old as the namespace.
        facts.settings.tcp_max_orphans = None;
        let summary = &fired(&RULE, &facts)[0].summary;
        assert!(
            summary.contains("since the network namespace was made"),
            "{summary}"
        );
    }

    /// A host that closed so often with unread data, and opened so many connections.
    fn closes(closes: i64, active: i64, passive: i64) -> Facts {
        let mut facts = firing();
        let text = |closes: i64, active: i64, passive: i64| {
            format!(
                "TcpExt: TCPAbortOnClose\nTcpExt: {closes}\n\
                 Tcp: ActiveOpens PassiveOpens\nTcp: {active} {passive}\n"
            )
        };
        facts.now.counters = counters(&text(10 + closes, 2000 + active, 3000 + passive));
        facts.earlier.as_mut().unwrap().counters = counters(&text(10, 2000, 3000));
        facts
    }

    #[test]
    fn closes_with_unread_data_count_by_their_share() {
        assert_quiet(&RULE, &closes(0, 0, 0));
        assert_quiet(&RULE, &closes(1, 0, 1));
        assert_quiet(&RULE, &closes(4, 2, 2));
        fired(&RULE, &closes(5, 0, 0));
        fired(&RULE, &closes(5, 100, 400));
        assert_quiet(&RULE, &closes(5, 100, 401));
        fired(&RULE, &closes(100, 0, 10_000));
        let Outcome::Quiet(reason) = outcome(&RULE, &closes(1, 20, 400)) else {
            panic!("it fired");
        };
        assert!(
            reason.starts_with(
                "1 close() with unread data and 420 active and passive opens in 30.0 s"
            ),
            "{reason}"
        );
    }

    /// Has a program hold a socket of the last network namespace that was added,
    /// with so many bytes unread.
    fn hold(facts: &mut Facts, name: &str, inode: u32, unread: u32) {
        let process = u32::try_from(facts.processes.all.len()).unwrap();
        facts.processes.all.push(Process {
            pid: 4000 + process,
            name: name.to_owned(),
            ..Process::default()
        });
        facts.processes.holders.push(Holder {
            inode,
            process,
            descriptor: 3,
        });
        facts.processes.holders.sort_unstable();
        let namespace = facts.now.elsewhere.last_mut().unwrap();
        let sockets = &mut namespace.sockets.as_mut().unwrap().all;
        let mut socket = sockets
            .iter()
            .find(|socket| socket.state == TcpState::Established)
            .unwrap()
            .clone();
        socket.inode = inode;
        socket.recv_queue_bytes = unread;
        sockets.push(socket);
    }

    #[test]
    fn closes_are_told_of_the_namespace_and_the_program_that_is_likely() {
        let mut facts = closes(0, 0, 0);
        add_namespace(&mut facts, 7, &[("TCPAbortOnClose", 40)]);
        facts.now.elsewhere[0]
            .sockets
            .as_mut()
            .unwrap()
            .all
            .retain(|socket| socket.inode == 0 || socket.state == TcpState::Established);
        for socket in &mut facts.now.elsewhere[0].sockets.as_mut().unwrap().all {
            socket.inode = 0;
        }
        let [finding] = &fired(&RULE, &facts)[..] else {
            panic!("more than one");
        };
        assert_eq!(
            finding.subject,
            "the program in network namespace pod-7 that closes these connections"
        );
        assert!(finding.summary.starts_with("40 close() with unread data"));
        let source = "/proc/net/netstat of network namespace pod-7, in 30.0 s";
        assert_eq!(finding.evidence[0].source, source);

        let subject = |facts: &Facts| fired(&RULE, facts).remove(0).subject;
        hold(&mut facts, "proxy", 900_001, 0);
        assert_eq!(
            subject(&facts),
            "proxy (4000) in network namespace pod-7, the likely one",
            "no other has sockets there"
        );
        hold(&mut facts, "cache", 900_002, 0);
        assert_eq!(
            subject(&facts),
            "one of these in network namespace pod-7: proxy (4000), cache (4001)"
        );
        hold(&mut facts, "mailer", 900_003, 17);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            finding.subject,
            "mailer (4002) in network namespace pod-7, the likely one"
        );
        let last = finding.evidence.last().unwrap();
        assert_eq!(
            (&*last.observation, last.value.to_string()),
            (
                "mailer (4002)",
                "1 of 1 connections hold unread data now".to_owned()
            )
        );

        // The program that listens on the port of a connection accepted it.
        let sockets = &mut facts.now.elsewhere[0].sockets.as_mut().unwrap().all;
        let mut gone = sockets.last().unwrap().clone();
        gone.inode = 900_004;
        gone.local.set_port(9999);
        let mut listener = gone.clone();
        listener.inode = 900_001;
        listener.state = TcpState::Listen;
        sockets.extend([gone, listener]);
        assert_eq!(
            subject(&facts),
            "likely one of these in network namespace pod-7: proxy (4000), mailer (4002)"
        );
        let sockets = &mut facts.now.elsewhere[0].sockets.as_mut().unwrap().all;
        sockets.truncate(sockets.len() - 2);

        // A socket whose program is not known may be the cause.
        facts.processes.holders.retain(|holder| holder.process == 0);
        assert_eq!(
            subject(&facts),
            "perhaps proxy (4000) in network namespace pod-7"
        );
    }

    #[test]
    fn data_after_close_alone_is_a_notice() {
        let mut facts = closes(0, 0, 0);
        add_namespace(
            &mut facts,
            7,
            &[("TCPAbortOnClose", 4), ("TCPAbortOnData", 5)],
        );
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            (finding.severity, finding.confidence),
            (Severity::Notice, Confidence::Low)
        );
        assert!(
            finding
                .summary
                .starts_with("5 resets by data after close()")
        );
        let mut facts = closes(0, 0, 0);
        let few = [("TCPAbortOnClose", 0), ("TCPAbortOnData", 4)];
        add_namespace(&mut facts, 7, &few);
        assert_quiet(&RULE, &facts);
        // A namespace that is new has no rate, and what it has counted since.
        facts.earlier.as_mut().unwrap().elsewhere.clear();
        facts.now.elsewhere[0].counters = counters("TcpExt: TCPAbortOnClose\nTcpExt: 30\n");
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding
                .summary
                .starts_with("30 close() with unread data since the network namespace was made"),
            "{}",
            finding.summary
        );
    }
}
