//! The host's side of a mailbox (`super::mailbox`): gives orders and takes what
//! was said while the guest stands, and lets it go on.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::mailbox::place;
use super::monitor::Monitor;

/// Attends a guest with a mailbox.
#[derive(Debug)]
pub struct Attendant {
    /// The emulator's.
    pub monitor: Monitor,
    /// The mailbox.
    memory: File,
}

/// How far a guest is, as it says itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pulse {
    /// Its clock.
    pub clock: Duration,
    /// Of it, how long its processor had nothing to do.
    pub idle: Duration,
}

impl Pulse {
    /// Reads it from a mailbox.
    pub fn read(memory: &File) -> io::Result<Self> {
        Ok(Self {
            clock: Duration::from_millis(number(memory, place::PULSE)?),
            idle: Duration::from_millis(number(memory, place::IDLE)?),
        })
    }

    /// The share of its time since an earlier pulse in which it was busy, in
    /// percent; `None` where no time has passed.
    pub fn busy_percent(self, since: Self) -> Option<u128> {
        let passed = self.clock.saturating_sub(since.clock);
        let idle = self.idle.saturating_sub(since.idle);
        let busy = passed.saturating_sub(idle).as_millis();
        (!passed.is_zero()).then(|| busy * 100 / passed.as_millis().max(1))
    }
}

/// What a guest's clock was when it last stopped itself.
pub fn stopped_at(memory: &File) -> io::Result<Duration> {
    Ok(Duration::from_nanos(number(memory, place::STOPPED)?))
}

fn number(memory: &File, place: usize) -> io::Result<u64> {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, place as u64)?;
    Ok(u64::from_le_bytes(bytes))
}

impl Attendant {
    /// Of the guest of this monitor and this mailbox.
    pub fn new(monitor: Monitor, memory: File) -> Self {
        Self { monitor, memory }
    }

    /// Waits until the guest has stopped, and passes on what it has said. True
    /// where it wants orders.
    fn hear(&mut self, said: &mut impl Write, limit: Option<Duration>) -> io::Result<bool> {
        self.monitor.await_stop(limit)?;
        let room = place::END - place::WORDS;
        let length = usize::try_from(number(&self.memory, place::SAID)?).unwrap_or(room);
        let mut words = vec![0; length.min(room)];
        self.memory.read_exact_at(&mut words, place::WORDS as u64)?;
        said.write_all(&words)?;
        Ok(number(&self.memory, place::WANTS_ORDERS)? != 0)
    }

    /// Passes on what the guest says until it wants orders: it stands then.
    pub fn hear_out(&mut self, said: &mut impl Write, limit: Duration) -> io::Result<()> {
        while !self.hear(said, Some(limit))? {
            self.monitor.go_on()?;
        }
        Ok(())
    }

    /// Gives orders to the guest, which stands and wants some, and passes on what it
    /// says, until there are no more orders. Ends where the emulator does.
    pub fn attend(&mut self, orders: &Receiver<Vec<u8>>, said: &mut impl Write) -> io::Result<()> {
        const ROOM: usize = place::WORDS - place::ORDERS;
        for batch in orders {
            for part in batch.chunks(ROOM) {
                self.memory.write_all_at(part, place::ORDERS as u64)?;
                let length = (part.len() as u64).to_le_bytes();
                self.memory.write_all_at(&length, place::ORDERED as u64)?;
                self.monitor.go_on()?;
                while !self.hear(said, None)? {
                    self.monitor.go_on()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_spins_is_told_from_one_that_waits() {
        let pulse = |clock: u64, idle: u64| Pulse {
            clock: Duration::from_secs(clock),
            idle: Duration::from_secs(idle),
        };
        assert_eq!(pulse(20, 15).busy_percent(pulse(10, 5)), Some(0));
        assert_eq!(pulse(20, 5).busy_percent(pulse(10, 5)), Some(100));
        assert_eq!(pulse(20, 7).busy_percent(pulse(10, 2)), Some(50));
        assert_eq!(pulse(10, 5).busy_percent(pulse(10, 5)), None);
    }
}
