//! YAML as suites write it: a tree that knows its places, a serde reader of it, and the
//! values and quantities that stand in it.
//!
//! Imports impairment (probabilities).

pub mod error;
pub mod node;
pub mod quantity;
pub mod reader;
pub mod schema;
pub mod value;
