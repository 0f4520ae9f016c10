//! The report of real runs: traces, pictures, and what happens when a run is interrupted or
//! its output can't be written.

use std::fs::{self, OpenOptions};
use std::process::{Command, Stdio};
use std::time::Duration;

use advisor_facts::release::Release;
use harness::lab::namespace::kernel_release;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::program::suite;

const HARNESS: &str = env!("CARGO_BIN_EXE_harness");

const SUITE: &str = r#"scenarios:
  - name: reset
    explains: close() with unread data resets.
    source: RFC 1122
    runs: 1
    actors:
      receiver: { on: server, steps: [{ listen: 7000 }, accept, { write: hello }, read-to-end] }
      sender:
        on: client
        steps: [{ connect: "server:7000" }, { poll: { events: POLLIN } }, { write: 10 }, close]
    expect:
      receiver.read-to-end.error: { always: none, because: It is a wish. }
"#;

#[test]
fn a_run_that_failed_is_drawn_from_its_packets() {
    let suite = suite(SUITE);
    let report = suite.beside("report");
    let run = Command::new(HARNESS)
        .arg("run")
        .arg(suite.path())
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
    assert_eq!(
        run.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&run.stdout)
    );
    let page = fs::read_to_string(report.join("report.html")).unwrap();
    // What the kernel told of, which only root is told.
    let terminal = String::from_utf8(run.stdout).unwrap();
    let markdown = fs::read_to_string(report.join("report.md")).unwrap();
    let release = Release::of_kernel(&kernel_release()).unwrap();
    let reason = if release >= Release::new(6, 10) {
        "TCP_ABORT_ON_CLOSE"
    } else {
        "UNKNOWN"
    };
    for text in [&terminal, &markdown, &page] {
        let sent = format!("client sends RST: {reason}, by sender, ");
        assert_eq!(
            text.contains(&sent),
            geteuid().is_root(),
            "{sent} in\n{text}"
        );
        if geteuid().is_root() {
            let after = text.split(&sent).nth(1).unwrap();
            assert!(after.contains("server gets RST"), "{text}");
        }
    }
    for says in [
        "expected none, got ECONNRESET",
        "It is a wish.",
        "SYN-ACK",
        "RST",
        "not as expected",
    ] {
        assert!(page.contains(says), "{says}");
    }
    let show = |more: &[&str]| {
        let output = Command::new(HARNESS)
            .args(["show", "live/suite/reset", "--run"])
            .arg(&report)
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let drawn = show(&[]);
    let place = |text: &str| {
        drawn
            .find(text)
            .unwrap_or_else(|| panic!("{text} in\n{drawn}"))
    };
    // The calls and the segments that they cause, in the order of time.
    let order = [
        "SYN -",
        "SYN-ACK",
        "5 bytes -",
        "10 bytes -",
        "RST -",
        "ECONNRESET",
    ];
    for pair in order.windows(2) {
        assert!(place(pair[0]) < place(pair[1]), "{pair:?} in\n{drawn}");
    }
    let file = suite.beside("picture.svg");
    show(&["--svg", file.to_str().unwrap()]);
    let svg = fs::read_to_string(file).unwrap();
    assert!(
        svg.starts_with("<svg xmlns=") && svg.contains("RST"),
        "{svg}"
    );
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let suite = suite(SUITE);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = Command::new(HARNESS)
        .arg("run")
        .arg(suite.path())
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert!(
        said.starts_with("error: standard output: No space left on device"),
        "{said}"
    );
}

#[test]
fn what_had_ended_before_ctrl_c_is_reported() {
    let slow = "  - { name: slow, explains: e, source: s, runs: 1, time_limit: 5min, actors: { one: { \
                on: client, steps: [{ listen: 7000 }, { sleep: 4min }] } }, expect: { \
                one.listen.error: { always: none } } }\n";
    let suite = suite(&format!("{SUITE}{slow}"));
    let report = suite.beside("report");
    let run = Command::new(HARNESS)
        .arg("run")
        .arg(suite.path())
        .arg("--report")
        .arg(&report)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its line is printed as it ends.
    let mut run = run;
    let mut first = String::new();
    let mut stdout = std::io::BufReader::new(run.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut first).unwrap();
    assert!(first.contains("live/suite/reset"), "{first}");
    // Until then the other one has long begun.
    std::thread::sleep(Duration::from_millis(200));
    kill(
        Pid::from_raw(i32::try_from(run.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let ended = run.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("stopped: live/suite/slow"), "{said}");
    let json = fs::read_to_string(report.join("report.json")).unwrap();
    assert!(json.contains("live/suite/reset") && json.contains("\"interrupted\": true"));
    assert!(!json.contains("live/suite/slow"));
}
