//! The plan on hosts that are made up, by the thousand.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use advisor_facts::Look;
use advisor_facts::counters::Counters;
use advisor_facts::kernel_log::KernelLog;
use advisor_facts::memory::Zones;
use advisor_facts::namespaces::Namespace;
use advisor_facts::release::Release;
use advisor_facts::sockstat::Sockstat;
use advisor_facts::sysctl::table;
use advisor_facts::sysctl_files::{SysctlFile, SysctlFiles, parse};
use proptest::prelude::*;

use super::*;
use crate::rules::Severity;

mod boot;
mod commands;

/// Values that are met, right and wrong ones, for each setting.
const VALUES: &[(&str, &[&str])] = &[
    (
        "net.ipv4.tcp_max_orphans",
        &[
            "65536", "131072", "16", "1000", "8192", "3276800", "0", "-1",
        ],
    ),
    (
        "net.ipv4.tcp_mem",
        &[
            "191328 255104 382656",
            "4096 87380 67108864",
            "94500000 915000000 927000000",
            "382656 255104 191328",
            "9000 9000 9000",
            "1 2 3",
            "0 0 0",
            "300 400 600",
            "786432 1048576 26777216",
            "3000000 4000000 6000000",
            "18446744073709551615 18446744073709551615 18446744073709551615",
        ],
    ),
    (
        "net.ipv4.udp_mem",
        &["382656 510208 765312", "4096 87380 67108864", "1 2 3"],
    ),
    ("net.ipv4.tcp_fin_timeout", &["60", "3", "0", "120", "600"]),
    (
        "net.ipv4.tcp_orphan_retries",
        &["0", "1", "3", "8", "15", "255"],
    ),
    (
        "net.ipv4.tcp_max_tw_buckets",
        &["65536", "5000", "0", "2000000", "262144"],
    ),
    (
        "net.ipv4.tcp_ehash_entries",
        &["131072", "-262144", "512", "1"],
    ),
    ("net.ipv4.tcp_tw_reuse", &["0", "1", "2"]),
    ("net.ipv4.tcp_tw_recycle", &["0", "1"]),
    ("net.ipv4.tcp_timestamps", &["0", "1", "2"]),
    (
        "net.ipv4.tcp_rmem",
        &[
            "4096 131072 6291456",
            "4096 87380 2147483647",
            "1 2 33554432",
        ],
    ),
    (
        "net.ipv4.tcp_wmem",
        &["4096 16384 4194304", "4096 65536 1073741824"],
    ),
    ("net.core.rmem_max", &["212992", "536870912", "67108864"]),
    ("net.core.wmem_max", &["212992", "2147483647"]),
    ("net.core.somaxconn", &["4096", "128", "1024", "65535"]),
    ("net.core.mem_pcpu_rsv", &["256"]),
    ("net.core.bypass_prot_mem", &["0", "0", "0", "1"]),
    ("net.ipv4.tcp_rto_max_ms", &["120000", "1000"]),
    ("net.ipv4.tcp_syncookies", &["0", "1", "2"]),
    ("net.ipv4.tcp_abort_on_overflow", &["0", "1"]),
    ("net.ipv4.tcp_rfc1337", &["0", "1"]),
    ("net.ipv4.tcp_retries2", &["15", "8", "3", "0"]),
    (
        "net.ipv4.ip_local_port_range",
        &["32768 60999", "1024 65535"],
    ),
];

/// The value of a setting, mostly one that is met, else any number.
fn value(index: usize) -> impl Strategy<Value = String> {
    let (_, met) = VALUES[index];
    let words = met[0].split(' ').count();
    prop_oneof![
        8 => prop::sample::select(met).prop_map(str::to_owned),
        1 => prop::collection::vec(0..=4_000_000_u64, words).prop_map(|numbers| {
            numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
        }),
    ]
}

/// Settings with their values; some are not there.
fn settings() -> impl Strategy<Value = Settings> {
    let values: Vec<_> = (0..VALUES.len())
        .map(|index| prop::option::weighted(0.9, value(index)))
        .collect();
    values.prop_map(|values| {
        let mut settings = Settings::default();
        for ((name, _), value) in VALUES.iter().zip(values) {
            if let Some(value) = value {
                // A port above 65535 is none.
                settings.set(name, &value);
            }
        }
        settings
    })
}

