//! Replays documented TCP failures on a real kernel, from YAML suites.
//!
//! Data flows one way: a [`suite`] file is read into scenarios, the [`runner`]
//! runs each in a [`lab`] with [`actor`]s, here or in a [`guest`], and the
//! [`report`] shows the results.
//!
//! Each module imports only modules that stand before it: descriptor, output and
//! privilege; suite; lab; actor, kernels, host_settings; guest; runner; links;
//! report; prove, calibrate, doctor, new; cli. `tests/modules.rs` finds circles.

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
