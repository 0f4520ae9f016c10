//! The states of the sockets of a run, as its packets tell them (RFC 9293, section 3.3.2).

use std::collections::BTreeMap;

use advisor_report::trace::Segment;

/// More connections than these have no room beside a line.
const MOST_CONNECTIONS: usize = 3;

/// A state that the socket at one end of a connection comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct StateChange {
    pub(super) host: String,
    /// The number of the connection.
    pub(super) connection: usize,
    pub(super) at_us: u64,
    pub(super) state: &'static str,
}

#[derive(Default)]
struct End {
    state: Option<&'static str>,
    /// The number after the FIN that it sent.
    fin: Option<u64>,
}

impl End {
    fn sends(&mut self, segment: &Segment) -> Option<&'static str> {
        if segment.has('F') {
            self.fin = Some(segment.next_sequence + 1);
        }
        match self.state {
            _ if segment.has('R') => Some("CLOSED"),
            None if segment.has('S') && segment.has('A') => Some("SYN_RECV"),
            None if segment.has('S') => Some("SYN_SENT"),
            Some("CLOSE_WAIT") if segment.has('F') => Some("LAST_ACK"),
            Some("ESTABLISHED" | "SYN_RECV") if segment.has('F') => Some("FIN_WAIT1"),
            _ => None,
        }
    }

    fn receives(&mut self, segment: &Segment) -> Option<&'static str> {
        let fin_is_acknowledged = self
            .fin
            .zip(segment.acknowledged)
            .is_some_and(|(fin, acknowledged)| acknowledged >= fin);
        let next = match self.state? {
            "CLOSED" => return None,
            _ if segment.has('R') => return Some("CLOSED"),
            "SYN_SENT" if segment.has('S') && segment.has('A') => "ESTABLISHED",
            "SYN_RECV" if segment.has('A') => "ESTABLISHED",
            "FIN_WAIT1" if fin_is_acknowledged => "FIN_WAIT2",
            "CLOSING" if fin_is_acknowledged => "TIME_WAIT",
            "LAST_ACK" if fin_is_acknowledged => "CLOSED",
            same => same,
        };
        let next = match next {
            "ESTABLISHED" if segment.has('F') => "CLOSE_WAIT",
            "FIN_WAIT1" if segment.has('F') => "CLOSING",
            "FIN_WAIT2" if segment.has('F') => "TIME_WAIT",
            same => same,
        };
        (Some(next) != self.state).then_some(next)
    }
}

/// The changes, in the order of time; nothing where there are too many connections.
pub(super) fn changes(segments: &[Segment]) -> Vec<StateChange> {
    let mut connections: Vec<[(&str, u16); 2]> = Vec::new();
    let mut events = Vec::new();
    for (place, segment) in segments.iter().enumerate() {
        let mut pair = [
            (segment.from.as_str(), segment.from_port),
            (segment.to.as_str(), segment.to_port),
        ];
        pair.sort_unstable();
        let known = connections.iter().position(|known| *known == pair);
        let connection = known.unwrap_or_else(|| {
            connections.push(pair);
            connections.len() - 1
        });
        // What arrives comes before what is sent at the same time.
        if let Some(at) = segment.received_us {
            events.push((at, 0, place, connection));
        }
        if let Some(at) = segment.sent_us {
            events.push((at, 1, place, connection));
        }
    }
    if connections.len() > MOST_CONNECTIONS {
        return Vec::new();
    }
    events.sort_unstable();
    let mut ends: BTreeMap<(usize, &str, u16), End> = BTreeMap::new();
    let mut changes = Vec::new();
    for (at_us, is_sent, place, connection) in events {
        let segment = &segments[place];
        let (host, port) = match is_sent {
            1 => (segment.from.as_str(), segment.from_port),
            _ => (segment.to.as_str(), segment.to_port),
        };
        let end = ends.entry((connection, host, port)).or_default();
        let state = match is_sent {
            1 => end.sends(segment),
            _ => end.receives(segment),
        };
        if let Some(state) = state.filter(|state| end.state != Some(*state)) {
            end.state = Some(state);
            changes.push(StateChange {
                host: host.to_owned(),
                connection,
                at_us,
                state,
            });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> Vec<String> {
        let segments: Vec<Segment> = lines.iter().map(|line| line.parse().unwrap()).collect();
        let told =
            |change: &StateChange| format!("{} {} {}", change.at_us, change.host, change.state);
        changes(&segments).iter().map(told).collect()
    }

    const OPEN: [&str; 3] = [
        "0.000000 0.000010 c:1 > s:2 [S] seq 1:1 win 9 x1",
        "0.000010 0.000020 s:2 > c:1 [SA] seq 1:1 ack 1 win 9 x1",
        "0.000020 0.000030 c:1 > s:2 [A] seq 1:1 ack 1 win 9 x1",
    ];

    #[test]
    fn a_connection_that_is_closed_in_order() {
        let close = [
            "0.000100 0.000110 c:1 > s:2 [FA] seq 1:1 ack 1 win 9 x1",
            "0.000110 0.000120 s:2 > c:1 [A] seq 1:1 ack 2 win 9 x1",
            "0.000200 0.000210 s:2 > c:1 [FA] seq 1:1 ack 2 win 9 x1",
            "0.000210 0.000220 c:1 > s:2 [A] seq 2:2 ack 2 win 9 x1",
        ];
        assert_eq!(
            told(&[&OPEN[..], &close].concat()),
            [
                "0 c SYN_SENT",
                "10 s SYN_RECV",
                "20 c ESTABLISHED",
                "30 s ESTABLISHED",
                "100 c FIN_WAIT1",
                "110 s CLOSE_WAIT",
                "120 c FIN_WAIT2",
                "200 s LAST_ACK",
                "210 c TIME_WAIT",
                "220 s CLOSED",
            ]
        );
    }

    #[test]
    fn a_reset_closes_both_and_one_that_is_lost_closes_one() {
        let reset = "0.000100 0.000110 c:1 > s:2 [R] seq 1:1 win 0 x1";
        let told_of = told(&[&OPEN[..], &[reset]].concat());
        assert_eq!(told_of[4..], ["100 c CLOSED", "110 s CLOSED"]);
        let lost = "0.000100 - c:1 > s:2 [R] seq 1:1 win 0 x1";
        assert_eq!(told(&[&OPEN[..], &[lost]].concat())[4..], ["100 c CLOSED"]);
    }
}
