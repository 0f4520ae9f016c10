//! Makes a calibration, which the advisor reads, from results of scenarios on a
//! kernel. Here is which scenarios measure and which values are taken; the
//! scenarios themselves are in the suites. Imports suite.

use std::fmt;

use advisor_facts::release::kernel_line;
use advisor_report::calibration::{
    Bind, BindOption, Calibration, DataLife, FinTimeout, KeepaliveLife, LIVES_S, MeasuredBy,
    OrphanKill, OrphanLife, OrphanMemory, SCHEMA, TimeWait, Unsent, WriteCost,
};
use advisor_report::{ScenarioResult, Value, Verdict};
use nix::unistd::{SysconfVar, sysconf};

use crate::suite;

/// The scenarios of an orphan's memory, by what the orphan has unsent.
const ORPHAN_MEMORY: [(Unsent, &str); 2] = [
    (Unsent::Little, "orphans/held/by-data[data=little]"),
    (Unsent::FullBuffer, "orphans/held/by-data[data=full-buffer]"),
];

/// By shift: the scenario in which all orphans live, and the one in which one
/// is killed. They set the limit this much above the orphans of the machine.
const ORPHAN_LIMIT: u64 = 16;
const ORPHAN_KILLS: [(u32, &str, &str); 3] = [
    (
        0,
        "orphans/limit/exact[orphans=16]",
        "orphans/limit/exact[orphans=17]",
    ),
    (
        1,
        "orphans/limit/soft-error-counts-twice[orphans=8]",
        "orphans/limit/soft-error-counts-twice[orphans=9]",
    ),
    (
        2,
        "orphans/limit/error-and-silence-count-four-times[orphans=4]",
        "orphans/limit/error-and-silence-count-four-times[orphans=5]",
    ),
];

/// The most retries that are measured; the kernel's default for data.
const MOST_RETRIES: u32 = 15;

/// The scenario of how long an orphan lives with this tcp_orphan_retries.
fn orphan_life_id(retries: u32) -> String {
    match retries {
        0 => "orphans/life/silent-peer-by-default".to_owned(),
        1..=4 => format!("orphans/life/silent-peer[retries={retries}]"),
        _ => format!("orphans/life/silent-peer-for-long[retries={retries}]"),
    }
}

/// The scenario of how long a connection lives with this tcp_retries2.
fn data_life_id(retries: u32) -> String {
    format!("crash/vanished-peer/given-up-by-retries[retries={retries}]")
}

/// The scenario of keepalive with the kernel's defaults, which takes two hours, so
/// that only virtual time has it.
const KEEPALIVE: &str = "crash/half-open/keepalive-by-default";

/// The scenarios of TIME_WAIT, by tcp_fin_timeout in seconds, the default first.
const TIME_WAITS: [(u64, &str); 3] = [
    (60, "bind/restart/time-wait-lasts-a-minute[fin-timeout=60]"),
    (2, "bind/restart/time-wait-lasts-a-minute[fin-timeout=2]"),
    (
        120,
        "bind/restart/time-wait-lasts-a-minute[fin-timeout=120]",
    ),
];

/// The axes of the scenario about bind().
const BIND_STATES: [&str; 5] = [
    "ESTABLISHED",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE_WAIT",
    "LISTEN",
];
const BIND_OPTIONS: [(BindOption, &str); 3] = [
    (BindOption::None, "none"),
    (BindOption::ReuseAddr, "reuseaddr"),
    (BindOption::ReusePort, "reuseport"),
];

/// Write sizes of the scenarios of write costs, in bytes.
const WRITES: [u64; 6] = [1, 64, 256, 1024, 4096, 16384];

/// The size of a page, in bytes. A guest is of this machine's architecture.
fn page_bytes() -> u64 {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    bytes
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(4096)
}

/// The text of a calibration.
pub fn text(calibration: &Calibration) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(calibration)? + "\n")
}

