//! One answer for many captures: each finding with the hosts that have it, and what
//! differs between the hosts.
//!
//! A capture is read, judged and let go before the next one: what stays of a host are its
//! findings and its settings.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use advisor_facts::units::bytes;
use advisor_facts::{Facts, OutOfSight, Settings, file};
use serde::Serialize;

use crate::accepted::Accepted;
use crate::plan::{self, Recommendation};
use crate::rules::{NamedReport, Severity};

/// Version of the format of `advisor recommend --facts DIR --format json`.
pub const SCHEMA: u32 = 1;

/// Of those that have a finding, so many of a hundred have a value that sets them apart,
/// and of the others no more than the rest of it.
const APART_PERCENT: usize = 90;
/// So many captures in a directory at most.
const CAPTURES_LIMIT: usize = 100_000;

/// The answer for many hosts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fleet {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    /// How many captures were judged.
    pub hosts: usize,
    /// The captures that could not be read.
    pub unread: Vec<Unread>,
    /// The captures of another schema, judged as far as they are understood.
    pub other_schemas: Vec<OtherSchema>,
    /// What was found, the greatest harm first; of the same harm what the fewest hosts
    /// have.
    pub findings: Vec<FleetFinding>,
    /// The hosts with no finding.
    pub without_finding: Vec<String>,
    /// What differs between the hosts: the settings, the kernels, CPUs and memory.
    pub differences: Vec<Difference>,
    /// What matters and could not be seen, with the hosts.
    pub not_seen: Vec<NotSeen>,
}

/// A capture that could not be read.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Unread {
    /// The file.
    pub file: PathBuf,
    /// Where in it, and what is wrong.
    pub error: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// A capture of another schema.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct OtherSchema {
    /// The host.
    pub host: String,
    /// The schema.
    pub schema: u32,
}

/// What was found on some of the hosts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FleetFinding {
    /// The rule's code.
    pub code: &'static str,
    /// The rule's name.
    pub name: &'static str,
    /// The greatest harm that it does on one of them.
    pub severity: Severity,
    /// The setting, the file or the call that it is about.
    pub setting: String,
    /// Who has it, without what differs from host to host.
    pub subject: String,
    /// The hosts that have it, the worst first.
    pub hosts: Vec<OnHost>,
    /// What all of these hosts have in common and the others do not have.
    pub sets_apart: Vec<Trait>,
}

/// A finding on one host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnHost {
    /// The host.
    pub host: String,
    /// The harm.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub summary: String,
    /// The value now.
    pub current: String,
    /// The value to set.
    pub proposed: String,
}

/// A value that a host has.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Trait {
    /// The dotted name of the setting, or `kernel`, `cpus`, `ram`.
    pub name: String,
    /// The value.
    pub value: String,
}

/// What is not the same on all hosts.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// The dotted name of the setting, or `kernel`, `cpus`, `ram`.
    pub name: String,
    /// The values, the rarest first.
    pub values: Vec<Held>,
}

/// A value and who has it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Held {
    /// The value.
    pub value: String,
    /// The hosts that have it.
    pub hosts: Vec<String>,
}

/// What could not be seen.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct NotSeen {
    /// What.
    pub what: OutOfSight,
    /// The hosts.
    pub hosts: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The directory cannot be read.
    #[error("{}: cannot read it: {source}", path.display())]
    Read {
        /// The directory.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// There is no capture in it.
    #[error("{}: there is no capture in it: no file whose name ends in .json", path.display())]
    Nothing {
        /// The directory.
        path: PathBuf,
    },
    /// There are too many.
    #[error("{}: there are more than {CAPTURES_LIMIT} captures in it", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
    /// None of them can be read.
    #[error("{}: none of its {count} captures can be read; the first: {first}", path.display())]
    NoneRead {
        /// The directory.
        path: PathBuf,
        /// How many there are.
        count: usize,
        /// What is wrong with the first.
        first: String,
        /// What to do about that.
        hint: &'static str,
    },
}

impl FleetError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Nothing { .. } => {
                "give a directory of files that `advisor capture > HOST.json` wrote"
            }
            Self::TooMany { .. } => "ask for some of them at a time, in directories of their own",
            Self::NoneRead { hint, .. } => hint,
        }
    }
}

