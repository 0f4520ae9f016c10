//! Sysctls of the initial namespace, which act on the whole machine: set for a
//! scenario, and put back.
//!
//! Such a scenario runs alone on the machine: a limit of orphans would change
//! the results of others. It takes a lock that all other runs of any harness
//! share. The values are put back whatever happens: a watcher process outlives
//! the harness. It holds the scenario's namespaces and, once the harness is
//! done or dead, destroys the sockets left in them (orphans count for the whole
//! kernel) and puts the values back. If the watcher is killed, too, a record on
//! disk remains, and the next run or `harness restore` puts the values back.
//! Imports suite, lab and descriptor.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use advisor_report::Value;
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::time::ClockId;
use nix::unistd::{AccessFlags, Pid, SysconfVar, access, sysconf};
use serde::{Deserialize, Serialize};

use crate::descriptor;
use crate::lab::namespace::{read_sysctl, write_sysctl};
use crate::lab::{Lab, LabError, destroy};
use crate::lock_holder;
use crate::pace::pause;
use crate::suite::scenario::Scenario;

/// Where the lock and the record are kept. /run is emptied by a reboot, as the
/// values are.
pub const STATE_DIRECTORY: &str = "/run/lastbyte";

/// The lock's files, see [`take`].
const GATE: &str = "gate";
const LOCK: &str = "lock";

/// How long the watcher looks for sockets to destroy. An actor with 10,000 of
/// them takes part of a second to die; where orphans have to be waited for, a
/// timer may be up to two minutes away.
const DESTROY_FOR: Duration = Duration::from_secs(150);

/// The sysctl whose comparison needs a fresh count of orphans.
pub const ORPHAN_LIMIT: &str = "net.ipv4.tcp_max_orphans";

/// The kernel's pause between two counts of the orphans (`TCP_ORPHAN_TIMER_PERIOD`).
const ORPHAN_COUNT_EVERY: Duration = Duration::from_millis(100);

/// The longest time between two ticks.
const LONGEST_TICK: Duration = Duration::from_millis(10);

/// How long before a tick a CPU wakes, and how long after it it sleeps again.
const BESIDE_A_TICK: Duration = Duration::from_micros(150);

/// Of so many ticks one is looked for, and the others are known by it.
const LOOKED_FOR: u64 = 16;

/// How long of that pause a CPU is kept awake at most: more than a tick.
const AWAKE: Duration = Duration::from_millis(15);

/// How long a CPU may sleep at most.
const ASLEEP_AT_MOST: Duration = Duration::from_secs(1);

/// How long a CPU may sleep at first. Later it sleeps longer: to wake costs an emulated
/// processor more than all else.
const ASLEEP: Duration = ORPHAN_COUNT_EVERY.saturating_sub(AWAKE);

/// A sysctl that was changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// The value to put back.
    pub before: String,
    /// The value that the scenario set.
    pub set: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (it was {} before the run)", self.name, self.before)
    }
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PutBack => "put back",
            Self::AlreadyBack => "was back already",
            Self::LeftAlone => "left alone, somebody has set it since",
        })
    }
}

/// What [`restore`] did with a sysctl.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Restored {
    /// The old value was put back.
    PutBack,
    /// It has the old value already.
    AlreadyBack,
    /// Somebody has set another value since; it was left alone.
    LeftAlone,
}

/// The file in `directory` that says what to put back.
pub fn record_path(directory: &Path) -> PathBuf {
    directory.join("touched.json")
}

/// What it was called for and could not do, while nothing is set yet.
fn refused(action: &str) -> impl Fn(io::Error) -> LabError {
    let hint = "nothing was set; it needs to write to /run/lastbyte, and a guest needs nothing of \
                this machine: harness kernels fetch debian-6.12";
    move |source| LabError::new("kernel", action, source, hint)
}

fn error(action: &str) -> impl Fn(io::Error) -> LabError {
    move |source| LabError::new("kernel", action, source, "harness restore puts values back")
}

