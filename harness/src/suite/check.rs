//! What has to hold between the parts of a scenario: names lead to something, and
//! waits to an end.

use std::collections::{BTreeMap, BTreeSet};

use super::scenario::{Actor, Scenario};
use crate::condition::{Condition, is_quantity};
use crate::lab::address::{SocketFamily, split_family};
use crate::step::name::{Endpoint, StepReference};
use crate::step::{ActorStep, Kind, LabStep, Makes, Step, flatten};
use crate::yaml::error::{Place, SuiteError};
use crate::yaml::reader::Mention;

impl Scenario {
    /// Checks the steps and every name in the scenario.
    pub(super) fn check(&self, mentions: &[Mention]) -> Result<(), SuiteError> {
        for actor in &self.actors {
            let mut names = BTreeMap::new();
            for task in &actor.tasks {
                check_unique(&task.steps, &mut names)?;
                self.check_families(&task.steps)?;
                self.check_rights(&actor.host, &task.steps)?;
            }
            check_epolls(actor)?;
        }
        check_unique(&self.lab, &mut BTreeMap::new())?;
        for mention in mentions {
            self.check_mention(mention)?;
        }
        for step in &self.lab {
            self.check_lab_step(step)?;
        }
        self.check_circular_awaits()
    }

    /// Looks a name up, by the type that it was read as.
    fn check_mention(&self, mention: &Mention) -> Result<(), SuiteError> {
        let Mention {
            of,
            text,
            place,
            path,
        } = mention;
        match *of {
            "HostName" => self.check_host(text, *place),
            "LinkHost" => self.check_link_host(text, *place),
            "Endpoint" => match Endpoint::host_in(text) {
                Some(host) => self.check_host(self.without_family(host), *place),
                None => Ok(()),
            },
            "ActorName" => self.check_actor(text, *place),
            "CommandActor" => {
                self.check_actor(text, *place)?;
                self.check_is_command(text, *place)
            }
            "SocketName" => self.check_made(path, Makes::Sockets, "no socket", text, *place),
            "FileName" => self.check_made(path, Makes::File, "no file that is sent", text, *place),
            "StepReference" => match StepReference::parse(text) {
                Some(reference) => self.check_reference(&reference, *place),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// A host's name without the digit of a family, where it has one.
    pub(super) fn without_family<'n>(&self, host: &'n str) -> &'n str {
        if self.hosts.iter().any(|known| known == host) {
            return host;
        }
        split_family(host).map_or(host, |(host, _)| host)
    }

    /// The family that an endpoint names.
    fn family_of(&self, endpoint: &Endpoint) -> Option<SocketFamily> {
        let host = endpoint.host.as_deref()?;
        if self.hosts.iter().any(|known| known == host) {
            return None;
        }
        split_family(host).map(|(_, family)| family)
    }

    /// A socket that a suite makes of a family takes addresses of that family only.
    fn check_families(&self, steps: &[Step<ActorStep>]) -> Result<(), SuiteError> {
        let mut made: BTreeMap<&str, Option<SocketFamily>> = BTreeMap::new();
        let mut last: Option<SocketFamily> = None;
        for step in flatten(steps) {
            let (on, endpoint) = match &step.kind {
                ActorStep::Socket(socket) => {
                    last = socket.family;
                    made.insert(&step.name, socket.family);
                    continue;
                }
                ActorStep::Bind(bind) => (&bind.on, Some(&bind.to)),
                ActorStep::Listen(listen) => (&listen.on, listen.port.as_ref()),
                ActorStep::Connect(connect) => (&connect.on, Some(&connect.to.0)),
                _ => continue,
            };
            let own = match on {
                Some(name) => made.get(&**name).copied().flatten(),
                None => last,
            };
            let named = endpoint.and_then(|endpoint| self.family_of(endpoint));
            if let (Some(own), Some(named), Some(endpoint)) = (own, named, endpoint)
                && own != named
            {
                let (own, named) = (own.as_str(), named.as_str());
                return Err(SuiteError::new(
                    step.place,
                    format!("{endpoint} is an {named} address, and the socket is {own}"),
                    format!(
                        "without the digit it is the socket's own family; or socket: {{ family: {named} }}"
                    ),
                ));
            }
            if !matches!(step.kind, ActorStep::Bind(_)) && on.is_none() {
                last = None;
            }
        }
        Ok(())
    }

    /// A descriptor is handed to an actor of the same host.
    fn check_rights(&self, host: &str, steps: &[Step<ActorStep>]) -> Result<(), SuiteError> {
        for step in flatten(steps) {
            let ActorStep::Sendrights(send) = &step.kind else {
                continue;
            };
            let mut actors = self.actors.iter();
            let to = actors.find(|actor| actor.name == *send.to);
            if let Some(to) = to.filter(|to| to.host != host) {
                let message = format!("{} is on {}, not on {host}", to.name, to.host);
                let hint = "a Unix socket leads to actors of the same host";
                return Err(SuiteError::new(step.place, message, hint));
            }
        }
        Ok(())
    }

    pub(super) fn check_host(&self, name: &str, place: Place) -> Result<(), SuiteError> {
        if name == "router" || self.hosts.iter().any(|host| host == name) {
            return Ok(());
        }
        let hosts = self.hosts.iter().map(String::as_str).chain(["router"]);
        Err(SuiteError::no_such("no host", name, place, hosts))
    }

    pub(super) fn check_link_host(&self, name: &str, place: Place) -> Result<(), SuiteError> {
        if name == "router" {
            return Err(SuiteError::new(
                place,
                "the router has no link of its own",
                "a link is named after the host that it leads to",
            ));
        }
        if self.hosts.iter().any(|host| host == name) {
            return Ok(());
        }
        let hosts = self.hosts.iter().map(String::as_str);
        Err(SuiteError::no_such("no host", name, place, hosts))
    }

    fn check_actor(&self, name: &str, place: Place) -> Result<(), SuiteError> {
        let names = || self.actors.iter().map(|actor| actor.name.as_str());
        if names().any(|known| known == name) {
            return Ok(());
        }
        Err(SuiteError::no_such("no actor", name, place, names()))
    }

    fn check_is_command(&self, name: &str, place: Place) -> Result<(), SuiteError> {
        if self.command_of(name).is_some() {
            return Ok(());
        }
        Err(SuiteError::new(
            place,
            format!("actor {name:?} is no command"),
            "`restart`, and `signal` with `to`, work on actors with `command` only",
        ))
    }

    /// Whether the actor whose step names a socket or a file makes it.
    fn check_made(
        &self,
        path: &[String],
        makes: Makes,
        what: &str,
        name: &str,
        place: Place,
    ) -> Result<(), SuiteError> {
        // actors.NAME.steps...
        let owner = path.get(1);
        let mut actors = self.actors.iter();
        let actor = actors.find(|actor| Some(&actor.name) == owner);
        let made: Vec<&str> = actor
            .into_iter()
            .flat_map(|actor| &actor.tasks)
            .flat_map(|task| flatten(&task.steps))
            .filter(|step| step.kind.makes() == makes)
            .map(|step| step.name.as_str())
            .collect();
        if made.contains(&name) {
            return Ok(());
        }
        Err(SuiteError::no_such(what, name, place, made))
    }

    fn check_reference(&self, reference: &StepReference, place: Place) -> Result<(), SuiteError> {
        let StepReference { list, step } = reference;
        let lists = self.lists();
        if lists.iter().all(|(known, _)| known != list) {
            let names = lists.iter().map(|(name, _)| *name);
            return Err(SuiteError::no_such("no actor", list, place, names));
        }
        let of_list = lists.iter().filter(|(known, _)| known == list);
        let names: Vec<&str> = of_list
            .flat_map(|(_, steps)| steps)
            .flat_map(|step| step.names.iter().copied())
            .collect();
        if names.contains(&step.as_str()) {
            return Ok(());
        }
        let what = format!("no step of {list}");
        Err(SuiteError::no_such(&what, step, place, names))
    }

    fn check_lab_step(&self, step: &Step<LabStep>) -> Result<(), SuiteError> {
        match &step.kind {
            LabStep::Signal(signal) if signal.to.is_some() => {
                self.check_is_command(&signal.actor, step.place)
            }
            LabStep::Inject(inject) => inject.check(step.place),
            LabStep::LinkDown(cut) => cut.check(step.place),
            LabStep::KernelSysctl(sysctl) => {
                let mut set = self.kernel_sysctls.iter();
                if set.any(|(name, _)| *name == *sysctl.name) {
                    return Ok(());
                }
                let hint = "sysctls: { kernel: { NAME: VALUE } } says that it is set, so that it \
                            is put back";
                let message = format!("{} is not set at the start", &*sysctl.name);
                Err(SuiteError::new(step.place, message, hint))
            }
            LabStep::Until(until) => {
                for host in until.observation.hosts() {
                    self.check_host(host, until.observation.place)?;
                }
                let is_number = |condition: &Condition| match condition.exact() {
                    Some(wanted) => is_quantity(wanted),
                    None => condition.references().is_empty() && condition.part().is_none(),
                };
                if until.condition.0.iter().all(is_number) {
                    return Ok(());
                }
                let message = "until compares with numbers only";
                let hint = "a number, a range such as 1..3, or a comparison such as \"> 1kB\"";
                Err(SuiteError::new(until.condition.place, message, hint))
            }
            _ => Ok(()),
        }
    }

    /// Finds steps that wait for one another for ever. A list runs in order, so each of
    /// its steps waits for the one before; `await` adds an edge.
    fn check_circular_awaits(&self) -> Result<(), SuiteError> {
        let lists = self.lists();
        let top_level = |reference: &StepReference| -> Option<(usize, usize)> {
            let mut lists = lists.iter().enumerate();
            lists.find_map(|(index, (list, steps))| {
                let mut steps = steps.iter();
                let name = reference.step.as_str();
                let position = steps.position(|step| step.names.contains(&name))?;
                (*list == reference.list).then_some((index, position))
            })
        };
        let mut done: Vec<usize> = vec![0; lists.len()];
        // Run the lists against each other as if every step succeeded at once;
        // what can't go on then never can.
        loop {
            let mut moved = false;
            for (index, (_, steps)) in lists.iter().enumerate() {
                while let Some(step) = steps.get(done[index]) {
                    let mut awaited = step.waits_for.iter().filter_map(|step| top_level(step));
                    if !awaited.all(|(list, position)| done[list] > position) {
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
        let stuck = lists.iter().zip(&done).filter_map(|((list, steps), done)| {
            let step = steps.get(*done)?;
            Some((step.place, format!("{list}.{}", step.names.first()?)))
        });
        let stuck: Vec<(Place, String)> = stuck.collect();
        let Some((place, _)) = stuck.first() else {
            return Ok(());
        };
        let names: Vec<&str> = stuck.iter().map(|(_, name)| name.as_str()).collect();
        Err(SuiteError::new(
            *place,
            format!(
                "circular await: {} wait for one another",
                names.join(" and ")
            ),
            "an awaited step must be able to run first",
        ))
    }
}

/// An epoll instance is waited for where some list of the actor puts a socket into it.
fn check_epolls(actor: &Actor) -> Result<(), SuiteError> {
    let steps = || actor.tasks.iter().flat_map(|task| flatten(&task.steps));
    let made = steps().filter_map(|step| match &step.kind {
        ActorStep::Epollctl(control) => Some(&*control.epoll),
        _ => None,
    });
    let made: BTreeSet<&str> = made.collect();
    for step in steps() {
        if let ActorStep::Epollwait(wait) = &step.kind
            && !made.contains(&*wait.epoll)
        {
            let (what, name) = ("no epoll-ctl makes", &*wait.epoll);
            return Err(SuiteError::no_such(what, name, step.place, made));
        }
    }
    Ok(())
}

fn check_unique<K: Kind>(
    steps: &[Step<K>],
    names: &mut BTreeMap<String, Place>,
) -> Result<(), SuiteError> {
    for step in flatten(steps) {
        if let Some(first) = names.insert(step.name.clone(), step.place) {
            // Waiting is not observed by name where nobody names it.
            if matches!(step.kind.name(), "await" | "sleep") && step.name == step.kind.name() {
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
