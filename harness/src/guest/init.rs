//! The guest's side. The harness is the first process there: it makes the
//! system usable, starts itself anew to take orders from the host, and powers
//! off once that process is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::time::{ClockId, clock_gettime, clock_settime};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::Value;

use super::initramfs::{INIT, MODULE_LIST};
use super::mailbox::{Mailbox, Orders, Words};
use super::protocol::{HEARTBEAT, News, Order, PORT, PULSE};
use crate::lab::namespace::{kernel_release, write_sysctl};

/// The variable in which init tells its child what went wrong.
const COMPLAINTS: &str = "HARNESS_INIT_COMPLAINTS";

/// Open files that a process in the guest may have: an init gets 4096 from the
/// kernel, and a flood needs more.
const OPEN_FILES: u64 = 65_536;

/// How long the port may take to appear.
const PORT_TRIES: u32 = 500;
const PORT_PAUSE: Duration = Duration::from_millis(10);

/// Whether this process is the first one of a guest. A container's first
/// process has the number 1 as well, but not this name.
pub fn is_init() -> bool {
    std::process::id() == 1 && std::env::args_os().next().is_some_and(|name| name == INIT)
}

/// The life of init. It must not end: the kernel would panic.
pub fn run() -> ! {
    let complaints = set_up();
    for complaint in &complaints {
        eprintln!("init: {complaint}");
    }
    let child = Command::new("/proc/self/exe")
        .arg("guest")
        .env(COMPLAINTS, complaints.join("\n"))
        .env("RUST_BACKTRACE", "1")
        .spawn();
    match child {
        Ok(child) => reap_until(i32::try_from(child.id()).unwrap_or(0)),
        Err(error) => eprintln!("init: cannot start the harness: {error}"),
    }
    loop {
        // It comes back only where it failed.
        let Err(errno) = reboot(RebootMode::RB_POWER_OFF);
        eprintln!("init: cannot power off: {errno}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Reaps what dies, children that others left behind too, until `process` has.
fn reap_until(process: i32) {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::empty())) {
            Ok(status) if status.pid() == Some(Pid::from_raw(process)) => {
                eprintln!("init: the harness ended: {status:?}");
                return;
            }
            Err(nix::errno::Errno::ECHILD) => return,
            _ => {}
        }
    }
}

/// Mounts, modules and limits; what went wrong, if anything. Something that
/// isn't needed may be missing, so nothing of it is the end.
fn set_up() -> Vec<String> {
    let mut complaints = Vec::new();
    let mut note = |what: &str, result: Result<(), String>| {
        if let Err(words) = result {
            complaints.push(format!("{what}: {words}"));
        }
    };
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ] {
        let flags = MsFlags::empty();
        let mounted = mount(Some(kind), place, Some(kind), flags, None::<&str>);
        note(place, mounted.map_err(|errno| errno.to_string()));
    }
    // Half of the memory is the kernel's own limit, of which the harness may take
    // most; what commands take along has to fit as well.
    let remounted = mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REMOUNT,
        Some("size=80%"),
    );
    note("/", remounted.map_err(|errno| errno.to_string()));
    let list = fs::read_to_string(MODULE_LIST).unwrap_or_default();
    for module in list.lines() {
        note(module, load(module).map_err(|error| error.to_string()));
    }
    note(
        "cgroup.subtree_control",
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
            .map_err(|error| error.to_string()),
    );
    note(
        "RLIMIT_NOFILE",
        setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)
            .map_err(|errno| errno.to_string()),
    );
    // The kernel is the harness's own: no line of its log is to be left out.
    note(
        "net.core.message_cost",
        write_sysctl("net.core.message_cost", "0").map_err(|error| error.to_string()),
    );
    complaints
}

