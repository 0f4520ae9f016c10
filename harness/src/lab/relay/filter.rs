//! Drops packets for what they are, before a link's impairment sees them.

use super::super::packets::Packet;
use crate::impairment::Drop;

/// What is dropped, and how many of each kind have come by.
#[derive(Debug)]
pub struct Filter(Vec<(Drop, u64)>);

impl Filter {
    /// Of a link.
    pub fn new(drops: Vec<Drop>) -> Self {
        Self(drops.into_iter().map(|drop| (drop, 0)).collect())
    }

    /// Whether a frame is dropped.
    pub fn drops(&mut self, frame: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let Some(packet) = Packet::of_frame(frame) else {
            return false;
        };
        let mut is_dropped = false;
        for (drop, seen) in &mut self.0 {
            if !fits(drop, &packet) {
                continue;
            }
            let number = *seen;
            *seen += 1;
            let Some(after) = number.checked_sub(drop.skip) else {
                continue;
            };
            is_dropped |= drop.first.is_none_or(|first| after < first) && after % drop.every == 0;
        }
        is_dropped
    }
}

fn fits(drop: &Drop, packet: &Packet) -> bool {
    packet.flags & drop.flags == drop.flags
        && (!drop.with_data || packet.payload > 0)
        && drop.larger_than.is_none_or(|bytes| packet.ip_bytes > bytes)
}

#[cfg(test)]
mod tests {
    use super::super::super::packets::tests::frame;
    use super::*;

    fn dropped(drop: Drop, frames: &[Vec<u8>]) -> Vec<bool> {
        let mut filter = Filter::new(vec![drop]);
        frames.iter().map(|frame| filter.drops(frame)).collect()
    }

    #[test]
    fn packets_are_dropped_by_flag_size_and_number() {
        const FIN_ACK: u8 = 17;
        let ack = |payload| frame(16, 1, 1, payload);
        let frames = [
            ack(0),
            ack(10),
            frame(FIN_ACK, 1, 1, 0),
            ack(1400),
            ack(10),
            ack(10),
        ];
        let with_data = Drop {
            with_data: true,
            every: 1,
            ..Drop::default()
        };
        for (drop, expected) in [
            (
                Drop {
                    flags: 1,
                    every: 1,
                    ..Drop::default()
                },
                [2].as_slice(),
            ),
            (with_data.clone(), &[1, 3, 4, 5]),
            (
                Drop {
                    skip: 1,
                    first: Some(2),
                    ..with_data.clone()
                },
                &[3, 4],
            ),
            (
                Drop {
                    skip: 1,
                    every: 2,
                    ..with_data
                },
                &[3, 5],
            ),
            (
                Drop {
                    larger_than: Some(1400),
                    every: 1,
                    ..Drop::default()
                },
                &[3],
            ),
        ] {
            let all = dropped(drop.clone(), &frames);
            let which: Vec<usize> = (0..frames.len()).filter(|at| all[*at]).collect();
            assert_eq!(which, expected, "{drop:?}");
        }
    }
}
