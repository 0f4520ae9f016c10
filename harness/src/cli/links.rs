//! `harness links`.

use clap::Args;

use super::selection::{Selection, load};
use super::{FAILURE, SUCCESS, complain_of_kernel, complain_of_run};
use crate::lab;
use crate::links;
use crate::output;
use crate::report::origin::Begun;
use crate::report::terminal::{self, Lines, Terminal};
use crate::report::{self, VerdictCounts};
use crate::runner::Progress;

#[derive(Debug, Args)]
pub(super) struct Links {
    #[command(flatten)]
    selection: Selection,
    /// A name from `harness kernels`, the path of a vmlinuz, or auto: the fetched
    /// kernel nearest to the host's
    #[arg(long, value_name = "KERNEL", default_value = "auto")]
    kernel: String,
    /// Datagrams over each link
    #[arg(long, value_name = "N", default_value_t = 3000,
          value_parser = clap::value_parser!(u32).range(100..=100_000))]
    packets: u32,
    /// Runs of each scenario, in place of what the suite says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    runs: Option<u64>,
    /// Leave the scenarios out
    #[arg(long)]
    packets_only: bool,
}

impl Links {
    /// Compares the relay with netem; the exit status.
    pub(super) fn run(&self) -> Result<u8, u8> {
        let begun = Begun::now(&self.selection.paths);
        let scenarios = if self.packets_only {
            Vec::new()
        } else {
            self.selection.filter(&load(&self.selection.paths)?)?
        };
        let scenarios = links::comparable(scenarios);
        let kernel = links::kernel(&self.kernel).map_err(|error| complain_of_kernel(&error))?;
        let terminal = Terminal::new(scenarios.len() * 2, false, Lines::Out);
        let progress = |progress: Progress| terminal.show(&progress);
        let seen = links::run(
            &kernel,
            self.packets,
            &scenarios,
            self.runs,
            &progress,
            |link| terminal.say(&format!("{} {}", link.verdict(), link.link)),
        )
        .map_err(|error| complain_of_run(&error))?;
        terminal.finish();
        let report = report::assemble(seen.results, lab::pinned_sysctls(), begun.ended(false));
        output::say(&format!(
            "\n{}",
            terminal::links(&seen.links, &seen.release, self.packets)
        ));
        if let Some(comparison) = terminal::comparison(&report) {
            output::say(&format!("\n{comparison}"));
        }
        let packets_differ = seen.links.iter().any(|link| !link.differs.is_empty());
        let counts = VerdictCounts::of(&report.scenarios);
        let is_worse = counts.failed + counts.errored > 0 || !report.differences.is_empty();
        Ok(if packets_differ || is_worse {
            FAILURE
        } else {
            SUCCESS
        })
    }
}
