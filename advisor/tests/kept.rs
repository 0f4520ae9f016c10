//! Files that earlier versions wrote, `tests/kept/KIND-SCHEMA`: every later version reads
//! them. A new schema adds a file here, and takes none away. A file of a newer schema is
//! refused with a sentence that names the schema.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the tests run the program and make files for it"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use advisor_report::calibration::Calibration;

/// What the kept facts have and the kept proof proves.
const CODE: &str = "LB101";

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kept")
}

/// The kept files of a kind with their schemas.
fn of_kind(kind: &str) -> Vec<(PathBuf, u64)> {
    let files = fs::read_dir(kept()).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let (name, schema) = path.file_stem()?.to_str()?.rsplit_once('-')?;
        let schema = schema.parse().unwrap();
        (name == kind).then(|| (path.clone(), schema))
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    assert!(!files.is_empty(), "{kind}");
    files
}

/// The newest facts that are kept.
fn facts() -> String {
    let newest = of_kind("facts").pop().unwrap().0;
    newest.to_str().unwrap().to_owned()
}

/// What `advisor recommend` printed, as one line: where its lines break depends on the
/// length of the paths that it names. And its exit status.
fn recommend(args: &[&str]) -> (String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_advisor"))
        .arg("recommend")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let status = output.status.code().unwrap();
    let said = String::from_utf8(said).unwrap();
    let words: Vec<&str> = said.split_whitespace().collect();
    (words.join(" "), status)
}

/// A copy that says that it is of a schema that nobody has written yet.
fn of_schema_99(path: &Path, schema: u64, to: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let newer = ["\"schema\": ", "\"schema\":"].into_iter().find_map(|key| {
        let named = format!("{key}{schema}");
        text.contains(&named)
            .then(|| text.replacen(&named, "\"schema\": 99", 1))
    });
    fs::write(to, newer.expect("a file names its schema")).unwrap();
}

#[test]
fn facts_are_read_and_newer_ones_are_refused() {
    for (path, schema) in of_kind("facts") {
        let (said, status) = recommend(&["--facts", path.to_str().unwrap()]);
        assert_eq!(status, 1, "{}: {said}", path.display());
        assert!(said.contains(CODE), "{}: {said}", path.display());
        let directory = tempfile::tempdir().unwrap();
        let newer = directory.path().join("facts.json");
        of_schema_99(&path, schema, &newer);
        let (said, status) = recommend(&["--facts", newer.to_str().unwrap()]);
        assert_eq!(status, 2, "{said}");
        assert!(
            said.contains("schema 99: this program reads facts"),
            "{said}"
        );
    }
}

#[test]
fn reports_and_proofs_are_read_and_newer_ones_are_refused() {
    let facts = facts();
    for (kind, words) in [
        ("report", "from report "),
        ("proof", "in 5 of 5 runs before"),
    ] {
        let option = format!("--{kind}");
        for (path, schema) in of_kind(kind) {
            let file = path.to_str().unwrap();
            let (said, status) = recommend(&["--facts", &facts, &option, file]);
            assert_eq!(status, 1, "{file}: {said}");
            assert!(said.contains(words), "{file}: {said}");
            let directory = tempfile::tempdir().unwrap();
            let newer = directory.path().join("newer.json");
            of_schema_99(&path, schema, &newer);
            let newer = newer.to_str().unwrap();
            let (said, status) = recommend(&["--facts", &facts, &option, newer]);
            assert_eq!(status, 2, "{said}");
            let error = format!("error: {newer}: schema 99: this program reads a {kind} of");
            assert!(said.contains(&error), "{said}");
        }
    }
}

#[test]
fn calibrations_are_read_and_newer_ones_are_refused() {
    for (path, schema) in of_kind("calibration") {
        let text = fs::read_to_string(&path).unwrap();
        let calibration = Calibration::parse(&text).unwrap();
        assert!(!calibration.orphan_memory.is_empty(), "{}", path.display());
        let named = format!("\"schema\": {schema}");
        let newer = text.replacen(&named, "\"schema\": 99", 1);
        let error = Calibration::parse(&newer).unwrap_err().to_string();
        assert!(
            error.starts_with("schema 99: this program reads calibrations"),
            "{error}"
        );
    }
}

#[test]
fn records_are_read_and_newer_ones_are_refused() {
    for (path, schema) in of_kind("record") {
        let (said, status) = recommend(&["--record", path.to_str().unwrap()]);
        assert_eq!(status, 1, "{}: {said}", path.display());
        assert!(said.contains("TCP_ABORT_ON_CLOSE by python3"), "{said}");
        let directory = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap().path();
            let to = directory.path().join(entry.file_name().unwrap());
            if entry.extension().is_some_and(|end| end == "jsonl") {
                of_schema_99(&entry, schema, &to);
            } else {
                fs::copy(&entry, &to).unwrap();
            }
        }
        let (said, status) = recommend(&["--record", directory.path().to_str().unwrap()]);
        assert_eq!(status, 2, "{said}");
        assert!(said.contains("schema 99: this program reads"), "{said}");
    }
}
