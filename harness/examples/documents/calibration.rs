//! `docs/calibration.md`: what `ci/calibrate` measured, side by side.

use std::fmt::Write as _;

use advisor_report::calibration::{BindOption, Calibration, SHIPPED, Unsent};
use harness::kernels::catalogue::LINES;

use super::Error;

/// What stands where a calibration has no figure.
const NOT_MEASURED: &str = "not measured yet";

const LEAD: &str = "\
# What was measured on each kernel

The advisor has formulas for what the kernel does with orphans, ports and memory.
`ci/calibrate` measures the same with scenarios of the catalogue, in guests, and
writes to [advisor/kernels](../advisor/kernels). The advisor has these files
built in. `harness calibrate --kernel KERNEL` measures one kernel. A new kernel's
figures are a difference to review. `ci/documents` makes this page from the files;
[calibration.schema.json](calibration.schema.json) is their format.

## Which figure a rule uses

1. What a report (`--report`) measured on the host's own kernel line.
2. Else the calibration of the nearest release, at most 6 releases away. Releases are
   counted in the order in which they came out (5.19, 6.0, ... 6.19, 7.0). Of two at
   the same distance the older one is used.
3. Else the documented formula.

The text of a recommendation says which of these it is. A calibration never makes a
rule more confident, or a finding more or less severe: only a report of the same
kernel line does. A calibration never lowers the memory of an orphan below the
documented 64 KiB, because the send buffer of a busy connection has grown.

## How figures are rounded

The files have no date, and noisy figures are rounded. So a second measurement of the
same kernel gives the same files.

- Bytes are the maximum over all sockets and runs, as the kernel counts them. Pages
  are rounded up.
- The life of an orphan is the median of the runs, rounded up to 1, 3, 5, 10, 20, 40,
  80, 160, 320 or 640 s. Its timers double, and the round trip time decides which
  timer is the last one, so a finer figure would be chance.
- TIME_WAIT is rounded to the nearest 10 s, because such a timer is accurate to 2 s.
- Which orphans live, which are killed, and what bind() returns is exact.

`harness calibrate` uses only scenarios that pass. If one does not pass, it names the
scenario, exits with 1 and writes no file. A scenario that errored because the machine
was too busy runs once more first.
";

/// A table with a column for each kernel.
struct Table<'a> {
    calibrations: &'a [Calibration],
    text: String,
}

impl<'a> Table<'a> {
    /// `what` is above the titles of the rows.
    fn new(calibrations: &'a [Calibration], what: &str) -> Self {
        let kernels: Vec<String> = calibrations.iter().map(Calibration::kernel).collect();
        let columns = " --- |".repeat(kernels.len() + 1);
        Self {
            calibrations,
            text: format!("| {what} | {} |\n|{columns}\n", kernels.join(" | ")),
        }
    }

    /// A row: its title, and each calibration's figure.
    fn row(
        &mut self,
        title: impl std::fmt::Display,
        figure: impl Fn(&Calibration) -> Option<String>,
    ) {
        let figures: Vec<String> = self
            .calibrations
            .iter()
            .map(|calibration| figure(calibration).unwrap_or_else(|| NOT_MEASURED.to_owned()))
            .collect();
        let _ = writeln!(self.text, "| {title} | {} |", figures.join(" | "));
    }
}