fn load(module: &str) -> io::Result<()> {
    let file = File::open(module)?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// `harness guest`: does what the host sends until the host says to power off or
/// is gone. `work` does a job, sends its results, and says why it could not.
pub fn serve(work: impl Fn(Value, &HostPort) -> Result<(), String>) -> io::Result<()> {
    let (orders, words, mailbox) = open_line()?;
    let host = HostPort(Arc::new(Mutex::new(words)));
    let complaints = std::env::var(COMPLAINTS).unwrap_or_default();
    // Heard when it asks for orders: a guest with a mailbox must stop just once before a
    // state of it is saved.
    let ready = News::Ready {
        release: kernel_release(),
        complaints: complaints.lines().map(str::to_owned).collect(),
    };
    drop(host.say(&ready, &[])?);
    let mut port = BufReader::new(orders);
    let mut line = String::new();
    while port.read_line(&mut line)? > 0 {
        let order = serde_json::from_str(&line);
        line.clear();
        match order {
            Ok(Order::Begin { now_ns, entropy }) => {
                if let Err(error) = begin(now_ns, &entropy) {
                    host.tell(&News::Refused(format!(
                        "set the clock and the random numbers: {error}"
                    )))?;
                }
                // Its heart beats as long as this process lives.
                if let Some(mailbox) = mailbox.clone() {
                    std::thread::spawn(move || {
                        loop {
                            mailbox.pulse(uptime_ms(), idle_ms());
                            std::thread::sleep(PULSE);
                        }
                    });
                } else {
                    let heart = host.clone();
                    std::thread::spawn(move || {
                        while heart.tell(&News::Alive(uptime_ms())).is_ok() {
                            std::thread::sleep(HEARTBEAT);
                        }
                    });
                }
            }
            Ok(Order::Take { path, length }) => {
                if let Err(error) = take(&path, &mut (&mut port).take(length)) {
                    let shown = path.display();
                    host.tell(&News::Refused(format!("put {shown} there: {error}")))?;
                }
            }
            Ok(Order::Work(job)) => {
                if let Err(words) = work(job, &host) {
                    host.tell(&News::Refused(words))?;
                }
            }
            Ok(Order::PowerOff) => return host.tell(&News::End),
            Err(error) => host.tell(&News::Refused(format!("it isn't understood: {error}")))?,
        }
    }
    Ok(())
}

/// The writing side of the port, for several threads.
#[derive(Clone)]
pub struct HostPort(Arc<Mutex<Box<dyn Write + Send>>>);

impl HostPort {
    /// Sends a job's result, or how far it is.
    pub fn result(&self, result: &impl Serialize) -> io::Result<()> {
        self.tell(&News::Result(serde_json::to_value(result)?))
    }

    /// Sends a file to keep; `path` is where the host writes it.
    pub fn keep(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let kept = News::Kept {
            path: path.to_owned(),
            length: content.len() as u64,
            content: Vec::new(),
        };
        self.tell_with(&kept, content)
    }

    fn tell(&self, news: &News) -> io::Result<()> {
        self.tell_with(news, &[])
    }

    /// Says something that content follows.
    fn tell_with(&self, news: &News, content: &[u8]) -> io::Result<()> {
        self.say(news, content)?.flush()
    }

    /// Says something that a mailbox keeps until it is flushed or until orders are asked
    /// for.
    fn say(
        &self,
        news: &News,
        content: &[u8],
    ) -> io::Result<MutexGuard<'_, Box<dyn Write + Send>>> {
        let mut line = serde_json::to_vec(news)?;
        line.push(b'\n');
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(&line)?;
        port.write_all(content)?;
        Ok(port)
    }
}

/// Where orders come from, where what is said goes, and the mailbox if the guest
/// has one.
type HostLine = (Box<dyn Read>, Box<dyn Write + Send>, Option<Arc<Mailbox>>);

fn open_line() -> io::Result<HostLine> {
    if let Some(mailbox) = Mailbox::open()? {
        let orders = Orders::of(Arc::clone(&mailbox));
        let words = Words(Arc::clone(&mailbox));
        return Ok((Box::new(orders), Box::new(words), Some(mailbox)));
    }
    let port = open_port()?;
    let words = port.try_clone()?;
    Ok((Box::new(port), Box::new(words), None))
}

/// Writes a file, and reads its content to the end in any case. What is there is
/// in use: it stays.
fn take(path: &Path, content: &mut impl Read) -> io::Result<()> {
    let written = (|| {
        if path.exists() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(path)?;
        io::copy(content, &mut file).map(|_| ())
    })();
    io::copy(content, &mut io::sink())?;
    written
}

/// Finds the port by its name; the kernel may still be making it.
fn open_port() -> io::Result<File> {
    let named =
        |port: &Path| fs::read_to_string(port.join("name")).is_ok_and(|name| name.trim() == PORT);
    for _ in 0..PORT_TRIES {
        let found: Option<PathBuf> = fs::read_dir("/sys/class/virtio-ports")
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|port| named(port));
        if let Some(name) = found.as_deref().and_then(Path::file_name) {
            let device = Path::new("/dev").join(name);
            return OpenOptions::new().read(true).write(true).open(device);
        }
        std::thread::sleep(PORT_PAUSE);
    }
    Err(io::Error::other(format!(
        "no virtio-serial port {PORT:?} appeared"
    )))
}

fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// How long the processor has had nothing to do.
fn idle_ms() -> u64 {
    // The second number, in seconds (proc_uptime(5)).
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let idle = text.split_whitespace().nth(1);
    let idle: f64 = idle.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    u64::try_from(Duration::from_secs_f64(idle.max(0.0)).as_millis()).unwrap_or(u64::MAX)
}

/// Makes this guest another than the one that it may be a copy of.
fn begin(now_ns: u64, entropy: &[u8]) -> io::Result<()> {
    let now = TimeSpec::from_duration(Duration::from_nanos(now_ns));
    clock_settime(ClockId::CLOCK_REALTIME, now)?;
    let random = OpenOptions::new().write(true).open("/dev/urandom")?;
    // struct rand_pool_info (linux/random.h): the bits that it is worth, the
    // bytes, and then these.
    let length = i32::try_from(entropy.len()).unwrap_or(0);
    let mut pool = (length * 8).to_ne_bytes().to_vec();
    pool.extend(length.to_ne_bytes());
    pool.extend(entropy);
    // SAFETY: the kernel reads the eight bytes of the header and as many behind
    // them as the header says, which are there.
    unsafe { add_entropy(random.as_raw_fd(), pool.as_ptr().cast()) }?;
    // SAFETY: it takes no argument.
    unsafe { reseed(random.as_raw_fd()) }?;
    Ok(())
}

mod requests {
    // linux/random.h: RNDADDENTROPY and RNDRESEEDCRNG. The first is declared
    // with two ints, whatever follows them.
    nix::ioctl_write_ptr!(add_entropy, b'R', 3, [i32; 2]);
    nix::ioctl_none!(reseed, b'R', 7);
}
use requests::{add_entropy, reseed};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_the_host_is_no_init() {
        assert!(!is_init());
    }
}
