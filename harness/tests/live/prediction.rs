//! What an impaired link does to numbered datagrams, worked out beforehand.

use std::time::Duration;

use harness::impairment::{Impairment, spread_seed};
use harness::lab::relay::queue::{Counts, Frame, Queue};
use harness::suite::scenario::Scenario;

use super::traffic::PAYLOAD;

/// Ethernet, IPv4 and UDP.
const HEADERS: usize = 14 + 20 + 8;

/// When all delayed frames have left.
const FAR: Duration = Duration::from_secs(1_000_000);

pub struct Prediction {
    /// How many to send: the last of them arrives, so that whoever has it
    /// knows that the link has seen them all.
    pub sent: u32,
    /// The numbers that arrive, in order.
    pub arrive: Vec<u32>,
    /// What the link counts.
    pub counts: Counts,
}

impl Prediction {
    /// For the direction towards a host, with at least that many datagrams.
    pub fn new(scenario: &Scenario, towards: &str, run: u64, at_least: u32) -> Self {
        let index = scenario
            .hosts
            .iter()
            .position(|host| host == towards)
            .unwrap();
        let link = &scenario.links[towards];
        let impairment = Impairment {
            seed: spread_seed(link.seed, run, index as u64),
            // When a frame leaves is not foreseen, so neither is when the
            // limit is reached; the tests keep below it.
            limit_packets: u32::MAX,
            ..link.clone()
        };
        (at_least..2 * at_least)
            .map(|sent| Self::of(impairment.clone(), sent))
            .find(|prediction| prediction.arrive.last() == Some(&(prediction.sent - 1)))
            .unwrap()
    }

    fn of(impairment: Impairment, sent: u32) -> Self {
        let mut queue = Queue::new(impairment);
        for number in 0..sent {
            queue.enqueue(Duration::ZERO, Duration::ZERO, frame(number));
        }
        let mut arrive: Vec<u32> = std::iter::from_fn(|| queue.dequeue(FAR))
            .filter_map(|(frame, _)| received(&frame))
            .collect();
        arrive.sort_unstable();
        Self {
            sent,
            arrive,
            counts: queue.counts(),
        }
    }
}

/// A frame as long as the real one, with its number three times.
fn frame(number: u32) -> Frame {
    let mut bytes = vec![0; HEADERS + PAYLOAD];
    for copy in bytes[HEADERS..HEADERS + 12].chunks_mut(4) {
        copy.copy_from_slice(&number.to_be_bytes());
    }
    bytes.into()
}

/// The number of a frame that the receiving host takes in. One bit of it may
/// be wrong: so at least two of the three copies of the number are right.
fn received(bytes: &Frame) -> Option<u32> {
    let mut copies = [0, 4, 8].map(|at| {
        let copy = &bytes[HEADERS + at..HEADERS + at + 4];
        u32::from_be_bytes(copy.try_into().unwrap())
    });
    copies.sort_unstable();
    let number = copies[1];
    let sound = frame(number);
    let wrong = (0..bytes.len()).find(|at| bytes[*at] != sound[*at]);
    let taken = match wrong {
        None => true,
        // The bit that makes the destination a group's; the address inside is
        // still the host's own.
        Some(0) => bytes[0] == 1,
        // Nobody looks at the source's address.
        Some(at) => (6..12).contains(&at),
    };
    taken.then_some(number)
}