/// What the rows are about: every key of any calibration, in the order of the first.
fn keys<K: PartialEq>(calibrations: &[Calibration], of: impl Fn(&Calibration) -> Vec<K>) -> Vec<K> {
    let mut keys = Vec::new();
    for key in calibrations.iter().flat_map(of) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// The page.
pub fn page() -> Result<String, Error> {
    let mut calibrations = Vec::new();
    for (line, text) in SHIPPED {
        let calibration = Calibration::parse(text)
            .map_err(|error| format!("advisor/kernels/{line}/calibration.json: {error}"))?;
        calibrations.push(calibration);
    }
    let mut page = LEAD.to_owned();
    let is_measured = |name: &str| {
        let mut lines = SHIPPED.iter();
        lines.any(|(line, _)| name.strip_prefix("debian-") == Some(line))
    };
    for line in LINES.iter().filter(|line| !is_measured(line.name)) {
        let _ = write!(page, "\n{}: {NOT_MEASURED}.\n", line.name);
    }
    let calibrations = &calibrations[..];
    for (title, lead, table) in [
        (
            "The memory of an orphan",
            "`orphans/held/by-data`. The peer of a connection has vanished, and the connection is\n\
             closed with that much unsent data. Its send buffer has not grown: 45 KiB. The figure\n\
             is sk_wmem_queued. A busy connection's buffer grows up to tcp_wmem, and its orphan\n\
             holds as much.",
            orphan_memory(calibrations),
        ),
        (
            "How many orphans the kernel allows",
            "`orphans/limit/exact`, `soft-error-counts-twice` and\n\
             `error-and-silence-count-four-times`, with a limit of 16.",
            orphan_kills(calibrations),
        ),
        (
            "The life of an orphan with a silent peer",
            "`orphans/life/silent-peer` and `silent-peer-by-default`: time from close(), by\n\
             tcp_orphan_retries (0 means 8). The round trip time is 60 ms for 1 to 4 retries.",
            orphan_life(calibrations),
        ),
        (
            "TIME_WAIT",
            "`bind/restart/time-wait-lasts-a-minute`, by tcp_fin_timeout.",
            time_wait(calibrations),
        ),
        (
            "bind() while a socket of the old program has the port",
            "`bind/restart/options`, over IPv4: by the state of the old socket, and the options of\n\
             the old and the new one.",
            bind(calibrations),
        ),
        (
            "What a written byte costs",
            "`memory/accounting/by-write-size`: eight writes with TCP_NODELAY, none acknowledged.\n\
             The figure is sk_wmem_queued divided by the bytes written, without segmentation\n\
             offload. A device with offload takes larger buffers, so large writes cost less there.",
            write_cost(calibrations),
        ),
    ] {
        let _ = write!(page, "\n## {title}\n\n{lead}\n\n{}", table.text);
    }
    Ok(page)
}

fn orphan_memory(calibrations: &[Calibration]) -> Table<'_> {
    let mut table = Table::new(calibrations, "unsent");
    for (title, unsent) in [
        ("100 bytes", Unsent::Little),
        ("a full buffer", Unsent::FullBuffer),
    ] {
        table.row(title, |calibration| {
            let orphan = calibration.orphan(unsent)?;
            let (held, pages) = (orphan.held_bytes, orphan.held_pages);
            let plural = if pages == 1 { "" } else { "s" };
            Some(format!("{held} bytes, {pages} page{plural}"))
        });
    }
    table
}

fn orphan_kills(calibrations: &[Calibration]) -> Table<'_> {
    let mut table = Table::new(calibrations, "each counts");
    let shifts = keys(calibrations, |calibration| {
        let kills = calibration.orphan_kills.iter();
        kills.map(|kill| kill.shift).collect()
    });
    for shift in shifts {
        let times = 1_u64 << shift;
        let plural = if times == 1 { "" } else { "s" };
        table.row(format!("{times} time{plural}"), |calibration| {
            let mut kills = calibration.orphan_kills.iter();
            let kill = kills.find(|kill| kill.shift == shift)?;
            Some(format!(
                "{} live, {} are too many",
                kill.live, kill.killed_at
            ))
        });
    }
    table
}

fn orphan_life(calibrations: &[Calibration]) -> Table<'_> {
    let mut table = Table::new(calibrations, "retries");
    let retries = keys(calibrations, |calibration| {
        let lives = calibration.orphan_life.iter();
        lives.map(|life| life.retries).collect()
    });
    for retries in retries {
        table.row(retries, |calibration| {
            let mut lives = calibration.orphan_life.iter();
            let life = lives.find(|life| life.retries == retries)?;
            Some(format!("up to {} s", life.at_most_s))
        });
    }
    table
}

fn time_wait(calibrations: &[Calibration]) -> Table<'_> {
    let mut table = Table::new(calibrations, "tcp_fin_timeout");
    let timeouts = keys(calibrations, |calibration| {
        let measured = calibration.time_wait.measured_by.iter();
        measured.map(|under| under.fin_timeout_s).collect()
    });
    for timeout in timeouts {
        table.row(format!("{timeout} s"), |calibration| {
            let mut measured = calibration.time_wait.measured_by.iter();
            let under = measured.find(|under| under.fin_timeout_s == timeout)?;
            Some(format!("{} s", under.seconds))
        });
    }
    table
}

fn bind(calibrations: &[Calibration]) -> Table<'_> {
    let mut table = Table::new(calibrations, "state: old, new");
    let cells: Vec<(String, BindOption, BindOption)> = keys(calibrations, |calibration| {
        let cells = calibration.bind.iter();
        cells
            .map(|bind| (bind.state.clone(), bind.old, bind.new))
            .collect()
    });
    for (state, old, new) in cells {
        table.row(format!("{state}: {old}, {new}"), |calibration| {
            let bind = calibration.bind(&state, old, new)?;
            Some(match bind.error.as_str() {
                "none" => "works".to_owned(),
                errno => errno.to_owned(),
            })
        });
    }
    table
}

fn write_cost(calibrations: &[Calibration]) -> Table<'_> {
    let mut table = Table::new(calibrations, "bytes a write");
    let sizes = keys(calibrations, |calibration| {
        let costs = calibration.write_cost.iter();
        costs.map(|cost| cost.write_bytes).collect()
    });
    for size in sizes {
        table.row(size, |calibration| {
            let mut costs = calibration.write_cost.iter();
            let cost = costs.find(|cost| cost.write_bytes == size)?;
            let hundredths = cost.charged_bytes * 100 / cost.written_bytes;
            Some(format!("{}.{:02}", hundredths / 100, hundredths % 100))
        });
    }
    table
}
