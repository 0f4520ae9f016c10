//! The registry, each rule on recorded hosts, and their bounds on changed ones.

use std::collections::BTreeSet;
use std::path::Path;

use recorded::copy;

use super::*;
use crate::plan::{OutcomeWord, advise};
use advisor_facts::cgroups::{Cgroup, CgroupV1};
use advisor_facts::counters::Counters;
use advisor_facts::namespaces::Namespace;
use advisor_facts::processes::{Holder, Process};
use advisor_facts::sock_diag::{TcpState, Timer};
use advisor_facts::{Root, SocketSource};

#[path = "../../tests/recorded/mod.rs"]
mod recorded;

/// A recorded host of tests/hosts, or the quiet one with what tests/overlays has
/// in place of its files.
fn host(name: &str) -> Facts {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let path = tests.join("hosts").join(name);
    if path.exists() {
        return Facts::read(&Root::Recorded(path)).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    copy(&tests.join("hosts/quiet"), directory.path());
    copy(&tests.join("overlays").join(name), directory.path());
    Facts::read(&Root::Recorded(directory.path().to_owned())).unwrap()
}

fn rule(name: &str) -> &'static Rule {
    RULES.iter().find(|rule| rule.name == name).unwrap()
}

/// What a rule makes of a host of whose kernel nothing was measured.
fn outcome(name: &str, facts: &Facts) -> Outcome {
    (rule(name).check)(facts, &Measured::default())
}

/// What a rule finds on a host where it has to find something.
fn fired(name: &str, facts: &Facts) -> Vec<Finding> {
    fired_with(name, facts, &Measured::default())
}

/// The same where something was measured on the kernel of the host.
fn fired_with(name: &str, facts: &Facts, measured: &Measured) -> Vec<Finding> {
    match (rule(name).check)(facts, measured) {
        Outcome::Fired(findings) => findings,
        other => panic!("{name}: {other:?}"),
    }
}

#[track_caller]
fn assert_quiet(name: &str, facts: &Facts) {
    let outcome = outcome(name, facts);
    assert!(matches!(outcome, Outcome::Quiet(_)), "{name}: {outcome:?}");
}

#[track_caller]
fn assert_not_evaluated(name: &str, facts: &Facts, why: &str) {
    match outcome(name, facts) {
        Outcome::NotEvaluated(reason) => assert!(reason.contains(why), "{name}: {reason}"),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn codes_and_names_are_unique_and_well_formed() {
    let codes: BTreeSet<_> = RULES.iter().map(|rule| rule.code).collect();
    let names: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!((codes.len(), names.len()), (RULES.len(), RULES.len()));
    for rule in RULES {
        let digits = rule.code.strip_prefix("LB").unwrap();
        assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()));
        assert!(
            rule.name.split('-').all(|word| {
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())
            }),
            "{}",
            rule.name
        );
    }
}

#[test]
fn rules_stand_in_the_order_of_their_codes() {
    assert!(RULES.is_sorted_by_key(|rule| rule.code));
}

#[test]
fn every_rule_is_documented() {
    for rule in RULES {
        let Documentation {
            detects,
            evidence,
            recommendation,
            cost,
            risk,
            undo,
            references,
        } = rule.documentation;
        for text in [detects, evidence, recommendation, cost, risk, undo] {
            assert!(text.ends_with('.'), "{}: {text:?}", rule.name);
            assert!(!text.contains("  "), "{}: {text:?}", rule.name);
        }
        assert!(!references.is_empty(), "{}", rule.name);
    }
}

#[test]
fn scenarios_are_named_by_topic_file_and_name() {
    for scenario in RULES
        .iter()
        .flat_map(|rule| [rule.scenario, rule.cure])
        .flatten()
    {
        let parts: Vec<_> = scenario.split('/').collect();
        assert!(
            parts.len() == 3 && parts.iter().all(|part| !part.is_empty()),
            "{scenario}"
        );
    }
}

#[test]
fn each_rule_fires_on_its_host_and_no_other_one_does() {
    for rule in RULES {
        let advice = advise(&mut host(rule.name), &[]);
        let fired: Vec<_> = advice
            .rules
            .iter()
            .filter(|outcome| outcome.outcome == OutcomeWord::Fired)
            .map(|outcome| outcome.name)
            .collect();
        // What cannot be without another one.
        let expected = match rule.name {
            "buffers-raised-under-pressure" => vec!["tcp-mem-near", rule.name],
            name => vec![name],
        };
        assert_eq!(fired, expected);
    }
}

#[test]
fn every_rule_is_evaluated_and_quiet_on_a_quiet_host() {
    for outcome in advise(&mut host("quiet"), &[]).rules {
        assert_eq!(outcome.outcome, OutcomeWord::Quiet, "{outcome:?}");
    }
}

