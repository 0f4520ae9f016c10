//! The settings of the plan as a file for /etc/sysctl.d, the reason above each.

use std::fmt::Write as _;
use std::io;

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::escape::inert;

use super::brief::place;
use super::lines::plain;
use crate::plan::{Advice, Change, Recommendation};

/// Columns of a comment.
const WIDTH: usize = 80;

/// Writes what `sysctl -p` and systemd-sysctl accept. What no setting mends is
/// a comment.
pub fn write(out: &mut dyn io::Write, advice: &Advice, facts: &Facts) -> io::Result<()> {
    let mut text = String::new();
    comment(
        &mut text,
        &format!(
            "Settings that `advisor recommend` proposes for a host with Linux {} and {} RAM{}. To \
             try them: sysctl -p FILE. To keep them: /etc/sysctl.d, under a name that sorts after \
             the others.",
            facts.kernel,
            bytes(facts.ram_bytes),
            match place(advice) {
                Some(place) => format!(", as seen {place}"),
                None => String::new(),
            }
        ),
    );
    if let Some(together) = &advice.together {
        comment(&mut text, &format!("Tried together {}.", together.words));
    }
    let (settings, others): (Vec<_>, Vec<_>) = advice
        .recommendations
        .iter()
        .partition(|step| {
            matches!(step.change(), Some(Change::Set { namespaces, .. }) if namespaces.is_empty())
        });
    if settings.is_empty() {
        text.push('\n');
        comment(&mut text, "There is nothing to set.");
    }
    for step in settings {
        let finding = &step.finding;
        text.push('\n');
        comment(&mut text, &title(step));
        comment(&mut text, &finding.why);
        comment(
            &mut text,
            &format!("Sure: {} ({}).", finding.confidence, step.window),
        );
        comment(&mut text, &format!("Cost: {}", finding.cost));
        comment(&mut text, &format!("Risk: {}", finding.risk));
        comment(
            &mut text,
            &format!("Before: {} = {}", finding.setting, finding.current),
        );
        if let Some(proof) = &step.proof {
            comment(&mut text, &format!("Tried: {}", proof.words));
        }
        // What did not help when it was tried is left to the reader, and so is a raise
        // that may feed a leak that nobody saw.
        let mark = if step.has_failed() || step.may_feed_a_leak() {
            "# "
        } else {
            ""
        };
        let _ = writeln!(text, "{mark}{} = {}", finding.setting, finding.proposed);
    }
    if !others.is_empty() {
        text.push('\n');
        comment(&mut text, "No setting of the host mends these:");
        for step in others {
            comment(&mut text, &title(step));
        }
    }
    out.write_all(text.as_bytes())
}

fn title(step: &Recommendation) -> String {
    let finding = &step.finding;
    format!(
        "{}, {} {}: {}",
        finding.severity, step.code, step.name, finding.summary
    )
}

fn comment(text: &mut String, content: &str) {
    text.push_str(&textwrap::fill(&inert(content), plain(WIDTH, "# ", "# ")));
    text.push('\n');
}
