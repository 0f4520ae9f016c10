//! Hands file descriptors from one process to another (unix(7), SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Sends a descriptor, with one byte to carry it.
pub fn send(line: &UnixStream, descriptor: impl AsFd) -> io::Result<()> {
    sendmsg::<()>(
        line.as_raw_fd(),
        &[IoSlice::new(b"d")],
        &[ControlMessage::ScmRights(&[descriptor.as_fd().as_raw_fd()])],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives a descriptor; `None` once the other side has hung up.
pub fn receive(line: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!(RawFd);
    let mut buffer = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(
        line.as_raw_fd(),
        &mut buffer,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let Some(descriptor) = descriptors.first()
        {
            // SAFETY: the kernel has just made it for this process.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(*descriptor) }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_descriptor_goes_across_and_the_end_is_seen() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(&ours, &writer).unwrap();
        drop((writer, ours));
        let received = receive(&theirs).unwrap().unwrap();
        std::fs::File::from(received).write_all(b"hello").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert!(receive(&theirs).unwrap().is_none());
    }
}
