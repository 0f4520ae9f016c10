//! What the reports of the harness say about a rule: was its failure replayed, and its cure?

use std::path::PathBuf;

use advisor_facts::Facts;
use advisor_facts::release::kernel_line;
use advisor_report::{Report, ScenarioResult, Value, Verdict};

use super::{Evidence, Rule};

/// A report of the harness, with its file.
#[derive(Clone, Debug)]
pub struct NamedReport {
    /// The path of the file, as given on the command line.
    pub path: PathBuf,
    /// The report.
    pub report: Report,
}

/// The evidence that reports hold for a rule: of its failure and of its cure.
pub(crate) fn replayed(rule: &Rule, facts: &Facts, reports: &[NamedReport]) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    for (what, scenario) in [("failure", rule.scenario), ("cure", rule.cure)] {
        let Some(wanted) = scenario else { continue };
        for NamedReport { path, report } in reports {
            for scenario in report.scenarios.iter().filter(|scenario| {
                // A scenario of a matrix has its values behind the name.
                scenario
                    .id
                    .strip_prefix(wanted)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
            }) {
                let source = format!(
                    "report {}: {} on kernel {} ({})",
                    path.display(),
                    scenario.id,
                    scenario.kernel.release,
                    scenario.link
                );
                evidence.push(Evidence::new(
                    format!("{what}.verdict"),
                    Value::Text(replay_verdict(scenario, &facts.kernel)),
                    &source,
                ));
                if scenario.verdict == Verdict::Passed {
                    evidence.extend(scenario.expectations.iter().map(|expectation| {
                        let seen: Vec<_> = expectation
                            .seen
                            .iter()
                            .map(|seen| match seen.runs {
                                1 => format!("{} (1 run)", seen.value),
                                runs => format!("{} ({runs} runs)", seen.value),
                            })
                            .collect();
                        let value = if seen.is_empty() {
                            format!("{} {}", expectation.quantifier, expectation.condition)
                        } else {
                            seen.join(", ")
                        };
                        Evidence::new(&expectation.observation, Value::Text(value), &source)
                    }));
                }
            }
        }
    }
    evidence
}

/// The verdict of a scenario, with what it says about a host with kernel `release`.
fn replay_verdict(scenario: &ScenarioResult, release: &str) -> String {
    let verdict = scenario.verdict;
    if verdict != Verdict::Passed {
        let reason = scenario
            .reason
            .as_deref()
            .map_or_else(String::new, |reason| format!(" ({reason})"));
        return format!("{verdict}{reason}: no evidence");
    }
    let runs = match scenario.runs.len() {
        1 => "1 run".to_owned(),
        runs => format!("{runs} runs"),
    };
    let line = kernel_line(release);
    let other = kernel_line(&scenario.kernel.release);
    if line == other {
        format!("{verdict} in {runs}, on the kernel line of this host ({line})")
    } else {
        format!("{verdict} in {runs}, on kernel line {other} and not this host's {line}")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::advise;
    use crate::rules::testing::host;

    #[test]
    fn reports_add_what_was_replayed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports/report.json");
        let report = advisor_report::read(&path).unwrap();
        let reports = [NamedReport {
            path: "r.json".into(),
            report,
        }];
        let lines = |host_name: &str| -> Vec<String> {
            advise(&host(host_name), &reports).recommendations[0]
                .finding
                .evidence
                .iter()
                .filter(|evidence| evidence.source.starts_with("report "))
                .map(|evidence| {
                    format!(
                        "{} = {}; {}",
                        evidence.observation, evidence.value, evidence.source
                    )
                })
                .collect()
        };
        assert_eq!(
            lines("orphan-limit-near"),
            [
                "failure.verdict = passed in 2 runs, on the kernel line of this host (6.12); \
                 report r.json: orphans/flood/over-the-limit on kernel 6.12.41-cloud-amd64 (none)",
                "client.TcpExt.TCPAbortOnMemory = 17 (1 run), 18 (1 run); \
                 report r.json: orphans/flood/over-the-limit on kernel 6.12.41-cloud-amd64 (none)",
            ]
        );
        assert_eq!(
            lines("close-with-unread-data"),
            [
                "failure.verdict = passed in 1 run, on kernel line 6.18 and not this host's 6.12; \
                 report r.json: close/unread-data/plain-close[family=ipv4] on kernel 6.18.2 (relay)",
                "sender.close.error = always none; \
                 report r.json: close/unread-data/plain-close[family=ipv4] on kernel 6.18.2 (relay)",
            ]
        );
        assert_eq!(
            lines("port-held-without-listener"),
            [
                "failure.verdict = failed (server.bind.error: always EADDRINUSE did not hold): no \
                 evidence; report r.json: bind/time-wait/new-only on kernel 6.12.41\u{1b}[31m (none)",
                "cure.verdict = passed in 3 runs, on the kernel line of this host (6.12); \
                 report r.json: bind/time-wait/both on kernel 6.12.41 (none)",
                "server.bind.error = none (3 runs); \
                 report r.json: bind/time-wait/both on kernel 6.12.41 (none)",
            ]
        );
        assert_eq!(lines("tcp-mem-near"), [""; 0]);
    }
}
