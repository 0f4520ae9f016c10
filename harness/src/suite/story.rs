//! A scenario as a person would tell it: `harness show`.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value as Json;

use super::command::{Command, Ready};
use super::scenario::{Expected, Limits, Scenario};
use crate::impairment::{Drop, Impairment, Loss};
use crate::lab::address::Family;
use crate::lab::{Middlebox, OnUnknown};
use crate::step::{ActorStep, Documentation, Kind, LabStep, Step, flatten};
use crate::yaml::quantity::{self, write_percent as percent};
use crate::yaml::value::Entries;

/// Text is wrapped at this width.
const WIDTH: usize = 80;

/// Tells one scenario: its hosts and links, what each actor does in order, what
/// is expected and why.
pub fn tell(scenario: &Scenario) -> String {
    let mut story = format!("{}\n\n", scenario.id);
    paragraph(&mut story, "", &scenario.explains);
    story.push('\n');
    paragraph(&mut story, "source    ", &scenario.source);
    if let Some(id) = &scenario.see_also {
        paragraph(&mut story, "see also  ", id);
    }
    let hosts: Vec<String> = scenario
        .hosts
        .iter()
        .map(|host| format!("{host} {}", scenario.address_of(host)))
        .collect();
    let family = match scenario.family {
        Family::V4 => "",
        Family::V6 => ", by IPv6",
        Family::V4Mapped => ", IPv4 by IPv6 sockets",
    };
    let hosts = format!("{}, each behind the router{family}", hosts.join(", "));
    paragraph(&mut story, "hosts     ", &hosts);
    for line in links(scenario) {
        paragraph(&mut story, "link      ", &line);
    }
    if scenario.offload {
        paragraph(
            &mut story,
            "link      ",
            "with segmentation offload: up to 64 KiB as one packet",
        );
    }
    if let Some(middlebox) = scenario.middlebox {
        paragraph(&mut story, "router    ", &describe_middlebox(middlebox));
    }
    for (host, sysctls) in &scenario.sysctls {
        for (name, value) in sysctls {
            paragraph(
                &mut story,
                "sysctl    ",
                &format!("{name} = {value} on {host}"),
            );
        }
    }
    for (name, values) in &scenario.kernel_sysctls {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        let line = format!("{name} = {} of the whole machine", values.join(" "));
        paragraph(&mut story, "sysctl    ", &line);
    }
    let mut runs = format!(
        "{} runs of at most {} each",
        scenario.runs,
        duration(scenario.time_limit)
    );
    if scenario.runs == 1 {
        runs = format!("1 run of at most {}", duration(scenario.time_limit));
    }
    if scenario.long {
        runs.push_str(", with --long only");
    }
    if let Some(since) = scenario.since {
        let _ = write!(runs, ", from {since} on");
    }
    paragraph(&mut story, "runs      ", &runs);
    for actor in &scenario.actors {
        for (file, limit) in actor.memory_limits.into_iter().flat_map(Limits::files) {
            let line = format!("{} in a cgroup with {file} = {limit} bytes", actor.name);
            paragraph(&mut story, "limit     ", &line);
        }
        if let Some(command) = &actor.command {
            let _ = writeln!(story, "\n{} on {}", actor.name, actor.host);
            describe_command(&mut story, command);
            continue;
        }
        for task in &actor.tasks {
            let task_name = match task.name.as_str() {
                "" => String::new(),
                name => format!(", its task {name}"),
            };
            let _ = writeln!(story, "\n{} on {}{task_name}", actor.name, actor.host);
            list(&mut story, &task.steps, &ActorStep::documentation());
        }
    }
    if !scenario.lab.is_empty() {
        story.push_str("\nthe lab\n");
        list(&mut story, &scenario.lab, &LabStep::documentation());
    }
    story.push_str("\nexpected\n");
    for expected in &scenario.expectations {
        expectation(&mut story, expected);
    }
    story
}

