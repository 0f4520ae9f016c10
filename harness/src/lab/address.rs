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
    let (v4, v6) = pair(number, side);
    family.of(v4, v6)
}

/// The same in both families.
pub fn pair(number: usize, side: u8) -> (Ipv4Addr, Ipv6Addr) {
    let octet = u8::try_from(number).unwrap_or(u8::MAX);
    (
        Ipv4Addr::new(10, 0, octet, side),
        Ipv6Addr::new(0xfd00, u16::from(octet), 0, 0, 0, 0, 0, u16::from(side)),
    )
}

/// The family of a socket or of an address that a suite names.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
pub enum SocketFamily {
    /// AF_INET.
    #[serde(rename = "ipv4")]
    V4,
    /// AF_INET6.
    #[serde(rename = "ipv6")]
    V6,
}

impl SocketFamily {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// What a suite calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// The addresses of a host, or of one of the names that every host has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Addresses {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
    /// The family of the scenario.
    pub family: Family,
}

impl Addresses {
    /// The one of the scenario's family.
    pub fn own(&self) -> IpAddr {
        self.family.of(self.v4, self.v6)
    }

    /// The one for a socket of a family; IPv6 sockets of a scenario with IPv4-mapped
    /// addresses get such a one.
    pub fn of_socket(&self, family: SocketFamily) -> IpAddr {
        match (family, self.family) {
            (SocketFamily::V4, _) => self.v4.into(),
            (SocketFamily::V6, Family::V4Mapped) => self.own(),
            (SocketFamily::V6, _) => self.v6.into(),
        }
    }

    /// The one of a family that a suite names.
    pub fn named(&self, family: SocketFamily) -> IpAddr {
        match family {
            SocketFamily::V4 => self.v4.into(),
            SocketFamily::V6 => self.v6.into(),
        }
    }
}

/// A host's name without the digit that names a family: `server6`.
pub fn split_family(name: &str) -> Option<(&str, SocketFamily)> {
    let families = [("4", SocketFamily::V4), ("6", SocketFamily::V6)];
    families.into_iter().find_map(|(digit, family)| {
        let name = name.strip_suffix(digit)?;
        (!name.is_empty()).then_some((name, family))
    })
}

/// Whether an address is one of a host's own, in either family.
pub fn is_of_host(address_seen: IpAddr, number: usize) -> bool {
    [Family::V4, Family::V6]
        .iter()
        .any(|family| address(number, 2, *family) == address_seen.to_canonical())
}
