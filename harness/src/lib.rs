//! Replays documented TCP failures on a real kernel, from YAML suites.

pub mod lab;