/// The ids of all scenarios that measure.
fn ids() -> Vec<String> {
    let kills = ORPHAN_KILLS
        .iter()
        .flat_map(|(_, live, killed)| [*live, *killed]);
    let named = ORPHAN_MEMORY
        .iter()
        .map(|(_, id)| *id)
        .chain(kills)
        .chain(TIME_WAITS.iter().map(|(_, id)| *id));
    named
        .map(str::to_owned)
        .chain((0..=MOST_RETRIES).map(orphan_life_id))
        .chain((1..=MOST_RETRIES).map(data_life_id))
        .chain(binds().map(|(_, _, _, id)| id))
        .chain(WRITES.iter().map(|size| write_id(*size)))
        .collect()
}

/// State, option of the old and of the new socket, and the scenario.
fn binds() -> impl Iterator<Item = (&'static str, BindOption, BindOption, String)> {
    BIND_STATES.iter().flat_map(|state| {
        BIND_OPTIONS.iter().flat_map(move |(old, old_name)| {
            BIND_OPTIONS.iter().map(move |(new, new_name)| {
                let cell = format!("old={old_name},new={new_name},state={state},family=ipv4");
                (*state, *old, *new, format!("bind/restart/options[{cell}]"))
            })
        })
    })
}

fn write_id(size_bytes: u64) -> String {
    format!("memory/accounting/by-write-size[write={size_bytes}]")
}

/// The scenarios that measure, out of those of all suites; the id of one that is
/// missing.
pub fn choose(all: &[suite::scenario::Scenario]) -> Result<Vec<suite::scenario::Scenario>, String> {
    let find = |id: String| {
        let known = all.iter().find(|scenario| scenario.id == id);
        known.cloned().ok_or(id)
    };
    let all = ids().into_iter().chain([KEEPALIVE.to_owned()]);
    all.map(find).collect()
}

/// Why there are no calibrations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Uncalibrated {
    /// This release's line has a calibration by another kernel already.
    SameLine(String),
    /// By release, the scenarios that did not measure.
    Unmeasured(Vec<(String, Unmeasured)>),
}

/// The calibration of each kernel that gave results.
pub fn calibrations(results: Vec<ScenarioResult>) -> Result<Vec<Calibration>, Uncalibrated> {
    let mut kernels: Vec<(String, Vec<ScenarioResult>)> = Vec::new();
    for result in results {
        let release = &result.kernel.release;
        match kernels.iter_mut().find(|(known, _)| known == release) {
            Some((_, results)) => results.push(result),
            None => kernels.push((release.clone(), vec![result])),
        }
    }
    let mut calibrations: Vec<Calibration> = Vec::new();
    let mut all = Vec::new();
    for (release, results) in kernels {
        match calibration(&results, page_bytes()) {
            Ok(new) if calibrations.iter().any(|known| known.line == new.line) => {
                return Err(Uncalibrated::SameLine(release));
            }
            Ok(calibration) => calibrations.push(calibration),
            Err(unmeasured) => {
                all.extend(unmeasured.into_iter().map(|one| (release.clone(), one)));
            }
        }
    }
    if all.is_empty() {
        Ok(calibrations)
    } else {
        Err(Uncalibrated::Unmeasured(all))
    }
}

/// A scenario without a usable result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unmeasured {
    /// Its id.
    pub scenario: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Unmeasured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.scenario, self.why)
    }
}

/// The calibration of a kernel from the results of all scenarios that measure,
/// or the scenarios without a usable result.
fn calibration(
    results: &[ScenarioResult],
    page_bytes: u64,
) -> Result<Calibration, Vec<Unmeasured>> {
    let unmeasured: Vec<Unmeasured> = ids()
        .into_iter()
        .filter_map(|id| passed(results, &id).err())
        .collect();
    if !unmeasured.is_empty() {
        return Err(unmeasured);
    }
    extract(results, page_bytes).map_err(|unmeasured| vec![unmeasured])
}

