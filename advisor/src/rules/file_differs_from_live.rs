//! What a file sets is not what is set now.

use super::{Confidence, Documentation, Finding, Outcome, Rule, Severity, not_initial_namespace};
use advisor_facts::sysctl_files::is_glob;
use advisor_facts::{Facts, release};
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB603",
    name: "file-differs-from-live",
    scenario: None,
    cure: None,
    proven_by: super::ProvenBy::FILES_ONLY,
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A setting of TCP whose live value is not the one that the files set: it was \
        changed by hand or by a program, or the file was changed and not applied. The next boot \
        changes it back without a word.",
    evidence: "The winning lines for net.ipv4.tcp_*, net.core.* and ip_local_port_range, in \
        the order of the program that applies them at boot, against /proc/sys.",
    recommendation: "The live value in the file, which changes nothing now; or `sysctl \
        --system`, if the file is right.",
    cost: "None.",
    risk: "If the live value was a trial, the file is right and not the live value.",
    undo: "Put the former line back.",
    references: &[
        "sysctl.d(5), sysctl(8)",
        "/proc/sys: Documentation/admin-guide/sysctl of Linux",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.settings.tcp_max_orphans.is_none() {
        // The files are applied to the initial namespace only.
        return not_initial_namespace("net.ipv4.tcp_max_orphans");
    }
    let files = &facts.sysctl_files;
    let release = release(&facts.kernel);
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
        // A glob's line is for other keys as well.
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
                "{line} wins at boot ({}). Either the live value is a trial that ends with the \
                 next boot, or the file was never applied.",
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
        return Outcome::Quiet("what the files set for TCP is what is set".to_owned());
    }
    Outcome::Fired(findings)
}

/// Names and lists may be printed in another form than they were written in.
fn is_numeric(value: &str) -> bool {
    !value.is_empty()
        && value
            .split_whitespace()
            .all(|word| word.parse::<i64>().is_ok())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::host;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("file-differs-from-live")
    }
}
