//! Runs the actors and the lab's own steps of one run, until all have ended or the time
//! limit is over.

mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use advisor_report::Value;
use nix::sys::signal::Signal;
use running::{RunningActors, cgroup_memory};

use super::trace::Calls;
use super::watch::{observe_outcome, observe_resources};
use crate::actor::process::Process;
use crate::actor::protocol::{Event, Plan, Told, now_us};
use crate::errno;
use crate::lab::events::RunningActor;
use crate::lab::{Lab, LabError};
use crate::observation::{Field, Observation, Observations, RUNNING, Resources};
use crate::step::context::{LabContext, Outcome, Progress};
use crate::step::name::StepReference;
use crate::step::sigaction::Disposition;
use crate::step::signal::SignalName;
use crate::step::{ActorStep, Kind, LabStep, Step, flatten};
use crate::suite::command::Command;
use crate::suite::scenario::Scenario;

/// How long the last messages of a dead actor are waited for where a child that it forked
/// keeps the socket open.
const LAST_MESSAGES: Duration = Duration::from_secs(1);

/// What the execution of a run gave.
pub struct Executed {
    /// What the steps and the samples observed.
    pub observations: Observations,
    /// Why it gave no result: the time limit, an actor that broke down.
    pub error: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Steps that failed though nothing is expected of them, with the error.
    pub failed_steps: BTreeMap<String, String>,
    /// What each list did, in the order of time, with the time since the start.
    pub log: Vec<String>,
    /// The process of each actor.
    pub processes: Vec<RunningActor>,
    /// The steps as they began and ended, for a picture of the run.
    pub calls: Calls,
}

/// From the actors and the lab's list.
enum Message {
    Actor(usize, Told),
    /// An actor has sent its last message.
    HungUp(usize),
    /// An actor's process has ended.
    Died(usize),
    Lab(Event),
    Sampled(Observations),
}

/// Starts the actors of a scenario and runs it to its end. `happened` is called with each
/// step that begins or ends. The actors are alive when `look` is called, so that it sees
/// their sockets.
pub fn execute<T>(
    scenario: &Scenario,
    lab: &Lab,
    happened: &dyn Fn(),
    look: impl FnOnce() -> T,
) -> Result<(Executed, T), LabError> {
    let actors = scenario
        .actors
        .iter()
        .map(|actor| {
            let plan = Plan {
                name: actor.name.clone(),
                addresses: scenario.addresses(),
                host: actor.host.clone(),
                memory_limits: actor.memory_limits,
                command: actor.command.as_ref().map(Command::resolved),
                tasks: actor.tasks.iter().map(|task| task.steps.clone()).collect(),
            };
            let namespace = lab.namespace(&actor.host).unwrap_or(lab.router());
            Process::start(&plan, namespace)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let progress = Progress::default();
    let running = RunningActors(&actors);
    let (sender, messages) = channel();
    std::thread::scope(|scope| {
        for (index, actor) in actors.iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                actor.listen(|told| {
                    // Nobody listens any longer when the run is over.
                    let _ = sender.send(Message::Actor(index, told));
                });
                let _ = sender.send(Message::HungUp(index));
            });
        }
        for (index, actor) in actors.iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                actor.await_end();
                let _ = sender.send(Message::Died(index));
            });
        }
        let steps = LabSteps {
            lab,
            actors: &running,
            progress: &progress,
            sender: &sender,
        };
        scope.spawn(move || steps.run(&scenario.lab));
        let mut execution = Execution::new(scenario, &actors, &progress);
        execution.follow(&messages, happened);
        execution.keep_what_was_seen();
        execution.look_at_commands(&messages);
        execution.look_at_the_living();
        execution.look_at_cgroups();
        let seen = look();
        progress.over();
        for actor in &actors {
            actor.hang_up();
            actor.end();
        }
        let executed = Executed {
            observations: execution.observations,
            error: execution.error,
            hint: execution.hint,
            failed_steps: execution.failed_steps,
            log: in_order(execution.log),
            calls: execution.calls,
            processes: actors
                .iter()
                .zip(&scenario.actors)
                .map(|(process, actor)| RunningActor {
                    name: actor.name.clone(),
                    host: actor.host.clone(),
                    pid: process.pid(),
                })
                .collect(),
        };
        Ok((executed, seen))
    })
}

