//! Files of settings, judged without the live state of a host.

mod ignore;
mod patch;
mod read;

use std::path::{Path, PathBuf};

use advisor_facts::clock::Date;
use advisor_facts::sysctl_files::{Assignment, SysctlFiles};
use advisor_facts::{Facts, Settings};
use serde::Serialize;

use crate::accepted::Accepted;
use crate::rules::files::{WrongValue, not_understood, wrong_values};
use crate::rules::{
    Rule, Severity, TAKE_OUT, file_line_not_understood, file_line_overruled, setting_unknown_here,
    value_refused,
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

    /// Takes note of what a file accepts; after its last day the problem counts again
    /// and says so.
    pub fn accept(&mut self, accepted: &Accepted, today: Date) {
        let path = self.path.display().to_string();
        let Some(acceptance) = accepted.find(self.code, &[&path, &self.message], today) else {
            return;
        };
        if acceptance.over {
            self.message = format!("{} ({})", self.message, acceptance.words());
        } else if self.ignored.is_none() {
            self.ignored = Some(format!("accepted {}", acceptance.words()));
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

#[cfg(test)]
mod tests;
