//! A scenario: hosts, links, sysctls, actors with steps, expectations.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use advisor_report::Quantifier;
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use super::command::{self, Command};
use super::condition::{Condition, Expression};
use super::error::{Place, SuiteError, nearest};
use super::form::{Data, Fields, Form, Item, Object, is_name, optional, required};
use super::matrix::Cell;
use super::node::Key;
use super::parameter::{PARAMETER, Parameter};
use super::step::{Room, Step, Verb};
use super::vocabulary;
use crate::actor::cgroup::Limits;
use crate::suite::impairment::{Impairment, Loss};
use advisor_facts::release::Release;

/// Names that no actor and no sample may have.
const RESERVED: &[&str] = &["any", "kernel", "lab", "localhost", "router"];

/// Addresses that an endpoint may name besides hosts: every one of the actor's own
/// host, and its loopback.
pub const OWN_ADDRESSES: [&str; 2] = ["any", "localhost"];

/// The most hosts of a scenario: each has a subnet of its own, numbered in one
/// octet.
const MAX_HOSTS: usize = 200;

static GILBERT_ELLIOTT: Object = Object {
    short: None,
    fields: &[
        required(
            "p",
            Form::Percent,
            "from the good to the bad state, each packet",
        ),
        required(
            "r",
            Form::Percent,
            "from the bad to the good state, each packet",
        ),
        optional("bad_loss", Form::Percent, "100% unless told"),
        optional("good_loss", Form::Percent, "0% unless told"),
    ],
};

static LINK: Object = Object {
    short: None,
    fields: &[
        optional("delay", Form::Duration, "added to each packet"),
        optional(
            "jitter",
            Form::Duration,
            "the delay is uniform within +- this; it reorders",
        ),
        optional("loss", Form::Percent, "each packet by itself"),
        optional(
            "gilbert_elliott",
            Form::Object(&GILBERT_ELLIOTT),
            "loss in bursts: a good and a bad state",
        ),
        optional("duplicate", Form::Percent, "sent twice"),
        optional("corrupt", Form::Percent, "one bit is flipped"),
        optional(
            "reorder",
            Form::Percent,
            "goes first, without the delay; needs delay",
        ),
        optional(
            "gap",
            Form::Positive,
            "with reorder: only every gap-th packet may; 1 unless told",
        ),
        optional("rate", Form::Rate, "bits a second on the wire"),
        optional(
            "limit",
            Form::Positive,
            "packets that the link holds; 1000 unless told",
        ),
        optional(
            "seed",
            Form::Count,
            "where the draws start; run N adds N to it",
        ),
    ],
};

static ACTOR: Object = Object {
    short: None,
    fields: &[
        required("on", Form::Name, "the host whose namespace it runs in"),
        optional(
            "memory_max",
            Form::Bytes,
            "memory.max of a cgroup of its own; such a scenario runs in guests only",
        ),
        optional(
            "memory_high",
            Form::Bytes,
            "memory.high of a cgroup of its own, likewise",
        ),
        optional(
            "steps",
            Form::Steps(Room::Actor),
            "what it does, one after the other",
        ),
        optional(
            "tasks",
            Form::Map(&Form::Steps(Room::Actor)),
            "step lists side by side in the one process",
        ),
        command::COMMAND,
        command::ENV,
        command::DIRECTORY,
        command::FILES,
        command::READY,
        command::NEEDS,
        command::INSTALL,
    ],
};

static EXPECTATION: Object = Object {
    short: None,
    fields: &[
        optional("always", Form::Condition, "in every run"),
        optional("never", Form::Condition, "in no run"),
        optional(
            "may",
            Form::Condition,
            "every run gives one of these, none has to appear",
        ),
        optional(
            "sometimes",
            Form::Condition,
            "each in at least one run; runs are added up to max_runs",
        ),
        optional("since", Form::Release, "only from this release on"),
        optional("before", Form::Release, "only before this release"),
        optional("because", Form::Text, "why, in a plain sentence"),
    ],
};

static CASE: Object = Object {
    short: None,
    fields: &[
        optional(
            "when",
            Form::Map(&Form::Condition),
            "by axis: the values that it is for; all where it is left out",
        ),
        optional(
            "explains",
            Form::Text,
            "added to what the scenario explains",
        ),
        optional("see-also", Form::Text, "in place of the scenario's"),
        optional(
            "expect",
            Form::Map(&Form::OneOrMore(&Form::Object(&EXPECTATION))),
            "by observation, beside what the scenario expects",
        ),
    ],
};

