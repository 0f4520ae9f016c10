//! `net.ipv4.*` that is not TCP's: ports, UDP, ICMP, fragments, routes.

use super::{
    BYTES_SINCE, Default, Form, INT, INT_MAX, Numbers, Relation, Setting, UINT_MAX, ULONG_MAX,
    Unit, Width, any_byte, any_int, byte, flag, int, linux, milliseconds, numbers, read_only,
    seconds, setting, text, unsigned,
};

const PORTS: Form = Form::Numbers(Numbers {
    count: 2,
    width: Width::Int,
    least: 1,
    greatest: 65_535,
    relation: Relation::PortRange,
});

pub(super) const SETTINGS: &[Setting] = &[
    any_int("net.ipv4.cipso_cache_bucket_size", "10").kernel(),
    any_int("net.ipv4.cipso_cache_enable", "1").kernel(),
    any_int("net.ipv4.cipso_rbm_optfmt", "0").kernel(),
    any_int("net.ipv4.cipso_rbm_strictvalid", "1").kernel(),
    unsigned("net.ipv4.fib_multipath_hash_fields", 1, 0xfff, "7").since(5, 14),
    byte("net.ipv4.fib_multipath_hash_policy", 0, 3, "0")
        .formerly(&[(linux(5, 13), numbers(Width::Int, 0, 2))])
        .since(4, 12),
    unsigned("net.ipv4.fib_multipath_hash_seed", 0, UINT_MAX, "0").since(6, 11),
    flag("net.ipv4.fib_multipath_use_neigh", "0").since(4, 7),
    byte("net.ipv4.fib_notify_on_flag_change", 0, 2, "0").since(5, 12),
    unsigned("net.ipv4.fib_sync_mem", 64 << 10, 64 << 20, "524288")
        .unit(Unit::Bytes)
        .since(5, 2)
        .kernel(),
    any_byte("net.ipv4.fwmark_reflect", "0").since(3, 16),
    flag("net.ipv4.icmp_echo_enable_probe", "0").since(5, 13),
    byte("net.ipv4.icmp_echo_ignore_all", 0, 1, "0").formerly(&[
        (linux(5, 13), numbers(Width::Byte, 0, 255)),
        (BYTES_SINCE, INT),
    ]),
    byte("net.ipv4.icmp_echo_ignore_broadcasts", 0, 1, "1").formerly(&[
        (linux(5, 13), numbers(Width::Byte, 0, 255)),
        (BYTES_SINCE, INT),
    ]),
    unsigned("net.ipv4.icmp_errors_extension_mask", 0, 1, "0").since(6, 19),
    byte("net.ipv4.icmp_errors_use_inbound_ifaddr", 0, 1, "0").formerly(&[
        (linux(5, 13), numbers(Width::Byte, 0, 255)),
        (BYTES_SINCE, INT),
    ]),
    byte("net.ipv4.icmp_ignore_bogus_error_responses", 0, 1, "1").formerly(&[
        (linux(5, 13), numbers(Width::Byte, 0, 255)),
        (BYTES_SINCE, INT),
    ]),
    int("net.ipv4.icmp_msgs_burst", 0, INT_MAX, "10000")
        .default_formerly(&[(linux(7, 0), Default::Value("50"))])
        .since(3, 18)
        .namespaced(5, 17),
    int("net.ipv4.icmp_msgs_per_sec", 0, INT_MAX, "10000")
        .default_formerly(&[(linux(7, 0), Default::Value("1000"))])
        .since(3, 18)
        .namespaced(5, 17),
    milliseconds("net.ipv4.icmp_ratelimit", "1000"),
    any_int("net.ipv4.icmp_ratemask", "6168"),
    any_byte("net.ipv4.igmp_link_local_mcast_reports", "1")
        .formerly(&[(linux(5, 13), INT)])
        .since(4, 3),
    any_int("net.ipv4.igmp_max_memberships", "20"),
    any_int("net.ipv4.igmp_max_msf", "10"),
    int("net.ipv4.igmp_qrv", 1, INT_MAX, "2").since(3, 17),
    seconds("net.ipv4.inet_peer_maxttl", "600").kernel(),
    seconds("net.ipv4.inet_peer_minttl", "120").kernel(),
    any_int("net.ipv4.inet_peer_threshold", "")
        .computed("by the RAM: 65664 mostly")
        .kernel(),
    flag("net.ipv4.ip_autobind_reuse", "0").since(5, 7),
    byte("net.ipv4.ip_default_ttl", 1, 255, "64")
        .formerly(&[(BYTES_SINCE, numbers(Width::Int, 1, 255))]),
    any_byte("net.ipv4.ip_dynaddr", "0"),
    any_byte("net.ipv4.ip_early_demux", "1").since(3, 6),
    any_int("net.ipv4.ip_forward", "0"),
    flag("net.ipv4.ip_forward_update_priority", "1").since(4, 19),
    any_byte("net.ipv4.ip_forward_use_pmtu", "0").since(3, 14),
    setting("net.ipv4.ip_local_port_range", PORTS, "32768 60999")
        .default_formerly(&[(linux(4, 4), Default::Value("32768 61000"))])
        .namespaced(3, 13),
    unsigned("net.ipv4.ip_local_port_step_width", 0, UINT_MAX, "0").since(7, 1),
    setting("net.ipv4.ip_local_reserved_ports", Form::Ports, "")
        .since(2, 6)
        .namespaced(3, 16),
    any_byte("net.ipv4.ip_no_pmtu_disc", "0"),
    any_byte("net.ipv4.ip_nonlocal_bind", "0"),
    int("net.ipv4.ip_unprivileged_port_start", 0, 65_535, "1024")
        .relation(Relation::BelowPortRange)
        .since(4, 11),
    setting(
        "net.ipv4.ipfrag_high_thresh",
        numbers(Width::UnsignedLong, 0, ULONG_MAX),
        "4194304",
    )
    .relation(Relation::Other)
    .unit(Unit::Bytes),
    setting(
        "net.ipv4.ipfrag_low_thresh",
        numbers(Width::UnsignedLong, 0, ULONG_MAX),
        "3145728",
    )
    .relation(Relation::Other)
    .unit(Unit::Bytes),
    int("net.ipv4.ipfrag_max_dist", 0, INT_MAX, "64"),
    seconds("net.ipv4.ipfrag_secret_interval", "0").kernel(),
    seconds("net.ipv4.ipfrag_time", "30"),
    flag("net.ipv4.nexthop_compat_mode", "1").since(5, 8),
    text("net.ipv4.ping_group_range", Default::Value("1 0")).since(3, 0),
    flag("net.ipv4.raw_l3mdev_accept", "1").since(5, 0),
    unsigned("net.ipv4.udp_child_hash_entries", 0, 1 << 16, "0").since(6, 2),
    byte("net.ipv4.udp_early_demux", 0, 255, "1")
        .formerly(&[(linux(5, 13), numbers(Width::Unsigned, 0, UINT_MAX))])
        .since(4, 12),
    read_only("net.ipv4.udp_hash_entries").since(6, 2),
    flag("net.ipv4.udp_l3mdev_accept", "0").since(4, 15),
    setting(
        "net.ipv4.udp_mem",
        numbers(Width::UnsignedLong, 0, ULONG_MAX),
        "",
    )
    .times(3)
    .unit(Unit::Pages)
    .computed("an eighth of the free buffer pages, times 3/4, 1 and 3/2")
    .kernel(),
    int("net.ipv4.udp_rmem_min", 1, INT_MAX, "")
        .computed("a page")
        .unit(Unit::Bytes)
        .namespaced(4, 17),
    int("net.ipv4.udp_wmem_min", 1, INT_MAX, "")
        .computed("a page")
        .unit(Unit::Bytes)
        .namespaced(4, 17),
    int("net.ipv4.xfrm4_gc_thresh", super::INT_MIN, INT_MAX, "32768")
        .computed("nothing since 4.14"),
];
