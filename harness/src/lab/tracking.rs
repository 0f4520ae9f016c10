//! Connection tracking in a host's namespace, by a rule of nf_tables
//! (linux/netfilter/nf_tables.h).
//!
//! The kernel tracks nothing until somebody asks for the state of a connection. This
//! does what `nft add rule inet lab input ct state invalid drop` does.

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
/// NF_INET_LOCAL_IN.
const LOCAL_IN: u32 = 1;
/// NFT_CT_STATE.
const CT_STATE: u32 = 0;
/// NF_CT_STATE_INVALID_BIT.
const INVALID: u32 = 1;
/// NFT_CMP_NEQ.
const NOT_EQUAL: u32 = 1;
/// NFT_REG_1.
const REGISTER: u32 = 1;
const NF_DROP: u32 = 0;

/// The name of the table and, with NAME, of its chain.
const TABLE: &[u8] = b"lab\0";
const CHAIN: &[u8] = b"input\0";

/// Tracks the connections of the calling thread's network namespace, and drops what
/// belongs to none.
pub fn start() -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    let hook = [
        attribute(1, &LOCAL_IN.to_be_bytes()),
        attribute(2, &0_u32.to_be_bytes()),
    ]
    .concat();
    let chain = [
        attribute(1, TABLE),
        attribute(3, CHAIN),
        nested(4, &hook),
        attribute(7, b"filter\0"),
    ]
    .concat();
    let rule = [
        attribute(1, TABLE),
        attribute(2, CHAIN),
        nested(4, &drop_invalid()),
    ]
    .concat();
    let created = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK;
    let batch = [
        message(BATCH_BEGIN, NLM_F_REQUEST, 0, SUBSYSTEM, &[]),
        message(NEW_TABLE, created, NFPROTO_INET, 0, &attribute(1, TABLE)),
        message(NEW_CHAIN, created, NFPROTO_INET, 0, &chain),
        message(NEW_RULE, created, NFPROTO_INET, 0, &rule),
        message(BATCH_END, NLM_F_REQUEST, 0, SUBSYSTEM, &[]),
    ]
    .concat();
    send(netlink.as_raw_fd(), &batch, MsgFlags::empty())?;
    // One answer for each of the three; the first error ends the batch.
    for _ in 0..3 {
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

/// The expressions of `ct state invalid drop`.
fn drop_invalid() -> Vec<u8> {
    let register = REGISTER.to_be_bytes();
    let value = |bytes: [u8; 4]| attribute(1, &bytes);
    let state = [
        attribute(1, &register),
        attribute(2, &CT_STATE.to_be_bytes()),
    ]
    .concat();
    let mask = [
        attribute(1, &register),
        attribute(2, &register),
        attribute(3, &4_u32.to_be_bytes()),
        nested(4, &value(INVALID.to_ne_bytes())),
        nested(5, &value([0; 4])),
    ]
    .concat();
    let compare = [
        attribute(1, &register),
        attribute(2, &NOT_EQUAL.to_be_bytes()),
        nested(3, &value([0; 4])),
    ]
    .concat();
    let verdict = nested(2, &attribute(1, &NF_DROP.to_be_bytes()));
    let drop = [attribute(1, &0_u32.to_be_bytes()), nested(2, &verdict)].concat();
    [
        (&b"ct\0"[..], state),
        (b"bitwise\0", mask),
        (b"cmp\0", compare),
        (b"immediate\0", drop),
    ]
    .iter()
    .flat_map(|(name, data)| nested(1, &[attribute(1, name), nested(2, data)].concat()))
    .collect()
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
