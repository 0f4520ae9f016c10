//! Puts a guest into a host's condition, by its facts: who is connected, what each socket
//! holds, which settings differ. `reproduce`, `prove` and `try` ask it.
//!
//! The reproduction is the text of a suite, which the runner runs as any other. Imports
//! suite, lab (the pinned sysctls), observation and the advisor's facts.

pub mod likeness;
pub mod population;
pub mod queue;
pub mod readings;
pub mod scale;
pub mod settings;
pub mod trial;
mod write;

use std::collections::BTreeMap;

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::settings::Settings;
use advisor_facts::sysctl_files::SysctlFiles;

use crate::host_settings::ORPHAN_LIMIT;
use crate::suite::{self, scenario::Scenario};
use crate::yaml::error::SuiteError;
use population::{Class, Listener, Population, Way};
use queue::AcceptQueue;
use scale::Scale;
use settings::{Limits, Set};
use trial::{Trial, USUAL_DESCRIPTORS};

/// The queue of a listener whose length the facts don't have: nginx's.
const USUAL_BACKLOG: u64 = 511;

/// The setting by which connect() takes ports of TIME_WAIT.
const REUSE: &str = "net.ipv4.tcp_tw_reuse";

/// The least segments of a burst. By default the rate decides, and over a long round trip
/// that makes bursts of two: each costs an emulated processor as much as one of 22, which
/// are 32 KiB.
const BURST: (&str, &str) = ("net.ipv4.tcp_min_tso_segs", "22");

/// Why facts give no reproduction.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Impossible {
    /// There is no socket table.
    #[error("the facts have no socket table, so who holds what is not known")]
    NoSockets,
    /// The table is of /proc/net/tcp.
    #[error("the socket table is without tcp_info and memory ({0}), so no condition is known")]
    NoInfo(&'static str),
}

/// A host's condition, as it is made in a guest.
#[derive(Clone, Debug)]
pub struct Reproduction {
    /// Everybody on the host.
    pub population: Population,
    /// The factor.
    pub scale: Scale,
    /// The settings of the host, as they are there.
    pub settings: Settings,
    /// Its page, in bytes.
    pub page_bytes: u64,
    /// Its RAM, in bytes; 0 where it isn't known.
    pub ram_bytes: u64,
    /// Its files of settings: what somebody chose is judged otherwise.
    pub files: SysctlFiles,
    /// Varies order and arrivals.
    pub seed: u64,
    /// The release of the kernel that it is run on.
    pub release: String,
    /// What is not as on the host.
    pub notes: Vec<String>,
    /// The accept queue in which clients wait, or find no room.
    pub queue: Option<AcceptQueue>,
    /// Whether connections are tracked there (nf_conntrack).
    is_tracked: bool,
    host: String,
}

impl Reproduction {
    /// Of a host's facts, with the settings of the network namespace that `place` is the
    /// facts of, for a kernel.
    pub fn of(facts: &Facts, place: &Facts, release: &str) -> Result<Self, Impossible> {
        let population = Population::of(facts).ok_or(Impossible::NoSockets)?;
        let sockets = facts.now.every_socket();
        let is_bare = |count: usize| count > 0;
        let bare = sockets
            .filter(|(_, socket)| Condition::of(socket) == Condition::Unknown)
            .count();
        if is_bare(bare) && population.classes.iter().all(|class| class.bytes() == 0) {
            return Err(Impossible::NoInfo("/proc/net/tcp"));
        }
        let queue = AcceptQueue::of(place, &population, None);
        let at_once = queue
            .as_ref()
            .map_or(0, |queue| queue.at_once(queue.backlog));
        let scale = Scale::of(&population, at_once);
        let mut notes = Vec::new();
        if !population.left_out.is_empty() {
            notes.push(format!("left out: {}", population.left_out.join(", ")));
        }
        let assumed = population.descriptor_limits.is_empty();
        if assumed && population.of_condition(is_leak) > 0 {
            notes.push(format!(
                "the facts don't say how many descriptors a program may have: {USUAL_DESCRIPTORS} \
                 were assumed"
            ));
        }
        if facts.window().is_none() {
            notes.push("no window: rates are inferred from ages and lifetimes".to_owned());
        }
        let gauge = facts.now.sockstat.get("TCP.orphan").unwrap_or(0);
        let orphans = population.of_condition(Condition::is_orphan);
        let seen = i64::try_from(orphans).unwrap_or(i64::MAX);
        if (gauge - seen).abs() > seen.max(gauge) / 20 + 8 {
            notes.push(format!(
                "the gauge has {gauge} orphans and the socket table {orphans}: the table counts"
            ));
        }
        Ok(Self {
            settings: place.settings.clone(),
            page_bytes: place.page_bytes,
            ram_bytes: facts.ram_bytes,
            files: facts.sysctl_files.clone(),
            population,
            scale,
            seed: 0,
            release: release.to_owned(),
            notes,
            queue,
            is_tracked: place.now.counters.get("Conntrack.count").unwrap_or(0) > 0,
            host: facts.kernel.clone(),
        })
    }

