//! An executor for tests, which needs neither root nor QEMU.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use advisor_report::{self, Link, ScenarioResult, Verdict};

use super::executor::{Batch, Executor, Job, Worker};
use super::local::blank;
use super::{Error, OnProgress, Options, Outcome, Progress, carry_out, guests, host};
use crate::kernels::KernelError;
use crate::kernels::cache::Stored;
use crate::suite::{self, scenario::Scenario};

/// Runs no scenario: each takes a while and passes, unless the script says
/// otherwise. Jobs of this machine are batched as on the host, those of guests as in
/// guests.
#[derive(Default)]
pub(crate) struct Scripted {
    /// Jobs at the same time.
    pub(crate) at_once: usize,
    /// The verdicts of a scenario's next runs, by its name.
    pub(crate) verdicts: Mutex<BTreeMap<&'static str, Vec<Verdict>>>,
    running: Mutex<Vec<String>>,
    /// Each scenario with those that ran beside it when it started.
    started: Mutex<Vec<(String, Vec<String>)>>,
}

fn name(scenario: &Scenario) -> &str {
    scenario.id.rsplit('/').next().unwrap_or_default()
}

impl Executor for &'static Scripted {
    fn batches(&self, jobs: &[Job]) -> Vec<Batch> {
        if jobs.iter().all(|job| job.kernel.is_none()) {
            return host::batches(jobs, self.at_once);
        }
        vec![Batch {
            jobs: guests::order(jobs, |_| 0),
            at_once: self.at_once,
        }]
    }

    fn worker(&self) -> Box<dyn Worker + '_> {
        Box::new(*self)
    }
}

impl Worker for &Scripted {
    fn run(&mut self, job: &Job, progress: OnProgress) -> ScenarioResult {
        let name = name(job.scenario).to_owned();
        {
            let mut running = self.running.lock().unwrap();
            let mut started = self.started.lock().unwrap();
            started.push((name.clone(), running.clone()));
            running.push(name.clone());
        }
        // The first of a suite ends last.
        let wait_ms = if name.starts_with("slow") { 60 } else { 15 };
        std::thread::sleep(Duration::from_millis(wait_ms));
        progress(Progress::Ran(job.scenario, 1));
        self.running.lock().unwrap().retain(|other| *other != name);
        let mut result = blank(job.scenario, Link::None);
        result.verdict = Verdict::Passed;
        if let Some(verdicts) = self.verdicts.lock().unwrap().get_mut(name.as_str())
            && !verdicts.is_empty()
        {
            result.verdict = verdicts.remove(0);
        }
        if let Some(kernel) = &job.kernel {
            result.kernel.release.clone_from(&kernel.release);
            result.kernel.machine = advisor_report::Machine::QemuTcg;
        }
        result
    }
}

/// Scenarios of these names. One that begins with `alone` has the kernel to itself,
/// one that begins with `long` waits for minutes.
pub(crate) fn scenarios(names: &[&str]) -> Vec<Scenario> {
    let scenario = |name: &&str| {
        let long = name.starts_with("long");
        let seen = if name.starts_with("alone") {
            "kernel.sockstat.TCP.mem.last"
        } else {
            "one.listen.error"
        };
        let expected = if name.starts_with("alone") {
            "0"
        } else {
            "none"
        };
        format!(
            "  - name: {name}\n    explains: it listens\n    source: none\n    long: {long}\n    \
             actors: {{ one: {{ on: server, steps: [{{ listen: 7000 }}] }} }}\n    \
             expect: {{ {seen}: {{ always: {expected} }} }}\n"
        )
    };
    let text: String = names.iter().map(scenario).collect();
    suite::parse(&format!("scenarios:\n{text}"), "t/f").unwrap()
}

/// Each scenario on this machine, and in a guest with each of the kernels.
pub(crate) fn jobs<'a>(scenarios: &'a [Scenario], kernels: &[&str]) -> Vec<Job<'a>> {
    let stored: Vec<_> = kernels
        .iter()
        .map(|release| std::sync::Arc::new(Stored::of_release(release)))
        .collect();
    scenarios
        .iter()
        .flat_map(|scenario| {
            let here = std::iter::once(None);
            let kernels = here.chain(stored.iter().cloned().map(Some));
            kernels.map(move |kernel| Job {
                scenario,
                kernel,
                seed: None,
            })
        })
        .collect()
}

/// Runs jobs, with one executor for the host and one for guests.
pub(crate) fn run(
    jobs: &[Job],
    here: &'static Scripted,
    guests: Result<&'static Scripted, &str>,
    retry_errored: bool,
    progress: OnProgress,
) -> Result<Outcome, Error> {
    let options = Options {
        retry_errored,
        ..Options::default()
    };
    carry_out(
        jobs,
        &|_| Ok(Box::new(here)),
        &|_| match guests {
            Ok(guests) => Ok(Box::new(guests)),
            Err(words) => Err(KernelError::environment("k", "boot it", words, "").into()),
        },
        &options,
        progress,
    )
}