#[test]
fn a_finding_leaves_nothing_unsaid() {
    for rule in RULES {
        for finding in fired(rule.name, &host(rule.name)) {
            for text in [
                finding.summary,
                finding.why,
                finding.subject,
                finding.setting,
                finding.current,
                finding.proposed,
                finding.cost,
                finding.risk,
                finding.apply,
                finding.undo,
                finding.verify,
            ] {
                assert!(
                    !text.is_empty() && !text.contains("  "),
                    "{}: {text:?}",
                    rule.name
                );
            }
            assert!(!finding.evidence.is_empty(), "{}", rule.name);
        }
    }
}

/// A host with `orphans` and a limit, whose tcp_mem pays for `affordable`.
fn orphans(orphans: i64, limit: i64, affordable: u64) -> Facts {
    let mut facts = host("quiet");
    let text = format!("TCP: inuse 1 orphan {orphans} tw 0 alloc 1 mem 1\n");
    facts.now.sockstat =
        advisor_facts::sockstat::Sockstat::parse(&text, Path::new("sockstat")).unwrap();
    facts.settings.tcp_max_orphans = Some(limit);
    let pages = affordable * (64 << 10) / facts.page_bytes;
    facts.settings.tcp_mem = Some([pages, pages, pages]);
    facts
}

#[test]
fn orphans_warn_above_a_quarter_and_are_critical_above_a_half() {
    const NAME: &str = "orphan-limit-near";
    assert_quiet(NAME, &orphans(100, 400, 1 << 20));
    assert_eq!(
        fired(NAME, &orphans(101, 400, 1 << 20))[0].severity,
        Severity::Warning
    );
    assert_eq!(
        fired(NAME, &orphans(200, 400, 1 << 20))[0].severity,
        Severity::Warning
    );
    assert_eq!(
        fired(NAME, &orphans(201, 400, 1 << 20))[0].severity,
        Severity::Critical
    );
}

#[test]
fn a_proposed_orphan_limit_is_quiet_and_paid_for() {
    for count in [1, 2, 16, 101, 4096, 5000, 100_000] {
        for affordable in [0, 1, 64, 1000, 20_001, 1 << 20] {
            let facts = orphans(count, count, affordable);
            let finding = &fired("orphan-limit-near", &facts)[0];
            if finding.setting != "net.ipv4.tcp_max_orphans" {
                assert!(affordable <= 4 * count.cast_unsigned(), "{finding:?}");
                continue;
            }
            let proposed: i64 = finding.proposed.parse().unwrap();
            assert!(proposed.cast_unsigned() <= affordable);
            assert_quiet("orphan-limit-near", &orphans(count, proposed, affordable));
        }
    }
}

#[test]
fn orphans_that_memory_cannot_pay_for_are_to_live_shorter() {
    let mut facts = host("orphan-limit-near-unpaid");
    for retries in [0, 8, 4] {
        facts.settings.tcp_orphan_retries = Some(retries);
        let finding = &fired("orphan-limit-near", &facts)[0];
        assert_eq!(finding.setting, "net.ipv4.tcp_orphan_retries");
        assert_eq!(
            (finding.current.as_str(), finding.proposed.as_str()),
            (&*retries.to_string(), "3")
        );
    }
    facts.settings.tcp_orphan_retries = Some(2);
    let finding = &fired("orphan-limit-near", &facts)[0];
    assert_eq!(finding.kind, Kind::Program);
    assert!(finding.risk.contains("a peer that does not read"));
}

#[test]
fn orphans_of_another_namespace_are_not_mended_by_a_setting_here() {
    const NAME: &str = "orphan-limit-near";
    let elsewhere = |facts: &Facts| {
        let finding = fired(NAME, facts).remove(0);
        assert_eq!(finding.setting, "none here");
        finding.subject
    };
    assert_eq!(
        elsewhere(&host("orphan-limit-near-elsewhere")),
        "another network namespace of this machine"
    );

    let mut facts = host("orphan-limit-near-unpaid");
    let is_here = |facts: &Facts| fired(NAME, facts)[0].subject == "this network namespace";
    assert!(is_here(&facts), "six of ten");
    // As text they are seen as well, though not what they hold.
    facts.now.sockets.as_mut().unwrap().source = SocketSource::ProcNetTcp;
    facts.settings.tcp_mem = Some([1, 2, 3]);
    assert!(is_here(&facts));
    // A record of FIN_WAIT2 is no orphan.
    for socket in &mut facts.now.sockets.as_mut().unwrap().all {
        if socket.state == TcpState::FinWait1 {
            socket.state = TcpState::FinWait2;
            socket.timer = Timer::TimeWait;
        }
    }
    elsewhere(&facts);
    facts.now.sockets = None;
    assert_eq!(
        elsewhere(&facts),
        "the network namespace that has the orphans"
    );
}

