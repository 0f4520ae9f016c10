use std::time::Duration;

use super::*;
use crate::sock_diag::{TcpState, Timer};

/// The sockets of an output of ss, each with the first of its holders.
fn sockets(text: &str) -> Vec<(TcpSocket, Vec<String>)> {
    let mut sockets = Vec::new();
    let strange = ss::each(text, &mut |socket, held: Vec<Held>| {
        let held = held
            .iter()
            .map(|one| format!("{} {} {}", one.name, one.pid, one.descriptor));
        sockets.push((socket, held.collect()));
    });
    assert!(strange.is_empty(), "{strange:?}");
    sockets
}

#[test]
fn what_ss_prints_is_read() {
    let text = "\
Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port Process
u_str ESTAB 0      0      * 1 * 2 users:((\"x\",pid=1,fd=2))
tcp   LISTEN 5 16 127.0.0.1:8080 0.0.0.0:* users:((\"a \\\"b\",pid=7,fd=3),(\"c\",pid=8,fd=3)) ino:44 sk:22 <->
\t skmem:(r0,rb131072,t0,tb16384,f-5,w0,o0,bl1,d2) cubic cwnd:10 unacked:5
tcp   ESTAB 0 7 [::1]%lo:443 [2001:db8::1]:50000 timer:(on,1min30sec,3) uid:33 ino:45 sk:1f
\t skmem:(r1,rb2,t3,tb4,f5,w6,o7,bl8,d9) ts sack rto:204 backoff:3 rtt:0.5/0.25 mss:1448 retrans:1/9 busy:52ms rwnd_limited:10ms(3.1%) lastrcv:77 delivery_rate 80bps notsent:4
tcp   TIME-WAIT 0 0 10.0.0.1:8080 10.0.0.2:9 timer:(timewait,7.532ms,0) ino:0 sk:30
tcp   LISTEN 0 128 *:22 *:* ino:46 sk:31
";
    let sockets = sockets(text);
    let [(listen, held), (connection, _), (time_wait, _), (any, _)] = &sockets[..] else {
        panic!("{sockets:?}");
    };
    assert_eq!(held, &["a \\\"b 7 3", "c 8 3"]);
    assert_eq!((listen.recv_queue_bytes, listen.send_queue_bytes), (5, 16));
    let memory = listen.memory.as_ref().unwrap();
    assert_eq!((memory.forward_alloc_bytes, memory.backlog_bytes), (-5, 1));
    assert_eq!(connection.local.to_string(), "[::1]:443");
    assert_eq!((connection.uid, connection.timer), (33, Timer::Retransmit));
    assert_eq!((connection.timer_ms, connection.retransmits), (90_000, 3));
    let info = connection.info.as_ref().unwrap();
    assert_eq!((info.rtt_us(), info.rttvar_us()), (Some(500), Some(250)));
    assert_eq!(
        (info.total_retrans(), info.retransmits()),
        (Some(9), Some(3))
    );
    assert_eq!(info.rwnd_limited_us(), Some(10_000));
    assert_eq!((info.delivery_rate(), info.backoff()), (Some(10), Some(3)));
    assert_eq!(
        (time_wait.state, time_wait.timer_ms),
        (TcpState::TimeWait, 7532)
    );
    assert_eq!((any.family, any.local.port()), (Family::Inet6, 22));
}

#[test]
fn a_line_that_is_cut_off_hides_no_other() {
    let mut count = 0;
    let text = "tcp LISTEN 0 1 *:1 *:* ino:1 sk:1\ntcp ESTAB 0 0 10.0.0.1:80 10.0";
    assert_eq!(ss::each(text, &mut |_, _| count += 1), [2]);
    assert_eq!(count, 1);
}

#[test]
fn what_netstat_prints_is_read() {
    let text = "\
Active Internet connections (servers and established)
tcp        5      0 127.0.0.1:8080          0.0.0.0:*               LISTEN      0          651844     22575/my prog       off (0.00/0/0)
tcp6       1      0 ::1:8443                ::1:54966               CLOSE_WAIT  33         651876     -                    keepalive (7.25/0/2)
unix  3      [ ]         STREAM     CONNECTED     637738   18124/x
";
    let mut seen = Vec::new();
    let strange = netstat::each_socket(text, &mut |socket: TcpSocket, held: Vec<Held>| {
        let name = held.first().map(|one| one.name.clone());
        seen.push((
            socket.local.to_string(),
            socket.state,
            socket.timer_ms,
            name,
        ));
    });
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(
        seen,
        [
            (
                "127.0.0.1:8080".to_owned(),
                TcpState::Listen,
                0,
                Some("my prog".to_owned())
            ),
            ("[::1]:8443".to_owned(), TcpState::CloseWait, 7250, None),
        ]
    );
    let counters = netstat::counters(
        "Tcp:\n    122 active connection openings\nTcpExt:\n    TCP ran low on memory 4 times\n    \
         TCPTimeWaitOverflow: 9\n    7 times the listen queue of a socket overflowed\nIpExt:\n    InOctets: 5\n",
    );
    assert_eq!(counters.get("Tcp.ActiveOpens"), Some(122));
    assert_eq!(counters.get("TcpExt.TCPMemoryPressures"), Some(4));
    assert_eq!(counters.get("TcpExt.TCPTimeWaitOverflow"), Some(9));
    assert_eq!(counters.get("TcpExt.ListenOverflows"), Some(7));
    // Left out where it is 0, and not known where there is no such part.
    assert_eq!(counters.get("TcpExt.TCPAbortOnMemory"), Some(0));
    assert_eq!(netstat::counters("").get("TcpExt.TCPAbortOnMemory"), None);
}

#[test]
fn times_are_read_in_each_form() {
    let seconds = Some(1_796_030_604);
    for text in [
        "Mon Nov 30 09:23:24 UTC 2026\n",
        "Mon 30 Nov 2026 09:23:24 AM UTC",
        "Mon Nov 30 09:23:24 AM UTC 2026",
    ] {
        assert_eq!(date_utc(text), seconds, "{text}");
    }
    for text in [
        "",
        "Mon Nov 30 09:23:24 CET 2026",
        "Mon Nov 31 09:23:24 UTC 2026",
    ] {
        assert_eq!(date_utc(text), None, "{text}");
    }
    for (text, minutes) in [
        (" 09:23:25 up  1:38,  0 user,  load average: 7.50", 98),
        (" 09:23:25 up 12 days,  1:38,  2 users", 12 * 1440 + 98),
        (" 09:23:25 up 3 min,  1 user", 3),
        (" 09:23:25 up 1 day, 5 min,  1 user", 1445),
    ] {
        assert_eq!(
            uptime_of(text),
            Some(Duration::from_secs(minutes * 60)),
            "{text}"
        );
    }
}

#[test]
fn only_what_is_read_is_wanted() {
    for name in [
        "sos_commands/networking/ip_netns_exec_a_b_ss_-peaonmi",
        "sos_commands/networking/namespaces/x/ip_netns_exec_x_netstat_-s",
        "proc/812/net/tcp6",
        "proc/net/snmp",
        "etc/sysctl.d/10-a.conf",
    ] {
        assert!(is_wanted(name, 1), "{name}");
    }
    for name in [
        "sos_commands/networking/ip_netns_exec__ss_-peaonmi",
        "sos_commands/networking/route_-n",
        "proc/812/smaps",
        "proc/x/net/tcp",
        "etc/sysctl.d/a/b.conf",
        "etc/shadow",
    ] {
        assert!(!is_wanted(name, 1), "{name}");
    }
    assert_eq!(
        in_namespace("ip_netns_exec_a_b_netstat_-W_-neopa"),
        Some(("a_b", "netstat_-W_-neopa"))
    );
}

#[test]
fn the_journal_stands_in_for_dmesg() {
    let mut files = NamedFiles::default();
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("s/version.txt", "sosreport: 4.0\n"),
        ("s/sos_commands/date/date", "Fri Jan 2 10:00:00 CET 2026\n"),
        (
            "s/sos_commands/logs/journalctl_--no-pager_--catalog_--boot",
            "Jan 02 09:59:00 h kernel: TCP: too many orphaned sockets\n\
             Dec 31 23:00:00 h kernel: TCP: out of memory -- consider tuning tcp_mem\n\
             Jan 02 09:59:01 h sshd[1]: TCP: too many orphaned sockets\n",
        ),
        (
            "s/sos_commands/host/uptime",
            " 10:00:00 up 3 days,  0 min,  1 user\n",
        ),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    files
        .unpack(&*tar.into_inner().unwrap(), &is_wanted)
        .unwrap();
    let log = of_files(&files, Path::new("s"))
        .unwrap()
        .kernel_log
        .unwrap();
    let boot = 3 * 86_400;
    assert_eq!(log.too_many_orphans, [Duration::from_secs(boot - 60)]);
    assert_eq!(log.out_of_memory, [Duration::from_secs(boot - 35 * 3600)]);
}
