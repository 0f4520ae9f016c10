//! `harness show`.

use std::path::PathBuf;

use clap::Args;

use super::selection::load;
use super::{USAGE, complain, print};
use crate::suite::scenario::Scenario;
use crate::suite::story;
use crate::yaml::error::did_you_mean;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The scenario's id; of a matrix, with or without the cell
    id: String,
    /// Suite files, or directories of them
    #[arg(default_value = "suites")]
    paths: Vec<PathBuf>,
}

impl Show {
    /// Describes the scenario; the exit status.
    pub(super) fn run(&self) -> u8 {
        let scenarios = match load(&self.paths) {
            Ok(scenarios) => scenarios,
            Err(status) => return status,
        };
        if let Some(scenario) = scenarios.iter().find(|scenario| scenario.id == self.id) {
            return print(&story::tell(scenario));
        }
        let of_matrix = |scenario: &&Scenario| {
            let cell = scenario.id.strip_prefix(&self.id);
            cell.is_some_and(|cell| cell.starts_with('['))
        };
        let cells: Vec<&Scenario> = scenarios.iter().filter(of_matrix).collect();
        if let [first, ..] = cells[..] {
            let told = story::tell_matrix(&self.id, &cells);
            return print(&format!("{told}\nharness show '{}' tells one.\n", first.id));
        }
        let ids = scenarios.iter().map(|scenario| scenario.id.as_str());
        let likely = did_you_mean(&self.id, ids);
        complain(
            format!("no scenario {:?}{likely}", self.id),
            "`harness list` shows the ids",
        );
        USAGE
    }
}
