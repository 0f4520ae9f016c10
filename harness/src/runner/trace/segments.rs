//! Segments from the captures of a run: what left one host is found where it arrives, and
//! what follows alike is one segment.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use advisor_report::trace::{Call, Points, Segment, Series, TracedHost};

use super::thinned;
use crate::runner::capture::Captured;

/// Segments of a trace at most: those of the start, and those of the end.
const MOST_AT_START: usize = 110;
const MOST_AT_END: usize = 50;

/// More connections than these are told as one.
const MOST_CONNECTIONS: usize = 4;

/// Segments alike that are this far apart are told one by one, in microseconds.
const PAUSE_US: u64 = 150_000;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PUSH: u8 = 8;
const ACK: u8 = 16;

/// A TCP segment as one host's capture has it.
#[derive(Clone, Copy, Debug)]
struct Packet {
    at_us: u64,
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    flags: u8,
    sequence: u32,
    acknowledged: u32,
    window: u16,
    /// Of a SYN.
    scale: Option<u8>,
    bytes: u32,
    /// What tells it from others like it: its number in IPv4, its timestamp.
    mark: (u16, u32),
}

/// A segment that was sent, received, or both.
#[derive(Clone, Copy, Debug)]
struct Frame {
    packet: Packet,
    sent_us: Option<u64>,
    received_us: Option<u64>,
    on_its_way: bool,
}

/// All segments of a run, in the order in which they are first seen.
pub(super) struct Frames<'a> {
    all: Vec<Frame>,
    left_out: u64,
    hosts: &'a [TracedHost],
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The TCP segment in an Ethernet frame; nothing where it is something else.
fn packet(frame: &[u8], at_us: u64) -> Option<Packet> {
    let ip = frame.get(14..)?;
    let (source, destination, tcp, length, number) = match be16(frame, 12)? {
        0x0800 => {
            let header = usize::from(ip.first()? & 15) * 4;
            let is_later_fragment = be16(ip, 6)? & 0x1fff != 0;
            if *ip.get(9)? != 6 || is_later_fragment {
                return None;
            }
            let address = |at: usize| -> Option<IpAddr> {
                Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?))
            };
            let length = usize::from(be16(ip, 2)?).checked_sub(header)?;
            (
                address(12)?,
                address(16)?,
                ip.get(header..)?,
                length,
                be16(ip, 4)?,
            )
        }
        0x86dd => {
            if *ip.get(6)? != 6 {
                return None;
            }
            let address = |at: usize| -> Option<IpAddr> {
                let address = <[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?;
                Some(IpAddr::from(address))
            };
            (
                address(8)?,
                address(24)?,
                ip.get(40..)?,
                usize::from(be16(ip, 4)?),
                0,
            )
        }
        _ => return None,
    };
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    let (scale, timestamp) = options(tcp.get(20..header.min(tcp.len()))?);
    Some(Packet {
        at_us,
        from: (source.to_canonical(), be16(tcp, 0)?),
        to: (destination.to_canonical(), be16(tcp, 2)?),
        flags: *tcp.get(13)?,
        sequence: be32(tcp, 4)?,
        acknowledged: be32(tcp, 8)?,
        window: be16(tcp, 14)?,
        scale,
        bytes: u32::try_from(length.checked_sub(header)?).ok()?,
        mark: (number, timestamp),
    })
}

/// The window scale and the timestamp among TCP's options.
fn options(mut options: &[u8]) -> (Option<u8>, u32) {
    let (mut scale, mut timestamp) = (None, 0);
    while let Some(kind) = options.first() {
        let length = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(options.get(1).copied().unwrap_or(0)),
        };
        if length == 0 || length > options.len() {
            break;
        }
        match (kind, length) {
            (3, 3) => scale = Some(options[2].min(14)),
            (8, 10) => timestamp = be32(options, 2).unwrap_or(0),
            _ => {}
        }
        options = &options[length..];
    }
    (scale, timestamp)
}

/// The TCP segments of a pcap file, as `Capture` writes it.
fn packets(pcap: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut rest = pcap.get(24..).unwrap_or_default();
    let number = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    while let (Some(seconds), Some(ns), Some(kept)) =
        (number(rest, 0), number(rest, 4), number(rest, 8))
    {
        let end = 16 + usize::try_from(kept).unwrap_or(usize::MAX - 16);
        let Some(frame) = rest.get(16..end) else {
            break;
        };
        let at_us = u64::from(seconds) * 1_000_000 + u64::from(ns) / 1000;
        packets.extend(packet(frame, at_us));
        rest = &rest[end..];
    }
    packets
}

/// What a segment is recognised by where it arrives. Its addresses are left out: a router
/// may change them.
type Likeness = (u8, u32, u32, u32, u16, (u16, u32));

