//! The wires between the hosts: veth pairs, addresses, routes, neighbours.
//!
//! Host number N (from 1) has `eth0` with 10.0.N.2 and fd00:N::2; the other end
//! is the router's `r-HOST` with 10.0.N.1 and fd00:N::1. Neighbours are static,
//! so that no ARP or neighbour discovery takes draws from an impaired link or
//! delays a first packet.
//!
//! Where the relay carries the direction towards a host, the router's route to
//! it leads over a second pair of the router's own, `d-HOST` and `w-HOST`: the
//! frames come out at `w-HOST`, where the relay takes them, and it puts them on
//! `r-HOST` unchanged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::packet_core::{DefaultNla, NetlinkMessage, NetlinkPayload, Nla};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, State};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric};
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::address::{Family, address};
use super::netem;
use crate::impairment::Impairment;

/// The interface index of every host's `eth0`.
pub const ETH0: u32 = 2;
/// The attribute of a qdisc's own options (linux/rtnetlink.h).
const TCA_OPTIONS: u16 = 2;
/// A MAC address that no device has.
const NOBODY: [u8; 6] = [0x02, 0, 0, 0xff, 0xff, 0xff];

/// A host's number in the topology, from 1.
#[derive(Clone, Copy, Debug)]
pub struct Position(usize);

/// The four devices of a host's link.
#[derive(Clone, Copy, Debug)]
enum Device {
    Eth0 = 1,
    Router = 2,
    Detour = 3,
    Relay = 4,
}

impl Position {
    /// Of the host at `index` (from 0) in the suite.
    pub fn new(index: usize) -> Self {
        Self(index + 1)
    }

    fn mac(self, device: Device) -> [u8; 6] {
        let number = u8::try_from(self.0).unwrap_or(u8::MAX);
        [0x02, 0, 0, 0, number, device as u8]
    }

    /// The address of the host's `eth0`.
    pub fn host_mac(self) -> [u8; 6] {
        self.mac(Device::Eth0)
    }

    /// The address of the router's `r-HOST`.
    pub fn router_mac(self) -> [u8; 6] {
        self.mac(Device::Router)
    }

    fn index(self, base: u32) -> u32 {
        base + u32::try_from(self.0).unwrap_or(0)
    }

    /// The interface index of the router's `r-HOST`.
    pub fn router_index(self) -> u32 {
        self.index(1000)
    }

    /// The interface index of the router's `d-HOST`.
    fn detour_index(self) -> u32 {
        self.index(2000)
    }

    /// The interface index of the router's `w-HOST`, where the relay receives.
    pub fn relay_index(self) -> u32 {
        self.index(3000)
    }

    fn addresses(self, side: u8) -> impl Iterator<Item = (IpAddr, u8)> {
        [(Family::V4, 24), (Family::V6, 64)]
            .into_iter()
            .filter(|(family, _)| *family == Family::V4 || super::sysctl::has_ipv6())
            .map(move |(family, prefix)| (address(self.0, side, family), prefix))
    }
}

/// The name of the router's end of a host's link.
pub fn router_device(host: &str) -> String {
    format!("r-{host}")
}

/// A pair of veth devices, both down: the kernel refuses to bring one up
/// (ENOTCONN) before both are there. `peer_namespace` is a descriptor.
struct Pair<'a> {
    name: &'a str,
    index: u32,
    mac: [u8; 6],
    peer_name: &'a str,
    peer_index: u32,
    peer_mac: [u8; 6],
    peer_namespace: Option<i32>,
}

impl Pair<'_> {
    async fn add(&self, handle: &Handle) -> Result<(), rtnetlink::Error> {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(self.peer_name)
            .index(self.peer_index)
            .address(self.peer_mac.to_vec());
        if let Some(namespace) = self.peer_namespace {
            peer = peer.setns_by_fd(namespace);
        }
        let pair: LinkMessage = LinkMessageBuilder::<LinkVeth>::new(self.name, self.peer_name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .index(self.index)
            .address(self.mac.to_vec())
            .build();
        handle.link().add(pair).execute().await
    }
}

