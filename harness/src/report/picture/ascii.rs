//! The sequence picture as text, for a terminal.

use std::fmt::Write as _;

use advisor_report::Trace;
use advisor_report::escape::inert;
use advisor_report::trace::{KernelEvent, Segment};

use super::{Scene, What, kernel_says, label, shortened, states, time};

/// Columns of a picture.
const WIDTH: usize = 80;
/// Columns of the times.
const TIMES: usize = 10;
/// Columns beside the lines, where there are two.
const BESIDE: usize = 22;
/// Columns between two lines.
const BETWEEN: usize = 23;
/// The same where there are more than two.
const NARROW: usize = 14;

/// The picture of a run in lines of 80 columns.
pub fn ascii(trace: &Trace) -> String {
    let scene = Scene::of(trace);
    let canvas = Canvas::of(&scene);
    let mut text = canvas.header();
    let changes = states::changes(&trace.segments);
    let mut next_change = 0;
    let mut last = String::new();
    for (place, (at_us, what)) in scene.events.iter().enumerate() {
        let mut rows = match *what {
            What::Began(call) => canvas.call(call, place),
            What::Ended(call) => canvas.result(call, place),
            What::Told(event) => canvas.told(&trace.events[event]),
            What::Sent(segment) => vec![canvas.arrow(&trace.segments[segment])],
            What::Arrived(segment) if trace.segments[segment].sent_us.is_none() => {
                vec![canvas.arrow(&trace.segments[segment])]
            }
            What::Arrived(_) => Vec::new(),
        };
        // The states that sockets come to stand beside the lines.
        while let Some(change) = changes
            .get(next_change)
            .filter(|change| change.at_us <= *at_us)
        {
            rows.extend(canvas.state(&change.host, change.state));
            next_change += 1;
        }
        for row in rows {
            let stamp = time(*at_us);
            let stamp = if stamp == last { "" } else { &stamp };
            let _ = writeln!(text, "{}", format!("{stamp:>9} {row}").trim_end());
            if !stamp.is_empty() {
                stamp.clone_into(&mut last);
            }
        }
    }
    if trace.left_out_packets > 0 {
        let _ = writeln!(
            text,
            "{} packets are not drawn: there were too many.",
            super::grouped(trace.left_out_packets)
        );
    }
    text
}

struct Canvas<'a> {
    scene: &'a Scene<'a>,
    /// The column of each line, from the end of the times.
    lanes: Vec<usize>,
    two: bool,
}

impl<'a> Canvas<'a> {
    fn of(scene: &'a Scene<'a>) -> Self {
        let count = scene.trace.hosts.len();
        let two = count == 2;
        let (first, between) = if two { (BESIDE, BETWEEN) } else { (2, NARROW) };
        Self {
            scene,
            lanes: (0..count)
                .map(|lane| first + lane * (between + 1))
                .collect(),
            two,
        }
    }

    /// A row with nothing but the lines.
    fn empty(&self) -> Vec<char> {
        let mut row = vec![' '; WIDTH - TIMES];
        for lane in &self.lanes {
            if let Some(place) = row.get_mut(*lane) {
                *place = '|';
            }
        }
        row
    }

    fn header(&self) -> String {
        let mut row = vec![' '; WIDTH - TIMES];
        for (host, lane) in self.scene.trace.hosts.iter().zip(&self.lanes) {
            let name = shortened(&inert(&host.name), 20);
            let start = lane.saturating_sub(name.chars().count() / 2);
            write_at(&mut row, start, &name);
        }
        let row: String = row.into_iter().collect();
        format!("{}{}\n", " ".repeat(TIMES), row.trim_end())
    }

