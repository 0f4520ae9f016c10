//! A tcp_orphan_retries that keeps orphans longer than its number says.

use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Severity, cannot_be_read,
};
use advisor_facts::Facts;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB111",
    name: "orphan-retries-misread",
    scenario: Some("orphans/life/silent-peer-by-default"),
    cure: Some("orphans/life/silent-peer[retries=3]"),
    proven_by: ProvenBy::Suites(&["orphan-retries-misread"]),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_orphan_retries above 8, or one that a file sets to 0. 0 means 8 retries, not \
        none: about 109 s with a silent peer. 15 means about a quarter of an hour. All that time \
        the orphan holds its memory and counts against tcp_max_orphans.",
    evidence: "The value of net.ipv4.tcp_orphan_retries. For 0 also the files that set sysctls.",
    recommendation: "8 if it was raised; 3, about 4 s, if a file says 0. Or remove the line from \
        the file: that keeps the 109 s and shows no misleading 0.",
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
/// Retries that keep an orphan with a silent peer for about 4 seconds.
const FEW: i64 = 3;
/// The first retransmission timeout of a near peer (TCP_RTO_MIN), and the
/// longest (TCP_RTO_MAX), in seconds.
const RTO_MIN_S: f64 = 0.2;
const RTO_MAX_S: f64 = 120.0;

fn check(facts: &Facts, measured: &Measured) -> Outcome {
    let Some(current) = facts.settings.tcp_orphan_retries else {
        return cannot_be_read(SETTING);
    };
    let files = &facts.sysctl_files;
    let in_a_file = files.winner(files.loader(), SETTING).is_some();
    if current <= DEFAULT && (current != 0 || !in_a_file) {
        return Outcome::Quiet(format!(
            "tcp_orphan_retries is {current}: an orphan with a silent peer lives {:.0} s or \
             longer",
            life_s(current)
        ));
    }
    let proposed = if current == 0 { FEW } else { DEFAULT };
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed.to_string());
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
                format!("{:.0} s or longer by {formula}", life_s(current)),
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

/// The shortest life of an orphan with a silent peer, in seconds: the pause between
/// retransmissions doubles up to the longest (tcp_model_timeout). The timer that ends the
/// orphan may fire up to 2.5 times later.
fn life_s(retries: i64) -> f64 {
    let retries = if retries == 0 {
        DEFAULT
    } else {
        retries.clamp(0, 255)
    };
    let mut pause = RTO_MIN_S;
    let mut life = 0.0;
    for _ in 0..=retries {
        life += pause;
        pause = (pause * 2.0).min(RTO_MAX_S);
    }
    life
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{fired_with, host};

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
    fn a_life_is_as_documented_for_tcp_retries2() {
        // ip-sysctl.rst: 15 retries are 924.6 s.
        assert!((super::life_s(15) - 924.6).abs() < 0.01);
        assert!((super::life_s(0) - 102.2).abs() < 0.01);
    }
}
