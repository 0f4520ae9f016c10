//! Saved guests: a guest is booted once, stopped when it takes orders, and kept;
//! each guest that runs scenarios goes on from there.
//!
//! Its memory is a file that every copy maps for itself, so that a copy reads
//! only what it touches and guests share what none of them wrote. A state lies
//! in the directory of its kernel, and goes with it; it is good for one harness,
//! one QEMU and one processor.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::unistd::{Whence, lseek64};
use serde::{Deserialize, Serialize};

use super::Guest;
use super::qemu::{self, Accelerator, ICOUNT_SHIFT, MEMORY_BYTES};
use crate::kernels::KernelError;
use crate::kernels::cache::{Cache, Stored, file_identity};

const RECORD: &str = "state.json";
const MEMORY: &str = "memory";
const DEVICES: &str = "devices";
/// What the directories of states are called, before their identity.
const PREFIX: &str = "state-";

/// States of one kernel that are kept: a harness that is being worked on, and
/// others beside it. The one that was used last goes last.
const MOST_KEPT: usize = 4;

/// At most so many boots until the clock of a guest that stopped itself has gone on to its next timer. On a
/// machine that has nothing else to do it always has, on a busy one about every second time.
const MOST_BOOTS: u32 = 16;

/// Longest from when a guest reads its clock until it stops: some instructions. The
/// kernel's next tick is up to 4 ms later.
const STOPS_WITHIN: Duration = Duration::from_micros(20);

/// A guest that can be gone on from.
#[derive(Clone, Debug)]
pub struct State {
    directory: PathBuf,
    record: Record,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Record {
    /// What it is good for, in full: a directory's name could be another's too.
    identity: String,
    release: String,
    complaints: Vec<String>,
    boot_ms: u64,
    devices_bytes: u64,
    /// Nanoseconds since 1970: tells it from others of the same identity.
    made_ns: u128,
}

impl State {
    /// The state of a kernel for this harness, QEMU and processor, if there is a
    /// whole one.
    pub fn find(kernel: &Stored, accelerator: Accelerator) -> Option<Self> {
        let identity = identity(kernel, accelerator);
        let directory = directory(kernel, &identity);
        let text = fs::read(directory.join(RECORD)).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let length = |name: &str| directory.join(name).metadata().map_or(0, |file| file.len());
        let is_whole = length(MEMORY) == MEMORY_BYTES && length(DEVICES) == record.devices_bytes;
        (record.identity == identity && is_whole).then_some(Self { directory, record })
    }

    /// Boots the kernel and keeps the guest, in place of what was kept for the
    /// same.
    pub fn make(
        kernel: &Stored,
        accelerator: Accelerator,
        cache: &Cache,
    ) -> Result<Self, KernelError> {
        let error = |io: &io::Error| {
            let hint = match io.kind() {
                io::ErrorKind::StorageFull => {
                    "a saved guest takes about 100 MB; XDG_CACHE_HOME names another place"
                }
                _ => "harness doctor looks at QEMU and KVM",
            };
            KernelError::environment(
                &kernel.directory().display().to_string(),
                "keep a booted guest there",
                &io.to_string(),
                hint,
            )
        };
        // Before the boot: what is replaced meanwhile is not what was booted.
        let identity = identity(kernel, accelerator);
        let mut boots = 0;
        let (mut record, memory, devices) = loop {
            boots += 1;
            let booted = Guest::boot(kernel, accelerator)?;
            let record = Record {
                identity: identity.clone(),
                release: booted.release().to_owned(),
                complaints: booted.complaints().to_owned(),
                boot_ms: u64::try_from(booted.boot.as_millis()).unwrap_or(u64::MAX),
                devices_bytes: 0,
                made_ns: SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_nanos(),
            };
            let (memory, devices, stopped) = booted.stop().map_err(|io| error(&io))?;
            // A state of the other kind is as good for all but the same seed elsewhere.
            if clock_went_on(&devices, stopped).map_err(|io| error(&io))? || boots == MOST_BOOTS {
                break (record, memory, devices);
            }
        };
        let workshop = cache.workshop()?;
        let new = workshop.path().join("new");
        let directory = directory(kernel, &identity);
        (|| {
            fs::create_dir(&new)?;
            record.devices_bytes = copy_data(&devices, &new.join(DEVICES))?;
            copy_data(&memory, &new.join(MEMORY))?;
            fs::write(new.join(RECORD), serde_json::to_vec_pretty(&record)?)?;
            // One at a time: another harness may be making the same.
            let lock = File::open(kernel.directory())?;
            lock.lock()?;
            if directory.exists() {
                fs::rename(&directory, workshop.path().join("old"))?;
            }
            fs::rename(&new, &directory)
        })()
        .map_err(|io| error(&io))?;
        remove_surplus(kernel.directory(), &directory);
        Ok(Self { directory, record })
    }

