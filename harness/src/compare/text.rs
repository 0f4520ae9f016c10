//! A comparison for people: in a terminal, and as Markdown for a pull request.

use std::collections::BTreeMap;
use std::fmt;

use advisor_report::escape::{escaped, inert, xml};

use super::{Comparison, FEWEST_RUNS, Judgement, ObservationDifference, Values};
use crate::report::picture;

/// Counters that differ in at least this many scenarios are told first.
const OFTEN: usize = 3;

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(value) => f.write_str(value),
            Self::Range {
                least,
                median,
                greatest,
            } => write!(f, "median {median} ({least} to {greatest})"),
            Self::Texts(texts) => {
                for (index, (text, runs)) in texts.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{text} ({runs})")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant([one, other]) if one == other => write!(f, "in each of {one} runs"),
            Self::Constant([one, other]) => write!(f, "in each of {one} and {other} runs"),
            Self::MannWhitneyU(p) => write!(f, "Mann-Whitney U, p = {p:.1e}"),
            Self::FishersExact(p) => write!(f, "Fisher's exact test, p = {p:.1e}"),
        }
    }
}

/// `TcpExt.TCPDelivered` of `client.TcpExt.TCPDelivered`; `None` for what is no counter.
fn counter(observation: &str) -> Option<&str> {
    let (_, counter) = observation.split_once('.')?;
    let (group, name) = counter.split_once('.')?;
    let is_group = matches!(
        group,
        "Ip" | "IpExt" | "Tcp" | "TcpExt" | "Icmp" | "MPTcpExt"
    );
    (is_group && !name.contains('.')).then_some(counter)
}

impl Comparison {
    /// The answer in one sentence.
    pub fn headline(&self) -> String {
        let [first, second] = &self.sides;
        match self.scenarios.len() {
            _ if self.compared == 0 => format!("no scenario ran on both {first} and {second}"),
            0 => format!(
                "{first} and {second} see the same in {}",
                scenarios(self.compared)
            ),
            some => format!(
                "{first} and {second} differ in {some} of {}",
                scenarios(self.compared)
            ),
        }
    }

    /// Counters that differ in many scenarios, with their number, the most first.
    fn often(&self) -> Vec<(&str, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for scenario in &self.scenarios {
            let names = scenario.observations.iter();
            let mut names: Vec<&str> = names.filter_map(|of| counter(&of.observation)).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                *counts.entry(name).or_default() += 1;
            }
        }
        let mut counts: Vec<_> = counts.into_iter().filter(|(_, n)| *n >= OFTEN).collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }

    /// What was left out, and how chance was kept out; a line each.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (side, ids) in self.sides.iter().zip(&self.only) {
            if !ids.is_empty() {
                notes.push(format!("{} ran only on {side}", scenarios(ids.len())));
            }
        }
        if self.few_runs > 0 {
            notes.push(format!(
                "{} had fewer than {FEWEST_RUNS} runs on a side: only verdicts were compared",
                scenarios(self.few_runs)
            ));
        }
        notes.push(format!(
            "{} observations vary and were tested (Mann-Whitney U, Fisher's exact test; all \
             together by Holm at 1%); durations were left out",
            self.tested
        ));
        notes
    }

    /// As text for a terminal.
    pub fn text(&self) -> String {
        let mut lines = vec![self.headline()];
        let often = self.often();
        if !often.is_empty() {
            lines.push(String::new());
            lines.push("in many scenarios".to_owned());
            let often = often.iter();
            lines.extend(often.map(|(name, count)| format!("    {name} in {count}")));
        }
        for scenario in &self.scenarios {
            lines.push(String::new());
            lines.push(scenario.id.clone());
            if let Some([one, other]) = scenario.verdicts {
                lines.push(format!("    verdict {one} -> {other}"));
            }
            for difference in &scenario.observations {
                lines.push(format!("    {}", difference.line()));
                lines.push(format!("        {}", difference.by));
            }
        }
        lines.push(String::new());
        lines.extend(self.notes());
        lines
            .iter()
            .fold(String::new(), |text, line| text + &inert(line) + "\n")
    }

    /// A run of each side of what differs, before and after.
    fn pictures(&self, lines: &mut Vec<String>) {
        /// More would fill a pull request.
        const MOST: usize = 5;
        let drawn =
            |scenario: &&super::ScenarioDifference| scenario.traces.iter().any(Option::is_some);
        for scenario in self.scenarios.iter().filter(drawn).take(MOST) {
            for (side, trace) in self.sides.iter().zip(&scenario.traces) {
                let Some(trace) = trace else {
                    continue;
                };
                let picture = picture::ascii(trace);
                // A fence longer than any in the text.
                let longest = picture.split(|c| c != '`').map(str::len).max().unwrap_or(0);
                let fence = "`".repeat(longest.max(2) + 1);
                lines.push(format!(
                    "\n<details><summary>{} on {}</summary>\n\n{fence}text\n{picture}{fence}\n\n\
                     </details>",
                    xml(&scenario.id),
                    xml(side)
                ));
            }
        }
    }

    /// As Markdown, with pictures of what differs.
    pub fn markdown(&self) -> String {
        let mut lines = vec![format!("**{}**", self.headline()), String::new()];
        for (name, count) in self.often() {
            lines.push(format!("- `{name}` in {}", scenarios(count)));
        }
        if !self.scenarios.is_empty() {
            let [first, second] = self.sides.each_ref().map(|side| escaped(side));
            lines.push(String::new());
            lines.push(format!("| scenario | what | {first} | {second} | by |"));
            lines.push("| --- | --- | --- | --- | --- |".to_owned());
        }
        for scenario in &self.scenarios {
            let id = escaped(&scenario.id);
            if let Some([one, other]) = scenario.verdicts {
                lines.push(format!("| {id} | verdict | {one} | {other} | |"));
            }
            for difference in &scenario.observations {
                let [one, other] = difference.seen.each_ref();
                lines.push(format!(
                    "| {id} | `{}` | {} | {} | {} |",
                    difference.observation,
                    escaped(&one.to_string()),
                    escaped(&other.to_string()),
                    difference.by
                ));
            }
        }
        lines.push(String::new());
        lines.extend(self.notes().iter().map(|note| format!("- {note}")));
        self.pictures(&mut lines);
        lines.join("\n") + "\n"
    }
}

impl ObservationDifference {
    /// `client.TcpExt.TCPDelivered 1 -> 0`
    pub fn line(&self) -> String {
        let [one, other] = &self.seen;
        format!("{} {one} -> {other}", self.observation)
    }
}

fn scenarios(count: usize) -> String {
    match count {
        1 => "1 scenario".to_owned(),
        _ => format!("{count} scenarios"),
    }
}
