//! A file holds a value that is wrong, though the live one is not.

use super::{Documentation, Finding, Outcome, Rule, Severity, TAKE_OUT};
use crate::lint;
use advisor_facts::{Facts, release};
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB604",
    name: "file-holds-wrong-value",
    scenario: None,
    cure: None,
    proven_by: super::ProvenBy::FILES_ONLY,
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A value in a file that a rule of this program would call wrong if it were set: \
        it is not live now, or another line wins, and the next boot or the next change of the \
        files may bring it back.",
    evidence: "Each file for itself, and all together, judged by the rules about settings. A \
        value that is live as well is that rule's own.",
    recommendation: "The live value in place of the wrong one, or the line taken out where the \
        live one is not known.",
    cost: "None.",
    risk: "The line may be for another kind of host.",
    undo: "Put the former line back.",
    references: &[
        "sysctl.d(5), sysctl(8)",
        "the rule that each answer names: `advisor explain CODE`",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let release = release(&facts.kernel);
    let findings: Vec<_> = lint::wrong_values(&facts.sysctl_files, facts)
        .into_iter()
        .filter(|wrong| {
            let live = facts.sysctl_files.live.get(wrong.line.key);
            let live = live.and_then(Option::as_deref);
            live.is_none() || live != wrong.line.result(live, release).as_deref()
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
                summary: format!("in a file, though not live: {}", wrong.finding.summary),
                why: format!(
                    "{} ({} {})",
                    wrong.finding.why, wrong.rule.code, wrong.rule.name
                ),
                verify: format!("advisor lint names {} no more", wrong.line),
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
    use crate::rules::testing::host;

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("file-holds-wrong-value")
    }
}