    /// Takes it away. Guests that go on from it don't mind.
    pub fn discard(self) {
        // One that can't be removed is replaced when the next is made.
        let _ = fs::remove_dir_all(&self.directory);
    }

    /// The guest's memory, to be mapped, and the state of its devices, to be read
    /// from its start: both of the same boot, whoever replaces the state meanwhile.
    pub fn files(&self) -> io::Result<(File, File)> {
        let directory = File::open(&self.directory)?;
        let inside = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let open = |name: &str| File::open(Path::new(&inside).join(name));
        // Tells which state was used last, see `MOST_KEPT`.
        let _ = open(RECORD)?.set_modified(SystemTime::now());
        Ok((open(MEMORY)?, open(DEVICES)?))
    }

    /// When it was made, in nanoseconds since 1970.
    pub fn made(&self) -> u128 {
        self.record.made_ns
    }

    /// The kernel's release, as it says itself.
    pub fn release(&self) -> &str {
        &self.record.release
    }

    /// What its init could not do.
    pub fn complaints(&self) -> &[String] {
        &self.record.complaints
    }

    /// How long the boot took that this was made from.
    pub fn boot(&self) -> Duration {
        Duration::from_millis(self.record.boot_ms)
    }
}

/// Whether a guest's virtual clock has gone on since the guest stopped itself. QEMU's
/// main loop may take a guest that stops for one that waits, and move its clock on to the
/// next tick; whether it does depends on which of two threads is first. Two states of the
/// same guest would not be the same then.
fn clock_went_on(devices: &File, stopped: Option<Duration>) -> io::Result<bool> {
    let Some(stopped) = stopped else {
        return Ok(true);
    };
    let mut bytes = vec![0; usize::try_from(devices.metadata()?.len()).map_err(io::Error::other)?];
    devices.read_exact_at(&mut bytes, 0)?;
    let saved = virtual_clock(&bytes)
        .ok_or_else(|| io::Error::other("QEMU's state of its devices has no virtual clock"))?;
    Ok(saved.saturating_sub(stopped) > STOPS_WITHIN)
}

/// The virtual clock in a state of devices. Its section has, after its name, its version
/// in 4 bytes, nanoseconds that were jumped over, and the count of instructions, each in 8
/// bytes, most significant first (`icount_vmstate_timers` in QEMU's `softmmu/cpu-timers.c`).
fn virtual_clock(devices: &[u8]) -> Option<Duration> {
    const NAME: &[u8] = b"timer/icount";
    let name = devices.windows(NAME.len()).position(|part| part == NAME)?;
    let fields = devices.get(name + NAME.len() + 4..)?;
    let number = |place: usize| {
        let bytes = fields.get(place..place + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let jumped = number(0)?;
    let instructions = number(8)?;
    let nanoseconds = jumped.checked_add(instructions.checked_mul(1 << ICOUNT_SHIFT)?)?;
    Some(Duration::from_nanos(nanoseconds))
}

/// What a state is good for.
fn identity(kernel: &Stored, accelerator: Accelerator) -> String {
    let program = file_identity(Path::new("/proc/self/exe"));
    let kernel = file_identity(&kernel.kernel());
    format!("{program}|{kernel}|{accelerator:?}|{}", qemu::identity())
}

fn directory(kernel: &Stored, identity: &str) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    kernel
        .directory()
        .join(format!("{PREFIX}{:016x}", hasher.finish()))
}

/// Writes what of a file isn't zero to a new one of the same length, which is
/// returned.
fn copy_data(from: &File, to: &Path) -> io::Result<u64> {
    const PAGE: usize = 4096;
    const ZERO: [u8; PAGE] = [0; PAGE];
    let length = from.metadata()?.len();
    let file = File::create_new(to)?;
    file.set_len(length)?;
    let mut buffer = vec![0; 256 * PAGE];
    let mut position = 0;
    while position < length {
        let offset = i64::try_from(position).map_err(io::Error::other)?;
        position = match lseek64(from, offset, Whence::SeekData) {
            Ok(data) => u64::try_from(data).map_err(io::Error::other)?,
            // Nothing but a hole up to the end.
            Err(nix::errno::Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let read = from.read_at(&mut buffer, position)?;
        for (number, page) in buffer[..read].chunks(PAGE).enumerate() {
            if page != &ZERO[..page.len()] {
                file.write_all_at(page, position + (number * PAGE) as u64)?;
            }
        }
        position += read as u64;
    }
    // Its length says that it is whole, so the content has to be on the disk.
    file.sync_all()?;
    Ok(length)
}

/// Removes the states of a kernel that were used least lately, but not `kept`.
fn remove_surplus(kernel: &Path, kept: &Path) {
    let entries = fs::read_dir(kernel).into_iter().flatten().flatten();
    let mut states: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        .map(|entry| entry.path())
        .filter(|path| path != kept)
        .map(|path| {
            let used = path
                .join(RECORD)
                .metadata()
                .and_then(|file| file.modified());
            (used.unwrap_or(SystemTime::UNIX_EPOCH), path)
        })
        .collect();
    states.sort();
    let surplus = states.len().saturating_sub(MOST_KEPT - 1);
    for (_, path) in states.drain(..surplus) {
        // What stays takes room and does no harm.
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_has_the_content_and_not_the_zeroes() {
        let directory = tempfile::tempdir().unwrap();
        let mut source = tempfile::tempfile_in(directory.path()).unwrap();
        source.write_all(&vec![0; 3 << 20]).unwrap();
        source.seek(io::SeekFrom::Start((2 << 20) + 100)).unwrap();
        source.write_all(b"memory").unwrap();
        source.set_len(8 << 20).unwrap();
        source.seek(io::SeekFrom::Start((8 << 20) - 3)).unwrap();
        source.write_all(b"end").unwrap();
        let to = directory.path().join("copy");
        assert_eq!(copy_data(&source, &to).unwrap(), 8 << 20);
        let mut content = Vec::new();
        source.rewind().unwrap();
        source.read_to_end(&mut content).unwrap();
        assert!(fs::read(&to).unwrap() == content);
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn the_virtual_clock_is_found_among_the_devices() {
        let mut devices = b"..timer/icount\0\0\0\x01".to_vec();
        devices.extend(5000_u64.to_be_bytes());
        devices.extend(100_u64.to_be_bytes());
        let clock = Duration::from_nanos(5000 + (100 << ICOUNT_SHIFT));
        assert_eq!(virtual_clock(&devices), Some(clock));
        assert_eq!(virtual_clock(&devices[..20]), None);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&devices, 0).unwrap();
        assert!(!clock_went_on(&file, Some(clock)).unwrap());
        let earlier = clock.checked_sub(Duration::from_nanos(800)).unwrap();
        assert!(!clock_went_on(&file, Some(earlier)).unwrap());
        let file = tempfile::tempfile().unwrap();
        devices[18 + 5] = 1;
        file.write_all_at(&devices, 0).unwrap();
        assert!(clock_went_on(&file, Some(clock)).unwrap());
    }

    #[test]
    fn the_states_that_were_used_last_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let make = |number: u64| {
            let path = directory.path().join(format!("{PREFIX}{number}"));
            fs::create_dir(&path).unwrap();
            let record = File::create(path.join(RECORD)).unwrap();
            record
                .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(number))
                .unwrap();
            path
        };
        let states: Vec<PathBuf> = (0..6).map(make).collect();
        fs::create_dir(directory.path().join("modules")).unwrap();
        remove_surplus(directory.path(), &states[0]);
        let there: Vec<bool> = states.iter().map(|path| path.exists()).collect();
        assert_eq!(there, [true, false, false, true, true, true]);
        assert!(directory.path().join("modules").exists());
    }
}
