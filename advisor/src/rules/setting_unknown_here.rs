//! A file that sets a sysctl which this kernel does not have.

use advisor_facts::Facts;
use advisor_facts::release::Release;
use advisor_facts::sysctl::table::{self, Setting};
use advisor_facts::sysctl_files::is_glob;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity, TAKE_OUT,
    not_initial_namespace,
};

pub(crate) const RULE: Rule = Rule {
    code: "LB601",
    name: "setting-unknown-here",
    scope: Scope::Files,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::FILES_ONLY,
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A network setting in a file that this kernel does not have. Linux removed it, such \
        as tcp_tw_recycle or ip_conntrack_max, or only a later kernel has it, or its name is \
        misspelled. Nothing sets it, and systemd-sysctl says so only in its debug log.",
    evidence: "Keys of net.ipv4 and net.core that the files set and /proc/sys lacks, in the \
        initial network namespace, which has them all. Keys of modules may appear later and are \
        ignored. `advisor lint` asks no kernel: it knows the names of all settings of Linux 5.10 \
        to 7.3, and since and until which release each exists. If a stable release brought a \
        setting to an older line, the whole line counts as having it.",
    recommendation: "Remove the line, and find out what it was for.",
    cost: "None.",
    risk: "The same files may serve other kernels, which have the setting.",
    undo: "Put the line back.",
    references: &[
        "sysctl.d(5), sysctl(8)",
        "commit 4396e46187ca of Linux: tcp_tw_recycle is gone since 4.12",
        "Documentation/networking/ip-sysctl.rst and the tables of sysctls in net/ of Linux, \
        held against five kernels by ci/settings",
    ],
};

/// A misspelled name is at most this many edits away, and has at least this many letters
/// per edit.
const MOST_EDITS: usize = 3;
const LETTERS_AN_EDIT: usize = 3;

/// Why a setting is unknown, and what to do.
pub(crate) struct Unknown {
    pub why: String,
    pub hint: &'static str,
}

impl Unknown {
    fn explained(why: String) -> Self {
        Self {
            why,
            hint: TAKE_OUT,
        }
    }

    /// A setting that is missing for an unknown reason, with the name that was perhaps meant.
    fn unexplained(why: String, key: &str) -> Self {
        match like(key) {
            Some(name) => Self {
                why: format!("{why}; did you mean {name}?"),
                hint: "write the right name, or take the line out",
            },
            None => Self::explained(why),
        }
    }
}

/// Judges a setting by name alone, for a kernel release; empty: not known.
pub(crate) fn unknown(key: &str, kernel: &str) -> Option<Unknown> {
    if is_glob(key) {
        return None;
    }
    let release = Release::of_kernel(kernel);
    if let Some(setting) = table::find(key) {
        return came_or_went(setting, release).map(Unknown::explained);
    }
    // Names are files, whose letters have a case.
    let meant = key.trim_start_matches('\u{feff}').to_ascii_lowercase();
    if meant != key && table::is_covered(&meant) {
        let (because, hint) = if key.starts_with('\u{feff}') {
            (
                "the line begins with a byte order mark, which is no part of the name",
                "save the file without the byte order mark",
            )
        } else {
            (
                "names of sysctls are in lower case",
                "write the name in lower case",
            )
        };
        return Some(Unknown {
            why: format!("no kernel has {}: {because}", key.escape_debug()),
            hint,
        });
    }
    if let Some(device) = dotted_device(key) {
        return Some(Unknown {
            why: format!(
                "{key} sets nothing: each dot separates two directories, so that a dot in the \
                 name of a device, {device}, is written as a slash"
            ),
            hint: "write the dot of the device's name as /: net.ipv4.conf.eth0/100.rp_filter",
        });
    }
    let (first, last) = table::COVERED;
    let is_covered = release.is_none_or(|release| (first..=last).contains(&release));
    if !is_covered || !table::is_covered(key) {
        return None;
    }
    let why = format!("no kernel from {first} to {last} has {key}");
    Some(Unknown::unexplained(why, key))
}

