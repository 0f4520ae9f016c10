//! The packets on each host's link in a run and the log of its actors, for
//! `--keep`.
//!
//! Held in memory, and written only if the run is not as expected.

use std::fmt::Write as _;
use std::io::{self, IoSliceMut, PipeReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};

use crate::lab::packets::Ledger;
use crate::lab::relay::{capture_socket, dropped};
use crate::lab::topology::ETH0;
use crate::lab::{Lab, LabError};

/// Time between two batches of packets: what a link carries meanwhile fits in a socket.
const BATCH: u8 = 25;

/// Bytes kept of each packet: its headers and the start of its data.
const SNAP_BYTES: usize = 256;

/// Bytes kept for a host at most; later packets are only counted.
pub const MOST_BYTES: usize = 64 << 20;
/// The same in a guest, which has less memory.
pub const MOST_BYTES_IN_GUEST: usize = 8 << 20;
/// The same where they are only drawn.
pub const MOST_BYTES_DRAWN: usize = 3 << 20;

/// pcap's magic number for times in nanoseconds, and its version 2.4
/// (draft-ietf-opsawg-pcap).
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;

/// The packets of one host's link, as a pcap file.
#[derive(Debug)]
struct Packets {
    host: String,
    file: Vec<u8>,
    most_bytes: usize,
    /// Not kept, or dropped by the kernel because the socket was full.
    left_out: u64,
    /// Of these, those that came faster than they were read.
    missed: u64,
}

/// Writes a file of what is kept.
pub type Write<'a> = &'a mut dyn FnMut(&Path, &[u8]) -> io::Result<()>;

/// A capture on every host's link.
#[derive(Debug)]
pub struct Capture {
    packets: Vec<Packets>,
    /// The socket of each, while they are read.
    sockets: Vec<OwnedFd>,
    /// The hosts in the order of the suite.
    hosts: Vec<String>,
    /// Where packets are counted by what they are.
    ledger: Arc<Ledger>,
    /// Whether packets are read as they come, because the run goes by them.
    at_once: bool,
}

/// The packets that were captured on one host's link.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// The host.
    pub host: &'a str,
    /// A pcap file.
    pub pcap: &'a [u8],
    /// Packets that are not in it.
    pub left_out: u64,
}

impl Capture {
    /// Starts to listen; packets queue in the sockets from now on.
    pub fn open(lab: &Lab, most_bytes: usize, at_once: bool) -> Result<Self, LabError> {
        let now = clock_gettime(ClockId::CLOCK_REALTIME);
        lab.ledger.begin(now.map_or(Duration::ZERO, Duration::from));
        let sockets = lab.hosts().iter().map(|namespace| {
            namespace
                .run(|| {
                    let socket = capture_socket(ETH0)?;
                    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
                    Ok(socket)
                })
                .and_then(|socket| socket)
                .map_err(|error| LabError::new(&namespace.host, "capture on its link", error, ""))
        });
        let packets = lab.hosts().iter().map(|namespace| Packets {
            host: namespace.host.clone(),
            file: header(),
            most_bytes,
            left_out: 0,
            missed: 0,
        });
        Ok(Self {
            sockets: sockets.collect::<Result<_, _>>()?,
            packets: packets.collect(),
            hosts: lab.hosts().iter().map(|known| known.host.clone()).collect(),
            ledger: Arc::clone(&lab.ledger),
            at_once,
        })
    }

    /// The first link of which packets were lost: they came faster than they were read.
    pub fn lost(&self) -> Option<String> {
        let packets = self.packets.iter().find(|packets| packets.missed > 0)?;
        Some(format!("packets of {}'s link were missed", packets.host))
    }

