//! The changelog of a kernel's package: what it says of TCP and the network.

use std::io::{self, Read};

use crate::kernels::catalogue::compare_versions;

/// Bytes of an unpacked changelog at most; Debian's has 7 MB.
const LIMIT: u64 = 64 << 20;

/// Unpacks a changelog.
pub fn unpack(packed: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed)
        .take(LIMIT)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The items of the versions after `before`, up to the newest, that are about TCP or the
/// network: `tcp: ...`, `net: ...`.
pub fn items(changelog: &str, before: &str) -> Vec<String> {
    // A rebuild for another release of Debian changes nothing.
    let before = before.split('~').next().unwrap_or(before);
    let mut items: Vec<String> = Vec::new();
    let mut is_item = false;
    for line in changelog.lines() {
        if let Some(version) = version_of(line) {
            if compare_versions(version, before).is_le() {
                break;
            }
            is_item = false;
            continue;
        }
        let text = line.trim_start();
        match text.strip_prefix("- ").or_else(|| text.strip_prefix("* ")) {
            Some(item) => {
                is_item = true;
                items.push(item.to_owned());
            }
            // An item that goes on.
            None if is_item && line.starts_with("      ") => {
                if let Some(item) = items.last_mut() {
                    item.push(' ');
                    item.push_str(text);
                }
            }
            None => is_item = false,
        }
    }
    items.retain(|item| is_of_network(item));
    // Of hundreds of items the likely ones come first.
    items.sort_by_key(|item| !item.starts_with("tcp:") && !item.starts_with("inet:"));
    items
}

/// `6.1.187-1` of `linux (6.1.187-1) bookworm-security; urgency=high`.
fn version_of(line: &str) -> Option<&str> {
    line.strip_prefix("linux (")?.split(')').next()
}

/// Whether an item names a part of the network that TCP is made of.
fn is_of_network(item: &str) -> bool {
    const PARTS: &[&str] = &[
        "tcp",
        "net",
        "inet",
        "ipv4",
        "ipv6",
        "ip",
        "sock",
        "mptcp",
        "net_sched",
        "skbuff",
    ];
    let Some((part, _)) = item.split_once(": ") else {
        return false;
    };
    // "net/mlx5" is a driver.
    part.split(", ").any(|part| PARTS.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str = "\
linux-signed-6.1-amd64 (6.1.187+1~deb12u1) bookworm; urgency=high

  * Sign kernel from linux 6.1.187-1

linux (6.1.187-1) bookworm-security; urgency=high

  * New upstream stable update:
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.1.187
    - tcp: drop data that lies before the window
      (CVE-2026-1)
    - net/mlx5e: fix a leak
    - ipv4, ipv6: count it once

 -- A <a@example.org>  Sun, 02 Aug 2026 19:24:39 +0200

linux (6.1.180-1) bookworm-security; urgency=high

    - net: and another

linux (6.1.176-1) bookworm-security; urgency=high

    - tcp: was there before
";

    #[test]
    fn items_of_the_versions_between_are_found() {
        assert_eq!(
            items(CHANGELOG, "6.1.176-1~deb12u1"),
            [
                "tcp: drop data that lies before the window (CVE-2026-1)",
                "ipv4, ipv6: count it once",
                "net: and another"
            ]
        );
        assert_eq!(items(CHANGELOG, "6.1.180-1").len(), 2);
        assert!(items(CHANGELOG, "6.1.187-1").is_empty());
        assert!(items("no changelog", "1").is_empty());
    }

    #[test]
    fn what_is_not_packed_is_an_error() {
        assert!(unpack(&b"plain text"[..]).is_err());
    }
}
