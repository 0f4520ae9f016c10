//! Who holds the memory, written for a person or for a program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use advisor_facts::clock::Moment;
use advisor_facts::condition::{Condition, ConditionSums, Sum};
use advisor_facts::processes::Process;
use advisor_facts::sock_diag::{SocketOptions, TcpSocket};
use advisor_facts::units::bytes;
use advisor_facts::{SocketSource, Unseen};
use advisor_report::escape::inert;
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::json;
use crate::sockets::{By, Group, Row, SocketRow, Survey};

/// Wider lines than this are hard to read.
const WIDEST: usize = 100;
/// Narrower ones break every other word.
const NARROWEST: usize = 40;
/// Where the text behind the figures begins.
const INDENT: &str = "             ";

const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// Writes the answer in lines of `width` columns, as near as is readable.
pub fn write(out: &mut dyn io::Write, survey: &Survey, width: usize) -> io::Result<()> {
    let width = width.clamp(NARROWEST, WIDEST);
    let mut text = String::new();
    for line in textwrap::wrap(&inert(&answer(survey)), width) {
        let _ = writeln!(text, "{STRONG}{line}{STRONG:#}");
    }
    fill(&mut text, &looked_at(survey), "", "", width);
    for row in &survey.rows {
        text.push('\n');
        match row {
            Row::Socket(row) => write_socket(&mut text, row, width),
            Row::Group(row) => {
                let total = row.sums.total();
                let first = format!("{:>11}  {}", bytes(total.bytes), group(&row.group));
                fill_strong(&mut text, &first, width);
                if let Group::Process(process) = &row.group {
                    write_command(&mut text, process, width);
                }
                let line = format!("{}: {}", count(total.sockets), conditions(&row.sums));
                fill(&mut text, &line, INDENT, INDENT, width);
            }
        }
    }
    let shown = survey.rows.len();
    let more = match survey.row_count {
        Some(count) if count > shown => {
            format!("{} more are not shown: --top N shows more.", count - shown)
        }
        Some(_) => String::new(),
        None => format!(
            "There are more than can be told apart: figures may be up to {} too low, and smaller \
             ones are left out.",
            bytes(survey.understated_bytes)
        ),
    };
    if !more.is_empty() {
        text.push('\n');
        fill(&mut text, &more, "", "", width);
    }
    if !survey.unseen.is_empty() {
        let _ = writeln!(text, "\n{STRONG}Not seen{STRONG:#}");
        for unseen in &survey.unseen {
            let line = format!("{}: {}", unseen.what, unseen.why);
            fill(&mut text, &line, "  ", "    ", width);
        }
    }
    out.write_all(text.as_bytes())
}

/// The answer in a line: how much is held, and in what condition the peers are
/// for which the most of it is; and what could not be seen.
fn answer(survey: &Survey) -> String {
    if survey.source.is_none() {
        return "The sockets cannot be seen.".to_owned();
    }
    let total = survey.total.total();
    let holds = if total.sockets == 1 { "holds" } else { "hold" };
    let mut answer = format!("{} {holds} {}", count(total.sockets), bytes(total.bytes));
    let conditions = survey.total.conditions();
    let most = conditions.iter().find(|(_, sum)| sum.bytes > 0);
    let share = most.and_then(|(condition, sum)| Some((condition, sum, share_of(*condition)?)));
    if let Some((_, sum, words)) = share {
        let share = u128::from(sum.bytes) * 100 / u128::from(total.bytes.max(1));
        let _ = write!(answer, ", {share}% of it {words}");
    }
    // A leak of descriptors may hold no memory.
    let is_told = share.is_some_and(|(condition, ..)| condition.is_amiss());
    let amiss = conditions
        .iter()
        .filter(|(condition, sum)| condition.is_amiss() && !is_told && sum.sockets >= MANY);
    if let Some((condition, sum)) = amiss.max_by_key(|(_, sum)| sum.sockets)
        && let Some(words) = share_of(*condition)
    {
        let _ = write!(answer, "; {} {words}", count(sum.sockets));
    }
    answer += ".";
    let unseen: Vec<&str> = survey.unseen.iter().map(|one| one.what.as_str()).collect();
    if !unseen.is_empty() {
        let _ = write!(answer, " Not seen: {}.", unseen.join(", "));
    }
    answer
}

/// So many sockets with which something is amiss are told, whatever they hold.
const MANY: u64 = 10;

/// By which sockets a share of the memory is held; `None` where that says nothing.
const fn share_of(condition: Condition) -> Option<&'static str> {
    Some(match condition {
        Condition::Dead => "for peers that are dead",
        Condition::ZeroWindow => "for peers that do not read",
        Condition::Unread => "unread by the programs here",
        Condition::ClosedByPeer => "in CLOSE_WAIT: the peers have closed, the programs here not",
        Condition::HalfClosed => "in half-closed connections",
        Condition::Slow => "for slow peers",
        Condition::Idle => "for idle peers",
        Condition::Healthy => "for healthy peers",
        Condition::Connecting => "in connections that are being made",
        Condition::NotAccepted => "in connections that wait for accept()",
        Condition::OrphanDead => "in orphans whose peers are dead",
        Condition::OrphanZeroWindow => "in orphans whose peers do not read",
        Condition::OrphanHalfClosed => "in orphans in FIN_WAIT2",
        Condition::OrphanDraining => "in orphans that are still sending",
        Condition::Orphan => "in orphans",
        Condition::TimeWait
        | Condition::Listener
        | Condition::Request
        | Condition::Unconnected
        | Condition::Unknown => return None,
    })
}

