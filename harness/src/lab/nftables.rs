//! Rules of nf_tables in the calling thread's network namespace
//! (linux/netfilter/nf_tables.h), of the few kinds that a lab needs.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// NLM_F_CREATE | NLM_F_APPEND.
const NLM_F_CREATE: u16 = 0xc00;
const NLMSG_ERROR: u16 = 2;
const NFPROTO_INET: u8 = 1;
const NLA_F_NESTED: u16 = 0x8000;
/// NFT_CT_STATE.
const CT_STATE: u32 = 0;
/// NF_CT_STATE_INVALID_BIT.
const INVALID: u32 = 1;
/// NFT_CMP_EQ and NFT_CMP_NEQ.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// NFT_META_NFPROTO and NFT_META_L4PROTO.
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;
const NFPROTO_IPV6: u8 = 10;
const ICMPV6: u8 = 58;
/// NFT_PAYLOAD_TRANSPORT_HEADER.
const TRANSPORT_HEADER: u32 = 2;
/// NFT_REJECT_TCP_RST.
const TCP_RESET: u32 = 1;
/// NFT_REG_1.
const REGISTER: u32 = 1;
const NF_DROP: u32 = 0;

/// Where a chain sees packets.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// NF_INET_LOCAL_IN.
    Input = 1,
    /// NF_INET_FORWARD.
    Forward = 2,
    /// NF_INET_LOCAL_OUT.
    Output = 3,
    /// NF_INET_POST_ROUTING.
    Postrouting = 4,
}

/// What a rule does with the packets that it is about.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// `ct state invalid`, without a verdict: connections are tracked where a rule asks.
    Track,
    /// `ct state invalid drop`.
    DropInvalid,
    /// `ct state invalid reject with tcp reset`.
    ResetInvalid,
    /// `masquerade`.
    Masquerade,
    /// `icmpv6 type 130-143 drop`: neighbour discovery and MLD.
    DropNeighbourDiscovery,
}

impl Rule {
    fn chain_type(self) -> (&'static [u8], i32) {
        match self {
            // NF_IP_PRI_NAT_SRC.
            Self::Masquerade => (b"nat\0", 100),
            _ => (b"filter\0", 0),
        }
    }

    fn expressions(self) -> Vec<u8> {
        match self {
            Self::Track => is_invalid(),
            Self::DropInvalid => [is_invalid(), drop()].concat(),
            Self::ResetInvalid => [is_invalid(), reset()].concat(),
            Self::Masquerade => expression(b"masq\0", &[]),
            Self::DropNeighbourDiscovery => [
                meta_is(NFPROTO, NFPROTO_IPV6),
                meta_is(L4PROTO, ICMPV6),
                first_byte_of_transport(),
                within(130, 143),
                drop(),
            ]
            .concat(),
        }
    }
}

/// Makes a table of a name with one chain for each rule.
pub fn install(table: &str, rules: &[(Hook, Rule)]) -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    let text = |text: &str| [text.as_bytes(), b"\0"].concat();
    let table = attribute(1, &text(table));
    let created = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK;
    let mut batch = message(BATCH_BEGIN, NLM_F_REQUEST, 0, SUBSYSTEM, &[]);
    batch.extend(message(NEW_TABLE, created, NFPROTO_INET, 0, &table));
    for (number, (hook, rule)) in rules.iter().enumerate() {
        let name = text(&format!("{hook:?}{number}"));
        let (chain_type, priority) = rule.chain_type();
        let hook = [
            attribute(1, &(*hook as u32).to_be_bytes()),
            attribute(2, &priority.to_be_bytes()),
        ]
        .concat();
        let chain = [
            table.clone(),
            attribute(3, &name),
            nested(4, &hook),
            attribute(7, chain_type),
        ]
        .concat();
        let rule = [
            table.clone(),
            attribute(2, &name),
            nested(4, &rule.expressions()),
        ]
        .concat();
        batch.extend(message(NEW_CHAIN, created, NFPROTO_INET, 0, &chain));
        batch.extend(message(NEW_RULE, created, NFPROTO_INET, 0, &rule));
    }
    batch.extend(message(BATCH_END, NLM_F_REQUEST, 0, SUBSYSTEM, &[]));
    send(netlink.as_raw_fd(), &batch, MsgFlags::empty())?;
    // One answer for the table, each chain and each rule; the first error ends the batch.
    for _ in 0..=2 * rules.len() {
        let mut answer = [0; 4096];
        let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        if length < 20 || kind != NLMSG_ERROR {
            return Err(io::Error::other("the answer of nf_tables is not one"));
        }
        let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        if code != 0 {
            return Err(io::Error::from_raw_os_error(-code));
        }
    }
    Ok(())
}

