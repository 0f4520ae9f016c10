//! Hosts of public reports, rebuilt from the figures that the reports give, and what is
//! right for each. Names and addresses are invented.

use advisor_facts::Facts;
use advisor_facts::sock_diag::TcpState;

use super::testing::{
    add_process, add_sockets, bare_host, move_to_namespace, set, socket, sockstat,
};
use crate::plan::{Advice, Recommendation, advise};
use crate::render;

const GIB: u64 = 1 << 30;
const LIMIT: &str = "net.ipv4.tcp_max_orphans";
const TCP_MEM: &str = "net.ipv4.tcp_mem";

fn advice(facts: &Facts) -> Advice {
    advise(facts, &[])
}

/// What a rule recommends.
#[track_caller]
fn by<'a>(advice: &'a Advice, code: &str) -> &'a Recommendation {
    advice
        .recommendations
        .iter()
        .find(|step| step.code == code)
        .unwrap_or_else(|| panic!("{code}: {advice:#?}"))
}

/// The settings that `--format sysctl` writes.
fn written(facts: &Facts, advice: &Advice) -> Vec<String> {
    let mut out = Vec::new();
    render::sysctl::write(&mut out, advice, facts).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(str::to_owned).collect()
}

#[track_caller]
fn assert_silent(advice: &Advice) {
    assert!(advice.recommendations.is_empty(), "{advice:#?}");
}

/// More orphans than the limit, in little memory, seen by no socket table.
fn orphans(ram_bytes: u64, tcp_mem: &str, limit: &str, gauges: &str) -> Facts {
    let mut facts = bare_host(ram_bytes);
    facts.kernel = "6.1.100".to_owned();
    set(&mut facts, TCP_MEM, tcp_mem);
    set(&mut facts, LIMIT, limit);
    facts.now.sockstat = sockstat(gauges);
    facts.now.sockets = None;
    facts
}

#[test]
fn the_gauge_pays_for_more_orphans_than_the_worst_case() {
    let facts = orphans(
        660 << 20,
        "21180 28243 42360",
        "65536",
        "TCP: inuse 125217 orphan 65738 tw 103758 alloc 121429 mem 22016\n",
    );
    let advice = advice(&facts);
    let step = by(&advice, "LB101");
    assert_eq!(step.finding.setting, LIMIT);
    let proposed: u64 = step.finding.proposed.parse().unwrap();
    assert!((125_000..127_000).contains(&proposed), "{proposed}");
    assert!(step.finding.why.contains("TCP.mem"), "{}", step.finding.why);
    assert!(
        step.finding.why.contains("the memory is missing"),
        "{}",
        step.finding.why
    );
}

#[test]
fn a_host_with_much_memory_gets_four_times_its_orphans() {
    let facts = orphans(
        72 * GIB,
        "3480768 4641024 6961536",
        "131072",
        "TCP: inuse 174950 orphan 126800 tw 153787 alloc 174954 mem 102910\n",
    );
    let advice = advice(&facts);
    let step = by(&advice, "LB101");
    assert_eq!(
        (
            step.finding.setting.as_str(),
            step.finding.proposed.as_str()
        ),
        (LIMIT, "524288")
    );
    assert!(
        step.finding.cost.contains("1.6 GiB"),
        "{}",
        step.finding.cost
    );
}

#[test]
fn one_process_leaks_to_many_peers() {
    let mut facts = bare_host(4 * GIB);
    let mut number = 0;
    for address in 1..=45 {
        for _ in 0..7 {
            number += 1;
            let local = format!("203.0.113.5:{}", 33_000 + number);
            let peer = format!("198.51.100.{address}:9443");
            add_sockets(
                &mut facts,
                [socket(TcpState::CloseWait, &local, &peer)
                    .held_by(900_000 + number)
                    .unread(32, 768)
                    .still_for(18_000_000)
                    .done()],
            );
        }
    }
    add_process(
        &mut facts,
        (9337, "dotnet"),
        None,
        900_001..=900_000 + number,
    );
    facts.now.sockstat = sockstat("TCP: inuse 340 orphan 2 tw 0 alloc 350 mem 420\n");
    let advice = advice(&facts);
    let step = by(&advice, "LB202");
    assert!(
        step.finding
            .summary
            .starts_with("dotnet (9337) leaves 315 sockets in CLOSE_WAIT at 45 endpoints"),
        "{}",
        step.finding.summary
    );
}

