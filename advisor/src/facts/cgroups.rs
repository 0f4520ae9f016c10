//! Limits and memory of control groups of version 2
//! (Documentation/admin-guide/cgroup-v2.rst of Linux).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::processes::has_vanished;
use super::{FactError, Unseen, read_text};

/// Where the hierarchy of version 2 is mounted: alone, or beside version 1.
const MOUNTS: [&str; 2] = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];
/// A file that only a directory of version 2 has.
const MARK: &str = "cgroup.controllers";
/// Directories that are looked through for the ids of cgroups.
const DIRECTORIES: usize = 100_000;

/// What a cgroup says of its memory; `None` where it has no such file: the root
/// has no limits, and a cgroup without the memory controller has none of them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cgroup {
    /// Its path below the mount, `/system.slice/nginx.service`.
    pub path: String,
    /// The lowest memory.max from here up to the root, in bytes: what holds for
    /// its sockets. `None` where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<u64>,
    /// memory.current of the cgroup whose limit that is, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_current_bytes: Option<u64>,
    /// `sock` of memory.stat: network transmission buffers, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sock_bytes: Option<u64>,
    /// memory.events, counted since the cgroup was made: `max` is how often its
    /// limit was met, `sock_throttled` (of later kernels) how often its sockets
    /// were held back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, u64>,
}

/// Reads the cgroups with these ids (the inodes of their directories).
pub fn read(
    root: &Path,
    ids: &BTreeSet<u64>,
    unseen: &mut Vec<Unseen>,
) -> Result<BTreeMap<u64, Cgroup>, FactError> {
    let mut found = BTreeMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let Some(mount) = MOUNTS
        .iter()
        .map(|mount| root.join(mount))
        .find(|mount| mount.join(MARK).exists())
    else {
        unseen.push(Unseen {
            what: "the limits of cgroups".to_owned(),
            why: "no cgroup hierarchy of version 2 is mounted on /sys/fs/cgroup".to_owned(),
        });
        return Ok(found);
    };
    let mut directories = vec![mount.clone()];
    let mut looked_at = 0;
    while let Some(directory) = directories.pop() {
        looked_at += 1;
        if found.len() == ids.len() || looked_at > DIRECTORIES {
            break;
        }
        let Ok(metadata) = fs::metadata(&directory) else {
            continue;
        };
        if ids.contains(&metadata.ino()) {
            found.insert(metadata.ino(), Cgroup::read(&mount, &directory)?);
        }
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        directories.extend(
            entries
                .filter_map(Result::ok)
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    Ok(found)
}

impl Cgroup {
    fn read(mount: &Path, directory: &Path) -> Result<Self, FactError> {
        let path = directory.strip_prefix(mount).unwrap_or(directory);
        let mut cgroup = Self {
            path: format!("/{}", path.display()),
            sock_bytes: pairs(&directory.join("memory.stat"))?.remove("sock"),
            events: pairs(&directory.join("memory.events"))?,
            ..Self::default()
        };
        // The limit of each parent holds as well.
        for ancestor in directory.ancestors() {
            let limit = number(&ancestor.join("memory.max"))?;
            if limit.is_some_and(|limit| cgroup.memory_max_bytes.is_none_or(|least| limit < least))
            {
                cgroup.memory_max_bytes = limit;
                cgroup.memory_current_bytes = number(&ancestor.join("memory.current"))?;
            }
            if ancestor == mount {
                break;
            }
        }
        Ok(cgroup)
    }
}

/// The text of a file of a cgroup; `None` where the cgroup has none, or has
/// vanished.
fn text(path: &Path) -> Result<Option<String>, FactError> {
    match read_text(path) {
        Err(FactError::Read { source, .. })
            if has_vanished(&source) || source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Ok(None)
        }
        result => result,
    }
}

/// A number of bytes; `max` is none.
fn number(path: &Path) -> Result<Option<u64>, FactError> {
    match text(path)?.as_deref().map(str::trim) {
        None | Some("max") => Ok(None),
        Some(number) => number
            .parse()
            .map(Some)
            .map_err(|_| FactError::malformed(path, 1, format!("{number:?} is not a number"))),
    }
}

/// Lines of a name and a number.
fn pairs(path: &Path) -> Result<BTreeMap<String, u64>, FactError> {
    let mut pairs = BTreeMap::new();
    for (content, line) in text(path)?.unwrap_or_default().lines().zip(1..) {
        let (name, number) = content
            .split_once(' ')
            .and_then(|(name, number)| Some((name, number.trim().parse().ok()?)))
            .ok_or_else(|| FactError::malformed(path, line, "not a name and a number"))?;
        pairs.insert(name.to_owned(), number);
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "files for the test to read")]

    use super::*;

    #[test]
    fn the_lowest_limit_up_to_the_root_holds() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("sys/fs/cgroup");
        let inner = mount.join("pod/web");
        fs::create_dir_all(&inner).unwrap();
        fs::write(mount.join(MARK), "memory\n").unwrap();
        fs::write(mount.join("pod/memory.max"), "1000000\n").unwrap();
        fs::write(mount.join("pod/memory.current"), "999999\n").unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(inner.join("memory.current"), "5\n").unwrap();
        fs::write(inner.join("memory.stat"), "anon 1\nsock 77\n").unwrap();
        fs::write(inner.join("memory.events"), "low 0\nmax 3\n").unwrap();
        let id = fs::metadata(&inner).unwrap().ino();
        let read = || read(root.path(), &BTreeSet::from([id, 1 << 60]), &mut Vec::new());
        let cgroup = read().unwrap().remove(&id).unwrap();
        assert_eq!(cgroup.path, "/pod/web");
        assert_eq!(cgroup.memory_max_bytes, Some(1_000_000));
        assert_eq!(cgroup.memory_current_bytes, Some(999_999));
        assert_eq!(cgroup.sock_bytes, Some(77));
        assert_eq!(cgroup.events["max"], 3);

        fs::write(inner.join("memory.events"), "low 0\nmax\n").unwrap();
        let error = read().unwrap_err().to_string();
        assert!(
            error.ends_with("memory.events:2: not a name and a number"),
            "{error}"
        );
    }

    #[test]
    fn without_version_2_it_is_said_that_nothing_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let mut unseen = Vec::new();
        let found = read(root.path(), &BTreeSet::from([1]), &mut unseen).unwrap();
        assert!(found.is_empty());
        assert_eq!(unseen[0].what, "the limits of cgroups");
    }
}