/// Tells a matrix: its axes, and what is expected of which cells.
pub fn tell_matrix(id: &str, cells: &[&Scenario]) -> String {
    let mut story = format!("{id}\n\n");
    let axes = axes(cells);
    let places = || cells.iter().filter_map(|scenario| scenario.cell.as_ref());
    for (axis, values) in &axes {
        paragraph(&mut story, &format!("{axis:<10}"), &values.join(", "));
    }
    story.push('\n');
    if let Some(first) = cells.first() {
        paragraph(&mut story, "source    ", &first.source);
        if let Some(id) = &first.see_also {
            paragraph(&mut story, "see also  ", id);
        }
    }
    let covering = places().filter(|cell| cell.covering).count();
    let _ = writeln!(
        story,
        "\n{} cells, of which {covering} run without --full",
        cells.len()
    );
    // Cells of which the same is expected, for the same reasons, are one row.
    let mut rows: Vec<(String, Vec<&Scenario>)> = Vec::new();
    for scenario in cells {
        let mut expected = String::new();
        paragraph(&mut expected, "    ", &scenario.explains);
        for one in &scenario.expectations {
            expectation(&mut expected, one);
        }
        match rows.iter_mut().find(|(known, _)| *known == expected) {
            Some((_, row)) => row.push(scenario),
            None => rows.push((expected, vec![scenario])),
        }
    }
    for (expected, row) in rows {
        for block in blocks(row, 0) {
            story.push('\n');
            for (index, (axis, values)) in axes.iter().enumerate() {
                let there = values_there(&block, index);
                if there.len() < values.len() {
                    paragraph(&mut story, &format!("{axis:<10}"), &there.join(", "));
                }
            }
            story.push_str(&expected);
        }
    }
    story
}

/// The axes of a matrix with their values, in the order of the suite.
pub fn axes<'a>(cells: &[&'a Scenario]) -> Vec<(&'a str, Vec<&'a str>)> {
    let first = cells.first().and_then(|one| one.cell.as_ref());
    let names = first.iter().flat_map(|cell| &cell.axes).enumerate();
    names
        .map(|(index, (axis, _))| (axis.as_str(), values_there(cells, index)))
        .collect()
}

/// The values that cells have on an axis, each once.
pub fn values_there<'a>(cells: &[&'a Scenario], axis: usize) -> Vec<&'a str> {
    let mut there = Vec::new();
    for (_, value) in cells
        .iter()
        .filter_map(|one| one.cell.as_ref()?.axes.get(axis))
    {
        if !there.contains(&value.as_str()) {
            there.push(value.as_str());
        }
    }
    there
}

/// Splits cells so that each part is all combinations of the values in it, and
/// the values of each axis say which cells they are.
pub fn blocks(cells: Vec<&Scenario>, axis: usize) -> Vec<Vec<&Scenario>> {
    let axes = cells.first().and_then(|one| one.cell.as_ref());
    let axes = axes.map_or(0, |cell| cell.axes.len());
    let product: usize = (0..axes)
        .map(|axis| values_there(&cells, axis).len())
        .product();
    if product == cells.len() || axis >= axes {
        return vec![cells];
    }
    // Values with the same cells on the other axes stay together.
    let others = |one: &Scenario| -> Vec<String> {
        let axes = one.cell.iter().flat_map(|cell| &cell.axes).enumerate();
        let others = axes.filter(|(index, _)| *index != axis);
        others.map(|(_, (_, value))| value.clone()).collect()
    };
    let mut parts: Vec<(Vec<Vec<String>>, Vec<&Scenario>)> = Vec::new();
    for value in values_there(&cells, axis) {
        let of_value: Vec<&Scenario> = cells
            .iter()
            .copied()
            .filter(|one| values_there(&[one], axis) == [value])
            .collect();
        let rest: Vec<Vec<String>> = of_value.iter().map(|one| others(one)).collect();
        match parts.iter_mut().find(|(known, _)| *known == rest) {
            Some((_, part)) => part.extend(of_value),
            None => parts.push((rest, of_value)),
        }
    }
    parts
        .into_iter()
        .flat_map(|(_, part)| blocks(part, axis + 1))
        .collect()
}