#[test]
fn a_proxy_half_closes_and_waits_for_ever() {
    let mut facts = bare_host(2 * GIB);
    let listener = socket(TcpState::Listen, "0.0.0.0:443", "0.0.0.0:0").held_by(77);
    add_sockets(&mut facts, [listener.done()]);
    let of = |state, number: u32, inode: u32| {
        let peer = format!(
            "198.51.{}.{}:{}",
            number / 250,
            number % 250 + 1,
            30_000 + number
        );
        socket(state, "203.0.113.5:443", &peer).held_by(inode + number)
    };
    add_sockets(
        &mut facts,
        (0..3326).map(|number| {
            of(TcpState::FinWait2, number, 910_000)
                .still_for(1_800_000)
                .done()
        }),
    );
    add_sockets(
        &mut facts,
        (0..1579).map(|number| of(TcpState::Established, number, 920_000).done()),
    );
    add_sockets(
        &mut facts,
        (0..108).map(|number| {
            of(TcpState::CloseWait, number, 930_000)
                .unread(1, 0)
                .info("last_ack_recv", 9_000)
                .done()
        }),
    );
    let inodes = (910_000..913_326)
        .chain(920_000..921_579)
        .chain(930_000..930_108);
    add_process(&mut facts, (812, "relay"), None, inodes.chain([77]));
    facts.now.sockstat = sockstat("TCP: inuse 5014 orphan 2 tw 0 alloc 5020 mem 900\n");
    let advice = advice(&facts);
    let codes: Vec<_> = advice
        .recommendations
        .iter()
        .map(|step| step.code)
        .collect();
    assert_eq!(codes, ["LB204"]);
    let finding = &by(&advice, "LB204").finding;
    assert!(finding.summary.contains("relay (812)") && finding.summary.contains("3326"));
    assert!(
        finding.why.contains("tcp_fin_timeout has no say"),
        "{}",
        finding.why
    );
}

/// Orphans whose peers live and do not read, 2 MiB each.
fn at_a_closed_window(limit: &str) -> Facts {
    let mut facts = bare_host(7 * GIB);
    set(&mut facts, LIMIT, limit);
    let listener = socket(TcpState::Listen, "0.0.0.0:1935", "0.0.0.0:0").held_by(9);
    add_sockets(&mut facts, [listener.done()]);
    add_sockets(
        &mut facts,
        (0..400).map(|number| {
            let peer = format!(
                "198.51.{}.{}:{}",
                number / 250,
                number % 250 + 1,
                20_000 + number
            );
            socket(TcpState::FinWait1, "10.1.1.1:1935", &peer)
                .sending(1_760_000, 2_200_000)
                .at_a_closed_window()
                .done()
        }),
    );
    add_process(&mut facts, (31, "nginx"), None, [9]);
    let pages = 400 * 2_200_000 / 4096 + 300;
    facts.now.sockstat = sockstat(&format!(
        "TCP: inuse 440 orphan 400 tw 0 alloc 60 mem {pages}\n"
    ));
    facts
}

#[test]
fn orphans_at_closed_windows_get_no_more_memory() {
    let facts = at_a_closed_window("32768");
    let advice = advice(&facts);
    assert_eq!(written(&facts, &advice), [""; 0]);
    let memory = &by(&advice, "LB402").finding;
    assert!(
        memory.summary.contains("nginx (31) holds"),
        "{}",
        memory.summary
    );
    assert!(
        memory.summary.contains("orphan at a zero window"),
        "{}",
        memory.summary
    );
    let holder = &by(&advice, "LB403").finding;
    assert_eq!(holder.subject, "nginx (31)");
    // To mend the program mends both: it stands first, with the harm of the limit.
    let order: Vec<_> = advice
        .recommendations
        .iter()
        .map(|step| step.code)
        .collect();
    assert_eq!(order, ["LB403", "LB402"]);
    assert_eq!(holder.severity, memory.severity);
    assert!(
        advice
            .leave
            .iter()
            .all(|leave| !leave.why.contains("no peer keeps"))
    );
}

