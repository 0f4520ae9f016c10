//! From a population to the text of a suite: one scenario that puts a guest into the
//! host's condition, as one would write it by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use advisor_facts::condition::Condition;

use super::population::{Class, Way};
use super::scale::{Batch, batches};
use super::settings::{self, Set};
use super::trial::{Load, Remedy, Trial};
use super::{Reproduction, trial};

/// What waits in a receive queue, for what the kernel holds for it: 1448 bytes in a buffer
/// of 2304.
const DATA_OF_HELD: (u64, u64) = (1448, 2304);
/// More than this needs a buffer of its own.
const FITS_A_BUFFER: u64 = 60 << 10;
/// A window that is full at once.
const SMALL_WINDOW: &str = "4096";
/// The longest that a peer has been silent for, in a reproduction: beyond it no timer and
/// no rule makes a difference.
const LONGEST_AGE: Duration = Duration::from_secs(600);
/// The same of an idle connection: probes of keepalive come after two hours.
const LONGEST_IDLE: Duration = Duration::from_secs(7500);
/// A peer that is silent for so long is dead, if the timer was doubled often enough.
const UNTIL_DEAD: Duration = Duration::from_secs(20);
/// An orphan at a closed window lives for 347 s.
const MOST_OF_AN_ORPHAN: Duration = Duration::from_secs(200);
/// Who waits for this long waits for a program that does not accept.
const UNTIL_STUCK: Duration = Duration::from_secs(12);
/// Without data for this long a connection is idle.
const UNTIL_IDLE: Duration = Duration::from_secs(65);
/// A record of TIME_WAIT lives 60 s; so long all of them take to be made, one after the
/// other.
const RECORDS_TAKE_MS: u64 = 57_000;
/// The time until an answer on a path to peers of orphans that still send.
const FAR_MS: u64 = 3000;
/// The time until an answer on a path to healthy peers that take data: the longer, the less
/// an emulated processor has to carry for the same bytes in queues.
const RTT_MS: u64 = 700;

/// The most bytes of a packet with segmentation offload.
const BURST_BYTES: u64 = 64 << 10;
/// How often a healthy connection is written to, and for how long.
const SENDS_EVERY_MS: u64 = 50;
const SENDS_FOR_MS: u64 = 40_000;

/// The lists of steps of a suite, as lines of text.
#[derive(Default)]
struct Lists {
    internet: Vec<String>,
    /// By program.
    programs: BTreeMap<String, Vec<String>>,
    /// Listeners that are there, and who has them.
    listeners: BTreeMap<u16, String>,
    /// Listeners that no one has any more once their connections are there.
    gone: BTreeSet<u16>,
    /// Names that are taken.
    names: BTreeSet<String>,
    /// Records of TIME_WAIT in all.
    records: u64,
    /// How long it takes to make all records of TIME_WAIT, the pause after them apart.
    records_take_ms: u64,
    /// How long connections that are well go on sending.
    sends_for_ms: u64,
    /// Peers of connections that are well.
    well: Vec<String>,
    /// By program: lists that keep connections sending.
    senders: BTreeMap<String, Vec<(String, Vec<String>)>>,
}

/// The scenario of a reproduction; with a trial, as one arm of it.
pub fn suite(reproduction: &Reproduction, trial: Option<&Trial>) -> String {
    let classes = made(reproduction, trial);
    let waits = u64::try_from(waits_for(&classes).as_millis()).unwrap_or(0);
    let mut lists = Lists {
        sends_for_ms: SENDS_FOR_MS + waits,
        records_take_ms: RECORDS_TAKE_MS - waits.min(RECORDS_TAKE_MS),
        ..Lists::default()
    };
    lists.listen(reproduction, trial);
    let records = classes
        .iter()
        .filter(|(class, _)| class.condition == Condition::TimeWait);
    lists.records = records.map(|(_, count)| count).sum();
    let mut age = classes
        .first()
        .map_or(Duration::ZERO, |(class, _)| wanted_age(class));
    for (class, count) in &classes {
        let own = wanted_age(class);
        if own < age {
            let pause = age.checked_sub(own).unwrap_or_default();
            lists.pause(pause);
            age = own;
        }
        lists.add(reproduction, class, *count, trial);
    }
    lists.pause(age.max(waits_for(&classes)));
    for port in lists.gone.clone() {
        let owner = lists.owner(port, None);
        lists
            .program(&owner)
            .push(format!("close: {{ on: listen-{port}, as: stop-{port} }}"));
    }
    lists.text(reproduction, trial, &classes)
}

