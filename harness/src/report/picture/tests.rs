use advisor_report::trace::{KernelEvent, Points, Series, TracedHost};

use super::*;

/// The trace of a close() with unread data.
pub(crate) fn sample_trace() -> Trace {
    let host = |name: &str, address: &str| TracedHost {
        name: name.to_owned(),
        address: address.to_owned(),
    };
    let call = |host: &str, text: &str, start_us, end_us, result: &str| Call {
        actor: if host == "client" {
            "sender"
        } else {
            "receiver"
        }
        .to_owned(),
        host: Some(host.to_owned()),
        text: text.to_owned(),
        start_us,
        end_us,
        result: result.to_owned(),
        failed: result.contains("ECONN"),
    };
    let lines = [
        "0.000310 0.010400 client:40000 > server:7000 [S] seq 1:1 win 64240 x1",
        "0.010410 0.020500 server:7000 > client:40000 [SA] seq 1:1 ack 1 win 65160 x1",
        "0.020510 0.030600 client:40000 > server:7000 [A] seq 1:1 ack 1 win 64256 x1",
        "0.030700 0.040800 server:7000 > client:40000 [PA] seq 1:14 ack 1 win 65280 x1",
        "0.050000 0.081000 client:40000 > server:7000 [PA] seq 1:65161 ack 1 win 64256 x45",
        "0.061000 - client:40000 > server:7000 [PA] seq 65161:66609 ack 1 win 64256 x1",
        "0.071000 0.081500 server:7000 > client:40000 [A] seq 14:14 ack 65161 win 0 x22",
        "0.091000 0.101000 client:40000 > server:7000 [RA] seq 65161:65161 ack 1 win 64256 x1",
    ];
    Trace {
        run: 2,
        as_expected: false,
        hosts: vec![host("client", "10.0.1.2"), host("server", "10.0.2.2")],
        calls: vec![
            call("server", "listen 7000", 0, Some(100), "0"),
            call("client", "connect server:7000", 300, Some(20_505), "0"),
            call("server", "accept", 150, Some(30_650), "0"),
            call(
                "server",
                "write \"220 Welcome\\r\\n\"",
                30_660,
                Some(30_690),
                "13 bytes",
            ),
            call("client", "write 1MB", 49_000, Some(90_000), "1000000 bytes"),
            call("client", "close", 90_900, Some(90_990), "0"),
            call(
                "server",
                "read-to-end",
                31_000,
                Some(101_100),
                "ECONNRESET after 65160 bytes",
            ),
        ],
        segments: lines.map(|line| line.parse().unwrap()).into(),
        left_out_packets: 3,
        series: vec![Series {
            name: "client to server: sent, not acknowledged".to_owned(),
            unit: "bytes".to_owned(),
            points: Points(vec![(300, 1), (20_500, 0), (50_000, 65_160), (81_500, 0)]),
        }],
        events: sample_events(),
    }
}

/// What the kernel told of in that run.
pub(crate) fn sample_events() -> Vec<KernelEvent> {
    let event = |at_us, host: &str, actor: Option<&str>, what: &str| KernelEvent {
        at_us,
        host: host.to_owned(),
        actor: actor.map(str::to_owned),
        what: what.to_owned(),
        connection: Some("10.0.1.2:40000 > 10.0.2.2:7000".to_owned()),
        count: 1,
    };
    let sent = "resets.sent.TCP_ABORT_ON_CLOSE";
    vec![
        event(90_950, "client", Some("sender"), sent),
        event(101_005, "server", None, "resets.received"),
        event(101_050, "server", None, "drops.TCP_CLOSE"),
    ]
}

#[test]
fn a_run_is_drawn_for_a_terminal() {
    let text = ascii(&sample_trace());
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_run_is_drawn_as_svg() {
    insta::assert_snapshot!(alone(&sample_trace()).replace("><", ">\n<"));
}

#[test]
fn a_packet_that_is_altered_alters_the_picture() {
    let trace = sample_trace();
    let mut altered = trace.clone();
    altered.segments[7].flags = "FA".to_owned();
    altered.events.clear();
    for draw in [ascii, svg] {
        let (before, after) = (draw(&trace), draw(&altered));
        assert!(before.contains("RST") && !after.contains("RST"), "{after}");
        assert!(
            after.contains("FIN_WAIT1") && !before.contains("FIN_WAIT1"),
            "{after}"
        );
    }
}

#[test]
fn what_the_kernel_says_stands_beside_its_host() {
    let trace = sample_trace();
    let mut silent = trace.clone();
    silent.events.clear();
    for draw in [ascii, svg] {
        let (with, without) = (draw(&trace), draw(&silent));
        for reason in ["TCP_ABORT_ON_CLOSE", "TCP_CLOSE"] {
            assert!(with.contains(reason) && !without.contains(reason), "{with}");
        }
    }
}

#[test]
fn nothing_from_a_suite_or_a_kernel_is_markup_or_obeyed() {
    let mut trace = sample_trace();
    let evil = "</text><script>alert(1)</script>\u{1b}[31m\u{202e}\0\"'&";
    trace.hosts[0].name = evil.to_owned();
    trace.calls[1].host = Some(evil.to_owned());
    trace.calls[1].actor = evil.to_owned();
    trace.calls[2].text = evil.to_owned();
    trace.calls[3].result = evil.to_owned();
    trace.segments[0].from = evil.to_owned();
    trace.series[0].name = evil.to_owned();
    trace.calls[4].text = "x".repeat(10 << 20);
    trace.events[0].host = evil.to_owned();
    trace.events[0].connection = Some(evil.to_owned());
    trace.events[2].what = evil.to_owned();
    let drawn = alone(&trace);
    assert!(drawn.len() < 40_000, "{}", drawn.len());
    assert!(!drawn.contains("<script") && !drawn.contains(['\u{1b}', '\u{202e}', '\0']));
    let text = ascii(&trace);
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\0']), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

#[test]
fn any_number_of_hosts_is_drawn() {
    for hosts in 0..6 {
        let mut trace = sample_trace();
        trace.hosts = (0..hosts)
            .map(|number| TracedHost {
                name: ["client", "server", "a", "b", "c", "d"][number].to_owned(),
                address: number.to_string(),
            })
            .collect();
        trace.calls[0].host = None;
        trace.calls[6].end_us = None;
        let (drawn, text) = (alone(&trace), ascii(&trace));
        assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>"));
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }
}

#[test]
fn numbers_are_grouped() {
    assert_eq!(
        [0, 999, 1000, 1_000_062].map(grouped),
        ["0", "999", "1,000", "1,000,062"]
    );
}
