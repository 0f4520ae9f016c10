//! The scenarios that try advice, `suites/proof`, in the program itself: an
//! installed harness has no suites beside it.

use std::collections::BTreeMap;

use advisor::rules::{ProvenBy, RULES};
use advisor_report::advice::Claim;

use crate::suite::scenario::{Scenario, Side};
use crate::suite::{self};
use crate::yaml::error::{Place, SuiteError};

/// The files of `suites/proof`, by name without `.yaml`, with their text. The build
/// script finds them.
pub const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/proof_suites.rs"));

/// A file of [`FILES`], read.
#[derive(Debug)]
pub struct Template {
    name: &'static str,
    text: &'static str,
    scenarios: Vec<Scenario>,
}

/// All of [`FILES`].
pub fn all() -> Vec<Template> {
    FILES
        .iter()
        .map(|(name, text)| Template {
            name,
            text,
            // A test reads every file.
            scenarios: suite::parse(text, &prefix(name)).unwrap_or_default(),
        })
        .collect()
}

/// Each scenario of [`FILES`] with the name of its file; of both sides one.
pub fn scenarios() -> Vec<(&'static str, Scenario)> {
    all()
        .into_iter()
        .flat_map(|template| {
            let name = template.name;
            let scenarios = template.scenarios.into_iter();
            scenarios.map(move |scenario| (name, scenario))
        })
        .filter(|(_, scenario)| scenario.side() == Some(Side::Before))
        .collect()
}

fn prefix(name: &str) -> String {
    format!("proof/{name}")
}

/// The scenario that tries a claim: one for its very setting before one for any.
pub fn find<'a>(templates: &'a [Template], claim: &Claim) -> Option<(&'a Template, &'a Scenario)> {
    let find = |setting: Option<&str>| {
        templates.iter().find_map(|template| {
            let scenario = template.scenarios.iter().find(|scenario| {
                let mut proves = scenario.proves.iter();
                proves.any(|known| known.rule == claim.code && known.setting.as_deref() == setting)
            })?;
            Some((template, scenario))
        })
    };
    find(Some(&claim.setting)).or_else(|| find(None))
}

/// Why no scenario tries a claim.
pub fn why_not(claim: &Claim) -> String {
    let rule = RULES.iter().find(|rule| rule.code == claim.code);
    match rule.map(|rule| rule.proven_by) {
        Some(ProvenBy::Nothing(why)) => why.to_owned(),
        _ => format!("no scenario tries {} for {}", claim.code, claim.setting),
    }
}

impl Template {
    /// The two sides of one of its scenarios with these numbers.
    pub fn sides(
        &self,
        scenario: &Scenario,
        given: &BTreeMap<String, u64>,
    ) -> Result<[Scenario; 2], SuiteError> {
        let scenarios = suite::parse_with(self.text, &prefix(self.name), given)?;
        let find = |side| {
            let mut cells = scenarios.iter();
            cells.find(|known| known.name() == scenario.name() && known.side() == Some(side))
        };
        let missing = || {
            SuiteError::new(
                Place::START,
                format!("{} has no sides", scenario.name()),
                "",
            )
        };
        let before = find(Side::Before).ok_or_else(missing)?;
        let after = find(Side::After).ok_or_else(missing)?;
        Ok([before.clone(), after.clone()])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_reads_and_says_what_it_proves() {
        assert!(FILES.len() > 20);
        for (name, text) in FILES {
            let scenarios = suite::parse(text, name).unwrap_or_else(|error| panic!("{error}"));
            for scenario in scenarios {
                assert!(!scenario.proves.is_empty(), "{}", scenario.id);
                assert!(scenario.failure.is_some(), "{}", scenario.id);
                assert!(!scenario.skips_emulation, "{}", scenario.id);
            }
        }
    }

    #[test]
    fn each_rule_names_the_suites_that_prove_it() {
        let scenarios = scenarios();
        for rule in RULES {
            let proving: BTreeSet<&str> = scenarios
                .iter()
                .filter(|(_, scenario)| {
                    let mut proves = scenario.proves.iter();
                    proves.any(|known| known.rule == rule.code)
                })
                .map(|(name, _)| *name)
                .collect();
            let named = match rule.proven_by {
                ProvenBy::Suites(names) => names.iter().copied().collect(),
                ProvenBy::Nothing(_) => BTreeSet::new(),
            };
            assert_eq!(named, proving, "{}", rule.code);
        }
    }
}