/// The keys of a scenario.
pub static SCENARIO: Object = Object {
    short: None,
    fields: &[
        required("name", Form::Name, "the last part of its id"),
        required("explains", Form::Text, "what it shows, in plain sentences"),
        required("source", Form::Text, "the document that states it"),
        optional(
            "see-also",
            Form::Text,
            "the id of another scenario, such as the cure",
        ),
        optional(
            "runs",
            Form::Positive,
            "how often; 3 unless told, 1 where it tries advice",
        ),
        optional(
            "max_runs",
            Form::Positive,
            "the most runs for `sometimes`; 20 unless told",
        ),
        optional("time_limit", Form::Duration, "of one run; 20s unless told"),
        optional(
            "long",
            Form::Flag,
            "true where it waits long: it then runs with --long only",
        ),
        optional(
            "since",
            Form::Release,
            "the first release that it can run on",
        ),
        optional(
            "matrix",
            Form::Axes,
            "axes with their values; $axis stands for a value in the scenario",
        ),
        optional(
            "cases",
            Form::List(&Form::Object(&CASE)),
            "with a matrix: the first case that fits a cell says what is expected there",
        ),
        optional(
            "hosts",
            Form::List(&Form::Name),
            "[client, server] unless told; each has its own link to the router",
        ),
        optional(
            "family",
            Form::Choice(&["ipv4", "ipv6", "ipv4-mapped"]),
            "ipv4 unless told; ipv4-mapped is IPv4 through IPv6 sockets",
        ),
        optional(
            "emulation",
            Form::Choice(&["run", "skip"]),
            "skip: too much work for a guest with an emulated processor; run unless told",
        ),
        optional(
            "carrier",
            Form::Choice(&["auto", "netem"]),
            "what carries impaired links: with netem never the relay; auto unless told",
        ),
        optional("link", Form::Object(&LINK), "the link towards every host"),
        optional(
            "links",
            Form::Map(&Form::Object(&LINK)),
            "by host: the link towards that host only, in place of `link`",
        ),
        optional(
            "sysctls",
            Form::Map(&Form::Map(&Form::Text)),
            "by host; under `kernel` those of the initial namespace, which act on the machine",
        ),
        required("actors", Form::Map(&Form::Object(&ACTOR)), "by name"),
        optional(
            "lab",
            Form::Steps(Room::Lab),
            "steps of the lab: links, signals, looks",
        ),
        optional(
            "parameters",
            Form::Map(&Form::Object(&PARAMETER)),
            "numbers that a host's own can take the place of; {name} stands for one",
        ),
        optional(
            "proves",
            Form::List(&Form::Object(&PROVES)),
            "the advice that it tries, before and after: an axis `change` with these two values",
        ),
        optional(
            "failure",
            Form::Map(&Form::Condition),
            "an observation with what it is where the failure happened; expected before the \
             change always and after it never",
        ),
        optional(
            "expect",
            Form::Map(&Form::OneOrMore(&Form::Object(&EXPECTATION))),
            "by observation; may be left out where there is a `failure`",
        ),
    ],
};

static PROVES: Object = Object {
    short: None,
    fields: &[
        required("rule", Form::Text, "the code of a rule of the advisor"),
        optional(
            "setting",
            Form::Text,
            "only where it recommends to change this",
        ),
    ],
};

/// A scenario, checked.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Scenario {
    /// `topic/file/name`, and for a cell of a matrix `[key=value,...]`.
    pub id: String,
    /// Its place in its matrix, where it is a cell of one.
    pub cell: Option<Cell>,
    /// Whether it waits long, and runs only where that was asked for.
    pub long: bool,
    /// The first release that it can run on.
    pub since: Option<Release>,
    /// What it shows.
    pub explains: String,
    /// The document that states it.
    pub source: String,
    /// Another scenario, such as the cure.
    pub see_also: Option<String>,
    /// How often it is run at least.
    pub runs: u64,
    /// The most runs for `sometimes`.
    pub max_runs: u64,
    /// Of one run.
    pub time_limit: Duration,
    /// Without the router, in the order of the suite.
    pub hosts: Vec<String>,
    /// The address family that endpoints resolve to.
    pub family: Family,
    /// Whether it is too much for an emulated processor.
    pub skips_emulation: bool,
    /// Whether only netem may carry its links.
    pub needs_netem: bool,
    /// By host: the direction towards it.
    pub links: BTreeMap<String, Impairment>,
    /// By host: per-namespace sysctls.
    pub sysctls: BTreeMap<String, Vec<(String, String)>>,
    /// Sysctls of the initial namespace, which act on the whole machine.
    pub kernel_sysctls: Vec<(String, Vec<Expression>)>,
    /// The actors in the order of the suite.
    pub actors: Vec<Actor>,
    /// The steps of the lab.
    pub lab: Vec<Step>,
    /// What is expected, in the order of the suite.
    pub expectations: Vec<Expected>,
    /// The numbers that a host's own can take the place of.
    pub parameters: Vec<Parameter>,
    /// The advice that it tries.
    pub proves: Vec<Proves>,
    /// What shows that the failure happened in a run.
    pub failure: Option<Failure>,
}

/// Advice that a scenario tries.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Proves {
    /// The code of the rule.
    pub rule: String,
    /// The setting that it recommends to change; `None` for any.
    pub setting: Option<String>,
}

/// What shows that the failure happened in a run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Failure {
    /// The observation.
    pub observation: String,
    /// What it is then: one of these.
    pub conditions: Vec<Condition>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.conditions.iter().map(|c| c.text.as_str()).collect();
        write!(f, "{} {}", self.observation, texts.join(" | "))
    }
}

/// Before or after a change that is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// As the host is.
    Before,
    /// As it is advised.
    After,
}

impl Side {
    /// The value of the axis [`CHANGE`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// The axis of a matrix that tries advice; its values are those of [`Side`].
pub const CHANGE: &str = "change";

/// An address family.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// IPv4 by IPv6 sockets: `::ffff:10.0.1.2`.
    V4Mapped,
}

impl Family {
    /// The one of two addresses that is of this family.
    fn of(self, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
        match self {
            Self::V4 => v4.into(),
            Self::V6 => v6.into(),
            Self::V4Mapped => v4.to_ipv6_mapped().into(),
        }
    }
}

/// A process in a host's namespace.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Actor {
    /// Its name.
    pub name: String,
    /// The host.
    pub host: String,
    /// The limits of a cgroup of its own, where it has one.
    pub memory_limits: Option<Limits>,
    /// What it is, where it doesn't run steps.
    pub command: Option<Command>,
    /// Its step lists; one unless the suite says `tasks`. Of a command, what
    /// comes to pass by itself: that it is ready, and that it ends.
    pub tasks: Vec<Task>,
}

/// One of the step lists of an actor.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Task {
    /// Its name; empty for the only one.
    pub name: String,
    /// The steps.
    pub steps: Vec<Step>,
}

