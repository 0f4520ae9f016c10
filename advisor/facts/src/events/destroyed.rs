//! TCP sockets as they end, with what the kernel last knew of each: the multicast
//! groups of sock_diag (SKNLGRP_INET_TCP_DESTROY).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::sock_diag::{SockDiagError, TcpSocket, decode_each};

/// SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY (linux/sock_diag.h), a bit each.
const GROUPS: u32 = 1 << 0 | 1 << 2;
/// Their numbers.
const NUMBERS: [u32; 2] = [1, 3];

const SOL_NETLINK: libc::c_int = 270;
const ADD_MEMBERSHIP: libc::c_int = 1;
const DROP_MEMBERSHIP: libc::c_int = 2;
const LISTEN_ALL_NSID: libc::c_int = 8;

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

    /// Listens in the other network namespaces, too, that have a number in this one, as
    /// those have that a veth leads to (NETLINK_LISTEN_ALL_NSID, needs CAP_NET_BROADCAST).
    pub fn listen_everywhere(&self) -> io::Result<()> {
        self.set(LISTEN_ALL_NSID, 1)
    }

    /// Stops to listen, or listens again. While nobody listens, the end of a socket costs
    /// the kernel nothing more.
    pub fn listen(&self, listens: bool) -> io::Result<()> {
        let option = if listens {
            ADD_MEMBERSHIP
        } else {
            DROP_MEMBERSHIP
        };
        NUMBERS
            .iter()
            .try_for_each(|group| self.set(option, *group))
    }

    fn set(&self, option: libc::c_int, value: u32) -> io::Result<()> {
        let length = libc::socklen_t::try_from(size_of::<u32>()).unwrap_or(4);
        // SAFETY: the value is a number of that length and outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                SOL_NETLINK,
                option,
                (&raw const value).cast(),
                length,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
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

    #[test]
    fn nothing_is_told_while_nobody_listens() {
        let mut destroyed = Destroyed::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = || {
            drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            drop(listener.accept().unwrap());
        };
        let told = |destroyed: &mut Destroyed| {
            let mut count = 0;
            let mut each = |socket: TcpSocket| {
                count += usize::from([socket.local.port(), socket.peer.port()].contains(&port));
            };
            destroyed.drain(10_000, &mut each).unwrap();
            count
        };
        destroyed.listen(false).unwrap();
        told(&mut destroyed);
        (0..20).for_each(|_| connect());
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(told(&mut destroyed), 0);
        destroyed.listen(true).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while told(&mut destroyed) == 0 {
            assert!(Instant::now() < end, "the kernel tells of none");
            connect();
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
