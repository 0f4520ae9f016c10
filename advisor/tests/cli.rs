//! The program as it is used: its help, its answers on recorded hosts, its
//! errors and its exit status.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the tests run the program and make files for it"
)]

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

mod recorded;

/// The program, in the directory of the tests and without a terminal.
fn advisor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_advisor"));
    command
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"))
        .env_remove("COLUMNS")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    advisor(args).output().unwrap()
}

/// What was printed, and how it ended.
fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let errors = match text(&output.stderr) {
        errors if errors.is_empty() => errors,
        errors => format!("--- stderr\n{errors}"),
    };
    let status = output.status.code().unwrap();
    format!("{}{errors}--- exit status {status}\n", text(&output.stdout))
}

#[test]
fn help() {
    insta::assert_snapshot!("help", shown(&run(&["--help"])));
    for command in [
        "recommend",
        "sockets",
        "capture",
        "lint",
        "explain",
        "rules",
    ] {
        insta::assert_snapshot!(format!("{command}-help"), shown(&run(&[command, "--help"])));
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let said = shown(&run(&["--version"]));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(said, format!("advisor {version}\n--- exit status 0\n"));
}

/// The advice for a recorded host.
fn recommend(name: &str, args: &[&str]) -> Output {
    let host = recorded::directory(name);
    let root = ["recommend", "--root", host.path().to_str().unwrap()];
    run(&[&root, args].concat())
}

/// What stands above the first of these titles is about what was found. The rest
/// is the same for most hosts, and changes with the number of rules.
const AFTER_WHAT_WAS_FOUND: [&str; 4] = [
    "\nLeave as it is\n",
    "\nNot evaluated\n",
    "\nNot seen\n",
    "\nEvery other rule",
];

/// What an answer says of what was found.
fn found(output: &Output) -> String {
    let mut answer = shown(output);
    let ends = AFTER_WHAT_WAS_FOUND
        .iter()
        .filter_map(|title| answer.find(title));
    answer.truncate(ends.min().expect("an answer ends with what was not found"));
    answer
}

#[test]
fn every_recorded_host_has_its_answer() {
    for name in recorded::names() {
        let output = recommend(&name, &[]);
        insta::assert_snapshot!(format!("host-{name}"), found(&output));
        assert_fits(&output);
    }
}

#[test]
fn a_host_without_a_problem_is_told_so_and_no_rule_is_listed() {
    let output = recommend("quiet", &[]);
    insta::assert_snapshot!("quiet-in-full", shown(&output));
    let verbose = recommend("quiet", &["--verbose"]);
    assert_fits(&verbose);
    let verbose = String::from_utf8(verbose.stdout).unwrap();
    let advice = recommend("quiet", &["--format", "json"]);
    for rule in rules_of(&advice) {
        let line = format!("\n  {} {}: ", rule.code, rule.name);
        assert!(verbose.contains(&line), "{line}{verbose}");
    }
}

#[test]
fn what_could_not_be_told_is_listed_with_the_reason() {
    let output = recommend("container", &[]);
    assert_eq!(output.status.code(), Some(4));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("No problem found. Not seen: orphans, tcp_mem "),
        "{text}"
    );
    let (_, rest) = text.split_once("\nNot evaluated\n").unwrap();
    let (not_evaluated, rest) = rest.split_once("\nNot seen\n").unwrap();
    insta::assert_snapshot!("container-not-seen", rest);
    let advice = recommend("container", &["--format", "json"]);
    let mut rules = rules_of(&advice);
    rules.retain(|rule| rule.outcome == "not-evaluated");
    assert!(!rules.is_empty());
    for rule in rules {
        assert!(not_evaluated.contains(&rule.code), "{}", rule.code);
        assert!(
            in_a_line(not_evaluated).contains(&in_a_line(&rule.reason)),
            "{}",
            rule.reason
        );
    }
}

/// What became of a rule, in the JSON of an answer.
#[derive(serde::Deserialize)]
struct RuleOutcome {
    code: String,
    name: String,
    outcome: String,
    reason: String,
}

