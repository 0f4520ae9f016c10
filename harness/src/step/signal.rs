//! `signal`

use nix::sys::signal;
use serde::{Deserializer, Serializer};

use super::prelude::*;
use crate::yaml::value::{from_text, inline_schema};

/// kill(2) to an actor's process.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// The actor.
    pub actor: ActorName,
    /// The signal.
    pub signal: SignalName,
    /// Of a command: the process that was started, or all that came of it. Default: main.
    pub to: Option<Receivers>,
}

impl Definition for Signal {}

impl RunByLab for Signal {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let SignalName(signal) = self.signal;
        let to_all = self.to == Some(Receivers::All);
        let sent = lab.actors.signal(&self.actor, signal, to_all);
        let sent = sent
            .map_err(|error| LabError::new(&self.actor, &format!("send it {signal}"), error, ""))?;
        Ok(done(sent))
    }
}

/// The processes of a command that get a signal.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
#[serde(rename_all = "lowercase")]
pub enum Receivers {
    /// The process that was started.
    Main,
    /// All that came of it.
    All,
}

/// The signals that the lab sends: those that end a process or hold it, and those that
/// servers take for orders.
pub const SIGNALS: [signal::Signal; 9] = [
    signal::Signal::SIGKILL,
    signal::Signal::SIGTERM,
    signal::Signal::SIGINT,
    signal::Signal::SIGQUIT,
    signal::Signal::SIGHUP,
    signal::Signal::SIGUSR1,
    signal::Signal::SIGUSR2,
    signal::Signal::SIGSTOP,
    signal::Signal::SIGCONT,
];

/// One of [`SIGNALS`], by its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignalName(pub signal::Signal);

impl Serialize for SignalName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for SignalName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "one of SIGKILL, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, \
                        SIGSTOP, SIGCONT";
        from_text(deserializer, expected, |text| {
            let known = SIGNALS.into_iter().find(|signal| signal.as_str() == text);
            known.map(Self)
        })
    }
}

inline_schema!(SignalName, {"enum": SIGNALS.map(signal::Signal::as_str)});