fn likeness(packet: &Packet) -> Likeness {
    let Packet {
        flags,
        sequence,
        acknowledged,
        bytes,
        window,
        mark,
        ..
    } = *packet;
    (flags, sequence, acknowledged, bytes, window, mark)
}

/// Reads the captures of a run.
pub(super) fn read<'a>(captured: &[Captured], hosts: &'a [TracedHost]) -> Frames<'a> {
    let address = |name: &str| -> Option<IpAddr> {
        let host = hosts.iter().find(|host| host.name == name)?;
        host.address.parse().ok()
    };
    let mut left_out = 0;
    let mut sent = Vec::new();
    let mut arrived = Vec::new();
    let mut end_us = u64::MAX;
    for capture in captured {
        let Some(own) = address(capture.host) else {
            continue;
        };
        let all = packets(capture.pcap);
        if capture.left_out > 0 {
            left_out += capture.left_out;
            // Later ones would look lost.
            end_us = end_us.min(all.last().map_or(0, |packet| packet.at_us));
        }
        for packet in all {
            let is_sent = packet.from.0 == own;
            if is_sent { &mut sent } else { &mut arrived }.push(packet);
        }
    }
    let mut waiting: HashMap<Likeness, VecDeque<usize>> = HashMap::new();
    let mut frames = Vec::new();
    for packet in sent.into_iter().filter(|packet| packet.at_us <= end_us) {
        waiting
            .entry(likeness(&packet))
            .or_default()
            .push_back(frames.len());
        frames.push(Frame {
            packet,
            sent_us: Some(packet.at_us),
            received_us: None,
            on_its_way: false,
        });
    }
    arrived.sort_by_key(|packet| packet.at_us);
    for packet in arrived.into_iter().filter(|packet| packet.at_us <= end_us) {
        let queue = waiting.get_mut(&likeness(&packet));
        match queue.and_then(VecDeque::pop_front) {
            Some(place) => frames[place].received_us = Some(packet.at_us),
            None => frames.push(Frame {
                packet,
                sent_us: None,
                received_us: Some(packet.at_us),
                on_its_way: false,
            }),
        }
    }
    frames.sort_by_key(|frame| frame.packet.at_us);
    find_those_on_their_way(&mut frames);
    Frames {
        all: frames,
        left_out,
        hosts,
    }
}

/// Marks what had not arrived only because the run ended: nothing that was sent later on
/// the same way arrived, and others took as long.
fn find_those_on_their_way(frames: &mut [Frame]) {
    let way = |frame: &Frame| (frame.packet.from.0, frame.packet.to.0);
    let mut end_us = 0;
    // For each way, when the last that arrived was sent, and the longest time that one took.
    let mut known: BTreeMap<(IpAddr, IpAddr), (u64, u64)> = BTreeMap::new();
    for frame in frames.iter() {
        end_us = end_us
            .max(frame.packet.at_us)
            .max(frame.received_us.unwrap_or(0));
        if let (Some(sent), Some(received)) = (frame.sent_us, frame.received_us) {
            let (last, longest) = known.entry(way(frame)).or_default();
            *last = sent.max(*last);
            *longest = received.saturating_sub(sent).max(*longest);
        }
    }
    for frame in frames {
        if let (Some(sent), None) = (frame.sent_us, frame.received_us)
            && let Some((last, longest)) = known.get(&way(frame))
        {
            frame.on_its_way = sent > *last && end_us.saturating_sub(sent) <= *longest;
        }
    }
}

/// What many in a row are told as one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Data,
    Acknowledgement,
    /// To a peer that has not heard yet: one for each segment that it still sends.
    Reset,
}

impl Kind {
    fn of(segment: &Segment) -> Option<Self> {
        if segment.again || segment.sent_us.is_none() {
            return None;
        }
        match segment.flags.as_str() {
            "R" | "RA" => Some(Self::Reset),
            "A" | "PA" | "P" if segment.bytes() > 0 => Some(Self::Data),
            "A" => Some(Self::Acknowledgement),
            _ => None,
        }
    }
}

/// What is known of one direction of a connection.
#[derive(Default)]
struct Direction {
    /// The first number that was seen.
    base: Option<u32>,
    /// The highest number after a byte that was sent.
    sent: u64,
    /// The highest number that the other side has acknowledged, as the sender heard.
    acknowledged: u64,
    scale: Option<u8>,
    was_reset: bool,
    in_flight: Vec<(u64, i64)>,
    windows: Vec<(u64, i64)>,
    /// The segments that the next may be one with, by what they are and whether they
    /// arrived.
    open: BTreeMap<(Kind, bool), usize>,
}

impl Direction {
    /// A number as it counts from the first.
    fn count(&mut self, number: u32) -> u64 {
        let base = *self.base.get_or_insert(number);
        // Half of all numbers are before it: of an old connection.
        let since = number.wrapping_sub(base);
        if since > u32::MAX / 2 {
            0
        } else {
            since.into()
        }
    }
}

