//! A verdict can be trusted: nothing passes for the wrong reason, nothing that was seen is
//! lost, what breaks an expectation is shown, and the lab is blamed when it is the lab.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use advisor_report::{ScenarioResult, Value, Verdict};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::machine;
use super::patience::until;
use super::program::{Ended, Running, harness, suite};

/// A scenario of its own, with one run.
fn text(body: &str) -> String {
    format!(
        "scenarios:\n  - name: one\n    explains: What a verdict says.\n    source: ours\n    \
         runs: 1\n{body}"
    )
}

fn run(body: &str, more: &[&str]) -> (Ended, ScenarioResult) {
    let suite = suite(&text(body));
    let report = suite.beside("report");
    let mut arguments: Vec<OsString> = vec!["run".into(), suite.path().into()];
    arguments.extend(["--report".into(), report.clone().into()]);
    arguments.extend(more.iter().map(OsString::from));
    let ended = harness(arguments);
    let read = advisor_report::read(&report);
    let result = read.unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    (ended, result.scenarios.into_iter().next().unwrap())
}

fn observed(result: &ScenarioResult, name: &str) -> Option<String> {
    let run = result.runs.last()?;
    run.observations.get(name).map(Value::to_string)
}

#[test]
fn a_time_limit_of_a_step_is_late_and_never_an_errno() {
    let _machine = machine::shared();
    let body = r#"
    actors:
      p:
        on: server
        steps:
          - listen: 7000
          - accept
          - accept: { within: 100ms, as: nobody }
          - await: { step: lab.never, within: 50ms }
          - read: { bytes: 1, within: 50ms, on: accept, as: nothing }
      u:
        on: client
        tasks:
          a:
            - connect: "server:7000"
            - await: lab.cut
            - sendfile: { bytes: 100MB, within: 100ms }
            - splice: { bytes: 1MB, within: 100ms }
            - wait-outq-empty: 100ms
            - setsockopt: { SO_LINGER: [1, 30] }
            - close: { within: 100ms }
          b:
            - await: lab.cut
            - socket: { as: second }
            - connect: { to: "server:7000", on: second, within: 100ms, as: again }
    lab:
      - await: u.connect
      - await: p.accept
      - link-down: { host: server, as: cut }
      - until: { observation: server.sockets.LAST_ACK, condition: 1, timeout: 100ms }
      - await: { step: p.nothing, within: 100s }
      - await: { step: u.close, within: 100s, as: closed }
      - await: { step: u.again, within: 100s, as: tried }
      - sleep: { time: 1ms, as: never }
    expect:
      p.nobody.error: { always: WORD }
      p.await.error: { always: WORD }
      p.nothing.error: { always: WORD }
      u.sendfile.error: { always: WORD }
      u.sendfile.bytes: { always: 1..99MB }
      u.splice.error: { always: WORD }
      u.wait-outq-empty.error: { always: WORD }
      u.close.error: { always: WORD }
      u.again.error: { always: WORD }
      lab.until.error: { always: WORD }
      lab.closed.error: { always: none }
"#;
    let (ended, _) = run(&body.replace("WORD", "late"), &[]);
    ended.expect(0);
    let (ended, result) = run(&body.replace("WORD", "ETIMEDOUT"), &[]);
    let ended = ended.expect(1);
    assert!(ended.stdout.contains("ETIMEDOUT is an"), "{}", ended.stdout);
    let held = result
        .expectations
        .iter()
        .filter(|one| one.held == Some(true));
    assert_eq!(held.count(), 2, "{}", ended.stdout);
}