fn rules_of(advice: &Output) -> Vec<RuleOutcome> {
    let advice: serde_json::Value = serde_json::from_slice(&advice.stdout).unwrap();
    serde_json::from_value(advice["rules"].clone()).unwrap()
}

/// A text without its line breaks.
fn in_a_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ")
}

#[test]
fn sockets_are_put_together_as_asked() {
    let host = recorded::directory("dead-peer-holds-memory");
    let root = host.path().to_str().unwrap();
    for by in ["memory", "process", "peer", "state"] {
        let args = ["sockets", "--root", root, "--by", by, "--top", "3"];
        let output = run(&args);
        assert_fits(&output);
        insta::assert_snapshot!(format!("sockets-{by}"), shown(&output));
    }
    let json = ["sockets", "--root", root, "--top", "1", "--format", "json"];
    insta::assert_snapshot!("sockets-json", shown(&run(&json)));
}

#[test]
fn a_hostile_name_is_inert() {
    let directory = recorded::directory("dead-peer-holds-memory");
    let process = directory.path().join("proc/4711");
    fs::create_dir_all(process.join("fd")).unwrap();
    fs::write(process.join("comm"), "\u{1b}[31mred\r\u{202e}\u{9b}K\n").unwrap();
    fs::write(
        process.join("cgroup"),
        "0::/lxc.payload.\u{1b}]0;title\u{7}\n",
    )
    .unwrap();
    let sockets = run(&["capture", "--root", directory.path().to_str().unwrap()]);
    let facts: serde_json::Value = serde_json::from_slice(&sockets.stdout).unwrap();
    for (number, socket) in facts["facts"]["now"]["sockets"]["all"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|socket| socket["inode"].is_u64())
        .enumerate()
    {
        let link = process.join(format!("fd/{number}"));
        std::os::unix::fs::symlink(format!("socket:[{}]", socket["inode"]), link).unwrap();
    }
    let root = directory.path().to_str().unwrap();
    for by in ["memory", "process"] {
        for format in ["text", "json"] {
            let output = run(&["sockets", "--root", root, "--by", by, "--format", format]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("[31mred"), "{text}");
            let obeyed = |character: char| character.is_control() && character != '\n';
            assert!(!text.contains(obeyed), "{text:?}");
            assert!(format == "json" || !text.contains('\u{202e}'), "{text:?}");
        }
    }
}

#[test]
fn a_captured_host_has_the_same_answer_elsewhere_and_later() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("host.json");
    for name in recorded::names() {
        let host = recorded::directory(&name);
        let root = host.path().to_str().unwrap();
        let captured = run(&["capture", "--root", root]);
        assert_eq!(captured.status.code(), Some(0));
        fs::write(&file, &captured.stdout).unwrap();
        let here = run(&["recommend", "--root", root]);
        let there = run(&["recommend", "--facts", file.to_str().unwrap()]);
        assert_eq!(shown(&here), shown(&there), "{name}");
        // Without addresses it is the same but for them.
        let redacted = run(&["capture", "--redact", "--root", root]);
        fs::write(&file, &redacted.stdout).unwrap();
        let there = run(&["recommend", "--facts", file.to_str().unwrap()]);
        assert_eq!(here.status.code(), there.status.code(), "{name}");
        assert!(!shown(&there).contains("192.0.2."), "{name}");
    }
}

#[test]
fn a_capture_is_a_baseline_for_a_later_look() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("earlier.json");
    let captured = run(&["capture"]);
    fs::write(&file, &captured.stdout).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    let output = run(&["recommend", "--baseline", file.to_str().unwrap()]);
    assert!(
        matches!(output.status.code(), Some(0 | 1 | 4)),
        "{output:?}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("in two looks"), "{text}");
}

