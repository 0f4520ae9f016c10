//! Replays documented TCP failures on a real kernel, from YAML suites.
//!
//! Data flows one way: a [`suite`] file is read into scenarios, each is made
//! real by a [`lab`] and its actors, what they observe is judged and reported.

pub mod lab;
pub mod suite;
