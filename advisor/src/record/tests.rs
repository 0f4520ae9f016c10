use std::net::SocketAddr;

use advisor_facts::events::Ends;
use advisor_facts::happened::{At, Kind, Occurrence};
use advisor_facts::processes::Process;
use advisor_report::record;

use super::*;
use crate::rules::recorded_host;

fn start() -> Line {
    Line::Start {
        schema: record::SCHEMA,
        at: At::since_epoch(Duration::from_secs(1)),
        advisor: "0".to_owned(),
        hostname: Some("secret1".to_owned()),
        kernel: "6.18".to_owned(),
        namespace: Some(1),
        tells_reset_reasons: true,
        unseen: Vec::new(),
    }
}

fn event(second: u64) -> Line {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    Line::Event(Occurrence {
        at: At::since_epoch(Duration::from_secs(second)),
        kind: Kind::ResetSent,
        count: 1,
        reason: Some("TCP_ABORT_ON_CLOSE".to_owned()),
        process: Some(Process {
            pid: 812,
            name: "python3".to_owned(),
            script: Some("secret-shop.py".to_owned()),
            ..Process::default()
        }),
        by_port: false,
        namespace: Some(1),
        ends: Some(Ends {
            local: address("192.0.2.10:8080"),
            peer: address("192.0.2.7:55210"),
        }),
        unacknowledged_bytes: 0,
    })
}

fn bounds(bytes: u64) -> Bounds {
    Bounds {
        bytes,
        age: Duration::from_secs(3600),
    }
}

fn begin(directory: &Path, bytes: u64, redacts: bool) -> Recorder {
    Recorder::begin(directory, bounds(bytes), redacts, start()).unwrap()
}

#[test]
fn a_record_is_read_as_it_was_written_after_each_byte_of_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record");
    let mut recorder = begin(&path, 1 << 20, false);
    assert_eq!(recorder.facts(&recorded_host("quiet")), Change::None);
    for second in 2..12 {
        assert_eq!(recorder.line(&event(second)), Change::None);
    }
    drop(recorder);
    let lines = path.join("events-000001.jsonl");
    let whole = fs::read(&lines).unwrap();
    let count = |path: &Path| {
        let happened = record::read(path).unwrap().facts.happened.unwrap();
        happened
            .groups
            .iter()
            .map(|group| group.all.count)
            .sum::<u64>()
    };
    assert_eq!(count(&path), 10);
    // As a kill between two pages of a write leaves it.
    let last = whole
        .trim_ascii_end()
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap();
    for end in (last + 2..whole.len()).step_by(7) {
        fs::write(&lines, &whole[..end]).unwrap();
        let record = record::read(&path).unwrap();
        assert_eq!(count(&path), 9);
        let cut = record.facts.unseen.last().unwrap();
        assert!(cut.why.contains("cut off"), "{cut:?}");
    }
    // The next watch goes on beside it.
    let mut recorder = begin(&path, 1 << 20, false);
    assert_eq!(recorder.line(&event(20)), Change::None);
    assert_eq!(count(&path), 10);
}

#[test]
fn a_record_stays_within_its_bounds_and_keeps_the_first_facts() {
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = begin(directory.path(), 64 << 10, false);
    let facts = recorded_host("quiet");
    assert_eq!(recorder.facts(&facts), Change::None);
    for second in 0..2000 {
        assert_eq!(recorder.line(&event(second)), Change::None);
    }
    let files = recorder.files().unwrap();
    let bytes: u64 = files
        .iter()
        .filter(|file| file.is_lines)
        .map(|file| file.bytes)
        .sum();
    assert!((32 << 10..80 << 10).contains(&bytes), "{bytes}");
    for _ in 0..20 {
        assert_eq!(recorder.facts(&facts), Change::None);
    }
    let files = recorder.files().unwrap();
    let facts: Vec<_> = files.iter().filter(|file| !file.is_lines).collect();
    assert!(facts.len() <= FACTS + 1);
    assert_eq!(facts[0].number, 2, "the first facts");
    record::read(directory.path()).unwrap();
}

