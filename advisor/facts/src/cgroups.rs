//! Limits and memory of control groups of version 2
//! (Documentation/admin-guide/cgroup-v2.rst of Linux) and of version 1
//! (Documentation/admin-guide/cgroup-v1/memory.rst).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::processes::{Processes, has_vanished};
use crate::read::{FactError, Unseen, read_text};

/// Where the hierarchy of version 2 is mounted: alone, or beside version 1.
const MOUNTS: [&str; 2] = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];
/// A file that only a directory of version 2 has.
const MARK: &str = "cgroup.controllers";
/// Where the memory controller of version 1 is mounted.
const MEMORY_V1: &str = "sys/fs/cgroup/memory";
/// Version 1 writes the most pages that it can count where there is no limit.
const UNLIMITED_BYTES: u64 = 1 << 62;
/// Directories that are looked through for the ids of cgroups.
const DIRECTORIES: usize = 100_000;

/// What a cgroup says of its memory; `None` where it has no such file: the root
/// has no limits, and a cgroup without the memory controller has none of them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cgroup {
    /// Its path below the mount, `/system.slice/nginx.service`.
    pub path: String,
    /// Its own memory.max, in bytes; `None` where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<u64>,
    /// Its own memory.high, in bytes: from there on its processes are slowed down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_high_bytes: Option<u64>,
    /// memory.current: what is charged to it and to those below it, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_current_bytes: Option<u64>,
    /// `sock` of memory.stat: what of that is network transmission buffers, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sock_bytes: Option<u64>,
    /// `active_file` and `inactive_file` of memory.stat: cached files, which the kernel
    /// takes back at the limit before anything else suffers, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// memory.events, of those below it as well, counted since the cgroup was made:
    /// `max` and `high` are how often these limits were met, `sock_throttled` (of
    /// later kernels) how often sockets were held back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, u64>,
}

/// What a cgroup of version 1 says of its memory. TCP has a limit of its own
/// there, and is counted only where one was set.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupV1 {
    /// Its path below the mount of the memory controller.
    pub path: String,
    /// The lowest memory.kmem.tcp.limit_in_bytes from here up to the root: what
    /// holds for its sockets. `None` where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_limit_bytes: Option<u64>,
    /// memory.kmem.tcp.usage_in_bytes of the cgroup whose limit that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_usage_bytes: Option<u64>,
    /// memory.kmem.tcp.failcnt of that cgroup: how often the limit was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_failures: Option<u64>,
    /// The lowest memory.limit_in_bytes, which TCP does not count into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// memory.usage_in_bytes of the cgroup whose limit that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_bytes: Option<u64>,
}

/// Reads the cgroups of the memory controller of version 1 that these processes
/// are in, where it is mounted: sock_diag tells only those of version 2.
pub fn read_v1(root: &Path, processes: &Processes) -> Result<Vec<CgroupV1>, FactError> {
    let mount = root.join(MEMORY_V1);
    if !mount.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = BTreeSet::new();
    for process in &processes.all {
        let file = root.join(format!("proc/{}/cgroup", process.pid));
        let text = text(&file)?.unwrap_or_default();
        // One outside the reader's own cgroup namespace begins with `/..`.
        let path = memory_v1(&text).filter(|path| !path.split('/').any(|part| part == ".."));
        paths.extend(path.map(str::to_owned));
    }
    paths
        .into_iter()
        .map(|path| CgroupV1::read(&mount, path))
        .collect()
}

/// The cgroup of the memory controller in the text of /proc/PID/cgroup.
fn memory_v1(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        let is_memory = controllers.split(',').any(|name| name == "memory");
        is_memory.then_some(path)
    })
}

impl CgroupV1 {
    fn read(mount: &Path, path: String) -> Result<Self, FactError> {
        let directory = mount.join(path.trim_start_matches('/'));
        let tcp = lowest(mount, &directory, "memory.kmem.tcp.limit_in_bytes")?;
        let all = lowest(mount, &directory, "memory.limit_in_bytes")?;
        let of = |limit: &Option<(u64, &Path)>, file| match limit {
            Some((_, directory)) => number(&directory.join(file)),
            None => Ok(None),
        };
        Ok(Self {
            tcp_usage_bytes: of(&tcp, "memory.kmem.tcp.usage_in_bytes")?,
            tcp_failures: of(&tcp, "memory.kmem.tcp.failcnt")?,
            tcp_limit_bytes: tcp.map(|(limit, _)| limit),
            usage_bytes: of(&all, "memory.usage_in_bytes")?,
            limit_bytes: all.map(|(limit, _)| limit),
            path,
        })
    }
}