/// An expectation of the suite.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Expected {
    /// The observation.
    pub observation: String,
    /// Over which runs.
    pub quantifier: Quantifier,
    /// The conditions, of which one has to hold.
    pub conditions: Vec<Condition>,
    /// The first release that it is expected of.
    pub since: Option<Release>,
    /// The first release that it is no longer expected of.
    pub before: Option<Release>,
    /// Why, in the suite's words.
    pub because: Option<String>,
}

impl Expected {
    /// The conditions as one text, with the releases that they are for.
    pub fn condition(&self) -> String {
        let texts: Vec<&str> = self.conditions.iter().map(|c| c.text.as_str()).collect();
        let text = texts.join(" | ");
        match (self.since, self.before) {
            (Some(since), Some(before)) => format!("{text} ({since} on, before {before})"),
            (Some(since), None) => format!("{text} ({since} on)"),
            (None, Some(before)) => format!("{text} (before {before})"),
            (None, None) => text,
        }
    }

    /// Whether it is expected of a release.
    pub fn is_for(&self, release: Release) -> bool {
        self.since.is_none_or(|since| release >= since)
            && self.before.is_none_or(|before| release < before)
    }
}

impl Scenario {
    /// The host's own address in the scenario's family; the router's where the
    /// host is the router. Host number N has 10.0.N.2 and fd00:N::2, the
    /// router's side of its link 10.0.N.1 and fd00:N::1. One of [`OWN_ADDRESSES`] is
    /// the same on every host.
    pub fn address_of(&self, host: &str) -> IpAddr {
        let own = match host {
            "any" => Some((Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)),
            "localhost" => Some((Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)),
            _ => None,
        };
        if let Some((v4, v6)) = own {
            return self.family.of(v4, v6);
        }
        let number = self
            .hosts
            .iter()
            .position(|known| known == host)
            .map_or(1, |index| index + 1);
        let side = if host == "router" { 1 } else { 2 };
        address(number, side, self.family)
    }

    /// The id without the cell.
    pub fn name(&self) -> &str {
        let cell = self.id.find('[').filter(|_| self.cell.is_some());
        &self.id[..cell.unwrap_or(self.id.len())]
    }

    /// The scenario with what is expected of a kernel's release, as `uname -r`
    /// gives it, and no more.
    #[must_use]
    pub fn on_release(&self, release: &str) -> Self {
        let mut scenario = self.clone();
        if let Some(release) = Release::of_kernel(release) {
            scenario
                .expectations
                .retain(|expected| expected.is_for(release));
        }
        scenario
    }

    /// Whether the scenario acts on the whole machine.
    pub fn touches_host(&self) -> bool {
        !self.kernel_sysctls.is_empty()
    }

    /// Whether it makes something that would outlive it on a host: a cgroup.
    pub fn needs_guest(&self) -> bool {
        self.actors
            .iter()
            .any(|actor| actor.memory_limits.is_some())
    }

    /// The users that its actors become.
    pub fn users(&self) -> impl Iterator<Item = Uid> {
        let tasks = self.actors.iter().flat_map(|actor| &actor.tasks);
        tasks
            .flat_map(|task| flatten(&task.steps))
            .filter_map(Step::user)
    }

    /// Whether others in the same guest would be disturbed by what it leaves.
    pub fn wants_a_fresh_guest(&self) -> bool {
        self.touches_host() || self.needs_guest()
    }

    /// Whether other scenarios running beside it would show in what it sees.
    pub fn wants_the_kernel_to_itself(&self) -> bool {
        let watches = |step: &Step| {
            let observation = step.fields.text("observation");
            observation.is_some_and(|name| name.starts_with("kernel."))
        };
        self.touches_host()
            || self.lab.iter().any(watches)
            || self.expectations.iter().any(|expected| {
                let references = expected.conditions.iter().flat_map(Condition::references);
                references
                    .chain([expected.observation.as_str()])
                    .any(|name| name.starts_with("kernel."))
            })
    }

    /// The step of a list by name, inside others too.
    pub fn step(&self, list: &str, name: &str) -> Option<&Step> {
        self.lists()
            .filter(|(known, _)| *known == list)
            .flat_map(|(_, steps)| flatten(steps))
            .find(|step| step.name == name)
    }

    /// Whether a step of the lab takes a link away.
    pub fn takes_a_link_down(&self) -> bool {
        self.lab.iter().any(|step| step.verb == Verb::LinkDown)
    }

    /// Whether any direction is impaired.
    pub fn is_impaired(&self) -> bool {
        !self.links.is_empty()
    }

    /// Checks a scenario's fields; `prefix` is `topic/file`.
    pub fn build(
        fields: &Fields,
        prefix: &str,
        cell: Option<Cell>,
        parameters: Vec<Parameter>,
    ) -> Result<Self, SuiteError> {
        let suffix = cell.as_ref().map(Cell::suffix).unwrap_or_default();
        Self::checked(fields, prefix, cell, parameters).map_err(|mut error| {
            if !suffix.is_empty() {
                error.message = format!("{} (in {suffix})", error.message);
            }
            error
        })
    }

