//! Tracepoints by perf_event_open(2): one buffer for each CPU, into which all
//! tracepoints of that CPU write.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::unistd::{SysconfVar, sysconf};

use super::ring::Ring;
use super::tracefs::{Tracefs, descriptor};
use super::tracepoint::{Layout, Tracepoint};
use super::{Event, Running};
use crate::read::Unseen;

/// `struct perf_event_attr`, as long as Linux 4.3 has it (PERF_ATTR_SIZE_VER5).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_watermark: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

const TYPE_SOFTWARE: u32 = 1;
const TYPE_TRACEPOINT: u32 = 2;
/// An event that never happens: it owns the buffer of a CPU.
const COUNT_SW_DUMMY: u64 = 9;
const SAMPLE_TID: u64 = 1 << 1;
const SAMPLE_TIME: u64 = 1 << 2;
const SAMPLE_RAW: u64 = 1 << 10;
const FLAG_DISABLED: u64 = 1;
/// Names of processes as they start a program or change it.
const FLAG_COMM: u64 = 1 << 9;
const FLAG_WATERMARK: u64 = 1 << 14;
const FLAG_CLOCKID: u64 = 1 << 25;
const OPEN_CLOEXEC: libc::c_ulong = 1 << 3;

const IOC_ENABLE: libc::Ioctl = 0x2400;
/// They carry a pointer: their numbers have the length of one.
const IOC_PERIOD: libc::Ioctl = 0x4008_2404;
const IOC_SET_OUTPUT: libc::Ioctl = 0x2405;
const IOC_SET_FILTER: libc::Ioctl = 0x4000_2406 | (size_of::<*const u8>() as libc::Ioctl) << 16;

const RECORD_LOST: u32 = 2;
const RECORD_COMM: u32 = 3;
const RECORD_SAMPLE: u32 = 9;

/// The buffers of all CPUs together, in bytes, where each would have less than this.
const BUFFERS_BYTES: usize = 8 << 20;
/// The buffer of a CPU at the most, in bytes.
const BUFFER_BYTES: usize = 128 << 10;
/// Names of so many processes are remembered.
const NAMES: usize = 4096;

/// Why events can't be had.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// tracefs is neither mounted nor can it be.
    #[error("tracefs cannot be read: {0}")]
    Tracefs(#[source] io::Error),
    /// The kernel refused a tracepoint.
    #[error("perf_event_open of {tracepoint}: {source}")]
    Open {
        /// The tracepoint, or what goes with all of them.
        tracepoint: String,
        /// The kernel's words.
        source: io::Error,
    },
    /// The kernel has none of the tracepoints.
    #[error("this kernel has none of the tracepoints of tcp, sock and skb")]
    None,
}

impl EventError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Tracefs(error) | Self::Open { source: error, .. } => match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "run it as root: tracefs needs CAP_SYS_ADMIN or a mount that may be read, \
                     and tracepoints need CAP_PERFMON; where the kernel is locked down \
                     (/sys/kernel/security/lockdown), there are no events"
                }
                _ => {
                    "it needs a kernel with CONFIG_PERF_EVENTS and CONFIG_FTRACE; mount tracefs: \
                     mount -t tracefs tracefs /sys/kernel/tracing"
                }
            },
            Self::None => "it needs CONFIG_FTRACE and Linux 4.15 or later",
        }
    }
}

/// A tracepoint that is open.
#[derive(Debug)]
struct Open {
    layout: Layout,
    /// One for each CPU.
    events: Vec<OwnedFd>,
    /// One of so many is handed over.
    period: u64,
    /// So many were taken the last time.
    taken: usize,
}

/// Reads events.
#[derive(Debug)]
pub struct Reader {
    open: Vec<Open>,
    rings: Vec<Ring>,
    /// They own the buffers.
    owners: Vec<OwnedFd>,
    names: Names,
    missing: Vec<Unseen>,
}

/// What was taken from the buffers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Drained {
    /// Events that were handed over.
    pub events: usize,
    /// Events that the kernel found no room for.
    pub lost: u64,
    /// Records that made no sense.
    pub malformed: u64,
    /// Whether there is more than the limit.
    pub more: bool,
}