#[test]
fn the_orphans_are_looked_for_in_the_look_that_had_the_most() {
    let mut facts = host("orphan-limit-near-unpaid");
    let mut earlier = facts.now.clone();
    earlier.uptime = Duration::ZERO;
    facts.set_earlier(earlier);
    facts.now = host("quiet").now;
    assert_eq!(
        fired("orphan-limit-near", &facts)[0].subject,
        "this network namespace"
    );
}

#[test]
fn the_memory_of_orphans_is_measured_where_most_of_them_are_seen() {
    let mut facts = orphans(8, 16, 4);
    let mut orphan = host("dead-peer-holds-memory")
        .now
        .sockets
        .as_mut()
        .unwrap()
        .all
        .pop()
        .unwrap();
    orphan.inode = 0;
    orphan.state = TcpState::FinWait1;
    orphan.memory.as_mut().unwrap().send_queued_bytes = 100;
    // A page for each of them: 64 KiB pay for 16, the whole mark for 64.
    facts.now.sockets.as_mut().unwrap().all = vec![orphan; 4];
    let finding = &fired("orphan-limit-near", &facts)[0];
    assert_eq!(
        (finding.setting.as_str(), finding.proposed.as_str()),
        ("net.ipv4.tcp_max_orphans", "64")
    );
    facts.now.sockets.as_mut().unwrap().all.pop();
    let finding = &fired("orphan-limit-near", &facts)[0];
    assert_eq!(finding.setting, "none here", "three of eight are too few");
}

#[test]
fn the_kernels_log_says_which_limit_fired() {
    const NAME: &str = "reset-for-memory";
    let mut facts = host(NAME);
    let summary = |facts: &Facts| fired(NAME, facts)[0].summary.clone();
    assert!(summary(&facts).ends_with("tcp_max_orphans fired, not tcp_mem"));
    assert_eq!(fired(NAME, &facts)[0].confidence, Confidence::High);
    assert_eq!(fired(NAME, &facts)[0].proposed, "16384");

    // Without a line in the window the gauges have to do.
    let log = facts.kernel_log.as_mut().unwrap();
    log.too_many_orphans = vec![Duration::from_secs(100)];
    assert_eq!(fired(NAME, &facts)[0].confidence, Confidence::Medium);
    assert!(summary(&facts).ends_with("tcp_max_orphans fired, not tcp_mem"));

    // By its log it was the other one, however near the orphans are.
    let log = facts.kernel_log.as_mut().unwrap();
    log.out_of_memory = vec![facts.now.uptime];
    assert!(summary(&facts).ends_with("tcp_mem fired, not tcp_max_orphans"));
    assert_eq!(fired(NAME, &facts)[0].kind, Kind::Program);
}

#[test]
fn what_a_report_measured_replaces_the_formula() {
    use advisor_report::measured::Measurement;

    // 64 KiB each pay for 15, and 16 are needed; two pages each pay for 120.
    let facts = orphans(4, 8, 15);
    assert_eq!(fired("orphan-limit-near", &facts)[0].setting, "none here");
    let mut measured = Measured {
        orphan_pages: Some(Measurement {
            value: 2,
            source: "report r.json".to_owned(),
        }),
        ..Measured::default()
    };
    let finding = &fired_with("orphan-limit-near", &facts, &measured)[0];
    assert_eq!(finding.proposed, "32");
    assert!(finding.why.contains("(report r.json)"), "{}", finding.why);

    // Above a half it is serious by the formula; a replay saw it from the whole
    // limit on.
    let facts = orphans(300, 400, 1 << 20);
    assert_eq!(
        fired("orphan-limit-near", &facts)[0].severity,
        Severity::Critical
    );
    measured.orphan_counts = Some(Measurement {
        value: 1,
        source: "report r.json".to_owned(),
    });
    let finding = &fired_with("orphan-limit-near", &facts, &measured)[0];
    assert_eq!(finding.severity, Severity::Warning);
    assert!(
        finding
            .evidence
            .iter()
            .any(|evidence| evidence.observation == "orphan.counts")
    );

    let facts = host("orphan-retries-misread");
    measured.life_s.insert(
        0,
        Measurement {
            value: 109,
            source: "report r.json".to_owned(),
        },
    );
    let finding = &fired_with("orphan-retries-misread", &facts, &measured)[0];
    assert!(finding.why.contains("109 s as measured"), "{}", finding.why);
}

