//! The kernel that the command line names: parsed, and found in the cache.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use advisor_facts::release;

use super::KernelError;
use super::cache::{Cache, Stored, file_identity};
use super::catalogue::LineRelease;
use super::import;
use crate::lab::namespace::kernel_release;

/// A kernel as the command line names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Choice {
    /// This machine's own where it can run the scenario, otherwise a fetched
    /// one in a guest.
    Auto,
    /// This machine's own.
    Host,
    /// The newest of a line, or one of its releases.
    Line(LineRelease),
    /// One that was imported, by its name.
    Imported(String),
    /// A vmlinuz, or a package with one.
    File(PathBuf),
}

impl Choice {
    /// Parses a name or a path. A path has a slash or is an existing file.
    pub fn parse(text: &str) -> Result<Self, KernelError> {
        match text {
            "auto" => return Ok(Self::Auto),
            "host" => return Ok(Self::Host),
            _ => {}
        }
        if let Some(named) = LineRelease::parse(text) {
            return Ok(Self::Line(named));
        }
        if text.contains('/') || Path::new(text).is_file() {
            return Ok(Self::File(text.into()));
        }
        if Cache::of_user().is_ok_and(|cache| cache.directory().join(text).is_dir()) {
            return Ok(Self::Imported(text.to_owned()));
        }
        Err(KernelError::usage(
            text,
            "run on it",
            "no kernel has this name",
            "give auto, host, a name that `harness kernels` lists, a release of one \
             (debian-6.1=6.1.0-47), or the path of a vmlinuz",
        ))
    }

    /// Whether it can be this machine's own kernel.
    pub fn is_of_host(&self) -> bool {
        matches!(self, Self::Auto | Self::Host)
    }

    /// The kernel to boot; `None` for this machine's own, and for `auto` where
    /// none was fetched. A kernel of the catalogue must have been fetched. A
    /// file is stored with the modules in `modules`; default: those in
    /// `modules` or `lib/modules` beside the vmlinuz, or of its release on this
    /// machine. `auto` is the fetched kernel nearest to the host's.
    pub fn resolve(
        &self,
        cache: &Cache,
        modules: Option<&Path>,
    ) -> Result<Option<Stored>, KernelError> {
        match self {
            Self::Host => Ok(None),
            Self::Auto => Ok(nearest(cache, &kernel_release())),
            Self::Line(named) => match find(cache, named)? {
                Some(stored) => Ok(Some(stored)),
                None => Err(KernelError::environment(
                    &named.to_string(),
                    "run on it",
                    "it hasn't been fetched",
                    &format!("harness kernels fetch {named}"),
                )),
            },
            Self::Imported(name) => cache.find(name),
            Self::File(path) => take_in(path, modules, cache).map(Some),
        }
    }
}

/// The kernel in the cache; `None` if it was not fetched. The newest of a line may be the
/// release that is looked for.
pub fn find(cache: &Cache, named: &LineRelease) -> Result<Option<Stored>, KernelError> {
    if let Some(stored) = cache.find(&named.to_string())? {
        return Ok(Some(stored));
    }
    let Some(release) = &named.release else {
        return Ok(None);
    };
    let newest = cache.find(named.line.name)?;
    Ok(newest.filter(|newest| newest.short_release().as_ref() == Some(release)))
}

/// Refuses `--modules` without a kernel given by path: the others have their
/// own modules.
pub fn check_modules(choices: &[Choice], modules: Option<&Path>) -> Result<(), KernelError> {
    let is_file = |choice: &Choice| matches!(choice, Choice::File(_));
    match modules {
        Some(modules) if !choices.iter().any(is_file) => Err(KernelError::usage(
            &modules.display().to_string(),
            "take modules from it",
            "no kernel is given by its path",
            "--modules goes with --kernel PATH, the path of a vmlinuz",
        )),
        _ => Ok(()),
    }
}

