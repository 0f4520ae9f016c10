//! Replays documented TCP failures on a real kernel, from YAML suites.
//!
//! Data flows one way: a [`suite`] file is read into scenarios, each is made
//! real by a [`lab`] and its [`actor`]s, a [`runner`] observes and judges it, and
//! the [`report`] tells of it.

pub mod actor;
pub mod calibrate;
pub mod cli;
pub mod descriptor;
pub mod doctor;
pub mod guest;
pub mod host_settings;
pub mod kernels;
pub mod lab;
pub mod links;
pub mod new;
pub mod output;
pub mod privilege;
pub mod prove;
pub mod report;
pub mod runner;
pub mod suite;