/// The lock on the machine during a run, and the values set. A run that sets
/// sysctls holds it alone, the others share it.
#[derive(Debug)]
pub struct HostSettings {
    held: Option<Held>,
    _shared: Option<Flock<File>>,
    _wakefulness: Option<Wakefulness>,
}

#[derive(Debug)]
struct Held {
    watcher: Child,
    line: UnixStream,
    /// Kept until the watcher is done: unlocking would unlock for the watcher,
    /// too, which has the same open file.
    lock: Flock<File>,
}

impl HostSettings {
    /// Takes the machine's lock, starts the watcher and sets the values.
    /// `before` are the gauges that values may refer to.
    pub fn begin(scenario: &Scenario, before: &BTreeMap<String, Value>) -> Result<Self, LabError> {
        let directory = Path::new(STATE_DIRECTORY);
        if !scenario.touches_host() {
            // Without the files, no run has set sysctls since the machine was
            // started.
            return Ok(Self {
                held: None,
                _shared: take(directory, FlockArg::LockShared).ok(),
                _wakefulness: None,
            });
        }
        let lock = lock(directory).map_err(refused("take the machine's lock in /run/lastbyte"))?;
        restore(directory).map_err(error("finish what an earlier run left"))?;
        let mut changes = changes(scenario, before)?;
        let counts = changes.iter().any(|change| change.name == ORPHAN_LIMIT);
        let wakefulness = counts.then(Wakefulness::begin);
        write_record(directory, &changes).map_err(refused("write a record to /run/lastbyte"))?;
        let mut held = Held::start(lock).map_err(error("start the watcher"))?;
        if let Err(error) = set(directory, &mut changes) {
            held.finish()?;
            return Err(error);
        }
        Ok(Self {
            held: Some(held),
            _shared: None,
            _wakefulness: wakefulness,
        })
    }

    /// Gives the watcher a lab's namespaces to hold.
    pub fn hold(&self, lab: &Lab) -> Result<(), LabError> {
        let Some(held) = &self.held else {
            return Ok(());
        };
        lab.namespaces()
            .iter()
            .try_for_each(|namespace| descriptor::send(&held.line, namespace))
            .map_err(error("hand the namespaces to the watcher"))
    }

    /// Waits until the watcher has put everything back.
    pub fn end(mut self) -> Result<(), LabError> {
        self.held.take().map_or(Ok(()), |mut held| held.finish())
    }
}

impl Drop for HostSettings {
    fn drop(&mut self) {
        if let Some(mut held) = self.held.take() {
            // The error that led here is the one to report; the record stays.
            let _ = held.finish();
        }
    }
}

