//! Measures the lab.
fn main() {}
