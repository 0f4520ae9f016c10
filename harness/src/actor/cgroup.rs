//! A cgroup (v2) of an actor's own, with limits of its memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::suite::scenario::Limits;

/// A cgroup for one process, below the root. Dropping it removes it.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

/// What the kernel says of a cgroup's memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// memory.current: all that is charged to it.
    pub current_bytes: u64,
    /// `sock` of memory.stat: what of it is the buffers of sockets.
    pub sock_bytes: u64,
    /// `oom_kill` of memory.events: processes killed for the limit.
    pub oom_kill: u64,
    /// `high` of memory.events: how often it was over memory.high and made to reclaim.
    pub high: u64,
}

impl Memory {
    /// By the names of [`crate::observation::CGROUP_FIELDS`].
    pub fn fields(&self) -> [(&'static str, u64); 4] {
        [
            ("current_bytes", self.current_bytes),
            ("sock_bytes", self.sock_bytes),
            ("oom_kill", self.oom_kill),
            ("high", self.high),
        ]
    }
}

impl Cgroup {
    /// Makes a cgroup with limits and puts a process in it.
    pub fn with(name: &str, limits: Limits, pid: u32) -> io::Result<Self> {
        let cgroup = Self(Path::new("/sys/fs/cgroup").join(format!("harness-{pid}-{name}")));
        fs::create_dir(&cgroup.0)?;
        for (file, limit) in limits.files() {
            fs::write(cgroup.0.join(file), limit.to_string())?;
        }
        fs::write(cgroup.0.join("cgroup.procs"), pid.to_string())?;
        Ok(cgroup)
    }

    /// What its memory is now. Sockets that outlive the process are still charged.
    pub fn memory(&self) -> io::Result<Memory> {
        let read = |file: &str| fs::read_to_string(self.0.join(file));
        let events = read("memory.events")?;
        Ok(Memory {
            current_bytes: number(read("memory.current")?.trim())?,
            sock_bytes: number(value(&read("memory.stat")?, "sock"))?,
            oom_kill: number(value(&events, "oom_kill"))?,
            high: number(value(&events, "high"))?,
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A child that the actor forked may still be in it; the guest, which is
        // the only place for it, ends soon.
        let _ = fs::remove_dir(&self.0);
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no number")))
}

/// The value of a key in a file of `key value` lines; empty where it isn't there.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .map_or("", |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_whole_name() {
        // Linux 6.12, shortened.
        let events = "low 0\nhigh 0\nmax 41\noom 1\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(number(value(events, "oom_kill")).unwrap(), 1);
        assert_eq!(
            number(value("anon 4096\nsock 11608064\n", "sock")).unwrap(),
            11_608_064
        );
        assert!(number(value(events, "sock")).is_err());
    }
}
