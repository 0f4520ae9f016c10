//! What scenarios of the catalogue are made of: matrices, sockets by their peer,
//! steps that end in time, and what is kept of a run that is not as expected.

use std::ffi::OsString;
use std::fs;

use advisor_report::Verdict;

use super::machine;
use super::program::{Ended, Suite, harness, suite};

fn run(suite: &Suite, more: &[OsString]) -> Ended {
    let mut arguments: Vec<OsString> = vec!["run".into(), suite.path().into()];
    arguments.extend_from_slice(more);
    harness(arguments)
}

#[test]
fn a_matrix_runs_its_part_or_the_whole() {
    let _machine = machine::shared();
    let suite = suite(
        r#"
scenarios:
  - name: sizes
    explains: What is written is read.
    source: RFC 9293
    runs: 1
    matrix:
      size: { small: { is: 10 }, large: { is: 100kB } }
      family: [ipv4, ipv6, ipv4-mapped]
      chunk: [1000, 9000]
    family: $family
    actors:
      reader: { on: server, steps: [{ listen: 7000 }, accept, { read-to-end: { chunk: $chunk } }] }
      writer: { on: client, steps: [{ connect: "server:7000" }, { write: $size.is }, { await: lab.end }, close] }
    lab: [{ await: writer.write }, { sample: end }]
    expect:
      end.server.peers.client.ESTABLISHED: { always: 1 }
      end.client.peers.server.ESTABLISHED: { always: 1 }
      end.client.peers.client.ESTABLISHED: { always: 0 }
      reader.read-to-end.bytes: { always: $size.is }
"#,
    );
    let count = |more: &str| {
        let report = suite.beside("report");
        let mut arguments: Vec<OsString> = vec!["--report".into(), report.clone().into()];
        arguments.extend((!more.is_empty()).then(|| more.into()));
        run(&suite, &arguments).expect(0);
        let results = advisor_report::read(&report).unwrap().scenarios;
        assert!(
            results
                .iter()
                .all(|result| result.verdict == Verdict::Passed)
        );
        results.len()
    };
    assert_eq!(count(""), 6);
    assert_eq!(count("--full"), 12);
}

#[test]
fn a_step_ends_in_time() {
    let _machine = machine::shared();
    let suite = suite(
        r#"
scenarios:
  - name: nobody-reads
    explains: A write and a read that can't be done give up in time.
    source: poll(2)
    runs: 1
    actors:
      silent: { on: server, steps: [{ listen: 7000 }, accept, drain, { await: busy.read }] }
      busy:
        on: client
        steps:
          - connect: "server:7000"
          - write: { bytes: 100MB, within: 200ms }
          - read: { bytes: 1, within: 50ms }
    expect:
      silent.drain.error: { always: none }
      busy.write.error: { always: late }
      busy.write.bytes: { always: "> 0" }
      busy.write.ms: { always: ">= 200ms" }
      busy.read.error: { always: late }
"#,
    );
    run(&suite, &[]).expect(0);
}

#[test]
fn what_is_not_as_expected_is_kept_and_nothing_else() {
    let _machine = machine::shared();
    let suite = suite(
        r#"
scenarios:
  - name: bad
    explains: It expects what never happens.
    source: RFC 9293
    runs: 1
    actors: &actors
      reader: { on: server, steps: [{ listen: 7000 }, accept, read-to-end] }
      writer: { on: client, steps: [{ connect: "server:7000" }, { write: 100 }, close] }
    expect: { reader.read-to-end.bytes: { always: 99 } }
  - name: good
    explains: It expects what happens.
    source: RFC 9293
    runs: 1
    actors: *actors
    expect: { reader.read-to-end.bytes: { always: 100 } }
  - name: slow
    explains: It waits long.
    source: RFC 9293
    long: true
    actors: *actors
    expect: { reader.read-to-end.bytes: { always: 100 } }
"#,
    );
    let kept = suite.beside("kept");
    let ended = run(&suite, &["--keep".into(), kept.clone().into()]).expect(1);
    assert!(
        ended.stdout.contains("run it with --long"),
        "{}",
        ended.stdout
    );
    let mut found = Vec::new();
    let mut pending = vec![kept];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.push(path);
            }
        }
    }
    let mut names: Vec<String> = found
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["actors.log", "client.pcap", "server.pcap"]);
    for path in &found {
        assert!(
            path.to_string_lossy().contains("/bad/run-0/"),
            "{}",
            path.display()
        );
        let content = fs::read(path).unwrap();
        if path.extension().is_some_and(|end| end == "pcap") {
            // A handshake, the data and two FINs: more than the header and some.
            assert!(content.len() > 24 + 6 * (16 + 66), "{}", content.len());
        } else {
            let log = String::from_utf8(content).unwrap();
            assert!(
                log.contains("writer: write ended: 1 ok, 100 bytes"),
                "{log}"
            );
        }
    }
}
