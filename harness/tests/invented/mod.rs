//! Hosts that are invented: for each rule whose advice is tried, one on which it is right
//! and one on which the same advice is wrong.

use std::time::Duration;

use advisor_facts::counters::Counters;
use advisor_facts::processes::{Holder, Process, Processes};
use advisor_facts::sockets::{SocketSource, SocketTable};
use advisor_facts::sysctl_files::{Content, Line, SysctlFile, SysctlFiles};
use advisor_facts::{Facts, Root};
use advisor_report::advice::{Advised, Claim, HostProfile, Recommended};
use serde_json::{Value as Json, json};

#[path = "../../../advisor/tests/recorded/mod.rs"]
pub mod recorded;

/// The process of all sockets that one holds.
const PROGRAM: &str = "server";

/// Sockets that are alike.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Their peers answer nothing.
    Dead,
    /// Their peers do not read.
    ZeroWindow,
    /// Orphans whose peers answer nothing.
    OrphanDead,
    /// Orphans whose peers do not read.
    OrphanZeroWindow,
    /// The program does not read.
    Unread,
    /// The program does not close.
    CloseWait,
    /// The program has shut down its half.
    HalfClosed,
    /// Data moves.
    Healthy,
}

/// A quiet host with these settings, which a file sets, and with a listener on port 443.
pub fn host(settings: &[(&str, &str)]) -> Facts {
    let directory = recorded::directory("quiet");
    let mut facts = Facts::read(&Root::Recorded(directory.path().to_owned())).unwrap();
    "6.12.48".clone_into(&mut facts.kernel);
    facts.earlier = None;
    let mut file = SysctlFile {
        path: "/etc/sysctl.d/90-tcp.conf".into(),
        ..SysctlFile::default()
    };
    facts.sysctl_files = SysctlFiles::default();
    for (name, value) in settings {
        assert!(facts.settings.set(name, value), "{name} = {value}");
        let (key, value) = ((*name).to_owned(), (*value).to_owned());
        let live = &mut facts.sysctl_files.live;
        live.insert(key.clone(), Some(value.clone()));
        file.lines.push(Line {
            number: file.lines.len() + 1,
            content: Content::Assignment { key, value },
        });
    }
    facts.sysctl_files.files.push(file);
    facts.processes = Processes {
        all: vec![Process {
            pid: 812,
            name: PROGRAM.to_owned(),
            descriptor_limit: Some(400),
            ..Process::default()
        }],
        holders: Vec::new(),
        complete: true,
    }
    .into();
    facts.now.sockets = Some(
        SocketTable {
            all: Vec::new(),
            source: SocketSource::SockDiag,
        }
        .into(),
    );
    facts.now.elsewhere.clear();
    let listener = socket(
        json!({"state": "LISTEN", "local": "0.0.0.0:443", "peer": "0.0.0.0:0", "send_queue_bytes": 511}),
        Some(1),
    );
    push(&mut facts, &listener, Some(1));
    facts
}

