//! The advisor's readers against `ss` and `nstat` at the same moment: a mistake
//! of a decoder can't prove itself.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use advisor_facts::counters::Counters;
use advisor_facts::sock_diag::{SockDiag, TcpSocket};
use advisor_facts::sockstat::Sockstat;
use harness::lab::namespace::Namespace;

/// What is compared of a socket, by name.
type Fields = BTreeMap<String, String>;

/// Runs a program in the namespace of the calling thread.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program}, of iproute2: {error}"));
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Sockets in several states, with data unread and unsent, of both families.
fn sockets() -> Vec<Box<dyn std::any::Any>> {
    let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let to = listener.local_addr().unwrap();
        let connect = || {
            let client = TcpStream::connect(to).unwrap();
            (client, listener.accept().unwrap().0)
        };
        // Both alive, with data unread on one side.
        let (mut client, server) = connect();
        client.write_all(&vec![1; 70_000]).unwrap();
        held.push(Box::new((client, server)));
        // A peer that does not read: what has no room there stays unsent.
        let (client, server) = connect();
        client.set_nonblocking(true).unwrap();
        while (&client).write(&vec![1; 65_536]).is_ok() {}
        held.push(Box::new((client, server)));
        // CLOSE_WAIT and FIN_WAIT2.
        let (client, mut server) = connect();
        drop(client);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        held.push(Box::new(server));
        // TIME_WAIT.
        let (client, mut server) = connect();
        drop(client);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        drop(server);
        // Nobody accepts it.
        held.push(Box::new((TcpStream::connect(to).unwrap(), listener)));
    }
    held
}

/// The sockets as `ss` shows them.
fn by_ss() -> Vec<Fields> {
    let text = output("ss", &["-tanOimeH"]);
    let mut all: Vec<Fields> = text.lines().map(ss_line).collect();
    all.sort();
    all
}

/// `STATE RECV-Q SEND-Q LOCAL PEER name:value ...`
fn ss_line(line: &str) -> Fields {
    let mut words = line.split_whitespace();
    let mut fields = Fields::new();
    let state = match words.next().unwrap() {
        "ESTAB" => "ESTABLISHED".to_owned(),
        state => state.replace('-', "_").replace("FIN_WAIT_", "FIN_WAIT"),
    };
    fields.insert("state".into(), state);
    for name in ["recv", "send"] {
        fields.insert(name.into(), words.next().unwrap().to_owned());
    }
    for name in ["local", "peer"] {
        // An unspecified port is `*` there, and so is any address.
        let address = words
            .next()
            .unwrap()
            .replace(":*", ":0")
            .replace("*:", "[::]:");
        let address: SocketAddr = address.parse().unwrap_or_else(|_| panic!("{line}"));
        fields.insert(name.into(), address.to_string());
    }
    for word in words {
        let Some((name, value)) = word.split_once(':') else {
            continue;
        };
        match name {
            "ino" | "rto" | "mss" | "cwnd" | "bytes_sent" | "bytes_acked" | "bytes_received"
            | "segs_out" | "segs_in" | "data_segs_out" | "data_segs_in" | "pmtu" | "rcvmss"
            | "advmss" | "unacked" | "notsent" | "rcv_space" | "rcv_ssthresh" | "backoff"
            | "delivered" | "skmem"
                if value != "0" =>
            {
                fields.insert(name.to_owned(), value.to_owned());
            }
            _ => {}
        }
    }
    fields
}

/// The same as the advisor reads them. `ss` leaves out what is 0.
fn by_sock_diag() -> Vec<Fields> {
    let sockets = SockDiag::open().unwrap().tcp_sockets().unwrap();
    let mut all: Vec<Fields> = sockets.iter().map(fields).collect();
    all.sort();
    all
}