fn paragraph(story: &mut String, lead: &str, text: &str) {
    let indent = " ".repeat(lead.chars().count());
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(lead)
        .subsequent_indent(&indent)
        .break_words(false);
    story.push_str(&textwrap::fill(text, options));
    story.push('\n');
}

fn links(scenario: &Scenario) -> Vec<String> {
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for (host, link) in &scenario.links {
        let text = describe_link(link);
        match lines.iter_mut().find(|(known, _)| *known == text) {
            Some((_, hosts)) => hosts.push(host),
            None => lines.push((text, vec![host])),
        }
    }
    lines
        .into_iter()
        .map(|(text, hosts)| format!("towards {}: {text}", hosts.join(" and ")))
        .collect()
}

fn describe_middlebox(middlebox: Middlebox) -> String {
    let mut text = "gives what it forwards its own address".to_owned();
    if let Some(seconds) = middlebox.idle_limit_seconds {
        let _ = write!(
            text,
            ", forgets connections after {seconds} s without a packet"
        );
    }
    let unknown = match middlebox.on_unknown {
        OnUnknown::Forward => "forwards",
        OnUnknown::Reset => "resets",
        OnUnknown::Drop => "drops",
    };
    let _ = write!(text, ", {unknown} what belongs to no connection");
    text
}

fn describe_drop(drop: &Drop) -> String {
    let mut parts = Vec::new();
    if drop.skip > 0 {
        parts.push(format!("after the first {}", drop.skip));
    }
    if let Some(first) = drop.first {
        parts.push(format!("{first} of"));
    } else if drop.every > 1 {
        parts.push(format!("every {}th of", drop.every));
    }
    parts.push("the TCP packets".to_owned());
    let flags = [
        ("FIN", 1),
        ("SYN", 2),
        ("RST", 4),
        ("PSH", 8),
        ("ACK", 16),
        ("URG", 32),
    ];
    let mut named: Vec<&str> = flags
        .iter()
        .filter(|(_, bit)| drop.flags & bit != 0)
        .map(|(name, _)| *name)
        .collect();
    if drop.with_data {
        named.push("data");
    }
    if !named.is_empty() {
        parts.push(format!("with {}", named.join(" and ")));
    }
    if let Some(bytes) = drop.larger_than {
        parts.push(format!("larger than {bytes} bytes"));
    }
    format!("drops {}", parts.join(" "))
}

fn describe_link(link: &Impairment) -> String {
    let none = Impairment::none();
    let mut parts = Vec::new();
    if let Some(rate) = link.rate_bits_per_second {
        parts.push(rate_text(rate));
    }
    if !link.delay.is_zero() {
        parts.push(format!("delay {}", duration(link.delay)));
    }
    if !link.jitter.is_zero() {
        parts.push(format!("jitter {}", duration(link.jitter)));
    }
    match &link.loss {
        Loss::None => {}
        Loss::Random(loss) => parts.push(format!("loss {}", percent(*loss))),
        Loss::GilbertElliott { p, r, .. } => parts.push(format!(
            "loss in bursts (p {}, r {})",
            percent(*p),
            percent(*r)
        )),
    }
    for (name, chance, nothing) in [
        ("duplicate", link.duplicate, none.duplicate),
        ("corrupt", link.corrupt, none.corrupt),
        ("reorder", link.reorder, none.reorder),
    ] {
        if chance != nothing {
            parts.push(format!("{name} {}", percent(chance)));
        }
    }
    if link.limit_packets != none.limit_packets {
        parts.push(format!("at most {} packets", link.limit_packets));
    }
    if let Some(mtu) = link.mtu {
        parts.push(format!("an MTU of {mtu} bytes"));
    }
    parts.extend(link.drops.iter().map(describe_drop));
    if parts.is_empty() {
        return "nothing impaired".to_owned();
    }
    parts.join(", ")
}

fn rate_text(rate: u64) -> String {
    match rate {
        rate if rate % 1_000_000_000 == 0 => format!("{} Gbit/s", rate / 1_000_000_000),
        rate if rate % 1_000_000 == 0 => format!("{} Mbit/s", rate / 1_000_000),
        rate if rate % 1000 == 0 => format!("{} kbit/s", rate / 1000),
        rate => format!("{rate} bit/s"),
    }
}

