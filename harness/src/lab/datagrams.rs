//! Sends numbered datagrams over two links that are impaired alike, one carried
//! by netem and one by the relay, at the same time on the same kernel.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use advisor_report::Link;
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};

use super::address::{Family, address};
use super::{Lab, LabError, Topology};
use crate::impairment::Impairment;

/// The links to compare, as a suite writes them. Together they have every
/// impairment.
pub const LINKS: &[&str] = &[
    "loss: 1%",
    "loss: 10%",
    "gilbert_elliott: { p: 2%, r: 25% }",
    "duplicate: 5%",
    "corrupt: 5%",
    "delay: 20ms",
    "delay: 50ms, jitter: 20ms",
    "delay: 20ms, reorder: 20%",
    "rate: 3mbit",
    "delay: 20ms, jitter: 5ms, loss: 2%, duplicate: 1%",
];

/// Bytes of a datagram.
const PAYLOAD: usize = 400;

/// Time between two datagrams over the same link: 3.5 Mbit/s with all headers.
const PACE: Duration = Duration::from_millis(1);

/// Time without an arrival after which all have arrived: far longer than the
/// delay of any of the links.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measurements repeated at most, because the lab's own devices lost packets.
const MOST_DISCARDED: usize = 3;

/// What arrived over one link.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Sample {
    /// By number: the delay of its first arrival in microseconds; `None` where
    /// it was lost.
    pub delays_us: Vec<Option<u32>>,
    /// The numbers that arrived more than once.
    pub duplicated: Vec<u32>,
    /// The numbers that arrived after a higher one.
    pub overtaken: Vec<u32>,
}

/// The samples of one link.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Pair {
    /// The link, as a suite writes it.
    pub link: String,
    /// Over netem.
    pub netem: Sample,
    /// Over the relay.
    pub relay: Sample,
}

/// Sends that many datagrams over a link carried by each; `link` is how a suite writes
/// the impairment.
pub fn measure(link: &str, impairment: &Impairment, packets: u32) -> Result<Pair, LabError> {
    let mut left = MOST_DISCARDED;
    loop {
        let (pair, disturbed) = measure_once(link, impairment, packets)?;
        if !disturbed {
            return Ok(pair);
        }
        if left == 0 {
            let words = io::Error::other("the lab's devices dropped packets again and again");
            let hint = "the machine is too busy; run it again";
            return Err(LabError::new("router", "compare links", words, hint));
        }
        left -= 1;
    }
}

fn measure_once(
    link: &str,
    impairment: &Impairment,
    packets: u32,
) -> Result<(Pair, bool), LabError> {
    let hosts = ["client", "server"].map(str::to_owned);
    let topology = Topology {
        hosts: &hosts,
        links: &BTreeMap::from([(hosts[1].clone(), impairment.clone())]),
        sysctls: &BTreeMap::new(),
        offload: false,
        middlebox: None,
    };
    let mut netem = Lab::build(&topology, Link::Netem, 0)?;
    let mut relay = Lab::build(&topology, Link::Relay, 0)?;
    let start = Instant::now();
    let over = |lab: &Lab| -> io::Result<(UdpSocket, UdpSocket)> {
        let bind = |number: usize| -> io::Result<UdpSocket> {
            let address = SocketAddr::new(address(number, 2, Family::V4), 0);
            lab.hosts()[number - 1].run(|| UdpSocket::bind(address))?
        };
        let (sender, receiver) = (bind(1)?, bind(2)?);
        // Should the receiver not be scheduled for a while.
        let _ = setsockopt(&receiver, sockopt::RcvBufForce, &(16 << 20));
        receiver.set_read_timeout(Some(PATIENCE))?;
        sender.connect(receiver.local_addr()?)?;
        Ok((sender, receiver))
    };
    let words = |error| LabError::new("lab", "send datagrams", error, "");
    let (to_netem, from_netem) = over(&netem).map_err(words)?;
    let (to_relay, from_relay) = over(&relay).map_err(words)?;
    let (sent, netem_sample, relay_sample) = std::thread::scope(|scope| {
        let netem = scope.spawn(|| receive(&from_netem, packets, start));
        let relay = scope.spawn(|| receive(&from_relay, packets, start));
        let sent = send(&[to_netem, to_relay], packets, start);
        let joined = |sample: std::thread::ScopedJoinHandle<'_, io::Result<Sample>>| {
            sample
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the receiver panicked")))
        };
        (sent, joined(netem), joined(relay))
    });
    sent.map_err(words)?;
    let pair = Pair {
        link: link.to_owned(),
        netem: netem_sample.map_err(words)?,
        relay: relay_sample.map_err(words)?,
    };
    let mut disturbed = false;
    for lab in [&mut netem, &mut relay] {
        for namespace in lab.namespaces() {
            disturbed |= namespace.dropped_on_sending()? > 0;
        }
        disturbed |= lab.stop_relay()?.iter().any(|wire| wire.overrun > 0);
    }
    Ok((pair, disturbed))
}

/// Sends numbered datagrams to all in turn, each with the time since `start`.
fn send(sockets: &[UdpSocket], packets: u32, start: Instant) -> io::Result<()> {
    let mut next = Instant::now();
    for number in 0..packets {
        for socket in sockets {
            let mut bytes = [0; PAYLOAD];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            let now = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            bytes[4..12].copy_from_slice(&now.to_be_bytes());
            socket.send(&bytes)?;
        }
        next += PACE;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn receive(socket: &UdpSocket, packets: u32, start: Instant) -> io::Result<Sample> {
    let mut sample = Sample {
        delays_us: vec![None; packets as usize],
        ..Sample::default()
    };
    let mut highest = None;
    let mut bytes = [0; PAYLOAD];
    loop {
        match socket.recv(&mut bytes) {
            Ok(PAYLOAD) => {}
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(sample),
            Err(error) => return Err(error),
        }
        let now = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let [a, b, c, d, time @ ..] = &bytes[..12] else {
            continue;
        };
        let number = u32::from_be_bytes([*a, *b, *c, *d]);
        let sent = time.try_into().map_or(0, u64::from_be_bytes);
        let Some(delay) = sample.delays_us.get_mut(number as usize) else {
            continue;
        };
        if delay.is_some() {
            sample.duplicated.push(number);
            continue;
        }
        *delay = Some(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
        if highest > Some(number) {
            sample.overtaken.push(number);
        }
        highest = highest.max(Some(number));
    }
}