/// A line may be longer than 80 columns only where a word is: it has to stay
/// whole.
fn assert_fits(output: &Output) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    for line in text.lines() {
        assert!(
            line.chars().count() <= 80 || !line.trim().contains(' '),
            "{line}"
        );
    }
}

#[test]
fn json() {
    let args = ["--format", "json", "--report", "reports/report.json"];
    let output = recommend("orphan-limit-near", &args);
    assert_eq!(output.status.code(), Some(1));
    let mut answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rules = answer["rules"].as_array_mut().unwrap();
    assert_eq!(
        codes(rules),
        codes(&all_rules()),
        "every rule has an outcome"
    );
    rules.retain(|rule| rule["outcome"] == "fired");
    insta::assert_snapshot!("json", format!("{answer:#}"));
    let recommendation = answer["recommendations"][0].as_object().unwrap();
    let mut keys: Vec<_> = recommendation.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "action",
            "also",
            "apply",
            "code",
            "confidence",
            "cost",
            "current",
            "evidence",
            "kind",
            "name",
            "proposed",
            "rests_on",
            "risk",
            "scenario",
            "setting",
            "severity",
            "subject",
            "summary",
            "undo",
            "verify",
            "why",
            "window",
        ]
    );
}

#[test]
fn a_plan_is_written_for_a_wiki_and_for_sysctl() {
    let sysctl = recommend("orphan-limit-near-unpaid", &["--format", "sysctl"]);
    insta::assert_snapshot!("format-sysctl", shown(&sysctl));
    let markdown = |host| {
        let output = recommend(host, &["--format", "markdown"]);
        String::from_utf8(output.stdout).unwrap()
    };
    let found = markdown("orphan-limit-near-unpaid");
    insta::assert_snapshot!("format-markdown", found);
    let markdown = markdown("container");
    let (_, rest) = markdown.split_once("\n## Not evaluated\n").unwrap();
    assert!(rest.contains("\n- LB"), "{rest}");
    assert!(
        rest.ends_with("\n\nEvery other rule found nothing.\n"),
        "{rest}"
    );
}

#[test]
fn files_are_judged_by_line() {
    let lint = |args: &[&str]| {
        let output = run(&[&["lint"], args].concat());
        shown(&output)
    };
    insta::assert_snapshot!(
        "lint-hosts",
        lint(&[
            "hosts/file-line-overruled",
            "hosts/file-line-not-understood",
            "hosts/file-holds-wrong-value",
            "hosts/orphan-limit-beyond-memory/etc/sysctl.d",
            "hosts/setting-unknown-here/etc/sysctl.d/60-tuning.conf",
        ])
    );
    insta::assert_snapshot!("lint-wrong", lint(&["settings/circulating.conf"]));
    insta::assert_snapshot!(
        "lint-wrong-for-a-host",
        lint(&[
            "--ram",
            "16GiB",
            "--page-size",
            "64KiB",
            "--kernel",
            "4.9",
            "settings/circulating.conf",
        ])
    );
    insta::assert_snapshot!("lint-quiet", lint(&["hosts/quiet"]));
    insta::assert_snapshot!(
        "lint-json",
        lint(&["--format", "json", "hosts/tw-buckets-few"])
    );
    let junk = tempfile::tempdir().unwrap();
    fs::write(junk.path().join("junk.conf"), b"a.b = 1\n\x7fELF\x02\0\0\n").unwrap();
    // A name is as hostile as a line.
    fs::write(junk.path().join("a\u{1b}[31m.conf"), "x\u{1b}[31my\n").unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(&regex_of(junk.path()), "DIR");
    settings.bind(|| {
        insta::assert_snapshot!("lint-junk", lint(&[junk.path().to_str().unwrap()]));
    });
}