/// What stays of a host.
struct Host {
    label: String,
    /// The values by the place of their name in [`NAMES_BEFORE`] and [`Settings::NAMES`].
    values: Vec<Option<String>>,
    findings: Vec<(Key, OnHost)>,
    not_seen: Vec<OutOfSight>,
}

/// What makes findings of two hosts one.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Key {
    code: &'static str,
    name: &'static str,
    setting: String,
    subject: String,
}

/// What else differs between hosts.
const NAMES_BEFORE: [&str; 3] = ["kernel", "cpus", "ram"];

/// The names of all that is compared.
fn names() -> impl Iterator<Item = &'static str> {
    NAMES_BEFORE
        .into_iter()
        .chain(Settings::NAMES.iter().copied())
}

impl Fleet {
    /// Judges every capture of a directory: its files whose names end in `.json`. A link is
    /// not followed.
    pub fn read(
        directory: &Path,
        reports: &[NamedReport],
        accepted: &Accepted,
    ) -> Result<Self, FleetError> {
        let paths = captures(directory)?;
        let count = paths.len();
        let mut unread = Vec::new();
        let mut other_schemas = Vec::new();
        let mut hosts: Vec<Host> = Vec::new();
        for (path, is_file) in paths {
            if !is_file {
                unread.push(Unread {
                    error: format!(
                        "{}: it is a link or no regular file, and not followed",
                        path.display()
                    ),
                    hint: "put a copy of the capture there",
                    file: path,
                });
                continue;
            }
            match file::read_any(&path) {
                Ok((facts, schema)) => {
                    let host = Host::of(&facts, &path, reports, accepted);
                    if schema != file::SCHEMA {
                        other_schemas.push(OtherSchema {
                            host: host.label.clone(),
                            schema,
                        });
                    }
                    hosts.push(host);
                }
                Err(error) => unread.push(Unread {
                    error: error.to_string(),
                    hint: error.hint(),
                    file: path,
                }),
            }
        }
        if let (true, Some(first)) = (hosts.is_empty(), unread.first()) {
            return Err(FleetError::NoneRead {
                path: directory.to_owned(),
                count,
                first: first.error.clone(),
                hint: first.hint,
            });
        }
        Ok(Self {
            unread,
            other_schemas,
            ..Self::of(&hosts)
        })
    }

    fn of(hosts: &[Host]) -> Self {
        let mut groups: BTreeMap<&Key, Vec<(usize, &OnHost)>> = BTreeMap::new();
        for (at, host) in hosts.iter().enumerate() {
            for (key, found) in &host.findings {
                groups.entry(key).or_default().push((at, found));
            }
        }
        let mut findings: Vec<FleetFinding> = groups
            .into_iter()
            .map(|(key, found)| finding(key, &found, hosts))
            .collect();
        findings.sort_by_key(|finding| (finding.severity, finding.hosts.len(), finding.code));
        let quiet = hosts.iter().filter(|host| host.findings.is_empty());
        Self {
            schema: SCHEMA,
            hosts: hosts.len(),
            unread: Vec::new(),
            other_schemas: Vec::new(),
            findings,
            without_finding: quiet.map(|host| host.label.clone()).collect(),
            differences: differences(hosts),
            not_seen: not_seen(hosts),
        }
    }
}

/// The captures of a directory, by name, each with whether it is a regular file.
fn captures(directory: &Path) -> Result<Vec<(PathBuf, bool)>, FleetError> {
    let cannot = |source| FleetError::Read {
        path: directory.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let kind = entry.file_type().map_err(cannot)?;
        if kind.is_dir() {
            continue;
        }
        paths.push((path, kind.is_file()));
        if paths.len() > CAPTURES_LIMIT {
            return Err(FleetError::TooMany {
                path: directory.to_owned(),
            });
        }
    }
    if paths.is_empty() {
        return Err(FleetError::Nothing {
            path: directory.to_owned(),
        });
    }
    paths.sort();
    Ok(paths)
}

