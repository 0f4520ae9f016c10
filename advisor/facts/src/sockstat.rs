//! /proc/net/sockstat: how many sockets there are and what memory they hold.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::read::FactError;

/// The values by dotted name: `TCP.orphan`, `TCP.mem`, `sockets.used`.
///
/// `TCP.inuse` and `TCP.tw` are the network namespace's own; `TCP.orphan`,
/// `TCP.alloc` and `TCP.mem` (in pages) are the whole kernel's, in whichever
/// namespace they are read.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sockstat(BTreeMap<String, i64>);

impl Sockstat {
    /// Parses the text of /proc/net/sockstat or sockstat6: lines of a protocol
    /// and pairs of name and value. `path` is for the errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, FactError> {
        let mut values = BTreeMap::new();
        for (content, line) in text.lines().zip(1..) {
            let Some((group, pairs)) = content.split_once(':') else {
                return Err(FactError::malformed(
                    path,
                    line,
                    "no `PROTOCOL:` at the start",
                ));
            };
            let mut words = pairs.split_whitespace();
            while let Some(name) = words.next() {
                let value = words.next().ok_or_else(|| {
                    FactError::malformed(path, line, format!("no value for {group}.{name}"))
                })?;
                let value = value.parse().map_err(|_| {
                    FactError::malformed(path, line, format!("{value:?} is not a number"))
                })?;
                values.insert(format!("{group}.{name}"), value);
            }
        }
        Ok(Self(values))
    }

    /// Adds the values of the other file of the same host.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// One value, or `None` where this kernel does not give it.
    pub fn get(&self, name: &str) -> Option<i64> {
        self.0.get(name).copied()
    }

    /// Every value by dotted name, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Sockstat, String> {
        Sockstat::parse(text, Path::new("sockstat")).map_err(|error| error.to_string())
    }

    #[test]
    fn pairs_are_read() {
        let sockstat =
            parse("sockets: used 11\nTCP: inuse 1 orphan 3 tw 0 alloc 1 mem 259\n").unwrap();
        assert_eq!(sockstat.get("TCP.orphan"), Some(3));
        assert_eq!(sockstat.get("TCP.mem"), Some(259));
        assert_eq!(sockstat.get("UDP.mem"), None);
        assert_eq!(sockstat.iter().next(), Some(("TCP.alloc", 1)));
        let mut both = sockstat;
        both.merge(parse("TCP6: inuse 7\n").unwrap());
        assert_eq!(
            (both.get("TCP6.inuse"), both.get("TCP.inuse")),
            (Some(7), Some(1))
        );
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        for (text, error) in [
            ("TCP inuse 1", "sockstat:1: no `PROTOCOL:` at the start"),
            ("TCP: inuse", "sockstat:1: no value for TCP.inuse"),
            (
                "FRAG: inuse 0\nTCP: inuse -",
                "sockstat:2: \"-\" is not a number",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), error);
        }
    }

    #[test]
    fn this_kernel_is_understood() {
        let path = Path::new("/proc/net/sockstat");
        let sockstat = Sockstat::parse(&std::fs::read_to_string(path).unwrap(), path).unwrap();
        assert!(sockstat.get("TCP.orphan").is_some());
        assert!(sockstat.get("TCP.mem").is_some());
    }
}
