//! TCP segments over IPv4 as Ethernet frames, and answers to ARP.

use std::net::{Ipv4Addr, SocketAddrV4};

/// A device's address.
pub type Mac = [u8; 6];

/// FIN of the TCP header.
pub const FIN: u8 = 0x01;
/// SYN of the TCP header.
pub const SYN: u8 = 0x02;
/// RST of the TCP header.
pub const RST: u8 = 0x04;
/// PSH of the TCP header.
pub const PSH: u8 = 0x08;
/// ACK of the TCP header.
pub const ACK: u8 = 0x10;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const TCP_LEN: usize = 20;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const TCP: u8 = 6;
const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_SCALE: u8 = 3;
const OPTION_TIMESTAMPS: u8 = 8;

/// A TCP segment. Its data are zeros: only their number matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// Whom it is for.
    pub to: SocketAddrV4,
    /// The number of its first byte.
    pub sequence: u32,
    /// The next byte that its sender expects.
    pub acknowledges: u32,
    /// [`SYN`] and the others.
    pub flags: u8,
    /// The window as it stands in the header, not scaled.
    pub window: u16,
    /// The largest segment that its sender takes; of a SYN.
    pub mss: Option<u16>,
    /// The scale of its sender's windows; of a SYN.
    pub scale: Option<u8>,
    /// TSval and TSecr (RFC 7323).
    pub timestamps: Option<(u32, u32)>,
    /// Bytes of data.
    pub length: u32,
}

impl Segment {
    /// Whether a flag is set.
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The TCP segment in a frame; `None` where it is something else.
    pub fn decode(frame: &[u8]) -> Option<Self> {
        if frame.get(12..14)? != ETHERTYPE_IPV4 {
            return None;
        }
        let packet = frame.get(ETHERNET_LEN..)?;
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let total = usize::from(word(packet, 2)?);
        if *packet.get(9)? != TCP {
            return None;
        }
        let address = |at: usize| -> Option<Ipv4Addr> {
            Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into())
        };
        // What was received may be its beginning only.
        let tcp = packet.get(header..)?;
        let offset = usize::from(tcp.get(12)? >> 4) * 4;
        let mut segment = Self {
            from: SocketAddrV4::new(address(12)?, word(tcp, 0)?),
            to: SocketAddrV4::new(address(16)?, word(tcp, 2)?),
            sequence: double(tcp, 4)?,
            acknowledges: double(tcp, 8)?,
            flags: *tcp.get(13)?,
            window: word(tcp, 14)?,
            mss: None,
            scale: None,
            timestamps: None,
            length: u32::try_from(total.checked_sub(header + offset)?).ok()?,
        };
        segment.read_options(tcp.get(TCP_LEN..offset)?);
        Some(segment)
    }

    fn read_options(&mut self, mut options: &[u8]) {
        while let [kind, rest @ ..] = options {
            if *kind == OPTION_END {
                return;
            }
            if *kind == OPTION_NOTHING {
                options = rest;
                continue;
            }
            let length = rest.first().map_or(0, |length| usize::from(*length));
            let Some(body) = options.get(2..length) else {
                return;
            };
            match *kind {
                OPTION_MSS => self.mss = word(body, 0),
                OPTION_SCALE => self.scale = body.first().copied(),
                OPTION_TIMESTAMPS => self.timestamps = double(body, 0).zip(double(body, 4)),
                _ => {}
            }
            options = &options[length..];
        }
    }

    /// The frame that carries it.
    pub fn encode(&self, from: Mac, to: Mac) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(mss) = self.mss {
            options.extend([OPTION_MSS, 4]);
            options.extend(mss.to_be_bytes());
        }
        if let Some(scale) = self.scale {
            options.extend([OPTION_NOTHING, OPTION_SCALE, 3, scale]);
        }
        if let Some((value, echo)) = self.timestamps {
            options.extend([OPTION_NOTHING, OPTION_NOTHING, OPTION_TIMESTAMPS, 10]);
            options.extend(value.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        let length = self.length as usize;
        let tcp_length = TCP_LEN + options.len() + length;
        let mut frame = Vec::with_capacity(ETHERNET_LEN + IPV4_LEN + tcp_length);
        frame.extend(to);
        frame.extend(from);
        frame.extend(ETHERTYPE_IPV4);
        // Version and length, no service, the whole length; no fragment; TTL 64.
        frame.extend([0x45, 0]);
        frame.extend(low_half(IPV4_LEN + tcp_length).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, TCP, 0, 0]);
        frame.extend(self.from.ip().octets());
        frame.extend(self.to.ip().octets());
        let sum = checksum(&frame[ETHERNET_LEN..], 0);
        frame[ETHERNET_LEN + 10..ETHERNET_LEN + 12].copy_from_slice(&sum.to_be_bytes());
        let start = frame.len();
        frame.extend(self.from.port().to_be_bytes());
        frame.extend(self.to.port().to_be_bytes());
        frame.extend(self.sequence.to_be_bytes());
        frame.extend(self.acknowledges.to_be_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "at most 60 bytes")]
        frame.push((((TCP_LEN + options.len()) / 4) as u8) << 4);
        frame.push(self.flags);
        frame.extend(self.window.to_be_bytes());
        frame.extend([0, 0, 0, 0]);
        frame.extend(options);
        let pseudo = u32::from(TCP) + u32::from(low_half(tcp_length));
        let addresses = sum_of(&self.from.ip().octets()) + sum_of(&self.to.ip().octets());
        // The data are zeros and add nothing.
        let sum = checksum(&frame[start..], pseudo + addresses);
        frame[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
        frame.resize(frame.len() + length, 0);
        frame
    }
}

