//! TCP sockets as they end, with what the kernel last knew of each: the multicast
//! groups of sock_diag (SKNLGRP_INET_TCP_DESTROY).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};

use crate::sock_diag::{SockDiagError, TcpSocket, decode_each};

/// SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY (linux/sock_diag.h).
const GROUPS: [libc::c_int; 2] = [1, 3];

/// The length of a group's number.
#[expect(clippy::cast_possible_truncation, reason = "4")]
const GROUP_LEN: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

/// Is told of each TCP socket of one network namespace that ends.
#[derive(Debug)]
pub struct Destroyed {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Destroyed {
    /// Listens in the network namespace of the calling thread. It takes CAP_NET_ADMIN.
    pub fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkSockDiag,
        )?;
        for group in GROUPS {
            const SOL_NETLINK: libc::c_int = 270;
            const NETLINK_ADD_MEMBERSHIP: libc::c_int = 1;
            // SAFETY: the value is an int that outlives the call.
            let result = unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    SOL_NETLINK,
                    NETLINK_ADD_MEMBERSHIP,
                    (&raw const group).cast(),
                    GROUP_LEN,
                )
            };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self {
            fd,
            buffer: vec![0; 64 << 10],
        })
    }

    /// Hands over each socket that has ended, up to `limit` datagrams of them; true
    /// where the kernel had no room for all.
    pub fn drain(
        &mut self,
        limit: usize,
        each: &mut impl FnMut(TcpSocket),
    ) -> Result<bool, SockDiagError> {
        let mut lost = false;
        for _ in 0..limit {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => {
                    decode_each(&self.buffer[..length], None, each)?;
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::ENOBUFS) => lost = true,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(SockDiagError::Receive(errno.into())),
            }
        }
        Ok(lost)
    }
}

impl AsFd for Destroyed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
