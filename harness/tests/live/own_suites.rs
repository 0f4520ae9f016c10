//! The suites of this project pass here, as their snapshots say.

use std::path::Path;
use std::time::Duration;

use advisor_report::Verdict;

use super::machine;
use super::program::Running;

/// The suites wait for timers of the kernel, so they take minutes.
const HANG: Duration = Duration::from_secs(30 * 60);

#[test]
fn the_suites_are_as_their_snapshots_say() {
    let _machine = machine::alone();
    let report = tempfile::tempdir().unwrap();
    // What tries advice is tried by ci/prove, in guests.
    let mut topics: Vec<_> = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../suites")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("proof"))
        .collect();
    topics.sort_unstable();
    let arguments = [
        "run",
        "--touch-host",
        "--snapshot",
        "harness/snapshots",
        "--report",
    ];
    let arguments = arguments
        .map(AsRef::as_ref)
        .into_iter()
        .chain([report.path().as_os_str()])
        .chain(topics.iter().map(AsRef::as_ref));
    let ended = Running::start(arguments).wait_within(HANG).expect(0);
    let results = advisor_report::read(report.path()).unwrap().scenarios;
    assert!(!results.is_empty());
    for result in results {
        // Root that allows everything has nothing to skip but what asks for a
        // netem that this kernel doesn't have, for a guest, or for patience and virtual time.
        let reason = result.reason.as_deref().unwrap_or_default();
        let reasons = [
            "netem",
            "it makes a cgroup",
            "a run",
            "only virtual time",
            "is not installed",
            "it needs Linux",
        ];
        let skipped = result.verdict == Verdict::Skipped
            && reasons.iter().any(|known| reason.contains(known));
        let good = result.verdict == Verdict::Passed || skipped;
        assert!(
            good,
            "{} {}: {reason}\n{}",
            result.id, result.verdict, ended.stdout
        );
    }
}
