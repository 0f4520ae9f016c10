//! `tcp-info`

use std::os::fd::RawFd;

use advisor_facts::tcp_info::TcpInfo;
use serde::{Deserializer, Serializer};

use super::prelude::*;
use crate::yaml::value::{from_text, inline_schema};

/// getsockopt(2) TCP_INFO: one field of it, by the kernel's name and in its unit.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tcpinfo {
    on: Option<SocketName>,
    /// The field, without `tcpi_`: rtt in microseconds, busy_time, notsent_bytes, ...
    field: FieldName,
}

impl Definition for Tcpinfo {
    const SHORTHAND: Option<&'static str> = Some("field");
    const OBSERVES: &'static [Field] = READING;
}

impl RunByActor for Tcpinfo {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        actor.read_each(self.on.as_ref(), |socket| {
            let info = tcp_info(socket)?;
            let value = info.fields().find(|(name, _)| *name == self.field.0);
            // An older kernel doesn't have it.
            let value = value.ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))?;
            Ok(value.1.to_string())
        })
    }
}

fn tcp_info(socket: RawFd) -> io::Result<TcpInfo> {
    let mut bytes = [0_u8; 512];
    let mut length = libc::socklen_t::try_from(bytes.len()).unwrap_or(0);
    let pointer = bytes.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `length` bytes to `bytes`.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            pointer,
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpInfo::decode(
        &bytes[..usize::try_from(length).unwrap_or(0)],
    ))
}

/// A field of tcp_info by the kernel's name.
#[derive(Clone, Copy, Debug, PartialEq)]
struct FieldName(&'static str);

impl Serialize for FieldName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let find = |text: &str| TcpInfo::names().find(|name| *name == text).map(Self);
        from_text(
            deserializer,
            "a field of tcp_info, such as rtt, unacked or notsent_bytes",
            find,
        )
    }
}

inline_schema!(FieldName, {"enum": TcpInfo::names().collect::<Vec<_>>()});
