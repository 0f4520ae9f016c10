//! Hosts as they come up, with nothing set: nothing is wrong with them.

use super::*;

/// A release, with the boot values that its source computes in another way than the
/// newest one.
const KERNELS: &[&str] = &[
    "3.10.0-1160.el7",
    "3.16.85",
    "4.4.302",
    "4.9.337",
    "4.14.336",
    "4.15.18",
    "4.19.325",
    "5.4.301",
    "5.10.0-36-amd64",
    "5.15.0-160-generic",
    "5.19.17",
    "6.1.0-41-amd64",
    "6.6.119",
    "6.8.0-88-generic",
    "6.12.57",
    "6.18.44",
    "7.0.1",
    "7.3.2",
];

/// A host of so much RAM right after boot, by tcp_init(), tcp_sk_init(), inet_init() and
/// udp_init() of net/ipv4 of Linux.
/// `reserved` is what the kernel keeps for itself, in thousandths: less than it sizes its
/// tables by.
fn booted(kernel: &str, ram_bytes: u64, page_bytes: u64, cpus: u64, reserved: u64) -> Facts {
    let mut facts = Facts::without_host(kernel, ram_bytes, page_bytes);
    let release = Release::of_kernel(kernel);
    let is_at_least = |major, minor| facts.kernel_is_at_least(major, minor);
    let managed = ram_bytes / page_bytes;
    // What is below the high watermarks of the zones is no free buffer.
    let free = managed - managed * (reserved / 20) / 1000;
    let at_boot = ram_bytes + ram_bytes / 1000 * reserved;
    let settings = &mut facts.settings.clone();
    settings.fill_with_defaults(release);

    // alloc_large_system_hash(): a bucket for 128 KiB, of memory rounded up to 1 MiB, a
    // page of buckets at least, a power of two, 524288 at most.
    let (bucket_bytes, most) = (8, 512 << 10);
    let buckets = at_boot.next_multiple_of(1 << 20) >> 17;
    let buckets = buckets
        .max(page_bytes / bucket_bytes)
        .next_power_of_two()
        .min(most);
    let half = i64::try_from(buckets / 2).unwrap();
    settings.tcp_max_orphans = Some(half);
    settings.tcp_max_tw_buckets = Some(half);
    settings.tcp_ehash_entries = is_at_least(6, 1).then_some(half * 2);

    // Before Linux 4.1 tcp_mem was twice as much.
    let part = if is_at_least(4, 1) { 16 } else { 8 };
    let triple = |pressure: u64| {
        let low = pressure / 4 * 3;
        [low, pressure, low * 2]
    };
    settings.tcp_mem = Some(triple((free / part).max(128)));
    settings.udp_mem = Some(triple((free / 8).max(128)));
    let of_buffers = free * page_bytes / 128;
    let least = if is_at_least(4, 11) && !is_at_least(6, 0) {
        4096
    } else {
        page_bytes
    };
    let widest = if is_at_least(6, 18) {
        32 << 20
    } else {
        6 << 20
    };
    let begins = if is_at_least(4, 20) { 131_072 } else { 87_380 };
    settings.tcp_wmem = Some([least, 16 << 10, of_buffers.clamp(64 << 10, 4 << 20)]);
    settings.tcp_rmem = Some([least, begins, of_buffers.min(widest).max(begins)]);

    facts.cpus = cpus;
    facts.memory.available_bytes = Some(ram_bytes / 10 * 9);
    facts.memory.owned_bytes = Some(ram_bytes / 100);
    facts.memory.zones = Some(Zones {
        managed_pages: managed,
        free_buffer_pages: free,
    });
    facts.settings = settings.clone();
    facts.now = look(600, [0, 0, 0, 0]).into();
    facts.now.elsewhere = vec![namespace(7, facts.settings.clone(), [0, 0, 0, 0])];
    facts
}

fn hosts() -> impl Strategy<Value = Facts> {
    (
        prop::sample::select(KERNELS),
        // 64 MiB to 24 TiB.
        (26..45_u32, 0..1024_u64),
        prop::sample::select(vec![4_u64 << 10, 16 << 10, 64 << 10]),
        1..512_u64,
        0..600_u64,
    )
        .prop_map(|(kernel, (log, more), page_bytes, cpus, reserved)| {
            let ram_bytes = ((1_u64 << log) + (1_u64 << log) / 1024 * more).min(24 << 40);
            booted(kernel, ram_bytes, page_bytes, cpus, reserved)
        })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_host_that_boots_has_nothing_wrong(host in hosts()) {
        let advice = advise(&host, &[]);
        prop_assert!(
            advice.recommendations.is_empty(),
            "{:#?}",
            advice.recommendations
        );
        prop_assert!(advice.near_misses.is_empty());
    }
}

/// A page of 64 KiB holds more buckets than 64 MiB of RAM ask for.
#[test]
fn a_small_host_with_large_pages_has_its_default_of_orphans() {
    let host = booted("3.10.0-1160.el7", 64 << 20, 64 << 10, 1, 0);
    assert!(advise(&host, &[]).recommendations.is_empty());
}
