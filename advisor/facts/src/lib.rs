//! What the kernel says about a host, read and never written.
//!
//! [`Facts`] is all that is known of a host; each other module reads one part of
//! it. Here is also the ground that others stand on: the [`release`] of a kernel
//! and amounts with their [`units`].

pub mod cgroups;
pub mod clock;
pub mod condition;
pub mod counters;
pub mod events;
pub mod facts;
pub mod file;
pub mod given;
pub mod happened;
mod inspect;
pub mod kernel_log;
pub mod look;
pub mod memory;
pub mod named_files;
pub mod namespaces;
pub mod open_files;
pub mod origin;
mod per_cpu;
pub mod proc_tcp;
pub mod processes;
pub mod pulse;
pub mod read;
pub mod redact;
pub mod release;
pub mod root;
pub mod settings;
pub mod shared;
pub mod sock_diag;
pub mod sockets;
pub mod sockstat;
pub mod sosreport;
pub mod sysctl;
pub mod sysctl_dump;
pub mod sysctl_files;
pub mod tcp_info;
pub mod units;

pub use facts::{Facts, NamespaceCounters};
pub use look::Look;
pub use origin::Origin;
pub use read::{FactError, OutOfSight, Unseen};
pub use root::{Looking, Root};
pub use settings::Settings;
pub use shared::Shared;
pub use sockets::{SocketSource, SocketTable};

#[cfg(test)]
#[path = "../../tests/recorded/mod.rs"]
mod recorded;
