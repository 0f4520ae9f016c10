//! Compares results: each scenario on each kernel or over each carrier, and
//! where they differ.

use advisor_report::{Difference, Group, Link, Machine, ScenarioResult, Seen};

/// A column: a kernel, with the link where results over several are compared.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Column {
    release: String,
    machine: Machine,
    link: Option<Link>,
}

impl Column {
    /// `6.12.117`; the whole release where others have the same numbers, as
    /// 6.1.0-47-cloud-amd64 and 6.1.0-57-cloud-amd64; with `host` where it is the
    /// host's, with its link where columns differ in that.
    fn label(&self, others: &[Self]) -> String {
        let is_told = |other: &Self| {
            other.release == self.release || short(&other.release) != short(&self.release)
        };
        let release = if others.iter().all(is_told) {
            short(&self.release)
        } else {
            &self.release
        };
        let mut label = release.to_owned();
        if self.machine == Machine::Host {
            label.push_str(" host");
        }
        if let Some(link) = self.link {
            label.push(' ');
            label.push_str(&link.to_string());
        }
        label
    }
}

/// The numbers of a release: `6.12.117` of `6.12.117+deb12-cloud-amd64`.
fn short(release: &str) -> &str {
    let end = release.find(['-', '+']).unwrap_or(release.len());
    &release[..end]
}

/// The results of one scenario in the order of the columns.
#[derive(Debug)]
pub struct Row<'a> {
    /// The scenario's id.
    pub id: &'a str,
    /// `None` where it wasn't run there at all.
    pub cells: Vec<Option<&'a ScenarioResult>>,
}

impl Row<'_> {
    /// Whether all columns have the same verdict.
    pub fn agrees(&self) -> bool {
        let mut verdicts = self.cells.iter().map(|cell| cell.map(|s| s.verdict));
        let first = verdicts.next().flatten();
        first.is_some() && verdicts.all(|verdict| verdict == first)
    }
}

/// Results as a table.
#[derive(Debug)]
pub struct Matrix<'a> {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The scenarios in the order of the results.
    pub rows: Vec<Row<'a>>,
}

impl<'a> Matrix<'a> {
    /// The table of results; `None` where no scenario has more than one.
    pub fn of(results: &'a [ScenarioResult]) -> Option<Self> {
        // Links make columns only where a scenario ran over several on a kernel.
        let by_link = results.iter().enumerate().any(|(index, result)| {
            let others = &results[..index];
            others.iter().any(|other| {
                other.id == result.id && other.kernel == result.kernel && other.link != result.link
            })
        });
        let column = |result: &ScenarioResult| Column {
            release: result.kernel.release.clone(),
            machine: result.kernel.machine,
            link: by_link.then_some(result.link),
        };
        let mut columns: Vec<Column> = Vec::new();
        let mut rows: Vec<Row> = Vec::new();
        for result in results {
            let column = column(result);
            if !columns.contains(&column) {
                columns.push(column);
            }
            if rows.iter().all(|row| row.id != result.id) {
                rows.push(Row {
                    id: &result.id,
                    cells: Vec::new(),
                });
            }
        }
        for row in &mut rows {
            row.cells = columns
                .iter()
                .map(|wanted| {
                    results
                        .iter()
                        .find(|result| result.id == row.id && column(result) == *wanted)
                })
                .collect();
        }
        let is_matrix = rows
            .iter()
            .any(|row| row.cells.iter().flatten().count() > 1);
        is_matrix.then(|| Self {
            columns: columns.iter().map(|one| one.label(&columns)).collect(),
            rows,
        })
    }

