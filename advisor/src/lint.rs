//! Files of settings, judged without the live state of a host.

mod ignore;
mod patch;
mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use advisor_facts::release::Release;
use advisor_facts::sysctl_files::{Assignment, Content, Loader, SysctlFile, SysctlFiles, is_glob};
use advisor_facts::{Facts, Settings};
use advisor_report::measured::Measured;
use serde::Serialize;

use crate::rules::{
    Finding, Outcome, RULES, Rule, Severity, TAKE_OUT, file_line_not_understood,
    file_line_overruled, setting_unknown_here, value_refused,
};

pub use patch::patch;
pub use read::{FileSet, LintError, read};

/// What is wrong with a line of a file.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The rule's code.
    pub code: &'static str,
    /// The rule's name.
    pub name: &'static str,
    /// How much harm is near.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// What `--diff` makes of the line; `None` where that is for people to say.
    #[serde(skip)]
    pub fix: Option<Fix>,
    /// Why it does not count: what it was ignored by, with the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<String>,
}

/// A change of a line.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fix {
    /// It is taken out.
    TakeOut,
    /// This stands in its place.
    Write(String),
}

/// Judges files for a host of which `base` has what is known: its kernel, its
/// RAM and its page size.
pub fn lint(files: &SysctlFiles, base: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, line, message) in not_understood(files) {
        let hint = "write it as `key = value`, or take it out".to_owned();
        let rule = &file_line_not_understood::RULE;
        let problem = Problem::new(rule, Severity::Notice, (path, line), message, hint);
        problems.push(problem);
    }
    for line in files.assignments() {
        if let Some(unknown) = setting_unknown_here::unknown(line.key, &base.kernel) {
            let rule = &setting_unknown_here::RULE;
            let hint = unknown.hint.to_owned();
            let mut problem = Problem::new(rule, Severity::Notice, place(&line), unknown.why, hint);
            problem.fix = (unknown.hint == TAKE_OUT).then_some(Fix::TakeOut);
            problems.push(problem);
        }
    }
    for refused in value_refused::refused(files, &base.kernel) {
        let message = format!("{}: {}", refused.summary(), refused.why());
        let (hint, fix) = match &refused.meant {
            Some(value) => write(refused.line.key, value),
            None => (TAKE_OUT.to_owned(), Fix::TakeOut),
        };
        let rule = &value_refused::RULE;
        let place = place(&refused.line);
        let mut problem = Problem::new(rule, Severity::Warning, place, message, hint);
        problem.fix = Some(fix);
        problems.push(problem);
    }
    for line in file_line_overruled::overruled(files) {
        let message = format!("{}. {}", line.summary(), line.why());
        let (hint, fix) = if let Some(winner) = line.winner_in_its_file() {
            let hint = format!("take one of the two out: this one, or line {}", winner.line);
            (hint, Some(Fix::TakeOut))
        } else {
            let hint = "take out the line that loses, or rename its file so that it applies last";
            let fix = (!line.programs_disagree()).then_some(Fix::TakeOut);
            (hint.to_owned(), fix)
        };
        let rule = &file_line_overruled::RULE;
        let mut problem = Problem::new(rule, line.severity(), place(&line.loser), message, hint);
        problem.fix = fix;
        problems.push(problem);
    }
    for WrongValue {
        line,
        rule,
        finding,
    } in wrong_values(files, base)
    {
        // A value that needs the host is none to be copied.
        let (hint, fix) = if Settings::default().set(&finding.setting, &finding.proposed) {
            write(&finding.setting, &finding.proposed)
        } else {
            let hint = "take the line out; the kernel computes a right value at boot";
            (hint.to_owned(), Fix::TakeOut)
        };
        let message = format!("{}. {}", finding.summary, finding.why);
        let mut problem = Problem::new(rule, finding.severity, place(&line), message, hint);
        problem.fix = Some(fix);
        problems.push(problem);
    }
    problems.sort();
    problems.dedup();
    problems
}

impl Problem {
    fn new(
        rule: &Rule,
        severity: Severity,
        (path, line): (&Path, usize),
        message: String,
        hint: String,
    ) -> Self {
        Self {
            path: path.to_owned(),
            line,
            code: rule.code,
            name: rule.name,
            severity,
            message,
            hint,
            fix: None,
            ignored: None,
        }
    }

    /// What is wrong and what to do about it, for one line of text.
    pub fn sentences(&self) -> String {
        let end = if self.message.ends_with('.') { "" } else { "." };
        format!("{}{end} hint: {}", self.message, self.hint)
    }
}

