//! `harness bisect`.

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;

use super::kernels::{Mirror, on_bar};
use super::selection::{load, suites};
use super::{SUCCESS, USAGE, complain, complain_of_kernel, complain_of_run, print};
use crate::bisect::{self, Bisection, Candidate, Transition, changelog};
use crate::kernels::cache::Cache;
use crate::kernels::catalogue::LineRelease;
use crate::kernels::fetch::Archives;
use crate::kernels::{KernelError, choice};

#[derive(Debug, Args)]
pub(super) struct Bisect {
    /// The scenario's id
    id: String,
    /// Suite files, or directories of them [default: ./suites, else the installed ones]
    #[arg(default_values_os_t = [suites()], hide_default_value = true)]
    paths: Vec<PathBuf>,
    /// The release on which all is well: debian-6.1=6.1.0-47
    #[arg(long, value_name = "KERNEL")]
    good: String,
    /// The release on which it is not; a line is its newest
    #[arg(long, value_name = "KERNEL")]
    bad: String,
    /// Look for a change of this observation [default: of the verdict, else of what
    /// differs]
    #[arg(long, value_name = "NAME")]
    observation: Option<String>,
    /// Runs on each release
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(5..=10_000))]
    runs: u64,
    #[command(flatten)]
    mirror: Mirror,
}

/// Lines of the changelog that are printed; a line of kernels to the next has thousands.
const MOST_ITEMS: usize = 30;

impl Bisect {
    /// Finds the change; the exit status.
    pub(super) fn run(&self) -> Result<u8, u8> {
        let scenarios = load(&self.paths)?;
        let Some(scenario) = scenarios.iter().find(|scenario| scenario.id == self.id) else {
            complain(
                format!("no scenario has the id {}", self.id),
                "`harness list` shows the ids",
            );
            return Err(USAGE);
        };
        let of_kernel = |error: KernelError| complain_of_kernel(&error);
        let [good, bad] = [end(&self.good), end(&self.bad)];
        let (good, bad) = (good.map_err(of_kernel)?, bad.map_err(of_kernel)?);
        let cache = Cache::of_user().map_err(of_kernel)?;
        let bar = ProgressBar::new(100);
        let lines = bisect::lines_between(&good, &bad);
        let archives = Archives::read(&lines, &cache, &self.mirror.options(), &mut on_bar(&bar));
        let archives = archives.map_err(|error| {
            bar.finish_and_clear();
            of_kernel(error)
        })?;
        let candidates = bisect::candidates(&archives, &cache, &good, &bad);
        let bisection = Bisection {
            scenario,
            candidates: candidates.map_err(|error| {
                bar.finish_and_clear();
                of_kernel(error)
            })?,
            runs: self.runs,
            observation: self.observation.clone(),
        };
        bar.suspend(|| {
            print(&format!(
                "{} releases from {good} to {bad}, {} runs on each that is tried\n",
                bisection.candidates.len(),
                self.runs
            ))
        });
        let tried = |candidate: &Candidate, words: &str| {
            bar.suspend(|| print(&format!("{}  {words}\n", candidate.named)));
        };
        let change = bisection.run(&archives, &cache, &mut on_bar(&bar), &|_| (), &tried);
        bar.finish_and_clear();
        let change = change.map_err(|error| complain_of_run(&error))?;
        print(&describe(&change, &cache));
        Ok(SUCCESS)
    }
}

/// An end of the search: a release of one of Debian's lines.
fn end(name: &str) -> Result<LineRelease, KernelError> {
    LineRelease::parse(name).ok_or_else(|| {
        KernelError::usage(
            name,
            "bisect from it",
            "it is no release of Debian's lines",
            "`harness kernels list --available` lists them: debian-6.1=6.1.0-47",
        )
    })
}

fn describe(change: &Transition, cache: &Cache) -> String {
    let mut lines = vec![format!(
        "\nchanged between {} and {}, {} releases tried:",
        change.before.named, change.after.named, change.tried
    )];
    lines.extend(change.lines().iter().map(|line| format!("    {line}")));
    // The newer of the two has the changelog with what came between.
    let mut ends = [&change.before, &change.after];
    ends.sort_by(|one, other| {
        crate::kernels::catalogue::compare_versions(&one.version, &other.version)
    });
    let [older, newer] = ends;
    if older.named.line.name != newer.named.line.name {
        lines.push("they are of two lines of Linux, with thousands of changes between".to_owned());
        return lines.join("\n") + "\n";
    }
    let stored = choice::find(cache, &newer.named).ok().flatten();
    let text = stored
        .and_then(|stored| std::fs::File::open(stored.changelog()).ok())
        .and_then(|packed| changelog::unpack(packed).ok());
    match text {
        None => lines.push("the package has no changelog".to_owned()),
        Some(text) => {
            let items = changelog::items(&text, &older.version);
            lines.push(format!(
                "\nits changelog has {} items about TCP and the network:",
                items.len()
            ));
            lines.extend(
                items
                    .iter()
                    .take(MOST_ITEMS)
                    .map(|item| format!("    {item}")),
            );
            if items.len() > MOST_ITEMS {
                let more = items.len() - MOST_ITEMS;
                lines.push(format!("    and {more} more"));
            }
        }
    }
    lines.join("\n") + "\n"
}