fn fields(socket: &TcpSocket) -> Fields {
    let mut fields = Fields::new();
    let mut add = |name: &str, value: u64| {
        if value != 0 {
            fields.insert(name.to_owned(), value.to_string());
        }
    };
    add("ino", socket.inode.into());
    let info = socket.info.clone().unwrap_or_default();
    add("rto", u64::from(info.rto_us().unwrap_or(0)) / 1000);
    add("unacked", info.unacked().unwrap_or(0).into());
    add("mss", info.snd_mss().unwrap_or(0).into());
    add("cwnd", info.snd_cwnd().unwrap_or(0).into());
    add("bytes_sent", info.bytes_sent().unwrap_or(0));
    add("bytes_acked", info.bytes_acked().unwrap_or(0));
    add("bytes_received", info.bytes_received().unwrap_or(0));
    add("segs_out", info.segs_out().unwrap_or(0).into());
    add("segs_in", info.segs_in().unwrap_or(0).into());
    add("data_segs_out", info.data_segs_out().unwrap_or(0).into());
    add("data_segs_in", info.data_segs_in().unwrap_or(0).into());
    add("pmtu", info.pmtu().unwrap_or(0).into());
    add("rcvmss", info.rcv_mss().unwrap_or(0).into());
    add("advmss", info.advmss().unwrap_or(0).into());
    add("notsent", info.notsent_bytes().unwrap_or(0).into());
    add("rcv_space", info.rcv_space().unwrap_or(0).into());
    add("rcv_ssthresh", info.rcv_ssthresh().unwrap_or(0).into());
    add("backoff", info.backoff().unwrap_or(0).into());
    add("delivered", info.delivered().unwrap_or(0).into());
    if let Some(memory) = &socket.memory {
        let text = format!(
            "(r{},rb{},t{},tb{},f{},w{},o{},bl{},d{})",
            memory.recv_alloc_bytes,
            memory.recv_buffer_bytes,
            memory.send_alloc_bytes,
            memory.send_buffer_bytes,
            memory.forward_alloc_bytes,
            memory.send_queued_bytes,
            memory.option_bytes,
            memory.backlog_bytes,
            memory.drops.unwrap(),
        );
        fields.insert("skmem".into(), text);
    }
    fields.insert("state".into(), socket.state.to_string());
    fields.insert("recv".into(), socket.recv_queue_bytes.to_string());
    fields.insert("send".into(), socket.send_queue_bytes.to_string());
    fields.insert("local".into(), socket.local.to_string());
    fields.insert("peer".into(), socket.peer.to_string());
    fields
}

#[test]
fn the_socket_table_is_that_of_ss() {
    let namespace = std::thread::spawn(|| {
        let namespace = Namespace::enter_new("alone").unwrap();
        output("ip", &["link", "set", "lo", "up"]);
        let held = sockets();
        // Two looks of ours with that of ss in between: where both are the
        // same, nothing has moved meanwhile.
        let (ours, theirs) = loop {
            let before = by_sock_diag();
            let theirs = by_ss();
            if by_sock_diag() == before {
                break (before, theirs);
            }
        };
        drop(held);
        assert!(ours.len() > 14, "{ours:?}");
        for (our, their) in ours.iter().zip(&theirs) {
            // A listener's tcp_info has fields that ss does not show.
            for (name, value) in their {
                assert_eq!(
                    our.get(name),
                    Some(value),
                    "{name} of {our:?}\nss: {their:?}"
                );
            }
        }
        assert_eq!(ours.len(), theirs.len());
        let shown = |name: &str| {
            theirs
                .iter()
                .filter(|their| their.contains_key(name))
                .count()
        };
        for name in ["skmem", "bytes_acked", "notsent", "rto", "ino", "delivered"] {
            assert!(shown(name) > 0, "{name} is compared");
        }
        namespace
    });
    drop(namespace.join().unwrap());
}

#[test]
fn counters_are_those_of_nstat() {
    let namespace = std::thread::spawn(|| {
        let namespace = Namespace::enter_new("alone").unwrap();
        output("ip", &["link", "set", "lo", "up"]);
        let held = sockets();
        let read = || {
            let mut counters = Counters::default();
            for file in ["netstat", "snmp"] {
                let path = format!("/proc/thread-self/net/{file}");
                let text = std::fs::read_to_string(&path).unwrap();
                counters.merge(Counters::parse(&text, Path::new(&path)).unwrap());
            }
            counters
        };
        let (ours, theirs) = loop {
            let before = read();
            let theirs = output("nstat", &["-a", "-s", "-z"]);
            if read() == before {
                break (before, theirs);
            }
        };
        drop(held);
        // `TcpExtTCPAbortOnClose 3 0.0`, of names that both have.
        let mut compared = 0;
        let mut moved = 0;
        for line in theirs.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(value)) = (words.next(), words.next()) else {
                continue;
            };
            for group in ["TcpExt", "IpExt", "Tcp", "Udp", "Ip"] {
                let Some(counter) = name.strip_prefix(group) else {
                    continue;
                };
                if let Some(ours) = ours.get(&format!("{group}.{counter}")) {
                    assert_eq!(ours.to_string(), value, "{name}");
                    compared += 1;
                    moved += usize::from(ours != 0);
                    break;
                }
            }
        }
        assert!(
            compared > 100 && moved > 15,
            "{compared} compared, {moved} moved"
        );
        let sockstat = std::fs::read_to_string("/proc/thread-self/net/sockstat").unwrap();
        let sockstat = Sockstat::parse(&sockstat, Path::new("sockstat")).unwrap();
        // `ss -s`: TCP: 16 (estab 7, closed 2, orphaned 0, timewait 2)
        let summary = output("ss", &["-s"]);
        let timewait = summary.split("timewait ").nth(1).unwrap();
        let timewait = timewait
            .split(|end: char| !end.is_ascii_digit())
            .next()
            .unwrap();
        assert_eq!(sockstat.get("TCP.tw").unwrap().to_string(), timewait);
        namespace
    });
    drop(namespace.join().unwrap());
}
