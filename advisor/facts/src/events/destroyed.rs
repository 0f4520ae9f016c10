//! TCP sockets as they end, with what the kernel last knew of each: the multicast
//! groups of sock_diag (SKNLGRP_INET_TCP_DESTROY).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::sock_diag::{SockDiagError, TcpSocket, decode_each};

/// SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY (linux/sock_diag.h), a bit each.
const GROUPS: u32 = 1 << 0 | 1 << 2;

/// Is told of each TCP socket of one network namespace that ends.
#[derive(Debug)]
pub struct Destroyed {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Destroyed {
    /// Listens in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkSockDiag,
        )?;
        // By bind(): a socket that only joins a group has the number 0 for its own, which
        // is the sender's as well, and is passed over.
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
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

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "a connection that ends")]

    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sock_diag::TcpState;

    #[test]
    fn the_end_of_a_connection_is_told_with_what_was_last_known() {
        let mut destroyed = Destroyed::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut own, peer) = (None, client.local_addr().unwrap());
        drop(listener.accept().unwrap());
        drop(client);
        let end = Instant::now() + Duration::from_secs(60);
        while own.is_none() && Instant::now() < end {
            let mut each = |socket: TcpSocket| {
                if [socket.local, socket.peer].contains(&peer) {
                    own = Some(socket);
                }
            };
            destroyed.drain(1000, &mut each).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        let own = own.expect("the kernel tells of it");
        assert_eq!(own.state, TcpState::Close);
        assert_ne!(own.cookie, [0; 8]);
        assert!(own.info.is_some());
    }
}
