//! The command line as a user sees it: help, errors with their places, exit
//! statuses. Nothing here needs privileges or starts a scenario.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

#[allow(dead_code, reason = "the documents need the rest")]
mod invented;

/// What a command printed and how it ended, with the directory's name left
/// out.
fn harness(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("COLUMNS", "80")
        .env("HOME", directory)
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    hints_name_what_there_is(arguments, &errors);
    format!(
        "$ harness {}\n{}{errors}exit status: {}\n",
        arguments.join(" "),
        String::from_utf8(output.stdout).unwrap(),
        output.status.code().unwrap()
    )
}

/// A hint names options of the command that gave it, or another command with its own.
fn hints_name_what_there_is(arguments: &[&str], errors: &str) {
    let help = |command: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_harness"))
            .args(command)
            .arg("--help")
            .env("COLUMNS", "80")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // What `kernels fetch` has is not what `kernels` has.
    let own = arguments.len().min(match arguments.first() {
        Some(&"kernels" | &"new") => 2,
        _ => 1,
    });
    for hint in errors
        .lines()
        .filter_map(|line| line.strip_prefix("hint: "))
    {
        let mut command = arguments[..own].to_vec();
        let is_end = |c: char| c.is_whitespace() || "`,;:()=".contains(c);
        let words: Vec<&str> = hint.split(is_end).filter(|word| !word.is_empty()).collect();
        for (place, word) in words.iter().enumerate() {
            match *word {
                "advisor" | "cargo" | "sudo" | "apt-get" => command.clear(),
                "harness" => {
                    let rest = words[place + 1..].iter().copied();
                    let name = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase());
                    let known = rest.take_while(name).take(2);
                    command = known.collect();
                    if command.first() != Some(&"kernels") {
                        command.truncate(1);
                    }
                }
                option if option.starts_with("--") && !command.is_empty() => {
                    assert!(
                        help(&command).contains(option),
                        "{command:?} has no {option}, which a hint names: {hint}"
                    );
                }
                _ => {}
            }
        }
    }
}

