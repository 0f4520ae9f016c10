//! A line of a file that sets nothing, because no program understands it.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity, TAKE_OUT, files,
};

pub(crate) const RULE: Rule = Rule {
    code: "LB605",
    name: "file-line-not-understood",
    scope: Scope::Files,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::FILES_ONLY,
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A line of a file that no program understands. It is no assignment, or not text. The \
        programs that apply the files skip it, and the setting keeps its value.",
    evidence: "Every line of the files.",
    recommendation: "Remove the line, or write it as `key = value`.",
    cost: "None.",
    risk: "The line may say what somebody wanted: read it before you remove it.",
    undo: "Put the line back.",
    references: &[
        "sysctl.d(5), sysctl(8)",
        "both programs tried: systemd 252, procps 4.0.2",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let findings: Vec<_> = files::not_understood(&facts.sysctl_files)
        .map(|(path, number, message)| {
            let place = format!("{}:{number}", path.display());
            Finding {
                severity: Severity::Notice,
                confidence: Confidence::High,
                summary: format!("{place} sets nothing"),
                why: message,
                applies_to: AppliesTo::Host,
                subject: "the files that set sysctls at boot".to_owned(),
                evidence: vec![Evidence::new(
                    place.as_str(),
                    "not understood".into(),
                    "the files that set sysctls at boot",
                )],
                apply: format!("take line {number} out of {}", path.display()),
                verify: "advisor lint no longer names the line".to_owned(),
                setting: place,
                current: "a line that no program understands".to_owned(),
                proposed: TAKE_OUT.to_owned(),
                cost: DOCUMENTATION.cost.to_owned(),
                risk: DOCUMENTATION.risk.to_owned(),
                undo: DOCUMENTATION.undo.to_owned(),
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet("every line of the files is understood".to_owned());
    }
    Outcome::Fired(findings)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, with_file};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("file-line-not-understood")
    }

    #[test]
    fn a_line_is_an_assignment() {
        let mut facts = host("quiet");
        facts.sysctl_files.files.clear();
        with_file(
            &mut facts,
            "/etc/sysctl.d/50-a.conf",
            "# a comment\nnet.ipv4.tcp_fin_timeout = 60",
        );
        assert_quiet(&RULE, &facts);
        with_file(
            &mut facts,
            "/etc/sysctl.d/60-b.conf",
            "net.ipv4.tcp_fin_timeout 60\ntcp mem = 1 2\nnet.ipv4.tcp_rmem = 4096 87380 # two",
        );
        // A comment after a value hides nothing.
        assert_eq!(fired(&RULE, &facts).len(), 2);
    }
}
