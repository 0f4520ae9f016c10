//! The documentation of the rules, as their files have it.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;

use super::lines::{FAINT, NARROWEST, STRONG, WIDEST, fill, heading};
use crate::rules::{Documentation, LedTo, ProvenBy, RULES, Rule};

/// Writes all that there is to say about a rule.
pub fn write(out: &mut dyn io::Write, rule: &Rule, width: usize) -> io::Result<()> {
    let width = width.clamp(NARROWEST, WIDEST);
    let mut text = String::new();
    let Documentation {
        detects,
        evidence,
        recommendation,
        cost,
        risk,
        undo,
        references,
    } = rule.documentation;
    let _ = writeln!(text, "{STRONG}{} {}{STRONG:#}", rule.code, rule.name);
    fill(&mut text, detects, "  ", "  ", width);
    for (title, content) in [
        ("What it looks at", evidence),
        ("What it recommends", recommendation),
        ("Cost", cost),
        ("Risk", risk),
        ("Undo", undo),
    ] {
        heading(&mut text, title);
        fill(&mut text, content, "  ", "  ", width);
    }
    let replays: Vec<_> = [("the failure", rule.scenario), ("the cure", rule.cure)]
        .into_iter()
        .filter_map(|(what, scenario)| Some((what, scenario?)))
        .collect();
    if !replays.is_empty() {
        heading(&mut text, "Replay");
        for (what, scenario) in replays {
            let line = format!("{what}: harness run --filter {scenario}");
            fill(&mut text, &line, "  ", "    ", width);
        }
    }
    if !rule.log_lines.is_empty() {
        heading(&mut text, "In logs");
        for line in rule.log_lines {
            let line = line.pieces.join(" ... ");
            fill(&mut text, &line, "  ", "    ", width);
        }
    }
    heading(&mut text, "Proof");
    let proof = match rule.proven_by {
        ProvenBy::Reproduction(harm) => {
            let harm: Vec<&str> = harm.iter().map(|harm| harm.as_str()).collect();
            format!(
                "harness prove tries the advice on a reproduction of the host, where this harm has \
                 to go: {}",
                harm.join(", or ")
            )
        }
        ProvenBy::Nothing(why) => format!("none: {why}"),
    };
    fill(&mut text, &proof, "  ", "    ", width);
    heading(&mut text, "References");
    for reference in references {
        fill(&mut text, reference, "  ", "    ", width);
    }
    out.write_all(text.as_bytes())
}

/// Writes what a line of the kernel's log says, and all about the rule that it leads to.
pub fn write_line(out: &mut dyn io::Write, led_to: LedTo, width: usize) -> io::Result<()> {
    let columns = width.clamp(NARROWEST, WIDEST);
    let (LedTo::Rule(_, line) | LedTo::NoRule(line)) = led_to;
    let mut text = String::new();
    let _ = writeln!(text, "{STRONG}The line of the log{STRONG:#}");
    fill(&mut text, line.means, "  ", "  ", columns);
    match led_to {
        LedTo::Rule(rule, _) => {
            text.push('\n');
            out.write_all(text.as_bytes())?;
            write(out, rule, width)
        }
        LedTo::NoRule(_) => out.write_all(text.as_bytes()),
    }
}

/// Writes a line for each rule.
pub fn write_all(out: &mut dyn io::Write) -> io::Result<()> {
    let mut text = String::new();
    for rule in RULES {
        let _ = writeln!(
            text,
            "{STRONG}{}{STRONG:#}  {:<30}{FAINT}{}{FAINT:#}",
            rule.code,
            rule.name,
            rule.scenario.unwrap_or_default()
        );
    }
    // Nothing ends in blanks.
    for line in text.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A rule for programs.
#[derive(Serialize)]
struct Documented {
    code: &'static str,
    name: &'static str,
    scenario: Option<&'static str>,
    cure: Option<&'static str>,
    proven_by: ProvenBy,
    #[serde(flatten)]
    documentation: Documentation,
}

/// Every rule with its documentation, for programs.
pub fn all() -> impl Serialize {
    RULES
        .iter()
        .map(|rule| Documented {
            code: rule.code,
            name: rule.name,
            scenario: rule.scenario,
            cure: rule.cure,
            proven_by: rule.proven_by,
            documentation: rule.documentation,
        })
        .collect::<Vec<_>>()
}