impl Host {
    fn of(facts: &Facts, path: &Path, reports: &[NamedReport], accepted: &Accepted) -> Self {
        let mut advice = plan::advise(facts, reports);
        advice.accept(accepted);
        let file = path.file_stem().unwrap_or_default().to_string_lossy();
        let label = match &facts.hostname {
            Some(name) if *name == file => name.clone(),
            Some(name) => format!("{name} ({file}.json)"),
            None => format!("{file}.json"),
        };
        let own = [
            Some(facts.kernel.clone()),
            Some(facts.cpus.to_string()),
            Some(bytes(facts.ram_bytes)),
        ];
        let settings = Settings::NAMES.iter().map(|name| facts.settings.get(name));
        let findings = advice.recommendations.iter().map(|step| {
            let finding = &step.finding;
            (
                Key::of(step),
                OnHost {
                    host: label.clone(),
                    severity: finding.severity,
                    summary: finding.summary.clone(),
                    current: finding.current.clone(),
                    proposed: finding.proposed.clone(),
                },
            )
        });
        Self {
            values: own.into_iter().chain(settings).collect(),
            findings: findings.collect(),
            not_seen: advice.not_seen.clone(),
            label,
        }
    }
}

impl Key {
    fn of(step: &Recommendation) -> Self {
        Self {
            code: step.code,
            name: step.name,
            setting: alike(&step.finding.setting),
            subject: alike(&step.finding.subject),
        }
    }
}

