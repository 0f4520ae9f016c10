//! The committed documents that are made from the code are current, and they
//! fit what they describe. `UPDATE_DOCUMENTS=1 cargo test --test documents`
//! writes them anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use advisor_report::calibration::{Calibration, SHIPPED, Unsent};
use harness::suite;
use harness::suite::form::Form;
use harness::suite::step::{Room, VERBS};
use serde_json::Value as Json;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a committed document with what the code makes of it now.
fn assert_current(file: &str, content: &str) {
    let path = root().join("docs").join(file);
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::write(&path, content).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == content,
        "docs/{file} is stale: UPDATE_DOCUMENTS=1 cargo test -p harness --test documents"
    );
}

fn report_schema() -> Json {
    schemars::schema_for!(advisor_report::Report).to_value()
}

fn calibration_schema() -> Json {
    schemars::schema_for!(Calibration).to_value()
}

#[test]
fn schemas_are_current() {
    assert_current("suite.schema.json", &format!("{:#}\n", suite::schema()));
    assert_current("report.schema.json", &format!("{:#}\n", report_schema()));
    let proof = schemars::schema_for!(advisor_report::proof::Proof).to_value();
    assert_current("proof.schema.json", &format!("{proof:#}\n"));
}

/// docs/proofs.json is what `ci/prove` saw.
#[test]
fn the_list_of_proofs_is_current() {
    use advisor_report::proof;
    use harness::prove::{render, templates};
    let proof = proof::read(&root().join("docs/proofs.json")).unwrap();
    assert_current("proofs.md", &render::list(&proof, &templates::without()));
    // The advice of each rule that a scenario tries has been proven.
    let scenarios = templates::scenarios();
    for proves in scenarios.iter().flat_map(|(_, scenario)| &scenario.proves) {
        let mut trials = proof.trials.iter();
        let proven = trials.any(|trial| {
            trial.claim.code == proves.rule && trial.verdict == proof::Verdict::Proven
        });
        assert!(proven, "{}", proves.rule);
    }
    for trial in proof.trials.iter().filter(|trial| trial.before.is_some()) {
        let id = trial.scenario.as_deref().unwrap_or_default();
        assert!(
            scenarios.iter().any(|(_, known)| known.name() == id),
            "{id}"
        );
    }
    assert_current(
        "calibration.schema.json",
        &format!("{:#}\n", calibration_schema()),
    );
}

/// A suite's YAML as the JSON that a schema is checked against.
fn as_json(text: &str) -> Json {
    serde_yaml::from_str(text).unwrap()
}

fn suite_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            suite_files(&path, files);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            files.push(path);
        }
    }
}

#[test]
fn our_suites_fit_their_schema() {
    let validator = jsonschema::validator_for(&suite::schema()).unwrap();
    let mut files = Vec::new();
    suite_files(&root().join("suites"), &mut files);
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&as_json(&text))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", file.display());
        // Editors find the schema by the first line.
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "# yaml-language-server: $schema=../../docs/suite.schema.json",
            "{}",
            file.display()
        );
    }
}

/// What the reader refuses by its form, the schema refuses as well.
#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let good = std::fs::read_to_string(root().join("suites/bind/time-wait.yaml")).unwrap();
    let validator = jsonschema::validator_for(&suite::schema()).unwrap();
    for (from, to) in [
        ("runs: 2", "runs: two"),
        ("runs: 2", "run: 2"),
        ("see-also:", "see_also:"),
        ("{ listen: 7000 }", "{ lisen: 7000 }"),
        ("{ listen: 7000 }", "{ listen: 7000, close: x }"),
        ("{ listen: 7000 }", "lissen"),
        ("always: EADDRINUSE", "alway: EADDRINUSE"),
        ("time: 4s", "time: 4"),
        ("explains:", "explain:"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(suite::parse(&bad, "t/f").is_err(), "the reader takes {to}");
        // 4 without a unit is a number, and the schema can't tell it from 0.
        if to != "time: 4" {
            assert!(!validator.is_valid(&as_json(&bad)), "the schema takes {to}");
        }
    }
}

