//! How to set a sysctl, now and at every boot, and how to undo it.

use advisor_facts::Facts;
use advisor_facts::sysctl_files::{Assignment, is_glob};

use super::finding::is_of_the_kernel;

/// The proposal to remove a line of a file.
pub(crate) const TAKE_OUT: &str = "take the line out";

/// Where a setting of another network namespace is kept: /proc/sys of a container is
/// mostly read-only, and files of the node are not for it.
const SET_FOR_CONTAINERS: &str = "where the namespace is made: securityContext.sysctls of the \
    pod, `docker run --sysctl`";

/// How to set a sysctl now and at every boot, and how to undo that, in the network
/// namespace that the facts are of. If a file sets the sysctl already, that line is named.
pub(crate) fn there_and_back(facts: &Facts, name: &str, proposed: &str) -> (String, String) {
    let current = facts.settings.get(name).unwrap_or_default();
    let [there, back] = [proposed, &current].map(|value| command(facts, name, value));
    if facts.place.is_some() && !is_of_the_kernel(facts, name) {
        return (
            format!("{there}; to keep it, set it {SET_FOR_CONTAINERS}"),
            format!("{back}; take it out {SET_FOR_CONTAINERS}"),
        );
    }
    let files = &facts.sysctl_files;
    let winner = files.winner(files.loader(), name);
    if let Some(line) = winner.filter(Assignment::is_to_be_changed) {
        return (
            format!("{there}; to keep it, change {line}"),
            format!("{back}; put {line} back"),
        );
    }
    let after = match winner {
        Some(line) if is_glob(line.key) => {
            format!(": a name goes before the glob of {line}")
        }
        Some(line) => format!(" that sorts after {}", line.path.display()),
        None => " that sorts after the others".to_owned(),
    };
    (
        format!("{there}; to keep it, `{name} = {proposed}` in a file of /etc/sysctl.d{after}"),
        format!("{back}; take the line out of /etc/sysctl.d"),
    )
}

/// The command that sets a sysctl now, in the network namespace that the facts are of;
/// on the host what the whole kernel has once, which a namespace may not write.
pub(super) fn command(facts: &Facts, name: &str, value: &str) -> String {
    let set = if value.is_empty() || value.contains(' ') {
        format!("sysctl -w {name}='{value}'")
    } else {
        format!("sysctl -w {name}={value}")
    };
    if is_of_the_kernel(facts, name) {
        set
    } else {
        facts.command(&set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::{bare_host, with_file};

    #[test]
    fn a_line_that_another_change_would_reach_is_left_alone() {
        const NAME: &str = "net.ipv4.tcp_rmem";
        let kept = |path: &str, text: &str| {
            let mut facts = bare_host(1 << 30);
            with_file(&mut facts, path, text);
            there_and_back(&facts, NAME, "4096 131072 6291456").0
        };
        let own = kept("/etc/sysctl.d/a.conf", "net.ipv4.tcp_rmem = 4096 5000 6000");
        assert!(own.ends_with("change /etc/sysctl.d/a.conf:1"), "{own}");
        let glob = kept("/etc/sysctl.d/a.conf", "net.ipv4.tcp_?mem = 4096 5000 6000");
        assert!(
            glob.ends_with("a name goes before the glob of /etc/sysctl.d/a.conf:1"),
            "{glob}"
        );
        let package = kept(
            "/usr/lib/sysctl.d/a.conf",
            "net.ipv4.tcp_rmem = 4096 5000 6000",
        );
        assert!(
            package.ends_with("a file of /etc/sysctl.d that sorts after /usr/lib/sysctl.d/a.conf"),
            "{package}"
        );
    }
}
