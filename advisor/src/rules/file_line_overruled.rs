//! A line of a file without effect, because another line wins.

use std::path::Path;

use advisor_facts::Facts;
use advisor_facts::sysctl_files::{Assignment, CONF, Loader, SysctlFiles, is_glob};
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity, TAKE_OUT,
};

pub(crate) const RULE: Rule = Rule {
    code: "LB602",
    name: "file-line-overruled",
    scope: Scope::Files,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::FILES_ONLY,
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A key that several lines set to different values. In one file the last line \
        counts. Files apply in the order of \
        their names, whatever their directory, and the last one wins: /etc/sysctl.d/10-mine.conf \
        loses against /usr/lib/sysctl.d/50-default.conf. `sysctl --system` reads \
        /etc/sysctl.conf last, and systemd-sysctl does not read it at all: then the value \
        depends on which program applied the files last.",
    evidence: "The assignments of net.* keys in all files, in the orders of systemd-sysctl and \
        of `sysctl --system`. A file of a package may be overruled by one in /etc: that is its \
        purpose.",
    recommendation: "Remove the line that loses. If its value is the right one, remove the line \
        that wins.",
    cost: "None.",
    risk: "The line may be there for another program or another kind of host.",
    undo: "Put the line back.",
    references: &[
        "sysctl.d(5), sysctl(8)",
        "both programs tried: systemd 252, procps 4.0.2",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let findings: Vec<_> = overruled(&facts.sysctl_files)
        .filter(|line| line.loser.key.starts_with("net."))
        .map(|line| Finding {
            severity: line.severity(),
            confidence: Confidence::High,
            summary: line.summary(),
            why: line.why(),
            verify: format!(
                "sysctl --system and a restart of systemd-sysctl.service leave {} the same",
                line.loser.key
            ),
            ..Finding::of_line(facts, &DOCUMENTATION, &line.loser, TAKE_OUT.to_owned())
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet("no line is overruled by another".to_owned());
    }
    Outcome::Fired(findings)
}

/// A line that loses, and the line that wins with each program.
pub(crate) struct Overruled<'a> {
    pub loser: Assignment<'a>,
    systemd: Option<Assignment<'a>>,
    procps: Option<Assignment<'a>>,
}

impl Overruled<'_> {
    /// Whether the value depends on the program that applies the files.
    pub(crate) fn programs_disagree(&self) -> bool {
        self.systemd.and_then(value) != self.procps.and_then(value)
    }

    pub(crate) fn severity(&self) -> Severity {
        if self.programs_disagree() {
            Severity::Warning
        } else {
            Severity::Notice
        }
    }

    /// The line of the same file that wins, where both programs take that one.
    pub(crate) fn winner_in_its_file(&self) -> Option<Assignment<'_>> {
        let winner = self.procps.filter(|_| !self.programs_disagree())?;
        (winner.path == self.loser.path).then_some(winner)
    }

    pub(crate) fn summary(&self) -> String {
        if self.programs_disagree() {
            format!(
                "files set {} to different values, and systemd-sysctl and sysctl --system take \
                 different ones",
                self.loser.key
            )
        } else {
            format!(
                "{} = {} has no effect: another line wins",
                self.loser.key,
                shown(self.loser)
            )
        }
    }

    pub(crate) fn why(&self) -> String {
        let wins = |line: Option<Assignment<'_>>| {
            line.map_or_else(
                || "does not set the key".to_owned(),
                |line| format!("takes {} from {line}", shown(line)),
            )
        };
        if let Some(winner) = self.winner_in_its_file() {
            format!(
                "Line {} of the same file sets it to {}, and the last line counts.",
                winner.line,
                shown(winner)
            )
        } else if self.programs_disagree() {
            format!(
                "{} {}; {} {}.",
                Loader::SystemdSysctl,
                wins(self.systemd),
                Loader::Procps,
                wins(self.procps)
            )
        } else {
            format!(
                "Files apply in the order of their names: {} {}.",
                Loader::Procps,
                wins(self.procps)
            )
        }
    }
}

/// What a line sets its key to, as the kernel prints it.
fn value(line: Assignment<'_>) -> Option<String> {
    line.result(None, None)
        .or_else(|| (!line.sets_nothing(None)).then(|| line.value.to_owned()))
}

/// What a line sets its key to, without what the kernel passes over.
fn shown(line: Assignment<'_>) -> String {
    value(line).unwrap_or_else(|| line.value.to_owned())
}

/// The lines without effect, with at least one of the programs. Lines of packages are
/// left out: they are there to be overruled.
pub(crate) fn overruled(files: &SysctlFiles) -> impl Iterator<Item = Overruled<'_>> {
    files.assignments().filter_map(move |line| {
        let systemd = files.winner(Loader::SystemdSysctl, line.key);
        let procps = files.winner(Loader::Procps, line.key);
        let winner = match files.loader() {
            Loader::SystemdSysctl => systemd.or(procps),
            Loader::Procps => procps,
        };
        // One that the kernel refuses has no effect anyway.
        let own = value(line)?;
        let loses = winner.is_some_and(|winner| value(winner).is_some_and(|wins| wins != own));
        let of_a_package = line.path.starts_with("/usr") || line.path.starts_with("/lib");
        // /etc/sysctl.conf, which systemd-sysctl does not read, loses only if another file
        // sets the key.
        let unread = line.path == Path::new(CONF) && systemd.is_none();
        (loses && !of_a_package && !unread && !is_glob(line.key)).then_some(Overruled {
            loser: line,
            systemd,
            procps,
        })
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, with_file};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("file-line-overruled")
    }

    #[test]
    fn the_last_name_wins() {
        let mut facts = host("quiet");
        facts.sysctl_files.files.clear();
        with_file(
            &mut facts,
            "/etc/sysctl.d/50-a.conf",
            "net.ipv4.tcp_fin_timeout = 60",
        );
        assert_quiet(&RULE, &facts);
        with_file(
            &mut facts,
            "/etc/sysctl.d/60-b.conf",
            "net.ipv4.tcp_fin_timeout = 30",
        );
        assert!(
            fired(&RULE, &facts)[0]
                .setting
                .starts_with("/etc/sysctl.d/50-a.conf:1")
        );
    }
}
