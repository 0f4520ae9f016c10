//! From the text of a scenario to the scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use advisor_report::{Clock, Quantifier};

use super::command::Command;
use super::command::Ready as CommandReady;
use super::matrix::Cell;
use super::scenario::{Actor, Expected, ExpectedFailure, Given, Limits, Scenario, Side, Task};
use super::text::{
    ActorText, CarrierText, ClockText, Conditions, Emulation, ExpectationText, Nat, ReleaseText,
    RouterText, ScenarioText,
};
use super::vocabulary;
use crate::condition::{Condition, Expression};
use crate::errno;
use crate::impairment::Impairment;
use crate::lab::Middlebox;
use crate::lab::address::split_family;
use crate::observation::{Observation, Unknown};
use crate::step::exit::Exit;
use crate::step::name::StepReference;
use crate::step::name::{Endpoint, SysctlName, is_name};
use crate::step::{ActorStep, LabStep, Ready, Step, flatten};
use crate::yaml::error::{Place, SuiteError};
use crate::yaml::reader::Mention;
use crate::yaml::value::{Bytes, Entries, Placed, Time, Words};

/// Names that no actor and no sample may have.
const RESERVED: &[&str] = &["any", "kernel", "lab", "localhost", "router"];

/// The most hosts of a scenario: each has a subnet of its own, numbered in one octet.
const MAX_HOSTS: usize = 200;

/// What a scenario is made from, beside its own text.
pub struct Origin {
    /// Its cell, where it is one of a matrix.
    pub cell: Option<Cell>,
    /// Where it stands.
    pub place: Place,
}

impl Origin {
    /// An error of this scenario, with the cell that it is in.
    pub fn name_cell(&self, mut error: SuiteError) -> SuiteError {
        if let Some(cell) = &self.cell {
            error.message = format!("{} (in {})", error.message, cell.suffix());
        }
        error
    }
}

/// Makes a scenario of its text, and checks it; `prefix` is `topic/file`.
pub fn build(
    text: &ScenarioText,
    mentions: &[Mention],
    prefix: &str,
    origin: &Origin,
) -> Result<Scenario, SuiteError> {
    let suffix = origin.cell.as_ref().map(Cell::suffix).unwrap_or_default();
    let runs = text.runs.map_or(3, u64::from);
    let trimmed = |text: &Words| text.trim().to_owned();
    let mut scenario = Scenario {
        id: format!("{prefix}/{}{suffix}", &*text.name.value),
        cell: origin.cell.clone(),
        long: text.long,
        since: text.since.map(|ReleaseText(since)| since),
        explains: trimmed(&text.explains),
        source: trimmed(&text.source),
        see_also: text.see_also.as_ref().map(|id| id.0.clone()),
        runs,
        max_runs: text.max_runs.get().max(runs),
        time_limit: text.time_limit.0,
        hosts: hosts(text)?,
        family: text.family,
        skips_emulation: text.emulation == Emulation::Skip,
        clock: match text.clock {
            ClockText::Any => None,
            ClockText::Real => Some(Clock::Real),
            ClockText::Virtual => Some(Clock::Virtual),
        },
        needs_netem: text.carrier == CarrierText::Netem,
        links: BTreeMap::new(),
        offload: text.offload.value,
        middlebox: text.router.as_ref().map(middlebox).transpose()?,
        sysctls: BTreeMap::new(),
        kernel_sysctls: Vec::new(),
        actors: Vec::new(),
        lab: text.lab.0.clone(),
        expectations: Vec::new(),
        given: Vec::new(),
        named_steps: BTreeSet::new(),
        file: Some((PathBuf::new(), origin.place.line)),
        expected_failure: expected_failure(text)?,
    };
    scenario.read_links(text)?;
    scenario.read_sysctls(&text.sysctls)?;
    scenario.read_actors(&text.actors)?;
    scenario.let_connects_wait()?;
    scenario.check(mentions)?;
    scenario.read_failure(&text.failure, origin.place)?;
    scenario.read_given(&text.given)?;
    scenario.read_expectations(&text.expect, origin.place)?;
    scenario.named_steps = scenario.steps_named();
    Ok(scenario)
}

