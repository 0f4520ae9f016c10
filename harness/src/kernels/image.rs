//! The kernel of a vmlinuz, unpacked once, when it is stored, and its modules.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::KernelError;
use super::elf;

/// The modules that a guest needs. A kernel may have some built in, without a
/// file. Each is loaded after those that it depends on.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "veth",
    "sch_netem",
    "inet_diag",
    "tcp_diag",
    // For `track-connections` and `router: { nat: ... }`; without them those fail, and no
    // other.
    "nf_tables",
    "nft_ct",
    "nft_chain_nat",
    "nft_masq",
    "nft_reject_inet",
];

/// Modules without which a kernel is refused: no kernel has these built in.
const NEEDED_MODULES: &[&str] = &["veth", "sch_netem", "tcp_diag"];

/// Bytes of an unpacked kernel or module at most. Real ones are far smaller.
const UNPACKED_LIMIT: usize = 512 << 20;

/// The kernel of a vmlinuz, ready to boot: the ELF file inside, which boots
/// faster, or the vmlinuz itself where it cannot be unpacked.
pub fn unpack_vmlinuz(file: &Path, vmlinuz: &[u8]) -> Result<Vec<u8>, KernelError> {
    if elf::is_elf(vmlinuz) {
        return Ok(vmlinuz.to_vec());
    }
    let payload = payload(vmlinuz).ok_or_else(|| {
        KernelError::usage(
            &file.display().to_string(),
            "read it as a kernel",
            "it is no vmlinuz",
            "give the vmlinuz of an x86-64 kernel",
        )
    })?;
    match decompress(payload) {
        Ok(Some(kernel)) if elf::is_elf(&kernel) => Ok(kernel),
        // An unknown compression: the kernel unpacks itself.
        Ok(_) => Ok(vmlinuz.to_vec()),
        Err(error) => Err(KernelError::environment(
            &file.display().to_string(),
            "unpack the kernel",
            &error.to_string(),
            "the file is damaged; fetch it again",
        )),
    }
}

/// The release in the header of a vmlinuz; a bare ELF file has none.
pub fn release(vmlinuz: &[u8]) -> Option<&str> {
    let pointer: &[u8; 2] = vmlinuz.get(0x20e..)?.first_chunk()?;
    if vmlinuz.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    // "6.1.0-56-cloud-amd64 (builder@host) #1 SMP ..." and a zero byte.
    let text = vmlinuz.get(usize::from(u16::from_le_bytes(*pointer)) + 0x200..)?;
    let end = text.iter().position(|byte| matches!(byte, 0 | b' '))?;
    std::str::from_utf8(&text[..end])
        .ok()
        .filter(|release| !release.is_empty())
}

/// The compressed kernel inside a bzImage, by its setup header
/// (Documentation/arch/x86/boot.rst).
fn payload(vmlinuz: &[u8]) -> Option<&[u8]> {
    const SECTOR: usize = 512;
    let word = |at: usize| {
        let bytes = vmlinuz.get(at..at + 4)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    // "HdrS", and boot protocol 2.08, the first that says where the payload is.
    let protocol = word(0x206)? & 0xffff;
    if vmlinuz.get(0x202..0x206)? != b"HdrS" || protocol < 0x208 {
        return None;
    }
    let setup_sectors = match vmlinuz.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let start = (setup_sectors + 1) * SECTOR + word(0x248)?;
    vmlinuz.get(start..start.checked_add(word(0x24c)?)?)
}

/// Decompresses zstd, LZ4 and xz, by the magic number; `None` for others. The
/// kernel's build appends the length of the content.
fn decompress(bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    match bytes {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(bytes)
                .map_err(|error| io::Error::other(format!("zstd: {error}")))?;
            read_limited(decoder, &mut content)?;
        }
        [0x02, 0x21, 0x4c, 0x18, ..] => decompress_lz4(&bytes[4..], &mut content)?,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            read_limited(lzma_rust2::XzReader::new(bytes, false), &mut content)?;
        }
        _ => return Ok(None),
    }
    Ok(Some(content))
}

