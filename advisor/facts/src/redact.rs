//! Facts without what is of one host alone: its name, addresses, command lines,
//! scripts, the names of units, containers, cgroups and namespaces.
//!
//! Each address becomes another one of its kind, everywhere the same, so that
//! the rules find the same.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::facts::Facts;
use crate::happened::{Held, Occurrence};
use crate::look::Look;
use crate::processes::Process;
use crate::sock_diag::TcpSocket;

/// Takes out of the facts what is of this host alone.
pub fn redact(facts: &mut Facts) {
    Redactor::default().facts(facts);
}

/// Takes out of facts and of what happened what is of one host alone. What it met before
/// gets the same name again.
#[derive(Default)]
pub struct Redactor {
    addresses: Names<IpAddr>,
    cgroups: Names<String>,
    containers: Names<String>,
}

impl Redactor {
    /// Facts.
    pub fn facts(&mut self, facts: &mut Facts) {
        facts.hostname = None;
        let looks = std::iter::once(&mut facts.now).chain(&mut facts.earlier);
        for look in looks {
            redact_look(look, &mut self.addresses);
        }
        for process in &mut facts.processes.all {
            self.process(process);
        }
        let v2 = facts.cgroups.values_mut().map(|cgroup| &mut cgroup.path);
        let v1 = facts.cgroups_v1.iter_mut().map(|cgroup| &mut cgroup.path);
        for path in v2.chain(v1) {
            *path = format!("/cgroup-{}", self.cgroups.number(path.clone()));
        }
        if let Some(happened) = &mut facts.happened {
            for group in &mut happened.groups {
                self.occurrence(&mut group.all);
            }
            for held in happened.peaks.iter_mut().flat_map(|peak| &mut peak.holders) {
                self.held(held);
            }
        }
    }

    /// Something that happened.
    pub fn occurrence(&mut self, one: &mut Occurrence) {
        if let Some(ends) = &mut one.ends {
            ends.local = redacted(ends.local, &mut self.addresses);
            ends.peer = redacted(ends.peer, &mut self.addresses);
        }
        if let Some(process) = &mut one.process {
            self.process(process);
        }
    }

    /// Who held something.
    pub fn held(&mut self, held: &mut Held) {
        if let Some(process) = &mut held.process {
            self.process(process);
        }
    }

    fn process(&mut self, process: &mut Process) {
        process.command = None;
        if process.name_tells_script() {
            let interpreter = process.program.clone();
            process.name = interpreter.unwrap_or_else(|| "script".to_owned());
        }
        process.script = None;
        if let Some(cgroup) = &mut process.cgroup {
            *cgroup = format!("/cgroup-{}", self.cgroups.number(cgroup.clone()));
        }
        if let Some(container) = &mut process.container {
            *container = format!("container-{}", self.containers.number(container.clone()));
        }
    }
}

/// Leaves out command lines: they may carry passwords.
pub fn leave_out_commands(facts: &mut Facts) {
    for process in &mut facts.processes.all {
        process.command = None;
    }
}

fn redact_look(look: &mut Look, addresses: &mut Names<IpAddr>) {
    for namespace in &mut look.elsewhere {
        namespace.name = None;
    }
    for socket in look.every_socket_mut() {
        redact_socket(socket, addresses);
    }
}

fn redact_socket(socket: &mut TcpSocket, addresses: &mut Names<IpAddr>) {
    socket.local = redacted(socket.local, addresses);
    socket.peer = redacted(socket.peer, addresses);
}

/// Another address of the same kind with the same port.
fn redacted(mut address: SocketAddr, addresses: &mut Names<IpAddr>) -> SocketAddr {
    let ip = address.ip();
    address.set_ip(match ip {
        _ if ip.is_unspecified() || ip.is_loopback() => ip,
        IpAddr::V4(v4) => redacted_v4(v4, addresses).into(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) if v4.is_loopback() => ip,
            Some(v4) => redacted_v4(v4, addresses).to_ipv6_mapped().into(),
            None => {
                let number = addresses.number(ip);
                let [a, b] = [0xffff & (number >> 16), 0xffff & number]
                    .map(|half| u16::try_from(half).unwrap_or(0));
                if v6.is_unicast_link_local() {
                    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, a, b).into()
                } else {
                    // RFC 3849: for documentation.
                    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, a, b).into()
                }
            }
        },
    });
    address
}