    /// What differs between columns, scenario by scenario: a verdict, or the
    /// values of an observation that the scenario has an expectation of.
    pub fn differences(&self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for row in &self.rows {
            let present: Vec<(&str, &ScenarioResult)> = self
                .columns
                .iter()
                .zip(&row.cells)
                .filter_map(|(label, cell)| Some((label.as_str(), (*cell)?)))
                .collect();
            let verdicts: Vec<(&str, Vec<Seen>)> = present
                .iter()
                .map(|(label, result)| {
                    let seen = Seen::new(result.verdict.to_string(), result.runs.len());
                    (*label, vec![seen])
                })
                .collect();
            differences.extend(compare(row.id, None, &verdicts));
            let mut names: Vec<&str> = Vec::new();
            for (_, result) in &present {
                for expectation in &result.expectations {
                    if !names.contains(&expectation.observation.as_str()) {
                        names.push(&expectation.observation);
                    }
                }
            }
            for name in names {
                let values: Vec<(&str, Vec<Seen>)> = present
                    .iter()
                    .filter_map(|(label, result)| {
                        let expectation = result
                            .expectations
                            .iter()
                            .find(|expectation| expectation.observation == name)?;
                        Some((*label, expectation.seen.clone()))
                    })
                    .collect();
                differences.extend(compare(row.id, Some(name), &values));
            }
        }
        differences
    }
}

/// Groups columns whose values do not [`differ`]; more than one group is a
/// difference.
fn compare(
    id: &str,
    observation: Option<&str>,
    values: &[(&str, Vec<Seen>)],
) -> Option<Difference> {
    let is_time = observation
        .and_then(|name| name.rsplit('.').next())
        .is_some_and(|field| field == "ms");
    let mut groups: Vec<Group> = Vec::new();
    for (label, seen) in values.iter().filter(|(_, seen)| !seen.is_empty()) {
        let alike = groups
            .iter_mut()
            .find(|group| !differ(&group.seen, seen, is_time));
        match alike {
            Some(group) => {
                group.columns.push((*label).to_owned());
                for value in seen {
                    match group
                        .seen
                        .iter_mut()
                        .find(|known| known.value == value.value)
                    {
                        Some(known) => known.runs += value.runs,
                        None => group.seen.push(value.clone()),
                    }
                }
            }
            None => groups.push(Group {
                columns: vec![(*label).to_owned()],
                seen: seen.clone(),
            }),
        }
    }
    (groups.len() > 1).then(|| Difference {
        id: id.to_owned(),
        observation: observation.map(str::to_owned),
        groups,
    })
}

/// Whether two sets of values differ beyond chance: they have no value in
/// common; and numbers have ranges that are further apart than either is wide,
/// and by a tenth of the larger (times by half of it). Different numbers of a
/// single run are no difference.
fn differ(one: &[Seen], other: &[Seen], is_time: bool) -> bool {
    let shared = one
        .iter()
        .any(|value| other.iter().any(|known| known.value == value.value));
    if shared {
        return false;
    }
    let (Some(one), Some(other)) = (Range::of(one), Range::of(other)) else {
        return true;
    };
    let (low, high) = if one.most < other.least {
        (one, other)
    } else {
        (other, one)
    };
    let gap = high.least - low.most;
    let least = if is_time { 0.5 } else { 0.1 } * high.least.abs();
    one.runs > 1 && other.runs > 1 && gap > low.width().max(high.width()) && gap > least
}

/// The range of numbers.
#[derive(Clone, Copy)]
struct Range {
    least: f64,
    most: f64,
    runs: usize,
}

impl Range {
    /// `None` where not all are numbers.
    fn of(seen: &[Seen]) -> Option<Self> {
        let mut range = Self {
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
            runs: 0,
        };
        for value in seen {
            let number: f64 = value.value.parse().ok()?;
            range.least = range.least.min(number);
            range.most = range.most.max(number);
            range.runs += value.runs;
        }
        Some(range)
    }

    fn width(self) -> f64 {
        self.most - self.least
    }
}

#[cfg(test)]
mod tests {
    use advisor_report::{Clock, Expectation, Kernel, Quantifier, Verdict};

    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn releases_of_the_same_numbers_are_told_apart() {
        let results: Vec<ScenarioResult> = ["6.1.0-47-cloud", "6.1.0-57-cloud", "6.12.1-cloud"]
            .map(|release| result(release, Link::None, Verdict::Passed, &["none"]))
            .into();
        let matrix = Matrix::of(&results).unwrap();
        assert_eq!(
            matrix.columns,
            ["6.1.0-47-cloud", "6.1.0-57-cloud", "6.12.1"]
        );
    }