fn extract(results: &[ScenarioResult], page_bytes: u64) -> Result<Calibration, Unmeasured> {
    let of = |id: &str| passed(results, id);
    let time_waits = TIME_WAITS
        .iter()
        .map(|(fin_timeout_s, id)| time_wait(&of(id)?, *fin_timeout_s))
        .collect::<Result<Vec<_>, _>>()?;
    let release = of(ORPHAN_MEMORY[0].1)?.0.kernel.release.clone();
    Ok(Calibration {
        schema: SCHEMA,
        harness: env!("CARGO_PKG_VERSION").to_owned(),
        line: kernel_line(&release),
        release,
        page_bytes,
        orphan_memory: ORPHAN_MEMORY
            .iter()
            .map(|(unsent, id)| orphan_memory(&of(id)?, *unsent, page_bytes))
            .collect::<Result<_, _>>()?,
        orphan_kills: ORPHAN_KILLS
            .iter()
            .map(|(shift, live, killed)| orphan_kill(*shift, &of(live)?, &of(killed)?))
            .collect::<Result<_, _>>()?,
        orphan_life: (0..=MOST_RETRIES)
            .map(|retries| orphan_life(&of(&orphan_life_id(retries))?, retries))
            .collect::<Result<_, _>>()?,
        data_life: (1..=MOST_RETRIES)
            .map(|retries| data_life(&of(&data_life_id(retries))?, retries))
            .collect::<Result<_, _>>()?,
        keepalive_life: match of(KEEPALIVE) {
            Ok(measured) => Some(keepalive_life(&measured)?),
            // In real time it is skipped.
            Err(_) => None,
        },
        time_wait: TimeWait {
            seconds: time_waits[0].seconds,
            fin_timeout_changes_it: time_waits
                .iter()
                .any(|other| other.seconds != time_waits[0].seconds),
            measured_by: time_waits,
        },
        bind: binds()
            .map(|(state, old, new, id)| {
                let measured = of(&id)?;
                Ok(Bind {
                    state: state.to_owned(),
                    old,
                    new,
                    error: measured.always("new.bind.error")?,
                    measured_by: measured.source(),
                })
            })
            .collect::<Result<_, _>>()?,
        write_cost: WRITES
            .iter()
            .map(|size| write_cost(&of(&write_id(*size))?, *size))
            .collect::<Result<_, _>>()?,
    })
}

/// The result of a scenario that passed.
struct Measured<'a>(&'a ScenarioResult);

fn passed<'a>(results: &'a [ScenarioResult], id: &str) -> Result<Measured<'a>, Unmeasured> {
    let unmeasured = |why: String| Unmeasured {
        scenario: id.to_owned(),
        why,
    };
    let result = results
        .iter()
        .find(|result| result.id == id)
        .ok_or_else(|| unmeasured("it was not run".to_owned()))?;
    if result.verdict == Verdict::Passed {
        return Ok(Measured(result));
    }
    let reason = result
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(", {reason}"));
    Err(unmeasured(format!(
        "{} on Linux {}{reason}",
        result.verdict, result.kernel.release
    )))
}

impl Measured<'_> {
    fn source(&self) -> MeasuredBy {
        MeasuredBy {
            scenario: self.0.id.clone(),
            runs: self.0.runs.len() as u64,
        }
    }

    fn unmeasured(&self, why: String) -> Unmeasured {
        Unmeasured {
            scenario: self.0.id.clone(),
            why,
        }
    }

    /// The values of an observation, by run.
    fn values(&self, name: &str) -> Result<Vec<&Value>, Unmeasured> {
        let values: Option<Vec<&Value>> = self
            .0
            .runs
            .iter()
            .map(|run| run.observations.get(name))
            .collect();
        values
            .filter(|values| !values.is_empty())
            .ok_or_else(|| self.unmeasured(format!("a run did not observe {name}")))
    }

    /// A count in each run; a counter that did not change is 0.
    fn counts(&self, name: &str) -> Vec<u64> {
        self.0
            .runs
            .iter()
            .map(|run| match run.observations.get(name) {
                Some(Value::Integer(count)) => u64::try_from(*count).unwrap_or(0),
                _ => 0,
            })
            .collect()
    }

    /// The greatest of all runs; each must have observed it.
    fn greatest(&self, name: &str) -> Result<u64, Unmeasured> {
        self.values(name)?;
        let greatest = self.counts(name).into_iter().max().unwrap_or(0);
        if greatest == 0 {
            return Err(self.unmeasured(format!("{name} is 0")));
        }
        Ok(greatest)
    }

    /// The value that all runs have in common.
    fn always(&self, name: &str) -> Result<String, Unmeasured> {
        let values = self.values(name)?;
        match values.split_first() {
            Some((first, others)) if others.iter().all(|other| other == first) => {
                Ok(first.to_string())
            }
            _ => Err(self.unmeasured(format!("{name} differs between runs"))),
        }
    }

    /// The median of the runs, in seconds; the longer of two in the middle.
    fn median_s(&self, name: &str) -> Result<f64, Unmeasured> {
        let mut seconds = self
            .values(name)?
            .into_iter()
            .map(|value| value.as_f64().map(|milliseconds| milliseconds / 1000.0))
            .collect::<Option<Vec<f64>>>()
            .ok_or_else(|| self.unmeasured(format!("{name} is no number")))?;
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[seconds.len() / 2])
    }
}

