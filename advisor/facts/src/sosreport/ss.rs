//! What `ss -peaonmi` printed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Held;
use crate::sock_diag::{Family, SocketMemory, TcpInfo, TcpSocket, TcpState, Timer};

/// Parses the output and hands over each TCP socket with its holders. Sockets of other
/// kinds are passed over. Gives the numbers of the lines that are not understood: a command
/// that took too long is cut off.
pub(super) fn each(text: &str, each: &mut impl FnMut(TcpSocket, Vec<Held>)) -> Vec<usize> {
    let mut strange = Vec::new();
    let mut last: Option<(TcpSocket, Vec<Held>)> = None;
    for (line, number) in text.lines().zip(1..) {
        if line.starts_with([' ', '\t']) {
            if let Some((socket, _)) = &mut last {
                details(line, socket);
            }
            continue;
        }
        if let Some((socket, held)) = last.take() {
            each(socket, held);
        }
        if let Some(rest) = line.strip_prefix("tcp ") {
            last = head(rest);
            if last.is_none() {
                strange.push(number);
            }
        }
    }
    if let Some((socket, held)) = last {
        each(socket, held);
    }
    strange
}

/// `STATE RECV-Q SEND-Q LOCAL PEER users:(...) timer:(...) uid:N ino:N sk:HEX ...`
fn head(line: &str) -> Option<(TcpSocket, Vec<Held>)> {
    let mut words = line.split_whitespace();
    let state = state(words.next()?)?;
    let recv_queue_bytes = words.next()?.parse().ok()?;
    let send_queue_bytes = words.next()?.parse().ok()?;
    let local_text = words.next()?;
    let (local, is_v6) = endpoint(local_text)?;
    let (peer, _) = endpoint(words.next()?)?;
    let family = if is_v6 { Family::Inet6 } else { Family::Inet };
    let mut socket = TcpSocket {
        recv_queue_bytes,
        send_queue_bytes,
        ..TcpSocket::bare(
            family,
            state,
            of_family(local, family),
            of_family(peer, family),
        )
    };
    let (users, rest) = users(line);
    details(rest, &mut socket);
    let inode = socket.inode;
    let held = users
        .into_iter()
        .filter(|_| inode != 0)
        .map(|(name, pid, descriptor)| Held {
            inode,
            pid,
            descriptor,
            name,
        })
        .collect();
    Some((socket, held))
}

/// The state that ss calls so.
fn state(name: &str) -> Option<TcpState> {
    Some(match name {
        "ESTAB" => TcpState::Established,
        "SYN-SENT" => TcpState::SynSent,
        "SYN-RECV" => TcpState::SynRecv,
        "NEW-SYN-RECV" => TcpState::NewSynRecv,
        "FIN-WAIT-1" => TcpState::FinWait1,
        "FIN-WAIT-2" => TcpState::FinWait2,
        "TIME-WAIT" => TcpState::TimeWait,
        "UNCONN" | "CLOSED" => TcpState::Close,
        "CLOSE-WAIT" => TcpState::CloseWait,
        "LAST-ACK" => TcpState::LastAck,
        "LISTEN" => TcpState::Listen,
        "CLOSING" => TcpState::Closing,
        _ => return None,
    })
}

/// `127.0.0.1:8080`, `0.0.0.0%eth0:22`, `[fe80::1]%eth0:22`, `*:*`; whether it is of IPv6.
/// A star is the address of a socket of both families.
pub(super) fn endpoint(text: &str) -> Option<(SocketAddr, bool)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = match port {
        "*" => 0,
        port => port.parse().ok()?,
    };
    let (without_brackets, is_bracketed) = match address.strip_prefix('[') {
        Some(rest) => (rest.split(']').next()?, true),
        None => (address, false),
    };
    let plain = without_brackets.split('%').next()?;
    let address: IpAddr = match plain {
        "*" => Ipv6Addr::UNSPECIFIED.into(),
        plain => plain.parse().ok()?,
    };
    let is_v6 = is_bracketed || address.is_ipv6();
    Some((SocketAddr::new(address, port), is_v6))
}