    /// The settings of the host's network namespace that the kernel has.
    pub fn of_namespace(&self) -> Vec<Set> {
        let mut set = settings::of_namespace(&self.settings, self.limits());
        set.retain(|(name, _)| settings::find(name, &self.release).is_ok());
        set.retain(|(name, _)| self.is_tracked || name != settings::TRACKED_FOR);
        set
    }

    /// Whether connections are tracked: where the host forgets idle ones sooner than at boot.
    fn tracks(&self) -> bool {
        let set = self.of_namespace();
        set.iter().any(|(name, _)| name == settings::TRACKED_FOR)
    }

    /// Those of the whole kernel; without orphans not their limit, which nobody meets.
    pub fn of_kernel(&self) -> Vec<Set> {
        let orphans = self.population.of_condition(Condition::is_orphan);
        let mut set = settings::of_kernel(&self.settings, self.limits());
        set.retain(|(name, _)| name != ORPHAN_LIMIT || orphans > 0);
        set
    }

    /// What limits of populations are scaled by.
    fn limits(&self) -> Limits {
        let more = |class: &Class| {
            let share = self.scale.limit(class.count());
            self.count(class).saturating_sub(share)
        };
        let mut ports: BTreeMap<Way, u64> = BTreeMap::new();
        for class in &self.population.classes {
            if !matches!(class.way, Way::Inbound(_)) {
                *ports.entry(class.way).or_default() += more(class);
            }
        }
        let classes = self.population.classes.iter();
        let orphans = classes.filter(|class| class.condition.is_orphan());
        Limits {
            scale: self.scale,
            page_bytes: self.page_bytes,
            more_ports: ports.into_values().max().unwrap_or(0),
            more_orphans: orphans.map(more).sum(),
        }
    }

    /// Whether this is one of them.
    pub fn sets_of_kernel(&self, name: &str) -> bool {
        self.of_kernel().iter().any(|(known, _)| known == name)
    }

    /// A setting of the host as it is set here.
    pub fn scaled(&self, (name, value): &Set) -> Set {
        let value = settings::scaled(name, value, self.limits());
        (name.clone(), value)
    }

