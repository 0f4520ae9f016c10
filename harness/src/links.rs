//! `harness links`: the relay beside netem. Numbered datagrams go over two links
//! that are impaired alike, one carried by each, at the same time on the same
//! kernel; what was lost, doubled and overtaken and how late the rest came is
//! held against one another.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use advisor_report::Link;
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};

use crate::lab::{Lab, LabError};
use crate::suite::scenario::Scenario;

/// The links that are compared, as a suite writes them. Together they use all
/// that a link can do.
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

/// Between two datagrams over the same link: 3.5 Mbit/s with all headers.
const PACE: Duration = Duration::from_millis(1);

/// Nothing is under way any more after so long without an arrival: far longer
/// than any of the links delays.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many standard errors two shares of the same distribution may be apart.
/// Student's distribution with 58 degrees of freedom passes this once in 20,000
/// times, so that 30 comparisons do once in some 700.
const DEVIATIONS: f64 = 4.4;

/// The distance of Kolmogorov and Smirnov, times the square root of (n + m) / nm,
/// that is passed once in 3000 times.
const DISTANCE: f64 = 2.1;

/// Blocks of datagrams whose shares are compared: losses in bursts depend on one
/// another, but hardly from block to block.
const BLOCKS: usize = 30;

/// How far the delays of the quickest tenths may be apart: so much, and a
/// twentieth. A busy machine makes some later, and none quicker.
const LATENESS: Duration = Duration::from_millis(1);

/// Measurements that are made again because the lab's own devices lost packets.
const MOST_DISCARDED: usize = 3;

/// What arrived over one link.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Sample {
    /// By number: the delay of the first that arrived in microseconds.
    pub delays_us: Vec<Option<u32>>,
    /// The numbers that arrived more than once.
    pub duplicated: Vec<u32>,
    /// The numbers that arrived after a higher one.
    pub overtaken: Vec<u32>,
}

/// One kind of link, carried by both.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Pair {
    /// As a suite writes it.
    pub link: String,
    /// Over netem.
    pub netem: Sample,
    /// Over the relay.
    pub relay: Sample,
}

