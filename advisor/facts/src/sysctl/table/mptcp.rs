//! `net.mptcp.*`.

use super::{
    Default, INT_MAX, Setting, Unit, Width, any_byte, byte, flag, int, linux, numbers, read_only,
    seconds, unsigned, word,
};

pub(super) const SETTINGS: &[Setting] = &[
    flag("net.mptcp.add_addr_v6_port_drop_ts", "1").since(7, 2),
    seconds("net.mptcp.add_addr_timeout", "120").since(5, 12),
    flag("net.mptcp.allow_join_initial_addr_port", "1").since(5, 15),
    read_only("net.mptcp.available_path_managers").since(6, 16),
    read_only("net.mptcp.available_schedulers").since(6, 10),
    int("net.mptcp.blackhole_timeout", 0, INT_MAX, "3600")
        .unit(Unit::Seconds)
        .since(6, 12),
    flag("net.mptcp.checksum_enabled", "0").since(5, 14),
    seconds("net.mptcp.close_timeout", "60").since(6, 7),
    byte("net.mptcp.enabled", 0, 1, "1")
        .formerly(&[(linux(5, 14), numbers(Width::Int, super::INT_MIN, INT_MAX))])
        .since(5, 6),
    word("net.mptcp.path_manager", Default::Value("kernel")).since(6, 16),
    byte("net.mptcp.pm_type", 0, 1, "0").since(5, 18),
    word("net.mptcp.scheduler", Default::Value("default")).since(6, 7),
    unsigned("net.mptcp.stale_loss_cnt", 0, super::UINT_MAX, "4").since(5, 15),
    any_byte("net.mptcp.syn_retrans_before_tcp_fallback", "2").since(6, 15),
];
