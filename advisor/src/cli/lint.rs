//! `advisor lint`.

use std::path::PathBuf;
use std::process::ExitCode;

use advisor_facts::Facts;
use advisor_facts::clock::Moment;
use advisor_facts::release::Release;
use clap::ValueEnum;

use super::{Error, print};
use crate::accepted::Accepted;
use crate::lint::{self, FileSet};
use crate::render::{self, json, sarif};
use crate::rules::{self, Rule};

/// Judge files of settings without the live state of a host
///
/// Says of each line that is wrong which rule it breaks, as FILE:LINE, for the
/// checks of a repository of configurations: values that are wrong on any host,
/// values that the kernel refuses, settings that it does not have, lines that
/// another one overrules with systemd-sysctl, with `sysctl --system` or with both,
/// and lines that neither understands.
///
/// The comment `# lastbyte: ignore LB410: why` leaves a rule out for the line that
/// it stands above, or behind whose number it stands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status:\n  \
    0  nothing is wrong, or all of it is ignored\n  \
    1  something is\n  \
    2  wrong usage, or nothing that can be read")]
pub(super) struct Lint {
    /// Files, - for standard input, directories of .conf files (a sysctl.d), or
    /// directories that stand for the `/` of a host; those of this host where none
    /// is given
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// The kernel that they are for, 6.12: settings that it does not have are named
    #[arg(long, value_name = "RELEASE", value_parser = kernel)]
    kernel: Option<String>,
    /// The RAM of the hosts that they are for, 16GiB: what is larger is named
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "0", hide_default_value = true)]
    ram: u64,
    /// The page size of the hosts that they are for
    #[arg(long, value_name = "SIZE", value_parser = page_size, default_value = "4KiB")]
    page_size: u64,
    /// A rule to leave out, by code or name; may be given several times
    #[arg(long, value_name = "CODE", value_parser = rule)]
    ignore: Vec<&'static Rule>,
    /// Findings that are accepted, as `advisor recommend --config` takes them: by code,
    /// and by a subject that the file's name or the message has
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print a patch for `patch -p1` in place of the answer, and write no file. What
    /// it does not mend goes to standard error
    #[arg(long, conflicts_with = "format")]
    diff: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// SARIF 2.1.0, for what shows findings beside code
    Sarif,
    /// Commands of a GitHub workflow, which become annotations
    Github,
    /// For programs
    Json,
}

impl Lint {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let base = Facts::without_host(
            self.kernel.as_deref().unwrap_or_default(),
            self.ram,
            self.page_size,
        );
        let paths = if self.paths.is_empty() {
            vec![PathBuf::from("/")]
        } else {
            self.paths
        };
        let accepted = self.config.as_deref().map(Accepted::read).transpose()?;
        let sets = lint::read(&paths)?;
        let mut problems: Vec<_> = sets.iter().flat_map(|set| set.lint(&base)).collect();
        for problem in &mut problems {
            if self.ignore.iter().any(|rule| rule.code == problem.code) {
                problem.ignored = Some("by --ignore".to_owned());
            }
        }
        if let Some(accepted) = &accepted {
            let today = Moment::now().date();
            for problem in &mut problems {
                problem.accept(accepted, today);
            }
        }
        let (ignored, counted): (Vec<_>, Vec<_>) = problems
            .iter()
            .cloned()
            .partition(|problem| problem.ignored.is_some());
        let files = sets.iter().map(FileSet::len).sum();
        let width = textwrap::termwidth();
        if self.diff {
            let patch = lint::patch(sets.iter().flat_map(FileSet::texts), &counted);
            print(|out| out.write_all(patch.as_bytes()))?;
            let unmended: Vec<_> = counted
                .iter()
                .filter(|problem| problem.fix.is_none())
                .cloned()
                .collect();
            if !unmended.is_empty() {
                let mut err = anstream::stderr().lock();
                // What is wrong with standard error has nowhere to be said.
                let _ = render::lint::write_problems(&mut err, &unmended, width);
            }
        } else {
            print(|out| match self.format {
                Format::Text => render::lint::write(out, &counted, ignored.len(), files, width),
                Format::Sarif => sarif::write(out, &problems),
                Format::Github => render::lint::write_github(out, &counted),
                Format::Json => json::write(out, &problems),
            })?;
        }
        Ok(if counted.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        })
    }
}

/// A rule by its code or its name.
fn rule(text: &str) -> Result<&'static Rule, String> {
    rules::find(text).ok_or_else(|| "`advisor rules` lists the codes and names".to_owned())
}

/// A kernel release: two numbers at least.
fn kernel(text: &str) -> Result<String, String> {
    match Release::of_kernel(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("two numbers at least: 6.12".to_owned()),
    }
}

/// An amount of memory with its unit, in bytes.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" if text == "0" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("a whole number with its unit: 512MiB, 16GiB".to_owned()),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "a whole number with its unit: 512MiB, 16GiB".to_owned())
}

/// The size of a page, in bytes.
fn page_size(text: &str) -> Result<u64, String> {
    match size(text) {
        Ok(bytes @ (4096 | 16384 | 65536)) => Ok(bytes),
        _ => Err("one of 4KiB, 16KiB, 64KiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_and_a_page_is_one_of_three() {
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("0"), Ok(0));
        for text in [
            "",
            "16",
            "GiB",
            "-1GiB",
            "1.5GiB",
            "16 GiB",
            "99999999TiB",
            "1é",
        ] {
            assert!(size(text).is_err(), "{text:?}");
        }
        assert_eq!(page_size("64KiB"), Ok(65_536));
        assert!(page_size("8KiB").is_err());
        assert!(kernel("6.12.3").is_ok() && kernel("six").is_err());
    }
}
