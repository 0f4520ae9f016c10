//! The sysctls that every scenario starts from.
//!
//! A new namespace takes some of its values from the host's (tcp_rmem,
//! tcp_wmem, the congestion control) and some from the kernel's defaults. All
//! that a result depends on is set here, so that it is the same everywhere.

use std::collections::BTreeMap;
use std::io;

use super::LabError;
use super::namespace::{read_sysctl, write_sysctl};

/// Sysctl and value, for every host. Values without a comment are the defaults
/// of Linux 6.x on a machine with a few GiB.
pub const PINNED: &[(&str, &str)] = &[
    // The one that every kernel has and lets every namespace choose.
    ("net.ipv4.tcp_congestion_control", "reno"),
    ("net.ipv4.tcp_rmem", "4096 131072 6291456"),
    ("net.ipv4.tcp_wmem", "4096 16384 4194304"),
    ("net.ipv4.tcp_moderate_rcvbuf", "1"),
    ("net.ipv4.tcp_window_scaling", "1"),
    ("net.ipv4.tcp_timestamps", "1"),
    ("net.ipv4.tcp_sack", "1"),
    ("net.ipv4.tcp_ecn", "2"),
    ("net.ipv4.tcp_syncookies", "1"),
    ("net.ipv4.tcp_fin_timeout", "60"),
    ("net.ipv4.tcp_orphan_retries", "0"),
    ("net.ipv4.tcp_retries1", "3"),
    ("net.ipv4.tcp_retries2", "15"),
    ("net.ipv4.tcp_syn_retries", "6"),
    ("net.ipv4.tcp_syn_linear_timeouts", "4"),
    ("net.ipv4.tcp_synack_retries", "5"),
    ("net.ipv4.tcp_keepalive_time", "7200"),
    ("net.ipv4.tcp_keepalive_intvl", "75"),
    ("net.ipv4.tcp_keepalive_probes", "9"),
    ("net.ipv4.tcp_tw_reuse", "2"),
    ("net.ipv4.tcp_max_tw_buckets", "65536"),
    ("net.ipv4.tcp_abort_on_overflow", "0"),
    ("net.ipv4.tcp_slow_start_after_idle", "1"),
    // A connection must not start from what an earlier one learned.
    ("net.ipv4.tcp_no_metrics_save", "1"),
    ("net.ipv4.ip_local_port_range", "32768 60999"),
    ("net.core.somaxconn", "4096"),
];

/// Sysctls that the router and the addresses need; nothing measured depends on
/// them.
pub const WIRING: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.default.send_redirects", "0"),
];

/// The same for IPv6: no duplicate address detection, router advertisements or
/// link-local addresses, whose packets would take draws from an impaired link.
pub const WIRING_V6: &[(&str, &str)] = &[
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv6.conf.all.disable_ipv6", "0"),
    ("net.ipv6.conf.default.disable_ipv6", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv6.conf.default.addr_gen_mode", "1"),
];

/// Whether the kernel has IPv6.
pub fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

/// Sets the calling thread's namespace up as a host or as the router.
///
/// A pinned sysctl that the kernel doesn't have is left out; [`read_pinned`]
/// shows which are there.
pub fn prepare(host: &str) -> Result<(), LabError> {
    for (name, value) in PINNED {
        set_if_there(host, name, value)?;
    }
    let forwards = |name: &str| name.ends_with("forward") || name.ends_with("forwarding");
    for (name, value) in WIRING.iter().chain(WIRING_V6.iter().filter(|_| has_ipv6())) {
        if forwards(name) && host != "router" {
            continue;
        }
        set_if_there(host, name, value)?;
    }
    Ok(())
}

fn set_if_there(host: &str, name: &str, value: &str) -> Result<(), LabError> {
    match set(host, name, value) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Sets a sysctl that the suite asks for.
pub fn set(host: &str, name: &str, value: &str) -> Result<(), LabError> {
    write_sysctl(name, value).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => {
                "this kernel's network namespaces don't have it; sysctls of the whole machine go \
                 under `sysctls: { kernel: ... }`"
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                "/proc/sys must be writable; in a container, run it privileged"
            }
            _ => "",
        };
        LabError::new(host, &format!("set {name} to {value:?}"), error, hint)
    })
}

/// Sysctls that a result depends on and that a namespace can read but not set:
/// they bound SO_RCVBUF and SO_SNDBUF.
const HOSTS_OWN: &[&str] = &["net.core.rmem_max", "net.core.wmem_max"];

/// The pinned sysctls, and those of the host that a result depends on, as the calling thread's namespace has them.
pub fn read_pinned() -> BTreeMap<String, String> {
    PINNED
        .iter()
        .map(|(name, _)| name)
        .chain(HOSTS_OWN)
        .filter_map(|name| Some(((*name).to_owned(), read_sysctl(name).ok()?)))
        .collect()
}
