//! A guest: a throw-away machine in QEMU, how it comes to be, what it is told
//! and what it says.
//!
//! It has a kernel from the store ([`crate::kernels`]) and an initramfs that
//! holds little more than this same program.

mod attendant;
mod cpio;
pub mod init;
mod initramfs;
mod mailbox;
mod monitor;
pub mod protocol;
pub mod qemu;
pub mod state;
pub mod transfer;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::impairment::spread_seed;
use crate::kernels::KernelError;
use crate::kernels::cache::Stored;
use attendant::{Attendant, Pulse};
use initramfs::initramfs;
use mailbox::MAILBOX_BYTES;
use monitor::Monitor;
use protocol::{MOST_KEPT_BYTES, News, Order};
use qemu::{Accelerator, Connection, Keeper, MEMORY_BYTES, Machine, PACKAGE_HINT, PROGRAM};
use state::State;

/// A guest that says nothing for so long hangs; it has a heartbeat.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Bytes of random numbers that a guest gets.
const ENTROPY_BYTES: usize = 32;

/// The time of day in a guest with a seed: 2026-01-01 00:10 UTC, after its boot.
const SEEDED_NOW: Duration = Duration::from_secs(1_767_226_200);

/// A virtual clock that stands while the emulator works for so long belongs to a
/// kernel that hangs.
const HANG_LIMIT: Duration = Duration::from_secs(60);

/// How often it is checked that the clock of a silent guest goes on.
const PULSE_EVERY: Duration = Duration::from_secs(1);

/// Longest way from being told to power off to having done so.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(10);

/// How far the guest's clock may be from the host's: so much, and a tenth of
/// the time. News that is late by less than the first doesn't show.
const CLOCK_SLACK: Duration = Duration::from_secs(2);

/// How much of the console's end is kept: a panic with its call trace, and what
/// came before.
const CONSOLE_LINES: usize = 100;

/// Why a guest gave no result, with the end of its console.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Death {
    /// What happened: `it died`, `it said nothing for 30s`.
    pub what: String,
    /// The last lines of its console, and what QEMU complained of.
    pub console: Vec<String>,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest gave no result: {}", self.what)?;
        let panic = self
            .console
            .iter()
            .find(|line| line.contains("Kernel panic"));
        match (panic, self.console.last()) {
            (Some(panic), _) => write!(f, "; its console says {panic:?}"),
            (None, Some(last)) => write!(f, "; its console ends with {last:?}"),
            (None, None) => Ok(()),
        }
    }
}

/// A running guest. Dropping it kills it, and so does the end of the harness,
/// whatever ends that.
#[derive(Debug)]
pub struct Guest {
    /// Its kernel's release, as it says itself.
    pub release: String,
    /// What its init could not do.
    pub complaints: Vec<String>,
    line: Line,
    news: Receiver<(Instant, News)>,
    console: Arc<Mutex<VecDeque<String>>>,
    clock: HostClock,
    /// The files that it was given.
    taken: BTreeSet<PathBuf>,
    keeper: Keeper,
}

/// How orders reach a guest.
#[derive(Debug)]
enum Line {
    /// By its port, at once.
    Port(UnixStream),
    /// By its mailbox.
    Mailbox {
        memory: File,
        /// Given together, when the host begins to listen: what a guest does must not
        /// depend on when the host wrote which part.
        pending: Vec<u8>,
        /// To the [`Attendant`].
        batches: Sender<Vec<u8>>,
        /// To the thread that becomes the attendant's.
        unattended: Option<(Receiver<Vec<u8>>, UnixStream)>,
    },
}

/// What makes a guest another than the copies of it.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Its time of day, since 1970.
    now: Duration,
    /// For its random numbers.
    entropy: Vec<u8>,
}

