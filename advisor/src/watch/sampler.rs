//! The gauges and counters of every network namespace, once a second or as often as
//! their cost allows.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use advisor_facts::counters::Counters;
use advisor_facts::happened::{At, Kind, Level, Occurrence};
use advisor_facts::namespaces::{self, Door, doors};
use advisor_facts::pulse::{self, OwnPulse, Pulse};
use advisor_facts::{FactError, Facts, Settings, Unseen};
use advisor_report::record::Line;

use super::looker;
use super::pace::{Pace, cpu_time};
use crate::gauges::{COUNTERS, GAUGES, Gauge, Point, Reading};

/// Gauges are read so often where that is cheap.
const SECOND: Duration = Duration::from_secs(1);
/// The shares of a CPU that the own network namespace and all others may cost.
const OWN_SHARE: f64 = 0.002;
const OTHERS_SHARE: f64 = 0.002;
/// Finding the namespaces reads a link of each process.
const DOORS: Duration = Duration::from_secs(10);
const DOORS_SHARE: f64 = 0.001;
/// Settings are read again so often.
const SETTINGS: Duration = Duration::from_secs(10);
/// A gauge that is worse by so many percent of its limit is told again.
const STEP_PERCENT: u64 = 5;

/// A gauge of a network namespace; `None` is the reader's own, or the whole kernel.
type Key = (&'static str, Option<u32>);

/// A gauge as it is followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    pub(super) gauge: &'static Gauge,
    pub(super) reading: Reading,
    level: Level,
    /// The worst share that was told, in percent.
    told_percent: u64,
}

/// What another network namespace had the last time.
struct Other {
    counters: Counters,
    settings: Settings,
}

/// What a thread brought.
struct Round {
    doors: Option<Vec<Door>>,
    seen: Vec<(u32, Pulse, Option<Settings>)>,
    unseen: Vec<Unseen>,
    began: Instant,
    cost: Duration,
}

/// Samples.
pub(super) struct Sampler {
    own: Pace,
    settings_next: Instant,
    settings: Settings,
    counters: Option<Counters>,
    page_bytes: u64,
    gauge_unit_bytes: u64,
    /// The inode of the own namespace.
    inode: Option<u32>,
    others: HashMap<u32, Other>,
    others_pace: Pace,
    doors_pace: Pace,
    settings_of_others_next: Instant,
    doors: Vec<Door>,
    /// Whether all others were looked at once.
    has_been_round: bool,
    running: Option<Receiver<Result<Round, FactError>>>,
    followed: HashMap<Key, Followed>,
    unseen: Vec<Unseen>,
}

/// What a sample is told of.
#[derive(Default)]
pub(super) struct Told {
    pub(super) lines: Vec<Line>,
    /// Gauges that came nearer to their limits.
    pub(super) nearer: Vec<&'static Gauge>,
    /// Whether the own gauges were read.
    pub(super) is_new: bool,
}

impl Sampler {
    /// What the counters are compared with is what the first look saw.
    pub(super) fn new(now: Instant, first: &Facts) -> Result<Self, FactError> {
        let (page_bytes, gauge_unit_bytes) = looker::units(first);
        Ok(Self {
            own: Pace::new(SECOND, OWN_SHARE, now),
            settings_next: now + SETTINGS,
            settings: pulse::settings()?,
            counters: Some(first.now.counters.clone()),
            page_bytes,
            gauge_unit_bytes,
            inode: namespaces::own(Path::new("/")),
            others: HashMap::new(),
            others_pace: Pace::new(SECOND, OTHERS_SHARE, now),
            doors_pace: Pace::new(DOORS, DOORS_SHARE, now),
            settings_of_others_next: now,
            doors: Vec::new(),
            has_been_round: false,
            running: None,
            followed: HashMap::new(),
            unseen: first.unseen.clone(),
        })
    }

