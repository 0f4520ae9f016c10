//! The emulator: its process, what it is told, and whether it may use KVM.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{Pid, getppid};

use super::Guest;
use super::mailbox::MAILBOX_BYTES;
use super::protocol::PORT;
use crate::kernels::cache::{Stored, file_identity};

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// What to install for it.
pub const PACKAGE_HINT: &str = "install the package qemu-system-x86";

/// The guest's memory in bytes. What the suites need at most, with room to
/// spare.
pub const MEMORY_BYTES: u64 = 512 << 20;

/// Longest boot; emulation on a busy machine takes seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// A KVM that boots no guest within this is useless (some nested ones print
/// nothing at all).
const KVM_BOOT_LIMIT: Duration = Duration::from_secs(10);

/// What runs the guest's code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's emulation.
    Tcg,
    /// QEMU's emulation with a virtual clock: each instruction takes the same time,
    /// and when the guest waits, the clock jumps to its next timer.
    Icount,
}

/// Virtual nanoseconds of an instruction, as a power of two. Fixed, because a shift
/// that adapts to the host (`auto`) makes no two runs alike.
pub const ICOUNT_SHIFT: u32 = 3;

/// The rest of `-icount`: a waiting guest does not wait for the host's clock. What is
/// recorded is thrown away. But while QEMU records, its main loop and its processor
/// take turns; else the main loop can move the clock on by itself before the
/// instructions that have just run are counted, and the clock goes too far by as much.
const ICOUNT: &str = "sleep=off,rr=record,rrfile=/dev/null";

/// Where the guest's real-time clock starts, at the boot that a state is made from.
const RTC_BASE: &str = "2026-01-01T00:00:00";

/// An emulated processor takes as long for a byte of `rep movsb` as for eight of `rep
/// movsq`. The kernel copies and clears by bytes where the processor says that it is fast.
const WORDS: &str = "-erms,-fsrm";

impl Accelerator {
    fn arguments(self) -> String {
        match self {
            Self::Kvm => "-accel kvm -cpu host".to_owned(),
            Self::Tcg => format!("-accel tcg,thread=multi -cpu max,{WORDS}"),
            // QEMU draws random numbers for the guest in several places; all come
            // from its seed, or are not offered.
            Self::Icount => format!(
                "-accel tcg,thread=single -icount shift={ICOUNT_SHIFT},{ICOUNT} \
                 -cpu max,{WORDS},-rdrand,-rdseed -rtc clock=vm,base={RTC_BASE} -seed 1"
            ),
        }
    }

    /// Whether the guest's clock is virtual.
    pub fn is_virtual(self) -> bool {
        self == Self::Icount
    }

    /// The longest boot that is waited for.
    pub fn boot_limit(self) -> Duration {
        match self {
            Self::Kvm => KVM_BOOT_LIMIT,
            Self::Tcg | Self::Icount => BOOT_LIMIT,
        }
    }

    /// What the kernel is told. The emulated time stamp counter is good and the
    /// kernel would distrust it, and then time runs wrong. QEMU keeps what it has
    /// translated by its address: where each process had other addresses
    /// (`norandmaps`), each was translated anew, which took half of the time.
    fn command_line(self) -> String {
        if self == Self::Kvm {
            return "console=ttyS0 quiet reboot=t panic=-1".to_owned();
        }
        let mut line = "console=ttyS0 quiet mitigations=off no_timer_check cryptomgr.notests \
                        init_on_alloc=0 reboot=t panic=-1 tsc=reliable clocksource=tsc norandmaps"
            .to_owned();
        let khz = match self {
            // The counter counts virtual nanoseconds.
            Self::Icount => Some(1_000_000),
            _ => host_tsc_khz(),
        };
        if let Some(khz) = khz {
            let _ = write!(line, " tsc_early_khz={khz}");
        }
        if self == Self::Icount {
            // The kernel leaves the mailbox alone.
            let _ = write!(line, " memmap={MAILBOX_BYTES}${MEMORY_BYTES}");
        }
        line
    }
}

/// What a guest and the host send each other their messages by.
#[derive(Debug)]
pub enum Connection {
    /// A virtio-serial port.
    Port(OwnedFd),
    /// Shared memory, see `super::mailbox`.
    Mailbox(OwnedFd),
}

/// What a QEMU process is started with: its arguments, and descriptors that it
/// inherits by the numbers that they have here.
#[derive(Debug)]
pub struct Machine {
    arguments: Vec<OsString>,
    descriptors: Vec<OwnedFd>,
    /// The descriptor of the file for the state of the devices.
    devices: i32,
}

