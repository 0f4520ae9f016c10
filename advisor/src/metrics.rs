//! Gauges with their limits, resets by reason and process, and findings, as Prometheus
//! reads them: the text format 0.0.4, or OpenMetrics 1.0.

pub mod alerts;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use advisor_facts::counters::Counters;
use advisor_facts::happened::{Happened, Kind as EventKind};
use advisor_facts::{Facts, Look};
use advisor_report::escape::inert;

use crate::gauges::{self, COUNTERS, Gauge, Reading, Unit};
use crate::plan::Advice;

/// So many series of one name are told apart by process; the rest is `other`.
const SERIES: usize = 200;
/// So many processes and listeners are shown, those nearest to their limits.
const NEAREST: usize = 20;

/// The name of the findings.
const FINDINGS: &str = "lastbyte_findings";

/// How metrics are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// The text format 0.0.4 of Prometheus.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that an Accept header asks for.
    pub fn accepted(accept: &str) -> Self {
        let mut kinds = accept.split(',');
        if kinds.any(|kind| kind.trim().starts_with("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Whether a value only grows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Gauge,
    Counter,
}

/// Labels, each a name and a value.
type Labels = Vec<(&'static str, String)>;

/// All series of one name.
struct Family {
    kind: Kind,
    help: String,
    series: BTreeMap<Labels, u64>,
}

/// Metrics of a host at one moment.
#[derive(Default)]
pub struct Metrics {
    families: BTreeMap<String, Family>,
    /// Whose a network namespace is, by its inode.
    owners: BTreeMap<u32, String>,
}

impl Metrics {
    /// Metrics that have nothing yet; `facts` say whose the network namespaces are.
    pub fn new(facts: &Facts) -> Self {
        let mut metrics = Self::default();
        for place in facts.by_namespace() {
            if let Some(place) = place.place {
                let container = facts
                    .processes
                    .all
                    .iter()
                    .find(|process| Some(process.pid) == place.pid)
                    .and_then(|process| process.container.clone());
                let owner = container.or(place.name).or(place.program);
                metrics
                    .owners
                    .insert(place.inode, owner.unwrap_or_default());
            }
        }
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        metrics.put(
            "lastbyte_build_info",
            Kind::Gauge,
            "The version of the advisor",
            version,
            1,
        );
        metrics
    }

    /// What one look at a host says.
    pub fn of_facts(facts: &Facts, advice: &Advice) -> Self {
        let mut metrics = Self::new(facts);
        for (gauge, namespace, reading) in gauges::of_facts(facts) {
            metrics.gauge(gauge, namespace, &reading);
        }
        metrics.counters(None, &facts.now.counters);
        for other in &facts.now.elsewhere {
            metrics.counters(Some(other.inode), &other.counters);
        }
        metrics.look(facts, advice);
        metrics
    }

    /// What only a look at sockets and processes tells.
    pub fn look(&mut self, facts: &Facts, advice: &Advice) {
        self.descriptors(facts);
        self.queues(&facts.now, facts);
        let help = "Findings of the rules at the last look, by code";
        self.family(FINDINGS, Kind::Gauge, help);
        for step in &advice.recommendations {
            let labels = vec![
                ("code", step.code.to_owned()),
                ("name", step.name.to_owned()),
                ("severity", step.finding.severity.to_string()),
            ];
            self.add(FINDINGS, Kind::Gauge, help, labels, 1);
        }
        if let Some(taken) = facts.taken_at {
            self.put(
                "lastbyte_look_timestamp_seconds",
                Kind::Gauge,
                "When sockets and processes were last looked at",
                Vec::new(),
                taken.unix_s(),
            );
        }
    }

    /// A gauge of a network namespace, with its limit and its marks.
    pub fn gauge(&mut self, gauge: &Gauge, namespace: Option<u32>, reading: &Reading) {
        let labels = if gauge.is_of_the_kernel {
            Vec::new()
        } else {
            self.place(namespace)
        };
        let bound = |word: &str| bound_name(gauge, word);
        let help = gauge.help;
        self.put(
            gauge.metric,
            Kind::Gauge,
            help,
            labels.clone(),
            reading.value,
        );
        let limit = format!("The limit of {} ({})", gauge.metric, gauge.setting);
        self.put(
            &bound("limit"),
            Kind::Gauge,
            &limit,
            labels.clone(),
            reading.limit,
        );
        let near = format!("From here on {} of {} is near", gauge.name, gauge.code);
        self.put(
            &bound("near"),
            Kind::Gauge,
            &near,
            labels.clone(),
            reading.near,
        );
        let mark = format!("From here on {}", gauge.harm);
        self.put(&bound("mark"), Kind::Gauge, &mark, labels, reading.mark);
    }

    /// The counters of a network namespace that the rules judge.
    pub fn counters(&mut self, namespace: Option<u32>, counters: &Counters) {
        for counter in COUNTERS {
            let count = counters.get(counter.name).map(i64::cast_unsigned);
            if let Some(count) = count {
                let labels = self.place(namespace);
                self.put(counter.metric, Kind::Counter, counter.help, labels, count);
            }
        }
    }

    /// What happened since the watch began.
    pub fn happened(&mut self, happened: &Happened) {
        self.put(
            "lastbyte_events_lost_total",
            Kind::Counter,
            "Events that no room was left for",
            Vec::new(),
            happened.lost,
        );
        for kind in [
            EventKind::ResetSent,
            EventKind::ResetReceived,
            EventKind::Drop,
        ] {
            let (name, help) = of_events(kind);
            self.family(name, Kind::Counter, help);
        }
        for group in &happened.groups {
            let one = &group.all;
            if !matches!(
                one.kind,
                EventKind::ResetSent | EventKind::ResetReceived | EventKind::Drop
            ) {
                continue;
            }
            let (name, help) = of_events(one.kind);
            let is_full = |family: &Family| family.series.len() >= SERIES;
            let is_full = self.families.get(name).is_some_and(is_full);
            let process = one.process.as_ref().filter(|_| !is_full);
            let mut labels = Labels::new();
            if one.kind != EventKind::ResetReceived {
                let reason = one.reason.clone().unwrap_or_else(|| "UNKNOWN".to_owned());
                labels.push(("reason", reason));
            }
            let other = if is_full { "other" } else { "" };
            labels.push((
                "process",
                process.map_or(other.to_owned(), |process| {
                    let script = process.script.as_ref();
                    script.unwrap_or(&process.name).clone()
                }),
            ));
            let unit = process.and_then(|process| process.unit());
            labels.push(("unit", unit.unwrap_or_default().to_owned()));
            let container = process.and_then(|process| process.container.clone());
            labels.push(("container", container.unwrap_or_default()));
            self.add(name, Kind::Counter, help, labels, one.count);
        }
    }

    /// Processes near their limit of descriptors.
    fn descriptors(&mut self, facts: &Facts) {
        let mut nearest: Vec<_> = facts.processes.descriptors().collect();
        nearest.sort_by_key(|(_, open, limit)| {
            std::cmp::Reverse(u128::from(*open) * 1_000_000 / u128::from((*limit).max(1)))
        });
        for (process, open, limit) in nearest.into_iter().take(NEAREST) {
            let script = process.script.as_ref();
            let labels = vec![
                ("pid", process.pid.to_string()),
                ("process", script.unwrap_or(&process.name).clone()),
                ("container", process.container.clone().unwrap_or_default()),
            ];
            let help = "Open descriptors of the processes that are nearest to their limit";
            let name = "lastbyte_process_open_descriptors";
            self.put(name, Kind::Gauge, help, labels.clone(), open);
            let help = "The limit of lastbyte_process_open_descriptors (RLIMIT_NOFILE)";
            let name = "lastbyte_process_open_descriptors_limit";
            self.put(name, Kind::Gauge, help, labels, limit);
        }
    }

    /// Listeners with the fullest queues.
    fn queues(&mut self, look: &Look, facts: &Facts) {
        let mut fullest: Vec<_> = look
            .every_socket()
            .filter(|(_, socket)| socket.state == advisor_facts::sock_diag::TcpState::Listen)
            .collect();
        fullest.sort_by_key(|(_, socket)| {
            let room = u64::from(socket.send_queue_bytes).max(1);
            std::cmp::Reverse(u64::from(socket.recv_queue_bytes) * 1_000_000 / room)
        });
        for (namespace, socket) in fullest.into_iter().take(NEAREST) {
            let mut labels = self.place(namespace.map(|namespace| namespace.inode));
            labels.push(("address", socket.local.to_string()));
            let process = facts.processes.of(socket.inode).next();
            labels.push((
                "process",
                process.map_or_else(String::new, |process| {
                    let script = process.script.as_ref();
                    script.unwrap_or(&process.name).clone()
                }),
            ));
            let help = "Connections that wait for accept(), of the listeners with the fullest \
                queues";
            let name = "lastbyte_listen_queue_connections";
            let waiting = u64::from(socket.recv_queue_bytes);
            self.put(name, Kind::Gauge, help, labels.clone(), waiting);
            let help = "The limit of lastbyte_listen_queue_connections (the backlog)";
            let name = "lastbyte_listen_queue_connections_limit";
            let room = u64::from(socket.send_queue_bytes);
            self.put(name, Kind::Gauge, help, labels, room);
        }
    }

    /// The labels of a network namespace.
    fn place(&self, namespace: Option<u32>) -> Labels {
        let owner = namespace.and_then(|inode| self.owners.get(&inode)).cloned();
        vec![
            (
                "netns",
                namespace.map_or_else(String::new, |inode| inode.to_string()),
            ),
            ("owner", owner.unwrap_or_default()),
        ]
    }

    fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut Family {
        self.families
            .entry(name.to_owned())
            .or_insert_with(|| Family {
                kind,
                help: help.to_owned(),
                series: BTreeMap::new(),
            })
    }

    fn put(&mut self, name: &str, kind: Kind, help: &str, labels: Labels, value: u64) {
        self.family(name, kind, help).series.insert(labels, value);
    }

    fn add(&mut self, name: &str, kind: Kind, help: &str, labels: Labels, value: u64) {
        let series = &mut self.family(name, kind, help).series;
        *series.entry(labels).or_default() += value;
    }

    /// The text.
    pub fn text(&self, format: Format) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            // OpenMetrics names a counter without what its samples end with.
            let named = match (format, family.kind) {
                (Format::OpenMetrics, Kind::Counter) => name.trim_end_matches("_total"),
                _ => name,
            };
            let kind = match family.kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
            };
            let help = escaped(&family.help, format == Format::OpenMetrics);
            let _ = writeln!(text, "# HELP {named} {help}.");
            let _ = writeln!(text, "# TYPE {named} {kind}");
            for (labels, value) in &family.series {
                let labels: Vec<_> = labels
                    .iter()
                    .map(|(label, value)| format!("{label}=\"{}\"", escaped(value, true)))
                    .collect();
                let _ = match labels.as_slice() {
                    [] => writeln!(text, "{name} {value}"),
                    labels => writeln!(text, "{name}{{{}}} {value}", labels.join(",")),
                };
            }
        }
        if format == Format::OpenMetrics {
            text += "# EOF\n";
        }
        text
    }
}