/// Sends that many datagrams over a link carried by each.
pub fn measure(link: &str, packets: u32) -> Result<Pair, LabError> {
    let mut left = MOST_DISCARDED;
    loop {
        let (pair, disturbed) = measure_once(link, packets)?;
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

fn measure_once(link: &str, packets: u32) -> Result<(Pair, bool), LabError> {
    let scenario = scenario(link)?;
    let mut netem = Lab::build(&scenario, Link::Netem, 0)?;
    let mut relay = Lab::build(&scenario, Link::Relay, 0)?;
    let start = Instant::now();
    let over = |lab: &Lab| -> io::Result<(UdpSocket, UdpSocket)> {
        let bind = |host: &str| -> io::Result<UdpSocket> {
            let address = SocketAddr::new(scenario.address_of(host), 0);
            let namespace = lab.namespace(host).ok_or(io::ErrorKind::NotFound)?;
            namespace.run(|| UdpSocket::bind(address))?
        };
        let (sender, receiver) = (bind("client")?, bind("server")?);
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

/// A scenario with nothing but the link, towards the server.
fn scenario(link: &str) -> Result<Scenario, LabError> {
    let text = format!(
        "scenarios:\n\
         - name: link\n  \
           explains: it has a link\n  \
           source: none\n  \
           links: {{ server: {{ {link} }} }}\n  \
           actors: {{ one: {{ on: server, steps: [{{ listen: 7000 }}] }} }}\n  \
           expect: {{ one.listen.error: {{ always: none }} }}\n"
    );
    let wrong =
        |words: String| LabError::new("server", "read its link", io::Error::other(words), "");
    let mut scenarios =
        crate::suite::parse(&text, "links").map_err(|error| wrong(format!("{error:?}")))?;
    scenarios.pop().ok_or_else(|| wrong("none".to_owned()))
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

/// How two samples compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The link.
    pub link: String,
    /// Shares over netem and over the relay, from 0 to 1, with what they are of.
    pub shares: Vec<(&'static str, f64, f64)>,
    /// The delay that a tenth keeps below, in microseconds.
    pub quickest_us: (u32, u32),
    /// The distance of Kolmogorov and Smirnov between the delays, medians
    /// aligned, and its bound; only where the link varies them.
    pub distance: Option<(f64, f64)>,
    /// What differs by more than chance; empty where they agree.
    pub differs: Vec<String>,
}

impl Comparison {
    /// `agree`, or that they differ.
    pub fn verdict(&self) -> &'static str {
        if self.differs.is_empty() {
            "agree "
        } else {
            "differ"
        }
    }
}

/// Holds the samples of a pair against one another.
pub fn compare(pair: &Pair) -> Comparison {
    let lost =
        |sample: &Sample| -> Vec<bool> { sample.delays_us.iter().map(Option::is_none).collect() };
    let among = |numbers: &[u32], sample: &Sample| -> Vec<bool> {
        let mut marks = vec![false; sample.delays_us.len()];
        for number in numbers {
            if let Some(mark) = marks.get_mut(*number as usize) {
                *mark = true;
            }
        }
        marks
    };
    let (netem, relay) = (&pair.netem, &pair.relay);
    let marks = [
        ("lost", lost(netem), lost(relay)),
        (
            "doubled",
            among(&netem.duplicated, netem),
            among(&relay.duplicated, relay),
        ),
        (
            "overtaken",
            among(&netem.overtaken, netem),
            among(&relay.overtaken, relay),
        ),
    ];
    let mut differs = Vec::new();
    let mut shares = Vec::new();
    for (what, one, other) in &marks {
        let (one_share, other_share) = (share(one), share(other));
        let error = standard_error(one).hypot(standard_error(other));
        if (one_share - other_share).abs() > DEVIATIONS * error {
            differs.push(format!(
                "{what}: {:.2}% and {:.2}%, more than {DEVIATIONS} standard errors apart",
                one_share * 100.0,
                other_share * 100.0
            ));
        }
        shares.push((*what, one_share, other_share));
    }
    let delays = |sample: &Sample| -> Vec<u32> {
        let mut delays: Vec<u32> = sample.delays_us.iter().copied().flatten().collect();
        delays.sort_unstable();
        delays
    };
    let (one, other) = (delays(netem), delays(relay));
    if one.len().min(other.len()) * 2 < pair.netem.delays_us.len() {
        differs.push(format!(
            "{} and {} of {} arrived: no link here loses half",
            one.len(),
            other.len(),
            pair.netem.delays_us.len()
        ));
    }
    let quickest_us = (quantile(&one, 10), quantile(&other, 10));
    let allowed = LATENESS + Duration::from_micros(u64::from(quickest_us.0 / 20));
    let apart = Duration::from_micros(u64::from(quickest_us.0.abs_diff(quickest_us.1)));
    if apart > allowed {
        differs.push(format!(
            "delay of the quickest tenth: {} and {} us, more than {allowed:?} apart",
            quickest_us.0, quickest_us.1
        ));
    }
    // Elsewhere the delays vary by what the machine does, not by what is asked.
    let distance = pair.link.contains("jitter").then(|| {
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let (n, m) = (one.len() as f64, other.len() as f64);
        let bound = DISTANCE * ((n + m) / (n * m)).sqrt();
        (distance(&one, &other), bound)
    });
    if let Some((distance, bound)) = distance
        && distance > bound
    {
        differs.push(format!(
            "distribution of the delays: distance {distance:.3}, above {bound:.3}"
        ));
    }
    Comparison {
        link: pair.link.clone(),
        shares,
        quickest_us,
        distance,
        differs,
    }
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn share(marks: &[bool]) -> f64 {
    let count = marks.iter().filter(|mark| **mark).count();
    count as f64 / marks.len().max(1) as f64
}

/// Of the share, from how much it varies from block to block.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn standard_error(marks: &[bool]) -> f64 {
    let length = (marks.len() / BLOCKS).max(1);
    let blocks: Vec<f64> = marks.chunks_exact(length).map(share).collect();
    let count = blocks.len().max(2) as f64;
    let mean = blocks.iter().sum::<f64>() / count;
    let squares: f64 = blocks.iter().map(|block| (block - mean).powi(2)).sum();
    // A share of which none was seen varies too: by one packet.
    let least = 1.0 / marks.len().max(1) as f64;
    (squares / (count - 1.0) / count).sqrt().max(least)
}

/// The number that so many percent of sorted numbers are below.
fn quantile(sorted: &[u32], percent: usize) -> u32 {
    let place = sorted.len() * percent / 100;
    sorted.get(place).copied().unwrap_or(0)
}

/// The largest difference between the two empirical distributions, each as far
/// from its median.
fn distance(one: &[u32], other: &[u32]) -> f64 {
    let medians = (quantile(one, 50), quantile(other, 50));
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let below = |sorted: &[u32], limit: i64, median: u32| {
        let count = sorted.partition_point(|value| i64::from(*value) - i64::from(median) <= limit);
        count as f64 / sorted.len().max(1) as f64
    };
    let from_median = |sorted: &[u32], median: u32| -> Vec<i64> {
        let differences = sorted.iter().map(|value| i64::from(*value));
        differences.map(|value| value - i64::from(median)).collect()
    };
    from_median(one, medians.0)
        .into_iter()
        .chain(from_median(other, medians.1))
        .map(|limit| (below(one, limit, medians.0) - below(other, limit, medians.1)).abs())
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(delays_us: Vec<Option<u32>>) -> Sample {
        Sample {
            delays_us,
            ..Sample::default()
        }
    }

    /// Delays that are spread evenly, with every n-th datagram lost.
    fn spread(start: u32, step: u32, lost: usize) -> Sample {
        let delay = |number: usize| {
            let place = u32::try_from(number * 7919 % 3000).unwrap();
            (!number.is_multiple_of(lost)).then_some(start + place * step)
        };
        sample((0..3000).map(delay).collect())
    }

    fn compared(link: &str, netem: Sample, relay: Sample) -> Comparison {
        compare(&Pair {
            link: link.to_owned(),
            netem,
            relay,
        })
    }

    #[test]
    fn each_link_is_one_of_a_suite() {
        for link in LINKS {
            assert!(scenario(link).unwrap().is_impaired(), "{link}");
        }
    }

    #[test]
    fn samples_of_one_distribution_agree() {
        let seen = compared(
            "delay: 50ms, jitter: 10ms",
            spread(40_000, 6, 100),
            spread(40_400, 6, 101),
        );
        assert_eq!(seen.differs, [] as [&str; 0]);
    }

    #[test]
    fn a_loss_that_differs_is_found() {
        let seen = compared("loss: 1%", spread(100, 1, 100), spread(100, 1, 20));
        assert!(
            seen.differs[0].starts_with("lost: 1.00% and 5.00%"),
            "{seen:?}"
        );
    }

    #[test]
    fn a_delay_that_differs_is_found_by_its_median_and_by_its_shape() {
        let seen = compared("delay: 40ms", spread(40_000, 1, 99), spread(45_000, 1, 99));
        assert!(
            seen.differs[0].starts_with("delay of the quickest"),
            "{seen:?}"
        );
        assert_eq!(seen.distance, None);
        let narrow = compared(
            "delay: 40ms, jitter: 1ms",
            spread(40_000, 2, 99),
            spread(41_000, 1, 99),
        );
        assert_eq!(narrow.differs.len(), 1, "{narrow:?}");
        assert!(narrow.differs[0].starts_with("distribution"), "{narrow:?}");
    }
}