/// An address as a socket of a family has it.
pub(super) fn of_family(address: SocketAddr, family: Family) -> SocketAddr {
    match (address.ip(), family) {
        (IpAddr::V4(ip), Family::Inet6) if ip.is_unspecified() => {
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port())
        }
        (IpAddr::V4(ip), Family::Inet6) => {
            SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())
        }
        (IpAddr::V6(ip), Family::Inet) => SocketAddr::new(
            ip.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED).into(),
            address.port(),
        ),
        _ => address,
    }
}

/// The processes of a line (name, number, descriptor), and what comes after them:
/// `users:(("python3",pid=812,fd=3),("sh",pid=811,fd=3)) ino:1 ...`. A process may have
/// any name.
fn users(line: &str) -> (Vec<(String, u32, u32)>, &str) {
    let Some(at) = line.find("users:((") else {
        return (Vec::new(), line);
    };
    let mut rest = &line[at + "users:(".len()..];
    let mut users = Vec::new();
    while let Some(inside) = rest.strip_prefix("(\"") {
        let Some((name, after)) = inside.split_once("\",pid=") else {
            break;
        };
        let Some((numbers, after)) = after.split_once(')') else {
            break;
        };
        let mut numbers = numbers.split(",fd=");
        let (pid, descriptor) = (numbers.next(), numbers.next());
        if let (Some(pid), Some(descriptor)) = (
            pid.and_then(|pid| pid.parse().ok()),
            descriptor.and_then(|descriptor| descriptor.parse().ok()),
        ) {
            users.push((name.to_owned(), pid, descriptor));
        }
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    (users, rest)
}

/// The words `name:value` of a socket; what is not known is passed over.
fn details(line: &str, socket: &mut TcpSocket) {
    let mut words = line.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if let Some(inside) = word.strip_prefix("timer:(") {
            timer(inside.trim_end_matches(')'), socket);
        } else if let Some(inside) = word.strip_prefix("skmem:(") {
            socket.memory = Some(memory(inside.trim_end_matches(')')));
        } else if let Some(uid) = word.strip_prefix("uid:") {
            socket.uid = uid.parse().unwrap_or_default();
        } else if let Some(inode) = word.strip_prefix("ino:") {
            socket.inode = inode.parse().unwrap_or_default();
        } else if let Some(cookie) = word.strip_prefix("sk:") {
            let cookie = u64::from_str_radix(cookie, 16).unwrap_or_default();
            socket.cookie = cookie.to_ne_bytes();
        } else if let Some((name, value)) = word.split_once(':') {
            info(name, value, socket);
        } else if matches!(word, "pacing_rate" | "delivery_rate")
            && let Some(bits) = words.next_if(|next| next.ends_with("bps"))
            && let Ok(bits) = bits.trim_end_matches("bps").parse::<u64>()
        {
            set(socket, word, bits / 8);
        }
    }
}

/// `timewait,7.532ms,0`: the kind, the time that is left, and the retries.
fn timer(inside: &str, socket: &mut TcpSocket) {
    let mut parts = inside.split(',');
    socket.timer = match parts.next().unwrap_or_default() {
        "on" => Timer::Retransmit,
        "keepalive" => Timer::Keepalive,
        "timewait" => Timer::TimeWait,
        "persist" => Timer::Probe,
        "off" => Timer::Off,
        _ => Timer::Other(u8::MAX),
    };
    socket.timer_ms = parts.next().and_then(timer_ms).unwrap_or_default();
    socket.retransmits = parts
        .next()
        .and_then(|retries| retries.parse().ok())
        .unwrap_or_default();
}

/// `1min30sec`, `44sec`, `7.532ms` (7 seconds and 532 ms), `200ms`.
fn timer_ms(text: &str) -> Option<u32> {
    let (minutes, rest) = match text.split_once("min") {
        Some((minutes, rest)) => (minutes.parse::<u32>().ok()?, rest),
        None => (0, text),
    };
    let ms = if rest.is_empty() {
        0
    } else if let Some(seconds) = rest.strip_suffix("sec") {
        seconds.parse::<u32>().ok()?.checked_mul(1000)?
    } else {
        let rest = rest.strip_suffix("ms")?;
        match rest.split_once('.') {
            Some((seconds, ms)) => seconds
                .parse::<u32>()
                .ok()?
                .checked_mul(1000)?
                .checked_add(ms.parse().ok()?)?,
            None => rest.parse().ok()?,
        }
    };
    minutes.checked_mul(60_000)?.checked_add(ms)
}