impl Machine {
    /// A machine with this memory (a file of [`MEMORY_BYTES`]), a console, a line to
    /// the host and a monitor. What of it concerns the guest must be the same at the
    /// boot and at each restore from it. Where `shares_memory`, what the guest writes
    /// to its memory is in the file; otherwise it is a copy of its own. `devices` is the
    /// file that the state of the devices is saved to, or restored from.
    pub fn new(
        accelerator: Accelerator,
        memory: OwnedFd,
        shares_memory: bool,
        devices: OwnedFd,
        console: OwnedFd,
        line: Connection,
        monitor: OwnedFd,
    ) -> Self {
        let mut machine = Self {
            arguments: Vec::new(),
            descriptors: Vec::new(),
            devices: devices.as_raw_fd(),
        };
        machine.inherit(devices);
        let memory = machine.inherit(memory);
        let console = machine.inherit(console);
        let monitor = machine.inherit(monitor);
        let share = if shares_memory { "on" } else { "off" };
        // Neither a screen nor a network, and no configuration of the user's.
        machine.add("-nodefaults -no-user-config -display none -no-reboot");
        machine.add(&format!(
            "-object memory-backend-file,id=memory,size={MEMORY_BYTES},share={share},\
             mem-path=/proc/self/fd/{memory}"
        ));
        machine.add(&accelerator.arguments());
        machine.add(&format!("-chardev socket,id=console,fd={console}"));
        machine.add("-serial chardev:console -smp 1");
        match line {
            Connection::Port(port) => {
                let port = machine.inherit(port);
                machine.add("-M pc,memory-backend=memory");
                machine.add(&format!("-m {}M", MEMORY_BYTES >> 20));
                machine.add(&format!("-chardev socket,id=port,fd={port}"));
                machine.add("-device virtio-serial-pci");
                machine.add(&format!("-device virtserialport,chardev=port,name={PORT}"));
            }
            Connection::Mailbox(mailbox) => {
                let mailbox = machine.inherit(mailbox);
                machine.add("-M pc");
                machine.add(&format!("-m {}M", (MEMORY_BYTES + MAILBOX_BYTES) >> 20));
                machine.add(&format!(
                    "-object memory-backend-file,id=mailbox,size={MAILBOX_BYTES},share=on,\
                     mem-path=/proc/self/fd/{mailbox}"
                ));
                // Memory of its own right behind the guest's: in a device's window, a
                // saved state would not find it again.
                machine.add("-numa node,memdev=memory -numa node,memdev=mailbox");
                machine.add("-device pvpanic-pci -action panic=pause");
            }
        }
        machine.add(&format!("-chardev socket,id=monitor,fd={monitor}"));
        machine.add("-mon chardev=monitor,mode=control");
        machine
    }

    /// Boots a kernel with this initramfs.
    pub fn boot(&mut self, kernel: &Stored, accelerator: Accelerator, initramfs: OwnedFd) {
        let initramfs = self.inherit(initramfs);
        let command_line = accelerator.command_line();
        self.add(&format!("-initrd /proc/self/fd/{initramfs}"));
        self.arguments
            .extend(["-kernel".into(), kernel.kernel().into_os_string()]);
        self.arguments
            .extend(["-append".into(), command_line.into()]);
    }

    /// Waits until the monitor says to read the state. The state comes without a
    /// description of the machine, and the guest stands when it has been read.
    pub fn restore(&mut self) {
        self.add("-incoming defer -S -M suppress-vmdesc=on");
        self.add("-global migration.send-configuration=off");
    }

    /// The descriptor of the file for the state of the devices, here and in QEMU.
    pub fn devices(&self) -> i32 {
        self.devices
    }

    fn add(&mut self, arguments: &str) {
        self.arguments
            .extend(arguments.split(' ').map(OsString::from));
    }

    fn inherit(&mut self, descriptor: OwnedFd) -> i32 {
        let number = descriptor.as_raw_fd();
        self.descriptors.push(descriptor);
        number
    }
}

