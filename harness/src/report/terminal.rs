//! The output of a run: a line for each scenario as it ends, details where
//! something is not as expected, and the counts last.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use advisor_report::{Link, Machine, Report, ScenarioResult, Seen, Verdict};
use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::matrix::Matrix;
use super::{
    VerdictCounts, describe_expectation, describe_held, describe_seen, kernel_events, printed,
};
use crate::links::CarrierPair;
use crate::output;
use crate::runner::Progress;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const ODD: Style = AnsiColor::Yellow.on_default().bold();
const FAINT: Style = Style::new().dimmed();

/// Text is wrapped at this width, or the terminal's where that is narrower.
const WIDTH: usize = 80;

/// Where the lines of scenarios go.
#[derive(Clone, Copy, Debug, Default)]
pub enum Lines {
    /// Standard output.
    #[default]
    Out,
    /// Standard error, where standard output is for something else.
    Error,
}

/// Prints results as they come and, on a terminal, a progress bar.
pub struct Terminal {
    bar: ProgressBar,
    verbose: bool,
    lines: Lines,
}

impl Terminal {
    /// For that many scenarios; `verbose` shows what was seen of every
    /// expectation, not only of those that did not hold.
    pub fn new(scenarios: usize, verbose: bool, lines: Lines) -> Self {
        let bar = ProgressBar::new(scenarios as u64);
        bar.set_style(
            ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self {
            bar,
            verbose,
            lines,
        }
    }

    /// Shows progress.
    pub fn show(&self, progress: &Progress) {
        match progress {
            Progress::Restored(change, restored) => self.bar.suspend(|| {
                output::say_error(&format!("left by an earlier run: {change}: {restored}"));
            }),
            Progress::Booting(kernel) => self.bar.set_message(format!("booting {kernel}")),
            Progress::Started(scenario) => self.bar.set_message(scenario.id.clone()),
            Progress::Ran(scenario, runs) => {
                self.bar.set_message(format!("{} run {runs}", scenario.id));
            }
            Progress::Ended(result) => {
                self.bar.inc(1);
                self.say(&describe(result, self.verbose));
            }
            Progress::Retrying(scenarios) => {
                self.bar.inc_length(*scenarios as u64);
                self.bar.suspend(|| {
                    output::say_error(&format!("errored, and run once more: {scenarios}"));
                });
            }
        }
    }

    /// Prints a line above what is running.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| match self.lines {
            Lines::Out => output::say(line),
            Lines::Error => output::say_error(line),
        });
    }

    /// Counts a scenario that has ended, without a line.
    pub fn advance(&self) {
        self.bar.inc(1);
    }

    /// Removes the progress bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A scenario's line, and what was not as expected below it. Reasons for skips