impl Beginning {
    /// The host's time and random numbers.
    pub fn here() -> io::Result<Self> {
        let mut entropy = vec![0; ENTROPY_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut entropy)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self {
            now: now.unwrap_or_default(),
            entropy,
        })
    }

    /// The same each time for a seed.
    pub fn of_seed(seed: u64) -> Self {
        let numbers = (0..).flat_map(|part| spread_seed(seed, part, 0).to_le_bytes());
        Self {
            now: SEEDED_NOW,
            entropy: numbers.take(ENTROPY_BYTES).collect(),
        }
    }
}

/// A guest that has booted and was told nothing yet, so that copies of it can
/// be made.
#[derive(Debug)]
pub struct Booted {
    guest: Guest,
    /// From the start of QEMU until it took orders.
    pub boot: Duration,
    monitor: Monitor,
    memory: File,
    devices: File,
    /// Its descriptor in QEMU.
    devices_inherited: i32,
}

/// The host's ends of what a guest is connected by.
struct Ends {
    line: Line,
    /// What the guest says.
    said: UnixStream,
    console: UnixStream,
    monitor: UnixStream,
}

/// What could not be done with a kernel, where it is the system that says so.
fn at<'a>(kernel: &'a Stored, action: &'a str) -> impl Fn(io::Error) -> KernelError + 'a {
    move |error| KernelError::environment(&kernel.name, action, &error.to_string(), "")
}

impl Guest {
    /// Boots a kernel; the guest takes orders when this returns.
    pub fn boot(kernel: &Stored, accelerator: Accelerator) -> Result<Booted, KernelError> {
        // By this name it can be read even if a build has replaced it since.
        let program = Path::new("/proc/self/exe");
        let initramfs = initramfs(program, &kernel.modules()?)?;
        let prepare = at(kernel, "prepare a guest");
        let file = |name| in_memory(name).map_err(&prepare);
        let duplicate = |file: &File| file.as_fd().try_clone_to_owned().map_err(&prepare);
        let mut image = file(c"initramfs")?;
        image.write_all(&initramfs).map_err(&prepare)?;
        let memory = file(c"guest memory")?;
        memory.set_len(MEMORY_BYTES).map_err(&prepare)?;
        let devices = file(c"guest devices")?;
        let shared = (duplicate(&memory)?, duplicate(&devices)?);
        let (ends, mut machine) = machine(kernel, accelerator, shared, true)?;
        let devices_inherited = machine.devices();
        machine.boot(kernel, accelerator, image.into());
        let start = Instant::now();
        let (mut guest, mut monitor) = Self::start(kernel, accelerator, machine, ends)?;
        let limit = accelerator.boot_limit();
        if let Line::Mailbox {
            memory, unattended, ..
        } = &mut guest.line
            && let Some((_, said)) = unattended
        {
            let mut attendant = Attendant::new(monitor, memory.try_clone().map_err(&prepare)?);
            let heard = attendant.hear_out(said, limit);
            monitor = attendant.monitor;
            if let Err(error) = heard {
                let death = guest.death(format!("it was not ready within {limit:?}: {error}"));
                return Err(refused(kernel, accelerator, "boot it", &death));
            }
        }
        guest
            .await_ready(limit)
            .map_err(|death| refused(kernel, accelerator, "boot it", &death))?;
        Ok(Booted {
            guest,
            boot: start.elapsed(),
            monitor,
            memory,
            devices,
            devices_inherited,
        })
    }

    /// Makes a guest that goes on from a saved state.
    pub fn restore(
        kernel: &Stored,
        accelerator: Accelerator,
        state: &State,
        beginning: &Beginning,
    ) -> Result<Self, KernelError> {
        let open = at(kernel, "open its saved state");
        let (memory, devices) = state.files().map_err(&open)?;
        let files = (memory.into(), devices.into());
        let (ends, mut machine) = machine(kernel, accelerator, files, false)?;
        machine.restore();
        let devices = machine.devices();
        let (mut guest, mut monitor) = Self::start(kernel, accelerator, machine, ends)?;
        let restored = monitor.restore(devices).and_then(|()| {
            if !guest.has_mailbox() {
                return monitor.go_on();
            }
            guest.attend(monitor)
        });
        restored.map_err(at(kernel, "restore its saved state"))?;
        state.release().clone_into(&mut guest.release);
        state.complaints().clone_into(&mut guest.complaints);
        guest
            .begin(beginning, accelerator.boot_limit())
            .map_err(|death| refused(kernel, accelerator, "restore its saved state", &death))?;
        Ok(guest)
    }

