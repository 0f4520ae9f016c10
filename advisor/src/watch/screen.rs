//! The live screen of a watch: gauges against their limits, who holds what, what happened,
//! and what the rules have found.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Stdout};
use std::time::Duration;

use advisor_facts::happened::{Happened, Held, Level};
use advisor_report::escape::inert;
use advisor_report::record::Line;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::{Output, Shown, plain};
use crate::gauges::{Gauge, Reading};

/// So many samples of a gauge are shown: minutes.
const SAMPLES: usize = 180;
/// So many lines about the watch itself are remembered.
const NOTES: usize = 3;
/// So many gauges are shown, those nearest to their limits.
const GAUGES: usize = 6;
/// So many findings are remembered.
const FINDINGS: usize = 50;

/// What the screen shows.
pub(crate) struct View {
    title: String,
    own: Option<u32>,
    gauges: BTreeMap<(&'static str, Option<u32>), Row>,
    held_bytes: u64,
    holders: Vec<Held>,
    happened: Happened,
    findings: VecDeque<(String, String)>,
    notes: VecDeque<String>,
    sorts_by_count: bool,
    is_paused: bool,
    has_colours: bool,
}

struct Row {
    gauge: &'static Gauge,
    reading: Reading,
    /// Percent of the limit, the oldest first.
    history: VecDeque<u64>,
}

impl View {
    pub(crate) fn new(has_colours: bool) -> Self {
        Self {
            title: String::new(),
            own: None,
            gauges: BTreeMap::new(),
            held_bytes: 0,
            holders: Vec::new(),
            happened: Happened::default(),
            findings: VecDeque::new(),
            notes: VecDeque::new(),
            sorts_by_count: false,
            is_paused: false,
            has_colours,
        }
    }

    pub(crate) fn line(&mut self, line: &Line) {
        line.add_to(&mut self.happened);
        match line {
            Line::Start {
                hostname,
                kernel,
                namespace,
                unseen,
                ..
            } => {
                self.own = *namespace;
                let host = hostname.as_deref().unwrap_or("this host");
                self.title = format!("{host}, Linux {kernel}");
                for one in unseen {
                    remember(&mut self.notes, format!("not seen: {}", one.what), NOTES);
                }
            }
            Line::Holders {
                held_bytes,
                holders,
                ..
            } => (self.held_bytes, self.holders) = (*held_bytes, holders.clone()),
            Line::Finding {
                code,
                severity,
                summary,
                subject,
                ..
            } => remember(
                &mut self.findings,
                (severity.clone(), format!("{code} {summary}; on {subject}")),
                FINDINGS,
            ),
            Line::Note { text, .. } => remember(&mut self.notes, text.clone(), NOTES),
            Line::Lost { events, .. } => {
                remember(&mut self.notes, format!("{events} events were lost"), NOTES);
            }
            Line::Event(_) | Line::Gauge { .. } | Line::End { .. } => {}
        }
    }

    pub(crate) fn gauges(&mut self, gauges: &mut dyn Iterator<Item = Shown>) {
        let mut seen = Vec::new();
        for (namespace, gauge, reading) in gauges {
            let key = (gauge.name, namespace);
            let row = self.gauges.entry(key).or_insert_with(|| Row {
                gauge,
                reading,
                history: VecDeque::new(),
            });
            row.reading = reading;
            remember(&mut row.history, reading.percent(), SAMPLES);
            seen.push(key);
        }
        seen.sort_unstable();
        self.gauges.retain(|key, _| seen.binary_search(key).is_ok());
    }

    /// Takes a key; false where it ends the watch.
    pub(crate) fn key(&mut self, key: KeyEvent) -> bool {
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => self.sorts_by_count = !self.sorts_by_count,
            _ => {}
        }
        true
    }

    fn style(&self, colour: Color) -> Style {
        if self.has_colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    pub(crate) fn draw(&self, frame: &mut ratatui::Frame<'_>) {
        let shown = u16::try_from(self.gauges.len().min(GAUGES))
            .unwrap_or(1)
            .max(1);
        let holders = u16::try_from(self.holders.len().min(3)).unwrap_or(0);
        let [title, gauges, held, events, findings, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(shown + 1),
            Constraint::Length(holders + u16::from(holders > 0)),
            Constraint::Min(3),
            Constraint::Length(4),
            Constraint::Length(2),
        ])
        .areas(frame.area());
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let paused = if self.is_paused { "  PAUSED" } else { "" };
        let until = self.happened.until.time_of_day();
        frame.render_widget(
            Text::styled(
                format!("advisor watch  {}  {until}{paused}", self.title),
                bold,
            ),
            title,
        );
        let block = |name: &'static str| Block::new().borders(Borders::TOP).title(name);
        let width = usize::from(gauges.width);
        let lines = Paragraph::new(self.gauge_lines(width)).block(block(" gauges "));
        frame.render_widget(lines, gauges);
        let lines: Vec<_> = self
            .holders
            .iter()
            .map(|held| Text::raw(inert(&plain::share(held, self.held_bytes))))
            .collect();
        frame.render_widget(
            Paragraph::new(lines).block(block(" memory is held by ")),
            held,
        );
        let name = if self.sorts_by_count {
            " events, the most frequent first "
        } else {
            " events, the last first "
        };
        frame.render_widget(
            Paragraph::new(self.event_lines()).block(block(name)),
            events,
        );
        let lines: Vec<_> = self
            .findings
            .iter()
            .rev()
            .map(|(severity, words)| {
                let colour = match severity.as_str() {
                    "critical" => Color::Red,
                    "warning" => Color::Yellow,
                    _ => Color::Cyan,
                };
                Text::from(vec![
                    Span::styled(format!("{severity:<9}"), self.style(colour)),
                    Span::raw(inert(words)),
                ])
            })
            .collect();
        frame.render_widget(Paragraph::new(lines).block(block(" findings ")), findings);
        let note = self.notes.back().map_or("", String::as_str);
        let keys = "q end  p pause  s sort events by time or number";
        let lines = vec![Text::raw(inert(note)), Text::raw(keys)];
        frame.render_widget(Paragraph::new(lines), foot);
    }