#[test]
fn a_calibration_says_no_less_than_the_worst_case_and_makes_nothing_more_severe() {
    use advisor_report::calibration::{self, Unsent};
    use advisor_report::measured::Calibrated;

    let mut calibration = calibration::nearest("6.12").unwrap();
    let calibrated = |calibration: &calibration::Calibration| {
        let measured = Measured {
            calibrated: Calibrated::Nearest(Box::new(calibration.clone())),
            ..Measured::default()
        };
        fired_with("orphan-limit-near", &orphans(4, 8, 17), &measured)[0].clone()
    };
    // 64 KiB each pay for 17 with and without it.
    let without = &fired("orphan-limit-near", &orphans(4, 8, 17))[0];
    let with = calibrated(&calibration);
    assert_eq!(with.proposed, without.proposed);
    assert_eq!(with.severity, without.severity);
    assert_eq!(with.confidence, without.confidence);
    assert!(with.why.contains("measured on Linux 6.12."), "{}", with.why);
    // A kernel that charges more makes orphans dearer.
    let orphan = calibration
        .orphan_memory
        .iter_mut()
        .find(|orphan| orphan.unsent == Unsent::FullBuffer)
        .unwrap();
    orphan.held_bytes = 70_000;
    assert_eq!(calibrated(&calibration).setting, "none here");
}

#[test]
fn an_earlier_look_with_more_orphans_counts() {
    let mut facts = orphans(1, 400, 1 << 20);
    let mut earlier = orphans(300, 400, 1 << 20).now;
    earlier.uptime = Duration::ZERO;
    facts.set_earlier(earlier);
    assert_eq!(
        fired("orphan-limit-near", &facts)[0].severity,
        Severity::Critical
    );
}

#[test]
fn a_child_namespace_leaves_the_limits_of_the_kernel_out() {
    let facts = host("container");
    for name in ["orphan-limit-near", "tcp-mem-near"] {
        assert_not_evaluated(name, &facts, "initial network namespace");
    }
    assert!(
        facts
            .unseen
            .iter()
            .any(|unseen| unseen.what.contains("tcp_max_orphans"))
    );
}

#[test]
fn a_counter_since_boot_alone_never_fires() {
    let mut facts = host("close-with-unread-data");
    facts.earlier = None;
    assert_not_evaluated(
        "close-with-unread-data",
        &facts,
        "needs a window: --over 30s (TCPAbortOnClose since boot: 64)",
    );
    facts.settings.tcp_max_orphans = None;
    assert_not_evaluated(
        "close-with-unread-data",
        &facts,
        "TCPAbortOnClose since the network namespace was made: 64",
    );
    let evidence = Evidence::counter("TcpExt.TCPAbortOnClose", &facts).unwrap();
    assert_eq!(
        evidence.source,
        "/proc/net/netstat, since the network namespace was made"
    );
}

/// A host that closed so often with unread data, and opened so many connections.
fn closes(closes: i64, active: i64, passive: i64) -> Facts {
    let mut facts = host("close-with-unread-data");
    let text = |closes: i64, active: i64, passive: i64| {
        format!(
            "TcpExt: TCPAbortOnClose\nTcpExt: {closes}\n\
             Tcp: ActiveOpens PassiveOpens\nTcp: {active} {passive}\n"
        )
    };
    let counters = |text: &str| Counters::parse(text, Path::new("counters")).unwrap();
    facts.now.counters = counters(&text(1000 + closes, 2000 + active, 3000 + passive));
    facts.earlier.as_mut().unwrap().counters = counters(&text(1000, 2000, 3000));
    facts
}

#[test]
fn closes_with_unread_data_count_by_their_share() {
    const NAME: &str = "close-with-unread-data";
    assert_quiet(NAME, &closes(0, 0, 0));
    assert_quiet(NAME, &closes(1, 0, 1));
    assert_quiet(NAME, &closes(4, 2, 2));
    fired(NAME, &closes(5, 0, 0));
    fired(NAME, &closes(5, 100, 400));
    assert_quiet(NAME, &closes(5, 100, 401));
    fired(NAME, &closes(100, 0, 10_000));
    let Outcome::Quiet(reason) = outcome(NAME, &closes(1, 20, 400)) else {
        panic!("it fired");
    };
    assert!(
        reason.starts_with("1 close() with unread data and 420 active and passive opens in 30.0 s"),
        "{reason}"
    );
}

/// Adds a network namespace whose counters of TcpExt have grown from 100 by
/// these between the two looks, and which has the sockets of this one.
fn add_namespace(facts: &mut Facts, inode: u32, grown: &[(&str, i64)]) {
    let counters = |factor: i64| {
        let (names, values): (Vec<_>, Vec<_>) = grown
            .iter()
            .map(|(name, grown)| (*name, (100 + factor * grown).to_string()))
            .unzip();
        let text = format!(
            "TcpExt: {}\nTcpExt: {}\n",
            names.join(" "),
            values.join(" ")
        );
        Counters::parse(&text, Path::new("counters")).unwrap()
    };
    let namespace = |factor, look: &advisor_facts::Look| Namespace {
        inode,
        name: Some(format!("pod-{inode}")),
        pid: None,
        kept_by: None,
        sockstat: look.sockstat.clone(),
        counters: counters(factor),
        sockets: look.sockets.clone(),
        settings: facts.settings.clone(),
    };
    let now = namespace(1, &facts.now);
    let earlier = facts.earlier.as_mut().unwrap();
    let before = Namespace {
        counters: counters(0),
        ..now.clone()
    };
    earlier.elsewhere.push(before);
    facts.now.elsewhere.push(now);
}