#[test]
fn a_report_fits_its_schema_and_another_does_not() {
    let validator = jsonschema::validator_for(&report_schema()).unwrap();
    let report = serde_json::json!({"schema": 1, "scenarios": [{
        "id": "close/unread-data/plain-close",
        "kernel": {"release": "6.18.44", "where": "host"},
        "link": "netem", "verdict": "passed", "reason": null,
        "runs": [{"observations": {"receiver.read-to-end.bytes": 277_000,
                                   "client.TcpExt.TCPAbortOnClose": 1,
                                   "sender.close.error": "none",
                                   "sender.close.ms": 0.25,
                                   "kernel.log": ["TCP: too many orphaned sockets"]}}],
        "expectations": [{"observation": "sender.close.error", "quantifier": "always",
                          "condition": "none", "held": null}],
    }]});
    assert!(validator.is_valid(&report));
    for (pointer, wrong) in [
        ("/scenarios/0/verdict", Json::from("maybe")),
        ("/scenarios/0/link", Json::from("string")),
        ("/scenarios/0/kernel/where", Json::from("moon")),
        ("/scenarios/0/expectations/0/held", Json::from("yes")),
        ("/scenarios/0/runs", Json::Null),
    ] {
        let mut bad = report.clone();
        *bad.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
}

/// A run whose figures stand in docs/catalogue.md.
#[derive(serde::Deserialize, serde::Serialize)]
struct Reference {
    /// The day of the run.
    date: String,
    /// What was run, on which machine.
    command: String,
    report: advisor_report::Report,
}

/// The committed reference, or with `REFERENCE_REPORT=DIR`, as ci/catalogue sets
/// it, what `harness run --report DIR` wrote there, without its runs.
fn reference() -> Reference {
    let path = root().join("docs/reference.json");
    if let Some(directory) = std::env::var_os("REFERENCE_REPORT") {
        let mut report = advisor_report::read(Path::new(&directory)).unwrap();
        for scenario in &mut report.scenarios {
            scenario.runs.clear();
            scenario.explains.clear();
            scenario.source.clear();
            // The release, without what a distribution or a machine calls it.
            let release = &mut scenario.kernel.release;
            let end = release.find(|c: char| !c.is_ascii_digit() && c != '.');
            release.truncate(end.unwrap_or(release.len()));
        }
        let reference = Reference {
            date: std::env::var("REFERENCE_DATE").unwrap(),
            command: std::env::var("REFERENCE_COMMAND").unwrap(),
            report,
        };
        let text = serde_json::to_string(&reference).unwrap();
        // A line for each scenario, so that a change of one is a change of a line.
        let text = text.replace("{\"id\":", "\n{\"id\":") + "\n";
        std::fs::write(&path, text).unwrap();
    }
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_catalogue_is_current() {
    let mut scenarios = suite::load(&[root().join("suites")]).unwrap();
    // Those try advice with a host's numbers, and have no figures of their own.
    scenarios.retain(|scenario| !scenario.id.starts_with("proof/"));
    let reference = reference();
    let mut results = reference.report.scenarios.iter();
    let on_host = results.find(|result| result.kernel.place == advisor_report::Place::Host);
    let release = &on_host.unwrap().kernel.release;
    let page = format!(
        "# The catalogue\n\nEvery scenario but those of suites/proof, and what was seen of it by\n\
         `{}` on Linux {release}, {}.\n\
         [reference.json](reference.json) is that report without its runs. What needs a guest\n\
         says in which it ran. `ci/catalogue` makes this page anew.\n\n{}",
        reference.command,
        reference.date,
        harness::report::catalogue::render(&scenarios, &reference.report)
    );
    assert_current("catalogue.md", &page);
    // What runs by default has its figures there.
    for scenario in &scenarios {
        let by_default = scenario.cell.as_ref().is_none_or(|cell| cell.covering);
        let mut results = reference.report.scenarios.iter();
        let there = results.any(|result| result.id == scenario.id);
        assert!(
            there || !by_default,
            "{} is not in docs/reference.json",
            scenario.id
        );
    }
}

#[test]
fn shipped_calibrations_fit_their_schema() {
    let validator = jsonschema::validator_for(&calibration_schema()).unwrap();
    for (line, text) in SHIPPED {
        let errors: Vec<String> = validator
            .iter_errors(&serde_json::from_str(text).unwrap())
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "linux-{line}.json: {errors:#?}");
    }
}

/// A table with a column for each kernel.
struct Table<'a> {
    calibrations: &'a [Calibration],
    text: String,
}

