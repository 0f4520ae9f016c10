//! Socket options by the kernel's names: one row of the table for each serves
//! setsockopt, getsockopt, the documents and the schema.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::LazyLock;
use std::time::Duration;

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Unexpected, Visitor};
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::Values;
use crate::errno;
use crate::yaml::quantity;
use crate::yaml::schema::{self, axis_value};
use crate::yaml::value::Time;

/// What an option's value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Type {
    /// An int.
    Integer,
    /// `struct linger`.
    Linger,
    /// An errno; can only be read.
    Errno,
    /// `struct timeval`.
    Timeval,
    /// An int that can only be read.
    ReadOnly,
    /// Two 16-bit numbers: the lowest port and the highest.
    Ports,
}
use Type::{Errno, Integer, Linger, Ports, ReadOnly, Timeval};

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

/// `IP_LOCAL_PORT_RANGE` (linux/in.h).
const IP_LOCAL_PORT_RANGE: i32 = 51;
/// `IP_BIND_ADDRESS_NO_PORT` (linux/in.h).
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;

options! {
    SO_REUSEADDR SOL_SOCKET libc::SO_REUSEADDR, Integer, "socket(7)";
    SO_REUSEPORT SOL_SOCKET libc::SO_REUSEPORT, Integer, "socket(7)";
    SO_LINGER SOL_SOCKET libc::SO_LINGER, Linger, "socket(7): [l_onoff, l_linger in seconds]";
    SO_ERROR SOL_SOCKET libc::SO_ERROR, Errno, "socket(7): read only";
    SO_ACCEPTCONN SOL_SOCKET libc::SO_ACCEPTCONN, ReadOnly, "socket(7): 1 of a listening socket; read only";
    SO_DOMAIN SOL_SOCKET libc::SO_DOMAIN, ReadOnly, "socket(7): 2 is AF_INET, 10 AF_INET6; read only";
    SO_PROTOCOL SOL_SOCKET libc::SO_PROTOCOL, ReadOnly, "socket(7): 6 is TCP, 262 MPTCP; read only";
    SO_RCVLOWAT SOL_SOCKET libc::SO_RCVLOWAT, Integer, "socket(7): bytes";
    SO_OOBINLINE SOL_SOCKET libc::SO_OOBINLINE, Integer, "socket(7)";
    SO_ZEROCOPY SOL_SOCKET libc::SO_ZEROCOPY, Integer, "Documentation/networking/msg_zerocopy.rst";
    SO_SNDBUF SOL_SOCKET libc::SO_SNDBUF, Integer, "socket(7): bytes; the kernel doubles them";
    SO_RCVBUF SOL_SOCKET libc::SO_RCVBUF, Integer, "socket(7): bytes; the kernel doubles them";
    SO_SNDBUFFORCE SOL_SOCKET libc::SO_SNDBUFFORCE, Integer, "socket(7): bytes, whatever wmem_max; the kernel doubles them";
    SO_RCVBUFFORCE SOL_SOCKET libc::SO_RCVBUFFORCE, Integer, "socket(7): bytes, whatever rmem_max; the kernel doubles them";
    SO_RCVTIMEO SOL_SOCKET libc::SO_RCVTIMEO, Timeval, "socket(7): a time such as 500ms; read in milliseconds";
    SO_SNDTIMEO SOL_SOCKET libc::SO_SNDTIMEO, Timeval, "socket(7): a time such as 500ms; read in milliseconds";
    SO_MAX_PACING_RATE SOL_SOCKET libc::SO_MAX_PACING_RATE, Integer, "tcp_internal_pacing() of include/net/tcp.h: bytes a second; the kernel then spreads what it sends by timers of its own";
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
    TCP_FASTOPEN IPPROTO_TCP libc::TCP_FASTOPEN, Integer, "tcp(7): of a listening socket, the most SYNs with data that are pending";
    TCP_FASTOPEN_CONNECT IPPROTO_TCP libc::TCP_FASTOPEN_CONNECT, Integer, "tcp(7): connect() returns at once, the first write sends SYN and data";
    IP_LOCAL_PORT_RANGE IPPROTO_IP IP_LOCAL_PORT_RANGE, Ports, "ip(7): [lowest port, highest port]; Linux 6.3";
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
    /// `struct timeval`.
    Time(Duration),
    /// The lowest port and the highest.
    Ports(u16, u16),
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Linger(on, seconds) => write!(f, "{on},{seconds}"),
            Self::Time(time) => Time(*time).fmt(f),
            Self::Ports(lowest, highest) => write!(f, "{lowest},{highest}"),
        }
    }
}

