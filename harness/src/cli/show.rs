//! `harness show`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use advisor_report::report;
use clap::Args;

use super::last_run;
use super::selection::{load, suites};
use super::{ENVIRONMENT, SUCCESS, USAGE, complain, print};
use crate::output;
use crate::report::picture;
use crate::suite::scenario::Scenario;
use crate::suite::story;
use crate::yaml::error::did_you_mean;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The scenario's id; of a matrix, with or without the cell
    id: String,
    /// Suite files, or directories of them [default: ./suites, else the installed ones,
    /// and those that were run last]
    paths: Vec<PathBuf>,
    /// Draw a run of it from this report of `harness run --report DIR`: calls, segments
    /// and states in the order of time
    #[arg(long, value_name = "REPORT", conflicts_with = "paths")]
    run: Option<PathBuf>,
    /// Draw it as SVG to this file, for a document
    #[arg(long, value_name = "FILE", requires = "run")]
    svg: Option<PathBuf>,
}

impl Show {
    /// Describes the scenario, or draws a run of it; the exit status.
    pub(super) fn run(&self) -> u8 {
        match &self.run {
            Some(report) => self.draw(report).unwrap_or_else(|status| status),
            None => self.tell(),
        }
    }

    /// Draws the runs that a report has of the scenario: those first that are not as
    /// expected.
    fn draw(&self, path: &Path) -> Result<u8, u8> {
        let report = report::read(path).map_err(|error| {
            complain(&error, error.hint());
            USAGE
        })?;
        let mut results = report
            .scenarios
            .iter()
            .filter(|one| one.id == self.id)
            .peekable();
        if results.peek().is_none() {
            let ids = report.scenarios.iter().map(|one| one.id.as_str());
            let likely = did_you_mean(&self.id, ids);
            complain(
                format!("{}: no scenario {:?}{likely}", path.display(), self.id),
                "report.md lists the ids",
            );
            return Err(USAGE);
        }
        let mut text = String::new();
        let mut first = None;
        for result in results {
            let mut traces: Vec<_> = result.traces.iter().collect();
            traces.sort_by_key(|trace| trace.as_expected);
            for trace in traces {
                first.get_or_insert(trace);
                let how = if trace.as_expected {
                    "as expected"
                } else {
                    "not as expected"
                };
                let release = &result.kernel.release;
                let _ = writeln!(text, "run {} on Linux {release}, {how}\n", trace.run);
                text.push_str(&picture::ascii(trace));
                text.push('\n');
            }
        }
        let Some(first) = first else {
            complain(
                format!("{}: it has no run of {} to draw", path.display(), self.id),
                "a run with --report DIR has one, unless the scenario was skipped",
            );
            return Err(USAGE);
        };
        let Some(file) = &self.svg else {
            return Ok(print(&text));
        };
        match output::write(file, picture::alone(first).as_bytes()) {
            Ok(()) => Ok(SUCCESS),
            Err(error) => {
                complain(
                    format!("{}: cannot write the picture: {error}", file.display()),
                    "",
                );
                Err(ENVIRONMENT)
            }
        }
    }

    fn tell(&self) -> u8 {
        let mut places = vec![self.paths.clone()];
        if self.paths.is_empty() {
            places = [suites()]
                .into_iter()
                .filter(|path| path.exists())
                .map(|one| vec![one])
                .collect();
            places.extend(last_run::suites().into_iter().map(|path| vec![path]));
        }
        if places.is_empty() {
            places.push(vec![suites()]);
        }
        let mut known = Vec::new();
        for paths in places {
            let scenarios = match load(&paths) {
                Ok(scenarios) => scenarios,
                Err(status) => return status,
            };
            if let Some(told) = self.find(&scenarios) {
                return print(&told);
            }
            known.extend(scenarios.into_iter().map(|scenario| scenario.id));
        }
        let likely = did_you_mean(&self.id, known.iter().map(String::as_str));
        complain(
            format!("no scenario {:?}{likely}", self.id),
            "`harness list` shows the ids; suites elsewhere are given after the id",
        );
        USAGE
    }

    /// The scenario, or the matrix, among these.
    fn find(&self, scenarios: &[Scenario]) -> Option<String> {
        if let Some(scenario) = scenarios.iter().find(|scenario| scenario.id == self.id) {
            return Some(story::tell(scenario));
        }
        let of_matrix = |scenario: &&Scenario| {
            let cell = scenario.id.strip_prefix(&self.id);
            cell.is_some_and(|cell| cell.starts_with('['))
        };
        let cells: Vec<&Scenario> = scenarios.iter().filter(of_matrix).collect();
        let first = cells.first()?;
        let told = story::tell_matrix(&self.id, &cells);
        Some(format!("{told}\nharness show '{}' tells one.\n", first.id))
    }
}
