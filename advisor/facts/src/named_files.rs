//! Files by their names, out of a tar archive or a directory: one at a time, into
//! memory, and only those that are asked for. No link is followed, nothing is written,
//! and what an archive may take is bounded: it comes from elsewhere.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use tar::EntryType;

/// So many entries at most; a large sosreport has some 50,000.
pub const ENTRIES_LIMIT: usize = 400_000;
/// An archive is not larger unpacked, in bytes.
pub const UNPACKED_LIMIT_BYTES: u64 = 8 << 30;
/// The largest file that is kept, in bytes: a million lines of sockets.
pub const FILE_LIMIT_BYTES: u64 = 256 << 20;
/// The most that is kept of all files, in bytes.
pub const KEPT_LIMIT_BYTES: u64 = 512 << 20;
/// The memory for unpacking xz, in KiB: `xz -9` takes 64 MiB.
const XZ_LIMIT_KIB: u32 = 128 << 10;
/// The longest name that an extension header may give, in bytes (PATH_MAX is 4096).
const NAME_LIMIT_BYTES: u64 = 64 << 10;
/// The deepest directory that is looked into.
const DEPTH_LIMIT: usize = 40;
/// So much is read to tell what a file is.
const HEAD_BYTES: usize = 512;

/// The names that stand first in an archive without a directory around it.
const TOP: [&str; 5] = ["sos_commands", "proc", "etc", "sys", "version.txt"];

/// The files that were asked for.
#[derive(Debug, Default)]
pub struct NamedFiles {
    files: BTreeMap<String, Vec<u8>>,
    /// Links of a name that was asked for, and where they lead.
    links: BTreeMap<String, String>,
    /// The directory that stands around all of them.
    around: Option<String>,
    entries: usize,
    kept_bytes: u64,
    /// The first names, for the error that it is something else.
    first_names: Vec<String>,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct ArchiveError {
    /// The archive.
    pub path: PathBuf,
    /// The file in it, and what is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// Reads on until there is too much.
struct Bounded<R> {
    inner: R,
    left_bytes: u64,
}

impl<R> Bounded<R> {
    const fn new(inner: R, limit_bytes: u64) -> Self {
        Self {
            inner,
            left_bytes: limit_bytes,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        match self.left_bytes.checked_sub(length as u64) {
            Some(left_bytes) => self.left_bytes = left_bytes,
            None => {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!(
                        "it is larger than {} GiB unpacked",
                        UNPACKED_LIMIT_BYTES >> 30
                    ),
                ));
            }
        }
        Ok(length)
    }
}

const HINT_SOSREPORT: &str =
    "give the .tar.xz or .tar.gz that `sosreport` made, or the directory that it unpacks to";
const HINT_COPY: &str =
    "copy it again and compare it with its checksum, the file .md5 or .sha256 beside it";
const HINT_HOSTILE: &str = "sosreport makes no such archive: do not unpack it, and ask who made it";

impl NamedFiles {
    /// Reads the files whose names and sizes are wanted out of an archive or a directory.
    pub fn read(path: &Path, wanted: &dyn Fn(&str, u64) -> bool) -> Result<Self, ArchiveError> {
        let error = |what: String, hint| ArchiveError {
            path: path.to_owned(),
            what,
            hint,
        };
        let cannot = |source: io::Error| error(format!("cannot read it: {source}"), HINT_SOSREPORT);
        let kind = fs::metadata(path).map_err(cannot)?;
        let mut files = Self::default();
        if kind.is_dir() {
            files
                .walk(path, "", 0, wanted)
                .map_err(|(what, hint)| error(what, hint))?;
            return Ok(files);
        }
        let file = File::open(path).map_err(cannot)?;
        files
            .unpack(BufReader::new(file), wanted)
            .map_err(|(what, hint)| error(what, hint))?;
        Ok(files)
    }

    /// Reads them out of the bytes of an archive.
    pub fn unpack(
        &mut self,
        mut packed: impl Read,
        wanted: &dyn Fn(&str, u64) -> bool,
    ) -> Result<(), (String, &'static str)> {
        let mut head = Vec::new();
        packed
            .by_ref()
            .take(HEAD_BYTES as u64)
            .read_to_end(&mut head)
            .map_err(|source| (format!("cannot read it: {source}"), HINT_SOSREPORT))?;
        let is_xz = head.starts_with(b"\xfd7zXZ\0");
        let is_gzip = head.starts_with(b"\x1f\x8b");
        let is_tar = head.get(257..262) == Some(b"ustar");
        let other = [
            (&b"BZh"[..], "bzip2"),
            (b"\x28\xb5\x2f\xfd", "zstd"),
            (b"PK\x03\x04", "zip"),
            (b"\x89GPG", "gpg"),
            (b"\x8c\x0d", "gpg"),
        ]
        .into_iter()
        .find(|(magic, _)| head.starts_with(magic));
        let is_json = head.trim_ascii_start().starts_with(b"{");
        let whole = Cursor::new(head).chain(packed);
        let limit = UNPACKED_LIMIT_BYTES;
        if is_xz {
            let xz = XzReader::new_mem_limit(whole, true, XZ_LIMIT_KIB);
            self.read_tar(Bounded::new(xz, limit), wanted)
        } else if is_gzip {
            self.read_tar(Bounded::new(MultiGzDecoder::new(whole), limit), wanted)
        } else if is_tar {
            self.read_tar(Bounded::new(whole, limit), wanted)
        } else if let Some((_, name)) = other {
            Err((
                format!("it is packed by {name}, which is not read"),
                "unpack it and give the directory",
            ))
        } else {
            let hint = if is_json {
                "give what `advisor capture` wrote to --facts"
            } else {
                HINT_SOSREPORT
            };
            Err((
                "it is no archive: neither xz, gzip nor tar".to_owned(),
                hint,
            ))
        }
    }

