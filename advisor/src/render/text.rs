//! The answer for people: what to do first, then what it rests on.

use std::fmt::Write as _;
use std::io;

use advisor_facts::Facts;
use advisor_report::Value;
use advisor_report::escape::inert;

use super::brief;
use super::happened;
use super::lines::{
    FAINT, INDENT, NARROWEST, STRONG, WIDEST, field, fill, heading, plain, severity_style, wrapped,
};
use crate::accepted::Acceptance;
use crate::plan::{Action, Advice, OutcomeWord, Recommendation, RuleOutcome};

/// Writes the answer in lines of `width` columns, 40 to 100. It names what was found,
/// what could not be seen and what to leave alone, and never counts or lists the rules
/// that found nothing, unless `verbose` asks for what each of them saw.
pub fn write(
    out: &mut dyn io::Write,
    advice: &Advice,
    facts: &Facts,
    width: usize,
    verbose: bool,
) -> io::Result<()> {
    let width = width.clamp(NARROWEST, WIDEST);
    let mut text = String::new();
    brief::screen(&mut text, advice, facts, width);
    for (number, recommendation) in (1..).zip(&advice.recommendations) {
        text.push('\n');
        write_recommendation(&mut text, number, recommendation, width);
        if verbose {
            write_commands(&mut text, recommendation, facts, width);
        }
    }
    if verbose {
        write_accepted(&mut text, advice, width);
    }
    let sentences = happened::sentences(facts);
    if sentences.len() > brief::HAPPENED {
        heading(&mut text, "What happened");
        for sentence in &sentences {
            fill(&mut text, sentence, "  ", "    ", width);
        }
    }
    if advice.near_misses.len() > brief::NEAR_MISSES {
        heading(&mut text, "Near misses");
        for near in &advice.near_misses {
            let line = format!("{} ({})", near.what, near.code);
            fill(&mut text, &line, "  ", "    ", width);
        }
    }
    if !advice.leave.is_empty() {
        heading(&mut text, "Leave as it is");
        for leave in &advice.leave {
            let line = format!("{} = {}: {}", leave.setting, leave.current, leave.why);
            fill(&mut text, &line, "  ", "    ", width);
        }
    }
    write_not_evaluated(&mut text, advice, width);
    if !facts.unseen.is_empty() {
        heading(&mut text, "Not seen");
        for unseen in &facts.unseen {
            let line = format!("{}: {}", unseen.what, unseen.why);
            fill(&mut text, &line, "  ", "    ", width);
        }
    }
    write_quiet(&mut text, advice, width, verbose);
    out.write_all(text.as_bytes())
}

/// What the rules that found nothing saw; without `verbose` only that there are some.
fn write_quiet(text: &mut String, advice: &Advice, width: usize, verbose: bool) {
    let mut quiet = advice.with_outcome(OutcomeWord::Quiet).peekable();
    if quiet.peek().is_none() {
        return;
    }
    if !verbose {
        text.push('\n');
        fill(text, QUIET, "", "", width);
        return;
    }
    heading(text, "Quiet");
    for rule in quiet {
        let line = format!("{} {}: {}", rule.code, rule.name, rule.reason);
        fill(text, &line, "  ", "    ", width);
    }
}

/// The line for the rules that found nothing.
const QUIET: &str = "Every other rule found nothing (--verbose: what each of them saw).";