#[test]
fn every_rule_is_listed_and_explained() {
    let list = String::from_utf8(run(&["rules"]).stdout).unwrap();
    let rules = all_rules();
    assert_eq!(list.lines().count(), rules.len());
    for (line, rule) in list.lines().zip(&rules) {
        let text = |key: &str| rule[key].as_str();
        let (code, name) = (text("code").unwrap(), text("name").unwrap());
        let scenario = text("scenario").unwrap_or_default();
        assert_eq!(
            in_a_line(line),
            in_a_line(&format!("{code} {name} {scenario}"))
        );
        let by_code = run(&["explain", code]);
        assert_eq!(by_code.stdout, run(&["explain", name]).stdout);
        assert_fits(&by_code);
        assert!(by_code.status.success());
        let explained = in_a_line(&String::from_utf8(by_code.stdout).unwrap());
        let references = rule["references"].as_array().unwrap().iter();
        let documentation = [
            "detects",
            "evidence",
            "recommendation",
            "cost",
            "risk",
            "undo",
        ];
        let documentation = documentation.map(|key| &rule[key]);
        for said in documentation.into_iter().chain(references) {
            let said = said.as_str().unwrap();
            assert!(explained.contains(&in_a_line(said)), "{code}: {said}");
        }
    }
    insta::assert_snapshot!("explain", shown(&run(&["explain", "LB101"])));
}

/// Every rule with its documentation.
fn all_rules() -> Vec<serde_json::Value> {
    serde_json::from_slice(&run(&["rules", "--format", "json"]).stdout).unwrap()
}

fn codes(rules: &[serde_json::Value]) -> Vec<&str> {
    rules
        .iter()
        .map(|rule| rule["code"].as_str().unwrap())
        .collect()
}

/// docs/questions.md leads to rules and commands that there are.
#[test]
fn every_question_has_an_answer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/questions.md");
    let text = fs::read_to_string(path).unwrap();
    let rules = String::from_utf8(run(&["rules"]).stdout).unwrap();
    let rules: Vec<_> = rules
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let commands: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    let questions: Vec<_> = text.split("\n## ").skip(1).collect();
    assert!(questions.len() >= 8);
    for question in questions {
        let words: Vec<_> = question
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| !word.is_empty())
            .collect();
        let codes = words.iter().filter(|word| {
            word.strip_prefix("LB")
                .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        });
        let mut answers = 0;
        for code in codes {
            assert!(rules.contains(code), "{code}: {question}");
            answers += 1;
        }
        for (_, command) in words
            .iter()
            .zip(words.iter().skip(1))
            .filter(|(word, _)| **word == "advisor")
        {
            assert!(commands.contains(command), "advisor {command}: {question}");
            answers += 1;
        }
        assert!(answers > 0, "{question}");
    }
}

#[test]
fn a_report_is_evidence_and_its_text_is_inert() {
    // The directory that holds the report will do as well.
    let output = recommend("port-held-without-listener", &["--report", "reports"]);
    assert!(!output.stdout.contains(&0x1b));
    assert_fits(&output);
    insta::assert_snapshot!("report", found(&output));
}

/// Made by `harness prove --advice`, of the advice for this recorded host.
const PROOF: &str = "proofs/orphan-limit-near.json";

#[test]
fn a_proof_stands_beside_what_it_is_of() {
    let proven = |host: &str, format: &str| {
        let output = recommend(host, &["--proof", PROOF, "--format", format]);
        assert_eq!(output.status.code(), Some(1));
        output
    };
    let text = proven("orphan-limit-near", "text");
    assert_fits(&text);
    insta::assert_snapshot!("proof", found(&text));
    for format in ["markdown", "sysctl", "json"] {
        let output = proven("orphan-limit-near", format);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("5 of 5 runs before"), "{text}");
    }
    // Of the same kind of host, and of other advice.
    let other = proven("dead-peer-holds-memory", "json");
    let other = String::from_utf8(other.stdout).unwrap();
    assert!(
        other.contains("no: the proof has no trial of LB401"),
        "{other}"
    );
}

