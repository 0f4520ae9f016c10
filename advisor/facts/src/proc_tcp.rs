//! The socket table as text, /proc/net/tcp and /proc/net/tcp6: all there is on
//! a kernel without sock_diag. No memory and no tcp_info.

use std::io::{self, BufRead};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::read::FactError;
use crate::sock_diag::{Family, NO_COOKIE, TcpSocket, TcpState, Timer};

/// Milliseconds in a tick of the times in /proc, of which there are 100 a
/// second on every architecture in use (USER_HZ).
const TICK_MS: u32 = 10;

/// The longest line that is read, in bytes; the kernel's have 150.
const LINE_LIMIT_BYTES: u64 = 4096;

/// Parses the text of /proc/net/tcp (`Family::Inet`) or /proc/net/tcp6 and hands
/// over each socket; only a line at a time is held. `path` is for the errors.
pub fn each(
    text: impl BufRead,
    path: &Path,
    family: Family,
    each: &mut impl FnMut(TcpSocket),
) -> Result<(), FactError> {
    let mut text = text.take(0);
    let mut content = String::new();
    for line in 1.. {
        content.clear();
        text.set_limit(LINE_LIMIT_BYTES);
        match text.read_line(&mut content) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(FactError::malformed(path, line, "not text"));
            }
            Err(source) => {
                return Err(FactError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        }
        // The first line has the names of the columns.
        if line > 1 {
            each(
                parse_line(&content, family)
                    .ok_or_else(|| FactError::malformed(path, line, "not the line of a socket"))?,
            );
        }
    }
    Ok(())
}

/// `sl: local peer st tx:rx timer:when retransmits uid timeout inode ...`
fn parse_line(line: &str, family: Family) -> Option<TcpSocket> {
    let mut words = line.split_whitespace().skip(1);
    let local = endpoint(words.next()?, family)?;
    let peer = endpoint(words.next()?, family)?;
    let state = TcpState::from_number(u8::from_str_radix(words.next()?, 16).ok()?)?;
    let (send_queue, recv_queue) = words.next()?.split_once(':')?;
    let (timer, when) = words.next()?.split_once(':')?;
    let retransmits = u32::from_str_radix(words.next()?, 16).ok()?;
    let uid = words.next()?.parse().ok()?;
    let _probes = words.next()?;
    let inode = words.next()?.parse().ok()?;
    Some(TcpSocket {
        timer: Timer::from_number(u8::from_str_radix(timer, 16).ok()?),
        retransmits: u8::try_from(retransmits).unwrap_or(u8::MAX),
        timer_ms: u32::from_str_radix(when, 16).ok()?.saturating_mul(TICK_MS),
        recv_queue_bytes: u32::from_str_radix(recv_queue, 16).ok()?,
        send_queue_bytes: u32::from_str_radix(send_queue, 16).ok()?,
        uid,
        inode,
        ..TcpSocket::bare(family, state, local, peer)
    })
}

impl TcpSocket {
    /// A socket of which no more is known than any table of sockets tells.
    pub(crate) fn bare(
        family: Family,
        state: TcpState,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Self {
        Self {
            family,
            state,
            local,
            peer,
            timer: Timer::Off,
            retransmits: 0,
            timer_ms: 0,
            recv_queue_bytes: 0,
            send_queue_bytes: 0,
            uid: 0,
            inode: 0,
            interface: 0,
            cookie: NO_COOKIE,
            info: None,
            memory: None,
            cgroup: None,
            options: None,
        }
    }
}

/// `0100007F:1F90`: the address as words of 32 bits in the order of the host
/// that wrote them (taken to be this one's), the port as a number.
fn endpoint(text: &str, family: Family) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(8 * index..8 * (index + 1))?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address: IpAddr = match (family, address.len()) {
        (Family::Inet, 8) => Ipv4Addr::from(word(0)?).into(),
        (Family::Inet6, 32) => {
            let mut bytes = [0; 16];
            for (index, bytes) in bytes.chunks_exact_mut(4).enumerate() {
                bytes.copy_from_slice(&word(index)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn parse_one(line: &str, family: Family) -> Result<TcpSocket, String> {
        let text = format!("{HEADER}{line}\n");
        let mut sockets = Vec::new();
        each(text.as_bytes(), Path::new("tcp"), family, &mut |socket| {
            sockets.push(socket);
        })
        .map(|()| sockets.remove(0))
        .map_err(|error| error.to_string())
    }

    #[test]
    fn a_socket_is_read() {
        let line = "   1: 0100007F:1F90 0200000A:D431 01 00000005:00000007 01:00000014 00000003  1000        0 23 2 0 20 4 0 10 -1";
        let socket = parse_one(line, Family::Inet).unwrap();
        assert_eq!(socket.state, TcpState::Established);
        assert_eq!(socket.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(socket.peer, "10.0.0.2:54321".parse().unwrap());
        assert_eq!((socket.send_queue_bytes, socket.recv_queue_bytes), (5, 7));
        assert_eq!((socket.timer, socket.timer_ms), (Timer::Retransmit, 200));
        assert_eq!(
            (socket.retransmits, socket.uid, socket.inode),
            (3, 1000, 23)
        );
    }

    #[test]
    fn a_socket_of_ipv6_is_read() {
        let line = "   0: B80D0120000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9 1 0 100 0 0 10 0";
        let socket = parse_one(line, Family::Inet6).unwrap();
        assert_eq!(socket.local, "[2001:db8::1]:22".parse().unwrap());
        assert_eq!(socket.state, TcpState::Listen);
    }

    #[test]
    fn what_is_no_socket_is_named_with_its_line() {
        for line in [
            "",
            "0: 0100007F:1F90",
            "0: 0100007F1F90 0200000A:D431 01 0:0 0:0 0 0 0 0",
            "0: 0100007\u{e9}:1F90 0200000A:D431 01 0:0 0:0 0 0 0 0",
            "0: 0100007F:1F90 0200000A:D431 FF 0:0 0:0 0 0 0 0",
        ] {
            assert_eq!(
                parse_one(line, Family::Inet).unwrap_err(),
                "tcp:2: not the line of a socket"
            );
        }
    }
}
