//! Between which releases of a kernel a scenario began to see something else: binary
//! search over the releases that Debian's archives have.

pub mod changelog;

use advisor_report::Verdict;

use crate::compare::{Comparison, ObservationDifference, Side, differs, run};
use crate::kernels::cache::Cache;
use crate::kernels::catalogue::{LINES, Line, LineRelease, compare_versions};
use crate::kernels::fetch::{Archives, FetchProgress};
use crate::kernels::{KernelError, choice};
use crate::runner::{Error, OnProgress, Options};
use crate::suite::scenario::Scenario;

/// A release between the ends, or one of them.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name: `debian-6.1=6.1.0-50`.
    pub named: LineRelease,
    /// The version of its package.
    pub version: String,
}

/// What is looked for.
#[derive(Debug)]
enum Sign {
    /// Whether the scenario passes.
    Verdict,
    /// The values of an observation.
    Observation(String),
}

/// Where it changed.
#[derive(Debug)]
pub struct Transition {
    /// The last release that is as the good end.
    pub before: Candidate,
    /// The first that is not.
    pub after: Candidate,
    /// What differs between these two.
    pub comparison: Comparison,
    /// Releases that were run, both ends included.
    pub tried: usize,
}

/// A search: one scenario, and the releases in question.
pub struct Bisection<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The releases, from the good end to the bad one.
    pub candidates: Vec<Candidate>,
    /// Runs of the scenario on each.
    pub runs: u64,
    /// The observation to look for. Default: the verdict, else what differs.
    pub observation: Option<String>,
}

/// The lines from one end to the other, oldest first.
pub fn lines_between(good: &LineRelease, bad: &LineRelease) -> Vec<&'static Line> {
    let at = |named: &LineRelease| LINES.iter().position(|line| line.name == named.line.name);
    let (Some(one), Some(other)) = (at(good), at(bad)) else {
        return Vec::new();
    };
    LINES[one.min(other)..=one.max(other)].iter().collect()
}

/// The releases from the good end to the bad one: what the archives have, and what was
/// fetched when they had it.
pub fn candidates(
    archives: &Archives,
    cache: &Cache,
    good: &LineRelease,
    bad: &LineRelease,
) -> Result<Vec<Candidate>, KernelError> {
    let mut all: Vec<Candidate> = Vec::new();
    for line in lines_between(good, bad) {
        let mut of_line: Vec<Candidate> = archives
            .releases(line)
            .into_iter()
            .map(|(named, version)| Candidate {
                named,
                version: version.to_owned(),
            })
            .collect();
        for (name, stored) in cache.kernels() {
            let fetched = LineRelease::parse(&name).filter(|named| named.line.name == line.name);
            let (Some(mut named), Ok(stored)) = (fetched, stored) else {
                continue;
            };
            named.release = named.release.or_else(|| stored.short_release());
            let version = stored
                .packages
                .first()
                .map(|package| package.version.clone());
            if let Some(version) = version
                && !of_line.iter().any(|known| known.named == named)
            {
                of_line.push(Candidate { named, version });
            }
        }
        of_line.sort_by(|one, other| compare_versions(&one.version, &other.version));
        all.append(&mut of_line);
    }
    let at = |end: &LineRelease| {
        let is_end = |candidate: &Candidate| match end.release {
            Some(_) => candidate.named == *end,
            // The newest.
            None => candidate.named.line.name == end.line.name,
        };
        all.iter().rposition(is_end).ok_or_else(|| {
            KernelError::environment(
                &end.to_string(),
                "bisect from it",
                "neither the archives nor the cache have it",
                "`harness kernels list --available` lists the releases",
            )
        })
    };
    let (good, bad) = (at(good)?, at(bad)?);
    let mut between = all[good.min(bad)..=good.max(bad)].to_vec();
    if good > bad {
        between.reverse();
    }
    Ok(between)
}