    /// A line for each gauge: its name, value and limit, and its last minutes.
    fn gauge_lines(&self, width: usize) -> Vec<Text<'static>> {
        let mut rows: Vec<_> = self.gauges.iter().collect();
        rows.sort_by_key(|(key, row)| (std::cmp::Reverse(row.reading.percent()), **key));
        rows.into_iter()
            .take(GAUGES)
            .map(|((name, namespace), row)| {
                let amount = |value| row.gauge.unit.amount(value);
                let name = match namespace {
                    Some(inode) => format!("{name} {inode}"),
                    None => (*name).to_owned(),
                };
                let words = format!(
                    "{name:<21} {:>10} of {:>10} {:>4}% ",
                    amount(row.reading.value),
                    amount(row.reading.limit),
                    row.reading.percent()
                );
                let colour = match row.reading.level() {
                    Level::Calm => Color::Green,
                    Level::Near => Color::Yellow,
                    Level::Over => Color::Red,
                };
                let room = width.saturating_sub(words.chars().count());
                let bars = spark(&row.history, room);
                Text::from(vec![
                    Span::raw(words),
                    Span::styled(bars, self.style(colour)),
                ])
            })
            .collect()
    }

    fn event_lines(&self) -> Vec<Text<'static>> {
        let mut groups: Vec<_> = self.happened.groups.iter().collect();
        if self.sorts_by_count {
            groups.sort_by_key(|group| std::cmp::Reverse(group.all.count));
        } else {
            groups.sort_by_key(|group| std::cmp::Reverse(group.all.at));
        }
        if groups.is_empty() {
            return vec![Text::raw("none yet")];
        }
        groups
            .into_iter()
            .map(|group| {
                let words = format!(
                    "{} {:>7} {}",
                    group.all.at.time_of_day(),
                    group.all.count,
                    group.all.words(self.own)
                );
                Text::raw(inert(&words))
            })
            .collect()
    }
}

/// Puts something behind the others, which are at most so many.
fn remember<T>(all: &mut VecDeque<T>, one: T, most: usize) {
    all.push_back(one);
    if all.len() > most {
        all.pop_front();
    }
}

/// Percents as bars, the newest at the right end.
fn spark(history: &VecDeque<u64>, room: usize) -> String {
    const BARS: [char; 9] = [
        ' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}',
        '\u{2588}',
    ];
    let skipped = history.len().saturating_sub(room);
    let bar = |percent: &u64| {
        let eighths = usize::try_from(percent * 8 / 100).unwrap_or(8).min(8);
        // What is there at all is to be seen.
        BARS[eighths.max(usize::from(*percent > 0))]
    };
    history.iter().skip(skipped).map(bar).collect()
}

/// A terminal that shows a watch, and is as it was when this is dropped.
pub(crate) struct Screen {
    view: View,
    terminal: Terminal<CrosstermBackend<Stdout>>,
    is_new: bool,
}

impl Screen {
    /// Takes over the terminal.
    pub(crate) fn open() -> io::Result<Self> {
        let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        enable_raw_mode()?;
        let restored = Restored;
        execute!(io::stdout(), EnterAlternateScreen)?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        // What reads keys is made at the first question; later the kernel refuses it.
        event::poll(Duration::ZERO)?;
        std::mem::forget(restored);
        Ok(Self {
            view: View::new(has_colours),
            terminal,
            is_new: true,
        })
    }
}

/// Gives the terminal back when it is dropped.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
        drop(Restored);
    }
}

impl Output for Screen {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        self.view.line(line);
        self.is_new = true;
        Ok(())
    }

    fn gauges(&mut self, gauges: &mut dyn Iterator<Item = Shown>) {
        self.view.gauges(gauges);
        self.is_new = true;
    }

    fn show(&mut self) -> io::Result<bool> {
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if !self.view.key(key) => return Ok(false),
                _ => self.is_new = true,
            }
        }
        if std::mem::take(&mut self.is_new) && !self.view.is_paused {
            self.terminal.draw(|frame| self.view.draw(frame))?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
