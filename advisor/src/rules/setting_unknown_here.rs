//! A file that sets a sysctl which this kernel does not have.

use advisor_facts::Facts;
use advisor_facts::release::Release;
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
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A TCP setting in a file that this kernel does not have. Linux removed it, such as \
        tcp_tw_recycle, or only a later kernel has it, or its name is misspelled. Nothing sets \
        it, and systemd-sysctl says so only in its debug log.",
    evidence: "Keys of net.ipv4.tcp_* and net.core.* that the files set and /proc/sys lacks, in \
        the initial network namespace, which has them all. Keys of modules may appear later and \
        are ignored. `advisor lint` asks no kernel: it knows the names of net.ipv4.tcp_* of five \
        kernels from 5.10 to 7.3, and of net.core.* only the later ones.",
    recommendation: "Remove the line, and find out what it was for.",
    cost: "None.",
    risk: "The same files may serve other kernels, which have the setting.",
    undo: "Put the line back.",
    references: &[
        "sysctl.d(5), sysctl(8)",
        "commit 4396e46187ca of Linux: tcp_tw_recycle is gone since 4.12",
        "tcp_tw_reuse_delay since 6.14, tcp_rto_max_ms since 6.15: \
        Documentation/networking/ip-sysctl.rst of Linux",
    ],
};

/// Settings that Linux removed: since which release, and the replacement.
const GONE: &[(&str, Release, &str)] = &[(
    "net.ipv4.tcp_tw_recycle",
    Release::new(4, 12),
    "it broke clients behind NAT, and nothing replaces it: SO_REUSEADDR helps bind(), \
     tcp_tw_reuse helps connect()",
)];

/// Settings that older kernels lack, and since which release there are.
const NEW: &[(&str, Release)] = &[
    ("net.core.mem_pcpu_rsv", Release::new(6, 6)),
    ("net.ipv4.tcp_tw_reuse_delay", Release::new(6, 14)),
    ("net.ipv4.tcp_rto_max_ms", Release::new(6, 15)),
];

/// The kernels that [`TCP_NAMES`] was read from, and the first and the last of them.
const READ_FROM: &str = "5.10, 6.1, 6.12, 6.18 and 7.3";
const FIRST: Release = Release::new(5, 10);
const LAST: Release = Release::new(7, 3);

/// Every net.ipv4.tcp_* that these kernels have, without its prefix: what
/// /proc/sys/net/ipv4 lists in the initial network namespace of Debian's 5.10, 6.1, 6.12
/// and 7.3, and of 6.18.44.
const TCP_NAMES: &[&str] = &[
    "tcp_abort_on_overflow",
    "tcp_adv_win_scale",
    "tcp_allowed_congestion_control",
    "tcp_app_win",
    "tcp_autocorking",
    "tcp_available_congestion_control",
    "tcp_available_ulp",
    "tcp_backlog_ack_defer",
    "tcp_base_mss",
    "tcp_challenge_ack_limit",
    "tcp_child_ehash_entries",
    "tcp_comp_sack_delay_ns",
    "tcp_comp_sack_nr",
    "tcp_comp_sack_rtt_percent",
    "tcp_comp_sack_slack_ns",
    "tcp_congestion_control",
    "tcp_dsack",
    "tcp_early_demux",
    "tcp_early_retrans",
    "tcp_ecn",
    "tcp_ecn_fallback",
    "tcp_ecn_option",
    "tcp_ecn_option_beacon",
    "tcp_ehash_entries",
    "tcp_fack",
    "tcp_fastopen",
    "tcp_fastopen_blackhole_timeout_sec",
    "tcp_fastopen_key",
    "tcp_fin_timeout",
    "tcp_frto",
    "tcp_fwmark_accept",
    "tcp_invalid_ratelimit",
    "tcp_keepalive_intvl",
    "tcp_keepalive_probes",
    "tcp_keepalive_time",
    "tcp_l3mdev_accept",
    "tcp_limit_output_bytes",
    "tcp_low_latency",
    "tcp_max_orphans",
    "tcp_max_reordering",
    "tcp_max_syn_backlog",
    "tcp_max_tw_buckets",
    "tcp_mem",
    "tcp_migrate_req",
    "tcp_min_rtt_wlen",
    "tcp_min_snd_mss",
    "tcp_min_tso_segs",
    "tcp_moderate_rcvbuf",
    "tcp_mtu_probe_floor",
    "tcp_mtu_probing",
    "tcp_no_metrics_save",
    "tcp_no_ssthresh_metrics_save",
    "tcp_notsent_lowat",
    "tcp_orphan_retries",
    "tcp_pacing_ca_ratio",
    "tcp_pacing_ss_ratio",
    "tcp_pingpong_thresh",
    "tcp_plb_cong_thresh",
    "tcp_plb_enabled",
    "tcp_plb_idle_rehash_rounds",
    "tcp_plb_rehash_rounds",
    "tcp_plb_suspend_rto_sec",
    "tcp_probe_interval",
    "tcp_probe_threshold",
    "tcp_rcvbuf_low_rtt",
    "tcp_recovery",
    "tcp_reflect_tos",
    "tcp_reordering",
    "tcp_retrans_collapse",
    "tcp_retries1",
    "tcp_retries2",
    "tcp_rfc1337",
    "tcp_rmem",
    "tcp_rto_max_ms",
    "tcp_rto_min_us",
    "tcp_rx_skb_cache",
    "tcp_sack",
    "tcp_shrink_window",
    "tcp_slow_start_after_idle",
    "tcp_stdurg",
    "tcp_syn_linear_timeouts",
    "tcp_syn_retries",
    "tcp_synack_retries",
    "tcp_syncookies",
    "tcp_thin_linear_timeouts",
    "tcp_timestamps",
    "tcp_tso_rtt_log",
    "tcp_tso_win_divisor",
    "tcp_tw_reuse",
    "tcp_tw_reuse_delay",
    "tcp_tx_skb_cache",
    "tcp_window_scaling",
    "tcp_wmem",
    "tcp_workaround_signed_windows",
];

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
                why: format!("{why}; did you mean net.ipv4.{name}?"),
                hint: "write the right name, or take the line out",
            },
            None => Self::explained(why),
        }
    }
}

