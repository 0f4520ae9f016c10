//! A network namespace that a test looks into from outside.
//!
//! The number of a namespace is used again as soon as it is gone, so its
//! absence from /proc proves little. That the devices of a namespace that is
//! held here have vanished proves that the one with their other ends is gone.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use advisor_facts::sock_diag::{SockDiag, TcpSocket};
use harness::lab::destroy::destroy;
use harness::lab::namespace::Namespace;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;

/// A descriptor of a namespace, which keeps it.
pub struct Netns(OwnedFd);

impl Netns {
    /// Of a host of a lab.
    pub fn of_host(namespace: &Namespace) -> Self {
        Self(namespace.as_fd().try_clone_to_owned().unwrap())
    }

    /// Of a process.
    pub fn of_process(pid: i32) -> Self {
        Self(File::open(format!("/proc/{pid}/ns/net")).unwrap().into())
    }

    /// The test's own.
    pub fn initial() -> Self {
        Self(File::open("/proc/self/ns/net").unwrap().into())
    }

    /// The number that /proc gives it.
    pub fn number(&self) -> u64 {
        fstat(&self.0).unwrap().st_ino
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// The names of its devices.
    pub fn devices(&self) -> Vec<String> {
        let text = self.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        text.lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect()
    }

    /// Its TCP sockets, those without a process too.
    pub fn tcp_sockets(&self) -> Vec<TcpSocket> {
        self.run(|| SockDiag::open().unwrap().tcp_sockets().unwrap())
    }

    /// Ends its TCP sockets, so that none goes on counting for the kernel.
    pub fn destroy_tcp_sockets(&self) {
        let sockets = self.tcp_sockets();
        self.run(|| destroy(&sockets).unwrap());
    }

    /// Where a thread or a descriptor of another process refers to it, or a
    /// mount does.
    pub fn references(&self) -> Vec<PathBuf> {
        let name = PathBuf::from(format!("net:[{}]", self.number()));
        let is_it = |path: &PathBuf| path.read_link().is_ok_and(|target| target == name);
        let own = std::process::id().to_string();
        let mut found = Vec::new();
        for process in entries(Path::new("/proc")) {
            let name = process.file_name().unwrap_or_default().to_string_lossy();
            if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            for thread in entries(&process.join("task")) {
                found.extend(Some(thread.join("ns/net")).filter(is_it));
            }
            found.extend(entries(&process.join("fd")).into_iter().filter(is_it));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        if mounts.contains(&*name.to_string_lossy()) {
            found.push("/proc/self/mountinfo".into());
        }
        found
    }
}

/// What is in a directory; nothing where it went away meanwhile.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = directory.read_dir() else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).collect()
}
