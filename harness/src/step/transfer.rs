//! What the steps have in common that send or receive.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::{self, Events};
use crate::errno;
use crate::yaml::value::{Bytes, Time};

/// The size of one system call's buffer.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
pub struct Chunk(Bytes);

impl Default for Chunk {
    fn default() -> Self {
        Self(Bytes(64 << 10))
    }
}

impl Chunk {
    /// In bytes, at least 1.
    pub fn length(self) -> usize {
        length(self.0.0.max(1))
    }
}

/// A pause before each system call. Default: none.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
pub struct Every(Time);

impl Every {
    /// Waits, where there is a pause.
    pub fn pause(every: Option<Self>) {
        if let Some(Self(Time(time))) = every {
            std::thread::sleep(time);
        }
    }
}

/// The error is `late` where it is not done by then. Default: no limit.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
pub struct Within(Time);

impl Within {
    /// The end of the time that begins now.
    pub fn end(within: Option<Self>) -> Option<Instant> {
        within.map(|within| Instant::now() + within.time())
    }

    /// The time.
    pub fn time(self) -> Duration {
        let Self(Time(time)) = self;
        time
    }
}

/// What the calls of a step sent or received.
#[derive(Default)]
pub struct Transferred {
    /// All bytes.
    pub bytes: u64,
    /// Of the bytes received, those that were not zero.
    pub nonzero_bytes: u64,
}

impl Transferred {
    /// Adds what a call received.
    pub fn receive(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        // Mostly there are none; without optimisation counting is slow.
        if data.first() != Some(&0) || data[1..] != data[..data.len() - 1] {
            self.nonzero_bytes += data.iter().filter(|byte| **byte != 0).count() as u64;
        }
    }
}

/// A number of bytes as the length of a buffer.
pub fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(1 << 30)
}

/// Makes a call that doesn't wait, and waits until it can be made; without an end the
/// call is one that waits itself.
pub fn in_time(
    end: Option<Instant>,
    socket: RawFd,
    events: Events,
    mut call: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    let Some(end) = end else { return call() };
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(errno::late());
        }
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // A millisecond more: poll(2) counts whole ones.
                call::poll(socket, &[events], Some(left + Duration::from_millis(1)))?;
            }
            done => return done,
        }
    }
}

/// Reads until so many bytes are there, or the stream ends.
pub fn receive(
    socket: RawFd,
    bytes: u64,
    chunk: Chunk,
    every: Option<Every>,
    within: Option<Within>,
    done: &mut Transferred,
) -> io::Result<()> {
    let mut buffer = vec![0; chunk.length()];
    let end = Within::end(within);
    let mut taken = 0;
    while taken < bytes {
        Every::pause(every);
        let most = buffer.len().min(length(bytes - taken));
        let count = in_time(end, socket, Events::PollIn, || match end {
            Some(_) => call::receive_now(socket, &mut buffer[..most]),
            None => call::read(socket, &mut buffer[..most]),
        })?;
        if count == 0 {
            break;
        }
        taken += count as u64;
        done.receive(&buffer[..count]);
    }
    Ok(())
}
