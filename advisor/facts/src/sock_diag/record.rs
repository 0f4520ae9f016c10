//! A socket as it stands in a file of facts.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Family, SocketMemory, SocketOptions, TcpInfo, TcpSocket, TcpState, Timer};

/// A socket in a file of facts: the id is taken apart, so that an address stands
/// in one place only.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SocketRecord {
    family: Family,
    state: String,
    local: SocketAddr,
    peer: SocketAddr,
    #[serde(default, skip_serializing_if = "is_zero")]
    interface: u32,
    cookie: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    timer: u8,
    #[serde(default, skip_serializing_if = "is_zero")]
    retransmits: u8,
    #[serde(default, skip_serializing_if = "is_zero")]
    timer_ms: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    recv_queue_bytes: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    send_queue_bytes: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    uid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    inode: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cgroup: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<SocketMemory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<SocketOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    info: Option<TcpInfo>,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

impl From<TcpSocket> for SocketRecord {
    fn from(socket: TcpSocket) -> Self {
        Self {
            family: socket.family,
            state: socket.state.as_str().to_owned(),
            local: socket.local,
            peer: socket.peer,
            interface: socket.interface,
            cookie: u64::from_ne_bytes(socket.cookie),
            timer: socket.timer.number(),
            retransmits: socket.retransmits,
            timer_ms: socket.timer_ms,
            recv_queue_bytes: socket.recv_queue_bytes,
            send_queue_bytes: socket.send_queue_bytes,
            uid: socket.uid,
            inode: socket.inode,
            cgroup: socket.cgroup,
            memory: socket.memory,
            options: socket.options,
            info: socket.info,
        }
    }
}

impl TryFrom<SocketRecord> for TcpSocket {
    type Error = String;

    fn try_from(record: SocketRecord) -> Result<Self, String> {
        let state = TcpState::from_name(&record.state)
            .ok_or_else(|| format!("{:?} is no state of TCP", record.state))?;
        let is_v4 = record.family == Family::Inet;
        if record.local.is_ipv4() != is_v4 || record.peer.is_ipv4() != is_v4 {
            return Err(format!(
                "{} and {} are not of one family with the socket",
                record.local, record.peer
            ));
        }
        Ok(Self {
            family: record.family,
            state,
            local: record.local,
            peer: record.peer,
            timer: Timer::from_number(record.timer),
            retransmits: record.retransmits,
            timer_ms: record.timer_ms,
            recv_queue_bytes: record.recv_queue_bytes,
            send_queue_bytes: record.send_queue_bytes,
            uid: record.uid,
            inode: record.inode,
            interface: record.interface,
            cookie: record.cookie.to_ne_bytes(),
            info: record.info,
            memory: record.memory,
            cgroup: record.cgroup,
            options: record.options,
        })
    }
}
