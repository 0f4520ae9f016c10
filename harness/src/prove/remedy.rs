//! From a recommendation to the change that is tried.

use advisor::rules::{ProvenBy, RULES};
use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_report::advice::Claim;
use advisor_report::proof::Harm;

use crate::reproduce::Reproduction;
use crate::reproduce::population::{growth, life_s};
use crate::reproduce::queue::{AcceptQueue, Fills};
use crate::reproduce::settings;
use crate::reproduce::trial::{Change, Remedy};

/// Changes, and what they are for.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// The changes, in this order.
    pub changes: Vec<Change>,
    /// The sockets that do the harm; none where a setting does it alone.
    pub offending: Vec<Condition>,
    /// The harm that has to go.
    pub harm: Vec<Harm>,
    /// Why the harm only comes later; empty where no change is a raise of a limit for what
    /// goes on growing.
    pub postpones: Vec<Postponed>,
}

/// A raise that puts the harm off.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Postponed {
    /// Why.
    pub why: String,
    /// In which condition those are that meet the new limit.
    pub by: Vec<Condition>,
}

impl Tried {
    /// Adds what is tried together with it.
    pub fn add(&mut self, other: &Self) {
        let Tried {
            changes,
            offending,
            harm,
            postpones,
        } = other;
        self.changes.extend(changes.iter().cloned());
        self.offending.extend(offending);
        self.offending.sort_unstable();
        self.offending.dedup();
        self.harm.extend(harm);
        self.harm.sort_unstable();
        self.harm.dedup();
        // Where a program bounds what would meet the new limit, it isn't met.
        let is_bounded = |condition: &Condition| {
            self.changes.iter().any(|change| {
                matches!(change, Change::Program(_, bounded) if bounded.contains(condition))
            })
        };
        self.postpones.extend(postpones.iter().cloned());
        self.postpones.retain(|one| !one.by.iter().all(is_bounded));
    }
}

const ORPHANS: &[Condition] = &[
    Condition::OrphanDead,
    Condition::OrphanZeroWindow,
    Condition::OrphanHalfClosed,
    Condition::OrphanDraining,
];
const STALLED: &[Condition] = &[Condition::ZeroWindow, Condition::OrphanZeroWindow];
const DEAD: &[Condition] = &[Condition::Dead, Condition::OrphanDead];
const CLOSED: &[Condition] = &[Condition::ClosedByPeer];
const HALF: &[Condition] = &[Condition::HalfClosed];
const UNREAD: &[Condition] = &[Condition::Unread];
const WAITING: &[Condition] = &[Condition::NotAccepted];
const SOMAXCONN: &str = "net.core.somaxconn";
/// The backlog that advice has a program ask for where it names none.
const LONG_BACKLOG: u64 = 4096;
/// What LB402 proposes for those who hold the memory, by the words that it says it with.
const HOLDERS: &[(&str, Remedy, &[Condition])] = &[
    ("peer is gone", Remedy::UserTimeout(10_000), DEAD),
    ("a bound on the close", Remedy::UserTimeout(10_000), ORPHANS),
    (
        "a time limit for writing",
        Remedy::UserTimeout(USUAL_TIMEOUT_MS),
        STALLED,
    ),
    ("read, or close", Remedy::Read, UNREAD),
    ("close() when read() returns 0", Remedy::Close, CLOSED),
    ("a bounded wait for the peer's end", Remedy::Close, HALF),
    ("accept() sooner", Remedy::Accept, WAITING),
];
/// What a program waits for where the advice names no time, in milliseconds.
const USUAL_TIMEOUT_MS: u64 = 30_000;

/// The harm that a claim's rule is about, or why no trial can show it.
pub fn rule_of(claim: &Claim) -> Result<&'static [Harm], String> {
    let Some(rule) = RULES.iter().find(|rule| rule.code == claim.code) else {
        return Err(format!("there is no rule {}", claim.code));
    };
    match rule.proven_by {
        ProvenBy::Reproduction(harm) => Ok(harm),
        ProvenBy::Nothing(why) => Err(why.to_owned()),
    }
}

