//! `harness run` from a suite's file to exit status, report and snapshot.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use advisor_report::{Link, Report, Verdict};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;

use super::machine;
use super::patience::until;
use super::program::{Ended, Running, Suite, harness, suite};

/// A scenario in which a connection carries so many bytes; expects so many.
fn carries(name: &str, bytes: u64, expected: u64, more: &str) -> String {
    format!(
        r#"
  - name: {name}
    explains: What is written to a connection is read at its other end.
    source: RFC 9293
    runs: 1
    {more}
    actors:
      reader: {{ on: server, steps: [{{ listen: 7000 }}, accept, read-to-end] }}
      writer:
        on: client
        steps: [{{ await: reader.listen }}, {{ connect: "server:7000" }}, {{ write: {bytes} }}, close]
    expect:
      reader.read-to-end.bytes: {{ always: {expected} }}
      reader.read-to-end.error: {{ always: none }}
"#
    )
}

/// A scenario that reads for ever.
fn hangs(name: &str, time_limit: &str) -> String {
    format!(
        r#"
  - name: {name}
    explains: Nobody writes.
    source: RFC 9293
    runs: 1
    time_limit: {time_limit}
    actors:
      reader: {{ on: server, steps: [{{ listen: 7000 }}, accept, {{ read: 1 }}] }}
      silent:
        on: client
        steps: [{{ await: reader.listen }}, {{ connect: "server:7000" }}, {{ await: reader.read }}]
    expect: {{ reader.read.bytes: {{ always: 1 }} }}
"#
    )
}

/// A scenario that acts on the whole machine; here it is never allowed to.
fn touches(name: &str) -> String {
    let sysctls = "sysctls: { kernel: { net.ipv4.tcp_max_orphans: 64 } }";
    carries(name, 1, 1, sysctls)
}

/// A suite of scenarios.
fn of(scenarios: &[String]) -> Suite {
    suite(&format!("scenarios:\n{}", scenarios.concat()))
}

fn run(suite: &Suite, more: &[&str]) -> Ended {
    run_with(suite, more.iter().map(OsString::from).collect())
}

fn run_with(suite: &Suite, more: Vec<OsString>) -> Ended {
    let mut arguments: Vec<OsString> = vec!["run".into(), suite.path().into()];
    arguments.extend(more);
    harness(arguments)
}

/// Runs a suite with a report; the report too.
fn run_and_report(suite: &Suite, more: &[&str], status: i32) -> (Ended, Report) {
    let directory = suite.beside("report");
    let mut arguments: Vec<OsString> = more.iter().map(OsString::from).collect();
    arguments.extend(["--report".into(), directory.clone().into()]);
    let ended = run_with(suite, arguments).expect(status);
    (ended, advisor_report::read(&directory).unwrap())
}

fn verdicts(report: &Report) -> Vec<(&str, Verdict)> {
    let results = report.scenarios.iter();
    results
        .map(|result| (result.id.as_str(), result.verdict))
        .collect()
}

#[test]
fn what_is_as_expected_passes() {
    let _machine = machine::shared();
    let suite = of(&[
        carries("plain", 1000, 1000, ""),
        carries("v6", 1000, 1000, "family: ipv6"),
        carries("impaired", 1000, 1000, "link: { delay: 1ms }"),
    ]);
    let (ended, report) = run_and_report(&suite, &["--link", "relay"], 0);
    assert_eq!(
        ended.last_line(),
        "3 passed, 0 failed, 0 errored, 0 skipped"
    );
    let links: Vec<Link> = report.scenarios.iter().map(|result| result.link).collect();
    assert_eq!(links, [Link::None, Link::None, Link::Relay]);
    for result in &report.scenarios {
        assert_eq!(
            (result.verdict, result.runs.len()),
            (Verdict::Passed, 1),
            "{result:?}"
        );
        let observations = &result.runs[0].observations;
        assert_eq!(observations["writer.write.bytes"], 1000.into());
        assert_eq!(observations["client.Tcp.ActiveOpens"], 1.into());
        assert_eq!(observations["server.Tcp.PassiveOpens"], 1.into());
    }
}

#[test]
fn what_is_not_as_expected_fails() {
    let _machine = machine::shared();
    let suite = of(&[carries("good", 10, 10, ""), carries("bad", 10, 11, "")]);
    let (ended, report) = run_and_report(&suite, &[], 1);
    assert_eq!(
        ended.last_line(),
        "1 passed, 1 failed, 0 errored, 0 skipped"
    );
    assert!(
        ended
            .stdout
            .contains("not held: reader.read-to-end.bytes always 11"),
        "{ended:?}"
    );
    assert!(ended.stdout.contains("saw 10"), "{ended:?}");
    let expected = [
        ("live/suite/good", Verdict::Passed),
        ("live/suite/bad", Verdict::Failed),
    ];
    assert_eq!(verdicts(&report), expected);
}

