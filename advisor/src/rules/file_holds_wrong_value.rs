//! A file with a wrong value that is not live.

use advisor_facts::Facts;
use advisor_facts::release::Release;
use advisor_report::measured::Measured;

use super::{Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity, TAKE_OUT, files};

pub(super) const RULE: Rule = Rule {
    code: "LB604",
    name: "file-holds-wrong-value",
    scope: Scope::Files,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::FILES_ONLY,
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A file with a value that a rule about settings calls wrong. It is not live now, or \
        another line wins. The next boot, or the next change of the files, may apply it.",
    evidence: "Each file by itself and all files together, judged by the rules about settings. \
        If the value is live too, that rule reports it.",
    recommendation: "The live value instead of the wrong one. If the live value is not known, \
        remove the line.",
    cost: "None.",
    risk: "The line may be for another kind of host.",
    undo: "Put the former line back.",
    references: &[
        "sysctl.d(5), sysctl(8)",
        "the rule that each answer names: `advisor explain CODE`",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let release = Release::of_kernel(&facts.kernel);
    let findings: Vec<_> = files::wrong_values(&facts.sysctl_files, facts)
        .into_iter()
        .filter(|wrong| {
            let key = wrong.line.key;
            let live = facts.sysctl_files.live.get(key).cloned().flatten();
            // Of the settings that a glob fits, only those of the rules are known.
            let live = live.or_else(|| facts.settings.get(key));
            live.is_none() || live != wrong.line.result(live.as_deref(), release)
        })
        .map(|wrong| {
            let live = facts.settings.get(wrong.line.key);
            let proposed = live.map_or_else(
                || TAKE_OUT.to_owned(),
                |live| format!("{} = {live}", wrong.line.key),
            );
            Finding {
                severity: wrong.finding.severity.max(Severity::Warning),
                confidence: wrong.finding.confidence,
                summary: format!("in a file, but not live: {}", wrong.finding.summary),
                why: format!(
                    "{} ({} {})",
                    wrong.finding.why, wrong.rule.code, wrong.rule.name
                ),
                verify: format!("advisor lint no longer names {}", wrong.line),
                ..Finding::of_line(facts, &DOCUMENTATION, &wrong.line, proposed)
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet("the files hold no wrong value that is not live".to_owned());
    }
    Outcome::Fired(findings)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set, with_file};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("file-holds-wrong-value")
    }

    #[test]
    fn a_value_that_is_live_too_is_of_another_rule() {
        let mut facts = host("quiet");
        facts.sysctl_files.files.clear();
        with_file(
            &mut facts,
            "/etc/sysctl.d/50-a.conf",
            "net.ipv4.tcp_syncookies = 1",
        );
        assert_quiet(&RULE, &facts);
        with_file(
            &mut facts,
            "/etc/sysctl.d/60-b.conf",
            "net.ipv4.tcp_syncookies = 0",
        );
        assert!(
            fired(&RULE, &facts)[0]
                .why
                .ends_with("(LB513 syncookies-off)")
        );
        set(&mut facts, "net.ipv4.tcp_syncookies", "0");
        facts
            .sysctl_files
            .live
            .insert("net.ipv4.tcp_syncookies".to_owned(), Some("0".to_owned()));
        assert_quiet(&RULE, &facts);
    }
}