/// Whether a setting is gone, or not there yet, and what to say.
fn came_or_went(setting: &Setting, release: Option<Release>) -> Option<String> {
    let name = setting.name;
    if let Some(until) = setting.until
        && release.is_none_or(|release| release >= until)
    {
        let instead = match setting.instead {
            "" => String::new(),
            instead => format!(": {instead}"),
        };
        return Some(format!("{name} is gone since {until}{instead}"));
    }
    (!setting.exists(release?)).then(|| format!("{name} exists since {}", setting.since))
}

/// The directories that have one of settings for each device.
const OF_DEVICES: [&str; 4] = [
    "net.ipv4.conf.",
    "net.ipv6.conf.",
    "net.ipv4.neigh.",
    "net.ipv6.neigh.",
];

/// The name of a device whose dot is written as a dot.
fn dotted_device(key: &str) -> Option<&str> {
    let mut directories = OF_DEVICES.iter();
    let rest = directories.find_map(|directory| key.strip_prefix(directory))?;
    let (device, _) = rest.rsplit_once('.')?;
    device.contains('.').then_some(device)
}

/// The known name nearest to a misspelled one: the same in another directory, or one with
/// other letters in the same.
fn like(key: &str) -> Option<&'static str> {
    let family = table::FAMILIES
        .iter()
        .find(|family| key.starts_with(**family))?;
    let last = key.strip_prefix(family)?;
    let elsewhere = table::settings().find(|setting| {
        let mut families = table::FAMILIES.iter();
        let name = families.find_map(|family| setting.name.strip_prefix(family));
        setting.until.is_none()
            && (name == Some(last) || setting.name.rsplit('.').next() == Some(last))
    });
    if let Some(setting) = elsewhere {
        return Some(setting.name);
    }
    let (edits, nearest) = table::settings()
        .filter(|setting| setting.name.starts_with(family) && setting.until.is_none())
        .map(|setting| (strsim::osa_distance(key, setting.name), setting.name))
        .min()?;
    let letters = key
        .trim_start_matches("net.ipv4.tcp_")
        .trim_start_matches(family)
        .len();
    (edits <= MOST_EDITS && edits * LETTERS_AN_EDIT <= letters).then_some(nearest)
}