#[test]
fn what_prepares_a_run_may_not_fail_in_silence() {
    let _machine = machine::shared();
    let body = |option: &str, expected: &str| {
        format!(
            "    actors:\n      p: {{ on: server, steps: [socket, {option}, {{ listen: 7000 }}, \
             accept] }}\n      u: {{ on: client, steps: [{{ connect: \"server:7000\" }}, {{ \
             shutdown: SHUT_WR }}, {{ write: 5 }}] }}\n    expect:\n      u.connect.error: {{ \
             always: none }}\n{expected}"
        )
    };
    let bad = "{ setsockopt: { TCP_MAXSEG: 1 } }";
    let (ended, result) = run(&body(bad, ""), &[]);
    assert_eq!(result.verdict, Verdict::Errored);
    let says = "p.setsockopt failed with EINVAL, and nothing is expected of it";
    assert!(ended.expect(1).stdout.contains(says));
    for (option, expected) in [
        (bad, "      p.setsockopt.error: { always: EINVAL }\n"),
        ("{ setsockopt: { TCP_MAXSEG: 1, may-fail: true } }", ""),
    ] {
        let (ended, _) = run(&body(option, expected), &[]);
        let shown = ended.expect(0).stdout;
        assert!(!shown.contains("p.setsockopt"), "{shown}");
        // Another step is only shown.
        let says = "u.write failed with EPIPE, and nothing is expected of it";
        assert!(shown.contains(says), "{shown}");
    }
    // A count of other errors says nothing of this one.
    let (ended, result) = run(
        &body(bad, "      p.setsockopt.errors.ENOENT: { always: 0 }\n"),
        &[],
    );
    assert_eq!(result.verdict, Verdict::Errored, "{}", ended.stdout);
    for step in [
        "{ fcntl: { flags: O_NONBLOCK, on: gone } }",
        "{ bind: { to: \"client:1\", as: wrong } }",
        "{ listen: { on: gone, as: deaf } }",
        "{ setrlimit: { RLIMIT_NOFILE: 99999999999 } }",
    ] {
        let steps = format!("{{ socket: {{ as: gone }} }}, {{ close: gone }}, {step}");
        let (ended, result) = run(&body(&steps, ""), &[]);
        assert_eq!(result.verdict, Verdict::Errored, "{step}: {}", ended.stdout);
    }
}

#[test]
fn a_command_that_fails_is_shown_where_nothing_is_expected_of_it() {
    let _machine = machine::shared();
    let body = |more: &str| {
        format!(
            "    actors:\n      p: {{ on: server, command: [sh, -c, exit 7] }}\n      u: {{ on: client, \
             steps: [{{ await: {{ step: p.exit, as: ended }} }}] }}\n    expect:\n      u.ended.ms: {{ always: \
             \">= 0\" }}\n{more}"
        )
    };
    let says = "p.exit failed with status 7, and nothing is expected of it";
    assert!(run(&body(""), &[]).0.expect(0).stdout.contains(says));
    let ended = run(&body("      p.exit.status: { always: 7 }\n"), &[]).0;
    assert!(!ended.expect(0).stdout.contains(says));
}

#[test]
fn a_run_that_never_put_it_to_the_test_is_made_again() {
    let _machine = machine::shared();
    let body = |loss: &str| {
        format!(
            "    max_runs: 20\n    links: {{ server: {{ loss: {loss}, seed: 5 }} }}\n    actors:\n      \
             p: {{ on: server, steps: [{{ listen: 7000 }}, accept, read-to-end] }}\n      u: {{ \
             on: client, steps: [{{ connect: \"server:7000\" }}, {{ write: 5kB }}, {{ shutdown: \
             SHUT_WR }}] }}\n    given: {{ client.Tcp.RetransSegs: \">= 1\" }}\n    expect: {{ \
             p.read-to-end.bytes: {{ always: 5kB }} }}\n"
        )
    };
    let (ended, result) = run(&body("10%"), &["--link", "relay"]);
    ended.expect(0);
    assert!(result.runs_without_given > 0);
    let (ended, result) = run(&body("0%"), &["--link", "relay"]);
    let says = "none of 20 runs counts: given client.Tcp.RetransSegs >= 1: saw 0";
    assert!(result.reason.unwrap().contains(says), "{}", ended.stdout);
    ended.expect(1);
}