fn read_limited(from: impl Read, to: &mut Vec<u8>) -> io::Result<()> {
    from.take(UNPACKED_LIMIT as u64 + 1).read_to_end(to)?;
    if to.len() > UNPACKED_LIMIT {
        return Err(io::Error::other("it unpacks to more than any kernel has"));
    }
    Ok(())
}

/// The LZ4 format of kernels (`lz4 -l`): blocks of up to 8 MiB, each after its
/// compressed length.
fn decompress_lz4(mut rest: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    const BLOCK: usize = 8 << 20;
    let mut block = vec![0; BLOCK];
    loop {
        let Some((length, after)) = rest.split_first_chunk() else {
            return Ok(());
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some((compressed, after)) = after.split_at_checked(length) else {
            // After the last block comes the length of the content.
            return if after.is_empty() && !to.is_empty() {
                Ok(())
            } else {
                Err(io::Error::other("lz4: it ends within a block"))
            };
        };
        let size = lz4_flex::block::decompress_into(compressed, &mut block)
            .map_err(|error| io::Error::other(format!("lz4: {error}")))?;
        to.extend(&block[..size]);
        if to.len() > UNPACKED_LIMIT {
            return Err(io::Error::other("it unpacks to more than any kernel has"));
        }
        rest = after;
    }
}

/// A kernel module, unpacked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Module {
    /// Its name in the kernel: `sch_netem`.
    pub name: String,
    /// The ELF file.
    pub content: Vec<u8>,
}

impl Module {
    /// The release that it is built for.
    pub fn release(&self) -> Option<String> {
        let about = elf::section(&self.content, ".modinfo")?;
        let magic = about
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(b"vermagic="))?;
        let release = magic.split(|byte| *byte == b' ').next()?;
        Some(String::from_utf8_lossy(release).into_owned())
    }
}

/// The modules below `directory` that a guest needs, each after those that it
/// depends on. Dependencies are read from the modules: a package that is not
/// installed has no modules.dep.
pub fn modules(directory: &Path) -> Result<Vec<Module>, KernelError> {
    let mut files = BTreeMap::new();
    find_modules(directory, &mut files).map_err(|error| {
        KernelError::environment(
            &directory.display().to_string(),
            "read the modules",
            &error.to_string(),
            "it should be a kernel's directory of modules, such as /lib/modules/RELEASE",
        )
    })?;
    let mut found = Vec::new();
    for name in MODULES {
        add_module(name, &files, &mut found)?;
    }
    if let Some(missing) = NEEDED_MODULES
        .iter()
        .find(|name| !found.iter().any(|module| module.name == **name))
    {
        return Err(KernelError::usage(
            &directory.display().to_string(),
            "take the modules",
            &format!("there is no {missing}.ko"),
            "a guest needs veth, sch_netem and tcp_diag as modules",
        ));
    }
    Ok(found)
}

fn find_modules(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        // Links, such as `build`, lead out of the directory.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            find_modules(&path, files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn add_module(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    found: &mut Vec<Module>,
) -> Result<(), KernelError> {
    if found.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let Some(path) = files.get(name) else {
        return Ok(());
    };
    let error = |words: &str| {
        KernelError::environment(
            &path.display().to_string(),
            "read the module",
            words,
            "a module is a .ko or .ko.xz file",
        )
    };
    let bytes = fs::read(path).map_err(|io| error(&io.to_string()))?;
    let content = decompress(&bytes)
        .map_err(|io| error(&io.to_string()))?
        .unwrap_or(bytes);
    let about = elf::section(&content, ".modinfo").ok_or_else(|| error("it is no module"))?;
    for dependency in dependencies(about) {
        add_module(&dependency, files, found)?;
    }
    found.push(Module {
        name: name.to_owned(),
        content,
    });
    Ok(())
}