/// A subject without what differs from host to host: numbers of processes, addresses,
/// ports and the names of containers.
fn alike(subject: &str) -> String {
    subject
        .split(' ')
        .map(|word| {
            let digits = word.bytes().filter(u8::is_ascii_digit).count();
            let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
            let is_dotted_name = word.starts_with("net.") || word.starts_with('/');
            let is_id = word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            if digits == 0 || is_dotted_name || (letters > digits && !is_id && !word.contains(':'))
            {
                return word.to_owned();
            }
            // What stands around a number stays, as in `(812,`.
            let first = word.find(|c: char| c.is_ascii_alphanumeric()).unwrap_or(0);
            let end = word
                .rfind(|c: char| c.is_ascii_alphanumeric())
                .map_or(word.len(), |end| end + 1);
            format!("{}N{}", &word[..first], &word[end..])
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn finding(key: &Key, found: &[(usize, &OnHost)], hosts: &[Host]) -> FleetFinding {
    let mut on: Vec<OnHost> = found.iter().map(|(_, one)| (*one).clone()).collect();
    // Values that few of them have stand first among those of one harm.
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for one in &on {
        *counts.entry(one.current.clone()).or_default() += 1;
    }
    on.sort_by(|one, other| {
        let rank = |one: &OnHost| (one.severity, counts[&one.current]);
        (rank(one), &one.host).cmp(&(rank(other), &other.host))
    });
    let severity = on.iter().map(|one| one.severity).min();
    let mut have = vec![false; hosts.len()];
    for (at, _) in found {
        have[*at] = true;
    }
    FleetFinding {
        code: key.code,
        name: key.name,
        severity: severity.unwrap_or(Severity::Notice),
        setting: key.setting.clone(),
        subject: key.subject.clone(),
        hosts: on,
        sets_apart: sets_apart(&have, hosts, &key.setting),
    }
}

/// What nearly all hosts of a kind have, and hardly any other. The setting itself is no
/// news.
fn sets_apart(have: &[bool], hosts: &[Host], setting: &str) -> Vec<Trait> {
    let inside = have.iter().filter(|have| **have).count();
    let outside = hosts.len() - inside;
    if outside == 0 || inside < 2 {
        return Vec::new();
    }
    let mut apart = Vec::new();
    for (place, name) in names().enumerate() {
        if name == setting {
            continue;
        }
        let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
        for (host, have) in hosts.iter().zip(have) {
            if let Some(value) = &host.values[place] {
                counts.entry(value).or_default()[usize::from(!have)] += 1;
            }
        }
        for (value, [here, there]) in counts {
            let many_here = here * 100 >= inside * APART_PERCENT;
            let few_there = there * 100 <= outside * (100 - APART_PERCENT);
            if many_here && few_there {
                apart.push(Trait {
                    name: name.to_owned(),
                    value: value.to_owned(),
                });
            }
        }
    }
    apart
}

/// What is not the same on all hosts; what differs on the fewest stands first.
fn differences(hosts: &[Host]) -> Vec<Difference> {
    let mut differences: Vec<Difference> = names()
        .enumerate()
        .filter_map(|(place, name)| {
            let mut held: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for host in hosts {
                let value = host.values[place].as_deref().unwrap_or("not known");
                held.entry(value).or_default().push(host.label.clone());
            }
            if held.len() < 2 {
                return None;
            }
            let mut values: Vec<Held> = held
                .into_iter()
                .map(|(value, hosts)| Held {
                    value: value.to_owned(),
                    hosts,
                })
                .collect();
            values.sort_by_key(|held| held.hosts.len());
            Some(Difference {
                name: name.to_owned(),
                values,
            })
        })
        .collect();
    let usual =
        |difference: &Difference| difference.values.last().map_or(0, |held| held.hosts.len());
    differences.sort_by_key(|difference| std::cmp::Reverse(usual(difference)));
    differences
}

fn not_seen(hosts: &[Host]) -> Vec<NotSeen> {
    let mut not_seen: Vec<NotSeen> = Vec::new();
    for host in hosts {
        for what in &host.not_seen {
            match not_seen.iter_mut().find(|known| known.what == *what) {
                Some(known) => known.hosts.push(host.label.clone()),
                None => not_seen.push(NotSeen {
                    what: *what,
                    hosts: vec![host.label.clone()],
                }),
            }
        }
    }
    not_seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_host_to_host_is_taken_out_of_a_subject() {
        for (subject, kind) in [
            ("nginx (812)", "nginx (N)"),
            ("server.py (22580, python3)", "server.py (N, python3)"),
            (
                "nginx (812, containerd:0123456789ab), the listener on 0.0.0.0:8080",
                "nginx (N, N), the listener on N",
            ),
            ("/etc/sysctl.d/10-tcp.conf:3", "/etc/sysctl.d/10-tcp.conf:3"),
            ("net.ipv4.tcp_mem", "net.ipv4.tcp_mem"),
            ("the whole kernel", "the whole kernel"),
        ] {
            assert_eq!(alike(subject), kind);
        }
    }

    fn host(label: &str, somaxconn: &str, kernel: &str, found: bool) -> Host {
        let mut values: Vec<Option<String>> = names().map(|_| Some("same".to_owned())).collect();
        values[0] = Some(kernel.to_owned());
        let place = names()
            .position(|name| name == "net.core.somaxconn")
            .unwrap();
        values[place] = Some(somaxconn.to_owned());
        let key = Key {
            code: "LB511",
            name: "somaxconn-low",
            setting: "net.core.somaxconn".to_owned(),
            subject: "this network namespace".to_owned(),
        };
        let on = OnHost {
            host: label.to_owned(),
            severity: Severity::Notice,
            summary: String::new(),
            current: somaxconn.to_owned(),
            proposed: "4096".to_owned(),
        };
        Host {
            label: label.to_owned(),
            values,
            findings: found.then_some((key, on)).into_iter().collect(),
            not_seen: Vec::new(),
        }
    }

    #[test]
    fn rare_values_and_what_sets_hosts_apart_are_named() {
        let hosts = [
            host("web1", "128", "5.10.1", true),
            host("web2", "128", "5.10.1", true),
            host("web3", "64", "5.10.1", true),
            host("db1", "4096", "6.12.1", false),
            host("db2", "4096", "6.12.1", false),
            host("db3", "4096", "6.12.1", false),
            host("db4", "4096", "6.12.1", false),
        ];
        let fleet = Fleet::of(&hosts);
        let [finding] = &fleet.findings[..] else {
            panic!("{fleet:?}");
        };
        let named: Vec<&str> = finding.hosts.iter().map(|on| on.host.as_str()).collect();
        assert_eq!(named, ["web3", "web1", "web2"]);
        let apart: Vec<_> = finding
            .sets_apart
            .iter()
            .map(|one| (&*one.name, &*one.value))
            .collect();
        assert_eq!(apart, [("kernel", "5.10.1")]);
        assert_eq!(fleet.without_finding, ["db1", "db2", "db3", "db4"]);
        let somaxconn = fleet
            .differences
            .iter()
            .find(|one| one.name == "net.core.somaxconn");
        let values: Vec<_> = somaxconn
            .unwrap()
            .values
            .iter()
            .map(|held| &*held.value)
            .collect();
        assert_eq!(values, ["64", "128", "4096"]);
        assert_eq!(fleet.differences.len(), 2);
    }
}
