//! The answer for many hosts.

use std::fmt::Write as _;
use std::io;

use advisor_report::escape::{escaped, inert};

use super::lines::{
    FAINT, NARROWEST, STRONG, WIDEST, field, fill, heading, numbered, severity_style, wrapped,
};
use crate::fleet::{Fleet, FleetFinding, Held};
use crate::rules::Severity;

/// So many hosts are named where there are more.
const NAMED: usize = 5;
/// So many settings that differ are shown.
const DIFFERENCES: usize = 12;
/// So many values of one are shown.
const VALUES: usize = 4;
/// So many captures that cannot be read are named.
const UNREAD: usize = 20;

/// How much is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Length {
    /// The first screen alone.
    Brief,
    /// All findings, and of each the first hosts.
    Usual,
    /// Every host.
    Verbose,
}

impl Length {
    const fn named(self) -> usize {
        match self {
            Self::Brief | Self::Usual => NAMED,
            Self::Verbose => usize::MAX,
        }
    }
}

/// Writes the answer for people, in lines of `width` columns, 40 to 100.
pub fn write(
    out: &mut dyn io::Write,
    fleet: &Fleet,
    width: usize,
    length: Length,
) -> io::Result<()> {
    let width = width.clamp(NARROWEST, WIDEST);
    let mut text = String::new();
    for line in wrapped(&answer(fleet), "", "", width) {
        let _ = writeln!(text, "{STRONG}{line}{STRONG:#}");
    }
    for (number, finding) in (1..).zip(&fleet.findings) {
        let line = format!(
            "{} of {}: {}",
            finding.hosts.len(),
            hosts(fleet.hosts),
            title(finding)
        );
        numbered(&mut text, number, finding.severity, &line, width);
    }
    if length != Length::Brief {
        for (number, finding) in (1..).zip(&fleet.findings) {
            write_finding(&mut text, number, finding, fleet, width, length);
        }
        write_rest(&mut text, fleet, width, length);
    }
    if !fleet.unread.is_empty() {
        heading(&mut text, "Not read");
        for unread in fleet.unread.iter().take(length.named().max(UNREAD)) {
            let line = format!("{}; hint: {}", unread.error, unread.hint);
            fill(&mut text, &line, "  ", "    ", width);
        }
        if let Some(more @ 1..) = fleet.unread.len().checked_sub(length.named().max(UNREAD)) {
            fill(&mut text, &format!("and {more} more"), "  ", "    ", width);
        }
    }
    out.write_all(text.as_bytes())
}

fn hosts(count: usize) -> String {
    match count {
        1 => "1 host".to_owned(),
        count => format!("{count} hosts"),
    }
}

/// How many findings of which severity on how many hosts, and what was not read.
fn answer(fleet: &Fleet) -> String {
    let severities = [Severity::Critical, Severity::Warning, Severity::Notice];
    let counts: Vec<_> = severities
        .into_iter()
        .filter_map(|severity| {
            let of_it = fleet.findings.iter().filter(|one| one.severity == severity);
            match of_it.count() {
                0 => None,
                count if count == 1 || severity == Severity::Critical => {
                    Some(format!("{count} {severity}"))
                }
                count => Some(format!("{count} {severity}s")),
            }
        })
        .collect();
    let mut answer = if counts.is_empty() {
        format!("No problem found on {}.", hosts(fleet.hosts))
    } else {
        format!(
            "{} on {} of {}.",
            counts.join(", "),
            fleet.hosts - fleet.without_finding.len(),
            hosts(fleet.hosts)
        )
    };
    match fleet.unread.len() {
        0 => {}
        1 => answer.push_str(" 1 capture could not be read."),
        count => {
            let _ = write!(answer, " {count} captures could not be read.");
        }
    }
    for not_seen in &fleet.not_seen {
        let _ = write!(
            answer,
            " Not seen on {}: {}.",
            hosts(not_seen.hosts.len()),
            not_seen.what.as_str()
        );
    }
    answer
}

/// What is wrong, where all say the same; else what is wrong on the first of them.
fn title(finding: &FleetFinding) -> String {
    let Some(first) = finding.hosts.first() else {
        return String::new();
    };
    let same = finding.hosts.iter().all(|on| on.summary == first.summary);
    if same {
        format!("{} ({})", first.summary, finding.code)
    } else {
        format!("{} on {} ({})", first.summary, first.host, finding.code)
    }
}