#[test]
fn a_redacted_record_names_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = begin(directory.path(), 1 << 20, true);
    assert_eq!(recorder.line(&event(2)), Change::None);
    let change = recorder.line(&Line::Finding {
        at: At::default(),
        code: "LB201".to_owned(),
        severity: "warning".to_owned(),
        summary: "secret-shop.py".to_owned(),
        subject: "secret".to_owned(),
    });
    assert_eq!(change, Change::None);
    let text = fs::read_to_string(directory.path().join("events-000001.jsonl")).unwrap();
    assert!(
        !text.contains("secret") && !text.contains("192.0.2."),
        "{text}"
    );
    assert!(
        text.contains("8080") && text.contains("TCP_ABORT_ON_CLOSE"),
        "{text}"
    );
}

#[test]
fn one_watch_at_a_time_uses_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _recorder = begin(directory.path(), 1 << 20, false);
    let second = Recorder::begin(directory.path(), bounds(1), false, start());
    assert!(matches!(second, Err(RecordError::InUse(_))));
    let nowhere = Recorder::begin(Path::new("/proc/nowhere"), bounds(1), false, start());
    assert!(matches!(nowhere, Err(RecordError::Directory { .. })));
}

#[test]
fn what_is_no_record_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let error = |path: &Path| record::read(path).unwrap_err().to_string();
    assert!(error(directory.path()).ends_with("there is no facts-N.json in it"));
    assert!(error(&directory.path().join("nowhere")).contains("cannot read it"));
    let mut recorder = begin(directory.path(), 1 << 20, false);
    assert_eq!(recorder.facts(&recorded_host("quiet")), Change::None);
    drop(recorder);
    let lines = directory.path().join("events-000001.jsonl");
    let first = fs::read_to_string(&lines).unwrap();
    fs::write(&lines, format!("{first}{{\"line\":\"event\",\"at\":7}}\n")).unwrap();
    let told = error(directory.path());
    assert!(told.contains("events-000001.jsonl:2:"), "{told}");
    fs::write(&lines, first.replace("\"schema\":1", "\"schema\":9")).unwrap();
    let told = error(directory.path());
    assert!(
        told.contains("jsonl:1:1: schema 9: this program reads"),
        "{told}"
    );
    fs::write(&lines, "nothing\n").unwrap();
    assert!(error(directory.path()).contains("jsonl:1:1: the first line"));
}

/// The quiet host so long after its boot, with so many orphans of 100.
fn with_orphans(uptime_s: u64, orphans: &str) -> Facts {
    let mut facts = recorded_host("quiet");
    assert!(facts.settings.set("net.ipv4.tcp_max_orphans", "100"));
    facts.earlier = None;
    facts.boot_id = Some("one".to_owned());
    facts.now.uptime = Duration::from_secs(uptime_s);
    let text = format!("TCP: inuse 5 orphan {orphans} tw 0 alloc 9 mem 1\n");
    let sockstat = advisor_facts::sockstat::Sockstat::parse(&text, Path::new("sockstat")).unwrap();
    facts.now.sockstat.merge(sockstat);
    facts
}

#[test]
fn a_trial_takes_the_worst_moment_and_the_steepest_way_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = begin(directory.path(), 1 << 20, false);
    // It stays full for a while: that is no rate.
    let looks = [
        (100, "2"),
        (200, "10"),
        (220, "90"),
        (900, "90"),
        (1500, "3"),
    ];
    for (uptime_s, orphans) in looks {
        assert_eq!(
            recorder.facts(&with_orphans(uptime_s, orphans)),
            Change::None
        );
    }
    let worst = record::read(directory.path()).unwrap().at_worst();
    assert_eq!(worst.now.uptime.as_secs(), 900);
    assert_eq!(worst.window().unwrap().1.uptime.as_secs(), 200);
    // What comes later drives out everything but the first and the worst.
    for uptime_s in 1501..1530 {
        assert_eq!(recorder.facts(&with_orphans(uptime_s, "3")), Change::None);
    }
    let record = record::read(directory.path()).unwrap();
    assert!(record.looks.len() <= FACTS + 1, "{}", record.looks.len());
    let worst = record.at_worst();
    assert_eq!(worst.now.uptime.as_secs(), 900);
    assert_eq!(worst.window().unwrap().1.uptime.as_secs(), 100);
    // Where no limit was near, the last look is the one.
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = begin(directory.path(), 1 << 20, false);
    for (uptime_s, orphans) in [(100, "2"), (200, "30"), (300, "4")] {
        assert_eq!(
            recorder.facts(&with_orphans(uptime_s, orphans)),
            Change::None
        );
    }
    let last = record::read(directory.path()).unwrap().at_worst();
    assert_eq!(last.now.uptime.as_secs(), 300);
}
