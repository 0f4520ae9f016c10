//! Settings that Linux does not have any more, and that lists still name.

use super::{Setting, Width, any_int, numbers, setting};

const CONNTRACK: &str = "its name is net.netfilter.nf_conntrack_max";

const fn gone(name: &'static str, major: u32, minor: u32, instead: &'static str) -> Setting {
    any_int(name, "0")
        .computed("nothing, on kernels of today")
        .until(major, minor)
        .instead(instead)
}

pub(super) const SETTINGS: &[Setting] = &[
    gone("net.ipv4.ip_conntrack_max", 2, 6, CONNTRACK),
    gone(
        "net.ipv4.netfilter.ip_conntrack_buckets",
        4,
        9,
        "its name is \
        net.netfilter.nf_conntrack_buckets",
    ),
    gone("net.ipv4.netfilter.ip_conntrack_max", 4, 9, CONNTRACK),
    gone(
        "net.ipv4.netfilter.ip_conntrack_tcp_timeout_established",
        4,
        9,
        "its name is net.netfilter.nf_conntrack_tcp_timeout_established",
    ),
    gone(
        "net.ipv4.netfilter.ip_conntrack_tcp_timeout_time_wait",
        4,
        9,
        "its name is net.netfilter.nf_conntrack_tcp_timeout_time_wait",
    ),
    gone(
        "net.ipv4.tcp_abc",
        3,
        9,
        "appropriate byte counting is always on",
    ),
    gone(
        "net.ipv4.tcp_cookie_size",
        3,
        10,
        "TCP cookie transactions are gone; tcp_fastopen is another answer to their question",
    ),
    gone(
        "net.ipv4.tcp_dma_copybreak",
        3,
        18,
        "the copying engine that it was for is gone",
    ),
    gone(
        "net.ipv4.tcp_frto_response",
        3,
        10,
        "F-RTO has one response; tcp_frto is the switch",
    ),
    gone(
        "net.ipv4.tcp_max_ssthresh",
        3,
        13,
        "limited slow start is gone",
    ),
    setting("net.ipv4.tcp_rx_skb_cache", numbers(Width::Int, 0, 1), "0")
        .since(5, 3)
        .until(5, 16)
        .kernel()
        .instead("the cache that it switched is gone"),
    gone(
        "net.ipv4.tcp_thin_dupack",
        4,
        11,
        "RACK (tcp_recovery) finds losses of thin streams",
    ),
    gone(
        "net.ipv4.tcp_tw_recycle",
        4,
        12,
        "it broke clients behind NAT, and nothing replaces it: SO_REUSEADDR helps bind(), \
         tcp_tw_reuse helps connect()",
    )
    .namespaced(4, 11),
    setting("net.ipv4.tcp_tx_skb_cache", numbers(Width::Int, 0, 1), "0")
        .since(5, 3)
        .until(5, 16)
        .kernel()
        .instead("the cache that it switched is gone"),
];
