//! The buffer of one CPU that the kernel writes records to (perf_event_open(2)).

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Length of `struct perf_event_header`.
const HEADER_LEN: usize = 8;
/// Where `data_head` and `data_tail` stand in `struct perf_event_mmap_page`.
const HEAD_OFFSET: usize = 1024;
const TAIL_OFFSET: usize = 1032;

/// A mapped buffer.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<c_void>,
    page: usize,
    /// Bytes of data, a power of two, behind the first page.
    size: usize,
    /// One record, as long as the longest yet.
    record: Vec<u8>,
}

// SAFETY: the mapping is this value's alone and has no ties to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the buffer of an event: one page and `size` bytes, a power of two.
    pub(super) fn map(fd: BorrowedFd<'_>, page: usize, size: usize) -> io::Result<Self> {
        debug_assert!(size.is_power_of_two() && size >= page);
        let length = NonZeroUsize::new(page + size).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping of a descriptor that the kernel made for that.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self {
            base,
            page,
            size,
            record: Vec::new(),
        })
    }

    /// Hands over each record, up to `limit` of them. Records that make no sense are
    /// passed over, and counted.
    pub(super) fn drain(&mut self, limit: usize, each: &mut dyn FnMut(&[u8])) -> Taken {
        let head = self.counter(HEAD_OFFSET).load(Ordering::Acquire);
        let tail = self.counter(TAIL_OFFSET).load(Ordering::Relaxed);
        let (base, page, size) = (self.base, self.page, self.size);
        let mut record = std::mem::take(&mut self.record);
        let copy = |at: u64, to: &mut [u8]| {
            // The buffer is smaller than the address space.
            #[expect(clippy::cast_possible_truncation, reason = "below `size`")]
            let start = (at % size as u64) as usize;
            let first = to.len().min(size - start);
            let data = base.cast::<u8>();
            // SAFETY: `page + start` is inside of the mapping.
            let from = unsafe { data.add(page + start) };
            // SAFETY: `first` bytes follow before the end of the mapping; the kernel
            // writes nothing between tail and head.
            unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut *to).cast(), first) };
            let rest = to.len() - first;
            // SAFETY: `page` is inside of the mapping.
            let from = unsafe { data.add(page) };
            // SAFETY: `rest` is below `size`: no record is longer than the data.
            unsafe {
                from.copy_to_nonoverlapping(NonNull::from(&mut to[first..]).cast(), rest);
            }
        };
        let taken = walk(tail, head, size, limit, &mut record, copy, each);
        self.record = record;
        self.counter(TAIL_OFFSET)
            .store(taken.tail, Ordering::Release);
        taken
    }

    /// A counter of the first page.
    fn counter(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both counters are inside of the first page.
        let at = unsafe { self.base.cast::<u8>().add(offset) };
        // SAFETY: the offset is a multiple of 8, and kernel and process change the
        // value in one piece.
        unsafe { at.cast::<AtomicU64>().as_ref() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        let _ = unsafe { munmap(self.base, self.page + self.size) };
    }
}

/// How far a buffer was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Taken {
    /// The end of the last record.
    pub(super) tail: u64,
    /// Records that were handed over.
    pub(super) records: usize,
    /// Whether the rest made no sense and was given up.
    pub(super) malformed: bool,
    /// Whether there are more.
    pub(super) more: bool,
}

/// Walks over the records between `tail` and `head` of a buffer of `size` bytes.
fn walk(
    tail: u64,
    head: u64,
    size: usize,
    limit: usize,
    record: &mut Vec<u8>,
    copy: impl Fn(u64, &mut [u8]),
    each: &mut dyn FnMut(&[u8]),
) -> Taken {
    let mut taken = Taken {
        tail,
        records: 0,
        malformed: false,
        more: false,
    };
    let given_up = Taken {
        tail: head,
        malformed: true,
        ..taken
    };
    if head.wrapping_sub(tail) > size as u64 {
        return given_up;
    }
    while taken.tail != head {
        if taken.records == limit {
            taken.more = true;
            break;
        }
        let mut header = [0; HEADER_LEN];
        let left = head.wrapping_sub(taken.tail);
        let mut length = 0;
        if left >= HEADER_LEN as u64 {
            copy(taken.tail, &mut header);
            length = usize::from(u16::from_ne_bytes([header[6], header[7]]));
        }
        if length < HEADER_LEN || length as u64 > left {
            let records = taken.records;
            return Taken {
                records,
                ..given_up
            };
        }
        record.resize(length, 0);
        copy(taken.tail, record);
        each(record);
        taken.tail = taken.tail.wrapping_add(length as u64);
        taken.records += 1;
    }
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn collect(data: &[u8], tail: u64, head: u64, limit: usize) -> (Taken, Vec<Vec<u8>>) {
        let mut records = Vec::new();
        let copy = |at: u64, to: &mut [u8]| {
            for (index, byte) in to.iter_mut().enumerate() {
                let at = usize::try_from(at % data.len() as u64).unwrap();
                *byte = data[(at + index) % data.len()];
            }
        };
        let mut each = |record: &[u8]| records.push(record.to_vec());
        let taken = walk(
            tail,
            head,
            data.len(),
            limit,
            &mut Vec::new(),
            copy,
            &mut each,
        );
        (taken, records)
    }

    proptest! {
        #[test]
        fn records_come_out_as_they_went_in_wherever_the_buffer_wraps(
            lengths in prop::collection::vec(0_u8..5, 0..8), start in 0_u64..1000,
        ) {
            let mut data = vec![0; 256];
            let mut head = start;
            let mut written = Vec::new();
            for (number, words) in (0_u8..).zip(lengths) {
                let length = 8 + 8 * usize::from(words);
                let mut record = vec![number; length];
                record[6..8].copy_from_slice(&u16::try_from(length).unwrap().to_ne_bytes());
                if head - start + length as u64 > 256 {
                    break;
                }
                for byte in &record {
                    data[usize::try_from(head % 256).unwrap()] = *byte;
                    head += 1;
                }
                written.push(record);
            }
            let (taken, read) = collect(&data, start, head, 100);
            prop_assert_eq!(&read, &written);
            prop_assert_eq!((taken.tail, taken.malformed, taken.more), (head, false, false));
            let (taken, read) = collect(&data, start, head, 1);
            prop_assert_eq!(read.len(), written.len().min(1));
            prop_assert_eq!(taken.more, written.len() > 1);
        }

        #[test]
        fn garbage_never_panics_and_is_given_up(
            data in prop::collection::vec(any::<u8>(), 64), tail: u64, length in 0_u64..100,
        ) {
            let head = tail.wrapping_add(length);
            let (taken, _) = collect(&data, tail, head, 1000);
            prop_assert_eq!(taken.tail, head, "nothing is read twice");
        }
    }
}
