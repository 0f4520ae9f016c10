//! The system calls of the steps, on raw descriptors.
//!
//! Raw, because some scenarios are about a descriptor that another thread of
//! the process closes during a call. The kernel answers that with an errno,
//! which is the observation.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lab::address::SocketFamily;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{SockaddrIn, SockaddrIn6, SockaddrLike};

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_length(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The protocol of a socket.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Protocol {
    /// IPPROTO_TCP.
    #[default]
    Tcp,
    /// IPPROTO_MPTCP.
    Mptcp,
}

/// socket(2): a stream socket.
pub fn socket(family: SocketFamily, protocol: Protocol) -> io::Result<RawFd> {
    let family = match family {
        SocketFamily::V4 => libc::AF_INET,
        SocketFamily::V6 => libc::AF_INET6,
    };
    let protocol = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Mptcp => libc::IPPROTO_MPTCP,
    };
    // SAFETY: takes no pointers.
    check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, protocol) })
}

/// The family of a socket (getsockopt(2) SO_DOMAIN).
pub fn family(socket: RawFd) -> io::Result<SocketFamily> {
    let mut domain = 0_i32;
    let mut length = u32::try_from(size_of::<i32>()).unwrap_or(0);
    let value = (&raw mut domain).cast();
    // SAFETY: the kernel writes one int, and the length of it.
    check(unsafe {
        libc::getsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            value,
            &raw mut length,
        )
    })?;
    Ok(match domain {
        libc::AF_INET6 => SocketFamily::V6,
        _ => SocketFamily::V4,
    })
}

/// What bind(2) and connect(2) have in common.
type AddressCall = unsafe extern "C" fn(i32, *const libc::sockaddr, libc::socklen_t) -> i32;

fn with_address(call: AddressCall, socket: RawFd, address: SocketAddr) -> io::Result<()> {
    let result = match address {
        SocketAddr::V4(address) => {
            let address = SockaddrIn::from(address);
            // SAFETY: pointer and length are those of a whole sockaddr_in that
            // outlives the call.
            unsafe { call(socket, address.as_ptr(), address.len()) }
        }
        SocketAddr::V6(address) => {
            let address = SockaddrIn6::from(address);
            // SAFETY: as above, of a sockaddr_in6.
            unsafe { call(socket, address.as_ptr(), address.len()) }
        }
    };
    check(result).map(|_| ())
}

/// bind(2).
pub fn bind(socket: RawFd, address: SocketAddr) -> io::Result<()> {
    with_address(libc::bind, socket, address)
}

/// connect(2).
pub fn connect(socket: RawFd, address: SocketAddr) -> io::Result<()> {
    with_address(libc::connect, socket, address)
}

/// listen(2).
pub fn listen(socket: RawFd, backlog: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::listen(socket, backlog) }).map(|_| ())
}

/// accept4(2).
pub fn accept(socket: RawFd) -> io::Result<RawFd> {
    // SAFETY: null for the address is allowed.
    check(unsafe {
        libc::accept4(
            socket,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    })
}

/// read(2).
pub fn read(socket: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    check_length(unsafe { libc::read(socket, buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// recv(2) with MSG_DONTWAIT.
pub fn receive_now(socket: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    let start = buffer.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    check_length(unsafe { libc::recv(socket, start, buffer.len(), libc::MSG_DONTWAIT) })
}

/// send(2) with MSG_DONTWAIT; SIGPIPE as write(2) has it.
pub fn send_now(socket: RawFd, buffer: &[u8]) -> io::Result<usize> {
    let start = buffer.as_ptr().cast();
    // SAFETY: the kernel reads at most `buffer.len()` bytes of `buffer`.
    check_length(unsafe { libc::send(socket, start, buffer.len(), libc::MSG_DONTWAIT) })
}

/// write(2).
pub fn write(socket: RawFd, buffer: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads at most `buffer.len()` bytes of `buffer`.
    check_length(unsafe { libc::write(socket, buffer.as_ptr().cast(), buffer.len()) })
}

/// send(2) with flags.
pub fn send(socket: RawFd, buffer: &[u8], flags: i32) -> io::Result<usize> {
    let start = buffer.as_ptr().cast();
    // SAFETY: the kernel reads at most `buffer.len()` bytes of `buffer`.
    check_length(unsafe { libc::send(socket, start, buffer.len(), flags) })
}

/// recv(2) with flags.
pub fn receive(socket: RawFd, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    let start = buffer.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    check_length(unsafe { libc::recv(socket, start, buffer.len(), flags) })
}

/// ioctl(2) that reads a number.
pub fn ioctl(socket: RawFd, request: libc::Ioctl) -> io::Result<i32> {
    let mut number = 0_i32;
    // SAFETY: the requests that there are write one int.
    check(unsafe { libc::ioctl(socket, request, &raw mut number) })?;
    Ok(number)
}

/// shutdown(2), with `SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`.
pub fn shutdown(socket: RawFd, how: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::shutdown(socket, how) }).map(|_| ())
}

/// close(2).
pub fn close(socket: RawFd) -> io::Result<()> {
    // SAFETY: takes no pointers. The descriptor is one of the actor's own
    // sockets, which no Rust type owns.
    check(unsafe { libc::close(socket) }).map(|_| ())
}

/// dup(2).
pub fn dup(socket: RawFd) -> io::Result<RawFd> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::fcntl(socket, libc::F_DUPFD_CLOEXEC, 0) })
}