    /// Texts beside the line of a host; where there are more than two, after the last.
    fn beside(&self, host: Option<&str>, text: &str) -> Vec<String> {
        let text = inert(text);
        let last = self.lanes.last().copied().unwrap_or(0);
        let lane = host.and_then(|host| self.scene.lane(host));
        let (lane, width) = match (self.two, lane) {
            (true, Some(lane)) => (lane, BESIDE),
            _ => (usize::MAX, (WIDTH - TIMES).saturating_sub(last + 2).max(20)),
        };
        // What the lab does stands between the two lines, or after the last.
        let is_lab = self.two && lane == usize::MAX;
        let width = if is_lab { BETWEEN - 2 } else { width - 1 };
        let options = textwrap::Options::new(width).subsequent_indent("  ");
        let mut lines = textwrap::wrap(&text, options);
        lines.truncate(4);
        let rows = lines.iter().map(|line| {
            let mut row = self.empty();
            let letters = line.chars().count();
            match lane {
                0 => write_at(&mut row, BESIDE.saturating_sub(letters + 1), line),
                usize::MAX if is_lab => {
                    let free = BETWEEN.saturating_sub(letters);
                    write_at(&mut row, self.lanes[0] + 1 + free / 2, line);
                }
                _ => write_at(&mut row, last + 2, line),
            }
            row.into_iter().collect()
        });
        rows.collect()
    }

    fn call(&self, place: usize, event: usize) -> Vec<String> {
        let call = &self.scene.trace.calls[place];
        let mut text = self.scene.told(call);
        if !self.two
            && let Some(host) = &call.host
        {
            text = format!("{host}: {text}");
        }
        match call.end_us {
            None => text.push_str(": has not ended"),
            Some(_) if !self.ends_at_once(place, event) || call.result.is_empty() => {}
            Some(_) => {
                let _ = write!(text, " = {}", call.result);
            }
        }
        self.beside(call.host.as_deref(), &text)
    }

    /// Whether nothing else happens before a call's end.
    fn ends_at_once(&self, place: usize, event: usize) -> bool {
        let call = &self.scene.trace.calls[place];
        call.end_us == Some(call.start_us)
            || self.scene.events.get(event + 1).map(|(_, what)| *what) == Some(What::Ended(place))
    }

    fn result(&self, place: usize, event: usize) -> Vec<String> {
        let before = event
            .checked_sub(1)
            .map(|before| self.scene.events[before].1);
        let call = &self.scene.trace.calls[place];
        if before == Some(What::Began(place)) || call.result.is_empty() {
            return Vec::new();
        }
        let word = call.text.split([' ', ':']).next().unwrap_or_default();
        let mut text = format!("{word} = {}", call.result);
        if !self.two
            && let Some(host) = &call.host
        {
            text = format!("{host}: {text}");
        }
        self.beside(call.host.as_deref(), &text)
    }

    fn told(&self, event: &KernelEvent) -> Vec<String> {
        let mut text = kernel_says(event);
        if !self.two {
            text = format!("{}: {text}", event.host);
        }
        self.beside(Some(&event.host), &text)
    }

    fn state(&self, host: &str, state: &str) -> Vec<String> {
        let text = if self.two {
            format!("[{state}]")
        } else {
            format!("{host}: [{state}]")
        };
        self.beside(Some(host), &text)
    }

    fn arrow(&self, segment: &Segment) -> String {
        let mut row = self.empty();
        let Some((from, to)) = self.scene.lanes(segment) else {
            return row.into_iter().collect();
        };
        let right = self.lanes[from.max(to)].min(row.len());
        let left = (self.lanes[from.min(to)] + 1).min(right);
        if right - left < 6 {
            // No room for so many hosts.
            return row.into_iter().collect();
        }
        let is_right = to > from;
        let (mut start, mut end) = (left, right);
        if segment.is_lost() || segment.on_its_way {
            // It ends on its way.
            let part = (right - left) * 3 / 4;
            if is_right {
                end = left + part;
            } else {
                start = right - part;
            }
        }
        for place in &mut row[start..end] {
            *place = '-';
        }
        let (head, at) = match (segment.is_lost(), is_right) {
            (true, true) => ('X', end - 1),
            (true, false) => ('X', start),
            (false, true) => ('>', end - 1),
            (false, false) => ('<', start),
        };
        row[at] = head;
        let text = label(segment)
            .replace('\u{d7}', "x")
            .replace(", lost", "")
            .replace(", on its way", "");
        let room = end.saturating_sub(start + 4);
        let text = shortened(&text, room);
        let letters = text.chars().count();
        let first = start + (end - start).saturating_sub(letters + 2) / 2;
        write_at(&mut row, first, &format!(" {text} "));
        row[at] = head;
        row.into_iter().collect()
    }
}

fn write_at(row: &mut [char], at: usize, text: &str) {
    for (place, letter) in row.iter_mut().skip(at).zip(text.chars()) {
        *place = letter;
    }
}
