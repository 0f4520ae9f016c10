//! Tests that need root: a lab made real, the relay on real packets, the
//! program from end to end, and sysctls of the whole machine.
//!
//! A plain `cargo test` leaves them out; `cargo test -p harness --test live`
//! runs them. Without root they fail. None holds a time against an upper bound:
//! only a minute without any progress is a failure, reported as a hang.

mod catalogue;
mod command;
mod end_to_end;
mod hidden;
mod iproute2;
mod language;
mod machine;
mod netns;
mod own_suites;
mod patience;
mod prediction;
mod program;
mod relay;
mod report;
mod surroundings;
mod topology;
mod touch_host;
mod traffic;
mod verdicts;
