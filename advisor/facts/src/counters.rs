//! The counters of /proc/net/netstat and /proc/net/snmp, a network namespace's
//! own, since it was made.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::read::FactError;

/// Counters by dotted name: `TcpExt.TCPAbortOnClose`, `Tcp.ActiveOpens`.
///
/// /proc/net/snmp has a few gauges and constants among them, `Tcp.CurrEstab`
/// or `Tcp.RtoMin`; they are values like the others. A look adds those that are
/// kept for each CPU, as `Softnet.dropped` and `Conntrack.drop`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counters(BTreeMap<String, i64>);

impl Counters {
    /// Parses the text of /proc/net/netstat or /proc/net/snmp: pairs of lines,
    /// the first with the names and the second with the values, both headed by
    /// the name of their group. `path` is for the errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, FactError> {
        let mut counters = BTreeMap::new();
        let mut lines = text.lines().zip(1..);
        while let Some((names, line)) = lines.next() {
            let Some((group, names)) = names.split_once(':') else {
                return Err(FactError::malformed(path, line, "no `Group:` at the start"));
            };
            let Some((values, line)) = lines.next() else {
                return Err(FactError::malformed(
                    path,
                    line,
                    format!("names of {group} without a line of values"),
                ));
            };
            let values = values
                .strip_prefix(group)
                .and_then(|rest| rest.strip_prefix(':'))
                .ok_or_else(|| {
                    FactError::malformed(path, line, format!("not the values of {group}"))
                })?;
            let mut values = values.split_whitespace();
            for name in names.split_whitespace() {
                let value = values.next().ok_or_else(|| {
                    FactError::malformed(path, line, format!("no value for {group}.{name}"))
                })?;
                counters.insert(format!("{group}.{name}"), number(value, path, line)?);
            }
            if values.next().is_some() {
                return Err(FactError::malformed(
                    path,
                    line,
                    format!("more values than names in {group}"),
                ));
            }
        }
        Ok(Self(counters))
    }

    /// Adds the counters of another file of the same host.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Gives a counter a value.
    pub(crate) fn set(&mut self, name: &str, value: i64) {
        self.0.insert(name.to_owned(), value);
    }

    /// The value of a counter, or `None` where this kernel does not have it.
    pub fn get(&self, name: &str) -> Option<i64> {
        self.0.get(name).copied()
    }

    /// The dotted names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What each counter that changed has grown by since `before`. A counter
    /// that `before` does not have counts from 0.
    pub fn since(&self, before: &Self) -> BTreeMap<String, i64> {
        self.0
            .iter()
            .map(|(name, value)| {
                let grown = value.wrapping_sub(before.get(name).unwrap_or(0));
                (name.clone(), grown)
            })
            .filter(|(_, grown)| *grown != 0)
            .collect()
    }
}

/// A counter as the kernel prints it. They are unsigned longs printed as such
/// in netstat and signed in snmp (`Tcp.MaxConn` is -1), and wrap.
fn number(text: &str, path: &Path, line: usize) -> Result<i64, FactError> {
    text.parse()
        .or_else(|_| text.parse::<u64>().map(u64::cast_signed))
        .map_err(|_| FactError::malformed(path, line, format!("{text:?} is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "\
Tcp: RtoMin MaxConn ActiveOpens CurrEstab
Tcp: 200 -1 34 2
Udp: InDatagrams
Udp: 18446744073709551615
";

    fn parse(text: &str) -> Result<Counters, String> {
        Counters::parse(text, Path::new("/proc/net/snmp")).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_values_pair_up() {
        let counters = parse(SNMP).unwrap();
        assert_eq!(counters.get("Tcp.ActiveOpens"), Some(34));
        assert_eq!(counters.get("Tcp.MaxConn"), Some(-1));
        assert_eq!(counters.get("Tcp.Nonsense"), None);
        assert_eq!(counters.names().count(), 5);
    }

    #[test]
    fn since_lists_only_what_changed_and_survives_a_wrap() {
        let before = parse(SNMP).unwrap();
        let after = SNMP
            .replace(" 34 ", " 40 ")
            .replace("18446744073709551615", "2");
        let changed = parse(&after).unwrap().since(&before);
        assert_eq!(
            changed,
            BTreeMap::from([("Tcp.ActiveOpens".into(), 6), ("Udp.InDatagrams".into(), 3)])
        );
    }

    #[test]
    fn merge_keeps_both_files() {
        let mut counters = parse(SNMP).unwrap();
        counters.merge(parse("TcpExt: TCPAbortOnClose\nTcpExt: 7\n").unwrap());
        assert_eq!(counters.get("TcpExt.TCPAbortOnClose"), Some(7));
        assert_eq!(counters.get("Tcp.CurrEstab"), Some(2));
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        for (text, error) in [
            ("Tcp RtoMin\n", "/proc/net/snmp:1: no `Group:` at the start"),
            (
                "Tcp: RtoMin\n",
                "/proc/net/snmp:1: names of Tcp without a line of values",
            ),
            (
                "Tcp: RtoMin\nUdp: 1\n",
                "/proc/net/snmp:2: not the values of Tcp",
            ),
            (
                "Tcp: RtoMin\nTcp:\n",
                "/proc/net/snmp:2: no value for Tcp.RtoMin",
            ),
            (
                "Tcp: RtoMin\nTcp: 1 2\n",
                "/proc/net/snmp:2: more values than names in Tcp",
            ),
            (
                "Tcp: RtoMin\nTcp: x\n",
                "/proc/net/snmp:2: \"x\" is not a number",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), error);
        }
    }

    #[test]
    fn this_kernel_is_understood() {
        for path in ["/proc/net/netstat", "/proc/net/snmp"] {
            let path = Path::new(path);
            let text = std::fs::read_to_string(path).unwrap();
            assert!(Counters::parse(&text, path).unwrap().names().count() > 10);
        }
    }
}
