//! The sysctls that the rules use, with their types.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::read::{FactError, Unseen};
use crate::release::Release;
use crate::sysctl;
use crate::sysctl::table;

/// The type of a sysctl's value, read and printed as the kernel does.
trait SettingValue: Sized {
    /// The value of a text; `None` where it has another form.
    fn parse(text: &str) -> Option<Self>;
    /// The text that sysctl(8) takes.
    fn print(&self) -> String;
}

macro_rules! number_is_a_setting_value {
    ($($number:ty),*) => {$(
        impl SettingValue for $number {
            fn parse(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }

            fn print(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

number_is_a_setting_value!(i64, u64);

/// A list that the rules parse.
impl SettingValue for String {
    fn parse(text: &str) -> Option<Self> {
        Some(text.trim().to_owned())
    }

    fn print(&self) -> String {
        self.clone()
    }
}

impl SettingValue for [u64; 3] {
    fn parse(text: &str) -> Option<Self> {
        sysctl::triple(text)
    }

    fn print(&self) -> String {
        let [first, second, third] = self;
        format!("{first} {second} {third}")
    }
}

impl SettingValue for [u16; 2] {
    fn parse(text: &str) -> Option<Self> {
        let mut ports = text.split_whitespace().map(str::parse);
        let range = [ports.next()?.ok()?, ports.next()?.ok()?];
        ports.next().is_none().then_some(range)
    }

    fn print(&self) -> String {
        let [first, last] = self;
        format!("{first} {last}")
    }
}

/// Makes [`Settings`] of a table: a line for each setting with its type and its
/// dotted name.
macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal;)*) => {
        /// The settings that the rules use; `None` where the kernel or the
        /// network namespace does not have one, or it may not be read.
        #[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
        #[serde(default)]
        pub struct Settings {
            $($(#[$doc])* pub $field: Option<$type>,)*
        }

        impl Settings {
            /// The dotted names of the settings.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The value of a setting as sysctl(8) takes it.
            pub fn get(&self, name: &str) -> Option<String> {
                match name {
                    $($name => self.$field.as_ref().map(SettingValue::print),)*
                    _ => None,
                }
            }

            /// Gives a setting the value of a text. False where it is none of
            /// these settings, or the text has not the form of its value.
            pub fn set(&mut self, name: &str, value: &str) -> bool {
                match name {
                    $($name => match SettingValue::parse(value) {
                        Some(parsed) => {
                            self.$field = Some(parsed);
                            true
                        }
                        None => false,
                    },)*
                    _ => false,
                }
            }
        }
    };
}

settings! {
    /// In sockets; the initial network namespace's.
    tcp_max_orphans: i64 = "net.ipv4.tcp_max_orphans";
    /// In pages: low mark, pressure mark, high mark; the initial network
    /// namespace's.
    tcp_mem: [u64; 3] = "net.ipv4.tcp_mem";
    /// In pages; the initial network namespace's.
    udp_mem: [u64; 3] = "net.ipv4.udp_mem";
    /// In seconds.
    tcp_fin_timeout: i64 = "net.ipv4.tcp_fin_timeout";
    /// 0 means 8.
    tcp_orphan_retries: i64 = "net.ipv4.tcp_orphan_retries";
    /// The first and the last port that connect() and bind() to port 0 take.
    ip_local_port_range: [u16; 2] = "net.ipv4.ip_local_port_range";
    /// The ports that connect() and bind() to port 0 do not take: `8080,9000-9010`.
    ip_local_reserved_ports: String = "net.ipv4.ip_local_reserved_ports";
    /// In pages a CPU (6.6 and later).
    mem_pcpu_rsv: u64 = "net.core.mem_pcpu_rsv";
    /// Buckets of the table of established connections (6.2 and later);
    /// negative where the namespace shares the initial one's.
    tcp_ehash_entries: i64 = "net.ipv4.tcp_ehash_entries";
    /// Records of TIME_WAIT and FIN_WAIT2.
    tcp_max_tw_buckets: i64 = "net.ipv4.tcp_max_tw_buckets";
    /// 0 never, 1 for all destinations, 2 for loopback only.
    tcp_tw_reuse: i64 = "net.ipv4.tcp_tw_reuse";
    /// 1 remembers the last timestamp of each peer, and refuses older ones (until 4.11).
    tcp_tw_recycle: i64 = "net.ipv4.tcp_tw_recycle";
    /// In milliseconds (6.14 and later; 1000 before).
    tcp_tw_reuse_delay: i64 = "net.ipv4.tcp_tw_reuse_delay";
    /// 0 off, 1 with a random offset, 2 without.
    tcp_timestamps: i64 = "net.ipv4.tcp_timestamps";
    /// Least, first and greatest receive buffer of a socket, in bytes.
    tcp_rmem: [u64; 3] = "net.ipv4.tcp_rmem";
    /// Least, first and greatest send buffer of a socket, in bytes.
    tcp_wmem: [u64; 3] = "net.ipv4.tcp_wmem";
    /// The greatest SO_RCVBUF, in bytes.
    rmem_max: u64 = "net.core.rmem_max";
    /// The greatest SO_SNDBUF, in bytes.
    wmem_max: u64 = "net.core.wmem_max";
    /// The SO_RCVBUF of sockets that set none and are not TCP's, in bytes.
    rmem_default: u64 = "net.core.rmem_default";
    /// The SO_SNDBUF of sockets that set none and are not TCP's, in bytes.
    wmem_default: u64 = "net.core.wmem_default";
    /// The greatest backlog of listen().
    somaxconn: i64 = "net.core.somaxconn";
    /// Handshakes that may be under way for a listener where SYN cookies are off.
    tcp_max_syn_backlog: i64 = "net.ipv4.tcp_max_syn_backlog";
    /// 0 off, 1 where the queue overflows, 2 always.
    tcp_syncookies: i64 = "net.ipv4.tcp_syncookies";
    /// 1 answers a full accept queue with a reset.
    tcp_abort_on_overflow: i64 = "net.ipv4.tcp_abort_on_overflow";
    /// 1 ignores resets in TIME_WAIT.
    tcp_rfc1337: i64 = "net.ipv4.tcp_rfc1337";
    /// Retransmissions until a connection is given up.
    tcp_retries2: i64 = "net.ipv4.tcp_retries2";
    /// The longest pause between retransmissions, in milliseconds (6.15 and later;
    /// 120000 before).
    tcp_rto_max_ms: u64 = "net.ipv4.tcp_rto_max_ms";
    /// SYNs that are sent again before connect() fails.
    tcp_syn_retries: i64 = "net.ipv4.tcp_syn_retries";
    /// SYNs more that are sent a second apart (6.5 and later; 0 before).
    tcp_syn_linear_timeouts: i64 = "net.ipv4.tcp_syn_linear_timeouts";
    /// Idle time before the first probe of keepalive, in seconds.
    tcp_keepalive_time: i64 = "net.ipv4.tcp_keepalive_time";
    /// 1: windows above 64 KiB (RFC 7323).
    tcp_window_scaling: i64 = "net.ipv4.tcp_window_scaling";
    /// 1: the receiver names what it has beyond a gap (RFC 2018).
    tcp_sack: i64 = "net.ipv4.tcp_sack";
    /// 1: the kernel sizes receive buffers for their connections.
    tcp_moderate_rcvbuf: i64 = "net.ipv4.tcp_moderate_rcvbuf";
    /// 0 off, 1 where a black hole is suspected, 2 always (RFC 4821).
    tcp_mtu_probing: i64 = "net.ipv4.tcp_mtu_probing";
    /// Packets of a CPU that wait for the protocols.
    netdev_max_backlog: i64 = "net.core.netdev_max_backlog";
    /// Packets that a CPU takes in one round of its network softirq.
    netdev_budget: i64 = "net.core.netdev_budget";
    /// Connections that may be tracked.
    nf_conntrack_max: i64 = "net.netfilter.nf_conntrack_max";
    /// Idle time after which an established connection is forgotten, in seconds.
    nf_conntrack_tcp_timeout_established: i64 =
        "net.netfilter.nf_conntrack_tcp_timeout_established";
    /// 1: sockets made from then on are not counted against tcp_mem, nor in TCP.mem
    /// of /proc/net/sockstat (7.0 and later).
    bypass_prot_mem: i64 = "net.core.bypass_prot_mem";
}

impl Settings {
    /// Reads them under `root`; what may not be read is added to `unseen`.
    pub(crate) fn read(root: &Path, unseen: &mut Vec<Unseen>) -> Result<Self, FactError> {
        let mut settings = Self::default();
        for name in Self::NAMES {
            match sysctl::read(root, name) {
                Ok(Some(value)) if settings.set(name, &value) => {}
                Ok(Some(value)) => {
                    return Err(FactError::malformed(
                        &root.join(sysctl::path(name)?),
                        1,
                        format!("{value:?} is no value of {name}"),
                    ));
                }
                Ok(None) => {}
                Err(FactError::Read { source, .. })
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    unseen.push(Unseen {
                        what: (*name).to_owned(),
                        why: source.to_string(),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        let denied = |unseen: &Unseen| unseen.what == "net.ipv4.tcp_max_orphans";
        if settings.tcp_max_orphans.is_none() && !unseen.iter().any(denied) {
            unseen.push(Unseen {
                what: "net.ipv4.tcp_max_orphans and net.ipv4.tcp_mem".to_owned(),
                why: "this is not the initial network namespace, and only that one has them"
                    .to_owned(),
            });
        }
        Ok(settings)
    }

    /// Does to a setting what the kernel of a release would do if this text were
    /// written to it: numbers that it does not name stay as they are, or as they
    /// are at boot. False where nothing is set, where the rest is not known, or
    /// where it is none of these settings.
    pub fn write(&mut self, name: &str, text: &str, release: Option<Release>) -> bool {
        let Some(setting) = table::find(name) else {
            return false;
        };
        let written = setting.write_beside(text, release, &|other| self.get(other));
        if written.sets_nothing() {
            return false;
        }
        let before = self.get(name);
        let before = before.as_deref().or_else(|| setting.default_value(release));
        written
            .result(before, setting.count(release))
            .is_some_and(|after| self.set(name, &after))
    }

    /// Gives every setting that has no value yet the one that most hosts with a
    /// kernel of this release have at boot; what depends on the host stays unknown.
    pub fn fill_with_defaults(&mut self, release: Option<Release>) {
        for name in Self::NAMES {
            if self.get(name).is_some() {
                continue;
            }
            let default = table::find(name)
                .filter(|setting| release.is_none_or(|release| setting.exists(release)))
                .and_then(|setting| setting.default_value(release));
            if let Some(default) = default {
                self.set(name, default);
            }
        }
    }

    /// Gives every setting of the whole kernel the value that it has in these settings:
    /// there is no other, whether a network namespace can read it or not.
    pub fn fill_with_those_of_the_kernel(&mut self, others: &Self, release: Option<Release>) {
        for name in Self::NAMES {
            let is_of_the_kernel =
                table::find(name).is_some_and(|setting| setting.is_of_the_kernel(release));
            if is_of_the_kernel && let Some(value) = others.get(name) {
                self.set(name, &value);
            }
        }
    }

    /// The kernel's default of tcp_max_orphans and of tcp_max_tw_buckets: half
    /// the buckets of the table of established connections (tcp_init and
    /// tcp_sk_init in net/ipv4 of Linux).
    pub fn half_ehash_entries(&self) -> Option<i64> {
        self.tcp_ehash_entries
            .map(|entries| entries.saturating_abs() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_set_and_got_by_its_name() {
        let mut settings = Settings::default();
        for name in Settings::NAMES {
            assert_eq!(settings.get(name), None, "{name}");
            let value = ["7", "7 8", "7 8 9"]
                .into_iter()
                .find(|value| settings.set(name, value));
            assert_eq!(settings.get(name).as_deref(), value, "{name}");
        }
        assert!(!settings.set("net.ipv4.tcp_no_such_setting", "1"));
        assert!(!settings.set("net.ipv4.tcp_mem", "1 2"));
        assert!(!settings.set("net.ipv4.ip_local_port_range", "1 65536"));
    }

    #[test]
    fn a_text_does_what_the_kernel_would_do() {
        let mut settings = Settings::default();
        let mut write = |name: &str, text: &str| {
            let is_set = settings.write(name, text, None);
            is_set.then(|| settings.get(name).unwrap())
        };
        for (name, text, after) in [
            ("net.ipv4.tcp_retries2", "3  # quick", Some("3")),
            ("net.ipv4.tcp_retries2", "0x10 #", Some("16")),
            ("net.ipv4.tcp_retries2", "300", None),
            ("net.ipv4.tcp_tw_reuse", "\"1\"", None),
            // The third is as at boot, and then as it was.
            (
                "net.ipv4.tcp_rmem",
                "4096 87380",
                Some("4096 87380 33554432"),
            ),
            (
                "net.ipv4.tcp_rmem",
                "8192 87380 6291456 9 # a",
                Some("8192 87380 6291456"),
            ),
            ("net.ipv4.tcp_rmem", "16384", Some("16384 87380 6291456")),
            // The first is set although the second is refused.
            (
                "net.ipv4.tcp_rmem",
                "4096 0 5000",
                Some("4096 87380 6291456"),
            ),
            ("net.ipv4.tcp_mem", "1 2", None),
            ("net.ipv4.ip_local_port_range", "65000 1024", None),
            (
                "net.ipv4.ip_local_port_range",
                "1024 65535 # all",
                Some("1024 65535"),
            ),
        ] {
            assert_eq!(write(name, text).as_deref(), after, "{name} = {text}");
        }
    }

    #[test]
    fn defaults_fill_what_is_not_known() {
        let mut settings = Settings::default();
        settings.set("net.core.somaxconn", "1");
        settings.fill_with_defaults(Some(Release::new(5, 2)));
        assert_eq!(settings.somaxconn, Some(1));
        assert_eq!(settings.rmem_max, Some(212_992));
        assert_eq!(settings.tcp_rmem, Some([4096, 131_072, 6_291_456]));
        assert_eq!(
            (settings.tcp_mem, settings.tcp_tw_reuse_delay),
            (None, None)
        );
    }

    #[test]
    fn a_shared_table_counts_as_well() {
        let mut settings = Settings::default();
        assert_eq!(settings.half_ehash_entries(), None);
        for entries in ["262144", "-262144"] {
            settings.set("net.ipv4.tcp_ehash_entries", entries);
            assert_eq!(settings.half_ehash_entries(), Some(131_072));
        }
    }
}