/// The name of a bound of a gauge: `lastbyte_tcp_memory_limit_bytes`.
fn bound_name(gauge: &Gauge, word: &str) -> String {
    match gauge.unit {
        Unit::Bytes => format!("{}_{word}_bytes", gauge.metric.trim_end_matches("_bytes")),
        Unit::Count => format!("{}_{word}", gauge.metric),
    }
}

/// The name of the counter of a kind of event, and what it counts.
fn of_events(kind: EventKind) -> (&'static str, &'static str) {
    match kind {
        EventKind::ResetReceived => (
            "lastbyte_resets_received_total",
            "Resets that came, by the process on whose port",
        ),
        EventKind::Drop => (
            "lastbyte_drops_total",
            "Packets that were dropped at a limit, by the kernel's reason",
        ),
        _ => (
            "lastbyte_resets_sent_total",
            "Resets that were sent, by the kernel's reason and the process that closed",
        ),
    }
}

/// A text in which nothing ends a line, or in quotes the text. Names are inert: the page
/// is read in terminals, too.
fn escaped(text: &str, in_quotes: bool) -> String {
    let lines: Vec<_> = text.split('\n').map(inert).collect();
    let text = lines.join("\n").replace('\\', "\\\\").replace('\n', "\\n");
    if in_quotes {
        text.replace('"', "\\\"")
    } else {
        text
    }
}

#[cfg(test)]
mod tests;
