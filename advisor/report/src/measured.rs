//! What was measured and replaces a formula: by reports on the kernel line of a
//! host, else by the calibration of the nearest release.

use std::collections::BTreeMap;
use std::path::Path;

use advisor_facts::release::kernel_line;

use crate::calibration::{self, Calibration, FURTHEST_RELEASES};
use crate::report::{Report, Run, ScenarioResult, Value, Verdict};

/// What was measured on the kernel line of a host, and on the release nearest to
/// it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The memory that an orphan held, in pages: the greatest of all scenarios.
    pub orphan_pages: Option<Measurement>,
    /// The life of an orphan with a silent peer, in seconds, by
    /// tcp_orphan_retries: the longest of all runs.
    pub life_s: BTreeMap<i64, Measurement>,
    /// How often one orphan counted against tcp_max_orphans where the kernel
    /// killed: the greatest of all scenarios.
    pub orphan_counts: Option<Measurement>,
    /// What is known of the nearest release.
    pub calibrated: Calibrated,
}

/// The calibration for a host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Calibrated {
    /// It was not looked for: there is no host.
    #[default]
    Unknown,
    /// None is near enough to this kernel line.
    TooFar(String),
    /// The one of the nearest release.
    Nearest(Box<Calibration>),
}

/// The life of an orphan with a silent peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Life {
    /// `4 s`, or `up to 5 s`.
    pub words: String,
    /// Where it comes from, for people.
    pub source: String,
}

/// The scenario of an orphan's life by tcp_orphan_retries, and the one of the
/// default, 0; both observe [`LIFE`].
const LIFE_BY_RETRIES: &str = "orphans/life/silent-peer";
const LIFE_BY_DEFAULT: &str = "orphans/life/silent-peer-by-default";
/// From close() until the orphan is gone, in milliseconds.
const LIFE: &str = "lab.gone.ms";

/// The scenarios in which the kernel kills at a limit of 16, and how often an
/// orphan counts there: 17 that are closed, 12 whose window is closed for long.
const KILLS: [(&str, u64); 2] = [
    ("orphans/limit/exact[orphans=17]", 1),
    ("orphans/limit/closed-window-counts-twice", 2),
];

/// A measured value and where it comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Measurement {
    /// The value, in the unit that its field says.
    pub value: u64,
    /// The report and the scenario, for people.
    pub source: String,
}

/// Fewer orphans than this are lost in the noise of `TCP.mem`.
const ENOUGH_ORPHANS: i64 = 256;

