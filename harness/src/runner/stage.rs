//! Lets the actors and the lab's own steps play, until all have ended or the
//! time limit is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use advisor_report::Value;
use nix::sys::signal::Signal;

use super::watch::{Observations, gauge, observe_fields, observe_outcome, observe_sockets};
use crate::actor::cgroup::Memory;
use crate::actor::process::Process;
use crate::actor::protocol::{Event, Outcome, Plan};
use crate::lab::namespace::Namespace;
use crate::lab::{Lab, LabError, destroy, sysctl};
use crate::suite::command::Command;
use crate::suite::errno::errno_name;
use crate::suite::scenario::{self, Family, OWN_ADDRESSES, Scenario, conditions, flatten};
use crate::suite::step::{Step, Verb};
use crate::suite::vocabulary::RUNNING;

/// Time between two looks at what `until` waits for, and between two looks at
/// whether an actor still lives.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long the last words of a dead actor are waited for where a child that it
/// forked keeps the line open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a play gave.
pub struct Play {
    /// What the steps and the samples observed.
    pub observations: Observations,
    /// Why it gave no result: the time limit, an actor that broke down.
    pub error: Option<String>,
    /// What each list did, in order, with the time since the start.
    pub log: Vec<String>,
}

/// From the actors and the lab's list to the stage.
enum Cue {
    Actor(usize, Event),
    /// An actor has said its last word.
    HungUp(usize),
    Lab(Event),
    Sampled(Observations),
}

/// The steps that have ended, for those of the lab that wait for them.
#[derive(Default)]
struct Board {
    state: Mutex<BoardState>,
    changed: Condvar,
}

#[derive(Default)]
struct BoardState {
    done: BTreeSet<String>,
    over: bool,
}