    fn checked(
        fields: &Fields,
        prefix: &str,
        cell: Option<Cell>,
        parameters: Vec<Parameter>,
    ) -> Result<Self, SuiteError> {
        let name = fields.text("name").unwrap_or_default();
        let suffix = cell.as_ref().map(Cell::suffix).unwrap_or_default();
        let text = |key| fields.text(key).unwrap_or_default().trim().to_owned();
        // Advice is tried as often as it takes by `prove`.
        let unless_told = if fields.list("proves").is_empty() {
            3
        } else {
            1
        };
        let runs = fields.count("runs").unwrap_or(unless_told);
        let mut scenario = Self {
            id: format!("{prefix}/{name}{suffix}"),
            cell,
            long: fields.flag("long").unwrap_or(false),
            since: fields.text("since").and_then(Release::parse),
            explains: text("explains"),
            source: text("source"),
            see_also: fields.text("see-also").map(str::to_owned),
            runs,
            max_runs: fields.count("max_runs").unwrap_or(20).max(runs),
            time_limit: fields
                .duration("time_limit")
                .unwrap_or(Duration::from_secs(20)),
            hosts: hosts(fields)?,
            family: match fields.text("family") {
                Some("ipv6") => Family::V6,
                Some("ipv4-mapped") => Family::V4Mapped,
                _ => Family::V4,
            },
            skips_emulation: fields.text("emulation") == Some("skip"),
            needs_netem: fields.text("carrier") == Some("netem"),
            links: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            kernel_sysctls: Vec::new(),
            actors: Vec::new(),
            lab: fields.steps("lab").unwrap_or_default().to_vec(),
            expectations: Vec::new(),
            parameters,
            proves: proves(fields)?,
            failure: None,
        };
        scenario.read_links(fields)?;
        scenario.read_sysctls(fields)?;
        scenario.read_actors(fields)?;
        scenario.let_connects_wait();
        scenario.check_objects()?;
        scenario.check_steps()?;
        scenario.check_circular_awaits()?;
        scenario.read_failure(fields)?;
        scenario.read_expectations(fields)?;
        Ok(scenario)
    }

    fn check_host(&self, name: &str, place: Place) -> Result<(), SuiteError> {
        if name == "router" || self.hosts.iter().any(|host| host == name) {
            return Ok(());
        }
        Err(no_such(
            "host",
            name,
            place,
            self.hosts.iter().map(String::as_str).chain(["router"]),
        ))
    }

    /// An observation that nothing here can produce is an error of the suite.
    fn check_observation(&self, name: &str, place: Place) -> Result<(), SuiteError> {
        vocabulary::check(name, self)
            .map(|_| ())
            .map_err(|unknown| {
                SuiteError::new(place, format!("{name}: {}", unknown.message), unknown.hint)
            })
    }

    fn read_links(&mut self, fields: &Fields) -> Result<(), SuiteError> {
        if let Some(link) = fields.object("link") {
            for host in &self.hosts {
                self.links.insert(host.clone(), impairment(link)?);
            }
        }
        for (host, item) in fields.map("links") {
            if host.text == "router" {
                return Err(SuiteError::new(
                    host.place,
                    "the router has no link of its own",
                    "a link is named after the host that it leads to",
                ));
            }
            self.check_host(&host.text, host.place)?;
            if let Data::Object(link) = &item.data {
                self.links.insert(host.text.clone(), impairment(link)?);
            }
        }
        Ok(())
    }

    fn read_sysctls(&mut self, fields: &Fields) -> Result<(), SuiteError> {
        for (host, item) in fields.map("sysctls") {
            let Data::Map(entries) = &item.data else {
                continue;
            };
            if host.text != "kernel" {
                self.check_host(&host.text, host.place)?;
            }
            for (name, item) in entries {
                let Data::Text(value) = &item.data else {
                    continue;
                };
                check_sysctl_name(&name.text, name.place)?;
                let name = &name.text;
                if host.text == "kernel" {
                    // tcp_mem has three numbers.
                    let values = value
                        .split(',')
                        .map(Expression::parse)
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(|why| {
                            SuiteError::new(
                                item.place,
                                format!("{name}: {why}"),
                                "a number or arithmetic; several, as for tcp_mem, with commas",
                            )
                        })?;
                    for reference in values.iter().flat_map(Expression::references) {
                        if !reference.starts_with("kernel.") || !reference.ends_with(".before") {
                            return Err(SuiteError::new(
                                item.place,
                                format!("{reference:?} isn't known before the run"),
                                "kernel.sockstat.TCP.orphan.before and its like are",
                            ));
                        }
                        self.check_observation(reference, item.place)?;
                    }
                    self.kernel_sysctls.push((name.clone(), values));
                } else {
                    self.sysctls
                        .entry(host.text.clone())
                        .or_default()
                        .push((name.clone(), value.clone()));
                }
            }
        }
        Ok(())
    }

    fn read_actors(&mut self, fields: &Fields) -> Result<(), SuiteError> {
        for (name, item) in fields.map("actors") {
            let Data::Object(actor) = &item.data else {
                continue;
            };
            let Key { text: name, place } = name;
            if !is_name(name) || RESERVED.contains(&name.as_str()) || self.hosts.contains(name) {
                return Err(SuiteError::new(
                    *place,
                    format!("an actor can't be called {name:?}"),
                    "a name of lower-case letters, digits and dashes, not a host's, kernel or lab",
                ));
            }
            let host = actor.text("on").unwrap_or_default().to_owned();
            self.check_host(&host, actor.place_of("on"))?;
            let mut tasks: Vec<Task> = actor
                .map("tasks")
                .iter()
                .filter_map(|(name, item)| match &item.data {
                    Data::Steps(steps) => Some(Task {
                        name: name.text.clone(),
                        steps: steps.clone(),
                    }),
                    _ => None,
                })
                .collect();
            let command = Command::read(actor)?;
            let only = |steps: &[Step]| Task {
                name: String::new(),
                steps: steps.to_vec(),
            };
            match (actor.steps("steps"), tasks.is_empty(), &command) {
                (Some(steps), true, None) => tasks.push(only(steps)),
                (None, true, Some(_)) => {
                    let place = actor.place_of("command");
                    let steps = [Verb::Ready, Verb::Exit].map(|verb| Step::of_itself(verb, place));
                    tasks.push(only(&steps));
                }
                (None, false, None) => {}
                _ => {
                    return Err(SuiteError::new(
                        *place,
                        format!("actor {name:?} needs one of `steps`, `tasks` and `command`"),
                        "steps: [...] for one list, tasks: { a: [...], b: [...] } for several, \
                         command: [nginx, -c, ...] for a program of your own",
                    ));
                }
            }
            let mut names = BTreeMap::new();
            for task in &tasks {
                check_unique(&task.steps, &mut names)?;
            }
            self.actors.push(Actor {
                name: name.clone(),
                host,
                memory_limits: Limits {
                    max_bytes: actor.count("memory_max"),
                    high_bytes: actor.count("memory_high"),
                }
                .if_any(),
                command,
                tasks,
            });
        }
        if self.actors.is_empty() {
            return Err(SuiteError::new(
                fields.place_of("actors"),
                "no actor",
                "at least one",
            ));
        }
        check_unique(&self.lab, &mut BTreeMap::new())
    }

