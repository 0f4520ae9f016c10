//! What the advisor says where something is missing: what it can't do, and what it still
//! can.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the tests run the program"
)]

use std::process::{Command, Output};

/// The program behind a change of its surroundings, in a mount namespace of its own; what
/// is mounted over a directory hides it.
fn advisor(change: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(format!("{change} exec \"$@\""))
        .args(["sh", env!("CARGO_BIN_EXE_advisor")])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn without_proc_the_host_is_not_looked_at_and_what_works_is_named() {
    let hidden = "mount -t tmpfs none /proc;";
    for command in [
        &["recommend"][..],
        &["sockets"],
        &["sockets", "--by", "state"],
        &["watch", "--for", "1s"],
        &["metrics"],
        &["capture"],
    ] {
        let output = advisor(hidden, command);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{command:?}: {errors}");
        assert!(output.stdout.is_empty(), "{command:?}");
        assert!(
            errors
                .starts_with("error: /proc is not mounted: this host cannot be looked at\nhint: "),
            "{errors}"
        );
        assert!(errors.contains("--facts"), "{errors}");
    }
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kept/facts-2.json");
    let elsewhere = ["recommend", "--facts", kept];
    for command in [&elsewhere[..], &["rules"], &["explain", "LB101"]] {
        let output = advisor(hidden, command);
        assert!(
            matches!(output.status.code(), Some(0 | 1 | 4)) && !output.stdout.is_empty(),
            "{command:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn without_sys_the_rest_is_answered() {
    let output = advisor("mount -t tmpfs none /sys;", &["recommend", "--verbose"]);
    assert!(
        matches!(output.status.code(), Some(0 | 1 | 4)),
        "{output:?}"
    );
    let answer = text(&output.stdout);
    assert!(
        answer.contains("no cgroup hierarchy is mounted on /sys/fs/cgroup"),
        "{answer}"
    );
}

#[test]
fn without_rights_the_first_line_says_what_is_not_seen() {
    // A user namespace has no rights in the host's.
    let nobody = if nix::unistd::geteuid().is_root() {
        "exec setpriv --bounding-set -all --inh-caps -all --reuid 65534 \"$@\";"
    } else {
        ""
    };
    for (command, words) in [
        (
            "recommend",
            "Not seen: sockets of other processes (not permitted).",
        ),
        ("sockets", "Not seen: the network namespaces of "),
    ] {
        let output = advisor(nobody, &[command]);
        let answer = text(&output.stdout).replace('\n', " ");
        let first = answer.split("Looked at").next().unwrap();
        assert!(first.contains(words), "{answer}{}", text(&output.stderr));
    }
}
