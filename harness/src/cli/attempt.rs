//! `harness try`.

use std::path::{Path, PathBuf};

use advisor_facts::sysctl_files::{self, Content};
use clap::Args;

use super::host::{Format, Host, OnKernel, show};
use super::{FAILURE, SUCCESS, USAGE, complain, complain_of_run, print_json};
use crate::output;
use crate::prove;
use crate::prove::attempt::{AttemptError, attempt};
use crate::report::terminal::{self, Lines, Terminal};
use crate::reproduce::settings::Set;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 something gets better and nothing worse; 1 nothing gets better, or
something gets worse, or the guest is not as the host; 2 bad usage, or facts or a
setting that can't be tried; 3 no guest can be had.")]
pub(super) struct Try {
    #[command(flatten)]
    host: Host,
    /// A setting and its value, net.ipv4.tcp_tw_reuse=1; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Settings in a file, as sysctl.conf has them
    #[arg(long, value_name = "FILE")]
    sysctl_file: Option<PathBuf>,
    #[command(flatten)]
    on: OnKernel,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Try {
    /// Tries, and gives the exit status.
    pub(super) fn run(&self) -> u8 {
        let facts = match self.host.read() {
            Ok(facts) => facts,
            Err(status) => return status,
        };
        let wanted = match self.wanted() {
            Ok(wanted) => wanted,
            Err((message, hint)) => {
                complain(message, hint);
                return USAGE;
            }
        };
        let kernel = match self.on.choose(&facts.kernel) {
            Ok(kernel) => kernel,
            Err(error) => return complain_of_run(&error),
        };
        let terminal = Terminal::new(2, false, Lines::Out);
        let settings: Vec<_> = wanted.iter().map(|one| one.set.clone()).collect();
        let outcome = attempt(&facts, &settings, &kernel.stored, &|progress| {
            show(&terminal, &progress);
        });
        terminal.finish();
        match outcome {
            Ok(attempt) => {
                match self.format {
                    Format::Text => {
                        let width = terminal::width();
                        output::print(&prove::render::attempt(&attempt, &kernel, width));
                    }
                    Format::Json => print_json(&attempt),
                }
                if attempt.helps() { SUCCESS } else { FAILURE }
            }
            Err(AttemptError::Setting { name, why }) => {
                let place = wanted.iter().rfind(|one| one.set.0 == name);
                let place = place.map_or("", |one| &one.place);
                complain(
                    format!("{place}: {why}"),
                    "`advisor lint` says what a line does; --kernel names another kernel",
                );
                USAGE
            }
            Err(error) => self.host.complain_of(&error),
        }
    }

    /// The settings that are to be tried.
    fn wanted(&self) -> Result<Vec<Wanted>, (String, &'static str)> {
        let mut wanted = Vec::new();
        for text in &self.settings {
            let place = format!("--set {text}");
            wanted.push(Wanted::new(place, &Content::parse(text.trim()))?);
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

/// A setting and its value, and where the user gave it.
struct Wanted {
    place: String,
    set: Set,
}

impl Wanted {
    fn new(place: String, content: &Content) -> Result<Self, (String, &'static str)> {
        let why = match content {
            Content::Assignment { key, value } if !value.is_empty() => {
                let set = (key.clone(), value.clone());
                return Ok(Self { place, set });
            }
            Content::Malformed { message } => message,
            _ => "this is no setting with a value",
        };
        Err((format!("{place}: {why}"), "net.ipv4.tcp_tw_reuse=1"))
    }
}

/// The settings in a file; of a name the last one counts.
fn read(path: &Path) -> Result<Vec<Wanted>, (String, &'static str)> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| {
        (
            format!("{shown}: cannot read it: {error}"),
            "--sysctl-file takes a file as sysctl.conf is",
        )
    })?;
    let mut settings: Vec<Wanted> = Vec::new();
    for line in sysctl_files::parse(&bytes) {
        let wanted = Wanted::new(format!("{shown}:{}:1", line.number), &line.content)?;
        settings.retain(|known| known.set.0 != wanted.set.0);
        settings.push(wanted);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_name_and_a_value() {
        let set = |text| {
            let wanted = Wanted::new(String::new(), &Content::parse(text)).ok()?;
            Some(wanted.set)
        };
        let tw = |value: &str| Some(("net.ipv4.tcp_tw_reuse".to_owned(), value.to_owned()));
        assert_eq!(set("net.ipv4.tcp_tw_reuse=1"), tw("1"));
        assert_eq!(set("-net/ipv4/tcp_tw_reuse = 1 "), tw("1"));
        assert_eq!(set("net.ipv4.tcp_tw_reuse="), None);
        assert_eq!(set("net.ipv4.tcp_tw_reuse"), None);
    }

    #[test]
    fn the_last_line_of_a_name_counts_and_a_wrong_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own.conf");
        let text = "# c\nnet.ipv4.tcp_sack = 0\nnet/ipv4/tcp_sack = 1\n";
        std::fs::write(&path, text).unwrap();
        let settings = read(&path).ok().unwrap();
        let [one] = settings.as_slice() else {
            panic!("{}", settings.len())
        };
        assert_eq!(one.set, ("net.ipv4.tcp_sack".to_owned(), "1".to_owned()));
        assert!(one.place.ends_with("own.conf:3:1"), "{}", one.place);
        std::fs::write(&path, "net.ipv4.tcp_sack = 0\nnonsense\n").unwrap();
        let (message, _) = read(&path).err().unwrap();
        assert!(message.contains("own.conf:2:1: "), "{message}");
    }
}
