//! A change that is tried on a reproduction: its arms, and the load that goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use advisor_facts::condition::Condition;

use super::Reproduction;
use super::population::{Class, Way, life_s};
use super::queue::Fills;
use super::settings::Set;

/// The time limit of a run, beside the ages that it waits for.
pub const TIME_LIMIT_S: u64 = 900;
/// Descriptors of a program where the facts do not say how many it may have.
pub const USUAL_DESCRIPTORS: u64 = 1024;
/// Descriptors that an actor has beside its sockets.
const OWN_DESCRIPTORS: u64 = 40;
/// Longer than a record of TIME_WAIT lives.
const PORTS_ARE_WATCHED_S: u64 = 70;
/// Connections that are made with the load, for each that the host makes: a tenth more.
const LOAD: f64 = 1.1;
/// Calls at most in a trial.
const MOST_CALLS: u64 = 700;
/// How long a change of tcp_orphan_retries takes to be met by the timers of orphans.
const UNTIL_RETRIED: Duration = Duration::from_secs(40);
/// More orphans come for so long after the change, in seconds: until bystanders are done.
const ORPHANS_COME_S: f64 = 45.0;
/// Settings that decide what becomes of those who find an accept queue full.
const OF_QUEUES: &[&str] = &[
    "net.core.somaxconn",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_syncookies",
];
/// So many times clients come at once.
const BURSTS: u64 = 3;
/// A program is stopped for so long when they do, in milliseconds.
const BUSY_MS: u64 = 300;
/// So many clients come to a queue that is full.
const LATECOMERS: u64 = 5;
/// How long a program that gives up is waited for.
const GIVING_UP_MS: u64 = 40_000;

/// An arm of a trial.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arm {
    /// The host as it is.
    Before,
    /// With the change.
    After,
    /// As it is, without the sockets that do the harm: it says what well is.
    Without,
}

impl Arm {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Without => "without",
        }
    }
}

/// What a program does otherwise; the stand-in differs in nothing else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Remedy {
    /// It calls close().
    Close,
    /// It reads.
    Read,
    /// It sets TCP_USER_TIMEOUT, in milliseconds.
    UserTimeout(u64),
    /// It accepts whenever a connection waits.
    Accept,
}

/// What is changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Settings, by name, as they would be set on the host.
    Settings(Vec<Set>),
    /// What the program does with sockets in these conditions.
    Program(Remedy, &'static [Condition]),
    /// SO_REUSEADDR before bind().
    ReuseAddress,
    /// A backlog for listen(), of the listener that turns clients away.
    Backlog(u64),
}

impl Change {
    /// Whether it is about accept queues: then clients come to one, in all arms alike.
    pub fn is_of_queues(&self) -> bool {
        match self {
            Self::Backlog(_) | Self::Program(Remedy::Accept, _) => true,
            Self::Settings(set) => set
                .iter()
                .any(|(name, _)| OF_QUEUES.contains(&name.as_str())),
            _ => false,
        }
    }
}

/// The settings among changes.
pub fn settings_of(changes: &[Change]) -> Vec<Set> {
    let set = changes.iter().filter_map(|change| match change {
        Change::Settings(set) => Some(set.clone()),
        _ => None,
    });
    set.flatten().collect()
}

/// A trial, in one of its arms.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The arm.
    pub arm: Arm,
    /// What is changed, in this order.
    pub changes: Vec<Change>,
    /// The sockets that do the harm.
    pub offending: Vec<Condition>,
    /// Settings of the whole kernel that are changed and that the reproduction doesn't set,
    /// with the value that they have on the host.
    pub other_kernel_settings: Vec<Set>,
}

impl Trial {
    /// The conditions that are left out.
    pub fn without(&self) -> &[Condition] {
        match self.arm {
            Arm::Without => &self.offending,
            Arm::Before | Arm::After => &[],
        }
    }

