use advisor_facts::happened::{At, Occurrence};
use advisor_facts::processes::Process;

use super::*;
use crate::plan;
use crate::rules::recorded_host;

fn metrics(name: &str) -> Metrics {
    let facts = recorded_host(name);
    Metrics::of_facts(&facts, &plan::advise(&facts, &[]))
}

#[test]
fn usage_and_limit_stand_side_by_side() {
    let text = metrics("orphan-limit-near").text(Format::Text);
    let mut words = Vec::new();
    for line in text.lines() {
        if line.starts_with("lastbyte_tcp_orphans") || line.starts_with("lastbyte_findings") {
            words.push(line);
        }
    }
    insta::assert_snapshot!(words.join("\n"));
}

#[test]
fn every_series_has_a_type_a_help_and_a_name_by_the_conventions() {
    for format in [Format::Text, Format::OpenMetrics] {
        let text = metrics("close-with-unread-data").text(format);
        let mut typed = std::collections::BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                typed.insert(name, kind);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = match format {
                    Format::Text => name,
                    Format::OpenMetrics => name.trim_end_matches("_total"),
                };
                assert!(typed.contains_key(family), "{line}");
                assert_eq!(
                    name.ends_with("_total"),
                    typed[family] == "counter",
                    "{line}"
                );
                line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
            }
        }
        assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
    }
    assert_eq!(Format::accepted("text/plain, */*"), Format::Text);
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain";
    assert_eq!(Format::accepted(accept), Format::OpenMetrics);
}

#[test]
fn series_are_bounded_and_what_they_are_named_by_is_escaped() {
    let facts = recorded_host("quiet");
    let mut metrics = Metrics::new(&facts);
    let mut happened = Happened::default();
    for pid in 0..900 {
        happened.add(&Occurrence {
            at: At::default(),
            kind: EventKind::ResetSent,
            count: 2,
            reason: Some("TCP_ABORT_ON_CLOSE".to_owned()),
            process: Some(Process {
                pid,
                name: format!("a\"\\\n{pid}"),
                ..Process::default()
            }),
            by_port: false,
            namespace: None,
            ends: None,
            unacknowledged_bytes: 0,
        });
    }
    metrics.happened(&happened);
    let text = metrics.text(Format::Text);
    let series: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("lastbyte_resets_sent_total"))
        .collect();
    assert!(series.len() <= SERIES + 1, "{}", series.len());
    let count = |line: &&str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(
        series.iter().map(count).sum::<u64>(),
        1800,
        "none is forgotten"
    );
    assert!(series[1].contains(r#"process="a\"\\\n"#), "{}", series[1]);
}

#[test]
fn every_gauge_and_counter_has_an_alert_that_explains_itself() {
    let text = alerts::text();
    for gauge in gauges::GAUGES {
        assert!(
            text.contains(&format!("{} > ", gauge.metric)),
            "{}",
            gauge.name
        );
    }
    for counter in COUNTERS {
        assert!(
            text.contains(&format!("increase({}[", counter.metric)),
            "{}",
            counter.name
        );
    }
    let alerts = text.matches("- alert: ").count();
    assert_eq!(text.matches("explain: 'advisor explain ").count(), alerts);
    assert_eq!(text.matches("keep_firing_for: ").count(), alerts);
}
