//! The sequence picture as SVG.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use advisor_report::Trace;
use advisor_report::escape::xml;
use advisor_report::trace::{KernelEvent, Segment};

use super::{LONGEST, Scene, What, chart, kernel_says, label, shortened, states, time};

/// What lines, texts and bands look like; the page of a report has it once.
pub const STYLE: &str = include_str!("picture.css");

/// The heads of arrows; the page of a report has them once.
pub const DEFINITIONS: &str = "<defs>\
<marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
orient=\"auto\"><path class=\"k\" d=\"M0 0l8 4l-8 4z\"/></marker>\
<marker id=\"reset\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
markerHeight=\"8\" orient=\"auto\"><path class=\"kr\" d=\"M0 0l8 4l-8 4z\"/></marker>\
<marker id=\"lost\" viewBox=\"0 0 10 10\" refX=\"5\" refY=\"5\" markerWidth=\"10\" \
markerHeight=\"10\"><path class=\"r\" d=\"M1 1l8 8M9 1l-8 8\"/></marker></defs>";

/// Width of the times, of a column of calls, of a column of states, between two lines.
const TIMES: i64 = 66;
const CALLS: i64 = 232;
const STATES: i64 = 100;
const GAP: i64 = 300;
/// Height of a line of text.
const LINE: i64 = 14;
/// Letters of a call in a line of its column.
const LETTERS: usize = 36;
/// Classes of a text that ends, or begins, where it is put: they are shorter than
/// attributes, and a page has a hundred thousand texts.
const LEFT: &str = " z";
const RIGHT: &str = "";
/// Where the first event is.
const TOP: i64 = 46;

/// What is drawn, and where the last text of each column is.
struct Drawing<'a> {
    scene: &'a Scene<'a>,
    body: String,
    lanes: Vec<i64>,
    /// For each event, its height.
    heights: BTreeMap<What, i64>,
    height: i64,
}

/// The picture of a run. Its texts are what suites and kernels say; none is markup.
pub fn svg(trace: &Trace) -> String {
    draw(trace, "")
}

/// The picture as a document of its own.
pub fn alone(trace: &Trace) -> String {
    let style = format!("<style>{STYLE}</style>{DEFINITIONS}");
    draw(trace, &style).replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1)
}

