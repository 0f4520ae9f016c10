//! Lines of the kernel's log that are about TCP.
//!
//! They are evidence only where they are there: the kernel limits their rate,
//! and the log is a ring that loses its oldest lines.

use std::io;

use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

/// A line of the kernel's log.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KernelLogLine {
    /// Time since boot, in seconds.
    pub uptime_s: f64,
    /// The text, without its time.
    pub text: String,
}

/// What the lines begin with that say something of TCP, each with the kernel
/// source that prints it.
const BEGINNINGS: &[&str] = &[
    // tcp_check_oom in net/ipv4/tcp.c
    "TCP: too many orphaned sockets",
    "TCP: out of memory -- consider tuning tcp_mem",
    // the same before 3.x
    "Out of socket memory",
    // inet_twsk_alloc's callers: tcp_time_wait in net/ipv4/tcp_minisocks.c
    "TCP: time wait bucket table overflow",
    // tcp_syn_flood_action in net/ipv4/tcp_input.c
    "TCP: request_sock_TCP: Possible SYN flooding",
    "TCP: request_sock_TCPv6: Possible SYN flooding",
    "request_sock_TCP: Possible SYN flooding",
    "request_sock_TCPv6: Possible SYN flooding",
    // nf_conntrack_core.c
    "nf_conntrack: table full, dropping packet",
    "nf_conntrack: nf_conntrack: table full, dropping packet",
];

/// The most that is read of the log, its newest part, in bytes.
const LOG_BYTES: usize = 256 << 10;
/// The newest lines that are kept.
const LINES: usize = 100;

/// SYSLOG_ACTION_READ_ALL (include/linux/syslog.h): reads the log and leaves it
/// as it is.
const READ_ALL: libc::c_int = 3;

/// Reads the log of the running kernel.
pub fn read() -> io::Result<Vec<KernelLogLine>> {
    let mut log = vec![0_u8; LOG_BYTES];
    let length = libc::c_int::try_from(log.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel writes at most `length` bytes to `log`, which has them.
    let read = unsafe { libc::klogctl(READ_ALL, log.as_mut_ptr().cast(), length) };
    let read = usize::try_from(Errno::result(read)?).unwrap_or(0);
    Ok(parse(&String::from_utf8_lossy(&log[..read])))
}

/// The lines of a log that are about TCP: `<4>[   12.345678] TCP: ...`.
pub(super) fn parse(log: &str) -> Vec<KernelLogLine> {
    let mut lines: Vec<_> = log.lines().filter_map(parse_line).collect();
    lines.drain(..lines.len().saturating_sub(LINES));
    lines
}

fn parse_line(line: &str) -> Option<KernelLogLine> {
    let line = match line.strip_prefix('<') {
        Some(rest) => rest.split_once('>')?.1,
        None => line,
    };
    let (uptime, text) = line.strip_prefix('[')?.split_once(']')?;
    // CONFIG_PRINTK_CALLER: the thread or the CPU that printed it, `[  T123]`.
    let text = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.1,
        None => text,
    };
    let text = text.strip_prefix(' ')?;
    BEGINNINGS
        .iter()
        .any(|beginning| text.starts_with(beginning))
        .then_some(())?;
    Some(KernelLogLine {
        uptime_s: uptime.trim().parse().ok()?,
        text: text.to_owned(),
    })
}

impl KernelLogLine {
    /// The line without what is of this host alone: ports and addresses.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let text = BEGINNINGS
            .iter()
            .find(|beginning| self.text.starts_with(**beginning));
        Self {
            uptime_s: self.uptime_s,
            text: text.copied().unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_tcp_are_found_among_others() {
        let lines = parse(
            "<6>[    0.000000] Linux version 6.12\n\
             <6>[   12.500000] TCP: too many orphaned sockets\n\
             [  100.000001][  T123] TCP: out of memory -- consider tuning tcp_mem\n\
             <5>[  100.5][    C1] TCP: request_sock_TCP: Possible SYN flooding on port 10.0.0.1:80.\n\
             <6>[ x ] TCP: too many orphaned sockets\n\
             a process wrote: TCP: too many orphaned sockets\n",
        );
        let seen: Vec<_> = lines
            .iter()
            .map(|line| (line.uptime_s, &*line.text))
            .collect();
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!(seen[0], (12.5, "TCP: too many orphaned sockets"));
        assert_eq!(
            lines[2].redacted().text,
            "TCP: request_sock_TCP: Possible SYN flooding"
        );
    }

    #[test]
    fn the_newest_lines_are_kept() {
        let log: Vec<_> = (0..LINES + 5)
            .map(|second| format!("[{second}.0] Out of socket memory"))
            .collect();
        let lines = parse(&log.join("\n"));
        assert_eq!(lines.len(), LINES);
        assert!((lines[0].uptime_s - 5.0).abs() < f64::EPSILON);
    }
}
