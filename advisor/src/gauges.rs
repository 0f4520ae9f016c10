//! The gauges of a host, each with its limit and the marks at which the rules fire.

use advisor_facts::happened::Level;
use advisor_facts::open_files::OpenFiles;
use advisor_facts::pulse::Pulse;
use advisor_facts::units::bytes;
use advisor_facts::{Facts, Settings};

use crate::rules::{conntrack_near_limit, file_table_near_limit, orphan_limit_near};

/// A gauge.
#[derive(Clone, Copy, Debug)]
pub struct Gauge {
    /// Its name in lines and records: `tcp-memory`.
    pub name: &'static str,
    /// Its name as a metric, without the unit's suffix of the limit.
    pub metric: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Whether the whole kernel has one, or each network namespace.
    pub is_of_the_kernel: bool,
    /// What it says, in a line.
    pub help: &'static str,
    /// The setting that limits it.
    pub setting: &'static str,
    /// The rule that judges it.
    pub code: &'static str,
    /// What the kernel does from the mark on.
    pub harm: &'static str,
    /// Its value.
    pub read: fn(&Point<'_>) -> Option<Reading>,
}

/// What a gauge counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Sockets, records, files or entries.
    Count,
}

impl Unit {
    /// An amount for people.
    pub fn amount(self, value: u64) -> String {
        match self {
            Self::Bytes => bytes(value),
            Self::Count => value.to_string(),
        }
    }
}

/// What gauges are read from: one network namespace at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// Its gauges and counters.
    pub pulse: &'a Pulse,
    /// Its settings.
    pub settings: &'a Settings,
    /// Open files, where it is the reader's own.
    pub files: Option<OpenFiles>,
    /// The size of a page.
    pub page_bytes: u64,
    /// The unit of `TCP.mem`.
    pub gauge_unit_bytes: u64,
}

/// A value, its limit and its marks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reading {
    /// The value.
    pub value: u64,
    /// The limit.
    pub limit: u64,
    /// From here on it is near.
    pub near: u64,
    /// From here on the kernel does harm.
    pub mark: u64,
}

impl Reading {
    /// By shares of the limit, in percent.
    fn shares(value: u64, limit: u64, near: u64, mark: u64) -> Self {
        let share = |percent: u64| {
            let share = u128::from(limit) * u128::from(percent) / 100;
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        Self {
            value,
            limit,
            near: share(near),
            mark: share(mark),
        }
    }

    /// How near the value is.
    pub fn level(&self) -> Level {
        match self.value {
            value if value > self.mark => Level::Over,
            value if value > self.near => Level::Near,
            _ => Level::Calm,
        }
    }

    /// The value as a share of the limit, in percent.
    pub fn percent(&self) -> u64 {
        let percent = u128::from(self.value) * 100 / u128::from(self.limit.max(1));
        u64::try_from(percent).unwrap_or(u64::MAX)
    }
}

/// TIME_WAIT is judged when it overflows; it is near from here on, in percent.
const TIME_WAIT_NEAR_PERCENT: u64 = 90;

fn count(value: Option<i64>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok())
}

