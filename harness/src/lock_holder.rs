//! Says which process a lock is waited for.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use crate::output;

/// Says on standard error which other process holds the lock on a file, once for each.
pub fn say(file: &File) {
    static SAID: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
    let Ok(metadata) = file.metadata() else {
        return;
    };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let others = holders(&locks, metadata.dev(), metadata.ino())
        .into_iter()
        .filter(|pid| *pid != std::process::id());
    for pid in others {
        if SAID
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pid)
        {
            output::say_error(&format!(
                "waits for the harness of pid {pid}, which sets sysctls of the machine or runs \
                 scenarios that these would disturb"
            ));
        }
    }
}

/// The processes that hold a lock on a file (proc_locks(5)): those that wait for one have
/// an arrow.
fn holders(locks: &str, device: u64, inode: u64) -> Vec<u32> {
    let major = nix::sys::stat::major(device);
    let minor = nix::sys::stat::minor(device);
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let held = locks.lines().filter(|line| !line.contains("->"));
    held.filter_map(|line| {
        let mut words = line.split_whitespace().skip(4);
        let pid = words.next()?.parse().ok()?;
        (words.next()? == file).then_some(pid)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_those_that_do_not_wait() {
        let locks = "1: FLOCK  ADVISORY  WRITE 77 00:1a:1234 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 78 00:1a:1234 0 EOF\n\
                     2: POSIX  ADVISORY  READ 79 fe:01:99 0 EOF\nnonsense\n";
        let device = nix::sys::stat::makedev(0, 0x1a);
        assert_eq!(holders(locks, device, 1234), [77]);
        assert_eq!(holders(locks, device, 99), Vec::<u32>::new());
    }

    #[test]
    fn this_process_is_found_as_the_holder_of_its_lock() {
        let file = tempfile::tempfile().unwrap();
        file.lock().unwrap();
        let metadata = file.metadata().unwrap();
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let found = holders(&locks, metadata.dev(), metadata.ino());
        assert_eq!(found, [std::process::id()], "{locks}");
    }
}
