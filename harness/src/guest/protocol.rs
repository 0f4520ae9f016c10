//! What host and guest send each other over a virtio-serial port, one JSON line
//! each. Jobs and their results are JSON values here: only the code that runs
//! scenarios in guests knows what they mean.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name of the port.
pub const PORT: &str = "harness";

/// From the host to the guest.
#[derive(Debug, Deserialize, Serialize)]
pub enum Order {
    /// The first one. A guest that was restored is a copy: its clock shows when
    /// the original was stopped, and its random numbers would be the original's.
    /// Its heart beats from now on, and its own time counts.
    Begin {
        /// Nanoseconds since 1970.
        now_ns: u64,
        /// For the kernel's random pool.
        entropy: Vec<u8>,
    },
    /// Put a file there, unless there is one; its content follows the line.
    Take {
        /// Where.
        path: PathBuf,
        /// The length of the content in bytes.
        length: u64,
    },
    /// Do a job.
    Work(Value),
    /// Say that this is the end, and power off.
    PowerOff,
}

/// From the guest to the host.
#[derive(Debug, Deserialize, Serialize)]
pub enum News {
    /// The guest takes orders.
    Ready {
        /// Its kernel's release.
        release: String,
        /// What init could not do; empty where all is well.
        complaints: Vec<String>,
    },
    /// Said every [`HEARTBEAT`]: the guest's clock, in milliseconds since it
    /// booted.
    Alive(u64),
    /// Something to keep of a run; the content follows the line.
    Kept {
        /// Where the host is to write it.
        path: PathBuf,
        /// The length of the content in bytes.
        length: u64,
        /// The content.
        #[serde(skip)]
        content: Vec<u8>,
    },
    /// A job's result, or how far it is.
    Result(Value),
    /// An order could not be understood or followed.
    Refused(String),
    /// Nothing more comes. A guest that is gone without it has died.
    End,
}

/// The most of one file that a guest may give to be kept, in bytes.
pub const MOST_KEPT_BYTES: u64 = 64 << 20;

/// Time between two heartbeats.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_millis(500);

/// The same where the guest's clock is virtual: each costs the host's time, however
/// short the guest's is.
pub const PULSE: std::time::Duration = std::time::Duration::from_secs(5);