/// What was looked at.
fn looked_at(survey: &Survey) -> String {
    let namespaces = match survey.namespaces {
        1 => "1 network namespace".to_owned(),
        count => format!("{count} network namespaces"),
    };
    let source = survey.source.map_or("nothing", SocketSource::as_str);
    let by = match survey.by {
        By::Memory => "those that are alike together",
        By::Process => "by process",
        By::Container => "by container",
        By::Peer => "by peer",
        By::State => "by state",
    };
    let conditions = conditions(&survey.total);
    let place = match (&survey.hostname, survey.taken_at) {
        (Some(host), Some(time)) => format!(" of {host}, {time},"),
        (Some(host), None) => format!(" of {host}"),
        (None, Some(time)) => format!(" at {time}"),
        (None, None) => String::new(),
    };
    if conditions.is_empty() {
        return format!("Looked at {namespaces}{place} by {source}.");
    }
    format!("Looked at {namespaces}{place} by {source}: {conditions}. Most first, {by}:")
}

fn count(sockets: u64) -> String {
    match sockets {
        1 => "1 TCP socket".to_owned(),
        count => format!("{count} TCP sockets"),
    }
}

/// `3 dead with 1.0 MiB; 2 idle`.
fn conditions(sums: &ConditionSums) -> String {
    let conditions: Vec<_> = sums
        .conditions()
        .into_iter()
        .map(
            |(
                condition,
                Sum {
                    sockets,
                    bytes: held,
                },
            )| match held {
                0 => format!("{sockets} {condition}"),
                held => format!("{sockets} {condition} with {}", bytes(held)),
            },
        )
        .collect();
    conditions.join("; ")
}

fn write_socket(text: &mut String, row: &SocketRow, width: usize) {
    let socket = &row.socket;
    let condition = Condition::of(socket);
    let style = match condition {
        Condition::Dead | Condition::OrphanDead => AnsiColor::Red.on_default().bold(),
        condition if condition.is_amiss() => AnsiColor::Yellow.on_default().bold(),
        _ => STRONG,
    };
    let peer = match condition {
        condition if !condition.is_connection() => socket.local.to_string(),
        _ => format!("{} -> {}", plain(socket, true), plain(socket, false)),
    };
    let _ = writeln!(
        text,
        "{STRONG}{:>11}{STRONG:#}  {style}{condition}{style:#}  {} {peer}",
        bytes(row.alike.bytes),
        socket.state,
    );
    if row.alike.sockets > 1 {
        let mut line = format!("{} alike", row.alike.sockets);
        if row.alike.bytes > 0 {
            let largest = bytes(socket.held_bytes());
            let _ = write!(line, ", of which this one holds most: {largest}");
        }
        fill(text, &line, INDENT, INDENT, width);
    }
    let mut place = holder(row);
    if let Some(namespace) = row.namespace {
        let _ = write!(place, ", network namespace {namespace}");
    }
    fill(text, &place, INDENT, INDENT, width);
    for process in &row.processes {
        write_command(text, process, width);
    }
    let mut reason = condition.reason(socket);
    if let Some(ends) = condition.ends_of(socket) {
        let _ = write!(reason, "; {ends}");
    }
    for line in textwrap::wrap(&reason, width - INDENT.len()) {
        let _ = writeln!(text, "{INDENT}{FAINT}{line}{FAINT:#}");
    }
}

/// An address, one of IPv4 in an IPv6 socket as people write it.
fn plain(socket: &TcpSocket, local: bool) -> String {
    let mut address = if local { socket.local } else { socket.peer };
    if let Some(v4) = address
        .ip()
        .to_canonical()
        .is_ipv4()
        .then(|| address.ip().to_canonical())
    {
        address = std::net::SocketAddr::new(v4, address.port());
    }
    address.to_string()
}

/// Who holds a socket.
fn holder(row: &SocketRow) -> String {
    let processes: Vec<_> = row.processes.iter().map(Process::to_string).collect();
    match processes.as_slice() {
        [] if row.socket.inode != 0 => {
            format!("a process of user {} that cannot be seen", row.socket.uid)
        }
        [] if row.socket.is_orphan() => "an orphan: no process holds it".to_owned(),
        [] if row.socket.waits_for_accept() => "it waits for accept()".to_owned(),
        [] => "no process holds it".to_owned(),
        processes => processes.join(", "),
    }
}

/// The command line of a process, where it was asked for.
fn write_command(text: &mut String, process: &Process, width: usize) {
    if let Some(command) = &process.command {
        fill(text, command, INDENT, INDENT, width);
    }
}