fn place<'a>(line: &Assignment<'a>) -> (&'a Path, usize) {
    (line.path, line.line)
}

/// The hint to write a line, and the change that does it.
fn write(key: &str, value: &str) -> (String, Fix) {
    let line = format!("{key} = {value}");
    (line.clone(), Fix::Write(line))
}

/// A line whose value a rule calls wrong.
pub(crate) struct WrongValue<'a> {
    pub line: Assignment<'a>,
    pub rule: &'static Rule,
    pub finding: Finding,
}

/// The values that the rules about settings call wrong: in each file for
/// itself, and in what all together come to.
pub(crate) fn wrong_values<'a>(files: &'a SysctlFiles, base: &Facts) -> Vec<WrongValue<'a>> {
    let mut wrong: Vec<WrongValue<'a>> = Vec::new();
    let last_of_each = |file: &'a SysctlFile| -> BTreeMap<&'a str, Assignment<'a>> {
        let assignments = file.assignments().filter(|line| !is_glob(line.key));
        assignments.map(|line| (line.key, line)).collect()
    };
    let of_all = |loader| -> BTreeMap<&'a str, Assignment<'a>> {
        Settings::NAMES
            .iter()
            .filter_map(|name| Some((*name, files.winner(loader, name)?)))
            // A glob's line is for other keys as well.
            .filter(|(_, line)| !is_glob(line.key))
            .collect()
    };
    // One that loses in its own file is judged alone: who takes the winner out
    // has it.
    let losers = files.distinct().flat_map(|file| {
        let last = last_of_each(file);
        file.assignments()
            .filter(move |line| {
                last.get(line.key)
                    .is_some_and(|last| last.line != line.line)
            })
            .map(|line| BTreeMap::from([(line.key, line)]))
    });
    let sets = losers
        .chain(files.distinct().map(last_of_each))
        .chain([of_all(Loader::SystemdSysctl), of_all(Loader::Procps)]);
    for set in sets {
        for (rule, finding) in judge(&set, base) {
            let Some(line) = set.get(finding.setting.as_str()) else {
                continue;
            };
            let known = |known: &WrongValue<'_>| {
                known.rule.code == rule.code
                    && (known.line.path, known.line.line) == (line.path, line.line)
            };
            if !wrong.iter().any(known) {
                wrong.push(WrongValue {
                    line: *line,
                    rule,
                    finding,
                });
            }
        }
    }
    wrong
}

/// What the rules find in a set of assignments alone, with every other setting as it
/// is at boot.
fn judge(set: &BTreeMap<&str, Assignment<'_>>, base: &Facts) -> Vec<(&'static Rule, Finding)> {
    let release = Release::of_kernel(&base.kernel);
    let mut facts = Facts::without_host(&base.kernel, base.ram_bytes, base.page_bytes);
    facts.memory = base.memory.clone();
    // What no file of settings sets, but the kernel's size does.
    facts.settings.tcp_ehash_entries = base.settings.tcp_ehash_entries;
    let mut any = false;
    for (key, line) in set {
        if setting_unknown_here::unknown(key, &base.kernel).is_none()
            && facts.settings.write(key, line.value, release)
        {
            any = true;
            // So that a rule sees that a file says so.
            facts.sysctl_files.set(key, line.value);
        }
    }
    if !any {
        return Vec::new();
    }
    facts.settings.fill_with_defaults(release);
    // What is a rule's about files would only find itself.
    facts.sysctl_files.live.clear();
    RULES
        .iter()
        .filter(|rule| !rule.code.starts_with("LB6"))
        .filter_map(|rule| match (rule.check)(&facts, &Measured::default()) {
            Outcome::Fired(findings) => Some((rule, findings)),
            _ => None,
        })
        .flat_map(|(rule, findings)| findings.into_iter().map(move |finding| (rule, finding)))
        .collect()
}

/// The lines that no program understands: file, line, what is wrong.
pub(crate) fn not_understood(files: &SysctlFiles) -> impl Iterator<Item = (&Path, usize, String)> {
    files.distinct().flat_map(|file| {
        file.lines.iter().filter_map(|line| match &line.content {
            Content::Malformed { message } => {
                Some((file.path.as_path(), line.number, message.clone()))
            }
            Content::Assignment { .. } | Content::Exclusion { .. } => None,
        })
    })
}

#[cfg(test)]
mod tests;