/// Out of 198.18.0.0/15, which is for benchmarks (RFC 2544), and where that is
/// not enough out of 240.0.0.0/4, which nobody has.
fn redacted_v4(address: Ipv4Addr, addresses: &mut Names<IpAddr>) -> Ipv4Addr {
    let number = addresses.number(address.into());
    let base = if number < 1 << 17 {
        Ipv4Addr::new(198, 18, 0, 0)
    } else {
        Ipv4Addr::new(240, 0, 0, 0)
    };
    Ipv4Addr::from_bits(base.to_bits() + number % (1 << 28))
}

/// Numbers in place of names, from 1, in the order in which they come.
struct Names<T>(HashMap<T, u32>);

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + std::hash::Hash> Names<T> {
    fn number(&mut self, name: T) -> u32 {
        let next = u32::try_from(self.0.len() + 1).unwrap_or(u32::MAX);
        *self.0.entry(name).or_insert(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;
    use crate::processes::Process;
    use crate::root::Root;

    #[test]
    fn no_address_and_no_name_is_left() {
        let host = crate::recorded::directory("close-wait-left");
        let mut facts = Facts::read(&Root::Recorded(host.path().to_owned())).unwrap();
        facts.processes.all.push(Process {
            pid: 7,
            name: "secret-shop.py".to_owned(),
            program: Some("python3.11".to_owned()),
            script: Some("secret-shop.py".to_owned()),
            command: Some("python3 secret-shop.py --token=secret".to_owned()),
            cgroup: Some("/system.slice/secret.service".to_owned()),
            container: Some("docker:secret".to_owned()),
            ..Process::default()
        });
        facts.hostname = Some("secret1".to_owned());
        let before = facts.clone();
        redact(&mut facts);
        let mut text = Vec::new();
        file::write(&mut text, &facts).unwrap();
        let text = String::from_utf8(text).unwrap();
        for private in ["192.0.2.", "198.51.100.", "2001:db8::10\"", "secret"] {
            assert!(!text.contains(private), "{private}");
        }
        let process = facts.processes.all.last().unwrap();
        assert_eq!(process.to_string(), "python3.11 (7, container container-1)");
        let sockets = |facts: &Facts| -> Vec<TcpSocket> {
            facts
                .now
                .every_socket()
                .map(|(_, socket)| socket.clone())
                .collect()
        };
        for (one, other) in sockets(&before).iter().zip(sockets(&facts)) {
            assert_eq!(one.local.port(), other.local.port());
            assert_eq!(one.peer.is_ipv4(), other.peer.is_ipv4());
            assert_eq!(one.cookie, other.cookie);
        }
        // One address is one, and two are two.
        let distinct = |facts: &Facts| {
            let addresses: std::collections::BTreeSet<_> = sockets(facts)
                .iter()
                .map(|socket| socket.peer.ip())
                .collect();
            addresses.len()
        };
        assert_eq!(distinct(&before), distinct(&facts));
    }

    #[test]
    fn an_address_stays_of_its_kind() {
        let mut addresses = Names::default();
        for (address, other) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("10.1.2.3:80", "198.18.0.1:80"),
            ("[::ffff:10.1.2.3]:5", "[::ffff:198.18.0.1]:5"),
            ("[fe80::77]:5", "[fe80::2]:5"),
            ("[2a00::77]:5", "[2001:db8::3]:5"),
            ("[::1]:5", "[::1]:5"),
        ] {
            let redacted = redacted(address.parse().unwrap(), &mut addresses);
            assert_eq!(redacted.to_string(), other);
        }
    }
}
