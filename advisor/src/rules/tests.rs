//! What holds for every rule of the registry.

use std::collections::BTreeSet;

use super::testing::{fired, host};
use super::*;
use crate::plan::{OutcomeWord, advise};

#[test]
fn codes_and_names_are_unique_and_well_formed() {
    let codes: BTreeSet<_> = RULES.iter().map(|rule| rule.code).collect();
    let names: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!((codes.len(), names.len()), (RULES.len(), RULES.len()));
    for rule in RULES {
        let digits = rule.code.strip_prefix("LB").unwrap();
        assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()));
        assert!(
            rule.name.split('-').all(|word| {
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())
            }),
            "{}",
            rule.name
        );
    }
}

#[test]
fn rules_stand_in_the_order_of_their_codes() {
    assert!(RULES.is_sorted_by_key(|rule| rule.code));
}

#[test]
fn the_topic_of_files_is_of_the_rules_that_judge_files() {
    for rule in RULES {
        let judges_files = rule.scope == Scope::Files;
        assert_eq!(judges_files, rule.code.starts_with("LB6"), "{}", rule.code);
    }
}

#[test]
fn every_rule_is_documented() {
    for rule in RULES {
        let Documentation {
            detects,
            evidence,
            recommendation,
            cost,
            risk,
            undo,
            references,
        } = rule.documentation;
        for text in [detects, evidence, recommendation, cost, risk, undo] {
            assert!(text.ends_with('.'), "{}: {text:?}", rule.name);
            assert!(!text.contains("  "), "{}: {text:?}", rule.name);
        }
        assert!(!references.is_empty(), "{}", rule.name);
        let first = detects.split_inclusive(". ").next().unwrap();
        assert!(
            first.trim_end().len() <= 80,
            "a first sentence of one line: {first}"
        );
        let reason = match rule.proven_by {
            ProvenBy::Suites(suites) => suites.join(" "),
            ProvenBy::Nothing(why) => why.to_owned(),
        };
        assert!(!reason.is_empty(), "{}: what proves its advice?", rule.name);
    }
}

#[test]
fn scenarios_are_named_by_topic_file_and_name() {
    for scenario in RULES
        .iter()
        .flat_map(|rule| [rule.scenario, rule.cure])
        .flatten()
    {
        let parts: Vec<_> = scenario.split('/').collect();
        assert!(
            parts.len() == 3 && parts.iter().all(|part| !part.is_empty()),
            "{scenario}"
        );
    }
}

#[test]
fn each_rule_fires_on_its_host_and_no_other_one_does() {
    for (rule, firing) in RULES.iter().zip(FIRING) {
        let advice = advise(&firing(), &[]);
        let fired: Vec<_> = advice
            .rules
            .iter()
            .filter(|outcome| outcome.outcome == OutcomeWord::Fired)
            .map(|outcome| outcome.name)
            .collect();
        // This one only fires together with another.
        let expected = match rule.name {
            "buffers-raised-under-pressure" => vec!["tcp-mem-near", rule.name],
            name => vec![name],
        };
        assert_eq!(fired, expected);
    }
}

#[test]
fn every_rule_is_evaluated_and_quiet_on_a_quiet_host() {
    for outcome in advise(&host("quiet"), &[]).rules {
        assert_eq!(outcome.outcome, OutcomeWord::Quiet, "{outcome:?}");
    }
}

#[test]
fn a_finding_leaves_nothing_unsaid() {
    for (rule, firing) in RULES.iter().zip(FIRING) {
        for finding in fired(rule, &firing()) {
            for text in [
                finding.summary,
                finding.why,
                finding.subject,
                finding.setting,
                finding.current,
                finding.proposed,
                finding.cost,
                finding.risk,
                finding.apply,
                finding.undo,
                finding.verify,
            ] {
                assert!(
                    !text.is_empty() && !text.contains("  "),
                    "{}: {text:?}",
                    rule.name
                );
            }
            assert!(!finding.evidence.is_empty(), "{}", rule.name);
        }
    }
}