fn draw(trace: &Trace, head: &str) -> String {
    let scene = Scene::of(trace);
    let lanes: Vec<i64> = (0..trace.hosts.len())
        .map(|lane| {
            let lane = i64::try_from(lane).unwrap_or(0);
            TIMES + CALLS + STATES + lane * (GAP + if lane > 1 { STATES } else { 0 })
        })
        .collect();
    let width = lanes.last().map_or(TIMES, |last| last + STATES + CALLS + 8);
    let mut drawing = Drawing {
        scene: &scene,
        body: String::new(),
        lanes,
        heights: BTreeMap::new(),
        height: TOP,
    };
    drawing.place();
    drawing.hosts();
    drawing.times();
    drawing.states();
    drawing.arrows();
    drawing.calls();
    drawing.events();
    let end_us = scene.events.last().map_or(0, |(at, _)| *at);
    let mut height = drawing.height + 20;
    for series in &trace.series {
        chart::steps(
            &mut drawing.body,
            series,
            TIMES,
            height,
            width - TIMES - 8,
            end_us,
        );
        height += chart::CHART;
    }
    if trace.left_out_packets > 0 {
        let _ = write!(
            drawing.body,
            "<text class=\"f\" x=\"{TIMES}\" y=\"{}\">{} packets are not drawn: there were too \
             many.</text>",
            height + 10,
            super::grouped(trace.left_out_packets)
        );
        height += LINE + 6;
    }
    let told = format!(
        "run {}: {} calls and {} segments between {}",
        trace.run,
        trace.calls.len(),
        trace.segments.len(),
        trace
            .hosts
            .iter()
            .map(|host| host.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    );
    format!(
        "<svg class=\"seq\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">{head}{}</svg>",
        xml(&told),
        drawing.body
    )
}

/// A text in lines of so many letters, cut between words where there are some.
fn lines(text: &str, letters: usize) -> Vec<String> {
    let options = textwrap::Options::new(letters).subsequent_indent("  ");
    let mut lines: Vec<String> = textwrap::wrap(text, options)
        .into_iter()
        .map(std::borrow::Cow::into_owned)
        .collect();
    if lines.len() > 3 {
        lines.truncate(3);
        if let Some(last) = lines.last_mut() {
            last.push('\u{2026}');
        }
    }
    lines
}

/// What a segment's label does not say: ports, flags, numbers, how long it took.
fn numbers(segment: &Segment) -> String {
    let mut text = format!(
        "{} > {} [{}] seq {}:{}",
        segment.from_port, segment.to_port, segment.flags, segment.sequence, segment.next_sequence
    );
    if let Some(acknowledged) = segment.acknowledged {
        let _ = write!(text, " ack {acknowledged}");
    }
    let _ = write!(text, " win {}", segment.window);
    if let (Some(sent), Some(received)) = (segment.sent_us, segment.received_us) {
        let _ = write!(text, ", {}", time(received.saturating_sub(sent)));
    }
    text
}

/// The lines of what the kernel told of; its letters are slanted and need more room.
fn told(event: &KernelEvent) -> Vec<String> {
    lines(&kernel_says(event), LETTERS - 4)
}

impl Drawing<'_> {
    /// The column in which the text of an event stands: a host's calls, or between lines.
    fn column(&self, what: What) -> Option<(usize, i64)> {
        let trace = self.scene.trace;
        match what {
            What::Began(place) => {
                let call = &trace.calls[place];
                let lane = call.host.as_deref().and_then(|host| self.scene.lane(host));
                let count = i64::try_from(self.texts(place).len()).unwrap_or(1);
                Some((lane.unwrap_or(usize::MAX - 1), count))
            }
            What::Ended(place) if self.result_below(place) => {
                let call = &trace.calls[place];
                let lane = call.host.as_deref().and_then(|host| self.scene.lane(host));
                Some((lane.unwrap_or(usize::MAX - 1), 1))
            }
            What::Told(place) => {
                let event = &trace.events[place];
                let count = i64::try_from(told(event).len()).unwrap_or(1);
                Some((self.scene.lane(&event.host)?, count))
            }
            What::Sent(_) => Some((usize::MAX, 1)),
            What::Arrived(place) if trace.segments[place].sent_us.is_none() => {
                Some((usize::MAX, 1))
            }
            What::Ended(_) | What::Arrived(_) => None,
        }
    }

    /// Whether a call's result stands where it ends, below its text: it took a while.
    fn result_below(&self, place: usize) -> bool {
        let call = &self.scene.trace.calls[place];
        let began = self
            .scene
            .events
            .binary_search(&(call.start_us, What::Began(place)));
        let ended = call
            .end_us
            .map(|end| self.scene.events.binary_search(&(end, What::Ended(place))));
        match (began, ended) {
            // Something that is drawn happens meanwhile.
            (Ok(began), Some(Ok(ended))) => ended > began + 1,
            _ => false,
        }
    }

    /// The lines of a call's text.
    fn texts(&self, place: usize) -> Vec<String> {
        let call = &self.scene.trace.calls[place];
        let mut text = self.scene.told(call);
        let is_step = !call.text.starts_with("prints ") && !call.text.starts_with("has exited");
        if is_step && !self.result_below(place) {
            let result = match (call.end_us, call.result.as_str()) {
                (None, _) => "has not ended",
                (_, "") => "",
                (_, result) => result,
            };
            if !result.is_empty() {
                let _ = write!(text, " = {}", shortened(result, LONGEST));
            }
        }
        lines(&text, if call.host.is_some() { LETTERS } else { 90 })
    }

    /// Decides the heights: later is lower, a long time is further, texts have room.
    fn place(&mut self) {
        let mut free: BTreeMap<usize, i64> = BTreeMap::new();
        let mut height = TOP;
        let mut last_us = self.scene.events.first().map_or(0, |(at, _)| *at);
        for (at_us, what) in &self.scene.events {
            let passed = at_us.saturating_sub(last_us);
            last_us = *at_us;
            height += match passed {
                0 => 0,
                1..1000 => 3,
                1000..10_000 => 6,
                10_000..100_000 => 10,
                100_000..1_000_000 => 16,
                _ => 24,
            };
            if let Some((column, count)) = self.column(*what) {
                // What the lab does goes across all columns.
                let is_lab = column == usize::MAX - 1;
                let room = if is_lab {
                    free.values().max().copied()
                } else {
                    free.get(&column).max(free.get(&(usize::MAX - 1))).copied()
                };
                height = height.max(room.unwrap_or(0));
                free.insert(column, height + count * LINE);
            }
            self.heights.insert(*what, height);
            self.height = self.height.max(height + 8);
        }
        self.height = free.values().max().copied().unwrap_or(0).max(self.height);
    }

    fn at(&self, what: What) -> i64 {
        self.heights.get(&what).copied().unwrap_or(TOP)
    }

    fn hosts(&mut self) {
        for (host, x) in self.scene.trace.hosts.iter().zip(&self.lanes) {
            let actors = self.scene.actors.get(host.name.as_str());
            let actors = actors.map(|actors| actors.join(", ")).unwrap_or_default();
            let _ = write!(
                self.body,
                "<text class=\"h m\" x=\"{x}\" y=\"14\">{}</text>\
                 <text class=\"f m\" x=\"{x}\" y=\"28\">{}</text>\
                 <path class=\"x\" d=\"M{x} 34V{}\"/>",
                xml(&shortened(&host.name, 40)),
                xml(&shortened(&actors, 40)),
                self.height,
            );
        }
    }

    /// The times at the left, as many as have room.
    fn times(&mut self) {
        let mut free = 0;
        for (at_us, what) in &self.scene.events {
            let y = self.at(*what);
            if y >= free {
                let (x, time) = (TIMES - 10, time(*at_us));
                let _ = write!(
                    self.body,
                    "<text class=\"f z\" x=\"{x}\" y=\"{}\">{time}</text>",
                    y + 4
                );
                free = y + 26;
            }
        }
    }

    /// The height of a time that events have.
    fn height_of(&self, at_us: u64) -> i64 {
        let events = &self.scene.events;
        let place = events.partition_point(|(at, _)| *at < at_us);
        let found = events.get(place).map(|(_, what)| self.at(*what));
        found.unwrap_or(self.height)
    }

    fn states(&mut self) {
        let changes = states::changes(&self.scene.trace.segments);
        let mut free: BTreeMap<&str, i64> = BTreeMap::new();
        for (place, change) in changes.iter().enumerate() {
            let Some(lane) = self.scene.lane(&change.host) else {
                continue;
            };
            let is_first = lane == 0;
            let x = self.lanes[lane];
            let from = self.height_of(change.at_us);
            let later = changes[place + 1..]
                .iter()
                .find(|later| later.host == change.host && later.connection == change.connection);
            let to = later.map_or(self.height, |later| self.height_of(later.at_us));
            let offset = 2 + 7 * i64::try_from(change.connection).unwrap_or(0);
            let left = if is_first { x - offset - 5 } else { x + offset };
            if change.state != "CLOSED" {
                let _ = write!(
                    self.body,
                    "<rect class=\"s {}\" x=\"{left}\" y=\"{from}\" width=\"5\" height=\"{}\"/>",
                    change.state,
                    (to - from).max(2)
                );
            }
            let known = free.entry(&change.host).or_insert(0);
            let y = (from + 4).max(*known);
            *known = y + 10;
            let (x, anchor) = if is_first {
                (x - 26, LEFT)
            } else {
                (x + 26, RIGHT)
            };
            let _ = write!(
                self.body,
                "<text class=\"t{anchor}\" x=\"{x}\" y=\"{y}\">{}</text>",
                change.state
            );
            self.height = self.height.max(y);
        }
    }

    fn arrows(&mut self) {
        for (place, segment) in self.scene.trace.segments.iter().enumerate() {
            let Some((from, to)) = self.scene.lanes(segment) else {
                continue;
            };
            let (x1, mut x2) = (self.lanes[from], self.lanes[to]);
            let y1 = match segment.sent_us {
                Some(_) => self.at(What::Sent(place)),
                None => self.at(What::Arrived(place)),
            };
            let mut y2 = match segment.received_us {
                Some(_) => self.at(What::Arrived(place)),
                None => y1 + 6,
            };
            y2 = y2.max(y1 + 1);
            let right = x2 > x1;
            let class = match () {
                () if segment.is_lost() => {
                    x2 = x1 + (x2 - x1) * 6 / 10;
                    "a l"
                }
                () if segment.on_its_way => {
                    x2 = x1 + (x2 - x1) * 6 / 10;
                    "a y"
                }
                () if segment.has('R') => "a r",
                () => "a",
            };
            let start = if segment.sent_us.is_none() {
                i64::midpoint(x1, x2)
            } else {
                x1
            };
            // The label stands near the sender, above the arrow.
            let (x, anchor) = if right {
                (start + 10, RIGHT)
            } else {
                (start - 10, LEFT)
            };
            let _ = write!(
                self.body,
                "<path class=\"{class}\" d=\"M{start} {y1}L{x2} {y2}\"/>\
                 <text class=\"{}{anchor}\" x=\"{x}\" y=\"{}\">{}<title>{}</title>\
                 </text>",
                if segment.has('R') || segment.is_lost() {
                    "e"
                } else {
                    "p"
                },
                y1 - 2,
                xml(&label(segment)),
                xml(&numbers(segment)),
            );
        }
    }

    fn calls(&mut self) {
        for (place, call) in self.scene.trace.calls.iter().enumerate() {
            let y1 = self.at(What::Began(place));
            let lane = call.host.as_deref().and_then(|host| self.scene.lane(host));
            let class = if call.failed { "e" } else { "c" };
            let Some(lane) = lane else {
                // The lab's, or an actor's on the router: across all lines.
                let first = self.lanes.first().copied().unwrap_or(TIMES);
                let last = self.lanes.last().copied().unwrap_or(first);
                let text = self.texts(place).join(" ");
                let _ = write!(
                    self.body,
                    "<path class=\"y\" d=\"M{first} {y1}H{last}\"/><text class=\"{class} m\" x=\"{}\" \
                     y=\"{}\">{}</text>",
                    i64::midpoint(first, last),
                    y1 - 2,
                    xml(&text)
                );
                continue;
            };
            let x = self.lanes[lane];
            let is_first = lane == 0;
            let y2 = match call.end_us {
                Some(end) if end > call.start_us => self.at(What::Ended(place)),
                Some(_) => y1,
                None => self.height,
            };
            let bar = if is_first {
                x - STATES - 2
            } else {
                x + STATES - 2
            };
            let (text_x, anchor) = if is_first {
                (bar - 4, LEFT)
            } else {
                (bar + 8, RIGHT)
            };
            let _ = write!(
                self.body,
                "<rect class=\"w{}\" x=\"{bar}\" y=\"{}\" width=\"4\" height=\"{}\"/>",
                if call.failed { " n" } else { "" },
                y1 - 4,
                (y2 - y1).max(5)
            );
            let text = |to: &mut String, y: i64, text: &str| {
                let _ = write!(
                    to,
                    "<text class=\"{class}{anchor}\" x=\"{text_x}\" y=\"{y}\">{}</text>",
                    xml(text)
                );
            };
            for (row, line) in self.texts(place).iter().enumerate() {
                let y = y1 + LINE * i64::try_from(row).unwrap_or(0) + 1;
                text(&mut self.body, y, line);
            }
            if self.result_below(place) && !call.result.is_empty() {
                let told = format!("= {}", shortened(&call.result, LETTERS));
                let told = if self
                    .scene
                    .actors
                    .get(call.host.as_deref().unwrap_or_default())
                    .is_some_and(|actors| actors.len() > 1)
                {
                    format!("{} {told}", call.actor)
                } else {
                    told
                };
                text(&mut self.body, y2 + 1, &told);
            }
        }
    }

    /// What the kernel told of, among the calls of its host.
    fn events(&mut self) {
        for (place, event) in self.scene.trace.events.iter().enumerate() {
            let what = What::Told(place);
            let Some(lane) = self.scene.lane(&event.host) else {
                continue;
            };
            let Some(y) = self.heights.get(&what).copied() else {
                continue;
            };
            let x = self.lanes[lane];
            let (x, anchor) = if lane == 0 {
                (x - STATES - 6, LEFT)
            } else {
                (x + STATES + 6, RIGHT)
            };
            let connection = event.connection.as_deref().unwrap_or_default();
            for (row, line) in told(event).iter().enumerate() {
                let y = y + LINE * i64::try_from(row).unwrap_or(0) + 1;
                let _ = write!(
                    self.body,
                    "<text class=\"g{anchor}\" x=\"{x}\" y=\"{y}\">{}<title>{}\
                     </title></text>",
                    xml(line),
                    xml(connection)
                );
            }
        }
    }
}