/// The lowest limit from a directory up to the mount, and whose it is; the limit
/// of each parent holds as well.
fn lowest<'a>(
    mount: &Path,
    directory: &'a Path,
    file: &str,
) -> Result<Option<(u64, &'a Path)>, FactError> {
    let mut lowest: Option<(u64, &Path)> = None;
    for ancestor in directory.ancestors() {
        let limit = number(&ancestor.join(file))?.filter(|limit| *limit < UNLIMITED_BYTES);
        if let Some(limit) = limit
            && lowest.is_none_or(|(least, _)| limit < least)
        {
            lowest = Some((limit, ancestor));
        }
        if ancestor == mount {
            break;
        }
    }
    Ok(lowest)
}

/// What the cgroup (v2) of this process and those above it allow, in bytes; `None` where
/// there is no limit, or it may not be read.
pub(crate) fn memory_limit() -> Option<u64> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = mount(Path::new("/"))?;
    let directory = mount.join(own);
    let (limit, _) = lowest(&mount, &directory, "memory.max").ok()??;
    Some(limit)
}

/// Where cgroups of version 2 are mounted.
fn mount(root: &Path) -> Option<PathBuf> {
    let mut mounts = MOUNTS.iter().map(|mount| root.join(mount));
    mounts.find(|mount| mount.join(MARK).exists())
}

