//! How to set a sysctl, now and at every boot, and how to undo it.

use advisor_facts::Facts;

/// The proposal to remove a line of a file.
pub(crate) const TAKE_OUT: &str = "take the line out";

/// Where a setting of another network namespace is kept: /proc/sys of a container is
/// mostly read-only, and files of the node are not for it.
pub(super) const SET_FOR_CONTAINERS: &str = "securityContext.sysctls of the pod, or \
    `docker run --sysctl`";

/// How to set a sysctl now and at every boot.
pub(super) fn set(name: &str, value: &str) -> String {
    format!(
        "{}; to keep it, `{name} = {value}` in a file of /etc/sysctl.d that sorts after the \
         others",
        command(name, value)
    )
}

/// How to set a sysctl now and at every boot, and how to undo that. If a file sets the
/// sysctl already, that line is named.
pub(crate) fn there_and_back(facts: &Facts, name: &str, proposed: &str) -> (String, String) {
    let current = facts.settings.get(name).unwrap_or_default();
    let files = &facts.sysctl_files;
    match files.winner(files.loader(), name) {
        Some(line) => (
            format!("{}; to keep it, change {line}", command(name, proposed)),
            format!("{}; put {line} back", command(name, &current)),
        ),
        None => (set(name, proposed), unset(name, &current)),
    }
}

/// How to set a sysctl back.
pub(super) fn unset(name: &str, value: &str) -> String {
    format!(
        "{}; take the line out of /etc/sysctl.d",
        command(name, value)
    )
}

/// The command that sets a sysctl now.
pub(super) fn command(name: &str, value: &str) -> String {
    if value.contains(' ') {
        format!("sysctl -w {name}='{value}'")
    } else {
        format!("sysctl -w {name}={value}")
    }
}