impl Measured {
    /// What `reports` measured on the line of `kernel`, and the calibration of
    /// the release nearest to it. Only a scenario that passed has measured
    /// anything.
    pub fn of<'a>(reports: impl Iterator<Item = (&'a Path, &'a Report)>, kernel: &str) -> Self {
        let line = kernel_line(kernel);
        let mut measured = Self {
            calibrated: match calibration::nearest(kernel) {
                Some(nearest) => Calibrated::Nearest(Box::new(nearest)),
                None if line.is_empty() => Calibrated::Unknown,
                None => Calibrated::TooFar(line.clone()),
            },
            ..Self::default()
        };
        for (path, report) in reports {
            for scenario in &report.scenarios {
                if scenario.verdict == Verdict::Passed
                    && kernel_line(&scenario.kernel.release) == line
                {
                    measured.add(path, scenario);
                }
            }
        }
        measured
    }

    /// The life of an orphan with a silent peer under this many retries.
    pub fn life_of_orphans(&self, retries: i64) -> Option<Life> {
        if let Some(life) = self.life_s.get(&retries) {
            return Some(Life {
                words: format!("{} s", life.value),
                source: life.source.clone(),
            });
        }
        let calibration = self.calibration()?;
        let life = calibration
            .orphan_life
            .iter()
            .find(|life| i64::from(life.retries) == retries)?;
        Some(Life {
            words: format!("up to {} s", life.at_most_s),
            source: calibration.source(),
        })
    }

    /// The calibration of the nearest release, where it is near enough.
    pub fn calibration(&self) -> Option<&Calibration> {
        match &self.calibrated {
            Calibrated::Nearest(calibration) => Some(calibration),
            Calibrated::Unknown | Calibrated::TooFar(_) => None,
        }
    }

    /// Where a value comes from that nothing measured, for people.
    pub fn unmeasured(&self, formula: &str) -> String {
        match &self.calibrated {
            Calibrated::TooFar(line) => format!(
                "{formula}; no calibration is within {FURTHEST_RELEASES} releases of Linux {line}"
            ),
            Calibrated::Unknown | Calibrated::Nearest(_) => formula.to_owned(),
        }
    }

    fn add(&mut self, path: &Path, scenario: &ScenarioResult) {
        let source = format!(
            "report {}: {} on kernel {}",
            path.display(),
            scenario.id,
            scenario.kernel.release
        );
        let most = scenario.runs.iter().filter_map(orphan_pages).max();
        // Whoever leaves more unsent in an orphan has a costlier one.
        let caveat = format!("{source}; an orphan of yours may hold more");
        keep_greatest(&mut self.orphan_pages, most, &caveat);
        if let Some(retries) = retries(&scenario.id) {
            let longest = scenario.runs.iter().filter_map(life_s).max();
            let mut kept = self.life_s.remove(&retries);
            keep_greatest(&mut kept, longest, &source);
            self.life_s.extend(kept.map(|kept| (retries, kept)));
        }
        let counts = KILLS
            .iter()
            .find(|(id, _)| *id == scenario.id)
            .map(|(_, counts)| *counts);
        keep_greatest(&mut self.orphan_counts, counts, &source);
    }
}