#[test]
fn retries_are_no_cure_at_a_closed_window() {
    let facts = at_a_closed_window("1024");
    let advice = advice(&facts);
    assert_eq!(written(&facts, &advice), [""; 0]);
    let finding = &by(&advice, "LB101").finding;
    assert_eq!(
        (finding.setting.as_str(), finding.subject.as_str()),
        ("TCP_USER_TIMEOUT", "nginx (31)")
    );
    assert!(
        finding.why.contains("347 s with 0 and with 3"),
        "{}",
        finding.why
    );
}

#[test]
fn the_program_that_does_not_read_comes_first() {
    let mut facts = bare_host(16 * GIB);
    facts.kernel = "6.1.100".to_owned();
    set(&mut facts, TCP_MEM, "419430 559240 838860");
    facts.sysctl_files.set(TCP_MEM, "419430 559240 838860");
    add_sockets(
        &mut facts,
        (0..520).map(|number| {
            let local = format!("10.255.0.7:{}", 40_000 + number);
            socket(TcpState::Established, &local, "10.0.3.9:5672")
                .held_by(700_000 + number)
                .unread(4_800_000, 6_200_000)
                .info("last_data_recv", 60_000)
                .done()
        }),
    );
    move_to_namespace(&mut facts, 4_026_532_901, 7100);
    add_process(
        &mut facts,
        (7100, "java"),
        Some("app-3f1"),
        700_000..700_520,
    );
    let pages = 520_u64 * 6_200_000 / 4096 + 900;
    facts.now.sockstat = sockstat(&format!(
        "TCP: inuse 90 orphan 2 tw 0 alloc 700 mem {pages}\n"
    ));
    let advice = advice(&facts);
    assert_eq!(written(&facts, &advice), [""; 0]);
    let first = &advice.recommendations[0].finding;
    assert!(
        first.summary.contains("java (7100, container app-3f1)"),
        "{}",
        first.summary
    );
    by(&advice, "LB404");
}

#[test]
fn no_memory_for_a_leak_and_commands_where_it_is() {
    let mut facts = bare_host(8 * GIB);
    facts.kernel = "6.1.100".to_owned();
    add_sockets(
        &mut facts,
        (0..150).map(|number| {
            let local = format!("172.18.0.5:{}", 40_000 + number);
            socket(TcpState::CloseWait, &local, "172.18.0.9:4533")
                .held_by(710_000 + number)
                .unread(3_000_000, 4_100_000)
                .still_for(5_000_000)
                .done()
        }),
    );
    move_to_namespace(&mut facts, 4_026_532_902, 8100);
    add_process(&mut facts, (8100, "node"), Some("music"), 710_000..710_150);
    let pages = 150_u64 * 4_100_000 / 4096 + 900;
    facts.now.sockstat = sockstat(&format!(
        "TCP: inuse 90 orphan 2 tw 0 alloc 300 mem {pages}\n"
    ));
    let advice = advice(&facts);
    assert_eq!(written(&facts, &advice), [""; 0]);
    let leak = &by(&advice, "LB202").finding;
    assert!(
        leak.summary.contains("node (8100, container music)"),
        "{}",
        leak.summary
    );
    assert!(
        leak.apply.contains("nsenter -t 8100 -n ss"),
        "{}",
        leak.apply
    );
    assert_ne!(by(&advice, "LB402").finding.setting, TCP_MEM);
}

