//! The initramfs of a guest, made at each boot from the harness's own program.
//!
//! The program is packed as it is, with its loader and libraries where it has
//! any, at the paths that they have here. So host and guest share one build; a
//! static one makes the initramfs smaller.

use std::path::{Path, PathBuf};

use super::cpio::Archive;
use crate::kernels::KernelError;
use crate::kernels::elf;
use crate::kernels::image::Module;

/// The default search paths of the distributions' loaders.
const LIBRARY_DIRECTORIES: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// The path of the harness in the guest.
pub const INIT: &str = "/init";
/// The list of modules: one path a line, in the order of loading.
pub const MODULE_LIST: &str = "/modules.list";

/// The initramfs: the program as init, its libraries, and the modules with
/// their list.
pub fn initramfs(program: &Path, modules: &[Module]) -> Result<Vec<u8>, KernelError> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "run", "tmp", "mnt", "media"] {
        archive.directory(directory);
    }
    // The kernel opens it for init before init can mount anything.
    archive.device("dev/console", 5, 1);
    let content = read(program)?;
    archive.file(INIT, &elf::loaded(&content));
    for library in libraries(program, &content)? {
        archive.file(&library.to_string_lossy(), &elf::loaded(&read(&library)?));
    }
    let mut list = String::new();
    for module in modules {
        let path = format!("/modules/{}.ko", module.name);
        archive.file(&path, &module.content);
        list += &path;
        list.push('\n');
    }
    archive.file(MODULE_LIST, list.as_bytes());
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>, KernelError> {
    std::fs::read(path).map_err(|error| {
        KernelError::environment(
            &path.display().to_string(),
            "pack it for a guest",
            &error.to_string(),
            "",
        )
    })
}

/// The loader and the libraries of a program, found as its loader finds them.
pub fn libraries(program: &Path, content: &[u8]) -> Result<Vec<PathBuf>, KernelError> {
    let Some(elf) = elf::parse(content) else {
        return Err(KernelError::environment(
            &program.display().to_string(),
            "pack it for a guest",
            "it is no x86-64 program",
            "guests run on x86-64 only",
        ));
    };
    let Some(loader) = elf.interpreter else {
        return Ok(Vec::new());
    };
    let mut found = vec![PathBuf::from(loader)];
    let mut pending = linked(program, &elf)?;
    while let Some(library) = pending.pop() {
        if found
            .iter()
            .any(|known| known.file_name() == library.file_name())
        {
            continue;
        }
        let bytes = read(&library)?;
        if let Some(elf) = elf::parse(&bytes) {
            pending.extend(linked(&library, &elf)?);
        }
        found.push(library);
    }
    Ok(found)
}

/// The libraries that a file is linked with directly.
fn linked(file: &Path, elf: &goblin::elf::Elf) -> Result<Vec<PathBuf>, KernelError> {
    elf.libraries
        .iter()
        .map(|name| {
            let own = elf.rpaths.iter().chain(&elf.runpaths);
            own.flat_map(|paths| paths.split(':'))
                .filter(|path| path.starts_with('/'))
                .chain(LIBRARY_DIRECTORIES.iter().copied())
                .map(|directory| Path::new(directory).join(name))
                .find(|path| path.exists())
                .ok_or_else(|| {
                    KernelError::environment(
                        &file.display().to_string(),
                        "pack it for a guest",
                        &format!("its library {name} is in none of the loader's directories"),
                        "build it with RUSTFLAGS=-Ctarget-feature=+crt-static",
                    )
                })
        })
        .collect()
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_packed_with_what_it_is_linked_with() {
        let program = std::env::current_exe().unwrap();
        let content = std::fs::read(&program).unwrap();
        let libraries = libraries(&program, &content).unwrap();
        let dynamic = elf::parse(&content).unwrap().interpreter.is_some();
        let libc = |path: &PathBuf| path.ends_with("libc.so.6");
        assert_eq!(libraries.iter().any(libc), dynamic, "{libraries:?}");
    }
}
