//! `error-queue`

use std::io::IoSliceMut;
use std::os::fd::RawFd;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::prelude::*;
use crate::errno;

/// `SO_EE_ORIGIN_ZEROCOPY` (linux/errqueue.h).
const ZEROCOPY: u8 = 5;
/// `SO_EE_CODE_ZEROCOPY_COPIED` (linux/errqueue.h).
const COPIED: u8 = 1;

/// recvmsg(2) with MSG_ERRQUEUE; `value` is the first entry of the error queue.
///
/// `zerocopy 0-2` says that the kernel is done with the buffers of the first three calls
/// with MSG_ZEROCOPY, `zerocopy 0-2 copied` that it copied them after all. Another entry is
/// an errno's name. It doesn't wait: EAGAIN where there is no entry, and `poll: none` waits
/// for one.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorQueue {
    on: Option<SocketName>,
}

impl Definition for ErrorQueue {
    const SHORTHAND: Option<&'static str> = Some("on");
    const OBSERVES: &'static [Field] = READING;

    fn value(&self) -> Values {
        Values::Text
    }
}

impl RunByActor for ErrorQueue {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        actor.read_each(self.on.as_ref(), first_entry)
    }
}

fn first_entry(socket: RawFd) -> io::Result<String> {
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    // What is there of an entry, and the address that it is about.
    let mut control = nix::cmsg_space!([u8; 128]);
    let flags = MsgFlags::MSG_ERRQUEUE;
    let message = recvmsg::<()>(socket, &mut slices, Some(&mut control), flags)?;
    let entry = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4RecvErr(entry, _) | ControlMessageOwned::Ipv6RecvErr(entry, _) => {
            Some(entry)
        }
        _ => None,
    });
    let entry = entry.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADMSG))?;
    if entry.ee_origin != ZEROCOPY {
        return Ok(errno::name(i32::try_from(entry.ee_errno).unwrap_or(0)));
    }
    let copied = if entry.ee_code & COPIED == 0 {
        ""
    } else {
        " copied"
    };
    Ok(format!(
        "zerocopy {}-{}{copied}",
        entry.ee_info, entry.ee_data
    ))
}
