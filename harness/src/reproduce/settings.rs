//! The settings of a host that bear on TCP, as a reproduction sets them: limits of
//! populations scaled, all others as they are.

use advisor_facts::release::Release;
use advisor_facts::settings::Settings;
use advisor_facts::sysctl::table::{self, Setting};

use super::scale::Scale;
use crate::host_settings::ORPHAN_LIMIT;
use crate::lab::sysctl::PINNED;

/// The pages of the guests.
const GUEST_PAGE_BYTES: u64 = 4096;

/// Settings of each network namespace that a reproduction takes over.
const OF_NAMESPACE: &[&str] = &[
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_orphan_retries",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.core.somaxconn",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_rfc1337",
    "net.ipv4.tcp_retries2",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_window_scaling",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_moderate_rcvbuf",
    "net.ipv4.tcp_mtu_probing",
    TRACKED_FOR,
];

/// How long connection tracking keeps an idle connection.
pub const TRACKED_FOR: &str = "net.netfilter.nf_conntrack_tcp_timeout_established";

/// What some of them are at boot, which the lab leaves as they are.
const AT_BOOT: &[(&str, &str)] = &[
    ("net.ipv4.tcp_rfc1337", "0"),
    ("net.ipv4.tcp_mtu_probing", "0"),
    (TRACKED_FOR, "432000"),
];

/// Settings of the whole kernel, which are set once the sockets are there: before that
/// they would be in the way. What they are until then: no limit that is met.
pub const UNTIL_THEN: &[(&str, &str)] = &[
    ("net.ipv4.tcp_mem", "60000, 80000, 100000"),
    (ORPHAN_LIMIT, "65536"),
];

/// What limits of populations are scaled by.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The factor.
    pub scale: Scale,
    /// The page of the host, in bytes.
    pub page_bytes: u64,
    /// How many more ports than their share the connections to one destination have, since
    /// a class keeps a few sockets: the room beside them is what is scaled.
    pub more_ports: u64,
    /// The same of orphans.
    pub more_orphans: u64,
}

/// A setting and its value.
pub type Set = (String, String);

/// Those of the host's namespace that differ from what the lab sets anyway.
pub fn of_namespace(settings: &Settings, limits: Limits) -> Vec<Set> {
    let mut set = Vec::new();
    for name in OF_NAMESPACE {
        let Some(value) = settings.get(name) else {
            continue;
        };
        let value = scaled(name, &value, limits);
        let pinned = PINNED
            .iter()
            .chain(AT_BOOT)
            .find(|(known, _)| known == name);
        if pinned.is_none_or(|(_, pinned)| *pinned != value) {
            set.push(((*name).to_owned(), value));
        }
    }
    set
}

/// Those of the whole kernel.
pub fn of_kernel(settings: &Settings, limits: Limits) -> Vec<Set> {
    let value = |(name, _): &(&str, &str)| {
        let value = settings.get(name)?;
        Some(((*name).to_owned(), scaled(name, &value, limits)))
    };
    UNTIL_THEN.iter().filter_map(value).collect()
}

/// A value as a reproduction sets it.
pub fn scaled(name: &str, value: &str, limits: Limits) -> String {
    let scale = limits.scale;
    let numbers: Option<Vec<u64>> = value
        .split_whitespace()
        .map(|part| part.parse().ok())
        .collect();
    match (name, numbers.as_deref()) {
        ("net.ipv4.tcp_mem", Some(marks)) => {
            let pages = |mark: &u64| {
                let mark = mark.saturating_mul(limits.page_bytes) / GUEST_PAGE_BYTES;
                scale.limit(mark).to_string()
            };
            marks.iter().map(pages).collect::<Vec<_>>().join(" ")
        }
        (ORPHAN_LIMIT, Some([limit])) => (scale.limit(*limit) + limits.more_orphans).to_string(),
        ("net.ipv4.tcp_max_tw_buckets", Some([limit])) => scale.limit(*limit).to_string(),
        ("net.ipv4.ip_local_port_range", Some([first, last])) => {
            let ports = scale.limit((last + 1).saturating_sub(*first)) + limits.more_ports;
            // Ports of services stay out of a range that begins low.
            format!("{first} {}", (first + ports.max(2) - 1).min(65_535))
        }
        _ => value.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// A setting of a kernel; else why it can't be tried there.
pub fn find(name: &str, release: &str) -> Result<&'static Setting, String> {
    let setting = table::find(name).ok_or_else(|| format!("{name} is not known"))?;
    match Release::of_kernel(release) {
        Some(release) if !setting.exists(release) => Err(format!("{release} has no {name}")),
        _ => Ok(setting),
    }
}

/// What a setting is after this text was written over `before`, as the kernel prints it;
/// else why that can't be tried.
pub fn written(
    name: &str,
    text: &str,
    before: Option<&str>,
    release: &str,
) -> Result<String, String> {
    let setting = find(name, release)?;
    let release = Release::of_kernel(release);
    let written = setting.write(text, release);
    if let Some(refusal) = &written.refused {
        return Err(format!("the kernel refuses {text:?} for {name}: {refusal}"));
    }
    written
        .result(before, setting.count(release))
        .ok_or_else(|| format!("{text:?} sets nothing of {name}"))
}

/// Whether a setting is the whole kernel's.
pub fn is_of_kernel(name: &str, release: &str) -> bool {
    let release = Release::of_kernel(release);
    table::find(name).is_some_and(|setting| setting.is_of_the_kernel(release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_the_kernel_makes_of_it() {
        let written = |name, text| written(name, text, Some("4096 16384 4194304"), "6.12.48");
        assert_eq!(
            written("net.ipv4.tcp_tw_reuse", "1 # on"),
            Ok("1".to_owned())
        );
        assert_eq!(
            written("net.ipv4.tcp_wmem", "8192"),
            Ok("8192 16384 4194304".to_owned())
        );
        let refused = written("net.ipv4.tcp_tw_reuse", "9").unwrap_err();
        assert_eq!(
            refused,
            "the kernel refuses \"9\" for net.ipv4.tcp_tw_reuse: 9 is not between 0 and 2"
        );
        for (name, why) in [
            ("vm.swappiness", "vm.swappiness is not known"),
            (
                "net.core.bypass_prot_mem",
                "Linux 6.12 has no net.core.bypass_prot_mem",
            ),
        ] {
            assert_eq!(written(name, "1").unwrap_err(), why);
        }
    }
}
