//! Which host is looked at, how, and since when.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use advisor_facts::given::GivenFileError;
use advisor_facts::{Facts, Look, Looking, Root, file};

use advisor_report::record::{self, Record};

use super::Error;
use crate::accepted::{Accepted, DEFAULT_PATH};

/// Which host, and how it is looked at.
#[derive(Debug, clap::Args)]
pub(super) struct HostArguments {
    /// Read a recorded host, a directory with copies of its files of /proc, in
    /// place of this one
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Read what `advisor capture` wrote, on any machine and at any time, in
    /// place of this host; `recommend` gives one answer for a directory of them
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "root")]
    facts: Option<PathBuf>,
    /// Read what `advisor watch --record DIR` kept, on any machine and at any time, in
    /// place of this host: the plan is for the whole time
    #[arg(long, value_name = "DIR", conflicts_with_all = ["root", "facts", "no_sock_diag"])]
    record: Option<PathBuf>,
    /// Read the sockets in /proc/net/tcp: asking by sock_diag can make the
    /// kernel load its tcp_diag module. Memory and tcp_info are not seen then
    #[arg(long, conflicts_with_all = ["root", "facts"])]
    no_sock_diag: bool,
}

/// What is looked at of a whole host: since when, and how deep.
#[derive(Debug, clap::Args)]
pub(super) struct LookArguments {
    /// Look twice, this far apart (30s, 5m, 500ms): rules about what counters do
    /// need it
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["root", "facts", "record"])]
    over: Option<Duration>,
    /// Compare with an earlier `advisor capture` of the same host, since its last
    /// start
    #[arg(long, value_name = "FILE", conflicts_with_all = ["over", "record"])]
    baseline: Option<PathBuf>,
    /// Also read socket options that only a process's own descriptor tells
    /// (SO_REUSEADDR, SO_LINGER, SO_KEEPALIVE, TCP_USER_TIMEOUT, SO_SNDBUF), of
    /// listeners and of each process's largest connections. It takes a
    /// duplicate of the descriptor (pidfd_getfd) and closes it at once; for that
    /// moment a socket stays alive even if its process ends. Needs root
    #[arg(long, conflicts_with_all = ["root", "facts", "record"])]
    inspect_options: bool,
}

impl LookArguments {
    /// Whether options are to be read by other processes' descriptors.
    pub(super) const fn inspects_options(&self) -> bool {
        self.inspect_options
    }

    /// Whether an earlier capture was given.
    pub(super) const fn has_baseline(&self) -> bool {
        self.baseline.is_some()
    }

    /// Facts that were read elsewhere, compared with the baseline where there is one.
    pub(super) fn compared(&self, mut facts: Facts) -> Result<Facts, Error> {
        if let Some(path) = &self.baseline {
            facts.set_baseline(file::read(path)?, path)?;
        }
        Ok(facts)
    }
}

impl HostArguments {
    /// Reads the host, twice where a window was asked for.
    pub(super) fn facts(&self, scope: &LookArguments) -> Result<Facts, Error> {
        // The baseline first: a mistyped path is to be told at once.
        let baseline = scope
            .baseline
            .as_ref()
            .map(|path| Ok::<_, Error>((file::read(path)?, path)))
            .transpose()?;
        let mut facts = if let Some(facts) = self.given() {
            facts?
        } else {
            let root = self.place();
            let looking = Looking {
                inspect_options: scope.inspect_options,
                ..self.looking()
            };
            let earlier = match scope.over {
                Some(window) => {
                    let earlier = Look::read_with(&root, looking, &mut Vec::new())?;
                    wait(window);
                    Some(earlier)
                }
                None => None,
            };
            let mut facts = Facts::read_with(&root, looking)?;
            if let Some(earlier) = earlier {
                facts.set_earlier(earlier);
            }
            facts
        };
        if let Some((baseline, path)) = baseline {
            facts.set_baseline(baseline, path)?;
        }
        Ok(facts)
    }

    /// What is accepted of it: by the file that was given, else by the one of the host,
    /// if it has one. Facts bring none, nor do archives.
    pub(super) fn accepted(
        &self,
        config: Option<&Path>,
        brings_none: bool,
    ) -> Result<Accepted, GivenFileError> {
        if let Some(path) = config {
            return Accepted::read(path);
        }
        if brings_none || self.facts.is_some() || self.record.is_some() {
            return Ok(Accepted::default());
        }
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        match Accepted::read(&root.join(DEFAULT_PATH)) {
            Err(error) if error.is_not_found() => Ok(Accepted::default()),
            result => result,
        }
    }

    /// Where the host is.
    pub(super) fn place(&self) -> Root {
        self.root.clone().map_or(Root::Live, Root::Recorded)
    }

    /// The directory of captures that stands for many hosts.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.facts.as_deref().filter(|path| path.is_dir())
    }

    /// The facts that stand for it: of a file, or of a record.
    pub(super) fn given(&self) -> Option<Result<Facts, GivenFileError>> {
        let of_file = self.facts.as_ref().map(|path| file::read(path));
        of_file.or_else(|| Some(self.record()?.map(|record| record.facts)))
    }

    /// The record that stands for it.
    pub(super) fn record(&self) -> Option<Result<Record, GivenFileError>> {
        Some(record::read(self.record.as_deref()?))
    }

    /// How it is looked at.
    pub(super) fn looking(&self) -> Looking {
        Looking {
            sock_diag: !self.no_sock_diag,
            inspect_options: false,
        }
    }
}

/// Waits for the second look, and says on a terminal how long that takes still.
fn wait(window: Duration) {
    let mut err = io::stderr();
    let end = Instant::now() + window;
    if !err.is_terminal() {
        thread::sleep(window);
        return;
    }
    let mut shown = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let line = format!("the second look is in {} s", left.as_secs() + 1);
        // Where it cannot be shown, the answer is still to come.
        let _ = write!(err, "\r{line:shown$}");
        let _ = err.flush();
        shown = line.len();
        // Up to the next whole second.
        let step = Duration::from_nanos(u64::from(left.subsec_nanos()) + 1);
        thread::sleep(left.min(step));
    }
    let _ = write!(err, "\r{:shown$}\r", "");
    let _ = err.flush();
}

/// A length of time with its unit. A look every few milliseconds tells
/// nothing, and a window of more than a day is a mistake.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("a number with its unit: 500ms, 30s, 5m".to_owned()),
    };
    let window = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .ok_or_else(|| "a whole number with its unit: 500ms, 30s, 5m".to_owned())?;
    if (SHORTEST..=LONGEST).contains(&window) {
        Ok(window)
    } else {
        Err("from 100ms to 1440m".to_owned())
    }
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_a_unit_and_bounds() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "0s",
            "30 s",
            "2000m",
            "99999999999999999999s",
            "1é",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