impl Reader {
    /// Begins to read these tracepoints, on every CPU that is online. What this kernel
    /// lacks is told by [`Reader::missing`].
    pub fn open(wanted: &[Tracepoint]) -> Result<Self, EventError> {
        let tracefs = Tracefs::open().map_err(EventError::Tracefs)?;
        let mut missing = Vec::new();
        let mut layouts = Vec::new();
        for tracepoint in wanted {
            let text = tracefs
                .format(tracepoint.system, tracepoint.name)
                .map_err(EventError::Tracefs)?;
            match text.map(|text| Layout::new(*tracepoint, &text)) {
                Some(Some(layout)) => layouts.push(layout),
                known => missing.push(Unseen {
                    what: tracepoint.tells.to_owned(),
                    why: format!(
                        "this kernel {} {}:{} (Linux {} and later)",
                        match known {
                            None => "has no tracepoint",
                            Some(_) => "gives no reasons by",
                        },
                        tracepoint.system,
                        tracepoint.name,
                        tracepoint.since,
                    ),
                }),
            }
        }
        if layouts.is_empty() {
            return Err(EventError::None);
        }
        let cpus = online().map_err(|source| EventError::Open {
            tracepoint: "/sys/devices/system/cpu/online".to_owned(),
            source,
        })?;
        raise_open_files((layouts.len() + 1) * cpus.len());
        let page = page_size();
        let fair = (BUFFERS_BYTES / cpus.len().max(1)).max(page);
        let size = 1 << fair.min(BUFFER_BYTES).ilog2();
        let mut reader = Self {
            open: layouts
                .into_iter()
                .map(|layout| Open {
                    layout,
                    events: Vec::new(),
                    period: 1,
                    taken: 0,
                })
                .collect(),
            rings: Vec::new(),
            owners: Vec::new(),
            names: Names::default(),
            missing,
        };
        for cpu in cpus {
            reader.open_on(cpu, page, size)?;
        }
        for event in reader.open.iter().flat_map(|open| &open.events) {
            call(event.as_fd(), IOC_ENABLE, 0).map_err(refused("a tracepoint"))?;
        }
        Ok(reader)
    }

