//! ELF files, 64 bit and little endian: the libraries of a program, and a section
//! of a kernel module.

use goblin::elf::Elf;

/// Whether the bytes begin as an ELF file.
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF\x02\x01")
}

/// The ELF file, if it is well-formed.
pub fn parse(bytes: &[u8]) -> Option<Elf<'_>> {
    is_elf(bytes).then(|| Elf::parse(bytes).ok())?
}

/// The bytes of a section.
pub fn section<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let elf = parse(bytes)?;
    let named = |index| elf.shdr_strtab.get_at(index) == Some(name);
    let mut headers = elf.section_headers.iter();
    bytes.get(headers.find(|header| named(header.sh_name))?.file_range()?)
}

/// The file up to the end of its loaded segments; a file that is not ELF, whole.
/// The sections behind them, symbols and debugging information, are most of a debug
/// build.
pub fn loaded(bytes: &[u8]) -> Vec<u8> {
    let end = parse(bytes).and_then(|elf| {
        let segments = elf.program_headers.iter();
        segments.map(|segment| segment.file_range().end).max()
    });
    let Some(loaded) = end.and_then(|end| bytes.get(..end)) else {
        return bytes.to_vec();
    };
    let mut loaded = loaded.to_vec();
    // e_shoff, then e_shnum and e_shstrndx: there is no table of sections.
    for field in [40..48, 60..64] {
        if let Some(bytes) = loaded.get_mut(field) {
            bytes.fill(0);
        }
    }
    loaded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_runs_without_the_rest() {
        use std::os::unix::fs::PermissionsExt;
        let whole = std::fs::read("/proc/self/exe").unwrap();
        let loaded = loaded(&whole);
        assert!(loaded.len() < whole.len(), "{}", loaded.len());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &loaded).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(file.path(), mode).unwrap();
        let path = file.into_temp_path();
        let ran = std::process::Command::new(&path).arg("--list").output();
        assert!(ran.unwrap().status.success());
    }

    #[test]
    fn this_test_names_its_loader_and_libraries_or_is_static() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let elf = parse(&bytes).unwrap();
        let libraries = &elf.libraries;
        match elf.interpreter {
            Some(loader) => {
                assert!(loader.starts_with('/'), "{loader}");
                assert!(libraries.contains(&"libc.so.6"), "{libraries:?}");
            }
            None => assert!(libraries.is_empty()),
        }
        assert!(section(&bytes, ".text").is_some_and(|text| !text.is_empty()));
        assert!(section(&bytes, ".no-such-section").is_none());
    }

    #[test]
    fn bytes_that_lie_about_themselves_do_no_harm() {
        assert!(!is_elf(b"") && !is_elf(b"\x7fELF\x01\x01"));
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        for length in 0..128_usize {
            bytes.resize(6 + length, 0xff);
            assert!(is_elf(&bytes) && section(&bytes, ".modinfo").is_none());
            assert_eq!(loaded(&bytes), bytes);
        }
        // Cut off, or changed, at each of the first bytes.
        let whole = std::fs::read("/proc/self/exe").unwrap();
        for at in 6..256 {
            let _ = section(&whole[..at], ".text");
            let mut changed = whole[..4096].to_vec();
            changed[at] ^= 0xff;
            let _ = (section(&changed, ".text"), loaded(&changed));
        }
    }
}