    /// Whether each socket and each file that a step acts on by name is one that its
    /// actor makes.
    fn check_objects(&self) -> Result<(), SuiteError> {
        type Makes = fn(Verb) -> bool;
        let objects = [
            ("on", "socket", Verb::makes_a_socket as Makes),
            ("file", "file that is sent", Verb::sends_a_file),
        ];
        for actor in &self.actors {
            let steps = || actor.tasks.iter().flat_map(|task| flatten(&task.steps));
            for (field, what, makes_it) in objects {
                let made: Vec<&str> = steps()
                    .filter(|step| makes_it(step.verb))
                    .map(|step| step.name.as_str())
                    .collect();
                for step in steps() {
                    if let Some(name) = step.fields.text(field).filter(|name| !made.contains(name))
                    {
                        let place = step.fields.place_of(field);
                        return Err(no_such(what, name, place, made.into_iter()));
                    }
                }
            }
        }
        Ok(())
    }

    /// A program is started before its clients: each connect waits for the first
    /// listen on the port it goes to, where the scenario has one, or for the
    /// command whose port it is.
    fn let_connects_wait(&mut self) {
        let mut listens: BTreeMap<String, String> = BTreeMap::new();
        for actor in &self.actors {
            if let Some(port) = actor.command.as_ref().and_then(Command::port) {
                listens
                    .entry(format!("{}:{port}", actor.host))
                    .or_insert_with(|| format!("{}.ready", actor.name));
            }
            let mut bound = "";
            for step in actor.tasks.iter().flat_map(|task| flatten(&task.steps)) {
                let endpoint = match step.verb {
                    Verb::Bind => step.fields.text("to"),
                    Verb::Listen => step.fields.text("port"),
                    _ => None,
                };
                bound = endpoint.map_or(bound, port_of);
                if step.verb == Verb::Listen {
                    listens
                        .entry(format!("{}:{bound}", actor.host))
                        .or_insert_with(|| format!("{}.{}", actor.name, step.name));
                }
            }
        }
        for actor in &mut self.actors {
            let own = format!("{}.", actor.name);
            let host = &actor.host;
            for task in &mut actor.tasks {
                for_each_mut(&mut task.steps, &mut |step| {
                    let listen = step.fields.text("to").and_then(|to| {
                        let at_home = to.strip_prefix("localhost:");
                        match at_home.map(|port| format!("{host}:{port}")) {
                            Some(to) => listens.get(&to),
                            None => listens.get(to),
                        }
                    });
                    if let (Verb::Connect, Some(listen)) = (step.verb, listen)
                        && !listen.starts_with(&own)
                    {
                        step.fields.default_text("after", listen.clone());
                    }
                });
            }
        }
    }

    /// Every list of steps, with the name that references to it start with.
    fn lists(&self) -> impl Iterator<Item = (&str, &[Step])> {
        self.actors
            .iter()
            .flat_map(|actor| {
                actor
                    .tasks
                    .iter()
                    .map(|task| (actor.name.as_str(), task.steps.as_slice()))
            })
            .chain([("lab", self.lab.as_slice())])
    }

    fn check_steps(&self) -> Result<(), SuiteError> {
        self.lists()
            .flat_map(|(_, steps)| flatten(steps))
            .try_for_each(|step| self.check_step(step))
    }

    fn check_step(&self, step: &Step) -> Result<(), SuiteError> {
        let fields = &step.fields;
        if let Some(peer) = fields.text("peer") {
            self.check_host(peer, fields.place_of("peer"))?;
        }
        if let Some(host) = fields.text("host") {
            let place = fields.place_of("host");
            self.check_host(host, place)?;
            if host == "router" && matches!(step.verb, Verb::LinkDown | Verb::LinkUp) {
                return Err(SuiteError::new(
                    place,
                    "the router has no link of its own",
                    "",
                ));
            }
        }
        if let (Verb::Sysctl, Some(name)) = (step.verb, fields.text("name")) {
            check_sysctl_name(name, fields.place_of("name"))?;
        }
        for key in ["to", "port"] {
            let Some(endpoint) = fields.text(key) else {
                continue;
            };
            let host = endpoint.rsplit_once(':').map_or("", |(host, _)| host);
            if OWN_ADDRESSES.contains(&host) {
                continue;
            }
            if !host.is_empty() {
                self.check_host(host, fields.place_of(key))?;
            } else if step.verb == Verb::Connect {
                return Err(SuiteError::new(
                    fields.place_of(key),
                    "connect needs a host",
                    "host:port, such as server:7000",
                ));
            }
        }
        if let Some(actor) = fields.text("actor")
            && !self.actors.iter().any(|known| known.name == actor)
        {
            let names = self.actors.iter().map(|actor| actor.name.as_str());
            return Err(no_such("actor", actor, fields.place_of("actor"), names));
        }
        self.check_for_a_command(step)?;
        if let Some(reference) = step.waits_for() {
            let (list, name) = reference.split_once('.').unwrap_or((reference, ""));
            let place = fields.place_of(if step.verb == Verb::Await {
                "step"
            } else {
                "after"
            });
            if !self.lists().any(|(known, _)| known == list) {
                let names: Vec<&str> = self.lists().map(|(name, _)| name).collect();
                return Err(no_such("actor", list, place, names.into_iter()));
            }
            let there = self
                .lists()
                .any(|(known, steps)| known == list && vocabulary::has_step(name, steps));
            if !there {
                let names: Vec<&str> = self
                    .lists()
                    .filter(|(known, _)| *known == list)
                    .flat_map(|(_, steps)| flatten(steps))
                    .map(|step| step.name.as_str())
                    .collect();
                return Err(no_such(
                    &format!("step of {list}"),
                    name,
                    place,
                    names.into_iter(),
                ));
            }
        }
        if step.verb == Verb::Until {
            self.check_until(fields)?;
        }
        if step.verb == Verb::Setsockopt && fields.iter().all(|(key, _)| key == "as" || key == "on")
        {
            return Err(SuiteError::new(
                step.place,
                "setsockopt: no option",
                "such as { setsockopt: { SO_REUSEADDR: 1 } }",
            ));
        }
        Ok(())
    }

