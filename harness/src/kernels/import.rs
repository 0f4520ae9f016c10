//! Takes a kernel of the user's own into the cache: a build tree, or packages.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::KernelError;
use super::cache::{Cache, Stored};
use super::catalogue::LineRelease;
use super::fetch::{find_kernel, unpack};
use super::image;

const HINT: &str = "give a build tree of an x86-64 kernel, a directory with boot/vmlinuz and \
    lib/modules, or the packages (.deb) of one kernel";

/// Imports a kernel from a directory, or from the packages of one kernel. Default for
/// `name`: its release.
pub fn import(paths: &[PathBuf], name: Option<&str>, cache: &Cache) -> Result<Stored, KernelError> {
    if let Some(name) = name {
        check_name(name)?;
    }
    if paths.iter().all(|path| is_package(path)) {
        return packages(paths, name, None, cache);
    }
    match paths {
        [tree] if tree.is_dir() => {
            let (vmlinuz, modules) = find_built(tree)?;
            store(name, None, cache, &vmlinuz, &modules)
        }
        [path] => {
            let words = match path.try_exists() {
                Ok(true) => "it is neither a directory nor a package".to_owned(),
                Ok(false) => "no such file or directory".to_owned(),
                Err(error) => error.to_string(),
            };
            Err(refuse(path, &words))
        }
        paths => {
            let other = paths.iter().find(|path| !is_package(path));
            let words = "one directory is imported at a time, and no package beside it";
            Err(refuse(other.unwrap_or(&paths[0]), words))
        }
    }
}

fn refuse(path: &Path, words: &str) -> KernelError {
    KernelError::usage(&path.display().to_string(), "import it", words, HINT)
}

/// Whether a path is a package by its name.
pub fn is_package(path: &Path) -> bool {
    path.is_file() && path.extension() == Some(OsStr::new("deb"))
}

/// Imports the packages of one kernel: its image, and its modules where they are apart.
pub fn packages(
    packages: &[PathBuf],
    name: Option<&str>,
    origin: Option<String>,
    cache: &Cache,
) -> Result<Stored, KernelError> {
    let workshop = cache.workshop()?;
    let unpacked = unpack(packages, workshop.path())?;
    let (vmlinuz, modules) = find_kernel(&unpacked).ok_or_else(|| {
        refuse(
            &packages[0],
            "it is not the package of a kernel: it has no vmlinuz, or no modules",
        )
    })?;
    store(name, origin, cache, &vmlinuz, &modules)
}

/// The kernel and the modules of a build tree, or of a directory that one was installed
/// to. A build tree has its modules in place, or below lib/modules after
/// `make INSTALL_MOD_PATH=DIR modules_install`.
fn find_built(tree: &Path) -> Result<(PathBuf, PathBuf), KernelError> {
    if let Some(found) = find_kernel(tree) {
        return Ok(found);
    }
    let mut images = ["arch/x86/boot/bzImage", "bzImage", "vmlinuz", "vmlinux"]
        .into_iter()
        .map(|image| tree.join(image));
    let Some(image) = images.find(|image| image.is_file()) else {
        return Err(refuse(
            tree,
            "it has no arch/x86/boot/bzImage, vmlinux or boot/vmlinuz",
        ));
    };
    let installed = std::fs::read_dir(tree.join("lib/modules"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|release| release.join("kernel").is_dir());
    Ok((image, installed.unwrap_or_else(|| tree.to_owned())))
}

fn store(
    name: Option<&str>,
    origin: Option<String>,
    cache: &Cache,
    vmlinuz: &Path,
    modules: &Path,
) -> Result<Stored, KernelError> {
    if let Some(name) = name {
        return cache.store(name, &[], origin, vmlinuz, modules);
    }
    let modules_found = image::modules(modules)?;
    let release = modules_found.iter().find_map(image::Module::release);
    let release = release.ok_or_else(|| refuse(modules, "its modules name no release"))?;
    check_name(&release)?;
    cache.store(&release, &[], origin, vmlinuz, modules)
}

/// A name that is no other kernel's, and no path.
fn check_name(name: &str) -> Result<(), KernelError> {
    let is_word = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".+~_-".contains(&byte))
        && name.starts_with(|first: char| first.is_ascii_alphanumeric());
    let words = if !is_word {
        "a name has letters, digits and . + ~ _ -, and begins with a letter or digit"
    } else if matches!(name, "auto" | "host")
        || name.starts_with("file-")
        || LineRelease::parse(name).is_some()
    {
        "this name has a meaning already"
    } else {
        return Ok(());
    };
    let hint = "--name NAME gives it another";
    Err(KernelError::usage(name, "call a kernel that", words, hint))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_no_kernel_is_refused_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(&directory.path().join("cache"));
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("arch/x86/boot")).unwrap();
        let package = directory.path().join("a.deb");
        fs::write(&package, "no package").unwrap();
        let refused = |paths: &[PathBuf]| import(paths, None, &cache).unwrap_err().to_string();
        assert!(refused(std::slice::from_ref(&tree)).contains("has no arch/x86/boot/bzImage"));
        assert!(refused(&[directory.path().join("none")]).contains("no such file"));
        assert!(refused(&[tree.clone(), package.clone()]).contains("one directory"));
        fs::write(tree.join("arch/x86/boot/bzImage"), "no kernel").unwrap();
        assert!(refused(&[tree]).contains("there is no veth.ko"));
        refused(&[package]);
        assert!(cache.kernels().is_empty());
        let left = fs::read_dir(cache.directory()).into_iter().flatten();
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn a_name_is_no_path_and_no_other_kernels() {
        for name in ["mine", "6.12.0-rc3+", "net-next_1"] {
            check_name(name).unwrap();
        }
        for name in [
            "",
            "..",
            "a/b",
            ".new-1",
            "host",
            "debian-6.1",
            "file-1",
            "a=b",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