    /// The inode of the own network namespace.
    pub(super) fn inode(&self) -> Option<u32> {
        self.inode
    }

    /// The gauges as they are.
    pub(super) fn gauges(&self) -> impl Iterator<Item = (Option<u32>, &Followed)> {
        self.followed
            .iter()
            .map(|((_, namespace), followed)| (*namespace, followed))
    }

    /// The counters of the own namespace, and of the others by inode.
    pub(super) fn counters(&self) -> impl Iterator<Item = (Option<u32>, &Counters)> {
        let own = self.counters.iter().map(|counters| (None, counters));
        let others = self.others.iter();
        own.chain(others.map(|(inode, other)| (Some(*inode), &other.counters)))
    }

    /// Reads what is due, and tells what is new.
    pub(super) fn sample(&mut self, now: Instant) -> Result<Told, FactError> {
        let mut told = Told::default();
        if self.own.is_due(now) {
            let before = cpu_time();
            if now >= self.settings_next {
                self.settings = pulse::settings()?;
                self.settings_next = now + SETTINGS;
            }
            let own = OwnPulse::read()?;
            told.is_new = true;
            self.judge(&own, &mut told);
            let cost = cpu_time().saturating_sub(before);
            if let Some(interval) = self.own.done(now, cost) {
                told.lines.push(note(&format!(
                    "gauges are read every {:.1} s, because a look at them takes {:.1} ms of a CPU",
                    interval.as_secs_f64(),
                    cost.as_secs_f64() * 1000.0
                )));
            }
        }
        self.go_round(now, &mut told)?;
        Ok(told)
    }

    fn judge(&mut self, own: &OwnPulse, told: &mut Told) {
        let point = Point {
            pulse: &own.pulse,
            settings: &self.settings,
            files: own.files,
            page_bytes: self.page_bytes,
            gauge_unit_bytes: self.gauge_unit_bytes,
        };
        follow(&mut self.followed, None, &point, told);
        grown(
            self.counters.as_ref(),
            &own.pulse.counters,
            self.inode,
            told,
        );
        self.counters = Some(own.pulse.counters.clone());
    }

