//! `net.ipv4.tcp_*`.

use super::{
    BYTES_SINCE, Default, Form, INT, INT_MAX, Numbers, Relation, Setting, UINT_MAX, ULONG_MAX,
    Unit, Width, any_byte, any_int, byte, flag, int, linux, milliseconds, numbers, read_only,
    seconds, setting, text, unsigned, word,
};

const UNSIGNED_LONG: super::Form = numbers(Width::UnsignedLong, 0, ULONG_MAX);

/// Triples of buffer sizes.
const NOT_BELOW_1: Form = triple(1);
const NOT_BELOW_PAGE: Form = triple(4096);

const fn triple(least: i128) -> Form {
    Form::Numbers(Numbers {
        count: 3,
        width: Width::Int,
        least,
        greatest: INT_MAX,
        relation: Relation::None,
    })
}

/// How the kernel sets the sizes of buffers.
const BY_RAM: &str = "the first is a page; the third is less on hosts with little RAM";

/// Most became each namespace's own in 4.15.
pub(super) const SETTINGS: &[Setting] = &[
    any_byte("net.ipv4.tcp_abort_on_overflow", "0").namespaced(4, 15),
    int("net.ipv4.tcp_adv_win_scale", -31, 31, "1").namespaced(4, 15),
    text(
        "net.ipv4.tcp_allowed_congestion_control",
        Default::Computed("what the kernel has built in and what it allows"),
    )
    .kernel_readable(2, 6),
    byte("net.ipv4.tcp_app_win", 0, 31, "31")
        .formerly(&[(BYTES_SINCE, INT)])
        .namespaced(4, 15),
    byte("net.ipv4.tcp_autocorking", 0, 1, "1")
        .formerly(super::FLAG_BEFORE_BYTE)
        .since(3, 14)
        .namespaced(4, 15),
    read_only("net.ipv4.tcp_available_congestion_control"),
    read_only("net.ipv4.tcp_available_ulp")
        .since(4, 13)
        .kernel(),
    flag("net.ipv4.tcp_backlog_ack_defer", "1").since(6, 7),
    any_int("net.ipv4.tcp_base_mss", "1024")
        .unit(Unit::Bytes)
        .namespaced(4, 1),
    any_int("net.ipv4.tcp_challenge_ack_limit", "2147483647")
        .default_formerly(&[(linux(5, 18), Default::Value("1000"))])
        .since(3, 6)
        .namespaced(4, 15),
    unsigned("net.ipv4.tcp_child_ehash_entries", 0, 16 << 20, "0").since(6, 1),
    setting("net.ipv4.tcp_comp_sack_delay_ns", UNSIGNED_LONG, "1000000")
        .unit(Unit::Nanoseconds)
        .since(4, 18),
    byte("net.ipv4.tcp_comp_sack_nr", 0, 255, "44")
        .formerly(&[(BYTES_SINCE, numbers(Width::Int, 0, 255))])
        .since(4, 18),
    int("net.ipv4.tcp_comp_sack_rtt_percent", 1, 1000, "33")
        .unit(Unit::Percent)
        .since(6, 19),
    setting("net.ipv4.tcp_comp_sack_slack_ns", UNSIGNED_LONG, "10000")
        .unit(Unit::Nanoseconds)
        .default_formerly(&[(linux(6, 19), Default::Value("100000"))])
        .since(5, 8),
    word(
        "net.ipv4.tcp_congestion_control",
        Default::Computed("CONFIG_DEFAULT_TCP_CONG, mostly cubic"),
    )
    .namespaced(4, 15),
    any_byte("net.ipv4.tcp_dsack", "1").namespaced(4, 15),
    any_byte("net.ipv4.tcp_early_demux", "1")
        .formerly(&[(linux(5, 13), numbers(Width::Unsigned, 0, UINT_MAX))])
        .since(4, 12),
    byte("net.ipv4.tcp_early_retrans", 0, 4, "3")
        .formerly(&[(BYTES_SINCE, numbers(Width::Int, 0, 4))])
        .since(3, 5)
        .namespaced(4, 15),
    byte("net.ipv4.tcp_ecn", 0, 5, "2")
        .formerly(&[
            (linux(6, 19), numbers(Width::Byte, 0, 2)),
            (linux(5, 12), numbers(Width::Byte, 0, 255)),
            (BYTES_SINCE, INT),
        ])
        .namespaced(3, 9),
    byte("net.ipv4.tcp_ecn_fallback", 0, 1, "1")
        .formerly(&[
            (linux(5, 12), numbers(Width::Byte, 0, 255)),
            (BYTES_SINCE, INT),
        ])
        .since(4, 2),
    byte("net.ipv4.tcp_ecn_option", 0, 3, "2")
        .formerly(&[(linux(6, 19), numbers(Width::Byte, 0, 2))])
        .since(6, 18),
    byte("net.ipv4.tcp_ecn_option_beacon", 0, 3, "3").since(6, 18),
    read_only("net.ipv4.tcp_ehash_entries").since(6, 1),
    any_byte("net.ipv4.tcp_fack", "0").namespaced(4, 15),
    any_int("net.ipv4.tcp_fastopen", "1")
        .since(3, 6)
        .namespaced(4, 15),
    int(
        "net.ipv4.tcp_fastopen_blackhole_timeout_sec",
        0,
        INT_MAX,
        "0",
    )
    .unit(Unit::Seconds)
    .default_formerly(&[(linux(5, 10), Default::Value("3600"))])
    .since(4, 12)
    .namespaced(4, 15),
    text(
        "net.ipv4.tcp_fastopen_key",
        Default::Computed("chosen at random"),
    )
    .since(3, 7)
    .namespaced(4, 15),
    seconds("net.ipv4.tcp_fin_timeout", "60").namespaced(4, 6),
    any_byte("net.ipv4.tcp_frto", "2").namespaced(4, 15),
    any_byte("net.ipv4.tcp_fwmark_accept", "0").since(3, 16),
    milliseconds("net.ipv4.tcp_invalid_ratelimit", "500")
        .since(4, 0)
        .namespaced(4, 15),
    seconds("net.ipv4.tcp_keepalive_intvl", "75").namespaced(4, 5),
    any_byte("net.ipv4.tcp_keepalive_probes", "9").namespaced(4, 5),
    seconds("net.ipv4.tcp_keepalive_time", "7200").namespaced(4, 5),
    flag("net.ipv4.tcp_l3mdev_accept", "0").since(4, 5),
    any_int("net.ipv4.tcp_limit_output_bytes", "4194304")
        .unit(Unit::Bytes)
        .default_formerly(&[
            (linux(6, 16), Default::Value("1048576")),
            (linux(4, 20), Default::Value("262144")),
        ])
        .since(3, 6)
        .namespaced(4, 15),
    any_int("net.ipv4.tcp_low_latency", "0").kernel(),
    any_int("net.ipv4.tcp_max_orphans", "")
        .computed("half of tcp_ehash_entries")
        .kernel(),
    int("net.ipv4.tcp_max_reordering", 1, INT_MAX, "300")
        .formerly(&[(linux(5, 10), INT)])
        .since(3, 19)
        .namespaced(4, 15),
    any_int("net.ipv4.tcp_max_syn_backlog", "")
        .computed("a 128th of tcp_ehash_entries, 128 at least")
        .namespaced(4, 11),
    any_int("net.ipv4.tcp_max_tw_buckets", "")
        .computed("half of tcp_ehash_entries")
        .namespaced(4, 11),
    setting("net.ipv4.tcp_mem", UNSIGNED_LONG, "")
        .times(3)
        .unit(Unit::Pages)
        .computed("a sixteenth of the free buffer pages, times 3/4, 1 and 3/2")
        .kernel(),
    flag("net.ipv4.tcp_migrate_req", "0")
        .since(5, 14)
        .backported(&[linux(5, 10)]),
    int("net.ipv4.tcp_min_rtt_wlen", 0, 24 * 3600, "300")
        .unit(Unit::Seconds)
        .since(4, 4)
        .namespaced(4, 15),
    int("net.ipv4.tcp_min_snd_mss", 48, 65_535, "48")
        .unit(Unit::Bytes)
        .since(5, 2)
        .backported(&[
            linux(3, 16),
            linux(4, 4),
            linux(4, 9),
            linux(4, 14),
            linux(4, 19),
            linux(5, 1),
        ]),
    byte("net.ipv4.tcp_min_tso_segs", 1, 255, "2")
        .formerly(&[(BYTES_SINCE, numbers(Width::Int, 1, 255))])
        .since(3, 12)
        .namespaced(4, 15),
    any_byte("net.ipv4.tcp_moderate_rcvbuf", "1").namespaced(4, 15),
    int("net.ipv4.tcp_mtu_probe_floor", 48, 65_535, "48")
        .unit(Unit::Bytes)
        .since(5, 4),
    any_byte("net.ipv4.tcp_mtu_probing", "0").namespaced(4, 1),
    any_byte("net.ipv4.tcp_no_metrics_save", "0").namespaced(4, 15),
    flag("net.ipv4.tcp_no_ssthresh_metrics_save", "1").since(5, 6),
    unsigned("net.ipv4.tcp_notsent_lowat", 0, UINT_MAX, "4294967295")
        .unit(Unit::Bytes)
        .since(3, 12)
        .namespaced(4, 6),
    any_byte("net.ipv4.tcp_orphan_retries", "0").namespaced(4, 6),
    int("net.ipv4.tcp_pacing_ca_ratio", 0, 1000, "120")
        .unit(Unit::Percent)
        .since(4, 3)
        .namespaced(4, 15),
    int("net.ipv4.tcp_pacing_ss_ratio", 0, 1000, "200")
        .unit(Unit::Percent)
        .since(4, 3)
        .namespaced(4, 15),
    byte("net.ipv4.tcp_pingpong_thresh", 1, 255, "1").since(6, 7),
    int("net.ipv4.tcp_plb_cong_thresh", 0, 256, "128").since(6, 2),
    flag("net.ipv4.tcp_plb_enabled", "0").since(6, 2),
    byte("net.ipv4.tcp_plb_idle_rehash_rounds", 0, 31, "3").since(6, 2),
    byte("net.ipv4.tcp_plb_rehash_rounds", 0, 31, "12").since(6, 2),
    any_byte("net.ipv4.tcp_plb_suspend_rto_sec", "60")
        .unit(Unit::Seconds)
        .since(6, 2),
    // UINT_MAX / HZ; with the least HZ.
    unsigned("net.ipv4.tcp_probe_interval", 0, UINT_MAX / 100, "600")
        .unit(Unit::Seconds)
        .since(4, 1),
    any_int("net.ipv4.tcp_probe_threshold", "8")
        .unit(Unit::Bytes)
        .since(4, 1),
    int("net.ipv4.tcp_rcvbuf_low_rtt", 0, INT_MAX, "1000")
        .unit(Unit::Microseconds)
        .since(6, 19),
    any_byte("net.ipv4.tcp_recovery", "1")
        .since(4, 4)
        .namespaced(4, 15),
    flag("net.ipv4.tcp_reflect_tos", "0").since(5, 10),
    int("net.ipv4.tcp_reordering", 1, INT_MAX, "3")
        .relation(Relation::BelowMaxReordering)
        .formerly(&[(linux(5, 10), INT)])
        .namespaced(4, 6),
    any_byte("net.ipv4.tcp_retrans_collapse", "1").namespaced(4, 15),
    byte("net.ipv4.tcp_retries1", 0, 255, "3")
        .formerly(&[(BYTES_SINCE, numbers(Width::Int, super::INT_MIN, 255))])
        .namespaced(4, 6),
    any_byte("net.ipv4.tcp_retries2", "15").namespaced(4, 6),
    any_byte("net.ipv4.tcp_rfc1337", "0").namespaced(4, 15),
    int("net.ipv4.tcp_rmem", 4096, INT_MAX, "4096 131072 33554432")
        .times(3)
        .unit(Unit::Bytes)
        // The least came late, and to stable releases of two older lines.
        .formerly(&[
            (linux(7, 0), NOT_BELOW_1),
            (linux(6, 13), NOT_BELOW_PAGE),
            (linux(6, 12), NOT_BELOW_1),
            (linux(6, 2), NOT_BELOW_PAGE),
            (linux(6, 1), NOT_BELOW_1),
        ])
        .typical("4096 131072 33554432", BY_RAM)
        .default_formerly(&[
            (
                linux(6, 16),
                Default::Typical("4096 131072 6291456", BY_RAM),
            ),
            (linux(4, 20), Default::Typical("4096 87380 6291456", BY_RAM)),
        ])
        .namespaced(4, 15),
    int("net.ipv4.tcp_rto_max_ms", 1000, 120_000, "120000")
        .unit(Unit::Milliseconds)
        .since(6, 15),
    int("net.ipv4.tcp_rto_min_us", 1, INT_MAX, "200000")
        .unit(Unit::Microseconds)
        .since(6, 11),
    any_byte("net.ipv4.tcp_sack", "1").namespaced(4, 14),
    flag("net.ipv4.tcp_shrink_window", "0")
        .since(6, 5)
        .backported(&[linux(6, 1), linux(6, 4)]),
    any_byte("net.ipv4.tcp_slow_start_after_idle", "1").namespaced(4, 15),
    any_byte("net.ipv4.tcp_stdurg", "0").namespaced(4, 15),
    byte("net.ipv4.tcp_syn_linear_timeouts", 0, 127, "4").since(6, 5),
    byte("net.ipv4.tcp_syn_retries", 1, 127, "6")
        .formerly(&[(BYTES_SINCE, numbers(Width::Int, 1, 127))])
        .namespaced(4, 6),
    any_byte("net.ipv4.tcp_synack_retries", "5").namespaced(4, 6),
    any_byte("net.ipv4.tcp_syncookies", "1").namespaced(4, 6),
    any_byte("net.ipv4.tcp_thin_linear_timeouts", "0").namespaced(4, 15),
    any_byte("net.ipv4.tcp_timestamps", "1").namespaced(4, 14),
    byte("net.ipv4.tcp_tso_rtt_log", 0, 31, "9")
        // As with tcp_rmem.
        .formerly(&[
            (linux(7, 3), numbers(Width::Byte, 0, 255)),
            (linux(6, 13), numbers(Width::Byte, 0, 31)),
            (linux(6, 12), numbers(Width::Byte, 0, 255)),
        ])
        .since(5, 18),
    any_byte("net.ipv4.tcp_tso_win_divisor", "3").namespaced(4, 15),
    byte("net.ipv4.tcp_tw_reuse", 0, 2, "2")
        .formerly(&[
            (BYTES_SINCE, numbers(Width::Int, 0, 2)),
            (linux(4, 19), INT),
        ])
        .default_formerly(&[(linux(4, 19), Default::Value("0"))])
        .namespaced(4, 11),
    unsigned("net.ipv4.tcp_tw_reuse_delay", 1, 60_000, "1000")
        .unit(Unit::Milliseconds)
        .since(6, 14),
    any_byte("net.ipv4.tcp_window_scaling", "1").namespaced(4, 14),
    int("net.ipv4.tcp_wmem", 1, INT_MAX, "4096 16384 4194304")
        .times(3)
        .unit(Unit::Bytes)
        .typical("4096 16384 4194304", BY_RAM)
        .namespaced(4, 15),
    any_byte("net.ipv4.tcp_workaround_signed_windows", "0").namespaced(4, 15),
];
