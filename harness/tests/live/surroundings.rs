//! What the harness says where something is missing: what it can't do, and what it still
//! can.

use std::process::Command;

use super::machine;
use super::program::{HARNESS, suite};

const SUITE: &str = "
scenarios:
  - name: plain
    explains: A connection is made.
    source: RFC 9293
    runs: 1
    actors:
      acceptor: { on: server, steps: [{ listen: 7000 }, accept] }
      dialer: { on: client, steps: [{ connect: \"server:7000\" }] }
    expect: { dialer.connect.error: { always: none } }
";

/// The exit status, and what was said, of the harness behind a change of its surroundings.
fn said(change: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(format!("{change} exec \"$@\""))
        .args(["sh", HARNESS])
        .args(arguments)
        .env("XDG_CACHE_HOME", "/nonexistent")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn without_proc_nothing_runs_and_what_works_is_named() {
    let _machine = machine::shared();
    let suite = suite(SUITE);
    let path = suite.path().to_str().unwrap();
    let change = "umount -l /proc;";
    for command in [&["run", path][..], &["kernels"], &["prove"]] {
        let (status, said) = said(change, command);
        assert_eq!(status, Some(3), "{command:?}: {said}");
        assert!(
            said.starts_with("error: /proc is not mounted: no scenario can be run"),
            "{said}"
        );
        assert!(
            said.contains("\nhint: mount -t proc proc /proc; without it harness list"),
            "{said}"
        );
    }
    let (status, listed) = said(change, &["list", path]);
    assert_eq!((status, listed.as_str()), (Some(0), "live/suite/plain\n"));
    let (status, doctor) = said(change, &["doctor"]);
    assert_eq!(status, Some(3));
    assert!(doctor.contains("no  /proc"), "{doctor}");
}

#[test]
fn without_sys_everything_runs() {
    let _machine = machine::shared();
    let suite = suite(SUITE);
    let path = suite.path().to_str().unwrap();
    let (status, said) = said("umount -l /sys;", &["run", path]);
    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn without_rights_a_guest_is_named() {
    let _machine = machine::shared();
    let suite = suite(SUITE);
    let path = suite.path().to_str().unwrap();
    // No capabilities, and no user namespace to have some in.
    let change = "exec unshare --user --map-root-user sh -c 'echo 0 >/proc/sys/user/max_user_namespaces; \
                  exec setpriv --bounding-set -all --inh-caps -all \"$@\"' sh \"$@\";";
    let (status, said) = said(change, &["run", path]);
    assert_eq!(status, Some(3), "{said}");
    assert!(
        said.starts_with("error: cannot make network namespaces: unshare(CLONE_NEWUSER): ENOSPC"),
        "{said}"
    );
    assert!(
        said.contains("or in a guest, which needs no rights"),
        "{said}"
    );
}

#[test]
fn where_nothing_can_be_written_a_run_answers_and_sets_nothing() {
    let _machine = machine::shared();
    let text = SUITE.replace(
        "runs: 1",
        "runs: 1\n    sysctls: { kernel: { net.ipv4.tcp_max_orphans: 100000 } }",
    );
    let (plain, touches) = (suite(SUITE), suite(&text));
    let read_only = "mount -t tmpfs -o ro none /run; mount -t tmpfs -o ro none /mnt;";
    let run = |suite: &super::program::Suite, more: &[&str]| {
        let path = suite.path().to_str().unwrap();
        said(read_only, &[&["run", path], more].concat())
    };
    let (status, passed) = run(&plain, &[]);
    assert_eq!(status, Some(0), "{passed}");
    let (status, refused) = run(&plain, &["--report", "/mnt/report"]);
    assert_eq!(status, Some(3), "{refused}");
    assert!(
        refused.starts_with("error: /mnt/report: cannot write the report: Read-only file system"),
        "{refused}"
    );
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_max_orphans").unwrap();
    let (status, refused) = run(&touches, &["--touch-host"]);
    assert_eq!(status, Some(1), "{refused}");
    let words =
        "kernel: cannot take the machine's lock in /run/lastbyte: EROFS\n    hint: nothing was set";
    assert!(refused.contains(words), "{refused}");
    let after = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_max_orphans").unwrap();
    assert_eq!(before, after);
}