fn duration(time: Duration) -> String {
    format!("{time:?}")
}

fn list<K: Kind + Serialize>(story: &mut String, steps: &[Step<K>], known: &[Documentation]) {
    for (index, step) in steps.iter().enumerate() {
        let text = describe_step(step, known);
        paragraph(story, &format!("{:>4}. ", index + 1), &text);
    }
}

/// A step of a list as a call in a line: its name with what it was given.
pub fn call<K: Kind + Serialize + Described>(steps: &[Step<K>], name: &str) -> Option<String> {
    let step = flatten(steps).find(|step| step.name == name)?;
    Some(describe_call(step, K::documented()))
}

/// A kind of step whose documentation is at hand.
pub trait Described: Sized + 'static {
    /// It, made once: a trace asks for it for each call.
    fn documented() -> &'static [Documentation];
}

impl Described for ActorStep {
    fn documented() -> &'static [Documentation] {
        static KNOWN: OnceLock<Vec<Documentation>> = OnceLock::new();
        KNOWN.get_or_init(Self::documentation)
    }
}

impl Described for LabStep {
    fn documented() -> &'static [Documentation] {
        static KNOWN: OnceLock<Vec<Documentation>> = OnceLock::new();
        KNOWN.get_or_init(Self::documentation)
    }
}

/// A command: what is started, what is written for it, when it is ready.
fn describe_command(story: &mut String, command: &Command) {
    let words: Vec<String> = command
        .words
        .iter()
        .map(|word| {
            let is_plain =
                |letter: char| letter.is_ascii_alphanumeric() || "-_./:=+,".contains(letter);
            if word.chars().all(is_plain) && !word.is_empty() {
                word.clone()
            } else {
                format!("{word:?}")
            }
        })
        .collect();
    paragraph(story, "    runs      ", &words.join(" "));
    for (name, value) in &command.env {
        paragraph(story, "    with      ", &format!("{name}={value}"));
    }
    if let Some(directory) = &command.directory {
        paragraph(story, "    in        ", directory);
    }
    for (name, content) in &command.files {
        paragraph(story, "    file      ", &format!("{name}:"));
        for line in content.lines() {
            let _ = writeln!(story, "              {line}");
        }
    }
    let ready = match &command.ready {
        Ready::Started => "once it has started".to_owned(),
        Ready::Port(port) => format!("once it listens on {port}"),
        Ready::Line(line) => format!("once it prints {line:?}"),
        Ready::File(file) => format!("once there is {file}"),
    };
    paragraph(story, "    ready     ", &ready);
}

/// A step in a line: what it does, what it is called, what it waits for.
fn describe_step<K: Kind + Serialize>(step: &Step<K>, known: &[Documentation]) -> String {
    let mut text = describe_own(step, known);
    let word = step.kind.name();
    if step.name != word {
        let _ = write!(text, ", as {}", step.name);
    }
    if let Some(awaited) = step.waits_for().filter(|_| word != "await") {
        let _ = write!(text, ", once {awaited} has ended");
    }
    if !step.inner().is_empty() {
        let inner = step.inner().iter();
        let inner: Vec<String> = inner.map(|step| describe_step(step, known)).collect();
        let _ = write!(text, ": {}", inner.join("; "));
    }
    text
}

/// A step in a line, without what it is called and what it waits for.
fn describe_call<K: Kind + Serialize>(step: &Step<K>, known: &[Documentation]) -> String {
    let mut text = describe_own(step, known);
    if !step.inner().is_empty() {
        let inner = step.inner().iter();
        let inner: Vec<String> = inner.map(|step| describe_call(step, known)).collect();
        let _ = write!(text, ": {}", inner.join("; "));
    }
    text
}