    /// Reads packets until the other end of the pipe is closed, then those still queued.
    /// They are read in batches: a wake for each packet would slow the run down. Where none
    /// came since the last look, the next one is waited for.
    pub fn take(mut self, running: &PipeReader) -> io::Result<Self> {
        let mut is_quiet = false;
        loop {
            let links = self.sockets.iter().filter(|_| self.at_once || is_quiet);
            let mut watched: Vec<PollFd> =
                std::iter::once(PollFd::new(running.as_fd(), PollFlags::empty()))
                    .chain(links.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)))
                    .collect();
            let limit = if is_quiet {
                PollTimeout::NONE
            } else {
                BATCH.into()
            };
            poll(&mut watched, limit)?;
            let is_over = watched[0]
                .revents()
                .is_some_and(|events| events.contains(PollFlags::POLLHUP));
            let hosts: Vec<&str> = self.hosts.iter().map(String::as_str).collect();
            is_quiet = true;
            for (packets, socket) in self.packets.iter_mut().zip(&self.sockets) {
                is_quiet &= !packets.take(socket, &self.ledger, &hosts)?;
            }
            if is_over {
                for (packets, socket) in self.packets.iter_mut().zip(&self.sockets) {
                    packets.missed = u64::from(dropped(socket)?);
                    packets.left_out += packets.missed;
                }
                // To close one takes the kernel a grace period, some 16 ms: beside the run.
                let sockets = std::mem::take(&mut self.sockets);
                std::thread::spawn(move || drop(sockets));
                return Ok(self);
            }
        }
    }

    /// The packets of each host.
    pub fn packets(&self) -> impl Iterator<Item = Captured<'_>> {
        self.packets.iter().map(|packets| Captured {
            host: &packets.host,
            pcap: &packets.file,
            left_out: packets.left_out,
        })
    }

    /// Writes HOST.pcap for each host, and the actors' log.
    pub fn write(&self, directory: &Path, log: &[String], write: Write) -> io::Result<()> {
        let mut text = String::new();
        for packets in &self.packets {
            let path = directory.join(format!("{}.pcap", packets.host));
            write(&path, &packets.file)?;
            if packets.left_out > 0 {
                let host = &packets.host;
                let _ = writeln!(text, "{host}.pcap: {} packets left out", packets.left_out);
            }
        }
        for line in log {
            let _ = writeln!(text, "{line}");
        }
        write(&directory.join("actors.log"), text.as_bytes())
    }
}

fn header() -> Vec<u8> {
    let mut file = MAGIC.to_ne_bytes().to_vec();
    file.extend(VERSION.iter().flat_map(|number| number.to_ne_bytes()));
    // Time zone and accuracy, which no reader uses.
    file.extend([0; 8]);
    for number in [u32::try_from(SNAP_BYTES).unwrap_or(u32::MAX), ETHERNET] {
        file.extend(number.to_ne_bytes());
    }
    file
}

impl Packets {
    /// Takes the packets that came; whether there were any.
    fn take(&mut self, socket: &OwnedFd, ledger: &Ledger, hosts: &[&str]) -> io::Result<bool> {
        let mut buffer = [0; SNAP_BYTES];
        let mut any = false;
        loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let mut control = nix::cmsg_space!(libc::timespec);
            // MSG_TRUNC: returns the packet's length, not the bytes read.
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            let (length, time, is_others) = match recvmsg::<LinkAddr>(
                socket.as_raw_fd(),
                &mut slices,
                Some(&mut control),
                flags,
            ) {
                Ok(message) => (
                    message.bytes,
                    time_of(message.cmsgs()?),
                    // Of a link that is cut, what nobody takes comes to the device.
                    message
                        .address
                        .is_some_and(|from| from.pkttype() == libc::PACKET_OTHERHOST),
                ),
                Err(nix::errno::Errno::EAGAIN) => return Ok(any),
                Err(errno) => return Err(errno.into()),
            };
            any = true;
            let kept = &buffer[..length.min(SNAP_BYTES)];
            let [seconds, nanoseconds] = time;
            let at = Duration::new(seconds.into(), nanoseconds);
            if !is_others {
                ledger.note(&self.host, hosts, at, kept);
            }
            if self.most_bytes == 0 {
                continue;
            }
            if self.file.len() + kept.len() > self.most_bytes {
                self.left_out += 1;
                continue;
            }
            let lengths = [kept.len(), length].map(|length| u32::try_from(length).unwrap_or(0));
            for number in time.into_iter().chain(lengths) {
                self.file.extend(number.to_ne_bytes());
            }
            self.file.extend(kept);
        }
    }
}

/// The time of a packet in seconds and nanoseconds.
fn time_of(messages: impl Iterator<Item = ControlMessageOwned>) -> [u32; 2] {
    for message in messages {
        if let ControlMessageOwned::ScmTimestampns(time) = message {
            let part = |number: i64| u32::try_from(number).unwrap_or(0);
            return [part(time.tv_sec()), part(time.tv_nsec())];
        }
    }
    [0; 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_pcap_s() {
        let header = header();
        assert_eq!(header.len(), 24);
        assert_eq!(header[..4], 0xa1b2_3c4d_u32.to_ne_bytes());
        assert_eq!(header[20..], 1_u32.to_ne_bytes());
    }
}
