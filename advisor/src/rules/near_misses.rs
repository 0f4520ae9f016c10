//! What `sockets` shows in numbers that matter and no rule fires on: near misses.

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::units::{bytes, span};
use serde::Serialize;

use super::Finding;
use super::program::{Program, by_program, connections, names_a_process};

/// Something that is no finding, or not yet, and that whoever looks at the sockets sees.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct NearMiss {
    /// The code of the rule that would fire.
    pub code: &'static str,
    /// What is there, and how to see more.
    pub what: String,
}

/// Conditions of sockets that one rule is about.
struct Kind {
    code: &'static str,
    conditions: &'static [Condition],
    /// What they are, of a program.
    says: fn(&Sum<'_>) -> String,
}

/// Sockets in one kind of condition.
struct Sum<'a> {
    /// `java (900)`
    whose: &'a str,
    sockets: usize,
    held_bytes: u64,
    /// What all sockets that were seen hold.
    total_bytes: u64,
    /// For how long nothing was heard on the oldest of them, in milliseconds.
    oldest_ms: Option<u32>,
    is_window: bool,
}

impl Sum<'_> {
    /// Whether so many, or so much, is worth a line.
    fn matters(&self) -> bool {
        const MANY: usize = 10;
        const MUCH_BYTES: u64 = 64 << 10;
        self.sockets >= MANY
            || self.held_bytes >= MUCH_BYTES && self.held_bytes / 2 >= self.total_bytes / 4
    }

    /// `80% of 800.0 KiB`
    fn share(&self) -> String {
        let percent = u128::from(self.held_bytes) * 100 / u128::from(self.total_bytes.max(1));
        format!("{percent}% of {}", bytes(self.total_bytes))
    }

    fn young(&self, what: &str) -> String {
        const OLD_MS: u32 = 60_000;
        let age = match self.oldest_ms.filter(|ms| *ms >= OLD_MS) {
            Some(ms) => format!(
                "the oldest for {}: too few that are old to call it a leak",
                span(ms.into())
            ),
            None if self.is_window => "too few of them were there at the first look".to_owned(),
            None => {
                "still young: `advisor recommend --over 10s` shows whether they stay".to_owned()
            }
        };
        format!("{} {what} at {}, {age}", self.sockets, self.whose)
    }
}

const KINDS: [Kind; 6] = [
    Kind {
        code: "LB202",
        conditions: &[Condition::ClosedByPeer],
        says: |sum| sum.young("CLOSE_WAIT"),
    },
    Kind {
        code: "LB204",
        conditions: &[Condition::HalfClosed],
        says: |sum| sum.young("FIN_WAIT2, held by the program,"),
    },
    Kind {
        code: "LB401",
        conditions: &[Condition::Dead, Condition::OrphanDead],
        says: |sum| {
            format!(
                "{} peers of {} are dead and hold {}",
                sum.sockets,
                sum.whose,
                sum.share()
            )
        },
    },
    Kind {
        code: "LB403",
        conditions: &[
            Condition::ZeroWindow,
            Condition::Slow,
            Condition::OrphanZeroWindow,
        ],
        says: |sum| {
            format!(
                "{} peers of {} do not take their data and hold {}",
                sum.sockets,
                sum.whose,
                sum.share()
            )
        },
    },
    Kind {
        code: "LB404",
        conditions: &[Condition::Unread],
        says: |sum| {
            format!(
                "{} of {} {} unread data, {}",
                connections(sum.sockets),
                sum.whose,
                if sum.sockets == 1 { "holds" } else { "hold" },
                sum.share()
            )
        },
    },
    Kind {
        code: "LB503",
        conditions: &[Condition::NotAccepted],
        says: |sum| sum.young("connections that wait for accept()"),
    },
];

/// Programs that are named of one kind.
const PROGRAMS: usize = 3;

