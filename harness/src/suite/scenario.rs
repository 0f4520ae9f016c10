//! A scenario: hosts, links, sysctls, actors with steps, expectations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use advisor_report::{Clock, Link, Quantifier};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::matrix::Cell;
use crate::condition::{Condition, Expression};
use crate::impairment::Impairment;
use crate::lab::address::{self, Addresses, Family};
use crate::lab::{Carrier, Middlebox, Topology};
use crate::observation::{Field, Observation};
use crate::step::name::{OWN_ADDRESSES, StepReference};
use crate::step::{ActorStep, Kind, LabStep, Step, Values, flatten};
use crate::yaml::error::Place;
use advisor_facts::release::Release;

/// A scenario, checked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of its own in a suite"
)]
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
    /// The only clock that it can run by: real where it measures the machine's own
    /// speed, virtual where it waits for hours.
    pub clock: Option<Clock>,
    /// Whether only netem may carry its links.
    pub needs_netem: bool,
    /// By host: the direction towards it.
    pub links: BTreeMap<String, Impairment>,
    /// Whether segmentation offload stays on.
    pub offload: bool,
    /// What the router does beside forwarding.
    pub middlebox: Option<Middlebox>,
    /// By host: per-namespace sysctls.
    pub sysctls: BTreeMap<String, Vec<(String, String)>>,
    /// Sysctls of the initial namespace, which act on the whole machine.
    pub kernel_sysctls: Vec<(String, Vec<Expression>)>,
    /// The actors in the order of the suite.
    pub actors: Vec<Actor>,
    /// The steps of the lab.
    pub lab: Vec<Step<LabStep>>,
    /// What is expected, in the order of the suite.
    pub expectations: Vec<Expected>,
    /// What must have been seen for a run to count.
    pub given: Vec<Given>,
    /// The steps of which anything is expected on any release.
    pub named_steps: BTreeSet<NamedStep>,
    /// The suite's file, as it was named, and the line that the scenario begins on.
    #[serde(default)]
    pub file: Option<(PathBuf, usize)>,
    /// Where its failure is known.
    #[serde(default)]
    pub expected_failure: Option<ExpectedFailure>,
}

/// A step of which something is expected, beside how long it takes.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct NamedStep {
    /// The step.
    pub step: StepReference,
    /// Of a number of errors, which: it says nothing of others.
    pub errno: Option<String>,
}

/// What must have been seen for a run to count.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Given {
    /// The observation.
    pub observation: Observation,
    /// What it has to be: one of these.
    pub conditions: Vec<Condition>,
    /// The observations that the conditions refer to.
    pub references: Vec<Observation>,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.conditions.iter().map(|c| c.text.as_str()).collect();
        write!(f, "{} {}", self.observation, texts.join(" | "))
    }
}

/// A failure that the suite knows of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExpectedFailure {
    /// Why it is there.
    pub reason: String,
    /// The last day on which it may be there, as 2027-03-31.
    pub until: Option<String>,
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
    /// Its step lists: one, or those of `tasks`. Of a command, the synthetic steps
    /// `ready` and `exit`.
    pub tasks: Vec<Task>,
}

/// How much memory an actor's cgroup may take
/// (Documentation/admin-guide/cgroup-v2.rst).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limits {
    /// `memory.max`: beyond it a process is killed.
    pub max_bytes: Option<u64>,
    /// `memory.high`: beyond it its processes are slowed down.
    pub high_bytes: Option<u64>,
}

impl Limits {
    /// These, where one is set.
    pub fn if_any(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }

    /// Each by the name of its file.
    pub fn files(self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("memory.max", self.max_bytes),
            ("memory.high", self.high_bytes),
        ]
        .into_iter()
        .filter_map(|(file, limit)| Some((file, limit?)))
    }
}

/// One of the step lists of an actor.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Task {
    /// Its name; empty for the only one.
    pub name: String,
    /// The steps.
    pub steps: Vec<Step<ActorStep>>,
}

