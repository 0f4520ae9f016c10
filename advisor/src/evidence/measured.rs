//! What reports measured on the kernel line of a host, which then replaces a
//! formula.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Report, Run, Scenario, Verdict};

/// What reports measured on one kernel line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The memory that an orphan held, in pages: the greatest of all scenarios.
    pub orphan_pages: Option<Measurement>,
    /// The life of an orphan with a silent peer, in seconds, by
    /// tcp_orphan_retries: the longest of all scenarios.
    pub life_s: BTreeMap<i64, Measurement>,
}

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
    /// What `reports` measured on kernel line `line`. Only a scenario that
    /// passed has measured anything.
    pub fn of<'a>(reports: impl Iterator<Item = (&'a Path, &'a Report)>, line: &str) -> Self {
        let mut measured = Self::default();
        for (path, report) in reports {
            for scenario in &report.scenarios {
                if scenario.verdict == Verdict::Passed
                    && super::kernel_line(&scenario.kernel.release) == line
                {
                    measured.add(path, scenario);
                }
            }
        }
        measured
    }

    /// The life of an orphan with a silent peer under this many retries, in
    /// seconds.
    pub fn life_of_orphans(&self, retries: i64) -> Option<&Measurement> {
        self.life_s.get(&retries)
    }

    fn add(&mut self, path: &Path, scenario: &Scenario) {
        let source = format!(
            "report {}: {} on kernel {}",
            path.display(),
            scenario.id,
            scenario.kernel.release
        );
        let most = scenario.runs.iter().filter_map(orphan_pages).max();
        keep_greatest(&mut self.orphan_pages, most, &source);
    }
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
                Some(super::Value::Integer(value)) => Some(*value),
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
