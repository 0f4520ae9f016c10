//! The memory that the program takes does not grow with the number of sockets.
//!
//! This file has one test: the kernel tells the most memory of any child.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the test runs the program on a dump that it writes"
)]

#[path = "dump/mod.rs"]
mod dump;

use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

/// The most memory that a child took so far, in KiB, after one that looked at a
/// dump of so many sockets.
fn peak_kib(sockets: u32, by: &str) -> i64 {
    let host = dump::Host::make();
    let child = Command::new(env!("CARGO_BIN_EXE_advisor"))
        .args(["sockets", "--format", "json", "--by", by, "--root"])
        .arg(host.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    host.send(sockets);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["sockets"], sockets, "{by}");
    assert_eq!(answer["rows"].as_array().unwrap().len(), 10, "{by}");
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()
}

#[test]
fn more_sockets_take_no_more_memory() {
    // Each is of a peer of its own. Were they held, those that there are more
    // would take 6 MiB, and the peers 4 MiB.
    for (by, few, many) in [("memory", 5_000, 20_000), ("peer", 17_000, 34_000)] {
        let before = peak_kib(few, by);
        let after = peak_kib(many, by);
        assert!(
            after <= before + 1024,
            "{by}: {before} KiB, then {after} KiB"
        );
        assert!(after <= 32 << 10, "{by}: {after} KiB");
    }
}
