//! Files of settings, judged without the live state of a host.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use advisor_facts::sysctl_files::{self, DIRECTORIES, SYSCTL_CONF, SysctlFile, SysctlFiles};
use advisor_facts::{Facts, Settings, Unseen};

use crate::rules::files::{not_understood, wrong_values};
use crate::rules::{Rule, file_line_not_understood, file_line_overruled, setting_unknown_here};

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
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// Judges files for a host of which `base` has what is known: its kernel, its
/// RAM and its page size.
pub fn lint(files: &SysctlFiles, base: &Facts) -> Vec<Problem> {
    let mut problems: Vec<_> = not_understood(files)
        .map(|(path, line, message)| {
            let hint = "write it as `key = value`, or take it out".to_owned();
            problem(&file_line_not_understood::RULE, path, line, message, hint)
        })
        .collect();
    for line in files.assignments() {
        if let Some(unknown) = setting_unknown_here::unknown(line.key, &base.kernel) {
            problems.push(problem(
                &setting_unknown_here::RULE,
                line.path,
                line.line,
                unknown.why,
                unknown.hint.to_owned(),
            ));
        }
    }
    problems.extend(file_line_overruled::overruled(files).map(|line| {
        let hint = "take out the line that loses, or rename its file so that it applies last";
        problem(
            &file_line_overruled::RULE,
            line.loser.path,
            line.loser.line,
            format!("{}. {}", line.summary(), line.why()),
            hint.to_owned(),
        )
    }));
    problems.extend(wrong_values(files, base).into_iter().map(|wrong| {
        let proposed = &wrong.finding.proposed;
        // A value that needs the host is none to be copied.
        let definite = Settings::default().set(&wrong.finding.setting, proposed);
        let hint = if definite {
            format!("{} = {proposed}", wrong.finding.setting)
        } else {
            "take the line out; the kernel computes a right value at boot".to_owned()
        };
        let message = format!("{}. {}", wrong.finding.summary, wrong.finding.why);
        problem(wrong.rule, wrong.line.path, wrong.line.line, message, hint)
    }));
    problems.sort();
    problems.dedup();
    problems
}

fn problem(rule: &Rule, path: &Path, line: usize, message: String, hint: String) -> Problem {
    Problem {
        path: path.to_owned(),
        line,
        code: rule.code,
        name: rule.name,
        message,
        hint,
    }
}

/// Files that apply together.
pub struct FileSet {
    /// The directory that stands for `/`.
    root: PathBuf,
    /// The files, by their paths on the host.
    files: SysctlFiles,
}

impl FileSet {
    /// What is wrong with them, by their paths here.
    pub fn lint(&self, base: &Facts) -> Vec<Problem> {
        let mut problems = lint(&self.files, base);
        for problem in &mut problems {
            if let Ok(relative) = problem.path.strip_prefix("/") {
                problem.path = self.root.join(relative);
            }
        }
        problems
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.files.is_empty()
    }
}

/// Why there is nothing to judge.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot read it: {source}", path.display())]
pub struct LintError {
    /// The file or the directory.
    path: PathBuf,
    /// The kernel's words.
    source: io::Error,
}

/// Reads what is to be judged. A directory with sysctl.d directories in it
/// stands for `/` of a host; one without is a sysctl.d itself. All files and
/// directories of the latter kind apply together, by their names.
pub fn read(paths: &[PathBuf]) -> Result<Vec<FileSet>, LintError> {
    let mut sets = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        let error = |source| LintError {
            path: path.clone(),
            source,
        };
        if !std::fs::metadata(path).map_err(error)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let is_root = DIRECTORIES
            .iter()
            .chain([&SYSCTL_CONF])
            .any(|part| path.join(part).exists());
        if is_root {
            let mut unseen: Vec<Unseen> = Vec::new();
            let mut set = SysctlFiles::read_tree(path, &mut unseen);
            if let Some(Unseen { what, why }) = unseen.pop() {
                return Err(LintError {
                    path: path.join(what.trim_start_matches('/')),
                    source: io::Error::other(why),
                });
            }
            // Both programs are asked; this one's winner is named first.
            set.systemd = true;
            sets.push(FileSet {
                root: path.clone(),
                files: set,
            });
            continue;
        }
        for entry in std::fs::read_dir(path).map_err(error)? {
            let entry = entry.map_err(error)?.path();
            if entry
                .extension()
                .is_some_and(|extension| extension == "conf")
            {
                files.push(entry);
            }
        }
    }
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    let mut together = SysctlFiles {
        systemd: true,
        ..SysctlFiles::default()
    };
    for path in files {
        let bytes = sysctl_files::read_file(&path).map_err(|source| LintError {
            path: path.clone(),
            source,
        })?;
        together.files.push(SysctlFile {
            lines: sysctl_files::parse(&bytes),
            links_to_conf: false,
            path,
        });
    }
    sets.push(FileSet {
        root: PathBuf::from("/"),
        files: together,
    });
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn whatever_a_file_holds_is_judged_by_its_lines(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "net.ipv4.", "net.core.", "tcp_mem", "tcp_max_orphans", "tcp_tw_recycle",
                    "somaxconn", "tcp_retries2", "*", "-", " = ", "=", " ", "\n", "\n", "#", "0",
                    "1", "4096 87380 67108864", "99999999999999999999", "-1", "é", "\u{0}", "\u{1b}",
                ]),
                0..60,
            ),
            ram in prop::sample::select(vec![0, 1 << 20, 16 << 30, u64::MAX]),
        ) {
            let text = pieces.concat();
            let files = SysctlFiles {
                files: vec![SysctlFile {
                    path: "/etc/sysctl.conf".into(),
                    lines: sysctl_files::parse(text.as_bytes()),
                    ..SysctlFile::default()
                }],
                ..SysctlFiles::default()
            };
            let problems = lint(&files, &Facts::without_host("6.12", ram, 4096));
            for problem in problems {
                prop_assert!((1..=text.split('\n').count()).contains(&problem.line));
            }
        }
    }
}
