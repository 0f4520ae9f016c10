//! The messages between the harness and an actor, a line of JSON each.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::errno;
use crate::lab::address::Addresses;
use crate::step::context::Outcome;
use crate::step::name::StepReference;
use crate::step::{ActorStep, Step};
use crate::suite::command::Command;
use crate::suite::scenario::Limits;

/// What an actor runs; the first line that it gets. The descriptor of its
/// network namespace comes with it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Plan {
    /// The actor's name, for its errors.
    pub name: String,
    /// The addresses of each host.
    pub addresses: BTreeMap<String, Addresses>,
    /// The host that it runs on.
    pub host: String,
    /// The limits of a cgroup of its own.
    pub memory_limits: Option<Limits>,
    /// What it starts, in place of running steps.
    pub command: Option<Command>,
    /// Its step lists.
    pub tasks: Vec<Vec<Step<ActorStep>>>,
}

/// From the harness to an actor. The run is over when the harness hangs up.
#[derive(Debug, Deserialize, Serialize)]
pub enum Order {
    /// A step of another list has ended.
    Done(StepReference),
    /// Send a signal to the command; answered.
    Signal {
        /// Its number.
        number: i32,
        /// Not only to the process that was started.
        to_all: bool,
    },
    /// Start the command anew; answered once it is ready, or isn't in time.
    Restart {
        /// How long that may take.
        timeout: Option<Duration>,
    },
}

/// An event with its time on the actor's own clock: what the harness hears of two actors
/// comes late, and in another order.
#[derive(Debug, Deserialize, Serialize)]
pub struct Told<E = Event> {
    /// Microseconds since 1970, as packets are stamped.
    pub at_us: u64,
    /// What happened.
    pub event: E,
}

impl<'a> Told<&'a Event> {
    /// An event that happens now.
    pub fn now(event: &'a Event) -> Self {
        Self {
            at_us: now_us(),
            event,
        }
    }
}

/// Microseconds since 1970.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

/// From an actor to the harness.
#[derive(Debug, Deserialize, Serialize)]
pub enum Event {
    /// A list has come to this step.
    Started {
        /// The list's number.
        task: usize,
        /// The step's name.
        step: String,
    },
    /// A step has ended; for those inside a repeat, when the repeat has.
    Ended(Outcome),
    /// A list has come to its end.
    Finished {
        /// The list's number.
        task: usize,
    },
    /// The actor couldn't be set up.
    Broken(String),
    /// The command printed a line.
    Printed(String),
    /// The command's process has ended.
    Exited {
        /// Its exit status, or the signal that killed it.
        status: String,
        /// The largest resident set that a process had of those that have ended,
        /// in bytes.
        max_rss_bytes: u64,
    },
    /// An order was followed, or wasn't.
    Answer(Answer),
}

/// What came of an order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Answer {
    /// It was followed.
    Done,
    /// The kernel refused it with this errno.
    Refused(i32),
    /// Its own time limit ended it.
    Late,
}

impl From<Answer> for io::Result<()> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done => Ok(()),
            Answer::Refused(errno) => Err(io::Error::from_raw_os_error(errno)),
            Answer::Late => Err(errno::late()),
        }
    }
}