/// Adds `count` sockets that hold so many bytes each.
pub fn add(facts: &mut Facts, kind: Kind, count: u32, held: u64) {
    for number in 0..count {
        let inode = match kind {
            Kind::OrphanDead | Kind::OrphanZeroWindow => None,
            _ => Some(1000 + u32::try_from(facts.processes.holders.len()).unwrap()),
        };
        let peer = format!(
            "198.51.{}.{}:{}",
            number / 250,
            number % 250 + 1,
            30_000 + number
        );
        let sends = json!({"send_queued_bytes": held, "recv_alloc_bytes": 0});
        let receives = json!({"send_queued_bytes": 0, "recv_alloc_bytes": held});
        let queue = held * 19 / 20;
        let silent = json!({"unacked": 10, "backoff": 8, "last_ack_recv": 60_000, "last_data_sent": 60_000,
            "last_data_recv": 60_000, "snd_wnd": 64_000});
        let closed = json!({"unacked": 0, "backoff": 6, "last_ack_recv": 3000, "last_data_sent": 60_000,
            "last_data_recv": 60_000, "snd_wnd": 0});
        let moves = json!({"unacked": 100, "backoff": 0, "last_ack_recv": 20, "last_data_sent": 10,
            "last_data_recv": 9000, "snd_wnd": 4_000_000, "delivery_rate": 4_000_000});
        let old = json!({"last_ack_recv": 500_000, "last_data_sent": 500_000, "last_data_recv": 500_000, "snd_wnd": 64_000});
        let mut one = match kind {
            Kind::Dead => {
                json!({"state": "ESTABLISHED", "timer": 1, "timer_ms": 50_000, "retransmits": 8,
                "send_queue_bytes": queue, "memory": sends, "info": silent})
            }
            Kind::OrphanDead => {
                json!({"state": "FIN_WAIT1", "timer": 1, "timer_ms": 50_000, "retransmits": 8,
                "send_queue_bytes": queue, "memory": sends, "info": silent})
            }
            Kind::ZeroWindow => json!({"state": "ESTABLISHED", "timer": 4, "timer_ms": 20_000,
                "send_queue_bytes": queue, "memory": sends, "info": closed}),
            Kind::OrphanZeroWindow => json!({"state": "FIN_WAIT1", "timer": 4, "timer_ms": 20_000,
                "send_queue_bytes": queue, "memory": sends, "info": closed}),
            Kind::Unread => json!({"state": "ESTABLISHED", "recv_queue_bytes": held * 1448 / 2304,
                "memory": receives, "info": old}),
            Kind::CloseWait => {
                json!({"state": "CLOSE_WAIT", "recv_queue_bytes": held * 1448 / 2304 + 1,
                "memory": receives, "info": old})
            }
            Kind::Healthy => json!({"state": "ESTABLISHED", "timer": 1, "timer_ms": 200,
                "send_queue_bytes": queue, "memory": sends, "info": moves}),
            Kind::HalfClosed => json!({"state": "FIN_WAIT2", "memory": receives, "info": old}),
        };
        one["local"] = json!("10.1.1.1:443");
        one["peer"] = json!(peer);
        push(facts, &socket(one, inode), inode);
    }
    let pages = i64::try_from(u64::from(count) * held / facts.page_bytes).unwrap();
    let orphans = match kind {
        Kind::OrphanDead | Kind::OrphanZeroWindow => i64::from(count),
        _ => 0,
    };
    gauge(facts, "TCP.mem", pages);
    gauge(facts, "TCP.orphan", orphans);
    gauge(facts, "TCP.alloc", i64::from(count));
}

/// Adds records of TIME_WAIT towards a destination, from an address of the host.
pub fn add_records(facts: &mut Facts, count: u16, own: &str, to: &str) {
    for number in 0..count {
        let local = format!("{own}:{}", 32_768 + number);
        let one = json!({"state": "TIME_WAIT", "local": local, "peer": to, "timer": 3, "timer_ms": 30_000});
        push(facts, &socket(one, None), None);
    }
    gauge(facts, "TCP.tw", i64::from(count));
}

/// Adds records of TIME_WAIT of clients of a server on a port.
pub fn add_clients_records(facts: &mut Facts, count: u32, port: u16) {
    for number in 0..count {
        let peer = format!("10.0.7.{}:{}", number % 250 + 1, 40_000 + 7 * number);
        let one = json!({"state": "TIME_WAIT", "local": format!("10.1.1.1:{port}"), "peer": peer,
            "timer": 3, "timer_ms": 20_000});
        push(facts, &socket(one, None), None);
    }
}