/// An expectation of the suite.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Expected {
    /// The observation.
    pub observation: Observation,
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
    /// The line of the suite that it stands on.
    #[serde(default)]
    pub line: usize,
    /// The observations that the conditions refer to.
    pub references: Vec<Observation>,
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

    /// Whether the kernel of a release tells of what is expected.
    pub fn is_told_by(&self, release: Release) -> bool {
        match &self.observation {
            Observation::Events { kind, .. } => release >= kind.since(),
            _ => true,
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
    /// router's side of its link 10.0.N.1 and fd00:N::1. One of
    /// [`OWN_ADDRESSES`] is the same on every host.
    pub fn address_of(&self, host: &str) -> IpAddr {
        self.addresses_of(host).own()
    }

    /// The addresses by every name that an endpoint may have: hosts, the router and the
    /// names that every host has.
    pub fn addresses(&self) -> BTreeMap<String, Addresses> {
        let hosts = self.hosts.iter().map(String::as_str);
        hosts
            .chain(["router"])
            .chain(OWN_ADDRESSES)
            .map(|host| (host.to_owned(), self.addresses_of(host)))
            .collect()
    }

    fn addresses_of(&self, host: &str) -> Addresses {
        let family = self.family;
        let with = |(v4, v6)| Addresses { v4, v6, family };
        match host {
            "any" => return with((Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)),
            "localhost" => return with((Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)),
            _ => {}
        }
        let number = self
            .hosts
            .iter()
            .position(|known| known == host)
            .map_or(1, |index| index + 1);
        let side = if host == "router" { 1 } else { 2 };
        with(address::pair(number, side))
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
                .retain(|expected| expected.is_for(release) && expected.is_told_by(release));
        }
        scenario
    }

    /// Whether events of the kernel are expected.
    pub fn wants_events(&self) -> bool {
        let mut expected = self.expectations.iter();
        expected.any(|expected| matches!(expected.observation, Observation::Events { .. }))
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
            .filter_map(|step| match &step.kind {
                ActorStep::Setuid(setuid) => Some(setuid.user()),
                _ => None,
            })
    }

    /// Whether others in the same guest would be disturbed by what it leaves.
    pub fn wants_a_fresh_guest(&self) -> bool {
        self.touches_host() || self.needs_guest()
    }

    /// Whether other scenarios running beside it would show in what it sees.
    pub fn wants_the_kernel_to_itself(&self) -> bool {
        let watches = |step: &Step<LabStep>| match &step.kind {
            LabStep::Until(until) => until.observation.is_of_kernel(),
            _ => false,
        };
        self.touches_host()
            || self.lab.iter().any(watches)
            || self.expectations.iter().any(|expected| {
                let references = expected.references.iter();
                let mut observed = references.chain([&expected.observation]);
                observed.any(Observation::is_of_kernel)
            })
    }

    /// Every observation that something is expected of, or compared with.
    pub fn observed(&self) -> impl Iterator<Item = &Observation> {
        let expected = self.expectations.iter();
        let expected = expected.flat_map(|one| one.references.iter().chain([&one.observation]));
        let given = self.given.iter();
        let given = given.flat_map(|one| one.references.iter().chain([&one.observation]));
        expected.chain(given)
    }

    /// Whether packets have to be looked at: they are observed, or one is made to fit.
    pub fn looks_at_packets(&self) -> bool {
        let is_packets =
            |observation: &Observation| matches!(observation, Observation::Packets { .. });
        let mut steps = self.lab.iter();
        self.observed().any(is_packets) || steps.any(|step| matches!(step.kind, LabStep::Inject(_)))
    }

    /// Whether anything is expected of a step that says whether it may end with this error.
    pub fn expects_of(&self, list: &str, step: &str, error: &str) -> bool {
        let mut named = self.named_steps.iter();
        named.any(|named| {
            let is_error = named.errno.as_deref().is_none_or(|errno| errno == error);
            named.step.list == list && named.step.step == step && is_error
        })
    }

    /// The steps of which something is expected, beside how long they take.
    pub(super) fn steps_named(&self) -> BTreeSet<NamedStep> {
        let of_step = |observation: &Observation| match observation {
            Observation::Step {
                list,
                step,
                field,
                errno,
            } if *field != Field::Ms => Some(NamedStep {
                step: StepReference {
                    list: list.clone(),
                    step: step.clone(),
                },
                errno: errno.clone(),
            }),
            _ => None,
        };
        self.observed().filter_map(of_step).collect()
    }

    /// What the field `value` of a step can be.
    pub fn values_of(&self, list: &str, step: &str) -> Option<Values> {
        self.of_step(list, step, Kind::value, Kind::value)
    }

    /// What a step is called, and whether it has a time limit of its own.
    pub fn limit_of(&self, list: &str, step: &str) -> Option<(&'static str, bool)> {
        self.of_step(
            list,
            step,
            |kind| (kind.name(), kind.is_limited()),
            |kind| (kind.name(), kind.is_limited()),
        )
    }

    fn of_step<T>(
        &self,
        list: &str,
        name: &str,
        of_actor: impl Fn(&ActorStep) -> T,
        of_lab: impl Fn(&LabStep) -> T,
    ) -> Option<T> {
        if list == "lab" {
            let step = flatten(&self.lab).find(|step| step.name == name)?;
            return Some(of_lab(&step.kind));
        }
        let mut actors = self.actors.iter();
        let actor = actors.find(|actor| actor.name == list)?;
        let mut steps = actor.tasks.iter().flat_map(|task| flatten(&task.steps));
        let step = steps.find(|step| step.name == name)?;
        Some(of_actor(&step.kind))
    }

    /// Whether a step of the lab takes a link away.
    pub fn takes_a_link_down(&self) -> bool {
        let mut steps = self.lab.iter();
        steps.any(|step| matches!(step.kind, LabStep::LinkDown(_)))
    }

    /// What the topology is made of.
    pub fn topology(&self) -> Topology<'_> {
        Topology {
            hosts: &self.hosts,
            links: &self.links,
            sysctls: &self.sysctls,
            offload: self.offload,
            middlebox: self.middlebox,
        }
    }

    /// What carries the links with a choice of the carrier, on this kernel.
    pub fn link(&self, carrier: Carrier) -> Link {
        match carrier {
            _ if !self.is_impaired() => Link::None,
            _ if self.needs_netem => Link::Netem,
            carrier => carrier.link(),
        }
    }

    /// Whether any direction is impaired.
    pub fn is_impaired(&self) -> bool {
        !self.links.is_empty()
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

    /// Before or after, where the scenario tries a change.
    pub fn side(&self) -> Option<Side> {
        let axes = &self.cell.as_ref()?.axes;
        let (_, value) = axes.iter().find(|(axis, _)| axis == CHANGE)?;
        [Side::Before, Side::After]
            .into_iter()
            .find(|side| side.as_str() == value)
    }
}

