//! What is wrong with files of settings, a line of `FILE:LINE` for each.

use std::fmt::Write as _;
use std::io;

use advisor_report::escape::inert;

use super::text::{NARROWEST, STRONG, WIDEST, fill};
use crate::lint::Problem;

/// Writes the problems of `files` files for people and for whatever finds
/// `FILE:LINE:` in a log.
pub fn write(
    out: &mut dyn io::Write,
    problems: &[Problem],
    files: usize,
    width: usize,
) -> io::Result<()> {
    let width = width.clamp(NARROWEST, WIDEST);
    let mut text = String::new();
    for problem in problems {
        let _ = writeln!(
            text,
            "{STRONG}{}:{}{STRONG:#}: {} {}",
            inert(&problem.path.display().to_string()),
            problem.line,
            problem.code,
            problem.name
        );
        fill(&mut text, &problem.message, "  ", "  ", width);
        let hint = format!("hint: {}", problem.hint);
        fill(&mut text, &hint, "  ", "  ", width);
    }
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let _ = writeln!(
        text,
        "{} in {}.",
        match problems.len() {
            0 => "No problem".to_owned(),
            problems => count(problems, "problem"),
        },
        count(files, "file")
    );
    out.write_all(text.as_bytes())
}