/// fcntl(2): `O_NONBLOCK` on or off.
pub fn set_nonblocking(socket: RawFd, on: bool) -> io::Result<()> {
    let flags = if on { libc::O_NONBLOCK } else { 0 };
    // SAFETY: takes no pointers.
    check(unsafe { libc::fcntl(socket, libc::F_SETFL, flags) }).map(|_| ())
}

/// The events of poll(2) by name.
const EVENTS: [(&str, i16); 6] = [
    ("POLLIN", libc::POLLIN),
    ("POLLOUT", libc::POLLOUT),
    ("POLLERR", libc::POLLERR),
    ("POLLHUP", libc::POLLHUP),
    ("POLLRDHUP", libc::POLLRDHUP),
    ("POLLNVAL", libc::POLLNVAL),
];

/// What poll(2) can give back: `none`, or some of `EVENTS`.
pub const REVENTS: &[&str] = &[
    "none",
    "POLLIN",
    "POLLOUT",
    "POLLERR",
    "POLLHUP",
    "POLLRDHUP",
    "POLLNVAL",
];

/// What poll(2) waits for; errors always end it.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
pub enum Events {
    /// There is something to read.
    #[default]
    #[serde(rename = "POLLIN")]
    PollIn,
    /// There is room to write.
    #[serde(rename = "POLLOUT")]
    PollOut,
    /// The peer has shut its side down.
    #[serde(rename = "POLLRDHUP")]
    PollRdHup,
    /// Errors only.
    #[serde(rename = "none")]
    Nothing,
}

impl Events {
    const fn flag(self) -> i16 {
        match self {
            Self::PollIn => libc::POLLIN,
            Self::PollOut => libc::POLLOUT,
            Self::PollRdHup => libc::POLLRDHUP,
            Self::Nothing => 0,
        }
    }
}

/// poll(2): the revents by name, joined by `|`, or `none` at the time limit.
pub fn poll(socket: RawFd, events: &[Events], timeout: Option<Duration>) -> io::Result<String> {
    let mut watched = libc::pollfd {
        fd: socket,
        events: events.iter().fold(0, |flags, event| flags | event.flag()),
        revents: 0,
    };
    let milliseconds = timeout.map_or(-1, |time| {
        i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
    });
    // SAFETY: one pollfd, which outlives the call.
    check(unsafe { libc::poll(&raw mut watched, 1, milliseconds) })?;
    let names: Vec<&str> = EVENTS
        .iter()
        .filter(|(_, flag)| watched.revents & flag != 0)
        .map(|(name, _)| *name)
        .collect();
    Ok(if names.is_empty() {
        "none".to_owned()
    } else {
        names.join("|")
    })
}

/// What epoll_wait(2) can give back.
pub const EPOLL_EVENTS: &[&str] = &[
    "none",
    "EPOLLIN",
    "EPOLLOUT",
    "EPOLLERR",
    "EPOLLHUP",
    "EPOLLRDHUP",
];

/// epoll_ctl(2) EPOLL_CTL_ADD.
pub fn watch(epoll: &OwnedFd, socket: RawFd, flags: EpollFlags) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: flags.bits().cast_unsigned(),
        u64: 0,
    };
    // SAFETY: the event outlives the call.
    check(unsafe {
        libc::epoll_ctl(
            epoll.as_raw_fd(),
            libc::EPOLL_CTL_ADD,
            socket,
            &raw mut event,
        )
    })
    .map(|_| ())
}

/// epoll_wait(2): the events of all sockets that are ready, by name, joined by `|`.
pub fn epoll_wait(epoll: &OwnedFd, timeout: Option<Duration>) -> io::Result<String> {
    let milliseconds = timeout.map_or(-1, |time| {
        i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
    });
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    let most = i32::try_from(events.len()).unwrap_or(0);
    let start = events.as_mut_ptr();
    // SAFETY: the kernel writes at most `most` events.
    let count = check(unsafe { libc::epoll_wait(epoll.as_raw_fd(), start, most, milliseconds) })?;
    let seen = events.iter().take(usize::try_from(count).unwrap_or(0));
    let all = seen.fold(0, |all, event| all | event.events);
    let flags = [
        libc::EPOLLIN,
        libc::EPOLLOUT,
        libc::EPOLLERR,
        libc::EPOLLHUP,
        libc::EPOLLRDHUP,
    ];
    let named = flags.iter().zip(&EPOLL_EVENTS[1..]);
    let names: Vec<&str> = named
        .filter(|(flag, _)| all & flag.cast_unsigned() != 0)
        .map(|(_, name)| *name)
        .collect();
    Ok(if names.is_empty() {
        "none".to_owned()
    } else {
        names.join("|")
    })
}