/// Files with assignments, good and bad, that may win, lose and disagree.
fn files() -> impl Strategy<Value = SysctlFiles> {
    let line = prop_oneof![
        8 => (0..VALUES.len())
            .prop_flat_map(|index| value(index).prop_map(move |value| (index, value)))
            .prop_map(|(index, value)| format!("{} = {value}", VALUES[index].0)),
        1 => (0..VALUES.len()).prop_map(|index| format!("-{}", VALUES[index].0)),
        1 => prop::sample::select(vec![
            "net.ipv4.tcp_* = 1",
            "net.ipv4.tcp_tw_recycle = 1",
            "net.ipv4.tcp_mem 1 2 3",
            "net.ipv4.tcp_mem = 1 2",
            "net.ipv4.tcp_syncookies = 1 # on",
            "\u{0}",
        ])
        .prop_map(str::to_owned),
    ];
    let paths = [
        "/etc/sysctl.d/10-a.conf",
        "/usr/lib/sysctl.d/50-b.conf",
        "/etc/sysctl.d/99-c.conf",
        "/etc/sysctl.conf",
    ];
    (
        prop::collection::vec(prop::collection::vec(line, 0..4), paths.len()),
        any::<bool>(),
    )
        .prop_map(move |(texts, systemd)| SysctlFiles {
            files: paths
                .iter()
                .zip(texts)
                .map(|(path, lines)| SysctlFile {
                    path: path.into(),
                    lines: parse(lines.join("\n").as_bytes()),
                    ..SysctlFile::default()
                })
                .collect(),
            systemd,
            live: BTreeMap::new(),
        })
}

/// A count: mostly small, sometimes any.
fn count() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0..10_000_i64, 2 => 0..4_000_000_i64, 1 => any::<i64>().prop_map(i64::saturating_abs)]
}

fn look(uptime_s: u64, [orphans, pages, records, counter]: [i64; 4]) -> Look {
    let sockstat = format!("TCP: inuse 1 orphan {orphans} tw {records} alloc 1 mem {pages}\n");
    let counters = format!(
        "TcpExt: ListenOverflows ListenDrops TCPAbortOnMemory TCPTimeWaitOverflow TCPAbortOnClose\n\
         TcpExt: {counter} {counter} {counter} {counter} 0\n"
    );
    Look {
        elsewhere: Vec::new(),
        uptime: Duration::from_secs(uptime_s),
        sockstat: Sockstat::parse(&sockstat, Path::new("sockstat")).unwrap(),
        counters: Counters::parse(&counters, Path::new("netstat")).unwrap(),
        sockets: None,
    }
}

/// A container, which can't read what the whole kernel has.
fn namespace(inode: u32, mut settings: Settings, gauges: [i64; 4]) -> Namespace {
    (settings.tcp_mem, settings.udp_mem, settings.tcp_max_orphans) = (None, None, None);
    let look = look(1_000_000, gauges);
    Namespace {
        inode,
        name: None,
        pid: Some(4000 + inode),
        kept_by: None,
        sockstat: look.sockstat,
        counters: look.counters,
        sockets: look.sockets,
        settings,
    }
}

/// A host: its pages, its RAM and who owns it, its settings, files and gauges.
fn host() -> impl Strategy<Value = Facts> {
    let hardware = (
        prop::sample::select(vec![4_u64 << 10, 16 << 10, 64 << 10]),
        (27..43_u32, 0..1024_u64),
        1..256_u64,
        (0..=100_u64, prop::option::of(0..=100_u64)),
        prop::sample::select(vec!["5.4.1", "5.10.0", "6.1.3", "6.18.44", "7.3", "4.9"]),
    );
    let gauges = || [count(), count(), count(), count()];
    let times =
        || prop::collection::vec((900_000..1_000_000_u64).prop_map(Duration::from_secs), 0..3);
    let log = prop::option::of((times(), times()));
    let looks = (gauges(), prop::option::of((gauges(), 1..100_000_u64)), log);
    let elsewhere = prop::collection::vec((settings(), gauges()), 0..3);
    let host = (hardware, settings(), files(), looks, elsewhere);
    host.prop_map(|(hardware, settings, files, looks, elsewhere)| {
        let (page_bytes, (log, more), cpus, (owned, managed), kernel) = hardware;
        let ram_bytes = (1_u64 << log) + (1_u64 << log) / 1024 * more;
        let mut facts = Facts::without_host(kernel, ram_bytes, page_bytes);
        facts.cpus = cpus;
        facts.memory.owned_bytes = Some(ram_bytes / 100 * owned);
        facts.memory.zones = managed.map(|percent| Zones {
            managed_pages: ram_bytes / page_bytes / 100 * percent,
            free_buffer_pages: ram_bytes / page_bytes / 110 * percent,
        });
        facts.settings = settings;
        facts.sysctl_files = files;
        let (now, earlier, log) = looks;
        facts.kernel_log = log.map(|(too_many_orphans, out_of_memory)| KernelLog {
            too_many_orphans,
            out_of_memory,
        });
        facts.now = look(1_000_000, now).into();
        if let Some((earlier, ago)) = earlier {
            facts.set_earlier(look(1_000_000 - ago, earlier));
        }
        facts.now.elsewhere = (1..)
            .zip(elsewhere)
            .map(|(inode, (settings, gauges))| namespace(inode, settings, gauges))
            .collect();
        see_files(&mut facts);
        facts
    })
}

