//! The report as JUnit XML, for CI systems: a test suite for each file of the
//! suite, a test case for each scenario.

use std::io;
use std::time::Duration;

use advisor_report::{Report, ScenarioResult, Verdict};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::matrix::Matrix;
use super::{Format, describe_expectation, printed};

/// `junit.xml`.
pub(super) struct Junit;

impl Format for Junit {
    fn file(&self) -> &'static str {
        "junit.xml"
    }

    fn render(&self, report: &Report) -> io::Result<String> {
        let mut junit = quick_junit::Report::new("lastbyte");
        let mut suites: Vec<TestSuite> = Vec::new();
        let is_matrix = Matrix::of(&report.scenarios).is_some();
        for scenario in &report.scenarios {
            let (file, name) = scenario.id.rsplit_once('/').unwrap_or(("", &scenario.id));
            let case = if is_matrix {
                let name = format!("{name} on {} ({})", scenario.kernel.release, scenario.link);
                case(scenario, file, &name)
            } else {
                case(scenario, file, name)
            };
            let known = suites.iter().position(|suite| suite.name.as_str() == file);
            let index = known.unwrap_or_else(|| {
                suites.push(TestSuite::new(file));
                suites.len() - 1
            });
            suites[index].add_test_case(case);
        }
        junit.add_test_suites(suites);
        junit.to_string().map_err(io::Error::other)
    }
}

fn case(scenario: &ScenarioResult, file: &str, name: &str) -> TestCase {
    let reason = scenario.reason.clone().unwrap_or_default();
    let status = match scenario.verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason);
            status
        }
        Verdict::Failed => non_success(NonSuccessKind::Failure, scenario, reason),
        Verdict::Errored => non_success(NonSuccessKind::Error, scenario, reason),
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(file);
    case.set_time(Duration::from_millis(
        scenario.runs.iter().map(|run| run.duration_ms).sum(),
    ));
    case
}

fn non_success(kind: NonSuccessKind, scenario: &ScenarioResult, reason: String) -> TestCaseStatus {
    let seen: Vec<String> = scenario
        .expectations
        .iter()
        .filter(|expectation| expectation.held != Some(true))
        .map(|expectation| {
            format!(
                "{} {} {}: saw {}",
                expectation.observation,
                expectation.quantifier,
                expectation.condition,
                describe_expectation(expectation)
            )
        })
        .chain(scenario.console.iter().cloned())
        .chain(printed(scenario).into_iter().flat_map(|(actor, lines)| {
            lines
                .iter()
                .map(move |line| format!("{actor} printed {line}"))
        }))
        .collect();
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(reason).set_description(seen.join("\n"));
    status
}
