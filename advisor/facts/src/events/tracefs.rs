//! Where the kernel describes its tracepoints: tracefs, where it is mounted, or a mount
//! of its own that no other process sees and that ends with its descriptor.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;

/// Where tracefs is usually mounted.
const MOUNTED: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// The largest `format` file that is read, in bytes.
const LIMIT_BYTES: u64 = 1 << 20;

/// The directory of tracefs.
#[derive(Debug)]
pub(super) struct Tracefs(OwnedFd);

impl Tracefs {
    /// Finds it, or mounts it for this process alone, which takes CAP_SYS_ADMIN.
    pub(super) fn open() -> io::Result<Self> {
        let mut denied = None;
        for path in MOUNTED {
            match File::open(Path::new(path).join("events")) {
                Ok(_) => return Ok(Self(File::open(path)?.into())),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    denied = Some(error);
                }
                Err(_) => {}
            }
        }
        detached()
            .map(Self)
            .map_err(|error| denied.unwrap_or(error))
    }

    /// The text of a tracepoint's `format` file; `None` where the kernel has no such
    /// tracepoint.
    #[expect(
        clippy::disallowed_methods,
        reason = "opened for reading, below a mount that has no path"
    )]
    pub(super) fn format(&self, system: &str, name: &str) -> io::Result<Option<String>> {
        let path = format!("events/{system}/{name}/format");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = match openat(&self.0, path.as_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(nix::errno::Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let mut text = String::new();
        file.take(LIMIT_BYTES).read_to_string(&mut text)?;
        Ok(Some(text))
    }
}

/// fsopen(2), fsconfig(2) and fsmount(2) of tracefs.
fn detached() -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_long = 1;
    const FSCONFIG_CMD_CREATE: libc::c_long = 6;
    const FSMOUNT_CLOEXEC: libc::c_long = 1;
    /// Read-only, and no programs, devices or set-user-id bits.
    const ATTRIBUTES: libc::c_long = 1 | 2 | 4 | 8;
    let name: &CStr = c"tracefs";
    // SAFETY: the name ends with NUL and outlives the call.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) };
    let context = descriptor(context)?;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither a key nor a value.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            nothing,
            nothing,
            0,
        )
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it takes numbers only.
    let mount = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            ATTRIBUTES,
        )
    };
    descriptor(mount)
}

/// The descriptor that a system call gave, or why it gave none.
pub(super) fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the kernel has just given it to this process, and nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
