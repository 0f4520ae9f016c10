//! A patch that makes the changes which need nobody's judgement.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use similar::TextDiff;

use super::read::Text;
use super::{Fix, Problem};

/// A unified diff, for `patch -p1` and `git apply`: of each file the lines that are taken
/// out or written anew. Where several problems of a line ask for different changes, it is
/// taken out if one asks for that; else the worst problem's change is made. Empty where
/// there is nothing to change; what is no text is left out.
pub fn patch<'a>(texts: impl Iterator<Item = Text<'a>>, problems: &[Problem]) -> String {
    let mut out = String::new();
    for Text { path, bytes } in texts {
        let Ok(before) = std::str::from_utf8(bytes) else {
            continue;
        };
        let mut fixes: BTreeMap<usize, (&Problem, &Fix)> = BTreeMap::new();
        for problem in problems.iter().filter(|problem| problem.path == path) {
            let Some(fix) = &problem.fix else { continue };
            let better = |(known, made): &(&Problem, &Fix)| {
                (**made != Fix::TakeOut, known.severity) > (*fix != Fix::TakeOut, problem.severity)
            };
            let known = fixes.get(&problem.line);
            if known.is_none_or(better) {
                fixes.insert(problem.line, (problem, fix));
            }
        }
        if fixes.is_empty() {
            continue;
        }
        let mut after = String::new();
        for (line, number) in before.split_inclusive('\n').zip(1..) {
            match fixes.get(&number) {
                None => after.push_str(line),
                Some((_, Fix::TakeOut)) => {}
                Some((_, Fix::Write(text))) => {
                    after.push_str(text);
                    after.push_str(&line[line.trim_end_matches(['\r', '\n']).len()..]);
                }
            }
        }
        let path = name(path);
        let diff = TextDiff::from_lines(before, &after);
        let _ = write!(
            out,
            "{}",
            diff.unified_diff()
                .header(&format!("a/{path}"), &format!("b/{path}"))
        );
    }
    out
}

/// The path below `a/` and `b/`: patch(1) with `-p1` finds it from where lint was called,
/// and with `-d /` where it begins with a slash.
fn name(path: &Path) -> String {
    let text = path.display().to_string();
    text.trim_start_matches("./")
        .trim_start_matches('/')
        .to_owned()
}
