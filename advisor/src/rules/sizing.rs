//! The computations that several rules share, so that they cannot disagree: the cost of an
//! orphan, and the right tcp_mem for a host.

use super::{Confidence, Evidence, bytes};
use advisor_facts::sock_diag::{TcpSocket, TcpState, Timer};
use advisor_facts::{Facts, Look, SocketSource};
use advisor_report::calibration::Unsent;
use advisor_report::measured::Measured;

/// The memory of an orphan in the worst case, in bytes (ip-sysctl.rst).
const WORST_ORPHAN_BYTES: u64 = 64 << 10;

/// The memory of one orphan, and its source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OrphanCost {
    /// Whole pages, in bytes.
    pub bytes: u64,
    /// The source, for people.
    pub source: String,
    /// How sure the value is.
    pub confidence: Confidence,
}

impl OrphanCost {
    /// The mean of the orphans in the socket table, if they are at least half of all; else
    /// what a report on this kernel line measured; else the documented worst case, or what
    /// an orphan with a full send buffer held on the nearest measured release if that is
    /// more.
    pub(super) fn of(look: &Look, facts: &Facts, measured: &Measured) -> Self {
        let orphans = look.sockstat.get("TCP.orphan").unwrap_or(0);
        if let Some(bytes) = mean_of_orphans(look, facts.page_bytes, orphans) {
            return Self {
                bytes,
                source: "sock_diag, the mean of the orphans here".to_owned(),
                confidence: Confidence::High,
            };
        }
        if let Some(measured) = &measured.orphan_pages {
            return Self {
                bytes: measured.value.saturating_mul(facts.page_bytes),
                source: measured.source.clone(),
                confidence: Confidence::Medium,
            };
        }
        // The measured orphan had a send buffer that had not grown, so it never lowers the
        // documented worst case.
        let documented = WORST_ORPHAN_BYTES.max(facts.page_bytes);
        let full_buffer = measured.calibration().and_then(|calibration| {
            let held_bytes = calibration.orphan(Unsent::FullBuffer)?.held_bytes;
            let whole_pages = held_bytes.next_multiple_of(facts.page_bytes);
            Some((whole_pages, calibration.source()))
        });
        let worst_case = "the worst case of ip-sysctl.rst";
        let (bytes, source) = match full_buffer {
            Some((held, source)) if held > documented => {
                (held, format!("a full send buffer, {source}"))
            }
            Some((held, source)) => {
                let held = bytes(held);
                let source = format!("{worst_case}; a full send buffer held {held}, {source}");
                (documented, source)
            }
            None => (documented, measured.unmeasured(worst_case)),
        };
        Self {
            bytes,
            source,
            confidence: Confidence::Medium,
        }
    }

    /// How many orphans the high mark of tcp_mem pays for.
    pub(super) fn affordable(&self, tcp_mem: [u64; 3], page_bytes: u64) -> u64 {
        tcp_mem[2].saturating_mul(page_bytes) / self.bytes.max(1)
    }

    /// The cost of a higher limit, for people.
    pub(super) fn of_more(&self, limit: i64, proposed: u64) -> String {
        let more = proposed.saturating_sub(limit.max(0).cast_unsigned());
        format!(
            "up to {} of memory that cannot be swapped, if the new limit is reached",
            bytes(more.saturating_mul(self.bytes))
        )
    }

    /// The evidence for it.
    pub(super) fn evidence(&self) -> Evidence {
        Evidence::new(
            "host.sockets.orphan.bytes",
            i64::try_from(self.bytes).unwrap_or(i64::MAX).into(),
            &self.source,
        )
    }
}

/// Whether the orphans seen are at least half of all.
pub(super) fn are_most(seen: u64, orphans: i64) -> bool {
    seen > 0 && seen.saturating_mul(2) >= orphans.cast_unsigned()
}

fn mean_of_orphans(look: &Look, page_bytes: u64, orphans: i64) -> Option<u64> {
    let seen: Vec<u64> = look
        .sockets
        .iter()
        .filter(|sockets| sockets.source == SocketSource::SockDiag)
        .flat_map(|sockets| &sockets.all)
        .filter(|socket| is_orphan(socket))
        .filter_map(|socket| {
            let memory = socket.memory.as_ref()?;
            let held = u64::from(memory.send_queued_bytes) + u64::from(memory.recv_alloc_bytes);
            // The kernel accounts memory in pages.
            Some(held.next_multiple_of(page_bytes).max(page_bytes))
        })
        .collect();
    let count = seen.len() as u64;
    if !are_most(count, orphans) {
        return None;
    }
    let mean = seen.iter().sum::<u64>() / count;
    Some(mean.next_multiple_of(page_bytes))
}

/// Whether a socket counts as an orphan. The small records of FIN_WAIT2 and TIME_WAIT, which
/// run the timer of TIME_WAIT, do not.
pub(super) fn is_orphan(socket: &TcpSocket) -> bool {
    socket.inode == 0
        && socket.timer != Timer::TimeWait
        && matches!(
            socket.state,
            TcpState::FinWait1 | TcpState::FinWait2 | TcpState::LastAck | TcpState::Closing
        )
}