/// are printed once for all scenarios by [`reasons`], except with `verbose`.
pub fn describe(scenario: &ScenarioResult, verbose: bool) -> String {
    let (word, style) = match scenario.verdict {
        Verdict::Passed => ("passed ", GOOD),
        Verdict::Failed => ("failed ", BAD),
        Verdict::Errored => ("errored", BAD),
        Verdict::Skipped => ("skipped", ODD),
    };
    let mut text = format!("{style}{word}{style:#} {}", scenario.id);
    if scenario.verdict != Verdict::Skipped {
        let held = scenario
            .expectations
            .iter()
            .filter(|e| e.held == Some(true))
            .count();
        let runs = scenario.runs.len();
        let plural = if runs == 1 { "" } else { "s" };
        let link = match scenario.link {
            Link::None => String::new(),
            link if scenario.runs.iter().all(|run| run.seed_honoured) => format!(", {link}"),
            link => format!(", {link} without its seed"),
        };
        let kernel = match scenario.kernel.machine {
            Machine::Host => String::new(),
            Machine::QemuKvm | Machine::QemuTcg => format!(", Linux {}", scenario.kernel.release),
        };
        let _ = write!(
            text,
            " {FAINT}{held}/{} held in {runs} run{plural}{link}{kernel}{FAINT:#}",
            scenario.expectations.len()
        );
    }
    if scenario.verdict == Verdict::Skipped && !verbose {
        return text;
    }
    if let Some(reason) = &scenario.reason {
        // What did not hold is listed below with what was seen instead.
        if scenario.verdict != Verdict::Failed {
            text.push('\n');
            text.push_str(&wrap(reason, ""));
        }
    }
    if let Some(hint) = &scenario.hint {
        text.push('\n');
        text.push_str(&wrap(hint, "hint: "));
    }
    for line in &scenario.console {
        let _ = write!(text, "\n    {FAINT}|{FAINT:#} {line}");
    }
    if let Some(id) = scenario.see_also.as_ref().filter(|_| verbose) {
        text.push('\n');
        text.push_str(&wrap(id, "see also: "));
    }
    for disturbance in &scenario.discarded_runs {
        text.push('\n');
        text.push_str(&wrap(disturbance, "a run was made again: "));
    }
    if scenario.runs_without_given > 0 {
        let count = scenario.runs_without_given;
        text.push('\n');
        text.push_str(&wrap(
            &format!("{count} without what is given"),
            "runs made again: ",
        ));
    }
    for line in failed_steps(scenario) {
        text.push('\n');
        text.push_str(&wrap(&line, ""));
    }
    for expectation in &scenario.expectations {
        let good = expectation.held == Some(true);
        let style = if good { GOOD } else { BAD };
        let is_known = |seen: &Seen| seen.value != "not observed";
        let mark = match expectation.held {
            None if expectation.seen.iter().any(is_known) => "undecided",
            _ => describe_held(expectation),
        };
        if good && !verbose {
            continue;
        }
        let _ = write!(
            text,
            "\n    {style}{mark}{style:#}: {} {} {}\n{}",
            expectation.observation,
            expectation.quantifier,
            expectation.condition,
            wrap(&describe_expectation(expectation), "      saw "),
        );
    }
    if let Some((run, lines)) = kernel_events(scenario) {
        let _ = write!(text, "\n    the kernel in run {run}:");
        for line in lines {
            let _ = write!(text, "\n    {FAINT}|{FAINT:#} {line}");
        }
    }
    for (actor, lines) in printed(scenario) {
        let _ = write!(text, "\n    {actor} printed:");
        for line in lines {
            let _ = write!(text, "\n    {FAINT}|{FAINT:#} {line}");
        }
    }
    text
}

/// Steps that failed though nothing is expected of them.
fn failed_steps(scenario: &ScenarioResult) -> Vec<String> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (step, error) in scenario.runs.iter().flat_map(|run| &run.failed_steps) {
        *counts.entry((step, error)).or_default() += 1;
    }
    let runs = scenario.runs.len();
    let line = |((step, error), count): ((&str, &str), usize)| {
        let times = match count {
            count if count == runs => String::new(),
            count => format!(" ({count} of {runs})"),
        };
        format!("{step} failed with {error}{times}, and nothing is expected of it")
    };
    counts.into_iter().map(line).collect()
}

/// The columns of a line.
pub fn width() -> usize {
    textwrap::termwidth().min(WIDTH)
}

/// Text below a scenario's line.
fn wrap(text: &str, lead: &str) -> String {
    let width = width();
    let first = format!("    {lead}");
    let rest = " ".repeat(first.len());
    textwrap::fill(
        text,
        textwrap::Options::new(width)
            .initial_indent(&first)
            .subsequent_indent(&rest),
    )
}

