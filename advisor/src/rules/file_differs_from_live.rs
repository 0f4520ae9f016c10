//! A live value that differs from the one in the files.

use advisor_facts::Facts;
use advisor_facts::release::Release;
use advisor_facts::sysctl_files::is_glob;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity,
    not_initial_namespace,
};

pub(super) const RULE: Rule = Rule {
    code: "LB603",
    name: "file-differs-from-live",
    scope: Scope::Files,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::FILES_ONLY,
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A TCP setting whose live value is not the one in the files. A person or a program \
        changed it, or somebody changed the file and did not apply it. The next boot changes it \
        back without a word.",
    evidence: "The winning lines for net.ipv4.tcp_*, net.core.* and ip_local_port_range, in \
        the order of the program that applies them at boot, against /proc/sys.",
    recommendation: "Write the live value into the file, which changes nothing now. If the file \
        is right: `sysctl --system`.",
    cost: "None.",
    risk: "If the live value was an experiment, the file is right.",
    undo: "Put the former line back.",
    references: &[
        "sysctl.d(5), sysctl(8)",
        "/proc/sys: Documentation/admin-guide/sysctl of Linux",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.settings.tcp_max_orphans.is_none() {
        // Files are applied to the initial namespace only.
        return not_initial_namespace("net.ipv4.tcp_max_orphans");
    }
    let files = &facts.sysctl_files;
    let release = Release::of_kernel(&facts.kernel);
    let findings: Vec<_> = files
        .live
        .iter()
        .filter_map(|(key, live)| Some((key, live.as_deref()?)))
        .filter(|(key, _)| {
            key.starts_with("net.ipv4.tcp_")
                || key.starts_with("net.core.")
                || *key == "net.ipv4.ip_local_port_range"
        })
        .filter_map(|(key, live)| Some((files.winner(files.loader(), key)?, live)))
        // The line of a glob sets other keys too.
        .filter(|(line, _)| !is_glob(line.key))
        .filter_map(|(line, live)| Some((line, live, line.result(Some(live), release)?)))
        .filter(|(_, live, sets)| is_numeric(sets) && is_numeric(live) && sets != live)
        .map(|(line, live, sets)| Finding {
            severity: Severity::Notice,
            confidence: Confidence::Low,
            summary: format!(
                "{} is {live}, and the next boot sets it to {sets}",
                line.key
            ),
            why: format!(
                "{line} wins at boot ({}). Either the live value is an experiment that ends at \
                 the next boot, or nobody applied the file.",
                files.loader()
            ),
            verify: format!(
                "sysctl {} is the same before and after sysctl --system",
                line.key
            ),
            ..Finding::of_line(
                facts,
                &DOCUMENTATION,
                &line,
                format!("{} = {live}", line.key),
            )
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet("the live TCP settings are those of the files".to_owned());
    }
    Outcome::Fired(findings)
}

/// Whether a value can be compared: the kernel may print names and lists in another form
/// than they were written.
fn is_numeric(value: &str) -> bool {
    !value.is_empty()
        && value
            .split_whitespace()
            .all(|word| word.parse::<i64>().is_ok())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, with_file};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("file-differs-from-live")
    }

    #[test]
    fn only_another_number_differs() {
        let mut facts = host("quiet");
        facts.sysctl_files.files.clear();
        with_file(
            &mut facts,
            "/etc/sysctl.d/50-a.conf",
            "net.ipv4.tcp_fin_timeout = 60\nnet.ipv4.tcp_congestion_control = other",
        );
        assert_quiet(&RULE, &facts);
        with_file(
            &mut facts,
            "/etc/sysctl.d/60-b.conf",
            "net.ipv4.tcp_fin_timeout = 61",
        );
        assert_eq!(
            fired(&RULE, &facts)[0].proposed,
            "net.ipv4.tcp_fin_timeout = 60"
        );
    }
}