    /// What only a command can be told is told to one.
    fn check_for_a_command(&self, step: &Step) -> Result<(), SuiteError> {
        let fields = &step.fields;
        let is_for_one = match step.verb {
            Verb::Restart => true,
            Verb::Signal => fields.text("to").is_some(),
            _ => false,
        };
        if !is_for_one {
            return Ok(());
        }
        let name = fields.text("actor").unwrap_or_default();
        if self.command_of(name).is_some() {
            return Ok(());
        }
        Err(SuiteError::new(
            step.place,
            format!("actor {name:?} is no command"),
            "only an actor with `command` has processes of its own to be told so",
        ))
    }

    /// The command that an actor is.
    pub fn command_of(&self, actor: &str) -> Option<&Command> {
        let mut actors = self.actors.iter();
        actors.find(|known| known.name == actor)?.command.as_ref()
    }

    /// The scenario with the files of its commands' programs, as they are called
    /// from anywhere.
    #[must_use]
    pub fn with_resolved_commands(&self) -> Self {
        let mut scenario = self.clone();
        for actor in &mut scenario.actors {
            actor.command = actor.command.as_ref().map(Command::resolved);
        }
        scenario
    }

    /// The commands among the actors, each with its actor's name.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &Command)> {
        self.actors
            .iter()
            .filter_map(|actor| Some((actor.name.as_str(), actor.command.as_ref()?)))
    }

    fn check_until(&self, fields: &Fields) -> Result<(), SuiteError> {
        let observation = fields.text("observation").unwrap_or_default();
        let place = fields.place_of("observation");
        let (host, rest) = observation.split_once('.').unwrap_or((observation, ""));
        if host == "kernel" || rest.starts_with("sockstat.") {
            // A gauge as it is now has no field of its own.
            self.check_observation(&format!("{observation}.last"), place)?;
        } else {
            self.check_host(host, place)?;
            if !rest.starts_with("sockets.") && !rest.starts_with("peers.") {
                return Err(SuiteError::new(
                    place,
                    format!("until can't watch {observation:?}"),
                    "HOST.sockets.STATE, HOST.peers.HOST.STATE, either with .FIELD, \
                         HOST.sockstat.GAUGE or kernel.sockstat.GAUGE",
                ));
            }
            if host != "router" {
                self.check_observation(observation, place)?;
            }
        }
        for condition in conditions(fields.list("condition"))? {
            if !condition.references().is_empty() {
                return Err(SuiteError::new(
                    fields.place_of("condition"),
                    "until compares with numbers only",
                    "",
                ));
            }
        }
        Ok(())
    }

    /// Finds steps that wait for one another for ever. A list runs in order,
    /// so each of its steps waits for the one before; `await` adds an edge.
    fn check_circular_awaits(&self) -> Result<(), SuiteError> {
        let lists: Vec<(&str, &[Step])> = self.lists().collect();
        let top_level = |reference: &str| -> Option<(usize, usize)> {
            let (list, name) = reference.split_once('.')?;
            lists
                .iter()
                .enumerate()
                .find_map(|(index, (known, steps))| {
                    let position = steps.iter().position(|step| {
                        step.name == name || vocabulary::has_step(name, step.inner())
                    })?;
                    (*known == list).then_some((index, position))
                })
        };
        let mut done: Vec<usize> = vec![0; lists.len()];
        // Run the lists against each other as if every step succeeded at once;
        // what can't go on then never can.
        loop {
            let mut moved = false;
            for (index, (_, steps)) in lists.iter().enumerate() {
                while let Some(step) = steps.get(done[index]) {
                    let ready = flatten(std::slice::from_ref(step))
                        .filter_map(|step| top_level(step.waits_for()?))
                        .all(|(list, position)| done[list] > position);
                    if !ready {
                        break;
                    }
                    done[index] += 1;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        let stuck: Vec<String> = lists
            .iter()
            .zip(&done)
            .filter_map(|((name, steps), done)| Some(format!("{name}.{}", steps.get(*done)?.name)))
            .collect();
        let Some(((_, steps), done)) = lists
            .iter()
            .zip(&done)
            .find(|((_, steps), done)| **done < steps.len())
        else {
            return Ok(());
        };
        Err(SuiteError::new(
            steps[*done].place,
            format!(
                "circular await: {} wait for one another",
                stuck.join(" and ")
            ),
            "an awaited step must be able to run first",
        ))
    }

    /// Before or after, where the scenario tries a change.
    pub fn side(&self) -> Option<Side> {
        let axes = &self.cell.as_ref()?.axes;
        let (_, value) = axes.iter().find(|(axis, _)| axis == CHANGE)?;
        [Side::Before, Side::After]
            .into_iter()
            .find(|side| side.as_str() == value)
    }

    /// What the failure is, which is then expected before the change and not
    /// after it.
    fn read_failure(&mut self, fields: &Fields) -> Result<(), SuiteError> {
        let place = fields.place_of("failure");
        let (observation, item) = match fields.map("failure") {
            [] if self.proves.is_empty() => return Ok(()),
            [one] => one,
            _ => {
                let hint = "failure: { client.TcpExt.TCPAbortOnMemory: \">= 1\" }";
                return Err(SuiteError::new(place, "one failure is wanted", hint));
            }
        };
        let Some(side) = self.side() else {
            return Err(SuiteError::new(
                place,
                "a failure without the sides of a change",
                "matrix: { change: { before: ..., after: ... } }",
            ));
        };
        let Data::List(items) = &item.data else {
            return Ok(());
        };
        self.check_observation(&observation.text, observation.place)?;
        let conditions = self.checked_conditions(&observation.text, items)?;
        self.failure = Some(Failure {
            observation: observation.text.clone(),
            conditions: conditions.clone(),
        });
        self.expectations.push(Expected {
            observation: observation.text.clone(),
            quantifier: match side {
                Side::Before => Quantifier::Always,
                Side::After => Quantifier::Never,
            },
            conditions,
            since: None,
            before: None,
            because: None,
        });
        Ok(())
    }

    /// Conditions on an observation that can all come to be.
    fn checked_conditions(
        &self,
        observation: &str,
        items: &[Item],
    ) -> Result<Vec<Condition>, SuiteError> {
        let conditions = conditions(items)?;
        let place = items.first().map_or(Place::START, |item| item.place);
        for reference in conditions.iter().flat_map(Condition::references) {
            self.check_observation(reference, place)?;
        }
        for wanted in conditions.iter().filter_map(Condition::exact) {
            vocabulary::check_value(observation, wanted, self).map_err(|unknown| {
                let message = format!("{observation}: {}", unknown.message);
                SuiteError::new(place, message, unknown.hint)
            })?;
        }
        Ok(conditions)
    }

    fn read_expectations(&mut self, fields: &Fields) -> Result<(), SuiteError> {
        for (observation, item) in fields.map("expect") {
            let Key {
                text: observation,
                place,
            } = observation;
            self.check_observation(observation, *place)?;
            let Data::List(alternatives) = &item.data else {
                continue;
            };
            for item in alternatives {
                if let Data::Object(quantified) = &item.data {
                    self.read_expectation(observation, *place, quantified)?;
                }
            }
        }
        if self.expectations.is_empty() {
            return Err(SuiteError::new(
                fields.place_of("expect"),
                "nothing is expected",
                "a scenario that can't fail shows nothing",
            ));
        }
        Ok(())
    }

    fn read_expectation(
        &mut self,
        observation: &str,
        place: Place,
        quantified: &Fields,
    ) -> Result<(), SuiteError> {
        let release = |key| quantified.text(key).and_then(Release::parse);
        let before = self.expectations.len();
        for (key, item) in quantified.iter() {
            let Data::List(items) = &item.data else {
                continue;
            };
            let conditions = self.checked_conditions(observation, items)?;
            let quantifier = match key {
                "always" => Quantifier::Always,
                "never" => Quantifier::Never,
                "may" => Quantifier::May,
                _ => Quantifier::Sometimes,
            };
            // Each value of `sometimes` has to be seen by itself.
            let groups: Vec<Vec<Condition>> = if quantifier == Quantifier::Sometimes {
                conditions
                    .into_iter()
                    .map(|condition| vec![condition])
                    .collect()
            } else {
                vec![conditions]
            };
            for conditions in groups {
                self.expectations.push(Expected {
                    observation: observation.to_owned(),
                    quantifier,
                    conditions,
                    since: release("since"),
                    before: release("before"),
                    because: quantified.text("because").map(str::to_owned),
                });
            }
        }
        if self.expectations.len() == before {
            return Err(SuiteError::new(
                place,
                format!("{observation}: nothing is expected of it"),
                "always, never, may or sometimes with a condition",
            ));
        }
        Ok(())
    }
}

/// Host number `number` (from 1) has side 2 of its subnet, the router side 1.
pub fn address(number: usize, side: u8, family: Family) -> IpAddr {
    let octet = u8::try_from(number).unwrap_or(u8::MAX);
    family.of(
        Ipv4Addr::new(10, 0, octet, side),
        Ipv6Addr::new(0xfd00, u16::from(octet), 0, 0, 0, 0, 0, u16::from(side)),
    )
}

fn port_of(endpoint: &str) -> &str {
    endpoint.rsplit_once(':').map_or(endpoint, |(_, port)| port)
}

fn for_each_mut(steps: &mut [Step], change: &mut dyn FnMut(&mut Step)) {
    for step in steps {
        change(step);
        for_each_mut(step.fields.steps_mut("steps"), change);
    }
}

/// The steps of a list and those inside them, in order.
pub fn flatten(steps: &[Step]) -> Box<dyn Iterator<Item = &Step> + '_> {
    Box::new(
        steps
            .iter()
            .flat_map(|step| std::iter::once(step).chain(flatten(step.inner()))),
    )
}

fn no_such<'a>(
    kind: &str,
    name: &str,
    place: Place,
    names: impl Iterator<Item = &'a str> + Clone,
) -> SuiteError {
    let likely = nearest(name, names.clone())
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default();
    SuiteError::new(
        place,
        format!("no {kind} {name:?}{likely}"),
        format!("known: {}", names.collect::<Vec<_>>().join(", ")),
    )
}