/// What is known of the execution.
struct Execution<'a> {
    scenario: &'a Scenario,
    actors: &'a [Process],
    progress: &'a Progress,
    /// For each actor and task, the step that it is at; `None` once it has ended.
    standing: Vec<Vec<Option<String>>>,
    /// For each actor, whether it has sent its last message.
    hung_up: Vec<bool>,
    /// The actors whose process has ended and whose end wasn't judged yet.
    dead: Vec<usize>,
    lab_standing: Option<String>,
    observations: Observations,
    /// What each command printed.
    printed: BTreeMap<String, Vec<String>>,
    error: Option<String>,
    hint: Option<String>,
    failed_steps: BTreeMap<String, String>,
    /// How each actor that died did, with the step that it stood at.
    deaths: BTreeMap<usize, String>,
    /// The steps that have been told of, each by its list.
    told: BTreeSet<(String, String)>,
    /// The status of each command whose process has ended.
    exited: BTreeMap<String, String>,
    start: Instant,
    start_us: u64,
    /// Lines with their times.
    log: Vec<(u64, String)>,
    calls: Calls,
}

impl<'a> Execution<'a> {
    fn new(scenario: &'a Scenario, actors: &'a [Process], progress: &'a Progress) -> Self {
        let start = || Some("its start".to_owned());
        Self {
            scenario,
            actors,
            progress,
            standing: scenario
                .actors
                .iter()
                .map(|actor| actor.tasks.iter().map(|_| start()).collect())
                .collect(),
            hung_up: vec![false; actors.len()],
            dead: Vec::new(),
            lab_standing: start(),
            observations: Observations::new(),
            printed: BTreeMap::new(),
            error: None,
            hint: None,
            failed_steps: BTreeMap::new(),
            deaths: BTreeMap::new(),
            told: BTreeSet::new(),
            exited: BTreeMap::new(),
            start: Instant::now(),
            start_us: now_us(),
            log: Vec::new(),
            calls: Calls::default(),
        }
    }

    /// Notes what a list has said, and when.
    fn note(&mut self, list: &str, at_us: u64, event: &Event) {
        self.calls.note(self.scenario, list, at_us, event);
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
        let since = Duration::from_micros(at_us.saturating_sub(self.start_us));
        let seconds = since.as_secs_f64();
        self.log
            .push((at_us, format!("{seconds:10.6} {list}: {what}")));
    }

    fn is_over(&self) -> bool {
        self.error.is_some()
            || (self.lab_standing.is_none() && self.standing.iter().flatten().all(Option::is_none))
    }

