//! A guest: a QEMU process with its port and its console.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use super::KernelError;
use super::cache::Stored;
use super::image::initramfs;
use super::protocol::{News, Order, PORT};

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The guest's memory. What the suites need at most, with room to spare.
const MEMORY_MIB: u32 = 512;

/// Longest boot; emulation on a busy machine takes seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// A KVM that boots no guest within this is useless (some nested ones print
/// nothing at all).
const KVM_BOOT_LIMIT: Duration = Duration::from_secs(10);

/// A guest that says nothing for so long hangs; it has a heartbeat.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// How far the guest's clock may be from the host's: so much, and a tenth of
/// the time. News that is late by less than the first doesn't show.
const CLOCK_SLACK: Duration = Duration::from_secs(2);

/// How much of the console's end is kept.
const CONSOLE_LINES: usize = 40;

/// What runs the guest's code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

impl Accelerator {
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    fn boot_limit(self) -> Duration {
        match self {
            Self::Kvm => KVM_BOOT_LIMIT,
            Self::Tcg => BOOT_LIMIT,
        }
    }

    /// What the kernel is told. The emulated time stamp counter is good and the
    /// kernel would distrust it, and then time runs wrong.
    fn command_line(self) -> &'static str {
        match self {
            Self::Kvm => "console=ttyS0 quiet reboot=t panic=-1",
            Self::Tcg => {
                "console=ttyS0 quiet mitigations=off no_timer_check cryptomgr.notests \
                 reboot=t panic=-1 tsc=reliable clocksource=tsc"
            }
        }
    }
}

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
        if let Some(last) = self.console.last() {
            write!(f, "; its console ends with {last:?}")?;
        }
        Ok(())
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
    /// What runs it.
    pub accelerator: Accelerator,
    orders: UnixStream,
    news: Receiver<News>,
    console: Arc<Mutex<VecDeque<String>>>,
    clock: Clock,
    keeper: Keeper,
}

impl Guest {
    /// Boots a kernel; the guest takes orders when this returns.
    pub fn boot(kernel: &Stored, accelerator: Accelerator) -> Result<Self, KernelError> {
        let error = |action: &str, words: &str, hint: &str| {
            KernelError::environment(&kernel.name, action, words, hint)
        };
        // By this name it can be read even if a build has replaced it since.
        let program = Path::new("/proc/self/exe");
        let initramfs = initramfs(program, &kernel.modules()?)?;
        let initramfs = in_memory(&initramfs)
            .map_err(|io| error("keep the initramfs in memory", &io.to_string(), ""))?;
        let pair = || UnixStream::pair().map_err(|io| error("make a socket", &io.to_string(), ""));
        let (orders, port) = pair()?;
        let (console_end, serial) = pair()?;
        let descriptors = [
            OwnedFd::from(port),
            OwnedFd::from(serial),
            OwnedFd::from(initramfs),
        ];
        let command = command(kernel, accelerator, &descriptors);
        let console = Arc::new(Mutex::new(VecDeque::new()));
        let (keeper, complaints) = Keeper::start(command, descriptors).map_err(|io| {
            let hint = match io.kind() {
                io::ErrorKind::NotFound => "install the package qemu-system-x86",
                _ => "",
            };
            error(&format!("start {PROGRAM}"), &io.to_string(), hint)
        })?;
        keep_lines(console_end, &console);
        keep_lines(complaints, &console);
        let (sender, news) = channel();
        let reader = orders
            .try_clone()
            .map_err(|io| error("listen to the guest", &io.to_string(), ""))?;
        std::thread::spawn(move || listen(reader, &sender));
        let mut guest = Self {
            release: String::new(),
            complaints: Vec::new(),
            accelerator,
            orders,
            news,
            console,
            clock: Clock::default(),
            keeper,
        };
        guest
            .await_ready(accelerator.boot_limit())
            .map_err(|death| {
                error(
                    "boot it",
                    &format!("{}\n{}", death.what, death.console.join("\n")),
                    "harness doctor looks at QEMU and KVM",
                )
            })?;
        Ok(guest)
    }