    fn read_tar(
        &mut self,
        unpacked: Bounded<impl Read>,
        wanted: &dyn Fn(&str, u64) -> bool,
    ) -> Result<(), (String, &'static str)> {
        let mut archive = tar::Archive::new(unpacked);
        let mut last = None::<String>;
        let broken = |error: &io::Error, last: Option<&String>| {
            let place = last.map_or_else(
                || "before its first file".to_owned(),
                |name| format!("after {name:?}"),
            );
            if error.kind() == io::ErrorKind::FileTooLarge {
                (error.to_string(), HINT_HOSTILE)
            } else if error.kind() == io::ErrorKind::UnexpectedEof {
                (format!("it is cut off {place}"), HINT_COPY)
            } else {
                (format!("it is damaged {place}: {error}"), HINT_COPY)
            }
        };
        let entries = archive.entries().map_err(|error| broken(&error, None))?;
        // Raw: the library would hold a name of any length in memory.
        let mut long_name: Option<Vec<u8>> = None;
        for entry in entries.raw(true) {
            let mut entry = entry.map_err(|error| broken(&error, last.as_ref()))?;
            self.count()?;
            let kind = entry.header().entry_type();
            let names_next = matches!(kind, EntryType::GNULongName | EntryType::XHeader);
            if names_next || matches!(kind, EntryType::GNULongLink | EntryType::XGlobalHeader) {
                if entry.size() > NAME_LIMIT_BYTES {
                    return Err((
                        format!("a name of {} bytes in it", entry.size()),
                        HINT_HOSTILE,
                    ));
                }
                let mut bytes = Vec::new();
                entry
                    .read_to_end(&mut bytes)
                    .map_err(|error| broken(&error, last.as_ref()))?;
                match kind {
                    EntryType::GNULongName => {
                        bytes.truncate(
                            bytes
                                .iter()
                                .position(|byte| *byte == 0)
                                .unwrap_or(bytes.len()),
                        );
                        long_name = Some(bytes);
                    }
                    EntryType::XHeader => long_name = pax_path(&bytes).or(long_name),
                    _ => {}
                }
                continue;
            }
            let bytes = match long_name.take() {
                Some(name) => name,
                None => entry.path_bytes().into_owned(),
            };
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            let name = self.name(&bytes)?;
            last = Some(shown);
            if !wanted(&name, entry.size()) {
                continue;
            }
            match kind {
                EntryType::Regular | EntryType::Continuous => {
                    let size = entry.size();
                    let content = self
                        .keep(&name, size, &mut entry)?
                        .map_err(|error| broken(&error, last.as_ref()))?;
                    if (content.len() as u64) < size {
                        return Err((format!("it is cut off in {name:?}"), HINT_COPY));
                    }
                    self.files.insert(name, content);
                }
                EntryType::Symlink | EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = String::from_utf8_lossy(&target).into_owned();
                    self.links.insert(name, target);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), (String, &'static str)> {
        self.entries += 1;
        if self.entries > ENTRIES_LIMIT {
            return Err((
                format!(
                    "there are more than {ENTRIES_LIMIT} files in it; a large sosreport has 50000"
                ),
                HINT_HOSTILE,
            ));
        }
        Ok(())
    }

    /// The name inside the directory that stands around all of an archive.
    fn name(&mut self, bytes: &[u8]) -> Result<String, (String, &'static str)> {
        let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
        let mut parts = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(part) => parts.push(part.to_string_lossy()),
                Component::CurDir => {}
                Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                    return Err((
                        format!(
                            "the name {:?} in it leads out of it",
                            path.to_string_lossy()
                        ),
                        HINT_HOSTILE,
                    ));
                }
            }
        }
        if self.first_names.len() < 3 && !parts.is_empty() {
            self.first_names.push(parts.join("/"));
        }
        let is_inside = parts
            .first()
            .is_none_or(|first| TOP.contains(&first.as_ref()));
        if !is_inside {
            let around = parts.remove(0).into_owned();
            match &self.around {
                Some(known) if *known != around => {
                    // Two hosts would become one.
                    if parts
                        .first()
                        .is_some_and(|first| TOP.contains(&first.as_ref()))
                    {
                        return Err((
                            format!("there are two hosts in it, {known:?} and {around:?}"),
                            "unpack it and give one of its directories",
                        ));
                    }
                }
                Some(_) => {}
                None if parts.is_empty() => {}
                None => self.around = Some(around),
            }
        }
        Ok(parts.join("/"))
    }

