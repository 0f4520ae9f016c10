//! What the kernel's log says of the limits of TCP: the one place where the two
//! are told apart by name.

use std::io;
use std::time::Duration;

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::read::{FactError, Unseen, read_text};
use crate::root::Root;

/// Of too many orphans: tcp_check_oom in net/ipv4/tcp.c of Linux.
pub const TOO_MANY_ORPHANS: &str = "too many orphaned sockets";
/// Of too much memory: the same function.
pub const OUT_OF_MEMORY: &str = "out of memory -- consider tuning tcp_mem";

/// The lines about the limits of TCP, each by its time since boot. The kernel
/// limits their rate, so that one may stand for hundreds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct KernelLog {
    /// That there are too many orphans: tcp_max_orphans fired.
    pub too_many_orphans: Vec<Duration>,
    /// That too much memory is in use: tcp_mem fired.
    pub out_of_memory: Vec<Duration>,
}

impl KernelLog {
    /// Reads the log of this host, or the file `kernel-log` of a recorded one,
    /// which is what dmesg(1) prints. Where it may not be read that is added to
    /// `unseen`.
    pub(crate) fn read(root: &Root, unseen: &mut Vec<Unseen>) -> Result<Option<Self>, FactError> {
        match root {
            Root::Recorded(root) => {
                let text = read_text(&root.join("kernel-log"))?;
                Ok(text.map(|text| Self::parse(&text)))
            }
            Root::Live => match ring_buffer() {
                Ok(bytes) => Ok(Some(Self::parse(&String::from_utf8_lossy(&bytes)))),
                Err(error) => {
                    unseen.push(Unseen {
                        what: "the kernel's log".to_owned(),
                        why: error.to_string(),
                    });
                    Ok(None)
                }
            },
        }
    }

    /// The lines of a log; every other one is passed over, whatever it is.
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            let times = if line.contains(TOO_MANY_ORPHANS) {
                &mut log.too_many_orphans
            } else if line.contains(OUT_OF_MEMORY) {
                &mut log.out_of_memory
            } else {
                continue;
            };
            // Without a time (printk.time=0) it is as old as the boot.
            times.push(time(line).unwrap_or_default());
        }
        log
    }
}

/// The time of a line: `<6>[ 4406.521142] text`.
fn time(line: &str) -> Option<Duration> {
    let (_, rest) = line.split_once('[')?;
    let (seconds, _) = rest.split_once(']')?;
    Duration::try_from_secs_f64(seconds.trim().parse().ok()?).ok()
}

/// The most that is read of the log, its newest part, in bytes: a host with
/// hundreds of CPUs may keep many megabytes of it.
const LOG_LIMIT_BYTES: usize = 1 << 20;

/// The kernel's log; reading it so takes nothing out of it.
fn ring_buffer() -> io::Result<Vec<u8>> {
    const READ_ALL: libc::c_int = 3;
    const SIZE_BUFFER: libc::c_int = 10;
    // SAFETY: this asks for a size and takes no buffer.
    let size = unsafe { libc::klogctl(SIZE_BUFFER, std::ptr::null_mut(), 0) };
    let size = usize::try_from(size).map_err(|_| io::Error::last_os_error())?;
    let size = size.min(LOG_LIMIT_BYTES);
    let mut bytes = vec![0_u8; size];
    let length = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
    // SAFETY: the buffer has `length` bytes, and no more are written to it.
    let read = unsafe { libc::klogctl(READ_ALL, bytes.as_mut_ptr().cast(), length) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_limits_are_told_apart_by_name() {
        let log = KernelLog::parse(
            "<6>[ 4406.521142] TCP: too many orphaned sockets\n\
             [    7.000001] TCP: out of memory -- consider tuning tcp_mem\n\
             TCP: too many orphaned sockets\n\
             [x] TCP: too many orphaned sockets\n\
             [ 1e999] TCP: too many orphaned sockets\n\
             <4>[ 4407.1] net_ratelimit: 217 callbacks suppressed\n\u{1b}[31m\n",
        );
        assert_eq!(
            log.too_many_orphans,
            [
                Duration::from_micros(4_406_521_142),
                Duration::ZERO,
                Duration::ZERO,
                Duration::ZERO
            ]
        );
        assert_eq!(log.out_of_memory, [Duration::from_micros(7_000_001)]);
    }

    #[test]
    fn this_kernels_log_is_read_or_refused() {
        let mut unseen = Vec::new();
        let log = KernelLog::read(&Root::Live, &mut unseen).unwrap();
        assert_eq!(log.is_some(), unseen.is_empty());
    }
}