/// The tcp_orphan_retries of a scenario about the life of an orphan.
fn retries(id: &str) -> Option<i64> {
    if id == LIFE_BY_DEFAULT {
        return Some(0);
    }
    id.strip_prefix(LIFE_BY_RETRIES)?
        .strip_prefix("[retries=")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// The life of the orphan of a run in seconds, rounded up.
fn life_s(run: &Run) -> Option<u64> {
    let milliseconds = run.observations.get(LIFE)?.as_f64()?;
    // A day is longer than any run.
    (0.0..86_400_000.0)
        .contains(&milliseconds)
        .then(|| std::time::Duration::from_secs_f64(milliseconds / 1000.0))
        .map(|life| life.as_secs() + u64::from(life.subsec_nanos() > 0))
}

fn keep_greatest(kept: &mut Option<Measurement>, value: Option<u64>, source: &str) {
    if let Some(value) = value
        && kept.as_ref().is_none_or(|kept| kept.value < value)
    {
        *kept = Some(Measurement {
            value,
            source: source.to_owned(),
        });
    }
}

/// The pages that an orphan of a run held.
fn orphan_pages(run: &Run) -> Option<u64> {
    let grown = |gauge: &str| {
        let value = |at: &str| {
            let name = format!("kernel.sockstat.TCP.{gauge}.{at}");
            match run.observations.get(&name) {
                Some(Value::Integer(value)) => Some(*value),
                _ => None,
            }
        };
        Some(value("max")?.saturating_sub(value("before")?))
    };
    let orphans = grown("orphan")?;
    let pages = grown("mem")?;
    (orphans >= ENOUGH_ORPHANS && pages > 0)
        .then(|| (pages.cast_unsigned()).div_ceil(orphans.cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(scenarios: &[(&str, &str, &str, &str)]) -> Report {
        let scenarios: Vec<_> = scenarios
            .iter()
            .map(|(id, kernel, verdict, observations)| {
                format!(
                    r#"{{"id": "{id}", "kernel": {{"release": "{kernel}", "where": "qemu-tcg"}},
                    "link": "none", "verdict": "{verdict}", "expectations": [],
                    "runs": [{{"observations": {{{observations}}}}}]}}"#
                )
            })
            .collect();
        let text = format!(r#"{{"schema": 1, "scenarios": [{}]}}"#, scenarios.join(","));
        crate::report::parse(&text, Path::new("r.json")).unwrap()
    }

    fn measured(report: &Report) -> Measured {
        Measured::of(std::iter::once((Path::new("r.json"), report)), "6.12.9")
    }

    #[test]
    fn what_passed_on_the_same_line_is_measured() {
        const FLOOD: &str = r#""kernel.sockstat.TCP.orphan.before": 1,
            "kernel.sockstat.TCP.orphan.max": 1001,
            "kernel.sockstat.TCP.mem.before": 100, "kernel.sockstat.TCP.mem.max": 2101"#;
        let report = report(&[
            ("orphans/flood/ten-thousand", "6.12.1", "passed", FLOOD),
            (
                "orphans/life/silent-peer[retries=3]",
                "6.12.1",
                "passed",
                r#""lab.gone.ms": 3801.5"#,
            ),
            (
                "orphans/life/silent-peer-by-default",
                "6.12.9",
                "passed",
                r#""lab.gone.ms": 109000"#,
            ),
            ("orphans/limit/exact[orphans=17]", "6.12.1", "passed", ""),
            ("orphans/limit/exact[orphans=16]", "6.12.1", "passed", ""),
        ]);
        let measured = measured(&report);
        let pages = measured.orphan_pages.clone().unwrap();
        assert_eq!(pages.value, 3, "2001 pages of 1000 orphans");
        assert_eq!(
            pages.source,
            "report r.json: orphans/flood/ten-thousand on kernel 6.12.1; an orphan of yours may \
             hold more"
        );
        assert_eq!(measured.life_of_orphans(3).unwrap().words, "4 s");
        assert_eq!(measured.life_of_orphans(0).unwrap().words, "109 s");
        // The calibration knows the rest.
        let life = measured.life_of_orphans(2).unwrap();
        assert!(life.words.starts_with("up to "), "{life:?}");
        assert!(
            life.source.starts_with("measured on Linux 6.12."),
            "{life:?}"
        );
        assert_eq!(measured.life_of_orphans(7), None);
        assert_eq!(measured.orphan_counts.unwrap().value, 1);
    }

    #[test]
    fn another_line_a_failure_and_a_few_orphans_measure_nothing() {
        const FEW: &str = r#""kernel.sockstat.TCP.orphan.before": 1,
            "kernel.sockstat.TCP.orphan.max": 100,
            "kernel.sockstat.TCP.mem.before": 100, "kernel.sockstat.TCP.mem.max": 2101"#;
        let life = r#""lab.gone.ms": 3801.5"#;
        let report = report(&[
            ("orphans/flood/ten-thousand", "6.12.1", "passed", FEW),
            (
                "orphans/life/silent-peer[retries=3]",
                "6.18.1",
                "passed",
                life,
            ),
            (
                "orphans/life/silent-peer[retries=2]",
                "6.12.1",
                "failed",
                life,
            ),
            (
                "orphans/life/silent-peer[retries=1]",
                "6.12.1",
                "passed",
                r#""lab.gone.ms": 1e300"#,
            ),
            ("orphans/limit/exact[orphans=17]", "5.10", "passed", ""),
        ]);
        let measured = measured(&report);
        assert_eq!(measured.orphan_pages, None);
        assert_eq!(measured.orphan_counts, None);
        assert!(measured.life_s.is_empty(), "{:?}", measured.life_s);
    }

    #[test]
    fn a_kernel_that_is_too_far_from_all_calibrations_is_named() {
        let old = Measured::of(std::iter::empty(), "4.19.0-27");
        assert_eq!(old.life_of_orphans(0), None);
        assert_eq!(
            old.unmeasured("a formula"),
            "a formula; no calibration is within 6 releases of Linux 4.19"
        );
        let none = Measured::of(std::iter::empty(), "");
        assert_eq!(none.unmeasured("a formula"), "a formula");
        let near = Measured::of(std::iter::empty(), "6.13");
        assert_eq!(near.calibration().unwrap().line, "6.12");
        assert_eq!(near.unmeasured("a formula"), "a formula");
    }
}