fn file(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

const GOOD: &str = r#"scenarios:
  - name: hello
    explains: A client says hello.
    source: RFC 9293
    actors:
      server-side: { on: server, steps: [{ listen: 7000 }, accept, { read: 5 }] }
      client-side: { on: client, steps: [{ connect: "server:7000" }, { write: hello }] }
    expect:
      server-side.read.bytes: { always: 5 }
"#;

#[test]
fn help() {
    let directory = tempfile::tempdir().unwrap();
    let text: String = [
        &["--help"][..],
        &["run", "--help"],
        &["list", "--help"],
        &["calibrate", "--help"],
    ]
    .iter()
    .map(|arguments| harness(directory.path(), arguments))
    .collect();
    insta::assert_snapshot!(text);
}

/// What packages install: `bin/harness`, and `share/lastbyte/suites` beside it.
#[test]
fn installed_suites_are_found_where_there_are_none_here() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("prefix");
    let program = file(&prefix, "bin/harness", "");
    std::fs::copy(env!("CARGO_BIN_EXE_harness"), &program).unwrap();
    file(&prefix, "share/lastbyte/suites/installed/good.yaml", GOOD);
    let here = directory.path().join("here");
    std::fs::create_dir(&here).unwrap();
    let list = || {
        let output = Command::new(&program)
            .arg("list")
            .current_dir(&here)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(list(), "installed/good/hello\n");
    // Suites of one's own come first.
    file(&here, "suites/own/good.yaml", GOOD);
    assert_eq!(list(), "own/good/hello\n");
}

#[test]
fn the_version_is_that_of_the_package() {
    let directory = tempfile::tempdir().unwrap();
    let said = harness(directory.path(), &["--version"]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        said,
        format!("$ harness --version\nharness {version}\nexit status: 0\n")
    );
}

#[test]
fn bad_usage() {
    let directory = tempfile::tempdir().unwrap();
    file(directory.path(), "suites/topic/good.yaml", GOOD);
    let newer = "{\"schema\": 99, \"scenarios\": []}";
    file(directory.path(), "report.json", newer);
    file(directory.path(), "cut.json", "{\"schema\": 1, \"scen");
    let text: String = [
        &[][..],
        &["run", "--link", "string"],
        &["run", "--runs", "0"],
        &["run", "--update"],
        &["run", "--keep", "always:"],
        &["run", "--keep", ""],
        &["run", "--clock", "virtual", "--kernel", "host"],
        &["run", "--seed", "seven"],
        &["run", "--seed", "7", "--kernel", "host"],
        &["run", "--seed", "7", "--clock", "real"],
        &["run", "--seed", "7"],
        &["run", "--explore", "0"],
        &["run", "--snapshot", "there", "--exact"],
        &["run", "--modules", "/lib/modules/6.1"],
        &["list", "--filter", "nothing-like-that"],
        &["list", "--filter", "hello", "--filter", "nothing-like-that"],
        &["list", "--shard", "0/2"],
        &["list", "--shard", "3/2"],
        &["list", "--shard", "2/2"],
        &["list", "--shard", "1/2"],
        &["list", "--shard", "1/2", "--durations", "nothing"],
        &["list", "--durations", "nothing"],
        &["run", "--baseline", "nothing"],
        &["run", "--baseline", "suites/topic/good.yaml"],
        &["show", "topic/good/helo"],
        &["show", "topic/good/hello", "--run", "nothing"],
        &["show", "topic/good/hello", "--run", "report.json"],
        &["show", "topic/good/hello", "--run", "cut.json"],
        &["show", "topic/good/hello", "--svg", "x.svg"],
        &["list", "elsewhere"],
        &["run", "elsewhere"],
        &["calibrate"],
        &["calibrate", "--kernel", "auto"],
        &["calibrate", "--kernel", "host"],
        &["calibrate", "--kernel", "debian-4.4"],
        &["calibrate", "--kernel=debian-6.1", "--kernel=debian-6.12"],
        &["calibrate", "--kernel", "debian-6.12"],
        &["kernels", "fetch", "debian-4.4"],
        &["kernels", "fetch"],
        &["kernels", "fetch", "--all", "debian-6.1=6.1.0-47"],
        &["kernels", "import", "nothing"],
        &["kernels", "import", "suites", "--name", "debian-6.1"],
        &["kernels", "remove", "debian-4.4"],
        &["compare"],
        &["compare", "nothing", "suites"],
        &["compare", "--kernel", "host"],
        &["compare", "a", "b", "--runs", "5"],
        &["bisect", "a/b/c", "--good", "host", "--bad", "debian-6.1"],
        &[
            "bisect",
            "topic/good/hello",
            "--good",
            "host",
            "--bad",
            "debian-6.1",
        ],
    ]
    .iter()
    .map(|arguments| harness(directory.path(), arguments))
    .collect();
    insta::assert_snapshot!(text);
}

/// Advice with one recommendation, or with none.
fn advice(kernel: &str, recommendations: &str) -> String {
    format!(
        r#"{{"schema": 1, "host": {{"kernel": "{kernel}", "ram_bytes": 8589934592,
            "page_bytes": 4096, "cpus": 4}}, "recommendations": [{recommendations}]}}"#
    )
}

