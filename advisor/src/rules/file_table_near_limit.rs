//! The kernel's table of open files near its limit.

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Evidence, Finding, LogLine, Outcome, ProvenBy, Rule, Scope, Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB505",
    name: "file-table-near-limit",
    scope: Scope::Host,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "root may exceed fs.file-max, and the programs of a trial run as root",
    ),
    log_lines: &[
        LogLine {
            pieces: &["file-max limit", "reached"],
            means: REACHED,
        },
        LogLine {
            pieces: &["too many open files", "in system"],
            means: REACHED,
        },
    ],
    documentation: DOCUMENTATION,
    check,
};

const REACHED: &str = "The whole kernel had as many open files as fs.file-max allows. socket(), \
    accept() and open() of processes that are not root's failed with ENFILE.";

const DOCUMENTATION: Documentation = Documentation {
    detects: "The open files of all processes near fs.file-max. At the limit accept(), socket() \
        and open() fail with ENFILE in every process that is not root's.",
    evidence: "The first and the third number of /proc/sys/fs/file-nr: warning at 90%, critical \
        at 98%.",
    recommendation: "The power of two above twice the open files. If they are more than the \
        programs should need, one leaks them: lsof shows which.",
    cost: "About 256 bytes for each open file.",
    risk: "None known beyond the memory.",
    undo: "Set the former value.",
    references: &[
        "file-max, file-nr: Documentation/admin-guide/sysctl/fs.rst of Linux",
        "alloc_empty_file: fs/file_table.c of Linux",
    ],
};

const SETTING: &str = "fs.file-max";
/// Warning from this share of the limit on, in percent (our judgement).
pub(crate) const WARNING_PERCENT: u64 = 90;
/// Critical from this share on, in percent (our judgement).
pub(crate) const CRITICAL_PERCENT: u64 = 98;
/// What an open file takes, in bytes: struct file, aligned.
const FILE_BYTES: u64 = 256;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(files) = facts.files else {
        return Outcome::NotEvaluated(
            "needs fs.file-nr, which the capture does not have".to_owned(),
        );
    };
    let reaches = |percent: u64| {
        u128::from(files.open) * 100 >= u128::from(files.limit) * u128::from(percent)
    };
    if !reaches(WARNING_PERCENT) {
        return Outcome::Quiet(format!(
            "{} files are open, of the host's {}",
            files.open, files.limit
        ));
    }
    let proposed = files
        .open
        .max(files.limit)
        .saturating_mul(2)
        .checked_next_power_of_two()
        .unwrap_or(files.limit);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX).into();
    let finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed.to_string());
    Outcome::Fired(vec![Finding {
        severity: if reaches(CRITICAL_PERCENT) {
            Severity::Critical
        } else {
            Severity::Warning
        },
        confidence: Confidence::High,
        summary: format!(
            "{} files are open in all processes, of at most {}",
            files.open, files.limit
        ),
        why: "At the limit accept(), socket() and open() fail with ENFILE, also in processes that \
            have only a few files open."
            .to_owned(),
        current: files.limit.to_string(),
        cost: format!(
            "at most {}, if all are used",
            bytes(proposed.saturating_mul(FILE_BYTES))
        ),
        evidence: vec![
            Evidence::new(
                "kernel.files.open",
                number(files.open),
                "/proc/sys/fs/file-nr",
            ),
            Evidence::new(
                "kernel.files.limit",
                number(files.limit),
                "/proc/sys/fs/file-nr",
            ),
        ],
        undo: format!(
            "sysctl -w {SETTING}={}; take the line out of /etc/sysctl.d",
            files.limit
        ),
        verify: "the first number of fs.file-nr stays below 90% of the third".to_owned(),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use advisor_facts::open_files::OpenFiles;

    use super::*;
    use crate::rules::testing::{assert_not_evaluated, assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("file-table-near-limit")
    }

    #[test]
    fn it_warns_at_90_percent_and_is_critical_at_98() {
        let mut facts = host("quiet");
        let mut with = |open| {
            let limit = 1000;
            facts.files = Some(OpenFiles { open, limit });
            facts.clone()
        };
        assert_quiet(&RULE, &with(899));
        assert_eq!(fired(&RULE, &with(900))[0].severity, Severity::Warning);
        assert_eq!(fired(&RULE, &with(980))[0].severity, Severity::Critical);
        facts.files = None;
        assert_not_evaluated(&RULE, &facts, "file-nr");
    }
}