/// The failure that is known, with its day checked.
fn expected_failure(text: &ScenarioText) -> Result<Option<ExpectedFailure>, SuiteError> {
    let Some(known) = &text.expected_failure else {
        return Ok(None);
    };
    if known.reason.trim().is_empty() {
        let hint = "why it fails, such as: legacy server, ticket 4711";
        return Err(SuiteError::new(
            known.place,
            "expected-failure: no reason",
            hint,
        ));
    }
    let until = known.until.as_ref();
    if let Some(until) = until
        && chrono::NaiveDate::parse_from_str(&until.0, "%Y-%m-%d").is_err()
    {
        let message = format!("until: there is no day {:?}", &*until.0);
        return Err(SuiteError::new(
            until.place,
            message,
            "a day such as 2027-03-31",
        ));
    }
    Ok(Some(ExpectedFailure {
        reason: known.reason.trim().to_owned(),
        until: until.map(|until| until.0.clone()),
    }))
}

/// The place of a key's value, or of the scenario where the key is left out.
fn place_or<T>(placed: &Placed<T>, scenario: Place) -> Place {
    if placed.place == Place::default() {
        scenario
    } else {
        placed.place
    }
}

/// What the router does beside forwarding.
fn middlebox(text: &RouterText) -> Result<Middlebox, SuiteError> {
    let Nat::Masquerade = text.nat;
    let seconds = |limit: &Placed<Time>| {
        let Time(time) = limit.value;
        if time.is_zero() || time.subsec_nanos() > 0 {
            let message = format!("idle_limit: {time:?} isn't allowed here");
            let hint = "whole seconds from 1s on, as connection tracking counts them";
            return Err(SuiteError::new(limit.place, message, hint));
        }
        Ok(time.as_secs())
    };
    Ok(Middlebox {
        idle_limit_seconds: text.idle_limit.as_ref().map(seconds).transpose()?,
        on_unknown: text.on_unknown,
    })
}

fn hosts(text: &ScenarioText) -> Result<Vec<String>, SuiteError> {
    let mut hosts: Vec<String> = Vec::new();
    let Some(names) = &text.hosts else {
        return Ok(vec!["client".to_owned(), "server".to_owned()]);
    };
    for Placed { value: name, place } in &names.value {
        // The router is always there, so naming it among the hosts is harmless.
        if **name == *"router" {
            continue;
        }
        if hosts.iter().any(|known| **known == **name)
            || RESERVED.contains(&&**name)
            || name.len() > 12
        {
            return Err(SuiteError::new(
                *place,
                format!("a host can't be called {:?} here", &**name),
                "each name once, at most 12 characters, not kernel or lab",
            ));
        }
        hosts.push(name.to_string());
    }
    if hosts.len() > MAX_HOSTS {
        return Err(SuiteError::new(
            names.place,
            format!("{} hosts", hosts.len()),
            format!("at most {MAX_HOSTS}"),
        ));
    }
    if hosts.is_empty() {
        hosts = vec!["client".to_owned(), "server".to_owned()];
    }
    Ok(hosts)
}

impl Scenario {
    fn read_links(&mut self, text: &ScenarioText) -> Result<(), SuiteError> {
        for link in text
            .link
            .iter()
            .chain(text.links.iter().map(|(_, link)| link))
        {
            link.check_family(self.family)?;
        }
        if let Some(link) = &text.link {
            let impairment = link.impairment()?;
            for host in &self.hosts {
                self.links.insert(host.clone(), impairment.clone());
            }
        }
        for (host, link) in text.links.iter() {
            self.check_link_host(host, host.place)?;
            self.links.insert(host.value.clone(), link.impairment()?);
        }
        // A link that changes later is one from the start.
        for step in &self.lab {
            if let LabStep::Link(change) = &step.kind {
                change.becomes.check_family(self.family)?;
                let later = change.becomes.impairment()?;
                let host = change.host.to_string();
                let link = self.links.entry(host).or_insert_with(Impairment::none);
                link.may_drop_later |= !later.drops.is_empty();
            }
        }
        if self.offload && self.is_impaired() {
            return Err(SuiteError::new(
                text.offload.place,
                "offload: true, and a link is impaired",
                "an impairment would lose or delay up to 64 KiB as one packet: leave one of the \
                 two out",
            ));
        }
        Ok(())
    }