/// Has a program hold a socket of the last network namespace that was added,
/// with so many bytes unread.
fn hold(facts: &mut Facts, name: &str, inode: u32, unread: u32) {
    let process = u32::try_from(facts.processes.all.len()).unwrap();
    facts.processes.all.push(Process {
        pid: 4000 + process,
        name: name.to_owned(),
        command: None,
        cgroup: None,
        container: None,
    });
    facts.processes.holders.push(Holder {
        inode,
        process,
        descriptor: 3,
    });
    facts.processes.holders.sort_unstable();
    let namespace = facts.now.elsewhere.last_mut().unwrap();
    let sockets = &mut namespace.sockets.as_mut().unwrap().all;
    let mut socket = sockets
        .iter()
        .find(|socket| socket.state == TcpState::Established)
        .unwrap()
        .clone();
    socket.inode = inode;
    socket.recv_queue_bytes = unread;
    sockets.push(socket);
}

#[test]
fn closes_are_told_of_the_namespace_and_the_program_that_is_likely() {
    const NAME: &str = "close-with-unread-data";
    let mut facts = closes(0, 0, 0);
    add_namespace(&mut facts, 7, &[("TCPAbortOnClose", 40)]);
    facts.now.elsewhere[0]
        .sockets
        .as_mut()
        .unwrap()
        .all
        .retain(|socket| socket.inode == 0 || socket.state == TcpState::Established);
    for socket in &mut facts.now.elsewhere[0].sockets.as_mut().unwrap().all {
        socket.inode = 0;
    }
    let [finding] = &fired(NAME, &facts)[..] else {
        panic!("more than one");
    };
    assert_eq!(
        finding.subject,
        "the program in network namespace pod-7 that closes these connections"
    );
    assert!(finding.summary.starts_with("40 close() with unread data"));
    let source = "/proc/net/netstat of network namespace pod-7, in 30.0 s";
    assert_eq!(finding.evidence[0].source, source);

    let subject = |facts: &Facts| fired(NAME, facts).remove(0).subject;
    hold(&mut facts, "proxy", 900_001, 0);
    assert_eq!(
        subject(&facts),
        "proxy (4000) in network namespace pod-7, the likely one",
        "no other has sockets there"
    );
    hold(&mut facts, "cache", 900_002, 0);
    assert_eq!(
        subject(&facts),
        "one of these in network namespace pod-7: proxy (4000), cache (4001)"
    );
    hold(&mut facts, "mailer", 900_003, 17);
    let finding = fired(NAME, &facts).remove(0);
    assert_eq!(
        finding.subject,
        "mailer (4002) in network namespace pod-7, the likely one"
    );
    let last = finding.evidence.last().unwrap();
    assert_eq!(
        (&*last.observation, last.value.to_string()),
        (
            "mailer (4002)",
            "1 of 1 connections hold unread data now".to_owned()
        )
    );

    // Who listens on the port of a connection has accepted it.
    let sockets = &mut facts.now.elsewhere[0].sockets.as_mut().unwrap().all;
    let mut gone = sockets.last().unwrap().clone();
    gone.inode = 900_004;
    gone.local.set_port(9999);
    let mut listener = gone.clone();
    listener.inode = 900_001;
    listener.state = TcpState::Listen;
    sockets.extend([gone, listener]);
    assert_eq!(
        subject(&facts),
        "likely one of these in network namespace pod-7: proxy (4000), mailer (4002)"
    );
    let sockets = &mut facts.now.elsewhere[0].sockets.as_mut().unwrap().all;
    sockets.truncate(sockets.len() - 2);

    // One that nobody could be found for may be the one.
    facts.processes.holders.retain(|holder| holder.process == 0);
    assert_eq!(
        subject(&facts),
        "perhaps proxy (4000) in network namespace pod-7"
    );
}

#[test]
fn data_after_close_alone_is_a_notice() {
    const NAME: &str = "close-with-unread-data";
    let mut facts = closes(0, 0, 0);
    add_namespace(
        &mut facts,
        7,
        &[("TCPAbortOnClose", 4), ("TCPAbortOnData", 5)],
    );
    let finding = fired(NAME, &facts).remove(0);
    assert_eq!(
        (finding.severity, finding.confidence),
        (Severity::Notice, Confidence::Low)
    );
    assert!(
        finding
            .summary
            .starts_with("5 resets by data after close()")
    );
    let mut facts = closes(0, 0, 0);
    add_namespace(
        &mut facts,
        7,
        &[("TCPAbortOnClose", 0), ("TCPAbortOnData", 4)],
    );
    let Outcome::Quiet(reason) = outcome(NAME, &facts) else {
        panic!("it fired");
    };
    assert!(
        reason.starts_with("4 close() before the last data came"),
        "{reason}"
    );
    // A namespace that is new has no rate.
    facts.earlier.as_mut().unwrap().elsewhere.clear();
    facts.now.elsewhere[0].counters =
        Counters::parse("TcpExt: TCPAbortOnClose\nTcpExt: 99\n", Path::new("x")).unwrap();
    assert_quiet(NAME, &facts);
}