/// Names, the first of them where there are many.
fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>, most: usize) -> String {
    let count = names.len();
    let shown: Vec<&str> = names.take(most).collect();
    match count.checked_sub(most) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

fn write_finding(
    text: &mut String,
    number: usize,
    finding: &FleetFinding,
    fleet: &Fleet,
    width: usize,
    length: Length,
) {
    let style = severity_style(finding.severity);
    let _ = writeln!(
        text,
        "\n{style}{number}.{style:#} {STRONG}{} {}{STRONG:#}, {style}{}{style:#}, on {} of {}",
        finding.code,
        finding.name,
        finding.severity,
        finding.hosts.len(),
        hosts(fleet.hosts)
    );
    field(text, "on", &finding.subject, width);
    field(text, "setting", &finding.setting, width);
    let most = length.named();
    for (index, on) in finding.hosts.iter().take(most).enumerate() {
        let label = if index == 0 { "hosts" } else { "" };
        let line = format!(
            "{}: {}; now {}, proposed {}",
            on.host, on.summary, on.current, on.proposed
        );
        field(text, label, &line, width);
    }
    if let Some(more @ 1..) = finding.hosts.len().checked_sub(most) {
        let line = format!("and {} more (--verbose names them)", hosts(more));
        field(text, "", &line, width);
    }
    if !finding.sets_apart.is_empty() {
        let apart: Vec<_> = finding
            .sets_apart
            .iter()
            .map(|one| format!("{} = {}", one.name, one.value))
            .collect();
        let line = format!(
            "{}; few or none of the other hosts have it",
            apart.join(", ")
        );
        field(text, "theirs", &line, width);
    }
    let advice = format!("advisor explain {}", finding.code);
    field(text, "more", &advice, width);
}

fn value(held: &Held, most: usize) -> String {
    let names = named(held.hosts.iter().map(String::as_str), most);
    format!("{} on {} ({names})", held.value, held.hosts.len())
}

fn write_rest(text: &mut String, fleet: &Fleet, width: usize, length: Length) {
    let most = length.named();
    if !fleet.differences.is_empty() {
        heading(text, "What differs, the rarest value first");
        let shown = match length {
            Length::Verbose => usize::MAX,
            _ => DIFFERENCES,
        };
        for difference in fleet.differences.iter().take(shown) {
            let values: Vec<_> = difference
                .values
                .iter()
                .take(VALUES.max(most))
                .map(|held| value(held, most.min(NAMED)))
                .collect();
            let more = match difference.values.len().checked_sub(VALUES.max(most)) {
                Some(more @ 1..) => format!("; and {more} more values"),
                _ => String::new(),
            };
            let line = format!("{}: {}{more}", difference.name, values.join("; "));
            fill(text, &line, "  ", "    ", width);
        }
        if let Some(more @ 1..) = fleet.differences.len().checked_sub(shown) {
            let line = format!("and {more} more settings (--verbose shows them)");
            let _ = writeln!(text, "  {FAINT}{line}{FAINT:#}");
        }
    }
    if !fleet.without_finding.is_empty() {
        heading(text, "Nothing found");
        let names = named(fleet.without_finding.iter().map(String::as_str), most);
        fill(text, &names, "  ", "    ", width);
    }
    if !fleet.other_schemas.is_empty() {
        heading(text, "Of another schema, judged as far as it is understood");
        let labels: Vec<String> = fleet
            .other_schemas
            .iter()
            .map(|other| format!("{} (schema {})", other.host, other.schema))
            .collect();
        let names = named(labels.iter().map(String::as_str), most);
        fill(text, &names, "  ", "    ", width);
    }
}

/// Writes the answer for a ticket or a wiki.
pub fn markdown(out: &mut dyn io::Write, fleet: &Fleet, length: Length) -> io::Result<()> {
    let most = length.named();
    let mut text = String::new();
    let _ = writeln!(text, "# {}", escaped(answer(fleet).trim_end_matches('.')));
    for (number, finding) in (1..).zip(&fleet.findings) {
        let _ = writeln!(
            text,
            "\n## {number}. {}\n\n{}, {} {}, on {} of {}. Setting: {}. On: {}.\n\n| host | now | proposed | what is wrong |\n| --- | --- | --- | --- |",
            escaped(&title(finding)),
            finding.severity,
            finding.code,
            finding.name,
            finding.hosts.len(),
            hosts(fleet.hosts),
            escaped(&finding.setting),
            escaped(&finding.subject),
        );
        for on in finding.hosts.iter().take(most) {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                escaped(&on.host),
                escaped(&on.current),
                escaped(&on.proposed),
                escaped(&on.summary)
            );
        }
        if let Some(more @ 1..) = finding.hosts.len().checked_sub(most) {
            let _ = writeln!(text, "\nAnd {} more.", hosts(more));
        }
        for one in &finding.sets_apart {
            let _ = writeln!(
                text,
                "\nThese hosts have {} = {}; few or none of the others do.",
                escaped(&one.name),
                escaped(&one.value)
            );
        }
    }
    if !fleet.differences.is_empty() {
        text.push_str("\n## What differs, the rarest value first\n\n| | value | hosts |\n| --- | --- | --- |\n");
        for difference in &fleet.differences {
            for held in difference.values.iter().take(VALUES.max(most)) {
                let names = named(held.hosts.iter().map(String::as_str), most.min(NAMED));
                let _ = writeln!(
                    text,
                    "| {} | {} | {}: {} |",
                    escaped(&difference.name),
                    escaped(&held.value),
                    held.hosts.len(),
                    escaped(&names)
                );
            }
        }
    }
    if !fleet.without_finding.is_empty() {
        let names = named(fleet.without_finding.iter().map(String::as_str), most);
        let _ = writeln!(text, "\n## Nothing found\n\n{}", escaped(&names));
    }
    if !fleet.unread.is_empty() {
        text.push_str("\n## Not read\n\n");
        for unread in fleet.unread.iter().take(most.max(UNREAD)) {
            let _ = writeln!(
                text,
                "- {}; hint: {}",
                escaped(&unread.error),
                escaped(unread.hint)
            );
        }
    }
    out.write_all(text.as_bytes())
}

/// The captures that could not be read, for standard error.
pub fn errors(fleet: &Fleet) -> String {
    let mut text = String::new();
    for unread in fleet.unread.iter().take(UNREAD) {
        let _ = writeln!(
            text,
            "error: {}\nhint: {}",
            inert(&unread.error),
            unread.hint
        );
    }
    text
}
