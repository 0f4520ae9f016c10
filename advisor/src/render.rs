//! An answer, written for a person or for a program.

pub mod json;
pub mod sockets;
pub mod text;