/// The advice that a scenario tries; each rule is one that there is.
fn proves(fields: &Fields) -> Result<Vec<Proves>, SuiteError> {
    let items = fields.list("proves").iter();
    items
        .filter_map(|item| match &item.data {
            Data::Object(fields) => Some(fields),
            _ => None,
        })
        .map(|fields| {
            let rule = fields.text("rule").unwrap_or_default();
            if advisor::rules::RULES.iter().all(|known| known.code != rule) {
                let codes = advisor::rules::RULES.iter().map(|rule| rule.code);
                return Err(no_such("rule", rule, fields.place_of("rule"), codes));
            }
            Ok(Proves {
                rule: rule.to_owned(),
                setting: fields.text("setting").map(str::to_owned),
            })
        })
        .collect()
}

fn hosts(fields: &Fields) -> Result<Vec<String>, SuiteError> {
    let mut hosts: Vec<String> = Vec::new();
    for item in fields.list("hosts") {
        let Data::Text(name) = &item.data else {
            continue;
        };
        // The router is always there, so naming it among the hosts is harmless.
        if name == "router" {
            continue;
        }
        if hosts.contains(name) || RESERVED.contains(&name.as_str()) || name.len() > 12 {
            return Err(SuiteError::new(
                item.place,
                format!("a host can't be called {name:?} here"),
                "each name once, at most 12 characters, not kernel or lab",
            ));
        }
        hosts.push(name.clone());
    }
    if hosts.len() > MAX_HOSTS {
        return Err(SuiteError::new(
            fields.place_of("hosts"),
            format!("{} hosts", hosts.len()),
            format!("at most {MAX_HOSTS}"),
        ));
    }
    if hosts.is_empty() {
        hosts = vec!["client".to_owned(), "server".to_owned()];
    }
    Ok(hosts)
}

