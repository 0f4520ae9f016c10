//! One connection of a peer that is packets: what it answers to each segment, and what it
//! sends by itself. A pure state machine; time is given from outside.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::segment::{ACK, FIN, PSH, RST, SYN, Segment};

/// The largest segment that a peer sends and takes: Ethernet's, without options.
const MSS: u16 = 1460;
/// Bytes in a segment beside the timestamps.
const DATA: u32 = 1448;
/// The scale of a peer's windows.
const SCALE: u8 = 7;
/// Bytes on their way at most: more would overrun the queue of a device.
const MOST_IN_FLIGHT: u32 = 64 << 10;
/// The first pause before a peer sends again what was not acknowledged.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a peer sends again, and then gives up.
const MOST_TIMEOUTS: u32 = 6;
/// How often a peer that reads slowly reads.
const READ_EVERY: Duration = Duration::from_millis(100);

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manner {
    /// The size of its receive buffer, in bytes.
    pub window: u32,
    /// What it reads, in bytes a second; `None` is all at once.
    pub reads: Option<u64>,
    /// The time until the host has its answer.
    pub rtt: Duration,
    /// Whether it closes when the host has.
    pub closes: bool,
}

/// How a connection ended, as the peer saw it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Both sides closed.
    Closed,
    /// The host reset it.
    Reset,
    /// The host refused it.
    Refused,
    /// The host did not answer.
    TimedOut,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The peer called, and waits for the answer.
    Called,
    /// The host called, and the answer is on its way.
    Answered,
    Open,
}

/// A connection of a peer.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the two directions"
)]
pub struct Connection {
    manner: Manner,
    peer: SocketAddrV4,
    host: SocketAddrV4,
    state: State,
    /// How it ended.
    pub end: Option<End>,
    /// Whether it is gone without a word.
    pub vanished: bool,
    /// The first byte that the host has not acknowledged, and the next to send.
    unacknowledged: u32,
    next: u32,
    /// Bytes that are still to be sent.
    to_send: u64,
    wants_fin: bool,
    sent_fin: bool,
    /// The next byte that is expected of the host.
    expected: u32,
    /// Bytes that came, and those of them that were read.
    pub received: u64,
    read: u64,
    got_fin: bool,
    host_window: u32,
    host_scale: u8,
    scales: bool,
    host_time: Option<u32>,
    /// The window that the host knows of.
    advertised: u32,
    last_progress: Duration,
    last_read: Duration,
    timeouts: u32,
}

impl Connection {
    /// A connection that a peer asks for.
    pub fn call(
        peer: SocketAddrV4,
        host: SocketAddrV4,
        manner: Manner,
        to_send: u64,
        now: Duration,
        out: &mut Vec<Segment>,
    ) -> Self {
        let first = first_number(peer);
        let mut connection = Self::new(peer, host, manner, State::Called, now);
        connection.unacknowledged = first;
        connection.next = first;
        connection.to_send = to_send;
        connection.scales = true;
        connection.host_time = Some(0);
        connection.send_syn(now, out);
        connection
    }

    /// A connection that the host asks for by `syn`.
    pub fn answer(syn: &Segment, manner: Manner, now: Duration, out: &mut Vec<Segment>) -> Self {
        let mut connection = Self::new(syn.to, syn.from, manner, State::Answered, now);
        let first = first_number(syn.to);
        connection.unacknowledged = first;
        connection.next = first;
        connection.meet(syn);
        connection.send_syn(now, out);
        connection
    }

