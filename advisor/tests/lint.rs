//! `advisor lint` as it is called: what is piped in, what is left out, and the formats.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the tests make files and start the program"
)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const FILE: &str = "# sizes of buffers\n\
                    net.ipv4.tcp_sack = yes\n\
                    # lastbyte: ignore LB513: the balancer in front sends the cookies\n\
                    net.ipv4.tcp_syncookies = 0\n\
                    net.ipv4.tcp_retries2 = 3   # lastbyte: ignore LB416\n\
                    net.ipv4.tcp_keepalive_time = 600\n\
                    net.ipv4.tcp_tw_recycle = 1\n\
                    net.ipv4.tcp_keepalive_time = 300\n\
                    what is this?\n";

fn lint(directory: &Path, args: &[&str], input: Option<&str>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_advisor"))
        .arg("lint")
        .args(args)
        .current_dir(directory)
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(input) = input {
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
    }
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("sysctl.d")).unwrap();
    fs::write(directory.path().join("sysctl.d/50-tcp.conf"), FILE).unwrap();
    directory
}

#[test]
fn what_is_piped_in_is_judged() {
    let directory = directory();
    for path in ["-", "/dev/stdin"] {
        let output = lint(directory.path(), &[path], Some("net.ipv4.tcp_sack = yes\n"));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stdout).contains("LB606"), "{output:?}");
        let output = lint(directory.path(), &[path], Some("net.ipv4.tcp_sack = 1\n"));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        // Whoever was to write failed.
        let output = lint(directory.path(), &[path], Some(""));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains("it is empty"), "{output:?}");
    }
}

#[test]
fn a_directory_without_a_file_of_settings_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("sysctl.txt"), "a.b = 1\n").unwrap();
    fs::create_dir_all(directory.path().join("host/etc/sysctl.d")).unwrap();
    for path in [".", "host"] {
        let output = lint(directory.path(), &[path], None);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(
            text(&output.stderr).lines().next().unwrap(),
            format!(
                "error: {path}: there is no file of settings in it (*.conf, or the sysctl.d of a host)"
            )
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn what_is_no_file_in_a_directory_is_passed_over() {
    let directory = directory();
    let of = |name: &str| directory.path().join("sysctl.d").join(name);
    let before = lint(directory.path(), &["sysctl.d"], None);
    std::os::unix::fs::symlink("/dev/null", of("60-hidden.conf")).unwrap();
    nix::unistd::mkfifo(&of("70-pipe.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let after = lint(directory.path(), &["sysctl.d"], None);
    assert_eq!(text(&after.stdout), text(&before.stdout));
    assert_eq!(after.status.code(), before.status.code());
    // Alone they leave nothing to judge, and nothing is wrong.
    fs::remove_file(of("50-tcp.conf")).unwrap();
    let alone = lint(directory.path(), &["sysctl.d"], None);
    assert_eq!(alone.status.code(), Some(0), "{}", text(&alone.stderr));
    std::os::unix::fs::symlink("/nowhere/x.conf", of("80-x.conf")).unwrap();
    let broken = lint(directory.path(), &["sysctl.d"], None);
    assert_eq!(broken.status.code(), Some(2));
}

#[test]
fn comments_and_a_flag_leave_rules_out() {
    let directory = directory();
    let output = lint(directory.path(), &["sysctl.d"], None);
    insta::assert_snapshot!("lint-ignored", text(&output.stdout));
    let mut args = vec!["sysctl.d"];
    for code in ["LB606", "setting-unknown-here", "LB602", "lb605"] {
        args.extend(["--ignore", code]);
    }
    let output = lint(directory.path(), &args, None);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        text(&output.stdout),
        "No problem in 1 file, and 6 ignored.\n"
    );
    let output = lint(directory.path(), &["--ignore", "LB999", "sysctl.d"], None);
    assert_eq!(output.status.code(), Some(2));
    // One that leaves nothing out would be overlooked.
    fs::write(
        directory.path().join("x.conf"),
        "# lastbyte: ignore LB999\n",
    )
    .unwrap();
    let output = lint(directory.path(), &["x.conf"], None);
    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    assert!(
        errors.starts_with("error: x.conf:1:1: there is no rule \"LB999\"\nhint: "),
        "{errors}"
    );
}

#[test]
fn a_patch_is_printed_and_no_file_is_written() {
    let directory = directory();
    let output = lint(directory.path(), &["--diff", "sysctl.d"], None);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!("lint-diff", text(&output.stdout));
    // What nobody but a person can mend.
    assert!(text(&output.stderr).contains("LB605"), "{output:?}");
    let path = directory.path().join("sysctl.d/50-tcp.conf");
    assert_eq!(fs::read_to_string(&path).unwrap(), FILE);
    // Git takes it, and then nothing of it is left.
    let mut git = Command::new("git")
        .args(["apply", "--unsafe-paths", "-"])
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin.take().unwrap().write_all(&output.stdout).unwrap();
    assert!(git.wait().unwrap().success());
    let again = lint(directory.path(), &["--diff", "sysctl.d"], None);
    assert_eq!(text(&again.stdout), "");
    assert_eq!(
        again.status.code(),
        Some(1),
        "a line is left that says nothing"
    );
}

#[test]
fn github_shows_each_problem_beside_its_line() {
    let directory = directory();
    let output = lint(directory.path(), &["--format", "github", "sysctl.d"], None);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!("lint-github", text(&output.stdout));
}

/// What SARIF 2.1.0 requires of what is written.
#[test]
fn sarif_is_well_formed() {
    let directory = directory();
    fs::write(
        directory.path().join("a b%é.conf"),
        "net.ipv4.tcp_sack = yes\n",
    )
    .unwrap();
    let file = directory.path().join("a b%é.conf");
    let args = [
        "--format",
        "sarif",
        "sysctl.d",
        file.to_str().unwrap(),
        "a b%é.conf",
    ];
    let output = lint(directory.path(), &args, None);
    assert_eq!(output.status.code(), Some(1));
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let runs = log["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    let driver = &runs[0]["tool"]["driver"];
    assert!(driver["name"].is_string());
    let rules = driver["rules"].as_array().unwrap();
    let results = runs[0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 8);
    let mut uris = Vec::new();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1);
        uris.push(
            place["artifactLocation"]["uri"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    assert!(uris.contains(&"sysctl.d/50-tcp.conf".to_owned()));
    assert!(uris.contains(&"a%20b%25%C3%A9.conf".to_owned()), "{uris:?}");
    let absolute = format!("file://{}/a%20b%25%C3%A9.conf", directory.path().display());
    assert!(uris.contains(&absolute), "{uris:?}");
    let suppressed: Vec<_> = results
        .iter()
        .filter_map(|result| result["suppressions"][0]["justification"].as_str())
        .collect();
    assert_eq!(
        suppressed,
        [
            "by a comment: the balancer in front sends the cookies",
            "by a comment"
        ]
    );
}

#[test]
fn a_problem_in_json_has_its_severity() {
    let directory = directory();
    let output = lint(directory.path(), &["--format", "json", "sysctl.d"], None);
    let problems: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = problems.as_array().unwrap();
    assert_eq!(problems.len(), 6);
    for problem in problems {
        assert!(["critical", "warning", "notice"].contains(&problem["severity"].as_str().unwrap()));
        let ignored = problem.get("ignored").is_some();
        assert_eq!(
            ignored,
            ["LB416", "LB513"].contains(&problem["code"].as_str().unwrap())
        );
    }
}