    fn await_ready(&mut self, limit: Duration) -> Result<(), Death> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.death(format!("it was not ready within {limit:?}")));
            }
            if let News::Ready {
                release,
                complaints,
            } = self.next(left)?
            {
                self.release = release;
                self.complaints = complaints;
                break;
            }
        }
        let mut entropy = vec![0; 32];
        let filled = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut entropy));
        filled.map_err(|error| self.death(format!("/dev/urandom: {error}")))?;
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        self.order(&Order::Begin {
            now_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            entropy,
        })
    }

    /// Tells the guest something.
    pub fn order(&mut self, order: &Order) -> Result<(), Death> {
        let mut line = serde_json::to_vec(order)
            .map_err(|error| self.death(format!("its order can't be written down: {error}")))?;
        line.push(b'\n');
        self.orders
            .write_all(&line)
            .map_err(|error| self.death(format!("it takes no orders: {error}")))
    }

    /// What the guest says next, heartbeats aside. One that dies, says nothing
    /// for too long or whose clock runs wrong is an error, and of no more use.
    pub fn listen(&mut self) -> Result<News, Death> {
        loop {
            match self.next(SILENCE_LIMIT)? {
                News::Alive(_) => {}
                news => return Ok(news),
            }
        }
    }

    fn next(&mut self, limit: Duration) -> Result<News, Death> {
        match self.news.recv_timeout(limit) {
            Ok(News::Alive(guest_ms)) => match self.clock.compare(Instant::now(), guest_ms) {
                None => Ok(News::Alive(guest_ms)),
                Some(difference) => Err(self.death(difference)),
            },
            Ok(news) => Ok(news),
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
        self.order(&Order::PowerOff)?;
        loop {
            if matches!(self.listen()?, News::End) {
                self.keeper.kill();
                return Ok(());
            }
        }
    }
}

/// The command that runs a guest. `descriptors`: the port, the console, the
/// initramfs, by the numbers that they have here.
fn command(kernel: &Stored, accelerator: Accelerator, descriptors: &[OwnedFd; 3]) -> Command {
    let [port, serial, initramfs] = descriptors.each_ref().map(AsRawFd::as_raw_fd);
    let mut command_line = accelerator.command_line().to_owned();
    if let (Accelerator::Tcg, Some(khz)) = (accelerator, host_tsc_khz()) {
        let _ = write!(command_line, " tsc_early_khz={khz}");
    }
    let mut command = Command::new(PROGRAM);
    command
        .args(["-M", "pc", "-smp", "1", "-m", &MEMORY_MIB.to_string()])
        .args(accelerator.arguments())
        // Neither a screen nor a network, and no configuration of the user's.
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(kernel.kernel())
        .args(["-initrd", &format!("/proc/self/fd/{initramfs}")])
        .args(["-append", &command_line])
        .args(["-chardev", &format!("socket,id=console,fd={serial}")])
        .args(["-serial", "chardev:console"])
        .args(["-chardev", &format!("socket,id=port,fd={port}")])
        .args(["-device", "virtio-serial-pci"])
        .args([
            "-device",
            &format!("virtserialport,chardev=port,name={PORT}"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// The frequency of the host's time stamp counter, which the emulated one has:
/// what the kernel has measured, or what the processor is sold as.
fn host_tsc_khz() -> Option<u64> {
    let measured = fs::read_to_string("/sys/devices/system/cpu/cpu0/tsc_freq_khz").ok();
    if let Some(khz) = measured.and_then(|text| text.trim().parse().ok()) {
        return Some(khz);
    }
    measured_tsc_khz()
}

/// Counts the counter over a moment.
#[cfg(target_arch = "x86_64")]
fn measured_tsc_khz() -> Option<u64> {
    const MOMENT: Duration = Duration::from_millis(20);
    let read = || {
        // SAFETY: every x86-64 processor has the instruction; Linux lets
        // programs use it.
        unsafe { core::arch::x86_64::_rdtsc() }
    };
    let (start, first) = (Instant::now(), read());
    std::thread::sleep(MOMENT);
    let (elapsed, last) = (start.elapsed(), read());
    let ticks = u128::from(last.checked_sub(first)?);
    let khz = ticks * 1_000_000 / elapsed.as_nanos().max(1);
    u64::try_from(khz).ok()
}

#[cfg(not(target_arch = "x86_64"))]
fn measured_tsc_khz() -> Option<u64> {
    None
}

/// A file without a name, which is gone with its last descriptor.
fn in_memory(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"initramfs", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    Ok(file)
}

/// Holds QEMU on a thread of its own, which lives as long: the kernel kills a
/// child when the *thread* that started it ends, not the process.
#[derive(Debug)]
struct Keeper {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the process, which inherits the descriptors; also what it
    /// complains of.
    fn start(
        command: Command,
        descriptors: [OwnedFd; 3],
    ) -> io::Result<(Self, std::process::ChildStderr)> {
        let (stop, stopped) = channel::<()>();
        let (sender, started) = channel();
        let thread = std::thread::Builder::new()
            .name("qemu".to_owned())
            .spawn(move || {
                let mut child = match spawn(command, &descriptors) {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = sender.send(Err(error));
                        return;
                    }
                };
                // The guest hangs up only when QEMU's ends are the last ones.
                drop(descriptors);
                let _ = sender.send(
                    child
                        .stderr
                        .take()
                        .ok_or_else(|| io::ErrorKind::Other.into()),
                );
                // Ends when told to, or when the guest is dropped.
                let _ = stopped.recv();
                let _ = child.kill();
                let _ = child.wait();
            })?;
        let complaints = started
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that keeps it panicked")))?;
        let keeper = Self {
            stop,
            thread: Some(thread),
        };
        Ok((keeper, complaints))
    }

    fn kill(&mut self) {
        // One that has ended hears nothing.
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(mut command: Command, descriptors: &[OwnedFd; 3]) -> io::Result<Child> {
    let inherited = descriptors.each_ref().map(AsRawFd::as_raw_fd);
    let parent = Pid::this();
    // SAFETY: between fork and exec only system calls are made, nothing is
    // allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // Had the parent died before, nobody would send it.
            if getppid() != parent {
                return Err(io::ErrorKind::Interrupted.into());
            }
            for descriptor in inherited {
                keep_over_exec(descriptor)?;
            }
            Ok(())
        });
    }
    command.spawn()
}

fn keep_over_exec(descriptor: i32) -> io::Result<()> {
    // SAFETY: F_SETFD changes a flag of a descriptor that the caller holds.
    match unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
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
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(text);
            if kept.len() > CONSOLE_LINES {
                kept.pop_front();
            }
        }
    });
}

