//! `docs/proofs.md`: which advice is proven, from `docs/proofs.json`, which
//! `ci/prove` measured.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use advisor::rules::{ProvenBy, RULES, Rule};
use advisor_report::escape::escaped;
use advisor_report::proof::{self, Proof, Side, Trial, TrialVerdict};
use harness::prove::templates;

use super::{Error, root};

fn path() -> PathBuf {
    root().join("docs/proofs.json")
}

/// What `ci/prove` measured the last time.
pub fn read() -> Result<Proof, Error> {
    Ok(proof::read(&path())?)
}

fn write(proof: &Proof) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(proof)?;
    text.push(b'\n');
    Ok(std::fs::write(path(), text)?)
}

/// What of a proof doesn't hold: advice that a scenario tries and that isn't proven.
pub fn unproven(proof: &Proof) -> Vec<String> {
    let templates = templates::all();
    let trials = proof.trials.iter();
    trials
        .filter(|trial| trial.verdict != TrialVerdict::Proven)
        .filter(|trial| templates::find(&templates, &trial.claim).is_some())
        .map(|trial| {
            let claim = &trial.claim;
            let reason = trial.reason.as_deref().unwrap_or_default();
            format!(
                "{} {}, {}: {}: {reason}",
                claim.code, claim.name, claim.setting, trial.verdict
            )
        })
        .collect()
}

/// Makes a proof the one that the page is made from.
pub fn take_over(from: &Path) -> Result<(), Error> {
    let proof = proof::read(from)?;
    let unproven = unproven(&proof);
    if !unproven.is_empty() {
        let unproven = unproven.join("\n");
        return Err(format!("not all is proven, nothing is taken over:\n{unproven}").into());
    }
    write(&proof)
}

/// The rules that a proof has trials of and that are gone themselves, or whose scenario is.
pub fn gone(proof: &Proof) -> BTreeSet<String> {
    let scenarios = templates::scenarios();
    let is_there = |trial: &Trial| {
        let has_rule = RULES.iter().any(|rule| rule.code == trial.claim.code);
        let has_scenario = trial.scenario.as_ref().is_none_or(|id| {
            let mut scenarios = scenarios.iter();
            scenarios.any(|(_, known)| known.name() == id)
        });
        has_rule && has_scenario
    };
    let trials = proof.trials.iter().filter(|trial| !is_there(trial));
    trials.map(|trial| trial.claim.code.clone()).collect()
}

/// Drops the trials of rules and scenarios that are gone.
pub fn forget_what_is_gone() -> Result<(), Error> {
    let mut proof = read()?;
    let gone = gone(&proof);
    if gone.is_empty() {
        return Ok(());
    }
    println!("docs/proofs.json: dropped {gone:?}: the rule or its scenario is gone.");
    proof
        .trials
        .retain(|trial| !gone.contains(&trial.claim.code));
    write(&proof)
}

/// The page.
pub fn page() -> Result<String, Error> {
    let proof = read()?;
    let kernel = proof.kernel.as_ref().map_or("", |kernel| &kernel.release);
    let mut text = format!(
        "# Which advice is proven\n\n\
         The advisor's tests have a recorded host for each rule, on which the rule fires.\n\
         `ci/prove` tries the advice for each of these hosts, with the host's numbers, in a\n\
         guest, with a scenario of [suites/proof](../suites/proof). `ci/documents` makes this\n\
         page from [proofs.json](proofs.json), measured on Linux {kernel}.\n\n{}\n\n\
         | rule | setting | now | proposed | scenario | failed before | failed after |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
        textwrap::fill(&proof.rule, 80)
    );
    let mut trials: Vec<&Trial> = proof.trials.iter().collect();
    trials.sort_by_key(|trial| &trial.claim.code);
    let (tried, others): (Vec<&Trial>, Vec<&Trial>) =
        trials.into_iter().partition(|trial| trial.before.is_some());
    let side = |side: &Option<Side>| {
        let side = side.as_ref();
        side.map_or_else(
            || "-".to_owned(),
            |side| format!("{} of {}", side.failed, side.runs),
        )
    };
    for trial in &tried {
        let claim = &trial.claim;
        let scenario = trial.scenario.as_deref().unwrap_or_default();
        let file = scenario.rsplit_once('/').map_or(scenario, |(file, _)| file);
        let _ = writeln!(
            text,
            "| {} {} | {} | {} | {} | [{scenario}](../suites/{file}.yaml) | {} | {} |",
            claim.code,
            claim.name,
            escaped(&claim.setting),
            escaped(&claim.current),
            escaped(&claim.proposed),
            side(&trial.before),
            side(&trial.after)
        );
    }
    text.push_str(&not_measured(&tried));
    text.push_str("\n## Without proof\n\n| rule | setting | why not |\n| --- | --- | --- |\n");
    let without: Vec<(&Rule, &str)> = RULES
        .iter()
        .filter_map(|rule| match rule.proven_by {
            ProvenBy::Nothing(why) => Some((rule, why)),
            ProvenBy::Suites(_) => None,
        })
        .collect();
    for trial in others {
        let claim = &trial.claim;
        // One reason stands for all of a rule's advice.
        if without.iter().all(|(rule, _)| rule.code != claim.code) {
            let _ = writeln!(
                text,
                "| {} {} | {} | {} |",
                claim.code,
                claim.name,
                escaped(&claim.setting),
                escaped(trial.reason.as_deref().unwrap_or_default())
            );
        }
    }
    for (rule, why) in without {
        let _ = writeln!(
            text,
            "| {} {} | all | {} |",
            rule.code,
            rule.name,
            escaped(why)
        );
    }
    Ok(text)
}

/// The rules whose advice a suite tries, and which `ci/prove` has not tried yet.
fn not_measured(tried: &[&Trial]) -> String {
    let mut text = String::new();
    for rule in RULES {
        let ProvenBy::Suites(suites) = rule.proven_by else {
            continue;
        };
        if tried.iter().all(|trial| trial.claim.code != rule.code) {
            let suites: Vec<String> = suites
                .iter()
                .map(|name| format!("[proof/{name}](../suites/proof/{name}.yaml)"))
                .collect();
            let suites = suites.join(", ");
            let _ = writeln!(text, "- {} {}, with {suites}", rule.code, rule.name);
        }
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "\n## Not measured yet\n\nA suite tries this advice; `ci/prove` has not run it yet.\n\n{text}"
    )
}