/// What /proc/sys says of the keys that the files set.
fn see_files(facts: &mut Facts) {
    for key in facts.sysctl_files.keys() {
        let live = facts.settings.get(&key);
        facts.sysctl_files.live.insert(key, live);
    }
}

/// The recommendation about a setting.
fn step<'a>(advice: &'a Advice, setting: &str) -> &'a Recommendation {
    advice
        .recommendations
        .iter()
        .find(|step| step.finding.setting == setting)
        .unwrap_or_else(|| panic!("{setting}: {advice:#?}"))
}

/// A host of 16 GiB with these settings.
fn small(settings: &[(&str, &str)], gauges: [i64; 4]) -> Facts {
    let mut facts = Facts::without_host("6.12", 16 << 30, 4096);
    facts.settings.set("net.ipv4.tcp_ehash_entries", "131072");
    for (name, value) in settings {
        assert!(facts.settings.set(name, value), "{name}");
    }
    facts.now = look(100_000, gauges).into();
    facts.set_earlier(look(99_970, [0, 0, 0, 0]));
    facts
}

#[test]
fn two_rules_about_a_setting_come_to_one_value() {
    const BUCKETS: &str = "net.ipv4.tcp_max_tw_buckets";
    let facts = small(&[(BUCKETS, "4000")], [0, 0, 4000, 100_000]);
    let advice = advise(&facts, &[]);
    let step = step(&advice, BUCKETS);
    // 4000 there, and 200000 a minute refused: what is refused counts for more
    // than what is low.
    assert_eq!(
        (step.code, step.finding.proposed.as_str()),
        ("LB310", "262144")
    );
    assert_eq!(step.action, Action::Raise);
    let [also] = step.also.as_slice() else {
        panic!("{step:#?}");
    };
    assert_eq!(
        (also.code, also.overruled.as_deref()),
        ("LB311", Some("65536"))
    );
}

#[test]
fn a_step_reckons_with_the_others() {
    // With marks in bytes memory seems to pay for any number of orphans.
    let facts = small(
        &[
            ("net.ipv4.tcp_mem", "4096 87380 67108864"),
            ("net.ipv4.tcp_max_orphans", "30000"),
        ],
        [15_000, 240_000, 0, 0],
    );
    let advice = advise(&facts, &[]);
    let memory = step(&advice, "net.ipv4.tcp_mem");
    assert_eq!((memory.code, memory.action), ("LB410", Action::Set));
    assert_eq!(memory.finding.current, "4096 87380 67108864");
    // The limit that they seem to pay for would be 65536. The sound ones pay for
    // 33750 orphans of 64 KiB, hardly more than the limit.
    let orphans: Vec<_> = advice
        .recommendations
        .iter()
        .filter(|step| step.code == "LB101")
        .collect();
    assert_eq!(orphans.len(), 1, "{advice:#?}");
    assert_eq!(orphans[0].finding.setting, "none here");
    assert!(
        orphans[0]
            .finding
            .summary
            .ends_with("memory cannot pay for more")
    );
    let memory = orphans[0]
        .finding
        .evidence
        .iter()
        .find(|evidence| evidence.observation == "net.ipv4.tcp_mem")
        .unwrap();
    assert_eq!(memory.source, rules::PLANNED_VALUE);
}

#[test]
fn what_is_right_is_left() {
    let facts = small(
        &[
            ("net.ipv4.tcp_mem", "196608 262144 393216"),
            ("net.ipv4.tcp_max_orphans", "65536"),
            ("net.ipv4.tcp_fin_timeout", "30"),
        ],
        [0; 4],
    );
    let advice = advise(&facts, &[]);
    let left: Vec<_> = advice.leave.iter().map(|leave| leave.setting).collect();
    assert_eq!(left, ["net.ipv4.tcp_max_orphans", "net.ipv4.tcp_mem"]);
    assert_eq!(advice.recommendations.len(), 1, "{advice:#?}");
}

