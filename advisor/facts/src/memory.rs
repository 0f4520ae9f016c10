//! /proc/meminfo and /proc/zoneinfo: the RAM, who owns it, and what the kernel
//! computes the defaults of TCP's memory from.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::read::{FactError, Unseen, read_required, read_text};

/// The memory of a host.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Memory {
    /// RAM that the kernel manages, in bytes (MemTotal).
    pub total_bytes: u64,
    /// What programs may still take without swapping, in bytes (MemAvailable).
    pub available_bytes: Option<u64>,
    /// What programs own, in bytes: their own pages, shared memory and huge
    /// pages (AnonPages, Shmem, Hugetlb).
    pub owned_bytes: Option<u64>,
    /// The zones of memory, where /proc/zoneinfo can be read.
    pub zones: Option<Zones>,
}

/// What /proc/zoneinfo says, in pages.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Zones {
    /// Managed pages of all zones.
    pub managed_pages: u64,
    /// Managed pages less the high watermark, of the zones up to Normal: what
    /// nr_free_buffer_pages() in mm/page_alloc.c of Linux counts.
    pub free_buffer_pages: u64,
}

impl Memory {
    /// Reads both files under `root`. Where the second may not be read that is
    /// added to `unseen`.
    pub(crate) fn read(root: &Path, unseen: &mut Vec<Unseen>) -> Result<Self, FactError> {
        let meminfo = root.join("proc/meminfo");
        let mut memory = Self::parse_meminfo(&read_required(&meminfo)?, &meminfo)?;
        let zoneinfo = root.join("proc/zoneinfo");
        match read_text(&zoneinfo) {
            Ok(Some(text)) => memory.zones = Some(Zones::parse(&text, &zoneinfo)?),
            Ok(None) => {}
            // A container may hide it; the RAM says nearly the same.
            Err(FactError::Read { path, source }) => unseen.push(Unseen {
                what: path.display().to_string(),
                why: source.to_string(),
            }),
            Err(error) => return Err(error),
        }
        Ok(memory)
    }

    /// Parses the text of /proc/meminfo; `path` is for the errors.
    pub(crate) fn parse_meminfo(text: &str, path: &Path) -> Result<Self, FactError> {
        let mut values = std::collections::BTreeMap::new();
        for (content, line) in text.lines().zip(1..) {
            let Some((name, value)) = content.split_once(':') else {
                return Err(FactError::malformed(path, line, "no `Name:` at the start"));
            };
            // HugePages_Total and its like are counts and have no unit.
            if let Some(kib) = value.strip_suffix("kB") {
                let bytes = kib.trim().parse::<u64>().ok();
                let bytes = bytes.and_then(|kib| kib.checked_mul(1024)).ok_or_else(|| {
                    FactError::malformed(path, line, format!("no amount in {name}"))
                })?;
                values.insert(name, bytes);
            }
        }
        let total_bytes = values
            .get("MemTotal")
            .copied()
            .filter(|total| *total > 0)
            .ok_or_else(|| FactError::malformed(path, 1, "no `MemTotal: N kB`"))?;
        let value = |name: &str| values.get(name).copied();
        Ok(Self {
            total_bytes,
            available_bytes: value("MemAvailable"),
            owned_bytes: value("AnonPages").map(|anonymous| {
                anonymous
                    .saturating_add(value("Shmem").unwrap_or(0))
                    .saturating_add(value("Hugetlb").unwrap_or(0))
            }),
            zones: None,
        })
    }
}

impl Zones {
    /// Parses the text of /proc/zoneinfo; `path` is for the errors.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, FactError> {
        let mut zones = Self::default();
        let mut zone = None;
        let mut high_pages = 0;
        for (content, line) in text.lines().zip(1..) {
            if content.starts_with("Node ") {
                zone = content.split_whitespace().last();
                high_pages = 0;
                continue;
            }
            // The lines of a CPU's lists are `high:` with a colon.
            let mut words = content.split_whitespace();
            let name @ ("high" | "managed") = words.next().unwrap_or_default() else {
                continue;
            };
            let pages: u64 = words
                .next()
                .and_then(|pages| pages.parse().ok())
                .ok_or_else(|| FactError::malformed(path, line, format!("no pages in {name}")))?;
            if name == "high" {
                high_pages = pages;
                continue;
            }
            zones.managed_pages = zones.managed_pages.saturating_add(pages);
            if matches!(zone, Some("DMA" | "DMA32" | "Normal")) {
                zones.free_buffer_pages = zones
                    .free_buffer_pages
                    .saturating_add(pages.saturating_sub(high_pages));
            }
        }
        if zones.managed_pages == 0 {
            return Err(FactError::malformed(
                path,
                1,
                "no `managed` pages of a zone",
            ));
        }
        Ok(zones)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONEINFO: &str = "\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 1378
  pages free     3840
        boost    0
        min      30
        high     44
        managed  3840
  pagesets
    cpu: 0
              high:     7
Node 0, zone   Normal
        high     16200
        managed  1376256
Node 0, zone  Movable
        high     32
        managed  1000
";

    #[test]
    fn buffers_come_from_the_zones_up_to_normal() {
        let zones = Zones::parse(ZONEINFO, Path::new("zoneinfo")).unwrap();
        assert_eq!(
            zones,
            Zones {
                managed_pages: 3840 + 1_376_256 + 1000,
                free_buffer_pages: 3840 - 44 + 1_376_256 - 16200,
            }
        );
    }

    #[test]
    fn meminfo_says_who_owns_the_memory() {
        let text = "MemTotal: 1000 kB\nMemAvailable: 300 kB\nAnonPages: 400 kB\nShmem: 50 kB\n\
                    HugePages_Total: 7\nHugetlb: 100 kB\n";
        let memory = Memory::parse_meminfo(text, Path::new("meminfo")).unwrap();
        assert_eq!(memory.total_bytes, 1000 << 10);
        assert_eq!(memory.available_bytes, Some(300 << 10));
        assert_eq!(memory.owned_bytes, Some(550 << 10));
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let error = |error: FactError| error.to_string();
        let meminfo = |text| Memory::parse_meminfo(text, Path::new("m")).map_err(error);
        assert_eq!(
            meminfo("MemTotal").unwrap_err(),
            "m:1: no `Name:` at the start"
        );
        assert_eq!(
            meminfo("MemFree: 1 kB\nMemTotal: x kB\n").unwrap_err(),
            "m:2: no amount in MemTotal"
        );
        assert_eq!(
            meminfo("MemFree: 1 kB\n").unwrap_err(),
            "m:1: no `MemTotal: N kB`"
        );
        let zones = |text| Zones::parse(text, Path::new("z")).map_err(error);
        assert_eq!(zones("").unwrap_err(), "z:1: no `managed` pages of a zone");
        assert_eq!(
            zones("Node 0, zone DMA\n  managed\n").unwrap_err(),
            "z:2: no pages in managed"
        );
    }

    #[test]
    fn this_host_is_understood() {
        let memory = Memory::read(Path::new("/"), &mut Vec::new()).unwrap();
        assert!(memory.owned_bytes.is_some());
        assert!(memory.zones.unwrap().free_buffer_pages > 0);
    }
}
