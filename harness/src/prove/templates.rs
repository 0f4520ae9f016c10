//! The scenarios that try advice, `suites/proof`, in the program itself: an
//! installed harness has no suites beside it.

use std::collections::BTreeMap;

use advisor_report::advice::Claim;

use crate::suite::error::SuiteError;
use crate::suite::scenario::{Scenario, Side};
use crate::suite::{self};

/// The files of `suites/proof` without their ending, with their text.
pub const FILES: &[(&str, &str)] = &[
    (
        "abort-on-overflow",
        include_str!("../../../suites/proof/abort-on-overflow.yaml"),
    ),
    (
        "cgroup-limit-near",
        include_str!("../../../suites/proof/cgroup-limit-near.yaml"),
    ),
    (
        "cgroup-slowed-down",
        include_str!("../../../suites/proof/cgroup-slowed-down.yaml"),
    ),
    (
        "close-wait-left",
        include_str!("../../../suites/proof/close-wait-left.yaml"),
    ),
    (
        "close-with-unread-data",
        include_str!("../../../suites/proof/close-with-unread-data.yaml"),
    ),
    (
        "data-retries-few",
        include_str!("../../../suites/proof/data-retries-few.yaml"),
    ),
    (
        "dead-peer-holds-memory",
        include_str!("../../../suites/proof/dead-peer-holds-memory.yaml"),
    ),
    (
        "fin-timeout-lengthened",
        include_str!("../../../suites/proof/fin-timeout-lengthened.yaml"),
    ),
    (
        "idle-without-keepalive",
        include_str!("../../../suites/proof/idle-without-keepalive.yaml"),
    ),
    (
        "listen-queue-overflows",
        include_str!("../../../suites/proof/listen-queue-overflows.yaml"),
    ),
    (
        "orphan-limit-beyond-memory",
        include_str!("../../../suites/proof/orphan-limit-beyond-memory.yaml"),
    ),
    (
        "orphan-limit-lowered",
        include_str!("../../../suites/proof/orphan-limit-lowered.yaml"),
    ),
    (
        "orphan-limit-near",
        include_str!("../../../suites/proof/orphan-limit-near.yaml"),
    ),
    (
        "orphan-retries-misread",
        include_str!("../../../suites/proof/orphan-retries-misread.yaml"),
    ),
    (
        "port-held-without-listener",
        include_str!("../../../suites/proof/port-held-without-listener.yaml"),
    ),
    (
        "ports-run-out",
        include_str!("../../../suites/proof/ports-run-out.yaml"),
    ),
    (
        "reset-for-memory",
        include_str!("../../../suites/proof/reset-for-memory.yaml"),
    ),
    (
        "send-buffer-oversized",
        include_str!("../../../suites/proof/send-buffer-oversized.yaml"),
    ),
    (
        "stalled-peer-holds-memory",
        include_str!("../../../suites/proof/stalled-peer-holds-memory.yaml"),
    ),
    (
        "syncookies-off",
        include_str!("../../../suites/proof/syncookies-off.yaml"),
    ),
    (
        "tcp-mem-far-from-default",
        include_str!("../../../suites/proof/tcp-mem-far-from-default.yaml"),
    ),
    (
        "tcp-mem-in-bytes",
        include_str!("../../../suites/proof/tcp-mem-in-bytes.yaml"),
    ),
    (
        "tcp-mem-near",
        include_str!("../../../suites/proof/tcp-mem-near.yaml"),
    ),
    (
        "tcp-mem-out-of-order",
        include_str!("../../../suites/proof/tcp-mem-out-of-order.yaml"),
    ),
    (
        "tw-buckets-overflow",
        include_str!("../../../suites/proof/tw-buckets-overflow.yaml"),
    ),
    (
        "tw-reuse-without-timestamps",
        include_str!("../../../suites/proof/tw-reuse-without-timestamps.yaml"),
    ),
    (
        "unread-data-holds-memory",
        include_str!("../../../suites/proof/unread-data-holds-memory.yaml"),
    ),
];

/// Rules whose advice no scenario tries, by code, with the reason.
pub const WITHOUT: &[(&str, &str)] = &[
    (
        "LB302",
        "no failure is mended: tcp_fin_timeout has no say over TIME_WAIT, before and after \
         (bind/time-wait/fin-timeout), and setting it back ends a false belief",
    ),
    (
        "LB314",
        "no failure is mended: tcp_rfc1337 only keeps sockets in TIME_WAIT through a reset",
    ),
    (
        "LB415",
        "how much of a larger buffer is filled is the traffic's doing; what full buffers do to \
         tcp_mem is tried for LB402",
    ),
    ("LB601", FILES_ONLY),
    ("LB602", FILES_ONLY),
    ("LB603", FILES_ONLY),
    ("LB604", FILES_ONLY),
    ("LB605", FILES_ONLY),
];

/// A line of a file does nothing on a kernel before it is applied.
const FILES_ONLY: &str = "it is about a line of a file, which no kernel sees before it is applied";

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
    match WITHOUT.iter().find(|(code, _)| *code == claim.code) {
        Some((_, why)) => (*why).to_owned(),
        None => format!("no scenario tries {} for {}", claim.code, claim.setting),
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
                suite::error::Place::START,
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
    use std::path::Path;

    use advisor::rules::RULES;

    use super::*;

    #[test]
    fn every_file_of_the_directory_is_here_and_reads() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../suites/proof");
        let mut there: Vec<String> = directory
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        there.sort_unstable();
        let here: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(here, there, "in the order of their names");
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
    fn each_rule_has_a_proof_or_a_reason_to_have_none() {
        let scenarios = scenarios();
        for rule in RULES {
            let mut proves = scenarios.iter().flat_map(|(_, scenario)| &scenario.proves);
            let has_proof = proves.any(|known| known.rule == rule.code);
            let has_reason = WITHOUT.iter().any(|(code, _)| *code == rule.code);
            assert_ne!(has_proof, has_reason, "{}", rule.code);
        }
    }
}
