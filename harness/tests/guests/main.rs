//! Guests: scenarios run in a throw-away kernel, and what happens to guests
//! that die. Needs QEMU and the kernel [`KERNEL`], but no root:
//!
//! ```text
//! harness kernels fetch debian-6.12
//! cargo test -p harness --test guests
//! ```

#[path = "../invented/mod.rs"]
#[allow(dead_code, reason = "the documents need the rest")]
mod invented;
#[path = "../live/patience.rs"]
mod patience;
#[path = "../live/program.rs"]
#[expect(dead_code, reason = "the live tests ask more of it")]
mod program;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use advisor_facts::release::kernel_line;
use advisor_report::calibration;
use advisor_report::{Clock, Link, Machine, Report, Verdict};
use harness::guest::qemu::PROGRAM;
use harness::kernels::cache::Cache;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patience::until;
use program::{NO_CACHE, Running, Suite, suite};
use tempfile::TempDir;

const KERNEL: &str = "debian-6.12";

/// Emulation on a busy machine takes its time, and silence is waited for.
const HANG: Duration = Duration::from_secs(900);

/// A scenario that reads what it writes, with more of it in `more`.
fn carries(name: &str, more: &str) -> String {
    format!(
        r#"
  - name: {name}
    explains: What is written is read.
    source: RFC 9293
    runs: 1
    {more}
    actors:
      receiver: {{ on: server, steps: [{{ listen: 7000 }}, accept, read-to-end] }}
      sender: {{ on: client, steps: [{{ connect: "server:7000" }}, {{ write: 1000 }}, close] }}
    expect: {{ receiver.read-to-end.bytes: {{ always: 1000 }} }}
"#
    )
}

/// A scenario that sets something of the whole machine.
fn touches(name: &str) -> String {
    carries(
        name,
        "sysctls: { kernel: { net.ipv4.tcp_max_orphans: 64 } }",
    )
}

/// A scenario that would never end.
fn hangs(name: &str) -> String {
    format!(
        r#"
  - name: {name}
    explains: Nobody writes.
    source: RFC 9293
    runs: 1
    time_limit: 10min
    actors:
      reader: {{ on: server, steps: [{{ listen: 7000 }}, accept, {{ read: 1 }}] }}
      silent: {{ on: client, steps: [{{ connect: "server:7000" }}, {{ await: reader.read }}] }}
    expect: {{ reader.read.bytes: {{ always: 1 }} }}
"#
    )
}

fn of(scenarios: &[String]) -> Suite {
    suite(&format!("scenarios:\n{}", scenarios.concat()))
}

/// Starts a run in guests of [`KERNEL`] with a report beside the suite.
fn start(suite: &Suite, more: &[&str], variables: &[(&str, &OsStr)]) -> Running {
    let (path, report) = (suite.path(), suite.beside("report"));
    let mut arguments: Vec<&OsStr> = vec!["run".as_ref(), path.as_ref()];
    arguments.extend(["--kernel".as_ref(), KERNEL.as_ref()] as [&OsStr; 2]);
    arguments.extend(["--report".as_ref(), report.as_os_str()]);
    arguments.extend(more.iter().map(OsStr::new));
    Running::start_with(arguments, variables)
}

fn report(suite: &Suite) -> Report {
    advisor_report::read(&suite.beside("report")).unwrap()
}

fn verdicts(report: &Report) -> Vec<Verdict> {
    let results = report.scenarios.iter();
    results.map(|result| result.verdict).collect()
}

/// A cache with the kernel, but with no guest kept in it.
fn fresh_cache() -> TempDir {
    let known = Cache::of_user().unwrap().find(KERNEL).unwrap();
    let known = known.unwrap_or_else(|| panic!("harness kernels fetch {KERNEL}"));
    let cache = tempfile::tempdir().unwrap();
    let to = kernel_in(&cache);
    fs::create_dir_all(&to).unwrap();
    for name in ["kernel.json", "vmlinux", "modules"] {
        symlink(known.directory().join(name), to.join(name)).unwrap();
    }
    cache
}

fn kernel_in(cache: &TempDir) -> PathBuf {
    cache.path().join("lastbyte/kernels").join(KERNEL)
}

/// The directories of guests that are kept.
fn states_in(cache: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(kernel_in(cache)).unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("state-"))
        .map(|entry| entry.path())
        .collect()
}