#[test]
fn proving_says_what_is_missing() {
    const ORPHANS: &str = r#"{"code": "LB101", "name": "orphan-limit-near",
        "subject": "the whole kernel", "setting": "net.ipv4.tcp_max_orphans",
        "current": "16384", "proposed": "32768",
        "evidence": [{"observation": "kernel.sockstat.TCP.orphan", "value": 4410}]}"#;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| file(directory.path(), name, content);
    file("nothing.json", advice("6.18.1", ""));
    file("orphans.json", advice("6.18.1", ORPHANS));
    file(
        "unknown.json",
        advice("6.18.1", &ORPHANS.replace("LB101", "LB999")),
    );
    file(
        "no-count.json",
        advice("6.18.1", &ORPHANS.replace("TCP.orphan", "TCP.mem")),
    );
    file("few.json", advice("6.18.1", &ORPHANS.replace("16384", "3")));
    file("cut.json", advice("6.18.1", ORPHANS)[..200].to_owned());
    file("schema.json", advice("6.18.1", "").replace(": 1,", ": 7,"));
    file(
        "hostile.json",
        advice("6.18.1", &ORPHANS.replace("16384", "\\u001b[31mred")),
    );
    let text: String = [
        &["prove", "--help"][..],
        &["prove", "--advice", "nothing.json"],
        &["prove", "--advice", "orphans.json"],
        &["prove", "--advice", "orphans.json", "--kernel", "host"],
        &[
            "prove",
            "--advice",
            "orphans.json",
            "--kernel",
            "debian-6.1",
        ],
        &["prove", "--advice", "orphans.json", "--output", "few.json"],
        &["prove", "--advice", "orphans.json", "--rule", "LB401"],
        &["prove", "--advice", "unknown.json"],
        &["prove", "--advice", "no-count.json"],
        &["prove", "--advice", "few.json"],
        &["prove", "--advice", "hostile.json"],
        &["prove", "--advice", "cut.json"],
        &["prove", "--advice", "schema.json"],
        &["prove", "--advice", "nowhere.json"],
        &["prove", "--facts", "nothing.json"],
        &["prove", "--facts", "a", "--advice", "b"],
    ]
    .iter()
    .map(|arguments| harness(directory.path(), arguments))
    .collect();
    insta::assert_snapshot!(text);
}

#[test]
fn a_record_is_taken_where_facts_are() {
    let directory = tempfile::tempdir().unwrap();
    file(directory.path(), "empty/notes", "");
    file(directory.path(), "cut/facts-000001.json", "{\"schema\": 2,");
    let facts = {
        let mut facts = invented::host(&[("net.ipv4.tcp_mem", "15000 18000 27000")]);
        invented::add(&mut facts, invented::Kind::OrphanDead, 300, 50_000);
        facts
    };
    let mut text = Vec::new();
    advisor_facts::file::write(&mut text, &facts).unwrap();
    file(directory.path(), "record/facts-000002.json", &text);
    let start = r#"{"line":"start","schema":1,"at":"2026-11-30T03:12:07.123Z","advisor":"0","kernel":"6.12.48","namespace":1,"tells_reset_reasons":true,"unseen":[]}"#;
    let other = start.replace("schema\":1", "schema\":7");
    file(
        directory.path(),
        "record/events-000001.jsonl",
        format!("{start}\n"),
    );
    file(directory.path(), "other/facts-000002.json", &text);
    file(
        directory.path(),
        "other/events-000001.jsonl",
        format!("{other}\n"),
    );
    let set = ["--set", "net.ipv4.tcp_tw_reuse=1"];
    let tried = |record| ["try", "--record", record, set[0], set[1]];
    let told: String = [
        &["reproduce", "--help"][..],
        &["reproduce"],
        &["try", set[0], set[1]],
        &["reproduce", "--facts", "a", "--record", "b"],
        &["reproduce", "--record", "nowhere"],
        &["reproduce", "--record", "empty"],
        &["reproduce", "--record", "cut"],
        &["reproduce", "--record", "other"],
        &tried("nowhere"),
        &tried("other"),
        &["prove", "--record", "nowhere"],
        &["prove", "--record", "other"],
        &["reproduce", "--record", "record", "--output", "host.yaml"],
    ]
    .iter()
    .map(|arguments| harness(directory.path(), arguments))
    .collect();
    let suite = std::fs::read_to_string(directory.path().join("host.yaml")).unwrap();
    assert!(suite.contains("300 orphan with a dead peer"), "{suite}");
    insta::assert_snapshot!(told);
}

#[test]
fn a_good_suite_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    file(directory.path(), "suites/topic/good.yaml", GOOD);
    // The id is the same by whatever path the suite is given.
    let text: String = [
        &["list"][..],
        &["list", "suites/topic/good.yaml"],
        &["list", "./suites/../suites/topic"],
        &["list", "--filter", "hello"],
    ]
    .iter()
    .map(|arguments| harness(directory.path(), arguments))
    .collect();
    insta::assert_snapshot!(text);
}