    /// Takes messages until all lists have ended or the time limit is over.
    fn follow(&mut self, messages: &Receiver<Message>, happened: &dyn Fn()) {
        let end = self.start + self.scenario.time_limit;
        while !self.is_over() {
            match messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(message) => {
                    self.take(message);
                    happened();
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.error = Some(format!(
                        "time limit of {:?}: {}",
                        self.scenario.time_limit,
                        self.describe_standing()
                    ));
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some(index) = self.dead.pop() {
                self.judge_death(index, messages);
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Sampled(observations) => self.observations.extend(observations),
            Message::HungUp(index) => self.hung_up[index] = true,
            Message::Died(index) => self.dead.push(index),
            Message::Actor(index, Told { at_us, event }) => {
                let name = &self.scenario.actors[index].name;
                self.note(name, at_us, &event);
                match event {
                    Event::Started { task, step, .. } => self.standing[index][task] = Some(step),
                    Event::Finished { task } => self.standing[index][task] = None,
                    Event::Ended(outcome) => {
                        let step = find_step(self.scenario, index, &outcome.step);
                        self.ended(name, &outcome, observed(step));
                        self.judge_failure(name, &outcome, step);
                        if step.is_some_and(|step| matches!(step.kind, ActorStep::Ready(_))) {
                            self.judge_readiness(name, &outcome);
                        }
                    }
                    Event::Broken(why) => self.error = Some(format!("actor {name}: {why}")),
                    Event::Printed(line) => {
                        self.printed.entry(name.clone()).or_default().push(line);
                    }
                    Event::Exited { status, .. } => {
                        self.exited.insert(name.clone(), status.clone());
                        self.judge_exit(name, &status);
                        let status = match status.parse() {
                            Ok(number) => Value::Integer(number),
                            Err(_) => Value::Text(status),
                        };
                        let observation = Observation::ExitStatus(name.clone());
                        self.observations.insert(observation.to_string(), status);
                    }
                    // The process keeps it for whoever asked.
                    Event::Answer(_) => {}
                }
            }
            Message::Lab(event) => {
                self.note("lab", now_us(), &event);
                match event {
                    Event::Started { step, .. } => self.lab_standing = Some(step),
                    Event::Finished { .. } => self.lab_standing = None,
                    Event::Ended(outcome) => {
                        let step =
                            flatten(&self.scenario.lab).find(|step| step.name == outcome.step);
                        self.ended("lab", &outcome, observed(step));
                        self.judge_failure("lab", &outcome, step);
                        if let Some(LabStep::Restart(restart)) = step.map(|step| &step.kind) {
                            self.restarted(restart.actor(), &outcome);
                        }
                    }
                    Event::Broken(why) => self.error = Some(format!("lab: {why}")),
                    Event::Printed(_) | Event::Exited { .. } | Event::Answer(_) => {}
                }
            }
        }
    }

    /// A command that ended otherwise than with 0, without a signal of the lab, and of
    /// whose end nothing is expected is shown.
    fn judge_exit(&mut self, command: &str, status: &str) {
        let mut observed = self.scenario.observed();
        let is_observed =
            observed.any(|seen| matches!(seen, Observation::ExitStatus(of) if of == command));
        let is_sent = |step: &Step<LabStep>| match &step.kind {
            LabStep::Signal(signal) => *signal.actor == *command,
            _ => false,
        };
        if status != "0" && !is_observed && !self.scenario.lab.iter().any(is_sent) {
            let name = format!("{command}.exit");
            self.failed_steps.insert(name, format!("status {status}"));
        }
    }

    /// A command runs again, ready or not yet.
    fn restarted(&mut self, actor: &str, outcome: &Outcome) {
        if matches!(outcome.error.as_deref(), None | Some(errno::LATE)) {
            self.exited.remove(actor);
        }
    }

    /// A step that failed and of which nothing is expected is shown; where it was to
    /// prepare what the others are about, the run has no result.
    fn judge_failure<K: Kind>(&mut self, list: &str, outcome: &Outcome, step: Option<&Step<K>>) {
        let Some(step) = step.filter(|step| !step.may_fail && !step.is_synthetic()) else {
            return;
        };
        let is_expected = |error: &&String| self.scenario.expects_of(list, &outcome.step, error);
        let Some(error) = outcome.errors.keys().find(|error| !is_expected(error)) else {
            return;
        };
        let name = format!("{list}.{}", outcome.step);
        if step.kind.prepares() {
            self.error.get_or_insert_with(|| {
                format!("{name} failed with {error}, and nothing is expected of it")
            });
            self.hint.get_or_insert_with(|| {
                format!("expect something of {name}.error, or let it fail with `may-fail: true`")
            });
            return;
        }
        self.failed_steps.insert(name, error.clone());
    }

    /// Keeps what the steps inside a repeat gave that never ended.
    fn keep_what_was_seen(&mut self) {
        for (index, actor) in self.actors.iter().enumerate() {
            let name = &self.scenario.actors[index].name;
            for outcome in actor.so_far() {
                if !self.told.contains(&(name.clone(), outcome.step.clone())) {
                    let step = find_step(self.scenario, index, &outcome.step);
                    observe_outcome(name, &outcome, observed(step), &mut self.observations);
                    self.observe_each(name, &outcome);
                    self.judge_failure(name, &outcome, step);
                }
            }
        }
    }

    /// The times of single executions of a step that something is expected of.
    fn observe_each(&mut self, list: &str, outcome: &Outcome) {
        let scenario = self.scenario;
        let parts = scenario
            .observed()
            .filter_map(|observation| match observation {
                Observation::StepTime {
                    list: of,
                    step,
                    which,
                } if of == list && *step == outcome.step => Some((observation, which)),
                _ => None,
            });
        for (observation, which) in parts {
            if let Some(ms) = which.of(&outcome.each_ms) {
                let ms = Value::Number((ms * 1e3).round() / 1e3);
                self.observations.insert(observation.to_string(), ms);
            }
        }
    }

    fn ended(&mut self, list: &str, outcome: &Outcome, observed: &[Field]) {
        observe_outcome(list, outcome, observed, &mut self.observations);
        self.observe_each(list, outcome);
        self.told.insert((list.to_owned(), outcome.step.clone()));
        let step = StepReference {
            list: list.to_owned(),
            step: outcome.step.clone(),
        };
        for actor in self.actors {
            actor.tell_ended(&step);
        }
        self.progress.ended(step);
    }

    /// A command that ends before it is ready is an error of the run, unless the
    /// suite expects something of it.
    fn judge_readiness(&mut self, actor: &str, outcome: &Outcome) {
        let error = Observation::Step {
            list: actor.to_owned(),
            step: "ready".to_owned(),
            field: Field::Error,
            errno: None,
        };
        let mut expected = self.scenario.expectations.iter();
        if outcome.error.is_none() || expected.any(|expected| expected.observation == error) {
            return;
        }
        let status = Observation::ExitStatus(actor.to_owned());
        let status = self.observations.get(&status.to_string());
        let status = status.map(ToString::to_string).unwrap_or_default();
        self.error = Some(format!(
            "actor {actor}: its command ended ({status}) before it was ready"
        ));
    }

    /// Notes what commands have printed, whether they still run and what they use.
    fn look_at_commands(&mut self, messages: &Receiver<Message>) {
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
                    let to = &mut self.observations;
                    observe_resources(None, name, Resources::Usage, usage.fields(), to);
                }
                Err(error) => {
                    let why = format!("actor {name}: cannot read what it uses: {error}");
                    self.error.get_or_insert(why);
                }
            }
        }
        // What they sent until now.
        while let Ok(message) = messages.try_recv() {
            self.take(message);
        }
        for actor in actors.iter().filter(|actor| actor.is_command) {
            let name = &actor.name;
            let lines = self.printed.remove(name).unwrap_or_default();
            let output = Value::Lines(lines);
            let observation = Observation::Output(name.clone());
            self.observations.insert(observation.to_string(), output);
            self.observations
                .entry(Observation::ExitStatus(name.clone()).to_string())
                .or_insert_with(|| RUNNING.into());
        }
    }

    /// Notes that an actor still runs, where the suite asks.
    fn look_at_the_living(&mut self) {
        let scenario = self.scenario;
        for observation in scenario.observed() {
            if let Observation::ExitStatus(actor) = observation {
                let actor = self.actors.iter().find(|known| known.name == *actor);
                if actor.is_some_and(|actor| actor.has_ended().is_none()) {
                    let name = observation.to_string();
                    self.observations
                        .entry(name)
                        .or_insert_with(|| RUNNING.into());
                }
            }
        }
    }

    /// Notes the memory of each cgroup, before it is taken away.
    fn look_at_cgroups(&mut self) {
        for actor in self.actors {
            match cgroup_memory(actor) {
                Ok(Some(memory)) => {
                    let (name, fields) = (&actor.name, memory.fields());
                    let to = &mut self.observations;
                    observe_resources(None, name, Resources::Cgroup, fields, to);
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
    fn judge_death(&mut self, index: usize, messages: &Receiver<Message>) {
        let has_ended = |standing: &Option<String>| standing.is_none();
        let Some(how) = self.actors[index].has_ended() else {
            return;
        };
        if self.standing[index].iter().all(has_ended) {
            return;
        }
        // What it said before it died may still be on its way.
        let end = Instant::now() + LAST_MESSAGES;
        while !self.hung_up[index]
            && let Ok(message) =
                messages.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.take(message);
        }
        if self.standing[index].iter().all(has_ended) {
            return;
        }
        let steps: Vec<String> = self.standing[index].iter().flatten().cloned().collect();
        let exits = steps.iter().any(|step| self.is_exit(index, step));
        // What its cgroup may do to it is for the expectations as well.
        let limits = self.scenario.actors[index].memory_limits;
        let limited = limits.is_some_and(|limits| limits.max_bytes.is_some());
        let out_of_memory = limited && how == Signal::SIGKILL.as_str();
        let by_sigpipe = how == Signal::SIGPIPE.as_str() && self.takes_sigpipe(index);
        self.note_exit(index, &how);
        let expected = exits || out_of_memory || by_sigpipe;
        if !expected && !self.was_sent(index, &how) {
            let name = &self.actors[index].name;
            self.error = Some(format!("actor {name} died ({how}) at {}", steps.join(", ")));
        }
        let death = format!("was ended by {how} at {}", steps.join(", "));
        self.deaths.insert(index, death);
        self.standing[index].fill(None);
    }

    /// How an actor ended: its exit status, or the signal that killed it.
    fn note_exit(&mut self, index: usize, how: &str) {
        let status = match how.strip_prefix("exit status ").map(str::parse) {
            Some(Ok(number)) => Value::Integer(number),
            _ => how.into(),
        };
        let observation = Observation::ExitStatus(self.actors[index].name.clone());
        self.observations.insert(observation.to_string(), status);
    }

    /// Whether SIGPIPE may end an actor.
    fn takes_sigpipe(&self, actor: usize) -> bool {
        let tasks = self.scenario.actors[actor].tasks.iter();
        let mut steps = tasks.flat_map(|task| flatten(&task.steps));
        steps.any(|step| match &step.kind {
            ActorStep::Sigaction(set) => set.sigpipe == Disposition::Default,
            _ => false,
        })
    }

    fn is_exit(&self, actor: usize, name: &str) -> bool {
        self.scenario.actors[actor]
            .tasks
            .iter()
            .flat_map(|task| flatten(&task.steps))
            .any(|step| {
                step.name == name
                    && flatten(std::slice::from_ref(step))
                        .any(|step| matches!(step.kind, ActorStep::Exit(_)))
            })
    }

    /// Whether the lab has sent an actor the signal that ended it, or is sending it.
    fn was_sent(&self, actor: usize, signal: &str) -> bool {
        let name = self.scenario.actors[actor].name.as_str();
        let sends = |step: &&Step<LabStep>| match &step.kind {
            LabStep::Signal(sent) => {
                let SignalName(sent_signal) = sent.signal;
                *sent.actor == *name && sent_signal.as_str() == signal
            }
            _ => false,
        };
        flatten(&self.scenario.lab).filter(sends).any(|step| {
            // The actor may be gone before the lab has said that it sent it.
            self.lab_standing.as_ref() == Some(&step.name)
                || self
                    .observations
                    .contains_key(&format!("lab.{}.ms", step.name))
        })
    }

    fn describe_standing(&self) -> String {
        let mut parts = Vec::new();
        for (index, (actor, tasks)) in self.scenario.actors.iter().zip(&self.standing).enumerate() {
            if let Some(death) = self.deaths.get(&index) {
                parts.push(format!("{} {death}", actor.name));
                continue;
            }
            for (task, standing) in actor.tasks.iter().zip(tasks) {
                let dot = if task.name.is_empty() { "" } else { "." };
                let name = format!("{}{dot}{}", actor.name, task.name);
                let is_stopped = self.actors[index].is_stopped();
                parts.push(match standing {
                    _ if actor.command.is_some() => {
                        self.describe_command(&name, standing.is_none())
                    }
                    Some(step) if is_stopped => format!("{name} is stopped at {step}"),
                    Some(step) => match self.awaited(find_step(self.scenario, index, step)) {
                        Some(awaited) => format!("{name} waits at {step} for {awaited}"),
                        None => format!("{name} stands at {step}"),
                    },
                    None => format!("{name} has ended"),
                });
            }
        }
        if let Some(step) = &self.lab_standing {
            let found = flatten(&self.scenario.lab).find(|known| known.name == *step);
            parts.push(match self.awaited(found) {
                Some(awaited) => format!("the lab waits at {step} for {awaited}"),
                None => format!("the lab stands at {step}"),
            });
        }
        parts.join(", ")
    }

    /// The step that a step waits for and that has not ended.
    fn awaited<'s, K: Kind>(&self, step: Option<&'s Step<K>>) -> Option<&'s StepReference> {
        let mut awaited = flatten(std::slice::from_ref(step?)).filter_map(Step::waits_for);
        awaited.find(|awaited| !self.progress.has_ended(awaited))
    }

    /// Where a command stands: one that has ended is quoted.
    fn describe_command(&self, name: &str, is_ready: bool) -> String {
        let Some(status) = self.exited.get(name) else {
            let state = if is_ready { "is ready" } else { "is not ready" };
            return format!("{name} {state}");
        };
        let how = match status.parse::<u8>() {
            Ok(number) => format!("has exited with {number}"),
            Err(_) => format!("was ended by {status}"),
        };
        let lines = self.printed.get(name).map_or(&[][..], Vec::as_slice);
        match lines.iter().rfind(|line| !line.trim().is_empty()) {
            Some(line) => format!("{name} {how}: {}", shortened(line.trim())),
            None => format!("{name} {how}"),
        }
    }
}

