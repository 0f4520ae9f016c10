//! Every rule's advice is tried: on each recorded host of the advisor's tests, on
//! which a rule fires, with that host's numbers. `ci/prove` runs it; it needs QEMU
//! and a kernel that was fetched, debian-6.12 unless `KERNEL` names another.
//!
//! `UPDATE_DOCUMENTS=1` writes what was seen to docs/proofs.json, from which
//! docs/proofs.md is made.

use std::path::{Path, PathBuf};
use std::process::Command;

use advisor::plan::{Advice, advise};
use advisor_facts::{Facts, Root};
use advisor_report::proof::{self, Proof, Verdict};
use harness::prove::{render, templates};

#[path = "../../../advisor/tests/recorded/mod.rs"]
mod recorded;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The advice for each recorded host.
fn advice_for_all() -> Vec<Advice> {
    let advice = |name: String| {
        let host = recorded::directory(&name);
        let facts = Facts::read(&Root::Recorded(host.path().to_owned())).unwrap();
        advise(&facts, &[])
    };
    recorded::names().into_iter().map(advice).collect()
}

/// The advice for all of them, as for one host: their kernel is the same, and the
/// numbers that are tried come with each recommendation.
fn together(all: Vec<Advice>) -> Advice {
    let mut all = all.into_iter();
    let mut whole = all.next().unwrap();
    for advice in all {
        assert_eq!(advice.host.kernel, whole.host.kernel);
        for step in advice.recommendations {
            // Several hosts were recorded for one rule.
            if whole
                .recommendations
                .iter()
                .all(|known| known.claim() != step.claim())
            {
                whole.recommendations.push(step);
            }
        }
    }
    whole
}

#[test]
fn what_is_advised_helps() {
    let directory = tempfile::tempdir().unwrap();
    let advice = directory.path().join("advice.json");
    let whole = serde_json::to_vec(&together(advice_for_all())).unwrap();
    std::fs::write(&advice, whole).unwrap();
    let kernel = std::env::var("KERNEL").unwrap_or_else(|_| "debian-6.12".to_owned());
    let status = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(["prove", "--kernel", &kernel, "--advice"])
        .arg(&advice)
        .arg("--output")
        .arg(directory.path())
        .status()
        .unwrap();
    // Some of it can't be tried.
    assert_eq!(status.code(), Some(1));
    let path = directory.path().join("proof.json");
    let proof = proof::read(&path).unwrap();
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::copy(path, root().join("docs/proofs.json")).unwrap();
        let page = render::list(&proof, &templates::without());
        std::fs::write(root().join("docs/proofs.md"), page).unwrap();
    }
    assert_all_proven(&proof);
}

/// What was taken over the last time holds for the scenarios that there are now.
#[test]
fn what_was_taken_over_is_whole() {
    assert_all_proven(&proof::read(&root().join("docs/proofs.json")).unwrap());
}

fn assert_all_proven(proof: &Proof) {
    let codes = || proof.trials.iter().map(|trial| trial.claim.code.as_str());
    for trial in &proof.trials {
        let claim = &trial.claim;
        let has_scenario = templates::find(&templates::all(), claim).is_some();
        let wanted = if has_scenario {
            Verdict::Proven
        } else {
            Verdict::CannotBeTried
        };
        assert_eq!(trial.verdict, wanted, "{}: {:?}", claim.code, trial.reason);
    }
    for (name, scenario) in templates::scenarios() {
        for proves in &scenario.proves {
            let tried = codes().any(|code| code == proves.rule);
            assert!(
                tried,
                "{name}: no recorded host has advice of {}",
                proves.rule
            );
        }
    }
}