/// The modules that a module's .modinfo names: `depends=a,b`.
fn dependencies(about: &[u8]) -> Vec<String> {
    about
        .split(|byte| *byte == 0)
        .filter_map(|entry| entry.strip_prefix(b"depends="))
        .flat_map(|names| names.split(|byte| *byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage with that payload, after one sector of setup and 7 bytes.
    fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 2 * 512 + 7];
        bytes[0x1f1] = 1;
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        bytes[0x248..0x24c].copy_from_slice(&7_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        bytes[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        bytes.extend(payload);
        bytes.extend(b"what comes behind");
        bytes
    }

    const KERNEL: &[u8] = b"\x7fELF\x02\x01 not much of a kernel";

    fn lz4(kernel: &[u8]) -> Vec<u8> {
        let block = lz4_flex::block::compress(kernel);
        let mut bytes = vec![0x02, 0x21, 0x4c, 0x18];
        bytes.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        bytes.extend(block);
        bytes.extend(u32::try_from(kernel.len()).unwrap().to_le_bytes());
        bytes
    }

    fn zstd(kernel: &[u8]) -> Vec<u8> {
        let level = ruzstd::encoding::CompressionLevel::Uncompressed;
        let mut bytes = ruzstd::encoding::compress_to_vec(kernel, level);
        bytes.extend(u32::try_from(kernel.len()).unwrap().to_le_bytes());
        bytes
    }

    #[test]
    fn the_kernel_is_cut_out_of_a_vmlinuz() {
        let file = Path::new("vmlinuz");
        for payload in [lz4(KERNEL), zstd(KERNEL)] {
            let unpacked = unpack_vmlinuz(file, &bz_image(&payload)).unwrap();
            assert_eq!(unpacked, KERNEL);
        }
        assert_eq!(unpack_vmlinuz(file, KERNEL).unwrap(), KERNEL);
        let unknown = bz_image(b"\x1f\x8b gzip");
        assert_eq!(unpack_vmlinuz(file, &unknown).unwrap(), unknown);
    }

    #[test]
    fn a_vmlinuz_says_its_release() {
        let mut bytes = bz_image(b"");
        bytes[0x20e..0x210].copy_from_slice(&0x10_u16.to_le_bytes());
        bytes.splice(0x210..0x210, *b"6.1.0-9 (x@y) #1\0");
        assert_eq!(release(&bytes), Some("6.1.0-9"));
        assert_eq!(release(KERNEL), None);
        for length in 0..0x220 {
            let _ = release(&bytes[..length]);
        }
        bytes[0x20e..0x210].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(release(&bytes), None);
    }

    #[test]
    fn a_file_that_is_no_kernel_or_a_damaged_one_is_an_error() {
        let file = Path::new("/boot/vmlinuz");
        let whole = bz_image(&lz4(KERNEL));
        for bytes in [&b""[..], b"#!/bin/sh", &[0; 4096], &whole[..2 * 512 + 20]] {
            let error = unpack_vmlinuz(file, bytes).unwrap_err();
            assert!(error.to_string().contains("no vmlinuz"), "{error}");
        }
        let damaged = bz_image(&lz4(KERNEL)[..20]);
        let error = unpack_vmlinuz(file, &damaged).unwrap_err();
        assert!(error.to_string().contains("lz4"), "{error}");
        for length in 0..whole.len() {
            let _ = unpack_vmlinuz(file, &whole[..length]);
        }
    }

    #[test]
    fn dependencies_are_read_from_the_module() {
        let about = b"license=GPL\0depends=virtio-ring,virtio\0retpoline=Y\0";
        assert_eq!(dependencies(about), ["virtio_ring", "virtio"]);
        assert!(dependencies(b"depends=\0").is_empty());
        assert!(dependencies(b"").is_empty());
    }

    #[test]
    fn a_directory_without_the_modules_says_which_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let error = modules(directory.path()).unwrap_err();
        assert!(error.to_string().contains("veth.ko"), "{error}");
        let missing = modules(&directory.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
