//! The programs that hold sockets, for rules that advise programs.

use std::collections::BTreeMap;

use super::Outcome;
use advisor_facts::sock_diag::TcpSocket;
use advisor_facts::{Facts, SocketSource};

/// Sockets of one program.
pub(super) struct Program<'a> {
    /// The name for people: `nginx (1234)`, else a description by its ports.
    pub(super) name: String,
    /// The sockets, the largest first.
    pub(super) sockets: Vec<&'a TcpSocket>,
    /// The memory that the kernel holds for them, in bytes.
    pub(super) bytes: u64,
}

/// The programs that hold the sockets for which `wanted` is true, in any network
/// namespace. The one with the most memory comes first.
pub(super) fn by_program(facts: &Facts, wanted: impl Fn(&TcpSocket) -> bool) -> Vec<Program<'_>> {
    let mut programs: BTreeMap<Option<u32>, Vec<&TcpSocket>> = BTreeMap::new();
    for (_, socket) in facts.now.every_socket() {
        if !wanted(socket) {
            continue;
        }
        let holder = facts.processes.holders_of(socket.inode).first();
        let process = holder.map(|holder| holder.process);
        programs.entry(process).or_default().push(socket);
    }
    let mut programs: Vec<_> = programs
        .into_values()
        .map(|mut sockets| {
            sockets.sort_by_key(|socket| std::cmp::Reverse(socket.held_bytes()));
            Program {
                name: name(facts, &sockets),
                bytes: sockets.iter().map(|socket| socket.held_bytes()).sum(),
                sockets,
            }
        })
        .collect();
    programs.sort_by_key(|program| std::cmp::Reverse(program.bytes));
    programs
}

/// The name of the program that holds these sockets.
pub(super) fn name(facts: &Facts, sockets: &[&TcpSocket]) -> String {
    let Some(first) = sockets.first() else {
        return "no program".to_owned();
    };
    if let Some(holder) = facts.processes.holders_of(first.inode).first() {
        return process_name(facts, holder.process);
    }
    let port = first.local.port();
    if sockets.iter().all(|socket| socket.local.port() == port) {
        return format!("the program on local port {port}");
    }
    let peer = first.peer.port();
    if sockets.iter().all(|socket| socket.peer.port() == peer) {
        return format!("the program connected to port {peer}");
    }
    "the programs that hold these connections".to_owned()
}

/// The answer of a rule that needs tcp_info, if there is none: /proc/net/tcp has too
/// little of it.
pub(super) fn without_tcp_info(facts: &Facts) -> Option<Outcome> {
    let has_it =
        matches!(&facts.now.sockets, Some(sockets) if sockets.source == SocketSource::SockDiag);
    (!has_it)
        .then(|| Outcome::NotEvaluated("needs tcp_info, which only sock_diag gives".to_owned()))
}

/// The name of a process for people, by its index in `Processes::all`.
pub(super) fn process_name(facts: &Facts, place: u32) -> String {
    let Some(process) = facts.processes.all.get(place as usize) else {
        return "an unknown process".to_owned();
    };
    let container = process
        .container
        .as_ref()
        .map_or_else(String::new, |container| format!(", container {container}"));
    format!("{} ({}{container})", process.name, process.pid)
}

/// The memory from which sockets are worth a change, in bytes: a sixteenth of the pressure
/// mark of tcp_mem, or 64 MiB if that cannot be read.
pub(super) fn worth_bytes(facts: &Facts) -> u64 {
    facts.settings.tcp_mem.map_or(64 << 20, |[_, pressure, _]| {
        pressure.saturating_mul(facts.page_bytes) / 16
    })
}