/// The larger number of orphans of both looks, and its look.
pub(super) fn most_orphans(facts: &Facts) -> Option<(i64, &Look)> {
    [facts.earlier.as_deref(), Some(&*facts.now)]
        .into_iter()
        .flatten()
        .filter_map(|look| Some((look.sockstat.get("TCP.orphan")?, look)))
        .max_by_key(|(orphans, _)| *orphans)
}

/// The memory of all TCP sockets, in pages.
pub(super) fn tcp_pages(facts: &Facts) -> Option<u64> {
    let pages = facts.now.sockstat.get("TCP.mem")?;
    Some(u64::try_from(pages).unwrap_or(0))
}

/// Whether programs own three quarters of the RAM, for example a database, so that TCP may
/// have less.
pub(super) fn ram_is_owned(facts: &Facts) -> bool {
    facts
        .memory
        .owned_bytes
        .is_some_and(|owned| facts.ram_bytes > 0 && owned / 3 >= facts.ram_bytes / 4)
}

/// The highest mark of tcp_mem that a host can pay for, in pages: a quarter of its RAM, or a
/// tenth if programs own the RAM (oracle/bpftune; scylladb/seastar issue 2348). `None` if
/// the RAM is not known.
pub(super) fn most_tcp_mem_pages(facts: &Facts) -> Option<u64> {
    let parts = if ram_is_owned(facts) { 10 } else { 4 };
    (facts.ram_bytes > 0).then(|| facts.ram_bytes / parts / facts.page_bytes)
}

/// The marks of tcp_mem that the kernel would compute now: a sixteenth of the free buffer
/// pages, times 3/4, 1 and 3/2 (tcp_init_mem in net/ipv4/tcp.c). By MemTotal if it
/// contradicts /proc/zoneinfo (memory added later, or a balloon). `None` if neither is
/// known.
pub(super) fn expected_tcp_mem(facts: &Facts) -> Option<[u64; 3]> {
    let ram_pages = facts.ram_bytes / facts.page_bytes;
    let free = facts
        .memory
        .zones
        .filter(|zones| ram_pages.abs_diff(zones.managed_pages) <= ram_pages / 10)
        .map_or(ram_pages, |zones| zones.free_buffer_pages);
    (free > 0).then(|| proportion((free / 16).max(128)))
}

/// Marks around a pressure mark, in the kernel's proportion.
fn proportion(pressure: u64) -> [u64; 3] {
    let low = pressure / 4 * 3;
    [low, pressure, low.saturating_mul(2)]
}

/// The right marks of tcp_mem for a host: the kernel's own, higher if the usage needs it,
/// and within what the RAM can pay for. `None` if the RAM is not known, or cannot pay for
/// the present usage.
pub(super) fn sound_tcp_mem(facts: &Facts) -> Option<[u64; 3]> {
    let most = most_tcp_mem_pages(facts)?;
    let usage = tcp_pages(facts).unwrap_or(0);
    let wanted = usage.checked_add(usage / 2)?;
    let pressure = expected_tcp_mem(facts)?[1].max(wanted).min(most / 3 * 2);
    // The usage has to be a fifth below the pressure mark, or the pressure would go on.
    (pressure > 0 && usage / 4 < pressure / 5).then(|| proportion(pressure))
}

/// The faults of the marks of tcp_mem, the worst first. Each has its rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MarksFault {
    /// Bytes instead of pages.
    InBytes,
    /// Not rising.
    OutOfOrder,
    /// The high mark is above the RAM.
    BeyondRam,
    /// The high mark is above what programs leave of the RAM.
    BesideOwner,
    /// Far from what the kernel would compute, and no file sets them.
    FarFromDefault,
}

impl MarksFault {
    /// The worst fault of the marks of a host.
    pub(super) fn of(facts: &Facts) -> Option<Self> {
        let marks = facts.settings.tcp_mem?;
        let [low, pressure, high] = marks;
        let bytes = u128::from(high) * u128::from(facts.page_bytes);
        let ram = u128::from(facts.ram_bytes);
        if low < pressure && pressure < high && are_in_bytes(facts, marks) {
            return Some(Self::InBytes);
        }
        if low > pressure || pressure >= high {
            return Some(Self::OutOfOrder);
        }
        if ram == 0 {
            return None;
        }
        if bytes > ram {
            return Some(Self::BeyondRam);
        }
        if ram_is_owned(facts) && high > most_tcp_mem_pages(facts)? {
            return Some(Self::BesideOwner);
        }
        let expected = expected_tcp_mem(facts)?[1];
        let files = &facts.sysctl_files;
        let chosen = files.winner(files.loader(), "net.ipv4.tcp_mem").is_some();
        let far = pressure < expected / 4 || pressure / 4 > expected;
        (far && !chosen).then_some(Self::FarFromDefault)
    }
}

