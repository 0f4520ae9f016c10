//! Packets that no host sent: made to fit a connection, and put on the link of a host.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// A TCP segment without payload.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Whom it says that it is from.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// The flags of the TCP header.
    pub flags: u8,
    /// Its sequence number.
    pub seq: u32,
    /// What it acknowledges.
    pub ack: u32,
}

/// An ICMP error about a TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Complaint {
    /// Who says that it can't pass it on.
    pub from: IpAddr,
    /// The type and code of ICMP, or of ICMPv6.
    pub kind: (u8, u8),
    /// The largest packet, where that is what it is about.
    pub mtu: u32,
    /// The segment.
    pub about: Segment,
}

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

impl Segment {
    /// The IP packet.
    pub fn packet(&self) -> io::Result<Vec<u8>> {
        let mut tcp = Vec::with_capacity(20);
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        // 20 bytes of header, and a window of 8 KiB unscaled.
        tcp.extend([0x50, self.flags, 0x20, 0, 0, 0, 0, 0]);
        let (from, to) = (self.from.ip(), self.to.ip());
        let sum = checksum(&[&pseudo_header(from, to, TCP, tcp.len())?, &tcp]);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        ip_packet(from, to, TCP, &tcp)
    }
}

impl Complaint {
    /// The IP packet: it quotes the beginning of the segment, as RFC 792 and RFC 4443 say.
    pub fn packet(&self) -> io::Result<Vec<u8>> {
        let quoted = self.about.packet()?;
        let to = self.about.from.ip();
        let (kind, code) = self.kind;
        let mut icmp = vec![kind, code, 0, 0];
        icmp.extend(self.mtu.to_be_bytes());
        icmp.extend(&quoted);
        let protocol = if to.is_ipv4() { ICMP } else { ICMPV6 };
        let sum = if to.is_ipv4() {
            checksum(&[&icmp])
        } else {
            checksum(&[&pseudo_header(self.from, to, protocol, icmp.len())?, &icmp])
        };
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        ip_packet(self.from, to, protocol, &icmp)
    }
}

fn families_differ() -> io::Error {
    io::Error::from_raw_os_error(libc::EAFNOSUPPORT)
}

fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> io::Result<Vec<u8>> {
    let length = u32::try_from(length).unwrap_or(0).to_be_bytes();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok([
            &from.octets()[..],
            &to.octets(),
            &[0, protocol],
            &length[2..],
        ]
        .concat()),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ok([
            &from.octets()[..],
            &to.octets(),
            &length,
            &[0, 0, 0, protocol],
        ]
        .concat()),
        _ => Err(families_differ()),
    }
}

fn ip_packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = |header: usize| {
        let length = u16::try_from(header + payload.len());
        length.map_err(|_| io::Error::from_raw_os_error(libc::EMSGSIZE))
    };
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend(length(20)?.to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length(0)?.to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        _ => return Err(families_differ()),
    };
    packet.extend(payload);
    Ok(packet)
}

/// The checksum of RFC 1071 over parts, of which all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::packets::Packet;
    use super::*;

    #[test]
    fn a_segment_is_read_as_it_was_made() {
        for (from, to) in [
            ("10.0.2.2:7000", "10.0.1.2:40000"),
            ("[fd00:2::2]:7000", "[fd00:1::2]:40000"),
        ] {
            let segment = Segment {
                from: from.parse().unwrap(),
                to: to.parse().unwrap(),
                flags: 4,
                seq: 7,
                ack: 9,
            };
            let packet = segment.packet().unwrap();
            let kind = if segment.from.is_ipv4() {
                [8, 0]
            } else {
                [0x86, 0xdd]
            };
            let frame = [&[0; 12][..], &kind, &packet].concat();
            let read = Packet::of_frame(&frame).unwrap();
            assert_eq!((read.from, read.to), (segment.from, segment.to));
            assert_eq!((read.flags, read.seq, read.ack, read.payload), (4, 7, 9, 0));
        }
    }

    #[test]
    fn sums_are_those_of_rfc_1071() {
        // Its example: 0001 f203 f4f5 f6f7 gives ddf2, of which the complement is sent.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&bytes]), !0xddf2);
        assert_eq!(checksum(&[&bytes[..4], &bytes[4..]]), !0xddf2);
    }

    #[test]
    fn families_are_not_mixed() {
        let segment = Segment {
            from: "10.0.2.2:7000".parse().unwrap(),
            to: "[fd00:1::2]:1".parse().unwrap(),
            flags: 4,
            seq: 0,
            ack: 0,
        };
        let error = segment.packet().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
    }
}
