//! The harness as a process.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::patience::{HANG, until_within};

pub const HARNESS: &str = env!("CARGO_BIN_EXE_harness");

/// A suite's file in a directory of its own.
pub struct Suite {
    directory: TempDir,
    path: PathBuf,
}

/// Writes a suite; its ids start with `live/suite/`.
pub fn suite(text: &str) -> Suite {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live/suite.yaml");
    fs::create_dir(directory.path().join("live")).unwrap();
    fs::write(&path, text).unwrap();
    Suite { directory, path }
}

impl Suite {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path beside the suite.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// How a harness ended and what it said.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Holds the exit status against what is expected; shows all otherwise.
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(
            self.status,
            Some(status),
            "standard output:\n{}\nstandard error:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// The last line of standard output.
    pub fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }
}

/// A running harness. Dropping it kills it; its watcher, where it has one,
/// then puts the machine back.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

/// A cache without kernels, so that nothing runs in a guest by itself.
pub const NO_CACHE: &str = "/nonexistent";

impl Running {
    /// With no kernel in its cache.
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::start_with(arguments, &[("XDG_CACHE_HOME", NO_CACHE.as_ref())])
    }

    /// With these variables set.
    pub fn start_with<A: AsRef<OsStr>>(
        arguments: impl IntoIterator<Item = A>,
        variables: &[(&str, &OsStr)],
    ) -> Self {
        let mut child = Command::new(HARNESS)
            .args(arguments)
            .envs(variables.iter().copied())
            // `suites` and the like are the workspace's.
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdout: child.stdout.take().map(read_in_background),
            stderr: child.stderr.take().map(read_in_background),
            child,
        }
    }

    /// The processes that it has started in this role: `actor`, `watcher`.
    pub fn children(&self, role: &str) -> Vec<i32> {
        let mut children = self.children_of_any_role();
        children.retain(|pid| {
            arguments(*pid)
                .get(1)
                .is_some_and(|argument| argument == role)
        });
        children
    }

    /// The processes that it has started.
    pub fn children_of_any_role(&self) -> Vec<i32> {
        let parent = format!("PPid:\t{}", self.child.id());
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter(|process| {
                let status = fs::read_to_string(process.path().join("status"));
                status.is_ok_and(|status| status.lines().any(|line| line == parent))
            })
            .filter_map(|process| process.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Whether a process, once started by a harness, still is one.
    pub fn is_harness(pid: i32) -> bool {
        ["actor", "watcher"]
            .map(str::to_owned)
            .iter()
            .any(|role| arguments(pid).get(1) == Some(role))
    }

    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The number of its process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn wait(self) -> Ended {
        self.wait_within(HANG)
    }

    pub fn wait_within(mut self, limit: Duration) -> Ended {
        let status = until_within(limit, "the harness ends", || self.child.try_wait().unwrap());
        let text = |reader: Option<JoinHandle<String>>| reader.unwrap().join().unwrap();
        Ended {
            status: status.code(),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the harness to its end.
pub fn harness<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    Running::start(arguments).wait()
}

fn read_in_background(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The command line of a process; empty for one that is gone or a zombie.
pub fn arguments(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .split('\0')
        .map(str::to_owned)
        .collect()
}