/// The pid of the only guest that a harness has, once it runs.
fn guest_of(harness: &Running) -> Pid {
    let is_qemu = |pid: &i32| {
        program::arguments(*pid)
            .first()
            .is_some_and(|name| name == PROGRAM)
    };
    until("a guest runs", || {
        let guests: Vec<i32> = harness
            .children_of_any_role()
            .into_iter()
            .filter(is_qemu)
            .collect();
        (guests.len() == 1).then(|| Pid::from_raw(guests[0]))
    })
}

/// Keeps a booted guest of that clock, so that no test takes a boot for a scenario.
fn boot(clock: &str) {
    let suite = of(&[carries("first", "")]);
    start(&suite, &["--clock", clock], &[])
        .wait_within(HANG)
        .expect(0);
}

/// As [`guest_of`], once it is in the middle of a scenario. A guest of this clock must
/// have been kept, see [`boot`].
fn guest_at_work(harness: &Running) -> Pid {
    std::thread::sleep(Duration::from_secs(1));
    let mut seen = guest_of(harness);
    loop {
        std::thread::sleep(Duration::from_secs(5));
        let now = guest_of(harness);
        if now == seen {
            return now;
        }
        seen = now;
    }
}

#[test]
fn a_scenario_runs_in_a_guest_with_netem_and_without_touching_the_host() {
    let before = fs::read_to_string("/proc/sys/net/ipv4/tcp_max_orphans").unwrap();
    let suite = of(&[
        carries("impaired", "link: { delay: 1ms }"),
        touches("touches"),
    ]);
    let ended = start(&suite, &[], &[]).wait_within(HANG).expect(0);
    assert_eq!(
        ended.last_line(),
        "2 passed, 0 failed, 0 errored, 0 skipped"
    );
    let report = report(&suite);
    for result in &report.scenarios {
        assert!(result.kernel.release.starts_with("6.12."), "{result:?}");
        assert_ne!(result.kernel.machine, Machine::Host);
    }
    assert_eq!(report.scenarios[0].link, Link::Netem);
    let after = fs::read_to_string("/proc/sys/net/ipv4/tcp_max_orphans").unwrap();
    assert_eq!(after, before);
}

#[test]
fn guests_from_one_state_draw_their_own_random_numbers() {
    // Each touches the kernel, so each has a guest that was restored for it.
    let scenarios: Vec<String> = (0..4)
        .map(|number| touches(&format!("n{number}")))
        .collect();
    let suite = of(&scenarios);
    start(&suite, &[], &[]).wait_within(HANG).expect(0);
    let report = report(&suite);
    let mut ports: Vec<&str> = report
        .scenarios
        .iter()
        .flat_map(|result| &result.runs[0].sockets)
        .filter(|socket| socket.host == "client")
        .map(|socket| socket.local.as_str())
        .collect();
    assert_eq!(ports.len(), scenarios.len(), "{report:?}");
    ports.sort_unstable();
    ports.dedup();
    // Two of four may be the same by chance; all four are so in copies.
    assert!(ports.len() > 1, "{ports:?}");
}

