//! The network namespaces of a host, and what is read in each.
//!
//! A namespace is found by a process that is in it, by a mount that keeps it
//! (`ip netns`, container runtimes), or by a descriptor that a process has open,
//! where descriptors are read. One that only its sockets keep is not found.

use std::fs::File;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::processes::{OpenNamespace, Process, Processes, bracketed, has_vanished, pids};
use crate::read::{NAMESPACES, Unseen, read_text};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::sockets::SocketTable;
use crate::sockstat::Sockstat;

/// A network namespace other than the reader's.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Its inode, by which `lsns -t net` names it.
    pub inode: u32,
    /// Its name by the mount that keeps it, as `ip netns` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A process that is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Where neither a process is in it nor a mount keeps it: a process that has
    /// it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_by: Option<u32>,
    /// Its /proc/net/sockstat and sockstat6.
    pub sockstat: Sockstat,
    /// Its /proc/net/netstat and /proc/net/snmp.
    pub counters: Counters,
    /// Its TCP sockets.
    pub sockets: Option<Shared<SocketTable>>,
    /// Its settings; those of the initial namespace alone are `None`.
    pub settings: Settings,
}

impl Namespace {
    /// What to call it: its name, or its inode as `lsns` shows it.
    pub fn label(&self) -> String {
        self.place().label()
    }

    /// What to call it, and how to get into it.
    pub fn place(&self) -> Place {
        Place {
            inode: self.inode,
            name: self.name.clone(),
            pid: self.pid,
            program: None,
            kept_by: self.kept_by,
        }
    }
}

/// What to call a network namespace, and how to get into it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// Its inode.
    pub inode: u32,
    /// Its name by the mount that keeps it.
    pub name: Option<String>,
    /// A process that is in it.
    pub pid: Option<u32>,
    /// The names of that process, by which people know it, where it holds sockets:
    /// `java, container app`.
    pub program: Option<String>,
    /// A process that has it open.
    pub kept_by: Option<u32>,
}

impl Place {
    /// With the names of its process.
    #[must_use]
    pub fn named_by(mut self, processes: &Processes) -> Self {
        let process = processes.all.iter().find(|one| Some(one.pid) == self.pid);
        self.program = process.map(Process::names);
        self
    }

    /// Its label beside a text, where the names of its process need not stand twice.
    pub fn label_beside(&self, text: &str) -> String {
        let is_named = self.pid.is_some_and(|pid| {
            [")", ","]
                .iter()
                .any(|end| text.contains(&format!("({pid}{end}")))
        });
        let mut place = self.clone();
        place.program = place.program.filter(|_| !is_named);
        place.label()
    }

    /// Its name, or its inode as `lsns` shows it.
    pub fn label(&self) -> String {
        match (&self.name, self.pid) {
            (Some(name), _) => format!("network namespace {name}"),
            (None, Some(pid)) => {
                let names = self.program.as_ref();
                let names = names.map_or_else(String::new, |names| format!(", {names}"));
                format!("network namespace {} (of process {pid}{names})", self.inode)
            }
            (None, None) => match self.kept_by {
                Some(pid) => format!("network namespace {} (kept by process {pid})", self.inode),
                None => format!("network namespace {}", self.inode),
            },
        }
    }

    /// A command, to be run in it.
    pub fn command(&self, command: &str) -> String {
        match (self.pid, &self.name) {
            (Some(pid), _) => format!("nsenter -t {pid} -n {command}"),
            (None, Some(name)) => format!("ip netns exec {name} {command}"),
            (None, None) => format!("(in {}) {command}", self.label()),
        }
    }
}

/// A namespace that was found, and the file that leads into it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Door {
    /// Its inode.
    pub inode: u32,
    /// Its name, where a mount keeps it.
    pub name: Option<String>,
    /// A process in it.
    pub pid: Option<u32>,
    /// A process that has it open, where neither of the two is known.
    pub kept_by: Option<u32>,
    /// What to open.
    pub path: PathBuf,
}

/// The network namespaces other than the reader's. Processes that may not be
/// looked at are noted in `unseen`.
pub fn doors(root: &Path, unseen: &mut Vec<Unseen>) -> Vec<Door> {
    let own = own(root);
    let mut doors: Vec<Door> = Vec::new();
    let mut add = |door: Door| {
        if Some(door.inode) == own {
            return;
        }
        match doors.iter_mut().find(|known| known.inode == door.inode) {
            Some(known) => {
                known.pid = known.pid.or(door.pid);
                known.name = known.name.take().or(door.name);
            }
            None => doors.push(door),
        }
    };
    let mut denied = 0_usize;
    for pid in pids(root) {
        let path = root.join(format!("proc/{pid}/ns/net"));
        match inode_of(&path) {
            Ok(Some(inode)) => add(Door {
                inode,
                name: None,
                pid: Some(pid),
                kept_by: None,
                path,
            }),
            Ok(None) => {}
            Err(error) if has_vanished(&error) => {}
            Err(_) => denied += 1,
        }
    }
    let mounts = root.join("proc/self/mountinfo");
    let mounts = read_text(&mounts).ok().flatten().unwrap_or_default();
    for (inode, path) in mounts.lines().filter_map(mount) {
        let name = path.rsplit('/').next().map(str::to_owned);
        add(Door {
            inode,
            name,
            pid: None,
            kept_by: None,
            path: root.join(path.trim_start_matches('/')),
        });
    }
    if denied > 0 {
        unseen.push(Unseen {
            what: match denied {
                1 => format!("{NAMESPACES} of 1 process"),
                count => format!("{NAMESPACES}s of {count} processes"),
            },
            why: format!(
                "{}; no rule looked at those that no other process is in",
                io::Error::from(nix::errno::Errno::EACCES)
            ),
        });
    }
    doors.sort_by_key(|door| door.inode);
    doors
}

