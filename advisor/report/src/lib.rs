//! The formats that the harness and the advisor exchange, and what is read of
//! them: the [`report`] of a run, the [`calibration`] of a kernel, the [`advice`]
//! for a host and its [`proof`], and the [`record`] of a watch.

pub mod advice;
pub mod calibration;
pub mod document;
pub mod escape;
pub mod measured;
pub mod proof;
pub mod record;
pub mod report;
pub mod trace;

pub use report::{
    Clock, Dependence, Difference, Expectation, Group, Kernel, KnownFailure, Link, Machine, Origin,
    Quantifier, Repeatable, Report, Run, SCHEMA, ScenarioResult, Seen, SocketLine, Spread, Value,
    Verdict, parse, read,
};
pub use trace::Trace;