/// `r0,rb131072,t0,tb16384,f0,w0,o0,bl0,d0`.
fn memory(inside: &str) -> SocketMemory {
    let mut memory = SocketMemory::default();
    for part in inside.split(',') {
        let at = part
            .find(|c: char| c.is_ascii_digit() || c == '-')
            .unwrap_or(part.len());
        let (name, value) = part.split_at(at);
        let number = value.parse().unwrap_or_default();
        match name {
            "r" => memory.recv_alloc_bytes = number,
            "rb" => memory.recv_buffer_bytes = number,
            "t" => memory.send_alloc_bytes = number,
            "tb" => memory.send_buffer_bytes = number,
            "f" => memory.forward_alloc_bytes = value.parse().unwrap_or_default(),
            "w" => memory.send_queued_bytes = number,
            "o" => memory.option_bytes = number,
            "bl" => memory.backlog_bytes = number,
            "d" => memory.drops = value.parse().ok(),
            _ => {}
        }
    }
    memory
}

/// Sets a field of tcp_info. ss leaves out what is 0.
fn set(socket: &mut TcpSocket, name: &str, value: u64) {
    let (state, timer, retransmits) = (socket.state, socket.timer, socket.retransmits);
    let info = socket.info.get_or_insert_with(|| {
        let mut info = TcpInfo::default();
        info.set("state", u64::from(state as u8));
        // ss shows them beside the timer only.
        match timer {
            Timer::Retransmit => info.set("retransmits", retransmits.into()),
            Timer::Keepalive | Timer::Probe => info.set("probes", retransmits.into()),
            _ => false,
        };
        info
    });
    info.set(name, value);
}

/// A field of tcp_info by the name that ss gives it.
fn info(name: &str, value: &str, socket: &mut TcpSocket) {
    let first = value.split(['/', ',', '(']).next().unwrap_or_default();
    let second = value.split('/').nth(1).unwrap_or_default();
    let mut whole = |field: &str, text: &str| {
        if let Ok(number) = text.parse() {
            set(socket, field, number);
        }
    };
    match name {
        "backoff" | "pmtu" | "advmss" | "unacked" | "sacked" | "lost" | "reordering"
        | "rcv_space" | "rcv_ssthresh" | "bytes_acked" | "bytes_received" | "bytes_sent"
        | "bytes_retrans" | "segs_out" | "segs_in" | "data_segs_in" | "data_segs_out"
        | "delivered" | "delivered_ce" | "dsack_dups" | "reord_seen" | "rcv_ooopack"
        | "snd_wnd" | "rcv_wnd" | "rehash" => whole(name, value),
        "mss" => whole("snd_mss", value),
        "rcvmss" => whole("rcv_mss", value),
        "cwnd" => whole("snd_cwnd", value),
        "ssthresh" => whole("snd_ssthresh", value),
        "notsent" => whole("notsent_bytes", value),
        "lastsnd" => whole("last_data_sent", value),
        "lastrcv" => whole("last_data_recv", value),
        "lastack" => whole("last_ack_recv", value),
        "retrans" => {
            whole("retrans", first);
            whole("total_retrans", second);
        }
        "rto" | "ato" | "minrtt" | "rcv_rtt" => {
            let field = if name == "minrtt" { "min_rtt" } else { name };
            if let Some(us) = microseconds(value) {
                set(socket, field, us);
            }
        }
        "rtt" => {
            for (field, ms) in [("rtt", first), ("rttvar", second)] {
                if let Some(us) = microseconds(ms) {
                    set(socket, field, us);
                }
            }
        }
        "busy" | "rwnd_limited" | "sndbuf_limited" => {
            let field = if name == "busy" { "busy_time" } else { name };
            if let Some(us) = first.strip_suffix("ms").and_then(microseconds) {
                set(socket, field, us);
            }
        }
        _ => {}
    }
}

/// Milliseconds with decimals, in microseconds.
fn microseconds(ms: &str) -> Option<u64> {
    let ms = ms.parse::<f64>().ok().filter(|ms| *ms >= 0.0)?;
    let time = std::time::Duration::try_from_secs_f64(ms / 1e3).ok()?;
    u64::try_from(time.as_nanos().div_ceil(1000)).ok()
}
