//! The first screen of an answer: a line for each finding, for a tired reader and for
//! the channel of an incident.

use std::fmt::Write as _;
use std::io;

use advisor_facts::units::{bytes, seconds};
use advisor_facts::{Facts, OutOfSight};

use super::happened;
use super::lines::{
    FAINT, NARROWEST, NUMBERED_INDENT, STRONG, WIDEST, fill, numbered, severity_style, wrapped,
};
use crate::plan::{Action, Advice, Recommendation};
use crate::rules::{AppliesTo, Severity};

/// So many findings stand one by one; where there are more, the notices are counted, and
/// what is alike.
const ONE_BY_ONE: usize = 8;

/// Of so many findings of one rule the first stand there, and the others are counted.
const ALIKE: usize = 2;

/// So many near misses stand on it.
pub(super) const NEAR_MISSES: usize = 3;

/// So much of what a watch has seen stands on it.
pub(super) const HAPPENED: usize = 4;

/// Writes the first screen alone, in lines of `width` columns.
pub fn write(
    out: &mut dyn io::Write,
    advice: &Advice,
    facts: &Facts,
    width: usize,
) -> io::Result<()> {
    let mut text = String::new();
    let width = width.clamp(NARROWEST, WIDEST);
    screen(&mut text, advice, facts, width);
    out.write_all(text.as_bytes())
}

/// The first screen: the answer, a line for each finding, what was looked at.
pub(super) fn screen(text: &mut String, advice: &Advice, facts: &Facts, width: usize) {
    let mut first = answer(advice, facts);
    if let Some(not_seen) = not_seen(advice, facts) {
        let _ = write!(first, " {not_seen}");
    }
    for line in wrapped(&first, "", "", width) {
        let _ = writeln!(text, "{STRONG}{line}{STRONG:#}");
    }
    let steps = &advice.recommendations;
    let counts_notices = steps.len() > ONE_BY_ONE;
    let (counted, shown): (Vec<_>, Vec<_>) = (1..)
        .zip(steps)
        .partition(|(_, step)| counts_notices && step.finding.severity == Severity::Notice);
    let kind = |step: &Recommendation| (step.code, step.finding.severity);
    for alike in shown.chunk_by(|(_, one), (_, other)| kind(one) == kind(other)) {
        let is_long = steps.len() > ONE_BY_ONE && alike.len() > ALIKE + 1;
        let (told, more) = alike.split_at(if is_long { ALIKE } else { alike.len() });
        for (number, step) in told {
            finding(text, *number, step, width);
        }
        count(text, more);
    }
    count(text, &counted);
    let failed = steps.iter().filter(|step| step.has_failed()).count();
    match failed {
        0 => {}
        1 => fill(
            text,
            "The last one was tried and did not help.",
            "",
            "",
            width,
        ),
        count => {
            let line = format!("The last {count} were tried and did not help.");
            fill(text, &line, "", "", width);
        }
    }
    if let Some(together) = &advice.together {
        let line = format!("Tried together {}.", together.words);
        fill(text, &line, "", "  ", width);
    }
    match advice.accepted.len() {
        0 => {}
        count => {
            let line = format!("{count} accepted (--verbose: which, why and until when).");
            fill(text, &line, "", "", width);
        }
    }
    near_misses(text, advice, width);
    what_happened(text, facts, width);
    for line in wrapped(&seen(advice, facts), "", "", width) {
        let _ = writeln!(text, "{FAINT}{line}{FAINT:#}");
    }
}

/// A line for findings that are only counted.
fn count(text: &mut String, steps: &[(usize, &Recommendation)]) {
    let (Some((first, step)), Some((last, _))) = (steps.first(), steps.last()) else {
        return;
    };
    let severity = step.finding.severity;
    let mut codes: Vec<_> = steps.iter().map(|(_, step)| step.code).collect();
    codes.dedup();
    let style = severity_style(severity);
    let _ = writeln!(
        text,
        "{first:>3}. {style}{severity:<9}{style:#} to {last}: {} more, {}",
        steps.len(),
        codes.join(" ")
    );
}