/// Every gauge.
pub const GAUGES: &[Gauge] = &[
    Gauge {
        name: "tcp-memory",
        metric: "lastbyte_tcp_memory_bytes",
        unit: Unit::Bytes,
        is_of_the_kernel: true,
        help: "Memory that TCP sockets hold (TCP mem of /proc/net/sockstat)",
        setting: "net.ipv4.tcp_mem",
        code: "LB402",
        harm: "the kernel shrinks the buffers of healthy connections",
        read: |point| {
            let [_, pressure, high] = point.settings.tcp_mem?;
            let of_pages = |pages: u64| pages.saturating_mul(point.page_bytes);
            let value = count(point.pulse.sockstat.get("TCP.mem"))?;
            Some(Reading {
                value: value.saturating_mul(point.gauge_unit_bytes),
                limit: of_pages(high),
                near: of_pages(pressure) / 4 * 3,
                mark: of_pages(pressure),
            })
        },
    },
    Gauge {
        name: "orphans",
        metric: "lastbyte_tcp_orphans",
        unit: Unit::Count,
        is_of_the_kernel: true,
        help: "Orphaned TCP sockets (TCP orphan of /proc/net/sockstat)",
        setting: "net.ipv4.tcp_max_orphans",
        code: "LB101",
        harm: "the kernel resets orphans, which it may count up to four times",
        read: |point| {
            let limit = count(point.settings.tcp_max_orphans)?;
            let value = count(point.pulse.sockstat.get("TCP.orphan"))?;
            let [near, mark] = orphan_limit_near::PERCENT;
            Some(Reading::shares(value, limit, near, mark))
        },
    },
    Gauge {
        name: "time-wait",
        metric: "lastbyte_tcp_time_wait_records",
        unit: Unit::Count,
        is_of_the_kernel: false,
        help: "Records of TIME_WAIT (TCP tw of /proc/net/sockstat)",
        setting: "net.ipv4.tcp_max_tw_buckets",
        code: "LB310",
        harm: "the kernel ends TIME_WAIT early",
        read: |point| {
            let limit = count(point.settings.tcp_max_tw_buckets)?;
            let value = count(point.pulse.sockstat.get("TCP.tw"))?;
            let mut reading = Reading::shares(value, limit, TIME_WAIT_NEAR_PERCENT, 100);
            // At the limit the next one is refused.
            reading.mark = reading.mark.saturating_sub(1);
            Some(reading)
        },
    },
    Gauge {
        name: "open-files",
        metric: "lastbyte_open_files",
        unit: Unit::Count,
        is_of_the_kernel: true,
        help: "Open files of the whole kernel (/proc/sys/fs/file-nr)",
        setting: "fs.file-max",
        code: "LB505",
        harm: "open(), socket() and accept() fail with ENFILE",
        read: |point| {
            let files = point.files?;
            let (near, mark) = (
                file_table_near_limit::WARNING_PERCENT,
                file_table_near_limit::CRITICAL_PERCENT,
            );
            Some(Reading::shares(files.open, files.limit, near, mark))
        },
    },
    Gauge {
        name: "conntrack",
        metric: "lastbyte_conntrack_entries",
        unit: Unit::Count,
        is_of_the_kernel: false,
        help: "Tracked connections (nf_conntrack_count)",
        setting: "net.netfilter.nf_conntrack_max",
        code: "LB701",
        harm: "the kernel drops packets of new connections",
        read: |point| {
            let limit = count(point.settings.nf_conntrack_max)?;
            let value = count(point.pulse.counters.get("Conntrack.count"))?;
            let (near, mark) = (
                conntrack_near_limit::WARNING_PERCENT.unsigned_abs(),
                conntrack_near_limit::CRITICAL_PERCENT.unsigned_abs(),
            );
            Some(Reading::shares(value, limit, near, mark))
        },
    },
];

/// The gauge of a name.
pub fn find(name: &str) -> Option<&'static Gauge> {
    GAUGES.iter().find(|gauge| gauge.name == name)
}

/// A counter of a network namespace whose growth is told.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// The kernel's name: `TcpExt.TCPAbortOnMemory`.
    pub name: &'static str,
    /// Its name as a metric.
    pub metric: &'static str,
    /// What it counts, in a line.
    pub help: &'static str,
    /// The rule that judges it.
    pub code: &'static str,
    /// So many in five minutes are chance.
    pub chance: u32,
}