impl<'a> Table<'a> {
    /// `what` is above the titles of the rows.
    fn new(calibrations: &'a [Calibration], what: &str) -> Self {
        let kernels: Vec<String> = calibrations.iter().map(Calibration::kernel).collect();
        let columns = " --- |".repeat(kernels.len() + 1);
        Self {
            calibrations,
            text: format!("| {what} | {} |\n|{columns}\n", kernels.join(" | ")),
        }
    }

    /// A row: its title, and what is taken from each calibration.
    fn row(&mut self, title: impl std::fmt::Display, figure: impl Fn(&Calibration) -> String) {
        let figures: Vec<String> = self.calibrations.iter().map(figure).collect();
        let _ = writeln!(self.text, "| {title} | {} |", figures.join(" | "));
    }
}

const CALIBRATION: &str = "\
# What was measured on four kernels

The advisor has formulas for what the kernel does with orphans, ports and memory.
`ci/calibrate` measures the same with scenarios of the catalogue, in guests, and
writes [advisor/calibrations](../advisor/calibrations), which are built into the
advisor; `harness calibrate --kernel KERNEL` does it for one kernel. What changes
with a new kernel is a difference to review. This page is made from those files by
`UPDATE_DOCUMENTS=1 cargo test -p harness --test documents`, and their format is
[calibration.schema.json](calibration.schema.json).

A rule takes what a report measured on the host's own kernel line (`--report`);
else what the calibration of the nearest release says; else the documented formula.
The text of a recommendation says which. Releases are counted in the order in which
they came (5.19, 6.0, ... 6.19, 7.0); of two that are as near the older is taken,
and one that is more than 6 releases away is not used. A calibration never makes a
rule more confident, or a finding more or less severe: that takes a report of the
same kernel line. The memory of an orphan is never taken for less than the
documented 64 KiB because of a calibration: a busy connection's buffer has grown.

There is no date in the files, and what is noisy is rounded, so that measuring anew
without a change of the kernel changes nothing:

- bytes are the greatest of all sockets and runs, as the kernel counts them; pages
  are rounded up;
- the life of an orphan is the median of the runs, rounded up to 1, 3, 5, 10, 20,
  40, 80, 160, 320 or 640 s: its timers double, and which of them is the last one
  hangs on the round trip, so that more than this is chance;
- TIME_WAIT is to the nearest 10 s: timers that long are loose by 2 s;
- what lives, what is killed and what bind() answers is exact.

A scenario that does not pass calibrates nothing: then `harness calibrate` names it,
exits with 1 and writes no file. One that errored, because the machine was too busy
to observe it, runs once more first.
";