/// What a watch has seen, the first of it.
fn what_happened(text: &mut String, facts: &Facts, width: usize) {
    let sentences = happened::sentences(facts);
    for sentence in sentences.iter().take(HAPPENED) {
        fill(text, &format!("Seen: {sentence}."), "", "  ", width);
    }
    match sentences.len().saturating_sub(HAPPENED) {
        0 => {}
        more => {
            let _ = writeln!(text, "{more} more kinds of events: see below.");
        }
    }
}

/// What no rule fires on, and whoever looks at the sockets sees.
fn near_misses(text: &mut String, advice: &Advice, width: usize) {
    for near in advice.near_misses.iter().take(NEAR_MISSES) {
        let line = format!("Near miss: {} ({}).", near.what, near.code);
        fill(text, &line, "", "  ", width);
    }
    match advice.near_misses.len().saturating_sub(NEAR_MISSES) {
        0 => {}
        more => {
            let _ = writeln!(
                text,
                "{more} more near misses: see below, or without --brief."
            );
        }
    }
}

/// How many findings of which severity, on which host and when.
pub(super) fn answer(advice: &Advice, facts: &Facts) -> String {
    let severities = [Severity::Critical, Severity::Warning, Severity::Notice];
    let counts: Vec<_> = severities
        .into_iter()
        .filter_map(|severity| {
            let of_it = |step: &&Recommendation| step.finding.severity == severity;
            match advice.recommendations.iter().filter(of_it).count() {
                0 => None,
                1 => Some(format!("1 {severity}")),
                count if severity == Severity::Critical => Some(format!("{count} critical")),
                count => Some(format!("{count} {severity}s")),
            }
        })
        .collect();
    if counts.is_empty() {
        return no_problem(advice, facts).to_owned();
    }
    match place(advice) {
        Some(place) => format!("{} {place}.", counts.join(", ")),
        None => format!("{}.", counts.join(", ")),
    }
}

/// The answer without a recommendation. It speaks only for what was seen.
pub(super) fn no_problem(advice: &Advice, facts: &Facts) -> &'static str {
    if facts.unseen.is_empty() || !advice.not_seen.is_empty() {
        "No problem found."
    } else {
        "No problem found in what was seen."
    }
}

/// What an answer can't do without and was not seen, and what to do; nothing where all
/// was. `Not seen: orphans, tcp_mem (not in the initial network namespace). Run it on the
/// host.`
pub(super) fn not_seen(advice: &Advice, facts: &Facts) -> Option<String> {
    if let Some(origin) = facts.origin.name() {
        let names: Vec<_> = advice.not_seen.iter().map(|what| what.as_str()).collect();
        let names = names.join(", ");
        return (!names.is_empty())
            .then(|| format!("Not seen: {names} ({origin} does not have them)."));
    }
    let parts: Vec<String> = advice
        .not_seen
        .chunk_by(|one, other| one.why() == other.why())
        .map(|alike| {
            let names: Vec<_> = alike.iter().map(|what| what.as_str()).collect();
            format!("{} ({})", names.join(", "), alike[0].why())
        })
        .collect();
    let rights = advice.not_seen.contains(&OutOfSight::OthersSockets);
    let hint = match advice.not_seen.first()? {
        OutOfSight::OthersSockets => {
            "Run it as root (CAP_SYS_PTRACE), outside of any container or sandbox."
        }
        OutOfSight::ManySockets => "Allow it more memory (ulimit -v, memory.max).",
        _ if rights => "Run it on the host as root.",
        _ => "Run it on the host.",
    };
    Some(format!("Not seen: {}. {hint}", parts.join("; ")))
}

/// The host and the time, as far as they are known: `on web1, 2026-11-30 08:00:26 UTC`.
pub(super) fn place(advice: &Advice) -> Option<String> {
    let host = advice.hostname.as_ref();
    match (host, advice.taken_at) {
        (Some(host), Some(time)) => Some(format!("on {host}, {time}")),
        (Some(host), None) => Some(format!("on {host}")),
        (None, Some(time)) => Some(format!("at {time}")),
        (None, None) => None,
    }
}

