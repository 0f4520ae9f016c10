//! What changes on a host, at one moment, in every network namespace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::namespaces::{self, Closed, Door, Namespace};
use crate::per_cpu;
use crate::processes::{self, Inodes, OpenNamespace, Processes};
use crate::read::{FactError, SOCKETS, Unseen, check, read_required, read_text};
use crate::root::{Looking, Root};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::sock_diag::{SocketOptions, TcpSocket};
use crate::sockets::{Keep, SocketTable};
use crate::sockstat::Sockstat;

/// What changes on a host, at one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Time since the kernel was started.
    pub uptime: Duration,
    /// /proc/net/sockstat and sockstat6.
    pub sockstat: Sockstat,
    /// /proc/net/netstat and /proc/net/snmp, connection tracking's counters, and the
    /// whole kernel's of /proc/net/softnet_stat.
    pub counters: Counters,
    /// The TCP sockets of the network namespace; `None` where they could not
    /// be seen. Of an earlier look that was taken of a live host, only those
    /// that rules compare: CLOSE_WAIT, FIN_WAIT2, LISTEN, orphans and what waits
    /// for accept().
    pub sockets: Option<Shared<SocketTable>>,
    /// The other network namespaces of the host.
    pub elsewhere: Vec<Namespace>,
}

impl Look {
    /// Reads what changes, to be compared with a later look.
    pub fn read(root: &Root, unseen: &mut Vec<Unseen>) -> Result<Self, FactError> {
        Self::read_with(root, Looking::default(), unseen)
    }