    /// The same with another seed: each varies the order of classes, the arrivals, and the
    /// factor by up to a tenth. The first seed is the host itself.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        let percent = match seed % 8 {
            1 | 5 => -10,
            2 | 6 => 10,
            3 => -5,
            4 => 5,
            _ => 0,
        };
        Self {
            seed,
            scale: self.scale.by_percent(percent),
            ..self.clone()
        }
    }

    /// How many of a class are made.
    pub fn count(&self, class: &Class) -> u64 {
        self.scale.count(class.count())
    }

    /// How many connections to a port wait for accept(), in the reproduction.
    pub fn waiting(&self, port: u16) -> u64 {
        let classes = self.population.classes.iter();
        classes
            .filter(|class| class.way == Way::Inbound(port))
            .filter(|class| class.condition == Condition::NotAccepted)
            .map(|class| self.count(class))
            .sum()
    }

    /// The length of a listener's queue. A limit of what waits in it is scaled as they are:
    /// a queue that is full there is full here.
    pub fn backlog(&self, listener: &Listener) -> u64 {
        let waiting = self.waiting(listener.port);
        let turns_away = self.queue.as_ref().map(|queue| queue.port) == Some(listener.port);
        match listener.backlog {
            // Not known.
            0 => USUAL_BACKLOG,
            backlog if listener.queue > backlog => waiting.saturating_sub(1).max(1),
            backlog if turns_away || waiting > 0 => self.scale.limit(backlog).max(waiting),
            backlog => backlog,
        }
    }

    /// How many descriptors a program may have, in the reproduction.
    pub fn descriptors(&self, program: &str) -> u64 {
        let known = self.population.descriptor_limits.get(program).copied();
        let limit = known.unwrap_or(USUAL_DESCRIPTORS);
        let held: u64 = self.population.classes.iter().map(Class::count).sum();
        self.scale.limit(limit.max(held.min(limit)))
    }

    /// How many sockets the holder of a class has, in the reproduction.
    pub fn held_by(&self, class: &Class) -> u64 {
        let classes = self.population.classes.iter();
        classes
            .filter(|known| known.holder == class.holder && known.condition.is_connection())
            .filter(|known| !known.condition.is_orphan())
            .map(|known| self.count(known))
            .sum()
    }

    /// The settings of the namespace that are there from the start: all but that which would
    /// keep records of TIME_WAIT from being made.
    fn early(&self) -> Vec<Set> {
        let mut set = self.of_namespace();
        let mut pin = |pinned: &str, value: &str| {
            set.retain(|(name, _)| name != pinned);
            set.push((pinned.to_owned(), value.to_owned()));
        };
        if self.population.records() > 0 {
            pin(REUSE, "0");
        }
        if self
            .population
            .of_condition(|condition| condition == Condition::Healthy)
            > 0
        {
            pin(BURST.0, BURST.1);
        }
        set
    }

    /// Those that are set once the sockets are there.
    fn late(&self) -> Vec<Set> {
        if self.population.records() == 0 {
            return Vec::new();
        }
        let mut set = self.of_namespace().into_iter();
        let known = set.find(|(name, _)| name == REUSE);
        let usual = || (REUSE.to_owned(), "2".to_owned());
        vec![known.unwrap_or_else(usual)]
    }

    /// The text of the suite.
    pub fn suite(&self) -> String {
        write::suite(self, None)
    }

    /// The text of one arm of a trial.
    pub fn arm(&self, trial: &Trial) -> String {
        write::suite(self, Some(trial))
    }

    /// The scenario of a text of its own.
    pub fn scenario(text: &str) -> Result<Scenario, SuiteError> {
        let mut scenarios = suite::parse(text, "reproduction/host")?;
        Ok(scenarios.remove(0))
    }

    /// What stands at the head of the suite.
    fn header(&self) -> Vec<String> {
        let mut lines = vec![
            format!("A host with Linux {}, by its facts.", self.host),
            if self.scale.is_whole() {
                "Everything is as on the host.".to_owned()
            } else {
                format!(
                    "One factor, {:.4}, for populations, their limits and rates.",
                    self.scale.factor()
                )
            },
        ];
        for class in &self.population.classes {
            lines.push(self.describe(class));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }

    fn describe(&self, class: &Class) -> String {
        let count = class.count();
        let made = self.count(class);
        let mut text = format!("{count} {} {}", class.condition, class.way.describe());
        if let Some(holder) = &class.holder {
            text = format!("{text}, held by {holder}");
        }
        if made != count {
            text = format!("{text}: {made} here");
        }
        if self.scale.is_off(count) {
            text = format!("{text}, more than their share");
        }
        text
    }

    fn explains(&self) -> String {
        let mut counts: BTreeMap<Condition, u64> = BTreeMap::new();
        for class in &self.population.classes {
            *counts.entry(class.condition).or_default() += self.count(class);
        }
        let parts: Vec<String> = counts
            .iter()
            .map(|(condition, count)| format!("{count} {condition}"))
            .collect();
        if parts.is_empty() {
            return "A host without connections.".to_owned();
        }
        format!("A host with these sockets: {}.", parts.join(", "))
    }
}

const fn is_leak(condition: Condition) -> bool {
    matches!(condition, Condition::ClosedByPeer | Condition::HalfClosed)
}
