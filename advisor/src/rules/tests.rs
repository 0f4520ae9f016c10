//! What holds for every rule of the registry.

use std::collections::BTreeSet;
use std::path::Path;

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
        // What cannot be without another one.
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

#[test]
fn reports_add_what_was_replayed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports/report.json");
    let report = advisor_report::read(&path).unwrap();
    let reports = [NamedReport {
        path: "r.json".into(),
        report,
    }];
    let lines = |host_name: &str| -> Vec<String> {
        advise(&host(host_name), &reports).recommendations[0]
            .finding
            .evidence
            .iter()
            .filter(|evidence| evidence.source.starts_with("report "))
            .map(|evidence| {
                format!(
                    "{} = {}; {}",
                    evidence.observation, evidence.value, evidence.source
                )
            })
            .collect()
    };
    assert_eq!(
        lines("orphan-limit-near"),
        [
            "failure.verdict = passed in 2 runs, on the kernel line of this host (6.12); \
             report r.json: orphans/flood/over-the-limit on kernel 6.12.41-cloud-amd64 (none)",
            "client.TcpExt.TCPAbortOnMemory = 17 (1 run), 18 (1 run); \
             report r.json: orphans/flood/over-the-limit on kernel 6.12.41-cloud-amd64 (none)",
        ]
    );
    assert_eq!(
        lines("close-with-unread-data"),
        [
            "failure.verdict = passed in 1 run, on kernel line 6.18 and not this host's 6.12; \
             report r.json: close/unread-data/plain-close[family=ipv4] on kernel 6.18.2 (relay)",
            "sender.close.error = always none; \
             report r.json: close/unread-data/plain-close[family=ipv4] on kernel 6.18.2 (relay)",
        ]
    );
    assert_eq!(
        lines("port-held-without-listener"),
        [
            "failure.verdict = failed (server.bind.error: always EADDRINUSE did not hold): no \
             evidence; report r.json: bind/time-wait/new-only on kernel 6.12.41\u{1b}[31m (none)",
            "cure.verdict = passed in 3 runs, on the kernel line of this host (6.12); \
             report r.json: bind/time-wait/both on kernel 6.12.41 (none)",
            "server.bind.error = none (3 runs); \
             report r.json: bind/time-wait/both on kernel 6.12.41 (none)",
        ]
    );
    assert_eq!(lines("tcp-mem-near"), [""; 0]);
}