#[test]
fn what_became_of_all_together_stands_on_the_first_screen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proof.json");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let text = fs::read_to_string(tests.join(PROOF)).unwrap();
    let mut proof: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut trial = proof["trials"][0].clone();
    let claim = trial["claim"].clone();
    trial["verdict"] = "harmful".into();
    trial["reason"] = "a transfer to a healthy peer is later".into();
    proof["whole"] =
        serde_json::json!({"claims": [claim, claim], "trial": trial, "fire_after": []});
    fs::write(&path, proof.to_string()).unwrap();
    for format in ["text", "markdown", "sysctl", "json"] {
        let options = ["--proof", path.to_str().unwrap(), "--format", format];
        let answer = recommend("orphan-limit-near", &options).stdout;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("(LB101, LB101): harmful"), "{answer}");
    }
    // Of a plan with something else in it nothing is said here.
    proof["whole"]["claims"][1]["proposed"] = "1".into();
    fs::write(&path, proof.to_string()).unwrap();
    let answer = recommend("orphan-limit-near", &["--proof", path.to_str().unwrap()]).stdout;
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.contains("Tried together"), "{answer}");
}

#[test]
fn what_did_not_help_is_not_set_and_comes_last() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proof.json");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let proof = fs::read_to_string(tests.join(PROOF)).unwrap();
    let failed = proof.replace("\"proven\"", "\"no-difference\"");
    assert_ne!(proof, failed);
    fs::write(&path, failed).unwrap();
    let path = path.to_str().unwrap();
    let text = recommend("orphan-limit-near", &["--proof", path]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("The last one was tried and did not help."),
        "{text}"
    );
    let sysctl = recommend(
        "orphan-limit-near",
        &["--proof", path, "--format", "sysctl"],
    )
    .stdout;
    let sysctl = String::from_utf8(sysctl).unwrap();
    assert!(
        sysctl.contains("\n# net.ipv4.tcp_max_orphans = 23552\n"),
        "{sysctl}"
    );
}