/// A host with a listener whose queue of 128 turned clients away in the last minute, beside
/// those that it accepted, and in which so many wait now.
pub fn with_queue(accepted: u32, turned_away: u32, waiting: u32, waited_ms: u32) -> Facts {
    let mut facts = host(&[(SOMAXCONN, "128")]);
    let listener = &mut facts.now.sockets.as_mut().unwrap().all[0];
    listener.send_queue_bytes = 128;
    listener.recv_queue_bytes = waiting;
    for number in 0..waiting {
        let one = json!({"state": "ESTABLISHED", "local": "10.1.1.1:443",
            "peer": format!("198.51.100.{}:{}", number % 250 + 1, 30_000 + number),
            "info": {"last_ack_recv": waited_ms, "last_data_sent": waited_ms, "last_data_recv": waited_ms,
            "snd_wnd": 64_000}});
        push(&mut facts, &socket(one, Some(0)), None);
    }
    let mut earlier = facts.now.clone();
    earlier.uptime -= Duration::from_secs(60);
    let counters = |accepted, turned_away| {
        let text = format!(
            "TcpExt: ListenOverflows\nTcpExt: {turned_away}\nTcp: PassiveOpens\nTcp: {accepted}\n"
        );
        Counters::parse(&text, "netstat".as_ref()).unwrap()
    };
    earlier.counters.merge(counters(0, 0));
    facts.now.counters.merge(counters(accepted, turned_away));
    facts.set_earlier(earlier);
    facts
}

fn gauge(facts: &mut Facts, name: &str, add: i64) {
    let mut json = serde_json::to_value(&facts.now.sockstat).unwrap();
    let value = json[name].as_i64().unwrap_or(0);
    json[name] = json!(value + add);
    facts.now.sockstat = serde_json::from_value(json).unwrap();
}

fn socket(mut json: Json, inode: Option<u32>) -> Json {
    json["family"] = json!("inet");
    json["cookie"] = json!(1);
    if let Some(inode) = inode {
        json["inode"] = json!(inode);
    }
    if let Some(memory) = json["memory"].as_object_mut() {
        for field in [
            "recv_buffer_bytes",
            "send_alloc_bytes",
            "send_buffer_bytes",
            "forward_alloc_bytes",
            "option_bytes",
            "backlog_bytes",
        ] {
            memory.insert(field.to_owned(), json!(0));
        }
        memory.insert("drops".to_owned(), json!(0));
    } else {
        json.as_object_mut().unwrap().remove("memory");
    }
    if json["info"].is_object() {
        for (field, value) in [
            ("snd_mss", 1448),
            ("rto", 204_000),
            ("probes", 0),
            ("rtt", 20_000),
        ] {
            json["info"][field] = json!(value);
        }
    } else {
        json.as_object_mut().unwrap().remove("info");
    }
    json
}

