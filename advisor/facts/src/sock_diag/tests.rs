//! The decoder on what kernels answered, whole, cut and damaged; and the live
//! socket table against /proc/net/tcp.
#![expect(
    clippy::disallowed_types,
    reason = "sockets of the tests' own to look at"
)]

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use super::*;
use crate::proc_tcp;

/// The messages of a fixture.
fn fixture() -> Vec<Vec<u8>> {
    include_str!("../../../tests/fixtures/sock_diag-6.18-x86-64.hex")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| decode_hex(line.as_bytes()).unwrap())
        .collect()
}

fn decode(
    datagram: &[u8],
    sequence: Option<u32>,
    sockets: &mut Vec<TcpSocket>,
) -> Result<Progress, SockDiagError> {
    decode_each(datagram, sequence, &mut |socket| sockets.push(socket))
}

fn decode_all(messages: &[Vec<u8>]) -> Vec<TcpSocket> {
    let mut sockets = Vec::new();
    decode(&messages.concat(), None, &mut sockets).unwrap();
    sockets
}

#[test]
fn a_dump_of_6_18_is_decoded() {
    let lines: Vec<_> = decode_all(&fixture())
        .iter()
        .map(|socket| {
            format!(
                "{} {} {} {}/{} {:?} x{} {}",
                socket.state,
                socket.local,
                socket.peer,
                socket.recv_queue_bytes,
                socket.send_queue_bytes,
                socket.timer,
                socket.retransmits,
                socket.info.as_ref().map_or(0, |info| info.fields().count()),
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "LISTEN 198.51.100.1:5432 0.0.0.0:0 0/5 Off x0 53",
            "LISTEN 192.0.2.10:8080 0.0.0.0:0 0/128 Off x0 53",
            "ESTABLISHED 192.0.2.20:51515 192.0.2.10:9090 0/0 Off x0 53",
            "FIN_WAIT2 192.0.2.20:57275 192.0.2.10:8080 0/0 TimeWait x0 0",
            "ESTABLISHED 198.51.100.1:5432 198.51.100.2:43056 0/83984 Retransmit x6 53",
            "CLOSE_WAIT 192.0.2.10:8080 192.0.2.20:57275 6/0 Off x0 53",
            "TIME_WAIT 192.0.2.10:8080 192.0.2.20:50663 0/0 TimeWait x0 0",
            "LISTEN [::]:9090 [::]:0 0/16 Off x0 53",
            "LISTEN [2001:db8::10]:8443 [::]:0 0/128 Off x0 53",
            "ESTABLISHED [::ffff:192.0.2.10]:9090 [::ffff:192.0.2.20]:51515 0/0 Off x0 53",
            "ESTABLISHED [2001:db8::20]:36169 [2001:db8::10]:8443 0/0 Off x0 53",
            "ESTABLISHED [2001:db8::10]:8443 [2001:db8::20]:36169 0/0 Off x0 53",
        ]
    );
}

#[test]
fn tcp_info_and_memory_of_a_vanished_peer_are_decoded() {
    let sockets = decode_all(&fixture());
    let socket = sockets
        .iter()
        .find(|socket| socket.timer == Timer::Retransmit)
        .unwrap();
    let info = socket.info.as_ref().unwrap();
    assert_eq!(info.state(), Some(TcpState::Established as u8));
    assert_eq!(info.retransmits(), Some(6));
    assert_eq!(info.backoff(), Some(6));
    assert_eq!(info.probes(), Some(0));
    assert!(info.unacked().unwrap() > 0);
    assert!(info.last_ack_recv_ms().unwrap() > 13_000);
    assert!(info.snd_wnd().unwrap() > 0);
    assert_eq!(info.bytes_acked(), Some(2000));
    let memory = socket.memory.as_ref().unwrap();
    assert!(memory.send_queued_bytes >= socket.send_queue_bytes);
    assert_eq!(memory.drops, Some(0));
}

/// What each kernel in `advisor/kernels` answered of the same four sockets, by its
/// line.
pub(crate) fn kernels() -> Vec<(String, String)> {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels");
    let recorded = |line: String| {
        let file = kernels.join(&line).join("sock_diag-x86-64.hex");
        std::fs::read_to_string(file).map(|text| (line, text))
    };
    let entries = kernels.read_dir().unwrap();
    let lines = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let recorded: Vec<_> = lines.map(|line| recorded(line).unwrap()).collect();
    assert!(recorded.len() >= 4);
    recorded
}

#[test]
fn dumps_of_every_kernel_are_decoded() {
    for (kernel, text) in kernels() {
        let mut sockets = Vec::new();
        decode_recorded(text.as_bytes(), &mut |socket| sockets.push(socket)).unwrap();
        sockets.sort_by_key(|socket| socket.peer);
        let mut lines = Vec::new();
        for socket in &sockets {
            let info = socket.info.as_ref().unwrap();
            let fields: Vec<&str> = info.fields().map(|(name, _)| name).collect();
            let (count, last) = (fields.len(), fields[fields.len() - 1]);
            match kernel.as_str() {
                "5.10" | "6.1" => assert_eq!((count, last), (48, "snd_wnd"), "{kernel}"),
                "6.12" | "7.3" => assert_eq!((count, last), (53, "total_rto_time"), "{kernel}"),
                _ => assert!(count >= 48, "{kernel}: {count} fields to {last}"),
            }
            assert_eq!(info.state(), Some(socket.state as u8));
            assert_eq!(socket.memory.as_ref().unwrap().drops, Some(0));
            assert!(socket.cgroup.is_some(), "{kernel}");
            lines.push(format!(
                "{} {} {:?} {}, unacked {:?}, backoff {:?}, probes {:?}, window {:?}",
                socket.state,
                socket.peer.ip(),
                socket.timer,
                if socket.send_queue_bytes > 5000 {
                    "queue"
                } else {
                    "no queue"
                },
                info.unacked(),
                info.backoff(),
                info.probes(),
                info.snd_wnd(),
            ));
        }
        assert_eq!(
            lines,
            [
                "LISTEN 0.0.0.0 Off no queue, unacked Some(0), backoff Some(0), probes Some(0), window Some(0)",
                "LISTEN 0.0.0.0 Off no queue, unacked Some(0), backoff Some(0), probes Some(0), window Some(0)",
                "ESTABLISHED 10.0.1.2 Probe queue, unacked Some(0), backoff Some(6), probes Some(0), window Some(0)",
                "ESTABLISHED 10.0.2.2 Retransmit queue, unacked Some(7), backoff Some(6), probes Some(0), window Some(64256)",
            ],
            "{kernel}"
        );
    }
}

#[test]
fn an_id_is_encoded_as_the_kernel_does() {
    let at = HEADER_LEN + 4;
    for message in fixture() {
        for socket in decode_all(std::slice::from_ref(&message)) {
            assert_eq!(socket.id(), message[at..at + SOCKID_LEN], "{socket:?}");
        }
    }
}

#[test]
fn no_prefix_and_no_changed_byte_panics() {
    for message in fixture() {
        for length in 0..message.len() {
            let result = decode(&message[..length], None, &mut Vec::new());
            assert_eq!(result.is_ok(), length == 0, "{length} of {}", message.len());
        }
        let mut changed = message.clone();
        for (at, byte) in message.iter().enumerate() {
            for value in 0..=u8::MAX {
                changed[at] = value;
                let _ = decode(&changed, None, &mut Vec::new());
            }
            changed[at] = *byte;
        }
    }
}

#[test]
fn what_is_malformed_is_named() {
    let message = &fixture()[0];
    let error = |bytes: &[u8]| {
        decode(bytes, None, &mut Vec::new())
            .unwrap_err()
            .to_string()
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = message.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let prefix = "sock_diag answered what is no socket table: ";
    for (bytes, expected) in [
        (
            message[..100].to_vec(),
            "a message is cut off: 100 bytes of 448",
        ),
        (
            with(0, &8_u32.to_ne_bytes()),
            "a message of 8 bytes, where its header has 16",
        ),
        (
            with(0, &80_u32.to_ne_bytes()),
            "a socket of 64 bytes, where struct inet_diag_msg has 72",
        ),
        (with(16, &[3]), "a socket of address family 3"),
        (with(17, &[99]), "a socket in state 99"),
        (
            with(88, &2_u16.to_ne_bytes()),
            "an attribute of 2 bytes, where its header has 4",
        ),
        (
            with(88, &u16::MAX.to_ne_bytes()),
            "an attribute is cut off: 360 bytes of 65535",
        ),
    ] {
        assert_eq!(error(&bytes), format!("{prefix}{expected}"));
    }
}

#[test]
fn a_longer_tcp_info_of_a_later_kernel_is_read() {
    let message = fixture()
        .into_iter()
        .find(|message| message.len() == 448)
        .unwrap();
    let before = decode_all(std::slice::from_ref(&message)).remove(0);
    let word = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
    let mut info = HEADER_LEN + DIAG_MSG_LEN;
    while word(info + 2) != INET_DIAG_INFO {
        info += usize::from(word(info)).next_multiple_of(4);
    }
    let length = word(info);
    let end = info + usize::from(length);
    let mut longer = message[..info].to_vec();
    longer.extend((length + 64).to_ne_bytes());
    longer.extend(&message[info + 2..end]);
    longer.extend([0xee; 64]);
    longer.extend(&message[end..]);
    let whole = u32::try_from(longer.len()).unwrap();
    longer[..4].copy_from_slice(&whole.to_ne_bytes());
    assert_eq!(decode_all(&[longer]).remove(0), before);
}

#[test]
fn a_refusal_and_an_interrupted_dump_are_seen() {
    let done = fixture().pop().unwrap();
    let mut refused = done.clone();
    refused[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
    refused[16..20].copy_from_slice(&(-2_i32).to_ne_bytes());
    let error = decode(&refused, None, &mut Vec::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sock_diag refused: No such file or directory (os error 2)"
    );

    let mut interrupted = done;
    interrupted[6..8].copy_from_slice(&NLM_F_DUMP_INTR.to_ne_bytes());
    let progress = decode(&interrupted, None, &mut Vec::new()).unwrap();
    assert_eq!(
        progress,
        Progress {
            done: true,
            interrupted: true
        }
    );
}

/// Dumps a table of one socket that changes under the first dumps.
fn interrupted(times: u32) -> (u32, Result<Vec<TcpSocket>, SockDiagError>) {
    let socket = fixture().swap_remove(0);
    let done = fixture().pop().unwrap();
    let asked = std::cell::Cell::new(0);
    let mut sequence = 6;
    let dumped = dump_whole(
        &mut sequence,
        |sequence| {
            assert_eq!(sequence, asked.get() + 7, "each time another one");
            asked.set(asked.get() + 1);
            Ok(())
        },
        |buffer| {
            let mut messages = [socket.clone(), done.clone()];
            for message in &mut messages {
                message[8..12].copy_from_slice(&(asked.get() + 6).to_ne_bytes());
            }
            if asked.get() <= times {
                messages[1][6..8].copy_from_slice(&NLM_F_DUMP_INTR.to_ne_bytes());
            }
            let datagram = messages.concat();
            buffer[..datagram.len()].copy_from_slice(&datagram);
            Ok(datagram.len())
        },
        &mut |sockets: &mut Vec<_>, socket| sockets.push(socket),
    );
    (asked.get(), dumped)
}

#[test]
fn an_interrupted_dump_is_read_again() {
    for times in [0, 1, DUMP_TRIES - 1] {
        let (asked, dumped) = interrupted(times);
        assert_eq!(asked, times + 1);
        assert_eq!(dumped.unwrap().len(), 1, "the others are forgotten");
    }
    let (asked, dumped) = interrupted(DUMP_TRIES);
    assert_eq!(asked, DUMP_TRIES);
    assert_eq!(
        dumped.unwrap_err().to_string(),
        "the socket table changed during each of 8 dumps"
    );
}

#[test]
fn a_datagram_that_is_cut_is_seen() {
    let cut = receive_dump(7, |_: &mut [u8]| Ok(1 << 20), &mut |_| {});
    assert!(
        cut.unwrap_err()
            .to_string()
            .ends_with("a datagram of 1048576 bytes")
    );
}

#[test]
fn a_socket_in_a_file_of_facts_is_read_as_it_was() {
    for socket in decode_all(&fixture()) {
        let text = serde_json::to_string(&socket).unwrap();
        assert_eq!(
            serde_json::from_str::<TcpSocket>(&text).unwrap(),
            socket,
            "{text}"
        );
    }
}

#[test]
fn many_sockets_fit_into_little_memory() {
    // 50,000 of them, and the program, are to stay below 32 MiB.
    assert!(size_of::<TcpSocket>() <= 432, "{}", size_of::<TcpSocket>());
}

#[test]
fn an_older_dump_is_passed_over() {
    let mut sockets = Vec::new();
    let progress = decode(&fixture().concat(), Some(77), &mut sockets).unwrap();
    assert_eq!((progress, sockets), (Progress::default(), Vec::new()));
}

/// State, local and peer: what both ways of reading tell.
type Line = (TcpState, SocketAddr, SocketAddr);

/// The sockets on one of `ports`.
fn lines(sockets: Vec<TcpSocket>, ports: &[u16]) -> BTreeSet<Line> {
    sockets
        .into_iter()
        .filter(|socket| ports.contains(&socket.local.port()))
        .map(|socket| (socket.state, socket.local, socket.peer))
        .collect()
}

#[test]
fn sock_diag_and_proc_net_tcp_agree_on_sockets_of_ours() {
    let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let any = TcpListener::bind("[::]:0").unwrap();
    let mapped = SocketAddr::from(([127, 0, 0, 1], any.local_addr().unwrap().port()));
    let mut ports = Vec::new();
    let mut held = Vec::new();
    for (listener, address) in [
        (&v4, v4.local_addr().unwrap()),
        (&v6, v6.local_addr().unwrap()),
        (&any, mapped),
    ] {
        // One connection that stays, one that the client closes, one over.
        for ending in 0..3 {
            let client = TcpStream::connect(address).unwrap();
            let (server, _) = listener.accept().unwrap();
            ports.extend([address.port(), client.local_addr().unwrap().port()]);
            match ending {
                0 => held.extend([client, server]),
                1 => {
                    drop(client);
                    let mut server = server;
                    assert_eq!(server.read(&mut [0]).unwrap(), 0, "the client's FIN");
                    held.push(server);
                }
                _ => {
                    drop(client);
                    let mut server = server;
                    assert_eq!(server.read(&mut [0]).unwrap(), 0, "the client's FIN");
                }
            }
        }
    }
    let from_proc = || {
        let mut sockets = Vec::new();
        for (path, family) in [
            ("/proc/net/tcp", Family::Inet),
            ("/proc/net/tcp6", Family::Inet6),
        ] {
            let text = std::fs::read(path).unwrap();
            proc_tcp::each(&*text, Path::new(path), family, &mut |socket| {
                sockets.push(socket);
            })
            .unwrap();
        }
        lines(sockets, &ports)
    };
    // The last acknowledgments may be on their way: look until no connection is
    // about to change, and two looks by /proc, one before and one after sock_diag,
    // show the same.
    let is_passing = |line: &Line| {
        matches!(
            line.0,
            TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck
        )
    };
    let (proc, diag) = loop {
        let before = from_proc();
        let diag = lines(SockDiag::open().unwrap().tcp_sockets().unwrap(), &ports);
        if from_proc() == before && !before.iter().any(is_passing) {
            break (before, diag);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    assert_eq!(proc, diag);
    for state in [
        "LISTEN",
        "ESTABLISHED",
        "CLOSE_WAIT",
        "FIN_WAIT2",
        "TIME_WAIT",
    ] {
        assert!(
            diag.iter().any(|line| line.0.as_str() == state),
            "{state} in {diag:?}"
        );
    }
}

#[test]
fn a_socket_of_ours_has_its_queue_info_and_memory() {
    use std::io::Write as _;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.write_all(&[1; 1000]).unwrap();
    server.peek(&mut [0; 1]).unwrap();
    let sockets = SockDiag::open().unwrap().tcp_sockets().unwrap();
    let of_ours = |stream: &TcpStream| {
        sockets
            .iter()
            .find(|socket| {
                socket.local == stream.local_addr().unwrap()
                    && socket.peer == stream.peer_addr().unwrap()
            })
            .unwrap()
    };
    assert_eq!(of_ours(&server).recv_queue_bytes, 1000);
    assert!(of_ours(&server).memory.as_ref().unwrap().recv_alloc_bytes >= 1000);
    assert_eq!(
        of_ours(&client).info.as_ref().unwrap().data_segs_out(),
        Some(1)
    );
}