type Ends = ((IpAddr, u16), (IpAddr, u16));

impl Frames<'_> {
    /// When the first segment is seen, since 1970.
    pub(super) fn first_us(&self) -> Option<u64> {
        self.all.first().map(|frame| frame.packet.at_us)
    }

    fn name(&self, address: IpAddr) -> String {
        let text = address.to_string();
        let mut hosts = self.hosts.iter();
        let host = hosts.find(|host| host.address == text);
        host.map_or(text, |host| host.name.clone())
    }

    /// The segments with those alike as one, the queues, and how many packets are left
    /// out. A call that begins or ends divides what is alike.
    pub(super) fn condense(
        &self,
        zero_us: u64,
        calls: &[Call],
    ) -> (Vec<Segment>, Vec<Series>, u64) {
        let since = |at_us: u64| at_us.saturating_sub(zero_us);
        let ends = calls.iter().filter_map(|call| call.end_us);
        let borders: BTreeSet<u64> = calls.iter().map(|call| call.start_us).chain(ends).collect();
        let connections: BTreeSet<_> = self
            .all
            .iter()
            .map(|frame| {
                let (from, to) = (frame.packet.from, frame.packet.to);
                (from.min(to), from.max(to))
            })
            .collect();
        let crowd = connections.len() > MOST_CONNECTIONS;
        let mut directions: BTreeMap<Ends, Direction> = BTreeMap::new();
        let mut segments: Vec<Segment> = Vec::new();
        // When the last packet of each segment was seen.
        let mut last_us: Vec<u64> = Vec::new();
        for frame in &self.all {
            let packet = &frame.packet;
            let at_us = since(packet.at_us);
            let segment = self.segment(frame, zero_us, &mut directions);
            let there = (packet.from, packet.to);
            let back = (packet.to, packet.from);
            // Of a crowd whatever is alike is one, of whichever connection.
            let kind = Kind::of(&segment).map(|kind| (kind, segment.received_us.is_none()));
            let known = if crowd {
                segments.len().checked_sub(1)
            } else {
                let open = directions.get(&there).map(|direction| &direction.open);
                kind.and_then(|kind| open?.get(&kind).copied())
            };
            let joined = known.filter(|place| {
                let is_divided = borders.range(last_us[*place]..=at_us).next().is_some();
                let is_near = at_us.saturating_sub(last_us[*place]) < PAUSE_US;
                !is_divided && is_near && are_alike(&segments[*place], &segment, crowd)
            });
            if let Some(place) = joined {
                join(&mut segments[place], &segment, crowd);
                last_us[place] = at_us;
                continue;
            }
            // Acknowledgements may stand between data, and both between resets after the
            // first; whatever else happens ends what came before.
            let was_reset = directions
                .get(&there)
                .is_some_and(|direction| direction.was_reset);
            let ends = match kind {
                Some((Kind::Acknowledgement, _)) => [false, false],
                Some((Kind::Data, _)) => [false, true],
                Some((Kind::Reset, _)) if was_reset => [false, false],
                _ => [true, true],
            };
            for (end, ends) in [there, back].iter().zip(ends) {
                if let Some(direction) = directions.get_mut(end).filter(|_| ends) {
                    direction.open.clear();
                }
            }
            if let (Some(direction), Some(kind)) = (directions.get_mut(&there), kind) {
                direction.was_reset |= kind.0 == Kind::Reset;
                direction.open.insert(kind, segments.len());
            }
            segments.push(segment);
            last_us.push(at_us);
        }
        let mut left_out = self.left_out;
        if segments.len() > MOST_AT_START + MOST_AT_END {
            let gone = segments.drain(MOST_AT_START..segments.len() - MOST_AT_END);
            left_out += gone.map(|segment| segment.count).sum::<u64>();
        }
        let series = if crowd {
            Vec::new()
        } else {
            self.series(directions)
        };
        (segments, series, left_out)
    }

    /// A segment with numbers that count from the first of its direction.
    fn segment(
        &self,
        frame: &Frame,
        zero_us: u64,
        directions: &mut BTreeMap<Ends, Direction>,
    ) -> Segment {
        let packet = &frame.packet;
        let since = |at_us: u64| at_us.saturating_sub(zero_us);
        let is_ack = packet.flags & ACK != 0;
        let back = directions.entry((packet.to, packet.from)).or_default();
        let acknowledged = is_ack.then(|| back.count(packet.acknowledged));
        if let (Some(acknowledged), Some(received_us)) = (acknowledged, frame.received_us)
            && acknowledged > back.acknowledged
        {
            back.acknowledged = acknowledged;
            let left = back.sent.saturating_sub(acknowledged);
            let at = since(received_us);
            back.in_flight.push((at, i64::try_from(left).unwrap_or(0)));
        }
        let scale_of_peer = back.scale;
        let there = directions.entry((packet.from, packet.to)).or_default();
        // A reset without ACK may carry any number.
        let sequence = there.count(packet.sequence);
        let takes = u64::from(packet.bytes)
            + u64::from(packet.flags & SYN != 0)
            + u64::from(packet.flags & FIN != 0);
        let after = sequence + takes;
        let again = takes > 0 && after <= there.sent;
        if after > there.sent && packet.flags & RST == 0 {
            there.sent = after;
            let left = after.saturating_sub(there.acknowledged);
            let left = i64::try_from(left).unwrap_or(0);
            there.in_flight.push((since(packet.at_us), left));
        }
        if let Some(scale) = packet.scale {
            there.scale = Some(scale);
        }
        // Both sides have to offer it; that of a SYN is never scaled.
        let shift = match (there.scale, scale_of_peer, packet.flags & SYN) {
            (Some(scale), Some(_), 0) => scale,
            _ => 0,
        };
        let window = u64::from(packet.window) << shift;
        if packet.flags & RST == 0 {
            let seen = i64::try_from(window).unwrap_or(0);
            there.windows.push((since(packet.at_us), seen));
        }
        let first = sequence + u64::from(packet.flags & SYN != 0);
        let letters = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PUSH, 'P'), (ACK, 'A')];
        let flags = letters.iter().filter(|(flag, _)| packet.flags & flag != 0);
        Segment {
            sent_us: frame.sent_us.map(since),
            received_us: frame.received_us.map(since),
            from: self.name(packet.from.0),
            from_port: packet.from.1,
            to: self.name(packet.to.0),
            to_port: packet.to.1,
            flags: flags.map(|(_, letter)| *letter).collect(),
            sequence: first,
            next_sequence: first + u64::from(packet.bytes),
            acknowledged,
            window,
            count: 1,
            again,
            on_its_way: frame.on_its_way,
        }
    }

    /// What was in flight, and the windows that came to nothing.
    fn series(&self, directions: BTreeMap<Ends, Direction>) -> Vec<Series> {
        /// Less is no queue: a FIN, a greeting.
        const LEAST: i64 = 1000;
        let mut series = Vec::new();
        let several = directions.len() > 2;
        for ((from, to), direction) in directions {
            let (from, to) = ((self.name(from.0), from.1), (self.name(to.0), to.1));
            let which = if several {
                format!("{}:{} to {}:{}", from.0, from.1, to.0, to.1)
            } else {
                format!("{} to {}", from.0, to.0)
            };
            let mut add = |name: String, points: Vec<(u64, i64)>| {
                series.push(Series {
                    name,
                    unit: "bytes".to_owned(),
                    points: Points(thinned(points)),
                });
            };
            let most = direction.in_flight.iter().map(|(_, bytes)| *bytes).max();
            if most.is_some_and(|most| most >= LEAST) {
                add(
                    format!("{which}: sent, not acknowledged"),
                    direction.in_flight.clone(),
                );
            }
            if direction.windows.iter().any(|(_, bytes)| *bytes == 0) {
                add(
                    format!("window that {} offers", from.0),
                    direction.windows.clone(),
                );
            }
        }
        series
    }
}

