//! The two ends of a wire: packet sockets.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};
use std::{io, ptr, thread};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, send, setsockopt, sockopt,
};
use nix::time::{ClockId, clock_gettime};

use super::filter::Filter;
use super::queue::{Counts, Passed, Queue};
use crate::impairment::Impairment;

/// Receive buffer in bytes. The kernel doubles it and counts its own overhead,
/// so that about 50,000 full frames fit: a relay that is not scheduled for a
/// while must lose none.
const RECEIVE_BUFFER: usize = 64 << 20;

/// Frames taken before the other wires have their turn.
const BURST: usize = 64;

/// Bursts taken at the end, at most: more than the receive buffer holds.
const LAST_BURSTS: usize = 4096;

/// Retries of sending while the kernel has no buffer.
const RETRIES: usize = 100;

/// AF_PACKET, as an address has it.
const FAMILY: libc::sa_family_t = 17;

/// ETH_P_ALL.
const ALL_PROTOCOLS: u16 = 3;
const NO_PROTOCOL: u16 = 0;

/// One direction of an impaired link.
#[derive(Debug)]
pub struct Wire {
    /// The host at its end.
    pub towards: String,
    /// From [`receive_socket`]: where the frames come out of the router.
    pub receive: OwnedFd,
    /// From [`send_socket`]: the device whose other end is the host's.
    pub send: OwnedFd,
    /// The impairment between the two.
    pub impairment: Impairment,
}

/// Counts of a wire's frames.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WireCounts {
    /// The host at its end.
    pub towards: String,
    /// What the impairment did; its `sent` left the link, and includes
    /// `link_down` and what of `overrun` couldn't be sent.
    pub impairment: Counts,
    /// Still on their way when the relay stopped.
    pub held: u64,
    /// Not sent because the device was down.
    pub link_down: u64,
    /// Lost by the relay itself: before it received them, or because the kernel
    /// did not accept them. The run is disturbed unless this is 0.
    pub overrun: u64,
    /// Why the kernel did not accept the first of them.
    pub refused: Option<String>,
    /// The frame that left latest, where that was later than `Late::is_too_much` allows.
    pub late: Option<Late>,
}

/// How late a frame left the relay: its own thread was stopped or not scheduled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Late {
    /// After its time.
    pub by: Duration,
    /// What the link was to take.
    pub asked: Duration,
}

/// What a relay may always be late by: no timer of TCP is shorter (TCP_RTO_MIN).
const NOT_LATE: Duration = Duration::from_millis(200);

/// The part of what was asked that a relay may be late by.
const SHARE: u32 = 4;

impl Late {
    /// Whether the run is no sample.
    pub fn is_too_much(self) -> bool {
        self.by > NOT_LATE.max(self.asked / SHARE)
    }
}

/// A socket that receives what arrives at a device of the calling thread's
/// network namespace. Needs CAP_NET_RAW.
pub fn receive_socket(interface_index: u32) -> io::Result<OwnedFd> {
    let socket = packet_socket()?;
    set_option(&socket, libc::PACKET_IGNORE_OUTGOING, 1)?;
    // A frame waits in the socket while the relay is not scheduled.
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    // Beyond net.core.rmem_max needs CAP_NET_ADMIN; up to it, nothing. A buffer
    // that turns out too small shows as an overrun.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    // Bound last: a packet socket receives from its bind on.
    bind(&socket, interface_index, ALL_PROTOCOLS)?;
    Ok(socket)
}

/// A socket that sees what arrives at and what leaves a device of the calling
/// thread's network namespace. Needs CAP_NET_RAW.
pub fn capture_socket(interface_index: u32) -> io::Result<OwnedFd> {
    let socket = packet_socket()?;
    // As above; a capture may lose packets, a run must not be disturbed by it.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    bind(&socket, interface_index, ALL_PROTOCOLS)?;
    Ok(socket)
}

/// A socket that sends on a device of the calling thread's network namespace
/// and receives nothing. Needs CAP_NET_RAW.
pub fn send_socket(interface_index: u32) -> io::Result<OwnedFd> {
    let socket = packet_socket()?;
    bind(&socket, interface_index, NO_PROTOCOL)?;
    Ok(socket)
}

/// Room for one frame, and for what segmentation offload, which should be off,
/// makes of many.
pub(super) fn buffer() -> Box<[u8]> {
    vec![0; 1 << 17].into()
}

/// A wire with the frames on it.
pub(super) struct Passage {
    towards: String,
    receive: OwnedFd,
    send: OwnedFd,
    queue: Queue,
    filter: Filter,
    link_down: u64,
    overrun: u64,
    refused: Option<String>,
    late: Option<Late>,
}

impl Passage {
    pub(super) fn new(wire: Wire) -> Self {
        Self {
            towards: wire.towards,
            receive: wire.receive,
            send: wire.send,
            filter: Filter::new(wire.impairment.drops.clone()),
            queue: Queue::new(wire.impairment),
            link_down: 0,
            overrun: 0,
            refused: None,
            late: None,
        }
    }

    /// The host at its end.
    pub(super) fn towards(&self) -> &str {
        &self.towards
    }

    /// Impairs what comes from now on otherwise.
    pub(super) fn change(&mut self, impairment: Impairment) {
        self.filter = Filter::new(impairment.drops.clone());
        self.queue.change(impairment);
    }