/// A step of a list, as others wait for it.
pub(super) struct Listed<'a> {
    /// Its name, and those of the steps inside it.
    pub names: Vec<&'a str>,
    /// Where it stands.
    pub place: Place,
    /// The steps that it, and those inside it, wait for.
    pub waits_for: Vec<&'a StepReference>,
}

fn listed<K: Kind>(steps: &[Step<K>]) -> Vec<Listed<'_>> {
    let listed = |step| {
        let all = || flatten(std::slice::from_ref::<Step<K>>(step));
        Listed {
            names: all().map(|step| step.name.as_str()).collect(),
            place: step.place,
            // One that waits for a time only goes on whatever happens.
            waits_for: all()
                .filter(|step| !(step.kind.name() == "await" && step.kind.is_limited()))
                .filter_map(Step::waits_for)
                .collect(),
        }
    };
    steps.iter().map(listed).collect()
}

impl Scenario {
    /// Every list of steps, with the name that references to it start with.
    pub(super) fn lists(&self) -> Vec<(&str, Vec<Listed<'_>>)> {
        let tasks = self.actors.iter().flat_map(|actor| {
            let name = actor.name.as_str();
            actor
                .tasks
                .iter()
                .map(move |task| (name, listed(&task.steps)))
        });
        tasks.chain([("lab", listed(&self.lab))]).collect()
    }
}
