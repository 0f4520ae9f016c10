//! Looks at the sockets and processes: when something nears or happens, and rarely else.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use advisor_facts::happened::{At, Happened, Held};
use advisor_facts::{FactError, Facts, Look, Looking, Root, Shared};
use advisor_report::record::Line;

use super::pace::{Pace, cpu_time};
use crate::plan::{self, Advice};
use crate::sockets::{By, Group, Question, Row, Survey};

/// Looks are so far apart at the least.
const SOONEST: Duration = Duration::from_secs(5);
/// The share of a CPU that looks may cost.
const SHARE: f64 = 0.003;
/// Without a reason there is a look so often.
const RARELY: Duration = Duration::from_secs(600);
/// So many sockets of a network namespace are kept.
const SOCKETS: usize = 5_000;
/// So many holders are told.
const HOLDERS: usize = 5;

/// What a look saw.
pub(super) struct Seen {
    pub(super) facts: Facts,
    pub(super) advice: Advice,
    pub(super) held_bytes: u64,
    pub(super) holders: Vec<Held>,
    began: Instant,
    cost: Duration,
}

/// Looks.
pub(super) struct Looker {
    looking: Looking,
    pace: Pace,
    /// When there is one without a reason.
    rarely: Instant,
    /// Whether one is wanted.
    wanted: bool,
    running: Option<Receiver<Result<Seen, FactError>>>,
    first: Option<Shared<Look>>,
}

impl Looker {
    pub(super) fn new(looking: Looking, now: Instant) -> Self {
        Self {
            looking,
            pace: Pace::new(SOONEST, SHARE, now),
            rarely: now + RARELY,
            wanted: false,
            running: None,
            first: None,
        }
    }

    /// Asks for a look, as soon as it may be.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Looks at once, and waits for it.
    pub(super) fn look(&mut self, happened: &Happened) -> Result<Seen, FactError> {
        let seen = look(self.looking, self.first.clone(), happened.clone())?;
        self.took(&seen);
        Ok(seen)
    }

    /// Begins a look where one is wanted and may be, and gives what one has seen.
    pub(super) fn go_on(
        &mut self,
        now: Instant,
        happened: &Happened,
    ) -> Option<Result<Seen, FactError>> {
        if let Some(running) = &self.running {
            let result = running.try_recv().ok()?;
            self.running = None;
            if let Ok(seen) = &result {
                self.took(seen);
            }
            return Some(result);
        }
        if (self.wanted || now >= self.rarely) && self.pace.is_due(now) {
            self.wanted = false;
            self.rarely = now + RARELY;
            let (looking, first, happened) = (self.looking, self.first.clone(), happened.clone());
            let (send, receive) = channel();
            let work = move || {
                let _ = send.send(look(looking, first, happened));
            };
            if thread::Builder::new().spawn(work).is_ok() {
                self.running = Some(receive);
            }
        }
        None
    }

    fn took(&mut self, seen: &Seen) {
        if self.first.is_none() {
            self.first = Some(seen.facts.now.clone());
        }
        let _ = self.pace.done(seen.began, seen.cost);
    }
}

fn look(
    looking: Looking,
    first: Option<Shared<Look>>,
    happened: Happened,
) -> Result<Seen, FactError> {
    let began = Instant::now();
    let before = cpu_time();
    let mut facts = Facts::read_at_most(looking, SOCKETS)?;
    if let Some(first) = first {
        facts.set_earlier(first);
    }
    if happened.from != At::default() {
        facts.happened = Some(happened.into());
    }
    let question = Question {
        by: By::Process,
        top: HOLDERS,
    };
    let is_whole = facts
        .unseen
        .iter()
        .all(|unseen| !unseen.what.contains("beyond the first"));
    let survey = if is_whole {
        question.ask_facts(&facts)
    } else {
        // The facts have not all sockets; these pass by one after the other.
        question.ask(&Root::Live, looking)?
    };
    let advice = plan::advise(&facts, &[]);
    let (held_bytes, holders) = holders(survey);
    give_back_memory();
    Ok(Seen {
        facts,
        advice,
        held_bytes,
        holders,
        began,
        cost: cpu_time().saturating_sub(before),
    })
}

/// Who holds most, and what all hold.
fn holders(survey: Survey) -> (u64, Vec<Held>) {
    let mut holders = Vec::new();
    for row in survey.rows {
        let Row::Group(row) = row else {
            continue;
        };
        let total = row.sums.total();
        if total.bytes == 0 {
            continue;
        }
        let conditions = row.sums.conditions();
        let most = conditions.iter().max_by_key(|(_, sum)| sum.bytes);
        let (process, group) = match row.group {
            Group::Process(process) => (Some(process), ""),
            Group::Orphans => (None, "orphans"),
            Group::Waiting => (None, "connections that wait for accept()"),
            Group::Records => (None, "requests and TIME_WAIT records"),
            _ => (None, "processes that could not be seen"),
        };
        holders.push(Held {
            process: process.map(|mut process| {
                process.command = None;
                process
            }),
            group: group.to_owned(),
            bytes: total.bytes,
            sockets: total.sockets,
            condition: most.map_or_else(String::new, |(condition, _)| condition.to_string()),
        });
    }
    (survey.total.total().bytes, holders)
}

impl Seen {
    /// What the look is told of: who holds what, for each of these gauges.
    pub(super) fn lines(&self, gauges: &[&'static str]) -> Vec<Line> {
        gauges
            .iter()
            .map(|gauge| Line::Holders {
                at: At::now(),
                gauge: (*gauge).to_owned(),
                held_bytes: self.held_bytes,
                holders: self.holders.clone(),
            })
            .collect()
    }
}

/// Gives memory of a look that is over back to the host.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number and touches only memory that is free.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Has threads share what was freed: each would keep some of it for itself.
pub(super) fn share_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

/// The page size and the unit of `TCP.mem` of this host.
pub(super) fn units(facts: &Facts) -> (u64, u64) {
    (facts.page_bytes, facts.gauge_unit_bytes())
}

/// The name of this host.
pub(super) fn hostname() -> Option<String> {
    advisor_facts::facts::hostname(Path::new("/"))
        .ok()
        .flatten()
}