/// The port of the listener that a claim is about, where it names one: `the listener on
/// 0.0.0.0:443`.
pub fn listener_of(claim: &Claim) -> Option<u16> {
    let (_, address) = claim.subject.rsplit_once("the listener on ")?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// The change that a claim is about, or why it can't be tried.
pub fn of(claim: &Claim, facts: &Facts, reproduction: &Reproduction) -> Result<Tried, String> {
    let harm = rule_of(claim)?;
    let is_of_queues = ["LB501", "LB503", "LB510"].contains(&claim.code.as_str());
    if is_of_queues && reproduction.queue.is_none() {
        let why = "the facts show no accept queue that is full, now or in a window, or stuck";
        return Err(why.to_owned());
    }
    if claim.setting.starts_with("net.") {
        return of_setting(claim, harm, facts, reproduction);
    }
    if claim.code == "LB510" {
        return Ok(Tried {
            changes: vec![Change::Backlog(LONG_BACKLOG)],
            offending: offending(SOMAXCONN, reproduction),
            harm: harm.to_vec(),
            postpones: fills_again(LONG_BACKLOG, reproduction)
                .into_iter()
                .collect(),
        });
    }
    let changes = of_program(claim);
    if changes.is_empty() {
        return Err(format!(
            "no stand-in does what {} is advised for: {}",
            claim.code, claim.setting
        ));
    }
    let meant = changes.iter().flat_map(|change| match change {
        Change::Program(_, conditions) => conditions.to_vec(),
        _ => Vec::new(),
    });
    let mut offending: Vec<Condition> = meant.collect();
    offending.sort_unstable();
    offending.dedup();
    Ok(Tried {
        changes,
        offending,
        harm: harm.to_vec(),
        postpones: Vec::new(),
    })
}

fn of_setting(
    claim: &Claim,
    harm: &[Harm],
    facts: &Facts,
    reproduction: &Reproduction,
) -> Result<Tried, String> {
    let name = &claim.setting;
    let before = facts.settings.get(name);
    let proposed = settings::written(
        name,
        &claim.proposed,
        before.as_deref(),
        &reproduction.release,
    )?;
    let offending = offending(name, reproduction);
    let postpones = raises(claim)
        .then(|| postpones(name, &proposed, &offending, facts, reproduction))
        .flatten();
    let mut changes = vec![Change::Settings(vec![(name.clone(), proposed.clone())])];
    if name == SOMAXCONN {
        // It limits a backlog, which the program asks for.
        changes.push(Change::Backlog(proposed.parse().unwrap_or(LONG_BACKLOG)));
    }
    Ok(Tried {
        changes,
        offending,
        harm: harm.to_vec(),
        postpones: postpones.into_iter().collect(),
    })
}

/// The sockets that meet a limit.
pub fn offending(setting: &str, reproduction: &Reproduction) -> Vec<Condition> {
    let population = &reproduction.population;
    match setting {
        SOMAXCONN
            if reproduction
                .queue
                .as_ref()
                .is_some_and(AcceptQueue::is_always) =>
        {
            WAITING.to_vec()
        }
        "net.ipv4.tcp_mem" | "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => {
            let holds = |amiss: bool| -> u64 {
                let classes = population.classes.iter();
                let these = classes.filter(|class| class.condition.is_amiss() == amiss);
                these.map(crate::reproduce::population::Class::bytes).sum()
            };
            let amiss = holds(true) >= holds(false);
            Condition::ALL
                .into_iter()
                .filter(|condition| {
                    if amiss {
                        condition.is_amiss()
                    } else {
                        *condition == Condition::Healthy
                    }
                })
                .collect()
        }
        "net.ipv4.tcp_max_orphans" | "net.ipv4.tcp_orphan_retries" => ORPHANS.to_vec(),
        _ => Vec::new(),
    }
}

