//! What happened in one run, in the order of time: the calls of its actors, the
//! segments on its links, and the gauges that were sampled.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The calls, segments and gauges of one run.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Trace {
    /// The number of the run.
    pub run: u64,
    /// Whether the run breaks no expectation by itself.
    pub as_expected: bool,
    /// The hosts, in the order of the suite.
    pub hosts: Vec<TracedHost>,
    /// What actors and the lab did, in the order in which it began.
    pub calls: Vec<Call>,
    /// The TCP segments, in the order in which they were sent.
    pub segments: Vec<Segment>,
    /// Packets that are not among the segments, because there were too many.
    #[serde(default)]
    pub left_out_packets: u64,
    /// Queues by the packets, and gauges as they were sampled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<Series>,
    /// What the kernel told of: resets with their reasons, dropped packets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<KernelEvent>,
}

/// Something that the kernel told of by a tracepoint, once or several times in a row.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KernelEvent {
    /// When it first happened, in microseconds since the start of the run.
    pub at_us: u64,
    /// The host.
    pub host: String,
    /// The actor in whose process it happened, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What happened, as a suite names it: `resets.sent.TCP_ABORT_ON_CLOSE`,
    /// `resets.received`, `drops.TCP_LISTEN_OVERFLOW`.
    pub what: String,
    /// The connection, `10.0.1.2:40000 > 10.0.2.2:7000`; left out where it is not known, or
    /// where there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// How often it happened.
    pub count: u64,
}

impl KernelEvent {
    /// What happened, in words: `sends RST: TCP_ABORT_ON_CLOSE`.
    pub fn words(&self) -> String {
        let times = match self.count {
            1 => String::new(),
            count => format!(" x{count}"),
        };
        let what = &self.what;
        if let Some(reason) = what.strip_prefix("resets.sent.") {
            format!("sends RST: {reason}{times}")
        } else if let Some(reason) = what.strip_prefix("drops.") {
            format!("drops a packet: {reason}{times}")
        } else if what == "resets.received" {
            format!("gets RST{times}")
        } else {
            format!("{what}{times}")
        }
    }
}

/// Events that are alike and near each other are one: within so many others and so many
/// microseconds.
const NEAR: (usize, u64) = (6, 150_000);
/// Events of a run at most; the later ones are left out.
pub const MOST_EVENTS: usize = 60;

/// Events in order, those that are alike together, with times since `zero_us`.
pub fn gathered(events: &[KernelEvent], zero_us: u64) -> Vec<KernelEvent> {
    let mut gathered: Vec<KernelEvent> = Vec::new();
    for event in events {
        let at_us = event.at_us.saturating_sub(zero_us);
        let is_like = |known: &&mut KernelEvent| {
            (&known.host, &known.actor, &known.what) == (&event.host, &event.actor, &event.what)
                && at_us.saturating_sub(known.at_us) < NEAR.1
        };
        if let Some(known) = gathered.iter_mut().rev().take(NEAR.0).find(is_like) {
            known.count += event.count;
            if known.connection != event.connection {
                known.connection = None;
            }
        } else if gathered.len() < MOST_EVENTS {
            gathered.push(KernelEvent {
                at_us,
                ..event.clone()
            });
        }
    }
    gathered
}

/// A host of a run.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TracedHost {
    /// Its name in the suite.
    pub name: String,
    /// Its address.
    pub address: String,
}

/// One step of an actor or of the lab, or something that a command did.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Call {
    /// The actor, or `lab`.
    pub actor: String,
    /// The actor's host; null for the lab.
    pub host: Option<String>,
    /// The step as the suite calls it, with what it was given.
    pub text: String,
    /// When it began, in microseconds since the start of the run.
    pub start_us: u64,
    /// When it ended; null where it had not ended by the end of the run.
    pub end_us: Option<u64>,
    /// What it gave: bytes, a value, an errno.
    pub result: String,
    /// Whether one of its calls failed.
    pub failed: bool,
}

/// One TCP segment, or several alike that follow each other. In JSON it is one line:
///
/// `0.001234 0.006301 client:40000 > server:7000 [PA] seq 1:1449 ack 1 win 64240 x1`
///
/// The first time is when it was sent, the second when it was received; `-` where that
/// was not seen, `~` where it was on its way when the run ended. Numbers count from the first of each direction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segment {
    /// When the first of them was sent, in microseconds since the start of the run;
    /// `None` where only its arrival was seen.
    pub sent_us: Option<u64>,
    /// When the last of them arrived; `None` where it did not.
    pub received_us: Option<u64>,
    /// The host that sent it, or an address.
    pub from: String,
    /// The port that it was sent from.
    pub from_port: u16,
    /// The host that it was sent to, or an address.
    pub to: String,
    /// The port that it was sent to.
    pub to_port: u16,
    /// Flags: of `SFRPA`, as tcpdump has them.
    pub flags: String,
    /// The first byte's number.
    pub sequence: u64,
    /// The number after the last byte.
    pub next_sequence: u64,
    /// What it acknowledges, where it does.
    pub acknowledged: Option<u64>,
    /// The window that it offers, scaled where the scale was seen.
    pub window: u64,
    /// How many they are.
    pub count: u64,
    /// Whether the bytes were sent before.
    pub again: bool,
    /// Whether it had not arrived only because the run ended.
    pub on_its_way: bool,
}