/// Every counter whose growth is told.
pub const COUNTERS: &[Counter] = &[
    Counter {
        name: "TcpExt.TCPAbortOnClose",
        metric: "lastbyte_tcp_aborts_on_close_total",
        help: "Resets by close() with unread data (TCPAbortOnClose)",
        code: "LB201",
        chance: 4,
    },
    Counter {
        name: "TcpExt.TCPAbortOnMemory",
        metric: "lastbyte_tcp_aborts_on_memory_total",
        help: "Resets for lack of memory or for too many orphans (TCPAbortOnMemory)",
        code: "LB112",
        chance: 0,
    },
    Counter {
        name: "TcpExt.TCPTimeWaitOverflow",
        metric: "lastbyte_tcp_time_wait_overflows_total",
        help: "Connections that went without TIME_WAIT (TCPTimeWaitOverflow)",
        code: "LB310",
        chance: 0,
    },
    Counter {
        name: "TcpExt.ListenOverflows",
        metric: "lastbyte_tcp_listen_overflows_total",
        help: "Clients that found the accept queue of a listener full (ListenOverflows)",
        code: "LB510",
        chance: 5,
    },
    Counter {
        name: "TcpExt.TCPMemoryPressures",
        metric: "lastbyte_tcp_memory_pressures_total",
        help: "Times that TCP came under memory pressure (TCPMemoryPressures)",
        code: "LB402",
        chance: 0,
    },
    Counter {
        name: "Conntrack.drop",
        metric: "lastbyte_conntrack_drops_total",
        help: "Packets that connection tracking dropped (drop of nf_conntrack)",
        code: "LB701",
        chance: 0,
    },
];

/// Each gauge of a host, with the inode of its network namespace where it is not the
/// reader's own.
pub fn of_facts(facts: &Facts) -> Vec<(&'static Gauge, Option<u32>, Reading)> {
    let mut found = Vec::new();
    let pulse_of = |look: &advisor_facts::Look| Pulse {
        sockstat: look.sockstat.clone(),
        counters: look.counters.clone(),
    };
    for place in facts.by_namespace() {
        let inode = place.place.as_ref().map(|place| place.inode);
        let pulse = pulse_of(&place.now);
        let point = Point {
            pulse: &pulse,
            settings: &place.settings,
            files: place.files,
            page_bytes: place.page_bytes,
            gauge_unit_bytes: facts.gauge_unit_bytes(),
        };
        for gauge in GAUGES {
            if gauge.is_of_the_kernel && inode.is_some() {
                continue;
            }
            found.extend((gauge.read)(&point).map(|reading| (gauge, inode, reading)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;

    #[test]
    fn gauges_and_counters_are_told_apart_and_judged_by_a_rule() {
        let mut metrics: Vec<_> = GAUGES.iter().map(|gauge| gauge.metric).collect();
        metrics.extend(COUNTERS.iter().map(|counter| counter.metric));
        let codes = GAUGES.iter().map(|gauge| gauge.code);
        for code in codes.chain(COUNTERS.iter().map(|counter| counter.code)) {
            assert!(rules::find(code).is_some(), "{code}");
        }
        for metric in &metrics {
            assert!(metric.starts_with("lastbyte_"), "{metric}");
        }
        let count = metrics.len();
        metrics.sort_unstable();
        metrics.dedup();
        assert_eq!(metrics.len(), count);
        for gauge in GAUGES {
            assert!(find(gauge.name).is_some_and(|found| found.name == gauge.name));
            let name = gauge.setting;
            assert!(name.contains('.'), "{name}");
        }
    }

    #[test]
    fn a_gauge_is_near_where_its_rule_fires() {
        let facts = rules::recorded_host("orphan-limit-near");
        let gauges = of_facts(&facts);
        let (_, _, orphans) = gauges
            .iter()
            .find(|(gauge, ..)| gauge.name == "orphans")
            .unwrap();
        assert!(orphans.level() > Level::Calm, "{orphans:?}");
        let quiet = of_facts(&rules::recorded_host("quiet"));
        assert!(!quiet.is_empty());
        for (gauge, _, reading) in quiet {
            assert_eq!(reading.level(), Level::Calm, "{}", gauge.name);
        }
    }
}
