//! SOCK_DESTROY: ends sockets from outside, as `ss -K` does.
//!
//! This lives here and not beside the reader of the socket table, because the
//! advisor must have no way to do it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use advisor_facts::release::Release;
use advisor_facts::sock_diag::{Family, SockDiag, TcpSocket, TcpState};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// `SOCK_DESTROY` (linux/sock_diag.h).
const SOCK_DESTROY: u16 = 21;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const FLAGS: u16 = 0x1 | 0x4;
/// `NLMSG_ERROR`, which is also the acknowledgement.
const NLMSG_ERROR: u16 = 2;
/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const LENGTH: usize = 16 + 8 + advisor_facts::sock_diag::SOCKID_LEN;

/// Whether this kernel surely ends an orphan that is destroyed. Before 6.11 it only
/// empties the orphan's queue and stops its timer: the socket is then there for
/// ever (measured on Debian's 5.10.0-46; tcp_abort looks at SOCK_DEAD there). Debian's
/// 6.1.0-57 ends it, because the fix was backported; other kernels of that line need not.
fn ends_orphans() -> bool {
    Release::of_kernel(&super::namespace::kernel_release())
        .is_some_and(|release| release >= Release::new(6, 11))
}

/// Whether a socket is an orphan: no process holds it, and it still has data to
/// send or an answer to wait for. A FIN_WAIT2 timewait socket looks the same
/// here.
fn is_orphan(socket: &TcpSocket) -> bool {
    use TcpState::{Closing, FinWait1, FinWait2, LastAck};
    socket.inode == 0 && matches!(socket.state, FinWait1 | FinWait2 | LastAck | Closing)
}

/// Destroys all sockets of the calling thread's network namespace in one pass
/// and returns how many there were. On a kernel that would keep an orphan for
/// ever, tcp_orphan_retries is set to 1 instead: orphans then end at their next
/// timer.
pub fn clear() -> io::Result<usize> {
    if !ends_orphans() {
        super::namespace::write_sysctl("net.ipv4.tcp_orphan_retries", "1")?;
    }
    let sockets = SockDiag::open()?.tcp_sockets().map_err(io::Error::other)?;
    destroy(&sockets)?;
    Ok(sockets.len())
}

/// Destroys sockets of the calling thread's network namespace and says how
/// many were there to be destroyed. Orphans are spared on a kernel that would
/// keep them for ever. Needs CAP_NET_ADMIN; the kernel answers
/// EOPNOTSUPP without CONFIG_INET_DIAG_DESTROY.
pub fn destroy(sockets: &[TcpSocket]) -> io::Result<usize> {
    let ends_orphans = ends_orphans();
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    let mut destroyed = 0;
    let spared = |socket: &&TcpSocket| ends_orphans || !is_orphan(socket);
    for socket in sockets.iter().filter(spared) {
        match destroy_one(&netlink, socket) {
            Ok(()) => destroyed += 1,
            // It ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(destroyed)
}

fn destroy_one(netlink: &OwnedFd, socket: &TcpSocket) -> io::Result<()> {
    let mut request = Vec::with_capacity(LENGTH);
    request.extend(u32::try_from(LENGTH).unwrap_or(0).to_ne_bytes());
    request.extend(SOCK_DESTROY.to_ne_bytes());
    request.extend(FLAGS.to_ne_bytes());
    request.extend([0; 8]);
    let family = match socket.family {
        Family::Inet => libc::AF_INET,
        Family::Inet6 => libc::AF_INET6,
    };
    request.push(u8::try_from(family).unwrap_or(0));
    request.push(u8::try_from(libc::IPPROTO_TCP).unwrap_or(0));
    request.extend([0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(socket.id());
    send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    if length < 20 || kind != NLMSG_ERROR {
        return Err(io::Error::other("the answer to SOCK_DESTROY is not one"));
    }
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        negative => Err(io::Error::from_raw_os_error(-negative)),
    }
}
