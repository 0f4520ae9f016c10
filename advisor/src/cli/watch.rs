//! `advisor watch`: what happens, as it happens.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use advisor_facts::Looking;

use super::{Error, ListFormat, print};
use crate::record::Bounds;
use crate::render::{json, text};
use crate::watch::screen::Screen;
use crate::watch::{Lines, Options, WatchError, watch};

/// Watch this host: who resets connections and why, and which limit is near
///
/// Runs until Ctrl-C, or for the time of --for. It takes the kernel's events (who sent a
/// reset, and why), reads the gauges of every network namespace each second, and looks
/// at the sockets when something nears or happens. It costs at most 1% of a CPU; where
/// that does not suffice it takes fewer events and looks less often, and says so. At the
/// end it prints the plan over the whole time. As root it sees all; without root it says
/// what it can't see.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status:\n  \
    0  nothing to recommend\n  \
    1  there are recommendations\n  \
    2  wrong usage\n  \
    3  the host cannot be read, the record cannot be kept or lacks something, or the\n     \
        port is in use")]
pub(super) struct Watch {
    /// How long (90s, 10m, 12h); default: until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
    /// How to write what happens; json has a document on each line
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
    /// Keep what happens in this directory, for `advisor recommend --record DIR` on any
    /// machine. It is whole after a kill at any instant
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// The size of the record at the most; the oldest lines go first
    #[arg(long, value_name = "SIZE", default_value = "64MiB", requires = "record",
          value_parser = size)]
    record_size: u64,
    /// The age of what the record has at the most (12h, 30d)
    #[arg(long, value_name = "TIME", default_value = "30d", requires = "record",
          value_parser = duration)]
    record_age: Duration,
    /// Leave out of the record the host's name, addresses, and the names of scripts,
    /// units and containers, as `advisor capture --redact` does
    #[arg(long, requires = "record")]
    redact: bool,
    /// Write lines on a terminal, too, in place of the live screen
    #[arg(long)]
    lines: bool,
    /// Serve metrics for Prometheus at http://ADDRESS/metrics (127.0.0.1:9477)
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Read the sockets in /proc/net/tcp: asking by sock_diag can make the kernel load
    /// its tcp_diag module. Memory and tcp_info are not seen then
    #[arg(long)]
    no_sock_diag: bool,
}

impl Watch {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let bounds = Bounds {
            bytes: self.record_size,
            age: self.record_age,
        };
        let is_text = matches!(self.format, ListFormat::Text);
        let is_screen = is_text && !self.lines && are_terminals();
        let place = self.record.clone().unwrap_or_default();
        let options = Options {
            lasts: self.lasts,
            looking: Looking {
                sock_diag: !self.no_sock_diag,
                inspect_options: false,
            },
            record: self.record.map(|directory| (directory, bounds)),
            redacts: self.redact,
            listen: self.listen,
            screen: is_screen,
        };
        let as_json = matches!(self.format, ListFormat::Json);
        let ended = if is_screen {
            let mut screen = Screen::open().map_err(WatchError::Output)?;
            watch(options, &mut screen)?
        } else {
            let mut lines = Lines::new(io::BufWriter::new(io::stdout()), as_json);
            watch(options, &mut lines)?
        };
        print(|out| match self.format {
            ListFormat::Json => json::write_line(out, "advice", &ended.advice),
            ListFormat::Text => {
                writeln!(out)?;
                text::write(
                    out,
                    &ended.advice,
                    &ended.facts,
                    textwrap::termwidth(),
                    false,
                )
            }
        })?;
        if let Some((lines, source)) = ended.missing {
            return Err(Error::from(WatchError::Missing {
                path: place,
                lines,
                source,
            }));
        }
        Ok(if ended.advice.recommendations.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        })
    }
}

/// Whether keys can be read and a screen be shown.
fn are_terminals() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// A length of time with its unit, up to a year.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err("a number with its unit: 90s, 10m, 12h, 30d".to_owned()),
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    number
        .and_then(|number| number.checked_mul(seconds))
        .filter(|seconds| *seconds <= 366 * 24 * 60 * 60)
        .map(Duration::from_secs)
        .ok_or_else(|| "a whole number with its unit, from 1s to 366d".to_owned())
}

/// An amount of memory with its unit, from 1 MiB on.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("a number with its unit: 64MiB, 1GiB".to_owned()),
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    number
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| *bytes <= 1 << 40)
        .ok_or_else(|| "a whole number with its unit, from 1MiB to 1024GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units_and_bounds() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for text in [
            "",
            "10",
            "0s",
            "1.5h",
            "-1s",
            "400d",
            "99999999999999999999s",
            "1é",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert_eq!(size("64MiB"), Ok(64 << 20));
        for text in ["", "64", "0MiB", "64MB", "2000GiB", "-1MiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }
}
