//! Actors that are commands: when they are ready, what is observed of them,
//! signals and restarts, and that nothing of them is left.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use advisor_report::{Report, Value, Verdict};
use nix::sys::signal::{SigHandler, Signal, signal};

use super::machine;
use super::patience::until;
use super::program::{Ended, Running, Suite, arguments, harness, suite};

/// A server that prints a line, writes a file and answers each client with 1000
/// bytes. Debian has no system without this interpreter.
const SERVER: &str = r#"[perl, -e, 'use Socket; $| = 1;
          socket(S, PF_INET, SOCK_STREAM, 0); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
          bind(S, sockaddr_in(8080, INADDR_ANY)) or exit 7; listen(S, 5);
          print "listening\n"; open F, ">", "up"; close F;
          while (accept(C, S)) { sysread C, $b, 4096; syswrite C, "x" x 1000; close C }']"#;

fn run(suite: &Suite, status: i32) -> (Ended, Report) {
    let report = suite.beside("report");
    let arguments: [OsString; 4] = [
        "run".into(),
        suite.path().into(),
        "--report".into(),
        report.clone().into(),
    ];
    let ended = harness(arguments).expect(status);
    (ended, advisor_report::read(&report).unwrap())
}

/// A scenario whose actor `program` has these keys.
fn scenario(name: &str, program: &str, more: &str) -> String {
    format!(
        r"
  - name: {name}
    explains: A command runs in the lab.
    source: execve(2)
    runs: 1
    actors:
      program:
        on: server
        {program}
{more}
"
    )
}

fn of(scenarios: &[String]) -> Suite {
    suite(&format!("scenarios:\n{}", scenarios.concat()))
}

const CLIENT: &str = r#"
      user:
        on: client
        steps: [{ connect: "server:8080" }, { write: 1 }, read-to-end]
"#;

#[test]
fn a_command_is_awaited_by_port_line_and_file() {
    let _machine = machine::shared();
    let scenarios = ["port: 8080", "line: listen", "file: up"].map(|ready| {
        let (key, _) = ready.split_once(':').unwrap();
        let program = format!("command: {SERVER}\n        ready: {{ {ready} }}");
        // A connect waits for a port by itself.
        let client = CLIENT.replace("[{ connect", "[{ await: program.ready }, { connect");
        let expect = r#"
    expect:
      program.ready.error: { always: none }
      user.connect.error: { always: none }
      user.read-to-end.bytes: { always: 1000 }
      server.Tcp.PassiveOpens: { always: 1 }
      program.exit.status: { always: running }
      program.output: { always: "~ listening" }
      program.usage.processes: { always: 1 }
      program.usage.descriptors: { always: 4..20 }
      program.usage.max_rss_bytes: { always: "> 1MB" }
"#;
        scenario(key, &program, &format!("{client}{expect}"))
    });
    run(&of(&scenarios), 0);
}