/// Reads the cgroups with these ids (the inodes of their directories), and of those
/// above them what has a limit: it holds for what is below.
pub fn read(
    root: &Path,
    ids: &BTreeSet<u64>,
    unseen: &mut Vec<Unseen>,
) -> Result<BTreeMap<u64, Cgroup>, FactError> {
    let mut found = BTreeMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let Some(mount) = mount(root) else {
        if !root.join(MEMORY_V1).is_dir() {
            unseen.push(Unseen {
                what: "the limits of cgroups".to_owned(),
                why: "no cgroup hierarchy is mounted on /sys/fs/cgroup".to_owned(),
            });
        }
        return Ok(found);
    };
    let mut directories = vec![mount.clone()];
    let mut looked_at = 0;
    let mut wanted = ids.clone();
    let mut seen_above = BTreeSet::new();
    while let Some(directory) = directories.pop() {
        looked_at += 1;
        if wanted.is_empty() || looked_at > DIRECTORIES {
            break;
        }
        let Ok(metadata) = fs::metadata(&directory) else {
            continue;
        };
        if wanted.remove(&metadata.ino()) {
            found.insert(metadata.ino(), Cgroup::read(&mount, &directory)?);
            for above in directory.ancestors().skip(1) {
                // What is above one that was seen was seen with it.
                if !above.starts_with(&mount) || !seen_above.insert(above.to_owned()) {
                    break;
                }
                let Ok(metadata) = fs::metadata(above) else {
                    continue;
                };
                let cgroup = Cgroup::read(&mount, above)?;
                if cgroup
                    .memory_max_bytes
                    .or(cgroup.memory_high_bytes)
                    .is_some()
                {
                    found.entry(metadata.ino()).or_insert(cgroup);
                }
            }
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
        let stat = pairs(&directory.join("memory.stat"))?;
        let files = ["active_file", "inactive_file"];
        Ok(Self {
            path: format!("/{}", path.display()),
            memory_max_bytes: number(&directory.join("memory.max"))?,
            memory_high_bytes: number(&directory.join("memory.high"))?,
            memory_current_bytes: number(&directory.join("memory.current"))?,
            sock_bytes: stat.get("sock").copied(),
            file_bytes: files
                .into_iter()
                .filter_map(|name| stat.get(name).copied())
                .reduce(u64::saturating_add),
            events: pairs(&directory.join("memory.events"))?,
        })
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
    use crate::processes::Process;

    #[test]
    fn a_limit_above_is_seen_as_well() {
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
        let id = |directory: &Path| fs::metadata(directory).unwrap().ino();
        let (id, above) = (id(&inner), id(&mount.join("pod")));
        let read = || read(root.path(), &BTreeSet::from([id, 1 << 60]), &mut Vec::new());
        let cgroups = read().unwrap();
        assert_eq!(cgroups.len(), 2, "the mount itself has no limit");
        let cgroup = &cgroups[&id];
        assert_eq!(cgroup.path, "/pod/web");
        assert_eq!(cgroup.memory_max_bytes, None);
        assert_eq!(cgroup.memory_current_bytes, Some(5));
        assert_eq!(cgroup.sock_bytes, Some(77));
        assert_eq!(cgroup.events["max"], 3);
        assert_eq!(cgroups[&above].path, "/pod");
        assert_eq!(cgroups[&above].memory_max_bytes, Some(1_000_000));
        assert_eq!(cgroups[&above].memory_current_bytes, Some(999_999));

        fs::write(mount.join("pod/memory.max"), "max\n").unwrap();
        fs::write(mount.join("pod/memory.high"), "700\n").unwrap();
        assert_eq!(read().unwrap()[&above].memory_high_bytes, Some(700));

        fs::write(inner.join("memory.events"), "low 0\nmax\n").unwrap();
        let error = read().unwrap_err().to_string();
        assert!(
            error.ends_with("memory.events:2: not a name and a number"),
            "{error}"
        );
    }

    #[test]
    fn without_any_hierarchy_it_is_said_that_nothing_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let mut unseen = Vec::new();
        let found = read(root.path(), &BTreeSet::from([1]), &mut unseen).unwrap();
        assert!(found.is_empty());
        assert_eq!(unseen[0].what, "the limits of cgroups");
    }

    #[test]
    fn the_limit_of_tcp_is_read_from_version_1() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join(MEMORY_V1);
        let inner = mount.join("pod/web");
        let proc = root.path().join("proc/17");
        for directory in [&inner, &proc] {
            fs::create_dir_all(directory).unwrap();
        }
        let unlimited = "9223372036854771712\n";
        for (file, text) in [
            ("memory.kmem.tcp.limit_in_bytes", unlimited),
            ("memory.limit_in_bytes", unlimited),
            ("pod/memory.kmem.tcp.limit_in_bytes", "1000000\n"),
            ("pod/memory.kmem.tcp.usage_in_bytes", "999999\n"),
            ("pod/memory.kmem.tcp.failcnt", "12\n"),
            ("pod/memory.limit_in_bytes", unlimited),
            ("pod/web/memory.kmem.tcp.limit_in_bytes", unlimited),
            ("pod/web/memory.kmem.tcp.usage_in_bytes", "5\n"),
            ("pod/web/memory.limit_in_bytes", "70000000\n"),
            ("pod/web/memory.usage_in_bytes", "60000000\n"),
        ] {
            fs::write(mount.join(file), text).unwrap();
        }
        let cgroup = |path: &str| fs::write(proc.join("cgroup"), path).unwrap();
        let process = |pid| Process {
            pid,
            name: "web".to_owned(),
            ..Process::default()
        };
        // The second has ended.
        let processes = Processes {
            all: vec![process(17), process(18)],
            ..Processes::default()
        };
        let read = || read_v1(root.path(), &processes);
        cgroup("4:cpu,memory:/pod/web\n0::/\n");
        assert_eq!(
            read().unwrap(),
            [CgroupV1 {
                path: "/pod/web".to_owned(),
                tcp_limit_bytes: Some(1_000_000),
                tcp_usage_bytes: Some(999_999),
                tcp_failures: Some(12),
                limit_bytes: Some(70_000_000),
                usage_bytes: Some(60_000_000),
            }]
        );
        // Outside what is mounted here, and of version 2 alone.
        for text in ["4:memory:/../other\n", "0::/pod/web\n", "nonsense"] {
            cgroup(text);
            assert_eq!(read().unwrap(), [], "{text}");
        }
        cgroup("4:memory:/pod\n");
        fs::write(mount.join("pod/memory.kmem.tcp.failcnt"), "x\n").unwrap();
        let error = read().unwrap_err().to_string();
        assert!(
            error.ends_with("failcnt:1: \"x\" is not a number"),
            "{error}"
        );

        // It is there, so its absence is not what keeps a rule from telling.
        let mut unseen = Vec::new();
        super::read(root.path(), &BTreeSet::from([1]), &mut unseen).unwrap();
        assert_eq!(unseen, []);
    }
}
