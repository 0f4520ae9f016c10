//! The kernels in the user's cache, each in a directory of its own. A kernel is
//! stored completely or not at all, and boots from its directory alone.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::KernelError;
use super::catalogue::{FLAVOUR, LineRelease, Offer, compare_versions};
use super::image::{self, Module, modules, unpack_vmlinuz};

/// The file in a kernel's directory that describes it.
const RECORD: &str = "kernel.json";
const KERNEL: &str = "vmlinux";
const MODULES: &str = "modules";
const CHANGELOG: &str = "changelog.gz";
/// The name of a temporary directory, up to the process id.
const WORKSHOP: &str = ".new-";

/// The directory with all kernels.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

/// A kernel in the cache.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stored {
    /// Its name: `debian-6.12`.
    pub name: String,
    /// As `uname -r` gives it.
    pub release: String,
    /// The packages that it was unpacked from; empty for a kernel given by
    /// path.
    pub packages: Vec<Package>,
    /// For a kernel given by path: the identity of its files. While they are
    /// the same, it is not stored again.
    #[serde(default)]
    pub origin: Option<String>,
    /// Its files with their lengths, below its directory: the kernel first, then
    /// the modules in the order in which they are to be loaded.
    files: Vec<(String, u64)>,
    #[serde(skip)]
    directory: PathBuf,
}

/// A package of a kernel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl From<&Offer> for Package {
    fn from(offer: &Offer) -> Self {
        Self {
            name: offer.package.clone(),
            version: offer.version.clone(),
        }
    }
}

impl Cache {
    /// The cache of the user: below XDG_CACHE_HOME, or ~/.cache.
    pub fn of_user() -> Result<Self, KernelError> {
        let from = |variable: &str| {
            std::env::var_os(variable)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        from("XDG_CACHE_HOME")
            .or_else(|| from("HOME").map(|home| home.join(".cache")))
            .map(|cache| Self(cache.join("lastbyte/kernels")))
            .ok_or_else(|| {
                KernelError::environment(
                    "cache",
                    "find its directory",
                    "neither XDG_CACHE_HOME nor HOME is set to a path",
                    "set HOME",
                )
            })
    }

    /// A cache in another place.
    pub fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The kernel of that name; `None` where it isn't there.
    pub fn find(&self, name: &str) -> Result<Option<Stored>, KernelError> {
        let directory = self.0.join(name);
        let broken = |words: &str| {
            KernelError::environment(
                &directory.display().to_string(),
                "use this kernel",
                words,
                &match LineRelease::parse(name) {
                    Some(_) => {
                        format!("the cache is damaged; `harness kernels fetch {name}` mends it")
                    }
                    None => format!("the cache is damaged; `harness kernels remove {name}`"),
                },
            )
        };
        let text = match fs::read_to_string(directory.join(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => {
                return Ok(None);
            }
            text => text.map_err(|error| broken(&format!("{RECORD}: {error}")))?,
        };
        let mut stored: Stored =
            serde_json::from_str(&text).map_err(|error| broken(&format!("{RECORD}: {error}")))?;
        for (file, length) in &stored.files {
            let found = directory.join(file).metadata().map_or(0, |file| file.len());
            if found != *length {
                return Err(broken(&format!("{file} has {found} bytes, not {length}")));
            }
        }
        if stored.files.is_empty() {
            return Err(broken(&format!("{RECORD} names no files")));
        }
        stored.directory = directory;
        Ok(Some(stored))
    }

    /// The names of all kernels in it, in no order.
    fn names(&self) -> Vec<String> {
        fs::read_dir(&self.0)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                (entry.path().is_dir() && !name.starts_with('.')).then_some(name)
            })
            .collect()
    }

    /// All kernels in it, by name; an error for one that is damaged.
    pub fn kernels(&self) -> Vec<(String, Result<Stored, KernelError>)> {
        let mut names = self.names();
        names.sort_by(|one, other| compare_versions(one, other));
        names
            .into_iter()
            .filter_map(|name| {
                let found = self.find(&name).transpose()?;
                Some((name, found))
            })
            .collect()
    }

    /// Removes a kernel with its saved guests, damaged or not; the bytes that it took.
    /// `None` if there is none of this name.
    pub fn remove(&self, name: &str) -> Result<Option<u64>, KernelError> {
        if !self.names().iter().any(|found| found == name) {
            return Ok(None);
        }
        let directory = self.0.join(name);
        let bytes = disk_bytes(&directory);
        let workshop = self.workshop()?;
        // Whole or gone: what is cut short is swept away by the next call.
        fs::rename(&directory, workshop.path().join("old"))
            .and_then(|()| workshop.close())
            .map_err(|error| self.error(&format!("remove {name} from it"), &error))?;
        Ok(Some(bytes))
    }

