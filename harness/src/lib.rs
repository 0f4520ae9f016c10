//! Replays documented TCP failures on a real kernel, from YAML suites.
//!
//! Data flows one way: a [`suite`] file is read into scenarios of [`step`]s, the
//! [`runner`] runs each in a [`lab`] with [`actor`]s, here or in a [`guest`], and the
//! [`report`] shows the results. `docs/ARCHITECTURE.md` says which module may import
//! which, and `tests/modules.rs` finds circles.

pub mod actor;
pub mod bisect;
pub mod calibrate;
pub mod cli;
pub mod compare;
pub mod condition;
pub mod descriptor;
pub mod doctor;
pub mod errno;
pub mod guest;
pub mod host_settings;
pub mod impairment;
pub mod kernels;
pub mod lab;
pub mod links;
pub mod lock_holder;
pub mod new;
pub mod observation;
pub mod output;
pub mod pace;
pub mod privilege;
pub mod prove;
pub mod report;
pub mod reproduce;
pub mod runner;
pub mod step;
pub mod suite;
pub mod yaml;
