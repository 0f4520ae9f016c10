//! Reads a Linux host and reports of the harness, and recommends TCP settings.
//!
//! Data flows one way: [`advisor_facts`] and [`advisor_report`] are read, [`rules`] are pure
//! functions over them, what fires becomes one [`plan`], and that is rendered
//! ([`render`]). [`sockets`] answers one question by itself: who holds the
//! memory. Nothing here can write.

pub mod accepted;
pub mod cli;
pub mod fleet;
#[cfg(test)]
mod fuzz;
pub mod lint;
pub mod plan;
pub mod render;
pub mod rules;
pub mod sockets;
mod spelling;

#[cfg(test)]
#[path = "../tests/recorded/mod.rs"]
mod recorded;