/// A step's name, with what it was given.
fn describe_own<K: Kind + Serialize>(step: &Step<K>, known: &[Documentation]) -> String {
    let word = step.kind.name();
    let mut text = word.to_owned();
    let documentation = known.iter().find(|known| known.name == word);
    let shorthand = documentation.and_then(|known| known.shorthand);
    let given = given(&step.kind, documentation);
    if let Some((_, value)) = given
        .iter()
        .find(|(key, _)| Some(key.as_str()) == shorthand)
    {
        let _ = write!(text, " {value}");
    }
    for (key, value) in &given {
        if Some(key.as_str()) != shorthand {
            let _ = write!(text, ", {key} {value}");
        }
    }
    text
}

/// What a step takes and isn't the default, as the suite writes it, in the order in which
/// it is documented.
fn given<K: Serialize>(kind: &K, documentation: Option<&Documentation>) -> Vec<(String, String)> {
    // Text keeps the order of the keys; a tree of JSON doesn't.
    let json = serde_json::to_string(kind).unwrap_or_default();
    let Ok(Entries(kinds)) = serde_json::from_str::<Entries<Entries<Json>>>(&json) else {
        return Vec::new();
    };
    let takes = kinds.into_iter().flat_map(|(_, takes)| takes.0);
    takes
        .filter(|(key, value)| {
            let default = documentation.map(|known| &known.takes["properties"][&**key]["default"]);
            let is_default = value.is_null() || default == Some(value);
            !is_default && !matches!(key.as_str(), "after" | "steps")
        })
        .map(|(key, value)| {
            let text = describe_value(&value, &key);
            (key.value, text)
        })
        .collect()
}

fn describe_value(value: &Json, key: &str) -> String {
    match value {
        Json::String(text) if key == "bytes" && quantity::bytes(text).is_none() => {
            format!("{text:?}")
        }
        Json::String(text) => text.clone(),
        Json::Array(items) if key == "condition" => {
            let items: Vec<String> = items.iter().map(|item| describe_value(item, key)).collect();
            items.join(" or ")
        }
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| describe_value(item, key)).collect();
            items.join(",")
        }
        other => other.to_string(),
    }
}

fn expectation(story: &mut String, expected: &Expected) {
    let line = format!(
        "{} {} {}",
        expected.observation,
        expected.quantifier,
        expected.condition()
    );
    paragraph(story, "    ", &line);
    if let Some(because) = &expected.because {
        paragraph(story, "        ", because);
    }
}

#[cfg(test)]
mod tests {
    use crate::suite;

    const SUITE: &str = r#"
scenarios:
  - name: told
    explains: close() while received data is unread resets the connection at once.
    source: RFC 1122 section 4.2.2.13
    see-also: close/unread-data/shutdown-then-read-to-eof
    matrix: { family: [ipv4, ipv4-mapped], ending: { close: [close], exit: [{ exit: 0 }] } }
    family: $family
    link: { rate: 10mbit, delay: 5ms, loss: 2% }
    sysctls: { server: { net.ipv4.tcp_fin_timeout: 2 }, kernel: { net.ipv4.tcp_mem: "1, 2, {kernel.sockstat.TCP.mem.before} + 3" } }
    actors:
      receiver:
        on: server
        steps: [{ listen: 7000 }, accept, { write: "220 Welcome\r\n" }, read-to-end]
      sender:
        on: client
        steps:
          - repeat: { times: 2, steps: [{ connect: "server:7000" }] }
          - write: { bytes: 1MB, as: body }
          - $ending
    lab: [{ until: { observation: client.peers.server.FIN_WAIT1, condition: [1, 2], timeout: 1s } }]
    expect:
      receiver.read-to-end.error:
        - { always: ECONNRESET, since: Linux 5.1, because: The greeting is unread. }
        - { may: [none, ECONNRESET], before: Linux 5.1 }
"#;

    #[test]
    fn a_scenario_and_its_matrix_are_told() {
        let cells = suite::parse(SUITE, "topic/file").unwrap();
        let all: Vec<_> = cells.iter().collect();
        let text = format!(
            "{}\n----\n{}",
            super::tell(&cells[2]),
            super::tell_matrix("topic/file/told", &all)
        );
        insta::assert_snapshot!(text);
    }
}