fn orphan_memory(
    measured: &Measured,
    unsent: Unsent,
    page_bytes: u64,
) -> Result<OrphanMemory, Unmeasured> {
    let greatest = |field: &str| measured.greatest(&format!("client.sockets.FIN_WAIT1.{field}"));
    let held_bytes = greatest("wmem_queued")?;
    Ok(OrphanMemory {
        unsent,
        unsent_bytes: greatest("send_queue_bytes")?,
        send_buffer_bytes: greatest("sndbuf")?,
        held_bytes,
        held_pages: held_bytes.div_ceil(page_bytes.max(1)),
        measured_by: measured.source(),
    })
}

fn orphan_kill(
    shift: u32,
    living: &Measured,
    killing: &Measured,
) -> Result<OrphanKill, Unmeasured> {
    const CLOSED: &str = "program.close.ok";
    const KILLED: &str = "client.TcpExt.TCPAbortOnMemory";
    // Other programs of the machine may have an orphan for a moment.
    if !living.counts(KILLED).contains(&0) {
        return Err(living.unmeasured("an orphan was killed in each run".to_owned()));
    }
    if killing.counts(KILLED).contains(&0) {
        return Err(killing.unmeasured("no orphan was killed in a run".to_owned()));
    }
    Ok(OrphanKill {
        shift,
        limit: ORPHAN_LIMIT,
        live: living.greatest(CLOSED)?,
        killed_at: killing.greatest(CLOSED)?,
        live_measured_by: living.source(),
        killed_measured_by: killing.source(),
    })
}

/// The bound of [`LIVES_S`] that a life is below.
fn life_s(measured: &Measured, observation: &str, what: &str) -> Result<u64, Unmeasured> {
    let seconds = measured.median_s(observation)?;
    #[expect(clippy::cast_precision_loss, reason = "hundreds of seconds at most")]
    let at_most_s = LIVES_S.into_iter().find(|most| seconds <= *most as f64);
    at_most_s.ok_or_else(|| measured.unmeasured(format!("{what} lived for {seconds:.0} s")))
}

fn orphan_life(measured: &Measured, retries: u32) -> Result<OrphanLife, Unmeasured> {
    Ok(OrphanLife {
        retries,
        at_most_s: life_s(measured, "lab.gone.ms", "an orphan")?,
        measured_by: measured.source(),
    })
}

fn data_life(measured: &Measured, retries: u32) -> Result<DataLife, Unmeasured> {
    Ok(DataLife {
        retries,
        at_most_s: life_s(measured, "program.read-to-end.ms", "a connection")?,
        measured_by: measured.source(),
    })
}

fn keepalive_life(measured: &Measured) -> Result<KeepaliveLife, Unmeasured> {
    Ok(KeepaliveLife {
        seconds: tens_of_s(measured, "program.read.ms")?,
        measured_by: measured.source(),
    })
}

/// A time in seconds, to the nearest ten.
fn tens_of_s(measured: &Measured, observation: &str) -> Result<u64, Unmeasured> {
    let seconds = measured.median_s(observation)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and the time limit is a few hours"
    )]
    let tens = (seconds / 10.0).round() as u64;
    Ok(tens * 10)
}

fn time_wait(measured: &Measured, fin_timeout_s: u64) -> Result<FinTimeout, Unmeasured> {
    Ok(FinTimeout {
        fin_timeout_s,
        seconds: tens_of_s(measured, "lab.gone.ms")?,
        measured_by: measured.source(),
    })
}