    fn read_sysctls(
        &mut self,
        sysctls: &Entries<Entries<Placed<Words>>>,
    ) -> Result<(), SuiteError> {
        for (host, values) in sysctls.iter() {
            let is_kernel = host.value == "kernel";
            if !is_kernel {
                self.check_host(host, host.place)?;
            }
            for (name, value) in values.iter() {
                SysctlName::check(name)
                    .map_err(|(message, hint)| SuiteError::new(name.place, message, hint))?;
                if is_kernel {
                    let values = self.kernel_sysctl(name, value)?;
                    self.kernel_sysctls.push((name.value.clone(), values));
                } else {
                    let sysctls = self.sysctls.entry(host.value.clone()).or_default();
                    sysctls.push((name.value.clone(), value.value.0.clone()));
                }
            }
        }
        Ok(())
    }

    /// The values of a sysctl of the machine: tcp_mem has three.
    fn kernel_sysctl(
        &self,
        name: &str,
        value: &Placed<Words>,
    ) -> Result<Vec<Expression>, SuiteError> {
        let values = value.split(',').map(Expression::parse);
        let values = values.collect::<Result<Vec<_>, _>>().map_err(|why| {
            let hint = "a number or arithmetic; several, as for tcp_mem, with commas";
            SuiteError::new(value.place, format!("{name}: {why}"), hint)
        })?;
        for reference in values.iter().flat_map(Expression::references) {
            if !reference.starts_with("kernel.") || !reference.ends_with(".before") {
                return Err(SuiteError::new(
                    value.place,
                    format!("{reference:?} isn't known before the run"),
                    "kernel.sockstat.TCP.orphan.before and its like are",
                ));
            }
            self.observation(reference, value.place)?;
        }
        Ok(values)
    }

    fn read_actors(&mut self, actors: &Placed<Entries<ActorText>>) -> Result<(), SuiteError> {
        for (name, text) in actors.iter() {
            let place = name.place;
            let name = &name.value;
            if !is_name(name) || RESERVED.contains(&name.as_str()) || self.hosts.contains(name) {
                return Err(SuiteError::new(
                    place,
                    format!("an actor can't be called {name:?}"),
                    "a name of lower-case letters, digits and dashes, not a host's, kernel or lab",
                ));
            }
            let command = Command::read(text)?;
            let mut tasks: Vec<Task> = text
                .tasks
                .iter()
                .map(|(name, steps)| Task {
                    name: name.value.clone(),
                    steps: steps.0.clone(),
                })
                .collect();
            let only = |steps| Task {
                name: String::new(),
                steps,
            };
            match (&text.steps, tasks.is_empty(), &text.command) {
                (Some(steps), true, None) => tasks.push(only(steps.0.clone())),
                (None, true, Some(command)) => {
                    let synthetic = [ActorStep::Ready(Ready {}), ActorStep::Exit(Exit::default())];
                    let steps = synthetic.map(|kind| Step::synthetic(kind, command.place));
                    tasks.push(only(steps.into()));
                }
                (None, false, None) => {}
                _ => {
                    return Err(SuiteError::new(
                        place,
                        format!("actor {name:?} needs one of `steps`, `tasks` and `command`"),
                        "steps: [...] for one list, tasks: { a: [...], b: [...] } for several, \
                         command: [nginx, -c, ...] for a program of your own",
                    ));
                }
            }
            self.actors.push(Actor {
                name: name.clone(),
                host: text.on.to_string(),
                memory_limits: Limits {
                    max_bytes: text.memory_max.map(|Bytes(bytes)| bytes),
                    high_bytes: text.memory_high.map(|Bytes(bytes)| bytes),
                }
                .if_any(),
                command,
                tasks,
            });
        }
        if self.actors.is_empty() {
            return Err(SuiteError::new(actors.place, "no actor", "at least one"));
        }
        Ok(())
    }

