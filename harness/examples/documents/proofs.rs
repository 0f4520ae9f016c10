//! `docs/proofs.md`: which advice is proven, from `docs/proofs.json`, which
//! `ci/prove` measured on hosts that are invented: for each rule one on which its advice is
//! right, and one on which the same advice is wrong.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use advisor::rules::{ProvenBy, RULES};
use advisor_report::escape::escaped;
use advisor_report::proof::{self, Trial, TrialVerdict};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::invented::{Case, cases, file_name};
use super::{Error, read_measured, write_facts, write_measured};

/// The file in `docs/`.
const FILE: &str = "proofs.json";

/// What `ci/prove` measured.
#[derive(Deserialize, Serialize)]
pub struct Measured {
    /// The kernel.
    kernel: String,
    /// When something counts as proven.
    rule: String,
    /// A trial of each case.
    pub trials: Vec<Tried>,
}

/// The trial of a case.
#[derive(Deserialize, Serialize)]
pub struct Tried {
    /// What the host is.
    pub host: String,
    /// Whether the advice is right.
    is_right: bool,
    /// What became of it.
    trial: Trial,
}

/// What `ci/prove` measured the last time.
pub fn read() -> Result<Measured, Error> {
    let measured = read_measured(FILE)?;
    measured.ok_or_else(|| format!("docs/{FILE}: it is not there").into())
}

/// The name of the directory of a case.
fn directory(case: &Case) -> String {
    file_name(case.name)
}

/// Writes the facts and the advice of every case to directories of their own.
pub fn write_cases(into: &Path) -> Result<(), Error> {
    for case in cases() {
        let to = into.join(directory(&case));
        fs::create_dir_all(&to)?;
        write_facts(&to.join("host.json"), &case.facts)?;
        let steps: Vec<_> = case
            .advised
            .recommendations
            .iter()
            .map(|recommended| {
                let mut step = serde_json::to_value(&recommended.claim)?;
                step["evidence"] = json!([]);
                Ok(step)
            })
            .collect::<Result<_, serde_json::Error>>()?;
        let advice = json!({"schema": 1, "host": case.advised.host, "recommendations": steps});
        fs::write(to.join("advice.json"), serde_json::to_vec(&advice)?)?;
    }
    Ok(())
}

/// What of the trials is not as it has to be: right advice that is not proven, and wrong
/// advice that is.
pub fn wrong(measured: &Measured) -> Vec<String> {
    let trials = measured.trials.iter();
    trials
        .filter(|tried| tried.is_right != (tried.trial.verdict == TrialVerdict::Proven))
        .map(|tried| {
            let claim = &tried.trial.claim;
            let right = if tried.is_right { "right" } else { "wrong" };
            let reason = tried.trial.reason.as_deref().unwrap_or_default();
            format!(
                "{}: {} {}, which is {right}: {}: {reason}",
                tried.host, claim.code, claim.setting, tried.trial.verdict
            )
        })
        .collect()
}

/// Makes trials those that the page is made from.
pub fn take_over(from: &Path) -> Result<(), Error> {
    let mut measured = Measured {
        kernel: String::new(),
        rule: String::new(),
        trials: Vec::new(),
    };
    for case in cases() {
        let proof = proof::read(&from.join(directory(&case)).join("proof.json"))?;
        if let Some(kernel) = proof.kernel {
            measured.kernel = kernel.release;
        }
        measured.rule = proof.rule;
        for mut trial in proof.trials {
            // What one pair of runs saw in milliseconds is of that run.
            trial.seen.clear();
            measured.trials.push(Tried {
                host: case.name.to_owned(),
                is_right: case.is_right,
                trial,
            });
        }
    }
    let wrong = wrong(&measured);
    if !wrong.is_empty() {
        return Err(format!("nothing is taken over:\n{}", wrong.join("\n")).into());
    }
    write_measured(FILE, &measured)
}

/// The page.
pub fn page() -> Result<String, Error> {
    let measured = read()?;
    let mut text = format!(
        "# Which advice is proven\n\n\
         For each rule whose advice is tried there is a host on which it is right, and one on\n\
         which the same advice is wrong. `ci/prove` tries all of them in guests: the first has\n\
         to be proven, the second must not. `ci/documents` makes this page from\n\
         [proofs.json](proofs.json), measured on Linux {}.\n\n{}\n\n\
         | rule | host | setting | now | proposed | the advice is | verdict | why |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        measured.kernel,
        textwrap::fill(&measured.rule, 80)
    );
    for tried in &measured.trials {
        let claim = &tried.trial.claim;
        let why = tried.trial.reason.clone().unwrap_or_else(|| {
            let side = |side: &Option<proof::Side>| {
                side.as_ref().map_or_else(String::new, |side| {
                    format!("{} of {}", side.failed, side.runs)
                })
            };
            format!(
                "{}: {} before, {} after",
                tried.trial.failure,
                side(&tried.trial.before),
                side(&tried.trial.after)
            )
        });
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            claim.code,
            escaped(&tried.host),
            escaped(&claim.setting),
            escaped(&claim.current),
            escaped(&claim.proposed),
            if tried.is_right { "right" } else { "wrong" },
            tried.trial.verdict,
            escaped(&why)
        );
    }
    let is_measured = |case: &Case| {
        let mut trials = measured.trials.iter();
        trials.any(|tried| tried.host == case.name)
    };
    let open: Vec<Case> = cases()
        .into_iter()
        .filter(|case| !is_measured(case))
        .collect();
    if !open.is_empty() {
        text.push_str("\n## Not measured yet\n\n");
        for case in open {
            for recommended in &case.advised.recommendations {
                let claim = &recommended.claim;
                let right = if case.is_right { "right" } else { "wrong" };
                let _ = writeln!(
                    text,
                    "- {}: {} {}, which is {right}",
                    case.name,
                    claim.code,
                    escaped(&claim.setting)
                );
            }
        }
    }
    text.push_str(
        "\n## Without such hosts yet\n\nTheir advice is tried all the same.\n\n\
         | rule | the harm |\n| --- | --- |\n",
    );
    for rule in RULES {
        let ProvenBy::Reproduction(harm) = rule.proven_by else {
            continue;
        };
        let mut trials = measured.trials.iter();
        if trials.all(|tried| tried.trial.claim.code != rule.code) {
            let harm: Vec<&str> = harm.iter().map(|harm| harm.as_str()).collect();
            let _ = writeln!(
                text,
                "| {} {} | {} |",
                rule.code,
                rule.name,
                harm.join(", or ")
            );
        }
    }
    text.push_str("\n## Not tried\n\n| rule | why not |\n| --- | --- |\n");
    for rule in RULES {
        if let ProvenBy::Nothing(why) = rule.proven_by {
            let _ = writeln!(text, "| {} {} | {} |", rule.code, rule.name, escaped(why));
        }
    }
    Ok(text)
}