    /// Opens all tracepoints on one CPU; one that has gone offline is passed over.
    fn open_on(&mut self, cpu: i32, page: usize, size: usize) -> Result<(), EventError> {
        let owner = Attributes {
            kind: TYPE_SOFTWARE,
            config: COUNT_SW_DUMMY,
            sample_type: SAMPLE_TID | SAMPLE_TIME,
            flags: FLAG_COMM | FLAG_CLOCKID | FLAG_WATERMARK,
            wakeup_watermark: u32::try_from(size / 2).unwrap_or(u32::MAX),
            ..Attributes::default()
        };
        let owner = match perf_event_open(owner, cpu) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            result => result.map_err(refused("the buffer of a CPU"))?,
        };
        let ring = Ring::map(owner.as_fd(), page, size).map_err(refused("the buffer of a CPU"))?;
        for open in &mut self.open {
            let tracepoint = open.layout.tracepoint;
            let name = format!("{}:{}", tracepoint.system, tracepoint.name);
            let event = perf_event_open(
                Attributes {
                    kind: TYPE_TRACEPOINT,
                    config: open.layout.format.id.into(),
                    sample_period: 1,
                    sample_type: SAMPLE_TID | SAMPLE_TIME | SAMPLE_RAW,
                    flags: FLAG_DISABLED | FLAG_CLOCKID,
                    ..Attributes::default()
                },
                cpu,
            )
            .map_err(refused(&name))?;
            if !open.layout.filter.is_empty() {
                let filter = std::ffi::CString::new(open.layout.filter.as_str());
                let filter = filter.unwrap_or_default();
                call(
                    event.as_fd(),
                    IOC_SET_FILTER,
                    filter.as_ptr() as libc::c_ulong,
                )
                .map_err(refused(&format!("{name} with the filter {filter:?}")))?;
            }
            let to = libc::c_ulong::try_from(owner.as_raw_fd()).unwrap_or(0);
            call(event.as_fd(), IOC_SET_OUTPUT, to).map_err(refused(&name))?;
            open.events.push(event);
        }
        self.rings.push(ring);
        self.owners.push(owner);
        Ok(())
    }

    /// What this kernel does not tell, and why.
    pub fn missing(&self) -> &[Unseen] {
        &self.missing
    }

    /// Whether a tracepoint is read.
    pub fn has(&self, tracepoint: &Tracepoint) -> bool {
        self.open
            .iter()
            .any(|open| open.layout.tracepoint == *tracepoint)
    }

    /// Whether the kernel gives the reason of a reset that it sends.
    pub fn tells_reset_reasons(&self) -> bool {
        let mut resets = self.open.iter();
        resets.any(|open| {
            open.layout.tracepoint == super::tracepoint::RESET_SENT && open.layout.has_reason()
        })
    }

    /// What to poll: readable once half of a buffer is full.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.owners.iter().map(|owner| owner.as_fd())
    }

    /// Takes up to `limit` events of each CPU, in the order in which they happened as
    /// far as they are there.
    pub fn drain(&mut self, limit: usize, into: &mut Vec<Event>) -> Drained {
        let mut drained = Drained::default();
        let before = into.len();
        for open in &mut self.open {
            open.taken = 0;
        }
        let (open, names) = (&mut self.open, &mut self.names);
        for ring in &mut self.rings {
            let mut each = |record: &[u8]| match decode(record, open, names) {
                Some(Record::Event(event)) => into.push(event),
                Some(Record::Lost(lost)) => drained.lost += lost,
                Some(Record::Other) => {}
                None => drained.malformed += 1,
            };
            let taken = ring.drain(limit, &mut each);
            drained.malformed += u64::from(taken.malformed);
            drained.more |= taken.more;
        }
        into[before..].sort_by_key(|event| event.at);
        for event in &mut into[before..] {
            if let Some(running) = &mut event.process {
                running.name = self.names.of(running.pid);
            }
        }
        drained.events = into.len() - before;
        drained
    }

    /// The tracepoints that are read, each with how many of its events the last
    /// [`Reader::drain`] took, and of how many events one is handed over.
    pub fn load(&self) -> impl Iterator<Item = (&Tracepoint, usize, u64)> {
        self.open
            .iter()
            .map(|open| (&open.layout.tracepoint, open.taken, open.period))
    }

    /// Has the kernel hand over only one of so many events of a tracepoint and CPU.
    pub fn thin(&mut self, tracepoint: &Tracepoint, period: u64) -> io::Result<()> {
        let mut open = self.open.iter_mut();
        let Some(open) = open.find(|open| open.layout.tracepoint == *tracepoint) else {
            return Ok(());
        };
        for event in &open.events {
            let argument = (&raw const period) as libc::c_ulong;
            call(event.as_fd(), IOC_PERIOD, argument)?;
        }
        open.period = period;
        Ok(())
    }

    /// How many events there were in all since the reader was opened, handed over or
    /// not, by tracepoint.
    pub fn counts(&self) -> io::Result<Vec<(Tracepoint, u64)>> {
        let count = |event: &OwnedFd| {
            let mut bytes = [0; 8];
            nix::unistd::read(event, &mut bytes)?;
            Ok(u64::from_ne_bytes(bytes))
        };
        self.open
            .iter()
            .map(|open| {
                let counts: io::Result<Vec<u64>> = open.events.iter().map(count).collect();
                Ok((open.layout.tracepoint, counts?.iter().sum()))
            })
            .collect()
    }
}

/// The names of processes: learned as they start, so that one is known that has ended
/// when its event is read.
#[derive(Debug, Default)]
struct Names {
    of_pid: HashMap<u32, Arc<str>>,
    /// The oldest first.
    order: VecDeque<u32>,
}

impl Names {
    fn learn(&mut self, pid: u32, name: Arc<str>) {
        if self.of_pid.insert(pid, name).is_none() {
            self.order.push_back(pid);
            if self.order.len() > NAMES
                && let Some(oldest) = self.order.pop_front()
            {
                self.of_pid.remove(&oldest);
            }
        }
    }

    fn of(&mut self, pid: u32) -> Option<Arc<str>> {
        if let Some(name) = self.of_pid.get(&pid) {
            return Some(Arc::clone(name));
        }
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let name: Arc<str> = name.trim_end().into();
        self.learn(pid, Arc::clone(&name));
        Some(name)
    }
}

/// What a record of a buffer is.
enum Record {
    Event(Event),
    Lost(u64),
    Other,
}

