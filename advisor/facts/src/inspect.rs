//! Options that only a process's own descriptor of a socket tells.
//!
//! pidfd_getfd() gives a duplicate of the descriptor, getsockopt() reads it, and
//! it is closed at once. For that moment the socket lives even if its process
//! ends: so it is done only where it was asked for.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::fstat;

use crate::look::Look;
use crate::processes::{Holder, Processes, has_vanished};
use crate::read::Unseen;
use crate::sock_diag::{SocketOptions, TcpState};

/// Connections of one process that are looked at: those with the most memory.
const CONNECTIONS: usize = 32;
/// Sockets that are looked at in all.
const SOCKETS: usize = 4096;

/// Asks for the options of the listeners, and of those connections of each
/// process that hold the most memory.
pub(crate) fn inspect(now: &mut Look, processes: &Processes, unseen: &mut Vec<Unseen>) {
    let mut chosen: Vec<Holder> = Vec::new();
    let mut connections: BTreeMap<u32, Vec<(u64, Holder)>> = BTreeMap::new();
    for (_, socket) in now.every_socket() {
        let Some(holder) = processes.holders_of(socket.inode).first() else {
            continue;
        };
        if socket.state == TcpState::Listen {
            chosen.push(*holder);
        } else {
            let held = (socket.held_bytes(), *holder);
            connections.entry(holder.process).or_default().push(held);
        }
    }
    for (_, mut sockets) in connections {
        sockets.sort_by_key(|(held, holder)| (std::cmp::Reverse(*held), holder.inode));
        sockets.truncate(CONNECTIONS);
        chosen.extend(sockets.into_iter().map(|(_, holder)| holder));
    }
    let left_out = chosen.len().saturating_sub(SOCKETS);
    chosen.truncate(SOCKETS);
    // A pidfd for each process, not for each socket.
    chosen.sort_by_key(|holder| holder.process);
    let mut options = BTreeMap::new();
    let mut refused: Option<(usize, io::Error)> = None;
    for holders in chosen.chunk_by(|one, other| one.process == other.process) {
        let Some(process) = processes.all.get(holders[0].process as usize) else {
            continue;
        };
        match of_process(process.pid, holders, &mut options) {
            Ok(()) => {}
            Err(error) if has_vanished(&error) => {}
            Err(error) => {
                let count = refused.as_ref().map_or(0, |(count, _)| *count);
                refused = Some((count + 1, error));
            }
        }
    }
    if let Some((count, why)) = refused {
        unseen.push(Unseen {
            what: format!("the socket options of {count} processes"),
            why: why.to_string(),
        });
    }
    if left_out > 0 {
        unseen.push(Unseen {
            what: format!("the options of {left_out} sockets"),
            why: format!("no more than {SOCKETS} are looked at"),
        });
    }
    now.set_options(&options);
}

/// Reads the options of sockets of one process.
fn of_process(
    pid: u32,
    holders: &[Holder],
    options: &mut BTreeMap<u32, SocketOptions>,
) -> io::Result<()> {
    let process = pidfd_open(pid)?;
    for holder in holders {
        match read(&process, *holder) {
            Ok(Some(seen)) => {
                options.insert(holder.inode, seen);
            }
            // The number is another file's by now.
            Ok(None) => {}
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read(process: &OwnedFd, holder: Holder) -> io::Result<Option<SocketOptions>> {
    let duplicate = pidfd_getfd(process, holder.descriptor)?;
    if fstat(&duplicate)?.st_ino != u64::from(holder.inode) {
        return Ok(None);
    }
    let linger = getsockopt(&duplicate, sockopt::Linger)?;
    Ok(Some(SocketOptions {
        reuse_addr: getsockopt(&duplicate, sockopt::ReuseAddr)?,
        keepalive: getsockopt(&duplicate, sockopt::KeepAlive)?,
        linger_s: (linger.l_onoff != 0).then_some(linger.l_linger),
        user_timeout_ms: getsockopt(&duplicate, sockopt::TcpUserTimeout)?,
        send_buffer_bytes: u32::try_from(getsockopt(&duplicate, sockopt::SndBuf)?)
            .unwrap_or(u32::MAX),
    }))
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    owned(fd)
}

/// pidfd_getfd(2), 5.6 and later.
fn pidfd_getfd(process: &OwnedFd, descriptor: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_getfd(2) takes three numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0) };
    owned(fd)
}

/// The descriptor that a system call made.
fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for this process, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_types,
        reason = "sockets of the test's own to look at"
    )]

    use std::net::{TcpListener, TcpStream};

    use nix::sys::socket::setsockopt;

    use super::*;
    use crate::facts::Facts;
    use crate::root::{Looking, Root};

    #[test]
    fn the_options_of_sockets_of_ours_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        setsockopt(&client, sockopt::TcpUserTimeout, &2000).unwrap();
        setsockopt(&client, sockopt::KeepAlive, &true).unwrap();
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 7,
        };
        setsockopt(&server, sockopt::Linger, &linger).unwrap();
        let facts = Facts::read_with(
            &Root::Live,
            Looking {
                inspect_options: true,
                ..Looking::default()
            },
        )
        .unwrap();
        let of = |local, peer| {
            let (_, socket) = facts
                .now
                .every_socket()
                .find(|(_, socket)| socket.local == local && socket.peer == peer)
                .unwrap();
            socket.options.unwrap()
        };
        let (near, far) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let options = of(near, far);
        assert_eq!((options.user_timeout_ms, options.keepalive), (2000, true));
        assert_eq!(options.linger_s, None);
        assert!(options.send_buffer_bytes > 0);
        assert_eq!(of(far, near).linger_s, Some(7));
        let listening = of(far, "0.0.0.0:0".parse().unwrap());
        assert!(listening.reuse_addr, "std sets it on a listener");
    }

    #[test]
    fn a_process_that_has_ended_is_told_from_one_that_is_closed() {
        let nobody = pidfd_open(u32::from(u16::MAX) << 8).unwrap_err();
        assert!(has_vanished(&nobody) || nobody.raw_os_error() == Some(libc::EINVAL));
    }
}