/// A line of which only the beginning is shown where it is long.
fn shortened(line: &str) -> String {
    const MOST: usize = 200;
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

/// A step of an actor, by its name.
fn find_step<'s>(scenario: &'s Scenario, actor: usize, name: &str) -> Option<&'s Step<ActorStep>> {
    let tasks = scenario.actors[actor].tasks.iter();
    let mut steps = tasks.flat_map(|task| flatten(&task.steps));
    steps.find(|step| step.name == name)
}

/// The lines of a log in the order of their times; actors are not heard in that order.
fn in_order(mut log: Vec<(u64, String)>) -> Vec<String> {
    log.sort_by_key(|(at_us, _)| *at_us);
    log.into_iter().map(|(_, line)| line).collect()
}

/// What a step observes.
fn observed<K: Kind>(step: Option<&Step<K>>) -> &'static [Field] {
    step.map_or(&[], |step| step.kind.observes())
}

/// Runs the lab's own steps.
struct LabSteps<'a> {
    lab: &'a Lab,
    actors: &'a RunningActors<'a>,
    progress: &'a Progress,
    sender: &'a Sender<Message>,
}

impl LabSteps<'_> {
    fn tell(&self, message: Message) {
        // Nobody listens any longer when the run is over.
        let _ = self.sender.send(message);
    }

    fn run(&self, steps: &[Step<LabStep>]) {
        for step in steps {
            self.tell(Message::Lab(Event::Started {
                task: 0,
                step: step.name.clone(),
            }));
            let start = Instant::now();
            let mut outcome = Outcome::of(&step.name);
            let mut context = LabContext {
                lab: self.lab,
                actors: self.actors,
                progress: self.progress,
                step: &step.name,
                value: None,
                sampled: Observations::new(),
            };
            match step.kind.run(&mut context) {
                Ok(ControlFlow::Continue(())) => outcome.ok = 1,
                Ok(ControlFlow::Break(())) => return,
                Err(error) => {
                    let Some(word) = errno::observed(&error.source) else {
                        self.tell(Message::Lab(Event::Broken(error.to_string())));
                        return;
                    };
                    outcome.fail(word);
                }
            }
            outcome.value = context.value;
            if !context.sampled.is_empty() {
                self.tell(Message::Sampled(context.sampled));
            }
            outcome.ms = start.elapsed().as_secs_f64() * 1e3;
            self.tell(Message::Lab(Event::Ended(outcome)));
        }
        self.tell(Message::Lab(Event::Finished { task: 0 }));
    }
}