impl Segment {
    /// The bytes of data in it.
    pub fn bytes(&self) -> u64 {
        self.next_sequence.saturating_sub(self.sequence)
    }

    /// Whether it has this flag.
    pub fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    /// Whether it carries nothing but an acknowledgement.
    pub fn is_pure_ack(&self) -> bool {
        self.bytes() == 0 && self.flags == "A"
    }

    /// Whether it was sent and never arrived.
    pub fn is_lost(&self) -> bool {
        self.sent_us.is_some() && self.received_us.is_none() && !self.on_its_way
    }

    /// When it is first seen.
    pub fn first_us(&self) -> u64 {
        self.sent_us.or(self.received_us).unwrap_or(0)
    }
}

/// A time in seconds, or `-`.
struct Seconds(Option<u64>);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(us) => write!(f, "{}.{:06}", us / 1_000_000, us % 1_000_000),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for Seconds {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "-" {
            return Ok(Self(None));
        }
        let (seconds, us) = text.split_once('.').ok_or(())?;
        if us.len() != 6 {
            return Err(());
        }
        let number = |text: &str| text.parse::<u64>().map_err(drop);
        let seconds = number(seconds)?.checked_mul(1_000_000).ok_or(())?;
        Ok(Self(Some(seconds.checked_add(number(us)?).ok_or(())?)))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let received = if self.on_its_way {
            "~".to_owned()
        } else {
            Seconds(self.received_us).to_string()
        };
        write!(
            f,
            "{} {} {}:{} > {}:{} [{}] seq {}:{} ",
            Seconds(self.sent_us),
            received,
            self.from,
            self.from_port,
            self.to,
            self.to_port,
            self.flags,
            self.sequence,
            self.next_sequence
        )?;
        if let Some(acknowledged) = self.acknowledged {
            write!(f, "ack {acknowledged} ")?;
        }
        write!(f, "win {} x{}", self.window, self.count)?;
        if self.again {
            f.write_str(" again")?;
        }
        Ok(())
    }
}

impl FromStr for Segment {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(());
        let Seconds(sent_us) = word()?.parse()?;
        let received = word()?;
        let on_its_way = received == "~";
        let Seconds(received_us) = if on_its_way {
            Seconds(None)
        } else {
            received.parse()?
        };
        let endpoint = |word: &str| {
            let (host, port) = word.rsplit_once(':').ok_or(())?;
            Ok((host.to_owned(), port.parse::<u16>().map_err(drop)?))
        };
        let (from, from_port) = endpoint(word()?)?;
        if word()? != ">" {
            return Err(());
        }
        let (to, to_port) = endpoint(word()?)?;
        let flags = word()?.strip_prefix('[').and_then(|w| w.strip_suffix(']'));
        let flags = flags.ok_or(())?.to_owned();
        let number = |text: &str| text.parse::<u64>().map_err(drop);
        if word()? != "seq" {
            return Err(());
        }
        let (sequence, next) = word()?.split_once(':').ok_or(())?;
        let (sequence, next_sequence) = (number(sequence)?, number(next)?);
        let mut acknowledged = None;
        let mut key = word()?;
        if key == "ack" {
            acknowledged = Some(number(word()?)?);
            key = word()?;
        }
        if key != "win" {
            return Err(());
        }
        let window = number(word()?)?;
        let count = number(word()?.strip_prefix('x').ok_or(())?)?;
        let again = match words.next() {
            None => false,
            Some("again") => true,
            Some(_) => return Err(()),
        };
        Ok(Self {
            sent_us,
            received_us,
            from,
            from_port,
            to,
            to_port,
            flags,
            sequence,
            next_sequence,
            acknowledged,
            window,
            count,
            again,
            on_its_way,
        })
    }
}

impl Serialize for Segment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Segment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse()
            .map_err(|()| D::Error::custom(format!("{text:?} is no segment")))
    }
}

impl JsonSchema for Segment {
    fn schema_name() -> Cow<'static, str> {
        "Segment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "One TCP segment, or several alike: when sent, when received (- \
                            where not), from, to, flags, numbers, window, count.",
            "examples": [
                "0.001234 0.006301 client:40000 > server:7000 [PA] seq 1:1449 ack 1 win 64240 x1"
            ],
        })
    }
}

/// A number over the time of a run.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
pub struct Series {
    /// Whose number it is, in words or as an observation is called.
    pub name: String,
    /// `bytes`, `pages`, or nothing for a count.
    pub unit: String,
    /// The points, each where the number changed.
    pub points: Points,
}