/// Results by kernel or carrier, the differences first; `None` where no
/// scenario has more than one result.
pub fn comparison(report: &Report) -> Option<String> {
    let matrix = Matrix::of(&report.scenarios)?;
    let mut text = String::new();
    for difference in &report.differences {
        let what = difference.observation.as_deref().unwrap_or("verdict");
        let _ = write!(text, "{ODD}differs{ODD:#} {} {what}", difference.id);
        for group in &difference.groups {
            let lead = format!("{}: ", group.columns.join(", "));
            text.push('\n');
            text.push_str(&wrap(&describe_seen(&group.seen), &lead));
        }
        text.push('\n');
    }
    let alike = matrix.rows.iter().filter(|row| row.agrees()).count();
    let uneven: Vec<_> = matrix.rows.iter().filter(|row| !row.agrees()).collect();
    if !uneven.is_empty() {
        let mut table = Table::new();
        table
            .load_preset(comfy_table::presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(u16::try_from(width()).unwrap_or(u16::MAX))
            .set_header(std::iter::once("").chain(matrix.columns.iter().map(String::as_str)));
        for row in uneven {
            let verdict = |result: Option<&ScenarioResult>| {
                result.map_or_else(|| "-".to_owned(), |result| result.verdict.to_string())
            };
            table.add_row(
                std::iter::once(row.id.to_owned()).chain(row.cells.iter().copied().map(verdict)),
            );
        }
        let _ = writeln!(text, "{}", table.trim_fmt());
    }
    let columns = matrix.columns.join(", ");
    let other = if matrix.rows.len() > alike {
        "other "
    } else {
        ""
    };
    text.push_str(&textwrap::fill(
        &format!("{alike} {other}scenarios have one verdict on all of {columns}."),
        width(),
    ));
    Some(text)
}

/// How relay and netem compare: the effect of each on packets, and the answer.
pub fn links(comparisons: &[CarrierPair], release: &str, packets: u32) -> String {
    let mut text = format!("Linux {release}, {packets} datagrams over each link\n\n");
    let _ = writeln!(text, "{:<20}{:>10}{:>10}", "", "netem", "relay");
    let percent = |share: f64| format!("{:.2}%", share * 100.0);
    let milliseconds = |us: u32| format!("{:.2} ms", f64::from(us) / 1000.0);
    for seen in comparisons {
        let _ = writeln!(text, "{{ {} }}", seen.link);
        for (what, netem, relay) in &seen.shares {
            if *netem > 0.0 || *relay > 0.0 {
                let (netem, relay) = (percent(*netem), percent(*relay));
                let _ = writeln!(text, "    {what:<16}{netem:>10}{relay:>10}");
            }
        }
        let (netem, relay) = seen.quickest_us;
        let (netem, relay) = (milliseconds(netem), milliseconds(relay));
        let _ = write!(text, "    {:<16}{netem:>10}{relay:>10}", "delay at least");
        if let Some((distance, bound)) = seen.distance {
            let _ = write!(text, "  distance {distance:.3}, bound {bound:.3}");
        }
        text.push('\n');
    }
    let differ = comparisons.iter().filter(|seen| !seen.differs.is_empty());
    for seen in differ.clone() {
        for what in &seen.differs {
            let _ = write!(
                text,
                "\n{BAD}differ{BAD:#} {}\n{}",
                seen.link,
                wrap(what, "")
            );
        }
    }
    let (count, all) = (differ.count(), comparisons.len());
    let _ = match count {
        0 => write!(
            text,
            "\n{GOOD}The relay and netem agree on all {all} links.{GOOD:#}"
        ),
        _ => write!(
            text,
            "\n\n{BAD}They differ on {count} of {all} links.{BAD:#}"
        ),
    };
    text
}

/// Why scenarios were skipped and what to do about it, each once; `None` where
/// none was skipped.
pub fn reasons(scenarios: &[ScenarioResult]) -> Option<String> {
    let mut hints: BTreeMap<Option<&str>, BTreeMap<&str, usize>> = BTreeMap::new();
    let skipped = scenarios.iter().filter(|s| s.verdict == Verdict::Skipped);
    for scenario in skipped {
        let reasons = hints.entry(scenario.hint.as_deref()).or_default();
        let reason = scenario.reason.as_deref().unwrap_or_default();
        *reasons.entry(reason).or_default() += 1;
    }
    if hints.is_empty() {
        return None;
    }
    let mut text = format!("{ODD}skipped{ODD:#} because");
    for (hint, reasons) in hints {
        for (reason, count) in reasons {
            text.push('\n');
            text.push_str(&wrap(&format!("{reason} ({count})"), ""));
        }
        if let Some(hint) = hint {
            text.push('\n');
            text.push_str(&wrap(hint, "hint: "));
        }
    }
    Some(text)
}

/// The last line: how many of each, skipped ones always.
pub fn summary(scenarios: &[ScenarioResult]) -> String {
    let counts = VerdictCounts::of(scenarios);
    let style = if counts.bad() > 0 {
        BAD
    } else if counts.ran() == 0 {
        ODD
    } else {
        GOOD
    };
    format!("{style}{}{style:#}", counts.words())
}