    fn has_mailbox(&self) -> bool {
        matches!(self.line, Line::Mailbox { .. })
    }

    /// Has a thread attend the guest's mailbox, if it has one, as long as it lives.
    fn attend(&mut self, monitor: Monitor) -> io::Result<()> {
        let Line::Mailbox {
            memory, unattended, ..
        } = &mut self.line
        else {
            return Ok(());
        };
        let Some((batches, mut said)) = unattended.take() else {
            return Ok(());
        };
        let mut attendant = Attendant::new(monitor, memory.try_clone()?);
        let console = Arc::clone(&self.console);
        std::thread::spawn(move || {
            // The guest's end is heard as the end of what it says.
            if let Err(error) = attendant.attend(&batches, &mut said) {
                keep_line(&console, format!("QEMU: {error}"));
            }
        });
        Ok(())
    }

    fn start(
        kernel: &Stored,
        accelerator: Accelerator,
        machine: Machine,
        ends: Ends,
    ) -> Result<(Self, Monitor), KernelError> {
        let console = Arc::new(Mutex::new(VecDeque::new()));
        let (keeper, complaints) = Keeper::start(machine).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => PACKAGE_HINT,
                _ => "",
            };
            KernelError::environment(
                &kernel.name,
                &format!("start {PROGRAM}"),
                &error.to_string(),
                hint,
            )
        })?;
        keep_lines(ends.console, &console);
        keep_lines(complaints, &console);
        let (sender, news) = channel();
        let said = ends.said;
        std::thread::spawn(move || listen(said, &sender));
        let guest = Self {
            release: String::new(),
            complaints: Vec::new(),
            line: ends.line,
            news,
            console,
            clock: HostClock::default(),
            taken: BTreeSet::new(),
            keeper,
        };
        let monitor = Monitor::connect(ends.monitor).map_err(|error| {
            // QEMU says more of what it can't do than its monitor.
            let death = guest.death(error.to_string());
            refused(kernel, accelerator, &format!("start {PROGRAM}"), &death)
        })?;
        Ok((guest, monitor))
    }

    fn await_ready(&mut self, limit: Duration) -> Result<(), Death> {
        let end = Instant::now() + limit;
        loop {
            if let News::Ready {
                release,
                complaints,
            } = self.next_before(end, limit)?
            {
                self.release = release;
                self.complaints = complaints;
                return Ok(());
            }
        }
    }

    /// Tells the guest what makes it another than the copies of it, and waits
    /// until its heart beats.
    fn begin(&mut self, beginning: &Beginning, limit: Duration) -> Result<(), Death> {
        let Beginning { now, entropy } = beginning;
        self.order(&Order::Begin {
            now_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            entropy: entropy.clone(),
        })?;
        if self.has_mailbox() {
            // It begins with its first work.
            return Ok(());
        }
        let end = Instant::now() + limit;
        loop {
            match self.next_before(end, limit)? {
                News::Alive(_) => return Ok(()),
                News::Refused(words) => return Err(self.death(words)),
                _ => {}
            }
        }
    }

    fn next_before(&mut self, end: Instant, limit: Duration) -> Result<News, Death> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.death(format!("it was not ready within {limit:?}")));
        }
        self.next(left)
    }

    /// Tells the guest something.
    pub fn order(&mut self, order: &Order) -> Result<(), Death> {
        let mut line = serde_json::to_vec(order)
            .map_err(|error| self.death(format!("its order can't be written down: {error}")))?;
        line.push(b'\n');
        self.send(&line)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Death> {
        let sent = match &mut self.line {
            Line::Port(port) => port.write_all(bytes),
            Line::Mailbox { pending, .. } => {
                pending.extend(bytes);
                Ok(())
            }
        };
        sent.map_err(|error| self.death(format!("it takes no orders: {error}")))
    }

    /// Gives the guest files of the host, each at the same place, and each once.
    pub fn give(&mut self, files: &[PathBuf]) -> Result<(), Death> {
        for path in files {
            if !self.taken.insert(path.clone()) {
                continue;
            }
            let content = std::fs::read(path)
                .map_err(|error| self.death(format!("{}: {error}", path.display())))?;
            self.order(&Order::Take {
                path: path.clone(),
                length: content.len() as u64,
            })?;
            self.send(&content)?;
        }
        Ok(())
    }

    /// What the guest says next, heartbeats aside. One that dies, says nothing
    /// for too long or whose clock runs wrong is an error, and of no more use.
    /// Its heart beats on while something in it hangs: so there is a limit too.
    pub fn listen(&mut self, limit: Duration) -> Result<News, Death> {
        if let Line::Mailbox {
            pending,
            batches,
            memory,
            ..
        } = &mut self.line
        {
            if !pending.is_empty() {
                // Where nobody attends it any longer, it says nothing more.
                let _ = batches.send(std::mem::take(pending));
            }
            let memory = memory
                .try_clone()
                .map_err(|error| self.death(error.to_string()))?;
            return self.listen_to_pulse(&memory, limit);
        }
        let end = Instant::now() + limit;
        loop {
            match self.next(SILENCE_LIMIT)? {
                News::Alive(_) if Instant::now() > end => {
                    return Err(self.death(format!("it lives, but came to nothing in {limit:?}")));
                }
                News::Alive(_) => {}
                news => return Ok(news),
            }
        }
    }

    /// What a guest with a virtual clock says next. Its clock has to go on, however
    /// slow the host is; how far it is on says nothing.
    fn listen_to_pulse(&self, memory: &File, limit: Duration) -> Result<News, Death> {
        let read = || Pulse::read(memory).map_err(|error| self.death(error.to_string()));
        // A busy host gives the emulator little time; what the guest does with it counts.
        let worked = || self.keeper.processor_time();
        let start = worked();
        let first = read()?;
        let (mut last, mut changed) = (first, (Instant::now(), start));
        // When QEMU was last seen to work. It may have worked for long since the clock
        // went on, and then be stopped.
        let mut ran = changed;
        loop {
            match self.news.recv_timeout(PULSE_EVERY) {
                Ok((_, news)) => return Ok(news),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.death("it died".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let pulse = read()?;
            let now = worked();
            if pulse != last || now.saturating_sub(ran.1) > SILENCE_LIMIT / 100 {
                ran = (Instant::now(), now);
            }
            let why = if pulse != last {
                (last, changed) = (pulse, ran);
                None
            } else if now.saturating_sub(changed.1) > HANG_LIMIT {
                Some("its kernel hangs")
            } else if ran.0.elapsed() > SILENCE_LIMIT {
                Some("QEMU does not run")
            } else {
                None
            };
            if let Some(why) = why {
                return Err(self.death(format!(
                    "its clock has stood at {:.1?} for {:.0?}: {why}",
                    pulse.clock,
                    changed.0.elapsed()
                )));
            }
            if now.saturating_sub(start) > limit {
                let passed = last.clock.saturating_sub(first.clock);
                let busy = last.busy_percent(first).unwrap_or(100);
                let what = if busy >= 50 { "it spins" } else { "it waits" };
                return Err(self.death(format!(
                    "{what}: it came to nothing in {limit:?} of QEMU's work, in which \
                     {passed:.1?} passed in it, {busy}% of them busy"
                )));
            }
        }
    }

    fn next(&mut self, limit: Duration) -> Result<News, Death> {
        match self.news.recv_timeout(limit) {
            Ok((heard, News::Alive(guest_ms))) => match self.clock.compare(heard, guest_ms) {
                None => Ok(News::Alive(guest_ms)),
                Some(difference) => Err(self.death(difference)),
            },
            Ok((_, news)) => Ok(news),
            Err(RecvTimeoutError::Timeout) => {
                Err(self.death(format!("it said nothing for {limit:?}")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.death("it died".to_owned())),
        }
    }

    fn death(&self, what: String) -> Death {
        // The console's last words may still be on their way.
        std::thread::sleep(Duration::from_millis(50));
        let console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        Death {
            what,
            console: console.iter().cloned().collect(),
        }
    }

    /// Lets the guest end by itself; an error where it doesn't say that all is
    /// said.
    pub fn power_off(mut self) -> Result<(), Death> {
        if self.has_mailbox() {
            // It stands, and all is said.
            self.keeper.kill();
            return Ok(());
        }
        self.order(&Order::PowerOff)?;
        loop {
            if matches!(self.listen(POWER_OFF_LIMIT)?, News::End) {
                self.keeper.kill();
                return Ok(());
            }
        }
    }
}

impl Booted {
    /// Its kernel's release, as it says itself.
    pub fn release(&self) -> &str {
        &self.guest.release
    }

    /// What its init could not do.
    pub fn complaints(&self) -> &[String] {
        &self.guest.complaints
    }

    /// Stops the guest and gives what copies of it need: the file of its memory,
    /// and that of the state of its devices. Where its clock is virtual, also what the
    /// clock was when it stopped itself.
    pub fn stop(mut self) -> io::Result<(File, File, Option<Duration>)> {
        self.monitor.save(self.devices_inherited)?;
        let stopped = match &self.guest.line {
            Line::Mailbox { memory, .. } => Some(attendant::stopped_at(memory)?),
            Line::Port(_) => None,
        };
        Ok((self.memory, self.devices, stopped))
    }
}

/// The machine of a guest with these files of its memory and its devices, and the host's
/// ends of its lines.
fn machine(
    kernel: &Stored,
    accelerator: Accelerator,
    (memory, devices): (OwnedFd, OwnedFd),
    shares_memory: bool,
) -> Result<(Ends, Machine), KernelError> {
    let failed = at(kernel, "connect a guest");
    let pair = || UnixStream::pair().map_err(&failed);
    let (said, port) = pair()?;
    let (console, serial) = pair()?;
    let (monitor, monitored) = pair()?;
    let (line, connection) = if accelerator.is_virtual() {
        let memory = in_memory(c"mailbox").map_err(&failed)?;
        memory.set_len(MAILBOX_BYTES).map_err(&failed)?;
        let shared = memory.try_clone().map_err(&failed)?;
        let (batches, orders) = channel();
        let line = Line::Mailbox {
            memory,
            pending: Vec::new(),
            batches,
            unattended: Some((orders, port)),
        };
        (line, Connection::Mailbox(shared.into()))
    } else {
        let line = Line::Port(said.try_clone().map_err(&failed)?);
        (line, Connection::Port(port.into()))
    };
    let machine = Machine::new(
        accelerator,
        memory,
        shares_memory,
        devices,
        serial.into(),
        connection,
        monitored.into(),
    );
    let ends = Ends {
        line,
        said,
        console,
        monitor,
    };
    Ok((ends, machine))
}

/// The error of a guest that didn't come up.
fn refused(kernel: &Stored, accelerator: Accelerator, action: &str, death: &Death) -> KernelError {
    let words = format!("{}\n{}", death.what, death.console.join("\n"));
    let hint = if accelerator.is_virtual() {
        "a virtual clock needs a QEMU with TCG and -icount, and a kernel with /dev/mem; \
         --clock real needs neither"
    } else {
        "harness doctor looks at QEMU and KVM"
    };
    KernelError::environment(&kernel.name, action, words.trim_end(), hint)
}

/// A file without a name, which is gone with its last descriptor.
fn in_memory(name: &std::ffi::CStr) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?))
}

/// Keeps the last lines of what is read, on a thread that ends with it.
fn keep_lines(from: impl Read + Send + 'static, kept: &Arc<Mutex<VecDeque<String>>>) {
    let kept = Arc::clone(kept);
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { return };
            let text: String = String::from_utf8_lossy(&line)
                .chars()
                .filter(|letter| !letter.is_control())
                .collect();
            if text.trim().is_empty() {
                continue;
            }
            keep_line(&kept, text);
        }
    });
}