/// Each bad suite: what to change in the good one.
const CHANGES: &[(&str, &str, &str)] = &[
    ("wrong-key", "explains", "explain"),
    (
        "wrong-type",
        "[{ listen: 7000 }, accept, { read: 5 }]",
        "accept",
    ),
    ("wrong-unit", "read: 5", "read: 5 apples"),
    ("wrong-host", "on: server", "on: sever"),
    ("wrong-endpoint", "server:7000", "sever:7000"),
    ("unknown-step", "accept", "acept"),
    (
        "missing-step",
        "{ write: hello }",
        "{ await: server-side.rad }, { write: hello }",
    ),
    (
        "circular-await",
        "[{ listen: 7000 }",
        "[{ await: client-side.write }, { listen: 7000 }",
    ),
    (
        "unknown-actor",
        "{ write: hello }",
        "{ await: servr-side.read }, { write: hello }",
    ),
    (
        "unknown-socket",
        "write: hello",
        "write: { bytes: hello, on: conect }",
    ),
    ("duplicate-step", "accept,", "accept, accept,"),
    (
        "unknown-observation",
        "server-side.read.bytes",
        "server-side.read.byte",
    ),
    (
        "unknown-counter",
        "server-side.read.bytes",
        "server.TcpExt.TCPAbortOnClosing",
    ),
    (
        "unknown-state",
        "server-side.read.bytes",
        "server.sockets.TIMEWAIT",
    ),
    ("bad-condition", "always: 5", "always: \"> \""),
    ("no-expectation", "{ always: 5 }", "{}"),
    ("reserved-name", "server-side", "kernel"),
    (
        "unknown-option",
        "accept",
        "{ setsockopt: { SO_REUSEADR: 1 } }, accept",
    ),
    (
        "bad-sysctl",
        "    expect:",
        "    sysctls: { server: { tcp_mem: 1 } }\n    expect:",
    ),
    (
        "bad-link",
        "    expect:",
        "    link: { delay: 1ms, jitter: 2ms }\n    expect:",
    ),
    (
        "may-fail-is-a-flag",
        "write: hello",
        "write: { bytes: hello, may-fail: maybe }",
    ),
    (
        "given-of-nothing",
        "    expect:",
        "    given: { client-side.writ.bytes: 5 }\n    expect:",
    ),
    ("within-without-unit", "accept", "accept: { within: 5 }"),
    (
        "never-late",
        "server-side.read.bytes: { always: 5 }",
        "server-side.read.error: { always: late }",
    ),
    (
        "no-such-execution",
        "server-side.read.bytes: { always: 5 }",
        "server-side.read.ms.0: { always: 5 }",
    ),
    (
        "idle-limit-below-a-second",
        "    expect:",
        "    router: { nat: masquerade, idle_limit: 500ms }\n    expect:",
    ),
    (
        "middlebox-without-nat",
        "    expect:",
        "    router: { idle_limit: 2s }\n    expect:",
    ),
    (
        "wrong-on-unknown",
        "    expect:",
        "    router: { nat: masquerade, on_unknown: ignore }\n    expect:",
    ),
    (
        "mtu-too-small",
        "    expect:",
        "    link: { mtu: 67 }\n    expect:",
    ),
    (
        "offload-over-an-impaired-link",
        "    expect:",
        "    offload: true\n    link: { delay: 1ms }\n    expect:",
    ),
    (
        "mtu-too-small-for-ipv6",
        "    expect:",
        "    family: ipv6\n    link: { mtu: 1000 }\n    expect:",
    ),
    (
        "drop-of-what",
        "    expect:",
        "    link: { drop: { first: 1 } }\n    expect:",
    ),
    (
        "drop-first-and-every",
        "    expect:",
        "    link: { drop: { flags: FIN, first: 1, every: 2 } }\n    expect:",
    ),
    (
        "drop-of-no-flag",
        "    expect:",
        "    link: { drop: { flags: FINN } }\n    expect:",
    ),
    (
        "link-becomes-nothing",
        "    expect:",
        "    lab: [{ link: { host: server } }]\n    expect:",
    ),
    (
        "link-of-the-router",
        "    expect:",
        "    lab: [{ link: { host: router, becomes: { loss: 1% } } }]\n    expect:",
    ),
    (
        "cut-sideways",
        "    expect:",
        "    lab: [{ link-down: { host: server, only: up } }]\n    expect:",
    ),
    (
        "inject-nothing",
        "    expect:",
        "    lab: [{ inject: { to: client, peer: server } }]\n    expect:",
    ),
    (
        "inject-both",
        "    expect:",
        "    lab: [{ inject: { to: client, peer: server, flags: RST, icmp: port-unreachable } }]\n    expect:",
    ),
    (
        "inject-data",
        "    expect:",
        "    lab: [{ inject: { to: client, peer: server, flags: DATA } }]\n    expect:",
    ),
    (
        "empty-list",
        "    expect:",
        "    link: { drop: [] }\n    expect:",
    ),
    (
        "until-a-text",
        "    expect:",
        "    lab: [{ until: { observation: server.sockets.ESTABLISHED, condition: none } }]\n    expect:",
    ),
    (
        "cut-at-the-device-of-what-comes",
        "    expect:",
        "    lab: [{ link-down: { host: server, only: towards, at: device } }]\n    expect:",
    ),
    (
        "cut-nowhere",
        "    expect:",
        "    lab: [{ link-down: { host: server, at: qdisc } }]\n    expect:",
    ),
    (
        "inject-into-oneself",
        "    expect:",
        "    lab: [{ inject: { to: client, peer: client, flags: RST } }]\n    expect:",
    ),
    (
        "inject-into-the-router",
        "    expect:",
        "    lab: [{ inject: { to: router, peer: client, flags: RST } }]\n    expect:",
    ),
    (
        "inject-mtu-of-a-reset",
        "    expect:",
        "    lab: [{ inject: { to: client, peer: server, flags: RST, mtu: 1400 } }]\n    expect:",
    ),
    (
        "inject-ack-of-an-error",
        "    expect:",
        "    lab: [{ inject: { to: client, peer: server, icmp: net-unreachable, ack: 5 } }]\n    expect:",
    ),
    (
        "inject-seq-as-a-word",
        "    expect:",
        "    lab: [{ inject: { to: client, peer: server, flags: RST, seq: next } }]\n    expect:",
    ),
    (
        "epoll-that-nobody-made",
        "accept,",
        "accept, { epoll-wait: all },",
    ),
    (
        "error-queue-of-nothing",
        "accept,",
        "accept, { error-queue: conn },",
    ),
    (
        "address-in-place-of-a-name",
        "listen: 7000",
        "listen: \"0.0.0.0:7000\"",
    ),
    (
        "family-that-the-address-is-not-of",
        "{ listen: 7000 }",
        "{ socket: { family: ipv4 } }, { listen: \"any6:7000\" }",
    ),
    (
        "wrong-protocol",
        "{ listen: 7000 }",
        "{ socket: { protocol: sctp } }, { listen: 7000 }",
    ),
    (
        "ports-the-wrong-way-round",
        "{ listen: 7000 }",
        "socket, { setsockopt: { IP_LOCAL_PORT_RANGE: [50000, 40000] } }, { listen: 7000 }",
    ),
    (
        "read-only-option",
        "{ listen: 7000 }",
        "socket, { setsockopt: { SO_ACCEPTCONN: 1 } }, { listen: 7000 }",
    ),
    (
        "no-such-tcp-info",
        "accept,",
        "accept, { tcp-info: round_trip },",
    ),
    ("no-such-ioctl", "accept,", "accept, { ioctl: SIOCATMARK },"),
    (
        "no-such-flag",
        "accept,",
        "accept, { send: { bytes: 1, flags: MSG_PEEK } },",
    ),
    (
        "no-such-epoll-event",
        "accept,",
        "accept, { epoll-ctl: { epoll: all, events: POLLIN } },",
    ),
    (
        "rights-to-nobody",
        "accept,",
        "accept, { send-rights: somebody },",
    ),
    (
        "rights-to-another-host",
        "accept,",
        "accept, { send-rights: client-side },",
    ),
    (
        "packets-of-no-kind",
        "server-side.read.bytes",
        "server.packets.sent.RTS",
    ),
    (
        "packets-of-no-direction",
        "server-side.read.bytes",
        "server.packets.out.RST",
    ),
    (
        "packets-of-no-peer",
        "server-side.read.bytes",
        "server.packets.to.clint.RST",
    ),
    (
        "axis-of-several-values-in-a-text",
        "{ write: hello }",
        "{ write: \"hello $who!\" }",
    ),
    ("bad-indent", "    source: RFC 9293", "   source: RFC 9293"),
];