impl Bisection<'_> {
    /// Finds the two releases beside each other between which the sign changes. `fetched`
    /// has what each that was tried showed, as it comes.
    pub fn run(
        &self,
        archives: &Archives,
        cache: &Cache,
        on_fetch: &mut dyn FnMut(FetchProgress),
        on_run: OnProgress,
        on_tried: &dyn Fn(&Candidate, &str),
    ) -> Result<Transition, Error> {
        let (Some(first), Some(last)) = (self.candidates.first(), self.candidates.last()) else {
            return Err(self.refuse("there is no release between the ends", ""));
        };
        if self.candidates.len() < 2 {
            return Err(self.refuse(
                "both ends are one release",
                "`harness kernels list --available` lists the releases of each line",
            ));
        }
        let mut look = |candidate: &Candidate| -> Result<Side, Error> {
            if choice::find(cache, &candidate.named)?.is_none() {
                archives.fetch(&candidate.named, cache, on_fetch)?;
            }
            self.look(candidate, on_run)
        };
        let good = look(first)?;
        let bad = look(last)?;
        let sign = self.sign(&good, &bad)?;
        on_tried(first, &format!("good: {}", sign.shown(&good)));
        on_tried(last, &format!("bad: {}", sign.shown(&bad)));
        let mut before = (0, good.clone());
        let mut after = (self.candidates.len() - 1, bad);
        let mut tried = 2;
        while after.0 - before.0 > 1 {
            let middle = before.0.midpoint(after.0);
            let candidate = &self.candidates[middle];
            let side = look(candidate)?;
            tried += 1;
            let is_good = sign.is_alike(&side, &good);
            let word = if is_good { "good" } else { "bad" };
            on_tried(candidate, &format!("{word}: {}", sign.shown(&side)));
            if is_good {
                before = (middle, side);
            } else {
                after = (middle, side);
            }
        }
        Ok(Transition {
            comparison: Comparison::of(&before.1, &after.1),
            before: self.candidates[before.0].clone(),
            after: self.candidates[after.0].clone(),
            tried,
        })
    }

    fn refuse(&self, words: &str, hint: &str) -> Error {
        Error::from(KernelError::usage(&self.scenario.id, "bisect", words, hint))
    }

    /// Runs the scenario on one release.
    fn look(&self, candidate: &Candidate, progress: OnProgress) -> Result<Side, Error> {
        let options = Options {
            runs: Some(self.runs),
            long: true,
            ..Options::default()
        };
        let scenario = std::slice::from_ref(self.scenario);
        let kernel = candidate.named.to_string();
        let mut sides = run::sides(scenario, &[kernel], None, &options, progress)?;
        let side = sides.swap_remove(0);
        match side.results.first() {
            Some(result) if matches!(result.verdict, Verdict::Passed | Verdict::Failed) => Ok(side),
            Some(result) => Err(self.refuse(
                &format!(
                    "{}: {}: {}",
                    candidate.named,
                    result.verdict,
                    result.reason.as_deref().unwrap_or_default()
                ),
                result.hint.as_deref().unwrap_or_default(),
            )),
            None => Err(self.refuse(&format!("{} gave no result", candidate.named), "")),
        }
    }

    /// What tells the good end from the bad one.
    fn sign(&self, good: &Side, bad: &Side) -> Result<Sign, Error> {
        let comparison = Comparison::of(good, bad);
        let scenario = comparison.scenarios.first();
        let is_told = |name: &str| {
            scenario.is_some_and(|one| one.observations.iter().any(|of| of.observation == name))
        };
        if let Some(name) = &self.observation {
            if is_told(name) {
                return Ok(Sign::Observation(name.clone()));
            }
            return Err(self.refuse(
                &format!("both ends see the same of {name}: {}", values(name, good)),
                "--observation takes the dotted name of what differs; `harness compare` lists it",
            ));
        }
        let Some(scenario) = scenario else {
            return Err(self.refuse(
                &format!(
                    "the ends agree: {} and {} see the same",
                    good.name, bad.name
                ),
                "choose other ends, or more --runs",
            ));
        };
        match scenario.verdicts {
            Some([Verdict::Passed, _]) => return Ok(Sign::Verdict),
            Some([verdict, _]) => {
                return Err(self.refuse(
                    &format!("the good end is bad: {} on {}", verdict, good.name),
                    "--good names the release on which the scenario passes",
                ));
            }
            None => {}
        }
        // What the scenario is about comes first.
        let mut expected = self
            .scenario
            .expectations
            .iter()
            .map(|of| of.observation.to_string());
        let about = expected.find(|name| is_told(name));
        let first = scenario
            .observations
            .first()
            .map(|of| of.observation.clone());
        match about.or(first) {
            Some(name) => Ok(Sign::Observation(name)),
            None => Err(self.refuse("nothing that differs was seen", "")),
        }
    }
}

impl Sign {
    /// Whether a release is as the good one.
    fn is_alike(&self, side: &Side, good: &Side) -> bool {
        match self {
            Self::Verdict => verdict(side) == verdict(good),
            Self::Observation(name) => !differs(name, side, good),
        }
    }

    /// What was seen of it.
    fn shown(&self, side: &Side) -> String {
        match self {
            Self::Verdict => verdict(side).map_or_else(String::new, |verdict| verdict.to_string()),
            Self::Observation(name) => format!("{name} {}", values(name, side)),
        }
    }
}

fn verdict(side: &Side) -> Option<Verdict> {
    side.results.first().map(|result| result.verdict)
}

fn values(name: &str, side: &Side) -> String {
    side.results.first().map_or_else(String::new, |result| {
        crate::compare::seen(name, result).to_string()
    })
}

impl Transition {
    /// `client.TcpExt.X 1 -> 0`, a line each; the verdict first.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for scenario in &self.comparison.scenarios {
            if let Some([one, other]) = scenario.verdicts {
                lines.push(format!("verdict {one} -> {other}"));
            }
            lines.extend(
                scenario
                    .observations
                    .iter()
                    .map(ObservationDifference::line),
            );
        }
        lines
    }
}
