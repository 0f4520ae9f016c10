//! `receive-rights`

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind, recvmsg,
    socket,
};

use super::limit::limited;
use super::prelude::*;
use super::transfer::Within;

/// recvmsg(2) with SCM_RIGHTS: takes a socket that another actor of the host hands over
/// with `send-rights`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Receiverights {
    within: Option<Within>,
}

impl Definition for Receiverights {
    const SHORTHAND: Option<&'static str> = Some("within");
    const MAKES: Makes = Makes::Sockets;

    fn is_limited(&self) -> bool {
        self.within.is_some()
    }
}

impl RunByActor for Receiverights {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let end = Within::end(self.within);
        let receive = |actor: &mut ActorContext<'_>| {
            let rights = Rights::open()?;
            bind(rights.descriptor(), &Rights::address(actor.name())?)?;
            let socket = limited(end, || rights.receive())?;
            actor.receive(socket);
            Ok(())
        };
        receive(actor).into()
    }
}

/// Time between two looks whether somebody waits for a socket.
pub(super) const RETRY_EVERY: Duration = Duration::from_millis(5);

/// A Unix socket by which actors of a host hand descriptors over. Its address is abstract:
/// it belongs to the host's network namespace and is gone with the socket.
pub(super) struct Rights(OwnedFd);

impl Rights {
    pub(super) fn open() -> io::Result<Self> {
        let descriptor = socket(
            AddressFamily::Unix,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        Ok(Self(descriptor))
    }

    /// Where an actor waits for what is handed to it.
    pub(super) fn address(actor: &str) -> io::Result<UnixAddr> {
        Ok(UnixAddr::new_abstract(
            format!("lastbyte/{actor}").as_bytes(),
        )?)
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn receive(&self) -> io::Result<RawFd> {
        let mut byte = [0];
        let mut slices = [IoSliceMut::new(&mut byte)];
        let mut control = nix::cmsg_space!(RawFd);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<UnixAddr>(self.descriptor(), &mut slices, Some(&mut control), flags)?;
        let mut messages = message.cmsgs()?;
        let received = messages.find_map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        received.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADMSG))
    }
}