/// Judges a setting by name alone, for a kernel release; empty: not known.
pub(crate) fn unknown(key: &str, kernel: &str) -> Option<Unknown> {
    if let Some(why) = came_or_went(key, kernel) {
        return Some(Unknown::explained(why));
    }
    let name = tcp_name(key).filter(|_| !is_glob(key))?;
    let is_covered =
        Release::of_kernel(kernel).is_none_or(|release| (FIRST..=LAST).contains(&release));
    if !is_covered || TCP_NAMES.contains(&name) {
        return None;
    }
    let why = format!("no kernel of Linux {READ_FROM} has {key}");
    Some(Unknown::unexplained(why, key))
}

/// Why a setting is gone, or not there yet.
fn came_or_went(key: &str, kernel: &str) -> Option<String> {
    let release = Release::of_kernel(kernel);
    if let Some((_, since, instead)) = GONE.iter().find(|(gone, _, _)| *gone == key)
        && release.is_none_or(|release| release >= *since)
    {
        return Some(format!("{key} is gone since {since}: {instead}"));
    }
    let (_, since) = NEW.iter().find(|(new, _)| *new == key)?;
    (release? < *since).then(|| format!("{key} exists since {since}"))
}

fn tcp_name(key: &str) -> Option<&str> {
    key.strip_prefix("net.ipv4.")
        .filter(|name| name.starts_with("tcp_"))
}

/// The known name nearest to a misspelled one.
fn like(key: &str) -> Option<&'static str> {
    let name = tcp_name(key)?;
    let edits = TCP_NAMES
        .iter()
        .map(|known| (strsim::osa_distance(name, known), *known));
    let (edits, nearest) = edits.min()?;
    let letters = name.len() - "tcp_".len();
    (edits <= MOST_EDITS && edits * LETTERS_AN_EDIT <= letters).then_some(nearest)
}

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.settings.tcp_max_orphans.is_none() {
        return not_initial_namespace("net.ipv4.tcp_max_orphans");
    }
    let files = &facts.sysctl_files;
    let findings: Vec<_> = files
        .assignments()
        .filter(|line| {
            let ours = line.key.starts_with("net.ipv4.tcp_") || line.key.starts_with("net.core.");
            ours && files.live.get(line.key) == Some(&None)
        })
        .map(|line| {
            let Unknown { why, hint } = came_or_went(line.key, &facts.kernel).map_or_else(
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
    use advisor_facts::Settings;

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
            "no kernel of Linux 5.10, 6.1, 6.12, 6.18 and 7.3 has net.ipv4.tcp_max_orphan; \
             did you mean net.ipv4.tcp_max_orphans?: write the right name, or take the line out"
        );
        // An old one, and no mistake.
        for key in ["net.ipv4.tcp_abc", "net.ipv4.tcp_go_faster"] {
            assert!(says(key).ends_with(&format!("has {key}: take the line out")));
        }
    }

    #[test]
    fn the_settings_of_the_rules_are_known() {
        assert!(TCP_NAMES.is_sorted());
        let gone = |name: &str| GONE.iter().any(|(gone, _, _)| *gone == name);
        let ours = Settings::NAMES.iter().chain(NEW.iter().map(|(new, _)| new));
        for name in ours.filter(|name| name.starts_with("net.ipv4.tcp_")) {
            let short = name.strip_prefix("net.ipv4.").unwrap();
            // What Linux removed, none of the five kernels has.
            assert_ne!(TCP_NAMES.contains(&short), gone(name), "{name}");
        }
    }
}
