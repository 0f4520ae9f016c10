//! An answer, written for a person, a program, a wiki or sysctl(8).

pub mod brief;
pub mod explain;
pub mod fleet;
mod happened;
pub mod json;
mod lines;
pub mod lint;
pub mod markdown;
pub mod sarif;
pub mod sockets;
pub mod sysctl;
pub mod text;
