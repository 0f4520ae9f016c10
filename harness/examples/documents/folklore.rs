//! `docs/folklore.md`: settings that circulate as cures, tried on hosts that are invented,
//! from `docs/folklore.json`, which `ci/folklore` measured with `harness try`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use advisor_report::escape::escaped;
use advisor_report::proof::{Compared, Comparison};
use harness::prove::attempt::Attempt;
use serde::{Deserialize, Serialize};

use super::invented;
use super::{Error, read_measured, write_facts, write_measured};

/// A setting that people pass on, and what they say that it does.
struct Myth {
    /// Its name in files.
    name: &'static str,
    /// What is said.
    said: &'static str,
    /// What is set.
    set: &'static [&'static str],
}

/// The settings, each from the sources of docs/sources.md.
const MYTHS: &[Myth] = &[
    Myth {
        name: "fin-timeout",
        said: "A short tcp_fin_timeout ends TIME_WAIT sooner",
        set: &["net.ipv4.tcp_fin_timeout=15"],
    },
    Myth {
        name: "tw-reuse",
        said: "tcp_tw_reuse gives ports back",
        set: &["net.ipv4.tcp_tw_reuse=1"],
    },
    Myth {
        name: "tw-reuse-without-timestamps",
        said: "tcp_tw_reuse gives ports back, and timestamps cost bandwidth",
        set: &["net.ipv4.tcp_tw_reuse=1", "net.ipv4.tcp_timestamps=0"],
    },
    Myth {
        name: "tw-buckets",
        said: "A small tcp_max_tw_buckets gets rid of TIME_WAIT",
        set: &["net.ipv4.tcp_max_tw_buckets=5000"],
    },
    Myth {
        name: "port-range",
        said: "A wide port range is the cure for EADDRNOTAVAIL",
        set: &["net.ipv4.ip_local_port_range=1024 65535"],
    },
    Myth {
        name: "orphan-retries-0",
        said: "tcp_orphan_retries = 0 ends orphans at once",
        set: &["net.ipv4.tcp_orphan_retries=0"],
    },
    Myth {
        name: "orphan-retries-1",
        said: "A low tcp_orphan_retries gets rid of orphans",
        set: &["net.ipv4.tcp_orphan_retries=1"],
    },
    Myth {
        name: "orphans-raised",
        said: "tcp_max_orphans as high as it goes",
        set: &["net.ipv4.tcp_max_orphans=3276800"],
    },
    Myth {
        name: "orphans-lowered",
        said: "A low tcp_max_orphans protects the memory",
        set: &["net.ipv4.tcp_max_orphans=100"],
    },
    Myth {
        name: "tcp-mem-in-bytes",
        said: "tcp_mem as the triple of tcp_rmem",
        set: &["net.ipv4.tcp_mem=4096 87380 67108864"],
    },
    Myth {
        name: "tcp-mem-huge",
        said: "tcp_mem beyond all RAM",
        set: &["net.ipv4.tcp_mem=94500000 915000000 927000000"],
    },
    Myth {
        name: "tcp-mem-out-of-order",
        said: "tcp_mem with its marks the wrong way round",
        set: &["net.ipv4.tcp_mem=18000 15000 12000"],
    },
    Myth {
        name: "buffers",
        said: "Buffers of 64 MiB for everybody",
        set: &[
            "net.core.rmem_max=67108864",
            "net.core.wmem_max=67108864",
            "net.ipv4.tcp_rmem=4096 1048576 67108864",
            "net.ipv4.tcp_wmem=4096 1048576 67108864",
        ],
    },
    Myth {
        name: "retries2",
        said: "A low tcp_retries2 frees the host of dead peers",
        set: &["net.ipv4.tcp_retries2=3"],
    },
    Myth {
        name: "keepalive",
        said: "A short tcp_keepalive_time finds dead peers",
        set: &[
            "net.ipv4.tcp_keepalive_time=10",
            "net.ipv4.tcp_keepalive_intvl=5",
            "net.ipv4.tcp_keepalive_probes=3",
        ],
    },
    Myth {
        name: "abort-on-overflow",
        said: "tcp_abort_on_overflow tells clients early",
        set: &["net.ipv4.tcp_abort_on_overflow=1"],
    },
    Myth {
        name: "rfc1337",
        said: "tcp_rfc1337 makes TIME_WAIT safe",
        set: &["net.ipv4.tcp_rfc1337=1"],
    },
    Myth {
        name: "queues",
        said: "Long queues for new connections",
        set: &[
            "net.core.somaxconn=65535",
            "net.ipv4.tcp_max_syn_backlog=65535",
        ],
    },
];

