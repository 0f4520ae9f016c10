//! Reads a Linux host and reports of the harness, and recommends TCP settings.
//!
//! Data flows one way: [`advisor_facts`] and [`advisor_report`] are read, [`rules`] are pure
//! functions over them, what fires becomes one [`plan`], and that is rendered
//! ([`render`]). [`sockets`] answers one question by itself: who holds the
//! memory. [`watch`] follows a host over a time, and [`record`] alone can write: the
//! directory that the user names for it.

pub mod accepted;
pub mod cli;
pub mod fleet;
#[cfg(test)]
mod fuzz;
pub mod gauges;
pub mod lint;
pub mod lock;
pub mod metrics;
pub mod plan;
pub mod record;
pub mod render;
pub mod rules;
pub mod sockets;
mod spelling;
pub mod watch;

#[cfg(test)]
#[path = "../tests/recorded/mod.rs"]
mod recorded;

#[cfg(test)]
#[path = "../tests/fuzzing/mod.rs"]
mod fuzzing;
