//! Suites and filters, as several commands take them.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{USAGE, complain};
use crate::suite::scenario::Scenario;
use crate::suite::{self, LoadError};

#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Suite files, or directories of them [default: ./suites, else the installed ones]
    #[arg(default_values_os_t = [suites()], hide_default_value = true)]
    pub(super) paths: Vec<PathBuf>,
    /// Only scenarios whose id contains this text, or matrix cells with these
    /// values (axis=value,...); given several times, all must match
    #[arg(long = "filter", value_name = "TEXT")]
    filters: Vec<String>,
    /// Every cell of each matrix [default: cells that cover every pair of values];
    /// a filter with [ or = chooses among all cells, too
    #[arg(long)]
    full: bool,
}

/// What is read where no suites are given: `./suites`, else those that were installed with
/// this program, `share/lastbyte/suites` beside its `bin`.
pub(super) fn suites() -> PathBuf {
    let here = Path::new("suites");
    let program = std::env::current_exe().unwrap_or_default();
    let prefix = program.parent().and_then(Path::parent);
    let installed = prefix.map(|prefix| prefix.join("share/lastbyte/suites"));
    match installed {
        Some(installed) if !here.exists() && installed.exists() => installed,
        _ => here.to_owned(),
    }
}

/// Loads suites, or prints what is wrong with them.
pub(super) fn load(paths: &[PathBuf]) -> Result<Vec<Scenario>, u8> {
    suite::load(paths).map_err(|errors| {
        for error in &errors {
            complain(error, LoadError::hint(error));
        }
        USAGE
    })
}

impl Selection {
    /// The scenarios that the filters leave; none is an error of usage.
    pub(super) fn filter(&self, scenarios: &[Scenario]) -> Result<Vec<Scenario>, u8> {
        let names_a_cell = |text: &String| text.contains(['[', '=']);
        let every_cell = self.full || self.filters.iter().any(names_a_cell);
        let is_in_part = |scenario: &&Scenario| {
            let cell = scenario.cell.as_ref();
            every_cell || cell.is_none_or(|cell| cell.covering)
        };
        let chosen: Vec<Scenario> = scenarios
            .iter()
            .filter(|scenario| self.filters.iter().all(|text| fits(scenario, text)))
            .filter(is_in_part)
            .cloned()
            .collect();
        if chosen.is_empty() {
            let texts: Vec<String> = self
                .filters
                .iter()
                .map(|text| format!("{text:?}"))
                .collect();
            complain(
                format!("no scenario's id contains {}", texts.join(" and ")),
                "`harness list` shows the ids",
            );
            return Err(USAGE);
        }
        Ok(chosen)
    }
}

/// Whether a scenario's id contains a text. Values of axes, `a=b,c=d`, are whole
/// ones, in any order.
fn fits(scenario: &Scenario, text: &str) -> bool {
    match &scenario.cell {
        Some(cell) if text.contains('=') && !text.contains('[') => {
            text.split(',').all(|pair| cell.has(pair))
        }
        _ => scenario.id.contains(text),
    }
}