    /// What the program does otherwise with a class. Of several time limits the shortest
    /// ends it.
    pub fn remedy(&self, class: &Class) -> Option<Remedy> {
        let remedies = self.made().iter().filter_map(|change| match change {
            Change::Program(remedy, conditions) if conditions.contains(&class.condition) => {
                Some(*remedy)
            }
            _ => None,
        });
        remedies.min_by_key(|remedy| match remedy {
            Remedy::UserTimeout(ms) => *ms,
            Remedy::Close | Remedy::Read | Remedy::Accept => 0,
        })
    }

    /// The settings that this arm sets.
    pub fn set(&self) -> Vec<Set> {
        settings_of(self.made())
    }

    /// Whether a server that is gone, and its successor, set SO_REUSEADDR.
    pub fn reuses(&self) -> bool {
        self.made().contains(&Change::ReuseAddress)
    }

    /// The backlog that this arm has the program listen with anew.
    pub fn backlog(&self) -> Option<u64> {
        self.made().iter().find_map(|change| match change {
            Change::Backlog(backlog) => Some(*backlog),
            _ => None,
        })
    }

    /// Whether this arm has the program accept whenever a connection waits.
    fn accepts(&self) -> bool {
        let accept = |change: &Change| matches!(change, Change::Program(Remedy::Accept, _));
        self.made().iter().any(accept)
    }

    /// How long bystanders wait after the change, in all arms alike.
    pub fn until_met(&self) -> Duration {
        let set = settings_of(&self.changes);
        let retries = |(name, _): &Set| name == "net.ipv4.tcp_orphan_retries";
        if set.iter().any(retries) {
            UNTIL_RETRIED
        } else {
            Duration::from_millis(100)
        }
    }

    /// The changes that this arm makes.
    fn made(&self) -> &[Change] {
        match self.arm {
            Arm::After => &self.changes,
            Arm::Before | Arm::Without => &[],
        }
    }

    /// Whether the trial follows a leak to its end.
    pub fn leak(&self) -> Option<Condition> {
        let mut offending = self.offending.iter().copied();
        offending
            .find(|condition| matches!(condition, Condition::ClosedByPeer | Condition::HalfClosed))
    }
}

/// What goes on in a trial: steps beside those of the condition.
#[derive(Debug, Default)]
pub struct Load {
    /// Lists of the peers, by name.
    pub internet: Vec<(String, Vec<String>)>,
    /// By program: another list.
    programs: BTreeMap<String, Vec<(String, Vec<String>)>>,
    /// Actors of the load alone.
    pub actors: Vec<(String, Vec<String>)>,
    /// Steps of the lab right after the change.
    pub lab: Vec<String>,
    /// The steps after which the trial is over.
    pub awaited: Vec<String>,
    /// Actors that are ended then.
    pub ended: Vec<String>,
}

const CHANGED: &str = "await: lab.changed";

impl Load {
    /// The load of a trial; `well` are the peers of healthy connections.
    pub fn of(
        reproduction: &Reproduction,
        trial: &Trial,
        well: &[String],
        listeners: &BTreeMap<u16, String>,
    ) -> Self {
        let mut load = Self::default();
        load.bystanders();
        if let Some(class) = Self::leaking(reproduction, trial) {
            load.leak(reproduction, trial, &class, listeners);
        }
        for class in &reproduction.population.classes {
            if class.condition == Condition::TimeWait {
                load.call(reproduction, class, listeners);
            }
            if trial.arm != Arm::Without && trial.offending.contains(&class.condition) {
                load.orphans(reproduction, trial, class, listeners);
            }
        }
        load.restart(reproduction, trial, listeners);
        load.clients(reproduction, trial, listeners);
        let gives_up =
            |change: &Change| matches!(change, Change::Program(Remedy::UserTimeout(_), _));
        if trial.offending.contains(&Condition::Dead) || trial.changes.iter().any(gives_up) {
            // Those who came last give up last.
            let last_come: Vec<String> = load
                .awaited
                .iter()
                .filter(|step| step.ends_with("-more-served"))
                .map(|step| format!("await: {step}"))
                .collect();
            load.actors.push((
                "patience".to_owned(),
                [CHANGED.to_owned()]
                    .into_iter()
                    .chain(last_come)
                    .chain([format!("sleep: {{ time: {GIVING_UP_MS}ms, as: waited }}")])
                    .collect(),
            ));
            load.awaited.push("patience.waited".to_owned());
        }
        let mut counts: Vec<String> = well
            .iter()
            .map(|name| format!("tally: {{ on: {name}, as: {name}-seen }}"))
            .collect();
        // Names of other lists of the same actor are known to all of them.
        counts.insert(0, "await: leaver.leave".to_owned());
        counts.insert(1, "sleep: { time: 4s, as: last-words-arrive }".to_owned());
        counts.push("sleep: { time: 1ms, as: counted }".to_owned());
        load.internet.push(("counts".to_owned(), counts));
        load.awaited.push("internet.counted".to_owned());
        load
    }