#[test]
fn wrong_marks_of_tcp_mem_pay_for_no_orphans() {
    const NAME: &str = "orphan-limit-beyond-memory";
    let mut facts = host("quiet");
    // Both circulate in one list: 256 GiB in pages would pay for it.
    facts.settings.tcp_max_orphans = Some(3_276_800);
    let of_right_marks = fired(NAME, &facts).remove(0).proposed;
    facts.settings.tcp_mem = Some([4096, 87_380, 67_108_864]);
    let of_wrong_marks = fired(NAME, &facts).remove(0).proposed;
    let near = |text: &str| text.parse::<i64>().unwrap();
    assert!(
        near(&of_wrong_marks) <= 2 * near(&of_right_marks),
        "{of_wrong_marks}"
    );
}

#[test]
fn memory_high_of_a_cgroup_is_a_limit_of_its_own() {
    const NAME: &str = "cgroup-slowed-down";
    let mut facts = host("quiet");
    let mut cgroup = Cgroup {
        path: "/web".to_owned(),
        memory_max_bytes: Some(10_500_000),
        memory_high_bytes: Some(10_000_000),
        memory_current_bytes: Some(9_500_000),
        sock_bytes: Some(625_000),
        events: [("high".to_owned(), 7), ("max".to_owned(), 1)].into(),
    };
    facts.cgroups = [(1, cgroup.clone())].into();
    assert_quiet("cgroup-limit-near", &facts);
    let findings = fired(NAME, &facts);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].setting, "memory.high");
    assert!(findings[0].proposed.starts_with("10625000,"));
    assert!(
        findings[0]
            .apply
            .ends_with("and memory.max, which is 10.0 MiB, above it"),
        "{}",
        findings[0].apply
    );
    let events: Vec<&str> = findings[0]
        .evidence
        .iter()
        .map(|evidence| evidence.observation.as_str())
        .filter(|name| name.starts_with("memory.events"))
        .collect();
    assert_eq!(events, ["memory.events.high"]);
    // What fills it is not the sockets, or nothing was slowed down for it.
    for (sock, high) in [(624_999, 7), (625_000, 0)] {
        cgroup.sock_bytes = Some(sock);
        cgroup.events.insert("high".to_owned(), high);
        facts.cgroups = [(1, cgroup.clone())].into();
        assert_quiet(NAME, &facts);
    }
}

#[test]
fn the_limit_of_tcp_in_a_cgroup_of_version_1_is_told_apart() {
    const NAME: &str = "cgroup-limit-near";
    let mut facts = host("quiet");
    let mut cgroup = CgroupV1 {
        path: "/docker/web".to_owned(),
        tcp_limit_bytes: Some(10_000_000),
        tcp_usage_bytes: Some(9_499_999),
        tcp_failures: Some(3),
        ..CgroupV1::default()
    };
    facts.cgroups_v1 = vec![cgroup.clone()];
    assert_quiet(NAME, &facts);
    cgroup.tcp_usage_bytes = Some(9_500_000);
    facts.cgroups_v1 = vec![cgroup.clone()];
    facts.cgroups.clear();
    let finding = fired(NAME, &facts).remove(0);
    assert_eq!(finding.setting, "memory.kmem.tcp.limit_in_bytes");
    assert!(
        finding.proposed.starts_with("20000000,"),
        "{}",
        finding.proposed
    );
    // Without a limit there is nothing to be near to, and nothing is held of 0.
    for (limit, usage) in [(None, Some(1)), (Some(0), Some(0))] {
        cgroup.tcp_limit_bytes = limit;
        cgroup.tcp_usage_bytes = usage;
        facts.cgroups_v1 = vec![cgroup.clone()];
        assert_quiet(NAME, &facts);
    }
}

#[test]
fn drops_and_resets_of_another_namespace_are_seen() {
    let mut facts = closes(0, 0, 0);
    add_namespace(&mut facts, 7, &[("ListenOverflows", 30)]);
    facts.now.elsewhere[0].settings.somaxconn = Some(128);
    let finding = fired("listen-queue-overflows", &facts).remove(0);
    assert_eq!(
        finding.subject,
        "the listener in network namespace pod-7 whose queue is full"
    );
    assert_eq!(finding.kind, Kind::Program);
    assert!(finding.apply.contains("somaxconn is 128 there"));

    add_namespace(&mut facts, 8, &[("TCPAbortOnMemory", 12)]);
    facts.settings.tcp_max_orphans = Some(16);
    let finding = fired("reset-for-memory", &facts).remove(0);
    assert!(finding.summary.starts_with("12 connections were reset"));
    assert!(
        finding
            .evidence
            .iter()
            .any(|evidence| evidence.source.contains("network namespace pod-8"))
    );
}

