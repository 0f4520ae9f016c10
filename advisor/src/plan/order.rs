//! In which order findings stand, and by what they are told apart.

use std::collections::BTreeMap;

use advisor_facts::units::span;
use advisor_report::Value;

use super::Recommendation;
use crate::rules::AppliesTo;

/// The rules that say that a limit or memory is reached.
const REACHED: &[&str] = &[
    "LB101", "LB110", "LB112", "LB402", "LB407", "LB408", "LB415",
];

/// The rules that show who holds sockets and memory because something is amiss.
const HOLDERS: &[&str] = &[
    "LB202", "LB204", "LB401", "LB403", "LB404", "LB405", "LB406", "LB417", "LB503",
];

/// Puts the greatest harm first. A program that holds what a limit counts stands before
/// the limit, with the harm of it: to mend the program mends both, to raise the limit
/// does not.
pub(super) fn sort(steps: &mut Vec<Recommendation>) {
    // Stable: within a severity the order is that of the codes.
    steps.sort_by_key(|step| (step.finding.severity, step.code));
    let mut at = 0;
    while at < steps.len() {
        let step = &steps[at];
        let reached = HOLDERS
            .contains(&step.code)
            .then(|| {
                let program = program(&step.finding.subject);
                steps[..at]
                    .iter()
                    .position(|other| REACHED.contains(&other.code) && names(other, program))
            })
            .flatten();
        if let Some(reached) = reached {
            let mut holder = steps.remove(at);
            holder.finding.severity = steps[reached].finding.severity.min(holder.finding.severity);
            steps.insert(reached, holder);
        }
        at += 1;
    }
}

/// The process that a subject begins with; the whole where there is none.
fn program(subject: &str) -> &str {
    subject.find(')').map_or(subject, |end| &subject[..=end])
}

/// Whether a finding names a program.
fn names(step: &Recommendation, program: &str) -> bool {
    let finding = &step.finding;
    [&finding.subject, &finding.summary, &finding.why]
        .into_iter()
        .any(|text| text.contains(program))
        || finding
            .evidence
            .iter()
            .any(|evidence| evidence.observation.contains(program))
}

/// Adds the subject to summaries that say the same: of several network namespaces, for
/// example.
pub(super) fn tell_apart(steps: &mut [Recommendation]) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for step in steps.iter() {
        *counts.entry(step.finding.summary.clone()).or_default() += 1;
    }
    for step in steps {
        let finding = &mut step.finding;
        if counts[&finding.summary] > 1 && !finding.summary.contains(&finding.subject) {
            finding.summary = format!("{}, in {}", finding.summary, finding.subject);
        }
    }
}

impl Recommendation {
    /// Since when it is so, for people, as far as the host tells: how long the oldest
    /// of it has lasted, in which window counters moved, or `now`.
    pub fn since(&self) -> String {
        let lasted = self.finding.evidence.iter().find_map(|evidence| {
            let name = evidence.observation.rsplit('.').next()?;
            match &evidence.value {
                Value::Integer(seconds) if name == "longest_s" => {
                    Some(span(u64::try_from(*seconds).ok()?.saturating_mul(1000)))
                }
                Value::Text(text) if matches!(name, "longest" | "longest-idle") => {
                    Some(text.clone())
                }
                _ => None,
            }
        });
        if let Some(lasted) = lasted {
            return format!("for {lasted}");
        }
        match self.window.strip_prefix("counters over ") {
            Some(window) => format!("in {window}"),
            None if self.finding.applies_to == AppliesTo::Observe => self.window.clone(),
            None => "now".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use advisor_facts::Facts;

    use super::*;
    use crate::plan::advise;
    use crate::rules::Severity::{Critical, Notice, Warning};

    /// What is found of a host with a setting that is too low.
    fn found() -> Recommendation {
        let mut facts = Facts::without_host("6.12", 16 << 30, 4096);
        facts.settings.somaxconn = Some(128);
        let advice = advise(&facts, &[]);
        let mut found = advice.recommendations.into_iter();
        found.find(|step| step.code == "LB511").unwrap()
    }

    #[test]
    fn what_is_found_alike_in_two_places_is_told_apart() {
        let here = found();
        let mut there = here.clone();
        there.finding.subject = "network namespace 77".to_owned();
        let mut alone = here.clone();
        alone.finding.summary = "another".to_owned();
        let mut steps = [here, there, alone];
        let summary = steps[0].finding.summary.clone();
        tell_apart(&mut steps);
        let [here, there, alone] = steps.map(|step| step.finding.summary);
        assert_eq!(here, format!("{summary}, in this network namespace"));
        assert_eq!(there, format!("{summary}, in network namespace 77"));
        assert_eq!(alone, "another");
    }

    #[test]
    fn only_who_is_named_by_a_limit_stands_before_it() {
        let step = |code, severity, subject: &str, why: &str| {
            let mut step = found();
            step.code = code;
            step.finding.severity = severity;
            step.finding.subject = subject.to_owned();
            step.finding.why = why.to_owned();
            step
        };
        let mut steps = vec![
            step(
                "LB404",
                Notice,
                "web (7, unit web.service), the client of x",
                "",
            ),
            step("LB404", Warning, "other (8)", ""),
            step(
                "LB402",
                Critical,
                "the whole kernel",
                "web (7, unit web.service) holds",
            ),
            step("LB510", Critical, "a listener", "other (8)"),
        ];
        sort(&mut steps);
        let order: Vec<_> = steps
            .iter()
            .map(|step| (step.code, step.finding.severity, step.finding.subject.len()))
            .collect();
        assert_eq!(
            order,
            [
                ("LB404", Critical, 42),
                ("LB402", Critical, 16),
                ("LB510", Critical, 10),
                ("LB404", Warning, 9),
            ]
        );
    }
}