/// Whether two segments are told as one.
fn are_alike(one: &Segment, next: &Segment, crowd: bool) -> bool {
    let has_data = |segment: &Segment| segment.bytes() > 0;
    let plain_flags = |segment: &Segment| segment.flags.replace('P', "");
    let same = one.from == next.from
        && one.to == next.to
        && one.is_lost() == next.is_lost()
        && one.on_its_way == next.on_its_way
        && one.sent_us.is_some() == next.sent_us.is_some()
        && one.again == next.again
        && plain_flags(one) == plain_flags(next)
        && has_data(one) == has_data(next)
        && (one.window == 0) == (next.window == 0);
    if crowd {
        return same;
    }
    same && (!has_data(one) || one.next_sequence == next.sequence)
}

/// Adds a segment to one that is like it.
fn join(one: &mut Segment, next: &Segment, crowd: bool) {
    one.count += next.count;
    one.received_us = next.received_us.or(one.received_us);
    one.window = next.window;
    if crowd {
        // Of several connections: only the bytes can be added.
        one.next_sequence += next.bytes();
    } else {
        // A reset has whatever number it needs.
        if next.bytes() > 0 {
            one.next_sequence = one.next_sequence.max(next.next_sequence);
        }
        one.acknowledged = next.acknowledged.max(one.acknowledged);
    }
    if next.has('P') && !one.has('P') {
        one.flags.clone_from(&next.flags);
    }
}

#[cfg(test)]
pub(in crate::runner) mod tests;
