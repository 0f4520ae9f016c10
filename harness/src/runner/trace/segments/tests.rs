use std::net::Ipv4Addr;

use super::*;

/// A segment between client (10.0.1.2:40000) and server (10.0.2.2:7000).
#[derive(Clone, Copy, Default)]
pub(in crate::runner) struct Made {
    pub(in crate::runner) from_client: bool,
    pub(in crate::runner) sent_us: Option<u64>,
    pub(in crate::runner) received_us: Option<u64>,
    pub(in crate::runner) flags: u8,
    pub(in crate::runner) sequence: u32,
    pub(in crate::runner) acknowledged: u32,
    pub(in crate::runner) bytes: u16,
    pub(in crate::runner) window: u16,
}

fn frame(number: usize, made: &Made) -> Vec<u8> {
    let client = (Ipv4Addr::new(10, 0, 1, 2), 40000_u16);
    let server = (Ipv4Addr::new(10, 0, 2, 2), 7000_u16);
    let (from, to) = if made.from_client {
        (client, server)
    } else {
        (server, client)
    };
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((40 + made.bytes).to_be_bytes());
    frame.extend(u16::try_from(number).unwrap().to_be_bytes());
    frame.extend([0x40, 0, 64, 6, 0, 0]);
    frame.extend(from.0.octets());
    frame.extend(to.0.octets());
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend(made.sequence.to_be_bytes());
    frame.extend(made.acknowledged.to_be_bytes());
    frame.extend([0x50, made.flags]);
    frame.extend(made.window.to_be_bytes());
    frame.extend([0; 4]);
    frame
}

/// The pcap files of client and server.
pub(in crate::runner) fn pcaps(made: &[Made]) -> [Vec<u8>; 2] {
    let mut seen: [Vec<(u64, Vec<u8>)>; 2] = [Vec::new(), Vec::new()];
    for (number, one) in made.iter().enumerate() {
        for (at, is_clients) in [
            (one.sent_us, one.from_client),
            (one.received_us, !one.from_client),
        ] {
            if let Some(at) = at {
                seen[usize::from(!is_clients)].push((at, frame(number, one)));
            }
        }
    }
    seen.map(|mut packets| {
        packets.sort();
        let mut file = vec![0; 24];
        for (at_us, frame) in packets {
            let seconds = u32::try_from(at_us / 1_000_000).unwrap();
            let ns = u32::try_from(at_us % 1_000_000 * 1000).unwrap();
            let length = u32::try_from(frame.len()).unwrap();
            for number in [seconds, ns, length, length] {
                file.extend(number.to_ne_bytes());
            }
            file.extend(frame);
        }
        file
    })
}

pub(in crate::runner) fn hosts() -> Vec<TracedHost> {
    [("client", "10.0.1.2"), ("server", "10.0.2.2")]
        .map(|(name, address)| TracedHost {
            name: name.to_owned(),
            address: address.to_owned(),
        })
        .into()
}

fn told(made: &[Made], borders: &[u64], left_out: u64) -> Vec<String> {
    let [client, server] = pcaps(made);
    let hosts = hosts();
    let captured = [("client", &client), ("server", &server)].map(|(host, pcap)| Captured {
        host,
        pcap,
        left_out,
    });
    let calls: Vec<Call> = borders
        .iter()
        .map(|at| Call {
            actor: "a".to_owned(),
            host: None,
            text: String::new(),
            start_us: *at,
            end_us: None,
            result: String::new(),
            failed: false,
        })
        .collect();
    let frames = read(&captured, &hosts);
    let (segments, _, _) = frames.condense(0, &calls);
    segments.iter().map(ToString::to_string).collect()
}

/// A handshake, three segments of data of which one is lost and sent again, and a reset.
pub(in crate::runner) fn connection() -> Vec<Made> {
    let to = |at: u64, flags, sequence, acknowledged, bytes| Made {
        from_client: true,
        sent_us: Some(at),
        received_us: Some(at + 5000),
        flags,
        sequence,
        acknowledged,
        bytes,
        window: 1000,
    };
    let back = |at, flags, sequence, acknowledged| Made {
        from_client: false,
        ..to(at, flags, sequence, acknowledged, 0)
    };
    vec![
        to(0, SYN, 99, 0, 0),
        back(5000, SYN | ACK, 499, 100),
        to(10_000, ACK, 100, 500, 0),
        to(10_100, ACK, 100, 500, 100),
        to(10_200, ACK | PUSH, 200, 500, 100),
        Made {
            received_us: None,
            ..to(10_300, ACK | PUSH, 300, 500, 100)
        },
        back(15_200, ACK, 500, 200),
        back(15_300, ACK, 500, 300),
        to(220_000, ACK | PUSH, 300, 500, 100),
        back(225_100, RST, 500, 0),
    ]
}