fn check_unique(steps: &[Step], names: &mut BTreeMap<String, Place>) -> Result<(), SuiteError> {
    for step in flatten(steps) {
        if let Some(first) = names.insert(step.name.clone(), step.place) {
            // Waiting is not observed by name unless somebody names it.
            if matches!(step.verb, Verb::Await | Verb::Sleep) && step.fields.text("as").is_none() {
                continue;
            }
            return Err(SuiteError::new(
                step.place,
                format!(
                    "a second step called {:?}; the first is at {first}",
                    step.name
                ),
                "give one of them a name of its own with `as`",
            ));
        }
    }
    Ok(())
}

fn check_sysctl_name(name: &str, place: Place) -> Result<(), SuiteError> {
    let fits = name.starts_with("net.")
        && name.split('.').all(|part| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        });
    if fits {
        return Ok(());
    }
    Err(SuiteError::new(
        place,
        format!("{name:?} is not a network sysctl"),
        "dotted, as in net.ipv4.tcp_fin_timeout",
    ))
}

/// The conditions in a list of texts.
pub fn conditions(items: &[Item]) -> Result<Vec<Condition>, SuiteError> {
    items
        .iter()
        .filter_map(|item| match &item.data {
            Data::Text(text) => Some((text, item.place)),
            _ => None,
        })
        .map(|(text, place)| {
            Condition::parse(text).map_err(|why| {
                SuiteError::new(
                    place,
                    format!("condition: {why}"),
                    "a value, < <= > >= == != with a number or {observation}, LOW..HIGH, or ~ text",
                )
            })
        })
        .collect()
}

fn impairment(link: &Fields) -> Result<Impairment, SuiteError> {
    let none = Impairment::none();
    let probability = |key| link.probability(key).unwrap_or_default();
    let gilbert_elliott = link.object("gilbert_elliott");
    let loss = match (link.probability("loss"), gilbert_elliott) {
        (Some(_), Some(_)) => {
            return Err(SuiteError::new(
                link.place_of("gilbert_elliott"),
                "both loss and gilbert_elliott",
                "one of them",
            ));
        }
        (Some(probability), None) => Loss::Random(probability),
        (None, Some(states)) => Loss::GilbertElliott {
            p: states.probability("p").unwrap_or_default(),
            r: states.probability("r").unwrap_or_default(),
            bad_loss: states
                .probability("bad_loss")
                .unwrap_or(crate::suite::impairment::Probability::ALWAYS),
            good_loss: states.probability("good_loss").unwrap_or_default(),
        },
        (None, None) => Loss::None,
    };
    let delay = link.duration("delay").unwrap_or(none.delay);
    let jitter = link.duration("jitter").unwrap_or(none.jitter);
    if jitter > delay {
        return Err(SuiteError::new(
            link.place_of("jitter"),
            "the jitter is larger than the delay",
            "a packet can't arrive before it was sent",
        ));
    }
    if jitter > Impairment::MAX_JITTER {
        return Err(SuiteError::new(
            link.place_of("jitter"),
            "the jitter is larger than netem's largest",
            "at most 2.1s",
        ));
    }
    let reorder = probability("reorder");
    if link.get("reorder").is_some() && delay.is_zero() {
        return Err(SuiteError::new(
            link.place_of("reorder"),
            "reorder without a delay does nothing",
            "add a delay for the packets that are not reordered",
        ));
    }
    if link.get("gap").is_some() && link.get("reorder").is_none() {
        return Err(SuiteError::new(
            link.place_of("gap"),
            "gap without reorder",
            "",
        ));
    }
    Ok(Impairment {
        delay,
        jitter,
        loss,
        duplicate: probability("duplicate"),
        corrupt: probability("corrupt"),
        reorder,
        gap: if link.get("reorder").is_some() {
            narrow(link, "gap")?.unwrap_or(1)
        } else {
            0
        },
        rate_bits_per_second: link.count("rate"),
        limit_packets: narrow(link, "limit")?.unwrap_or(none.limit_packets),
        seed: link.count("seed").unwrap_or(0),
    })
}

/// A number that netem holds in 32 bits.
fn narrow(link: &Fields, key: &str) -> Result<Option<u32>, SuiteError> {
    link.count(key)
        .map(|count| {
            u32::try_from(count).map_err(|_| {
                SuiteError::new(
                    link.place_of(key),
                    format!("{key}: {count} is too many"),
                    "",
                )
            })
        })
        .transpose()
}
