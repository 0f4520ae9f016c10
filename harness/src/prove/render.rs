//! What a proof says: on the terminal, and as Markdown.

use std::fmt::Write as _;

use advisor_report::escape::escaped;
use advisor_report::escape::inert;
use advisor_report::proof::{Compared, Comparison, Load, Proof, Side, Trial, TrialVerdict, Whole};
use anstyle::{AnsiColor, Style};

use super::attempt::Attempt;
use super::kernel::Chosen;
use crate::report::describe_seen;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const ODD: Style = AnsiColor::Yellow.on_default().bold();
const STRONG: Style = Style::new().bold();

/// Columns of the verdict.
const VERDICT: usize = 21;
/// Columns of each of the two counts.
const COUNT: usize = 10;
/// Where what a trial saw begins.
const INDENT: &str = "    ";

/// The answer: what is proven, and on which kernel.
pub fn answer(proof: &Proof) -> String {
    let all = proof.trials.len();
    let count = |verdict| proof.trials.iter().filter(|t| t.verdict == verdict).count();
    let proven = count(TrialVerdict::Proven);
    let first = match (proven, all) {
        (_, 0) => return "Nothing to prove: the advice has no recommendation.".to_owned(),
        (1, 1) => "The recommendation is proven".to_owned(),
        (0, 1) => "The recommendation is not proven".to_owned(),
        (proven, all) if proven == all => format!("All {all} recommendations are proven"),
        (0, all) => format!("None of {all} recommendations is proven"),
        (1, all) => format!("1 of {all} recommendations is proven"),
        (proven, all) => format!("{proven} of {all} recommendations are proven"),
    };
    let first = match together(proof) {
        Some(whole) if proven == all && whole.trial.verdict != TrialVerdict::Proven => {
            format!(
                "{first} one by one, and not together ({})",
                whole.trial.verdict
            )
        }
        _ => first,
    };
    match &proof.kernel {
        Some(kernel) => format!("{first}, on Linux {}, {}.", kernel.release, proof.choice),
        None => format!("{first}."),
    }
}

/// The proof for people, in lines of `width` columns.
pub fn text(proof: &Proof, width: usize) -> String {
    let mut text = format!(
        "{STRONG}{}{STRONG:#}\n",
        textwrap::fill(&answer(proof), width)
    );
    if proof.trials.is_empty() {
        return text;
    }
    if proof.trials.iter().any(|trial| trial.before.is_some()) {
        let what = width.saturating_sub(VERDICT + 2 * COUNT);
        let _ = write!(
            text,
            "\n{:<VERDICT$}{:<what$}{:>COUNT$}{:>COUNT$}",
            "", "failed in runs", "before", "after"
        );
    }
    for trial in &proof.trials {
        let claim = &trial.claim;
        let name = format!("{} {}", claim.code, claim.name);
        let change = format!("{}: {} -> {}", claim.setting, claim.current, claim.proposed);
        row(&mut text, trial, &name, vec![change], width);
    }
    if let Some(whole) = together(proof) {
        row(
            &mut text,
            &whole.trial,
            "all together",
            asked_again(whole),
            width,
        );
    }
    text.push('\n');
    text
}

/// The plan as a whole, where it is more than one recommendation.
pub(super) fn together(proof: &Proof) -> Option<&Whole> {
    proof.whole.as_ref().filter(|whole| whole.claims.len() > 1)
}

/// What was tried together, and what the advisor says after it.
fn asked_again(whole: &Whole) -> Vec<String> {
    let codes = whole.claims.iter().map(|claim| claim.code.as_str());
    let codes: Vec<&str> = codes.collect();
    let mut lines = vec![format!("{} at once", codes.join(", "))];
    if whole.trial.after.is_some() {
        lines.push(match whole.fire_after.as_slice() {
            [] => "the advisor, asked again, has nothing to say".to_owned(),
            codes => format!("the advisor, asked again, says {}", codes.join(", ")),
        });
    }
    lines
}

/// The line of a trial, and what it saw below it.
fn row(text: &mut String, trial: &Trial, name: &str, about: Vec<String>, width: usize) {
    let style = match trial.verdict {
        TrialVerdict::Proven => GOOD,
        TrialVerdict::NoDifference | TrialVerdict::Harmful => BAD,
        TrialVerdict::NotReproduced | TrialVerdict::Postponed | TrialVerdict::CannotBeTried => ODD,
    };
    let what = width.saturating_sub(VERDICT + 2 * COUNT);
    let mut line = format!(
        "{style}{:<VERDICT$}{style:#}{:<what$}",
        trial.verdict,
        inert(name)
    );
    for side in [&trial.before, &trial.after].into_iter().flatten() {
        let _ = write!(line, "{:>COUNT$}", count(side));
    }
    let _ = write!(text, "\n{}", line.trim_end());
    let options = textwrap::Options::new(width)
        .initial_indent(INDENT)
        .subsequent_indent("      ");
    for line in about.into_iter().chain(details(trial)) {
        let _ = write!(text, "\n{}", textwrap::fill(&inert(&line), &options));
    }
}

fn count(side: &Side) -> String {
    format!("{} of {}", side.failed, side.runs)
}