/// The answer to an ARP request for any address of the subnet that has these first three
/// octets; `None` where the frame is something else, or asks for the router's.
pub fn answer_arp(frame: &[u8], subnet: [u8; 3], own: Mac) -> Option<Vec<u8>> {
    let request = frame.get(ETHERNET_LEN..ETHERNET_LEN + 28)?;
    let is_request = frame.get(12..14)? == ETHERTYPE_ARP && request[7] == 1;
    let wanted = &request[24..28];
    if !is_request || wanted[..3] != subnet || wanted[3] == 1 {
        return None;
    }
    let mut answer = Vec::with_capacity(ETHERNET_LEN + 28);
    answer.extend(&request[8..14]);
    answer.extend(own);
    answer.extend(ETHERTYPE_ARP);
    answer.extend(&request[..7]);
    answer.push(2);
    answer.extend(own);
    answer.extend(wanted);
    answer.extend(&request[8..18]);
    Some(answer)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn double(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A length that fits into its field: a frame is at most 64 KiB.
fn low_half(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn sum_of(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

/// The checksum of the Internet (RFC 1071).
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start + sum_of(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits above")]
    let sum = sum as u16;
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Segment {
        Segment {
            from: "10.0.2.2:9000".parse().unwrap(),
            to: "10.0.1.2:40000".parse().unwrap(),
            sequence: 0xffff_fff0,
            acknowledges: 7,
            flags: SYN | ACK,
            window: 1234,
            mss: Some(1460),
            scale: Some(7),
            timestamps: Some((5, 6)),
            length: 3,
        }
    }

    #[test]
    fn a_segment_comes_out_of_its_frame_as_it_went_in() {
        let frame = segment().encode([1; 6], [2; 6]);
        assert_eq!(Segment::decode(&frame), Some(segment()));
        let ip = &frame[ETHERNET_LEN..ETHERNET_LEN + IPV4_LEN];
        assert_eq!(checksum(ip, 0), 0);
        let tcp = &frame[ETHERNET_LEN + IPV4_LEN..];
        let pseudo = 6 + u32::try_from(tcp.len()).unwrap() + sum_of(&ip[12..20]);
        assert_eq!(checksum(tcp, pseudo), 0);
    }

    #[test]
    fn headers_that_are_cut_short_are_no_segment_and_data_may_be() {
        let frame = segment().encode([1; 6], [2; 6]);
        let headers = frame.len() - 3;
        for length in 0..headers {
            assert_eq!(Segment::decode(&frame[..length]), None, "{length}");
        }
        for length in headers..=frame.len() {
            assert_eq!(Segment::decode(&frame[..length]), Some(segment()));
        }
    }

    #[test]
    fn arp_is_answered_for_every_peer_and_not_for_the_router() {
        let request = |last: u8| {
            let mut frame = vec![0xff; 6];
            frame.extend([9; 6]);
            frame.extend(ETHERTYPE_ARP);
            frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend([9, 9, 9, 9, 9, 9, 10, 0, 2, 1]);
            frame.extend([0, 0, 0, 0, 0, 0, 10, 0, 2, last]);
            frame
        };
        let answer = answer_arp(&request(77), [10, 0, 2], [4; 6]).unwrap();
        assert_eq!(answer[..12], [9, 9, 9, 9, 9, 9, 4, 4, 4, 4, 4, 4]);
        assert_eq!(answer[28..32], [10, 0, 2, 77]);
        assert_eq!(answer_arp(&request(1), [10, 0, 2], [4; 6]), None);
        assert_eq!(answer_arp(&request(77), [10, 0, 3], [4; 6]), None);
    }
}