#[test]
fn a_time_limit_is_reported_and_the_next_scenario_runs() {
    let _machine = machine::shared();
    let suite = of(&[hangs("stuck", "1s"), carries("next", 10, 10, "")]);
    let (ended, report) = run_and_report(&suite, &["--jobs", "1"], 1);
    assert_eq!(
        ended.last_line(),
        "1 passed, 0 failed, 1 errored, 0 skipped"
    );
    let stuck = &report.scenarios[0];
    assert_eq!(stuck.verdict, Verdict::Errored);
    assert_eq!(
        stuck.reason.as_deref(),
        Some("time limit of 1s: reader stands at read, silent stands at await")
    );
}

#[test]
fn an_actor_that_dies_unasked_is_an_error() {
    let _machine = machine::shared();
    let suite = of(&[hangs("stuck", "10min")]);
    let harness = Running::start(["run".as_ref(), suite.path().as_os_str()]);
    let actors = until("the actors run", || {
        Some(harness.children("actor")).filter(|actors| actors.len() == 2)
    });
    kill(Pid::from_raw(actors[0]), Signal::SIGKILL).unwrap();
    let ended = harness.wait().expect(1);
    assert_eq!(
        ended.last_line(),
        "0 passed, 0 failed, 1 errored, 0 skipped"
    );
    assert!(ended.stdout.contains("died (SIGKILL)"), "{ended:?}");
}

#[test]
fn an_actor_that_the_suite_kills_is_no_error() {
    let _machine = machine::shared();
    let text = r#"
scenarios:
  - name: killed
    explains: The kernel closes the sockets of a process that is killed.
    source: signal(7)
    runs: 1
    actors:
      reader: { on: server, steps: [{ listen: 7000 }, accept, read-to-end] }
      victim:
        on: client
        steps: [{ await: reader.listen }, { connect: "server:7000" }, { sleep: 10min }]
    lab: [{ await: victim.connect }, { signal: { actor: victim, signal: SIGKILL } }]
    expect: { reader.read-to-end.error: { always: none } }
"#;
    run(&suite(text), &[]).expect(0);
}

#[test]
fn bad_usage_and_bad_suites_are_refused() {
    let _machine = machine::shared();
    let good = of(&[carries("good", 10, 10, "")]);
    let refused = |suite: &Suite, more: &[&str], says: &str| {
        let ended = run(suite, more).expect(2);
        assert!(ended.stderr.contains(says), "{says}: {ended:?}");
        assert_eq!(ended.stdout, "", "{says}");
    };
    refused(&good, &["--no-such-flag"], "--no-such-flag");
    refused(&good, &["--runs", "0"], "--runs");
    refused(&good, &["--jobs", "0"], "--jobs");
    refused(&good, &["--update"], "--snapshot");
    refused(&good, &["--filter", "nothing-like-it"], "nothing-like-it");
    refused(&good, &["/no/such/suite"], "/no/such/suite");
    refused(
        &of(&[carries("bad", 10, 10, "run: 3")]),
        &[],
        "suite.yaml:7:5: unknown key \"run\"",
    );
    refused(&suite(""), &[], "suite.yaml:");
    // One bad suite among good ones, and nothing is started.
    let bad = suite("scenarios: []");
    refused(&good, &[bad.path().to_str().unwrap()], "no scenario");
}

#[test]
fn what_acts_on_the_machine_is_skipped_unless_allowed() {
    let _machine = machine::shared();
    let only = of(&[touches("whole-machine")]);
    let (ended, report) = run_and_report(&only, &[], 3);
    assert_eq!(
        ended.last_line(),
        "0 passed, 0 failed, 0 errored, 1 skipped"
    );
    assert!(ended.stdout.contains("--touch-host"), "{ended:?}");
    assert_eq!(report.scenarios[0].verdict, Verdict::Skipped);
    assert!(
        report.scenarios[0]
            .reason
            .as_deref()
            .unwrap()
            .contains("net.ipv4.tcp_max_orphans")
    );

    let one_of_two = of(&[touches("whole-machine"), carries("good", 10, 10, "")]);
    let ended = run(&one_of_two, &[]).expect(0);
    assert_eq!(
        ended.last_line(),
        "1 passed, 0 failed, 0 errored, 1 skipped"
    );
    run(&one_of_two, &["--fail-on-skip"]).expect(1);
    run(&one_of_two, &["--fail-on-skip", "--filter", "good"]).expect(0);
}

#[test]
fn runs_are_as_many_as_asked() {
    let _machine = machine::shared();
    let suite = of(&[carries("good", 10, 10, "")]);
    let (_, report) = run_and_report(&suite, &["--runs", "4"], 0);
    let numbers: Vec<u64> = report.scenarios[0]
        .runs
        .iter()
        .map(|run| run.number)
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
}

#[test]
fn jobs_run_side_by_side() {
    let _machine = machine::shared();
    // Each waits for a second, so that two of them meet or never do.
    let waits = |name| hangs(name, "1s");
    let suite = of(&[waits("one"), waits("two"), waits("three")]);
    for (jobs, most) in [("1", 2), ("2", 4)] {
        let arguments = ["run", "--jobs", jobs, suite.path().to_str().unwrap()];
        let mut harness = Running::start(arguments);
        let mut seen = 0;
        until("it ends", || {
            seen = seen.max(harness.children("actor").len());
            harness.is_over().then_some(())
        });
        assert_eq!(seen, most, "--jobs {jobs}: actors at a time");
        let ended = harness.wait().expect(1);
        assert_eq!(
            ended.last_line(),
            "0 passed, 0 failed, 3 errored, 0 skipped"
        );
    }
}

