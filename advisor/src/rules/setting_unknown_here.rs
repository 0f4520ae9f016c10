//! A file sets what this kernel does not have.

use super::{
    Confidence, Documentation, Finding, Outcome, Rule, Severity, TAKE_OUT, not_initial_namespace,
};
use crate::facts::{Facts, release};

pub(crate) const RULE: Rule = Rule {
    code: "LB601",
    name: "setting-unknown-here",
    scenario: None,
    cure: None,
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A setting of TCP in a file that this kernel does not have: one that was taken \
        out of Linux, such as tcp_tw_recycle, one that a later kernel brought, or a name with a \
        mistake. Nothing sets it, and systemd-sysctl says so only in its debug log.",
    evidence: "Keys of net.ipv4.tcp_* and net.core.* that the files set and /proc/sys does not \
        have, in the initial network namespace, which has them all. Keys of modules may appear \
        later and are passed over.",
    recommendation: "Take the line out, and look for what it was to bring.",
    cost: "None.",
    risk: "The same files may be for other kernels as well, which have the setting.",
    undo: "Put the line back.",
    references: &[
        "sysctl.d(5), sysctl(8)",
        "commit 4396e46187ca of Linux: tcp_tw_recycle is gone since 4.12",
        "tcp_tw_reuse_delay since 6.14, tcp_rto_max_ms since 6.15: \
        Documentation/networking/ip-sysctl.rst of Linux",
    ],
};

/// Settings that are gone, since when, and what there is instead.
const GONE: &[(&str, (u32, u32), &str)] = &[(
    "net.ipv4.tcp_tw_recycle",
    (4, 12),
    "it broke clients behind NAT, and nothing replaces it: SO_REUSEADDR helps bind(), tcp_tw_reuse \
     helps connect()",
)];

/// Settings that are not old, and since when there are.
const NEW: &[(&str, (u32, u32))] = &[
    ("net.core.mem_pcpu_rsv", (6, 6)),
    ("net.ipv4.tcp_tw_reuse_delay", (6, 14)),
    ("net.ipv4.tcp_rto_max_ms", (6, 15)),
];

/// What is known of a setting that a kernel may not have: whether it does not,
/// and what to say. `kernel` is empty where none is known.
pub(crate) fn known(key: &str, kernel: &str) -> Option<String> {
    let release = release(kernel);
    if let Some((_, (major, minor), instead)) = GONE.iter().find(|(gone, _, _)| *gone == key)
        && release.is_none_or(|release| release >= (*major, *minor))
    {
        return Some(format!(
            "{key} is gone since Linux {major}.{minor}: {instead}"
        ));
    }
    let (_, since @ (major, minor)) = NEW.iter().find(|(new, _)| *new == key)?;
    (release? < *since).then(|| format!("{key} is of Linux {major}.{minor} and later"))
}

fn check(facts: &Facts) -> Outcome {
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
            let why = known(line.key, &facts.kernel)
                .unwrap_or_else(|| format!("{} has no {}", facts.kernel, line.key));
            Finding {
                severity: Severity::Notice,
                confidence: Confidence::High,
                summary: format!(
                    "{} is set in a file, and this kernel has no such setting",
                    line.key
                ),
                why: format!("{why}. Whoever set it expects something that does not happen."),
                verify: format!("sysctl {} says that there is none", line.key),
                ..Finding::of_line(facts, &DOCUMENTATION, &line, TAKE_OUT.to_owned())
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet("this kernel has the settings of TCP that the files set".to_owned());
    }
    Outcome::Fired(findings)
}

#[cfg(test)]
mod tests {
    use super::known;

    #[test]
    fn a_setting_is_gone_or_not_yet_there_by_the_kernel() {
        for (key, kernel, unknown) in [
            ("net.ipv4.tcp_tw_recycle", "6.12.1", true),
            ("net.ipv4.tcp_tw_recycle", "", true),
            ("net.ipv4.tcp_tw_recycle", "4.9", false),
            ("net.ipv4.tcp_rto_max_ms", "6.12", true),
            ("net.ipv4.tcp_rto_max_ms", "6.18", false),
            ("net.ipv4.tcp_rto_max_ms", "", false),
            ("net.ipv4.tcp_mem", "6.18", false),
        ] {
            assert_eq!(known(key, kernel).is_some(), unknown, "{key} {kernel}");
        }
    }
}
