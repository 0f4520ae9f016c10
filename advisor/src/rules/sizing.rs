//! What tcp_mem may be on a host, and what the gauge of it says: one answer for every
//! rule.

use advisor_facts::condition::{Condition, ConditionSums};
use advisor_facts::{Facts, Look};

/// The memory of all TCP sockets that tcp_mem counts, in bytes; `None` where the gauge
/// is not there, or where net.core.bypass_prot_mem leaves sockets out of it.
pub(super) fn gauge_bytes(look: &Look, facts: &Facts) -> Option<u64> {
    let units = look.sockstat.get("TCP.mem")?;
    let units = u64::try_from(units).unwrap_or(0);
    (!facts.gauge_is_bypassed()).then(|| units.saturating_mul(facts.gauge_unit_bytes()))
}

/// The same in pages, as tcp_mem counts.
pub(super) fn tcp_pages(facts: &Facts) -> Option<u64> {
    Some(gauge_bytes(&facts.now, facts)?.div_ceil(facts.page_bytes))
}

/// What the CPUs may hold back from the gauge, in pages.
pub(super) fn gauge_noise_pages(facts: &Facts) -> u64 {
    facts
        .cpus
        .saturating_mul(facts.settings.mem_pcpu_rsv.unwrap_or(0))
}

/// Why a rule about the memory of TCP cannot tell, where the gauge leaves sockets out.
pub(super) const BYPASSED: &str = "sockets are not counted against tcp_mem \
    (net.core.bypass_prot_mem is 1, or a BPF program says so for some), and TCP.mem of \
    /proc/net/sockstat does not say what they hold; only the memory limits of cgroups bound them";

/// How much of the memory of TCP is held by sockets with which nothing is amiss: what more
/// memory may be for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// The gauge, in pages.
    pub usage_pages: u64,
    /// Of that, what is not held by a fault; what was not seen counts as if it were right.
    pub right_pages: u64,
    /// Whether half of the memory or more was seen in sockets.
    pub is_seen: bool,
    /// What the sockets hold that were seen, by their conditions.
    pub sums: ConditionSums,
}

impl Load {
    /// `None` without a gauge.
    pub(super) fn of(facts: &Facts) -> Option<Self> {
        let usage_pages = tcp_pages(facts)?;
        let mut sums = ConditionSums::default();
        for (_, socket) in facts.now.every_socket() {
            sums.count(Condition::of(socket), socket.held_bytes());
        }
        let seen = sums.total().bytes;
        let amiss = sums.sum(Condition::is_amiss).bytes;
        let usage = usage_pages.saturating_mul(facts.page_bytes);
        let is_seen = seen > 0 && seen.saturating_mul(2) >= usage;
        let right_pages = if is_seen {
            // What the sockets do not show is overhead of theirs.
            let right = u128::from(usage_pages) * u128::from(seen - amiss) / u128::from(seen);
            u64::try_from(right).unwrap_or(u64::MAX)
        } else {
            usage_pages.saturating_sub(amiss / facts.page_bytes)
        };
        Some(Self {
            usage_pages,
            right_pages,
            is_seen,
            sums,
        })
    }
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

/// Marks of tcp_mem that are right for a host: the kernel's own, higher where
/// what sockets hold by right asks for it, and within what the RAM can pay for.
/// `None` where the RAM is not known, or cannot pay for that.
pub(super) fn sound_tcp_mem(facts: &Facts) -> Option<[u64; 3]> {
    let most = most_tcp_mem_pages(facts)?;
    let usage = Load::of(facts).map_or(0, |load| load.right_pages);
    let wanted = usage.checked_add(usage / 2)?;
    let pressure = expected_tcp_mem(facts)?[1].max(wanted).min(most / 3 * 2);
    // The usage has to be a fifth below the pressure mark, or the pressure would go on.
    (pressure > 0 && usage / 4 < pressure / 5).then(|| proportion(pressure))
}

/// The kernel's default of tcp_max_orphans: half the buckets of the table of established
/// connections. Where those cannot be read (before 6.2), what the kernel makes of the RAM:
/// a bucket for 32 KiB, for 128 KiB from 131072 pages on, rounded up to a power of two,
/// a page of them at least, 524288 at most (tcp_init, alloc_large_system_hash), and twice
/// what the RAM makes, because more was there at boot. `None` where neither is known.
pub(super) fn default_max_orphans(facts: &Facts) -> Option<i64> {
    facts.settings.half_ehash_entries().or_else(|| {
        let pages = facts.ram_bytes / facts.page_bytes;
        let scale = if pages >= 128 << 10 { 17 } else { 15 };
        let buckets = (facts.ram_bytes >> scale).checked_next_power_of_two()?;
        let of_a_page = facts.page_bytes / 8;
        let twice = buckets.saturating_mul(2).max(of_a_page).min(512 << 10);
        (facts.ram_bytes > 0).then(|| i64::try_from(twice / 2).unwrap_or(i64::MAX))
    })
}

/// What is wrong with the marks of tcp_mem, the worst first: each is one
/// rule's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MarksFault {
    /// Bytes instead of pages.
    InBytes,
    /// Not rising.
    OutOfOrder,
    /// The high mark is above three quarters of the RAM.
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
        if low < pressure && pressure < high && are_in_bytes(facts, marks, PartOfMemory::OfTcp) {
            return Some(Self::InBytes);
        }
        if low > pressure || pressure >= high {
            return Some(Self::OutOfOrder);
        }
        if ram == 0 {
            return None;
        }
        if bytes > ram / 4 * 3 {
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

/// The part of the memory that the kernel gives a protocol at boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PartOfMemory {
    /// A sixteenth of the free buffer pages.
    OfTcp,
    /// An eighth.
    OfUdp,
}

/// The values of udp_mem that the kernel would compute now. `None` if neither
/// /proc/zoneinfo nor the RAM is known.
pub(super) fn expected_udp_mem(facts: &Facts) -> Option<[u64; 3]> {
    expected_tcp_mem(facts).map(|[_, pressure, _]| proportion(pressure.saturating_mul(2)))
}

/// Above this much RAM there are so few hosts that marks for one are bytes, unless the
/// RAM is known.
const PLAUSIBLE_RAM_BYTES: u128 = 2 << 40;

/// How far one mark of tcp_mem may be from the next. The kernel's own are 4/3 and 3/2
/// apart; those of a buffer's sizes, a page, 87380 bytes and megabytes, 20 and more.
const FARTHEST_MARKS: u64 = 16;

/// Whether rising marks of tcp_mem or udp_mem make sense as bytes alone: read as pages they are for
/// no host there is, or so far apart that no host needs them.
pub(super) fn are_in_bytes(
    facts: &Facts,
    [low, pressure, high]: [u64; 3],
    part: PartOfMemory,
) -> bool {
    let bytes = u128::from(high) * u128::from(facts.page_bytes);
    let ram = u128::from(ram_of_high_mark(facts, high));
    let too_large = match facts.ram_bytes {
        0 => match part {
            PartOfMemory::OfTcp => ram > PLAUSIBLE_RAM_BYTES,
            PartOfMemory::OfUdp => ram / 2 > PLAUSIBLE_RAM_BYTES,
        },
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
