//! Actors: a process for each, in its host's namespace, that runs steps.
//!
//! A process of its own, so that a crash is a real SIGKILL and an exit a real
//! exit. The harness starts itself anew for it (`harness actor`) and talks to
//! it over a socket pair: the plan and the signals of other lists go in, what
//! each step observed comes out.
//!
//! Imports step, suite (commands), lab, observation, errno and descriptor.
//!
//! Where the actor is a command, that process starts it, and is the first one of
//! a PID namespace: whatever the command leaves behind dies with it.

pub mod cgroup;
mod command;
pub mod interpreter;
pub mod process;
pub mod protocol;
pub mod usage;