#[test]
fn results_are_in_the_order_of_the_suite() {
    let _machine = machine::shared();
    let names = ["slow", "b", "c", "d"];
    let scenarios = names.map(|name| match name {
        "slow" => hangs(name, "1s"),
        _ => carries(name, 10, 10, ""),
    });
    let (_, report) = run_and_report(&of(&scenarios), &["--jobs", "2"], 1);
    let ids: Vec<&str> = report
        .scenarios
        .iter()
        .map(|result| result.id.as_str())
        .collect();
    assert_eq!(ids, names.map(|name| format!("live/suite/{name}")));
}

#[test]
fn the_report_is_of_its_schema() {
    let _machine = machine::shared();
    let suite = of(&[
        carries("good", 10, 10, "link: { delay: 1ms }"),
        carries("bad", 10, 11, ""),
        hangs("stuck", "1s"),
        touches("skipped"),
    ]);
    let (_, report) = run_and_report(&suite, &[], 1);
    let directory = suite.beside("report");
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();

    let json: Json = serde_json::from_str(&read("report.json")).unwrap();
    let validator = jsonschema::validator_for(&report_schema()).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&json)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert_eq!(json["schema"], 1);
    for (index, verdict) in ["passed", "failed", "errored", "skipped"]
        .iter()
        .enumerate()
    {
        assert_eq!(json["scenarios"][index]["verdict"], *verdict);
    }
    assert_eq!(json["scenarios"][0]["kernel"]["where"], "host");
    assert_eq!(json["scenarios"][0]["expectations"][0]["held"], true);
    assert!(!report.pinned_sysctls.is_empty());

    let junit = quick_junit::Report::deserialize_from_str(&read("junit.xml")).unwrap();
    let counts = (junit.tests, junit.failures, junit.errors);
    assert_eq!(counts, (4, 1, 1));
    let markdown = read("report.md");
    assert!(
        report
            .scenarios
            .iter()
            .all(|result| markdown.contains(&result.id))
    );
}

/// The committed schema; the program's own while none is committed.
fn report_schema() -> Json {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/report.schema.json");
    let text = fs::read_to_string(committed)
        .unwrap_or_else(|_| harness(["schema", "report"]).expect(0).stdout);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_snapshot_is_pending_until_it_is_taken_over() {
    let _machine = machine::shared();
    let suite = of(&[carries("good", 10, 10, "")]);
    let directory = suite.beside("snapshots");
    let compare = |more: &[&str], status| {
        let mut arguments: Vec<OsString> = vec!["--snapshot".into(), directory.clone().into()];
        arguments.extend(more.iter().map(OsString::from));
        run_with(&suite, arguments).expect(status)
    };
    let committed = directory.join("live__suite.snap");
    let pending = directory.join("live__suite.snap.new");

    compare(&[], 1);
    assert!(!committed.exists() && pending.exists());
    compare(&["--update"], 0);
    assert!(committed.exists() && !pending.exists());
    assert_eq!(compare(&[], 0).stdout.lines().count(), 2);

    let text = fs::read_to_string(&committed).unwrap();
    assert!(text.contains("live/suite/good: passed"), "{text}");
    fs::write(&committed, text.replace(": passed", ": failed")).unwrap();
    let ended = compare(&[], 1);
    assert!(
        ended.stdout.contains("- live/suite/good: failed"),
        "{ended:?}"
    );
    assert!(
        ended.stdout.contains("+ live/suite/good: passed"),
        "{ended:?}"
    );
    assert!(pending.exists());
    compare(&["--update"], 0);
    assert_eq!(fs::read_to_string(&committed).unwrap(), text);
}

#[test]
fn a_link_that_loses_everything_lets_no_connection_through() {
    let _machine = machine::shared();
    let text = r#"
scenarios:
  - name: lost
    explains: A link that loses every packet lets no connection through.
    source: RFC 9293
    runs: 1
    links: { server: { loss: 100% } }
    actors:
      caller:
        on: client
        steps: [socket, { setsockopt: { TCP_SYNCNT: 1 } }, { connect: "server:7000" }]
    expect:
      caller.connect.error: { always: ETIMEDOUT }
      client.Tcp.OutSegs: { always: 1 }
      client.Tcp.RetransSegs: { always: ">= 1" }
      server.Tcp.InSegs: { always: 0 }
"#;
    run(&suite(text), &["--link", "relay"]).expect(0);
}

#[test]
fn doctor_finds_that_root_can_run_suites() {
    let _machine = machine::shared();
    let ended = harness(["doctor"]).expect(0);
    assert!(
        ended.stdout.contains("This machine can run suites."),
        "{ended:?}"
    );
}
