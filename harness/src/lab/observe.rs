//! What is observed of a lab's sockets and gauges.

use std::net::IpAddr;

use advisor_facts::sock_diag::{TcpSocket, TcpState, Timer};
use advisor_report::Value;

use super::address::is_of_host;
use super::{Lab, LabError};
use crate::observation::{Gauge, Observations, SOCKET_FIELDS, SocketSet};

/// A gauge as it is now.
pub fn gauge(gauge: &Gauge, lab: &Lab) -> Result<Option<Value>, LabError> {
    let host = gauge.host.as_deref();
    let namespace = host.and_then(|host| lab.namespace(host));
    let seen = namespace.unwrap_or(lab.router()).sockstat()?;
    Ok(seen.get(&gauge.name).map(Value::Integer))
}

/// `HOST.sockets.STATE` and `HOST.sockets.STATE.FIELD`, the highest of each
/// field, and the same of those that lead to one host as `HOST.peers.HOST.STATE`. Of a
/// sample the owner is `SAMPLE.HOST`.
pub fn observe_sockets(
    owner: &str,
    sockets: &[TcpSocket],
    lab: &Lab,
    observations: &mut Observations,
) {
    let named = |address: IpAddr| {
        let mut hosts = (1..).zip(lab.hosts());
        hosts.find(|(number, _)| is_of_host(address, *number))
    };
    let mut add = |name: String, raise: &dyn Fn(i64) -> i64| {
        let value = observations.entry(name).or_insert(Value::Integer(0));
        if let Value::Integer(number) = value {
            *number = raise(*number);
        }
    };
    for socket in sockets {
        let mut set = SocketSet {
            host: owner.to_owned(),
            peer: None,
            state: socket.state.to_string(),
            field: None,
        };
        let peer = named(socket.peer.ip()).map(|(_, peer)| Some(peer.host.clone()));
        for peer in [None].into_iter().chain(peer) {
            set.peer = peer;
            set.field = None;
            add(set.to_string(), &|count| count + 1);
            for (field, value) in socket_fields(socket) {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                set.field = Some(field.to_owned());
                add(set.to_string(), &|highest| highest.max(value));
            }
        }
    }
}

/// The fields of a socket that are observed.
fn socket_fields(socket: &TcpSocket) -> impl Iterator<Item = (&'static str, u64)> {
    let timer = match socket.timer {
        Timer::Off => 0,
        Timer::Retransmit => 1,
        Timer::Keepalive => 2,
        Timer::TimeWait => 3,
        Timer::Probe => 4,
        Timer::Other(number) => number,
    };
    [
        ("recv_queue_bytes", u64::from(socket.recv_queue_bytes)),
        ("send_queue_bytes", u64::from(socket.send_queue_bytes)),
        ("timer", u64::from(timer)),
    ]
    .into_iter()
    .chain(socket.memory.iter().flat_map(|memory| {
        [
            ("wmem_queued", memory.send_queued_bytes.into()),
            ("sndbuf", memory.send_buffer_bytes.into()),
            ("rmem_alloc", memory.recv_alloc_bytes.into()),
            ("rcvbuf", memory.recv_buffer_bytes.into()),
        ]
    }))
    .chain(tcp_info_fields(socket))
}

/// A listener's tcp_info says nothing of a connection.
pub fn tcp_info_fields(socket: &TcpSocket) -> impl Iterator<Item = (&'static str, u64)> {
    socket
        .info
        .iter()
        .filter(|_| socket.state != TcpState::Listen)
        .flat_map(advisor_facts::tcp_info::TcpInfo::fields)
        .filter(|(name, _)| SOCKET_FIELDS.contains(name))
        .collect::<Vec<_>>()
        .into_iter()
}