#[test]
fn errors() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let schema = file("schema.json", r#"{"schema": 7}"#);
    let cut = file("cut.json", r#"{"schema": 1, "scenarios": ["#);
    let other_facts = file("other.json", "{\"schema\": 9,\n\"hosts\": []}");
    let captured = String::from_utf8(run(&["capture", "--root", "hosts/quiet"]).stdout).unwrap();
    let (beginning, _) = captured.split_once("\"cpus\"").unwrap();
    let cut_facts = file("cut-facts.json", beginning);
    let facts = file("facts.json", &captured);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let proof = fs::read_to_string(tests.join(PROOF)).unwrap();
    let of_another = file("of-another.json", &proof.replace("6.12.48", "6.1.0"));
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(&regex_of(directory.path()), "DIR");
    settings.bind(|| {
        for (name, args) in [
            ("error-usage", &["recommend", "--over", "30"][..]),
            (
                "error-over-of-a-record",
                &["recommend", "--over", "30s", "--root", "hosts/quiet"],
            ),
            ("error-sockets-none", &["sockets", "--top", "0"]),
            ("error-no-command", &["advise"]),
            (
                "error-no-report",
                &["recommend", "--report", "nowhere.json"],
            ),
            ("error-report-schema", &["recommend", "--report", &schema]),
            ("error-report-cut", &["recommend", "--report", &cut]),
            (
                "error-no-proof",
                &[
                    "recommend",
                    "--root",
                    "hosts/quiet",
                    "--proof",
                    "nowhere.json",
                ],
            ),
            (
                "error-proof-cut",
                &["recommend", "--root", "hosts/quiet", "--proof", &cut],
            ),
            (
                "error-proof-other-host",
                &["recommend", "--root", "hosts/quiet", "--proof", &of_another],
            ),
            ("error-no-rule", &["explain", "LB999"]),
            ("error-lint-nothing", &["lint", "nowhere.conf"]),
            ("error-lint-kernel", &["lint", "--kernel", "six"]),
            (
                "error-facts-schema",
                &["recommend", "--facts", &other_facts],
            ),
            ("error-facts-cut", &["recommend", "--facts", &cut_facts]),
            ("error-facts-garbage", &["recommend", "--facts", "cli.rs"]),
            ("error-no-facts", &["recommend", "--facts", "nowhere.json"]),
            (
                "error-baseline-not-earlier",
                &["recommend", "--facts", &facts, "--baseline", &facts],
            ),
            (
                "error-facts-and-root",
                &["recommend", "--facts", &facts, "--root", "hosts/quiet"],
            ),
            (
                "error-no-root",
                &["recommend", "--root", "nowhere\u{1b}[31m"],
            ),
        ] {
            insta::assert_snapshot!(name, shown(&run(args)));
        }
    });
}

/// A path as a regular expression.
fn regex_of(path: &Path) -> String {
    path.to_str().unwrap().replace('.', "\\.")
}

#[test]
fn a_damaged_host_is_named_by_file_and_line() {
    for (file, text, expected) in [
        (
            "page-size",
            None,
            "page-size: cannot read it: No such file or directory (os error 2)",
        ),
        (
            "page-size",
            Some("4095"),
            "page-size:1: not a page size in bytes",
        ),
        (
            "proc/meminfo",
            Some("MemFree: 1 kB\n"),
            "proc/meminfo:1: no `MemTotal: N kB`",
        ),
        ("proc/stat", Some(""), "proc/stat:1: no line of a CPU"),
        (
            "proc/uptime",
            Some("-1 2\n"),
            "proc/uptime:1: not an uptime in seconds",
        ),
        (
            "proc/sys/net/ipv4/tcp_mem",
            Some("1 2\n"),
            "proc/sys/net/ipv4/tcp_mem:1: \"1 2\" is no value of net.ipv4.tcp_mem",
        ),
        (
            "proc/net/sockstat",
            Some("TCP: inuse\n"),
            "proc/net/sockstat:1: no value for TCP.inuse",
        ),
        (
            "proc/net/netstat",
            Some("TcpExt: A\nTcpExt: 1 2\n"),
            "proc/net/netstat:2: more values than names in TcpExt",
        ),
        (
            "proc/net/snmp",
            None,
            "proc/net/snmp: cannot read it: No such file or directory (os error 2)",
        ),
        (
            "sock_diag.hex",
            Some("# a comment\n00f\n"),
            "sock_diag.hex:2: not hexadecimal",
        ),
        (
            "sock_diag.hex",
            Some("00000000\n"),
            "sock_diag.hex:1: sock_diag answered what is no socket table: a message of 0 bytes, \
             where its header has 16",
        ),
    ] {
        let directory = recorded::directory("quiet");
        let path = directory.path().join(file);
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let root = directory.path().to_str().unwrap();
        let output = run(&["recommend", "--root", root]);
        assert_eq!(output.status.code(), Some(3), "{file}");
        let errors = String::from_utf8(output.stderr).unwrap();
        let mut lines = errors.lines();
        assert_eq!(lines.next().unwrap(), format!("error: {root}/{expected}"));
        assert!(lines.next().unwrap().starts_with("hint: "), "{errors}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn this_host_is_read_with_one_look_and_with_two() {
    for args in [&["recommend"][..], &["recommend", "--over", "200ms"]] {
        let output = run(args);
        assert!(
            matches!(output.status.code(), Some(0 | 1 | 4)),
            "{output:?}"
        );
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.contains("in two looks"), args.len() == 3, "{text}");
    }
}

#[test]
fn colour_is_for_terminals() {
    let host = recorded::directory("orphan-limit-near");
    let root = ["recommend", "--root", host.path().to_str().unwrap()];
    assert!(!run(&root).stdout.contains(&0x1b));
    let forced = advisor(&root).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(forced.stdout.contains(&0x1b));
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    for format in ["text", "json", "markdown", "sysctl"] {
        let mut child = advisor(&["recommend", "--over", "200ms", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut errors = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        assert_eq!(errors, "");
        assert!(matches!(child.wait().unwrap().code(), Some(0 | 1 | 4)));
    }
}