/// Points of a [`Series`]: microseconds since the start of the run, and the number. In
/// JSON one text, `0 0, 1234 100`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Points(pub Vec<(u64, i64)>);

impl Serialize for Points {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let points: Vec<String> = self.0.iter().map(|(at, n)| format!("{at} {n}")).collect();
        serializer.serialize_str(&points.join(", "))
    }
}

impl<'de> Deserialize<'de> for Points {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let points = text.split(", ").filter(|point| !point.is_empty());
        let point = |point: &str| -> Option<(u64, i64)> {
            let (at, number) = point.split_once(' ')?;
            Some((at.parse().ok()?, number.parse().ok()?))
        };
        points
            .map(|text| point(text).ok_or_else(|| D::Error::custom(format!("{text:?}: no point"))))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl JsonSchema for Points {
    fn schema_name() -> Cow<'static, str> {
        "Points".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Microseconds since the start of the run and the number, pair by pair.",
            "examples": ["0 0, 1234 100"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_back_from_its_line() {
        for line in [
            "0.001234 0.006301 client:40000 > server:7000 [PA] seq 1:1449 ack 1 win 64240 x1",
            "12.000001 ~ client:40000 > server:7000 [S] seq 0:0 win 64240 x1",
            "12.000001 - client:40000 > server:7000 [S] seq 0:0 win 64240 x1",
            "- 0.000000 fd00:1::2:1 > server:7000 [R] seq 0:0 ack 5 win 0 x3 again",
        ] {
            let segment: Segment = line.parse().unwrap();
            assert_eq!(segment.to_string(), line);
            let json = serde_json::to_string(&segment).unwrap();
            assert_eq!(serde_json::from_str::<Segment>(&json).unwrap(), segment);
        }
    }

    #[test]
    fn what_is_no_segment_is_an_error_and_no_panic() {
        for line in [
            "",
            "x",
            "0.001234",
            "0.1 - a:1 > b:2 [S] seq 0:0 win 1 x1",
            "99999999999999999999.000000 - a:1 > b:2 [S] seq 0:0 win 1 x1",
            "- - a:1 < b:2 [S] seq 0:0 win 1 x1",
            "- - a:99999 > b:2 [S] seq 0:0 win 1 x1",
            "- - a:1 > b:2 S seq 0:0 win 1 x1",
            "- - a:1 > b:2 [S] seq 0 win 1 x1",
            "- - a:1 > b:2 [S] seq 0:0 win 1 1",
            "- - a:1 > b:2 [S] seq 0:0 win 1 x1 more",
        ] {
            assert!(line.parse::<Segment>().is_err(), "{line}");
        }
    }

    #[test]
    fn events_that_are_alike_are_one_and_bounded() {
        let event = |at_us, host: &str, what: &str, port: u16| KernelEvent {
            at_us,
            host: host.to_owned(),
            actor: None,
            what: what.to_owned(),
            connection: Some(format!("10.0.1.2:{port} > 10.0.2.2:7000")),
            count: 1,
        };
        let events = [
            event(1000, "client", "resets.sent.TCP_ABORT_ON_CLOSE", 1),
            event(1100, "server", "resets.received", 1),
            event(1200, "client", "resets.sent.TCP_ABORT_ON_CLOSE", 2),
            event(900_000, "client", "resets.sent.TCP_ABORT_ON_CLOSE", 3),
            event(900_001, "client", "drops.TCP_LISTEN_OVERFLOW", 3),
        ];
        let told: Vec<String> = gathered(&events, 1000)
            .iter()
            .map(|one| format!("{} {} {}", one.at_us, one.host, one.words()))
            .collect();
        assert_eq!(
            told,
            [
                "0 client sends RST: TCP_ABORT_ON_CLOSE x2",
                "100 server gets RST",
                "899000 client sends RST: TCP_ABORT_ON_CLOSE",
                "899001 client drops a packet: TCP_LISTEN_OVERFLOW",
            ]
        );
        assert_eq!(gathered(&events, 0)[0].connection, None);
        let many: Vec<_> = (0..500)
            .map(|number| event(number, "client", &format!("drops.{number}"), 1))
            .collect();
        assert_eq!(gathered(&many, 0).len(), MOST_EVENTS);
    }

    #[test]
    fn points_are_one_text() {
        let points = Points(vec![(0, 0), (1234, -100)]);
        let json = serde_json::to_string(&points).unwrap();
        assert_eq!(json, "\"0 0, 1234 -100\"");
        assert_eq!(serde_json::from_str::<Points>(&json).unwrap(), points);
        assert_eq!(
            serde_json::from_str::<Points>("\"\"").unwrap(),
            Points::default()
        );
        assert!(serde_json::from_str::<Points>("\"1\"").is_err());
    }
}
