//! The report as JUnit XML, for CI systems: a test suite for each file of the
//! suite, a test case for each scenario.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use advisor_report::escape::inert;
use advisor_report::{Report, ScenarioResult, Verdict};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::matrix::Matrix;
use super::origin::instant;
use super::picture::shortened;
use super::{Format, Standing, describe_held, describe_seen, printed, sentences, standing};

/// The longest text of an output or a value, in characters.
const LONGEST: usize = 2000;

/// `junit.xml`.
pub(super) struct Junit;

impl Format for Junit {
    fn file(&self) -> &'static str {
        "junit.xml"
    }

    fn render(&self, report: &Report) -> io::Result<String> {
        let mut junit = quick_junit::Report::new("lastbyte");
        if let Some(began) = instant(report.origin.started_ms) {
            junit.set_timestamp(began);
        }
        if report.origin.duration_ms > 0 {
            junit.set_time(Duration::from_millis(report.origin.duration_ms));
        }
        let mut suites: Vec<TestSuite> = Vec::new();
        let is_matrix = Matrix::of(&report.scenarios).is_some();
        for scenario in &report.scenarios {
            let id = inert(&scenario.id);
            let (file, name) = id.rsplit_once('/').unwrap_or(("", &id));
            let case = if is_matrix {
                let name = format!("{name} on {} ({})", scenario.kernel.release, scenario.link);
                case(scenario, file, &name)
            } else {
                case(scenario, file, name)
            };
            let known = suites.iter().position(|suite| suite.name.as_str() == file);
            let index = known.unwrap_or_else(|| {
                suites.push(suite(report, scenario, file));
                suites.len() - 1
            });
            suites[index].add_test_case(case);
        }
        for suite in &mut suites {
            suite.time = suite.test_cases.iter().map(|case| case.time).sum();
        }
        junit.add_test_suites(suites);
        junit.to_string().map_err(io::Error::other)
    }
}

/// A suite as it begins: where it ran, and when.
fn suite(report: &Report, first: &ScenarioResult, file: &str) -> TestSuite {
    let mut suite = TestSuite::new(file);
    if let Some(began) = instant(first.started_ms) {
        suite.set_timestamp(began);
    }
    let origin = &report.origin;
    if !origin.host.is_empty() {
        suite
            .extra
            .insert("hostname".into(), inert(&origin.host).into());
    }
    for (name, value) in [
        ("kernel", &origin.kernel),
        ("harness", &report.harness),
        ("revision", &origin.revision),
    ] {
        if !value.is_empty() {
            suite.add_property((name, inert(value).as_str()));
        }
    }
    suite
}

/// What a person wants to read of a case that passed or failed alike.
fn output(scenario: &ScenarioResult) -> String {
    let mut text = format!("{}\n", inert(&scenario.explains));
    for expectation in &scenario.expectations {
        let _ = writeln!(
            text,
            "{}: {} {} {}: saw {}",
            describe_held(expectation),
            inert(&expectation.observation),
            expectation.quantifier,
            inert(&expectation.condition),
            inert(&shortened(&describe_seen(&expectation.seen), LONGEST))
        );
    }
    for (actor, lines) in printed(scenario) {
        for line in lines {
            let _ = writeln!(
                text,
                "{} printed {}",
                inert(actor),
                inert(&shortened(line, LONGEST))
            );
        }
    }
    text
}

fn case(scenario: &ScenarioResult, file: &str, name: &str) -> TestCase {
    let reason = inert(&shortened(
        scenario.reason.as_deref().unwrap_or_default(),
        LONGEST,
    ));
    let skipped = |reason: String| {
        let mut status = TestCaseStatus::skipped();
        status.set_message(reason);
        status
    };
    let known = scenario.known_failure.as_ref();
    let status = match standing(scenario) {
        Standing::Passed => TestCaseStatus::success(),
        Standing::Skipped => skipped(reason),
        Standing::Known => {
            let known = known.map_or("", |known| known.reason.as_str());
            skipped(format!("known failure: {}: {reason}", inert(known)))
        }
        Standing::Mended => {
            let mended = "it passes, though its failure is known".to_owned();
            non_success(NonSuccessKind::Failure, scenario, mended)
        }
        Standing::Failed => non_success(NonSuccessKind::Failure, scenario, reason),
        Standing::Errored => non_success(NonSuccessKind::Error, scenario, reason),
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(file);
    if let Some(began) = instant(scenario.started_ms) {
        case.set_timestamp(began);
    }
    for (name, value) in [
        ("kernel", scenario.kernel.release.clone()),
        ("link", scenario.link.to_string()),
        ("runs", scenario.runs.len().to_string()),
    ] {
        case.add_property((name, inert(&value).as_str()));
    }
    if let Some((file, line)) = scenario
        .place
        .as_ref()
        .and_then(|place| place.rsplit_once(':'))
    {
        case.extra.insert("file".into(), inert(file).into());
        case.extra.insert("line".into(), inert(line).into());
    }
    if scenario.verdict != Verdict::Skipped {
        case.set_system_out(output(scenario));
    }
    case.set_time(Duration::from_millis(
        scenario.runs.iter().map(|run| run.duration_ms).sum(),
    ));
    case
}

fn non_success(kind: NonSuccessKind, scenario: &ScenarioResult, reason: String) -> TestCaseStatus {
    let mut lines = sentences(&scenario.expectations);
    let unseen = scenario
        .expectations
        .iter()
        .filter(|one| one.held.is_none());
    lines.extend(unseen.map(|one| format!("{} was not observed", one.observation)));
    lines.extend(scenario.console.iter().cloned());
    for (actor, printed) in printed(scenario) {
        lines.extend(printed.iter().map(|line| format!("{actor} printed {line}")));
    }
    let lines: Vec<String> = lines
        .iter()
        .map(|line| inert(&shortened(line, LONGEST)))
        .collect();
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(reason).set_description(lines.join("\n"));
    status
}
