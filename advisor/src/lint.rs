//! Files of settings, judged without the live state of a host.

mod ignore;
mod patch;
mod read;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use advisor_facts::clock::Date;
use advisor_facts::sysctl_files::{Assignment, Content, Line, SysctlFile, SysctlFiles};
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
    let mut others: BTreeSet<&Path> = BTreeSet::new();
    for file in files.distinct() {
        if let Some((line, message)) = no_settings(file) {
            let rule = &file_line_not_understood::RULE;
            let hint = "lint judges files of sysctl.d: `key = value` on each line".to_owned();
            let place = (file.path.as_path(), line);
            problems.push(Problem::new(rule, Severity::Notice, place, message, hint));
            others.insert(&file.path);
        }
    }
    let lines = not_understood(files).filter(|(path, ..)| !others.contains(path));
    for (path, line, message) in lines {
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
            Some(value) => write(&refused.line, value),
            None => take_out(&refused.line, ""),
        };
        let rule = &value_refused::RULE;
        let place = place(&refused.line);
        let mut problem = Problem::new(rule, Severity::Warning, place, message, hint);
        problem.fix = fix;
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
            write(&line, &finding.proposed)
        } else {
            take_out(&line, "; the kernel computes a right value at boot")
        };
        let octal = line.octal().map_or_else(String::new, |(word, number)| {
            format!(" The kernel reads {word} as an octal number: {number}.")
        });
        let message = format!("{}. {}{octal}", finding.summary, finding.why);
        let mut problem = Problem::new(rule, finding.severity, place(&line), message, hint);
        problem.fix = fix;
        problems.push(problem);
    }
    problems.sort();
    problems.dedup();
    problems
}

/// The first line of a file that is no file of settings, with what to say of the file: most
/// of its lines are none that a program understands, and there are several.
fn no_settings(file: &SysctlFile) -> Option<(usize, String)> {
    const SEVERAL: usize = 3;
    let malformed = |line: &&Line| matches!(line.content, Content::Malformed { .. });
    let first = file.lines.iter().find(malformed)?.number;
    let (count, all) = (
        file.lines.iter().filter(malformed).count(),
        file.lines.len(),
    );
    let is_other = count >= SEVERAL && count * 2 > all;
    is_other.then(|| {
        let message = format!(
            "it is no file of settings: {count} of its {all} lines are no `key = value` that a \
             program understands"
        );
        (first, message)
    })
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

/// The hint to write a line, and the change that does it. The line of a glob is for other
/// keys as well and stays.
fn write(line: &Assignment<'_>, value: &str) -> (String, Option<Fix>) {
    let text = format!("{} = {value}", line.key);
    match line.glob {
        None => (text.clone(), Some(Fix::Write(text))),
        Some(_) => (format!("add {text}: a name goes before the glob"), None),
    }
}

/// The hint to take a line out, and the change that does it.
fn take_out(line: &Assignment<'_>, why: &str) -> (String, Option<Fix>) {
    if line.glob.is_none() {
        return (format!("{TAKE_OUT}{why}"), Some(Fix::TakeOut));
    }
    let hint = format!("add -{}, so that the glob leaves it alone{why}", line.key);
    (hint, None)
}

#[cfg(test)]
mod tests;
