//! Socket options by the kernel's names: one row of the table for each serves
//! setsockopt, getsockopt, the documents and the schema.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::LazyLock;

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Unexpected, Visitor};
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use crate::errno;
use crate::yaml::schema::{NUMBER, axis_value};

/// What an option's value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Type {
    /// An int.
    Integer,
    /// `struct linger`.
    Linger,
    /// An errno; can only be read.
    Errno,
}
use Type::{Errno, Integer, Linger};

/// A socket option.
#[derive(Debug, PartialEq)]
pub struct SocketOption {
    /// Its name.
    pub name: &'static str,
    /// The level of setsockopt(2).
    level: i32,
    /// The kernel's number.
    number: i32,
    /// What its value is.
    pub value: Type,
    /// Where it is documented, and its unit.
    pub doc: &'static str,
}

macro_rules! options {
    ($($name:ident $level:ident $number:expr, $type:ident, $doc:literal;)*) => {
        /// Every option that a suite can name.
        pub const OPTIONS: &[SocketOption] = &[$(SocketOption {
            name: stringify!($name),
            level: $level,
            number: $number,
            value: $type,
            doc: $doc,
        }),*];
    };
}

/// `IP_BIND_ADDRESS_NO_PORT` (linux/in.h).
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;

options! {
    SO_REUSEADDR SOL_SOCKET libc::SO_REUSEADDR, Integer, "socket(7)";
    SO_REUSEPORT SOL_SOCKET libc::SO_REUSEPORT, Integer, "socket(7)";
    SO_LINGER SOL_SOCKET libc::SO_LINGER, Linger, "socket(7): [l_onoff, l_linger in seconds]";
    SO_ERROR SOL_SOCKET libc::SO_ERROR, Errno, "socket(7): read only";
    SO_SNDBUF SOL_SOCKET libc::SO_SNDBUF, Integer, "socket(7): bytes; the kernel doubles them";
    SO_RCVBUF SOL_SOCKET libc::SO_RCVBUF, Integer, "socket(7): bytes; the kernel doubles them";
    SO_KEEPALIVE SOL_SOCKET libc::SO_KEEPALIVE, Integer, "socket(7)";
    TCP_KEEPIDLE IPPROTO_TCP libc::TCP_KEEPIDLE, Integer, "tcp(7): seconds";
    TCP_KEEPINTVL IPPROTO_TCP libc::TCP_KEEPINTVL, Integer, "tcp(7): seconds";
    TCP_KEEPCNT IPPROTO_TCP libc::TCP_KEEPCNT, Integer, "tcp(7)";
    TCP_USER_TIMEOUT IPPROTO_TCP libc::TCP_USER_TIMEOUT, Integer, "tcp(7): milliseconds";
    TCP_NODELAY IPPROTO_TCP libc::TCP_NODELAY, Integer, "tcp(7)";
    TCP_CORK IPPROTO_TCP libc::TCP_CORK, Integer, "tcp(7)";
    TCP_QUICKACK IPPROTO_TCP libc::TCP_QUICKACK, Integer, "tcp(7)";
    TCP_LINGER2 IPPROTO_TCP libc::TCP_LINGER2, Integer, "tcp(7): seconds";
    TCP_DEFER_ACCEPT IPPROTO_TCP libc::TCP_DEFER_ACCEPT, Integer, "tcp(7): seconds";
    TCP_SYNCNT IPPROTO_TCP libc::TCP_SYNCNT, Integer, "tcp(7)";
    TCP_MAXSEG IPPROTO_TCP libc::TCP_MAXSEG, Integer, "tcp(7): bytes";
    TCP_WINDOW_CLAMP IPPROTO_TCP libc::TCP_WINDOW_CLAMP, Integer, "tcp(7): bytes";
    TCP_NOTSENT_LOWAT IPPROTO_TCP libc::TCP_NOTSENT_LOWAT, Integer, "tcp(7): bytes";
    IP_BIND_ADDRESS_NO_PORT IPPROTO_IP IP_BIND_ADDRESS_NO_PORT, Integer, "ip(7)";
    IPV6_V6ONLY IPPROTO_IPV6 libc::IPV6_V6ONLY, Integer, "ipv6(7)";
}

/// The option of a name.
pub fn find(name: &str) -> Option<&'static SocketOption> {
    OPTIONS.iter().find(|option| option.name == name)
}

/// The names of all, as an error says them.
pub fn names() -> &'static str {
    static NAMES: LazyLock<String> = LazyLock::new(|| {
        let names: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
        format!("one of {}", names.join(", "))
    });
    &NAMES
}

