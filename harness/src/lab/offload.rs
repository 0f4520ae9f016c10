//! Switches offloads off: a merged packet would count as one.
//!
//! With them on, a veth pair carries super-packets of up to 64 KiB, and an
//! impairment would lose or delay the whole (Linux 6.18, measured).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `ETHTOOL_STXCSUM`, `ETHTOOL_STSO`, `ETHTOOL_SGSO`, `ETHTOOL_SGRO`
/// (include/uapi/linux/ethtool.h).
const OFF: [u32; 4] = [0x17, 0x1f, 0x24, 0x2c];

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ifreq` with `ifr_data`.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut EthtoolValue,
    /// The union is larger than a pointer.
    rest: [u8; 16],
}

/// Switches offloads off on devices of the namespace that it was made in.
#[derive(Debug)]
pub struct Offload(OwnedFd);

impl Offload {
    /// Opens the socket for the requests in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(Self(socket(
            AddressFamily::Inet,
            SockType::Datagram,
            flags,
            None,
        )?))
    }

    /// Switches transmit checksums, TSO, GSO and GRO of `device` off.
    pub fn switch_off(&self, device: &str) -> io::Result<()> {
        let mut name = [0; libc::IFNAMSIZ];
        let bytes = device.as_bytes();
        if bytes.len() >= name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        name[..bytes.len()].copy_from_slice(bytes);
        for command in OFF {
            let mut value = EthtoolValue { command, data: 0 };
            let mut request = Request {
                name,
                data: &raw mut value,
                rest: [0; 16],
            };
            // SAFETY: the request is a whole `struct ifreq` whose data points
            // at a whole `struct ethtool_value`; both outlive the call.
            let result = unsafe {
                libc::ioctl(
                    self.0.as_raw_fd(),
                    libc::SIOCETHTOOL as libc::Ioctl,
                    &raw mut request,
                )
            };
            if result < 0 {
                let error = io::Error::last_os_error();
                // A device without the feature has nothing to switch off.
                if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
