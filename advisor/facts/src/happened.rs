//! What happened on a host over a time: its events put together by kind, reason and
//! process, and the worst moment of each gauge with who held what then.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::events::Ends;
use crate::processes::Process;
use crate::read::Unseen;

/// A moment to the millisecond, in UTC.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct At {
    unix_ms: u64,
}

impl At {
    /// Now.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self::since_epoch(since.unwrap_or_default())
    }

    /// So long after 1970.
    pub fn since_epoch(since: Duration) -> Self {
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self { unix_ms }
    }

    /// So much before.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self {
            unix_ms: self.unix_ms.saturating_sub(by),
        }
    }

    /// The time since an earlier moment; nothing since a later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.unix_ms.saturating_sub(earlier.unix_ms))
    }

    /// The same to the second.
    pub fn moment(self) -> Moment {
        Moment::after_boot(0, Duration::from_millis(self.unix_ms))
    }

    /// The time of the day, `03:12:07`.
    pub fn time_of_day(self) -> String {
        let second = self.unix_ms / 1000 % (24 * 60 * 60);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{hour:02}:{minute:02}:{second:02}")
    }
}

/// `2026-11-30T03:12:07.123Z`.
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = String::from(self.moment());
        let ms = self.unix_ms % 1000;
        write!(f, "{}.{ms:03}Z", second.trim_end_matches('Z'))
    }
}

impl From<At> for String {
    fn from(at: At) -> Self {
        at.to_string()
    }
}

impl TryFrom<String> for At {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "a time is written 2026-11-30T03:12:07.123Z";
        let (second, ms) = text.split_once('.').ok_or(WRONG)?;
        let ms = ms
            .strip_suffix('Z')
            .filter(|ms| ms.len() == 3)
            .ok_or(WRONG)?;
        let ms: u64 = ms.parse().map_err(|_| WRONG)?;
        let second = Moment::try_from(format!("{second}Z"))?;
        Ok(Self {
            unix_ms: second.unix_s() * 1000 + ms,
        })
    }
}

/// A kind of event.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A reset was sent.
    ResetSent,
    /// A reset came.
    ResetReceived,
    /// A packet was dropped at a limit.
    Drop,
    /// Memory for a socket was refused at the limit of its protocol.
    BufferLimit,
    /// A line of the kernel's log about one of the rules' failures.
    Log,
    /// A counter of a network namespace grew.
    Counter,
}

impl Kind {
    /// Its name in lines and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ResetSent => "reset-sent",
            Self::ResetReceived => "reset-received",
            Self::Drop => "drop",
            Self::BufferLimit => "buffer-limit",
            Self::Log => "log",
            Self::Counter => "counter",
        }
    }
}

/// Events that are alike, one or more, at about one time.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Occurrence {
    /// When the last of them happened.
    pub at: At,
    /// What happened.
    #[serde(rename = "event")]
    pub kind: Kind,
    /// How many.
    pub count: u64,
    /// The kernel's reason, the line of its log, or the name of the counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The process; `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Whether the process is the one that listens on the port, and not the one that did
    /// it: the kernel did it on an interrupt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_port: bool,
    /// The inode of the network namespace; `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u32>,
    /// The connection of the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Ends>,
    /// Of resets: the bytes that the program had written and the peer had not
    /// acknowledged, as far as the kernel told of the sockets that ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unacknowledged_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Occurrence {
    /// What happened and who did it, without how often: `reset-sent TCP_ABORT_ON_CLOSE by
    /// upload.py (25612)`. The network namespace is named where it is not `own`.
    pub fn words(&self, own: Option<u32>) -> String {
        let mut words = self.kind.as_str().to_owned();
        let mut add = |text: &str| {
            words.push(' ');
            words.push_str(text);
        };
        if let Some(reason) = &self.reason {
            add(reason);
        }
        if let Some(process) = &self.process {
            add(if self.by_port { "on a port of" } else { "by" });
            add(&process.to_string());
        }
        if let Some(namespace) = self.namespace
            && own != Some(namespace)
        {
            add(&format!("in network namespace {namespace}"));
        }
        words
    }
}

/// Occurrences that are alike, over the whole time.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Group {
    /// When the first of them happened.
    pub first: At,
    /// All of them together; its time is that of the last.
    #[serde(flatten)]
    pub all: Occurrence,
    /// How many there were in the busiest minute.
    pub most_a_minute: u64,
    /// When the minute that is counted began, and how many it has.
    minute: (At, u64),
}

impl Group {
    fn new(all: Occurrence) -> Self {
        Self {
            first: all.at,
            most_a_minute: all.count,
            minute: (all.at, all.count),
            all,
        }
    }

    fn add(&mut self, one: &Occurrence) {
        let all = &mut self.all;
        all.count += one.count;
        all.unacknowledged_bytes += one.unacknowledged_bytes;
        all.at = all.at.max(one.at);
        all.ends = one.ends.or(all.ends);
        self.first = self.first.min(one.at);
        if one.at.since(self.minute.0) >= MINUTE {
            self.minute = (one.at, 0);
        }
        self.minute.1 += one.count;
        self.most_a_minute = self.most_a_minute.max(self.minute.1);
    }