/// A value to set an option to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptionValue {
    /// An int.
    Integer(i32),
    /// `struct linger`: l_onoff and l_linger.
    Linger(i32, i32),
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Linger(on, seconds) => write!(f, "{on},{seconds}"),
        }
    }
}

impl Serialize for OptionValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(number) => serializer.serialize_i32(*number),
            Self::Linger(on, seconds) => [on, seconds].serialize(serializer),
        }
    }
}

impl Type {
    /// Whether an option of it can be set.
    pub fn is_settable(self) -> bool {
        self != Errno
    }

    /// The schema of a value to set it to.
    pub fn schema(self) -> Json {
        match self {
            Integer | Errno => json!({"type": "integer", NUMBER: true}),
            Linger => json!({NUMBER: true, "anyOf": [{"type": "integer"}, {
                "type": "array", "items": {"anyOf": [{"type": "integer"}, axis_value()]},
                "minItems": 2, "maxItems": 2,
            }]}),
        }
    }
}

/// Reads the value of an option: `Type` is the seed.
impl<'de> DeserializeSeed<'de> for Type {
    type Value = OptionValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<OptionValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Type {
    type Value = OptionValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Integer | Errno => "a number",
            Linger => "[l_onoff, l_linger], or a number for l_onoff",
        })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OptionValue, E> {
        let number = text.parse();
        number.map_or_else(
            |_| Err(E::invalid_value(Unexpected::Str(text), &self)),
            |number| self.visit_i64(number),
        )
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<OptionValue, E> {
        let number = i32::try_from(number)
            .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))?;
        Ok(match self {
            Integer | Errno => OptionValue::Integer(number),
            Linger => OptionValue::Linger(number, 0),
        })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<OptionValue, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<OptionValue, A::Error> {
        let mut pair = Vec::new();
        while let Some(number) = numbers.next_element::<u32>()? {
            pair.push(i32::try_from(number).unwrap_or(i32::MAX));
        }
        match (self, &pair[..]) {
            (Linger, [on, seconds]) => Ok(OptionValue::Linger(*on, *seconds)),
            _ => Err(de::Error::invalid_value(Unexpected::Seq, &self)),
        }
    }
}

impl SocketOption {
    /// setsockopt(2).
    pub fn set(&self, socket: RawFd, value: OptionValue) -> io::Result<()> {
        let (numbers, count) = match value {
            OptionValue::Integer(number) => ([number, 0], 1),
            OptionValue::Linger(on, seconds) => ([on, seconds], 2),
        };
        let length = u32::try_from(count * size_of::<i32>()).unwrap_or(0);
        // SAFETY: the pointer is to `numbers`, whose first `length` bytes are an int or a
        // struct linger (two ints); the kernel only reads them.
        let result = unsafe {
            libc::setsockopt(
                socket,
                self.level,
                self.number,
                numbers.as_ptr().cast(),
                length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// getsockopt(2): an errno by its name, `struct linger` as two numbers.
    pub fn get(&self, socket: RawFd) -> io::Result<String> {
        let numbers = self.numbers(socket)?;
        Ok(match self.value {
            Integer => numbers[0].to_string(),
            Linger => OptionValue::Linger(numbers[0], numbers[1]).to_string(),
            Errno if numbers[0] == 0 => "none".to_owned(),
            Errno => errno::name(numbers[0]),
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
                self.number,
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

/// getsockopt(2) SO_ERROR: the errno that waits on a socket, 0 for none. Reading it
/// clears it.
pub fn pending_error(socket: RawFd) -> io::Result<i32> {
    let option = find("SO_ERROR").ok_or(io::ErrorKind::Unsupported)?;
    let [error, _] = option.numbers(socket)?;
    Ok(error)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_is_set_is_read_back() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = socket.as_raw_fd();
        for (name, value) in [
            ("SO_LINGER", OptionValue::Linger(1, 7)),
            ("SO_KEEPALIVE", OptionValue::Integer(1)),
            ("TCP_USER_TIMEOUT", OptionValue::Integer(2000)),
        ] {
            let option = find(name).unwrap();
            option.set(socket, value).unwrap();
            assert_eq!(option.get(socket).unwrap(), value.to_string());
        }
        assert_eq!(find("SO_ERROR").unwrap().get(socket).unwrap(), "none");
    }

    #[test]
    fn every_option_is_there_once_and_can_be_read() {
        let socket = std::net::TcpListener::bind("[::1]:0").unwrap();
        for option in OPTIONS {
            assert_eq!(
                OPTIONS
                    .iter()
                    .filter(|other| other.name == option.name)
                    .count(),
                1
            );
            option.get(socket.as_raw_fd()).unwrap();
        }
    }
}
