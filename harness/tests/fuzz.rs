//! Whatever a suite, a report or packets say, the harness answers or says what is wrong
//! with it. As in `advisor/src/fuzz.rs`; `FUZZ_SECONDS=600 cargo test -p harness --test
//! fuzz` is long.

#[path = "../../advisor/tests/fuzzing/mod.rs"]
mod fuzzing;

use std::fs;
use std::path::{Path, PathBuf};

use fuzzing::{changed, fuzz, with_other_numbers, with_other_words};
use harness::report::{FORMATS, picture};
use harness::runner::capture::Captured;
use harness::runner::trace::{Calls, Seen, trace};
use harness::suite;
use harness::suite::story;

/// A file of a run of close/unread-data/plain-close with less data.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

#[test]
fn a_suite() {
    let suites = Path::new(env!("CARGO_MANIFEST_DIR")).join("../suites");
    let mut texts = Vec::new();
    for topic in suites.read_dir().unwrap() {
        for file in fs::read_dir(topic.unwrap().path()).into_iter().flatten() {
            let path = file.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                texts.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    // A matrix has hundreds of scenarios, and each is a story.
    texts.retain(|text| !text.contains("matrix:"));
    assert!(texts.len() > 5);
    fuzz("a_suite", |input| {
        let mut text = with_other_words(input.choose(&texts)?, input)?;
        if input.ratio(1, 4)? {
            text = String::from_utf8_lossy(&changed(text.into_bytes(), input)?).into_owned();
        }
        match suite::parse(&text, "topic/file") {
            Ok(scenarios) => {
                for scenario in &scenarios {
                    assert!(story::tell(scenario).starts_with("topic/file/"));
                }
            }
            Err(error) => {
                let place = error.place;
                assert!(place.line > 0 && place.column > 0, "{error}");
                assert!(place.line <= text.lines().count() + 1, "{error}\n{text}");
            }
        }
        Ok(())
    });
}

#[test]
fn a_picture() {
    let report = fs::read_to_string(fixture("report.json")).unwrap();
    fuzz("a_picture", |input| {
        let text = with_other_words(&report, input)?.into_bytes();
        let text = with_other_numbers(text, input)?;
        let text = String::from_utf8_lossy(&text);
        let Ok(report) = advisor_report::parse(&text, Path::new("report.json")) else {
            return Ok(());
        };
        for format in FORMATS {
            format.render(&report).expect("a report can be written");
        }
        for trace in report.scenarios.iter().flat_map(|result| &result.traces) {
            assert!(!picture::ascii(trace).is_empty());
            assert!(picture::alone(trace).starts_with("<svg "));
        }
        Ok(())
    });
}

#[test]
fn pcap() {
    let text = "scenarios:\n  - name: s\n    explains: e\n    source: s\n    actors:\n      a: { \
                on: client, steps: [{ connect: \"server:1\" }] }\n    expect: { a.connect.error: \
                { always: none } }\n";
    let scenario = &suite::parse(text, "topic/file").unwrap()[0];
    let packets = ["client.pcap", "server.pcap"].map(|name| fs::read(fixture(name)).unwrap());
    fuzz("pcap", |input| {
        let client = changed(packets[0].clone(), input)?;
        let server = changed(packets[1].clone(), input)?;
        let left_out = input.int_in_range(0..=1)?;
        let captured = [("client", &client), ("server", &server)].map(|(host, pcap)| Captured {
            host,
            pcap,
            left_out,
        });
        let seen = Seen {
            calls: Calls::default(),
            packets: captured.into(),
            gauges: &[],
            events: &[],
        };
        let trace = trace(scenario, 0, true, seen);
        assert!(!picture::ascii(&trace).is_empty());
        assert!(picture::alone(&trace).starts_with("<svg "));
        Ok(())
    });
}