fn write_recommendation(
    text: &mut String,
    number: usize,
    recommendation: &Recommendation,
    width: usize,
) {
    let finding = &recommendation.finding;
    let severity = severity_style(finding.severity);
    let lines = wrapped(&finding.summary, "   ", "   ", width);
    for (index, line) in lines.iter().enumerate() {
        if index == 0 {
            let _ = writeln!(
                text,
                "{severity}{number}.{severity:#} {STRONG}{}{STRONG:#}",
                line.trim_start()
            );
        } else {
            let _ = writeln!(text, "{STRONG}{line}{STRONG:#}");
        }
    }
    let _ = writeln!(
        text,
        "   {severity}{}{severity:#}, {} {}, {}",
        finding.severity, recommendation.code, recommendation.name, finding.applies_to
    );
    if let Some(acceptance) = &recommendation.acceptance {
        field(text, "accepted", &acceptance.words(), width);
    }
    field(text, "on", &finding.subject, width);
    field(text, "setting", &finding.setting, width);
    field(text, "now", &finding.current, width);
    let proposed = match recommendation.action {
        Action::Raise | Action::Lower => {
            format!("{} ({})", finding.proposed, recommendation.action.as_str())
        }
        Action::Set | Action::Mend => finding.proposed.clone(),
    };
    field(text, "proposed", &proposed, width);
    field(text, "why", &finding.why, width);
    field(
        text,
        "sure",
        &format!("{} ({})", finding.confidence, recommendation.window),
        width,
    );
    match &recommendation.proof {
        Some(proof) => field(text, "tried", &proof.words, width),
        None => field(text, "rests on", &recommendation.rests_on, width),
    }
    for also in &recommendation.also {
        let wanted = also
            .overruled
            .as_ref()
            .map_or_else(String::new, |value| format!(" (it asked for {value})"));
        let line = format!("{} {}: {}{wanted}", also.code, also.name, also.summary);
        field(text, "also", &line, width);
    }
    write_evidence(text, recommendation, width);
    field(text, "cost", &finding.cost, width);
    field(text, "risk", &finding.risk, width);
    field(text, "apply", &finding.apply, width);
    field(text, "undo", &finding.undo, width);
    field(text, "verify", &finding.verify, width);
    if let Some(scenario) = recommendation.scenario {
        field(
            text,
            "replay",
            &format!("harness run --filter {scenario}"),
            width,
        );
    }
}

/// The command lines of the processes that a finding names. They may carry passwords.
fn write_commands(text: &mut String, step: &Recommendation, facts: &Facts, width: usize) {
    for process in &facts.processes.all {
        let Some(command) = &process.command else {
            continue;
        };
        if step.finding.subject.contains(&process.to_string()) {
            field(text, "command", command, width);
        }
    }
}

/// What was accepted: which, why and until when.
fn write_accepted(text: &mut String, advice: &Advice, width: usize) {
    if advice.accepted.is_empty() {
        return;
    }
    heading(text, "Accepted");
    for step in &advice.accepted {
        let finding = &step.finding;
        let why = step.acceptance.as_ref().map(Acceptance::words);
        let line = format!(
            "{} {}, {}: {}; {}",
            step.code,
            step.name,
            finding.severity,
            finding.summary,
            why.unwrap_or_default()
        );
        fill(text, &line, "  ", "    ", width);
    }
}

/// What was seen, each source once under what came from it.
fn write_evidence(text: &mut String, recommendation: &Recommendation, width: usize) {
    let evidence = &recommendation.finding.evidence;
    for (index, item) in evidence.iter().enumerate() {
        let label = if index == 0 { "seen" } else { "" };
        let value = match &item.value {
            Value::Integer(_) | Value::Number(_) => {
                format!("{} = {}", item.observation, item.value)
            }
            Value::Text(_) | Value::Lines(_) => format!("{}: {}", item.observation, item.value),
        };
        field(text, label, &value, width);
        if evidence
            .get(index + 1)
            .is_none_or(|next| next.source != item.source)
        {
            let from = format!("from {}", item.source);
            let width = width - INDENT.len();
            for line in textwrap::wrap(&inert(&from), plain(width, "  ", "    ")) {
                let _ = writeln!(text, "{INDENT}{FAINT}{line}{FAINT:#}");
            }
        }
    }
}

/// Which rules could not tell, and why; those with the same reason stand together.
fn write_not_evaluated(text: &mut String, advice: &Advice, width: usize) {
    let mut groups: Vec<(&str, Vec<&RuleOutcome>)> = Vec::new();
    for rule in advice.with_outcome(OutcomeWord::NotEvaluated) {
        match groups.iter_mut().find(|(reason, _)| *reason == rule.reason) {
            Some((_, rules)) => rules.push(rule),
            None => groups.push((&rule.reason, vec![rule])),
        }
    }
    if groups.is_empty() {
        return;
    }
    heading(text, "Not evaluated");
    for (reason, rules) in groups {
        let who = match rules.as_slice() {
            [rule] => format!("{} {}", rule.code, rule.name),
            rules => {
                let codes: Vec<_> = rules.iter().map(|rule| rule.code).collect();
                codes.join(" ")
            }
        };
        fill(text, &format!("{who}: {reason}"), "  ", "    ", width);
    }
}