/// The namespaces to which nothing but one of these descriptors leads: not the
/// reader's, and none of [`doors`].
pub fn hidden_doors(root: &Path, open: &[OpenNamespace]) -> Vec<Door> {
    let own = own(root);
    let mut hidden: Vec<Door> = open
        .iter()
        .filter(|open| Some(open.inode) != own)
        .map(|open| Door {
            inode: open.inode,
            name: None,
            pid: None,
            kept_by: Some(open.pid),
            path: root.join(format!("proc/{}/fd/{}", open.pid, open.descriptor)),
        })
        .collect();
    hidden.sort_by_key(|door| (door.inode, door.kept_by));
    hidden.dedup_by_key(|door| door.inode);
    if !hidden.is_empty() {
        let known = doors(root, &mut Vec::new());
        hidden.retain(|door| known.iter().all(|known| known.inode != door.inode));
    }
    hidden
}

/// The inode of the network namespace of a process; `None` where it has ended or may
/// not be looked into.
pub fn of_process(pid: u32) -> Option<u32> {
    inode_of(Path::new(&format!("/proc/{pid}/ns/net"))).ok()?
}

/// The inode of the reader's namespace.
pub fn own(root: &Path) -> Option<u32> {
    inode_of(&root.join("proc/self/ns/net")).ok().flatten()
}

/// The inode of the namespace that a link of /proc leads to.
fn inode_of(path: &Path) -> io::Result<Option<u32>> {
    let target = std::fs::read_link(path)?;
    Ok(bracketed(target.as_os_str(), b"net:["))
}

/// A line of mountinfo that keeps a network namespace: the namespace's inode
/// and the mount's path. The kernel writes white space in it as `\040`.
fn mount(line: &str) -> Option<(u32, String)> {
    let mut words = line.split(' ');
    let root = words.nth(3)?;
    let path = words.next()?;
    let inode = bracketed(root.as_ref(), b"net:[")?;
    let mut plain = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())?;
        plain.push(char::from(code));
        rest = &after[3..];
    }
    plain.push_str(rest);
    Some((inode, plain))
}

/// Why a namespace could not be looked into.
#[derive(Debug)]
pub enum Closed {
    /// It has vanished.
    Vanished,
    /// The kernel refused.
    Refused(io::Error),
}

/// Looks into each namespace by `look`, on a thread of its own: setns() moves
/// only the thread that calls it, and that one ends here. The process stays
/// where it is.
pub fn visit<T: Send>(
    doors: &[Door],
    look: impl Fn(&Door) -> T + Sync,
) -> io::Result<Vec<Result<T, Closed>>> {
    if doors.is_empty() {
        return Ok(Vec::new());
    }
    thread::scope(|scope| {
        let visitor = thread::Builder::new().spawn_scoped(scope, || {
            doors
                .iter()
                .map(|door| {
                    enter(door).map_err(|error| {
                        if has_vanished(&error) {
                            Closed::Vanished
                        } else {
                            Closed::Refused(error)
                        }
                    })?;
                    Ok(look(door))
                })
                .collect()
        })?;
        Ok(visitor.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Moves the calling thread into a namespace.
#[expect(
    clippy::disallowed_methods,
    reason = "only the thread of `visit` comes here, which ends with the visit"
)]
fn enter(door: &Door) -> io::Result<()> {
    let file = File::open(&door.path)?;
    // CLONE_NEWNET: a descriptor of any other kind of namespace is refused.
    nix::sched::setns(&file, CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_a_namespace_is_told_from_others() {
        let line = "97 24 0:4 net:[4026532177] /run/netns/a\\040b rw shared:5 - nsfs nsfs rw";
        assert_eq!(
            mount(line),
            Some((4_026_532_177, "/run/netns/a b".to_owned()))
        );
        for line in [
            "",
            "97 24 0:4 / / rw - ext4 /dev/vda rw",
            "97 24 0:4 mnt:[4026531841] /run/x rw - nsfs nsfs rw",
            "97 24 0:4 net:[1] /run/\\04 rw - nsfs nsfs rw",
            "97 24 0:4 net:[1] /run/\\é rw - nsfs nsfs rw",
        ] {
            assert_eq!(mount(line), None, "{line}");
        }
    }

    #[test]
    fn the_own_namespace_is_not_among_the_others() {
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let own = bracketed(own.as_os_str(), b"net:[").unwrap();
        let doors = doors(Path::new("/"), &mut Vec::new());
        assert!(doors.iter().all(|door| door.inode != own));
    }

    #[test]
    fn a_namespace_that_vanished_is_told_from_one_that_is_closed() {
        let door = |path: &str| Door {
            inode: 1,
            name: None,
            pid: None,
            kept_by: None,
            path: path.into(),
        };
        let doors = [door("/proc/0/ns/net"), door("/proc/self/ns/uts")];
        let seen = visit(&doors, |_| ()).unwrap();
        assert!(matches!(seen[0], Err(Closed::Vanished)));
        assert!(
            matches!(&seen[1], Err(Closed::Refused(_))),
            "not a network namespace"
        );
    }
}