#[test]
fn which_way_a_setting_goes_is_told_by_its_numbers() {
    let way = |setting: &str, current: &str, proposed: &str| {
        let facts = small(&[("net.ipv4.tcp_fin_timeout", "30")], [0; 4]);
        let mut finding = advise(&facts, &[]).recommendations.remove(0).finding;
        setting.clone_into(&mut finding.setting);
        current.clone_into(&mut finding.current);
        proposed.clone_into(&mut finding.proposed);
        action(&finding)
    };
    for (setting, current, proposed, expected) in [
        ("net.ipv4.tcp_mem", "1 2 3", "4 5 6", Action::Raise),
        ("net.ipv4.tcp_mem", "4 5 6", "1 2 6", Action::Lower),
        ("net.ipv4.tcp_mem", "3 2 1", "1 2 3", Action::Set),
        ("net.ipv4.tcp_syncookies", "0", "1", Action::Set),
        ("net.ipv4.tcp_orphan_retries", "0", "3", Action::Lower),
        ("net.ipv4.tcp_orphan_retries", "2", "3", Action::Raise),
        (
            "/etc/sysctl.conf:1",
            "a = 1",
            "take the line out",
            Action::Mend,
        ),
        ("close()", "a", "b", Action::Mend),
    ] {
        assert_eq!(
            way(setting, current, proposed),
            expected,
            "{setting} {current}"
        );
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 500,
        // What fails is printed; nothing is written beside the sources.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// Whoever applies everything and asks again gets no further change; and no
    /// step is out of bounds.
    #[test]
    fn a_plan_settles_and_keeps_its_bounds(host in host()) {
        let mut facts = host;
        let before = (facts.settings.clone(), facts.sysctl_files.clone());
        let first = advise(&facts, &[]);
        prop_assert_eq!(&before, &(facts.settings.clone(), facts.sysctl_files.clone()));
        within_bounds(&facts, &first)?;
        fragment_is_the_plan(&facts, &first)?;
        no_contradiction(&first)?;
        commands::all_can_be_run(&facts, &first)?;
        for step in &first.recommendations {
            if let Some(change) = step.change() {
                change.apply(&mut facts);
            }
        }
        let second = advise(&facts, &[]);
        for step in &second.recommendations {
            prop_assert!(
                step.change().is_none(),
                "asked again: {:#?}\nat first: {:#?}", step, first
            );
            prop_assert!(
                first.recommendations.iter().any(|earlier| {
                    earlier.code == step.code
                        || earlier.also.iter().any(|also| also.code == step.code)
                }),
                "new: {:#?}\nat first: {:#?}", step, first
            );
        }
    }
}

/// One value for a setting, and none out of bounds.
fn within_bounds(facts: &Facts, advice: &Advice) -> Result<(), TestCaseError> {
    let steps = &advice.recommendations;
    prop_assert!(steps.is_sorted_by_key(|step| step.finding.severity));
    let mut seen = BTreeSet::new();
    let mut settings = facts.settings.clone();
    for step in steps {
        let shown = format!("{:?}", step.finding);
        for evidence in &step.finding.evidence {
            let live = facts.settings.get(&evidence.observation);
            prop_assert!(
                !evidence.source.starts_with("/proc/sys/")
                    || !step.namespaces.is_empty()
                    || live.is_none_or(|live| live == evidence.value.to_string()),
                "{:?} never was",
                evidence
            );
        }
        prop_assert!(!shown.contains(PLANNED_FILE), "{}", shown);
        let Some(change) = step.change() else {
            continue;
        };
        for inode in step
            .namespaces
            .iter()
            .map(Some)
            .chain(step.namespaces.is_empty().then_some(None))
        {
            prop_assert!(
                seen.insert((step.finding.setting.clone(), inode.copied())),
                "twice: {:#?}",
                step
            );
        }
        let Change::Set {
            name,
            value,
            namespaces,
        } = change
        else {
            continue;
        };
        if !namespaces.is_empty() {
            prop_assert!(
                !table::find(name)
                    .unwrap()
                    .is_of_the_kernel(Release::of_kernel(&facts.kernel)),
                "{:#?}",
                step
            );
            continue;
        }
        prop_assert_ne!(Some(value.clone()), facts.settings.get(name));
        settings.set(name, &value);
        for number in value.split(' ') {
            let number: i64 = number.parse().expect("the kernel's are longs");
            prop_assert!(number >= 0, "{}: {}", name, value);
            prop_assert!(
                name == "net.ipv4.tcp_mem" || number <= i64::from(i32::MAX),
                "{}: {}",
                name,
                value
            );
        }
    }
    let has = |name: &str| seen.contains(&(name.to_owned(), None));
    if has("net.ipv4.tcp_mem") {
        tcp_mem_is_sound(facts, &settings)?;
    }
    if has("net.ipv4.tcp_max_orphans") {
        let limit = settings.tcp_max_orphans.unwrap();
        let orphans = facts.now.sockstat.get("TCP.orphan").unwrap();
        let of_limit = |step: &&Recommendation| step.finding.setting == "net.ipv4.tcp_max_orphans";
        let step = steps.iter().find(of_limit).unwrap();
        // Memory may pay for less, and the step says so.
        let all_paid = !step.finding.why.contains("the memory is missing");
        prop_assert!(
            orphans < limit && (orphans.saturating_mul(4) < limit || !all_paid),
            "it would reset: {} {}",
            orphans,
            limit
        );
    }
    if let (true, Some(records)) = (
        has("net.ipv4.tcp_max_tw_buckets"),
        settings.tcp_max_tw_buckets,
    ) {
        prop_assert!(records.cast_unsigned() * 256 <= facts.ram_bytes / 64);
    }
    Ok(())
}

/// No part of an answer takes back what another one says.
fn no_contradiction(advice: &Advice) -> Result<(), TestCaseError> {
    let here = |step: &&Recommendation| step.namespaces.is_empty();
    let set: Vec<&str> = advice
        .recommendations
        .iter()
        .filter(here)
        .filter(|step| step.change().is_some())
        .map(|step| step.finding.setting.as_str())
        .collect();
    for leave in &advice.leave {
        prop_assert!(!set.contains(&leave.setting), "{:?} and set", leave);
        let harm = advice.recommendations.iter().filter(here).find(|step| {
            step.finding.severity == Severity::Critical
                && step.finding.setting.contains(leave.setting)
        });
        prop_assert!(harm.is_none(), "{:?} beside {:?}", leave, harm);
    }
    let raises_limit = advice.recommendations.iter().any(|step| {
        step.action == Action::Raise && step.finding.setting == "net.ipv4.tcp_max_orphans"
    });
    if raises_limit {
        let refuses = advice.recommendations.iter().find(|step| {
            let finding = &step.finding;
            finding.why.contains("No higher limit helps")
                || finding.summary.contains("memory cannot pay for more")
        });
        prop_assert!(refuses.is_none(), "the limit is set beside {:?}", refuses);
    }
    for near in &advice.near_misses {
        let told = advice
            .recommendations
            .iter()
            .any(|step| step.code == near.code && near.what.contains(&step.finding.subject));
        prop_assert!(!told, "{:?} is a finding", near);
    }
    Ok(())
}

/// Marks of tcp_mem that are in order, paid for, and above what TCP holds.
fn tcp_mem_is_sound(facts: &Facts, settings: &Settings) -> Result<(), TestCaseError> {
    let [low, pressure, high] = settings.tcp_mem.unwrap();
    prop_assert!(low <= pressure && pressure < high, "{:?}", settings.tcp_mem);
    prop_assert!(
        high <= facts.ram_bytes / 4 / facts.page_bytes,
        "{} of {}",
        high,
        facts.ram_bytes
    );
    prop_assert!(pressure > 0);
    let usage = facts.now.sockstat.get("TCP.mem").unwrap().cast_unsigned();
    let unit = facts.gauge_unit_bytes();
    prop_assert!(
        facts.gauge_is_bypassed()
            || u128::from(usage) * u128::from(unit)
                < u128::from(pressure) * u128::from(facts.page_bytes),
        "it would begin under pressure: {} {}",
        usage,
        pressure
    );
    Ok(())
}

/// What `--format sysctl` writes is read back as the plan's settings: no line of
/// it is anything else, whatever the texts above it say.
fn fragment_is_the_plan(facts: &Facts, advice: &Advice) -> Result<(), TestCaseError> {
    let mut text = Vec::new();
    crate::render::sysctl::write(&mut text, advice, facts).unwrap();
    let written: Vec<_> = parse(&text).into_iter().map(|line| line.content).collect();
    let planned: Vec<_> = advice
        .recommendations
        .iter()
        // Those are comments, for people to decide.
        .filter(|step| !step.may_feed_a_leak())
        .filter_map(|step| match step.change() {
            Some(Change::Set {
                name,
                value,
                namespaces,
            }) if namespaces.is_empty() => Some(Content::Assignment {
                key: name.to_owned(),
                value,
            }),
            _ => None,
        })
        .collect();
    prop_assert_eq!(written, planned);
    Ok(())
}