/// What a trial saw.
fn details(trial: &Trial) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(before), Some(after)) = (&trial.before, &trial.after) {
        lines.push(format!(
            "{}: saw {} before, {} after",
            trial.failure,
            describe_seen(&before.seen),
            describe_seen(&after.seen)
        ));
    }
    for row in &trial.seen {
        if row.verdict != Comparison::Unchanged || row.what.starts_with("memory") {
            lines.push(describe_row(row));
        }
    }
    let load: Vec<String> = trial.workload.iter().map(describe_load).collect();
    if !load.is_empty() {
        lines.push(format!("with {}", load.join(", ")));
    }
    lines.extend(trial.reason.clone());
    lines.extend(trial.notes.iter().cloned());
    lines
}

/// `better: a transfer to a healthy peer: 9 well, 120 ms each, 3 of 9 fail before`.
fn describe_row(row: &Compared) -> String {
    let mut text = format!("{}: {} -> {}", row.what, row.before, row.after);
    if row.verdict != Comparison::Unchanged {
        text = format!("{}: {text}", row.verdict);
    }
    if let Some(well) = &row.well {
        let _ = write!(text, " ({well} without those who do the harm)");
    }
    text
}

/// What a change does to a host, in lines of `width` columns.
pub fn attempt(attempt: &Attempt, kernel: &Chosen, width: usize) -> String {
    let answer = match (attempt.unlike.is_empty(), attempt.helps()) {
        (false, _) => "Nothing is claimed: the guest is not as the host",
        (true, true) => "It helps: something gets better and nothing worse",
        (true, false) => "It does not help",
    };
    let answer = format!(
        "{answer}, on Linux {}, {}.",
        kernel.stored.release, kernel.why
    );
    let mut text = format!("{STRONG}{}{STRONG:#}\n", textwrap::fill(&answer, width));
    let options = textwrap::Options::new(width).subsequent_indent("           ");
    for wanted in [Comparison::Better, Comparison::Worse, Comparison::Unchanged] {
        let style = match wanted {
            Comparison::Better => GOOD,
            Comparison::Worse => BAD,
            Comparison::Unchanged => Style::new(),
        };
        for row in attempt.seen.iter().filter(|row| row.verdict == wanted) {
            let mut line = format!("{:<11}{}: {}", wanted.as_str(), row.what, row.before);
            if row.before != row.after {
                let _ = write!(line, " -> {}", row.after);
            }
            let filled = textwrap::fill(&inert(&line), &options);
            let rest = filled.strip_prefix(wanted.as_str()).unwrap_or_default();
            let _ = write!(text, "\n{style}{wanted}{style:#}{rest}");
        }
    }
    text.push('\n');
    let mut notes = vec![format!("Tried on a reproduction: {}.", attempt.host)];
    notes.extend(
        attempt
            .unlike
            .iter()
            .map(|unlike| format!("Not as the host: {unlike}.")),
    );
    notes.extend(attempt.notes.iter().map(|note| format!("Note: {note}.")));
    for note in notes {
        let _ = write!(text, "\n{}", textwrap::fill(&inert(&note), width));
    }
    text.push('\n');
    text
}

/// `seen 4410 as 60 (kernel.sockstat.TCP.orphan)`.
fn describe_load(load: &Load) -> String {
    let mut text = format!("{} {}", load.name, load.host);
    if load.tried != load.host {
        let _ = write!(text, " as {}", load.tried);
    }
    text
}

/// The proof as Markdown.
pub fn markdown(proof: &Proof) -> String {
    let mut text = format!("# {}\n\n", escaped(&answer(proof)));
    let _ = writeln!(
        text,
        "The advice is for a host with {}. lastbyte harness {}.\n\n{}",
        escaped(&proof.host.to_string()),
        proof.harness,
        proof.rule
    );
    if proof.trials.is_empty() {
        return text;
    }
    text.push_str(
        "\n| verdict | recommendation | setting | now | proposed | failed before | failed after |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let side = |side: &Option<Side>| side.as_ref().map_or_else(|| "-".to_owned(), count);
    for trial in &proof.trials {
        let claim = &trial.claim;
        let _ = writeln!(
            text,
            "| {} | {} {} | {} | {} | {} | {} | {} |",
            trial.verdict,
            escaped(&claim.code),
            escaped(&claim.name),
            escaped(&claim.setting),
            escaped(&claim.current),
            escaped(&claim.proposed),
            side(&trial.before),
            side(&trial.after)
        );
    }
    for trial in &proof.trials {
        let name = format!("{} {}", trial.claim.code, trial.claim.name);
        section(&mut text, trial, &name, Vec::new());
    }
    if let Some(whole) = together(proof) {
        section(&mut text, &whole.trial, "All together", asked_again(whole));
    }
    text
}

/// A trial, with what it saw.
fn section(text: &mut String, trial: &Trial, name: &str, about: Vec<String>) {
    let _ = write!(text, "\n## {}: {}\n\n", escaped(name), trial.verdict);
    if !trial.explains.is_empty() {
        let _ = write!(text, "{}\n\n", escaped(&trial.explains));
    }
    for line in about.into_iter().chain(details(trial)) {
        let _ = writeln!(text, "- {}", escaped(&line));
    }
    if let Some(chance) = trial.chance {
        let _ = writeln!(text, "- by chance alone: {chance:.2e}");
    }
}
