//! Counters that the kernel keeps for each CPU and prints as a line each, in
//! hexadecimal: /proc/net/softnet_stat and /proc/net/stat/nf_conntrack.
//!
//! They are added up over the CPUs. Each is 32 bits wide and wraps.

use std::io;
use std::path::Path;

use crate::counters::Counters;
use crate::read::{FactError, read_text};

/// The columns of /proc/net/softnet_stat that are kept: by place, with a name
/// (softnet_seq_show in net/core/net-procfs.c of Linux).
const SOFTNET: [(usize, &str); 3] = [
    (0, "Softnet.processed"),
    (1, "Softnet.dropped"),
    (2, "Softnet.time_squeeze"),
];

/// The columns of /proc/net/stat/nf_conntrack that are kept, by their names.
const CONNTRACK: [&str; 3] = ["insert_failed", "drop", "early_drop"];

/// The whole kernel's counters of packets on their way to a protocol; none where
/// there is no such file.
pub(crate) fn softnet(net: &Path, counters: &mut Counters) -> Result<(), FactError> {
    let path = net.join("softnet_stat");
    let Some(text) = readable(&path)? else {
        return Ok(());
    };
    let mut sums = [0_i64; SOFTNET.len()];
    for (line, number) in text.lines().zip(1..) {
        let words: Vec<_> = line.split_whitespace().collect();
        for (sum, (column, _)) in sums.iter_mut().zip(SOFTNET) {
            *sum += hexadecimal(words.get(column).copied(), &path, number)?;
        }
    }
    for (sum, (_, name)) in sums.into_iter().zip(SOFTNET) {
        counters.set(name, sum);
    }
    Ok(())
}

/// What connection tracking counts in a network namespace, and how many entries it
/// has (`Conntrack.count`); nothing where it is not loaded. `root` is where
/// proc/sys is.
pub(crate) fn conntrack(root: &Path, net: &Path, counters: &mut Counters) -> Result<(), FactError> {
    let path = root.join("proc/sys/net/netfilter/nf_conntrack_count");
    let Some(text) = readable(&path)? else {
        return Ok(());
    };
    let count = crate::read::number(&text)
        .ok_or_else(|| FactError::malformed(&path, 1, format!("{text:?} is not a number")))?;
    counters.set("Conntrack.count", count);
    let path = net.join("stat/nf_conntrack");
    let Some(text) = readable(&path)? else {
        return Ok(());
    };
    let mut lines = text.lines().zip(1..);
    let Some((names, _)) = lines.next() else {
        return Ok(());
    };
    let names: Vec<_> = names.split_whitespace().collect();
    let kept = CONNTRACK
        .into_iter()
        .filter_map(|kept| Some((kept, names.iter().position(|name| *name == kept)?)));
    let mut sums: Vec<_> = kept.map(|(name, column)| (name, column, 0_i64)).collect();
    for (line, number) in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        for (_, column, sum) in &mut sums {
            *sum += hexadecimal(words.get(*column).copied(), &path, number)?;
        }
    }
    for (name, _, sum) in sums {
        counters.set(&format!("Conntrack.{name}"), sum);
    }
    Ok(())
}

/// The text of a file that only some kernels have, and only root may read.
fn readable(path: &Path) -> Result<Option<String>, FactError> {
    match read_text(path) {
        Err(FactError::Read { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(None)
        }
        other => other,
    }
}

fn hexadecimal(word: Option<&str>, path: &Path, line: usize) -> Result<i64, FactError> {
    word.and_then(|word| u32::from_str_radix(word, 16).ok())
        .map(i64::from)
        .ok_or_else(|| {
            let word = word.unwrap_or_default();
            FactError::malformed(path, line, format!("{word:?} is not a hexadecimal number"))
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "files of the test's own")]

    use std::fs;

    use super::*;

    #[test]
    fn lines_of_cpus_are_added_up() {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join("proc/net");
        let netfilter = root.path().join("proc/sys/net/netfilter");
        fs::create_dir_all(net.join("stat")).unwrap();
        fs::create_dir_all(&netfilter).unwrap();
        let mut counters = Counters::default();
        softnet(&net, &mut counters).unwrap();
        conntrack(root.path(), &net, &mut counters).unwrap();
        assert_eq!(counters.names().count(), 0);
        fs::write(
            net.join("softnet_stat"),
            "00000010 0000000a 00000001\n00000001 00000001 0000000f\n",
        )
        .unwrap();
        fs::write(netfilter.join("nf_conntrack_count"), "17\n").unwrap();
        fs::write(
            net.join("stat/nf_conntrack"),
            "entries  found drop early_drop icmp_error\n\
             00000011  00000000 00000002 00000003 00000000\n\
             00000011  00000000 00000010 00000000 00000000\n",
        )
        .unwrap();
        softnet(&net, &mut counters).unwrap();
        conntrack(root.path(), &net, &mut counters).unwrap();
        for (name, value) in [
            ("Softnet.processed", Some(17)),
            ("Softnet.dropped", Some(11)),
            ("Softnet.time_squeeze", Some(16)),
            ("Conntrack.count", Some(17)),
            ("Conntrack.drop", Some(18)),
            ("Conntrack.early_drop", Some(3)),
            ("Conntrack.insert_failed", None),
        ] {
            assert_eq!(counters.get(name), value, "{name}");
        }
        fs::write(net.join("softnet_stat"), "1 2 3\n1 nonsense 3\n").unwrap();
        let error = softnet(&net, &mut counters).unwrap_err().to_string();
        assert!(error.contains("softnet_stat:2: \"nonsense\""), "{error}");
    }
}