/// Joins a host to the router.
pub async fn join(
    host: &str,
    position: Position,
    host_namespace: i32,
    router: &Handle,
    inside: &Handle,
) -> Result<(), rtnetlink::Error> {
    Pair {
        name: &router_device(host),
        index: position.router_index(),
        mac: position.mac(Device::Router),
        peer_name: "eth0",
        peer_index: ETH0,
        peer_mac: position.mac(Device::Eth0),
        peer_namespace: Some(host_namespace),
    }
    .add(router)
    .await?;
    bring_up(router, position.router_index()).await?;
    bring_up(inside, ETH0).await?;
    wait_until_up(router, position.router_index()).await?;
    wait_until_up(inside, ETH0).await?;
    for ((gateway, prefix), (own, _)) in position.addresses(1).zip(position.addresses(2)) {
        // A side without IPv6 has no such address, neighbour or route.
        if has_family(add_address(router, position.router_index(), gateway, prefix).await)? {
            let mac = position.mac(Device::Eth0);
            add_neighbour(router, position.router_index(), own, mac).await?;
        }
        if has_family(add_address(inside, ETH0, own, prefix).await)? {
            add_neighbour(inside, ETH0, gateway, position.mac(Device::Router)).await?;
            add_default_route(inside, gateway).await?;
        }
    }
    Ok(())
}

