//! The tracepoints that are read, what each tells, and how its records become events.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::format::Format;
use super::{Ends, What};
use crate::release::Release;
use crate::sock_diag::TcpState;

/// A tracepoint.
#[derive(Clone, Copy, Debug)]
pub struct Tracepoint {
    /// The part of the kernel that it is of.
    pub system: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// Since which release the kernel has it in a form that is of use.
    pub since: Release,
    /// What is unknown without it.
    pub tells: &'static str,
    /// The filter that the kernel applies; `None` where the format lacks what it is
    /// about, and the tracepoint is of no use.
    filter: fn(&Format) -> Option<String>,
    /// The event of a record; `None` where the record has not the fields.
    decode: fn(&Format, &[u8]) -> Option<What>,
}

impl PartialEq for Tracepoint {
    fn eq(&self, other: &Self) -> bool {
        (self.system, self.name) == (other.system, other.name)
    }
}

/// Every tracepoint that is understood.
pub const TRACEPOINTS: &[Tracepoint] = &[
    RESET_SENT,
    RESET_RECEIVED,
    RETRANSMITTED,
    STATE_CHANGED,
    BUFFER_LIMIT,
    RECEIVE_QUEUE_FULL,
    DROPPED,
];

/// Resets that are sent.
pub const RESET_SENT: Tracepoint = Tracepoint {
    system: "tcp",
    name: "tcp_send_reset",
    since: Release::new(4, 15),
    tells: "resets that are sent, and why",
    filter: |_| Some(String::new()),
    decode: |format, record| {
        Some(What::ResetSent {
            reason: name(format, "reason", record),
            state: state(format, "state", record),
            ends: ends(format, record),
            socket: socket(format, "skaddr", record)?,
        })
    },
};

/// Resets that are sent for a socket, and not because there is none: whoever scans ports
/// makes many of the others.
pub const RESET_SENT_BY_SOCKET: Tracepoint = Tracepoint {
    filter: |_| Some("state != 0".to_owned()),
    ..RESET_SENT
};

/// Resets that come.
pub const RESET_RECEIVED: Tracepoint = Tracepoint {
    system: "tcp",
    name: "tcp_receive_reset",
    since: Release::new(4, 15),
    tells: "resets that come",
    filter: |_| Some(String::new()),
    decode: |format, record| {
        Some(What::ResetReceived {
            ends: ends(format, record),
            socket: socket(format, "skaddr", record)?,
        })
    },
};

/// TCP sockets that end: which cookie an address in the kernel was.
pub const SOCKET_DESTROYED: Tracepoint = Tracepoint {
    system: "tcp",
    name: "tcp_destroy_sock",
    since: Release::new(4, 16),
    tells: "whose socket an event was about",
    filter: |format| format.field("sock_cookie").map(|_| String::new()),
    decode: |format, record| {
        Some(What::SocketDestroyed {
            cookie: socket(format, "sock_cookie", record)?,
            socket: socket(format, "skaddr", record)?,
        })
    },
};

/// Segments that are sent again.
pub const RETRANSMITTED: Tracepoint = Tracepoint {
    system: "tcp",
    name: "tcp_retransmit_skb",
    since: Release::new(4, 15),
    tells: "segments that are sent again",
    filter: |_| Some(String::new()),
    decode: |format, record| {
        Some(What::Retransmitted {
            state: state(format, "state", record),
            ends: ends(format, record),
            socket: socket(format, "skaddr", record)?,
        })
    },
};

/// States of TCP sockets.
pub const STATE_CHANGED: Tracepoint = Tracepoint {
    system: "sock",
    name: "inet_sock_set_state",
    since: Release::new(4, 16),
    tells: "states of TCP sockets",
    filter: |format| format.field("protocol").map(|_| "protocol == 6".to_owned()),
    decode: |format, record| {
        Some(What::StateChanged {
            from: state(format, "oldstate", record)?,
            to: state(format, "newstate", record)?,
            ends: ends(format, record),
            socket: socket(format, "skaddr", record)?,
        })
    },
};

/// Memory that is refused at the limit of a protocol.
pub const BUFFER_LIMIT: Tracepoint = Tracepoint {
    system: "sock",
    name: "sock_exceed_buf_limit",
    since: Release::new(3, 1),
    tells: "memory that is refused at the limit of a protocol",
    filter: |_| Some(String::new()),
    decode: |format, record| {
        let name = format.field("name")?.bytes(record)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(What::BufferLimit {
            protocol: String::from_utf8_lossy(name).into_owned(),
            allocated: format.number("allocated", record)?,
            // Before 4.20 the record does not say; 0 is SK_MEM_SEND.
            receives: format.number("kind", record).unwrap_or(1) != 0,
        })
    },
};