impl Board {
    fn change(&self, change: impl FnOnce(&mut BoardState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until `ready` or until `limit` is over. False where the play is
    /// over before.
    fn wait(&self, limit: Option<Duration>, ready: impl Fn(&BoardState) -> bool) -> bool {
        let end = limit.map(|limit| Instant::now() + limit);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.over {
                return false;
            }
            if ready(&state) {
                return true;
            }
            let left = match end {
                Some(end) => match end.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => left,
                    _ => return true,
                },
                None => Duration::from_secs(3600),
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Starts the actors of a scenario and plays it to its end. The actors are
/// alive when `look` is called, so that it sees their sockets.
pub fn play<T>(
    scenario: &Scenario,
    lab: &Lab,
    look: impl FnOnce() -> T,
) -> Result<(Play, T), LabError> {
    let actors = scenario
        .actors
        .iter()
        .map(|actor| {
            let plan = Plan {
                name: actor.name.clone(),
                addresses: scenario
                    .hosts
                    .iter()
                    .map(String::as_str)
                    .chain(["router"])
                    .chain(OWN_ADDRESSES)
                    .map(|host| (host.to_owned(), scenario.address_of(host)))
                    .collect(),
                host: actor.host.clone(),
                memory_limits: actor.memory_limits,
                command: actor.command.as_ref().map(Command::resolved),
                tasks: actor.tasks.iter().map(|task| task.steps.clone()).collect(),
            };
            let namespace = lab.namespace(&actor.host).unwrap_or(lab.router());
            Process::start(&plan, namespace)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let board = Board::default();
    let (sender, cues) = channel();
    std::thread::scope(|scope| {
        for (index, actor) in actors.iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                actor.listen(|event| {
                    // The stage stops listening when the play is over.
                    let _ = sender.send(Cue::Actor(index, event));
                });
                let _ = sender.send(Cue::HungUp(index));
            });
        }
        let timeline = Timeline {
            lab,
            actors: &actors,
            board: &board,
            sender: &sender,
        };
        scope.spawn(move || timeline.run(&scenario.lab));
        let mut stage = Stage::new(scenario, &actors, &board);
        stage.direct(&cues);
        stage.look_at_commands(&cues);
        stage.look_at_cgroups();
        let seen = look();
        board.change(|state| state.over = true);
        for actor in &actors {
            actor.hang_up();
            actor.end();
        }
        let play = Play {
            observations: stage.observations,
            error: stage.error,
            log: stage.log,
        };
        Ok((play, seen))
    })
}

/// What the stage knows of the play.
struct Stage<'a> {
    scenario: &'a Scenario,
    actors: &'a [Process],
    board: &'a Board,
    /// For each actor and task, where it stands; `None` once it has ended.
    standing: Vec<Vec<Option<String>>>,
    /// For each actor, whether it has said its last word.
    hung_up: Vec<bool>,
    lab_standing: Option<String>,
    observations: Observations,
    /// What each command printed.
    printed: BTreeMap<String, Vec<String>>,
    error: Option<String>,
    start: Instant,
    log: Vec<String>,
}

impl<'a> Stage<'a> {
    fn new(scenario: &'a Scenario, actors: &'a [Process], board: &'a Board) -> Self {
        let start = || Some("its start".to_owned());
        Self {
            scenario,
            actors,
            board,
            standing: scenario
                .actors
                .iter()
                .map(|actor| actor.tasks.iter().map(|_| start()).collect())
                .collect(),
            hung_up: vec![false; actors.len()],
            lab_standing: start(),
            observations: Observations::new(),
            printed: BTreeMap::new(),
            error: None,
            start: Instant::now(),
            log: Vec::new(),
        }
    }

    /// Notes what the harness has just heard of a list.
    fn note(&mut self, list: &str, event: &Event) {
        let what = match event {
            Event::Started { step, .. } => format!("{step} starts"),
            Event::Finished { .. } => "its list has ended".to_owned(),
            Event::Broken(why) => why.clone(),
            Event::Printed(line) => format!("prints {line:?}"),
            Event::Exited { status, .. } => format!("its process has ended: {status}"),
            Event::Answer(_) => return,
            Event::Ended(outcome) => {
                let mut what = format!("{} ended: {} ok", outcome.step, outcome.ok);
                for (errno, times) in &outcome.errors {
                    let _ = write!(what, ", {times} {errno}");
                }
                if let Some(bytes) = outcome.bytes {
                    let _ = write!(what, ", {bytes} bytes");
                }
                if let Some(value) = &outcome.value {
                    let _ = write!(what, ", read {value}");
                }
                let _ = write!(what, ", {:.3} ms", outcome.ms);
                what
            }
        };
        let seconds = self.start.elapsed().as_secs_f64();
        self.log.push(format!("{seconds:10.6} {list}: {what}"));
    }

    fn is_over(&self) -> bool {
        self.error.is_some()
            || (self.lab_standing.is_none() && self.standing.iter().flatten().all(Option::is_none))
    }

    /// Takes cues until all lists have ended or the time limit is over.
    fn direct(&mut self, cues: &Receiver<Cue>) {
        let end = Instant::now() + self.scenario.time_limit;
        while !self.is_over() {
            if Instant::now() >= end {
                self.error = Some(format!(
                    "time limit of {:?}: {}",
                    self.scenario.time_limit,
                    self.describe_standing()
                ));
                return;
            }
            match cues.recv_timeout(LOOK_EVERY) {
                Ok(cue) => self.take(cue),
                Err(RecvTimeoutError::Timeout) => self.look_for_the_dead(cues),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, cue: Cue) {
        match cue {
            Cue::Sampled(observations) => self.observations.extend(observations),
            Cue::HungUp(index) => self.hung_up[index] = true,
            Cue::Actor(index, event) => {
                let name = &self.scenario.actors[index].name;
                self.note(name, &event);
                match event {
                    Event::Started { task, step } => self.standing[index][task] = Some(step),
                    Event::Finished { task } => self.standing[index][task] = None,
                    Event::Ended(outcome) => {
                        let steps = self.scenario.actors[index].tasks.iter();
                        let verb = steps
                            .flat_map(|task| flatten(&task.steps))
                            .find(|step| step.name == outcome.step)
                            .map(|step| step.verb);
                        self.ended(name, &outcome, verb);
                        if verb == Some(Verb::Ready) {
                            self.judge_readiness(name, &outcome);
                        }
                    }
                    Event::Broken(why) => self.error = Some(format!("actor {name}: {why}")),
                    Event::Printed(line) => {
                        self.printed.entry(name.clone()).or_default().push(line);
                    }
                    Event::Exited { status, .. } => {
                        let status = match status.parse() {
                            Ok(number) => Value::Integer(number),
                            Err(_) => Value::Text(status),
                        };
                        self.observations
                            .insert(format!("{name}.exit.status"), status);
                    }
                    // The process keeps it for whoever asked.
                    Event::Answer(_) => {}
                }
            }
            Cue::Lab(event) => {
                self.note("lab", &event);
                match event {
                    Event::Started { step, .. } => self.lab_standing = Some(step),
                    Event::Finished { .. } => self.lab_standing = None,
                    Event::Ended(outcome) => {
                        let verb = flatten(&self.scenario.lab)
                            .find(|step| step.name == outcome.step)
                            .map(|step| step.verb);
                        self.ended("lab", &outcome, verb);
                    }
                    Event::Broken(why) => self.error = Some(format!("lab: {why}")),
                    Event::Printed(_) | Event::Exited { .. } | Event::Answer(_) => {}
                }
            }
        }
    }

    fn ended(&mut self, list: &str, outcome: &Outcome, verb: Option<Verb>) {
        let fields = verb.map_or(&[][..], |verb| verb.spec().yields);
        observe_outcome(list, outcome, fields, &mut self.observations);
        let name = format!("{list}.{}", outcome.step);
        for actor in self.actors {
            actor.tell_ended(&name);
        }
        self.board.change(|state| {
            state.done.insert(name);
        });
    }

    /// A command that ends before it is ready is an error of the run, unless the
    /// suite expects something of it.
    fn judge_readiness(&mut self, actor: &str, outcome: &Outcome) {
        let name = format!("{actor}.ready.error");
        let mut expected = self.scenario.expectations.iter();
        if outcome.error.is_none() || expected.any(|expected| expected.observation == name) {
            return;
        }
        let status = self.observations.get(&format!("{actor}.exit.status"));
        let status = status.map(ToString::to_string).unwrap_or_default();
        self.error = Some(format!(
            "actor {actor}: its command ended ({status}) before it was ready"
        ));
    }

    /// Notes what commands have printed, whether they still run and what they use.
    fn look_at_commands(&mut self, cues: &Receiver<Cue>) {
        let actors = self.actors;
        for actor in actors.iter().filter(|actor| actor.is_command) {
            let name = &actor.name;
            // It is no actor of ours that may end: it starts others.
            if let Some(how) = actor.has_ended() {
                self.error
                    .get_or_insert_with(|| format!("actor {name} died ({how})"));
                continue;
            }
            match actor.usage() {
                Ok(usage) => {
                    observe_fields(name, "usage", usage.fields(), &mut self.observations);
                }
                Err(error) => {
                    let why = format!("actor {name}: cannot read what it uses: {error}");
                    self.error.get_or_insert(why);
                }
            }
        }
        // What they said until now.
        while let Ok(cue) = cues.try_recv() {
            self.take(cue);
        }
        for actor in actors.iter().filter(|actor| actor.is_command) {
            let name = &actor.name;
            let lines = self.printed.remove(name).unwrap_or_default();
            let output = Value::Lines(lines);
            self.observations.insert(format!("{name}.output"), output);
            self.observations
                .entry(format!("{name}.exit.status"))
                .or_insert_with(|| RUNNING.into());
        }
    }

    /// Notes the memory of each cgroup, before it is taken away.
    fn look_at_cgroups(&mut self) {
        for actor in self.actors {
            match cgroup_memory(actor) {
                Ok(Some(memory)) => {
                    let fields = memory.fields();
                    observe_fields(&actor.name, "cgroup", fields, &mut self.observations);
                }
                Ok(None) => {}
                Err(error) => {
                    self.error.get_or_insert(error.to_string());
                }
            }
        }
    }

    /// An actor that has died has ended all its lists. Whether it was to die
    /// is for the expectations; that it died unasked is an error.
    fn look_for_the_dead(&mut self, cues: &Receiver<Cue>) {
        for (index, actor) in self.actors.iter().enumerate() {
            if self.standing[index].iter().all(Option::is_none) {
                continue;
            }
            let Some(how) = actor.has_ended() else {
                continue;
            };
            // What it said before it died may still be on its way.
            let end = Instant::now() + LAST_WORDS;
            while !self.hung_up[index] && Instant::now() < end {
                if let Ok(cue) = cues.recv_timeout(LOOK_EVERY) {
                    self.take(cue);
                }
            }
            let standing = self.standing[index].iter().flatten();
            let exits = standing.clone().any(|step| self.is_exit(index, step));
            // What its cgroup may do to it is for the expectations as well.
            let limits = self.scenario.actors[index].memory_limits;
            let limited = limits.is_some_and(|limits| limits.max_bytes.is_some());
            let out_of_memory = limited && how == Signal::SIGKILL.as_str();
            if !exits && !out_of_memory && !self.was_sent(index, &how) {
                let steps: Vec<&str> = standing.map(String::as_str).collect();
                let name = &actor.name;
                self.error = Some(format!("actor {name} died ({how}) at {}", steps.join(", ")));
            }
            self.standing[index].fill(None);
        }
    }

    fn is_exit(&self, actor: usize, name: &str) -> bool {
        self.scenario.actors[actor]
            .tasks
            .iter()
            .flat_map(|task| flatten(&task.steps))
            .any(|step| {
                step.name == name
                    && flatten(std::slice::from_ref(step)).any(|step| step.verb == Verb::Exit)
            })
    }

    /// Whether the lab has sent an actor the signal that ended it, or is sending it.
    fn was_sent(&self, actor: usize, signal: &str) -> bool {
        let name = self.scenario.actors[actor].name.as_str();
        flatten(&self.scenario.lab)
            .filter(|step| step.verb == Verb::Signal)
            .filter(|step| step.fields.text("actor") == Some(name))
            .filter(|step| step.fields.text("signal") == Some(signal))
            .any(|step| {
                // The actor may be gone before the lab has said that it sent it.
                self.lab_standing.as_ref() == Some(&step.name)
                    || self
                        .observations
                        .contains_key(&format!("lab.{}.ms", step.name))
            })
    }

    fn describe_standing(&self) -> String {
        let mut parts = Vec::new();
        for (actor, tasks) in self.scenario.actors.iter().zip(&self.standing) {
            for (task, standing) in actor.tasks.iter().zip(tasks) {
                let dot = if task.name.is_empty() { "" } else { "." };
                let name = format!("{}{dot}{}", actor.name, task.name);
                parts.push(match standing {
                    Some(step) => format!("{name} stands at {step}"),
                    None if actor.command.is_some() => format!("{name} is ready"),
                    None => format!("{name} has ended"),
                });
            }
        }
        if let Some(step) = &self.lab_standing {
            parts.push(format!("the lab stands at {step}"));
        }
        parts.join(", ")
    }
}

/// Runs the lab's own steps.
struct Timeline<'a> {
    lab: &'a Lab,
    actors: &'a [Process],
    board: &'a Board,
    sender: &'a Sender<Cue>,
}

impl Timeline<'_> {
    fn tell(&self, cue: Cue) {
        // The stage stops listening when the play is over.
        let _ = self.sender.send(cue);
    }

    fn run(&self, steps: &[Step]) {
        for step in steps {
            self.tell(Cue::Lab(Event::Started {
                task: 0,
                step: step.name.clone(),
            }));
            let start = Instant::now();
            let mut outcome = Outcome {
                step: step.name.clone(),
                ..Outcome::default()
            };
            match self.execute(step, &mut outcome) {
                Ok(true) => outcome.ok = 1,
                Ok(false) => return,
                Err(error) => {
                    let Some(errno) = error.source.raw_os_error() else {
                        self.tell(Cue::Lab(Event::Broken(error.to_string())));
                        return;
                    };
                    let name = errno_name(errno);
                    outcome.errors = BTreeMap::from([(name.clone(), 1)]);
                    outcome.error = Some(name);
                }
            }
            outcome.ms = start.elapsed().as_secs_f64() * 1e3;
            self.tell(Cue::Lab(Event::Ended(outcome)));
        }
        self.tell(Cue::Lab(Event::Finished { task: 0 }));
    }

    /// Runs one step. False where the play was over before it ended.
    fn execute(&self, step: &Step, outcome: &mut Outcome) -> Result<bool, LabError> {
        let fields = &step.fields;
        let host = fields.text("host").unwrap_or_default();
        match step.verb {
            Verb::Sleep => return Ok(self.board.wait(fields.duration("time"), |_| false)),
            Verb::Await => {
                let awaited = fields.text("step").unwrap_or_default();
                return Ok(self.board.wait(None, |state| state.done.contains(awaited)));
            }
            Verb::LinkDown => self.lab.set_link(host, false)?,
            Verb::LinkUp => self.lab.set_link(host, true)?,
            Verb::Signal => return self.signal(step),
            Verb::Restart => {
                let name = fields.text("actor").unwrap_or_default();
                let Some(actor) = self.actor(name) else {
                    return Ok(true);
                };
                return actor
                    .restart_command(fields.duration("timeout"))
                    .map_err(|error| LabError::new(name, "restart it", error, ""));
            }
            Verb::Destroy => {
                let peer = match fields.text("peer") {
                    Some(peer) => Some(self.position(peer)?),
                    None => None,
                };
                let count = destroy_sockets(step, self.namespace(host)?, peer)?;
                outcome.value = Some(count.to_string());
            }
            Verb::Sysctl => {
                let name = fields.text("name").unwrap_or_default();
                let value = fields.text("value").unwrap_or_default();
                self.namespace(host)?
                    .run(|| sysctl::set(host, name, value))
                    .map_err(|error| LabError::new(host, "enter its namespace", error, ""))??;
            }
            Verb::Sample => self.sample(&step.name)?,
            Verb::Until => return self.until(step, outcome),
            _ => {
                let error = io::Error::from_raw_os_error(libc::ENOSYS);
                return Err(LabError::new("lab", &step.name, error, ""));
            }
        }
        Ok(true)
    }

    fn namespace(&self, host: &str) -> Result<&Namespace, LabError> {
        self.lab
            .namespace(host)
            .ok_or_else(|| LabError::new(host, "find it", io::ErrorKind::NotFound.into(), ""))
    }

    /// The number of a host, from 1.
    fn position(&self, host: &str) -> Result<usize, LabError> {
        let mut hosts = self.lab.hosts().iter();
        hosts
            .position(|known| known.host == host)
            .map(|index| index + 1)
            .ok_or_else(|| LabError::new(host, "find it", io::ErrorKind::NotFound.into(), ""))
    }

    fn actor(&self, name: &str) -> Option<&Process> {
        self.actors.iter().find(|actor| actor.name == name)
    }

    fn signal(&self, step: &Step) -> Result<bool, LabError> {
        let name = step.fields.text("actor").unwrap_or_default();
        let signal = step.fields.text("signal").unwrap_or_default();
        let signal: Signal = signal.parse().map_err(|errno: nix::Error| {
            LabError::new(name, &format!("send it {signal}"), errno.into(), "")
        })?;
        let Some(actor) = self.actor(name) else {
            return Ok(true);
        };
        let sent = if actor.is_command {
            actor.signal_command(signal, step.fields.text("to") == Some("all"))
        } else {
            actor.signal(signal).map(|()| true)
        };
        sent.map_err(|error| LabError::new(name, &format!("send it {signal}"), error, ""))
    }

    fn sample(&self, name: &str) -> Result<(), LabError> {
        let mut observations = Observations::new();
        for namespace in self.lab.hosts() {
            let owner = format!("{name}.{}", namespace.host);
            observe_sockets(&owner, &namespace.sockets()?, self.lab, &mut observations);
        }
        for actor in self.actors.iter().filter(|actor| actor.is_command) {
            let usage = actor
                .usage()
                .map_err(|error| LabError::new(&actor.name, "read what it uses", error, ""))?;
            let owner = format!("{name}.{}", actor.name);
            observe_fields(&owner, "usage", usage.fields(), &mut observations);
        }
        for actor in self.actors {
            if let Some(memory) = cgroup_memory(actor)? {
                let owner = format!("{name}.{}", actor.name);
                observe_fields(&owner, "cgroup", memory.fields(), &mut observations);
            }
        }
        self.tell(Cue::Sampled(observations));
        Ok(())
    }

    /// Looks at a host's sockets until a condition holds.
    fn until(&self, step: &Step, outcome: &mut Outcome) -> Result<bool, LabError> {
        let fields = &step.fields;
        let observation = fields.text("observation").unwrap_or_default();
        let (host, _) = observation.split_once('.').unwrap_or((observation, ""));
        let is_gauge = observation.contains(".sockstat.");
        // HOST.sockets.STATE, HOST.peers.HOST.STATE.
        let names = if observation.contains(".peers.") {
            4
        } else {
            3
        };
        let has_field = observation.split('.').count() > names;
        let wanted = conditions(fields.list("condition")).unwrap_or_default();
        let start = Instant::now();
        loop {
            let value = if is_gauge {
                gauge(observation, self.lab)?
            } else {
                let mut seen = Observations::new();
                let sockets = self.namespace(host)?.sockets()?;
                observe_sockets(host, &sockets, self.lab, &mut seen);
                // No socket in a state is 0 of them; a field of none is nothing.
                seen.remove(observation)
                    .or_else(|| (!has_field).then(|| 0.into()))
            };
            outcome.value = value.as_ref().map(ToString::to_string);
            let met = |value| {
                wanted
                    .iter()
                    .any(|condition| condition.holds(value, &|_| None) == Some(true))
            };
            if value.as_ref().is_some_and(met) {
                return Ok(true);
            }
            if fields
                .duration("timeout")
                .is_some_and(|limit| start.elapsed() >= limit)
            {
                let error = io::Error::from_raw_os_error(libc::ETIMEDOUT);
                return Err(LabError::new(
                    host,
                    &format!("see {observation}"),
                    error,
                    "",
                ));
            }
            if !self.board.wait(Some(LOOK_EVERY), |_| false) {
                return Ok(false);
            }
        }
    }
}

/// Destroys the sockets that a step means, of `peer` only those that lead to the
/// host of that number, and says how many.
fn destroy_sockets(
    step: &Step,
    namespace: &Namespace,
    peer: Option<usize>,
) -> Result<usize, LabError> {
    let leads_to = |address: IpAddr, peer: usize| {
        [Family::V4, Family::V6]
            .iter()
            .any(|family| scenario::address(peer, 2, *family) == address.to_canonical())
    };
    let state = step.fields.text("state");
    let port = step.fields.count("port");
    let mut sockets = namespace.sockets()?;
    sockets.retain(|socket| {
        state.is_none_or(|state| socket.state.as_str() == state)
            && port.is_none_or(|port| u64::from(socket.local.port()) == port)
            && peer.is_none_or(|peer| leads_to(socket.peer.ip(), peer))
    });
    namespace
        .run(|| destroy::destroy(&sockets))
        .and_then(|done| done)
        .map_err(|error| {
            LabError::new(
                &namespace.host,
                "destroy its sockets",
                error,
                "EOPNOTSUPP: the kernel has no CONFIG_INET_DIAG_DESTROY",
            )
        })
}
/// The memory of an actor's cgroup, where it has one.
fn cgroup_memory(actor: &Process) -> Result<Option<Memory>, LabError> {
    actor
        .cgroup_memory()
        .map_err(|error| LabError::new(&actor.name, "read its cgroup", error, ""))
}