    /// A temporary directory on the same file system. It is removed when it is
    /// dropped; after a killed process, by the next call.
    pub fn workshop(&self) -> Result<TempDir, KernelError> {
        self.sweep();
        let prefix = format!("{WORKSHOP}{}-", std::process::id());
        fs::create_dir_all(&self.0)
            .and_then(|()| tempfile::Builder::new().prefix(&prefix).tempdir_in(&self.0))
            .map_err(|error| self.error("make a directory in it", &error))
    }

    /// Removes the temporary directories of processes that are gone.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|name| name.strip_prefix(WORKSHOP))
                .and_then(|rest| rest.split('-').next());
            if let Some(pid) = owner
                && !Path::new("/proc").join(pid).exists()
            {
                // The next one tries again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Stores a kernel; one of the same name is replaced.
    pub fn store(
        &self,
        name: &str,
        packages: &[Offer],
        origin: Option<String>,
        vmlinuz: &Path,
        module_directory: &Path,
    ) -> Result<Stored, KernelError> {
        let bytes = fs::read(vmlinuz).map_err(|error| {
            KernelError::usage(
                &vmlinuz.display().to_string(),
                "read it",
                &error.to_string(),
                "give the vmlinuz of an x86-64 kernel",
            )
        })?;
        let kernel = unpack_vmlinuz(vmlinuz, &bytes)?;
        let modules = modules(module_directory)?;
        let of_modules = modules.iter().find_map(Module::release).unwrap_or_default();
        let release = image::release(&bytes).unwrap_or(&of_modules).to_owned();
        if release != of_modules {
            return Err(KernelError::usage(
                &vmlinuz.display().to_string(),
                "use it with these modules",
                &format!(
                    "it is {release}, and the modules in {} are of {of_modules}",
                    module_directory.display()
                ),
                "give each kernel the modules that were built with it",
            ));
        }
        let workshop = self.workshop()?;
        let mut stored = Stored {
            name: name.to_owned(),
            release,
            packages: packages.iter().map(Package::from).collect(),
            origin,
            files: Vec::new(),
            directory: self.0.join(name),
        };
        let new = workshop.path().join("new");
        stored
            .write(&new, &kernel, &modules)
            .and_then(|()| {
                // The old one is removed with the temporary directory.
                if stored.directory.exists() {
                    fs::rename(&stored.directory, workshop.path().join("old"))?;
                }
                fs::rename(&new, &stored.directory)
            })
            .map_err(|error| self.error(&format!("store {name} in it"), &error))?;
        Ok(stored)
    }

    fn error(&self, action: &str, error: &io::Error) -> KernelError {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull => "a kernel needs about 150 MB there while it is fetched",
            _ => "XDG_CACHE_HOME names another place",
        };
        KernelError::environment(
            &self.0.display().to_string(),
            action,
            &error.to_string(),
            hint,
        )
    }
}

impl Stored {
    /// A kernel without files.
    #[cfg(test)]
    pub(crate) fn of_release(release: &str) -> Self {
        Self {
            name: release.to_owned(),
            release: release.to_owned(),
            packages: Vec::new(),
            origin: None,
            files: Vec::new(),
            directory: PathBuf::new(),
        }
    }

    fn write(&mut self, to: &Path, kernel: &[u8], modules: &[Module]) -> io::Result<()> {
        fs::create_dir_all(to.join(MODULES))?;
        let mut write = |file: String, content: &[u8]| {
            let mut open = fs::File::create(to.join(&file))?;
            open.write_all(content)?;
            // After a crash there could be a name without its content.
            open.sync_all()?;
            self.files.push((file, content.len() as u64));
            Ok::<(), io::Error>(())
        };
        write(KERNEL.to_owned(), kernel)?;
        for module in modules {
            write(format!("{MODULES}/{}.ko", module.name), &module.content)?;
        }
        fs::write(to.join(RECORD), serde_json::to_vec_pretty(self)?)
    }

    /// The directory with all that belongs to it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file to boot.
    pub fn kernel(&self) -> PathBuf {
        self.directory.join(KERNEL)
    }

    /// Its release as Debian's packages name it: `6.1.0-47`; `None` for another flavour.
    pub fn short_release(&self) -> Option<String> {
        self.release.strip_suffix(FLAVOUR).map(str::to_owned)
    }

    /// The changelog of its package, compressed by gzip. It may be missing.
    pub fn changelog(&self) -> PathBuf {
        self.directory.join(CHANGELOG)
    }

    /// The bytes that it takes on the disk, with its saved guests.
    pub fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.directory)
    }

    /// Its modules, in the order in which they are to be loaded.
    pub fn modules(&self) -> Result<Vec<Module>, KernelError> {
        self.files
            .iter()
            .filter_map(|(file, _)| {
                let name = file.strip_prefix(MODULES)?.strip_prefix('/')?;
                Some((file, name.strip_suffix(".ko")?))
            })
            .map(|(file, name)| {
                let path = self.directory.join(file);
                let content = fs::read(&path).map_err(|error| {
                    KernelError::environment(
                        &path.display().to_string(),
                        "read it",
                        &error.to_string(),
                        "fetch the kernel again",
                    )
                })?;
                Ok(Module {
                    name: name.to_owned(),
                    content,
                })
            })
            .collect()
    }
}