fn keep_line(kept: &Mutex<VecDeque<String>>, line: String) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push_back(line);
    if kept.len() > CONSOLE_LINES {
        kept.pop_front();
    }
}

/// Notes when each piece of news came: whoever takes it may be late.
fn listen(port: UnixStream, news: &Sender<(Instant, News)>) {
    let mut port = BufReader::new(port);
    loop {
        let mut line = String::new();
        if !port.read_line(&mut line).is_ok_and(|length| length > 0) {
            return;
        }
        let mut said = serde_json::from_str(&line)
            .unwrap_or_else(|error| News::Refused(format!("it said {line:?}: {error}")));
        if let News::Kept {
            length, content, ..
        } = &mut said
        {
            let bytes = (*length).min(MOST_KEPT_BYTES);
            let read = (&mut port).take(bytes).read_to_end(content);
            if *length > MOST_KEPT_BYTES || !read.is_ok_and(|read| read as u64 == bytes) {
                return;
            }
        }
        if news.send((Instant::now(), said)).is_err() {
            return;
        }
    }
}

/// The guest's clock beside the host's.
#[derive(Debug, Default)]
struct HostClock {
    first: Option<(Instant, u64)>,
}

impl HostClock {
    /// How the time that has passed in the guest differs from the host's, where
    /// it differs by more than can be.
    fn compare(&mut self, now: Instant, guest_ms: u64) -> Option<String> {
        let (start, guest_start) = *self.first.get_or_insert((now, guest_ms));
        let host = now.duration_since(start);
        let guest = Duration::from_millis(guest_ms.saturating_sub(guest_start));
        (host.abs_diff(guest) > CLOCK_SLACK + host / 10).then(|| {
            format!("its clock runs wrong: {guest:.1?} passed in it and {host:.1?} outside")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_wrong_is_told_from_one_that_is_late() {
        let mut clock = HostClock::default();
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        assert_eq!(clock.compare(at(0.0), 1000), None);
        assert_eq!(clock.compare(at(5.0), 6000), None);
        assert_eq!(clock.compare(at(11.5), 11_000), None);
        let said = clock.compare(at(20.0), 12_200).unwrap();
        assert_eq!(
            said,
            "its clock runs wrong: 11.2s passed in it and 20.0s outside"
        );
        assert!(clock.compare(at(10.0), 60_000).is_some());
    }

    #[test]
    fn the_last_lines_of_a_console_are_kept() {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let lines: Vec<String> = (0..1000)
            .map(|number| format!("line {number}\r\n"))
            .collect();
        keep_lines(io::Cursor::new(lines.concat()), &kept);
        let end = Instant::now() + Duration::from_secs(10);
        while kept
            .lock()
            .unwrap()
            .back()
            .is_none_or(|last| last != "line 999")
        {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
        assert_eq!(kept.lock().unwrap().len(), CONSOLE_LINES);
    }

    #[test]
    fn a_death_ends_with_the_console() {
        let death = Death {
            what: "it died".to_owned(),
            console: vec!["reboot: Power down".to_owned()],
        };
        assert_eq!(
            death.to_string(),
            "the guest gave no result: it died; its console ends with \
             \"reboot: Power down\""
        );
        let death = Death {
            what: "it died".to_owned(),
            console: vec![
                "Kernel panic - not syncing".to_owned(),
                "Call Trace:".to_owned(),
            ],
        };
        assert_eq!(
            death.to_string(),
            "the guest gave no result: it died; its console says \
             \"Kernel panic - not syncing\""
        );
    }
}