    /// Whether a process did it itself, by the kernel's word.
    pub fn is_certain(&self) -> bool {
        self.all.process.is_some() && !self.all.by_port
    }
}

/// How near a gauge is to its limit.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Far.
    #[default]
    Calm,
    /// From where it is worth a look.
    Near,
    /// From where the kernel does harm.
    Over,
}

/// Who held what of a gauge.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Held {
    /// The process; `None` where no process holds it, or none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// What it is, where there is no process: `orphans`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// In bytes.
    pub bytes: u64,
    /// How many sockets.
    pub sockets: u64,
    /// In which condition most of it is: `unread here`.
    pub condition: String,
}

impl Held {
    /// For people: `shop.jar (812, java, container docker:0123456789ab)`, or `orphans`.
    pub fn who(&self) -> String {
        match &self.process {
            Some(process) => process.to_string(),
            None => self.group.clone(),
        }
    }
}

/// The worst moment of a gauge.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Peak {
    /// The gauge.
    pub gauge: String,
    /// The inode of the network namespace; `None` where the gauge is the whole kernel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u32>,
    /// When it was worst.
    pub at: At,
    /// What it was then.
    pub value: u64,
    /// Its limit then.
    pub limit: u64,
    /// The mark from which the kernel does harm.
    pub mark: u64,
    /// From when until when it was over that mark, the first times; the time zero is not
    /// over yet.
    #[serde(default)]
    pub over: Vec<[At; 2]>,
    /// Who held it at a look near the worst moment, who held most first.
    #[serde(default)]
    pub holders: Vec<Held>,
    /// What all together held at that look, in bytes.
    #[serde(default)]
    pub held_bytes: u64,
}

impl Peak {
    /// When the gauge was over its mark: `between 03:12:07 and 03:12:31 and 2 times more`;
    /// `None` where it never was.
    pub fn when_over(&self) -> Option<String> {
        let [from, until] = self.over.first()?;
        let from = from.time_of_day();
        let until = if *until == At::default() {
            "the end".to_owned()
        } else {
            until.time_of_day()
        };
        let more = match self.over.len() {
            1 => String::new(),
            times => format!(" and {} times more", times - 1),
        };
        Some(format!("between {from} and {until}{more}"))
    }
}

/// What happened over a time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Happened {
    /// Since when.
    pub from: At,
    /// Until when.
    pub until: At,
    /// The inode of the watcher's network namespace.
    pub own_namespace: Option<u32>,
    /// Whether the kernel gives the reason of a reset that it sends.
    pub tells_reset_reasons: bool,
    /// What happened, in the order of the first time.
    pub groups: Vec<Group>,
    /// The worst moment of each gauge.
    pub peaks: Vec<Peak>,
    /// Events that are counted nowhere: the kernel or the record had no room for them.
    pub lost: u64,
    /// What could not be seen, each once.
    pub unseen: Vec<Unseen>,
}

/// So many groups are told apart; what comes then is put together without its process.
const GROUPS: usize = 1024;
/// For rates.
const MINUTE: Duration = Duration::from_secs(60);
/// So many times over a mark are kept.
const TIMES: usize = 64;

impl Happened {
    /// Adds what happened.
    pub fn add(&mut self, one: &Occurrence) {
        let same = |group: &&mut Group, one: &Occurrence| {
            let all = &group.all;
            let pid = |process: &Option<Process>| process.as_ref().map(|process| process.pid);
            (
                all.kind,
                &all.reason,
                pid(&all.process),
                all.by_port,
                all.namespace,
            ) == (
                one.kind,
                &one.reason,
                pid(&one.process),
                one.by_port,
                one.namespace,
            )
        };
        if let Some(group) = self.groups.iter_mut().find(|group| same(group, one)) {
            group.add(one);
            return;
        }
        let mut all = one.clone();
        if self.groups.len() >= GROUPS {
            (all.process, all.namespace, all.ends) = (None, None, None);
            all.by_port = false;
            if let Some(group) = self.groups.iter_mut().find(|group| same(group, &all)) {
                group.add(&all);
                return;
            }
        }
        self.groups.push(Group::new(all));
    }

    /// Adds a value of a gauge.
    pub fn measure(&mut self, peak: &Peak, level: Level) {
        let at = peak.at;
        let same = |known: &Peak| (&known.gauge, known.namespace) == (&peak.gauge, peak.namespace);
        let place = self.peaks.iter().position(same).unwrap_or_else(|| {
            self.peaks.push(peak.clone());
            self.peaks.len() - 1
        });
        let known = &mut self.peaks[place];
        // By shares: a limit may have been changed meanwhile.
        let is_worse = u128::from(peak.value) * u128::from(known.limit)
            > u128::from(known.value) * u128::from(peak.limit);
        if is_worse {
            (known.at, known.value, known.limit) = (peak.at, peak.value, peak.limit);
            known.mark = peak.mark;
        }
        let has_room = known.over.len() < TIMES;
        let open = known
            .over
            .last_mut()
            .filter(|times| times[1] == At::default());
        match (level, open) {
            (Level::Over, None) if has_room => {
                known.over.push([at, At::default()]);
            }
            (Level::Calm | Level::Near, Some(times)) => times[1] = at,
            _ => {}
        }
    }