#[test]
fn a_command_gets_what_is_written_for_it() {
    let _machine = machine::shared();
    let program = r#"command: [sh, -c, 'pwd; cat conf; echo "$A $TMPDIR"; ls "$1"', sh, "{dir}"]
        env: { A: "it is {dir}" }
        files: { conf: "in {dir}\n", deeper/down: "" }"#;
    let lab = "
    lab: [{ await: program.exit }]
    expect: { program.exit.status: { always: 0 }, program.output: { always: \"~ deeper\" } }
";
    let (_, report) = run(&of(&[scenario("given", program, lab)]), 0);
    let Value::Lines(lines) = &report.scenarios[0].runs[0].observations["program.output"] else {
        panic!("{report:?}");
    };
    let place = lines[0].as_str();
    assert_eq!(lines[1], format!("in {place}"));
    assert_eq!(lines[2], format!("it is {place} {place}"));
    assert_eq!(lines[3..], ["conf", "deeper"]);
    // It was the command's alone.
    assert!(!std::path::Path::new(place).join("deeper").exists());
}

#[test]
fn a_killed_command_is_restarted_and_one_that_cannot_bind_is_not() {
    let _machine = machine::shared();
    let program = format!("command: {SERVER}\n        ready: {{ port: 8080 }}");
    let again = r#"
      user:
        on: client
        steps: [{ connect: "server:8080" }, { await: lab.restart }, { connect: { to: "server:8080", as: again } }]
    lab:
      - await: user.connect
      - signal: { actor: program, signal: SIGKILL }
      - restart: program
      - sample: alive
      - await: user.again
      - signal: { actor: program, signal: SIGTERM, as: stop }
      - await: program.exit
      - restart: { actor: program, as: third }
    expect:
      lab.restart.error: { always: none }
      alive.program.usage.processes: { always: 1 }
      user.again.error: { always: none }
      lab.third.error: { always: none }
      program.exit.status: { always: SIGTERM }
"#;
    // Of another actor, which listens on the port already.
    let taken = r"
      other: { on: server, steps: [{ listen: 8080 }, accept] }
    expect:
      program.ready.error: { always: ECHILD }
      program.exit.status: { always: 7 }
";
    let program_after = format!(
        "command: [sh, -c, 'sleep 0.3; exec \"$@\"', sh, {}\n        ready: {{ port: 8080 }}",
        &SERVER[1..]
    );
    let taken = taken.replace("[{ listen: 8080 }, accept]", "[{ listen: 8080 }]");
    run(
        &of(&[
            scenario("again", &program, again),
            scenario("taken", &program_after, &taken),
        ]),
        0,
    );
}

#[test]
fn signals_reach_one_process_or_all() {
    let _machine = machine::shared();
    let program = "command: [sh, -c, 'sleep 600 & sleep 600 & wait']";
    let lab = |signal: &str, left: u32| {
        format!(
            "
    lab:
      - await: program.ready
      - sleep: 300ms
      - signal: {{ actor: program, signal: SIGKILL{signal} }}
      - await: program.exit
      - signal: {{ actor: program, signal: SIGKILL, as: second }}
      - sleep: 100ms
    expect:
      lab.signal.error: {{ always: none }}
      lab.second.error: {{ always: ESRCH }}
      program.exit.status: {{ always: SIGKILL }}
      program.usage.processes: {{ always: {left} }}
"
        )
    };
    run(
        &of(&[
            scenario("main", program, &lab("", 2)),
            scenario("all", program, &lab(", to: all", 0)),
        ]),
        0,
    );
}

#[test]
fn signals_arrive_that_are_ignored_where_the_harness_was_started() {
    let _machine = machine::shared();
    for ignored in [Signal::SIGQUIT, Signal::SIGUSR1] {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { signal(ignored, SigHandler::SigIgn) }.unwrap();
    }
    let program = "command: [sleep, '600']";
    let killed = |signal: &str| {
        let lab = format!(
            "
      holder: {{ on: server, steps: [{{ listen: 7000 }}, accept] }}
      user: {{ on: client, steps: [{{ connect: 'server:7000' }}, read-to-end] }}
    lab:
      - await: program.ready
      - await: holder.accept
      - signal: {{ actor: program, signal: {signal} }}
      - signal: {{ actor: holder, signal: {signal}, as: second }}
      - await: program.exit
    expect:
      program.exit.status: {{ always: {signal} }}
      user.read-to-end.error: {{ always: none }}
"
        );
        scenario(&signal.to_lowercase(), program, &lab)
    };
    run(&of(&["SIGQUIT", "SIGUSR1"].map(killed)), 0);
}

#[test]
fn a_command_that_ends_before_it_is_ready_is_an_error() {
    let _machine = machine::shared();
    let expect = "\n    expect: { program.output: { always: none } }\n";
    let scenarios = [
        (
            "ends",
            "command: [sh, -c, 'echo no such config; exit 3']\n        ready: { port: 1 }",
        ),
        ("hangs", "command: [sleep, 600]\n        ready: { file: x }"),
        (
            "killed",
            "command: [sh, -c, 'kill -9 $$']\n        ready: { line: x }",
        ),
    ];
    let scenarios = scenarios.map(|(name, program)| {
        scenario(name, program, expect).replace("runs: 1", "runs: 1\n    time_limit: 2s")
    });
    let (ended, report) = run(&of(&scenarios), 1);
    let quoted = "    program printed:\n    | no such config\n";
    assert_eq!(ended.stdout.matches(quoted).count(), 1, "{}", ended.stdout);
    let reasons: Vec<&str> = report
        .scenarios
        .iter()
        .map(|result| result.reason.as_deref().unwrap_or_default())
        .collect();
    assert_eq!(
        reasons,
        [
            "actor program: its command ended (3) before it was ready",
            "time limit of 2s: program is not ready",
            "actor program: its command ended (SIGKILL) before it was ready",
        ]
    );
}

#[test]
fn what_is_not_installed_is_skipped() {
    let _machine = machine::shared();
    let program = "command: [no-such-server, -x]\n        install: suites/servers/prepare";
    let expect = "\n    expect: { program.exit.status: { always: running } }\n";
    let (ended, report) = run(&of(&[scenario("missing", program, expect)]), 3);
    let result = &report.scenarios[0];
    assert_eq!(result.verdict, Verdict::Skipped);
    assert_eq!(
        result.reason.as_deref(),
        Some("no-such-server is not installed")
    );
    assert!(
        ended.stdout.contains("suites/servers/prepare installs it"),
        "{ended:?}"
    );
}

/// Processes whose command line ends with this.
fn named(mark: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| arguments(*pid).iter().any(|word| word == mark))
        .collect()
}

#[test]
fn nothing_of_a_command_is_left_even_where_the_harness_is_killed() {
    let _machine = machine::shared();
    // One that stays, and one that goes into the background for good.
    let mark = format!("{}.25", 86_000 + std::process::id() % 300);
    let program =
        format!("command: [sh, -c, 'setsid sleep \"$1\" & sleep \"$1\" & wait', sh, \"{mark}\"]");
    let expect = "
      other: { on: client, steps: [{ sleep: 10min }] }
    expect: { program.exit.status: { always: running } }
";
    let text = scenario("stays", &program, expect);
    let text = text.replace("runs: 1", "runs: 1\n    time_limit: 10min");
    let suite = of(&[text]);
    let mut harness = Running::start(["run".as_ref(), suite.path().as_os_str()]);
    let processes = until("it runs", || {
        // The shell, which has the mark too, and both of its children.
        Some(named(&mark)).filter(|pids| pids.len() == 3)
    });
    harness.kill();
    until("they are gone", || {
        processes
            .iter()
            .all(|pid| !arguments(*pid).contains(&mark))
            .then_some(())
    });
    assert_eq!(named(&mark), [] as [i32; 0]);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.lines().any(|line| line.starts_with("tmpfs /mnt ")));
}