/// Receive buffers that are full.
pub const RECEIVE_QUEUE_FULL: Tracepoint = Tracepoint {
    system: "sock",
    name: "sock_rcvqueue_full",
    since: Release::new(3, 1),
    tells: "receive buffers that are full",
    filter: |_| Some(String::new()),
    decode: |format, record| {
        format.field("rmem_alloc")?.number(record)?;
        Some(What::ReceiveQueueFull)
    },
};

/// The reasons for a dropped packet that a limit of the host or a fault stands behind.
/// Most packets that the kernel frees are none of these.
pub const DROP_REASONS: &[&str] = &[
    "CPU_BACKLOG",
    "FULL_RING",
    "NEIGH_FAILED",
    "NEIGH_QUEUEFULL",
    "NETFILTER_DROP",
    "NOMEM",
    "PFMEMALLOC",
    "PROTO_MEM",
    "SOCKET_BACKLOG",
    "SOCKET_RCVBUFF",
    "TCP_INVALID_ACK_SEQUENCE",
    "TCP_INVALID_SEQUENCE",
    "TCP_LISTEN_OVERFLOW",
    "TCP_MINTTL",
    "TCP_OFO_DROP",
    "TCP_OFO_QUEUE_PRUNE",
    "TCP_OVERWINDOW",
    "TCP_RFC7323_PAWS",
    "TCP_RFC7323_TW_PAWS",
    "TCP_ZEROWINDOW",
];

/// Packets that are dropped for one of [`DROP_REASONS`].
pub const DROPPED: Tracepoint = Tracepoint {
    system: "skb",
    name: "kfree_skb",
    since: Release::new(5, 17),
    tells: "packets that are dropped, and why",
    filter: |format| any_of(format, DROP_REASONS),
    decode: |format, record| {
        Some(What::Dropped {
            reason: name(format, "reason", record)?,
            socket: socket(format, "rx_sk", record).unwrap_or(0),
        })
    },
};

/// The reasons for a reset, by the kernel's names (include/net/rstreason.h), with the
/// release from which on it is sure to give them.
pub const RESET_REASONS: &[(&str, Release)] = &[
    ("ERROR", Release::new(6, 12)),
    ("INVALID_SYN", Release::new(6, 12)),
    ("NOT_SPECIFIED", Release::new(6, 12)),
    ("NO_SOCKET", Release::new(6, 12)),
    ("TCP_ABORT_ON_CLOSE", Release::new(6, 12)),
    ("TCP_ABORT_ON_DATA", Release::new(6, 12)),
    ("TCP_ABORT_ON_LINGER", Release::new(6, 12)),
    ("TCP_ABORT_ON_MEMORY", Release::new(6, 12)),
    ("TCP_ACK_UNSENT_DATA", Release::new(6, 12)),
    ("TCP_DISCONNECT_WITH_DATA", Release::new(6, 12)),
    ("TCP_FLAGS", Release::new(6, 12)),
    ("TCP_INVALID_ACK_SEQUENCE", Release::new(6, 12)),
    ("TCP_KEEPALIVE_TIMEOUT", Release::new(6, 12)),
    ("TCP_OLD_ACK", Release::new(6, 12)),
    ("TCP_RFC7323_PAWS", Release::new(6, 12)),
    ("TCP_STATE", Release::new(6, 12)),
    ("TCP_TIMEWAIT_SOCKET", Release::new(6, 12)),
    ("TCP_TOO_OLD_ACK", Release::new(6, 12)),
];

/// From which release on the kernel is sure to give one of [`DROP_REASONS`].
pub fn drop_reason_since(reason: &str) -> Release {
    match reason {
        "TCP_INVALID_ACK_SEQUENCE" | "TCP_MINTTL" => Release::new(6, 12),
        "PFMEMALLOC" | "TCP_LISTEN_OVERFLOW" | "TCP_RFC7323_TW_PAWS" => Release::new(6, 18),
        _ => Release::new(6, 1),
    }
}