/// For as long as the tests run.
pub(crate) fn scripted(
    at_once: usize,
    verdicts: &[(&'static str, &[Verdict])],
) -> &'static Scripted {
    Box::leak(Box::new(Scripted {
        at_once,
        verdicts: Mutex::new(
            verdicts
                .iter()
                .map(|(name, verdicts)| (*name, verdicts.to_vec()))
                .collect(),
        ),
        ..Scripted::default()
    }))
}

fn ids(results: &[ScenarioResult]) -> Vec<&str> {
    let name = |result: &'_ ScenarioResult| result.id.rfind('/').map_or(0, |at| at + 1);
    results
        .iter()
        .map(|result| &result.id[name(result)..])
        .collect()
}

const NAMES: [&str; 8] = [
    "slow-a", "long-a", "alone-a", "b", "c", "alone-b", "long-b", "d",
];

#[test]
fn results_come_in_the_order_of_the_jobs_and_no_more_run_at_once_than_asked() {
    let scenarios = scenarios(&NAMES);
    let here = scripted(3, &[]);
    let ended = Mutex::new(Vec::new());
    let outcome = run(
        &jobs(&scenarios, &[]),
        here,
        Err("no"),
        false,
        &|progress| {
            if let Progress::Ended(result) = progress {
                ended.lock().unwrap().push(result.id.clone());
            }
        },
    )
    .unwrap();
    assert!(outcome.error.is_none());
    assert_eq!(ids(&outcome.results), NAMES);
    let started = here.started.lock().unwrap();
    assert_eq!((started.len(), ended.into_inner().unwrap().len()), (8, 8));
    for (name, beside) in started.iter() {
        assert!(beside.len() < 3, "{name} beside {beside:?}");
        let alone = |name: &String| name.starts_with("alone");
        assert!(
            beside.is_empty() || !(alone(name) || beside.iter().any(alone)),
            "{name}"
        );
    }
    // What has the kernel to itself is over before the others start, and long ones
    // come last.
    let order: Vec<&str> = started.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(order[..2], ["alone-a", "alone-b"]);
    assert!(
        order[6..].iter().all(|name| name.starts_with("long")),
        "{order:?}"
    );
}

#[test]
fn in_guests_long_scenarios_start_first_and_then_kernel_by_kernel() {
    let scenarios = scenarios(&["a", "long", "alone"]);
    let mut jobs = jobs(&scenarios, &["6.1", "6.12"]);
    jobs.retain(|job| job.kernel.is_some());
    let release = |job: &Job| job.kernel.as_ref().unwrap().release.clone();
    let place = |job: &Job| usize::from(release(job) == "6.12");
    let order = guests::order(&jobs, place);
    let named: Vec<String> = order
        .iter()
        .map(|index| format!("{} {}", name(jobs[*index].scenario), release(&jobs[*index])))
        .collect();
    let expected = [
        "long 6.1",
        "long 6.12",
        "a 6.1",
        "alone 6.1",
        "a 6.12",
        "alone 6.12",
    ];
    assert_eq!(named, expected);
    let outcome = run(
        &jobs,
        scripted(1, &[]),
        Ok(scripted(2, &[])),
        false,
        &|_| {},
    )
    .unwrap();
    let releases: Vec<&str> = outcome
        .results
        .iter()
        .map(|result| result.kernel.release.as_str())
        .collect();
    assert_eq!(releases, ["6.1", "6.12"].repeat(3));
}

#[test]
fn an_errored_scenario_is_run_once_more_where_that_is_asked_for() {
    use Verdict::{Errored, Failed, Passed};
    let scenarios = scenarios(&["a", "b", "c"]);
    let jobs = jobs(&scenarios, &[]);
    let verdicts = |retry_errored| {
        let here = scripted(
            2,
            &[
                ("a", &[Errored, Passed]),
                ("b", &[Errored, Errored]),
                ("c", &[Failed]),
            ],
        );
        let retried = Mutex::new(Vec::new());
        let outcome = run(&jobs, here, Err("no"), retry_errored, &|progress| {
            if let Progress::Retrying(count) = progress {
                retried.lock().unwrap().push(count);
            }
        });
        let results = outcome.unwrap().results;
        let verdicts: Vec<Verdict> = results.iter().map(|result| result.verdict).collect();
        (verdicts, retried.into_inner().unwrap())
    };
    assert_eq!(verdicts(true), (vec![Passed, Errored, Failed], vec![2]));
    assert_eq!(verdicts(false), (vec![Errored, Errored, Failed], vec![]));
}

#[test]
fn what_the_host_has_shown_stays_where_no_guest_boots() {
    let scenarios = scenarios(&["a", "b"]);
    let jobs = jobs(&scenarios, &["6.12"]);
    let outcome = run(&jobs, scripted(1, &[]), Err("it hangs"), false, &|_| {}).unwrap();
    assert_eq!(ids(&outcome.results), ["a", "b"]);
    let error = outcome.error.unwrap();
    assert_eq!(error.to_string(), "k: cannot boot it: it hangs");
    assert!(!error.is_usage());
}

#[test]
fn a_host_that_cannot_run_ends_it_before_guests_start() {
    let scenarios = scenarios(&["a"]);
    let jobs = jobs(&scenarios, &["6.12"]);
    let guests = scripted(1, &[]);
    let outcome = carry_out(
        &jobs,
        &|_| Err(Error::Netem),
        &|_| Ok(Box::new(guests)),
        &Options::default(),
        &|_| {},
    );
    assert!(matches!(outcome, Err(Error::Netem)), "{outcome:?}");
    assert!(guests.started.lock().unwrap().is_empty());
}