    fn new(
        peer: SocketAddrV4,
        host: SocketAddrV4,
        manner: Manner,
        state: State,
        now: Duration,
    ) -> Self {
        Self {
            manner,
            peer,
            host,
            state,
            end: None,
            vanished: false,
            unacknowledged: 0,
            next: 0,
            to_send: 0,
            wants_fin: false,
            sent_fin: false,
            expected: 0,
            received: 0,
            read: 0,
            got_fin: false,
            host_window: 0,
            host_scale: 0,
            scales: false,
            host_time: None,
            advertised: 0,
            last_progress: now,
            last_read: now,
            timeouts: 0,
        }
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// How long the answer is on its way.
    pub fn rtt(&self) -> Duration {
        self.manner.rtt
    }

    /// Has it send data, and where wanted close afterwards.
    pub fn send(&mut self, bytes: u64, close: bool, now: Duration, out: &mut Vec<Segment>) {
        self.to_send += bytes;
        self.wants_fin |= close;
        self.flow(now, out);
    }

    /// Has it reset the connection.
    pub fn reset(&mut self, out: &mut Vec<Segment>) {
        if self.end.is_none() && !self.vanished {
            out.push(self.segment(RST | ACK, self.next, 0, Duration::ZERO));
            self.end = Some(End::Closed);
        }
    }

    /// Takes what a SYN says.
    fn meet(&mut self, syn: &Segment) {
        self.expected = syn.sequence.wrapping_add(1);
        self.scales = syn.scale.is_some();
        self.host_scale = syn.scale.unwrap_or(0).min(14);
        self.host_time = syn.timestamps.map(|(value, _)| value);
        self.host_window = u32::from(syn.window);
    }

    /// Takes a segment of the host.
    pub fn take(&mut self, segment: &Segment, now: Duration, out: &mut Vec<Segment>) {
        if self.vanished || self.end.is_some() {
            return;
        }
        if segment.has(RST) {
            self.end = Some(if self.state == State::Called {
                End::Refused
            } else {
                End::Reset
            });
            return;
        }
        if self.state == State::Called {
            if segment.has(SYN) && segment.has(ACK) {
                self.meet(segment);
                self.next = segment.acknowledges;
                self.unacknowledged = segment.acknowledges;
                self.open(now);
                self.acknowledge(now, out);
                self.flow(now, out);
            }
            return;
        }
        if segment.has(SYN) && segment.has(ACK) {
            // Sent again: the host has not had the acknowledgement, or had no room for the
            // connection.
            self.acknowledge(now, out);
            return;
        }
        if segment.has(SYN) {
            // Sent again: the answer was lost.
            self.next = self.unacknowledged;
            self.send_syn(now, out);
            return;
        }
        if let Some((value, _)) = segment.timestamps
            && segment.length > 0
        {
            self.host_time = Some(value);
        }
        if segment.has(ACK) {
            self.take_acknowledgement(segment, now);
        }
        let has_more = segment.length > 0 || segment.has(FIN);
        if has_more {
            self.take_data(segment, now);
        }
        // A probe of a closed window has no data, and a number from before.
        let is_probe = !has_more && before(segment.sequence, self.expected);
        if has_more || is_probe {
            self.acknowledge(now, out);
        }
        self.flow(now, out);
        if self.got_fin && self.sent_fin && self.unacknowledged == self.next {
            self.end = Some(End::Closed);
        }
    }

    fn take_acknowledgement(&mut self, segment: &Segment, now: Duration) {
        self.host_window = u32::from(segment.window) << self.host_scale;
        if before(self.unacknowledged, segment.acknowledges)
            && !before(self.next, segment.acknowledges)
        {
            self.unacknowledged = segment.acknowledges;
            self.last_progress = now;
            self.timeouts = 0;
            if self.state == State::Answered {
                self.open(now);
            }
        }
    }

    fn open(&mut self, now: Duration) {
        self.state = State::Open;
        self.last_progress = now;
        self.timeouts = 0;
    }

    fn take_data(&mut self, segment: &Segment, now: Duration) {
        let old = self.expected.wrapping_sub(segment.sequence);
        // What lies beyond a gap is sent again by the host.
        if old > segment.length {
            return;
        }
        self.read_on(now);
        let fresh = segment.length - old;
        let taken = fresh.min(self.room());
        self.expected = self.expected.wrapping_add(taken);
        self.received += u64::from(taken);
        self.read_on(now);
        if segment.has(FIN) && taken == fresh && !self.got_fin {
            self.expected = self.expected.wrapping_add(1);
            self.got_fin = true;
            self.wants_fin |= self.manner.closes;
        }
    }

    /// Reads what it would have read by now.
    fn read_on(&mut self, now: Duration) {
        let unread = self.received - self.read;
        let Some(rate) = self.manner.reads else {
            self.read = self.received;
            return;
        };
        let since = now.saturating_sub(self.last_read);
        let could =
            rate.saturating_mul(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)) / 1000;
        if could > 0 || unread == 0 {
            self.last_read = now;
        }
        self.read += could.min(unread);
    }