/// The file in `docs/`.
const FILE: &str = "folklore.json";

/// What `ci/folklore` measured.
#[derive(Deserialize, Serialize)]
struct Measured {
    /// The kernel.
    kernel: String,
    /// By the name of a myth, and that of a host.
    tried: BTreeMap<String, BTreeMap<String, Attempt>>,
}

/// Writes the facts of each host, and a line with name and settings for each myth.
pub fn write_cases(into: &Path) -> Result<(), Error> {
    for (name, facts) in invented::hosts() {
        write_facts(&into.join(format!("{name}.host")), &facts)?;
    }
    let lines = MYTHS
        .iter()
        .map(|myth| format!("{}\t{}\n", myth.name, myth.set.join("\t")));
    Ok(fs::write(into.join("myths"), lines.collect::<String>())?)
}

/// Makes the answers of `harness try` those that the page is made from.
pub fn take_over(from: &Path) -> Result<(), Error> {
    let mut measured = Measured {
        kernel: String::new(),
        tried: BTreeMap::new(),
    };
    for myth in MYTHS {
        let hosts = measured.tried.entry(myth.name.to_owned()).or_default();
        for (host, _) in invented::hosts() {
            // A measurement that was cut short leaves some out.
            let name = format!("{host}.{}.json", myth.name);
            let Ok(text) = fs::read_to_string(from.join(name)) else {
                continue;
            };
            let mut tried: Attempt = serde_json::from_str(&text)?;
            measured.kernel.clone_from(&tried.kernel);
            tried
                .seen
                .retain(|row| row.verdict != Comparison::Unchanged);
            hosts.insert(host, tried);
        }
    }
    write_measured(FILE, &measured)
}

/// The page.
pub fn page() -> Result<String, Error> {
    let mut text = "# Settings that circulate\n\n\
        People pass these settings on as cures. `ci/folklore` tries each with `harness try` on\n\
        every host that `ci/prove` invents, in a guest, and this page is made from what bystanders\n\
        saw there. Better and worse mean by more than a tenth, in each of five pairs of runs, each\n\
        with another seed; the numbers are of the first pair. A host on which nothing changed is\n\
        not named. What comes later than a trial is not seen: a leak that fills a higher limit,\n\
        too, RAM that runs out, connections that end after minutes. `harness prove` judges such\n\
        advice.\n"
        .to_owned();
    let Some(measured) = read_measured::<Measured>(FILE)? else {
        text.push_str("\nNot measured yet.\n");
        return Ok(text);
    };
    let _ = writeln!(text, "\nMeasured on Linux {}.", measured.kernel);
    for myth in MYTHS {
        let _ = write!(
            text,
            "\n## {}\n\n    {}\n\n",
            myth.said,
            myth.set.join("\n    ")
        );
        let hosts = measured
            .tried
            .get(myth.name)
            .filter(|hosts| !hosts.is_empty());
        let Some(hosts) = hosts else {
            text.push_str("Not measured yet.\n");
            continue;
        };
        let rows: Vec<String> = hosts
            .iter()
            .flat_map(|(host, tried)| rows(host, tried))
            .collect();
        let all = hosts.len();
        if rows.is_empty() {
            let _ = writeln!(text, "It changes nothing on any of {all} hosts.");
            continue;
        }
        let _ = write!(text, "Tried on {all} hosts.\n\n");
        text.push_str(
            "| host | it gets | what | before | after |\n| --- | --- | --- | --- | --- |\n",
        );
        text.extend(rows);
    }
    Ok(text)
}

/// What changed on a host.
fn rows(host: &str, tried: &Attempt) -> Vec<String> {
    let host = host.replace('-', " ");
    if let Some(unlike) = tried.unlike.first() {
        return vec![format!(
            "| {host} | nothing is claimed | the guest was not as the host: {} | - | - |\n",
            escaped(unlike)
        )];
    }
    let row = |row: &Compared| {
        format!(
            "| {host} | {} | {} | {} | {} |\n",
            row.verdict,
            escaped(&row.what),
            escaped(&row.before),
            escaped(&row.after)
        )
    };
    tried.seen.iter().map(row).collect()
}
