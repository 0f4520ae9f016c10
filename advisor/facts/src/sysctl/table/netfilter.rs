//! Connection tracking: `net.netfilter.nf_conntrack_*` and
//! `net.nf_conntrack_max`. They are there once its module is.

use super::{
    Default, Form, INT, INT_MAX, Relation, Release, Setting, Unit, Width, any_byte, any_int, byte,
    flag, int, linux, numbers, read_only, seconds, setting,
};

/// Bytes since 5.14.
const INT_BEFORE: &[(Release, Form)] = &[(linux(5, 14), numbers(Width::Int, 0, 1))];

const fn tracking_flag(name: &'static str, default: &'static str) -> Setting {
    byte(name, 0, 1, default).formerly(INT_BEFORE)
}

const MAX: Setting = int("net.netfilter.nf_conntrack_max", 1, INT_MAX, "")
    .formerly(&[
        (linux(7, 0), numbers(Width::Int, 0, INT_MAX)),
        (linux(5, 15), INT),
    ])
    .computed("nf_conntrack_buckets")
    .kernel_readable(2, 6);

pub(super) const SETTINGS: &[Setting] = &[
    tracking_flag("net.netfilter.nf_conntrack_acct", "0"),
    any_int("net.netfilter.nf_conntrack_buckets", "")
        .computed("by the RAM: 262144 from 4 GiB on")
        .kernel_readable(2, 6),
    tracking_flag("net.netfilter.nf_conntrack_checksum", "1"),
    read_only("net.netfilter.nf_conntrack_count"),
    tracking_flag("net.netfilter.nf_conntrack_dccp_loose", "1").until(6, 17),
    seconds("net.netfilter.nf_conntrack_dccp_timeout_closereq", "64").until(6, 17),
    seconds("net.netfilter.nf_conntrack_dccp_timeout_closing", "64").until(6, 17),
    seconds("net.netfilter.nf_conntrack_dccp_timeout_open", "43200").until(6, 17),
    seconds("net.netfilter.nf_conntrack_dccp_timeout_partopen", "480").until(6, 17),
    seconds("net.netfilter.nf_conntrack_dccp_timeout_request", "240").until(6, 17),
    seconds("net.netfilter.nf_conntrack_dccp_timeout_respond", "480").until(6, 17),
    seconds("net.netfilter.nf_conntrack_dccp_timeout_timewait", "240").until(6, 17),
    byte("net.netfilter.nf_conntrack_events", 0, 2, "2")
        .formerly(&[
            (linux(5, 19), numbers(Width::Byte, 0, 1)),
            (linux(5, 14), numbers(Width::Int, 0, 1)),
        ])
        .default_formerly(&[(linux(5, 19), Default::Value("1"))]),
    int("net.netfilter.nf_conntrack_expect_max", 1, INT_MAX, "")
        .formerly(&[(linux(5, 15), INT)])
        .computed("nf_conntrack_buckets / 256 * 4")
        .kernel_readable(2, 6),
    setting(
        "net.netfilter.nf_conntrack_frag6_high_thresh",
        numbers(Width::UnsignedLong, 0, super::ULONG_MAX),
        "4194304",
    )
    .relation(Relation::Other)
    .unit(Unit::Bytes),
    setting(
        "net.netfilter.nf_conntrack_frag6_low_thresh",
        numbers(Width::UnsignedLong, 0, super::ULONG_MAX),
        "3145728",
    )
    .relation(Relation::Other)
    .unit(Unit::Bytes),
    seconds("net.netfilter.nf_conntrack_frag6_timeout", "60"),
    seconds("net.netfilter.nf_conntrack_generic_timeout", "600"),
    seconds("net.netfilter.nf_conntrack_gre_timeout", "30"),
    seconds("net.netfilter.nf_conntrack_gre_timeout_stream", "180"),
    flag("net.netfilter.nf_conntrack_helper", "0").until(6, 0),
    seconds("net.netfilter.nf_conntrack_icmp_timeout", "30"),
    seconds("net.netfilter.nf_conntrack_icmpv6_timeout", "30"),
    any_byte("net.netfilter.nf_conntrack_log_invalid", "0"),
    MAX,
    seconds("net.netfilter.nf_conntrack_sctp_timeout_closed", "10"),
    seconds("net.netfilter.nf_conntrack_sctp_timeout_cookie_echoed", "3"),
    seconds("net.netfilter.nf_conntrack_sctp_timeout_cookie_wait", "3"),
    seconds("net.netfilter.nf_conntrack_sctp_timeout_established", "210")
        .default_formerly(&[(linux(6, 3), Default::Value("432000"))]),
    seconds(
        "net.netfilter.nf_conntrack_sctp_timeout_heartbeat_acked",
        "210",
    )
    .since(3, 16)
    .until(6, 3),
    seconds(
        "net.netfilter.nf_conntrack_sctp_timeout_heartbeat_sent",
        "30",
    )
    .since(3, 16),
    seconds(
        "net.netfilter.nf_conntrack_sctp_timeout_shutdown_ack_sent",
        "3",
    ),
    seconds("net.netfilter.nf_conntrack_sctp_timeout_shutdown_recd", "3")
        .default_formerly(&[(linux(6, 2), Default::Value("0"))]),
    seconds("net.netfilter.nf_conntrack_sctp_timeout_shutdown_sent", "3")
        .default_formerly(&[(linux(6, 2), Default::Value("0"))]),
    tracking_flag("net.netfilter.nf_conntrack_tcp_be_liberal", "0"),
    flag("net.netfilter.nf_conntrack_tcp_ignore_invalid_rst", "0").since(5, 14),
    tracking_flag("net.netfilter.nf_conntrack_tcp_loose", "1"),
    any_byte("net.netfilter.nf_conntrack_tcp_max_retrans", "3").formerly(&[(linux(5, 14), INT)]),
    seconds("net.netfilter.nf_conntrack_tcp_timeout_close", "10"),
    seconds("net.netfilter.nf_conntrack_tcp_timeout_close_wait", "60"),
    seconds(
        "net.netfilter.nf_conntrack_tcp_timeout_established",
        "432000",
    ),
    seconds("net.netfilter.nf_conntrack_tcp_timeout_fin_wait", "120"),
    seconds("net.netfilter.nf_conntrack_tcp_timeout_last_ack", "30"),
    seconds("net.netfilter.nf_conntrack_tcp_timeout_max_retrans", "300"),
    seconds("net.netfilter.nf_conntrack_tcp_timeout_syn_recv", "60"),
    seconds("net.netfilter.nf_conntrack_tcp_timeout_syn_sent", "120"),
    seconds("net.netfilter.nf_conntrack_tcp_timeout_time_wait", "120"),
    seconds(
        "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged",
        "300",
    ),
    tracking_flag("net.netfilter.nf_conntrack_timestamp", "0"),
    seconds("net.netfilter.nf_conntrack_udp_timeout", "30"),
    seconds("net.netfilter.nf_conntrack_udp_timeout_stream", "120")
        .default_formerly(&[(linux(5, 0), Default::Value("180"))]),
    // The same number under an older name, in the initial namespace alone.
    {
        let mut setting = MAX.kernel();
        setting.name = "net.nf_conntrack_max";
        setting
    },
];