#[test]
fn sockets_as_text_give_no_tcp_info() {
    let mut facts = host("dead-peer-holds-memory");
    facts.now.sockets.as_mut().unwrap().source = SocketSource::ProcNetTcp;
    assert_not_evaluated("dead-peer-holds-memory", &facts, "tcp_info");
    for name in [
        "dead-peer-holds-memory",
        "close-wait-left",
        "port-held-without-listener",
    ] {
        facts.now.sockets = None;
        assert!(
            matches!(outcome(name, &facts), Outcome::NotEvaluated(_)),
            "{name}"
        );
    }
}

#[test]
fn close_wait_needs_many_or_old_sockets() {
    const NAME: &str = "close-wait-left";
    let facts = host(NAME);
    assert_eq!(fired(NAME, &facts).len(), 1, "four to one peer are a pool");

    // Of unknown age: only very many are told from chance.
    let mut unknown = facts.clone();
    let all = &mut unknown.now.sockets.as_mut().unwrap().all;
    for socket in all.iter_mut() {
        socket.info = None;
    }
    assert_quiet(NAME, &unknown);
    let all = &mut unknown.now.sockets.as_mut().unwrap().all;
    let one = all
        .iter()
        .find(|socket| socket.state.as_str() == "CLOSE_WAIT")
        .unwrap();
    let many = vec![one.clone(); 100];
    all.extend(many);
    assert!(fired(NAME, &unknown)[0].summary.contains("of unknown age"));

    // Young by tcp_info, but there in both looks.
    let mut young = facts.clone();
    for socket in &mut young.now.sockets.as_mut().unwrap().all {
        if let Some(info) = &mut socket.info {
            assert!(info.set("last_ack_recv", 5));
        }
    }
    assert_quiet(NAME, &young);
    let mut earlier = young.now.clone();
    earlier.uptime = young
        .now
        .uptime
        .checked_sub(Duration::from_secs(30))
        .unwrap();
    young.set_earlier(earlier);
    assert!(
        fired(NAME, &young)[0]
            .summary
            .ends_with("all for 30.0 s or longer")
    );

    // What is still sending is not left.
    let mut sending = facts;
    for socket in &mut sending.now.sockets.as_mut().unwrap().all {
        socket.send_queue_bytes = 1;
    }
    assert_quiet(NAME, &sending);
}

#[test]
fn a_listener_or_a_port_of_connect_is_not_held() {
    const NAME: &str = "port-held-without-listener";
    let facts = host(NAME);
    let mut listening = facts.clone();
    for socket in &mut listening.now.sockets.as_mut().unwrap().all {
        if socket.state.as_str() == "LISTEN" {
            socket.local.set_port(9000);
        }
        if socket.local.port() == 8080 {
            socket.state = TcpState::Established;
        }
    }
    assert_quiet(NAME, &listening);
    let mut range = facts;
    range.settings.ip_local_port_range = Some([9000, 60999]);
    assert_quiet(NAME, &range);
}

#[test]
fn a_client_with_a_fixed_source_port_is_no_dead_server_for_sure() {
    const NAME: &str = "port-held-without-listener";
    // Two connections from port 10500 to port 8443 of two peers, and two of
    // active FTP from port 20.
    let mut facts = host("port-held-by-client");
    let findings = fired(NAME, &facts);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].severity, Severity::Notice);
    assert!(findings[0].summary.contains("10500"));
    assert!(
        findings[0]
            .summary
            .contains("or of a client with a fixed source port")
    );

    // From two ports of peers: a server's clients.
    let all = &mut facts.now.sockets.as_mut().unwrap().all;
    let first = all
        .iter_mut()
        .find(|socket| socket.local.port() == 10500)
        .unwrap();
    first.peer.set_port(43000);
    let findings = fired(NAME, &facts);
    assert_eq!(findings[0].severity, Severity::Warning);
    assert_eq!(
        findings[0].subject,
        "the server that was on 192.0.2.10:10500"
    );

    // One alone tells nothing.
    let all = &mut facts.now.sockets.as_mut().unwrap().all;
    all.retain(|socket| socket.peer.port() != 8443);
    assert_eq!(fired(NAME, &facts)[0].severity, Severity::Notice);
}