#[test]
fn what_was_seen_before_the_time_limit_is_kept() {
    let _machine = machine::shared();
    let body = r#"
    time_limit: 4s
    actors:
      p: { on: server, steps: [{ listen: 7000 }, { accept: 2 }, { accept: { as: never } }] }
      u:
        on: client
        steps:
          - connect: "server:7000"
          - write: 10
          - repeat:
              times: 3
              steps: [{ connect: { to: "server:7000", as: more } }, { read: { bytes: 1, as: stuck } }]
      dead:
        on: client
        steps: [{ repeat: { times: 100, steps: [{ socket: { as: made } }, { sleep: 1ms }], as: work } }, { sleep: { time: 60s, as: rest } }]
      program: { on: server, command: [python3, -c, "import no_such_module"] }
      waiting: { on: client, steps: [{ await: lab.end }] }
    lab:
      - await: dead.work
      # What ended is told before the next step begins.
      - sleep: { time: 500ms, as: begun }
      - signal: { actor: dead, signal: SIGKILL }
      - await: program.exit
      - sleep: { time: 60s, as: end }
    expect:
      u.connect.error: { always: none }
      u.write.bytes: { always: 10 }
      u.more.ok: { always: 1 }
      dead.made.ok: { always: 100 }
"#;
    let (ended, result) = run(body, &[]);
    let shown = ended.expect(1).stdout;
    assert_eq!(result.verdict, Verdict::Errored);
    for (name, value) in [
        ("u.connect.error", "none"),
        ("u.write.bytes", "10"),
        ("u.more.ok", "1"),
        ("dead.made.ok", "100"),
    ] {
        assert_eq!(observed(&result, name).as_deref(), Some(value), "{name}");
    }
    let reason = result.reason.unwrap();
    for says in [
        "p stands at never",
        "u stands at repeat",
        "dead was ended by SIGKILL at rest",
        "program has exited with 1: ModuleNotFoundError",
        "waiting waits at await for lab.end",
        "the lab stands at end",
    ] {
        assert!(reason.contains(says), "{says}: {reason}");
    }
    assert!(!reason.contains("is ready"), "{reason}");
    assert!(
        shown.contains("undecided: u.write.bytes always 10\n          saw 10"),
        "{shown}"
    );
}

#[test]
fn an_actor_that_is_killed_in_a_repeat_keeps_what_it_saw() {
    let _machine = machine::shared();
    let body = r#"
    actors:
      p: { on: server, steps: [{ listen: 7000 }, accept, { write: 3 }] }
      u:
        on: client
        steps:
          - connect: "server:7000"
          - repeat: { times: 9, steps: [{ read: 3 }, { getsockopt: SO_ERROR }] }
    lab:
      - await: u.connect
      - until: { observation: client.sockets.ESTABLISHED.recv_queue_bytes, condition: 0, timeout: 1s }
      - sleep: 300ms
      - signal: { actor: u, signal: SIGKILL }
    expect:
      u.read.bytes: { always: 3 }
      u.read.ok: { always: 1 }
      u.getsockopt.value: { always: none }
"#;
    run(body, &[]).0.expect(0);
}