fn group(group: &Group) -> String {
    match group {
        Group::Process(process) => process.to_string(),
        Group::Container(name) => format!("container {name}"),
        Group::NoContainer => "processes in no container".to_owned(),
        Group::Orphans => "orphans: no process holds them".to_owned(),
        Group::Waiting => "connections that wait for accept()".to_owned(),
        Group::Records => "requests and TIME_WAIT records".to_owned(),
        Group::UnknownProcess => "processes that cannot be seen".to_owned(),
        Group::Peer(address) if address.is_unspecified() => "no peer".to_owned(),
        Group::Peer(address) => address.to_string(),
        Group::State(state) => state.to_string(),
    }
}

fn fill(text: &mut String, content: &str, first: &str, others: &str, width: usize) {
    let options = textwrap::Options::new(width)
        .initial_indent(first)
        .subsequent_indent(others)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    text.push_str(&textwrap::fill(&inert(content), options));
    text.push('\n');
}

fn fill_strong(text: &mut String, content: &str, width: usize) {
    let content = inert(content);
    let options = textwrap::Options::new(width).subsequent_indent(INDENT);
    for line in textwrap::wrap(&content, options) {
        let _ = writeln!(text, "{STRONG}{line}{STRONG:#}");
    }
}

/// The format of `advisor sockets --format json`. Keys may be added, never
/// renamed.
#[derive(Serialize)]
struct Answer<'a> {
    schema: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_at: Option<Moment>,
    by: &'static str,
    source: Option<&'static str>,
    network_namespaces: usize,
    #[serde(flatten)]
    total: Holding,
    rows: Vec<AnswerRow<'a>>,
    /// How many there are; `None` where some were given up.
    row_count: Option<usize>,
    understated_bytes: u64,
    unseen: &'a [Unseen],
}

/// What a number of sockets holds.
#[derive(Serialize)]
struct Holding {
    sockets: u64,
    bytes: u64,
    conditions: BTreeMap<Condition, Conditioned>,
}

#[derive(Serialize)]
struct Conditioned {
    sockets: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnswerRow<'a> {
    Socket {
        bytes: u64,
        /// It and those that are alike.
        alike: Conditioned,
        condition: Condition,
        reason: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        ends: Option<&'static str>,
        state: &'static str,
        local: String,
        peer: String,
        recv_queue_bytes: u32,
        send_queue_bytes: u32,
        network_namespace: Option<u32>,
        orphan: bool,
        uid: u32,
        processes: &'a [Process],
        options: Option<SocketOptions>,
    },
    Group {
        #[serde(skip_serializing_if = "Option::is_none")]
        process: Option<&'a Process>,
        #[serde(skip_serializing_if = "Option::is_none")]
        container: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<&'static str>,
        /// The group for people.
        name: String,
        #[serde(flatten)]
        holding: Holding,
    },
}

impl From<&ConditionSums> for Holding {
    fn from(sums: &ConditionSums) -> Self {
        let Sum { sockets, bytes } = sums.total();
        Self {
            sockets,
            bytes,
            conditions: sums
                .conditions()
                .into_iter()
                .map(|(condition, Sum { sockets, bytes })| {
                    (condition, Conditioned { sockets, bytes })
                })
                .collect(),
        }
    }
}

/// Writes the answer as JSON.
pub fn write_json(out: &mut dyn io::Write, survey: &Survey) -> io::Result<()> {
    let rows = survey
        .rows
        .iter()
        .map(|row| match row {
            Row::Socket(row) => {
                let socket = &row.socket;
                let condition = Condition::of(socket);
                AnswerRow::Socket {
                    bytes: socket.held_bytes(),
                    alike: Conditioned {
                        sockets: row.alike.sockets,
                        bytes: row.alike.bytes,
                    },
                    condition,
                    reason: condition.reason(socket),
                    ends: condition.ends_of(socket),
                    state: socket.state.as_str(),
                    local: socket.local.to_string(),
                    peer: socket.peer.to_string(),
                    recv_queue_bytes: socket.recv_queue_bytes,
                    send_queue_bytes: socket.send_queue_bytes,
                    network_namespace: row.namespace,
                    orphan: socket.is_orphan(),
                    uid: socket.uid,
                    processes: &row.processes,
                    options: socket.options,
                }
            }
            Row::Group(row) => AnswerRow::Group {
                process: match &row.group {
                    Group::Process(process) => Some(process),
                    _ => None,
                },
                container: match &row.group {
                    Group::Container(name) => Some(name),
                    _ => None,
                },
                peer: match &row.group {
                    Group::Peer(address) => Some(address.to_string()),
                    _ => None,
                },
                state: match &row.group {
                    Group::State(state) => Some(state.as_str()),
                    _ => None,
                },
                name: group(&row.group),
                holding: (&row.sums).into(),
            },
        })
        .collect();
    json::write(
        out,
        &Answer {
            schema: 1,
            hostname: survey.hostname.as_deref(),
            taken_at: survey.taken_at,
            by: survey.by.as_str(),
            source: survey.source.map(SocketSource::as_str),
            network_namespaces: survey.namespaces,
            total: (&survey.total).into(),
            rows,
            row_count: survey.row_count,
            understated_bytes: survey.understated_bytes,
            unseen: &survey.unseen,
        },
    )
}