/// What a file's content is, as a short text: its length and a hash.
pub fn content_identity(path: &Path) -> String {
    std::fs::read(path).map_or_else(
        |error| error.to_string(),
        |content| {
            let mut hasher = DefaultHasher::new();
            hasher.write(&content);
            format!("{} bytes, {:016x}", content.len(), hasher.finish())
        },
    )
}

/// The bytes that a directory takes on the disk; what cannot be read counts nothing.
pub fn disk_bytes(directory: &Path) -> u64 {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(of) if of.is_dir() => disk_bytes(&entry.path()),
            Ok(of) => of.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// A file's identity: device, inode, length and time of change. Replacing or
/// writing the file changes one of them.
pub fn file_identity(path: &Path) -> String {
    path.metadata().map_or_else(
        |error| error.to_string(),
        |file| {
            format!(
                "{}:{}:{}:{}.{}",
                file.dev(),
                file.ino(),
                file.len(),
                file.mtime(),
                file.mtime_nsec()
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(directory: &Path) -> Stored {
        let module = |name: &str| Module {
            name: name.to_owned(),
            content: name.into(),
        };
        let mut stored = Stored {
            name: "debian-6.1".to_owned(),
            release: "6.1.0-1-cloud-amd64".to_owned(),
            packages: Vec::new(),
            origin: None,
            files: Vec::new(),
            directory: directory.join("debian-6.1"),
        };
        let to = stored.directory.clone();
        stored
            .write(&to, b"kernel", &[module("veth"), module("sch_netem")])
            .unwrap();
        stored
    }

    #[test]
    fn what_is_stored_is_found_with_its_modules_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let stored = stored(directory.path());
        let found = cache.find("debian-6.1").unwrap().unwrap();
        assert_eq!(found, stored);
        assert_eq!(fs::read(found.kernel()).unwrap(), b"kernel");
        let names: Vec<String> = found
            .modules()
            .unwrap()
            .into_iter()
            .map(|module| module.name)
            .collect();
        assert_eq!(names, ["veth", "sch_netem"]);
        assert!(found.disk_bytes() >= 6 + 4 + 9);
        let names: Vec<String> = cache.kernels().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["debian-6.1"]);
        assert_eq!(cache.find("debian-6.12").unwrap(), None);
    }

    #[test]
    fn a_damaged_kernel_is_an_error_that_says_how_to_mend_it() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let stored = stored(directory.path());
        let complaint = || {
            let error = cache.find("debian-6.1").unwrap_err();
            assert!(error.hint().contains("fetch debian-6.1"), "{error}");
            error.to_string()
        };
        fs::write(stored.kernel(), "kern").unwrap();
        assert!(complaint().contains("vmlinux has 4 bytes, not 6"));
        fs::write(stored.directory.join(RECORD), "{").unwrap();
        assert!(complaint().contains("kernel.json"));
        fs::remove_file(stored.directory.join(RECORD)).unwrap();
        assert!(complaint().contains("kernel.json"));
    }

    #[test]
    fn a_kernel_is_removed_even_if_it_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let stored = stored(directory.path());
        fs::remove_file(stored.directory.join(RECORD)).unwrap();
        assert!(cache.remove("debian-6.1").unwrap().is_some());
        assert_eq!(cache.find("debian-6.1").unwrap(), None);
        for name in ["debian-6.1", "..", ".", ""] {
            assert_eq!(cache.remove(name).unwrap(), None, "{name}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_swept_away() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        // No process has this number: it is above the kernel's largest.
        let left = directory.path().join(".new-99999999-abc/new");
        fs::create_dir_all(&left).unwrap();
        let first = cache.workshop().unwrap();
        let second = cache.workshop().unwrap();
        assert!(!left.exists());
        assert!(first.path().exists() && second.path().exists());
    }

    #[test]
    fn a_file_that_is_no_kernel_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(&directory.path().join("cache"));
        let file = directory.path().join("vmlinuz");
        fs::write(&file, "no kernel").unwrap();
        assert!(
            cache
                .store("mine", &[], None, &file, directory.path())
                .is_err()
        );
        assert!(
            cache
                .store(
                    "mine",
                    &[],
                    None,
                    &directory.path().join("none"),
                    directory.path()
                )
                .is_err()
        );
        assert_eq!(cache.find("mine").unwrap(), None);
        assert!(!cache.directory().exists());
    }

    #[test]
    fn a_file_that_is_replaced_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("qemu"), directory.path().join("new"));
        fs::write(&file, "7.2").unwrap();
        let before = file_identity(&file);
        assert_eq!(before, file_identity(&file));
        fs::write(&other, "8.0").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_ne!(before, file_identity(&file));
    }
}
