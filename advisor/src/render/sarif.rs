//! What is wrong with files of settings as SARIF 2.1.0 (OASIS Static Analysis Results
//! Interchange Format).

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::json;
use crate::lint::Problem;
use crate::rules::{RULES, Rule, Severity};

/// Writes the problems as one run; those that are ignored are suppressed.
pub fn write(out: &mut dyn io::Write, problems: &[Problem]) -> io::Result<()> {
    let rules: Vec<&Rule> = RULES
        .iter()
        .filter(|rule| problems.iter().any(|problem| problem.code == rule.code))
        .collect();
    let results: Vec<_> = problems
        .iter()
        .map(|problem| result(problem, &rules))
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "advisor lint",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules.iter().map(|rule| description(rule)).collect::<Vec<_>>(),
                },
            },
            "results": results,
        }],
    });
    json::write(out, &log)
}

fn description(rule: &Rule) -> Value {
    let documentation = &rule.documentation;
    json!({
        "id": rule.code,
        "name": rule.name,
        "shortDescription": { "text": rule.name.replace('-', " ") },
        "fullDescription": { "text": documentation.detects },
        "help": {
            "text": format!(
                "{} Cost: {} Risk: {}",
                documentation.recommendation, documentation.cost, documentation.risk
            ),
        },
    })
}

fn result(problem: &Problem, rules: &[&Rule]) -> Value {
    let level = match problem.severity {
        Severity::Critical => "error",
        Severity::Warning => "warning",
        Severity::Notice => "note",
    };
    let mut result = json!({
        "ruleId": problem.code,
        "ruleIndex": rules.iter().position(|rule| rule.code == problem.code),
        "level": level,
        "message": { "text": problem.sentences() },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&problem.path) },
                "region": { "startLine": problem.line },
            },
        }],
    });
    if let Some(why) = &problem.ignored {
        let kind = if why.starts_with("by a comment") {
            "inSource"
        } else {
            "external"
        };
        result["suppressions"] = json!([{ "kind": kind, "justification": why }]);
    }
    result
}

/// A path as a reference: relative, or with the scheme of a file.
fn uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::new();
    if path.is_absolute() {
        uri.push_str("file://");
    }
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                uri.push(char::from(*byte));
            }
            byte => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri
}
