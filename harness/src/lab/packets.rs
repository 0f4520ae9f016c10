//! TCP packets as they pass on the links of hosts: read from frames, counted by what they
//! are, and followed so that a foreign one can be made that fits.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use advisor_report::Value;

use super::address::is_of_host;
use crate::observation::{Observations, Passed};

/// FIN, SYN and RST in the TCP header.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;

/// A TCP packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// From where.
    pub from: SocketAddr,
    /// To where.
    pub to: SocketAddr,
    /// The flags of the TCP header.
    pub flags: u8,
    /// Its sequence number.
    pub seq: u32,
    /// What it acknowledges.
    pub ack: u32,
    /// The window that it offers, as the header has it.
    pub window: u16,
    /// Bytes of payload.
    pub payload: u32,
    /// Bytes of the whole IP packet.
    pub ip_bytes: u32,
}

impl Packet {
    /// Of an Ethernet frame, of which the end may be missing; `None` where it is no TCP.
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let ip = frame.get(14..)?;
        let (from, to, header, ip_bytes) = match frame.get(12..14)? {
            [0x08, 0x00] => {
                let header = usize::from(ip.first()? & 0x0f) * 4;
                (*ip.get(9)? == 6).then_some(())?;
                let address = |at: usize| {
                    let octets: [u8; 4] = *ip.get(at..)?.first_chunk()?;
                    Some(IpAddr::from(Ipv4Addr::from(octets)))
                };
                let total = u32::from(word(ip, 2)?);
                (address(12)?, address(16)?, header, total)
            }
            [0x86, 0xdd] => {
                (*ip.get(6)? == 6).then_some(())?;
                let address = |at: usize| {
                    let octets: [u8; 16] = *ip.get(at..)?.first_chunk()?;
                    Some(IpAddr::from(Ipv6Addr::from(octets)))
                };
                (address(8)?, address(24)?, 40, 40 + u32::from(word(ip, 4)?))
            }
            _ => return None,
        };
        let tcp = ip.get(header..)?;
        let long = |at: usize| Some(u32::from_be_bytes(*tcp.get(at..)?.first_chunk()?));
        let tcp_header = u32::from(*tcp.get(12)? >> 4) * 4;
        let headers = u32::try_from(header).ok()? + tcp_header;
        Some(Self {
            from: SocketAddr::new(from, word(tcp, 0)?),
            to: SocketAddr::new(to, word(tcp, 2)?),
            seq: long(4)?,
            ack: long(8)?,
            flags: *tcp.get(13)?,
            window: word(tcp, 14)?,
            payload: ip_bytes.saturating_sub(headers),
            ip_bytes,
        })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The sequence number after it.
    fn end(&self) -> u32 {
        let flags = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.seq.wrapping_add(self.payload).wrapping_add(flags)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// How many, and when the first and the last of them passed, since the start.
#[derive(Clone, Copy, Debug)]
struct Counted {
    count: i64,
    first: Duration,
    last: Duration,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The last packet.
    pub last: Packet,
    /// The highest sequence number after a packet.
    pub end: u32,
}

/// What has passed on the links of hosts.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the run began, on the kernel's wall clock.
    start: Duration,
    counted: BTreeMap<Passed, Counted>,
    /// By host whose link it is, and both ends.
    flows: BTreeMap<(String, SocketAddr, SocketAddr), Flow>,
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run begins at this time on the kernel's wall clock.
    pub fn begin(&self, start: Duration) {
        self.state().start = start;
    }

    /// A frame has passed on the link of a host, one of `hosts`.
    pub fn note(&self, host: &str, hosts: &[&str], at: Duration, frame: &[u8]) {
        let Some(packet) = Packet::of_frame(frame) else {
            return;
        };
        let named = |address: IpAddr| {
            let mut numbered = (1..).zip(hosts);
            let found = numbered.find(|(number, _)| is_of_host(address, *number));
            found.map(|(_, host)| *host)
        };
        let is_sent = named(packet.from.ip()) == Some(host);
        let peer = named(if is_sent {
            packet.to.ip()
        } else {
            packet.from.ip()
        });
        let mut state = self.state();
        let key = (host.to_owned(), packet.from, packet.to);
        let flow = state.flows.get(&key).copied();
        let kinds = kinds(&packet, flow);
        let at = at.saturating_sub(state.start);
        for peer in [None].into_iter().chain(peer.map(Some)) {
            for kind in &kinds {
                let passed = Passed {
                    host: host.to_owned(),
                    is_sent,
                    peer: peer.map(str::to_owned),
                    kind: (*kind).to_owned(),
                };
                let counted = state.counted.entry(passed).or_insert(Counted {
                    count: 0,
                    first: at,
                    last: at,
                });
                counted.count += 1;
                counted.last = at;
            }
        }
        let end = match flow {
            // A new connection of the same ends begins anew.
            Some(flow) if !packet.has(SYN) => latest(flow.end, packet.end()),
            _ => packet.end(),
        };
        if !packet.has(RST) || flow.is_none() {
            state.flows.insert(key, Flow { last: packet, end });
        }
    }

    /// The last flow on a host's link that it sent to an address, or got from there, and
    /// that has a port at one end: sent and received.
    pub fn flow(&self, host: &str, own: IpAddr, peer: IpAddr, port: u16) -> Option<(Flow, Flow)> {
        let state = self.state();
        let mut flows = state.flows.iter().rev();
        flows.find_map(|((of, from, to), sent)| {
            let is_it = of == host
                && from.ip() == own
                && to.ip() == peer
                && (port == 0 || from.port() == port || to.port() == port);
            let other = (host.to_owned(), *to, *from);
            is_it.then(|| Some((*sent, *state.flows.get(&other)?)))?
        })
    }

    /// All that was counted; nothing where nothing was looked at.
    pub fn observe(&self, to: &mut Observations) {
        let state = self.state();
        for (passed, counted) in &state.counted {
            to.insert(passed.to_string(), counted.count.into());
            for (name, time) in [("first_ms", counted.first), ("last_ms", counted.last)] {
                let ms = (time.as_secs_f64() * 1e6).round() / 1e3;
                to.insert(format!("{passed}.{name}"), Value::Number(ms));
            }
        }
    }
}

/// The later one of two sequence numbers, which wrap.
fn latest(one: u32, other: u32) -> u32 {
    if other.wrapping_sub(one).cast_signed() > 0 {
        other
    } else {
        one
    }
}

fn kinds(packet: &Packet, flow: Option<Flow>) -> Vec<&'static str> {
    let flow = flow.filter(|_| !packet.has(SYN) || packet.has(RST));
    let again = flow.is_some_and(|flow| latest(flow.end, packet.end()) == flow.end);
    // One byte before what is next, or none: asks for an acknowledgment.
    let is_probe = flow.is_some_and(|flow| {
        packet.payload <= 1
            && packet.seq == flow.end.wrapping_sub(1)
            && !packet.has(SYN | FIN | RST)
    });
    let carries = packet.payload > 0 || packet.has(FIN);
    let is_pure_ack = packet.payload == 0 && !packet.has(SYN | FIN | RST);
    let mut kinds = vec!["all"];
    for (kind, is_it) in [
        ("SYN", packet.has(SYN)),
        ("FIN", packet.has(FIN)),
        ("RST", packet.has(RST)),
        ("PSH", packet.has(PSH)),
        ("data", packet.payload > 0),
        ("pure_ACK", is_pure_ack && !is_probe),
        ("retransmissions", carries && again && !is_probe),
        ("zero_windows", packet.window == 0 && !packet.has(SYN | RST)),
        ("probes", is_probe),
    ] {
        if is_it {
            kinds.push(kind);
        }
    }
    kinds
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::observation::PACKET_KINDS;

