//! The documents in `docs/` that are made are what `ci/documents` makes of the code
//! and the measured data now, and they fit what they describe.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use advisor_report::calibration::SHIPPED;
use documents::{catalogue, invented, proofs, root, schemas};
use harness::suite;
use serde_json::Value as Json;

#[path = "../examples/documents/main.rs"]
#[allow(
    dead_code,
    reason = "what writes the documents is not needed to check them"
)]
mod documents;

#[test]
fn every_document_is_current() {
    for (name, text) in documents::documents().unwrap() {
        let committed = std::fs::read_to_string(root().join("docs").join(name)).unwrap_or_default();
        assert!(committed == text, "docs/{name} is stale: run ci/documents");
    }
}

/// A scenario that was not measured yet is no failure: the page says so.
#[test]
fn the_reference_names_scenarios_that_are_there() {
    let scenarios = catalogue::scenarios().unwrap();
    let ids: BTreeSet<&str> = scenarios.iter().map(|known| known.id.as_str()).collect();
    for result in &catalogue::reference().unwrap().report.scenarios {
        let id = result.id.as_str();
        assert!(
            ids.contains(id),
            "docs/reference.json: {id}: run ci/documents"
        );
    }
}

/// What `ci/prove` measured is of the cases that there are; right advice is proven, and
/// wrong advice is not.
#[test]
fn right_advice_is_proven_and_wrong_advice_is_not() {
    let measured = proofs::read().unwrap();
    assert_eq!(proofs::wrong(&measured), [""; 0]);
    for tried in &measured.trials {
        let mut cases = invented::cases().into_iter();
        assert!(cases.any(|case| case.name == tried.host), "{}", tried.host);
    }
}

/// Each rule has a host on which its advice is right, and one on which it is wrong.
#[test]
fn every_case_has_a_counterpart() {
    let cases = invented::cases();
    let codes = |right: bool| -> BTreeSet<String> {
        let these = cases.iter().filter(|case| case.is_right == right);
        let claims = these.flat_map(|case| &case.advised.recommendations);
        claims.map(|one| one.claim.code.clone()).collect()
    };
    assert_eq!(codes(true), codes(false));
    assert!(codes(true).len() >= 8);
}

/// A suite's YAML as the JSON that a schema is checked against.
fn as_json(text: &str) -> Json {
    serde_yaml::from_str(text).unwrap()
}

/// The files below a directory whose names end in `.extension`.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn links_lead_to_files_that_are_there() {
    let mut pages = files(&root().join("docs"), "md");
    pages.extend(["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    let mut links = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap();
            if link.is_empty() || link.starts_with("http") {
                continue;
            }
            let target = page.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link}", page.display());
            links += 1;
        }
    }
    assert!(links > 50, "{links}");
}

#[test]
fn our_suites_fit_their_schema() {
    let validator = jsonschema::validator_for(&schemas::suite()).unwrap();
    let suites = files(&root().join("suites"), "yaml");
    assert!(suites.len() >= 6, "{suites:?}");
    for file in suites {
        let text = std::fs::read_to_string(&file).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&as_json(&text))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", file.display());
        // Editors find the schema by the first line.
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "# yaml-language-server: $schema=../../docs/suite.schema.json",
            "{}",
            file.display()
        );
    }
}

/// What the reader refuses by its form, the schema refuses as well.
#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let good = std::fs::read_to_string(root().join("suites/bind/time-wait.yaml")).unwrap();
    let validator = jsonschema::validator_for(&schemas::suite()).unwrap();
    for (from, to) in [
        ("runs: 2", "runs: two"),
        ("runs: 2", "run: 2"),
        ("see-also:", "see_also:"),
        ("{ listen: 7000 }", "{ lisen: 7000 }"),
        ("{ listen: 7000 }", "{ listen: 7000, close: x }"),
        ("{ listen: 7000 }", "lissen"),
        ("always: EADDRINUSE", "alway: EADDRINUSE"),
        ("time: 4s", "time: 4"),
        ("explains:", "explain:"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(suite::parse(&bad, "t/f").is_err(), "the reader takes {to}");
        // 4 without a unit is a number, and the schema can't tell it from 0.
        if to != "time: 4" {
            assert!(!validator.is_valid(&as_json(&bad)), "the schema takes {to}");
        }
    }
}

#[test]
fn a_report_fits_its_schema_and_another_does_not() {
    let validator = jsonschema::validator_for(&schemas::report()).unwrap();
    let report = serde_json::json!({"schema": 1, "scenarios": [{
        "id": "close/unread-data/plain-close",
        "kernel": {"release": "6.18.44", "where": "host"},
        "link": "netem", "verdict": "passed", "reason": null,
        "runs": [{"observations": {"receiver.read-to-end.bytes": 277_000,
                                   "client.TcpExt.TCPAbortOnClose": 1,
                                   "sender.close.error": "none",
                                   "sender.close.ms": 0.25,
                                   "kernel.log": ["TCP: too many orphaned sockets"]}}],
        "expectations": [{"observation": "sender.close.error", "quantifier": "always",
                          "condition": "none", "held": null}],
    }]});
    assert!(validator.is_valid(&report));
    for (pointer, wrong) in [
        ("/scenarios/0/verdict", Json::from("maybe")),
        ("/scenarios/0/link", Json::from("string")),
        ("/scenarios/0/kernel/where", Json::from("moon")),
        ("/scenarios/0/expectations/0/held", Json::from("yes")),
        ("/scenarios/0/runs", Json::Null),
    ] {
        let mut bad = report.clone();
        *bad.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
}

#[test]
fn shipped_calibrations_fit_their_schema() {
    let validator = jsonschema::validator_for(&schemas::calibration()).unwrap();
    for (line, text) in SHIPPED {
        let errors: Vec<String> = validator
            .iter_errors(&serde_json::from_str(text).unwrap())
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "kernels/{line}: {errors:#?}");
    }
}
