//! What the processes of a command use, as /proc says.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use nix::unistd::{SysconfVar, sysconf};

/// What a process and all that descend from it use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// How many there are.
    pub processes: u64,
    /// Open descriptors of all of them.
    pub descriptors: u64,
    /// Resident memory of all of them; what they share counts for each.
    pub rss_bytes: u64,
    /// The largest resident memory that one of them ever had.
    pub max_rss_bytes: u64,
    /// Processor time in user mode, of those that have ended too, in the steps of
    /// the kernel's clock (10 ms on most).
    pub user_ms: u64,
    /// The same in the kernel.
    pub system_ms: u64,
}

/// What of /proc/PID/stat is needed.
struct Process {
    parent: i32,
    /// utime, stime, cutime, cstime: in ticks.
    times: [u64; 4],
    pages: u64,
}

impl Usage {
    /// Of the processes below `root`, which is not counted itself.
    pub fn below(root: i32) -> io::Result<Self> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // One that is gone meanwhile uses nothing.
            let text = fs::read_to_string(entry.path().join("stat"));
            if let Some(process) = text.ok().as_deref().and_then(parse) {
                all.insert(pid, process);
            }
        }
        let unit = |name| {
            let value = sysconf(name).ok().flatten();
            value
                .and_then(|value| u64::try_from(value).ok())
                .unwrap_or(1)
        };
        let (tick, page) = (unit(SysconfVar::CLK_TCK), unit(SysconfVar::PAGE_SIZE));
        let mut usage = Self::default();
        let mut ticks = [0, 0];
        if let Some(reaped) = all.get(&root) {
            ticks = [reaped.times[2], reaped.times[3]];
        }
        for (pid, process) in all.iter().filter(|(pid, _)| is_below(**pid, root, &all)) {
            usage.processes += 1;
            usage.rss_bytes += process.pages * page;
            ticks[0] += process.times[0] + process.times[2];
            ticks[1] += process.times[1] + process.times[3];
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
            usage.descriptors += descriptors.map_or(0, |entries| entries.count() as u64);
            usage.max_rss_bytes = usage.max_rss_bytes.max(highest_rss(*pid));
        }
        [usage.user_ms, usage.system_ms] = ticks.map(|ticks| ticks * 1000 / tick);
        Ok(usage)
    }

    /// By the names of [`crate::observation::USAGE_FIELDS`].
    pub fn fields(&self) -> [(&'static str, u64); 6] {
        [
            ("processes", self.processes),
            ("descriptors", self.descriptors),
            ("rss_bytes", self.rss_bytes),
            ("max_rss_bytes", self.max_rss_bytes),
            ("user_ms", self.user_ms),
            ("system_ms", self.system_ms),
        ]
    }
}

fn is_below(mut pid: i32, root: i32, all: &BTreeMap<i32, Process>) -> bool {
    // Parents have parents, and no process is its own ancestor; a number that was
    // given out anew between two reads could make it look so.
    for _ in 0..all.len() {
        match all.get(&pid) {
            Some(process) if process.parent == root => return true,
            Some(process) => pid = process.parent,
            None => return false,
        }
    }
    false
}

/// A line of /proc/PID/stat (proc(5)). The name in it, in brackets, may hold
/// anything.
fn parse(text: &str) -> Option<Process> {
    let (_, rest) = text.rsplit_once(')')?;
    // The first of these is the third field of the line, the state.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse().ok();
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        times: [number(14)?, number(15)?, number(16)?, number(17)?],
        pages: number(24)?,
    })
}

/// VmHWM, in bytes.
fn highest_rss(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::USAGE_FIELDS;

    #[test]
    fn the_fields_are_those_of_the_vocabulary() {
        let names = Usage::default().fields().map(|(name, _)| name);
        assert_eq!(names, USAGE_FIELDS);
    }

    #[test]
    fn a_line_of_stat_is_read_whatever_the_process_is_called() {
        let text =
            "12 (a) b) S 7 12 12 0 -1 0 0 0 0 0 3 4 5 6 20 0 1 0 99 1000 42 18446744073709551615";
        let process = parse(text).unwrap();
        assert_eq!(
            (process.parent, process.times, process.pages),
            (7, [3, 4, 5, 6], 42)
        );
        assert!(parse("12 (cut").is_none() && parse("12 (cut) S 7 1").is_none());
    }

    #[test]
    fn children_are_counted_and_what_they_hold() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let usage = Usage::below(own).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // Other tests have children of their own.
        assert!(usage.processes >= 1 && usage.descriptors >= 3, "{usage:?}");
        // It may have begun just now.
        assert!(usage.max_rss_bytes > 0, "{usage:?}");
    }
}