    /// The room in its receive buffer, in bytes.
    fn room(&self) -> u32 {
        let unread = u32::try_from(self.received - self.read).unwrap_or(u32::MAX);
        self.manner.window.saturating_sub(unread)
    }

    /// Sends what may be sent now.
    fn flow(&mut self, now: Duration, out: &mut Vec<Segment>) {
        if self.state != State::Open || self.vanished || self.end.is_some() {
            return;
        }
        let allowed = self.host_window.min(MOST_IN_FLIGHT);
        while self.to_send > 0 {
            let in_flight = self.next.wrapping_sub(self.unacknowledged);
            let left = u32::try_from(self.to_send).unwrap_or(u32::MAX);
            let length = DATA.min(left).min(allowed.saturating_sub(in_flight));
            // No small segments into a window that is nearly full.
            if length == 0 || (length < DATA && length < left) {
                return;
            }
            out.push(self.segment(ACK | PSH, self.next, length, now));
            self.next = self.next.wrapping_add(length);
            self.to_send -= u64::from(length);
            if in_flight == 0 {
                self.last_progress = now;
            }
        }
        if self.wants_fin && !self.sent_fin {
            out.push(self.segment(ACK | FIN, self.next, 0, now));
            self.next = self.next.wrapping_add(1);
            self.sent_fin = true;
            self.last_progress = now;
        }
    }

    /// Does what is due by now.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Segment>) {
        if self.vanished || self.end.is_some() {
            return;
        }
        if self.reads_later() && now >= self.last_read + READ_EVERY {
            self.read_on(now);
            let room = self.room();
            if self.advertised < DATA && room >= self.manner.window.min(2 * DATA) {
                self.acknowledge(now, out);
            }
        }
        if self.waits_for_the_host() && now >= self.timeout_at() {
            self.timeouts += 1;
            self.last_progress = now;
            if self.timeouts > MOST_TIMEOUTS {
                self.end = Some(End::TimedOut);
                return;
            }
            let lost = self.next.wrapping_sub(self.unacknowledged);
            self.next = self.unacknowledged;
            if self.state != State::Open {
                self.send_syn(now, out);
                return;
            }
            self.to_send += u64::from(lost - u32::from(self.sent_fin));
            self.sent_fin = false;
            self.flow(now, out);
        }
    }

    /// When [`Connection::tick`] has something to do.
    pub fn next_event(&self) -> Option<Duration> {
        if self.vanished || self.end.is_some() {
            return None;
        }
        let read = self.reads_later().then(|| self.last_read + READ_EVERY);
        let timeout = self.waits_for_the_host().then(|| self.timeout_at());
        read.into_iter().chain(timeout).min()
    }

    fn reads_later(&self) -> bool {
        self.manner.reads.is_some_and(|rate| rate > 0) && self.read < self.received
    }

    fn waits_for_the_host(&self) -> bool {
        self.next != self.unacknowledged || self.state != State::Open
    }

    fn timeout_at(&self) -> Duration {
        self.last_progress + self.manner.rtt + FIRST_TIMEOUT * (1 << self.timeouts)
    }

    fn send_syn(&mut self, now: Duration, out: &mut Vec<Segment>) {
        let flags = match self.state {
            State::Called => SYN,
            State::Answered | State::Open => SYN | ACK,
        };
        let mut syn = self.segment(flags, self.next, 0, now);
        syn.mss = Some(MSS);
        syn.scale = self.scales.then_some(SCALE);
        syn.window = u16::try_from(self.room()).unwrap_or(u16::MAX);
        self.advertised = u32::from(syn.window);
        self.next = self.next.wrapping_add(1);
        out.push(syn);
    }

    fn acknowledge(&mut self, now: Duration, out: &mut Vec<Segment>) {
        let segment = self.segment(ACK, self.next, 0, now);
        out.push(segment);
    }

    fn segment(&mut self, flags: u8, sequence: u32, length: u32, now: Duration) -> Segment {
        let scale = if self.scales { SCALE } else { 0 };
        let window = u16::try_from(self.room() >> scale).unwrap_or(u16::MAX);
        self.advertised = u32::from(window) << scale;
        #[expect(clippy::cast_possible_truncation, reason = "timestamps wrap")]
        let clock = now.as_millis() as u32;
        Segment {
            from: self.peer,
            to: self.host,
            sequence,
            acknowledges: if flags & ACK == 0 { 0 } else { self.expected },
            flags,
            window,
            mss: None,
            scale: None,
            timestamps: self.host_time.map(|host| (clock.wrapping_add(1), host)),
            length,
        }
    }
}