fn expression(name: &[u8], data: &[u8]) -> Vec<u8> {
    nested(1, &[attribute(1, name), nested(2, data)].concat())
}

/// A value of a comparison.
fn value(kind: u16, bytes: &[u8]) -> Vec<u8> {
    nested(kind, &attribute(1, bytes))
}

fn compare(operator: u32, bytes: &[u8]) -> Vec<u8> {
    let data = [
        attribute(1, &REGISTER.to_be_bytes()),
        attribute(2, &operator.to_be_bytes()),
        value(3, bytes),
    ]
    .concat();
    expression(b"cmp\0", &data)
}

/// `ct state invalid`.
fn is_invalid() -> Vec<u8> {
    let register = REGISTER.to_be_bytes();
    let state = [
        attribute(1, &register),
        attribute(2, &CT_STATE.to_be_bytes()),
    ]
    .concat();
    let mask = [
        attribute(1, &register),
        attribute(2, &register),
        attribute(3, &4_u32.to_be_bytes()),
        value(4, &INVALID.to_ne_bytes()),
        value(5, &[0; 4]),
    ]
    .concat();
    [
        expression(b"ct\0", &state),
        expression(b"bitwise\0", &mask),
        compare(NOT_EQUAL, &[0; 4]),
    ]
    .concat()
}

/// `meta KEY VALUE`.
fn meta_is(key: u32, wanted: u8) -> Vec<u8> {
    let load = [
        attribute(1, &REGISTER.to_be_bytes()),
        attribute(2, &key.to_be_bytes()),
    ]
    .concat();
    [expression(b"meta\0", &load), compare(EQUAL, &[wanted])].concat()
}

fn first_byte_of_transport() -> Vec<u8> {
    let [register, base, offset, length] = [REGISTER, TRANSPORT_HEADER, 0, 1].map(u32::to_be_bytes);
    let load = [
        attribute(1, &register),
        attribute(2, &base),
        attribute(3, &offset),
        attribute(4, &length),
    ]
    .concat();
    expression(b"payload\0", &load)
}

fn within(least: u8, greatest: u8) -> Vec<u8> {
    let data = [
        attribute(1, &REGISTER.to_be_bytes()),
        // NFT_RANGE_EQ.
        attribute(2, &0_u32.to_be_bytes()),
        value(3, &[least]),
        value(4, &[greatest]),
    ]
    .concat();
    expression(b"range\0", &data)
}

fn drop() -> Vec<u8> {
    let verdict = nested(2, &attribute(1, &NF_DROP.to_be_bytes()));
    let data = [attribute(1, &0_u32.to_be_bytes()), nested(2, &verdict)].concat();
    expression(b"immediate\0", &data)
}

fn reset() -> Vec<u8> {
    expression(b"reject\0", &attribute(1, &TCP_RESET.to_be_bytes()))
}

/// A message of nfnetlink.
fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(
        u32::try_from(20 + attributes.len())
            .unwrap_or(0)
            .to_ne_bytes(),
    );
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family, 0]);
    message.extend(resource.to_be_bytes());
    message.extend(attributes);
    message
}

fn nested(kind: u16, content: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, content)
}

/// An attribute of netlink, padded to four bytes.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut attribute = Vec::new();
    attribute.extend(u16::try_from(4 + content.len()).unwrap_or(0).to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(content);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}
