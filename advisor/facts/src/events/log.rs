//! The kernel's log as it grows (/dev/kmsg).

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use nix::libc;

/// A line of the kernel's log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogLine {
    /// When, by the kernel's own clock: about CLOCK_MONOTONIC.
    pub at: Duration,
    /// What it says.
    pub text: String,
}

/// Follows the log.
#[derive(Debug)]
pub struct Log {
    file: File,
    buffer: Vec<u8>,
}

impl Log {
    /// Follows it from now on.
    #[expect(
        clippy::disallowed_methods,
        reason = "opened for reading, without waiting for a line"
    )]
    pub fn open() -> io::Result<Self> {
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")?;
        file.seek(io::SeekFrom::End(0))?;
        Ok(Self {
            file,
            // The longest record (CONSOLE_EXT_LOG_MAX).
            buffer: vec![0; 8192],
        })
    }

    /// Hands over up to `limit` lines that are new; true where lines were overwritten
    /// before they were read.
    pub fn drain(&mut self, limit: usize, each: &mut dyn FnMut(LogLine)) -> io::Result<bool> {
        let mut lost = false;
        for _ in 0..limit {
            match self.file.read(&mut self.buffer) {
                Ok(length) => {
                    let record = String::from_utf8_lossy(&self.buffer[..length]);
                    parse(&record).into_iter().for_each(&mut *each);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => lost = true,
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `6,1234,5678900,-;TCP: too many orphaned sockets`: of a line of the kernel, and not
/// of a program that writes to the log.
fn parse(record: &str) -> Option<LogLine> {
    let (head, text) = record.split_once(';')?;
    let mut head = head.split(',');
    let priority: u32 = head.next()?.parse().ok()?;
    let at_us = head.nth(1)?.parse().ok()?;
    // The facility: 0 is the kernel's.
    if priority >> 3 != 0 {
        return None;
    }
    Some(LogLine {
        at: Duration::from_micros(at_us),
        text: text.lines().next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_own_lines_are_handed_over() {
        assert_eq!(
            parse("6,339,5140900,-;TCP: too many orphaned sockets\n SUBSYSTEM=net\n"),
            Some(LogLine {
                at: Duration::from_micros(5_140_900),
                text: "TCP: too many orphaned sockets".to_owned(),
            })
        );
        for record in [
            "",
            ";",
            "30,339,5140900,-;systemd: TCP",
            "6,339;a",
            "x,1,2,-;a",
            "6,1,2,-;",
        ] {
            assert_eq!(parse(record), None, "{record}");
        }
    }
}
