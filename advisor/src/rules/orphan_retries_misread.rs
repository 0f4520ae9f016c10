//! A tcp_orphan_retries that keeps orphans longer than its number says.

use advisor_facts::Facts;
use advisor_report::measured::Measured;

use super::retransmission::{rto_max_ms, spent_ms};
use super::{
    Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope, Severity,
    TAKE_OUT, cannot_be_read,
};

pub(super) const RULE: Rule = Rule {
    code: "LB111",
    name: "orphan-retries-misread",
    scope: Scope::Namespace,
    scenario: Some("orphans/life/silent-peer-by-default"),
    cure: Some("orphans/life/silent-peer[retries=3]"),
    proven_by: ProvenBy::Reproduction(&[Harm::DataLost]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_orphan_retries above 8, or one that a file sets to 0. People read 0 as no \
        retries, but it means 8, about 109 s with a silent peer; 15 is about a quarter of an hour. \
        All that time the orphan holds its memory and counts against tcp_max_orphans.",
    evidence: "The value of net.ipv4.tcp_orphan_retries, and for 0 the files that set sysctls.",
    recommendation: "8 if it was raised. If a file says 0: take the line out. The kernel's own value \
        is the same 8, and no line says what is not so. Fewer retries are for a host with too many \
        orphans, see orphan-limit-near: 3 give a peer about 4 s, less than a short outage.",
    cost: "None in memory.",
    risk: "Data written before close() is lost if the peer does not answer for that long.",
    undo: "Set the former value.",
    references: &[
        "tcp_orphan_retries: net/ipv4/tcp_timer.c of Linux",
        "tcp_orphan_retries: Documentation/networking/ip-sysctl.rst of Linux",
        "1.6 s, 3.5 s, 3.8 s, 7.5 s for 1 to 4 and 109 s for 0: measured on Linux 6.18",
    ],
};

const SETTING: &str = "net.ipv4.tcp_orphan_retries";
/// The meaning of 0 (tcp_orphan_retries() in net/ipv4/tcp_timer.c).
const DEFAULT: i64 = 8;

fn check(facts: &Facts, measured: &Measured) -> Outcome {
    let Some(current) = facts.settings.tcp_orphan_retries else {
        return cannot_be_read(SETTING);
    };
    let files = &facts.sysctl_files;
    let line = files.winner(files.loader(), SETTING);
    let mut finding = match line {
        Some(line) if current == 0 => Finding {
            risk: "None: the value stays what it is.".to_owned(),
            ..Finding::of_line(facts, &DOCUMENTATION, &line, TAKE_OUT.to_owned())
        },
        _ if current > DEFAULT => {
            Finding::of_setting(facts, &DOCUMENTATION, SETTING, &DEFAULT.to_string())
        }
        _ => {
            return Outcome::Quiet(format!(
                "tcp_orphan_retries is {current}: an orphan with a silent peer lives {} or more",
                least_life(facts, current)
            ));
        }
    };
    finding.evidence.extend(
        facts
            .now
            .sockstat
            .get("TCP.orphan")
            .map(|orphans| Evidence::sockstat("TCP.orphan", orphans)),
    );
    let life = measured.life_of_orphans(current).map_or_else(
        || {
            let formula = "the formula of tcp_model_timeout";
            (
                format!("{} or more by {formula}", least_life(facts, current)),
                measured.unmeasured(formula),
            )
        },
        |life| (format!("{} as measured", life.words), life.source),
    );
    finding
        .evidence
        .push(Evidence::new("orphan.life", life.0.as_str().into(), life.1));
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: if current == 0 {
            Confidence::Medium
        } else {
            Confidence::High
        },
        summary: if current == 0 {
            "a file sets tcp_orphan_retries to 0, which means 8 retries".to_owned()
        } else {
            format!("tcp_orphan_retries is {current}, above the kernel's default of 8")
        },
        why: format!(
            "An orphan whose peer is silent lives {}. It holds its memory and counts against \
             tcp_max_orphans.",
            life.0
        ),
        verify: "`orphan` in /proc/net/sockstat falls".to_owned(),
        ..finding
    }])
}

/// The least life of an orphan with a silent peer. The timer that finds the time over may
/// fire up to 2.5 times later.
fn least_life(facts: &Facts, retries: i64) -> String {
    let retries = if retries == 0 { DEFAULT } else { retries };
    let spent = spent_ms(retries, rto_max_ms(&facts.settings));
    format!("{} s", (spent + 500) / 1000)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{fired, fired_with, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("orphan-retries-misread")
    }

    #[test]
    fn what_a_report_measured_replaces_the_formula() {
        let mut measured = Measured::default();
        let facts = firing();
        measured.life_s.insert(
            0,
            advisor_report::measured::Measurement {
                value: 109,
                source: "report r.json".to_owned(),
            },
        );
        let finding = &fired_with(&RULE, &facts, &measured)[0];
        assert!(finding.why.contains("109 s as measured"), "{}", finding.why);
    }

    #[test]
    fn a_line_that_says_none_goes_and_a_raised_value_comes_down() {
        let finding = fired(&RULE, &firing()).remove(0);
        assert_eq!(finding.proposed, TAKE_OUT);
        let mut facts = host("quiet");
        facts.settings.tcp_orphan_retries = Some(15);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(
            (finding.setting.as_str(), finding.proposed.as_str()),
            (SETTING, "8")
        );
        assert!(finding.why.contains("925 s"), "{}", finding.why);
    }
}
