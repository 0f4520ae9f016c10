//! The actors of a run, as steps of the lab act on them.

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::super::watch::observe_resources;
use crate::actor::cgroup::Memory;
use crate::actor::process::Process;
use crate::lab::LabError;
use crate::observation::{Observations, Resources};
use crate::step::context::Actors;

/// The processes of the actors, as the lab's steps act on them.
pub(super) struct RunningActors<'a>(pub(super) &'a [Process]);

impl RunningActors<'_> {
    fn find(&self, name: &str) -> io::Result<&Process> {
        let mut actors = self.0.iter();
        let actor = actors.find(|actor| actor.name == name);
        actor.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Actors for RunningActors<'_> {
    fn signal(&self, actor: &str, signal: Signal, to_all: bool) -> io::Result<bool> {
        let actor = self.find(actor)?;
        if actor.is_command {
            actor.signal_command(signal, to_all)
        } else {
            actor.signal(signal).map(|()| true)
        }
    }

    fn restart(&self, actor: &str, timeout: Option<Duration>) -> io::Result<bool> {
        self.find(actor)?.restart_command(timeout)
    }

    fn observe_resources(
        &self,
        sample: Option<&str>,
        observations: &mut Observations,
    ) -> Result<(), LabError> {
        for actor in self.0.iter().filter(|actor| actor.is_command) {
            let usage = actor.usage();
            let usage = usage
                .map_err(|error| LabError::new(&actor.name, "read what it uses", error, ""))?;
            observe_resources(
                sample,
                &actor.name,
                Resources::Usage,
                usage.fields(),
                observations,
            );
        }
        for actor in self.0 {
            if let Some(memory) = cgroup_memory(actor)? {
                let fields = memory.fields();
                observe_resources(sample, &actor.name, Resources::Cgroup, fields, observations);
            }
        }
        Ok(())
    }
}

/// The memory of an actor's cgroup, where it has one.
pub(super) fn cgroup_memory(actor: &Process) -> Result<Option<Memory>, LabError> {
    let memory = actor.cgroup_memory();
    memory.map_err(|error| LabError::new(&actor.name, "read its cgroup", error, ""))
}