/// Keeps every CPU from long sleeps, so that the kernel counts its orphans.
/// `tcp_max_orphans` is compared with a sum that a timer refreshes
/// (`tcp_orphan_update` in net/ipv4/tcp.c, since Linux 5.16, and in the later 5.10).
/// The timer is deferrable: on an idle CPU it doesn't fire, and the sum stays that of
/// the scenario before, for many seconds on an idle machine.
#[derive(Debug)]
struct Wakefulness {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wakefulness {
    /// Starts a thread on each CPU, and returns once the kernel has counted.
    fn begin() -> Self {
        let own = Pid::from_raw(0);
        let cpus = sched_getaffinity(own).unwrap_or_default();
        let is_over = Arc::new(AtomicBool::new(false));
        let is_alone = sysconf(SysconfVar::_NPROCESSORS_ONLN) == Ok(Some(1));
        let threads = (0..CpuSet::count())
            .filter(|cpu| cpus.is_set(*cpu).unwrap_or(false))
            .map(|cpu| {
                let is_over = Arc::clone(&is_over);
                std::thread::spawn(move || {
                    let mut only = CpuSet::new();
                    if only.set(cpu).is_err() || sched_setaffinity(own, &only).is_err() {
                        return;
                    }
                    let begin = Instant::now();
                    let every = ClockId::CLOCK_MONOTONIC_COARSE.res();
                    let every = every.map_or(LONGEST_TICK, Duration::from);
                    let mut tick = begin;
                    for number in 0_u64.. {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        let pause = pause(begin.elapsed(), ASLEEP).min(ASLEEP_AT_MOST);
                        // To wait for a tick costs an emulated processor ten times as much as
                        // to know when it comes.
                        if !is_alone {
                            // The coarse clock moves in ticks of one CPU; the others have
                            // theirs between two of those.
                            stay_awake_for(2);
                            std::thread::sleep(pause);
                        } else if number % LOOKED_FOR == 0 {
                            tick = stay_awake_for(1);
                        } else {
                            tick = sleep_until_a_tick(tick, every, pause);
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(2 * ORPHAN_COUNT_EVERY);
        Self { is_over, threads }
    }
}

/// Keeps this CPU awake for so many ticks in which the coarse clock moves; in a tick the
/// kernel runs the timers that are due, the deferrable ones too. When the last of them was.
fn stay_awake_for(mut ticks: u32) -> Instant {
    let mut seen = ClockId::CLOCK_MONOTONIC_COARSE.now().ok();
    let end = Instant::now() + AWAKE;
    while ticks > 0 && Instant::now() < end {
        std::hint::spin_loop();
        let now = ClockId::CLOCK_MONOTONIC_COARSE.now().ok();
        if now != seen {
            seen = now;
            ticks -= 1;
        }
    }
    Instant::now()
}

/// Sleeps until just before a tick, and stays awake until just after it; a tick was at
/// `tick`, and one comes after each `every`. When the new one was.
fn sleep_until_a_tick(tick: Instant, every: Duration, pause: Duration) -> Instant {
    let ticks = pause.as_nanos().div_ceil(every.as_nanos().max(1));
    let next = tick + every * u32::try_from(ticks).unwrap_or(1);
    let wait = next.saturating_duration_since(Instant::now());
    std::thread::sleep(wait.saturating_sub(BESIDE_A_TICK));
    while Instant::now() < next + BESIDE_A_TICK {
        std::hint::spin_loop();
    }
    next
}

impl Drop for Wakefulness {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its result is nothing.
            let _ = thread.join();
        }
    }
}

/// Sets the values, and records the value that the kernel has afterwards: it
/// may round.
fn set(directory: &Path, changes: &mut [Change]) -> Result<(), LabError> {
    for index in 0..changes.len() {
        let Change { name, set, .. } = changes[index].clone();
        write_sysctl(&name, &set).map_err(|source| {
            LabError::new(
                "kernel",
                &format!("set {name} to {set}"),
                source,
                "run as root",
            )
        })?;
        changes[index].set = read_sysctl(&name).map_err(error(&format!("read {name}")))?;
        write_record(directory, changes).map_err(error("write a record to /run/lastbyte"))?;
    }
    Ok(())
}

/// The values to set, and those that the kernel has now.
fn changes(scenario: &Scenario, before: &BTreeMap<String, Value>) -> Result<Vec<Change>, LabError> {
    scenario
        .kernel_sysctls
        .iter()
        .map(|(name, values)| {
            let old = read_sysctl(name).map_err(error(&format!("read {name}")))?;
            if old.split(' ').count() != values.len() {
                return Err(LabError::new(
                    "kernel",
                    &format!("set {name}, which is {old:?}"),
                    io::ErrorKind::InvalidInput.into(),
                    "give as many numbers as it has, with commas between them",
                ));
            }
            let numbers = values
                .iter()
                .map(|value| {
                    let number = value.value(&|name| before.get(name).cloned())?;
                    Some(format!("{number:.0}"))
                })
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| {
                    error(&format!("work out a value for {name}"))(
                        io::ErrorKind::InvalidData.into(),
                    )
                })?;
            Ok(Change {
                name: name.clone(),
                before: old,
                set: numbers.join(" "),
            })
        })
        .collect()
}

/// Whether what has to be put back could be written down; makes nothing.
pub fn can_keep_a_record() -> bool {
    let mut there = Path::new(STATE_DIRECTORY).ancestors();
    let there = there.find(|directory| directory.exists());
    there.is_some_and(|directory| access(directory, AccessFlags::W_OK).is_ok())
}

/// Takes the lock alone; creates its files if needed.
fn lock(directory: &Path) -> io::Result<Flock<File>> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    for name in [GATE, LOCK] {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(name))?;
    }
    take(directory, FlockArg::LockExclusive)
}

/// Takes the lock, alone or shared. Everyone locks the gate first. A run that
/// waits for the lock alone holds the gate meanwhile, so that new shared locks
/// cannot delay it for ever.
fn take(directory: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let open = |name: &str| File::open(directory.join(name));
    let gate = match how {
        FlockArg::LockSharedNonblock => FlockArg::LockExclusiveNonblock,
        _ => FlockArg::LockExclusive,
    };
    let _gate = locked(open(GATE)?, gate)?;
    locked(open(LOCK)?, how)
}

/// A lock on a file. Whom it is waited for is said.
fn locked(file: File, how: FlockArg) -> io::Result<Flock<File>> {
    let failed = |(_, errno): (File, nix::errno::Errno)| io::Error::from(errno);
    let at_once = match how {
        FlockArg::LockShared => FlockArg::LockSharedNonblock,
        FlockArg::LockExclusive => FlockArg::LockExclusiveNonblock,
        other => return Flock::lock(file, other).map_err(failed),
    };
    match Flock::lock(file, at_once) {
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
            lock_holder::say(&file);
            Flock::lock(file, how).map_err(failed)
        }
        done => done.map_err(failed),
    }
}

/// Writes the record completely or not at all.
fn write_record(directory: &Path, changes: &[Change]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer(&mut file, changes)?;
    file.as_file().sync_all()?;
    file.persist(record_path(directory))?;
    Ok(())
}

impl Held {
    fn start(lock: Flock<File>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let watcher = Command::new("/proc/self/exe")
            .arg("watcher")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            // A process group of its own: a Ctrl-C is for the harness.
            .process_group(0)
            .spawn()?;
        let held = Self {
            watcher,
            line: ours,
            lock,
        };
        // The watcher has the lock, too, so that no other run starts before
        // everything is put back.
        descriptor::send(&held.line, &*held.lock)?;
        let mut ready = [0];
        (&held.line).read_exact(&mut ready)?;
        Ok(held)
    }

