//! The addresses of a topology's hosts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Family {
    /// IPv4.
    #[default]
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
    /// IPv4 by IPv6 sockets: `::ffff:10.0.1.2`.
    #[serde(rename = "ipv4-mapped")]
    V4Mapped,
}

impl Family {
    /// The one of two addresses that is of this family.
    pub fn of(self, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
        match self {
            Self::V4 => v4.into(),
            Self::V6 => v6.into(),
            Self::V4Mapped => v4.to_ipv6_mapped().into(),
        }
    }
}

/// The address of a side of a host's link. Host number `number` (from 1) has side 2 of
/// its subnet, the router side 1.
pub fn address(number: usize, side: u8, family: Family) -> IpAddr {
    let octet = u8::try_from(number).unwrap_or(u8::MAX);
    family.of(
        Ipv4Addr::new(10, 0, octet, side),
        Ipv6Addr::new(0xfd00, u16::from(octet), 0, 0, 0, 0, 0, u16::from(side)),
    )
}

/// Whether an address is one of a host's own, in either family.
pub fn is_of_host(address_seen: IpAddr, number: usize) -> bool {
    [Family::V4, Family::V6]
        .iter()
        .any(|family| address(number, 2, *family) == address_seen.to_canonical())
}