impl Serialize for OptionValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(number) => serializer.serialize_i32(*number),
            Self::Linger(on, seconds) => [on, seconds].serialize(serializer),
            Self::Time(_) => serializer.collect_str(self),
            Self::Ports(lowest, highest) => [lowest, highest].serialize(serializer),
        }
    }
}

impl Type {
    /// Whether an option of it can be set.
    pub fn is_settable(self) -> bool {
        !matches!(self, Errno | ReadOnly)
    }

    /// What its value can be where it is read.
    pub fn values(self) -> Values {
        match self {
            Integer | ReadOnly | Timeval => Values::Quantity,
            Linger | Ports => Values::Text,
            Errno => Values::Errno,
        }
    }

    /// The schema of a value to set it to.
    pub fn schema(self) -> Json {
        match self {
            Integer | ReadOnly | Errno => json!({"type": "integer"}),
            Ports => json!({
                "type": "array", "items": {"anyOf": [{"type": "integer"}, axis_value()]},
                "minItems": 2, "maxItems": 2,
            }),
            Timeval => schema::of::<Time>(),
            Linger => json!({"anyOf": [{"type": "integer"}, {
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
            Integer | ReadOnly | Errno => "a number",
            Ports => "[lowest port, highest port], each from 1 to 65535, the lowest first",
            Linger => "[l_onoff, l_linger], or a number for l_onoff",
            Timeval => "a time with its unit: us, ms, s or min",
        })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OptionValue, E> {
        let number = text.parse().ok().map(|number| self.visit_i64(number));
        let time = quantity::duration(text).filter(|_| self == Timeval);
        time.map(|time| Ok(OptionValue::Time(time)))
            .or(number)
            .unwrap_or_else(|| Err(E::invalid_value(Unexpected::Str(text), &self)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<OptionValue, E> {
        let number = i32::try_from(number)
            .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))?;
        Ok(match self {
            Integer | ReadOnly | Errno => OptionValue::Integer(number),
            Linger => OptionValue::Linger(number, 0),
            Ports | Timeval => {
                return Err(E::invalid_value(Unexpected::Signed(number.into()), &self));
            }
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
            (Ports, [lowest, highest]) => {
                let port = |number: i32| u16::try_from(number).ok().filter(|port| *port > 0);
                match (port(*lowest), port(*highest)) {
                    (Some(lowest), Some(highest)) if lowest <= highest => {
                        Ok(OptionValue::Ports(lowest, highest))
                    }
                    _ => Err(de::Error::invalid_value(Unexpected::Seq, &self)),
                }
            }
            _ => Err(de::Error::invalid_value(Unexpected::Seq, &self)),
        }
    }
}

/// A value as the kernel has it: the words of its struct, zeros above them.
type Words = [i32; 4];

impl OptionValue {
    /// As the kernel takes it, with the length in bytes.
    fn words(self) -> (Words, usize) {
        match self {
            Self::Integer(number) => ([number, 0, 0, 0], size_of::<i32>()),
            Self::Ports(lowest, highest) => {
                let range = u32::from(highest) << 16 | u32::from(lowest);
                ([range.cast_signed(), 0, 0, 0], size_of::<u32>())
            }
            Self::Linger(on, seconds) => ([on, seconds, 0, 0], size_of::<libc::linger>()),
            Self::Time(time) => {
                let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
                let parts = [seconds, time.subsec_micros().into()].map(i64::to_ne_bytes);
                let bytes = parts.concat();
                let word = |index: usize| bytes[4 * index..].first_chunk().copied();
                let words = std::array::from_fn(|index| {
                    i32::from_ne_bytes(word(index).unwrap_or_default())
                });
                (words, size_of::<libc::timeval>())
            }
        }
    }
}

impl Type {
    /// A value that the kernel gave, as it is observed.
    fn describe(self, words: Words) -> String {
        match self {
            Integer | ReadOnly => words[0].to_string(),
            Ports => {
                let range = words[0].cast_unsigned();
                format!("{},{}", range & 0xffff, range >> 16)
            }
            Linger => OptionValue::Linger(words[0], words[1]).to_string(),
            Errno if words[0] == 0 => "none".to_owned(),
            Errno => errno::name(words[0]),
            Timeval => {
                let bytes = words.map(i32::to_ne_bytes).concat();
                let part = |at: usize| bytes[at..].first_chunk().copied().unwrap_or_default();
                let (seconds, microseconds) =
                    (i64::from_ne_bytes(part(0)), i64::from_ne_bytes(part(8)));
                (seconds * 1000 + (microseconds + 999) / 1000).to_string()
            }
        }
    }
}

impl SocketOption {
    /// setsockopt(2).
    pub fn set(&self, socket: RawFd, value: OptionValue) -> io::Result<()> {
        let (words, length) = value.words();
        let length = u32::try_from(length).unwrap_or(0);
        let pointer = words.as_ptr().cast();
        // SAFETY: the pointer is to `words`, of which the kernel reads `length` bytes, no
        // more than it has.
        let result = unsafe { libc::setsockopt(socket, self.level, self.number, pointer, length) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// getsockopt(2): an errno by its name, `struct linger` as two numbers.
    pub fn get(&self, socket: RawFd) -> io::Result<String> {
        Ok(self.value.describe(self.words(socket)?))
    }

    fn words(&self, socket: RawFd) -> io::Result<Words> {
        let mut words = [0; 4];
        let mut length = u32::try_from(size_of::<Words>()).unwrap_or(0);
        let pointer = words.as_mut_ptr().cast();
        // SAFETY: the kernel writes at most `length` bytes, all of `words`.
        let result =
            unsafe { libc::getsockopt(socket, self.level, self.number, pointer, &raw mut length) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(words)
    }
}

/// getsockopt(2) SO_ERROR: the errno that waits on a socket, 0 for none. Reading it
/// clears it.
pub fn pending_error(socket: RawFd) -> io::Result<i32> {
    let option = find("SO_ERROR").ok_or(io::ErrorKind::Unsupported)?;
    let [error, ..] = option.words(socket)?;
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
        // The kernel counts in ticks, of up to 10 ms.
        let option = find("SO_RCVTIMEO").unwrap();
        let time = OptionValue::Time(Duration::from_millis(1_500));
        option.set(socket, time).unwrap();
        assert_eq!(option.get(socket).unwrap(), "1500");
        option
            .set(socket, OptionValue::Time(Duration::ZERO))
            .unwrap();
        assert_eq!(option.get(socket).unwrap(), "0");
    }

    #[test]
    fn a_read_that_waits_too_long_ends_with_eagain() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let outcomes = crate::step::tests::run(&[
            &format!("connect: \"localhost:{port}\""),
            "setsockopt: { SO_RCVTIMEO: 20ms, SO_SNDTIMEO: 1s }",
            "getsockopt: SO_SNDTIMEO",
            "read: 1",
        ]);
        assert_eq!(outcomes["getsockopt"].value.as_deref(), Some("1000"));
        assert_eq!(outcomes["read"].error.as_deref(), Some("EAGAIN"));
        assert!(outcomes["read"].ms >= 20.0);
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
            // What forces a buffer is read without the force.
            if !option.name.ends_with("FORCE") {
                option.get(socket.as_raw_fd()).unwrap();
            }
        }
    }
}