#[test]
fn what_is_alike_is_one_and_what_is_lost_is_lost() {
    assert_eq!(
        told(&connection(), &[], 0),
        [
            "0.000000 0.005000 client:40000 > server:7000 [S] seq 1:1 win 1000 x1",
            "0.005000 0.010000 server:7000 > client:40000 [SA] seq 1:1 ack 1 win 1000 x1",
            "0.010000 0.015000 client:40000 > server:7000 [A] seq 1:1 ack 1 win 1000 x1",
            "0.010100 0.015200 client:40000 > server:7000 [PA] seq 1:201 ack 1 win 1000 x2",
            "0.010300 - client:40000 > server:7000 [PA] seq 201:301 ack 1 win 1000 x1",
            "0.015200 0.020300 server:7000 > client:40000 [A] seq 1:1 ack 201 win 1000 x2",
            "0.220000 0.225000 client:40000 > server:7000 [PA] seq 201:301 ack 1 win 1000 x1 again",
            "0.225100 0.230100 server:7000 > client:40000 [R] seq 1:1 win 1000 x1",
        ]
    );
}

#[test]
fn a_call_divides_what_is_alike() {
    let told = told(&connection(), &[10_150], 0);
    assert!(
        told[3].contains("seq 1:101") && told[4].contains("seq 101:201"),
        "{told:?}"
    );
}

#[test]
fn a_packet_that_is_altered_alters_the_trace() {
    let before = told(&connection(), &[], 0);
    let mut made = connection();
    made[9].flags = FIN | ACK;
    let after = told(&made, &[], 0);
    assert_eq!(before[..7], after[..7]);
    assert!(after[7].contains("[FA]"), "{}", after[7]);
}

#[test]
fn what_was_not_captured_is_not_lost() {
    let mut made = connection();
    made.pop();
    made[8].received_us = None;
    // The capture at the server ended before them.
    let told = told(&made, &[], 2);
    assert!(
        told.iter().all(|line| !line.starts_with("0.22")),
        "{told:?}"
    );
}

#[test]
fn resets_to_a_peer_that_has_not_heard_are_one() {
    let mut made = connection();
    let (data, reset) = (made[8], made[9]);
    for n in 0..100_u32 {
        let at = 225_200 + u64::from(n) * 20;
        let late = Made {
            sequence: 400,
            acknowledged: 500 + n,
            sent_us: Some(at),
            received_us: Some(at + 5000),
            bytes: 0,
            flags: ACK,
            ..data
        };
        let answer = Made {
            sequence: 600 + n,
            sent_us: Some(at + 10),
            received_us: (n < 50).then_some(at + 5010),
            ..reset
        };
        made.extend([late, answer]);
    }
    let told = told(&made, &[], 0);
    assert!(told.len() < 14, "{told:#?}");
    // Those that had time to arrive are lost; the last may be on its way.
    let [.., lost, under_way] = told.as_slice() else {
        panic!("{told:#?}")
    };
    assert!(lost.contains(" - ") && lost.ends_with("x49"), "{told:#?}");
    assert!(
        under_way.contains(" ~ ") && under_way.ends_with("x1"),
        "{told:#?}"
    );
}

#[test]
fn a_crowd_is_told_as_one() {
    let mut made = Vec::new();
    for n in 0..20_u32 {
        made.push(Made {
            from_client: true,
            sent_us: Some(u64::from(n)),
            received_us: Some(u64::from(n) + 10),
            flags: SYN,
            sequence: n * 1000,
            ..Made::default()
        });
    }
    let [mut client, server] = pcaps(&made);
    // Each from a port of its own.
    let record = 16 + 14 + 40;
    for n in 0..20_u16 {
        let at = 24 + usize::from(n) * record + 16 + 14 + 20;
        client[at..at + 2].copy_from_slice(&(40000 + n).to_be_bytes());
    }
    let hosts = hosts();
    let captured = [("client", &client), ("server", &server)].map(|(host, pcap)| Captured {
        host,
        pcap,
        left_out: 0,
    });
    let (segments, series, _) = read(&captured, &hosts).condense(0, &[]);
    assert_eq!(segments.len(), 1, "{segments:?}");
    assert_eq!((segments[0].count, series.len()), (20, 0));
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let [client, _] = pcaps(&connection());
    for cut in 0..client.len() {
        let _ = packets(&client[..cut]);
    }
    let mut state = 1_u64;
    for _ in 0..2000 {
        let mut bytes = client.clone();
        for _ in 0..8 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let place = usize::try_from(state >> 33).unwrap() % bytes.len();
            bytes[place] = state.to_le_bytes()[3];
        }
        let captured = [Captured {
            host: "client",
            pcap: &bytes,
            left_out: 0,
        }];
        let hosts = hosts();
        let _ = read(&captured, &hosts).condense(0, &[]);
    }
}
