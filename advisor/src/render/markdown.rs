//! The answer for a ticket or a wiki.

use std::fmt::Write as _;
use std::io;

use advisor_facts::Facts;
use advisor_report::escape::{escaped, inert};

use super::brief::{answer, machine, not_seen, place};
use crate::accepted::Acceptance;
use crate::plan::{Advice, OutcomeWord, Recommendation};

/// Writes the answer as Markdown.
pub fn write(out: &mut dyn io::Write, advice: &Advice, facts: &Facts) -> io::Result<()> {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# {}\n\n{}{}.",
        escaped(answer(advice, facts).trim_end_matches('.')),
        match place(advice) {
            Some(place) if advice.recommendations.is_empty() => {
                format!("Looked at {}. ", escaped(&place))
            }
            _ => String::new(),
        },
        escaped(&machine(facts))
    );
    if let Some(not_seen) = not_seen(advice, facts) {
        let _ = writeln!(text, "\n**{not_seen}**");
    }
    if let Some(together) = &advice.together {
        let _ = writeln!(text, "\nTried together {}.", escaped(&together.words));
    }
    for (number, step) in (1..).zip(&advice.recommendations) {
        write_step(&mut text, number, step);
    }
    if !advice.near_misses.is_empty() {
        text.push_str("\n## Near misses\n\n");
        for near in &advice.near_misses {
            let _ = writeln!(text, "- {} ({})", escaped(&near.what), near.code);
        }
    }
    if !advice.accepted.is_empty() {
        text.push_str("\n## Accepted\n\n");
        for step in &advice.accepted {
            let why = step.acceptance.as_ref().map(Acceptance::words);
            let _ = writeln!(
                text,
                "- {} {}, {}: {}; {}",
                step.code,
                step.name,
                step.finding.severity,
                escaped(&step.finding.summary),
                escaped(&why.unwrap_or_default())
            );
        }
    }
    if !advice.leave.is_empty() {
        text.push_str("\n## Leave as it is\n\n");
        for leave in &advice.leave {
            let _ = writeln!(
                text,
                "- {} = {}: {}",
                code(leave.setting),
                code(&leave.current),
                escaped(&leave.why)
            );
        }
    }
    let not_evaluated: Vec<_> = advice.with_outcome(OutcomeWord::NotEvaluated).collect();
    if !not_evaluated.is_empty() {
        text.push_str("\n## Not evaluated\n\n");
        for rule in not_evaluated {
            let _ = writeln!(
                text,
                "- {} {}: {}",
                rule.code,
                rule.name,
                escaped(&rule.reason)
            );
        }
    }
    if !facts.unseen.is_empty() {
        text.push_str("\n## Not seen\n\n");
        for unseen in &facts.unseen {
            let _ = writeln!(
                text,
                "- {}: {}",
                escaped(&unseen.what),
                escaped(&unseen.why)
            );
        }
    }
    if advice.with_outcome(OutcomeWord::Quiet).next().is_some() {
        text.push_str("\nEvery other rule found nothing.\n");
    }
    out.write_all(text.as_bytes())
}

fn write_step(text: &mut String, number: usize, step: &Recommendation) {
    let finding = &step.finding;
    let _ = writeln!(
        text,
        "\n## {number}. {}\n\n{}, {} {}, {}. {}\n\n| | |\n| --- | --- |",
        escaped(&finding.summary),
        finding.severity,
        step.code,
        step.name,
        finding.applies_to,
        escaped(&finding.why)
    );
    let mut row = |label: &str, content: String| {
        let _ = writeln!(text, "| {label} | {content} |");
    };
    row("on", escaped(&finding.subject));
    row("setting", code(&finding.setting));
    row("now", code(&finding.current));
    row("proposed", code(&finding.proposed));
    row(
        "sure",
        escaped(&format!("{} ({})", finding.confidence, step.window)),
    );
    match &step.proof {
        Some(proof) => row("tried", escaped(&proof.words)),
        None => row("rests on", escaped(&step.rests_on)),
    }
    for also in &step.also {
        row(
            "also",
            escaped(&format!("{} {}: {}", also.code, also.name, also.summary)),
        );
    }
    for evidence in &finding.evidence {
        row(
            "seen",
            format!(
                "{} = {} ({})",
                code(&evidence.observation),
                code(&evidence.value.to_string()),
                escaped(&evidence.source)
            ),
        );
    }
    row("cost", escaped(&finding.cost));
    row("risk", escaped(&finding.risk));
    row("apply", escaped(&finding.apply));
    row("undo", escaped(&finding.undo));
    row("verify", escaped(&finding.verify));
    if let Some(scenario) = step.scenario {
        row("replay", code(&format!("harness run --filter {scenario}")));
    }
}

/// A text in a code span of a table: it can have neither a backtick nor a bar.
fn code(text: &str) -> String {
    format!("`{}`", inert(text).replace('`', "'").replace('|', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_span_is_not_ended() {
        assert_eq!(code("a`b|c"), "`a'b/c`");
    }
}