#[test]
fn the_page_of_the_calibration_is_current() {
    let calibrations: Vec<Calibration> = SHIPPED
        .iter()
        .map(|(_, text)| Calibration::parse(text).unwrap())
        .collect();
    let first = &calibrations[0];
    let mut page = CALIBRATION.to_owned();
    let mut section = |title: &str, lead: &str, table: Table| {
        let _ = write!(page, "\n## {title}\n\n{lead}\n\n{}", table.text);
    };

    let mut table = Table::new(&calibrations, "unsent");
    for (title, unsent) in [
        ("100 bytes", Unsent::Little),
        ("a full buffer", Unsent::FullBuffer),
    ] {
        table.row(title, |calibration| {
            let orphan = calibration.orphan(unsent).unwrap();
            let (held, pages) = (orphan.held_bytes, orphan.held_pages);
            let plural = if pages == 1 { "" } else { "s" };
            format!("{held} bytes, {pages} page{plural}")
        });
    }
    section(
        "The memory of an orphan",
        "`orphans/held/by-data`: connections whose peer has vanished are closed with that unsent,\n\
         in a send buffer that has not grown, 45 KiB. What is held is sk_wmem_queued. A busy\n\
         connection's buffer grows up to tcp_wmem, and its orphan holds as much.",
        table,
    );

    let mut table = Table::new(&calibrations, "each counts");
    for (at, kill) in first.orphan_kills.iter().enumerate() {
        table.row(format!("{} times", 1 << kill.shift), |calibration| {
            let kill = &calibration.orphan_kills[at];
            format!("{} live, {} are too many", kill.live, kill.killed_at)
        });
    }
    section(
        "From how many orphans on the kernel kills",
        "`orphans/limit/exact`, `soft-error-counts-twice` and\n\
         `error-and-silence-count-four-times`: under a limit of 16.",
        table,
    );

    let mut table = Table::new(&calibrations, "retries");
    for (at, life) in first.orphan_life.iter().enumerate() {
        table.row(life.retries, |calibration| {
            format!("up to {} s", calibration.orphan_life[at].at_most_s)
        });
    }
    section(
        "The life of an orphan with a silent peer",
        "`orphans/life/silent-peer` and `silent-peer-by-default`: from close() on, by\n\
         tcp_orphan_retries, of which 0 means 8; for 1 to 4 with a round trip of 60 ms.",
        table,
    );

    let mut table = Table::new(&calibrations, "tcp_fin_timeout");
    for (at, under) in first.time_wait.measured_by.iter().enumerate() {
        table.row(format!("{} s", under.fin_timeout_s), |calibration| {
            format!("{} s", calibration.time_wait.measured_by[at].seconds)
        });
    }
    section(
        "TIME_WAIT",
        "`bind/restart/time-wait-lasts-a-minute`, by tcp_fin_timeout.",
        table,
    );

    let mut table = Table::new(&calibrations, "state: old, new");
    for cell in &first.bind {
        let title = format!("{}: {}, {}", cell.state, cell.old, cell.new);
        table.row(title, |calibration| {
            let bind = calibration.bind(&cell.state, cell.old, cell.new).unwrap();
            if bind.error == "none" {
                "works"
            } else {
                &bind.error
            }
            .to_owned()
        });
    }
    section(
        "bind() while a socket of the old program has the port",
        "`bind/restart/options`, over IPv4: by the state of the old socket, and what the old and\n\
         the new one had set.",
        table,
    );

    let mut table = Table::new(&calibrations, "bytes a write");
    for (at, cost) in first.write_cost.iter().enumerate() {
        table.row(cost.write_bytes, |calibration| {
            let cost = &calibration.write_cost[at];
            let hundredths = cost.charged_bytes * 100 / cost.written_bytes;
            format!("{}.{:02}", hundredths / 100, hundredths % 100)
        });
    }
    section(
        "What a byte costs that is written",
        "`memory/accounting/by-write-size`: eight writes with TCP_NODELAY that nobody\n\
         acknowledges; what sk_wmem_queued is charged for each byte. Without segmentation\n\
         offload: a device that has it takes larger buffers, and large writes cost less.",
        table,
    );
    assert_current("calibration.md", &page);
}

#[test]
fn the_page_of_steps_is_current() {
    let mut page = "# Steps\n\nMade from the table in `harness/src/suite/step.rs`. A step is \
        a bare word, or a\nmapping with the step as its one key. Where a key is **bold**, a bare \
        value\nstands for it: `write: 1MB` is `write: { bytes: 1MB }`.\n"
        .to_owned();
    for (room, title, lead) in [
        (
            Room::Actor,
            "Steps of an actor",
            "Each makes the system call that it is named after.",
        ),
        (
            Room::Lab,
            "Steps of the lab",
            "They stand under `lab:` and act on all hosts.",
        ),
    ] {
        let _ = write!(page, "\n## {title}\n\n{lead}\n");
        for spec in VERBS.iter().filter(|spec| spec.rooms.contains(&room)) {
            let _ = write!(page, "\n### {}\n\n{}.\n\n", spec.name, spec.doc);
            for field in spec.object.fields {
                let mark = if spec.object.short == Some(field.name) {
                    "**"
                } else {
                    ""
                };
                let needed = if field.required { " (needed)" } else { "" };
                let choice = match field.form {
                    Form::Choice(words) if words.len() <= 9 => format!(" [{}]", words.join(", ")),
                    _ => String::new(),
                };
                let _ = writeln!(
                    page,
                    "- {mark}`{}`{mark}{needed}: {}{choice}",
                    field.name, field.doc
                );
            }
            if !spec.yields.is_empty() {
                let _ = writeln!(page, "\nObserves: `{}`.", spec.yields.join("`, `"));
            }
        }
    }
    let page = page.replace("`errors`", "`errors.ERRNO`");
    assert_current("steps.md", &page);
}