/// What the program is to do otherwise; empty where no stand-in does it. Where several
/// programs hold the memory, each has its own part of the advice.
fn of_program(claim: &Claim) -> Vec<Change> {
    let timeout = claim
        .proposed
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(USUAL_TIMEOUT_MS);
    let one = |remedy, conditions| vec![Change::Program(remedy, conditions)];
    match claim.code.as_str() {
        "LB101" | "LB112" if claim.setting.starts_with("TCP_USER_TIMEOUT") => {
            one(Remedy::UserTimeout(timeout), ORPHANS)
        }
        "LB202" => one(Remedy::Close, CLOSED),
        "LB204" => one(Remedy::Close, HALF),
        "LB301" => vec![Change::ReuseAddress],
        "LB401" => one(Remedy::UserTimeout(timeout), DEAD),
        "LB403" => one(Remedy::UserTimeout(USUAL_TIMEOUT_MS), STALLED),
        "LB404" => one(Remedy::Read, UNREAD),
        "LB501" | "LB503" => one(Remedy::Accept, WAITING),
        "LB402" => HOLDERS
            .iter()
            .filter(|(text, ..)| claim.proposed.contains(text))
            .map(|(_, remedy, conditions)| Change::Program(*remedy, conditions))
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether a claim raises a limit.
fn raises(claim: &Claim) -> bool {
    let last = |text: &str| text.split_whitespace().last()?.parse::<u64>().ok();
    last(&claim.current)
        .zip(last(&claim.proposed))
        .is_none_or(|(now, then)| then > now)
}

/// Why a raise puts off what it is for: those who meet the limit go on coming.
fn postpones(
    setting: &str,
    proposed: &str,
    offending: &[Condition],
    facts: &Facts,
    reproduction: &Reproduction,
) -> Option<Postponed> {
    if setting == SOMAXCONN {
        return fills_again(proposed.parse().ok()?, reproduction);
    }
    let is_for_memory = setting == "net.ipv4.tcp_mem";
    let is_for_orphans = setting == "net.ipv4.tcp_max_orphans";
    // An orphan that still sends ends by itself, and soon.
    let concerned = |condition: Condition| {
        offending.contains(&condition)
            && condition.is_amiss()
            && condition != Condition::OrphanDraining
    };
    let classes: Vec<_> = reproduction
        .population
        .classes
        .iter()
        .filter(|class| concerned(class.condition))
        .collect();
    if !(is_for_memory || is_for_orphans) || classes.is_empty() {
        return None;
    }
    let postponed = |why| Postponed {
        why,
        by: classes.iter().map(|class| class.condition).collect(),
    };
    let count: u64 = classes.iter().map(|class| class.count()).sum();
    let bytes: u64 = classes.iter().map(|class| class.bytes()).sum();
    let worst = classes
        .iter()
        .max_by_key(|class| (class.bytes(), class.count()))?;
    let kind = worst.condition;
    let limit: f64 = proposed.split_whitespace().last()?.parse().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "a time in minutes")]
    let (held, limit, each) = if is_for_memory {
        let each = bytes as f64 / count as f64;
        (bytes as f64, limit * facts.page_bytes as f64, each)
    } else {
        (count as f64, limit, 1.0)
    };
    // At the limit they don't grow in number: the kernel resets as many as come.
    let by_window = growth(facts, concerned).map(|rate| rate + resets(facts));
    let rate = match by_window {
        // They are as many as before: the limit is not met by more of them.
        Some(rate) if rate <= 0.0 => return None,
        Some(rate) => rate,
        None => {
            let by_age = classes
                .iter()
                .filter_map(|class| class.rate_by_age())
                .sum::<f64>();
            if by_age <= 0.0 {
                return Some(postponed(format!(
                    "what meets the limit is {count} {kind}, and nothing says how fast they come: \
                     a window tells, advisor capture --over 5m"
                )));
            }
            by_age
        }
    };
    // As many as come within a life are there at most.
    let most = life_s(kind).map_or(f64::INFINITY, |life| rate * life * each);
    if most < limit {
        return None;
    }
    let seconds = (limit - held).max(0.0) / (rate * each);
    let how = if by_window.is_some() {
        ""
    } else {
        ", by their ages"
    };
    Some(postponed(format!(
        "at {rate:.1} {kind} a second{how}, the new limit is met after {}",
        advisor_facts::units::span(milliseconds(seconds))
    )))
}

/// Why a longer queue only puts off that it is full: the program accepts less than comes.
fn fills_again(backlog: u64, reproduction: &Reproduction) -> Option<Postponed> {
    let queue = reproduction.queue.as_ref()?;
    let Fills::Always {
        refused_a_second, ..
    } = queue.how
    else {
        return None;
    };
    let more = backlog.saturating_sub(queue.backlog);
    let why = match refused_a_second {
        #[expect(clippy::cast_precision_loss, reason = "a time in minutes")]
        Some(rate) if rate > 0.0 => format!(
            "the program accepts less than comes: at {rate:.1} more a second, the new queue is \
             full after {}",
            advisor_facts::units::span(milliseconds(more as f64 / rate))
        ),
        _ => "the queue is full now, and nothing says how fast connections come: a window \
              tells, advisor capture --over 5m"
            .to_owned(),
    };
    Some(Postponed {
        why,
        by: WAITING.to_vec(),
    })
}

/// How many connections the kernel reset for memory or for the limit of orphans in the
/// window, a second.
#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn resets(facts: &Facts) -> f64 {
    let window = facts.window().map(|(window, _)| window.as_secs_f64());
    let grown = facts.grown("TcpExt.TCPAbortOnMemory").unwrap_or(0);
    window.map_or(0.0, |window| grown.max(0) as f64 / window.max(0.001))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time for people, and no less than 0"
)]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}
