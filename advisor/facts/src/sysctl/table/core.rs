//! `net.core.*`: one for the whole kernel, but for a few.

use super::{
    Default, Form, INT, INT_MAX, Relation, Setting, UINT_MAX, Unit, Width, any_int, byte, flag,
    int, linux, milliseconds, numbers, read_only, seconds, setting, word,
};

/// `SOCK_MIN_SNDBUF` and `SOCK_MIN_RCVBUF` of 64-bit kernels.
const LEAST_SEND_BUFFER: i128 = 4608;
const LEAST_RECEIVE_BUFFER: i128 = 2304;

/// Since this release the sizes of buffers can be read in every namespace.
const BUFFER_MAX: &str = "4194304";
const FORMER_BUFFER_MAX: &[(super::Release, Default)] = &[(linux(6, 18), Default::Value("212992"))];

const fn buffer(name: &'static str, least: i128, default: &'static str) -> Setting {
    int(name, least, INT_MAX, default)
        .unit(Unit::Bytes)
        .kernel_readable(6, 8)
}

pub(super) const SETTINGS: &[Setting] = &[
    setting("net.core.bpf_jit_enable", numbers(Width::Int, 0, 2), "")
        .computed("CONFIG_BPF_JIT_DEFAULT_ON")
        .kernel(),
    int("net.core.bpf_jit_harden", 0, 2, "0")
        .since(4, 7)
        .kernel(),
    int("net.core.bpf_jit_kallsyms", 0, 1, "1")
        .since(4, 11)
        .kernel(),
    setting(
        "net.core.bpf_jit_limit",
        numbers(Width::UnsignedLong, 1, super::ULONG_MAX),
        "",
    )
    .relation(Relation::Other)
    .unit(Unit::Bytes)
    .computed("a quarter of the room for modules")
    .since(4, 20)
    .kernel(),
    int("net.core.busy_poll", 0, INT_MAX, "0")
        .unit(Unit::Microseconds)
        .since(3, 11)
        .kernel(),
    int("net.core.busy_read", 0, INT_MAX, "0")
        .unit(Unit::Microseconds)
        .since(3, 11)
        .kernel(),
    flag("net.core.bypass_prot_mem", "0").since(6, 19),
    word(
        "net.core.default_qdisc",
        Default::Computed("CONFIG_DEFAULT_NET_SCH, mostly pfifo_fast or fq_codel"),
    )
    .since(3, 12)
    .kernel(),
    int("net.core.dev_weight", 1, INT_MAX, "64")
        .formerly(&[(linux(5, 10), INT)])
        .kernel(),
    int("net.core.dev_weight_rx_bias", 1, INT_MAX, "1")
        .formerly(&[(linux(5, 10), INT)])
        .since(4, 11)
        .kernel(),
    int("net.core.dev_weight_tx_bias", 1, INT_MAX, "1")
        .formerly(&[(linux(5, 10), INT)])
        .since(4, 11)
        .kernel(),
    int("net.core.devconf_inherit_init_net", 0, 3, "0")
        .since(5, 1)
        .kernel(),
    int("net.core.fb_tunnels_only_for_init_net", 0, 2, "0")
        .since(4, 17)
        .kernel(),
    setting("net.core.flow_limit_cpu_bitmap", Form::Text, "")
        .computed("no CPU")
        .since(3, 11)
        .kernel(),
    // A power of two.
    any_int("net.core.flow_limit_table_len", "4096")
        .relation(Relation::Other)
        .since(3, 11)
        .kernel(),
    int("net.core.gro_normal_batch", 1, INT_MAX, "8")
        .since(5, 4)
        .kernel(),
    setting(
        "net.core.high_order_alloc_disable",
        numbers(Width::Int, 0, 1),
        "0",
    )
    .since(5, 3)
    .kernel(),
    int("net.core.max_skb_frags", 1, 17, "17")
        .computed("CONFIG_MAX_SKB_FRAGS, 17 mostly")
        .since(4, 5)
        .kernel(),
    setting(
        "net.core.mem_pcpu_rsv",
        numbers(Width::Int, 256, INT_MAX),
        "",
    )
    .unit(Unit::Pages)
    .computed("1 MiB in pages")
    .since(6, 7)
    .backported(&[linux(6, 1), linux(6, 6)])
    .kernel(),
    any_int("net.core.message_burst", "10").kernel(),
    seconds("net.core.message_cost", "5").kernel(),
    any_int("net.core.netdev_budget", "300").kernel(),
    // Two ticks at the least.
    int("net.core.netdev_budget_usecs", 2000, INT_MAX, "")
        .relation(Relation::Other)
        .formerly(&[(linux(5, 17), numbers(Width::Int, 0, INT_MAX))])
        .computed("two ticks of CONFIG_HZ: 8000 with 250")
        .unit(Unit::Microseconds)
        .since(4, 12)
        .kernel(),
    any_int("net.core.netdev_max_backlog", "1000").kernel(),
    read_only("net.core.netdev_rss_key").since(3, 19).kernel(),
    any_int("net.core.netdev_tstamp_prequeue", "1")
        .since(2, 6)
        .kernel(),
    int("net.core.netdev_unregister_timeout_secs", 1, 3600, "10")
        .unit(Unit::Seconds)
        .since(5, 13)
        .kernel(),
    int("net.core.optmem_max", 0, INT_MAX, "131072")
        .formerly(&[(linux(6, 8), INT)])
        .unit(Unit::Bytes)
        .default_formerly(&[(linux(6, 8), Default::Value("20480"))])
        .namespaced(6, 8),
    any_int("net.core.qdisc_max_burst", "1000")
        .since(6, 19)
        .kernel(),
    buffer("net.core.rmem_default", LEAST_RECEIVE_BUFFER, "212992"),
    buffer("net.core.rmem_max", LEAST_RECEIVE_BUFFER, BUFFER_MAX)
        .default_formerly(FORMER_BUFFER_MAX),
    setting("net.core.rps_default_mask", Form::Text, "")
        .computed("no CPU")
        .since(6, 3),
    // Rounded up to a power of two.
    int("net.core.rps_sock_flow_entries", 0, 1 << 29, "0")
        .relation(Relation::Other)
        .kernel(),
    setting(
        "net.core.skb_defer_max",
        numbers(Width::Int, 0, INT_MAX),
        "128",
    )
    .default_formerly(&[(linux(6, 18), Default::Value("64"))])
    .since(5, 19)
    .kernel(),
    int("net.core.somaxconn", 0, INT_MAX, "4096")
        .default_formerly(&[(linux(5, 4), Default::Value("128"))]),
    byte("net.core.tstamp_allow_data", 0, 1, "1")
        .formerly(&[(linux(6, 18), numbers(Width::Int, 0, 1))])
        .since(4, 0)
        .namespaced(6, 18),
    flag("net.core.txrehash", "1").since(5, 18),
    milliseconds("net.core.txq_reselection_ms", "1000").since(6, 19),
    any_int("net.core.warnings", "0").kernel(),
    buffer("net.core.wmem_default", LEAST_SEND_BUFFER, "212992"),
    buffer("net.core.wmem_max", LEAST_SEND_BUFFER, BUFFER_MAX).default_formerly(FORMER_BUFFER_MAX),
    setting("net.core.xfrm_acq_expires", INT, "30").unit(Unit::Seconds),
    setting(
        "net.core.xfrm_aevent_etime",
        numbers(Width::Unsigned, 0, UINT_MAX),
        "10",
    ),
    setting(
        "net.core.xfrm_aevent_rseqth",
        numbers(Width::Unsigned, 0, UINT_MAX),
        "2",
    ),
    any_int("net.core.xfrm_larval_drop", "1"),
];