/// A host whose sockets hold `usage` pages.
fn memory(usage: u64, marks: [u64; 3], ram_pages: u64) -> Facts {
    let mut facts = host("quiet");
    let text = format!("TCP: orphan 0 mem {usage}\n");
    facts.now.sockstat =
        advisor_facts::sockstat::Sockstat::parse(&text, Path::new("sockstat")).unwrap();
    facts.settings.tcp_mem = Some(marks);
    facts.ram_bytes = ram_pages * facts.page_bytes;
    facts
}

#[test]
fn memory_warns_above_pressure_and_is_critical_near_the_high_mark() {
    const NAME: &str = "tcp-mem-near";
    let marks = [30_000, 40_000, 60_000];
    assert_quiet(NAME, &memory(40_000, marks, 1 << 22));
    assert_eq!(
        fired(NAME, &memory(40_001, marks, 1 << 22))[0].severity,
        Severity::Warning
    );
    assert_eq!(
        fired(NAME, &memory(54_000, marks, 1 << 22))[0].severity,
        Severity::Warning
    );
    assert_eq!(
        fired(NAME, &memory(54_001, marks, 1 << 22))[0].severity,
        Severity::Critical
    );
}

#[test]
fn memory_within_the_noise_of_the_cpus_is_quiet() {
    let mut facts = memory(900, [10, 20, 30], 1 << 22);
    assert_quiet("tcp-mem-near", &facts);
    facts.settings.mem_pcpu_rsv = None;
    fired("tcp-mem-near", &facts);
}

#[test]
fn proposed_memory_marks_are_in_order_within_ram_and_quiet() {
    for marks in [
        [30_000, 40_000, 60_000],
        [1, 2, 3],
        [50_000, 40_000, 30_000],
        [9_000; 3],
    ] {
        for usage in [5_000, 9_999, 40_001, 60_000, 1_000_000] {
            for ram_pages in [1 << 16, 1 << 18, 1 << 22, 1 << 26] {
                for page_bytes in [4 << 10, 16 << 10, 64 << 10] {
                    let mut facts = memory(usage, marks, ram_pages);
                    facts.ram_bytes = ram_pages * page_bytes;
                    facts.page_bytes = page_bytes;
                    let Outcome::Fired(findings) = outcome("tcp-mem-near", &facts) else {
                        continue;
                    };
                    if findings[0].kind == Kind::Program {
                        continue;
                    }
                    let proposed = advisor_facts::sysctl::triple(&findings[0].proposed).unwrap();
                    assert!(proposed.is_sorted(), "{proposed:?}");
                    assert!(proposed[2] <= ram_pages / 4, "{proposed:?} of {ram_pages}");
                    facts.settings.tcp_mem = Some(proposed);
                    assert_quiet("tcp-mem-near", &facts);
                }
            }
        }
    }
}

#[test]
fn reports_add_what_was_replayed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports/report.json");
    let report = advisor_report::read(&path).unwrap();
    let reports = [NamedReport {
        path: "r.json".into(),
        report,
    }];
    let lines = |host_name: &str| -> Vec<String> {
        advise(&mut host(host_name), &reports).recommendations[0]
            .finding
            .evidence
            .iter()
            .filter(|evidence| evidence.source.starts_with("report "))
            .map(|evidence| {
                format!(
                    "{} = {}; {}",
                    evidence.observation, evidence.value, evidence.source
                )
            })
            .collect()
    };
    assert_eq!(
        lines("orphan-limit-near"),
        [
            "failure.verdict = passed in 2 runs, on the kernel line of this host (6.12); \
             report r.json: orphans/flood/over-the-limit on kernel 6.12.41-cloud-amd64 (none)",
            "client.TcpExt.TCPAbortOnMemory = 17 (1 run), 18 (1 run); \
             report r.json: orphans/flood/over-the-limit on kernel 6.12.41-cloud-amd64 (none)",
        ]
    );
    assert_eq!(
        lines("close-with-unread-data"),
        [
            "failure.verdict = passed in 1 run, on kernel line 6.18 and not this host's 6.12; \
             report r.json: close/unread-data/plain-close[family=ipv4] on kernel 6.18.2 (relay)",
            "sender.close.error = always none; \
             report r.json: close/unread-data/plain-close[family=ipv4] on kernel 6.18.2 (relay)",
        ]
    );
    assert_eq!(
        lines("port-held-without-listener"),
        [
            "failure.verdict = failed (server.bind.error: always EADDRINUSE did not hold): no \
             evidence; report r.json: bind/time-wait/new-only on kernel 6.12.41\u{1b}[31m (none)",
            "cure.verdict = passed in 3 runs, on the kernel line of this host (6.12); \
             report r.json: bind/time-wait/both on kernel 6.12.41 (none)",
            "server.bind.error = none (3 runs); \
             report r.json: bind/time-wait/both on kernel 6.12.41 (none)",
        ]
    );
    assert_eq!(lines("tcp-mem-near"), [""; 0]);
}