    fn result(release: &str, link: Link, verdict: Verdict, values: &[&str]) -> ScenarioResult {
        let mut result = sample().scenarios.remove(0);
        result.kernel = Kernel {
            release: release.to_owned(),
            machine: Machine::QemuTcg,
            clock: Clock::Real,
        };
        result.link = link;
        result.verdict = verdict;
        let mut distinct = values.to_vec();
        distinct.dedup();
        let seen = distinct
            .iter()
            .map(|value| {
                let runs = values.iter().filter(|other| *other == value).count();
                Seen::new(*value, runs)
            })
            .collect();
        result.expectations = vec![Expectation {
            observation: "sender.close.error".to_owned(),
            quantifier: Quantifier::Always,
            condition: "none".to_owned(),
            held: Some(true),
            seen,
            spread: None,
            plain: None,
            because: None,
            line: 0,
        }];
        result
    }

    fn differences(results: &[ScenarioResult]) -> Vec<String> {
        let matrix = Matrix::of(results).unwrap();
        let group = |group: &Group| {
            let seen: Vec<&str> = group.seen.iter().map(|seen| seen.value.as_str()).collect();
            format!("{}: {}", group.columns.join(" "), seen.join(" "))
        };
        matrix
            .differences()
            .iter()
            .map(|difference| {
                let groups: Vec<String> = difference.groups.iter().map(group).collect();
                let name = difference.observation.as_deref().unwrap_or("verdict");
                format!("{name} {}", groups.join(" | "))
            })
            .collect()
    }

    #[test]
    fn kernels_that_saw_the_same_are_one_group() {
        let on = |release, value| result(release, Link::Netem, Verdict::Passed, &[value, value]);
        let results = [
            on("5.10.262-cloud", "EPIPE"),
            on("6.1.2+deb", "none"),
            on("6.12.117+deb12-cloud", "none"),
        ];
        assert_eq!(
            differences(&results),
            ["sender.close.error 5.10.262: EPIPE | 6.1.2 6.12.117: none"]
        );
        assert!(Matrix::of(&results).unwrap().rows[0].agrees());
    }

    #[test]
    fn one_result_a_scenario_is_no_matrix() {
        assert!(Matrix::of(&sample().scenarios).is_none());
    }

    #[test]
    fn a_verdict_that_differs_is_a_difference() {
        let results = [
            result("6.1.2", Link::Netem, Verdict::Passed, &["1"]),
            result("6.1.2", Link::Relay, Verdict::Failed, &["1"]),
        ];
        assert_eq!(
            differences(&results),
            ["verdict 6.1.2 netem: passed | 6.1.2 relay: failed"]
        );
        assert!(!Matrix::of(&results).unwrap().rows[0].agrees());
    }

    #[test]
    fn numbers_differ_only_beyond_their_own_spread() {
        let differs = |one: &[&str], other: &[&str], is_time| {
            let seen = |values: &[&str]| -> Vec<Seen> {
                let seen = |value: &&str| Seen::new(*value, 1);
                values.iter().map(seen).collect()
            };
            differ(&seen(one), &seen(other), is_time)
        };
        assert!(differs(&["10", "12"], &["20", "21"], false));
        assert!(differs(&["20", "21"], &["10", "12"], false));
        assert!(!differs(&["10", "12"], &["13", "21"], false));
        assert!(!differs(&["10", "12"], &["12", "40"], false));
        assert!(!differs(&["10.0", "12.0"], &["20.0", "21.0"], true));
        assert!(differs(&["10.0", "12.0"], &["30.0", "31.0"], true));
        assert!(!differs(&["1924", "1928"], &["1972", "2008"], false));
        assert!(!differs(&["3"], &["4"], false));
        assert!(differs(&["none"], &["4"], false));
    }
}