#[test]
fn a_hang_is_told_by_its_time() {
    let mut facts = bare_host(32 * GIB);
    facts.kernel = "5.15.0-100".to_owned();
    set(&mut facts, "net.ipv4.tcp_retries2", "15");
    add_sockets(
        &mut facts,
        (0..13).map(|number| {
            let local = format!("10.1.0.4:{}", 41_000 + number);
            socket(TcpState::Established, &local, "10.1.0.9:9300")
                .held_by(730_000 + number)
                .sending(340, 1280)
                .dead_for(480_000)
                .done()
        }),
    );
    add_process(&mut facts, (900, "java"), None, 730_000..730_013);
    let advice = advice(&facts);
    let finding = &by(&advice, "LB401").finding;
    assert_eq!(finding.setting, "TCP_USER_TIMEOUT");
    assert!(
        finding.summary.contains("13 connections of java (900)")
            && finding.summary.contains("unanswered for 8 min")
            && finding.summary.contains("7 min more"),
        "{}",
        finding.summary
    );
}

#[test]
fn clients_that_are_gone_are_asked_by_keepalive() {
    let mut facts = bare_host(8 * GIB);
    let listener = socket(TcpState::Listen, "0.0.0.0:26379", "0.0.0.0:0").held_by(1);
    add_sockets(&mut facts, [listener.done()]);
    add_sockets(
        &mut facts,
        (0..10_004).map(|number: u32| {
            let peer = format!("10.1.{}.9:{}", 1 + number / 5000, 20_000 + number % 5000);
            socket(TcpState::Established, "10.1.0.4:26379", &peer)
                .held_by(740_000 + number)
                .still_for(90_000_000)
                .done()
        }),
    );
    add_process(
        &mut facts,
        (901, "redis-sentinel"),
        None,
        (740_000..750_004).chain([1]),
    );
    facts.now.sockstat = sockstat("TCP: inuse 10010 orphan 2 tw 0 alloc 10020 mem 300\n");
    let advice = advice(&facts);
    let codes: Vec<_> = advice
        .recommendations
        .iter()
        .map(|step| step.code)
        .collect();
    assert_eq!(codes, ["LB406"]);
}

#[test]
fn a_healthy_container_host_is_left_alone() {
    let mut facts = bare_host(12 * GIB);
    facts.kernel = "5.10.0-20-amd64".to_owned();
    set(&mut facts, TCP_MEM, "140631 187510 281262");
    add_sockets(
        &mut facts,
        (1..=48).map(|number| {
            let peer = format!("198.51.100.{number}:40000");
            socket(TcpState::Established, "10.0.0.1:443", &peer)
                .held_by(100 + number)
                .done()
        }),
    );
    facts.now.sockstat = sockstat("TCP: inuse 48 orphan 49 tw 63 alloc 2620 mem 248\n");
    assert_silent(&advice(&facts));
}

#[test]
fn two_rules_about_the_same_orphans_say_the_same() {
    // Limit 4096, 1100 orphans, 10000 resets in 600 s.
    let mut facts = bare_host(16 * GIB);
    set(&mut facts, LIMIT, "4096");
    facts.now.sockets = None;
    facts.now.sockstat = sockstat("TCP: inuse 900 orphan 1100 tw 0 alloc 2000 mem 3000\n");
    let of = |resets: i64| {
        super::testing::counters(&format!("TcpExt: TCPAbortOnMemory\nTcpExt: {resets}\n"))
    };
    let mut earlier = facts.now.clone();
    earlier.counters = of(5);
    facts.now.counters = of(10_005);
    let ten_minutes = std::time::Duration::from_secs(600);
    earlier.uptime = facts.now.uptime.checked_sub(ten_minutes).unwrap();
    facts.set_earlier(earlier);
    let advice = advice(&facts);
    let about: Vec<_> = advice
        .recommendations
        .iter()
        .map(|step| {
            (
                step.finding.setting.as_str(),
                step.finding.proposed.as_str(),
            )
        })
        .collect();
    assert_eq!(about, [(LIMIT, "16384")], "{advice:#?}");
    let step = &advice.recommendations[0];
    assert!(
        step.also.iter().all(|also| also.overruled.is_none()),
        "{step:#?}"
    );
}
