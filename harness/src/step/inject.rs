//! `inject`

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::link::FlagText;
use super::prelude::*;
use crate::lab::address::Family;
use crate::lab::injection::{Complaint, Segment};
use crate::lab::packets::Flow;
use crate::lab::relay::{send_around_queue, send_socket};
use crate::lab::topology::{self, ETH0};
use crate::yaml::error::{Place, SuiteError};
use crate::yaml::value::OneOrMore;

/// Puts a packet that nobody sent on the link of a host, as if it came from the peer of
/// one of its connections: the next one of that by its numbers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    /// The host that gets it.
    to: LinkHost,
    /// The host at the other end of the connection.
    pub peer: LinkHost,
    /// The port of either end. Default: that of any connection.
    #[serde(default)]
    port: u16,
    /// Flags of a TCP segment, one or several.
    pub flags: Option<OneOrMore<FlagText>>,
    /// An ICMP error, in place of a segment.
    pub icmp: Option<Icmp>,
    /// Added to the sequence number that is next. Default: 0.
    #[serde(default)]
    seq: i64,
    /// Of a segment: added to the number that it acknowledges. Default: 0.
    #[serde(default)]
    ack: i64,
    /// Of packet-too-big: the largest packet, as it says. Default: 0.
    #[serde(default)]
    mtu: u32,
    /// Where it is put on the link: router, behind the impairment, or peer, so that it takes
    /// the way of all packets. Default: router.
    #[serde(default)]
    from: From,
}

/// Where an injected packet begins.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum From {
    #[default]
    Router,
    Peer,
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
pub enum Icmp {
    /// Destination unreachable, network.
    #[serde(rename = "net-unreachable")]
    Net,
    /// Destination unreachable, host.
    #[serde(rename = "host-unreachable")]
    Host,
    /// Destination unreachable, port.
    #[serde(rename = "port-unreachable")]
    Port,
    /// Destination unreachable, administratively prohibited.
    #[serde(rename = "admin-prohibited")]
    Admin,
    /// Fragmentation needed; of IPv6: packet too big.
    #[serde(rename = "packet-too-big")]
    TooBig,
    /// Time exceeded in transit.
    #[serde(rename = "time-exceeded")]
    TimeExceeded,
}

impl Icmp {
    /// Type and code, of ICMP (RFC 792, RFC 1812) or of ICMPv6 (RFC 4443).
    #[expect(
        clippy::match_same_arms,
        reason = "a table by protocol; that two numbers are the same is chance"
    )]
    const fn kind(self, is_ipv6: bool) -> (u8, u8) {
        match (self, is_ipv6) {
            (Self::Net, false) => (3, 0),
            (Self::Host, false) => (3, 1),
            (Self::Port, false) => (3, 3),
            (Self::TooBig, false) => (3, 4),
            (Self::Admin, false) => (3, 13),
            (Self::TimeExceeded, false) => (11, 0),
            (Self::Net, true) => (1, 0),
            (Self::Admin, true) => (1, 1),
            (Self::Host, true) => (1, 3),
            (Self::Port, true) => (1, 4),
            (Self::TooBig, true) => (2, 0),
            (Self::TimeExceeded, true) => (3, 0),
        }
    }
}

impl Definition for Inject {
    const PREPARES: bool = true;
}

/// How long the capture is given to come to a packet that has passed.
const PATIENCE: Duration = Duration::from_secs(2);

impl RunByLab for Inject {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let error = |error| LabError::new(&self.to, "inject a packet", error, "");
        let (own, peer, sent, received) = self.flow(lab)?;
        let is_ipv6 = own.is_ipv6();
        let moved = |number: u32, by: i64| {
            let by = u32::try_from(by.rem_euclid(1 << 32)).unwrap_or(0);
            number.wrapping_add(by)
        };
        let packet = if let Some(icmp) = self.icmp {
            // About the first segment that isn't acknowledged.
            let about = Segment {
                from: sent.last.from,
                to: sent.last.to,
                flags: 16,
                seq: moved(received.last.ack, self.seq),
                ack: sent.last.ack,
            };
            let from = match self.from {
                From::Router => topology::router_address(lab.lab.position(&self.to)?, is_ipv6),
                From::Peer => peer,
            };
            let complaint = Complaint {
                from,
                kind: icmp.kind(is_ipv6),
                mtu: self.mtu,
                about,
            };
            complaint.packet()
        } else {
            let flags = self.flags.iter().flat_map(|OneOrMore(flags)| flags);
            let segment = Segment {
                from: received.last.from,
                to: received.last.to,
                flags: flags.fold(0, |all, flag| all | flag.bit()),
                seq: moved(received.end, self.seq),
                ack: moved(sent.end, self.ack),
            };
            segment.packet()
        };
        let packet = packet.map_err(error)?;
        let (namespace, index, position) = match self.from {
            From::Router => {
                let position = lab.lab.position(&self.to)?;
                (lab.lab.router(), position.router_index(), position)
            }
            From::Peer => (
                lab.namespace(&self.peer)?,
                ETH0,
                lab.lab.position(&self.peer)?,
            ),
        };
        let header = topology::ethernet_header(position, self.from == From::Peer, is_ipv6);
        let frame = [&header[..], &packet].concat();
        namespace
            .run(|| send_around_queue(&send_socket(index)?, &frame))
            .flatten()
            .map_err(error)?;
        Ok(ControlFlow::Continue(()))
    }
}

impl Inject {
    /// Whether it says what is injected, and only that.
    pub fn check(&self, place: Place) -> Result<(), SuiteError> {
        let wrong = |message: &str, hint: &str| Err(SuiteError::new(place, message, hint));
        if *self.to == *self.peer {
            return wrong("inject: to and peer are the same host", "two hosts");
        }
        if self.mtu != 0 && self.icmp != Some(Icmp::TooBig) {
            return wrong("inject: mtu says nothing here", "with icmp: packet-too-big");
        }
        let Some(OneOrMore(flags)) = &self.flags else {
            return match self.icmp {
                None => wrong("inject: what?", "flags: RST, or icmp: port-unreachable"),
                Some(_) if self.ack != 0 => {
                    wrong("inject: an ICMP error acknowledges nothing", "without ack")
                }
                Some(_) => Ok(()),
            };
        };
        if self.icmp.is_some() {
            return wrong("inject: both flags and icmp", "one of them");
        }
        if flags.contains(&FlagText::Data) {
            return wrong(
                "inject: a segment with payload",
                "FIN, SYN, RST, PSH, ACK, URG",
            );
        }
        Ok(())
    }

    /// The connection, as it has passed on the link of the host: its ends, what the host
    /// sent and what it got.
    fn flow(&self, lab: &LabContext<'_>) -> Result<(IpAddr, IpAddr, Flow, Flow), LabError> {
        let number = |host| lab.number(host);
        let (own, peer) = (number(&self.to)?, number(&self.peer)?);
        let end = Instant::now() + PATIENCE;
        loop {
            for family in [Family::V4, Family::V6] {
                let address = |number| crate::lab::address::address(number, 2, family);
                let (own, peer) = (address(own), address(peer));
                let flow = lab.lab.ledger.flow(&self.to, own, peer, self.port);
                if let Some((sent, received)) = flow {
                    return Ok((own, peer, sent, received));
                }
            }
            if Instant::now() >= end {
                let error = io::Error::from_raw_os_error(libc::ENOTCONN);
                let action = format!("find a connection with {} to inject into", &*self.peer);
                return Err(LabError::new(&self.to, &action, error, ""));
            }
            lab.progress.sleep(Duration::from_millis(5));
        }
    }
}