/// Whether a setting is there only once its module is loaded, or is none of those
/// that the table lists in full.
fn is_of_a_module(key: &str) -> bool {
    match table::find(key) {
        Some(setting) if setting.until.is_some() => false,
        _ => {
            !(table::is_covered(key)
                && (key.starts_with("net.ipv4.") || key.starts_with("net.core.")))
        }
    }
}

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.settings.tcp_max_orphans.is_none() {
        return not_initial_namespace("net.ipv4.tcp_max_orphans");
    }
    let files = &facts.sysctl_files;
    let findings: Vec<_> = files
        .assignments()
        .filter(|line| files.live.get(line.key) == Some(&None) && !is_of_a_module(line.key))
        .map(|line| {
            let went = table::find(line.key)
                .and_then(|setting| came_or_went(setting, Release::of_kernel(&facts.kernel)));
            let Unknown { why, hint } = went.map_or_else(
                || Unknown::unexplained(format!("{} has no {}", facts.kernel, line.key), line.key),
                Unknown::explained,
            );
            Finding {
                severity: Severity::Notice,
                confidence: Confidence::High,
                summary: format!("a file sets {}, which this kernel does not have", line.key),
                why: format!("{why}. Whoever set it expects an effect that does not come."),
                verify: format!("sysctl {} says that it does not exist", line.key),
                ..Finding::of_line(facts, &DOCUMENTATION, &line, hint.to_owned())
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet("this kernel has every TCP setting that the files set".to_owned());
    }
    Outcome::Fired(findings)
}

#[cfg(test)]
pub(super) mod tests {

    use super::*;
    use crate::rules::testing::host;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("setting-unknown-here")
    }

    #[test]
    fn a_setting_is_gone_or_not_yet_there_by_the_kernel() {
        for (key, kernel, is_unknown) in [
            ("net.ipv4.tcp_tw_recycle", "6.12.1", true),
            ("net.ipv4.tcp_tw_recycle", "", true),
            ("net.ipv4.tcp_tw_recycle", "4.9", false),
            ("net.ipv4.tcp_rto_max_ms", "6.12", true),
            ("net.ipv4.tcp_rto_max_ms", "6.18", false),
            ("net.ipv4.tcp_rto_max_ms", "", false),
            ("net.ipv4.tcp_mem", "6.18", false),
            ("net.ipv4.tcp_men", "6.18", true),
            ("net.ipv4.tcp_men", "", true),
            ("net.ipv4.tcp_men", "4.19", false),
            ("net.ipv4.tcp_men", "7.4", false),
            ("net.ipv4.tcp_*", "", false),
            ("net.ipv4.ip_forward", "", false),
            ("net.ipv4.tcp_rto_min_us", "5.10", true),
            ("net.ipv4.tcp_rto_min_us", "6.12.3-arch", false),
            // Brought to stable releases of two older lines.
            ("net.core.mem_pcpu_rsv", "5.10", true),
            ("net.core.mem_pcpu_rsv", "6.1.0-57-amd64", false),
            ("net.core.mem_pcpu_rsv", "6.2", true),
            ("net.ipv4.ip_conntrack_max", "", true),
            ("net.ipv4.netfilter.ip_conntrack_max", "6.12", true),
            ("net.netfilter.nf_conntrack_max", "6.12", false),
            ("net.netfilter.nf_conntrack_maxx", "6.12", true),
            ("net.netfilter.nf_log.0", "6.12", false),
            ("net.core.rmem_maxx", "6.12", true),
            ("net.ipv4.conf.all.rp_filter", "6.12", false),
            ("net.ipv4.neigh.default.gc_thresh3", "6.12", false),
            ("net.ipv4.tcp_abc", "3.8", false),
            ("net.ipv4.tcp_abc", "3.10", true),
        ] {
            assert_eq!(unknown(key, kernel).is_some(), is_unknown, "{key} {kernel}");
        }
    }

    #[test]
    fn a_name_like_a_misspelled_one_is_told() {
        let says = |key| {
            let Unknown { why, hint } = unknown(key, "6.12").unwrap();
            format!("{why}: {hint}")
        };
        assert_eq!(
            says("net.ipv4.tcp_max_orphan"),
            "no kernel from Linux 5.10 to Linux 7.3 has net.ipv4.tcp_max_orphan; did you mean \
             net.ipv4.tcp_max_orphans?: write the right name, or take the line out"
        );
        assert!(says("net.core.somaxcon").contains("did you mean net.core.somaxconn?"));
        // No mistake of spelling.
        for key in ["net.ipv4.tcp_abd", "net.ipv4.tcp_go_faster"] {
            assert!(says(key).ends_with(&format!("has {key}: take the line out")));
        }
    }

    #[test]
    fn a_name_in_capitals_or_behind_a_byte_order_mark_sets_nothing() {
        for key in [
            "NET.IPV4.TCP_FIN_TIMEOUT",
            "Net.Core.somaxconn",
            "\u{feff}net.ipv4.tcp_retries2",
        ] {
            let Unknown { why, hint } = unknown(key, "").unwrap();
            assert!(why.starts_with("no kernel has "), "{why}");
            assert!(
                hint.contains("lower case") || hint.contains("byte order mark"),
                "{hint}"
            );
        }
        assert!(unknown("net.ipv4.conf.eth0.Rp_filter", "").is_none());
    }
}