    /// The same, in the way that was asked for.
    pub fn read_with(
        root: &Root,
        looking: Looking,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Self, FactError> {
        let keep = Keep::compared();
        let mut look = Self::read_keeping(root, looking, keep, unseen)?;
        if *root == Root::Live {
            let (_, open) = Processes::find(root.path(), &Inodes::None, &mut Vec::new());
            look.add_hidden(root.path(), &open, looking, keep, unseen)?;
        }
        Ok(look)
    }

    /// Looks into the network namespaces to which only one of these descriptors
    /// leads; true where there are any.
    pub(crate) fn add_hidden(
        &mut self,
        root: &Path,
        open: &[OpenNamespace],
        looking: Looking,
        keep: Keep,
        unseen: &mut Vec<Unseen>,
    ) -> Result<bool, FactError> {
        let doors = namespaces::hidden_doors(root, open);
        let found = elsewhere(root, &doors, looking, keep, unseen)?;
        let any = !found.is_empty();
        self.elsewhere.extend(found);
        self.elsewhere.sort_by_key(|namespace| namespace.inode);
        Ok(any)
    }

    /// The same without the other network namespaces.
    pub(crate) fn alone(&self) -> Self {
        Self {
            uptime: self.uptime,
            sockstat: self.sockstat.clone(),
            counters: self.counters.clone(),
            sockets: self.sockets.clone(),
            elsewhere: Vec::new(),
        }
    }

    /// What another network namespace shows.
    pub(crate) fn of_namespace(namespace: &Namespace, uptime: Duration) -> Self {
        Self {
            uptime,
            sockstat: namespace.sockstat.clone(),
            counters: namespace.counters.clone(),
            sockets: namespace.sockets.clone(),
            elsewhere: Vec::new(),
        }
    }

    /// What a network namespace shows that is not made yet.
    pub(crate) fn of_nothing(uptime: Duration) -> Self {
        Self {
            uptime,
            sockstat: Sockstat::default(),
            counters: Counters::default(),
            sockets: None,
            elsewhere: Vec::new(),
        }
    }

    /// The inodes of all sockets.
    pub(crate) fn inodes(&self) -> Inodes {
        Inodes::new(self.every_socket().map(|(_, socket)| socket.inode))
    }

    pub(crate) fn read_keeping(
        root: &Root,
        looking: Looking,
        keep: Keep,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Self, FactError> {
        check(root)?;
        let path = root.path();
        let net = path.join("proc/net");
        let sockets = match root {
            Root::Live => SocketTable::read_live(&net, looking, keep, unseen)?,
            Root::Recorded(path) => SocketTable::read_recorded(path, unseen)?,
        };
        Ok(Self {
            uptime: uptime(&path.join("proc/uptime"))?,
            sockstat: read_sockstat(&net)?,
            counters: {
                let mut counters = read_counters(path, &net)?;
                per_cpu::softnet(&net, &mut counters)?;
                counters
            },
            sockets: sockets.map(Shared::from),
            elsewhere: match root {
                Root::Live => {
                    let doors = namespaces::doors(path, unseen);
                    elsewhere(path, &doors, looking, keep, unseen)?
                }
                Root::Recorded(path) => elsewhere_recorded(path)?,
            },
        })
    }

    /// Every socket of every network namespace that was seen, each with its
    /// namespace; `None` is the reader's own.
    pub fn every_socket(&self) -> impl Iterator<Item = (Option<&Namespace>, &TcpSocket)> {
        let own = self.sockets.iter().flat_map(|sockets| &sockets.all);
        let others = self.elsewhere.iter().flat_map(|namespace| {
            let sockets = namespace.sockets.iter().flat_map(|sockets| &sockets.all);
            sockets.map(move |socket| (Some(namespace), socket))
        });
        own.map(|socket| (None, socket)).chain(others)
    }

    /// How many sockets there are in each state, by the kernel's names, in all
    /// network namespaces that were seen.
    pub fn by_state(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for (_, socket) in self.every_socket() {
            *states.entry(socket.state.as_str()).or_default() += 1;
        }
        states
    }

    /// Gives sockets the options that were read of them, by inode.
    pub(crate) fn set_options(&mut self, options: &BTreeMap<u32, SocketOptions>) {
        for socket in self.every_socket_mut() {
            if socket.inode != 0 {
                socket.options = options.get(&socket.inode).copied();
            }
        }
    }

    /// The sockets, to be changed.
    pub fn every_socket_mut(&mut self) -> impl Iterator<Item = &mut TcpSocket> {
        let own = self.sockets.iter_mut();
        let others = self
            .elsewhere
            .iter_mut()
            .filter_map(|namespace| namespace.sockets.as_mut());
        own.chain(others).flat_map(|sockets| sockets.all.iter_mut())
    }
}

/// /proc/net/netstat and snmp, below `net`, and what connection tracking counts.
pub(crate) fn read_counters(root: &Path, net: &Path) -> Result<Counters, FactError> {
    let mut counters = Counters::default();
    for file in ["netstat", "snmp"] {
        let file = net.join(file);
        counters.merge(Counters::parse(&read_required(&file)?, &file)?);
    }
    per_cpu::conntrack(root, net, &mut counters)?;
    Ok(counters)
}

/// /proc/net/sockstat and sockstat6, below `net`.
pub(crate) fn read_sockstat(net: &Path) -> Result<Sockstat, FactError> {
    let file = net.join("sockstat");
    let mut sockstat = Sockstat::parse(&read_required(&file)?, &file)?;
    // A kernel without IPv6 has no sockstat6.
    let file = net.join("sockstat6");
    if let Some(text) = read_text(&file)? {
        sockstat.merge(Sockstat::parse(&text, &file)?);
    }
    Ok(sockstat)
}

/// Other network namespaces of the running host.
fn elsewhere(
    root: &Path,
    doors: &[Door],
    looking: Looking,
    keep: Keep,
    unseen: &mut Vec<Unseen>,
) -> Result<Vec<Namespace>, FactError> {
    look_elsewhere(root, doors, unseen, |door, net| {
        Ok(Namespace {
            inode: door.inode,
            name: door.name.clone(),
            pid: door.pid,
            kept_by: door.kept_by,
            sockstat: read_sockstat(net)?,
            counters: read_counters(root, net)?,
            sockets: SocketTable::read_live(net, looking, keep, &mut Vec::new())?.map(Shared::from),
            settings: Settings::read(root, &mut Vec::new())?,
        })
    })
}

/// Looks into each of these network namespaces of the running host by `look`, which
/// is given the directory of the namespace's files of /proc/net. One that
/// vanishes meanwhile is left out; those that are closed are noted.
pub fn look_elsewhere<T: Send>(
    root: &Path,
    doors: &[Door],
    unseen: &mut Vec<Unseen>,
    look: impl Fn(&Door, &Path) -> Result<T, FactError> + Sync,
) -> Result<Vec<T>, FactError> {
    // Of the thread that is there: /proc/net is the process's.
    let net = root.join("proc/thread-self/net");
    let visited =
        namespaces::visit(doors, |door| look(door, &net)).map_err(|source| FactError::Read {
            path: root.join("proc/self/ns/net"),
            source,
        })?;
    let mut looks = Vec::new();
    let mut refused = 0_usize;
    let mut why = String::new();
    for seen in visited {
        match seen {
            Ok(Ok(look)) => looks.push(look),
            // What vanishes while it is read is gone and no error.
            Ok(Err(FactError::Read { source, .. })) if processes::has_vanished(&source) => {}
            Ok(Err(error)) => return Err(error),
            Err(Closed::Vanished) => {}
            Err(Closed::Refused(error)) => {
                refused += 1;
                why = error.to_string();
            }
        }
    }
    if refused > 0 {
        unseen.push(Unseen {
            what: match refused {
                1 => format!("{SOCKETS} of another network namespace"),
                count => format!("{SOCKETS} of {count} other network namespaces"),
            },
            why: format!("{why}; no rule looked at them"),
        });
    }
    Ok(looks)
}

/// The directories of the other network namespaces of a recorded host, by inode.
pub fn recorded_namespaces(root: &Path) -> BTreeMap<u32, PathBuf> {
    let Ok(entries) = fs::read_dir(root.join("namespaces")) else {
        return BTreeMap::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
        })
        .collect()
}

/// The other network namespaces of a recorded host.
fn elsewhere_recorded(root: &Path) -> Result<Vec<Namespace>, FactError> {
    recorded_namespaces(root)
        .into_iter()
        .map(|(inode, root)| {
            let net = root.join("proc/net");
            Ok(Namespace {
                inode,
                name: None,
                pid: None,
                kept_by: None,
                sockstat: read_sockstat(&net)?,
                counters: read_counters(&root, &net)?,
                sockets: SocketTable::read_recorded(&root, &mut Vec::new())?.map(Shared::from),
                settings: Settings::read(&root, &mut Vec::new())?,
            })
        })
        .collect()
}

/// The first number of /proc/uptime, in seconds.
pub(crate) fn uptime(path: &Path) -> Result<Duration, FactError> {
    let text = read_required(path)?;
    text.split_whitespace()
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| FactError::malformed(path, 1, "not an uptime in seconds"))
}
