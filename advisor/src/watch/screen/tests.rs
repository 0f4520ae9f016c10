use advisor_facts::happened::{At, Kind, Occurrence};
use advisor_facts::processes::Process;
use ratatui::backend::TestBackend;

use super::*;
use crate::gauges;

fn at(second: u64) -> At {
    At::since_epoch(Duration::from_secs(11_527 + second))
}

fn shop() -> Process {
    Process {
        pid: 812,
        name: "java".to_owned(),
        script: Some("shop.jar".to_owned()),
        container: Some("docker:0123456789ab".to_owned()),
        ..Process::default()
    }
}

fn view() -> View {
    let mut view = View::new(false);
    view.line(&Line::Start {
        schema: 1,
        at: at(0),
        advisor: "0".to_owned(),
        hostname: Some("web1".to_owned()),
        kernel: "6.18.44".to_owned(),
        namespace: Some(1),
        tells_reset_reasons: true,
        unseen: Vec::new(),
    });
    for (second, reason, count) in [(1, "TCP_ABORT_ON_CLOSE", 39), (2, "TCP_STATE", 2)] {
        view.line(&Line::Event(Occurrence {
            at: at(second),
            kind: Kind::ResetSent,
            count,
            reason: Some(reason.to_owned()),
            process: Some(shop()),
            by_port: false,
            namespace: Some(1),
            ends: None,
            unacknowledged_bytes: 0,
        }));
    }
    view.line(&Line::Holders {
        at: at(3),
        gauge: "tcp-memory".to_owned(),
        held_bytes: 100 << 20,
        holders: vec![Held {
            process: Some(shop()),
            group: String::new(),
            bytes: 71 << 20,
            sockets: 12,
            condition: "unread here".to_owned(),
        }],
    });
    view.line(&Line::Finding {
        at: at(4),
        code: "LB404".to_owned(),
        severity: "warning".to_owned(),
        summary: "a program\u{1b}[31m leaves 71.0 MiB unread".to_owned(),
        subject: "shop.jar (812)".to_owned(),
    });
    view
}

fn drawn(view: &mut View, width: u16, height: u16) -> String {
    for value in [10, 40, 70, 96] {
        let reading = Reading {
            value: value << 20,
            limit: 100 << 20,
            near: 50 << 20,
            mark: 66 << 20,
        };
        let memory = gauges::find("tcp-memory").unwrap();
        let orphans = gauges::find("orphans").unwrap();
        let few = Reading {
            value: 3,
            limit: 4096,
            near: 1024,
            mark: 2048,
        };
        let shown: Vec<Shown> = vec![(None, memory, reading), (None, orphans, few)];
        view.gauges(&mut shown.into_iter());
    }
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn the_screen_has_gauges_holders_events_and_findings_in_80_columns() {
    let screen = drawn(&mut view(), 80, 24);
    assert!(!screen.contains('\u{1b}'), "{screen}");
    insta::assert_snapshot!(screen);
}

#[test]
fn keys_sort_pause_and_end() {
    let mut view = view();
    let key = |letter| KeyEvent::from(KeyCode::Char(letter));
    let first = |view: &mut View| {
        let screen = drawn(view, 80, 24);
        let line = screen
            .lines()
            .position(|line| line.contains(" events, "))
            .unwrap();
        screen.lines().nth(line + 1).unwrap().to_owned()
    };
    assert!(first(&mut view).contains("TCP_STATE"));
    assert!(view.key(key('s')));
    assert!(first(&mut view).contains("TCP_ABORT_ON_CLOSE"));
    assert!(view.key(key('p')) && view.is_paused);
    assert!(view.key(key('x')));
    assert!(!view.key(key('q')));
    assert!(!view.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

#[test]
fn a_small_terminal_is_no_error() {
    for (width, height) in [(1, 1), (10, 3), (40, 10), (300, 100)] {
        drawn(&mut view(), width, height);
    }
}