    fn finish(&mut self) -> Result<(), LabError> {
        let _ = self.line.shutdown(std::net::Shutdown::Write);
        let status = self.watcher.wait().map_err(error("wait for the watcher"))?;
        if status.success() {
            return Ok(());
        }
        // It was killed or failed: the values are put back here.
        restore(Path::new(STATE_DIRECTORY)).map_err(error("put the values back"))?;
        Err(error("leave it to the watcher, which failed")(
            io::Error::other(status.to_string()),
        ))
    }
}

/// Puts back what the record in `directory` says, where there is one, and says
/// what it did with each sysctl.
pub fn restore(directory: &Path) -> io::Result<Vec<(Change, Restored)>> {
    let path = record_path(directory);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let changes: Vec<Change> = serde_json::from_str(&text).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {error}", path.display()),
        )
    })?;
    let mut done = Vec::new();
    for change in changes {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", change.name));
        let now = read_sysctl(&change.name).map_err(named)?;
        let restored = if now == change.before {
            Restored::AlreadyBack
        } else if now == change.set {
            write_sysctl(&change.name, &change.before).map_err(named)?;
            Restored::PutBack
        } else {
            Restored::LeftAlone
        };
        done.push((change, restored));
    }
    match fs::remove_file(&path) {
        // Another process may have put the same values back.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(done),
    }
}

