//! Where a host is read, and how.

use std::path::{Path, PathBuf};

/// Where a host is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Root {
    /// The running host, in the network namespace of this process.
    Live,
    /// A recorded host: a directory with copies of the host's files of /proc
    /// (`proc/sys/...`, `proc/net/...`, `proc/meminfo`, `proc/zoneinfo`,
    /// `proc/stat`, `proc/uptime`), those of its files of settings that there are
    /// (`etc/sysctl.d/...`), what dmesg(1) prints in the file
    /// `kernel-log`, its page size in bytes in the file `page-size`, and its
    /// sockets as `sock_diag.hex` (a netlink message a line) or, without, as
    /// `proc/net/tcp` and `proc/net/tcp6`. The directory `earlier` in it may
    /// hold the same as it was some time before, and `namespaces/INODE` what
    /// was seen in another network namespace. Processes are found where they are
    /// on a host (`proc/PID`). As JSON, in the form that a file of facts has,
    /// there may be `cgroups.json`, by id, and `socket-options.json`, by inode.
    Recorded(PathBuf),
}

/// How a host is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Looking {
    /// Ask for the sockets by sock_diag; without, they are read in
    /// /proc/net/tcp, which can't make the kernel load a module.
    pub sock_diag: bool,
    /// Take a duplicate of some sockets of other processes, for a moment, and
    /// ask for their options.
    pub inspect_options: bool,
}

impl Default for Looking {
    fn default() -> Self {
        Self {
            sock_diag: true,
            inspect_options: false,
        }
    }
}

impl Root {
    /// The directory that stands for `/`.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Live => Path::new("/"),
            Self::Recorded(path) => path,
        }
    }
}
