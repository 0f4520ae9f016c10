//! `advisor watch` and `advisor metrics` as people and machines use them. What only root
//! sees is looked at where the test runs as root.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the tests run the program and make what it watches"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use advisor_facts::happened::Kind;
use advisor_report::record::{self, Line};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// The program with the network namespace of its own that root can have: others' resets
/// are not to be seen there.
fn advisor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_advisor"));
    command
        .args(args)
        .env_remove("COLUMNS")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    advisor(args).output().unwrap()
}

/// How it ended, and the first line of each error.
fn told(output: &Output) -> (Option<i32>, String) {
    (
        output.status.code(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}

/// Starts a watch that writes JSON, and waits until it watches.
fn watch(args: &[&str]) -> (Child, impl Iterator<Item = serde_json::Value> + use<>) {
    let args = [&["watch", "--format", "json"], args].concat();
    let mut child = advisor(&args).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap());
    let first: serde_json::Value = lines.next().expect("it says that it watches");
    assert_eq!(first["line"], "start");
    (child, lines)
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
}

/// Closes so many connections with unread data.
fn close_unread(count: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..count {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"unread").unwrap();
        let mut byte = [0];
        server.peek(&mut byte).unwrap();
        drop(server);
        let _ = client.read(&mut byte);
    }
}

#[test]
fn wrong_usage_is_exit_2_and_what_cannot_be_had_is_exit_3() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, status, words) in [
        (&["watch", "--for", "0s"][..], 2, "from 1s to 366d"),
        (&["watch", "--redact"], 2, "--record <DIR>"),
        (&["watch", "--listen", "9477"], 2, "invalid socket address"),
        (&["watch", "--record-size", "5"], 2, "64MiB"),
        (
            &["watch", "--for", "1s", "--listen", &taken],
            3,
            "cannot listen there",
        ),
        (
            &["watch", "--for", "1s", "--record", "/proc/x"],
            3,
            "/proc/x",
        ),
        (&["recommend", "--record", "/nowhere"], 2, "cannot read it"),
        (&["recommend", "--record", "."], 2, "no facts-N.json"),
        (
            &["recommend", "--record", ".", "--over", "1s"],
            2,
            "cannot be used with",
        ),
        (
            &["metrics", "--alert-rules", "--facts", "x"],
            2,
            "cannot be used with",
        ),
        (&["metrics", "--facts", "."], 2, "is about one host"),
    ] {
        let (code, errors) = told(&run(args));
        assert_eq!(code, Some(status), "{args:?}: {errors}");
        assert!(errors.contains(words), "{args:?}: {errors}");
        if status == 3 {
            assert!(errors.contains("\nhint: "), "{args:?}: {errors}");
        }
    }
}

#[test]
fn a_watch_tells_who_reset_connections_and_its_record_gives_the_plan() {
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("record");
    let record = record.to_str().unwrap();
    let (mut child, lines) = watch(&["--for", "300s", "--record", record]);
    close_unread(12);
    thread::sleep(Duration::from_secs(3));
    interrupt(&child);
    let lines: Vec<_> = lines.collect();
    assert_eq!(
        child.wait().unwrap().code(),
        Some(1),
        "there are recommendations"
    );
    assert_eq!(lines.last().unwrap()["line"], "advice");
    let mut counted = 0;
    let mut seen = 0;
    for line in &lines[..lines.len() - 1] {
        match serde_json::from_value(line.clone()).unwrap() {
            Line::Event(one)
                if one.kind == Kind::Counter
                    && one.reason.as_deref() == Some("TcpExt.TCPAbortOnClose") =>
            {
                counted += one.count;
            }
            Line::Event(one) if one.kind == Kind::ResetSent => {
                let process = one.process.unwrap();
                if process.pid == std::process::id() {
                    seen += one.count;
                }
            }
            _ => {}
        }
    }
    assert!(counted >= 12, "{counted}");
    let output = run(&["recommend", "--record", record]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("LB201"), "{text}");
    if geteuid().is_root() {
        assert!(seen >= 12, "each close is an event of this process: {seen}");
        let named = format!("({}", std::process::id());
        let subject = text
            .lines()
            .find(|line| line.contains("   on  ") && line.contains(&named));
        assert!(
            subject.is_some_and(|line| !line.contains("likely")),
            "{text}"
        );
    }
    // Another question to the same record.
    let output = run(&["sockets", "--record", record]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_record_is_whole_after_a_kill_at_any_instant() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record");
    for milliseconds in [0, 130, 410, 770] {
        let (mut child, _) = watch(&["--record", path.to_str().unwrap()]);
        let closer = thread::spawn(|| close_unread(50));
        thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        closer.join().unwrap();
        match record::read(&path) {
            Ok(_) => {}
            // Killed before its first look was written.
            Err(error) => assert!(error.to_string().contains("no facts-N.json"), "{error}"),
        }
    }
    // Nothing is left behind that the next watch does not take away.
    let (child, lines) = watch(&["--record", path.to_str().unwrap()]);
    interrupt(&child);
    assert!(lines.count() > 0);
    for entry in fs::read_dir(&path).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with("events-") || name.starts_with("facts-"),
            "{name}"
        );
    }
    record::read(&path).unwrap();
}

#[test]
fn lines_are_for_the_journal_and_end_with_the_plan() {
    let output = run(&["watch", "--for", "1s"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let (lines, plan) = text.split_once("\n\n").unwrap();
    for line in lines.lines() {
        let (time, _) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.len() == 24, "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
    assert!(
        lines.lines().next().unwrap().contains(" watching "),
        "{lines}"
    );
    assert!(lines.ends_with("end of the watch"), "{lines}");
    assert!(plan.contains("Watched from "), "{plan}");
}

#[test]
fn a_reader_that_goes_away_ends_a_watch() {
    let (mut child, lines) = watch(&["--for", "300s"]);
    drop(lines);
    let end = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "it goes on for nobody");
        close_unread(6);
        thread::sleep(Duration::from_millis(200));
    }
    assert!(matches!(child.wait().unwrap().code(), Some(0 | 1)));
}

#[test]
fn metrics_are_served_and_only_where_told_to() {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let address = format!("127.0.0.1:{port}");
    let (mut child, lines) = watch(&["--listen", &address, "--for", "300s"]);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(
        answer.contains("\nlastbyte_tcp_time_wait_records{"),
        "{answer}"
    );
    interrupt(&child);
    assert!(lines.count() > 0);
    child.wait().unwrap();
    let once = run(&["metrics"]);
    assert_eq!(once.status.code(), Some(0));
    let once = String::from_utf8(once.stdout).unwrap();
    for (name, text) in [("served", &answer), ("printed", &once)] {
        assert!(
            text.contains("# TYPE lastbyte_findings gauge"),
            "{name}: {text}"
        );
    }
}

#[test]
fn the_unit_needs_what_it_says() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("lastbyte-watch.service");
    let unit = fs::read_to_string(unit).unwrap();
    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let mut words = command.split(' ').skip(1);
    let help = run(&[words.next().unwrap(), "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    for option in words.filter(|word| word.starts_with("--")) {
        assert!(help.contains(option), "{option}");
    }
}