/// The reasons that a limit of this host stands behind: no peer and no filter makes many of them while the host is well.
pub const LIMIT_REASONS: &[&str] = &[
    "CPU_BACKLOG",
    "FULL_RING",
    "NEIGH_QUEUEFULL",
    "NOMEM",
    "PFMEMALLOC",
    "PROTO_MEM",
    "QDISC_OVERLIMIT",
    "SOCKET_BACKLOG",
    "SOCKET_RCVBUFF",
    "TCP_LISTEN_OVERFLOW",
    "TCP_OFO_DROP",
    "TCP_OFO_QUEUE_PRUNE",
];

/// Packets that are dropped for one of [`LIMIT_REASONS`].
pub const DROPPED_AT_LIMITS: Tracepoint = Tracepoint {
    filter: |format| any_of(format, LIMIT_REASONS),
    ..DROPPED
};

/// The filter for these reasons; `None` where the kernel has none of them.
fn any_of(format: &Format, reasons: &[&str]) -> Option<String> {
    let values = format.values_of("reason", reasons);
    let one = |value: &i64| format!("reason == {value}");
    let filter: Vec<_> = values.iter().map(one).collect();
    (!filter.is_empty()).then(|| filter.join(" || "))
}

/// A tracepoint of which the kernel gave the format.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The tracepoint.
    pub tracepoint: Tracepoint,
    /// Its format.
    pub format: Format,
    /// The filter that the kernel applies; empty where it passes all.
    pub filter: String,
}

impl Layout {
    /// By the text of the `format` file; `None` where the tracepoint is of no use on
    /// this kernel.
    pub fn new(tracepoint: Tracepoint, text: &str) -> Option<Self> {
        let format = Format::parse(text)?;
        let filter = (tracepoint.filter)(&format)?;
        Some(Self {
            tracepoint,
            format,
            filter,
        })
    }

    /// Whether the reason of what happened is among the fields.
    pub fn has_reason(&self) -> bool {
        self.format.field("reason").is_some()
    }

    /// What a record of the tracepoint says; `None` where it is cut off.
    pub fn decode(&self, record: &[u8]) -> Option<What> {
        (self.tracepoint.decode)(&self.format, record)
    }

    /// Whether the kernel did it on behalf of the process that ran, and not on an
    /// interrupt: TRACE_FLAG_HARDIRQ, SOFTIRQ and NMI (linux/trace_events.h).
    pub fn is_of_process(&self, record: &[u8]) -> bool {
        const ON_AN_INTERRUPT: i64 = 0x08 | 0x10 | 0x40;
        let flags = self.format.number("common_flags", record);
        flags.is_some_and(|flags| flags & ON_AN_INTERRUPT == 0)
    }
}

fn socket(format: &Format, field: &str, record: &[u8]) -> Option<u64> {
    format.number(field, record).map(i64::cast_unsigned)
}

fn state(format: &Format, field: &str, record: &[u8]) -> Option<TcpState> {
    TcpState::from_number(u8::try_from(format.number(field, record)?).ok()?)
}

fn name(format: &Format, field: &str, record: &[u8]) -> Option<Arc<str>> {
    Some(format.name_of(field, format.number(field, record)?))
}

/// The connection of a record. Some tracepoints have `struct sockaddr_in6` for each end,
/// others ports and addresses apart.
fn ends(format: &Format, record: &[u8]) -> Option<Ends> {
    let bytes = |name| format.field(name)?.bytes(record);
    if let (Some(local), Some(peer)) = (bytes("saddr"), bytes("daddr"))
        && local.len() >= SOCKADDR_IN6_LEN
    {
        return Some(Ends {
            local: socket_address(local)?,
            peer: socket_address(peer)?,
        });
    }
    let end = |port, v4, v6| {
        let port = u16::try_from(format.number(port, record)?).ok()?;
        // Without the family (before 5.17) the longer address is right for both.
        let is_v4 = format.number("family", record) == Some(AF_INET.into());
        let ip = match (is_v4, bytes(v6).map(<[u8; 16]>::try_from)) {
            (false, Some(Ok(address))) => IpAddr::V6(Ipv6Addr::from(address)).to_canonical(),
            _ => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes(v4)?).ok()?)),
        };
        Some(SocketAddr::new(ip, port))
    };
    Some(Ends {
        local: end("sport", "saddr", "saddr_v6")?,
        peer: end("dport", "daddr", "daddr_v6")?,
    })
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCKADDR_IN6_LEN: usize = 28;

/// `struct sockaddr_in` or `struct sockaddr_in6`.
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let ip = match family {
        AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?).into(),
        AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests;
