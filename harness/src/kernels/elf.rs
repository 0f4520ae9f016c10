//! As much of ELF as packing a guest needs: what a program is linked with, and
//! a section of a kernel module. 64 bit, little endian.

/// `PT_LOAD`, `PT_DYNAMIC`, `PT_INTERP` (elf.h).
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;

/// `DT_NEEDED`, `DT_STRTAB`, `DT_RPATH`, `DT_RUNPATH`.
const NEEDED: u64 = 1;
const STRING_TABLE: u64 = 5;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;

/// An ELF file. Whatever its bytes claim, nothing is read beyond them.
#[derive(Clone, Copy, Debug)]
pub struct Elf<'a>(&'a [u8]);

/// A program header.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

impl<'a> Elf<'a> {
    /// `None` where the bytes are not a 64-bit little-endian ELF file.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        bytes.starts_with(b"\x7fELF\x02\x01").then_some(Self(bytes))
    }

    fn number<const N: usize>(self, at: u64) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes: &[u8; N] = self.0.get(at..)?.first_chunk()?;
        let mut whole = [0; 8];
        whole[..N].copy_from_slice(bytes);
        Some(u64::from_le_bytes(whole))
    }

    fn slice(self, offset: u64, size: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = usize::try_from(offset.checked_add(size)?).ok()?;
        self.0.get(start..end)
    }

    /// The text from there up to the next zero byte.
    fn text(self, offset: u64) -> Option<&'a str> {
        let rest = self.0.get(usize::try_from(offset).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }

    /// The bytes of a section.
    pub fn section(self, name: &str) -> Option<&'a [u8]> {
        let table = self.number::<8>(40)?;
        let entry_size = self.number::<2>(58)?;
        let count = self.number::<2>(60)?;
        let header = |index: u64| table.checked_add(index.checked_mul(entry_size)?);
        let names = self.number::<8>(header(self.number::<2>(62)?)? + 24)?;
        (0..count).find_map(|index| {
            let header = header(index)?;
            let own = names.checked_add(self.number::<4>(header)?)?;
            if self.text(own)? != name {
                return None;
            }
            self.slice(
                self.number::<8>(header + 24)?,
                self.number::<8>(header + 32)?,
            )
        })
    }

    fn segments(self) -> impl Iterator<Item = Segment> {
        let table = self.number::<8>(32).unwrap_or(0);
        let entry_size = self.number::<2>(54).unwrap_or(0);
        let count = self.number::<2>(56).unwrap_or(0);
        (0..count).filter_map(move |index| {
            let header = table.checked_add(index.checked_mul(entry_size)?)?;
            Some(Segment {
                kind: u32::try_from(self.number::<4>(header)?).ok()?,
                offset: self.number::<8>(header.checked_add(8)?)?,
                address: self.number::<8>(header.checked_add(16)?)?,
                size: self.number::<8>(header.checked_add(32)?)?,
            })
        })
    }

    /// The file with all that is loaded when it is run, and without the sections
    /// behind that: names and debugging information, which are most of a program
    /// that was built without optimisation.
    pub fn loaded(self) -> Vec<u8> {
        let loaded = self
            .segments()
            .filter_map(|segment| segment.offset.checked_add(segment.size))
            .max()
            .and_then(|end| self.slice(0, end));
        let Some(loaded) = loaded else {
            return self.0.to_vec();
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

    /// The program that loads this one's libraries; `None` where it is linked
    /// statically.
    pub fn interpreter(self) -> Option<&'a str> {
        let segment = self
            .segments()
            .find(|segment| segment.kind == INTERPRETER)?;
        self.text(segment.offset)
    }

    /// The names of the libraries that it needs itself.
    pub fn needed(self) -> Vec<&'a str> {
        self.dynamic_texts(|tag| tag == NEEDED)
    }

    /// Where it says that they are, before the loader's own directories.
    pub fn run_paths(self) -> Vec<&'a str> {
        self.dynamic_texts(|tag| tag == RPATH || tag == RUNPATH)
    }

    fn dynamic_texts(self, wanted: fn(u64) -> bool) -> Vec<&'a str> {
        let Some(strings) = self
            .dynamic()
            .find(|(tag, _)| *tag == STRING_TABLE)
            .and_then(|(_, address)| self.offset_of(address))
        else {
            return Vec::new();
        };
        self.dynamic()
            .filter(|(tag, _)| wanted(*tag))
            .filter_map(|(_, at)| self.text(strings.checked_add(at)?))
            .collect()
    }

    /// Tags and values of the dynamic section.
    fn dynamic(self) -> impl Iterator<Item = (u64, u64)> {
        let segment = self.segments().find(|segment| segment.kind == DYNAMIC);
        let (start, size) = segment.map_or((0, 0), |segment| (segment.offset, segment.size));
        (0..size / 16).map_while(move |index| {
            let at = start.checked_add(index * 16)?;
            let tag = self.number::<8>(at)?;
            (tag != 0).then_some((tag, self.number::<8>(at.checked_add(8)?)?))
        })
    }

    /// Where in the file the byte at a virtual address is.
    fn offset_of(self, address: u64) -> Option<u64> {
        self.segments()
            .filter(|segment| segment.kind == LOAD)
            .find_map(|segment| {
                let into = address.checked_sub(segment.address)?;
                (into < segment.size).then(|| segment.offset.checked_add(into))?
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_runs_without_the_rest() {
        use std::os::unix::fs::PermissionsExt;
        let whole = std::fs::read("/proc/self/exe").unwrap();
        let loaded = Elf::parse(&whole).unwrap().loaded();
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
        let elf = Elf::parse(&bytes).unwrap();
        match elf.interpreter() {
            Some(loader) => {
                assert!(loader.starts_with('/'), "{loader}");
                assert!(elf.needed().contains(&"libc.so.6"), "{:?}", elf.needed());
            }
            None => assert!(elf.needed().is_empty()),
        }
        assert!(elf.section(".text").is_some_and(|text| !text.is_empty()));
        assert!(elf.section(".no-such-section").is_none());
    }

    #[test]
    fn bytes_that_lie_about_themselves_do_no_harm() {
        assert!(Elf::parse(b"").is_none());
        assert!(Elf::parse(b"\x7fELF\x01\x01").is_none());
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        for length in 0..128_usize {
            bytes.resize(6 + length, 0xff);
            let elf = Elf::parse(&bytes).unwrap();
            assert!(elf.section(".modinfo").is_none());
            assert!(elf.interpreter().is_none());
            assert!(elf.needed().is_empty());
        }
    }
}