/// Decodes a record; `None` where it makes no sense.
fn decode(record: &[u8], open: &mut [Open], names: &mut Names) -> Option<Record> {
    let u32_at = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?));
    match u32_at(0)? {
        RECORD_SAMPLE => {
            let (pid, at_ns, length) = (u32_at(8)?, u64_at(16)?, u32_at(24)?);
            let raw = record.get(28..28_usize.checked_add(usize::try_from(length).ok()?)?)?;
            let id = u16::from_ne_bytes(raw.get(..2)?.try_into().ok()?);
            let open = open.iter_mut().find(|open| open.layout.format.id == id)?;
            let layout = &open.layout;
            let what = layout.decode(raw)?;
            open.taken += 1;
            Some(Record::Event(Event {
                at: Duration::from_nanos(at_ns),
                process: layout
                    .is_of_process(raw)
                    .then_some(Running { pid, name: None }),
                what,
                count: open.period,
            }))
        }
        RECORD_LOST => u64_at(16).map(Record::Lost),
        RECORD_COMM => {
            let (pid, thread) = (u32_at(8)?, u32_at(12)?);
            let name = record.get(16..)?.split(|byte| *byte == 0).next()?;
            // A thread may have a name of its own.
            if pid == thread {
                names.learn(pid, String::from_utf8_lossy(name).into());
            }
            Some(Record::Other)
        }
        _ => Some(Record::Other),
    }
}

fn perf_event_open(mut attributes: Attributes, cpu: i32) -> io::Result<OwnedFd> {
    #[expect(clippy::cast_possible_truncation, reason = "112 bytes")]
    {
        attributes.size = size_of::<Attributes>() as u32;
    }
    attributes.clockid = libc::CLOCK_MONOTONIC;
    // SAFETY: the attributes are as long as they say, and outlive the call. All
    // processes (-1) on one CPU, in no group (-1).
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            -1,
            cpu,
            -1,
            OPEN_CLOEXEC,
        )
    };
    descriptor(fd)
}

/// An ioctl of an event.
fn call(event: BorrowedFd<'_>, request: libc::Ioctl, argument: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the requests take a number, or the address of a number or a text that
    // outlives the call, and write nothing.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn refused(tracepoint: &str) -> impl Fn(io::Error) -> EventError {
    move |source| EventError::Open {
        tracepoint: tracepoint.to_owned(),
        source,
    }
}

fn page_size() -> usize {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(4096)
}

/// The CPUs that are online: `0-3,8`.
fn online() -> io::Result<Vec<i32>> {
    let text = match fs::read_to_string("/sys/devices/system/cpu/online") {
        // Without sysfs: there is no gap among the CPUs of a machine that has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let count = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
            format!("0-{}", count.unwrap_or(1).max(1) - 1)
        }
        text => text?,
    };
    cpus(&text).ok_or_else(|| io::Error::other(format!("{:?} is no list of CPUs", text.trim())))
}

fn cpus(text: &str) -> Option<Vec<i32>> {
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (i32, i32) = (first.parse().ok()?, last.parse().ok()?);
        if !(0..=last).contains(&first) || last > 1 << 16 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Raises this process's own soft limit of open files, as far as it may: a host with many
/// CPUs needs an event for each of them and each tracepoint.
fn raise_open_files(more: usize) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is the call's to fill.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return;
    }
    let wanted = (more as libc::rlim_t)
        .saturating_add(1024)
        .min(limit.rlim_max);
    if limit.rlim_cur < wanted {
        limit.rlim_cur = wanted;
        // SAFETY: the structure outlives the call. Where it is refused, so is the
        // event that has no room.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::events::TRACEPOINTS;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(cpus("0\n"), Some(vec![0]));
        assert_eq!(cpus("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        for text in ["", "a", "3-1", "0-99999999", "-1"] {
            assert_eq!(cpus(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_names_of_processes_are_bounded() {
        let mut names = Names::default();
        for pid in 0..10_000 {
            names.learn(4_000_000 + pid, "a".into());
        }
        assert_eq!((names.of_pid.len(), names.order.len()), (NAMES, NAMES));
        assert_eq!(names.of(4_000_000), None);
        assert_eq!(names.of(4_009_999).as_deref(), Some("a"));
    }

    proptest! {
        #[test]
        fn garbage_is_no_event(record in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = include_str!("../../tests/events/6.12/tcp_send_reset.format");
            let layout = Layout::new(TRACEPOINTS[0], text).unwrap();
            let mut open = [Open { layout, events: Vec::new(), period: 1, taken: 0 }];
            let _ = decode(&record, &mut open, &mut Names::default());
            let mut sample = RECORD_SAMPLE.to_ne_bytes().to_vec();
            sample.extend(record);
            let _ = decode(&sample, &mut open, &mut Names::default());
        }
    }
}