    /// Notes who held a gauge, unless a look nearer to its worst moment is known.
    pub fn hold(&mut self, gauge: &str, held_bytes: u64, holders: &[Held]) {
        for peak in &mut self.peaks {
            if peak.gauge == gauge && held_bytes >= peak.held_bytes {
                peak.held_bytes = held_bytes;
                peak.holders = holders.to_vec();
            }
        }
    }

    /// A peak of a gauge that the whole kernel has, or the watcher's own namespace.
    pub fn peak(&self, gauge: &str) -> Option<&Peak> {
        self.peaks.iter().find(|peak| peak.gauge == gauge)
    }

    /// How far a counter grew, and in its busiest minute.
    pub fn counter(&self, name: &str) -> Option<&Group> {
        let is_one = |group: &&Group| {
            group.all.kind == Kind::Counter && group.all.reason.as_deref() == Some(name)
        };
        let groups = self.groups.iter().filter(is_one);
        groups.max_by_key(|group| group.all.count)
    }

    /// The same of one network namespace. To the watcher's own, which is `None`, belongs
    /// what is of no namespace that is there: of those in `others` it is theirs.
    pub(crate) fn in_namespace(&self, inode: Option<u32>, others: &[u32]) -> Self {
        let is_in = |of: Option<u32>| match inode {
            None => of.is_none_or(|of| !others.contains(&of)),
            Some(inode) => of == Some(inode),
        };
        let mut part = self.clone();
        part.groups.retain(|group| is_in(group.all.namespace));
        part.peaks.retain(|peak| is_in(peak.namespace));
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> At {
        At::since_epoch(Duration::from_secs(s))
    }

    fn occurrence(s: u64, pid: u32, count: u64) -> Occurrence {
        Occurrence {
            at: at(s),
            kind: Kind::ResetSent,
            count,
            reason: Some("TCP_ABORT_ON_CLOSE".to_owned()),
            process: Some(Process {
                pid,
                ..Process::default()
            }),
            by_port: false,
            namespace: Some(1),
            ends: None,
            unacknowledged_bytes: 100,
        }
    }

    #[test]
    fn a_moment_is_read_as_it_was_written() {
        let one = At::since_epoch(Duration::from_millis(1_760_000_000_007));
        assert_eq!(one.to_string(), "2025-10-09T08:53:20.007Z");
        assert_eq!(one.time_of_day(), "08:53:20");
        assert_eq!(At::try_from(one.to_string()), Ok(one));
        for text in [
            "",
            "2025-10-09T08:53:20Z",
            "2025-10-09T08:53:20.07Z",
            "x.000Z",
        ] {
            assert!(At::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_alike_is_one_group_and_groups_are_bounded() {
        let mut happened = Happened::default();
        for second in 0..3 {
            happened.add(&occurrence(second, 7, 2));
        }
        assert_eq!(happened.groups.len(), 1);
        let group = &happened.groups[0];
        assert_eq!(
            (group.all.count, group.first, group.all.at),
            (6, at(0), at(2))
        );
        assert_eq!(group.all.unacknowledged_bytes, 300);
        for pid in 0..5000 {
            happened.add(&occurrence(9, 100 + pid, 1));
        }
        assert!(happened.groups.len() <= GROUPS + 1);
        let count: u64 = happened.groups.iter().map(|group| group.all.count).sum();
        assert_eq!(count, 5006, "none is forgotten");
    }

    #[test]
    fn the_worst_moment_of_a_gauge_stays_with_its_holders() {
        let mut happened = Happened::default();
        let peak = |s, value| Peak {
            gauge: "tcp-memory".to_owned(),
            namespace: None,
            at: at(s),
            value,
            limit: 100,
            mark: 50,
            over: Vec::new(),
            holders: Vec::new(),
            held_bytes: 0,
        };
        let held = |bytes| Held {
            process: None,
            group: "orphans".to_owned(),
            bytes,
            sockets: 1,
            condition: "unread here".to_owned(),
        };
        happened.measure(&peak(1, 10), Level::Calm);
        happened.measure(&peak(2, 60), Level::Over);
        happened.hold("tcp-memory", 60, &[held(40)]);
        happened.measure(&peak(3, 70), Level::Over);
        happened.measure(&peak(4, 20), Level::Calm);
        happened.hold("tcp-memory", 20, &[held(5)]);
        let [one] = &happened.peaks[..] else {
            panic!("{happened:?}");
        };
        assert_eq!((one.at, one.value), (at(3), 70));
        assert_eq!(one.over, [[at(2), at(4)]]);
        assert_eq!(one.holders, [held(40)]);
    }
}