fn write_cost(measured: &Measured, write_bytes: u64) -> Result<WriteCost, Unmeasured> {
    let greatest =
        |field: &str| measured.greatest(&format!("written.server.sockets.ESTABLISHED.{field}"));
    Ok(WriteCost {
        write_bytes,
        written_bytes: greatest("send_queue_bytes")?,
        charged_bytes: greatest("wmem_queued")?,
        measured_by: measured.source(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A result that passed on Linux 6.12.1, with the observations of each run.
    fn result(id: &str, runs: &[String]) -> String {
        let runs: Vec<String> = runs
            .iter()
            .map(|observations| format!(r#"{{"observations": {{{observations}}}}}"#))
            .collect();
        format!(
            r#"{{"id": "{id}", "kernel": {{"release": "6.12.1-x", "where": "qemu-tcg"}},
            "link": "none", "verdict": "passed", "expectations": [],
            "runs": [{}]}}"#,
            runs.join(", ")
        )
    }

    /// What all scenarios that measure may see.
    fn results() -> Vec<ScenarioResult> {
        let mut texts = Vec::new();
        for (_, id) in ORPHAN_MEMORY {
            let run = |held: u64| {
                format!(
                    r#""client.sockets.FIN_WAIT1.wmem_queued": {held},
                    "client.sockets.FIN_WAIT1.send_queue_bytes": 101,
                    "client.sockets.FIN_WAIT1.sndbuf": 46080"#
                )
            };
            texts.push(result(id, &[run(1764), run(4097)]));
        }
        for (shift, live, killed) in ORPHAN_KILLS {
            let most = ORPHAN_LIMIT >> shift;
            let run =
                |closed: u64, killed: &str| format!(r#""program.close.ok": {closed}{killed}"#);
            let kill = r#", "client.TcpExt.TCPAbortOnMemory": 2"#;
            texts.push(result(live, &[run(most, kill), run(most, "")]));
            texts.push(result(killed, &[run(most + 1, kill)]));
        }
        for retries in 0..=MOST_RETRIES {
            let runs = [3900.0, 133_100.5, 4100.0].map(|ms| format!(r#""lab.gone.ms": {ms}"#));
            texts.push(result(&orphan_life_id(retries), &runs));
        }
        for retries in 1..=MOST_RETRIES {
            let runs = [r#""program.read-to-end.ms": 938000.5"#.to_owned()];
            texts.push(result(&data_life_id(retries), &runs));
        }
        texts.push(result(
            KEEPALIVE,
            &[r#""program.read.ms": 7886845.3"#.to_owned()],
        ));
        for (_, id) in TIME_WAITS {
            texts.push(result(id, &[r#""lab.gone.ms": 61900.5"#.to_owned()]));
        }
        for (_, _, _, id) in binds() {
            let run = r#""new.bind.error": "EADDRINUSE""#.to_owned();
            texts.push(result(&id, &[run.clone(), run]));
        }
        for size in WRITES {
            let run = format!(
                r#""written.server.sockets.ESTABLISHED.send_queue_bytes": {},
                "written.server.sockets.ESTABLISHED.wmem_queued": {}"#,
                size * 8,
                size * 8 + 6656
            );
            texts.push(result(&write_id(size), &[run]));
        }
        let text = format!(r#"{{"schema": 1, "scenarios": [{}]}}"#, texts.join(", "));
        let report = advisor_report::parse(&text, Path::new("r.json")).unwrap();
        report.scenarios
    }

    fn at<'a>(results: &'a mut [ScenarioResult], id: &str) -> &'a mut ScenarioResult {
        results.iter_mut().find(|result| result.id == id).unwrap()
    }

    #[test]
    fn results_become_a_calibration() {
        let calibration = calibration(&results(), 4096).unwrap();
        assert_eq!(calibration.line, "6.12");
        assert_eq!(calibration.release, "6.12.1-x");
        let orphan = calibration.orphan(Unsent::Little).unwrap();
        assert_eq!((orphan.held_bytes, orphan.held_pages), (4097, 2));
        assert_eq!(orphan.measured_by.runs, 2);
        assert_eq!(calibration.orphan_counts_at_most(), Some(4));
        assert_eq!(
            calibration
                .orphan_kills
                .iter()
                .map(|kill| (kill.live, kill.killed_at))
                .collect::<Vec<_>>(),
            [(16, 17), (8, 9), (4, 5)]
        );
        assert_eq!(
            calibration.orphan_life[0].at_most_s, 5,
            "the median is 4.1 s"
        );
        assert_eq!(calibration.data_life[14].at_most_s, 1280);
        assert_eq!(calibration.keepalive_life.as_ref().unwrap().seconds, 7890);
        assert_eq!(calibration.time_wait.seconds, 60);
        assert!(!calibration.time_wait.fin_timeout_changes_it);
        let bind = calibration.bind("LISTEN", BindOption::None, BindOption::ReuseAddr);
        assert_eq!(bind.unwrap().error, "EADDRINUSE");
        assert_eq!(calibration.write_cost[0].charged_bytes, 6664);
        // What is written is what is read.
        let text = serde_json::to_string(&calibration).unwrap();
        assert_eq!(Calibration::parse(&text).unwrap(), calibration);
    }

    #[test]
    fn another_time_wait_is_seen() {
        let mut results = results();
        let run = &mut at(&mut results, TIME_WAITS[1].1).runs[0];
        run.observations
            .insert("lab.gone.ms".to_owned(), Value::Number(2100.0));
        let calibration = calibration(&results, 4096).unwrap();
        assert_eq!(calibration.time_wait.seconds, 60);
        assert!(calibration.time_wait.fin_timeout_changes_it);
    }

    #[test]
    fn what_did_not_pass_calibrates_nothing_and_is_named() {
        let mut results = results();
        at(&mut results, ORPHAN_KILLS[1].2).verdict = Verdict::Failed;
        let skipped = at(&mut results, &orphan_life_id(2));
        skipped.verdict = Verdict::Skipped;
        skipped.reason = Some("it waits long".to_owned());
        results.retain(|result| result.id != write_id(64));
        let unmeasured: Vec<String> = calibration(&results, 4096)
            .unwrap_err()
            .iter()
            .map(Unmeasured::to_string)
            .collect();
        assert_eq!(
            unmeasured,
            [
                "orphans/limit/soft-error-counts-twice[orphans=9]: failed on Linux 6.12.1-x",
                "orphans/life/silent-peer[retries=2]: skipped on Linux 6.12.1-x, it waits long",
                "memory/accounting/by-write-size[write=64]: it was not run",
            ]
        );
    }

    #[test]
    fn what_a_run_did_not_see_calibrates_nothing() {
        for (id, change, why) in [
            (
                ORPHAN_MEMORY[1].1,
                &(|run: &mut ScenarioResult| run.runs[1].observations.clear())
                    as &dyn Fn(&mut ScenarioResult),
                "a run did not observe client.sockets.FIN_WAIT1.wmem_queued",
            ),
            (
                ORPHAN_KILLS[0].1,
                &|result| drop(result.runs.pop()),
                "an orphan was killed in each run",
            ),
            (
                ORPHAN_KILLS[0].2,
                &|result| {
                    let seen = &mut result.runs[0].observations;
                    seen.remove("client.TcpExt.TCPAbortOnMemory");
                },
                "no orphan was killed in a run",
            ),
            (
                &binds().next().unwrap().3,
                &|result| {
                    let error = "new.bind.error".to_owned();
                    result.runs[1].observations.insert(error, "none".into());
                },
                "new.bind.error differs between runs",
            ),
            (
                &orphan_life_id(0),
                &|result| {
                    for run in &mut result.runs {
                        run.observations
                            .insert("lab.gone.ms".to_owned(), Value::Number(1e300));
                    }
                },
                "an orphan lived for",
            ),
        ] {
            let mut results = results();
            change(at(&mut results, id));
            let unmeasured = calibration(&results, 4096).unwrap_err();
            assert_eq!(unmeasured.len(), 1, "{id}");
            assert_eq!(unmeasured[0].scenario, id);
            assert!(unmeasured[0].why.starts_with(why), "{}", unmeasured[0].why);
        }
    }
}
