//! The answer as people on call read it: its first screen, what its exit status means,
//! and what they have accepted.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the tests run the program and make files for it"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

mod recorded;

/// Runs the program without a terminal.
fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_advisor"))
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"))
        .env_remove("COLUMNS")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What was printed, and how it ended.
fn shown(output: &Output) -> String {
    let status = output.status.code().unwrap();
    let errors = text(&output.stderr);
    format!("{}{errors}--- exit status {status}\n", text(&output.stdout))
}

/// The advice for a recorded host.
fn recommend(name: &str, args: &[&str]) -> Output {
    let host = recorded::directory(name);
    let root = ["recommend", "--root", host.path().to_str().unwrap()];
    run(&[&root, args].concat())
}

#[test]
fn the_first_screen_is_the_answer_and_brief_is_that_screen_alone() {
    for name in recorded::names() {
        let brief = text(&recommend(&name, &["--brief"]).stdout);
        let whole = text(&recommend(&name, &[]).stdout);
        assert!(whole.starts_with(&brief), "{name}: {brief}");
        for line in brief.lines() {
            let is_word = line.trim().split(' ').count() == 1;
            assert!(line.len() <= 80 || is_word, "{name}: {line}");
            assert!(!line.contains('\u{1b}'), "{name}: {line}");
        }
    }
    insta::assert_snapshot!(shown(&recommend("orphan-limit-near-unpaid", &["--brief"])));
}

#[test]
fn the_exit_status_is_that_of_the_severity_that_was_asked_for() {
    for (name, fail_on, status) in [
        ("fin-timeout-shortened", "notice", 1),
        ("fin-timeout-shortened", "warning", 0),
        ("close-wait-left", "warning", 1),
        ("close-wait-left", "critical", 0),
        ("accept-queue-full", "critical", 1),
        ("quiet", "notice", 0),
    ] {
        let output = recommend(name, &["--fail-on", fail_on]);
        assert_eq!(output.status.code(), Some(status), "{name} {fail_on}");
    }
}

/// A file of accepted findings that the recorded host `fin-timeout-shortened` has.
const ACCEPTED: &str = "[[accepted]]\ncode = \"LB302\"\nsubject = \"net.ipv4.tcp_fin_timeout\"\n\
    reason = \"an audit of a customer wants it, TICKET-7\"\nuntil = 2025-10-31\n";

#[test]
fn what_is_accepted_is_counted_and_decides_no_exit_status() {
    let host = recorded::directory("fin-timeout-shortened");
    let directory = host.path().join("etc/lastbyte");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("advisor.toml"), ACCEPTED).unwrap();
    let root = ["recommend", "--root", host.path().to_str().unwrap()];
    insta::assert_snapshot!("accepted", shown(&run(&[&root, &["--brief"][..]].concat())));
    let verbose = text(&run(&[&root, &["--verbose"][..]].concat()).stdout);
    let (_, accepted) = verbose.split_once("\nAccepted\n").unwrap();
    insta::assert_snapshot!("accepted-verbose", accepted.lines().next().unwrap());
    let markdown = text(&run(&[&root, &["--format", "markdown"][..]].concat()).stdout);
    assert!(markdown.contains("\n## Accepted\n\n- LB302 "), "{markdown}");
    assert!(markdown.contains("TICKET-7"), "{markdown}");
    let json = run(&[&root, &["--format", "json"][..]].concat());
    let advice: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(advice["recommendations"].as_array().unwrap().is_empty());
    assert_eq!(advice["accepted"][0]["code"], "LB302");
    assert_eq!(advice["accepted"][0]["accepted"]["until"], "2025-10-31");

    // The host was recorded on 2025-10-10.
    let config = directory.join("over.toml");
    fs::write(&config, ACCEPTED.replace("10-31", "10-09")).unwrap();
    let config = ["--config", config.to_str().unwrap(), "--brief"];
    insta::assert_snapshot!(
        "accepted-is-over",
        shown(&run(&[&root[..], &config].concat()))
    );
}

#[test]
fn a_wrong_file_of_accepted_findings_is_named_by_line_and_column() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(
        &directory.path().to_str().unwrap().replace('.', "\\."),
        "DIR",
    );
    settings.bind(|| {
        for (name, from, to) in [
            ("config-key", "reason", "reson"),
            ("config-date", "2025-10-31", "2025-13-31"),
            ("config-code", "LB302", "fin-timeout-shorted"),
        ] {
            let path = directory.path().join(name);
            fs::write(&path, ACCEPTED.replace(from, to)).unwrap();
            let config = ["recommend", "--config", path.to_str().unwrap()];
            insta::assert_snapshot!(name, shown(&run(&config)));
        }
        let nowhere = ["recommend", "--config", "nowhere.toml"];
        insta::assert_snapshot!("config-nowhere", shown(&run(&nowhere)));
    });
}

#[test]
fn a_line_of_the_log_is_explained() {
    for (name, line) in [
        (
            "line-of-a-rule",
            "Nov 30 08:00:26 web1 kernel: [16508.733356] TCP: too many orphaned sockets",
        ),
        (
            "line-of-no-rule",
            "[    7.0] neighbour: arp_cache: neighbor table overflow!",
        ),
        ("line-unknown", "eth0: link up\u{1b}[31m"),
        ("rule-misspelled", "orphan-limit-neer"),
    ] {
        insta::assert_snapshot!(name, shown(&run(&["explain", line])));
    }
}

#[test]
fn no_command_line_is_shown_unless_it_is_asked_for() {
    let host = recorded::directory("quiet");
    let root = host.path();
    let process = root.join("proc/812");
    fs::create_dir_all(process.join("fd")).unwrap();
    fs::write(process.join("comm"), "python3\n").unwrap();
    let arguments = "python3\0/srv/shop/server.py\0--password=hunter2\0";
    fs::write(process.join("cmdline"), arguments).unwrap();
    fs::write(process.join("cgroup"), "0::/system.slice/shop.service\n").unwrap();
    std::os::unix::fs::symlink("/usr/bin/python3.11", process.join("exe")).unwrap();
    // A socket of this host, by its inode.
    std::os::unix::fs::symlink("socket:[23716]", process.join("fd/3")).unwrap();
    fs::create_dir_all(root.join("proc/sys/kernel")).unwrap();
    fs::write(root.join("proc/sys/kernel/hostname"), "web1\n").unwrap();
    let root = root.to_str().unwrap();
    let name = "server.py (812, python3.11, unit shop.service)";
    for args in [
        &["sockets", "--root", root][..],
        &[
            "sockets", "--root", root, "--by", "process", "--format", "json",
        ],
        &["recommend", "--root", root, "--verbose"],
        &["recommend", "--root", root, "--format", "json"],
        &["capture", "--root", root],
        &["capture", "--root", root, "--redact"],
    ] {
        let output = text(&run(args).stdout);
        assert!(!output.contains("hunter2"), "{args:?}: {output}");
        let is_redacted = args.contains(&"--redact");
        assert_eq!(output.contains("web1"), !is_redacted, "{args:?}: {output}");
        assert!(!is_redacted || !output.contains("shop"), "{output}");
        if args[0] == "sockets" {
            assert!(output.contains(name), "{args:?}: {output}");
        }
    }
    for command in ["sockets", "capture"] {
        let output = text(&run(&[command, "--root", root, "--verbose"]).stdout);
        assert!(output.contains("hunter2"), "{command}: {output}");
    }
}
