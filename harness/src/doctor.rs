//! What this machine can and can't do, and what to do about it.
//!
//! Imports lab, guest, kernels, host_settings and privilege.

use std::fs::File;

use crate::guest::qemu;
use crate::host_settings;
use crate::kernels::cache::Cache;
use crate::lab::kernel_log::KernelLog;
use crate::lab::namespace::{Namespace, kernel_release};
use crate::lab::{self, destroy};
use crate::privilege::{self, Privilege};

const QEMU: &str = "QEMU";
const GUEST_KERNELS: &str = "guest kernels";

/// One line of the report.
pub struct Check {
    /// The thing that was checked.
    pub subject: &'static str,
    /// Whether scenarios can use it.
    pub good: bool,
    /// Whether nothing at all can run on this machine without it.
    pub needed: bool,
    /// What was seen.
    pub what: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// Whether suites can run on this machine, and whether in guests.
pub fn can_run(checks: &[Check]) -> (bool, bool) {
    let here = checks.iter().all(|check| check.good || !check.needed);
    let in_guests = [QEMU, GUEST_KERNELS].iter().all(|needed| {
        checks
            .iter()
            .any(|check| check.subject == *needed && check.good)
    });
    (here, in_guests)
}

/// Checks this machine.
pub fn examine(privilege: &Privilege) -> Vec<Check> {
    if !privilege::has_proc() {
        return vec![Check {
            subject: "/proc",
            good: false,
            needed: true,
            what: "not mounted: nothing can be run, neither here nor in a guest".to_owned(),
            hint: privilege::PROC_HINT.to_owned(),
        }];
    }
    let root = *privilege == Privilege::Root;
    let namespaces = !matches!(privilege, Privilege::None(_));
    let mut checks = vec![Check {
        subject: "network namespaces",
        good: namespaces,
        needed: true,
        what: match privilege {
            Privilege::Root => format!("kernel {}, as root", kernel_release()),
            Privilege::UserNamespace => format!("kernel {}, in a user namespace", kernel_release()),
            Privilege::None(why) => why.clone(),
        },
        hint: "run as root, or allow user namespaces: sysctl user.max_user_namespaces, \
               kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns"
            .to_owned(),
    }];
    if !namespaces {
        // A guest needs no rights here.
        checks.extend(guests());
        return checks;
    }
    let lab = lab::probe();
    checks.push(Check {
        subject: "veth and the relay",
        good: lab.is_ok(),
        needed: true,
        what: match &lab {
            Ok(()) => "a topology with an impaired link came up".to_owned(),
            Err(error) => error.to_string(),
        },
        hint: match &lab {
            Err(error) if !error.hint.is_empty() => error.hint.clone(),
            _ => "the kernel needs CONFIG_VETH and CONFIG_PACKET".to_owned(),
        },
    });
    let netem = lab::kernel_has_netem();
    checks.push(Check {
        subject: "netem",
        good: netem,
        needed: false,
        what: if netem {
            "sch_netem"
        } else {
            "no sch_netem: the relay carries impaired links"
        }
        .to_owned(),
        hint: "modprobe sch_netem, where the kernel has it as a module".to_owned(),
    });
    checks.push(socket_destroy());
    let log = KernelLog::open_at_end();
    checks.push(Check {
        subject: "kernel log",
        good: log.is_ok(),
        needed: false,
        what: match log {
            Ok(_) => "/dev/kmsg can be read".to_owned(),
            Err(_) => "/dev/kmsg can't be read: kernel.log is not observed".to_owned(),
        },
        hint: "run as root".to_owned(),
    });
    checks.push(touch_host(root));
    let record = host_settings::record_path(host_settings::STATE_DIRECTORY.as_ref()).exists();
    checks.push(Check {
        subject: "nothing left behind",
        good: !record,
        needed: false,
        what: if record {
            "an interrupted run left sysctls changed"
        } else {
            "no record of changed sysctls"
        }
        .to_owned(),
        hint: "harness restore".to_owned(),
    });
    checks.push(open_files());
    checks.extend(guests());
    checks
}

/// Whether sysctls of the whole machine can be set, and the old values be kept on disk.
fn touch_host(root: bool) -> Check {
    // Opened for writing, not written.
    let settable = root
        && File::options()
            .write(true)
            .open("/proc/sys/net/ipv4/tcp_max_orphans")
            .is_ok()
        && host_settings::can_keep_a_record();
    Check {
        subject: "--touch-host",
        good: settable,
        needed: false,
        what: if settable {
            "sysctls of the whole machine can be set and put back"
        } else {
            "scenarios that set sysctls of the whole machine are skipped"
        }
        .to_owned(),
        hint: "run as root of the machine, with /proc/sys and /run/lastbyte writable".to_owned(),
    }
}

/// Whether the kernel can destroy sockets, tried on a listener in a new
/// namespace.
fn socket_destroy() -> Check {
    let answer = std::thread::spawn(|| -> Result<(), String> {
        let namespace = Namespace::enter_new("probe").map_err(|error| error.to_string())?;
        let _listener =
            std::net::TcpListener::bind("0.0.0.0:0").map_err(|error| error.to_string())?;
        let sockets = namespace.sockets().map_err(|error| error.to_string())?;
        destroy::destroy(&sockets)
            .map(|_| ())
            .map_err(|error| error.to_string())
    })
    .join()
    .unwrap_or_else(|_| Err("the probe panicked".to_owned()));
    Check {
        subject: "SOCK_DESTROY",
        good: answer.is_ok(),
        needed: false,
        what: answer.map_or_else(
            |why| why,
            |()| "sockets can be destroyed from outside".to_owned(),
        ),
        hint: "the kernel needs CONFIG_INET_DIAG_DESTROY".to_owned(),
    }
}

/// QEMU, kernels and KVM, for guests.
fn guests() -> [Check; 3] {
    let emulator = qemu::find();
    let cache = Cache::of_user();
    let mut fetched = Vec::new();
    let mut damaged = Vec::new();
    match &cache {
        Ok(cache) => {
            for (name, kernel) in cache.kernels() {
                match kernel {
                    Ok(kernel) => fetched.push(format!("{name} ({})", kernel.release)),
                    Err(error) => damaged.push(error.to_string()),
                }
            }
        }
        Err(error) => damaged.push(error.to_string()),
    }
    let kvm = match (&cache, qemu::may_use_kvm()) {
        (_, false) => (
            false,
            "/dev/kvm can't be opened: guests are emulated".to_owned(),
        ),
        (Ok(cache), true) => match qemu::known_of_kvm(cache.directory()) {
            Some(true) => (true, "a guest has booted with it".to_owned()),
            Some(false) => (
                false,
                "no guest booted with it here: guests are emulated".to_owned(),
            ),
            None => (
                true,
                "/dev/kvm is there; the first guest tries it".to_owned(),
            ),
        },
        (Err(error), true) => (false, error.to_string()),
    };
    [
        Check {
            subject: QEMU,
            good: emulator.is_some(),
            needed: false,
            what: emulator.map_or_else(
                || format!("no {} in the PATH", qemu::PROGRAM),
                |path| path.display().to_string(),
            ),
            hint: qemu::PACKAGE_HINT.to_owned(),
        },
        Check {
            subject: "KVM",
            good: kvm.0,
            needed: false,
            what: kvm.1,
            hint: "KVM needs a processor with virtualization, and the group kvm".to_owned(),
        },
        Check {
            subject: GUEST_KERNELS,
            good: !fetched.is_empty(),
            needed: false,
            what: match (fetched.is_empty(), damaged.is_empty()) {
                (true, true) => "none fetched".to_owned(),
                _ => [fetched, damaged].concat().join(", "),
            },
            hint: "harness kernels fetch debian-6.12".to_owned(),
        },
    ]
}

fn open_files() -> Check {
    /// A flood of 10,000 connections, and some more.
    const WANTED: u64 = 10_100;
    let most = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .map_or(0, |(_, most)| most);
    Check {
        subject: "open files",
        good: most >= WANTED && File::open("/proc/self/fd").is_ok(),
        needed: false,
        what: format!("at most {most} a process"),
        hint: "a flood of 10,000 connections needs ulimit -Hn 10100".to_owned(),
    }
}