/// The vmlinuz, or the one of a package, in the cache. It is stored unless it is there
/// already, with the same modules.
fn take_in(path: &Path, modules: Option<&Path>, cache: &Cache) -> Result<Stored, KernelError> {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut hasher = DefaultHasher::new();
    whole.hash(&mut hasher);
    let name = format!("file-{:016x}", hasher.finish());
    let stored = |origin: &String| match cache.find(&name) {
        Ok(Some(stored)) if stored.origin.as_ref() == Some(origin) => Some(stored),
        // A damaged one is replaced, too.
        _ => None,
    };
    let identity = format!("{}|{}", whole.display(), file_identity(path));
    if import::is_package(path) {
        return match stored(&identity) {
            Some(stored) => Ok(stored),
            None => import::packages(&[path.to_owned()], Some(&name), Some(identity), cache),
        };
    }
    let modules = match modules {
        Some(named) if named.join("kernel").is_dir() => named.to_owned(),
        Some(named) => {
            return Err(KernelError::usage(
                &named.display().to_string(),
                "take modules from it",
                "it has no directory kernel/",
                "name a directory such as /lib/modules/RELEASE",
            ));
        }
        None => modules_beside(path)?,
    };
    let origin = format!(
        "{identity}|{}|{}",
        modules.display(),
        // Installing modules replaces this directory.
        file_identity(&modules.join("kernel"))
    );
    match stored(&origin) {
        Some(stored) => Ok(stored),
        None => cache.store(&name, &[], Some(origin), path, &modules),
    }
}

/// The kernel fetched by name that has this release, else the one nearest to it; the
/// older of two that are equally near, the newest of its line.
pub fn nearest(cache: &Cache, release: &str) -> Option<Stored> {
    // A damaged one is left out; `harness doctor` reports it. One that was imported may
    // have any patch.
    let fetched: Vec<Stored> = cache
        .kernels()
        .into_iter()
        .filter(|(name, _)| LineRelease::parse(name).is_some())
        .filter_map(|(_, stored)| stored.ok())
        .collect();
    if let Some(same) = fetched.iter().find(|stored| stored.release == release) {
        return Some(same.clone());
    }
    release::nearest(fetched, |stored| stored.release.as_str(), release).map(|(stored, _)| stored)
}

/// The directory with the modules of a vmlinuz that was given by its path.
fn modules_beside(vmlinuz: &Path) -> Result<PathBuf, KernelError> {
    let name = vmlinuz
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let release = name.strip_prefix("vmlinuz-").unwrap_or_default();
    let beside = vmlinuz.parent().unwrap_or(Path::new("."));
    let installed = ["lib/modules", "../lib/modules", "../usr/lib/modules"]
        .iter()
        .map(|directory| beside.join(directory).join(release))
        .chain([Path::new("/lib/modules").join(release)]);
    // A distribution may keep the vmlinuz among its modules.
    [beside.join("modules"), beside.to_owned()]
        .into_iter()
        .chain(installed.filter(|_| !release.is_empty()))
        .find(|directory| directory.join("kernel/net").is_dir())
        .ok_or_else(|| {
            KernelError::usage(
                &vmlinuz.display().to_string(),
                "run on it",
                "its modules are not beside it",
                "name a directory such as /lib/modules/RELEASE with --modules",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_named_or_given_by_its_path() {
        assert_eq!(Choice::parse("host").unwrap(), Choice::Host);
        assert_eq!(Choice::parse("auto").unwrap(), Choice::Auto);
        assert_eq!(
            Choice::parse("debian-6.1").unwrap(),
            Choice::Line(LineRelease::parse("debian-6.1").unwrap())
        );
        assert_eq!(
            Choice::parse("./vmlinuz").unwrap(),
            Choice::File("./vmlinuz".into())
        );
        let error = Choice::parse("debian-4.4").unwrap_err();
        assert!(error.is_usage);
        assert!(error.hint().contains("harness kernels"), "{}", error.hint());
    }

    #[test]
    fn a_kernel_that_was_not_fetched_says_how_to() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let choice = Choice::parse("debian-6.1").unwrap();
        let error = choice.resolve(&cache, None).unwrap_err();
        assert_eq!(error.hint(), "harness kernels fetch debian-6.1");
        assert_eq!(Choice::Host.resolve(&cache, None).unwrap(), None);
        assert_eq!(Choice::Auto.resolve(&cache, None).unwrap(), None);
    }

    #[test]
    fn modules_are_looked_for_beside_the_vmlinuz() {
        let directory = tempfile::tempdir().unwrap();
        let boot = directory.path().join("boot");
        let modules = directory.path().join("lib/modules/6.1.0-x/kernel/net");
        std::fs::create_dir_all(&boot).unwrap();
        let vmlinuz = boot.join("vmlinuz-6.1.0-x");
        let error = modules_beside(&vmlinuz).unwrap_err();
        assert!(error.is_usage);
        std::fs::create_dir_all(&modules).unwrap();
        assert_eq!(
            modules_beside(&vmlinuz).unwrap(),
            boot.join("../lib/modules/6.1.0-x")
        );
    }
}
