//! Anonymous network namespaces, and reading their counters and sockets.
//!
//! A namespace has no name under /run/netns: it lives as long as a descriptor
//! of it, so it ends with the harness, even with SIGKILL.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use advisor_facts::counters::Counters;
use advisor_facts::sock_diag::{SockDiag, TcpSocket};
use advisor_facts::sockstat::Sockstat;
use nix::sched::{CloneFlags, setns, unshare};

use super::LabError;

/// A network namespace with its proc files and its sock_diag socket open.
///
/// The files and the socket belong to the namespace they were opened in, so
/// they can be read from any thread.
#[derive(Debug)]
pub struct Namespace {
    /// The host of the suite that it stands for.
    pub host: String,
    descriptor: OwnedFd,
    netstat: File,
    snmp: File,
    sockstat: File,
    devices: File,
    sock_diag: Mutex<SockDiag>,
}

impl Namespace {
    /// Makes a new namespace and leaves the calling thread in it.
    pub fn enter_new(host: &str) -> Result<Self, LabError> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
            LabError::new(
                host,
                "make a network namespace",
                errno.into(),
                "run as root, or allow user namespaces (sysctl user.max_user_namespaces, \
                 kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
            )
        })?;
        let open = |path: &str| {
            File::open(path)
                .map_err(|error| LabError::new(host, &format!("open {path}"), error, ""))
        };
        Ok(Self {
            host: host.to_owned(),
            descriptor: open("/proc/thread-self/ns/net")?.into(),
            netstat: open("/proc/thread-self/net/netstat")?,
            snmp: open("/proc/thread-self/net/snmp")?,
            sockstat: open("/proc/thread-self/net/sockstat")?,
            devices: open("/proc/thread-self/net/dev")?,
            sock_diag: Mutex::new(SockDiag::open().map_err(|error| {
                LabError::new(
                    host,
                    "open a sock_diag socket",
                    error,
                    "the kernel needs CONFIG_INET_DIAG",
                )
            })?),
        })
    }

    /// Runs `work` in the namespace, on a thread of its own so that the
    /// caller's namespace stays.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(self.descriptor.as_fd(), CloneFlags::CLONE_NEWNET)?;
                    Ok(work())
                })
                .join()
                .map_err(|_| io::Error::other("the thread in the namespace panicked"))?
        })
    }

    /// The counters of /proc/net/netstat and /proc/net/snmp now.
    pub fn counters(&self) -> Result<Counters, LabError> {
        let mut counters = self.parse(&self.netstat, "/proc/net/netstat", Counters::parse)?;
        counters.merge(self.parse(&self.snmp, "/proc/net/snmp", Counters::parse)?);
        Ok(counters)
    }

    /// The gauges of /proc/net/sockstat now.
    pub fn sockstat(&self) -> Result<Sockstat, LabError> {
        self.parse(&self.sockstat, "/proc/net/sockstat", Sockstat::parse)
    }

    /// Packets that the namespace's devices have dropped on sending
    /// (`tx_dropped`). Packets lost by netem or the relay are not among them.
    pub fn dropped_on_sending(&self) -> Result<u64, LabError> {
        let text = read_again(&self.devices)
            .map_err(|error| LabError::new(&self.host, "read /proc/net/dev", error, ""))?;
        // "name: 8 columns received, 8 columns sent"; the 4th of those sent.
        let dropped = |line: &str| {
            let (_, columns) = line.split_once(':')?;
            columns.split_whitespace().nth(8 + 3)?.parse::<u64>().ok()
        };
        Ok(text.lines().filter_map(dropped).sum())
    }

    /// The TCP sockets now.
    pub fn sockets(&self) -> Result<Vec<TcpSocket>, LabError> {
        self.sock_diag
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tcp_sockets()
            .map_err(|error| {
                LabError::new(&self.host, "dump the sockets", io::Error::other(error), "")
            })
    }

    fn parse<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        file: &File,
        path: &str,
        parse: impl FnOnce(&str, &Path) -> Result<T, E>,
    ) -> Result<T, LabError> {
        let error = |error| LabError::new(&self.host, &format!("read {path}"), error, "");
        let text = read_again(file).map_err(error)?;
        parse(&text, Path::new(path)).map_err(|wrong| error(io::Error::other(wrong)))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Reads a proc file from its start through a descriptor that stays open.
fn read_again(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; 32 << 10];
    let mut filled = 0;
    loop {
        let count = file.read_at(&mut bytes[filled..], filled as u64)?;
        if count == 0 {
            break;
        }
        filled += count;
        if filled == bytes.len() {
            bytes.resize(filled * 2, 0);
        }
    }
    bytes.truncate(filled);
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// Writes a sysctl of the calling thread's network namespace.
pub fn write_sysctl(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(sysctl_path(name), value)
}

/// Reads a sysctl of the calling thread's network namespace; runs of white
/// space become one space.
pub fn read_sysctl(name: &str) -> io::Result<String> {
    let text = std::fs::read_to_string(sysctl_path(name))?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn sysctl_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

/// The kernel's release, as `uname -r` gives it.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}