#[test]
fn a_suite_for_a_server_of_ones_own_answers_its_questions() {
    let _machine = machine::shared();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own/server.yaml");
    let words: Vec<String> = {
        let script = directory.path().join("server");
        // Its directory is that of whoever runs the tests.
        let code = SERVER.split('\'').nth(1).unwrap();
        let code = code.replace(r#"open F, ">", "up"; close F;"#, "");
        fs::write(&script, format!("#!/usr/bin/perl\n{code}")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        vec![script.to_str().unwrap().to_owned()]
    };
    let mut arguments: Vec<OsString> = vec!["new".into(), "server".into(), path.clone().into()];
    arguments.push("--".into());
    arguments.extend(words.into_iter().map(OsString::from));
    let written = harness(arguments.clone()).expect(0);
    assert!(written.stdout.contains("is written"), "{written:?}");
    harness(arguments).expect(2);

    let report = directory.path().join("report");
    let run: [OsString; 4] = [
        "run".into(),
        path.into(),
        "--report".into(),
        report.clone().into(),
    ];
    harness(run).expect(1);
    let report = advisor_report::read(&report).unwrap();
    let verdicts: Vec<(&str, Verdict)> = report
        .scenarios
        .iter()
        .map(|result| (result.id.rsplit('/').next().unwrap(), result.verdict))
        .collect();
    let (uploads, verdicts): (Vec<_>, Vec<_>) = verdicts
        .into_iter()
        .partition(|(name, _)| *name == "rejected-upload");
    // Its client reads the answer, or the reset is faster: either is a verdict.
    assert!(
        matches!(uploads.as_slice(), [(_, Verdict::Passed | Verdict::Failed)]),
        "{uploads:?}"
    );
    // Its answers of 1000 bytes show nothing, it does not handle SIGTERM, it asks for no
    // keepalive and waits for ever.
    assert_eq!(
        verdicts,
        [
            ("slow-client", Verdict::Failed),
            ("stopped", Verdict::Failed),
            ("killed", Verdict::Passed),
            ("vanished-client", Verdict::Failed),
            ("vanished-reader", Verdict::Failed),
            ("close-wait", Verdict::Passed),
        ]
    );
}