/// What no finding tells, by the conditions of all sockets that were seen.
pub(crate) fn near_misses(facts: &Facts, found: &[(&str, &Finding)]) -> Vec<NearMiss> {
    let every = facts.now.every_socket();
    let total_bytes = every.map(|(_, socket)| socket.held_bytes()).sum();
    let is_window = facts.window().is_some();
    let mut near = Vec::new();
    for kind in &KINDS {
        let programs = by_program(facts, |socket| {
            kind.conditions.contains(&Condition::of(socket))
        });
        let sum = |whose, programs: &[Program<'_>]| Sum {
            whose,
            sockets: programs.iter().map(|program| program.sockets.len()).sum(),
            held_bytes: programs.iter().map(|program| program.bytes).sum(),
            total_bytes,
            oldest_ms: programs
                .iter()
                .flat_map(|program| &program.sockets)
                .filter_map(|socket| socket.info.as_ref()?.last_ack_recv_ms())
                .max(),
            is_window,
        };
        let mut same = found.iter().filter(|(code, _)| *code == kind.code);
        let is_told = |program: &Program<'_>| {
            // Without its process a program has another name in each rule.
            let mut same = same.clone();
            same.any(|(_, finding)| {
                !names_a_process(&program.name) || finding.subject.contains(&program.name)
            })
        };
        let line = |sum: &Sum<'_>| NearMiss {
            code: kind.code,
            what: (kind.says)(sum),
        };
        let before = near.len();
        near.extend(
            programs
                .iter()
                .filter(|program| !is_told(program))
                .map(|program| sum(&program.name, std::slice::from_ref(program)))
                .filter(Sum::matters)
                .take(PROGRAMS)
                .map(|sum| line(&sum)),
        );
        let all = sum("several programs", &programs);
        if near.len() == before && all.matters() && same.next().is_none() {
            near.push(line(&all));
        }
    }
    near
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use advisor_facts::condition::ConditionSums;
    use advisor_facts::sock_diag::{TcpSocket, TcpState};

    use super::*;
    use crate::plan::{Advice, advise};
    use crate::rules::testing::{add_process, add_sockets, bare_host, host, socket};

    fn lines(advice: &Advice) -> Vec<&str> {
        let near = advice.near_misses.iter();
        near.map(|near| near.what.as_str()).collect()
    }

    fn held_by(name: &str, sockets: Vec<TcpSocket>) -> Facts {
        let mut facts = bare_host(8 << 30);
        add_process(
            &mut facts,
            (812, name),
            None,
            sockets.iter().map(|socket| socket.inode),
        );
        add_sockets(&mut facts, sockets);
        facts
    }

    #[test]
    fn a_young_leak_is_a_near_miss_and_an_old_one_a_finding() {
        let closed = |ms: u64| {
            let sockets = (0..300).map(|index| {
                socket(
                    TcpState::CloseWait,
                    "192.0.2.1:8080",
                    &format!("198.51.100.{}:{}", index % 200, 20_000 + index),
                )
                .held_by(4000 + index)
                .still_for(ms)
                .done()
            });
            let listener = socket(TcpState::Listen, "192.0.2.1:8080", "0.0.0.0:0").held_by(3999);
            held_by(
                "server.py",
                std::iter::once(listener.done()).chain(sockets).collect(),
            )
        };
        let advice = advise(&closed(100), &[]);
        assert_eq!(advice.recommendations, []);
        assert_eq!(
            lines(&advice),
            [
                "300 CLOSE_WAIT at server.py (812), still young: `advisor recommend --over 10s` \
                 shows whether they stay"
            ]
        );
        let advice = advise(&closed(100_000), &[]);
        assert_eq!(advice.recommendations[0].code, "LB202");
        assert_eq!(lines(&advice), [""; 0]);
    }

    #[test]
    fn a_few_old_ones_are_not_called_young() {
        let sockets = (0..29_u32).map(|index| {
            let peer = format!("198.51.100.{index}:6443");
            let local = format!("192.0.2.1:{}", 40_000 + index);
            socket(TcpState::CloseWait, &local, &peer)
                .held_by(4000 + index)
                .still_for(9_000_000)
                .done()
        });
        let advice = advise(&held_by("controller", sockets.collect()), &[]);
        assert_eq!(
            lines(&advice),
            [
                "29 CLOSE_WAIT at controller (812), the oldest for 2 h: too few that are old to \
                 call it a leak"
            ]
        );
    }

    #[test]
    fn dead_peers_that_hold_most_of_little_are_told() {
        let mut sockets: Vec<_> = (0..8)
            .map(|index| {
                socket(
                    TcpState::Established,
                    "192.0.2.1:8080",
                    &format!("198.51.100.{index}:20000"),
                )
                .held_by(4000 + index)
                .dead_for(20_000)
                .sending(50_000, 80 << 10)
                .done()
            })
            .collect();
        sockets.push(
            socket(TcpState::Established, "192.0.2.1:8080", "203.0.113.9:4000")
                .held_by(5000)
                .sending(50_000, 160 << 10)
                .done(),
        );
        let advice = advise(&held_by("server.py", sockets), &[]);
        assert_eq!(
            lines(&advice),
            ["8 peers of server.py (812) are dead and hold 80% of 800.0 KiB"]
        );
    }

    /// `sockets` and `recommend` never contradict each other: what the one shows in
    /// numbers that matter, the other tells.
    #[test]
    fn what_the_sockets_show_is_told_of_every_recorded_host() {
        let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
        let mut shown = 0;
        for entry in fs::read_dir(hosts).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let facts = host(&name);
            let mut sums = ConditionSums::default();
            for (_, socket) in facts.now.every_socket() {
                sums.count(Condition::of(socket), socket.held_bytes());
            }
            let advice = advise(&facts, &[]);
            for kind in &KINDS {
                let sum = sums.sum(|condition| kind.conditions.contains(&condition));
                let sum = Sum {
                    whose: "",
                    sockets: usize::try_from(sum.sockets).unwrap(),
                    held_bytes: sum.bytes,
                    total_bytes: sums.total().bytes,
                    oldest_ms: None,
                    is_window: false,
                };
                if !sum.matters() {
                    continue;
                }
                shown += 1;
                let codes = advice.recommendations.iter().map(|step| step.code);
                let near = advice.near_misses.iter().map(|near| near.code);
                assert!(
                    codes.chain(near).any(|code| code == kind.code),
                    "{name}: {} is silent about {} sockets",
                    kind.code,
                    sum.sockets
                );
            }
        }
        assert!(shown > 3, "{shown}");
        // No condition in which something is amiss is passed over, but orphans that go by
        // themselves: their limit judges those.
        for condition in Condition::ALL.into_iter().filter(|one| one.is_amiss()) {
            let goes_by_itself = matches!(
                condition,
                Condition::Orphan | Condition::OrphanHalfClosed | Condition::OrphanDraining
            );
            let is_told = KINDS
                .iter()
                .any(|kind| kind.conditions.contains(&condition));
            assert!(goes_by_itself != is_told, "{condition:?}");
        }
    }
}
