//! An impaired link for kernels without `sch_netem`: a thread that receives
//! frames from one device, impairs them as netem would, and sends them on
//! another.
//!
//! A relay carries any number of wires, each one direction. [`queue::Queue`]
//! decides about each frame in the order of arrival, so that a seed decides
//! which frames are lost, whatever the timing. A frame is sent at its time or
//! later, never before.

mod filter;
mod prng;
pub mod queue;
mod wire;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;

use crate::impairment::Impairment;
use wire::Passage;
pub use wire::{
    Wire, WireCounts, capture_socket, dropped, receive_socket, send_around_queue, send_socket,
};

/// Why a relay has no counts.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Its thread ended by a panic.
    #[error("the relay panicked: {0}")]
    Panicked(String),
    /// A system call failed.
    #[error("the relay can't {what}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

/// A running relay. Dropping it ends its thread, without the counts.
#[derive(Debug)]
pub struct Relay {
    /// Wakes the thread: to look for orders, or to stop where there can be no more.
    wake: Arc<EventFd>,
    orders: Option<Sender<Order>>,
    /// The hosts at the ends of its wires.
    hosts: Vec<String>,
    thread: Option<JoinHandle<Result<Vec<WireCounts>, RelayError>>>,
}

/// A wire is to be impaired otherwise. Answered when it is.
struct Order {
    towards: String,
    impairment: Impairment,
    done: Sender<()>,
}

impl Relay {
    /// Starts a thread that carries the wires. It can run in any namespace: a
    /// socket stays in the one where it was opened.
    pub fn start(wires: Vec<Wire>) -> io::Result<Self> {
        let wake = Arc::new(EventFd::from_flags(
            EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
        )?);
        let woken = Arc::clone(&wake);
        let (orders, received) = channel();
        let hosts = wires.iter().map(|wire| wire.towards.clone()).collect();
        let wires: Vec<Passage> = wires.into_iter().map(Passage::new).collect();
        let thread = thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || carry(wires, &woken, &received))?;
        Ok(Self {
            wake,
            orders: Some(orders),
            hosts,
            thread: Some(thread),
        })
    }

    /// Whether it carries the link towards a host.
    pub fn carries(&self, host: &str) -> bool {
        self.hosts.iter().any(|known| known == host)
    }

    /// Impairs the wire towards a host otherwise; returns when it is done.
    pub fn change(&self, towards: &str, impairment: Impairment) -> io::Result<()> {
        let ended = || io::Error::other("the relay has ended");
        let (done, answered) = channel();
        let order = Order {
            towards: towards.to_owned(),
            impairment,
            done,
        };
        let orders = self.orders.as_ref().ok_or_else(ended)?;
        orders.send(order).map_err(|_| ended())?;
        self.wake.write(1)?;
        answered.recv().map_err(|_| ended())
    }

    /// Ends the thread. Frames that have arrived by now are still counted;
    /// those that are on their way stay `held`. One element for each wire, in
    /// the order that they were given in.
    pub fn stop(mut self) -> Result<Vec<WireCounts>, RelayError> {
        self.end()
            .unwrap_or_else(|| Err(RelayError::Panicked("it has ended before".to_owned())))
    }

    fn end(&mut self) -> Option<Result<Vec<WireCounts>, RelayError>> {
        let thread = self.thread.take()?;
        self.orders = None;
        if let Err(errno) = self.wake.write(1) {
            return Some(Err(failed("stop", errno)));
        }
        Some(thread.join().unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(RelayError::Panicked(
                message.unwrap_or("no message").to_owned(),
            ))
        }))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn failed(what: &'static str, errno: Errno) -> RelayError {
    RelayError::Io {
        what,
        source: errno.into(),
    }
}

fn carry(
    mut wires: Vec<Passage>,
    wake: &EventFd,
    orders: &Receiver<Order>,
) -> Result<Vec<WireCounts>, RelayError> {
    // Default: the kernel wakes a sleeping thread up to 50 us late (timer
    // slack).
    prctl::set_timerslack(1).map_err(|errno| failed("set its timer slack", errno))?;
    let start = Instant::now();
    let mut buffer = wire::buffer();
    loop {
        for wire in &mut wires {
            wire.send_due(start.elapsed());
        }
        let next = wires.iter().filter_map(Passage::next_departure).min();
        let wait = next.map(|departure| departure.saturating_sub(start.elapsed()));
        let ready = poll(&wires, wake, wait).map_err(|errno| failed("wait", errno))?;
        if ready.woken && !follow(orders, wake, &mut wires) {
            break;
        }
        for (wire, ready) in wires.iter_mut().zip(ready.wires) {
            if ready {
                wire.receive(&mut buffer, start)
                    .map_err(|errno| failed("receive", errno))?;
            }
        }
    }
    wires
        .into_iter()
        .map(|wire| {
            wire.finish(&mut buffer, start)
                .map_err(|errno| failed("count", errno))
        })
        .collect()
}

/// Follows the orders that there are. False where there can be no more.
fn follow(orders: &Receiver<Order>, wake: &EventFd, wires: &mut [Passage]) -> bool {
    let _ = wake.read();
    loop {
        match orders.try_recv() {
            Ok(order) => {
                let mut wires = wires.iter_mut();
                if let Some(wire) = wires.find(|wire| wire.towards() == order.towards) {
                    wire.change(order.impairment);
                }
                let _ = order.done.send(());
            }
            Err(TryRecvError::Empty) => return true,
            Err(TryRecvError::Disconnected) => return false,
        }
    }
}

struct Ready {
    woken: bool,
    wires: Vec<bool>,
}

/// Waits until a wire has frames, until it is to stop or until the time is
/// over.
fn poll(wires: &[Passage], wake: &EventFd, wait: Option<Duration>) -> nix::Result<Ready> {
    let sources = std::iter::once(wake.as_fd()).chain(wires.iter().map(Passage::source));
    let mut polled: Vec<PollFd> = sources
        .map(|source| PollFd::new(source, PollFlags::POLLIN))
        .collect();
    match ppoll(&mut polled, wait.map(TimeSpec::from_duration), None) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno),
    }
    // Receiving reports an error of a socket.
    let mut ready = polled
        .iter()
        .map(|one| one.revents().is_some_and(|events| !events.is_empty()));
    Ok(Ready {
        woken: ready.next().unwrap_or(false),
        wires: ready.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_without_wires_stops() {
        let relay = Relay::start(Vec::new()).unwrap();
        assert!(relay.stop().unwrap().is_empty());
    }

    #[test]
    fn a_panic_of_the_thread_is_an_error_of_stop() {
        let relay = Relay {
            wake: Arc::new(EventFd::new().unwrap()),
            orders: None,
            hosts: Vec::new(),
            thread: Some(thread::spawn(|| panic!("on purpose"))),
        };
        assert_eq!(
            relay.stop().unwrap_err().to_string(),
            "the relay panicked: on purpose"
        );
    }

    #[test]
    fn a_socket_that_carries_no_frames_is_an_error_of_stop() {
        let wire = Wire {
            towards: "server".to_owned(),
            receive: std::fs::File::open("/dev/null").unwrap().into(),
            send: std::fs::File::open("/dev/null").unwrap().into(),
            impairment: Impairment::none(),
        };
        let relay = Relay::start(vec![wire]).unwrap();
        assert!(matches!(relay.stop(), Err(RelayError::Io { .. })));
    }
}
