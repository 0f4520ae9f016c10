//! The kernel's log lines of a run, from /dev/kmsg.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// The kernel log from a moment on.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// Opens the log at its end. Needs CAP_SYSLOG where
    /// kernel.dmesg_restrict is 1.
    pub fn open_at_end() -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// The lines about TCP since then, without their time stamps. The kernel
    /// rate-limits them (net_ratelimit), so a line that is not here may still
    /// have been due.
    pub fn lines(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(length) => {
                    let record = String::from_utf8_lossy(&record[..length]);
                    // "priority,sequence,microseconds,flags;text\n KEY=value"
                    let text = record.split_once(';').map_or("", |(_, text)| text);
                    let text = text.lines().next().unwrap_or_default();
                    if text.contains("TCP") || text.contains("socket") {
                        lines.push(text.to_owned());
                    }
                }
                // EPIPE: the ring overtook us; the next read goes on behind.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return lines,
            }
        }
    }
}
