//! Comments in a file that leave a rule out for a line.
//!
//! `# lastbyte: ignore LB410 LB412: why` stands on a line of its own above the line,
//! or behind a number, where the kernel passes over it.

use std::path::Path;

use super::LintError;
use crate::rules;

/// What begins the comment.
const MARK: &str = "lastbyte:";

/// A rule that is left out for a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Ignore {
    /// The line, from 1.
    pub line: usize,
    /// The rule's code.
    pub code: &'static str,
    /// Why, as the comment says; may be empty.
    pub reason: String,
}

/// The comments of a file, which is named `path`. One that names no rule is an error:
/// it would leave out nothing.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Ignore>, LintError> {
    let mut found = Vec::new();
    // What stands above the next line that says something.
    let mut waiting: Vec<(&'static str, String)> = Vec::new();
    let text = String::from_utf8_lossy(bytes);
    for (line, number) in text.lines().zip(1..) {
        let trimmed = line.trim_start();
        let is_comment = trimmed.starts_with(['#', ';']);
        let column = line.find(['#', ';']).filter(|_| !trimmed.is_empty());
        let comment = column.map(|at| (at, line[at..].trim_start_matches(['#', ';']).trim()));
        if let Some((at, comment)) = comment
            && let Some(words) = comment.strip_prefix(MARK)
        {
            let ignored = codes(words.trim()).map_err(|why| LintError::Comment {
                path: path.to_owned(),
                line: number,
                column: line[..at].chars().count() + 1,
                why,
            })?;
            waiting.extend(ignored);
        }
        if trimmed.is_empty() || is_comment {
            continue;
        }
        found.extend(waiting.drain(..).map(|(code, reason)| Ignore {
            line: number,
            code,
            reason,
        }));
    }
    Ok(found)
}

/// The codes of `ignore LB410, LB412: why`, each with the reason.
fn codes(text: &str) -> Result<Vec<(&'static str, String)>, String> {
    let rest = text
        .strip_prefix("ignore")
        .filter(|rest| rest.starts_with(char::is_whitespace))
        .ok_or_else(|| format!("{MARK} is followed by `ignore CODE: why`, not by {text:?}"))?;
    let mut codes = Vec::new();
    let mut rest = rest.trim_start();
    loop {
        let end = rest
            .find(|c: char| c == ',' || c == ':' || c.is_whitespace())
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let Some(rule) = rules::find(word) else {
            // The reason begins where the codes end.
            if codes.is_empty() || looks_like_a_code(word) {
                return Err(format!("there is no rule {word:?}"));
            }
            break;
        };
        codes.push(rule.code);
        if let Some(reason) = after.strip_prefix(':') {
            rest = reason;
            break;
        }
        rest = after.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if rest.is_empty() {
            break;
        }
    }
    let reason = rest.trim_start_matches([':', '-', ' ']).trim().to_owned();
    Ok(codes
        .into_iter()
        .map(|code| (code, reason.clone()))
        .collect())
}

fn looks_like_a_code(word: &str) -> bool {
    word.strip_prefix("LB").is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(usize, &'static str, String)>, String> {
        parse(Path::new("x.conf"), text.as_bytes())
            .map(|found| {
                let found = found.into_iter();
                found
                    .map(|ignore| (ignore.line, ignore.code, ignore.reason))
                    .collect()
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_comment_is_for_the_line_that_it_stands_above_or_behind() {
        assert_eq!(
            parsed(
                "# lastbyte: ignore LB410, LB412: our host has 4 TiB\n\n; another\n\
                 net.ipv4.tcp_mem = 1 2 3\na.b = 1\n\
                 net.ipv4.tcp_retries2 = 3 # lastbyte: ignore data-retries-few  a fast failover\n\
                 # lastbyte: ignore LB410\n"
            )
            .unwrap(),
            [
                (4, "LB410", "our host has 4 TiB".to_owned()),
                (4, "LB412", "our host has 4 TiB".to_owned()),
                (6, "LB416", "a fast failover".to_owned()),
            ]
        );
    }

    #[test]
    fn one_that_leaves_nothing_out_is_an_error() {
        for (text, message) in [
            (
                "a.b = 1\n  # lastbyte: ignore LB999 why\n",
                "x.conf:2:3: there is no rule \"LB999\"",
            ),
            (
                "# lastbyte: ignore LB410 LB998\n",
                "x.conf:1:1: there is no rule \"LB998\"",
            ),
            (
                "# lastbyte: ignore\n",
                "x.conf:1:1: lastbyte: is followed by `ignore CODE: why`, not by \"ignore\"",
            ),
            (
                "# lastbyte: off\n",
                "x.conf:1:1: lastbyte: is followed by `ignore CODE: why`, not by \"off\"",
            ),
        ] {
            assert_eq!(parsed(text).unwrap_err(), message);
        }
    }
}