/// The classes that are made, the oldest first, each with its number.
fn made(reproduction: &Reproduction, trial: Option<&Trial>) -> Vec<(Class, u64)> {
    let without = trial.map_or(&[][..], Trial::without);
    let mut classes: Vec<(Class, u64)> = reproduction
        .population
        .classes
        .iter()
        .filter(|class| !without.contains(&class.condition))
        .map(|class| (class.clone(), reproduction.count(class)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let healthy_last = |class: &Class| match class.condition {
        // Before that accept() would take them for the others of their port.
        Condition::NotAccepted => 3,
        Condition::Healthy => 2,
        Condition::TimeWait => 1,
        _ => 0,
    };
    let seed = usize::try_from(reproduction.seed).unwrap_or(usize::MAX);
    if !classes.is_empty() {
        // Those of one age come in another order with each seed.
        let start = seed % classes.len();
        classes.rotate_left(start);
    }
    classes.sort_by_key(|(class, _)| (healthy_last(class), std::cmp::Reverse(wanted_age(class))));
    classes
}

/// How long connections have waited for accept(), as far as it makes a difference.
fn waits_for(classes: &[(Class, u64)]) -> Duration {
    let waits = |(class, _): &&(Class, u64)| class.condition == Condition::NotAccepted;
    let waited = classes.iter().filter(waits).map(|(class, _)| class.age());
    waited.max().unwrap_or_default().min(UNTIL_STUCK)
}

/// How long before the end a class is made.
fn wanted_age(class: &Class) -> Duration {
    let age = class.age().min(LONGEST_AGE);
    match class.condition {
        Condition::Healthy | Condition::NotAccepted | Condition::TimeWait => Duration::ZERO,
        Condition::Idle => class.age().clamp(UNTIL_IDLE, LONGEST_IDLE),
        Condition::Dead => age.clamp(UNTIL_DEAD, Duration::from_secs(600)),
        // Older ones would end in a trial by themselves.
        Condition::OrphanDead => UNTIL_DEAD,
        Condition::OrphanZeroWindow => age.clamp(Duration::from_secs(2), MOST_OF_AN_ORPHAN),
        Condition::OrphanDraining | Condition::Slow => Duration::from_secs(2),
        Condition::OrphanHalfClosed => age.min(Duration::from_secs(30)),
        _ => age.max(Duration::from_secs(2)),
    }
}

/// How the peer of a connection that holds so much behaves.
pub(super) fn manner(class: &Class, held: u64) -> String {
    match class.condition {
        Condition::ZeroWindow | Condition::OrphanZeroWindow => {
            format!(", window: {SMALL_WINDOW}, reads: 0")
        }
        Condition::Slow => format!(", window: 16KiB, reads: {}", (held / 60).max(1000)),
        // Its peer takes all that arrives, and is far away.
        Condition::OrphanDraining => format!(", window: {SMALL_WINDOW}, rtt: {FAR_MS}ms"),
        Condition::HalfClosed | Condition::OrphanHalfClosed => ", at_end: stay".to_owned(),
        Condition::Healthy if held > 0 => {
            // What the window has no room for is in the queue beside it, half a burst or so.
            let window = (held - (40 << 10).min(held / 4)).max(4096);
            format!(", window: {window}, rtt: {RTT_MS}ms")
        }
        _ => String::new(),
    }
}

/// The short name of a condition, for steps.
pub(super) fn short(condition: Condition) -> &'static str {
    match condition {
        Condition::Dead => "dead",
        Condition::ZeroWindow => "zero-window",
        Condition::Unread => "unread",
        Condition::ClosedByPeer => "closed-by-peer",
        Condition::HalfClosed => "half-closed",
        Condition::Slow => "slow",
        Condition::Idle => "idle",
        Condition::NotAccepted => "not-accepted",
        Condition::OrphanDead => "orphan-dead",
        Condition::OrphanZeroWindow => "orphan-zero-window",
        Condition::OrphanHalfClosed => "orphan-half-closed",
        Condition::OrphanDraining => "orphan-draining",
        Condition::TimeWait => "time-wait",
        _ => "healthy",
    }
}

/// A time as a suite writes it.
fn time(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

impl Lists {
    fn program(&mut self, name: &str) -> &mut Vec<String> {
        self.programs.entry(name.to_owned()).or_default()
    }

    fn named(&mut self, condition: Condition, port: u16) -> String {
        let plain = format!("{}-{port}", short(condition));
        let mut name = plain.clone();
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{plain}-{number}");
            number += 1;
        }
        name
    }

    /// Has every program listen that takes connections, or took those that are left out.
    fn listen(&mut self, reproduction: &Reproduction, trial: Option<&Trial>) {
        for listener in &reproduction.population.listeners {
            let holder = listener
                .holder
                .clone()
                .unwrap_or_else(|| "program".to_owned());
            self.listeners.insert(listener.port, holder);
        }
        for class in &reproduction.population.classes {
            let holder = match class.way {
                Way::Loopback(_) => Some("backend"),
                Way::Inbound(_) => class.holder.as_deref(),
                Way::Outbound(_) => continue,
            };
            let port = class.way.port();
            if let std::collections::btree_map::Entry::Vacant(e) = self.listeners.entry(port) {
                let holder = holder.unwrap_or("program").to_owned();
                e.insert(holder);
                if matches!(class.way, Way::Inbound(_)) {
                    self.gone.insert(port);
                }
            }
        }
        for (port, holder) in self.listeners.clone() {
            let known = &reproduction.population.listeners;
            let known = known.iter().find(|one| one.port == port);
            let backlog = known.map_or(super::USUAL_BACKLOG, |one| reproduction.backlog(one));
            let mut steps = Vec::new();
            // Of a server that is gone nobody knows; the advice is for it.
            let reuses = !self.gone.contains(&port) || trial.is_some_and(Trial::reuses);
            if reuses {
                steps.push(format!("socket: {{ as: socket-{port} }}"));
                steps.push(format!(
                    "setsockopt: {{ SO_REUSEADDR: 1, as: reuse-{port} }}"
                ));
            }
            steps.push(format!(
                "listen: {{ port: \"any:{port}\", backlog: {backlog}, as: listen-{port} }}"
            ));
            self.program(&holder).extend(steps);
        }
    }

    /// Who has a listener.
    fn owner(&self, port: u16, holder: Option<&str>) -> String {
        let known = self.listeners.get(&port).map(String::as_str);
        known.or(holder).unwrap_or("program").to_owned()
    }

    fn pause(&mut self, pause: Duration) {
        if !pause.is_zero() {
            self.internet.push(format!("sleep: {}", time(pause)));
        }
    }

    /// Makes the sockets of a class.
    fn add(
        &mut self,
        reproduction: &Reproduction,
        class: &Class,
        count: u64,
        trial: Option<&Trial>,
    ) {
        if class.condition == Condition::TimeWait {
            self.add_records(reproduction, class, count);
            return;
        }
        for batch in batches(class, count) {
            self.add_batch(class, batch, trial);
        }
    }

    fn add_batch(&mut self, class: &Class, batch: Batch, trial: Option<&Trial>) {
        let Batch { count, held } = batch;
        let port = class.way.port();
        let name = self.named(class.condition, port);
        let holder = class.holder.clone();
        let remedy = trial.and_then(|trial| trial.remedy(class));
        let receives = data_of(held);
        let waits_here = matches!(
            class.condition,
            Condition::Unread | Condition::ClosedByPeer | Condition::NotAccepted
        ) && receives > 0;
        let manner = manner(class, held);
        let program = match class.way {
            Way::Inbound(_) => self.owner(port, holder.as_deref()),
            _ => holder.unwrap_or_else(|| "program".to_owned()),
        };
        let buffer =
            (waits_here && receives > FITS_A_BUFFER).then(|| format!("SO_RCVBUFFORCE: {held}"));
        self.connect(class, count, &name, &program, &manner, buffer);
        self.act(class, batch, &name, &program, remedy);
        if class.condition == Condition::Healthy {
            self.well.push(name);
        }
    }

    /// Connects a batch, one way or the other.
    fn connect(
        &mut self,
        class: &Class,
        count: u64,
        name: &str,
        program: &str,
        manner: &str,
        buffer: Option<String>,
    ) {
        let port = class.way.port();
        match class.way {
            Way::Inbound(_) => {
                let mut after = String::new();
                if let Some(buffer) = buffer {
                    let step =
                        format!("setsockopt: {{ {buffer}, on: listen-{port}, as: {name}-room }}");
                    self.program(program).push(step);
                    after = format!(", after: {program}.{name}-room");
                }
                let addresses = class.addresses.clamp(1, 200);
                self.internet.push(format!(
                    "dial: {{ to: \"host:{port}\", count: {count}, addresses: {addresses}, every: \
                     2ms{manner}{after}, as: {name} }}"
                ));
                if class.condition != Condition::NotAccepted {
                    let accept =
                        format!("accept: {{ on: listen-{port}, count: {count}, as: {name} }}");
                    self.program(program).push(accept);
                }
            }
            Way::Outbound(_) => {
                self.internet
                    .push(format!("peers: {{ port: {port}{manner}, as: {name} }}"));
                self.internet.push(format!("await: {program}.{name}-made"));
                let connect = format!(
                    "connect: {{ to: \"remote:{port}\", after: internet.{name}, as: {name} }}"
                );
                let steps = match buffer {
                    Some(buffer) => format!(
                        "{{ socket: {{ as: {name}-socket }} }}, {{ setsockopt: {{ {buffer}, as: {name}-room }} }}, {{ {connect} }}"
                    ),
                    None => format!("{{ {connect} }}"),
                };
                self.program(program).push(format!(
                    "repeat: {{ times: {count}, as: {name}-made, steps: [{steps}] }}"
                ));
            }
            Way::Loopback(_) => {
                let backend = self.owner(port, None);
                let connect = format!(
                    "repeat: {{ times: {count}, as: {name}-made, steps: [{{ connect: {{ to: \
                     \"localhost:{port}\", after: {backend}.listen-{port}, as: {name} }} }}] }}"
                );
                self.program(program).push(connect);
                let accept =
                    format!("accept: {{ on: listen-{port}, count: {count}, as: {name}-other }}");
                self.program(&backend).push(accept);
            }
        }
    }

    /// Puts a batch into its condition.
    fn act(
        &mut self,
        class: &Class,
        batch: Batch,
        name: &str,
        program: &str,
        remedy: Option<Remedy>,
    ) {
        let held = batch.held;
        let is_loopback = matches!(class.way, Way::Loopback(_));
        let mut own = Vec::new();
        match remedy {
            Some(Remedy::UserTimeout(ms)) => own.push(format!(
                "setsockopt: {{ TCP_USER_TIMEOUT: {ms}, on: {name}, as: {name}-limit }}"
            )),
            Some(Remedy::Close | Remedy::Read | Remedy::Accept) | None => {}
        }
        match class.condition {
            Condition::ZeroWindow
            | Condition::OrphanZeroWindow
            | Condition::Slow
            | Condition::OrphanDraining
            | Condition::Dead
            | Condition::OrphanDead
                if !is_loopback =>
            {
                if matches!(class.condition, Condition::Dead | Condition::OrphanDead) {
                    self.internet.push(format!(
                        "peer: {{ on: {name}, does: vanish, as: {name}-gone }}"
                    ));
                    own.push(format!("await: internet.{name}-gone"));
                }
                own.extend(fill(&format!(", on: {name}"), name, held));
                if class.condition.is_orphan() {
                    own.push(format!("close: {{ on: {name}, as: {name}-close }}"));
                }
                self.internet
                    .push(format!("await: {program}.{}", last_step(name, class)));
            }
            Condition::Healthy if held > 0 && !is_loopback => {
                // Sent evenly, so that the queue is as full at any moment.
                own.push(format!(
                    "setsockopt: {{ SO_MAX_PACING_RATE: {}, on: {name}, as: {name}-pace }}",
                    (held * 1200 / RTT_MS).max(1 << 16)
                ));
                // A write overshoots the buffer by what it fills up and by one burst more.
                let room = held - (2 * BURST_BYTES).min(held / 2);
                own.extend(fill_to(&format!(", on: {name}"), name, room, held));
                // Written to until the buffer is full, again and again.
                let times = self.sends_for_ms / SENDS_EVERY_MS;
                let sends = vec![
                    format!("await: {program}.{name}-write"),
                    format!(
                        "repeat: {{ times: {times}, every: {SENDS_EVERY_MS}ms, as: {name}-sends, \
                         steps: [{{ write: {{ bytes: {held}, on: {name}, as: {name}-again }} }}] }}"
                    ),
                ];
                let senders = self.senders.entry(program.to_owned()).or_default();
                senders.push((format!("{name}-sender"), sends));
                self.internet.push("sleep: 5s".to_owned());
            }
            Condition::Unread | Condition::ClosedByPeer if !is_loopback => {
                let closes = class.condition == Condition::ClosedByPeer;
                let mut does = String::new();
                if data_of(held) > 0 {
                    let _ = write!(does, ", send: {}", data_of(held));
                }
                if closes {
                    does.push_str(", does: close");
                }
                if matches!(class.way, Way::Inbound(_)) {
                    self.internet.push(format!("await: {program}.{name}"));
                }
                self.internet
                    .push(format!("peer: {{ on: {name}{does}, as: {name}-end }}"));
                match remedy {
                    Some(Remedy::Read) => {
                        let bytes = data_of(held).max(1);
                        own.push(format!("await: internet.{name}-end"));
                        own.push(format!(
                            "read: {{ bytes: {bytes}, on: {name}, as: {name}-read }}"
                        ));
                    }
                    Some(Remedy::Close) => {
                        own.push(format!("await: internet.{name}-end"));
                        own.push("sleep: 3s".to_owned());
                        own.push(format!("close: {{ on: {name}, as: {name}-close }}"));
                    }
                    _ => {}
                }
            }
            Condition::NotAccepted if data_of(held) > 0 && !is_loopback => {
                let bytes = data_of(held);
                let step = format!("peer: {{ on: {name}, send: {bytes}, as: {name}-end }}");
                self.internet.push(step);
            }
            Condition::HalfClosed | Condition::OrphanHalfClosed => {
                own.push(format!(
                    "shutdown: {{ how: SHUT_WR, on: {name}, as: {name}-shutdown }}"
                ));
                if class.condition.is_orphan() || remedy == Some(Remedy::Close) {
                    own.push(format!("close: {{ on: {name}, as: {name}-close }}"));
                }
            }
            _ => {}
        }
        self.program(program).extend(own);
    }

    /// Records of TIME_WAIT, made one after the other so that their ages are spread.
    fn add_records(&mut self, reproduction: &Reproduction, class: &Class, count: u64) {
        let port = class.way.port();
        let name = self.named(class.condition, port);
        let every =
            (self.records_take_ms / self.records.max(1)).saturating_sub(1 + reproduction.seed % 2);
        match class.way {
            Way::Inbound(_) => {
                let program = self.owner(port, class.holder.as_deref());
                self.internet.push(format!(
                    "repeat: {{ times: {count}, every: {every}ms, as: {name}-all, steps: [{{ dial: {{ to: \"host:{port}\", as: {name} }} }}] }}"
                ));
                self.program(&program).push(format!(
                    "repeat: {{ times: {count}, as: {name}-closed, steps: [{{ accept: {{ on: listen-{port}, as: {name} }} }}, {{ close: {{ as: {name}-close }} }}] }}"
                ));
                self.internet
                    .push(format!("await: {program}.{name}-closed"));
            }
            Way::Outbound(_) => {
                let program = class.holder.clone().unwrap_or_else(|| "program".to_owned());
                self.internet
                    .push(format!("peers: {{ port: {port}, as: {name} }}"));
                self.program(&program).push(format!(
                    "repeat: {{ times: {count}, every: {every}ms, as: {name}-all, steps: [{{ connect: {{ to: \"remote:{port}\", after: internet.{name}, as: {name} }} }}, {{ close: {{ as: {name}-close }} }}] }}"
                ));
                self.internet.push(format!("await: {program}.{name}-all"));
            }
            Way::Loopback(_) => {
                let program = class.holder.clone().unwrap_or_else(|| "program".to_owned());
                let backend = self.owner(port, None);
                self.program(&backend).push(format!(
                    "repeat: {{ times: {count}, as: {name}-served, steps: [{{ accept: {{ on: listen-{port}, as: {name}-other }} }}, {{ read-to-end: {{ as: {name}-read }} }}, {{ close: {{ as: {name}-closed }} }}] }}"
                ));
                self.program(&program).push(format!(
                    "repeat: {{ times: {count}, every: {every}ms, as: {name}-all, steps: [{{ connect: {{ to: \"localhost:{port}\", after: {backend}.listen-{port}, as: {name} }} }}, {{ close: {{ as: {name}-close }} }}] }}"
                ));
                self.internet.push(format!("await: {program}.{name}-all"));
            }
        }
    }

    fn text(
        mut self,
        reproduction: &Reproduction,
        trial: Option<&Trial>,
        classes: &[(Class, u64)],
    ) -> String {
        let load = trial.map(|trial| Load::of(reproduction, trial, &self.well, &self.listeners));
        let ended = load.iter().flat_map(|load| &load.ended);
        let ended: BTreeSet<String> = ended.chain(self.senders.keys()).cloned().collect();
        // Whoever waits for the end of the internet's list finds everybody there.
        self.internet
            .push("sleep: { time: 100ms, as: there }".to_owned());
        for name in load.iter().flat_map(Load::programs) {
            self.program(name)
                .push("sleep: { time: 1ms, as: begun }".to_owned());
        }
        if reproduction.tracks() {
            for steps in self.programs.values_mut().chain([&mut self.internet]) {
                steps.insert(0, "await: lab.tracked".to_owned());
            }
        }
        let mut text = String::new();
        for line in reproduction.header() {
            let _ = writeln!(text, "# {line}");
        }
        text.push_str("scenarios:\n");
        let name = trial.map_or("host", |trial| trial.arm.as_str());
        let _ = writeln!(text, "  - name: {name}");
        let _ = writeln!(text, "    explains: >\n      {}", reproduction.explains());
        let _ = writeln!(text, "    source: \"the facts of a host\"");
        let limit = trial::TIME_LIMIT_S + total_age(classes);
        let _ = writeln!(
            text,
            "    runs: 1\n    clock: virtual\n    long: true\n    time_limit: {limit}s\n    hosts: [host, remote]\n    offload: true"
        );
        let _ = writeln!(text, "    sysctls:");
        if !reproduction.early().is_empty() {
            let _ = writeln!(text, "      host:");
            for (name, value) in reproduction.early() {
                let _ = writeln!(text, "        {name}: \"{value}\"");
            }
        }
        let _ = writeln!(text, "      kernel:");
        let until_then = settings::UNTIL_THEN.iter();
        for (name, value) in until_then.filter(|(name, _)| reproduction.sets_of_kernel(name)) {
            let _ = writeln!(text, "        {name}: \"{value}\"");
        }
        let others = trial.iter().flat_map(|trial| &trial.other_kernel_settings);
        for (name, value) in others.map(|set| reproduction.scaled(set)) {
            let _ = writeln!(text, "        {name}: \"{value}\"");
        }
        text.push_str("    actors:\n");
        let load_steps = load.as_ref();
        let of_internet = load_steps.map_or(&[][..], |load| &load.internet);
        actor(&mut text, "internet", "remote", &self.internet, of_internet);
        for (name, steps) in &self.programs {
            let mut more = load_steps.map_or(Vec::new(), |load| load.of_program(name));
            more.extend(self.senders.get(name).into_iter().flatten().cloned());
            actor(&mut text, name, "host", steps, &more);
        }
        for (name, steps) in load_steps.iter().flat_map(|load| &load.actors) {
            actor(&mut text, name, "host", steps, &[]);
        }
        text.push_str("    lab:\n");
        for line in lab(reproduction, trial, load_steps, &ended) {
            let _ = writeln!(text, "      - {line}");
        }
        text.push_str("    expect:\n");
        for line in expected(classes) {
            let _ = writeln!(text, "      {line}");
        }
        text
    }
}

/// The steps of the lab: the host's limits, a look, the change, and the end of the load.
fn lab(
    reproduction: &Reproduction,
    trial: Option<&Trial>,
    load: Option<&Load>,
    ended: &BTreeSet<String>,
) -> Vec<String> {
    // They would send on, or wait for visitors who do not come any more.
    let end = ended
        .iter()
        .map(|actor| format!("signal: {{ actor: {actor}, signal: SIGKILL, as: end-{actor} }}"));
    let mut lines = Vec::new();
    if reproduction.tracks() {
        let tracked = "track-connections: { host: host, invalid: accept, as: tracked }";
        lines.push(tracked.to_owned());
    }
    lines.push("await: internet.there".to_owned());
    let set = |(name, value): &Set, step: &str| {
        format!("kernel-sysctl: {{ name: {name}, value: \"{value}\", as: {step} }}")
    };
    for (number, one) in reproduction.of_kernel().iter().enumerate() {
        lines.push(set(one, &format!("limit-{}", number + 1)));
    }
    for (number, (name, value)) in reproduction.late().iter().enumerate() {
        lines.push(format!(
            "sysctl: {{ host: host, name: {name}, value: \"{value}\", as: setting-{} }}",
            number + 1
        ));
    }
    lines.push("sleep: { time: 500ms, as: settle }".to_owned());
    lines.push("sample: there".to_owned());
    // What the first seed shows is not asked for again: a capture takes as long as a few
    // hundred connections.
    let looks = |step: &str| (reproduction.seed == 0).then(|| format!("capture: {{ as: {step} }}"));
    lines.extend(looks("facts"));
    let Some((trial, load)) = trial.zip(load) else {
        lines.extend(end);
        return lines;
    };
    let set_then = trial.set();
    let change = set_then.iter().map(|set| reproduction.scaled(set));
    for (number, (name, value)) in change.enumerate() {
        let step = format!("change-{}", number + 1);
        if settings::is_of_kernel(&name, &reproduction.release) {
            lines.push(set(&(name, value), &step));
        } else {
            lines.push(format!(
                "sysctl: {{ host: host, name: {name}, value: \"{value}\", as: {step} }}"
            ));
        }
    }
    // The window in which the advisor is asked again begins here.
    lines.extend(looks("since"));
    lines.push("sleep: { time: 1ms, as: change-made }".to_owned());
    let until = trial.until_met();
    lines.push(format!("sleep: {{ time: {}, as: changed }}", time(until)));
    lines.extend(load.lab.iter().cloned());
    lines.extend(load.awaited.iter().map(|step| format!("await: {step}")));
    // Who hangs is counted in each run.
    if trial.offending.contains(&Condition::Dead) {
        lines.push("capture: { as: end }".to_owned());
    } else {
        lines.extend(looks("end"));
    }
    lines.extend(end);
    lines
}

fn total_age(classes: &[(Class, u64)]) -> u64 {
    classes
        .iter()
        .map(|(class, _)| wanted_age(class).as_secs())
        .max()
        .unwrap_or(0)
}

/// What a reproduction is expected to show: its sockets by state, within the tolerance.
fn expected(classes: &[(Class, u64)]) -> Vec<String> {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for (class, count) in classes {
        let state = match class.condition {
            Condition::TimeWait => "TIME_WAIT",
            Condition::ClosedByPeer => "CLOSE_WAIT",
            Condition::HalfClosed | Condition::OrphanHalfClosed => "FIN_WAIT2",
            Condition::OrphanDead | Condition::OrphanZeroWindow | Condition::OrphanDraining => {
                "FIN_WAIT1"
            }
            _ => "ESTABLISHED",
        };
        // Both ends of a connection on loopback are the host's.
        let ends = if matches!(class.way, Way::Loopback(_)) && state == "ESTABLISHED" {
            2
        } else {
            1
        };
        *states.entry(state).or_default() += ends * count;
    }
    if states.is_empty() {
        return vec!["there.host.sockets.ESTABLISHED: { always: 0 }".to_owned()];
    }
    let near = |(state, count): (&str, u64)| {
        let off = (count / 20).max(1);
        let (least, most) = (count.saturating_sub(off), count + off);
        format!("there.host.sockets.{state}: {{ always: {least}..{most} }}")
    };
    states.into_iter().map(near).collect()
}

/// An actor with its steps, one on a line.
fn actor(
    text: &mut String,
    name: &str,
    on: &str,
    steps: &[String],
    tasks: &[(String, Vec<String>)],
) {
    let _ = writeln!(text, "      {name}:\n        on: {on}");
    if tasks.is_empty() {
        text.push_str("        steps:\n");
        for step in steps {
            let _ = writeln!(text, "          - {step}");
        }
        return;
    }
    text.push_str("        tasks:\n");
    let own = [("condition".to_owned(), steps.to_vec())];
    for (task, steps) in own.iter().chain(tasks) {
        let _ = writeln!(text, "          {task}:");
        for step in steps {
            let _ = writeln!(text, "            - {step}");
        }
    }
}

/// The steps that fill a send queue with what the kernel holds so much for; `on` is empty
/// where it is the socket that the list made last.
pub(super) fn fill(on: &str, name: &str, held: u64) -> Vec<String> {
    if held < 16 << 10 {
        // Most of it is the kernel's own.
        let bytes = (held / 4).max(1);
        return vec![format!("write: {{ bytes: {bytes}{on}, as: {name}-write }}")];
    }
    fill_to(on, name, held, held)
}

/// The same, with a buffer of `room` bytes.
fn fill_to(on: &str, name: &str, room: u64, held: u64) -> Vec<String> {
    vec![
        format!("fcntl: {{ flags: O_NONBLOCK{on}, as: {name}-nonblock }}"),
        format!(
            "setsockopt: {{ SO_SNDBUFFORCE: {}{on}, as: {name}-room }}",
            room / 2
        ),
        format!("write: {{ bytes: {held}{on}, as: {name}-write }}"),
    ]
}

/// The last step of a program that puts a class into its condition.
fn last_step(name: &str, class: &Class) -> String {
    if class.condition.is_orphan() {
        format!("{name}-close")
    } else {
        format!("{name}-write")
    }
}

/// The data for which the kernel holds so much in a receive queue; 0 where it is no more
/// than a packet's.
fn data_of(held: u64) -> u64 {
    if held < DATA_OF_HELD.1 {
        return 0;
    }
    held * DATA_OF_HELD.0 / DATA_OF_HELD.1
}