    /// The content of a file that is kept; the inner error is the reader's.
    fn keep(
        &mut self,
        name: &str,
        size: u64,
        from: &mut impl Read,
    ) -> Result<io::Result<Vec<u8>>, (String, &'static str)> {
        let too_large = |limit: u64| {
            (
                format!("{name:?} in it is larger than {} MiB", limit >> 20),
                HINT_HOSTILE,
            )
        };
        if size > FILE_LIMIT_BYTES {
            return Err(too_large(FILE_LIMIT_BYTES));
        }
        let mut content = Vec::new();
        // A file of /proc has no size.
        if let Err(error) = from.take(FILE_LIMIT_BYTES + 1).read_to_end(&mut content) {
            return Ok(Err(error));
        }
        self.kept_bytes += content.len() as u64;
        if content.len() as u64 > FILE_LIMIT_BYTES || self.kept_bytes > KEPT_LIMIT_BYTES {
            return Err(too_large(FILE_LIMIT_BYTES));
        }
        Ok(Ok(content))
    }

    /// Looks through a directory, without following a link.
    fn walk(
        &mut self,
        directory: &Path,
        inside: &str,
        depth: usize,
        wanted: &dyn Fn(&str, u64) -> bool,
    ) -> Result<(), (String, &'static str)> {
        if depth > DEPTH_LIMIT {
            return Err((format!("{inside:?} in it is too deep"), HINT_HOSTILE));
        }
        let cannot = |what: &str, source: &io::Error| {
            (
                format!("{what:?} in it cannot be read: {source}"),
                HINT_SOSREPORT,
            )
        };
        let entries = fs::read_dir(directory).map_err(|source| cannot(inside, &source))?;
        for entry in entries {
            let entry = entry.map_err(|source| cannot(inside, &source))?;
            self.count()?;
            let file_name = entry.file_name();
            let file_name = file_name.to_string_lossy();
            let name = if inside.is_empty() {
                file_name.into_owned()
            } else {
                format!("{inside}/{file_name}")
            };
            if self.first_names.len() < 3 {
                self.first_names.push(name.clone());
            }
            let path = entry.path();
            let seen = fs::symlink_metadata(&path).map_err(|source| cannot(&name, &source))?;
            if seen.is_dir() {
                // What sosreport has of /sys is large, and nothing of it is asked for.
                if name != "sys" {
                    self.walk(&path, &name, depth + 1, wanted)?;
                }
            } else if !wanted(&name, seen.len()) {
            } else if seen.is_symlink() {
                let target = fs::read_link(&path).unwrap_or_default();
                self.links
                    .insert(name, target.to_string_lossy().into_owned());
            } else if seen.is_file() {
                let mut file = File::open(&path).map_err(|source| cannot(&name, &source))?;
                let opened = file.metadata().map_err(|source| cannot(&name, &source))?;
                if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) {
                    return Err((
                        format!("{name:?} in it was replaced meanwhile"),
                        HINT_SOSREPORT,
                    ));
                }
                let content = self
                    .keep(&name, seen.len(), &mut file)?
                    .map_err(|source| cannot(&name, &source))?;
                self.files.insert(name, content);
            }
        }
        Ok(())
    }

    /// The content of a file.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The text of a file; bytes that are no text are shown as such.
    pub fn text(&self, name: &str) -> Option<String> {
        self.bytes(name)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The names of the files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The links of wanted names, each with where it leads.
    pub fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.links
            .iter()
            .map(|(name, target)| (name.as_str(), target.as_str()))
    }

    /// The first names of all, wanted or not.
    pub fn first_names(&self) -> &[String] {
        &self.first_names
    }
}

/// The path of an extended header of pax: lines of `LENGTH KEY=VALUE`.
fn pax_path(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut path = None;
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
        let line = bytes.get(blank + 1..length)?;
        if let Some(value) = line.strip_prefix(b"path=") {
            path = Some(value.strip_suffix(b"\n").unwrap_or(value).to_vec());
        }
        bytes = &bytes[length..];
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_unpacks_to_too_much_is_given_up() {
        let mut header = tar::Header::new_gnu();
        header.set_path("s/large").unwrap();
        header.set_size(1 << 30);
        header.set_cksum();
        let endless = Cursor::new(header.as_bytes().to_vec()).chain(io::repeat(0));
        let mut files = NamedFiles::default();
        let read = files.read_tar(Bounded::new(endless, 1 << 20), &|_, _| false);
        assert_eq!(
            read,
            Err(("it is larger than 8 GiB unpacked".to_owned(), HINT_HOSTILE))
        );
    }

    #[test]
    fn the_path_of_a_pax_header_is_read_and_others_are_passed_over() {
        assert_eq!(pax_path(b"9 a=bcd\n12 path=a/b\n"), None);
        assert_eq!(pax_path(b"8 a=bcd\n12 path=a/b\n").unwrap(), b"a/b");
        for bytes in [&b""[..], b"x", b"99 path=a\n", b"0 path=a\n", b"1 "] {
            assert_eq!(pax_path(bytes), None, "{bytes:?}");
        }
    }
}