/// Whether a sequence number is before another.
fn before(one: u32, other: u32) -> bool {
    other.wrapping_sub(one).wrapping_sub(1) < 1 << 31
}

/// The first number of a peer: the same in every run.
fn first_number(peer: SocketAddrV4) -> u32 {
    u32::from(peer.port()).wrapping_mul(0x9e37_79b9) ^ peer.ip().to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EAGER: Manner = Manner {
        window: 10_000,
        reads: None,
        rtt: Duration::ZERO,
        closes: true,
    };

    fn host(flags: u8, sequence: u32, acknowledges: u32, length: u32) -> Segment {
        Segment {
            from: "10.0.1.2:40000".parse().unwrap(),
            to: "10.0.2.2:9000".parse().unwrap(),
            sequence,
            acknowledges,
            flags,
            window: 1000,
            mss: None,
            scale: Some(6).filter(|_| flags & SYN != 0),
            timestamps: None,
            length,
        }
    }

    /// A connection of the host to such a peer, and the peer's next number.
    fn open(manner: Manner) -> (Connection, u32) {
        let mut out = Vec::new();
        let mut peer = Connection::answer(&host(SYN, 99, 0, 0), manner, Duration::ZERO, &mut out);
        assert_eq!(out[0].flags, SYN | ACK);
        assert_eq!(out[0].acknowledges, 100);
        let next = out[0].sequence.wrapping_add(1);
        out.clear();
        peer.take(&host(ACK, 100, next, 0), Duration::ZERO, &mut out);
        assert!(peer.is_open() && out.is_empty());
        (peer, next)
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_peer_that_reads_acknowledges_all_and_closes_after_the_host() {
        let (mut peer, next) = open(EAGER);
        let mut out = Vec::new();
        peer.take(&host(ACK, 100, next, 1000), at(1), &mut out);
        assert_eq!((out[0].acknowledges, out[0].window), (1100, 10_000 >> 7));
        out.clear();
        peer.take(&host(ACK | FIN, 1100, next, 0), at(2), &mut out);
        assert_eq!(out[0].acknowledges, 1101);
        assert!(out[1].has(FIN));
        peer.take(&host(ACK, 1101, next.wrapping_add(1), 0), at(3), &mut out);
        assert_eq!(peer.end, Some(End::Closed));
        assert_eq!(peer.received, 1000);
    }

    #[test]
    fn a_peer_that_does_not_read_closes_its_window_and_answers_probes() {
        let mut manner = EAGER;
        manner.reads = Some(0);
        manner.window = 1500;
        let (mut peer, next) = open(manner);
        let mut out = Vec::new();
        peer.take(&host(ACK, 100, next, 1448), at(1), &mut out);
        peer.take(&host(ACK, 1548, next, 1448), at(2), &mut out);
        // It takes what fits, and says that nothing more does.
        assert_eq!(out[1].acknowledges, 1600);
        assert_eq!(out[1].window, 0);
        out.clear();
        peer.take(&host(ACK, 1599, next, 0), at(500_000), &mut out);
        assert_eq!((out.len(), out[0].window), (1, 0));
        assert_eq!(peer.next_event(), None);
    }

    #[test]
    fn a_peer_that_reads_slowly_opens_its_window_again() {
        let mut manner = EAGER;
        manner.reads = Some(10_000);
        manner.window = 3000;
        let (mut peer, next) = open(manner);
        let mut out = Vec::new();
        peer.take(&host(ACK, 100, next, 1448), at(0), &mut out);
        peer.take(&host(ACK, 1548, next, 1448), at(0), &mut out);
        out.clear();
        peer.tick(at(100), &mut out);
        assert!(out.is_empty());
        peer.tick(at(400), &mut out);
        assert_eq!(out.len(), 1);
        assert!(out[0].window > 0);
    }

    #[test]
    fn a_peer_that_stays_acknowledges_the_fin_alone() {
        let mut manner = EAGER;
        manner.closes = false;
        let (mut peer, next) = open(manner);
        let mut out = Vec::new();
        peer.take(&host(ACK | FIN, 100, next, 0), at(1), &mut out);
        assert_eq!((out.len(), out[0].acknowledges), (1, 101));
        assert_eq!(peer.end, None);
    }

    #[test]
    fn a_peer_that_vanished_is_silent() {
        let (mut peer, next) = open(EAGER);
        let mut out = Vec::new();
        peer.vanished = true;
        peer.take(&host(ACK, 100, next, 1000), at(1), &mut out);
        peer.tick(at(100_000), &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn a_caller_sends_again_is_refused_or_gives_up() {
        let (peer, host_address) = (host(0, 0, 0, 0).to, host(0, 0, 0, 0).from);
        let mut out = Vec::new();
        let mut caller = Connection::call(peer, host_address, EAGER, 0, at(0), &mut out);
        assert_eq!(out.len(), 1);
        caller.tick(at(999), &mut out);
        assert_eq!(out.len(), 1);
        caller.tick(at(1000), &mut out);
        assert_eq!(out.len(), 2);
        assert_eq!(out[0].sequence, out[1].sequence);
        caller.take(&host(RST | ACK, 0, 0, 0), at(1001), &mut out);
        assert_eq!(caller.end, Some(End::Refused));
        let mut caller = Connection::call(peer, host_address, EAGER, 0, at(0), &mut out);
        for second in 1..400 {
            caller.tick(at(second * 1000), &mut out);
        }
        assert_eq!(caller.end, Some(End::TimedOut));
    }

    #[test]
    fn a_caller_acknowledges_an_answer_that_comes_again() {
        let (peer, host_address) = (host(0, 0, 0, 0).to, host(0, 0, 0, 0).from);
        let mut out = Vec::new();
        let mut caller = Connection::call(peer, host_address, EAGER, 0, at(0), &mut out);
        let answer = host(SYN | ACK, 99, out[0].sequence.wrapping_add(1), 0);
        for _ in 0..2 {
            out.clear();
            caller.take(&answer, at(1), &mut out);
            assert_eq!((out.len(), out[0].flags), (1, ACK));
            assert_eq!(out[0].sequence, answer.acknowledges);
        }
        assert!(caller.is_open() && caller.end.is_none());
    }

    #[test]
    fn what_is_sent_keeps_to_the_window_of_the_host() {
        let (mut peer, _) = open(EAGER);
        let mut out = Vec::new();
        peer.send(1_000_000, true, at(1), &mut out);
        // 1000 << 6 bytes, in whole segments.
        let sent: u32 = out.iter().map(|segment| segment.length).sum();
        assert_eq!(sent, 64_000 / DATA * DATA);
        let mut done = 0;
        while peer.end.is_none() && done < 1_000 {
            let last = *out.last().unwrap();
            let fin = u32::from(last.has(FIN));
            let acknowledged = last.sequence.wrapping_add(last.length + fin);
            out.clear();
            peer.take(&host(ACK, 100, acknowledged, 0), at(2), &mut out);
            if out.is_empty() {
                peer.take(&host(ACK | FIN, 100, acknowledged, 0), at(2), &mut out);
            }
            done += 1;
        }
        assert_eq!(peer.end, Some(End::Closed));
    }
}
