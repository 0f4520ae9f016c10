//! `harness try`.

use std::path::{Path, PathBuf};

use advisor_facts::file;
use clap::Args;

use super::{ENVIRONMENT, FAILURE, SUCCESS, USAGE, complain, complain_of_run};
use crate::kernels::cache::Cache;
use crate::prove;
use crate::prove::attempt::{AttemptError, attempt};
use crate::report::terminal::{self, Lines, Terminal};
use crate::runner::{self, Progress};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 something gets better and nothing worse; 1 nothing gets better, or
something gets worse, or the guest is not as the host; 2 bad usage, or facts or a
setting that can't be tried; 3 no guest can be had.")]
pub(super) struct Try {
    /// Facts of a host, as `advisor capture` writes them
    #[arg(long, value_name = "FILE")]
    facts: PathBuf,
    /// A setting and its value, net.ipv4.tcp_tw_reuse=1; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Settings in a file, as sysctl.conf has them
    #[arg(long, value_name = "FILE")]
    sysctl_file: Option<PathBuf>,
    /// Try it on this kernel: a name from `harness kernels`, the path of a vmlinuz,
    /// or auto: the host's own where this machine runs it, else the nearest
    /// fetched one
    #[arg(long, value_name = "KERNEL", default_value = "auto")]
    kernel: String,
    /// Modules for a vmlinuz that is given by its path, such as
    /// /lib/modules/RELEASE [default: those beside the vmlinuz]
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
}

impl Try {
    /// Tries, and gives the exit status.
    pub(super) fn run(&self) -> u8 {
        let facts = match file::read(&self.facts) {
            Ok(facts) => facts,
            Err(error) => {
                complain(&error, error.hint());
                return USAGE;
            }
        };
        let wanted = match self.wanted() {
            Ok(wanted) => wanted,
            Err((message, hint)) => {
                complain(message, hint);
                return USAGE;
            }
        };
        let chosen = Cache::of_user().and_then(|cache| {
            prove::kernel::choose(&self.kernel, self.modules.as_deref(), &facts.kernel, &cache)
        });
        let kernel = match chosen {
            Ok(kernel) => kernel,
            Err(error) => return complain_of_run(&runner::Error::from(error)),
        };
        let terminal = Terminal::new(2, false, Lines::Out);
        let outcome = attempt(
            &facts,
            &wanted,
            &kernel.stored,
            &|progress| match progress {
                // The answer comes when all arms are there.
                Progress::Ended(_) => terminal.advance(),
                other => terminal.show(&other),
            },
        );
        terminal.finish();
        match outcome {
            Ok(attempt) => {
                let text = prove::render::attempt(&attempt, &kernel, terminal::width());
                anstream::print!("{text}");
                if attempt.helps() { SUCCESS } else { FAILURE }
            }
            Err(AttemptError::Run(error)) => complain_of_run(&error),
            Err(AttemptError::Impossible(why)) => {
                complain(
                    format!("{}: {why}", self.facts.display()),
                    "a capture as root has the sockets, `harness kernels` the kernels",
                );
                USAGE
            }
            Err(AttemptError::Broken(why)) => {
                complain(format!("the trial did not run: {why}"), "");
                ENVIRONMENT
            }
        }
    }

    /// The settings that are to be tried.
    fn wanted(&self) -> Result<Vec<(String, String)>, (String, &'static str)> {
        let mut wanted = Vec::new();
        for text in &self.settings {
            wanted.push(assignment(text).ok_or_else(|| {
                (
                    format!("--set {text}: this is no setting with a value"),
                    "--set net.ipv4.tcp_tw_reuse=1",
                )
            })?);
        }
        if let Some(path) = &self.sysctl_file {
            wanted.extend(read(path)?);
        }
        if wanted.is_empty() {
            return Err((
                "nothing to try".to_owned(),
                "--set NAME=VALUE, or --sysctl-file FILE",
            ));
        }
        Ok(wanted)
    }
}

/// `NAME=VALUE`; slashes in a name are dots.
fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim().trim_start_matches('-').replace('/', ".");
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_name = name.starts_with("net.") && !name.contains(char::is_whitespace);
    (is_name && !value.is_empty()).then_some((name, value))
}

/// The settings in a file; of a name the last one counts.
fn read(path: &Path) -> Result<Vec<(String, String)>, (String, &'static str)> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        (
            format!("{shown}: cannot read it: {error}"),
            "--sysctl-file takes a file as sysctl.conf is",
        )
    })?;
    let mut settings: Vec<(String, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (name, value) = assignment(line).ok_or_else(|| {
            (
                format!("{shown}:{number}:1: {line:?} is no setting of the network"),
                "net.ipv4.tcp_tw_reuse = 1",
            )
        })?;
        settings.retain(|(known, _)| *known != name);
        settings.push((name, value));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_name_and_a_value() {
        let tw = |value: &str| Some(("net.ipv4.tcp_tw_reuse".to_owned(), value.to_owned()));
        assert_eq!(assignment("net.ipv4.tcp_tw_reuse=1"), tw("1"));
        assert_eq!(assignment("-net/ipv4/tcp_tw_reuse = 1 "), tw("1"));
        assert_eq!(assignment("net.ipv4.tcp_tw_reuse="), None);
        assert_eq!(assignment("vm.swappiness=1"), None);
        assert_eq!(assignment("net.ipv4.tcp_tw_reuse"), None);
    }
}