/// Whether the connection is gone: tcp_info's state is TCP_CLOSE.
pub fn is_closed(socket: RawFd) -> io::Result<bool> {
    /// `TCP_CLOSE` (include/net/tcp_states.h).
    const TCP_CLOSE: u8 = 7;
    let mut state = 0_u8;
    let mut length = 1;
    // SAFETY: the kernel writes at most `length` bytes, the first of tcp_info.
    check(unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &raw mut length,
        )
    })?;
    Ok(state == TCP_CLOSE)
}

/// A file without a name that holds so many zeros, for sendfile and splice. They are
/// written: of a hole Linux 5.18 and later send a page that is no page of the file.
pub fn zero_file(bytes: u64) -> io::Result<File> {
    let name = CString::new("lastbyte")?;
    // SAFETY: the name is a C string that outlives the call.
    let descriptor = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the descriptor is new and nobody else has it.
    let file = unsafe { File::from_raw_fd(descriptor) };
    fill(&file, 0, bytes)?;
    Ok(file)
}

/// pwrite(2): so many bytes of one value from the file's start.
pub fn fill(file: &File, value: u8, bytes: u64) -> io::Result<()> {
    const CHUNK: usize = 64 << 10;
    let buffer = vec![value; CHUNK];
    for offset in (0..bytes).step_by(CHUNK) {
        let most = usize::try_from(bytes - offset).unwrap_or(CHUNK);
        file.write_all_at(&buffer[..CHUNK.min(most)], offset)?;
    }
    Ok(())
}

/// sendfile(2) from an offset, which is moved on.
pub fn sendfile(socket: RawFd, file: RawFd, offset: &mut i64, bytes: usize) -> io::Result<usize> {
    // SAFETY: the kernel reads and writes one offset, which outlives the call.
    check_length(unsafe { libc::sendfile(socket, file, offset, bytes) })
}

/// splice(2) between a pipe and something else: of a file an offset is given, which is
/// moved on.
pub fn splice(from: RawFd, offset: Option<&mut i64>, to: RawFd, bytes: usize) -> io::Result<usize> {
    let offset = offset.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: null is allowed for both offsets; where there is one it outlives the call.
    check_length(unsafe { libc::splice(from, offset, to, std::ptr::null_mut(), bytes, 0) })
}

/// pipe2(2): the reading and the writing end.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// fork(2): a child that holds every descriptor and does nothing, until `hold`
/// is over or `lifeline` hangs up because the harness is gone or done.
pub fn fork_holder(lifeline: RawFd, hold: Option<Duration>) -> io::Result<()> {
    let milliseconds = hold.map_or(-1, |time| {
        i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
    });
    // SAFETY: the child of a process with threads may only make
    // async-signal-safe calls; poll and _exit are.
    let child = check(unsafe { libc::fork() })?;
    if child == 0 {
        let mut watched = libc::pollfd {
            fd: lifeline,
            events: libc::POLLRDHUP,
            revents: 0,
        };
        // SAFETY: one pollfd on this stack.
        unsafe { libc::poll(&raw mut watched, 1, milliseconds) };
        exit(0);
    }
    Ok(())
}

/// _exit(2): no handler runs and nothing is closed but by the kernel.
pub fn exit(status: i32) -> ! {
    // SAFETY: takes no pointers and doesn't return.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn poll_names_what_it_saw() {
        let (reader, writer) = pipe().unwrap();
        let none = poll(reader.as_raw_fd(), &[Events::PollIn], Some(Duration::ZERO)).unwrap();
        assert_eq!(none, "none");
        drop(writer);
        assert_eq!(
            poll(reader.as_raw_fd(), &[Events::PollIn], None).unwrap(),
            "POLLHUP"
        );
    }

    #[test]
    fn a_closed_descriptor_is_an_errno_and_no_more() {
        let error = read(-1, &mut [0; 4]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        assert!(write(-1, b"x").is_err() && close(-1).is_err() && accept(-1).is_err());
        assert!(
            shutdown(-1, libc::SHUT_WR).is_err()
                && ioctl(-1, libc::TIOCOUTQ).is_err()
                && dup(-1).is_err()
        );
    }
}
