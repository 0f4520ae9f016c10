//! What happens on a host, as the kernel tells it: who reset a connection and why.
//!
//! [`Reader`] reads tracepoints by perf_event_open(2), without BPF and without
//! changing anything on the host. Where a field stands in a record is read in the
//! tracepoint's `format` file, so that other kernels are understood. [`Log`] follows
//! the kernel's log, and [`Destroyed`] is told of each TCP socket that ends.

mod destroyed;
pub mod format;
mod log;
mod perf;
mod ring;
mod tracefs;
pub mod tracepoint;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sock_diag::TcpState;

pub use destroyed::Destroyed;
pub use log::{Log, LogLine};
pub use perf::{Drained, EventError, Reader};
pub use tracepoint::{
    BUFFER_LIMIT, DROP_REASONS, DROPPED, DROPPED_AT_LIMITS, RECEIVE_QUEUE_FULL, RESET_REASONS,
    RESET_RECEIVED, RESET_SENT, RESET_SENT_BY_SOCKET, RETRANSMITTED, SOCKET_DESTROYED,
    STATE_CHANGED, TRACEPOINTS, Tracepoint, drop_reason_since,
};

/// Something that happened in the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// When, by CLOCK_MONOTONIC.
    pub at: Duration,
    /// The process that ran, where the kernel did it on its behalf.
    pub process: Option<Running>,
    /// What happened.
    pub what: What,
    /// So many events it stands for: more than one where the reader was told to hand over
    /// only some.
    pub count: u64,
}

/// The process in whose context the kernel did something. What the kernel does on an
/// interrupt is nobody's, whichever process was interrupted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Running {
    /// Its number in the reader's PID namespace.
    pub pid: u32,
    /// Its name (comm), where it was learned before the process ended.
    pub name: Option<Arc<str>>,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Ends {
    /// Address and port here.
    pub local: SocketAddr,
    /// Address and port of the peer.
    pub peer: SocketAddr,
}

/// A socket by its address in the kernel, hashed or not: it tells one socket from
/// another while both live. 0 is none.
pub type SocketAddress = u64;

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// A reset was sent (`tcp:tcp_send_reset`).
    ResetSent {
        /// The kernel's reason, `TCP_ABORT_ON_CLOSE`; `None` before 6.10.
        reason: Option<Arc<str>>,
        /// The state of the socket; `None` where there is no socket.
        state: Option<TcpState>,
        /// The connection.
        ends: Option<Ends>,
        /// The socket.
        socket: SocketAddress,
    },
    /// A reset came (`tcp:tcp_receive_reset`).
    ResetReceived {
        /// The connection.
        ends: Option<Ends>,
        /// The socket.
        socket: SocketAddress,
    },
    /// A segment was sent again (`tcp:tcp_retransmit_skb`).
    Retransmitted {
        /// The state of the socket.
        state: Option<TcpState>,
        /// The connection.
        ends: Option<Ends>,
        /// The socket.
        socket: SocketAddress,
    },
    /// A TCP socket went into another state (`sock:inet_sock_set_state`).
    StateChanged {
        /// The state before.
        from: TcpState,
        /// The state after.
        to: TcpState,
        /// The connection.
        ends: Option<Ends>,
        /// The socket.
        socket: SocketAddress,
    },
    /// A TCP socket ended (`tcp:tcp_destroy_sock`).
    SocketDestroyed {
        /// What tells it from all others of this run of the kernel, as sock_diag has it.
        cookie: u64,
        /// The socket.
        socket: SocketAddress,
    },
    /// Memory for a socket was refused at the limit of its protocol
    /// (`sock:sock_exceed_buf_limit`).
    BufferLimit {
        /// `TCP`, `TCPv6`, `UDP`.
        protocol: String,
        /// What the protocol has allocated, in the unit of its gauge.
        allocated: i64,
        /// Whether it was for received data.
        receives: bool,
    },
    /// A packet found the receive buffer of its socket full
    /// (`sock:sock_rcvqueue_full`).
    ReceiveQueueFull,
    /// A packet was dropped (`skb:kfree_skb`).
    Dropped {
        /// The kernel's reason, `TCP_LISTEN_OVERFLOW`.
        reason: Arc<str>,
        /// The socket that it was for (6.11 and later).
        socket: SocketAddress,
    },
}

impl What {
    /// The connection that it is about.
    pub fn ends(&self) -> Option<Ends> {
        match self {
            Self::ResetSent { ends, .. }
            | Self::ResetReceived { ends, .. }
            | Self::Retransmitted { ends, .. }
            | Self::StateChanged { ends, .. } => *ends,
            Self::BufferLimit { .. }
            | Self::ReceiveQueueFull
            | Self::Dropped { .. }
            | Self::SocketDestroyed { .. } => None,
        }
    }

    /// The socket that it is about; 0 is none.
    pub fn socket(&self) -> SocketAddress {
        match self {
            Self::ResetSent { socket, .. }
            | Self::ResetReceived { socket, .. }
            | Self::Retransmitted { socket, .. }
            | Self::StateChanged { socket, .. }
            | Self::SocketDestroyed { socket, .. }
            | Self::Dropped { socket, .. } => *socket,
            Self::BufferLimit { .. } | Self::ReceiveQueueFull => 0,
        }
    }

    /// The kernel's reason, where it gives one.
    pub fn reason(&self) -> Option<&Arc<str>> {
        match self {
            Self::ResetSent { reason, .. } => reason.as_ref(),
            Self::Dropped { reason, .. } => Some(reason),
            _ => None,
        }
    }
}
