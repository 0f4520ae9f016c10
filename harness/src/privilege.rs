//! The rights of this process: root, root of a user namespace, or none.

use std::fs;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, getegid, geteuid};

/// The rights of this process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Privilege {
    /// Root of the machine.
    Root,
    /// Root of a user namespace: network namespaces, but no sysctl of the
    /// whole machine.
    UserNamespace,
    /// Neither, with the kernel's error.
    None(String),
}

/// What to do where there is no /proc.
pub const PROC_HINT: &str = "mount -t proc proc /proc";

/// Whether /proc is mounted: by it this program finds itself, and its rights.
pub fn has_proc() -> bool {
    fs::exists("/proc/self/exe").unwrap_or(false)
}

/// Uses root, else enters a new user namespace. Must be called before the first
/// thread starts: the kernel allows a new user namespace only in a process with
/// one thread.
pub fn acquire() -> Privilege {
    if geteuid() == Uid::from_raw(0) && has_net_admin() {
        return Privilege::Root;
    }
    let (uid, gid) = (geteuid(), getegid());
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER) {
        return Privilege::None(format!("unshare(CLONE_NEWUSER): {errno:?}"));
    }
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ];
    for (file, text) in maps {
        if let Err(error) = fs::write(format!("/proc/self/{file}"), text) {
            return Privilege::None(format!("/proc/self/{file}: {error}"));
        }
    }
    // Some kernels give the namespace but no rights in it (AppArmor).
    match std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join() {
        Ok(Ok(())) => Privilege::UserNamespace,
        Ok(Err(errno)) => Privilege::None(format!("unshare(CLONE_NEWNET): {errno:?}")),
        Err(_) => Privilege::None("no thread could be started".to_owned()),
    }
}

/// Whether this user namespace has a user (user_namespaces(7), uid_map).
pub fn has_user(uid: Uid) -> bool {
    maps(
        &fs::read_to_string("/proc/self/uid_map").unwrap_or_default(),
        uid,
    )
}

fn maps(uid_map: &str, uid: Uid) -> bool {
    uid_map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(first)), _, Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        uid.as_raw()
            .checked_sub(first)
            .is_some_and(|offset| offset < count)
    })
}

/// Whether CAP_NET_ADMIN and CAP_SYS_ADMIN are among the effective
/// capabilities: root in a container often has neither.
fn has_net_admin() -> bool {
    const CAP_NET_ADMIN: u32 = 12;
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    [CAP_NET_ADMIN, CAP_SYS_ADMIN]
        .iter()
        .all(|capability| effective & (1 << capability) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_has_the_users_of_its_map() {
        let whole = "         0          0 4294967295\n";
        let own = "0 1000 1\n";
        let container = "0 1000 1\n1 100000 65536\n";
        let nobody = Uid::from_raw(65534);
        assert!(maps(whole, nobody) && maps(container, nobody) && !maps(own, nobody));
        assert!(maps(own, Uid::from_raw(0)) && !maps(container, Uid::from_raw(65537)));
        assert!(!maps("", Uid::from_raw(0)) && !maps("0 0\n", Uid::from_raw(0)));
    }
}