    /// Has a thread look into the other namespaces, and takes what it brings.
    fn go_round(&mut self, now: Instant, told: &mut Told) -> Result<(), FactError> {
        if let Some(running) = &self.running {
            match running.try_recv() {
                Ok(round) => {
                    self.running = None;
                    self.take(round?, told);
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => self.running = None,
            }
        }
        if !self.others_pace.is_due(now) {
            return Ok(());
        }
        let finds = self.doors_pace.is_due(now);
        let with_settings = now >= self.settings_of_others_next;
        if with_settings {
            self.settings_of_others_next = now + SETTINGS * 6;
        }
        let known = self.doors.clone();
        let (send, receive) = channel();
        let work = move || {
            let _ = send.send(round(known, finds, with_settings));
        };
        // Without a thread the next second tries again.
        if thread::Builder::new().spawn(work).is_ok() {
            self.running = Some(receive);
        }
        Ok(())
    }

    fn take(&mut self, round: Round, told: &mut Told) {
        if let Some(doors) = round.doors {
            self.others
                .retain(|inode, _| doors.iter().any(|door| door.inode == *inode));
            let others = &self.others;
            self.followed.retain(|(_, namespace), _| {
                namespace.is_none_or(|inode| others.contains_key(&inode))
            });
            self.doors = doors;
            let _ = self.doors_pace.done(round.began, round.cost);
        }
        for one in round.unseen {
            if !self.unseen.contains(&one) {
                told.lines
                    .push(note(&format!("not seen: {}: {}", one.what, one.why)));
                self.unseen.push(one);
            }
        }
        let count = round.seen.len();
        for (inode, pulse, settings) in round.seen {
            let before = self.others.remove(&inode);
            let settings = match (settings, &before) {
                (Some(settings), _) => settings,
                (None, Some(before)) => before.settings.clone(),
                // Its settings come with the next round that reads them.
                (None, None) => {
                    self.settings_of_others_next = round.began;
                    Settings::default()
                }
            };
            let point = Point {
                pulse: &pulse,
                settings: &settings,
                files: None,
                page_bytes: self.page_bytes,
                gauge_unit_bytes: self.gauge_unit_bytes,
            };
            follow(&mut self.followed, Some(inode), &point, told);
            // One that was made since the first round has counted from 0.
            let zero = Counters::default();
            let counters = match &before {
                Some(before) => Some(&before.counters),
                None => self.has_been_round.then_some(&zero),
            };
            grown(counters, &pulse.counters, Some(inode), told);
            self.others.insert(
                inode,
                Other {
                    counters: pulse.counters,
                    settings,
                },
            );
        }
        self.has_been_round = true;
        if let Some(interval) = self.others_pace.done(round.began, round.cost) {
            told.lines.push(note(&format!(
                "{count} other network namespaces are sampled every {:.1} s, because a round takes \
                 {:.0} ms of a CPU",
                interval.as_secs_f64(),
                round.cost.as_secs_f64() * 1000.0
            )));
        }
    }
}

/// Looks into the other namespaces.
fn round(known: Vec<Door>, finds: bool, with_settings: bool) -> Result<Round, FactError> {
    let began = Instant::now();
    let before = cpu_time();
    let mut unseen = Vec::new();
    let found = finds.then(|| doors(Path::new("/"), &mut unseen));
    let doors = found.clone().unwrap_or(known);
    let seen = pulse::behind(&doors, with_settings, &mut unseen)?;
    Ok(Round {
        doors: found,
        seen,
        unseen,
        began,
        cost: cpu_time().saturating_sub(before),
    })
}

/// Compares the gauges of a namespace with what was told of them.
fn follow(
    followed: &mut HashMap<Key, Followed>,
    namespace: Option<u32>,
    point: &Point<'_>,
    told: &mut Told,
) {
    for gauge in GAUGES {
        if gauge.is_of_the_kernel && namespace.is_some() {
            continue;
        }
        let Some(reading) = (gauge.read)(point) else {
            continue;
        };
        let level = reading.level();
        let known = followed.entry((gauge.name, namespace)).or_insert(Followed {
            gauge,
            reading,
            level: Level::Calm,
            told_percent: 0,
        });
        let is_worse =
            level > Level::Calm && reading.percent() >= known.told_percent + STEP_PERCENT;
        if level > known.level || is_worse {
            told.nearer.push(gauge);
        }
        if level != known.level || is_worse {
            known.told_percent = match level {
                Level::Calm => 0,
                _ => known.told_percent.max(reading.percent()),
            };
            told.lines.push(Line::Gauge {
                at: At::now(),
                gauge: gauge.name.to_owned(),
                namespace,
                value: reading.value,
                limit: reading.limit,
                mark: reading.mark,
                level,
            });
        }
        (known.reading, known.level) = (reading, level);
    }
}

/// Tells which counters have grown.
fn grown(before: Option<&Counters>, now: &Counters, inode: Option<u32>, told: &mut Told) {
    let Some(before) = before else {
        return;
    };
    for counter in COUNTERS {
        let grown = now.get(counter.name).unwrap_or(0) - before.get(counter.name).unwrap_or(0);
        if let Ok(count) = u64::try_from(grown)
            && count > 0
        {
            told.lines.push(Line::Event(Occurrence {
                at: At::now(),
                kind: Kind::Counter,
                count,
                reason: Some(counter.name.to_owned()),
                process: None,
                by_port: false,
                namespace: inode,
                ends: None,
                unacknowledged_bytes: 0,
            }));
        }
    }
}

/// Something about the watch itself.
pub(super) fn note(text: &str) -> Line {
    Line::Note {
        at: At::now(),
        text: text.to_owned(),
    }
}
