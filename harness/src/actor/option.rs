//! Socket options by the kernel's names.

use std::io;
use std::os::fd::RawFd;

/// What an option's value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An int.
    Integer,
    /// `struct linger`.
    Linger,
    /// An errno, reported by its name; can only be read.
    Errno,
}

/// A socket option.
#[derive(Debug)]
pub struct SocketOption {
    /// Its name.
    pub name: &'static str,
    level: i32,
    option: i32,
    kind: Kind,
}

const fn socket_level(name: &'static str, option: i32, kind: Kind) -> SocketOption {
    SocketOption {
        name,
        level: libc::SOL_SOCKET,
        option,
        kind,
    }
}

const fn tcp(name: &'static str, option: i32) -> SocketOption {
    SocketOption {
        name,
        level: libc::IPPROTO_TCP,
        option,
        kind: Kind::Integer,
    }
}

/// `IP_BIND_ADDRESS_NO_PORT` (linux/in.h).
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;

/// Every option that a suite can name.
pub const OPTIONS: &[SocketOption] = &[
    socket_level("SO_REUSEADDR", libc::SO_REUSEADDR, Kind::Integer),
    socket_level("SO_REUSEPORT", libc::SO_REUSEPORT, Kind::Integer),
    socket_level("SO_LINGER", libc::SO_LINGER, Kind::Linger),
    socket_level("SO_ERROR", libc::SO_ERROR, Kind::Errno),
    socket_level("SO_SNDBUF", libc::SO_SNDBUF, Kind::Integer),
    socket_level("SO_RCVBUF", libc::SO_RCVBUF, Kind::Integer),
    socket_level("SO_KEEPALIVE", libc::SO_KEEPALIVE, Kind::Integer),
    tcp("TCP_KEEPIDLE", libc::TCP_KEEPIDLE),
    tcp("TCP_KEEPINTVL", libc::TCP_KEEPINTVL),
    tcp("TCP_KEEPCNT", libc::TCP_KEEPCNT),
    tcp("TCP_USER_TIMEOUT", libc::TCP_USER_TIMEOUT),
    tcp("TCP_NODELAY", libc::TCP_NODELAY),
    tcp("TCP_CORK", libc::TCP_CORK),
    tcp("TCP_QUICKACK", libc::TCP_QUICKACK),
    tcp("TCP_LINGER2", libc::TCP_LINGER2),
    tcp("TCP_DEFER_ACCEPT", libc::TCP_DEFER_ACCEPT),
    tcp("TCP_SYNCNT", libc::TCP_SYNCNT),
    tcp("TCP_MAXSEG", libc::TCP_MAXSEG),
    tcp("TCP_WINDOW_CLAMP", libc::TCP_WINDOW_CLAMP),
    tcp("TCP_NOTSENT_LOWAT", libc::TCP_NOTSENT_LOWAT),
    SocketOption {
        name: "IP_BIND_ADDRESS_NO_PORT",
        level: libc::IPPROTO_IP,
        option: IP_BIND_ADDRESS_NO_PORT,
        kind: Kind::Integer,
    },
    SocketOption {
        name: "IPV6_V6ONLY",
        level: libc::IPPROTO_IPV6,
        option: libc::IPV6_V6ONLY,
        kind: Kind::Integer,
    },
];

/// The option of a name.
pub fn find(name: &str) -> Option<&'static SocketOption> {
    OPTIONS.iter().find(|option| option.name == name)
}

impl SocketOption {
    /// setsockopt(2) with a value as the suite reader leaves it: a number, or
    /// `l_onoff,l_linger`.
    pub fn set(&self, socket: RawFd, value: &str) -> io::Result<()> {
        let mut numbers = [0_i32; 2];
        for (slot, text) in numbers.iter_mut().zip(value.split(',')) {
            *slot = text
                .parse()
                .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        }
        let count = if self.kind == Kind::Linger { 2 } else { 1 };
        let length = u32::try_from(count * size_of::<i32>()).unwrap_or(0);
        // SAFETY: the pointer is to `numbers`, whose first `length` bytes are
        // an int or a struct linger (two ints); the kernel only reads them.
        let result = unsafe {
            libc::setsockopt(
                socket,
                self.level,
                self.option,
                numbers.as_ptr().cast(),
                length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// getsockopt(2); an errno by its name, `struct linger` as two numbers.
    pub fn get(&self, socket: RawFd) -> io::Result<String> {
        let numbers = self.numbers(socket)?;
        Ok(match self.kind {
            Kind::Integer => numbers[0].to_string(),
            Kind::Linger => format!("{},{}", numbers[0], numbers[1]),
            Kind::Errno if numbers[0] == 0 => "none".to_owned(),
            Kind::Errno => crate::suite::errno::errno_name(numbers[0]),
        })
    }

    fn numbers(&self, socket: RawFd) -> io::Result<[i32; 2]> {
        let mut numbers = [0_i32; 2];
        let mut length = u32::try_from(size_of_val(&numbers)).unwrap_or(0);
        // SAFETY: the kernel writes at most `length` bytes, all of `numbers`.
        let result = unsafe {
            libc::getsockopt(
                socket,
                self.level,
                self.option,
                numbers.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(numbers)
    }
}

/// getsockopt(2) SO_ERROR: the errno that waits on a socket, 0 for none. It is
/// cleared by being read.
pub fn pending_error(socket: RawFd) -> io::Result<i32> {
    let [error, _] = socket_level("SO_ERROR", libc::SO_ERROR, Kind::Errno).numbers(socket)?;
    Ok(error)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::suite::form::Form;
    use crate::suite::step::Verb;

    #[test]
    fn every_option_of_a_suite_is_one_of_these() {
        let set = Verb::Setsockopt.spec().object.fields.iter().map(|f| f.name);
        for name in set.filter(|name| name.contains('_')) {
            assert!(find(name).is_some(), "{name}");
        }
        for field in Verb::Getsockopt.spec().object.fields {
            if let Form::Choice(names) = field.form {
                assert!(names.iter().all(|name| find(name).is_some()));
            }
        }
    }

    #[test]
    fn what_is_set_is_read_back() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = socket.as_raw_fd();
        for (name, value) in [
            ("SO_LINGER", "1,7"),
            ("SO_KEEPALIVE", "1"),
            ("TCP_USER_TIMEOUT", "2000"),
        ] {
            let option = find(name).unwrap();
            option.set(socket, value).unwrap();
            assert_eq!(option.get(socket).unwrap(), value);
        }
        assert_eq!(find("SO_ERROR").unwrap().get(socket).unwrap(), "none");
    }
}
