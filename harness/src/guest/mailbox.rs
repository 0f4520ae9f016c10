//! The guest's side of a mailbox: memory that host and guest share.
//!
//! In virtual time nothing may reach a guest at a moment that the host chooses, or
//! two runs are not the same. So the guest stops its own clock, the whole machine,
//! whenever it has said something or wants orders; the host reads and writes the
//! memory while the guest stands, and lets it go on ([`super::attendant`]).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::mman::{MapFlags, ProtFlags, mmap};

use super::qemu::MEMORY_BYTES;

/// The size of the mailbox, which lies behind the guest's memory.
pub const MAILBOX_BYTES: u64 = 32 << 20;

/// Where what lies in the mailbox, in bytes from its start. The numbers at the
/// start have 8 bytes each, in the order of x86-64.
pub mod place {
    /// The bytes of orders that the host has put there.
    pub const ORDERED: usize = 0;
    /// The bytes that the guest has said since it last stopped.
    pub const SAID: usize = 8;
    /// 1 where the guest stops for orders.
    pub const WANTS_ORDERS: usize = 16;
    /// The guest's clock, in milliseconds.
    pub const PULSE: usize = 24;
    /// Of it, how long the processor had nothing to do, in milliseconds.
    pub const IDLE: usize = 32;
    /// The guest's time stamp counter when it last stopped.
    pub const STOPPED: usize = 40;
    /// What the host orders.
    pub const ORDERS: usize = 4096;
    /// What the guest says.
    pub const WORDS: usize = 16 << 20;
    /// The end.
    pub const END: usize = 32 << 20;
}

/// The device whose register stops the machine: QEMU's pvpanic-pci, by vendor and
/// device (docs/specs/pvpanic of QEMU).
const STOPPER: [&str; 2] = ["0x1b36", "0x0011"];
/// The bit of the register that says that the guest needs help.
const PANICKED: u8 = 1;

const PAGE: usize = 4096;

/// The mailbox, mapped.
#[derive(Debug)]
pub struct Mailbox {
    memory: NonNull<u8>,
    /// A register of one byte.
    stopper: NonNull<u8>,
    /// Bytes said since the machine last stopped.
    said: Mutex<usize>,
}

// SAFETY: the mappings stay as long as the process, and what is written there is
// guarded by `said`, or is a number that only one thread writes.
unsafe impl Send for Mailbox {}
// SAFETY: as above.
unsafe impl Sync for Mailbox {}

impl Mailbox {
    /// The mailbox of this guest, if it has one.
    pub fn open() -> io::Result<Option<Arc<Self>>> {
        let Some(device) = stopper() else {
            return Ok(None);
        };
        // No driver has switched it on.
        fs::write(device.join("enable"), "1")?;
        let first = fs::read_to_string(device.join("resource"))?;
        let address = first.split_whitespace().next().unwrap_or_default();
        let address = usize::from_str_radix(address.trim_start_matches("0x"), 16)
            .map_err(|_| io::Error::other("the address of pvpanic-pci can't be read"))?;
        let register = map(&writable(&device.join("resource0"))?, PAGE, 0)?;
        let start = i64::try_from(MEMORY_BYTES).map_err(io::Error::other)?;
        let memory = map(&writable(Path::new("/dev/mem"))?, place::END, start)?;
        Ok(Some(Arc::new(Self {
            memory,
            // SAFETY: the register is in the page that was mapped.
            stopper: unsafe { register.add(address % PAGE) },
            said: Mutex::new(0),
        })))
    }

    /// A place in the mailbox.
    fn at(&self, place: usize) -> NonNull<u8> {
        debug_assert!(place < place::END);
        // SAFETY: the mapping has all places.
        unsafe { self.memory.add(place) }
    }

    fn number(&self, place: usize) -> usize {
        let place = self.at(place).cast::<u64>();
        // SAFETY: it is mapped and aligned; the host may write there.
        let number = unsafe { place.read_volatile() };
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    fn set(&self, place: usize, number: u64) {
        let place = self.at(place).cast::<u64>();
        // SAFETY: as above.
        unsafe { place.write_volatile(number) }
    }

    /// Stops the machine; returns when the host has let it go on.
    fn stop(&self, said: &mut usize, wants_orders: bool) {
        self.set(place::SAID, *said as u64);
        self.set(place::WANTS_ORDERS, u64::from(wants_orders));
        self.set(place::STOPPED, time_stamp_counter());
        // SAFETY: the register is mapped.
        unsafe { self.stopper.write_volatile(PANICKED) };
        *said = 0;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, usize> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the guest lives.
    pub fn pulse(&self, clock_ms: u64, idle_ms: u64) {
        self.set(place::PULSE, clock_ms);
        self.set(place::IDLE, idle_ms);
    }
}

/// The bytes that the host orders, which stops the machine to get more.
#[derive(Debug)]
pub struct Orders {
    mailbox: Arc<Mailbox>,
    taken: usize,
    ordered: usize,
}

impl Orders {
    /// From the start.
    pub fn of(mailbox: Arc<Mailbox>) -> Self {
        Self {
            mailbox,
            taken: 0,
            ordered: 0,
        }
    }
}

impl Read for Orders {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.taken == self.ordered {
            self.mailbox.stop(&mut self.mailbox.lock(), true);
            self.taken = 0;
            self.ordered = self
                .mailbox
                .number(place::ORDERED)
                .min(place::WORDS - place::ORDERS);
        }
        let length = buffer.len().min(self.ordered - self.taken);
        let from = self.mailbox.at(place::ORDERS + self.taken);
        let to = NonNull::from(&mut *buffer).cast();
        // SAFETY: what is ordered lies in the mapping, which no buffer overlaps.
        unsafe { from.copy_to_nonoverlapping(to, length) };
        self.taken += length;
        Ok(length)
    }
}

/// What the guest says; the host hears it when it is flushed.
#[derive(Debug)]
pub struct Words(pub Arc<Mailbox>);

impl Write for Words {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const ROOM: usize = place::END - place::WORDS;
        let mut said = self.0.lock();
        if *said == ROOM {
            self.0.stop(&mut said, false);
        }
        let length = bytes.len().min(ROOM - *said);
        let to = self.0.at(place::WORDS + *said);
        // SAFETY: the room lies in the mapping, which no slice overlaps.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), length) };
        *said += length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.stop(&mut self.0.lock(), false);
        Ok(())
    }
}

/// The processor's counter, which counts virtual nanoseconds here.
fn time_stamp_counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction; Linux lets programs use it.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    // No other processor is emulated.
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// The directory of the device that stops the machine.
fn stopper() -> Option<PathBuf> {
    let devices = fs::read_dir("/sys/bus/pci/devices").ok()?;
    devices.flatten().map(|entry| entry.path()).find(|device| {
        let is = |file: &str, id: &str| {
            fs::read_to_string(device.join(file)).is_ok_and(|text| text.trim() == id)
        };
        is("vendor", STOPPER[0]) && is("device", STOPPER[1])
    })
}

fn writable(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

fn map(file: &File, bytes: usize, offset: i64) -> io::Result<NonNull<u8>> {
    let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice, never taken away.
    let mapped = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, file, offset) };
    Ok(mapped?.cast())
}