#[test]
fn a_command_comes_along_and_what_is_kept_comes_back() {
    let server = r#"
  - name: server
    explains: A command runs in a guest.
    source: execve(2)
    runs: 1
    actors:
      program:
        on: server
        command: [perl, -e, 'use Socket; socket(S, PF_INET, SOCK_STREAM, 0);
          bind(S, sockaddr_in(8080, INADDR_ANY)) or exit 7; listen(S, 5);
          while (accept(C, S)) { sysread C, $b, 4096; syswrite C, "x" x 1000; close C }']
        ready: { port: 8080 }
        needs: [/usr/lib/x86_64-linux-gnu/perl-base]
      user:
        on: client
        steps: [{ connect: "server:8080" }, { write: 1 }, read-to-end]
    lab: [{ await: user.read-to-end }, { signal: { actor: program, signal: SIGTERM } }, { await: program.exit }]
    expect:
      user.read-to-end.bytes: { always: 1000 }
      program.exit.status: { always: SIGTERM }
"#;
    let missing = server
        .replace("name: server", "name: missing")
        .replace("[perl,", "[no-such-program,");
    let bad = carries("bad", "").replace("always: 1000", "always: 999");
    let suite = of(&[server.to_owned(), missing, bad]);
    let kept = suite.beside("kept");
    let more = ["--keep", kept.to_str().unwrap()];
    let ended = start(&suite, &more, &[]).wait_within(HANG).expect(1);
    let report = report(&suite);
    let expected = [Verdict::Passed, Verdict::Skipped, Verdict::Failed];
    assert_eq!(verdicts(&report), expected, "{ended:?}");
    let reason = report.scenarios[1].reason.as_deref();
    assert_eq!(reason, Some("no-such-program is not installed"));
    let run = kept.join("live/suite/bad/run-0");
    let log = fs::read_to_string(run.join("actors.log")).unwrap();
    assert!(log.contains("receiver: read-to-end ended"), "{log}");
    for host in ["client", "server"] {
        let packets = fs::read(run.join(format!("{host}.pcap"))).unwrap();
        // A handshake, the data and a FIN.
        assert!(packets.len() > 24 + 4 * (16 + 54), "{}", packets.len());
    }
    assert!(!kept.join("live/suite/server").exists());
}

#[test]
fn a_guest_that_dies_is_a_result_and_the_next_scenario_runs() {
    boot("real");
    let suite = of(&[hangs("first"), carries("second", "")]);
    let harness = start(&suite, &["--jobs", "1", "--clock", "real"], &[]);
    kill(guest_at_work(&harness), Signal::SIGKILL).unwrap();
    harness.wait_within(HANG).expect(1);
    let report = report(&suite);
    assert_eq!(verdicts(&report), [Verdict::Errored, Verdict::Passed]);
    let reason = report.scenarios[0].reason.as_deref().unwrap();
    assert!(reason.contains("the guest gave no result"), "{reason}");
}

#[test]
fn a_guest_that_says_nothing_is_a_result() {
    boot("real");
    let suite = of(&[hangs("first"), carries("second", "")]);
    let harness = start(&suite, &["--jobs", "1", "--clock", "real"], &[]);
    kill(guest_at_work(&harness), Signal::SIGSTOP).unwrap();
    harness.wait_within(HANG).expect(1);
    let report = report(&suite);
    assert_eq!(verdicts(&report), [Verdict::Errored, Verdict::Passed]);
    let reason = report.scenarios[0].reason.as_deref().unwrap();
    assert!(reason.contains("said nothing for"), "{reason}");
}

/// A scenario whose guest is busy for longer than a test takes.
fn spins(name: &str) -> String {
    format!(
        r#"
  - name: {name}
    explains: A program never waits.
    source: none
    runs: 1
    time_limit: 60min
    actors:
      program:
        on: server
        command: [perl, -e, "1 while 1"]
        needs: [/usr/lib/x86_64-linux-gnu/perl-base]
    lab: [{{ await: program.exit }}]
    expect: {{ program.exit.status: {{ always: 0 }} }}
"#
    )
}

#[test]
fn a_guest_with_a_virtual_clock_that_dies_or_stands_is_a_result() {
    boot("virtual");
    for (signal, words) in [
        (Signal::SIGKILL, "it died"),
        (Signal::SIGSTOP, "its clock has stood at"),
    ] {
        let suite = of(&[spins("first"), carries("second", "")]);
        let more = ["--jobs", "1", "--clock", "virtual"];
        let harness = start(&suite, &more, &[]);
        kill(guest_at_work(&harness), signal).unwrap();
        harness.wait_within(HANG).expect(1);
        let report = report(&suite);
        assert_eq!(verdicts(&report), [Verdict::Errored, Verdict::Passed]);
        let reason = report.scenarios[0].reason.as_deref().unwrap();
        assert!(reason.contains(words), "{reason}");
    }
}

/// A peer that vanishes, with what the program does at its end.
fn vanishes(name: &str, more: &str) -> String {
    format!(
        r#"
  - name: {name}
    explains: The kernel gives up after tcp_retries2.
    source: RFC 9293
    runs: 1
    time_limit: 1300s
    {more}
    actors:
      program:
        on: server
        steps: [{{ listen: 7000 }}, accept, {{ await: lab.link-down }}, {{ write: 10kB }}, read-to-end]
      user:
        on: client
        steps: [{{ connect: "server:7000" }}, {{ await: program.read-to-end }}]
    lab: [{{ await: program.accept }}, {{ await: user.connect }}, {{ link-down: client }}, {{ await: program.read-to-end }}]
    expect:
      program.read-to-end.error: {{ always: ETIMEDOUT }}
      program.read-to-end.ms: {{ always: ">= 924s" }}
"#
    )
}

#[test]
fn fifteen_minutes_are_the_same_to_the_nanosecond_with_the_same_seed() {
    let lossy = carries("lossy", "link: { delay: 10ms, loss: 10% }").replace("runs: 1", "runs: 2");
    let run = |seed: &str, more: &[&str], filter: &str| {
        let suite = of(&[carries("before", ""), vanishes("waits", ""), lossy.clone()]);
        let arguments = ["--seed", seed, "--filter", filter];
        start(&suite, &[&arguments[..], more].concat(), &[])
            .wait_within(HANG)
            .expect(0);
        let mut report = report(&suite);
        // Each run has a suite in a directory of its own.
        for result in &mut report.scenarios {
            result.place = None;
        }
        report
    };
    let kept = tempfile::tempdir().unwrap();
    let keep = kept.path().to_str().unwrap();
    let all = run("7", &["--jobs", "2"], "live/suite");
    let result = |report: &Report, name: &str| {
        let mut scenarios = report.scenarios.iter();
        let found = scenarios.find(|result| result.id.ends_with(name));
        found.unwrap().clone()
    };
    let waits = result(&all, "waits");
    assert_eq!(waits.kernel.clock, Clock::Virtual);
    let repeatable = waits.repeatable.as_ref().unwrap();
    assert!(repeatable.repeatable && repeatable.depends_on.seed == 7);
    assert!(repeatable.depends_on.qemu.starts_with("QEMU"), "{waits:?}");
    let ms = waits.runs[0].observations["program.read-to-end.ms"].as_f64();
    assert!(ms.unwrap() >= 924_000.0);
    for name in ["waits", "lossy"] {
        let alone = run("7", &["--jobs", "1", "--keep", keep], name);
        assert_eq!(alone.scenarios, [result(&all, name)]);
    }
    let other = run("8", &[], "lossy");
    assert_ne!(other.scenarios[0].runs, result(&all, "lossy").runs);
    // Runs of one seed differ from each other as well.
    let runs = result(&all, "lossy").runs;
    assert_ne!(runs[0].observations, runs[1].observations);
}

#[test]
fn a_new_state_gives_the_same_runs() {
    let suite = of(&[carries("lossy", "link: { delay: 10ms, loss: 10% }")]);
    let run = || {
        let cache = fresh_cache();
        let variables: [(&str, &OsStr); 1] = [("XDG_CACHE_HOME", cache.path().as_os_str())];
        let harness = start(&suite, &["--seed", "1"], &variables);
        harness.wait_within(HANG).expect(0);
        report(&suite).scenarios
    };
    assert_eq!(run(), run());
}

#[test]
fn each_outcome_of_many_seeds_is_told_with_its_smallest_seed() {
    let suite = of(&[carries("lossy", "link: { delay: 10ms, loss: 10% }")]);
    let ended = start(&suite, &["--explore", "3", "--seed", "5"], &[])
        .wait_within(HANG)
        .expect(0);
    assert!(
        ended.stdout.contains(" in 3 seeds, Linux 6.12"),
        "{ended:?}"
    );
    assert!(ended.stdout.contains("  --seed 5: "), "{ended:?}");
    assert_eq!(report(&suite).scenarios.len(), 3);
}

#[test]
fn a_scenario_says_which_clock_it_needs() {
    let suite = of(&[
        carries("speed", "clock: real"),
        vanishes("hours", "clock: virtual"),
    ]);
    start(&suite, &[], &[]).wait_within(HANG).expect(0);
    let clocks = |report: &Report| -> Vec<Clock> {
        let results = report.scenarios.iter();
        results.map(|result| result.kernel.clock).collect()
    };
    assert_eq!(clocks(&report(&suite)), [Clock::Real, Clock::Virtual]);
    for (clock, expected, words) in [
        ("virtual", [Verdict::Skipped, Verdict::Passed], "own speed"),
        ("real", [Verdict::Passed, Verdict::Skipped], "1300 s"),
    ] {
        start(&suite, &["--clock", clock], &[])
            .wait_within(HANG)
            .expect(0);
        let report = report(&suite);
        assert_eq!(verdicts(&report), expected);
        let mut reasons = report
            .scenarios
            .iter()
            .filter_map(|one| one.reason.as_ref());
        assert!(reasons.next().unwrap().contains(words), "{report:?}");
    }
}

#[test]
fn a_qemu_without_icount_is_told() {
    let cache = fresh_cache();
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join(PROGRAM);
    let words = "qemu: -icount: invalid option";
    fs::write(&program, format!("#!/bin/sh\necho '{words}' >&2\nexit 1\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let suite = of(&[carries("plain", "")]);
    let variables: [(&str, &OsStr); 2] = [
        ("XDG_CACHE_HOME", cache.path().as_os_str()),
        ("PATH", programs.path().as_os_str()),
    ];
    let ended = start(&suite, &["--clock", "virtual"], &variables)
        .wait_within(HANG)
        .expect(3);
    for part in [words, "--clock real"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    assert_eq!(states_in(&cache), [] as [PathBuf; 0]);
}

#[test]
fn a_damaged_state_is_made_anew() {
    let cache = fresh_cache();
    let variables: [(&str, &OsStr); 1] = [("XDG_CACHE_HOME", cache.path().as_os_str())];
    let suite = of(&[carries("plain", "")]);
    start(&suite, &[], &variables).wait_within(HANG).expect(0);
    let states = states_in(&cache);
    assert_eq!(states.len(), 1);
    let devices = states[0].join("devices");
    let length = fs::metadata(&devices).unwrap().len();
    fs::write(&devices, vec![0; usize::try_from(length).unwrap()]).unwrap();
    start(&suite, &[], &variables).wait_within(HANG).expect(0);
    assert_eq!(states_in(&cache), states);
    let head = &fs::read(&devices).unwrap()[..64];
    assert!(head.iter().any(|byte| *byte != 0));
}

#[test]
fn killing_the_harness_leaves_neither_a_guest_nor_half_a_state() {
    let cache = fresh_cache();
    let variables: [(&str, &OsStr); 1] = [("XDG_CACHE_HOME", cache.path().as_os_str())];
    let suite = of(&[hangs("first")]);
    let mut harness = start(&suite, &[], &variables);
    let guest = guest_of(&harness);
    harness.kill();
    until("the guest is gone", || {
        let there = program::arguments(guest.as_raw());
        there
            .iter()
            .all(|argument| !argument.contains("qemu"))
            .then_some(())
    });
    // Whatever it was in the middle of, the next one works and sweeps.
    let suite = of(&[carries("plain", "")]);
    start(&suite, &[], &variables).wait_within(HANG).expect(0);
    let kernels = cache.path().join("lastbyte/kernels");
    let left: Vec<String> = fs::read_dir(kernels)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".new-"))
        .collect();
    assert_eq!(left, [] as [&str; 0]);
    assert_eq!(states_in(&cache).len(), 1);
}

#[test]
fn auto_takes_a_guest_for_what_the_host_may_not_do() {
    let suite = of(&[carries("plain", ""), touches("touches")]);
    let (path, directory) = (suite.path(), suite.beside("report"));
    let run = |variables: &[(&str, &OsStr)]| {
        let arguments: [&OsStr; 4] = [
            "run".as_ref(),
            path.as_ref(),
            "--report".as_ref(),
            directory.as_ref(),
        ];
        let ended = Running::start_with(arguments, variables)
            .wait_within(HANG)
            .expect(0);
        (ended, report(&suite))
    };
    let (_, with_kernels) = run(&[]);
    assert_eq!(verdicts(&with_kernels), [Verdict::Passed, Verdict::Passed]);
    assert_ne!(with_kernels.scenarios[1].kernel.machine, Machine::Host);
    if with_kernels.scenarios[0].kernel.machine != Machine::Host {
        // This host makes no namespaces: without kernels it can't run a thing.
        return;
    }
    let (_, without) = run(&[("XDG_CACHE_HOME", NO_CACHE.as_ref())]);
    assert_eq!(verdicts(&without), [Verdict::Passed, Verdict::Skipped]);
    let hint = without.scenarios[1].hint.as_deref().unwrap();
    assert!(hint.contains("harness kernels fetch"), "{hint}");
}

#[test]
fn without_qemu_the_package_is_named() {
    let suite = of(&[carries("plain", "")]);
    let no_programs: [(&str, &OsStr); 1] = [("PATH", Path::new("/nonexistent").as_os_str())];
    let ended = start(&suite, &[], &no_programs).wait_within(HANG).expect(3);
    assert!(ended.stderr.contains("qemu-system-x86"), "{}", ended.stderr);
}

/// A calibration that the advisor ships is what its kernel does today.
#[test]
fn what_was_calibrated_is_measured_again() {
    let suites = Path::new(env!("CARGO_MANIFEST_DIR")).join("../suites");
    let directory = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_harness"))
        .args([
            "run",
            "--kernel",
            KERNEL,
            "--filter",
            "by-write-size[",
            "--report",
        ])
        .arg(directory.path())
        .arg(suites.join("memory"))
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let report = advisor_report::read(directory.path()).unwrap();
    let release = &report.scenarios[0].kernel.release;
    let calibration = calibration::nearest(release).unwrap();
    assert_eq!(calibration.line, kernel_line(release));
    for cost in &calibration.write_cost {
        #[expect(clippy::cast_precision_loss, reason = "bytes stay far below 2^53")]
        let charged_bytes = cost.charged_bytes as f64;
        let again = report
            .scenarios
            .iter()
            .find(|scenario| scenario.id == cost.measured_by.scenario)
            .unwrap();
        for run in &again.runs {
            assert_eq!(
                run.observations["written.server.sockets.ESTABLISHED.wmem_queued"].as_f64(),
                Some(charged_bytes),
                "{} on Linux {release}; ci/calibrate measures anew",
                again.id
            );
        }
    }
}

#[test]
fn the_relay_loses_what_netem_loses() {
    let arguments = [
        "links",
        "--kernel",
        KERNEL,
        "--packets",
        "400",
        "--packets-only",
    ];
    let ended = Running::start_with(arguments, &[]).wait_within(HANG);
    for link in harness::lab::datagrams::LINKS {
        assert!(ended.stdout.contains(link), "{ended:?}");
    }
    // How late a packet comes is the machine's doing as well, what is lost isn't.
    for what in ["lost:", "doubled:"] {
        assert!(!ended.stdout.contains(what), "{ended:?}");
    }
    assert!(matches!(ended.status, Some(0 | 1)), "{ended:?}");
}

/// One thing is changed in a reproduction, and the verdict changes: where tcp_tw_reuse takes
/// the ports of TIME_WAIT again, more ports help nobody. Advice for another host is refused.
#[test]
fn advice_is_proven_where_it_helps_and_only_there() {
    use advisor_report::proof::{self, TrialVerdict};
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let verdict = |case: &invented::Case| {
        let mut facts = Vec::new();
        advisor_facts::file::write(&mut facts, &case.facts).unwrap();
        let facts = write("host.json", &facts);
        let claim = serde_json::to_value(&case.advised.recommendations[0].claim).unwrap();
        let mut step = claim;
        step["evidence"] = serde_json::json!([]);
        let advice = serde_json::json!({
            "schema": 1, "host": case.advised.host, "recommendations": [step]
        });
        let advice = write("advice.json", advice.to_string().as_bytes());
        let output = directory.path().join(case.name.replace(' ', "-"));
        let mut arguments: Vec<&OsStr> = vec!["prove".as_ref(), "--kernel".as_ref()];
        arguments.extend([KERNEL.as_ref(), "--facts".as_ref(), facts.as_ref()] as [&OsStr; 3]);
        arguments.extend(["--advice".as_ref(), advice.as_ref()] as [&OsStr; 2]);
        arguments.extend(["--output".as_ref(), output.as_ref()] as [&OsStr; 2]);
        let ended = Running::start_with(arguments, &[]).wait_within(HANG);
        assert!(matches!(ended.status, Some(0 | 1)), "{ended:?}");
        let proof = proof::read(&output.join("proof.json")).unwrap();
        proof.trials[0].verdict
    };
    let cases = invented::cases();
    let case = |name: &str| cases.iter().find(|case| case.name == name).unwrap();
    let off = verdict(case("ports to a peer run out"));
    let on = verdict(case("ports to a peer are taken again"));
    assert_eq!(
        (off, on),
        (TrialVerdict::Proven, TrialVerdict::NotReproduced)
    );
}
