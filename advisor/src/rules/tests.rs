//! What holds for every rule of the registry.

use std::collections::BTreeSet;

use advisor_facts::{Origin, Settings};

use super::finding::is_of_the_kernel;
use super::testing::{fired, host, moved_to_namespace, outcome};
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
            ProvenBy::Reproduction(harm) => harm.iter().map(|harm| harm.as_str()).collect(),
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

/// Where the kernel leaves sockets out of tcp_mem, whatever speaks of it says so.
#[test]
fn each_rule_about_tcp_mem_says_that_it_is_blind() {
    let mut spoke = 0;
    for (rule, firing) in RULES.iter().zip(FIRING) {
        let mut facts = firing();
        facts.settings.bypass_prot_mem = Some(1);
        let namespaces = facts.by_namespace();
        let judged = rule.judge(&facts, &namespaces, &Measured::default());
        let Outcome::Fired(placed) = judged else {
            continue;
        };
        for finding in placed.into_iter().map(|placed| placed.finding) {
            let speaks = [&finding.summary, &finding.why, &finding.setting]
                .iter()
                .any(|text| text.contains("tcp_mem"));
            spoke += usize::from(speaks);
            assert_eq!(
                speaks,
                finding.why.contains("bypass_prot_mem"),
                "{}: {}",
                rule.name,
                finding.why
            );
        }
    }
    assert!(spoke >= 4, "{spoke} speak of tcp_mem");
}

/// What is wrong in a container is found from the host: by the same rule, with commands
/// that work there and no file of the host. What the whole kernel has once is the host's.
#[test]
fn each_rule_judges_every_namespace() {
    const LABEL: &str = "(of process 4242)";
    let mut amiss: Vec<String> = Vec::new();
    for (rule, firing) in RULES.iter().zip(FIRING) {
        let facts = moved_to_namespace(&firing());
        let findings = match outcome(rule, &facts) {
            Outcome::Fired(findings) => findings,
            Outcome::Quiet(why) | Outcome::NotEvaluated(why) => {
                if rule.scope != Scope::Files && !why.contains("the host's") {
                    amiss.push(format!("{} is silent: {why}", rule.name));
                }
                continue;
            }
        };
        for finding in findings {
            let shown = |what: &str| format!("{}: {what}: {finding:#?}", rule.name);
            if format!("{finding:?}").contains("this network namespace") {
                amiss.push(shown("whose?"));
            }
            if is_of_the_kernel(&facts, &finding.setting)
                || finding.setting.starts_with('/')
                || finding.subject.starts_with("the cgroup")
            {
                continue;
            }
            let is_setting = Settings::NAMES.contains(&finding.setting.as_str());
            let named = finding.summary.contains(LABEL);
            // A process is enough to find a program.
            let program = !is_setting && finding.subject.replace(LABEL, "").contains('(');
            if !named && !program {
                amiss.push(shown("not named"));
            }
            for text in [
                &finding.apply,
                &finding.undo,
                &finding.verify,
                &finding.why,
                &finding.current,
            ] {
                if text.contains("sysctl.d") {
                    amiss.push(shown("a file of the host"));
                }
                for command in ["sysctl -w", "sysctl net.", "nstat -", "ss -"] {
                    for (at, _) in text.match_indices(command) {
                        let before = &text[..at];
                        let in_a_word = before.ends_with(char::is_alphanumeric);
                        if !in_a_word && !before.ends_with("nsenter -t 4242 -n ") {
                            amiss.push(shown(&format!("{command} in {text:?}")));
                        }
                    }
                }
            }
        }
    }
    assert!(amiss.is_empty(), "{}", amiss.join("\n"));
}

/// Settings of a host as a dump of them has them.
fn dump_of(facts: &Facts) -> Facts {
    let mut dump = Facts::without_host(&facts.kernel, 0, 4096);
    dump.settings = facts.settings.clone();
    dump.origin = Origin::SysctlDump;
    dump
}

#[test]
fn settings_alone_answer_what_they_can_and_acquit_of_nothing_else() {
    let measured = Measured::default();
    for (rule, firing) in RULES.iter().zip(FIRING) {
        let facts = dump_of(&firing());
        let outcome = rule.judge(&facts, &facts.by_namespace(), &measured);
        match outcome {
            Outcome::Fired(found) if SETTINGS_TELL.contains(&rule.code) => {
                for evidence in found.iter().flat_map(|placed| &placed.finding.evidence) {
                    let source = &evidence.source;
                    assert!(source.starts_with("/proc/sys/"), "{} {source}", rule.code);
                }
            }
            Outcome::NotEvaluated(why) if !SETTINGS_TELL.contains(&rule.code) => {
                assert!(why.starts_with("a dump of settings has no"), "{why}");
            }
            other => panic!("{}: {other:?}", rule.code),
        }
    }
}