    pub(super) fn source(&self) -> BorrowedFd<'_> {
        self.receive.as_fd()
    }

    pub(super) fn next_departure(&self) -> Option<Duration> {
        self.queue.next_departure()
    }

    pub(super) fn send_due(&mut self, now: Duration) {
        while let Some((frame, passed)) = self.queue.dequeue(now) {
            self.note_lateness(now, passed);
            match send_patiently(&self.send, &frame) {
                Ok(()) => {}
                Err(Errno::ENETDOWN | Errno::ENXIO | Errno::ENODEV) => self.link_down += 1,
                Err(errno) => self.refuse(&format!("sending {} bytes: {errno}", frame.len())),
            }
        }
    }

    /// Takes a burst of frames, and says whether there was more than that.
    pub(super) fn receive(&mut self, buffer: &mut [u8], start: Instant) -> nix::Result<bool> {
        for _ in 0..BURST {
            let Received { length, from, at } = match receive(&self.receive, buffer) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(false),
                // Told once whenever the device goes down; frames come again
                // when it is up.
                Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(errno) => return Err(errno),
            };
            if !is_for_one_host(from.as_ref()) {
                continue;
            }
            // One that fills the buffer may have been longer.
            let Some(frame) = buffer
                .get(..length)
                .filter(|frame| frame.len() < buffer.len())
            else {
                self.refuse(&format!("receiving {length} bytes or more"));
                continue;
            };
            if self.filter.drops(frame) {
                continue;
            }
            let now = start.elapsed();
            // Frames whose time has come are off the link before this one
            // finds it full.
            self.send_due(now);
            let waited = at.map_or(Duration::ZERO, |at| realtime().saturating_sub(at));
            self.queue.enqueue(now, waited, frame.into());
            self.send_due(now);
        }
        Ok(true)
    }

    /// Counts what has arrived but wasn't taken, and ends.
    pub(super) fn finish(mut self, buffer: &mut [u8], start: Instant) -> nix::Result<WireCounts> {
        // Nothing should send any more; the bound is for the case that
        // something does.
        for _ in 0..LAST_BURSTS {
            if !self.receive(buffer, start)? {
                break;
            }
        }
        let dropped = u64::from(dropped(&self.receive)?);
        Ok(WireCounts {
            towards: self.towards,
            impairment: self.queue.counts(),
            held: self.queue.held() as u64,
            link_down: self.link_down,
            overrun: self.overrun + dropped,
            refused: self.refused,
            late: self.late,
        })
    }

    /// Keeps the worst of the frames that were late.
    fn note_lateness(&mut self, now: Duration, passed: Passed) {
        let late = Late {
            by: now.saturating_sub(passed.departure) + passed.waited,
            asked: passed.departure.saturating_sub(passed.arrival),
        };
        if late.is_too_much() && self.late.is_none_or(|known| late.by > known.by) {
            self.late = Some(late);
        }
    }

    fn refuse(&mut self, why: &str) {
        self.overrun += 1;
        self.refused.get_or_insert_with(|| why.to_owned());
    }
}

/// The router's own broadcasts and multicasts are not carried. With static
/// neighbours nothing needs them, and they come at random times, which would
/// shift the draws.
fn is_for_one_host(from: Option<&LinkAddr>) -> bool {
    from.is_some_and(|from| matches!(from.pkttype(), libc::PACKET_HOST | libc::PACKET_OTHERHOST))
}

/// A frame that was received.
struct Received {
    length: usize,
    from: Option<LinkAddr>,
    /// When it came to the device, on the kernel's wall clock.
    at: Option<Duration>,
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> nix::Result<Received> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc::timespec);
    let message = recvmsg::<LinkAddr>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let at = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    Ok(Received {
        length: message.bytes,
        from: message.address,
        at,
    })
}

fn realtime() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_REALTIME);
    now.map_or(Duration::ZERO, Duration::from)
}

fn send_patiently(socket: &OwnedFd, frame: &[u8]) -> nix::Result<()> {
    let mut retries = 0;
    loop {
        match send(socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::ENOBUFS) if retries < RETRIES => {
                retries += 1;
                thread::yield_now();
            }
            Err(errno) => return Err(errno),
        }
    }
}

fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket takes no pointers.
    let socket = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            // It receives nothing until it is bound to a protocol.
            NO_PROTOCOL.into(),
        )
    };
    Errno::result(socket)?;
    // SAFETY: the descriptor is fresh from socket and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn bind(socket: &OwnedFd, interface_index: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: FAMILY,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(interface_index)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is a sockaddr_ll that outlives the call, and the
    // length is its own.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            ptr::from_ref(&address).cast(),
            length_of(&address),
        )
    };
    Errno::result(result)?;
    Ok(())
}

fn set_option(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is an int that outlives the call, and the length is its
    // own.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            ptr::from_ref(&value).cast(),
            length_of(&value),
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// Sends a frame past the device's queue, so that netem neither impairs nor counts it.
pub fn send_around_queue(socket: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    set_option(socket, libc::PACKET_QDISC_BYPASS, 1)?;
    Ok(send_patiently(socket, frame)?)
}

/// The frames that found the receive buffer full since the last call.
pub fn dropped(socket: &OwnedFd) -> nix::Result<u32> {
    let mut statistics = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut length = length_of(&statistics);
    // SAFETY: the kernel writes at most `length` bytes, which is the size of
    // the struct, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            ptr::from_mut(&mut statistics).cast(),
            ptr::from_mut(&mut length),
        )
    };
    Errno::result(result)?;
    Ok(statistics.tp_drops)
}

fn length_of<T>(_: &T) -> libc::socklen_t {
    const { assert!(size_of::<T>() < 1 << 16) };
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let length = size_of::<T>() as libc::socklen_t;
    length
}