fn listen(port: UnixStream, news: &Sender<News>) {
    for line in BufReader::new(port).lines() {
        let Ok(line) = line else { return };
        let said = serde_json::from_str(&line)
            .unwrap_or_else(|error| News::Refused(format!("it said {line:?}: {error}")));
        if news.send(said).is_err() {
            return;
        }
    }
}

/// The guest's clock beside the host's.
#[derive(Debug, Default)]
struct Clock {
    first: Option<(Instant, u64)>,
}

impl Clock {
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

/// What runs guests here: KVM where a guest booted with it once, which is
/// remembered for this QEMU, this kernel and this processor.
pub fn accelerator(kernel: &Stored, cache: &Path) -> Accelerator {
    let record = cache.join("kvm.json");
    let here = fingerprint();
    let known: Option<(String, bool)> = fs::read(&record)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let works = match known {
        Some((there, works)) if there == here => works,
        _ => {
            let usable = File::options()
                .read(true)
                .write(true)
                .open("/dev/kvm")
                .is_ok();
            let works = usable && Guest::boot(kernel, Accelerator::Kvm).is_ok();
            // Not remembered: it is asked again.
            let _ = serde_json::to_vec(&(here, works)).map(|text| fs::write(&record, text));
            works
        }
    };
    if works {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    }
}

fn fingerprint() -> String {
    let qemu = Command::new(PROGRAM)
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find(|line| line.starts_with("model name"))
        .unwrap_or_default();
    let writable = File::options().write(true).open("/dev/kvm").is_ok();
    format!(
        "{}|{}|{processor}|{writable}",
        qemu.lines().next().unwrap_or_default(),
        crate::lab::namespace::kernel_release()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_wrong_is_told_from_one_that_is_late() {
        let mut clock = Clock::default();
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
    fn the_counters_frequency_is_one_of_a_processor() {
        if cfg!(target_arch = "x86_64") {
            let khz = measured_tsc_khz().unwrap();
            assert!((100_000..20_000_000).contains(&khz), "{khz}");
        }
    }

    #[test]
    fn the_last_lines_of_a_console_are_kept() {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let lines: Vec<String> = (0..100)
            .map(|number| format!("line {number}\r\n"))
            .collect();
        keep_lines(io::Cursor::new(lines.concat()), &kept);
        let end = Instant::now() + Duration::from_secs(10);
        while kept
            .lock()
            .unwrap()
            .back()
            .is_none_or(|last| last != "line 99")
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
            console: vec!["Kernel panic - not syncing".to_owned()],
        };
        assert_eq!(
            death.to_string(),
            "the guest gave no result: it died; its console ends with \
             \"Kernel panic - not syncing\""
        );
    }
}