/// The frequency of the host's time stamp counter, which the emulated one has:
/// what the kernel says, or the median of a few measurements.
fn host_tsc_khz() -> Option<u64> {
    let measured = fs::read_to_string("/sys/devices/system/cpu/cpu0/tsc_freq_khz").ok();
    if let Some(khz) = measured.and_then(|text| text.trim().parse().ok()) {
        return Some(khz);
    }
    let mut measured: Vec<u64> = (0..5).filter_map(|_| measured_tsc_khz()).collect();
    measured.sort_unstable();
    measured.get(measured.len() / 2).copied()
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
    let (start, first) = (std::time::Instant::now(), read());
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

/// Holds QEMU on a thread of its own, which lives as long: the kernel kills a
/// child when the *thread* that started it ends, not the process.
#[derive(Debug)]
pub struct Keeper {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
    pid: Pid,
}

impl Keeper {
    /// Starts the process; also what it complains of.
    pub fn start(machine: Machine) -> io::Result<(Self, std::process::ChildStderr)> {
        let (stop, stopped) = channel::<()>();
        let (sender, started) = channel();
        let thread = std::thread::Builder::new()
            .name("qemu".to_owned())
            .spawn(move || {
                let mut child = match spawn(&machine) {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = sender.send(Err(error));
                        return;
                    }
                };
                // The guest hangs up only when QEMU's ends are the last ones.
                drop(machine);
                let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
                let stderr = child.stderr.take();
                let _ = sender.send(
                    stderr
                        .map(|stderr| (pid, stderr))
                        .ok_or_else(|| io::ErrorKind::Other.into()),
                );
                // Ends when told to, or when the guest is dropped.
                let _ = stopped.recv();
                let _ = child.kill();
                let _ = child.wait();
            })?;
        let (pid, complaints) = started
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that keeps it panicked")))?;
        let keeper = Self {
            stop,
            thread: Some(thread),
            pid,
        };
        Ok((keeper, complaints))
    }

    /// The processor time that it has used; none once it is gone.
    pub fn processor_time(&self) -> Duration {
        let used = clock_getcpuclockid(self.pid).and_then(ClockId::now);
        used.map_or(Duration::ZERO, Duration::from)
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
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

fn spawn(machine: &Machine) -> io::Result<Child> {
    let mut command = Command::new(PROGRAM);
    command
        .args(&machine.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let inherited: Vec<i32> = machine.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
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
            for descriptor in &inherited {
                keep_over_exec(*descriptor)?;
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

/// What runs guests here: KVM where a guest booted with it once, which is
/// remembered for this QEMU, this kernel and this processor.
pub fn accelerator(kernel: &Stored, cache: &Path) -> Accelerator {
    let record = cache.join("kvm.json");
    let here = format!("{}|{}", identity(), may_use_kvm());
    let known: Option<(String, bool)> = fs::read(&record)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let works = match known {
        Some((there, works)) if there == here => works,
        _ => {
            let works = may_use_kvm() && Guest::boot(kernel, Accelerator::Kvm).is_ok();
            // A kernel that boots in neither way says nothing about KVM.
            let is_sure = works || !may_use_kvm() || Guest::boot(kernel, Accelerator::Tcg).is_ok();
            if is_sure {
                // Not remembered: it is asked again.
                let _ = serde_json::to_vec(&(here, works)).map(|text| fs::write(&record, text));
            }
            works
        }
    };
    if works {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    }
}

/// Whether the device is there and may be opened. It may work all the same, or
/// not.
pub fn may_use_kvm() -> bool {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok()
}

/// What was found out about KVM, if anything was.
pub fn known_of_kvm(cache: &Path) -> Option<bool> {
    let text = fs::read(cache.join("kvm.json")).ok()?;
    let (there, works): (String, bool) = serde_json::from_slice(&text).ok()?;
    (there == format!("{}|{}", identity(), may_use_kvm())).then_some(works)
}

/// The file that [`PROGRAM`] is, by the PATH.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(PROGRAM))
        .find(|file| file.is_file())
}

/// This QEMU on this processor under this kernel: what a saved guest and the
/// answer about KVM are good for, and no other.
pub fn identity() -> String {
    let qemu = find().map_or_else(String::new, |path| file_identity(&path));
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of_processor = |key: &str| {
        information
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default()
            .to_owned()
    };
    format!(
        "{qemu}|{}|{}|{}",
        crate::lab::namespace::kernel_release(),
        of_processor("model name"),
        of_processor("flags"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_frequency_is_one_of_a_processor() {
        if cfg!(target_arch = "x86_64") {
            let khz = measured_tsc_khz().unwrap();
            assert!((100_000..20_000_000).contains(&khz), "{khz}");
        }
    }
}