/// `harness restore`: as [`restore`], but `None` while a run that sets sysctls
/// is active: it puts its values back itself. Does not wait.
pub fn restore_alone(directory: &Path) -> io::Result<Option<Vec<(Change, Restored)>>> {
    if !record_path(directory).exists() {
        return Ok(Some(Vec::new()));
    }
    match take(directory, FlockArg::LockSharedNonblock) {
        Ok(_lock) => restore(directory).map(Some),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The watcher's process: `harness watcher`, with a socket to the harness as
/// standard input.
pub fn watch() -> io::Result<()> {
    for number in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { signal(number, SigHandler::SigIgn) }?;
    }
    // SAFETY: the harness gives the watcher its socket as descriptor 0, and
    // nothing else in this process uses standard input.
    let mut line = unsafe { UnixStream::from_raw_fd(0) };
    let Some(_lock) = descriptor::receive(&line)? else {
        return Ok(());
    };
    line.write_all(b"r")?;
    let mut namespaces = Vec::new();
    // Ends when the harness hangs up, or is dead.
    while let Some(namespace) = descriptor::receive(&line)? {
        namespaces.push(namespace);
    }
    // The values first: other programs' connections depend on them.
    let restored = restore(Path::new(STATE_DIRECTORY));
    destroy_sockets(&namespaces)?;
    restored.map(|_| ())
}

/// Destroys every socket of the namespaces, and goes on where one fails. The
/// actors may still be dying and leave more, so it looks until there are none.
fn destroy_sockets(namespaces: &[OwnedFd]) -> io::Result<()> {
    let end = Instant::now() + DESTROY_FOR;
    let results: Vec<io::Result<()>> = namespaces
        .iter()
        .map(|namespace| {
            // On a thread of its own: this one stays in the namespace whose
            // sysctls it has put back.
            std::thread::scope(|scope| {
                scope
                    .spawn(|| destroy_sockets_of(namespace, end))
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("the thread in a namespace panicked")))
            })
        })
        .collect();
    results.into_iter().collect()
}

fn destroy_sockets_of(namespace: &OwnedFd, end: Instant) -> io::Result<()> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
    loop {
        let left = destroy::clear()?;
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(io::Error::other(format!("{left} sockets are left")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_record_is_nothing_to_restore() {
        let directory = tempfile::tempdir().unwrap();
        assert!(restore(directory.path()).unwrap().is_empty());
        assert!(restore_alone(directory.path()).unwrap().unwrap().is_empty());
    }

    #[test]
    fn the_record_of_a_run_that_lives_is_left_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path()).unwrap();
        write_record(directory.path(), &[]).unwrap();
        assert!(restore_alone(directory.path()).unwrap().is_none());
        drop(held);
        assert!(restore_alone(directory.path()).unwrap().is_some());
        assert!(!record_path(directory.path()).exists());
    }

    #[test]
    fn a_value_that_is_back_is_left_and_the_record_goes() {
        let directory = tempfile::tempdir().unwrap();
        let name = "net.ipv4.tcp_fin_timeout";
        let now = read_sysctl(name).unwrap();
        let change = Change {
            name: name.to_owned(),
            before: now,
            set: "1".to_owned(),
        };
        write_record(directory.path(), std::slice::from_ref(&change)).unwrap();
        let done = restore(directory.path()).unwrap();
        assert_eq!(done, [(change, Restored::AlreadyBack)]);
        assert!(!record_path(directory.path()).exists());
    }

    #[test]
    fn a_value_that_somebody_else_set_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let change = Change {
            name: "net.ipv4.tcp_fin_timeout".to_owned(),
            before: "998".to_owned(),
            set: "999".to_owned(),
        };
        write_record(directory.path(), std::slice::from_ref(&change)).unwrap();
        let done = restore(directory.path()).unwrap();
        assert_eq!(done, [(change, Restored::LeftAlone)]);
    }

    #[test]
    fn a_broken_record_is_an_error_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(record_path(directory.path()), "{").unwrap();
        let error = restore(directory.path()).unwrap_err();
        assert!(error.to_string().contains("touched.json"), "{error}");
    }
}