    /// A program is started before its clients: each connect waits for the first listen
    /// on the port it goes to, where the scenario has one, or for the command whose port
    /// it is.
    fn let_connects_wait(&mut self) -> Result<(), SuiteError> {
        let mut listens: BTreeMap<(String, u16), StepReference> = BTreeMap::new();
        for actor in &self.actors {
            let reference = |step: &str| StepReference {
                list: actor.name.clone(),
                step: step.to_owned(),
            };
            let mut listen = |port: u16, step: &str| {
                let endpoint = (actor.host.clone(), port);
                listens.entry(endpoint).or_insert_with(|| reference(step));
            };
            if let Some(port) = actor.command.as_ref().and_then(Command::port) {
                listen(port, "ready");
            }
            let mut bound = 0;
            for step in actor.tasks.iter().flat_map(|task| flatten(&task.steps)) {
                match &step.kind {
                    ActorStep::Bind(bind) => bound = bind.to.port,
                    ActorStep::Listen(with) => {
                        bound = with.port.as_ref().map_or(bound, |endpoint| endpoint.port);
                        listen(bound, &step.name);
                    }
                    ActorStep::Peers(peers) => listen(peers.port, &step.name),
                    _ => {}
                }
            }
        }
        let hosts = self.hosts.clone();
        let declared = self.declared_readiness();
        for actor in &mut self.actors {
            let (name, host) = (&actor.name, &actor.host);
            for task in &mut actor.tasks {
                for_each_connect(&mut task.steps, &mut |to, after, place| {
                    if after.is_some() {
                        return Ok(());
                    }
                    let named = to.host.as_deref().map(|named| match split_family(named) {
                        Some((host, _)) if !hosts.iter().any(|known| known == named) => host,
                        _ => named,
                    });
                    let host = match named {
                        Some("localhost") | None => host,
                        Some(host) => host,
                    };
                    let listen = match listens.get(&(host.to_owned(), to.port)) {
                        None => serving(&declared, host, to.port, place)?,
                        listen => listen,
                    };
                    *after = listen.filter(|listen| listen.list != *name).cloned();
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// The commands that say by something else than a port when they are ready.
    fn declared_readiness(&self) -> Vec<Declared> {
        let declared = self.actors.iter().filter_map(|actor| {
            let command = actor.command.as_ref()?;
            matches!(command.ready, CommandReady::Line(_) | CommandReady::File(_)).then(|| {
                Declared {
                    host: actor.host.clone(),
                    texts: command.texts().map(str::to_owned).collect(),
                    ready: StepReference {
                        list: actor.name.clone(),
                        step: "ready".to_owned(),
                    },
                }
            })
        });
        declared.collect()
    }

    /// What a name stands for; an observation that nothing here can produce is an error
    /// of the suite.
    pub(super) fn observation(&self, name: &str, place: Place) -> Result<Observation, SuiteError> {
        vocabulary::resolve(name, self).map_err(|unknown| named(name, place, unknown))
    }

    /// What the failure is, which is then expected before the change and not after it.
    fn read_failure(
        &mut self,
        failure: &Placed<Entries<Conditions>>,
        scenario: Place,
    ) -> Result<(), SuiteError> {
        let place = place_or(failure, scenario);
        let (name, conditions) = match &failure.value.0[..] {
            [] => return Ok(()),
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
        let observation = self.observation(name, name.place)?;
        let (conditions, references) = self.conditions(&observation, conditions)?;
        self.expectations.push(Expected {
            observation,
            quantifier: match side {
                Side::Before => Quantifier::Always,
                Side::After => Quantifier::Never,
            },
            conditions,
            since: None,
            before: None,
            because: None,
            line: place.line,
            references,
        });
        Ok(())
    }

    /// What must have been seen for a run to count.
    fn read_given(&mut self, given: &Entries<Conditions>) -> Result<(), SuiteError> {
        for (name, conditions) in given.iter() {
            let observation = self.observation(name, name.place)?;
            let (conditions, references) = self.conditions(&observation, conditions)?;
            self.given.push(Given {
                observation,
                conditions,
                references,
            });
        }
        Ok(())
    }

    /// Conditions that an observation can meet, and the observations that they refer to.
    fn conditions(
        &self,
        observation: &Observation,
        conditions: &Conditions,
    ) -> Result<(Vec<Condition>, Vec<Observation>), SuiteError> {
        let mut references = Vec::new();
        for condition in &conditions.0 {
            for name in condition.references() {
                references.push(self.observation(name, condition.place)?);
            }
            // Among several values one may be of another cell of a matrix.
            let is_of_another = |wanted: &str| wanted == errno::LATE && conditions.0.len() > 1;
            if let Some(wanted) = condition.exact().filter(|wanted| !is_of_another(wanted)) {
                vocabulary::check_value(observation, wanted, self)
                    .map_err(|unknown| named(&observation.to_string(), condition.place, unknown))?;
            }
        }
        let conditions = conditions.0.iter().map(|placed| placed.value.clone());
        Ok((conditions.collect(), references))
    }

    fn read_expectations(
        &mut self,
        expect: &Placed<Entries<crate::yaml::value::OneOrMore<ExpectationText>>>,
        scenario: Place,
    ) -> Result<(), SuiteError> {
        for (name, texts) in expect.iter() {
            let observation = self.observation(name, name.place)?;
            for text in &texts.0 {
                self.read_expectation(&observation, name.place, text)?;
            }
        }
        if self.expectations.is_empty() {
            return Err(SuiteError::new(
                place_or(expect, scenario),
                "nothing is expected",
                "a scenario that can't fail shows nothing",
            ));
        }
        Ok(())
    }

    fn read_expectation(
        &mut self,
        observation: &Observation,
        place: Place,
        text: &ExpectationText,
    ) -> Result<(), SuiteError> {
        let before = self.expectations.len();
        for (quantifier, conditions) in [
            (Quantifier::Always, &text.always),
            (Quantifier::Never, &text.never),
            (Quantifier::May, &text.may),
            (Quantifier::Sometimes, &text.sometimes),
        ] {
            let Some(conditions) = conditions else {
                continue;
            };
            let (conditions, references) = self.conditions(observation, conditions)?;
            // Each value of `sometimes` has to be seen by itself.
            let groups: Vec<Vec<Condition>> = match quantifier {
                Quantifier::Sometimes => conditions.into_iter().map(|one| vec![one]).collect(),
                _ => vec![conditions],
            };
            for conditions in groups {
                self.expectations.push(Expected {
                    observation: observation.clone(),
                    quantifier,
                    conditions,
                    since: text.since.map(|ReleaseText(since)| since),
                    before: text.before.map(|ReleaseText(before)| before),
                    because: text.because.as_ref().map(|because| because.0.clone()),
                    line: place.line,
                    references: references.clone(),
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

/// A command that says by a line or a file when it is ready.
struct Declared {
    host: String,
    /// The words in which it may name its ports.
    texts: Vec<String>,
    ready: StepReference,
}

/// The command that likely serves a port of a host: the only one there, or the only one
/// that names the port. Where that is open, the suite has to say it.
fn serving<'d>(
    declared: &'d [Declared],
    host: &str,
    port: u16,
    place: Place,
) -> Result<Option<&'d StepReference>, SuiteError> {
    let there: Vec<&Declared> = declared.iter().filter(|known| known.host == host).collect();
    let number = port.to_string();
    let names = |text: &String| {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        numbers.any(|found| found == number)
    };
    let naming = there.iter().copied();
    let naming = naming.filter(|known| known.texts.iter().any(names));
    match (&there[..], &naming.collect::<Vec<_>>()[..]) {
        ([], _) => Ok(None),
        ([one], _) | (_, [one]) => Ok(Some(&one.ready)),
        _ => {
            let all: Vec<String> = there.iter().map(|known| known.ready.to_string()).collect();
            let message = format!(
                "which command serves {host}:{port} is open: {}",
                all.join(", ")
            );
            let hint = format!(
                "after: {}, or ready: {{ port: {port} }} of the command",
                all[0]
            );
            Err(SuiteError::new(place, message, hint))
        }
    }
}

fn named(name: &str, place: Place, unknown: Unknown) -> SuiteError {
    SuiteError::new(place, format!("{name}: {}", unknown.message), unknown.hint)
}

/// What is done with each connect: where it leads, what it waits for, where it stands.
type Change<'c> =
    dyn FnMut(&Endpoint, &mut Option<StepReference>, Place) -> Result<(), SuiteError> + 'c;

/// Changes what each connect of a list waits for.
fn for_each_connect(
    steps: &mut [Step<ActorStep>],
    change: &mut Change<'_>,
) -> Result<(), SuiteError> {
    for step in steps {
        let place = step.place;
        match &mut step.kind {
            ActorStep::Connect(connect) => change(&connect.to.0, &mut connect.after, place)?,
            ActorStep::Dial(dial) => change(&dial.to.0, &mut dial.after, place)?,
            ActorStep::Repeat(repeat) => for_each_connect(&mut repeat.steps.0, change)?,
            _ => {}
        }
    }
    Ok(())
}