/// Whether a device takes an address: EACCES where net.ipv6.conf.*.disable_ipv6 says no.
fn has_family(added: Result<(), rtnetlink::Error>) -> Result<bool, rtnetlink::Error> {
    match added {
        Ok(()) => Ok(true),
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EACCES => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Routes the router's traffic towards a host over the relay's pair.
pub async fn detour(
    host: &str,
    position: Position,
    router: &Handle,
) -> Result<(), rtnetlink::Error> {
    Pair {
        name: &detour_device(host),
        index: position.detour_index(),
        mac: position.mac(Device::Detour),
        peer_name: &relay_device(host),
        peer_index: position.relay_index(),
        peer_mac: position.mac(Device::Relay),
        peer_namespace: None,
    }
    .add(router)
    .await?;
    bring_up(router, position.detour_index()).await?;
    bring_up(router, position.relay_index()).await?;
    wait_until_up(router, position.detour_index()).await?;
    wait_until_up(router, position.relay_index()).await?;
    for (address, _) in position.addresses(2) {
        let index = position.detour_index();
        // Without IPv6 on the router there is nothing to lead to the relay.
        if has_family(add_host_route(router, address, index).await)? {
            add_neighbour(router, index, address, position.mac(Device::Eth0)).await?;
        }
    }
    Ok(())
}

/// The name of the router's device that leads to the relay.
pub fn detour_device(host: &str) -> String {
    format!("d-{host}")
}

/// The name of the device at which the relay receives.
pub fn relay_device(host: &str) -> String {
    format!("w-{host}")
}

/// The directions of a host's link that are cut.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cut {
    /// What is sent to the host.
    pub towards: bool,
    /// What the host sends.
    pub from: bool,
    /// What the host sends, by its own device: its kernel knows.
    pub at_device: bool,
}

/// Cuts a host's link, or restores it, with all devices up. To cut it, the host
/// gets another MAC address, so that it receives nothing, and its gateway one
/// that no device has, so that nothing receives its packets. Neither side is
/// notified. At the device a queue without room refuses what the host sends, and
/// the kernel gets NET_XMIT_DROP.
pub async fn set_link(
    position: Position,
    cut: Cut,
    inside: &Handle,
) -> Result<(), rtnetlink::Error> {
    let mac = |is_cut, device| if is_cut { NOBODY } else { position.mac(device) };
    let own = mac(cut.towards, Device::Eth0);
    let gateway_mac = mac(cut.from, Device::Router);
    let change = LinkMessageBuilder::<LinkUnspec>::new()
        .index(ETH0)
        .address(own.to_vec())
        .build();
    inside.link().set(change).execute().await?;
    // The kernel forgets the device's neighbours when its address changes.
    for (gateway, _) in position.addresses(1) {
        match add_neighbour(inside, ETH0, gateway, gateway_mac).await {
            // A host without IPv6 has no neighbours there.
            Err(rtnetlink::Error::NetlinkError(error))
                if gateway.is_ipv6() && error.raw_code() == -libc::EINVAL => {}
            changed => changed?,
        }
    }
    if cut.at_device {
        // `struct tc_fifo_qopt`: room for no packet.
        let options = 0_u32.to_ne_bytes().into();
        return set_queue(inside, ETH0, "pfifo", options, NLM_F_CREATE | NLM_F_REPLACE).await;
    }
    match remove_queue(inside, ETH0).await {
        // It has none.
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENOENT => Ok(()),
        removed => removed,
    }
}

/// The interface index of the loopback device.
pub const LOOPBACK: u32 = 1;

/// Brings a device up.
pub async fn bring_up(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    let up = LinkMessageBuilder::<LinkUnspec>::new()
        .index(index)
        .up()
        .build();
    handle.link().set(up).execute().await
}

/// Waits until a device that was brought up can send. The kernel learns of the
/// carrier at once, but gives the device its queue later, in a work item;
/// packets sent in between are dropped (net/core/link_watch.c).
async fn wait_until_up(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    loop {
        let mut links = Box::pin(handle.link().get().match_index(index).execute());
        while let Some(link) = links.next().await {
            let up = LinkAttribute::OperState(State::Up);
            if link?.attributes.contains(&up) {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// Adds an address that can be used at once: without IFA_F_NODAD, IPv6 keeps it
/// tentative until a work item has run, even with accept_dad=0.
async fn add_address(
    handle: &Handle,
    index: u32,
    address: IpAddr,
    prefix: u8,
) -> Result<(), rtnetlink::Error> {
    let mut request = handle.address().add(index, address, prefix);
    request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    request.execute().await
}

async fn add_neighbour(
    handle: &Handle,
    index: u32,
    address: IpAddr,
    mac: [u8; 6],
) -> Result<(), rtnetlink::Error> {
    handle
        .neighbours()
        .add(index, address)
        .state(NeighbourState::Permanent)
        .link_layer_address(&mac)
        .replace()
        .execute()
        .await
}

async fn add_default_route(handle: &Handle, gateway: IpAddr) -> Result<(), rtnetlink::Error> {
    let message = match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .output_interface(ETH0)
            .build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(gateway)
            .output_interface(ETH0)
            .build(),
    };
    handle.route().add(message).execute().await
}

/// The device by which the router reaches a host: the relay's, where it carries the link.
pub fn device_towards(position: Position, by_relay: bool) -> u32 {
    if by_relay {
        position.detour_index()
    } else {
        position.router_index()
    }
}

/// Has the router send no larger packets to a host than this, and answer larger ones with
/// an ICMP error. Without an MTU the route has that of its device.
pub async fn set_mtu(
    position: Position,
    by_relay: bool,
    mtu: Option<u32>,
    router: &Handle,
) -> Result<(), rtnetlink::Error> {
    /// RTAX_MTU: path MTU discovery doesn't change it.
    const LOCKED: u32 = 1 << 2;
    let index = device_towards(position, by_relay);
    for (address, _) in position.addresses(2) {
        // A device without the least MTU of IPv6 has no IPv6.
        let mtu = mtu.filter(|mtu| address.is_ipv4() || *mtu >= 1280);
        let mut message = host_route(address, index);
        if let Some(mtu) = mtu {
            let metrics = vec![RouteMetric::Lock(LOCKED), RouteMetric::Mtu(mtu)];
            message.attributes.push(RouteAttribute::Metrics(metrics));
        }
        let added = router.route().add(message).replace().execute().await;
        has_family(added)?;
    }
    Ok(())
}

async fn add_host_route(
    handle: &Handle,
    address: IpAddr,
    index: u32,
) -> Result<(), rtnetlink::Error> {
    handle
        .route()
        .add(host_route(address, index))
        .execute()
        .await
}

fn host_route(address: IpAddr, index: u32) -> RouteMessage {
    match address {
        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .output_interface(index)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, 128)
            .output_interface(index)
            .build(),
    }
}

/// The router's address on the link of a host.
pub fn router_address(position: Position, is_ipv6: bool) -> IpAddr {
    let family = if is_ipv6 { Family::V6 } else { Family::V4 };
    address(position.0, 1, family)
}

/// The Ethernet header of a frame from the router to a host, or from the host to the
/// router.
pub fn ethernet_header(position: Position, from_host: bool, is_ipv6: bool) -> [u8; 14] {
    let (own, router) = (position.mac(Device::Eth0), position.mac(Device::Router));
    let (to, from) = if from_host {
        (router, own)
    } else {
        (own, router)
    };
    let mut header = [0; 14];
    header[..6].copy_from_slice(&to);
    header[6..12].copy_from_slice(&from);
    let kind: u16 = if is_ipv6 { 0x86dd } else { 0x0800 };
    header[12..].copy_from_slice(&kind.to_be_bytes());
    header
}

/// Puts netem on a device of the namespace that `handle` belongs to. `ENOENT` is the
/// kernel's answer where it has no sch_netem.
pub async fn add_netem(
    handle: &Handle,
    index: u32,
    impairment: &Impairment,
) -> Result<(), rtnetlink::Error> {
    set_netem(handle, index, impairment, NLM_F_CREATE | NLM_F_EXCL).await
}

/// Changes the netem of a device; what it holds keeps its time.
pub async fn change_netem(
    handle: &Handle,
    index: u32,
    impairment: &Impairment,
) -> Result<(), rtnetlink::Error> {
    set_netem(handle, index, impairment, 0).await
}

async fn set_netem(
    handle: &Handle,
    index: u32,
    impairment: &Impairment,
    flags: u16,
) -> Result<(), rtnetlink::Error> {
    set_queue(handle, index, netem::KIND, netem::encode(impairment), flags).await
}

/// The root qdisc of a device.
fn root_queue(index: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = i32::try_from(index).unwrap_or(0);
    message.header.parent = TcHandle::ROOT;
    message.header.handle = TcHandle { major: 1, minor: 0 };
    message
}

/// rtnetlink's own qdisc request carries no options, so the message is made here.
async fn set_queue(
    handle: &Handle,
    index: u32,
    kind: &str,
    options: Vec<u8>,
    flags: u16,
) -> Result<(), rtnetlink::Error> {
    let mut message = root_queue(index);
    message.attributes = vec![
        TcAttribute::Kind(kind.to_owned()),
        TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options)),
    ];
    let message = RouteNetlinkMessage::NewQueueDiscipline(message);
    acknowledged(handle, message, flags).await
}

/// ENOENT where the device has none but the kernel's own.
async fn remove_queue(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    let mut message = root_queue(index);
    message.header.handle = TcHandle::UNSPEC;
    let message = RouteNetlinkMessage::DelQueueDiscipline(message);
    acknowledged(handle, message, 0).await
}

/// What netem a device has, as a dump of its qdisc gives it: the payload of
/// TCA_OPTIONS. `None` where it has none.
pub async fn netem_options(
    handle: &Handle,
    index: u32,
) -> Result<Option<Vec<u8>>, rtnetlink::Error> {
    let index = i32::try_from(index).unwrap_or(0);
    let mut qdiscs = Box::pin(handle.qdisc().get().index(index).execute());
    while let Some(qdisc) = qdiscs.next().await {
        let qdisc = qdisc?;
        let is_netem = qdisc
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, TcAttribute::Kind(kind) if kind == netem::KIND));
        if qdisc.header.index != index || !is_netem {
            continue;
        }
        for attribute in qdisc.attributes {
            if let TcAttribute::Options(options) = attribute
                && let Some(option) = options.first()
            {
                let mut bytes = vec![0; option.value_len()];
                option.emit_value(&mut bytes);
                return Ok(Some(bytes));
            }
        }
    }
    Ok(None)
}

/// Sends a request that is answered by an acknowledgement or an error.
async fn acknowledged(
    handle: &Handle,
    message: RouteNetlinkMessage,
    flags: u16,
) -> Result<(), rtnetlink::Error> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = handle.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(rtnetlink::Error::NetlinkError(error));
        }
    }
    Ok(())
}