    /// A frame from 10.0.1.2:40000 to 10.0.2.2:7000.
    pub fn frame(flags: u8, seq: u32, ack: u32, payload: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((40 + payload).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend([10, 0, 1, 2, 10, 0, 2, 2]);
        frame.extend(40000_u16.to_be_bytes());
        frame.extend(7000_u16.to_be_bytes());
        frame.extend(seq.to_be_bytes());
        frame.extend(ack.to_be_bytes());
        frame.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        frame.extend(vec![0; payload.into()]);
        frame
    }

    fn observed(frames: &[Vec<u8>]) -> Observations {
        let ledger = Ledger::default();
        ledger.begin(Duration::from_secs(10));
        for (frame, second) in frames.iter().zip(11..) {
            let at = Duration::from_secs(second);
            ledger.note("client", &["client", "server"], at, frame);
        }
        let mut seen = Observations::new();
        ledger.observe(&mut seen);
        seen
    }

    #[test]
    fn packets_are_counted_by_what_they_are() {
        const ACK: u8 = 16;
        let seen = observed(&[
            frame(SYN, 100, 0, 0),
            frame(ACK, 101, 1, 50),
            frame(ACK, 151, 1, 50),
            frame(ACK, 101, 1, 50),
            // Asks whether somebody is there.
            frame(ACK, 200, 1, 0),
            frame(ACK, 201, 1, 0),
            frame(ACK | FIN, 201, 1, 0),
            frame(ACK | FIN, 201, 1, 0),
            frame(ACK | RST, 202, 1, 0),
        ]);
        let count = |kind: &str| match seen.get(&format!("client.packets.to.server.{kind}")) {
            Some(Value::Integer(count)) => *count,
            _ => 0,
        };
        let counts = PACKET_KINDS.iter().map(|kind| (*kind, count(kind)));
        let expected = [
            ("all", 9),
            ("SYN", 1),
            ("FIN", 2),
            ("RST", 1),
            ("PSH", 0),
            ("data", 3),
            ("pure_ACK", 1),
            ("retransmissions", 2),
            ("zero_windows", 0),
            ("probes", 1),
        ];
        assert_eq!(counts.collect::<Vec<_>>(), expected);
        let at = |name: &str| {
            seen[&format!("client.packets.sent.{name}")]
                .as_f64()
                .unwrap()
        };
        assert_eq!((at("FIN.first_ms"), at("FIN.last_ms")), (7000.0, 8000.0));
        assert!(!seen.keys().any(|name| name.contains("received")));
    }

    #[test]
    fn what_is_no_tcp_is_passed_over() {
        let whole = frame(16, 1, 1, 10);
        for length in 0..50 {
            assert_eq!(Packet::of_frame(&whole[..length]), None, "{length}");
        }
        let mut udp = whole.clone();
        udp[23] = 17;
        assert_eq!(Packet::of_frame(&udp), None);
        // Of a long one only the beginning is kept.
        assert_eq!(Packet::of_frame(&whole[..54]).unwrap().payload, 10);
    }
}