    /// The lists that a program has beside that of the condition.
    pub fn of_program(&self, name: &str) -> Vec<(String, Vec<String>)> {
        self.programs.get(name).cloned().unwrap_or_default()
    }

    /// The programs that have lists beside that of the condition.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.programs.keys().map(String::as_str)
    }

    /// Those who do their work during the trial.
    fn bystanders(&mut self) {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        self.internet.push((
            "answers".to_owned(),
            lines(&[
                "peers: { port: 9, window: 256KiB, rtt: 100ms, as: sink }",
                "peers: { port: 19, window: 64KiB, rtt: 100ms, as: last-words }",
                "await: leaver.leave",
                "sleep: { time: 3s, as: last-words-sent }",
                "tally: { on: last-words, as: last-words-seen }",
            ]),
        ));
        self.internet.push((
            "visitors".to_owned(),
            lines(&[
                CHANGED,
                "repeat: { times: 10, every: 200ms, as: visits, steps: [{ dial: { to: \"host:7\", send: 100, expect: 1000, after: service.listen, as: visit } }] }",
            ]),
        ));
        self.actors.push((
            "bystander".to_owned(),
            lines(&[
                CHANGED,
                "repeat: { times: 4, every: 200ms, as: transfers, steps: [{ connect: { to: \"remote:9\", after: internet.sink, as: link } }, { write: { bytes: 400kB, as: transfer } }, { wait-outq-empty: { timeout: 60s, as: delivered } }, { close: { as: hang-up } }] }",
            ]),
        ));
        self.actors.push((
            "leaver".to_owned(),
            lines(&[
                CHANGED,
                "repeat: { times: 8, every: 200ms, as: leave, steps: [{ connect: { to: \"remote:19\", after: internet.last-words, as: goodbye } }, { write: { bytes: 30kB, as: words } }, { close: { as: left } }] }",
            ]),
        ));
        self.actors.push((
            "service".to_owned(),
            lines(&[
                "listen: { port: \"any:7\", backlog: 64 }",
                "repeat: { times: 10, as: served, steps: [accept, { read: 100 }, { write: 1000 }, close] }",
            ]),
        ));
        for step in [
            "bystander.transfers",
            "internet.visits",
            "leaver.leave",
            "internet.last-words-seen",
        ] {
            self.awaited.push(step.to_owned());
        }
        self.ended.push("service".to_owned());
    }

    /// The class whose leak is followed to its end.
    fn leaking(reproduction: &Reproduction, trial: &Trial) -> Option<Class> {
        let condition = trial.leak()?;
        let classes = reproduction.population.classes.iter();
        classes
            .filter(|class| class.condition == condition && !matches!(class.way, Way::Loopback(_)))
            .max_by_key(|class| class.count())
            .cloned()
    }

    /// More connections that are not closed, until the program has no descriptor left.
    fn leak(
        &mut self,
        reproduction: &Reproduction,
        trial: &Trial,
        class: &Class,
        listeners: &BTreeMap<u16, String>,
    ) {
        let port = class.way.port();
        let program = match class.way {
            Way::Inbound(port) => listeners.get(&port).cloned(),
            _ => class.holder.clone(),
        };
        let program = program.unwrap_or_else(|| "program".to_owned());
        let limit = reproduction.descriptors(&program);
        let held = reproduction.held_by(class);
        let more = limit.saturating_sub(held) + OWN_DESCRIPTORS + 10;
        let closes = trial.arm == Arm::Without || trial.remedy(class) == Some(Remedy::Close);
        let end = if closes {
            ", { close: { as: leak-close } }"
        } else {
            ""
        };
        let half = if class.condition == Condition::HalfClosed {
            ", { shutdown: { how: SHUT_WR, as: leak-shutdown } }"
        } else {
            ""
        };
        let limit = limit + OWN_DESCRIPTORS;
        let mut steps = vec![
            CHANGED.to_owned(),
            format!("setrlimit: {{ RLIMIT_NOFILE: {limit} }}"),
        ];
        if matches!(class.way, Way::Inbound(_)) {
            steps.push(format!(
                "repeat: {{ times: {more}, as: leak-all, steps: [{{ accept: {{ on: listen-{port}, as: leak }} }}, {{ write: {{ bytes: 100, as: leak-reply }} }}{half}{end}] }}"
            ));
            let stay = if half.is_empty() {
                ""
            } else {
                ", at_end: stay"
            };
            self.internet.push((
                "leak".to_owned(),
                vec![
                    CHANGED.to_owned(),
                    format!(
                        "repeat: {{ times: {more}, as: leak-calls, steps: [{{ dial: {{ to: \"host:{port}\", expect: 100, timeout: 500ms{stay}, as: caller }} }}] }}"
                    ),
                ],
            ));
            self.awaited.push("internet.leak-calls".to_owned());
        } else {
            let of_others =
                reproduction.population.classes.iter().any(|other| {
                    other.way == class.way && !trial.without().contains(&other.condition)
                });
            // Without the class, nobody else answers on its port.
            if !of_others {
                let peers = format!("peers: {{ port: {port}, as: leak-peers }}");
                self.internet.push(("leak-peers".to_owned(), vec![peers]));
            }
            steps.push(format!(
                "repeat: {{ times: {more}, as: leak-all, steps: [{{ connect: {{ to: \"remote:{port}\", after: lab.changed, as: leak }} }}, {{ write: {{ bytes: 100, as: leak-reply }} }}{half}{end}] }}"
            ));
            self.awaited.push(format!("{program}.leak-all"));
        }
        self.programs
            .entry(program.clone())
            .or_default()
            .push(("leak".to_owned(), steps));
        self.ended.push(program);
    }

    /// More orphans, at the rate at which the host has them: by their ages, else by how
    /// long one lives.
    fn orphans(
        &mut self,
        reproduction: &Reproduction,
        trial: &Trial,
        class: &Class,
        listeners: &BTreeMap<u16, String>,
    ) {
        let (Way::Inbound(port), Some(life_s)) = (class.way, life_s(class.condition)) else {
            return;
        };
        let made = reproduction.count(class);
        #[expect(clippy::cast_precision_loss, reason = "a rate of a few a second")]
        let by_life = made as f64 / life_s;
        let by_age = class
            .rate_by_age()
            .map(|rate| reproduction.scale.rate(rate));
        let rate = by_age.unwrap_or(by_life) * LOAD;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few hundred orphans"
        )]
        let (times, every_ms) = (
            ((rate * ORPHANS_COME_S).ceil() as u64).clamp(1, MOST_CALLS),
            (1000.0 / rate).clamp(1.0, ORPHANS_COME_S * 1000.0) as u64,
        );
        let name = format!("{}-{port}-more", super::write::short(class.condition));
        let manner = super::write::manner(class, 0);
        let come = if class.condition == Condition::OrphanDead {
            format!(
                "repeat: {{ times: {times}, every: {every_ms}ms, as: {name}-all, steps: [{{ dial: {{ to: \"host:{port}\"{manner}, as: {name} }} }}, {{ peer: {{ on: {name}, does: vanish, as: {name}-gone }} }}] }}"
            )
        } else {
            format!(
                "dial: {{ to: \"host:{port}\", count: {times}, every: {every_ms}ms{manner}, as: {name} }}"
            )
        };
        let steps = vec!["await: lab.change-made".to_owned(), come];
        self.internet.push((name.clone(), steps));
        let program = listeners.get(&port).cloned().unwrap_or_default();
        let held = class.held[class.held.len() / 2];
        let mut steps = vec![
            format!("accept: {{ on: listen-{port}, as: {name} }}"),
            format!("sleep: {{ time: 20ms, as: {name}-begins }}"),
        ];
        if let Some(Remedy::UserTimeout(ms)) = trial.remedy(class) {
            steps.push(format!(
                "setsockopt: {{ TCP_USER_TIMEOUT: {ms}, as: {name}-limit }}"
            ));
        }
        steps.extend(super::write::fill("", &name, held));
        steps.push(format!("close: {{ as: {name}-close }}"));
        let steps: Vec<String> = steps.iter().map(|step| format!("{{ {step} }}")).collect();
        self.programs.entry(program.clone()).or_default().push((
            name.clone(),
            vec![
                "await: lab.change-made".to_owned(),
                format!(
                    "repeat: {{ times: {times}, as: {name}-served, steps: [{}] }}",
                    steps.join(", ")
                ),
            ],
        ));
        self.awaited.push(format!("{program}.{name}-served"));
    }

    /// Connections at the host's rate to where its records of TIME_WAIT lead.
    fn call(
        &mut self,
        reproduction: &Reproduction,
        class: &Class,
        listeners: &BTreeMap<u16, String>,
    ) {
        let port = class.way.port();
        let count = reproduction.count(class);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few hundred calls"
        )]
        let calls = ((count as f64 / 60.0 * LOAD * PORTS_ARE_WATCHED_S as f64).ceil() as u64)
            .clamp(5, MOST_CALLS);
        let every = (PORTS_ARE_WATCHED_S * 1000 / calls).saturating_sub(1);
        let (to, after) = match class.way {
            Way::Inbound(_) => return,
            Way::Outbound(_) => ("remote", "lab.changed".to_owned()),
            Way::Loopback(_) => {
                let backend = listeners.get(&port).cloned().unwrap_or_default();
                self.programs.entry(backend.clone()).or_default().push((
                    format!("serve-{port}"),
                    vec![
                        CHANGED.to_owned(),
                        format!(
                            "repeat: {{ times: {calls}, as: served-{port}, steps: [{{ accept: {{ on: listen-{port}, as: visitor-{port} }} }}, {{ read-to-end: {{ as: visitor-read-{port} }} }}, {{ close: {{ as: visitor-close-{port} }} }}] }}"
                        ),
                    ],
                ));
                self.ended.push(backend);
                ("localhost", "lab.changed".to_owned())
            }
        };
        let name = format!("caller-{port}");
        if self.actors.iter().any(|(known, _)| *known == name) {
            return;
        }
        self.actors.push((
            name.clone(),
            vec![
                CHANGED.to_owned(),
                format!(
                    "repeat: {{ times: {calls}, every: {every}ms, as: calls, steps: [{{ connect: {{ to: \"{to}:{port}\", after: {after}, as: call }} }}, {{ close: {{ as: call-close }} }}] }}"
                ),
            ],
        ));
        self.awaited.push(format!("{name}.calls"));
    }

    /// Clients of the listener that turns some away: they want an answer.
    fn clients(
        &mut self,
        reproduction: &Reproduction,
        trial: &Trial,
        listeners: &BTreeMap<u16, String>,
    ) {
        let is_meant = trial.changes.iter().any(Change::is_of_queues);
        let Some(queue) = reproduction.queue.as_ref().filter(|_| is_meant) else {
            return;
        };
        let mut known = reproduction.population.listeners.iter();
        let Some(listener) = known.find(|known| known.port == queue.port) else {
            return;
        };
        let (port, backlog) = (queue.port, reproduction.backlog(listener));
        let is_emptied = trial.without().contains(&Condition::NotAccepted);
        let waiting = if is_emptied {
            0
        } else {
            reproduction.waiting(port)
        };
        let program = listeners.get(&port).cloned().unwrap_or_default();
        let mut serves = vec!["await: lab.change-made".to_owned()];
        if let Some(backlog) = trial.backlog() {
            let backlog = reproduction.scale.limit(backlog);
            serves.push(format!(
                "listen: {{ on: listen-{port}, backlog: {backlog}, as: listen-again }}"
            ));
        }
        let mut serve = |times: u64, every: &str| {
            serves.push(format!(
                "repeat: {{ times: {times}{every}, as: clients-served, steps: [{{ accept: {{ on: listen-{port}, as: client }} }}, {{ write: {{ bytes: 100, as: client-answer }} }}, {{ close: {{ as: client-close }} }}] }}"
            ));
        };
        let mut come = vec![CHANGED.to_owned()];
        match queue.how {
            Fills::AtTimes { .. } => {
                let at_once = queue.at_once(backlog);
                for number in 1..=BURSTS {
                    come.push(format!("sleep: {{ time: 1ms, as: burst-{number}-comes }}"));
                    come.push("sleep: 50ms".to_owned());
                    come.push(format!(
                        "dial: {{ to: \"host:{port}\", count: {at_once}, addresses: 200, expect: 100, as: burst-{number} }}"
                    ));
                    if trial.accepts() {
                        continue;
                    }
                    self.lab.extend([
                        format!("await: internet.burst-{number}-comes"),
                        format!(
                            "signal: {{ actor: {program}, signal: SIGSTOP, as: busy-{number} }}"
                        ),
                        format!("sleep: {{ time: {BUSY_MS}ms, as: busy-for-{number} }}"),
                        format!(
                            "signal: {{ actor: {program}, signal: SIGCONT, as: again-{number} }}"
                        ),
                    ]);
                }
                serve(waiting + BURSTS * at_once, "");
                self.awaited.push(format!("internet.burst-{BURSTS}"));
            }
            Fills::Always {
                accepted_a_second, ..
            } => {
                come.push(format!(
                    "repeat: {{ times: {LATECOMERS}, every: 200ms, as: latecomers, steps: [{{ dial: {{ to: \"host:{port}\", expect: 100, as: latecomer }} }}] }}"
                ));
                let rate = accepted_a_second.map_or(0.0, |rate| reproduction.scale.rate(rate));
                if trial.accepts() || is_emptied {
                    serve(waiting + LATECOMERS, "");
                } else if rate > 0.0 {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a pause of seconds"
                    )]
                    let every_ms = (1000.0 / rate).clamp(1.0, 60_000.0) as u64;
                    serve(waiting + LATECOMERS, &format!(", every: {every_ms}ms"));
                }
                self.awaited.push("internet.latecomers".to_owned());
            }
        }
        self.internet.push(("clients".to_owned(), come));
        let lists = self.programs.entry(program.clone()).or_default();
        lists.push(("clients".to_owned(), serves));
        self.ended.push(program);
    }

    /// Servers that are gone start again on their ports.
    fn restart(
        &mut self,
        reproduction: &Reproduction,
        trial: &Trial,
        listeners: &BTreeMap<u16, String>,
    ) {
        for port in listeners.keys() {
            let known = &reproduction.population.listeners;
            let inbound = |class: &Class| class.way == Way::Inbound(*port);
            if known.iter().any(|listener| listener.port == *port)
                || !reproduction.population.classes.iter().any(inbound)
            {
                continue;
            }
            let mut steps = vec![CHANGED.to_owned(), "socket".to_owned()];
            if trial.reuses() {
                steps.push("setsockopt: { SO_REUSEADDR: 1 }".to_owned());
            }
            steps.push(format!(
                "bind: {{ to: \"any:{port}\", may-fail: true, as: rebind }}"
            ));
            self.actors.push((format!("successor-{port}"), steps));
            self.awaited.push(format!("successor-{port}.rebind"));
        }
    }
}
