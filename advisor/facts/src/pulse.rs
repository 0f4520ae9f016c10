//! The gauges and counters of a host, read so cheaply that it can be done each second:
//! no sockets, no processes.

use std::path::Path;
use std::time::Duration;

use crate::counters::Counters;
use crate::look::{look_elsewhere, read_counters, read_sockstat, uptime};
use crate::namespaces::Door;
use crate::open_files::OpenFiles;
use crate::per_cpu;
use crate::read::{FactError, Unseen};
use crate::settings::Settings;
use crate::sockstat::Sockstat;

/// The gauges and counters of one network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pulse {
    /// /proc/net/sockstat and sockstat6.
    pub sockstat: Sockstat,
    /// /proc/net/netstat and snmp, and those of connection tracking.
    pub counters: Counters,
}

/// The same of the reader's own network namespace, and what the kernel has once.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnPulse {
    /// Time since the kernel was started.
    pub uptime: Duration,
    /// The namespace's.
    pub pulse: Pulse,
    /// Open files of the whole kernel.
    pub files: Option<OpenFiles>,
}

impl OwnPulse {
    /// Reads it.
    pub fn read() -> Result<Self, FactError> {
        let root = Path::new("/");
        let net = Path::new("/proc/net");
        let mut counters = read_counters(root, net)?;
        per_cpu::softnet(net, &mut counters)?;
        Ok(Self {
            uptime: uptime(Path::new("/proc/uptime"))?,
            pulse: Pulse {
                sockstat: read_sockstat(net)?,
                counters,
            },
            files: OpenFiles::read(root)?,
        })
    }
}

/// Reads the pulse of other network namespaces, and with `with_settings` their settings.
pub fn behind(
    doors: &[Door],
    with_settings: bool,
    unseen: &mut Vec<Unseen>,
) -> Result<Vec<(u32, Pulse, Option<Settings>)>, FactError> {
    let root = Path::new("/");
    look_elsewhere(root, doors, unseen, |door, net| {
        let pulse = Pulse {
            sockstat: read_sockstat(net)?,
            counters: read_counters(root, net)?,
        };
        let settings = if with_settings {
            Some(Settings::read(root, &mut Vec::new())?)
        } else {
            None
        };
        Ok((door.inode, pulse, settings))
    })
}

/// The settings of the reader's own network namespace.
pub fn settings() -> Result<Settings, FactError> {
    Settings::read(Path::new("/"), &mut Vec::new())
}