/// Above this much RAM there are so few hosts that marks for one are bytes, unless the
/// RAM is known.
const PLAUSIBLE_RAM_BYTES: u128 = 2 << 40;

/// How far one mark of tcp_mem may be from the next. The kernel's own are 4/3 and 3/2
/// apart; those of a buffer's sizes, a page, 87380 bytes and megabytes, 20 and more.
const FARTHEST_MARKS: u64 = 16;

/// Whether rising marks of tcp_mem make sense as bytes alone: read as pages they are for
/// no host there is, or so far apart that no host needs them.
fn are_in_bytes(facts: &Facts, [low, pressure, high]: [u64; 3]) -> bool {
    let bytes = u128::from(high) * u128::from(facts.page_bytes);
    let too_large = match facts.ram_bytes {
        0 => u128::from(ram_of_high_mark(facts, high)) > PLAUSIBLE_RAM_BYTES,
        ram => bytes > u128::from(ram) * 8,
    };
    are_far_apart([low, pressure, high]) || too_large
}

/// Whether rising marks of tcp_mem are farther apart than any host needs them.
pub(super) fn are_far_apart([low, pressure, high]: [u64; 3]) -> bool {
    pressure / FARTHEST_MARKS >= low || high / FARTHEST_MARKS >= pressure
}

/// The RAM of a host whose kernel computes this high mark of tcp_mem: 3/2 of a sixteenth
/// of its pages. In bytes.
pub(super) fn ram_of_high_mark(facts: &Facts, high: u64) -> u64 {
    (high / 3)
        .saturating_mul(32)
        .saturating_mul(facts.page_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host without anything but RAM and marks.
    fn host(ram_bytes: u64, page_bytes: u64, marks: [u64; 3]) -> Facts {
        let mut facts = Facts::without_host("6.12", ram_bytes, page_bytes);
        facts.settings.tcp_mem = Some(marks);
        facts
    }

    #[test]
    fn the_marks_that_circulate_are_told_apart() {
        const GIB: u64 = 1 << 30;
        for (marks, ram, fault) in [
            (
                [4096, 87380, 67_108_864],
                16 * GIB,
                Some(MarksFault::InBytes),
            ),
            ([4096, 87380, 6_291_456], 0, Some(MarksFault::InBytes)),
            // The old default of tcp_rmem.
            ([4096, 87380, 174_760], 0, Some(MarksFault::InBytes)),
            (
                [94_500_000, 915_000_000, 927_000_000],
                0,
                Some(MarksFault::InBytes),
            ),
            (
                [16_777_216, 33_554_432, 67_108_864],
                0,
                Some(MarksFault::InBytes),
            ),
            // The kernel's own on hosts with 2 TiB and with 24 TiB.
            ([25_165_824, 33_554_432, 50_331_648], 0, None),
            ([301_989_888, 402_653_184, 603_979_776], 24_576 * GIB, None),
            ([4_194_304, 4_718_592, 5_242_880], 0, None),
            (
                [786_432, 1_048_576, 26_777_216_000],
                0,
                Some(MarksFault::InBytes),
            ),
            (
                [94_500_000, 915_000_000, 927_000_000],
                64 * GIB,
                Some(MarksFault::InBytes),
            ),
            (
                [400_000, 300_000, 200_000],
                16 * GIB,
                Some(MarksFault::OutOfOrder),
            ),
            (
                [300_000, 300_000, 300_000],
                16 * GIB,
                Some(MarksFault::OutOfOrder),
            ),
            (
                [3_000_000, 4_000_000, 6_000_000],
                16 * GIB,
                Some(MarksFault::BeyondRam),
            ),
            (
                [3_000, 4_000, 6_000],
                16 * GIB,
                Some(MarksFault::FarFromDefault),
            ),
            ([191_328, 255_104, 382_656], 16 * GIB, None),
            ([3_000, 4_000, 6_000], 0, None),
        ] {
            assert_eq!(MarksFault::of(&host(ram, 4096, marks)), fault, "{marks:?}");
        }
    }

    #[test]
    fn the_kernels_own_marks_come_from_its_zones() {
        // As measured on 6.18: 23.5 GiB of which zoneinfo knows a third.
        let mut facts = host(24_684_084 << 10, 4096, [1, 2, 3]);
        facts.memory.zones = Some(advisor_facts::memory::Zones {
            managed_pages: 2_153_011,
            free_buffer_pages: 2_127_638,
        });
        let [low, pressure, high] = expected_tcp_mem(&facts).unwrap();
        assert!(
            (378_000..392_000).contains(&pressure),
            "the kernel's is 383867: {pressure}"
        );
        assert_eq!((low / 3, high), (pressure / 4, low * 2));
        // Where both agree, the zones count.
        facts.ram_bytes = 2_153_011 * 4096;
        assert_eq!(expected_tcp_mem(&facts).unwrap()[1], 2_127_638 / 16);
    }
}
