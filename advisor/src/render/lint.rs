//! What is wrong with files of settings: a line of `FILE:LINE` for each, for people, and
//! as the commands of a GitHub workflow.

use std::fmt::Write as _;
use std::io;

use advisor_report::escape::inert;

use super::lines::{NARROWEST, STRONG, WIDEST, fill};
use crate::lint::Problem;
use crate::rules::Severity;

/// Writes the problems of `files` files for people and for whatever finds
/// `FILE:LINE:` in a log; `ignored` more were left out.
pub fn write(
    out: &mut dyn io::Write,
    problems: &[Problem],
    ignored: usize,
    files: usize,
    width: usize,
) -> io::Result<()> {
    write_problems(out, problems, width)?;
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    writeln!(
        out,
        "{} in {}{}.",
        match problems.len() {
            0 => "No problem".to_owned(),
            problems => count(problems, "problem"),
        },
        count(files, "file"),
        match ignored {
            0 => String::new(),
            ignored => format!(", and {ignored} ignored"),
        }
    )
}

/// Writes the problems alone.
pub fn write_problems(
    out: &mut dyn io::Write,
    problems: &[Problem],
    width: usize,
) -> io::Result<()> {
    let width = width.clamp(NARROWEST, WIDEST);
    let mut text = String::new();
    for problem in problems {
        let _ = writeln!(
            text,
            "{STRONG}{}:{}{STRONG:#}: {}: {} {}",
            inert(&problem.path.display().to_string()),
            problem.line,
            problem.severity,
            problem.code,
            problem.name
        );
        fill(&mut text, &problem.message, "  ", "  ", width);
        let hint = format!("hint: {}", problem.hint);
        fill(&mut text, &hint, "  ", "  ", width);
    }
    out.write_all(text.as_bytes())
}

/// Writes each problem as a command that GitHub shows beside the line of a pull request.
pub fn write_github(out: &mut dyn io::Write, problems: &[Problem]) -> io::Result<()> {
    let mut text = String::new();
    for problem in problems {
        let command = match problem.severity {
            Severity::Critical => "error",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
        };
        let _ = writeln!(
            text,
            "::{command} file={},line={},title={}::{}",
            property(&problem.path.display().to_string()),
            problem.line,
            property(&format!("{} {}", problem.code, problem.name)),
            message(&problem.sentences()),
        );
    }
    out.write_all(text.as_bytes())
}

/// The text of a command, with what would end it escaped.
fn message(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// A property of a command, which also ends at a colon or a comma.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}