/// A finding: its severity and what is wrong; who, since when, and what to do.
fn finding(text: &mut String, number: usize, step: &Recommendation, width: usize) {
    let finding = &step.finding;
    numbered(text, number, finding.severity, &finding.summary, width);
    let mut more = step.code.to_owned();
    if !finding.summary.contains(&finding.subject) {
        let _ = write!(more, ", {}", finding.subject);
    }
    let since = step.since();
    let lasted = since.strip_prefix("for ").unwrap_or(&since);
    // What is over says itself since when.
    let is_over = finding.applies_to == AppliesTo::Observe;
    if since != "now" && !is_over && !finding.summary.contains(lasted) {
        let _ = write!(more, ", {since}");
    }
    let _ = write!(more, "; do: {}", what_to_do(step));
    if let Some(acceptance) = &step.acceptance {
        let _ = write!(more, "; {}", acceptance.words());
    }
    fill(text, &more, NUMBERED_INDENT, NUMBERED_INDENT, width);
}

/// The change, in a few words.
fn what_to_do(step: &Recommendation) -> String {
    let finding = &step.finding;
    let (setting, proposed) = (&finding.setting, &finding.proposed);
    let is_option = setting
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let is_named = setting.contains(['.', '/', '(']) && !proposed.contains(setting.as_str());
    // It names what to look at, and no value of the setting.
    if finding.applies_to == AppliesTo::Observe {
        return proposed.clone();
    }
    match step.action {
        Action::Raise | Action::Lower | Action::Set => {
            let first = if step.may_feed_a_leak() {
                "look first who holds it, then perhaps "
            } else {
                ""
            };
            format!("{first}{setting} = {proposed} (now {})", finding.current)
        }
        Action::Mend if is_option => format!("{setting} = {proposed}"),
        Action::Mend if is_named => format!("{setting}: {proposed}"),
        // The proposal names the call.
        Action::Mend => proposed.clone(),
    }
}

/// What was looked at.
fn seen(advice: &Advice, facts: &Facts) -> String {
    let sockets = facts.now.sockets.as_ref().map_or_else(
        || "no sockets (they cannot be seen)".to_owned(),
        |sockets| {
            let source = sockets.source.as_str();
            let states = facts.now.by_state();
            let mut line = match states.values().sum() {
                1 => "1 TCP socket".to_owned(),
                count => format!("{count} TCP sockets"),
            };
            let elsewhere = facts.now.elsewhere.len();
            if elsewhere > 0 {
                let _ = write!(line, " of {} network namespaces", elsewhere + 1);
            }
            let _ = write!(line, " ({source})");
            for (state, count) in states {
                let _ = write!(line, ", {count} {state}");
            }
            line
        },
    );
    if let Some(happened) = &facts.happened {
        let time = happened::time(happened);
        return format!("{time}; at the last look: {sockets}; {}.", machine(facts));
    }
    let look = facts.window().map_or_else(
        || "one look".to_owned(),
        |(window, _)| format!("two looks {} apart", seconds(window)),
    );
    // The answer names the host where it has findings to count.
    let place = place(advice).filter(|_| advice.recommendations.is_empty());
    let place = place.map_or_else(String::new, |place| format!(" {place},"));
    format!("Seen{place} in {look}: {sockets}; {}.", machine(facts))
}

/// The kernel and the memory, as far as they are known: `Linux 6.12.48, 16.0 GiB RAM`.
pub(super) fn machine(facts: &Facts) -> String {
    let kernel = match facts.kernel.as_str() {
        "" => "the kernel is not known".to_owned(),
        kernel => format!("Linux {kernel}"),
    };
    match facts.ram_bytes {
        0 => format!("{kernel}, RAM not known"),
        ram_bytes => format!("{kernel}, {} RAM", bytes(ram_bytes)),
    }
}
