//! Every rule's advice is tried: on each recorded host of the advisor's tests, on
//! which a rule fires, with that host's numbers. `ci/prove` runs it; it needs QEMU
//! and a kernel that was fetched, debian-6.12 unless `KERNEL` names another.
//!
//! `UPDATE_DOCUMENTS=1` writes what was seen to docs/proofs.json, from which
//! docs/proofs.md is made.

use std::path::{Path, PathBuf};

use advisor::evidence::proof::{Advised, Proof, Verdict};
use advisor::facts::{Facts, Root};
use advisor::plan::advise;
use harness::kernel::cache::Cache;
use harness::prove::{self, Prepared, templates};
use harness::run::schedule::Progress;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The advice for each recorded host, and for the quiet one with each overlay.
fn advice() -> Vec<Advised> {
    let tests = root().join("advisor/tests");
    let mut all = Vec::new();
    for kind in ["hosts", "overlays"] {
        let mut names: Vec<PathBuf> = tests
            .join(kind)
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort_unstable();
        for recorded in names {
            let directory = tempfile::tempdir().unwrap();
            if kind == "overlays" {
                copy(&tests.join("hosts/quiet"), directory.path());
            }
            copy(&recorded, directory.path());
            let recorded = Root::Recorded(directory.path().to_owned());
            let mut facts = Facts::read(&recorded).unwrap();
            all.push(Advised::of(&advise(&mut facts, &[])));
        }
    }
    all
}

#[test]
fn what_is_advised_helps() {
    let cache = Cache::of_user().unwrap();
    let name = std::env::var("KERNEL").unwrap_or_else(|_| "debian-6.12".to_owned());
    let advice = advice();
    let kernel = prove::kernel::choose(&name, None, &advice[0].host.kernel, &cache).unwrap();
    let mut prepared: Vec<Prepared> = Vec::new();
    for one in advice.iter().flat_map(prove::prepare) {
        // Several hosts were recorded for one rule.
        if prepared.iter().all(|known| known.claim() != one.claim()) {
            prepared.push(one);
        }
    }
    let progress = |progress: Progress| {
        if let Progress::Ended(result) = progress {
            eprintln!("{} {}", result.verdict, result.id);
        }
    };
    let proof = prove::run(&advice[0], prepared, &kernel, &cache, &progress).unwrap();
    println!("{}", prove::render::text(&proof, 80));
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        let mut json = serde_json::to_vec_pretty(&proof).unwrap();
        json.push(b'\n');
        std::fs::write(root().join("docs/proofs.json"), json).unwrap();
    }
    assert_all_proven(&proof);
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