#[test]
fn a_filter_with_an_axis_chooses_among_all_cells() {
    let directory = tempfile::tempdir().unwrap();
    let axes =
        "matrix: { delay: [1ms, 2ms, 3ms], family: [ipv4, ipv4-mapped], text: [hello, howdy] }";
    let matrix = GOOD
        .replace(
            "    actors:",
            &format!("    {axes}\n    family: $family\n    link: {{ delay: $delay }}\n    actors:"),
        )
        .replace("write: hello", "write: $text");
    file(directory.path(), "suites/topic/cells.yaml", matrix);
    let text: String = [
        &["list"][..],
        &["list", "--filter", "delay=2ms"],
        &[
            "list",
            "--filter",
            "family=ipv4,delay=2ms",
            "--filter",
            "cells",
        ],
    ]
    .iter()
    .map(|arguments| harness(directory.path(), arguments))
    .collect();
    insta::assert_snapshot!(text);
}

#[test]
fn that_a_report_can_be_written_is_tried_first() {
    let directory = tempfile::tempdir().unwrap();
    file(directory.path(), "suite.yaml", GOOD);
    let arguments = ["run", "--report", "suite.yaml", "suite.yaml"];
    insta::assert_snapshot!(harness(directory.path(), &arguments));
}

#[test]
fn bad_suites() {
    let directory = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for (name, from, to) in CHANGES {
        let mut bad = GOOD.replace(from, to);
        assert_ne!(bad, GOOD, "{name}");
        if bad.contains("$who") {
            let matrix = "    matrix: { who: { all: { first: a } } }\n    actors:";
            bad = bad.replace("    actors:", matrix);
        }
        let path = format!("{name}.yaml");
        file(directory.path(), &path, bad);
        text += &harness(directory.path(), &["run", &path]);
    }
    let duplicate = GOOD.replacen("scenarios:\n", "", 1);
    file(
        directory.path(),
        "duplicate-name.yaml",
        format!("{GOOD}{duplicate}"),
    );
    text += &harness(directory.path(), &["run", "duplicate-name.yaml"]);
    insta::assert_snapshot!(text);
}

#[test]
fn files_that_are_no_suite() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    file(root, "empty.yaml", "");
    file(root, "comment.yaml", "# nothing\n");
    file(root, "not-text.yaml", b"scenarios:\n  - \xff\xfe\n");
    // Ten megabytes that look like nothing.
    let garbage: Vec<u8> = (0..10_u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    file(root, "garbage.yaml", garbage);
    file(root, "long-line.yaml", "a".repeat(3 << 20));
    file(root, "deep.yaml", "[".repeat(100_000));
    let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..20 {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{below}]");
    }
    file(root, "bomb.yaml", bomb + "scenarios: *a19\n");
    std::fs::create_dir(root.join("empty-directory")).unwrap();
    let text: String = [
        "empty.yaml",
        "comment.yaml",
        "not-text.yaml",
        "garbage.yaml",
        "long-line.yaml",
        "deep.yaml",
        "bomb.yaml",
        "empty-directory",
        "missing.yaml",
    ]
    .iter()
    .map(|name| harness(root, &["run", name]))
    .collect();
    insta::assert_snapshot!(text);
}