#[test]
fn what_breaks_an_expectation_is_shown_first() {
    let _machine = machine::shared();
    let body = r#"
    runs: 6
    link: { delay: 20ms, jitter: 19ms, seed: 3 }
    actors:
      srv: { on: server, steps: [{ listen: 7000 }, accept, { read: 4 }] }
      cli: { on: client, steps: [{ connect: "server:7000" }, { write: 4 }] }
      program: { on: client, command: [sh, -c, "echo b; echo a; echo b; echo 4"] }
    lab: [{ await: program.exit }]
    expect:
      cli.connect.ms: { always: "< 42" }
      srv.read.bytes: { always: "== {cli.write.bytes} + 1" }
      program.output: { always: "~ nothing of it" }
"#
    .replace("    runs: 6\n", "");
    let (ended, result) = run(&body, &["--runs", "12", "--link", "relay"]);
    let shown = ended.expect(1).stdout;
    let times = &result.expectations[0];
    let breaks: Vec<bool> = times.seen.iter().map(|seen| seen.breaks).collect();
    let first_good = breaks
        .iter()
        .position(|breaks| !breaks)
        .unwrap_or(breaks.len());
    assert!(
        first_good > 0 && breaks[first_good..].iter().all(|breaks| !breaks),
        "{shown}"
    );
    let spread = times.spread.as_ref().unwrap();
    let number = |text: &str| text.parse::<f64>().unwrap();
    assert!(number(&spread.least) < number(&spread.greatest));
    assert!(
        shown.contains(&format!("median {}", spread.median)),
        "{shown}"
    );
    assert!(shown.contains("saw 4 with cli.write.bytes 4"), "{shown}");
    assert!(shown.contains("saw b; a; 4"), "{shown}");
}

#[test]
fn a_relay_that_was_stopped_makes_the_run_no_sample() {
    let _machine = machine::alone();
    let suite = suite(&text(
        r#"
    link: { delay: 100ms }
    actors:
      srv: { on: server, steps: [{ listen: 7000 }, accept] }
      cli: { on: client, steps: [{ sleep: 1s }, { connect: "server:7000" }, { sleep: { time: 1s, as: rest } }] }
    expect:
      cli.connect.ms: { always: 190..900 }
"#,
    ));
    let report = suite.beside("report");
    let arguments: Vec<OsString> = vec![
        "run".into(),
        suite.path().into(),
        "--link".into(),
        "relay".into(),
        "--report".into(),
        report.clone().into(),
    ];
    let running = Running::start(arguments);
    let harness = Pid::from_raw(running.pid());
    until("the actors run", || {
        (running.children("actor").len() == 2).then_some(())
    });
    // The SYN leaves while the relay is stopped.
    std::thread::sleep(Duration::from_millis(300));
    kill(harness, Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_millis(1600));
    kill(harness, Signal::SIGCONT).unwrap();
    let ended = running.wait();
    let result = advisor_report::read(&report).unwrap().scenarios.remove(0);
    let ended = ended.expect(0);
    let why = result.discarded_runs.first().map_or("", String::as_str);
    assert!(why.contains("was late"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("a run was made again: the relay"),
        "{}",
        ended.stdout
    );
}

#[test]
fn packets_and_logs_of_a_good_run_are_kept_where_asked() {
    let _machine = machine::shared();
    let suite = suite(&text(
        r#"
    actors:
      srv: { on: server, steps: [{ listen: 7000 }, accept, { await: cli.write }, { read: 4 }] }
      cli: { on: client, steps: [{ connect: "server:7000" }, { sleep: 20ms }, { write: 4 }] }
    expect: { srv.read.bytes: { always: 4 } }
"#,
    ));
    let kept = suite.beside("kept");
    let keep = format!("always:{}", kept.display());
    let arguments: Vec<OsString> = vec![
        "run".into(),
        suite.path().into(),
        "--keep".into(),
        keep.into(),
    ];
    harness(&arguments).expect(0);
    let run = kept.join("live/suite/one/run-0");
    assert!(fs::metadata(run.join("client.pcap")).unwrap().len() > 100);
    let log = fs::read_to_string(run.join("actors.log")).unwrap();
    let position = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
    assert!(
        position("cli: write ended") < position("srv: read starts"),
        "{log}"
    );
    let times: Vec<f64> = log
        .lines()
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    assert!(times.is_sorted(), "{log}");

    // The verdict stands, but what was asked for is not there.
    fs::remove_dir_all(kept.join("live/suite")).unwrap();
    fs::write(kept.join("live/suite"), "").unwrap();
    let ended = harness(&arguments);
    assert!(ended.stdout.contains("1 passed"), "{}", ended.stdout);
    let says = "cannot keep packets and logs: ";
    assert!(ended.stderr.contains(says), "{}", ended.stderr);
    ended.expect(3);
}