fn push(facts: &mut Facts, json: &Json, inode: Option<u32>) {
    let socket =
        serde::Deserialize::deserialize(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    facts.now.sockets.as_mut().unwrap().all.push(socket);
    if let Some(inode) = inode {
        facts.processes.holders.push(Holder {
            inode,
            process: 0,
            descriptor: 3 + inode,
        });
    }
}

/// Advice of one recommendation for a host.
pub fn advice(facts: &Facts, code: &str, setting: &str, current: &str, proposed: &str) -> Advised {
    let rule = advisor::rules::find(code).unwrap();
    Advised {
        host: HostProfile::of(facts),
        recommendations: vec![Recommended {
            claim: Claim {
                code: code.to_owned(),
                name: rule.name.to_owned(),
                subject: "the whole kernel".to_owned(),
                setting: setting.to_owned(),
                current: current.to_owned(),
                proposed: proposed.to_owned(),
            },
            evidence: Vec::new(),
        }],
    }
}

/// A host and advice for it.
pub struct Case {
    /// What the host is.
    pub name: &'static str,
    /// Whether the advice is right.
    pub is_right: bool,
    /// The host.
    pub facts: Facts,
    /// The advice.
    pub advised: Advised,
}

const ABORT: &str = "net.ipv4.tcp_abort_on_overflow";
const SOMAXCONN: &str = "net.core.somaxconn";
const TCP_MEM: &str = "net.ipv4.tcp_mem";
const MARKS: &str = "15000 18000 27000";
const RAISED: &str = "40000 53000 80000";

/// The hosts of the cases, each once, by a name for files.
pub fn hosts() -> Vec<(String, Facts)> {
    let mut hosts: Vec<(String, Facts)> = Vec::new();
    for case in cases() {
        if hosts.iter().all(|(_, known)| *known != case.facts) {
            hosts.push((file_name(case.name), case.facts));
        }
    }
    hosts
}

/// The name of a case as that of a file.
pub fn file_name(name: &str) -> String {
    name.replace(", ", "-")
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// Every case, rule by rule.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |name, is_right, facts: &Facts, claim: (&str, &str, &str, &str)| {
        let (code, setting, current, proposed) = claim;
        cases.push(Case {
            name,
            is_right,
            facts: facts.clone(),
            advised: advice(facts, code, setting, current, proposed),
        });
    };
    let with = |settings: &[(&str, &str)], kind, count, held| {
        let mut facts = host(settings);
        add(&mut facts, kind, count, held);
        facts
    };
    let memory = |kind| with(&[(TCP_MEM, MARKS)], kind, 200, 400_000);
    let raise = ("LB402", TCP_MEM, MARKS, RAISED);
    let bound = (
        "LB402",
        "who holds it",
        "the program holds it, dead",
        "TCP_USER_TIMEOUT for connections whose peer is gone",
    );
    case(
        "dead peers fill tcp_mem, bounded",
        true,
        &memory(Kind::Dead),
        bound,
    );
    case("dead peers fill tcp_mem", false, &memory(Kind::Dead), raise);
    case(
        "unread data fills tcp_mem",
        false,
        &memory(Kind::Unread),
        raise,
    );
    case(
        "a leak fills tcp_mem",
        false,
        &memory(Kind::CloseWait),
        raise,
    );
    case(
        "peers that don't read fill tcp_mem",
        false,
        &memory(Kind::ZeroWindow),
        raise,
    );
    case(
        "orphans at a closed window fill tcp_mem",
        false,
        &memory(Kind::OrphanZeroWindow),
        raise,
    );

    case(
        "a load that is meant fills tcp_mem",
        true,
        &memory(Kind::Healthy),
        raise,
    );

    let timeout = ("LB401", "TCP_USER_TIMEOUT", "unknown", "30000 (ms)");
    case("dead peers", true, &memory(Kind::Dead), timeout);
    case(
        "a leak, and no dead peers",
        false,
        &memory(Kind::CloseWait),
        timeout,
    );

    let read = (
        "LB404",
        "read()",
        "not called in time",
        "read, or close what is not to be read",
    );
    case("unread data", true, &memory(Kind::Unread), read);
    case(
        "dead peers, and no unread data",
        false,
        &memory(Kind::Dead),
        read,
    );

    let limit = (
        "LB403",
        "a time limit for writing",
        "none",
        "30 s, by TCP_USER_TIMEOUT",
    );
    case(
        "peers that don't read",
        true,
        &memory(Kind::ZeroWindow),
        limit,
    );
    case(
        "unread data, and peers that read",
        false,
        &memory(Kind::Unread),
        limit,
    );

    let close = (
        "LB202",
        "close()",
        "not called",
        "close() when read() returns 0",
    );
    case(
        "a leak of CLOSE_WAIT",
        true,
        &with(&[], Kind::CloseWait, 300, 0),
        close,
    );
    case(
        "a leak of FIN_WAIT2",
        false,
        &with(&[], Kind::HalfClosed, 300, 0),
        close,
    );

    let bound = (
        "LB204",
        "a bounded wait, then close()",
        "none",
        "a few seconds, then close()",
    );
    case(
        "a leak of FIN_WAIT2, half-closed",
        true,
        &with(&[], Kind::HalfClosed, 300, 0),
        bound,
    );
    case(
        "a leak of CLOSE_WAIT, half-closed",
        false,
        &with(&[], Kind::CloseWait, 300, 0),
        bound,
    );

    let longer = ("LB510", SOMAXCONN, "128", "4096");
    let own = (
        "LB510",
        "the backlog of listen()",
        "unknown (ss -tln: Send-Q)",
        "as many as arrive while the program is busy, and accept() sooner",
    );
    let bursts = with_queue(6000, 600, 3, 20);
    let too_many = with_queue(600, 6000, 129, 2000);
    let nearly = with_queue(600, 6000, 128, 2000);
    case(
        "a program accepts less than comes, and one has just left",
        false,
        &nearly,
        longer,
    );
    case("bursts fill a queue of 128", true, &bursts, longer);
    case(
        "bursts fill a queue of 128, in the program",
        true,
        &bursts,
        own,
    );
    case(
        "a program accepts less than comes",
        false,
        &too_many,
        longer,
    );
    case(
        "a program accepts less than comes, longer",
        false,
        &too_many,
        own,
    );
    let accept = (
        "LB501",
        "accept() and the backlog of listen()",
        "129 wait, backlog 128",
        "accept() in a loop until EAGAIN",
    );
    case(
        "a program accepts less than comes, sooner",
        true,
        &too_many,
        accept,
    );
    let with_room = with_queue(6000, 0, 3, 20);
    case("a queue with room", false, &with_room, accept);
    let stuck = with_queue(0, 0, 40, 30_000);
    let call = (
        "LB503",
        "accept()",
        "not called",
        "accept() whenever a connection waits",
    );
    case("a program has stopped accepting", true, &stuck, call);
    case("a queue with room, stuck", false, &with_room, call);
    let mut resets = bursts.clone();
    assert!(resets.settings.set(ABORT, "1"));
    let quiet = ("LB512", ABORT, "1", "0");
    case(
        "bursts fill a queue of 128, and are reset",
        true,
        &resets,
        quiet,
    );
    let mut spared = with_room.clone();
    assert!(spared.settings.set(ABORT, "1"));
    case("a queue with room, and resets", false, &spared, quiet);

    let many = [("net.ipv4.tcp_max_orphans", "198")];
    let retries = ("LB101", "net.ipv4.tcp_orphan_retries", "0", "3");
    let more = ("LB101", "net.ipv4.tcp_max_orphans", "198", "1000");
    case(
        "orphans at a closed window at the limit, bounded",
        true,
        &with(&many, Kind::OrphanZeroWindow, 200, 20_000),
        ("LB101", "TCP_USER_TIMEOUT", "unknown", "30000 (ms)"),
    );
    case(
        "orphans at a closed window at the limit, raised",
        false,
        &with(&many, Kind::OrphanZeroWindow, 200, 20_000),
        more,
    );
    case(
        "orphans at a closed window at the limit",
        false,
        &with(&many, Kind::OrphanZeroWindow, 200, 20_000),
        retries,
    );

    let ports = |own: &str, to: &str, reuse: &str| {
        let mut facts = host(&[("net.ipv4.tcp_tw_reuse", reuse)]);
        add_records(&mut facts, 27_900, own, to);
        facts
    };
    let remote = |reuse| ports("10.1.1.1", "10.0.0.9:5432", reuse);
    let loopback = ports("127.0.0.1", "127.0.0.1:6086", "2");
    let reuse = ("LB303", "net.ipv4.tcp_tw_reuse", "0", "1");
    let range = (
        "LB303",
        "net.ipv4.ip_local_port_range",
        "32768 60999",
        "1024 65535",
    );
    case("ports to a peer run out", true, &remote("0"), reuse);
    case("ports to a peer run out, wider", true, &remote("0"), range);
    case("ports to loopback are taken again", false, &loopback, range);
    case(
        "ports to a peer are taken again",
        false,
        &remote("1"),
        range,
    );

    let address = (
        "LB301",
        "SO_REUSEADDR",
        "unknown",
        "1, before bind(), at every start",
    );
    let mut gone = host(&[]);
    add_clients_records(&mut gone, 40, 8080);
    case(
        "a server is gone, its clients' TIME_WAIT there",
        true,
        &gone,
        address,
    );
    let mut there = host(&[]);
    add_clients_records(&mut there, 40, 443);
    case(
        "a server is there, with clients' TIME_WAIT",
        false,
        &there,
        address,
    );
    cases
}
